"""Files and names that are on the disk when a call returns, whole, whenever the power goes."""

import fcntl
import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from signing.errors import Unwritable


@contextmanager
def translated(path: Path) -> Iterator[None]:
    """Turn an OSError into Unwritable."""
    try:
        yield
    except OSError as why:
        raise Unwritable(f"{str(path)!r} cannot be made: {why.strerror}") from None


@contextmanager
def held(directory: Path) -> Iterator[None]:
    """Nobody else holds `directory` meanwhile; who comes second waits. It is made if it is missing."""
    directory.mkdir(mode=0o700, parents=True, exist_ok=True)
    with _opened(directory) as descriptor:
        fcntl.flock(descriptor, fcntl.LOCK_EX)
        yield


def write_new(path: Path, content: bytes) -> None:
    """Write a file that is not there yet, for its owner alone."""
    fd = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW | os.O_CLOEXEC, 0o600)
    with os.fdopen(fd, "wb") as stream:
        stream.write(content)
        stream.flush()
        os.fsync(fd)


def replace_file(path: Path, content: bytes) -> None:
    """Replace a public file as a whole; a link is followed. Raises Unwritable."""
    target = Path(os.path.realpath(path))
    with translated(path):
        scratch = target.with_name(f".{target.name}.new")
        scratch.unlink(missing_ok=True)
        write_new(scratch, content)
        scratch.chmod(0o644)
        scratch.rename(target)
        sync_directory(target.parent)


def sync_directory(path: Path) -> None:
    """Have the names in a directory on the disk."""
    with _opened(path) as descriptor:
        os.fsync(descriptor)


@contextmanager
def _opened(directory: Path) -> Iterator[int]:
    descriptor = os.open(directory, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        yield descriptor
    finally:
        os.close(descriptor)
