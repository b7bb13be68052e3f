"""qemu-img: conversion, inside limits, of images that were inspected before."""

import json
import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path

from imagefactory.errors import DiskFull, ImageDamaged, ImageTooLarge, ProgramFailed
from imagefactory.tools.process import Limits, run

INFO_LIMITS = Limits(memory=2 << 30, cpu=30)
CONVERT_MEMORY = 4 << 30  # bytes of address space; a conversion of 2 MiB clusters in parallel uses about half
COROUTINES = 16
TIMEOUT = 7200.0
_PERCENT = re.compile(rb"\(\s*([0-9.]+)/100%\)")


@dataclass(frozen=True)
class Qcow2Options:
    """How a qcow2 is written: `compression` zstd (qemu >= 5.1 reads it), zlib (any) or none; `cluster_size` in
    bytes."""

    compression: str = "zstd"
    cluster_size: int = 64 << 10


def version(environment: Mapping[str, str]) -> str:
    """The version of qemu-img, e.g. "7.2.22"."""
    first = run(["qemu-img", "--version"], env=environment, timeout=10.0).stdout.decode(errors="replace").split()
    return first[2]


def virtual_size(descriptor: int, image_format: str, name: str, environment: Mapping[str, str]) -> int:
    """The size in bytes of the disk that an image describes.

    Raises ImageDamaged when qemu-img cannot read it.
    """
    try:
        shown = run(
            ["qemu-img", "info", "--output=json", "-f", image_format, f"/dev/fd/{descriptor}"],
            env=environment,
            timeout=60.0,
            limits=INFO_LIMITS,
            pass_fds=(descriptor,),
        )
    except ProgramFailed as error:
        raise ImageDamaged(f"{name} cannot be read as {image_format}", lines=error.lines) from error
    return int(json.loads(shown.stdout)["virtual-size"])


def check(descriptor: int, name: str, environment: Mapping[str, str]) -> None:
    """Check a qcow2's tables. Leaked clusters (status 3) waste space and harm nothing.

    Raises ImageDamaged.
    """
    try:
        run(
            ["qemu-img", "check", "--output=json", "-f", "qcow2", f"/dev/fd/{descriptor}"],
            env=environment,
            timeout=600.0,
            limits=Limits(memory=CONVERT_MEMORY, cpu=600),
            pass_fds=(descriptor,),
            accept=(0, 3),
        )
    except ProgramFailed as error:
        raise ImageDamaged(f"{name} is inconsistent or cut short", lines=error.lines) from error


def convert(
    descriptor: int,
    source_format: str,
    output: Path,
    output_format: str,
    *,
    name: str,
    size: int,
    options: Qcow2Options,
    environment: Mapping[str, str],
    log: Path,
    on_bytes: Callable[[int, int], None],
) -> None:
    """Convert the open image of virtual `size` bytes to `output`. Clusters are written in order, so that equal input
    gives equal output. `on_bytes(done, total)` tells how far it is.

    Raises DiskFull, ImageDamaged (the source), ImageTooLarge.
    """
    flags = []
    if output_format == "qcow2":
        flags = ["-o", f"cluster_size={options.cluster_size}"]
        if options.compression != "none":
            flags = ["-c", "-o", f"compression_type={options.compression},cluster_size={options.cluster_size}"]
    follower = _Percentages(log, size, on_bytes)
    try:
        run(
            [
                *("qemu-img", "convert", "-p", "-m", str(COROUTINES), "-f", source_format, "-O", output_format),
                *flags,
                f"/dev/fd/{descriptor}",
                output,
            ],
            env=environment,
            timeout=TIMEOUT,
            log=log,
            limits=Limits(memory=CONVERT_MEMORY, cpu=int(TIMEOUT), file_size=size + (size >> 3) + (16 << 20)),
            pass_fds=(descriptor,),
            on_poll=follower,
        )
    except DiskFull:
        raise DiskFull(f"no space for {output.name}, converted from {name}", log=log) from None
    except ProgramFailed as error:
        if any("File too large" in line for line in error.lines):
            raise ImageTooLarge(f"{name} grows beyond its own virtual size", log=log) from error
        raise ImageDamaged(f"{name} cannot be converted", log=log, lines=error.lines) from error


def same_content(
    first: int, first_format: str, second: int, second_format: str, environment: Mapping[str, str]
) -> None:
    """Raises ImageDamaged unless two open images describe the same disk, byte for byte."""
    try:
        run(
            ["qemu-img", "compare", "-f", first_format, "-F", second_format, f"/dev/fd/{first}", f"/dev/fd/{second}"],
            env=environment,
            timeout=TIMEOUT,
            limits=Limits(memory=CONVERT_MEMORY, cpu=int(TIMEOUT)),
            pass_fds=(first, second),
        )
    except ProgramFailed as error:
        raise ImageDamaged("the formats of one release describe different disks", lines=error.lines) from error


class _Percentages:
    """Follows the percentages that qemu-img writes into its log."""

    def __init__(self, log: Path, total: int, on_bytes: Callable[[int, int], None]) -> None:
        self._log, self._total, self._on_bytes = log, total, on_bytes

    def __call__(self) -> None:
        with self._log.open("rb") as stream:
            stream.seek(max(0, self._log.stat().st_size - 256))
            found = _PERCENT.findall(stream.read())
        if found:
            self._on_bytes(int(float(found[-1]) / 100 * self._total), self._total)
