"""What a boot does with a recipe's own checks and with an upgrade: everything is told, and the machine is shut down."""

import subprocess
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from types import SimpleNamespace
from typing import Any, cast

import pytest

from imagefactory.errors import BootCheckFailed, BootPanic, BootTimeout, ProgramFailed, ProgramTimeout
from imagefactory.model.packages import Change
from imagefactory.steps import boot_rounds
from imagefactory.steps.boot_checks import Check
from imagefactory.steps.boot_rounds import Report
from imagefactory.tools.guest_checks import INLINE, GuestCheck
from imagefactory.tools.guest_upgrade import MOST_WRITTEN, GuestUpgrade

UPGRADE = GuestUpgrade(
    Path("/upgrade.iso"), (Change("shim-signed", "1.44", "1.51"), Change("linux-image-2", None, "6.1"))
)
INSTALLED = "status=0 seconds=7\n"
SAID = """\
installed=shim-signed 1.51 installed
installed=linux-image-2 6.1 installed
written=/boot/initrd.img-2
written=/boot/grub/grub.cfg
"""


@dataclass
class Guest:
    """A guest that runs checks with the shell of this host, and answers what it is told to answer."""

    answers: Sequence[str | Exception] = ()
    asked: list[str] = field(default_factory=list)

    def ask(self, port: int, script: str, *, deadline: float, watch: Callable[[], None]) -> str:
        del port, deadline
        watch()
        self.asked.append(script)
        if self.answers:
            answer = self.answers[len(self.asked) - 1]
            if isinstance(answer, Exception):
                raise answer
            return answer
        return subprocess.run(["sh", "-s"], input=script, text=True, check=True, capture_output=True).stdout


@dataclass
class Machine:
    """A machine that is shut down at once, or fails in the way it is told to."""

    failure: Exception | None = None
    off: bool = False
    name = "bios"
    port = 22
    console = SimpleNamespace(path=Path("/logs/bios-console.log"))

    def check(self) -> None:
        """It is well."""

    def seconds(self) -> float:
        return 40.0

    def power_off(self, *, deadline: float) -> None:
        del deadline
        if self.failure:
            raise self.failure
        self.off = True


def bench(said: list[str], *own: GuestCheck) -> Any:  # noqa: ANN401
    return SimpleNamespace(on_advance=said.append, own=own, timeout=60.0)


def check(name: str, program: str, seconds: int = 60) -> GuestCheck:
    return GuestCheck(name, program.encode(), INLINE, False, seconds)


def ran(*own: GuestCheck, guest: Guest | None = None) -> Report:
    report, said = Report("bios"), list[str]()
    for each in own:
        boot_rounds._own_check(bench(said), each, cast("Any", Machine()), cast("Any", guest or Guest()), report)
    assert said == [f"bios: check {each.name}" for each in own]
    return report


def test_all_checks_are_told_together_and_the_machine_is_shut_down() -> None:
    machine = Machine()
    report = ran(check("good", "echo well"), check("bad", "echo why; exit 2"), check("hang", "sleep 99", 1))
    with pytest.raises(BootCheckFailed) as raised:
        boot_rounds._power_off(bench([]), cast("Any", machine), report, 0.0)
    assert machine.off
    assert (raised.value.code, raised.value.message) == ("boot-check-failed", "bios: guest:bad, guest:hang")
    assert raised.value.lines[0].startswith("guest:bad: status 2 after ")
    assert raised.value.lines[1:] == ("why", "guest:hang: did not end within 1 s, and was ended")


def test_what_is_recorded_of_a_check() -> None:
    (found,) = cast("Any", ran(check("good", "echo well")).to_json()["checks"])
    assert found["detail"].startswith("status 0 after ")
    assert {**found, "detail": ""} == {
        "name": "guest:good",
        "outcome": "pass",
        "detail": "",
        "lines": ["well"],
    }


@pytest.mark.parametrize(
    ("failure", "detail"),
    [
        (ProgramTimeout("ssh did not end before its deadline"), "did not end within 60 s, and was ended"),
        (ProgramFailed("ssh said more than 1048576 bytes"), "ssh said more than 1048576 bytes"),
    ],
)
def test_a_check_that_gets_around_the_guest_s_own_bounds(failure: Exception, detail: str) -> None:
    (found,) = ran(check("own", "true"), guest=Guest([failure])).checks
    assert (found.name, found.passed, found.detail) == ("guest:own", False, detail)


def test_a_machine_that_a_check_breaks_ends_the_boot() -> None:
    with pytest.raises(BootPanic):
        ran(check("own", "true"), guest=Guest([BootPanic("bios: Kernel panic")]))


def test_a_machine_that_does_not_shut_down_after_a_failed_check() -> None:
    """Both are told: the one may be the cause of the other."""
    late = Machine(BootTimeout("bios: no power-off after 700 s"))
    with pytest.raises(BootCheckFailed, match="bios: guest:hang, power-off") as raised:
        boot_rounds._power_off(bench([]), cast("Any", late), ran(check("hang", "exit 1")), 0.0)
    assert raised.value.lines[-1] == "power-off: bios: no power-off after 700 s"
    with pytest.raises(BootTimeout):
        boot_rounds._power_off(bench([]), cast("Any", late), ran(check("good", "true")), 0.0)


def upgraded(*answers: str | Exception, said: list[str] | None = None) -> tuple[Report, Check]:
    report, guest = Report("bios"), Guest(answers)
    boot_rounds._upgrade(
        bench([] if said is None else said), UPGRADE, cast("Any", Machine()), cast("Any", guest), report
    )
    (found,) = report.checks
    assert len(guest.asked) == len(answers)
    return report, found


def test_an_upgrade() -> None:
    said: list[str] = []
    report, found = upgraded(INSTALLED, SAID, said=said)
    assert said == ["bios: installing kernel and boot loader anew, which may take 30 minutes"]
    assert (found.passed, found.detail) == (True, "2 packages installed anew, 2 files written below /boot")
    assert report.facts["upgrade"] == {
        "packages": [
            {"name": "shim-signed", "from": "1.44", "to": "1.51"},
            {"name": "linux-image-2", "from": None, "to": "6.1"},
        ],
        "written": ["/boot/grub/grub.cfg", "/boot/initrd.img-2"],
    }


def test_an_upgrade_that_writes_very_much() -> None:
    much = "".join(f"written=/boot/a/{number}\n" for number in range(MOST_WRITTEN))
    report, found = upgraded(INSTALLED, much + SAID)
    assert (found.passed, f"{MOST_WRITTEN + 2} files" in found.detail) == (True, True)
    assert len(cast("Any", report.facts["upgrade"])["written"]) == MOST_WRITTEN


@pytest.mark.parametrize(
    ("before", "after", "detail"),
    [
        ("1.51", "1.44", "not installed: shim-signed 1.51"),
        ("6.1 installed", "6.1 half-configured", "not installed: linux-image-2 6.1"),
        ("grub.cfg", "grub.old", "not written: /boot/grub/grub.cfg"),
        ("initrd", "vmlinuz", "not written: /boot/initrd.img-"),
    ],
)
def test_an_upgrade_that_did_not_do_it(before: str, after: str, detail: str) -> None:
    report, found = upgraded(INSTALLED, SAID.replace(before, after))
    assert (found.name, found.passed, found.detail) == ("upgrade", False, detail)
    assert report.facts["upgrade"]


@pytest.mark.parametrize(
    ("answer", "detail", "lines"),
    [
        ("status=100 seconds=9\ndpkg: error\nE: why\n", "status 100 after 9 s", ("dpkg: error", "E: why")),
        ("status=124 seconds=1800\nSetting up\n", "did not end within 1800 s, and was ended", ("Setting up",)),
        (ProgramFailed("status 255", lines=("gone",)), "status 255", ("gone",)),
        (ProgramTimeout("no end"), "did not end within 1800 s, and was ended", ()),
    ],
)
def test_an_upgrade_that_fails(answer: str | Exception, detail: str, lines: tuple[str, ...]) -> None:
    report, found = upgraded(answer)
    assert (found.name, found.passed, found.detail, found.lines) == ("upgrade", False, detail, lines)
    assert "upgrade" not in report.facts


@pytest.mark.parametrize("failure", [ProgramFailed("status 1", lines=("find: no",)), ProgramTimeout("no end")])
def test_a_guest_that_does_not_tell_what_it_installed(failure: ProgramFailed | ProgramTimeout) -> None:
    report, found = upgraded(INSTALLED, failure)
    assert (found.name, found.passed, found.detail, found.lines) == ("upgrade", False, failure.message, failure.lines)
    assert "upgrade" not in report.facts
