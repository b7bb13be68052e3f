"""What an image file is, judged by its bytes: never by its name, never by what somebody says it is.

The judging is oslo.utils' format_inspector, which OpenStack itself uses; it reads the file as a stream and follows no
reference inside it.
"""

import os
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from oslo_utils.imageutils import format_inspector

from imagefactory.errors import FormatMismatch, FormatUnknown, ImageTooLarge, ImageUnsafe
from signing.digest import open_regular

CHUNK = 64 << 10
# A disk of ours has a partition table, which the inspectors report by that name; to qemu and Glance it is raw.
_RAW = {"raw", "gpt"}
# What looks raw and begins like this is the first part of something else: the inspectors want whole headers.
_BEGINNINGS = {
    b"QFI\xfb": "qcow2",
    b"KDMV": "vmdk",
    b"# Disk DescriptorFile": "vmdk",
    b"vhdxfile": "vhdx",
    b"conectix": "vhd",
    b"QED\0": "qed",
    b"LUKS\xba\xbe": "luks",
    b"<<< ": "vdi",
}


@dataclass(frozen=True)
class Inspected:
    """What the bytes say: `format` as qemu and Glance name it, the file's `size`, and the `virtual_size` of the disk
    that it describes, both in bytes. Where the header cannot tell, that is the file's size."""

    format: str
    size: int
    virtual_size: int


@contextmanager
def opened(path: Path) -> Iterator[int]:
    """A read-only descriptor of a regular file. FIFOs, links, devices and directories are refused, never waited for.

    Raises NotARegularFile and Unreadable of the room signing.
    """
    descriptor = open_regular(path)
    try:
        yield descriptor
    finally:
        os.close(descriptor)


def inspect(descriptor: int, name: str, *, declared: str | None = None, largest: int | None = None) -> Inspected:
    """Say what format an open image has and that it is safe to hand to qemu. `largest` bounds file and disk, in bytes.

    Raises ImageTooLarge, FormatUnknown (also for a polyglot), ImageUnsafe (backing file, data file, unknown feature,
    no whole header, empty), FormatMismatch when it is not the `declared` format.
    """
    size = os.fstat(descriptor).st_size
    if largest is not None and size > largest:
        raise ImageTooLarge(f"{name} has {size} bytes, more than the limit of {largest}")
    if size == 0:
        raise ImageUnsafe(f"{name} is empty")
    inspectors = _detect(descriptor, name)
    names = sorted(str(one) for one in inspectors)
    # A hybrid ISO carries a partition table for USB sticks: Glance and Nova call that iso, and so do we.
    if len(names) > 1 and names != ["gpt", "iso"]:
        raise FormatUnknown(f"{name} is several formats at once: {', '.join(names)}")
    for inspector in inspectors:
        _check_safety(inspector, name)
    found = "iso" if "iso" in names else "raw" if names[0] in _RAW else names[0]
    if found == "raw":
        _refuse_beginnings(descriptor, name)
    if declared is not None and declared != found:
        raise FormatMismatch(f"{name} is {found}, not {declared}")
    virtual_size = size if found in {"raw", "iso"} else int(inspectors[0].virtual_size)
    if virtual_size <= 0:
        virtual_size = size
    if largest is not None and virtual_size > largest:
        raise ImageTooLarge(f"{name} describes a disk of {virtual_size} bytes, more than the limit of {largest}")
    return Inspected(found, size, virtual_size)


def _refuse_beginnings(descriptor: int, name: str) -> None:
    first = os.pread(descriptor, 64, 0)
    for beginning, kind in _BEGINNINGS.items():
        if first.startswith(beginning):
            raise ImageUnsafe(f"{name} is not a whole {kind} image: its header is cut short")


def _detect(descriptor: int, name: str) -> list[format_inspector.FileInspector]:
    with os.fdopen(os.dup(descriptor), "rb", buffering=0) as source:
        source.seek(0)
        wrapper = format_inspector.InspectWrapper(source)
        try:
            while wrapper.formats is None and wrapper.read(CHUNK):
                pass
        except format_inspector.ImageFormatError as error:
            raise FormatUnknown(f"{name}: {error}") from error
        finally:
            wrapper.close()
        return list(wrapper.formats or [])


def _check_safety(inspector: format_inspector.FileInspector, name: str) -> None:
    try:
        inspector.safety_check()
    except format_inspector.SafetyCheckFailed as error:
        reasons = "; ".join(f"{check}: {reason}" for check, reason in sorted(error.failures.items()))
        raise ImageUnsafe(f"{name} is not safe to use as {inspector}: {reasons}") from error
    except format_inspector.ImageFormatError as error:
        raise ImageUnsafe(f"{name} is not a whole {inspector} image: {error}") from error
