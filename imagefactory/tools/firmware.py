"""What a virtual machine runs on: KVM or software, BIOS or UEFI with Secure Boot."""

import os
import shutil
import time
from collections.abc import Mapping, Sequence
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from imagefactory.errors import FirmwareMissing
from imagefactory.model.disk import Firmware
from imagefactory.tools import boot_sector, process

QEMU = "qemu-system-x86_64"

# Firmware that enforces Secure Boot, and variables that hold Microsoft's keys.
OVMF_CODE = Path("/usr/share/OVMF/OVMF_CODE_4M.secboot.fd")
OVMF_VARS = Path("/usr/share/OVMF/OVMF_VARS_4M.ms.fd")

KVM = Path("/dev/kvm")
PROBE_SECONDS = 5.0
PROBE_LIMITS = process.Limits(memory=4 << 30, file_size=2 << 20)
SIGN = b"it boots"  # what the probe's disk prints

# The psABI's x86-64-v2, which is what every distribution runs on; "max" is slower in software and proves less. Linux
# takes this one for a processor that Meltdown concerns, as many in clouds are, and isolates page tables. Without the
# vendor it would not, and start programs faster, but in a hardened image, which asks for that isolation on any
# processor: what hardening costs would then say more about emulated TLBs than about hardening.
SOFTWARE_CPU = "qemu64,vendor=GenuineIntel,+cx16,+lahf-lm,+popcnt,+sse3,+sse4.1,+sse4.2,+ssse3"
# Half the memory of QEMU's default for translated code; a whole Debian boot fits.
TRANSLATION_CACHE = 512  # MiB


@dataclass(frozen=True)
class Accelerator:
    """How a machine's processor is made: by the hardware ("kvm") or by software ("tcg"), and why that one."""

    kind: Literal["kvm", "tcg"]
    reason: str

    def argv(self) -> list[str]:
        if self.kind == "kvm":
            return ["-accel", "kvm", "-cpu", "host"]
        return ["-accel", f"tcg,thread=multi,tb-size={TRANSLATION_CACHE}", "-cpu", SOFTWARE_CPU]


TCG = Accelerator("tcg", "asked for")


def probe_kvm(environment: Mapping[str, str], *, device: Path = KVM) -> Accelerator:
    """KVM where it really boots a disk, else software and the reason. Takes a few seconds at most.

    /dev/kvm may exist and open, greet from its firmware, and still hang in the first sixteen-bit code or lack the
    system management mode that Secure Boot needs: so boot something. Raises ProgramMissing without QEMU.
    """
    program = process.find(QEMU, environment.get("PATH"))
    if not device.exists():
        return Accelerator("tcg", f"{device} does not exist")
    try:
        device.open("r+b", buffering=0).close()
    except OSError as error:
        return Accelerator("tcg", f"{device} does not open: {error.strerror}")
    with ExitStack() as stack:
        # Memory, not files: whatever becomes of us, nothing is left lying about.
        files = [os.memfd_create(name) for name in ("disk", "console", "log")]
        for descriptor in files:
            stack.callback(os.close, descriptor)
        return _probe(program, environment, files)


def _probe(program: str, environment: Mapping[str, str], files: Sequence[int]) -> Accelerator:
    """Boot a disk. `files` are descriptors for it, for the console and for the log."""
    image, console, log = (Path(f"/proc/self/fd/{descriptor}") for descriptor in files)
    image.write_bytes(boot_sector.disk(SIGN + b"\n"))
    argv = [program, "-machine", "q35,smm=on", "-accel", "kvm", "-cpu", "host", "-m", "128", "-no-user-config"]
    argv += ["-nodefaults", "-display", "none", "-device", "VGA", "-serial", f"file:{console}"]
    argv += ["-drive", f"if=virtio,format=raw,readonly=on,file={image}"]
    deadline = time.monotonic() + PROBE_SECONDS
    with process.start(
        argv, env=environment, timeout=PROBE_SECONDS, log=log, limits=PROBE_LIMITS, pass_fds=files
    ) as machine:
        while time.monotonic() < deadline:
            if os.pread(files[1], len(SIGN), 0) == SIGN:
                return Accelerator("kvm", "a disk boots in it")
            if machine.poll() is not None:
                break
            time.sleep(process.POLL)
        hangs = machine.poll() is None
    said = process.tail(log, 1)
    return Accelerator("tcg", f"KVM is there and does not work: {said[0] if said and not hangs else 'it hangs'}")


def firmware_argv(firmware: Firmware, work: Path) -> list[str]:
    """The machine and its firmware. UEFI gets fresh variables in `work`: stale boot entries would confuse it.

    Raises FirmwareMissing.
    """
    if firmware == "bios":
        return ["-machine", "q35"]
    for needed in (OVMF_CODE, OVMF_VARS):
        if not needed.is_file():
            raise FirmwareMissing(f"{needed} is not installed")
    variables = work / "uefi-variables.fd"
    shutil.copyfile(OVMF_VARS, variables)
    return [
        *("-machine", "q35,smm=on"),
        *("-global", "driver=cfi.pflash01,property=secure,value=on"),
        *("-drive", f"if=pflash,unit=0,format=raw,readonly=on,file={escaped(OVMF_CODE)}"),
        *("-drive", f"if=pflash,unit=1,format=raw,file={escaped(variables)}"),
    ]


def escaped(path: Path) -> str:
    """A path as the value of a QEMU option."""
    return str(path).replace(",", ",,")
