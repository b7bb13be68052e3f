"""A throwaway disk over an image: what a virtual machine writes goes here, the image stays byte for byte."""

import json
import os
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from imagefactory.errors import ProgramFailed
from imagefactory.tools import process

SECONDS = 60.0  # for each of these short programs
GIB = 1 << 30
# qemu-img reads hostile bytes: bound what it may take.
LIMITS = process.Limits(memory=2 * GIB, cpu=60)


@dataclass(frozen=True)
class Overlay:
    """A qcow2 `path` over an `image` of `image_format`; `size` and `image_size` are virtual sizes in bytes."""

    path: Path
    image: Path
    image_format: str
    image_size: int
    size: int

    def blockdev(self, node: str) -> str:
        """The value of QEMU's -blockdev. Says itself what lies under what: a backing file that the image names is
        never opened, and the image is only read."""
        base: dict[str, object] = {
            "driver": self.image_format,
            "read-only": True,
            "file": {"driver": "file", "filename": str(self.image), "read-only": True},
        }
        if self.image_format == "qcow2":
            base["backing"] = None
        top = {
            "driver": "qcow2",
            "node-name": node,
            "discard": "unmap",
            "cache": {"no-flush": True},
            "file": {"driver": "file", "filename": str(self.path), "cache": {"no-flush": True}},
            "backing": base,
        }
        return json.dumps(top)


def create(path: Path, image: Path, image_format: str, *, grow: int = 0, environment: Mapping[str, str]) -> Overlay:
    """Make an overlay at `path`, `grow` bytes larger than the image.

    Raises ProgramFailed when the image is not of its format, ProgramMissing, DiskFull.
    """
    size = virtual_size(image, image_format, environment=environment)
    backing = ["-u", "-b", str(image.absolute()), "-F", image_format]
    argv = ["qemu-img", "create", "-q", "-f", "qcow2", *backing, str(path), str(size + grow)]
    process.run(argv, env=environment, timeout=SECONDS, limits=LIMITS)
    return Overlay(path.absolute(), image.absolute(), image_format, size, size + grow)


def virtual_size(image: Path, image_format: str, *, environment: Mapping[str, str]) -> int:
    """The size of the disk that an image holds, in bytes."""
    argv = ["qemu-img", "info", "-f", image_format, "--output=json", str(image.absolute())]
    answer = process.run(argv, env=environment, timeout=SECONDS, limits=LIMITS)
    try:
        return int(json.loads(answer.stdout)["virtual-size"])
    except (ValueError, KeyError, TypeError) as error:
        raise ProgramFailed(f"qemu-img says nothing about the size of {image.name}") from error


def extract(overlay: Overlay, target: Path, *, offset: int, length: int, environment: Mapping[str, str]) -> None:
    """Copy `length` bytes at `offset` of the image under an overlay into the new file `target` (multiples of 512)."""
    block = 512
    while block < (1 << 20) and offset % (block * 2) == 0 and length % (block * 2) == 0:
        block *= 2
    argv = ["qemu-img", "dd", "-f", overlay.image_format, "-O", "raw", f"bs={block}"]
    # qemu-img 7.2 counts from the start of its input, what is skipped included; whatever it copies too much is cut.
    argv += [f"skip={offset // block}", f"count={(offset + length) // block}", f"if={overlay.image}", f"of={target}"]
    process.run(argv, env=environment, timeout=SECONDS, limits=LIMITS)
    os.truncate(target, length)


def poke(overlay: Overlay, offset: int, value: int, *, environment: Mapping[str, str]) -> None:
    """Set one byte of an overlay. The image under it is not touched."""
    argv = ["qemu-io", "-f", "qcow2", "-c", f"write -q -P {value:#04x} {offset} 1", str(overlay.path)]
    process.run(argv, env=environment, timeout=SECONDS, limits=LIMITS)
