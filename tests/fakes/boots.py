"""A boot test that starts a program and believes what it says: the fake of steps.boot_test.boot_test."""

from collections.abc import Callable, Mapping, Sequence
from pathlib import Path

from imagefactory.errors import BootPanic, ProgramFailed
from imagefactory.model.disk import Firmware
from imagefactory.model.evidence import Evidence
from imagefactory.tools.firmware import QEMU, Accelerator
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
) -> Evidence:
    """Start QEMU once a firmware. Raises BootPanic when it fails."""
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
    return Evidence(
        "boot", about, "pass", {"accelerator": accelerator.kind, "firmware": list(firmware), "expect": list(expect)}
    )
