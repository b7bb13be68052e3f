"""Files and names that are on the disk when a call returns, whole, whenever the power goes."""

import fcntl
import os
import stat
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from signing.errors import Unwritable

PUBLIC, PUBLIC_FOLDER = 0o644, 0o755
"""Modes of what everybody may read, such as a web server under an account of its own."""
GROUPS = stat.S_ISGID | stat.S_IWGRP
"""Modes of a directory that a group shares, with what is made in it."""


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


def write_new(path: Path, content: bytes, mode: int = 0o600) -> None:
    """Write a file that is not there yet, by default for its owner alone, whatever our umask is."""
    fd = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW | os.O_CLOEXEC, 0o600)
    with os.fdopen(fd, "wb") as stream:
        stream.write(content)
        stream.flush()
        os.fchmod(fd, mode)  # of this file, and not of whatever somebody has put under its name meanwhile
        os.fsync(fd)


def replace_file(path: Path, content: bytes) -> None:
    """Replace a public file as a whole; a link is followed. Raises Unwritable."""
    with translated(path):
        put_file(Path(os.path.realpath(path)), content)


def put_file(path: Path, content: bytes) -> None:
    """Replace a public file, or a link, as a whole. One process at a time does that. Raises OSError."""
    scratch = path.with_name(f".{path.name}.new")
    scratch.unlink(missing_ok=True)
    write_new(scratch, content, PUBLIC)
    scratch.rename(path)
    sync_directory(path.parent)


def make_public(directory: Path) -> None:
    """Make a directory that everybody may read, whatever our umask is, and that its group may write to where that above
    it is the group's, too: several accounts may keep what is below. Raises OSError."""
    directory.mkdir()
    shared = directory.parent.stat().st_mode & GROUPS
    with _opened(directory, os.O_NOFOLLOW) as descriptor:
        os.fchmod(descriptor, PUBLIC_FOLDER | shared)


def sync_directory(path: Path) -> None:
    """Have the names in a directory on the disk."""
    with _opened(path) as descriptor:
        os.fsync(descriptor)


@contextmanager
def _opened(directory: Path, more: int = 0) -> Iterator[int]:
    descriptor = os.open(directory, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC | more)
    try:
        yield descriptor
    finally:
        os.close(descriptor)
