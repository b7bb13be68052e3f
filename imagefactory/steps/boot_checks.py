"""The questions that a booted image must answer well. Pure: from what was seen to a list of checks."""

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from imagefactory.model.disk import Firmware
from imagefactory.model.evidence import JSON
from imagefactory.tools.console import kernel_faults, printable
from imagefactory.tools.guest import Answers
from imagefactory.tools.guest_upgrade import CONFIGURATION, INITRD

SLACK = 8 << 20  # bytes that a partition may leave at the end of its disk: alignment and the second partition table
TAINT_DIED = 1 << 7  # the kernel has oopsed
MOST_LINES = 20  # of a console that complains and complains
# Ports that may be open: ssh; DHCP clients (RFC 2131 section 4.1, RFC 8415 section 7.2).
ALLOWED: Mapping[str, frozenset[int]] = {"tcp": frozenset({22}), "udp": frozenset({68, 546})}
# ::1 and 127.0.0.0/8 as /proc/net writes them on a little-endian machine, the latter in IPv6, too.
LOOPBACK = re.compile(r"0{24}01000000|(?:0{16}FFFF0000)?[0-9A-F]{6}7F")
PASSWORDS = frozenset({"none", "password", "keyboard-interactive"})


@dataclass(frozen=True)
class Check:
    """One thing that was looked at: its name, whether it is as it should be, what was found."""

    name: str
    passed: bool
    detail: str
    lines: tuple[str, ...] = ()

    def to_json(self) -> dict[str, JSON]:
        said: dict[str, JSON] = {"lines": list(self.lines)} if self.lines else {}
        return {"name": self.name, "outcome": "pass" if self.passed else "fail", "detail": self.detail, **said}


def settled(answers: Answers) -> list[Check]:
    """Whether the system came up whole: cloud-init, units, the root file system mounted for writing."""
    errors = answers.get("cloud_init_result")
    status = answers.get("cloud_init")
    units, jobs = answers.all("failed_unit"), answers.all("job")
    state = answers.get("system")
    options = answers.get("root_options")
    return [
        Check("cloud-init", status == "done" and '"errors": []' in errors, f"status {status or 'unknown'}: {errors}"),
        Check(
            "units",
            not units,
            printable(f"failed: {', '.join(units)}") if units else "none failed",
            answers.all("failed_line"),
        ),
        Check("system", state == "running", f"state {state or 'still starting'}", jobs),
        Check("root-writable", "rw" in options.split(","), f"{answers.get('root_source')} {options}"),
    ]


def grown(answers: Answers, image_size: int, disk_size: int) -> list[Check]:
    """Whether the root file system took the whole of a disk that is larger than the image (sizes in bytes).

    Root is the last partition, so it began with at most what the image has behind its start.
    """
    size, start, end = (answers.number(key) for key in ("root_size", "part_start", "part_end"))
    seen = answers.number("disk_size") or disk_size
    filled = end == 0 or end >= seen - SLACK
    detail = f"file system {size} bytes, partition from {start} to {end} of {seen}, image {image_size}"
    return [Check("root-grown", size > image_size - start and seen == disk_size and filled, detail)]


def firmware(answers: Answers, expected: Firmware, console: str) -> list[Check]:
    """Whether the guest sees the firmware it was given, and under UEFI both it and its kernel enforce Secure Boot."""
    found = [Check("firmware", answers.get("firmware") == expected, f"guest sees {answers.get('firmware')}")]
    if expected == "uefi":
        variable = answers.get("secure_boot")
        said = answers.get("kernel_secure_boot") or next(
            (line for line in console.splitlines() if "secureboot: Secure boot" in line), ""
        )
        found.append(Check("secure-boot", variable == "1", f"SecureBoot={variable or 'absent'}"))
        found.append(Check("kernel-secure-boot", "Secure boot enabled" in said, printable(said) or "kernel is silent"))
    return found


def identity(answers: Answers, hostname: str) -> list[Check]:
    """Whether the system took the name that its cloud gave it, and its user may become root."""
    found, root = answers.get("hostname"), answers.get("sudo")
    return [
        Check("hostname", found == hostname, f"{found or 'unknown'}, from the cloud's metadata {hostname}"),
        Check("sudo", root == "0", "without a password" if root == "0" else "the user cannot become root by sudo -n"),
    ]


def ports(answers: Answers) -> list[Check]:
    """Whether nothing can be reached from the network but ssh. A DHCP client has a port as well."""
    open_ = [
        f"{protocol} {port}"
        for protocol, allowed in ALLOWED.items()
        for address, port in map(_socket, answers.all(protocol))
        if port not in allowed and not LOOPBACK.fullmatch(address)
    ]
    listed = printable(", ".join(dict.fromkeys(open_)))
    heard = answers.all("tcp") != ()  # whoever asks came by ssh, so that there is something to see
    return [Check("ports", heard and not open_, f"also {listed}" if open_ else "ssh only" if heard else "not told")]


def _socket(text: str) -> tuple[str, int]:
    """ADDRESS:PORT in hex, as the kernel writes it. What is none is no address that is allowed."""
    address, _, port = text.partition(":")
    try:
        return address, int(port, 16)
    except ValueError:
        return text, -1


def login(methods: frozenset[str]) -> list[Check]:
    """Whether the ssh server lets nobody in without a key. `methods` are what it offers."""
    return [Check("no-password", not methods & PASSWORDS, f"offers {', '.join(sorted(methods))}")]


def kernel(console: str, answers: Answers, *, software: bool) -> list[Check]:
    """Whether the kernel complained. In `software` emulation a stalled processor is the host's fault."""
    faults = kernel_faults(console, stalls=not software)
    tainted = answers.number("tainted")
    detail = f"{len(faults)} faults, taint {tainted}"
    return [Check("kernel", not faults and not tainted & TAINT_DIED, detail, faults[:MOST_LINES])]


def console_says(console: str, expect: Sequence[str]) -> list[Check]:
    """Whether the console showed what the recipe expects."""
    return [Check(f"console: {printable(text)}", text in console, "seen" if text in console else "not seen")
            for text in expect]  # fmt: skip


def upgraded(missing: Sequence[str], written: Sequence[str], count: int) -> list[Check]:
    """Whether `count` packages were installed anew, and the next boot starts from what that wrote below /boot."""
    absent = [what for what in (CONFIGURATION, INITRD) if not any(path.startswith(what) for path in written)]
    detail = f"{count} packages installed anew, {len(written)} files written below /boot"
    if missing or absent:
        detail = "; ".join(
            f"{what}: {printable(', '.join(names))}"
            for what, names in (("not installed", missing), ("not written", absent))
            if names
        )
    return [Check("upgrade", not missing and not absent, detail)]
