"""An image out of a catalogue: it has its name only when it was verified.

Until then it lies beside that name as `.NAME.SHA256.part` (16 digits of the digest that it is to have), which one
process at a time fills. Whoever comes again goes on where the last one stopped, and hashes what is there. What nobody
fills any more goes when the name is taken.
"""

import errno
import fcntl
import hashlib
import os
import re
import stat
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path

from imagefactory.errors import Busy, DiskFull, OutputExists, OutputUnusable
from imagefactory.steps.listed import Listed
from imagefactory.tools.catalogue_files import reading
from imagefactory.tools.durable import sync_directory
from imagefactory.tools.new_file import give_name
from imagefactory.tools.tuf_fetch import CHUNK
from signing.digest import open_regular
from signing.errors import DigestMismatch
from signing.manifest import FormatEntry
from signing.verify import VerifiedManifest, verify_file

OnAdvance = Callable[[int, int], None]
"""Told how many bytes of how many are here."""
_FLAGS = os.O_RDWR | os.O_CREAT | os.O_NOFOLLOW | os.O_CLOEXEC
_OTHERS_WRITE = 0o022
_NO_SPACE = {errno.ENOSPC, errno.EDQUOT}


@dataclass(frozen=True)
class Fetched:
    """An image at `path` that is what `signed` says of this format; `came` bytes of it came now."""

    path: Path
    entry: FormatEntry
    signed: VerifiedManifest
    came: int


def fetch(
    listed: Listed, signed: VerifiedManifest, entry: FormatEntry, output: Path, *, on_advance: OnAdvance
) -> Fetched:
    """Have an image of a release at `output`. One that is there already is verified, and left as it is.

    Raises OutputExists (something else is there, or a file that others may write to), OutputUnusable, Busy, DiskFull,
    DigestMismatch, and errors of `tools.catalogue_files`.
    """
    part = output.with_name(f".{output.name}.{entry.sha256[:16]}.part")
    if os.path.lexists(output):
        _require_same(output, signed, entry, on_advance)
        _sweep(output)
        return Fetched(output, entry, signed, 0)
    with _translated(output), _held(part) as descriptor:
        digest, came = _fill(f"{listed.folder}/{entry.file}", descriptor, entry.size, on_advance)
        if digest != entry.sha256:
            part.unlink()  # another beginning is worth nothing
            raise DigestMismatch(f"{listed.folder}/{entry.file} is not the file that was signed")
        os.fchmod(descriptor, 0o644)
        os.fsync(descriptor)
        _name(part, output)
    _sweep(output)
    return Fetched(output, entry, signed, came)


def _require_same(output: Path, signed: VerifiedManifest, entry: FormatEntry, on_advance: OnAdvance) -> None:
    descriptor = open_regular(output)
    done = 0

    def on_bytes(count: int) -> None:
        nonlocal done
        done += count
        on_advance(done, entry.size)

    try:
        status = os.fstat(descriptor)
        if status.st_uid not in {0, os.geteuid()} or status.st_mode & _OTHERS_WRITE:
            raise OutputExists(
                f"{output} exists, and others may write to it",
                advice="remove it, or name another file: what was verified could be something else a moment later",
            )
        if verify_file(descriptor, signed, on_bytes=on_bytes).file == entry.file:
            return
    except DigestMismatch as why:
        raise OutputExists(f"{output} exists, and is another file: {why.message}") from why
    finally:
        os.close(descriptor)
    raise OutputExists(f"{output} exists, and is another format of this release")


@contextmanager
def _held(part: Path) -> Iterator[int]:
    """The open file, which is ours alone and which nobody else fills meanwhile. Raises Busy, OutputUnusable."""
    descriptor = os.open(part, _FLAGS, 0o600)
    try:
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError as error:
            raise Busy(f"another process fetches {part}") from error
        status = os.fstat(descriptor)
        if not os.path.samestat(status, os.lstat(part)):
            raise Busy(f"another process was at {part} just now")
        if not stat.S_ISREG(status.st_mode) or status.st_uid != os.geteuid() or status.st_mode & _OTHERS_WRITE:
            raise OutputUnusable(f"{part} is not a file that is ours alone", advice="remove it")
        yield descriptor
    finally:
        os.close(descriptor)


def _fill(where: str, descriptor: int, size: int, on_advance: OnAdvance) -> tuple[str, int]:
    """Have all bytes in the file; returns their SHA-256, and how many came."""
    hasher, done = hashlib.sha256(), 0
    there = os.fstat(descriptor).st_size
    begun = there if there <= size else 0  # what is longer is no beginning
    while done < begun and (piece := os.pread(descriptor, min(CHUNK, begun - done), done)):
        hasher.update(piece)
        done += len(piece)
        on_advance(done, size)
    if done == size:
        return hasher.hexdigest(), 0
    with reading(where, size, begin=done) as (begins, stream):
        if begins != done:
            hasher, done = hashlib.sha256(), begins
        os.ftruncate(descriptor, done)
        os.lseek(descriptor, done, os.SEEK_SET)
        while piece := stream.read(CHUNK):
            _write(descriptor, piece)
            hasher.update(piece)
            done += len(piece)
            on_advance(done, size)
    return hasher.hexdigest(), done - begins


def _write(descriptor: int, piece: bytes) -> None:
    left = memoryview(piece)
    while left:
        left = left[os.write(descriptor, left) :]


def _name(part: Path, output: Path) -> None:
    try:
        give_name(part, output)
    except FileExistsError as error:
        raise OutputExists(f"{output} exists") from error
    part.unlink(missing_ok=True)
    sync_directory(output.parent)


def _sweep(output: Path) -> None:
    """Remove what others began who were killed, of this image and of others that were to have this name."""
    ours = re.compile(re.escape(f".{output.name}.") + r"[0-9a-f]{16}\.part")
    found: list[Path] = []
    with suppress(OSError):  # a directory that may be written and not be read
        found = [path for path in output.parent.iterdir() if ours.fullmatch(path.name)]
    for path in found:
        with suppress(Busy, OutputUnusable, OSError), _held(path):
            path.unlink()


@contextmanager
def _translated(output: Path) -> Iterator[None]:
    try:
        yield
    except OSError as error:
        if error.errno in _NO_SPACE:
            raise DiskFull(f"no space for {output}") from error
        raise OutputUnusable(f"{output}: {error.strerror}") from error
