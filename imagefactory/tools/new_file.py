"""A file that is there as a whole or not at all, and that replaces nothing."""

import errno
import fcntl
import os
import re
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

from imagefactory.errors import DiskFull, OutputExists, OutputUnusable

# What may lie in the directory of a file to be.
NEW, LOG = "new", "convert.log"
SETTLING = 10.0  # seconds that a new directory has for its owner to lock it
_NO_LINKS = {errno.EPERM, errno.EOPNOTSUPP, errno.EMLINK}
_NO_SPACE = {errno.ENOSPC, errno.EDQUOT}


@contextmanager
def new_file(output: Path) -> Iterator[Path]:
    """A path beside `output` to write to; leaving without an error gives the file its name.

    The directory of the path is private and goes away. Raises OutputExists, OutputUnusable, DiskFull.
    """
    if os.path.lexists(output):
        raise OutputExists(f"{output} exists")
    try:
        with tempfile.TemporaryDirectory(prefix=_prefix(output), dir=output.parent) as work, _held(Path(work)):
            _sweep(output)
            made = Path(work) / NEW
            yield made
            _name(made, output)
    except FileExistsError as error:
        raise OutputExists(f"{output} exists") from error
    except OSError as error:
        if error.errno in _NO_SPACE:
            raise DiskFull(f"no space for {output}") from error
        raise OutputUnusable(f"{output}: {error.strerror}") from error


def _prefix(output: Path) -> str:
    return f".{output.name}.imagefactory-"


@contextmanager
def _held(directory: Path) -> Iterator[None]:
    """Show that we are alive: the kernel lets go of the lock when we die."""
    descriptor = os.open(directory, os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW)
    try:
        with suppress(OSError):  # a file system without locks, on which nobody sweeps either
            fcntl.flock(descriptor, fcntl.LOCK_EX)
        yield
    finally:
        os.close(descriptor)


def _sweep(output: Path) -> None:
    """Remove what killed predecessors left beside `output`: our files in our directories, when nobody holds them."""
    ours = re.compile(re.escape(_prefix(output)) + r"[a-z0-9_]{8}")
    found: list[Path] = []
    with suppress(OSError):  # a directory that may be written and not be read
        found = [path for path in output.parent.iterdir() if ours.fullmatch(path.name)]
    for path in found:
        with suppress(OSError):  # held by its owner, or not ours to remove
            descriptor = os.open(path, os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW)
            try:
                if time.time() - os.fstat(descriptor).st_mtime < SETTLING:
                    continue
                fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
                for file in (NEW, LOG):
                    with suppress(FileNotFoundError):
                        os.unlink(file, dir_fd=descriptor)
                path.rmdir()
            finally:
                os.close(descriptor)


def _name(made: Path, output: Path) -> None:
    try:
        # link(2) refuses an existing name; rename(2) would replace it.
        os.link(made, output)
    except OSError as error:
        if error.errno not in _NO_LINKS:
            raise
        made.rename(output)
