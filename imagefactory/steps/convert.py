"""Conversion between image formats, inspected before and after, with the digests of what came out."""

import shutil
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path

from imagefactory.errors import ConversionUnsupported, ImageTooLarge, OutputExists
from imagefactory.tools import qemu_img
from imagefactory.tools.inspect import inspect, opened
from signing.digest import Digests, hash_stream

# Counts in the digest of the inputs: raise it when a change here alters what comes out.
REVISION = 1

CONVERTIBLE = ("raw", "qcow2")


@dataclass(frozen=True)
class Converted:
    """An image file that was inspected and hashed: `virtual_size` in bytes (an ISO's is its file's)."""

    path: Path
    format: str
    virtual_size: int
    digests: Digests


def convert(
    source: Path,
    output: Path,
    output_format: str,
    *,
    declared: str | None,
    options: qemu_img.Qcow2Options,
    largest: int,
    foreign: bool,
    environment: Mapping[str, str],
    log: Path,
    on_bytes: Callable[[int, int], None],
) -> Converted:
    """Convert `source` to `output` (which must not exist; the caller renames it to its last name).

    `declared` is the format that the source must have (None: any that converts), `largest` bounds file and disk in
    bytes, `foreign` asks for a check of a qcow2's tables first. Raises ImageRefused errors, ConversionUnsupported,
    OutputExists, DiskFull.
    """
    if output_format not in CONVERTIBLE:
        raise ConversionUnsupported(f"nothing converts to {output_format}")
    if output.exists():
        raise OutputExists(f"{output} exists")
    with opened(source) as descriptor:
        found = inspect(descriptor, str(source), declared=declared, largest=largest)
        if found.format not in CONVERTIBLE:
            raise ConversionUnsupported(f"{source} is {found.format}, which converts to nothing")
        size = qemu_img.virtual_size(descriptor, found.format, str(source), environment)
        if size > largest:
            raise ImageTooLarge(f"{source} describes a disk of {size} bytes, more than the limit of {largest}")
        if foreign and found.format == "qcow2":
            qemu_img.check(descriptor, str(source), environment)
        qemu_img.convert(
            descriptor,
            found.format,
            output,
            output_format,
            name=str(source),
            size=size,
            options=options,
            environment=environment,
            log=log,
            on_bytes=on_bytes,
        )
    return examine(output, output_format, environment=environment, name=f"what {source} holds")


def copy_as_is(
    source: Path, output: Path, *, declared: str | None, largest: int, environment: Mapping[str, str]
) -> Converted:
    """Copy a foreign image byte for byte; an ISO, for one. Raises ImageRefused errors, OutputExists."""
    if output.exists():
        raise OutputExists(f"{output} exists")
    with opened(source) as descriptor:
        found = inspect(descriptor, str(source), declared=declared, largest=largest)
        if found.format == "qcow2":
            qemu_img.check(descriptor, str(source), environment)
        with open(descriptor, "rb", closefd=False) as reader, output.open("xb") as writer:
            reader.seek(0)
            shutil.copyfileobj(reader, writer, 1 << 20)
    with opened(output) as descriptor:
        return Converted(output, found.format, found.virtual_size, hash_stream(descriptor))


def examine(image: Path, image_format: str, *, environment: Mapping[str, str], name: str | None = None) -> Converted:
    """Inspect and hash an image of ours that must be of `image_format`; messages call it `name`.

    Raises ImageRefused errors.
    """
    name = name or str(image)
    with opened(image) as descriptor:
        inspect(descriptor, name, declared=image_format)
        size = qemu_img.virtual_size(descriptor, image_format, name, environment)
        return Converted(image, image_format, size, hash_stream(descriptor))
