"""Private directories for work in progress, that show whether their maker lives: he holds a lock on his, of which the
kernel lets go when he dies. Whoever comes after him takes it away."""

import fcntl
import os
import re
import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Final

SETTLING: Final = 10.0  # seconds that a new directory has for its owner to lock it
Remove = Callable[[Path, int], None]
"""Told the path of a directory, and given it open. May raise OSError."""


@contextmanager
def scratch(directory: Path, prefix: str) -> Iterator[Path]:
    """A new directory in `directory`, called `prefix` and eight characters, that is ours alone and goes away again.
    Raises OSError."""
    with tempfile.TemporaryDirectory(prefix=prefix, dir=directory) as made, _held(Path(made)):
        yield Path(made)


def abandoned(directory: Path, prefix: str) -> list[Path]:
    """What is left of makers who died."""
    found: list[Path] = []
    _visit(directory, prefix, lambda path, _: found.append(path))
    return found


def sweep(directory: Path, prefix: str, remove: Remove) -> None:
    """Remove what is left of makers who died; nobody else does so meanwhile."""
    _visit(directory, prefix, remove)


def _visit(directory: Path, prefix: str, act: Remove) -> None:
    ours = re.compile(re.escape(prefix) + r"[a-z0-9_]{8}")
    found: list[Path] = []
    with suppress(OSError):  # a directory that is not there, or may be written and not be read
        found = [path for path in directory.iterdir() if ours.fullmatch(path.name)]
    for path in found:
        with suppress(OSError):  # held by its owner, or not ours to remove
            descriptor = os.open(path, os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC)
            try:
                status = os.fstat(descriptor)
                if status.st_uid != os.geteuid() or time.time() - status.st_mtime < SETTLING:
                    continue
                fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
                act(path, descriptor)
            finally:
                os.close(descriptor)


@contextmanager
def _held(directory: Path) -> Iterator[None]:
    descriptor = os.open(directory, os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC)
    try:
        with suppress(OSError):  # a file system without locks, on which nobody sweeps either
            fcntl.flock(descriptor, fcntl.LOCK_EX)
        yield
    finally:
        os.close(descriptor)
