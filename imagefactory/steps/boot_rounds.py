"""The boots of one firmware: the first, with everything that is looked at; the second; the one that must be refused.

What ends a boot at once (a panic, an emergency shell, nothing to boot) raises its own error; checks that a running
system fails are collected, so that a user sees all of them together.
"""

import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from threading import Event

from imagefactory.errors import BootCheckFailed, BootFailed, BootRefused, ProgramFailed, ProgramTimeout
from imagefactory.model.disk import Firmware
from imagefactory.model.evidence import JSON
from imagefactory.steps import boot_checks as checks
from imagefactory.steps.boot_checks import Check
from imagefactory.tools import guest, loader, overlay, seed, ssh
from imagefactory.tools.console import LOGIN, printable
from imagefactory.tools.firmware import Accelerator
from imagefactory.tools.guest_checks import PATIENCE, Ended, GuestCheck
from imagefactory.tools.guest_scan import GuestScan
from imagefactory.tools.guest_upgrade import LOOK, MOST_WRITTEN, GuestUpgrade, written
from imagefactory.tools.machine import Machine
from imagefactory.tools.overlay import Overlay
from imagefactory.tools.vm import VM

CPUS = 2
GROW = 1 << 30  # bytes that a disk is larger than its image, at least: enough to see whether the root grew
UPGRADE_SECONDS = 1800  # that an upgrade may take, at least: it makes an initramfs, maybe in software emulation
AGENT_SECONDS = 30.0
HOST_KEY = "/etc/ssh/ssh_host_ed25519_key.pub"
KEYS_SAID = ("END SSH HOST KEY KEYS", " finished at ")  # by cloud-init, on the console, when it is done
RAN_ANYWAY = ("GRUB", "Linux version", "EFI stub", "login:")


@dataclass(frozen=True)
class Bench:
    """What every boot of one round shares: `source` of the metadata, `memory` in MiB, `timeout` in seconds per boot.

    Every machine ends soon after `stop` is set. `own` are the recipe's own checks, `upgrade` is what a guest is to
    install before it boots again, `scan` what it is to measure of itself.
    """

    image: Path
    image_format: str
    firmware: Firmware
    source: seed.Source
    memory: int
    timeout: float
    expect: Sequence[str]
    user: str
    work: Path
    logs: Path
    accelerator: Accelerator
    environment: Mapping[str, str]
    on_advance: Callable[[str], None]
    stop: Event
    own: Sequence[GuestCheck] = ()
    upgrade: GuestUpgrade | None = None
    scan: GuestScan | None = None

    def disk(self, name: str) -> Overlay:
        """A fresh disk over the image, larger than it."""
        path, env = self.work / f"{name}.qcow2", self.environment
        size = overlay.virtual_size(self.image, self.image_format, environment=env)
        grow = max(GROW, size // 8 // GROW * GROW)
        return overlay.create(path, self.image, self.image_format, grow=grow, environment=env)

    def vm(self, name: str, disk: Overlay, seed_disk: Path | None = None, extra: Path | None = None) -> VM:
        """A machine to start, of a name that its logs carry too."""
        machine = Machine(self.firmware, self.accelerator, self.memory, CPUS, disk, seed_disk, extra)
        return VM(machine, name, work=self.work, logs=self.logs, environment=self.environment, stop=self.stop)


@dataclass
class Report:
    """What one boot showed. `seconds` since the start of the machine, by phase."""

    name: str
    checks: list[Check] = field(default_factory=list)
    facts: dict[str, JSON] = field(default_factory=dict)
    seconds: dict[str, float] = field(default_factory=dict)

    def judge(self, log: Path) -> None:
        """Raises BootCheckFailed when a check did not pass."""
        failed = [check for check in self.checks if not check.passed]
        if failed:
            lines = [line for check in failed for line in (f"{check.name}: {check.detail}", *check.lines)]
            names = ", ".join(check.name for check in failed)
            raise BootCheckFailed(f"{self.name}: {names}", log=log, lines=tuple(lines))

    def to_json(self) -> dict[str, JSON]:
        seconds: dict[str, JSON] = {phase: round(value, 1) for phase, value in self.seconds.items()}
        return {"boot": self.name, "checks": [c.to_json() for c in self.checks], "seconds": seconds, **self.facts}


def boots(bench: Bench) -> list[Report]:
    """All the boots under one firmware."""
    identity = seed.create(bench.work, bench.source, environment=bench.environment)
    disk, first = bench.disk("disk"), Report(bench.firmware)
    with bench.vm(first.name, disk, identity.disk, bench.upgrade.disk if bench.upgrade else None) as vm:
        login = _first_boot(bench, vm, identity, first)
    second = Report(f"{bench.firmware}-again")
    with bench.vm(second.name, disk, identity.disk, bench.scan.disk if bench.scan else None) as vm:
        _second_boot(bench, vm, login, second)
    if bench.firmware != "uefi":
        return [first, second]
    return [first, second, _altered_boot(bench)]


def first_boot(bench: Bench) -> list[Report]:
    """A first boot and no more, with metadata from a source that no other round has."""
    identity = seed.create(bench.work, bench.source, environment=bench.environment)
    report = Report(f"{bench.firmware}-{bench.source}")
    with bench.vm(report.name, bench.disk("disk"), identity.disk) as vm:
        _first_boot(bench, vm, identity, report)
    return [report]


def _first_boot(bench: Bench, vm: VM, identity: seed.Seed, report: Report) -> ssh.Guest:
    """Everything about a system that boots for the first time. Returns how to log in to it again."""
    deadline = time.monotonic() + bench.timeout
    login = ssh.Guest(bench.user, identity.key, bench.work / "known_hosts", bench.environment)
    _login_prompt(bench, vm, report, deadline)
    login = _host_keys(bench, vm, login, report, deadline)
    bench.on_advance(f"{vm.name}: waiting for cloud-init and all units")
    answers = _ask(vm, login, report, deadline)
    report.seconds["settled"] = vm.seconds()
    report.checks += checks.settled(answers)
    report.checks += checks.grown(answers, vm.machine.disk.image_size, vm.machine.disk.size)
    report.checks += checks.identity(answers, identity.hostname)
    report.checks += checks.ports(answers)
    report.checks += checks.login(login.methods(vm.port, deadline=deadline, watch=vm.check))
    pong = vm.agent.ask("guest-ping", deadline=min(deadline, time.monotonic() + AGENT_SECONDS))
    report.checks.append(Check("guest-agent", pong is not None, "answers" if pong is not None else "does not answer"))
    console = vm.console.text()
    report.checks += checks.firmware(answers, bench.firmware, console)
    report.checks += checks.kernel(console, answers, software=bench.accelerator.kind == "tcg")
    report.checks += checks.console_says(console, bench.expect)
    report.facts |= {
        "qemu": vm.qemu_version(),
        "os": answers.get("os"),
        "kernel": answers.get("kernel"),
        "user": login.user,
        "source": bench.source,
        "rng": answers.get("rng"),
        "memory_available_kib": answers.number("memory"),
    }
    for own in bench.own:
        _own_check(bench, own, vm, login, report)
    if bench.upgrade is not None:
        _upgrade(bench, bench.upgrade, vm, login, report)
    if bench.own or bench.upgrade:
        deadline = time.monotonic() + bench.timeout
    _power_off(bench, vm, report, deadline)
    return login


def _own_check(bench: Bench, own: GuestCheck, vm: VM, login: ssh.Guest, report: Report) -> None:
    """A check of the recipe's. Whatever it does, the boot goes on."""
    bench.on_advance(f"{vm.name}: check {own.name}")
    ended = _ended(own, vm, login)
    report.checks.append(Check(f"guest:{own.name}", ended.passed, ended.detail, ended.lines))


def _ended(program: GuestCheck, vm: VM, login: ssh.Guest) -> Ended:
    try:
        deadline = time.monotonic() + program.seconds + PATIENCE
        return program.ended(login.ask(vm.port, program.script, deadline=deadline, watch=vm.check))
    except ProgramTimeout:
        return program.hanging()
    except ProgramFailed as error:
        return Ended(False, error.message, error.lines)


def _upgrade(bench: Bench, upgrade: GuestUpgrade, vm: VM, login: ssh.Guest, report: Report) -> None:
    """The guest installs its kernel and its boot loader anew. Whatever comes of it, the boot goes on."""
    seconds = int(max(UPGRADE_SECONDS, bench.timeout))
    bench.on_advance(f"{vm.name}: installing kernel and boot loader anew, which may take {seconds // 60} minutes")
    ended = _ended(upgrade.install(seconds), vm, login)
    if not ended.passed:
        report.checks.append(Check("upgrade", False, ended.detail, ended.lines))
        return
    report.seconds["upgraded"] = vm.seconds()
    try:
        said = login.ask(vm.port, LOOK, deadline=time.monotonic() + bench.timeout, watch=vm.check)
    except (ProgramFailed, ProgramTimeout) as error:
        report.checks.append(Check("upgrade", False, error.message, error.lines))
        return
    made = written(said)
    report.checks += checks.upgraded(upgrade.missing(said), made, len(upgrade.changes))
    packages: list[JSON] = [{"name": each.name, "from": each.old, "to": each.new} for each in upgrade.changes]
    report.facts["upgrade"] = {"packages": packages, "written": list(made[:MOST_WRITTEN])}


def _second_boot(bench: Bench, vm: VM, login: ssh.Guest, report: Report) -> None:
    """A system that has been shut down comes up again, with the same host key, and is whole."""
    deadline = time.monotonic() + bench.timeout
    _login_prompt(bench, vm, report, deadline)
    answers = _ask(vm, login, report, deadline)
    report.seconds["settled"] = vm.seconds()
    report.checks += checks.settled(answers)
    console = vm.console.text()
    report.checks += checks.firmware(answers, bench.firmware, console)
    report.checks += checks.kernel(console, answers, software=bench.accelerator.kind == "tcg")
    report.facts["kernel"] = answers.get("kernel")
    if bench.scan is not None:
        _measure(bench, bench.scan, vm, login, report)
        deadline = time.monotonic() + bench.timeout
    _power_off(bench, vm, report, deadline)


def _measure(bench: Bench, scan: GuestScan, vm: VM, login: ssh.Guest, report: Report) -> None:
    """The guest answers the rules that no file can answer."""
    bench.on_advance(f"{vm.name}: measuring")
    began = vm.seconds()
    try:
        said = login.ask(vm.port, scan.script, deadline=time.monotonic() + bench.timeout, watch=vm.check)
    except (ProgramFailed, ProgramTimeout) as error:
        report.checks.append(Check("measured", False, error.message, error.lines))
        return
    outcomes = scan.outcomes(said)
    report.facts["measured"] = dict(outcomes)
    report.checks.append(Check("measured", True, f"{len(outcomes)} rules, {vm.seconds() - began:.0f} s"))


def _altered_boot(bench: Bench) -> Report:
    """One bit of the boot loader is flipped: Secure Boot must not run it."""
    report = Report(f"{bench.firmware}-altered")
    bench.on_advance(f"{report.name}: starting with one bit of the boot loader flipped")
    disk = bench.disk("altered")
    what = loader.alter(disk, bench.work, environment=bench.environment)
    with bench.vm(report.name, disk) as vm:
        try:
            ran = vm.wait_for(
                "refusal by Secure Boot",
                lambda text: next((sign for sign in RAN_ANYWAY if sign in text), None),
                deadline=time.monotonic() + bench.timeout,
            )
            report.checks.append(Check("altered-refused", False, f"{ran!r} appeared although {what}"))
        except BootRefused as refusal:
            report.checks.append(Check("altered-refused", True, f"{what}: {refusal.message}"))
        report.seconds["refused"] = vm.seconds()
        report.judge(vm.console.path)
    return report


def _login_prompt(bench: Bench, vm: VM, report: Report, deadline: float) -> None:
    bench.on_advance(f"{vm.name}: waiting for a login prompt")
    prompt = vm.wait_for("login prompt", LOGIN.search, deadline=deadline)
    report.seconds["login"] = vm.seconds()
    report.checks.append(Check("login-prompt", True, printable(prompt[0])))


def _host_keys(bench: Bench, vm: VM, login: ssh.Guest, report: Report, deadline: float) -> ssh.Guest:
    """Learn the guest's host keys and its default user from the console; the keys from its agent if need be."""
    halfway = time.monotonic() + (deadline - time.monotonic()) / 2
    said = vm.wait_for(
        "ssh host keys",
        lambda text: text if any(sign in text for sign in KEYS_SAID) or time.monotonic() > halfway else None,
        deadline=deadline,
    )
    keys, source = ssh.host_keys(said), "console"
    if not keys:
        file = vm.agent.file(HOST_KEY, deadline=min(deadline, time.monotonic() + AGENT_SECONDS))
        keys, source = ssh.host_keys(file.decode(errors="replace")), "guest agent"
    report.checks.append(Check("host-key", bool(keys), f"by the {source}" if keys else "neither by console nor agent"))
    if not keys:
        report.judge(vm.console.path)
    login = login.named(ssh.default_user(said) or bench.user)
    login.know(keys)
    return login


def _ask(vm: VM, login: ssh.Guest, report: Report, deadline: float) -> guest.Answers:
    """Run the guest's script over ssh. Raises BootCheckFailed when it does not let us in."""
    patience = max(1, int((deadline - time.monotonic()) / 3))
    try:
        text = login.ask(vm.port, guest.SCRIPT, deadline=deadline, watch=vm.check, arguments=(str(patience),))
    except (ProgramFailed, ProgramTimeout) as error:
        report.checks.append(Check("ssh", False, f"as {login.user}: {error.message}", error.lines))
        report.judge(vm.console.path)
        raise
    report.checks.append(Check("ssh", True, f"as {login.user}, with a throwaway key"))
    return guest.parse(text)


def _power_off(bench: Bench, vm: VM, report: Report, deadline: float) -> None:
    bench.on_advance(f"{vm.name}: shutting down")
    pressed = vm.seconds()
    try:
        vm.power_off(deadline=deadline)
    except BootFailed as error:
        if all(check.passed for check in report.checks):
            raise
        report.checks.append(Check("power-off", False, error.message, error.lines))
        report.judge(vm.console.path)
    report.checks.append(Check("power-off", True, f"clean, {vm.seconds() - pressed:.0f} s after the button"))
    report.seconds["off"] = vm.seconds()
    report.judge(vm.console.path)
