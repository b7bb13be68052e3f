"""From what a guest says about itself to a verdict."""

import inspect
import json
import re
import subprocess
from dataclasses import replace
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from imagefactory.errors import BootCheckFailed, BootFailed, catalogue
from imagefactory.model.evidence import Evidence
from imagefactory.steps import boot_checks as checks
from imagefactory.steps import boot_rounds
from imagefactory.steps.boot_rounds import Report
from imagefactory.tools.guest import MAX_LIST, SCRIPT, Answers, parse

GIB = 1 << 30
ABOUT = "sha256:" + "ab" * 32

GOOD = f"""
cloud_init=done
cloud_init_result={{ "v1": {{  "datasource": "DataSourceNoCloud [seed=/dev/vdb]",  "errors": [] }}}}
system=running
root_source=/dev/vda3
root_options=rw,relatime,errors=remount-ro
root_size={4 * GIB - 200_000_000}
disk_size={4 * GIB}
part_start={1 << 20}
part_end={4 * GIB - (1 << 20)}
firmware=uefi
secure_boot=1
kernel_secure_boot=[    0.0] secureboot: Secure boot enabled
tainted=0
"""


def verdicts(text: str) -> dict[str, bool]:
    answers = parse(text)
    found = checks.settled(answers) + checks.grown(answers, 3 * GIB, 4 * GIB) + checks.firmware(answers, "uefi", "")
    found += checks.kernel("", answers, software=True)
    return {check.name: check.passed for check in found}


def test_a_good_guest_passes_everything() -> None:
    found = verdicts(GOOD)
    assert len(found) == 9
    assert all(found.values())


@pytest.mark.parametrize(
    ("before", "after", "failed"),
    [
        ("cloud_init=done", "cloud_init=error", {"cloud-init"}),
        ('"errors": []', '"errors": ["scripts-user"]', {"cloud-init"}),
        ("system=running", "system=degraded\nfailed_unit=x.service", {"units", "system"}),
        ("system=running", "system=", {"system"}),
        ("rw,relatime", "ro,relatime", {"root-writable"}),
        ("rw,relatime", "row,relatime", {"root-writable"}),
        (f"root_size={4 * GIB - 200_000_000}", f"root_size={2 * GIB}", {"root-grown"}),
        (f"part_end={4 * GIB - (1 << 20)}", f"part_end={3 * GIB}", {"root-grown"}),
        (f"disk_size={4 * GIB}", f"disk_size={5 * GIB}", {"root-grown"}),
        ("firmware=uefi", "firmware=bios", {"firmware"}),
        ("secure_boot=1", "secure_boot=0", {"secure-boot"}),
        ("Secure boot enabled", "Secure boot disabled", {"kernel-secure-boot"}),
        ("tainted=0", "tainted=128", {"kernel"}),
    ],
)
def test_each_fault_fails_its_own_check(before: str, after: str, failed: set[str]) -> None:
    assert before in GOOD
    assert {name for name, passed in verdicts(GOOD.replace(before, after, 1)).items() if not passed} == failed


def test_root_behind_other_file_systems_grows_as_well() -> None:
    """It never becomes as large as the image, which holds them too."""
    behind = GOOD.replace(f"part_start={1 << 20}", f"part_start={2 * GIB}")
    grown = behind.replace(f"root_size={4 * GIB - 200_000_000}", f"root_size={2 * GIB - 100_000_000}")
    as_built = behind.replace(f"root_size={4 * GIB - 200_000_000}", f"root_size={GIB - 50_000_000}")
    assert verdicts(grown)["root-grown"]
    assert not verdicts(as_built)["root-grown"]


def test_a_guest_that_says_nothing_fails() -> None:
    found = verdicts("")
    assert {name for name, passed in found.items() if passed} == {"units", "kernel"}


def test_what_a_guest_says_is_fit_for_a_terminal() -> None:
    """Whatever it says ends up in messages, logs and evidence."""
    words = "\x1b]0;mine\x07\x1b[2J\u202e" + "x" * 5000
    keys = ("cloud_init", "cloud_init_result", "system", "root_source", "root_options", "os", "kernel", "firmware")
    text = "\n".join(f"{key}={words}" for key in (*keys, "secure_boot", "kernel_secure_boot", "tainted", "root_size"))
    lists = "\n".join(f"{key}={words[:40]}{n}" for key in ("failed_unit", "failed_line", "job") for n in range(400))
    answers = parse(f"{lists[:50000]}\n{text}")
    assert all(len(values) <= MAX_LIST for values in answers.lists.values())
    assert answers.all("failed_unit")[-1] == "and more"
    found = checks.settled(answers) + checks.firmware(answers, "uefi", words)
    found += checks.kernel(f"BUG: {words}\n" * 1000, answers, software=False)
    said = [*answers.values.values(), *(line for check in found for line in (check.detail, *check.lines))]
    assert all(line.isprintable() for line in said)
    assert max(map(len, said)) < 1200
    assert max(len(check.lines) for check in found) <= MAX_LIST


def test_every_question_is_one_that_somebody_asks() -> None:
    asked = set(re.findall(r"say ([a-z_]+)", SCRIPT)) | set(re.findall(r"(\w+)=/'", SCRIPT))
    readers = "".join(inspect.getsource(module) for module in (checks, boot_rounds))
    assert asked
    assert {key for key in asked if not re.search(rf"[\"']{key}[\"']", readers)} == set()


@given(st.text())
def test_no_answer_breaks_the_judge(text: str) -> None:
    verdicts(text)
    verdicts("\n".join(f"{key}={text}" for key in ("root_size", "disk_size", "tainted", "root_options", "system")))


def test_the_root_may_lie_elsewhere_than_on_a_partition() -> None:
    answers = parse(f"root_size={4 * GIB}")
    assert checks.grown(answers, 3 * GIB, 4 * GIB)[0].passed


@pytest.mark.parametrize(
    ("methods", "passed"),
    [
        ({"publickey"}, True),
        ({"publickey", "gssapi-with-mic"}, True),
        ({"publickey", "password"}, False),
        ({"keyboard-interactive", "publickey"}, False),
        ({"none"}, False),
    ],
)
def test_nobody_gets_in_without_a_key(methods: set[str], passed: bool) -> None:
    assert checks.login(frozenset(methods))[0].passed is passed


@pytest.mark.parametrize(
    ("said", "passed"),
    [
        ("tcp=00000000:0016\ntcp=00000000000000000000000000000000:0016", True),
        ("tcp=00000000:0016\nudp=00000000:0044\nudp=000080FE00000000FF120250563412FE:0222", True),
        ("tcp=00000000:0016\ntcp=0100007F:0019\nudp=0100007F:0143", True),  # a mail server and a clock for itself
        ("tcp=00000000:0016\ntcp=00000000000000000000000001000000:0019", True),
        ("tcp=00000000:0016\ntcp=3500007F:0035\nudp=0000000000000000FFFF00003500007F:0035", True),  # resolved
        ("tcp=00000000:0016\ntcp=00000000:14EB\nudp=00000000000000000000000000000000:14EB", False),  # LLMNR
        ("tcp=00000000:0016\ntcp=7F00000A:0050", False),
        ("tcp=00000000:0016\ntcp=00000000:0019", False),
        ("tcp=00000000:0016\nudp=00000000:006F", False),
        ("tcp=00000000:0016\ntcp=0100A8C0:0016", True),
        ("tcp=00000000:0016\ntcp=nonsense", False),
        ("tcp=00000000:0016\n" + "udp=0100007F:0143\n" * 30, False),  # nobody counts on
        ("", False),
    ],
)
def test_nothing_listens_but_ssh(said: str, passed: bool) -> None:
    (check,) = checks.ports(parse(said))
    assert check.passed is passed, check.detail


@pytest.mark.parametrize(
    ("said", "failed"),
    [
        ("hostname=boot-test-1\nsudo=0", set()),
        ("hostname=localhost\nsudo=0", {"hostname"}),
        ("hostname=boot-test-1\nsudo=1000", {"sudo"}),
        ("hostname=boot-test-1", {"sudo"}),
        ("", {"hostname", "sudo"}),
    ],
)
def test_who_the_guest_thinks_it_is(said: str, failed: set[str]) -> None:
    assert {check.name for check in checks.identity(parse(said), "boot-test-1") if not check.passed} == failed


def test_the_kernel_log_may_be_on_the_console_only() -> None:
    answers = parse("firmware=uefi\nsecure_boot=1")
    console = "x\n[    0.0] secureboot: Secure boot enabled\n"
    assert all(check.passed for check in checks.firmware(answers, "uefi", console))
    assert [check.name for check in checks.firmware(answers, "bios", console)] == ["firmware"]


def test_what_the_recipe_expects_on_the_console() -> None:
    found = checks.console_says("hello world", ["world", "moon"])
    assert [(check.name, check.passed) for check in found] == [("console: world", True), ("console: moon", False)]


def test_failed_checks_are_shown_together() -> None:
    answers = parse("system=degraded\nfailed_unit=x.service\nfailed_line=x: cannot\nfailed_unit=y.service")
    report = Report("bios", checks.settled(answers))
    with pytest.raises(BootCheckFailed) as raised:
        report.judge(Path("console.log"))
    assert str(raised.value) == "boot-check-failed: bios: cloud-init, units, system, root-writable"
    assert "units: failed: x.service, y.service" in raised.value.lines
    assert "x: cannot" in raised.value.lines


def test_answers() -> None:
    assert parse("a=1\nb = 2\n=3\nnonsense\na=2=3\n") == Answers({"a": "2=3"}, {"a": ("1", "2=3")})
    answers = parse("n=12\nbig=" + "9" * 100 + "\nminus=-1\nodd=١٢")
    assert [answers.number(key) for key in ("n", "big", "minus", "odd", "none")] == [12, 0, 0, 0, 0]


def test_the_script_is_a_posix_shell_script() -> None:
    subprocess.run(["/bin/sh", "-n"], input=SCRIPT.encode(), check=True)


def test_evidence() -> None:
    evidence = Evidence("boot", ABOUT, "pass", {"boots": [{"checks": ["a", "b"], "seconds": 1.5}], "none": None})
    document = json.loads(json.dumps(evidence.to_json()))
    assert document == {
        "kind": "boot",
        "about": ABOUT,
        "outcome": "pass",
        "facts": {"boots": [{"checks": ["a", "b"], "seconds": 1.5}], "none": None},
    }
    assert replace(evidence, facts=document["facts"]).to_json() == document


def test_evidence_cannot_be_changed_afterwards() -> None:
    inner = {"a": [1]}
    evidence = Evidence("boot", ABOUT, "pass", {"x": inner})
    inner["a"].append(2)
    assert evidence.to_json()["facts"] == {"x": {"a": [1]}}
    with pytest.raises(TypeError):
        evidence.facts["x"] = 1  # type: ignore[index]


@pytest.mark.parametrize(
    ("kind", "about", "outcome"),
    [
        ("", ABOUT, "pass"),
        ("boot", "sha256:AB", "pass"),
        ("boot", "md5:" + "ab" * 32, "pass"),
        ("boot", ABOUT + "\n", "pass"),
        ("boot", ABOUT, "maybe"),
    ],
)
def test_evidence_that_is_none(kind: str, about: str, outcome: str) -> None:
    with pytest.raises(ValueError, match=r"evidence|outcome"):
        Evidence(kind, about, outcome, {})  # type: ignore[arg-type]


def test_evidence_holds_json_only() -> None:
    with pytest.raises(ValueError, match="is no JSON"):
        Evidence("boot", ABOUT, "pass", {"x": object()})  # type: ignore[dict-item]


def test_every_way_to_fail_says_what_to_do_next() -> None:
    family = list(catalogue(BootFailed))
    assert {error.code for error in family} == {
        "boot-no-console",
        "boot-timeout",
        "boot-panic",
        "boot-emergency",
        "boot-no-loader",
        "boot-refused",
        "boot-reset",
        "boot-check-failed",
    }
    assert all(error.default_advice and error.exit_code == 1 for error in family)
