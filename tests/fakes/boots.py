"""A boot test that starts a program and believes what it says: the fake of steps.boot_test.boot_test."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict
from pathlib import Path

from imagefactory.errors import BootPanic, ProgramFailed
from imagefactory.model.disk import Firmware
from imagefactory.model.evidence import JSON, Evidence
from imagefactory.tools.firmware import QEMU, Accelerator
from imagefactory.tools.guest_checks import GuestCheck
from imagefactory.tools.guest_scan import GuestScan
from imagefactory.tools.guest_upgrade import GuestUpgrade
from imagefactory.tools.machine import DEVICES
from imagefactory.tools.process import run


def boot_test(
    image: Path,
    image_format: str,
    *,
    about: str,
    firmware: Sequence[Firmware],
    memory: int,
    timeout: float,
    expect: Sequence[str],
    work: Path,
    logs: Path,
    accelerator: Accelerator,
    environment: Mapping[str, str],
    on_advance: Callable[[str], None],
    own: Sequence[GuestCheck],
    upgrade: GuestUpgrade | None,
    scan: GuestScan | None,
) -> Evidence:
    """Start QEMU once a firmware. Raises BootPanic when it fails. Whatever the guest measures of itself, or is asked
    by the recipe, is good."""
    assert image.is_file()
    assert work.is_dir()
    for kind in firmware:
        on_advance(f"{kind}: waiting for a login prompt")
        argv = [QEMU, "-drive", f"file={image},format={image_format}", "-m", str(memory)]
        log = logs / f"boot-{kind}.log"
        try:
            run(argv, env=environment, timeout=timeout, log=log)
        except ProgramFailed as error:
            raise BootPanic(f"{kind}: Kernel panic", log=log, lines=error.lines) from error
    said: dict[str, JSON] = {"measured": dict.fromkeys(scan.rules.values(), "pass")} if scan else {}
    if upgrade is not None:
        said["upgrade"] = {"packages": [each.name for each in upgrade.changes]}
    if own:
        said["own"] = [[each.name, each.program.decode(), *each.interpreter, each.sudo, each.seconds] for each in own]
    found = {**facts(firmware, memory, **said), "accelerator": accelerator.kind, "expect": list(expect)}
    return Evidence("boot", about, "pass", found)


def facts(firmware: Sequence[str], memory: int, **said: JSON) -> dict[str, JSON]:
    """What a boot test with `memory` MiB finds out about a good image; each first boot says `said`, too."""
    boot: dict[str, JSON] = {
        "os": "debian 12",
        "user": "debian",
        "rng": "virtio_rng.0",
        "checks": [{"name": "guest-agent", "outcome": "pass", "detail": "answers"}],
        **said,
    }
    return {
        "machine": {**asdict(DEVICES)},
        "memory_mib": memory,
        "firmware": list(firmware),
        "secure_boot": "uefi" in firmware,
        "boots": [{**boot, "boot": kind} for kind in firmware],
    }
