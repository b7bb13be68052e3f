"""Files: opened so that nothing but a regular file can be meant, and read once.

An image is hashed with two buffers of 1 MiB: while every algorithm hashes one of them in its own thread (hashlib lets
go of the GIL), the next bytes are read into the other. Memory stays flat, and each byte is read once however many
digests are wanted.
"""

import errno
import hashlib
import itertools
import os
import stat
from collections.abc import Callable, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import BinaryIO, Literal

from signing.errors import FileChanged, NotARegularFile, Unreadable
from signing.strict_json import MAX_BYTES

Algorithm = Literal["sha256", "sha512"]
OnBytes = Callable[[int], None]
"""Told after each piece how many bytes (not: how many in all) went by."""

BUFFER_BYTES = 1024 * 1024

# O_NOFOLLOW: a link is not the file. O_NONBLOCK: opening a FIFO must not wait for its writer.
_OPEN_FLAGS = os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC | os.O_NOCTTY

_KINDS = {"d": "a directory", "p": "a pipe", "s": "a socket", "b": "a block device", "c": "a character device"}


@dataclass(frozen=True)
class Digests:
    """What was read: `size` in bytes, digests in lower-case hex; `sha512` is None where it was not asked for."""

    size: int
    sha256: str
    sha512: str | None = None


@dataclass(frozen=True)
class FileState:
    """What tells that somebody wrote to a file: device, inode, size in bytes, mtime in nanoseconds."""

    device: int
    inode: int
    size: int
    mtime_ns: int

    @classmethod
    def of(cls, fd: int) -> "FileState":
        """Return the present state of the open regular file `fd`.

        Raises: NotARegularFile, Unreadable.
        """
        try:
            status = os.fstat(fd)
        except OSError as why:
            raise Unreadable(f"the file cannot be examined: {why.strerror}") from None
        if not stat.S_ISREG(status.st_mode):
            raise NotARegularFile(f"not a regular file but {_kind(status.st_mode)}")
        return cls(status.st_dev, status.st_ino, status.st_size, status.st_mtime_ns)


def open_regular(path: str | Path, *, dir_fd: int | None = None) -> int:
    """Open a regular file for reading and return its descriptor, which the caller closes.

    The last component is never followed when it is a symbolic link. `path` is relative to the directory `dir_fd`
    where one is given.

    Raises: NotARegularFile (link, directory, FIFO, socket, device), Unreadable.
    """
    shown = repr(str(path))
    try:
        fd = os.open(path, _OPEN_FLAGS, dir_fd=dir_fd)
    except OSError as why:
        if why.errno == errno.ELOOP:
            raise NotARegularFile(f"{shown} is not a regular file but a symbolic link") from None
        if why.errno == errno.ENXIO:
            raise NotARegularFile(f"{shown} is not a regular file but a socket or a device") from None
        raise Unreadable(f"{shown} cannot be opened: {why.strerror}") from None
    except ValueError:
        raise Unreadable(f"{shown} cannot be opened: not a file name") from None
    mode = os.fstat(fd).st_mode
    if not stat.S_ISREG(mode):
        os.close(fd)
        raise NotARegularFile(f"{shown} is not a regular file but {_kind(mode)}")
    return fd


def read_document(path: str | Path, *, dir_fd: int | None = None, most: int = MAX_BYTES) -> bytes:
    """Return the bytes of a regular file of at most `most` bytes.

    Raises: NotARegularFile, Unreadable (also when longer), FileChanged.
    """
    fd = open_regular(path, dir_fd=dir_fd)
    try:
        return read_open_document(fd, repr(str(path)), most)
    finally:
        os.close(fd)


def read_open_document(fd: int, shown: str, most: int = MAX_BYTES) -> bytes:
    """Return the bytes of the open regular file `fd`, at most `most`; `shown` names it in messages.

    Raises: NotARegularFile, Unreadable (also when longer), FileChanged.
    """
    before = FileState.of(fd)
    try:
        with os.fdopen(fd, "rb", closefd=False) as stream:
            raw = stream.read(most + 1)
    except OSError as why:
        raise Unreadable(f"{shown} cannot be read: {why.strerror}") from None
    if len(raw) > most:
        raise Unreadable(f"{shown} is longer than {most} bytes")
    require_unchanged(fd, before)
    return raw


def others_may_write(path: Path) -> bool:
    """Whether group or others may write to a file, or put another in its place in a directory, which a sticky one
    forbids. Raises: Unreadable."""
    try:
        mode = path.stat().st_mode
    except OSError as why:
        raise Unreadable(f"{str(path)!r} cannot be examined: {why.strerror}") from None
    return bool(mode & 0o022) and not (stat.S_ISDIR(mode) and mode & stat.S_ISVTX)


def require_unchanged(fd: int, before: FileState) -> None:
    """Raise FileChanged unless the open file `fd` is still in the state `before`."""
    if FileState.of(fd) != before:
        raise FileChanged("the file was changed while it was being read")


def hash_stream(
    source: int | BinaryIO,
    *,
    algorithms: Sequence[Algorithm] = ("sha256", "sha512"),
    on_bytes: OnBytes | None = None,
) -> Digests:
    """Read `source` once to its end and return its size and digests.

    A descriptor must be of a regular file; it is read from the first byte whatever its position, the position stays
    where it was, and changes made meanwhile are noticed. A stream is read from where it stands. `algorithms` holds
    "sha256" and, where wanted, "sha512".

    Raises: FileChanged, NotARegularFile, Unreadable; ValueError for other algorithms.
    """
    if "sha256" not in algorithms or not set(algorithms) <= {"sha256", "sha512"}:
        raise ValueError("algorithms are sha256 and, beside it, sha512")
    hashers = {name: hashlib.new(name) for name in algorithms}
    before = FileState.of(source) if isinstance(source, int) else None
    try:
        size = _pump(_reader(source, before), [each.update for each in hashers.values()], on_bytes)
    except OSError as why:
        raise Unreadable(f"reading failed: {why.strerror or why}") from None
    if isinstance(source, int) and before is not None:
        require_unchanged(source, before)
        if size != before.size:
            raise FileChanged("the file gave another number of bytes than its size")
    return Digests(size, hashers["sha256"].hexdigest(), hashers["sha512"].hexdigest() if "sha512" in hashers else None)


def sha512_stream(
    source: BinaryIO,
    *,
    most: int,
    on_bytes: OnBytes | None = None,
    sink: Callable[[memoryview], object] | None = None,
) -> tuple[int, str]:
    """Read a stream once from where it stands and return its size and SHA-512 (hex), handing each piece to `sink`.

    Reading stops one byte after `most` bytes: a stream that is longer than it should be never fills a disk. What the
    stream and `sink` raise is passed on.
    """
    hasher = hashlib.sha512()
    consumers: list[Callable[[memoryview], object]] = [hasher.update] if sink is None else [hasher.update, sink]

    def read_into(view: memoryview, offset: int) -> int:
        piece = source.read(min(len(view), most + 1 - offset))
        view[: len(piece)] = piece
        return len(piece)

    return _pump(read_into, consumers, on_bytes), hasher.hexdigest()


def _reader(source: int | BinaryIO, before: FileState | None) -> Callable[[memoryview, int], int]:
    """Return a function that fills a buffer from the given offset on and returns how many bytes; 0 is the end."""
    if isinstance(source, int):
        fd, end = source, 0 if before is None else before.size
        # Not past the size at the start: a file that keeps growing would never come to an end.
        return lambda view, offset: os.preadv(fd, [view[: end - offset]], offset) if offset < end else 0
    stream = source

    def from_stream(view: memoryview, _offset: int) -> int:
        piece = stream.read(len(view))
        view[: len(piece)] = piece
        return len(piece)

    return from_stream


def _pump(
    read_into: Callable[[memoryview, int], int],
    consumers: Sequence[Callable[[memoryview], object]],
    on_bytes: OnBytes | None,
) -> int:
    buffers = (bytearray(BUFFER_BYTES), bytearray(BUFFER_BYTES))
    pending: list[Future[object]] = []
    size = 0
    with ThreadPoolExecutor(len(consumers)) as pool:
        for turn in itertools.count():
            view = memoryview(buffers[turn % 2])
            count = read_into(view, size)
            for future in pending:
                future.result()  # the other buffer may be written again only now
            if count == 0:
                break
            pending = [pool.submit(consume, view[:count]) for consume in consumers]
            size += count
            if on_bytes is not None:
                on_bytes(count)
    return size


def _kind(mode: int) -> str:
    return _KINDS.get(stat.filemode(mode)[0], "something else")
