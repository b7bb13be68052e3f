"""One process at a time works on one image name. The kernel lets go of the lock when its holder dies."""

import errno
import fcntl
from collections.abc import Iterator
from contextlib import contextmanager
from hashlib import sha256
from pathlib import Path
from typing import TextIO

from imagefactory.errors import Busy, DiskFull, HomeUnusable

# No image name begins with a dot.
WHOLE = ".factory"


@contextmanager
def lock(directory: Path, name: str) -> Iterator[None]:
    """Hold the lock on `name`, beside others who hold other names. Raises Busy when another process holds
    it, HomeUnusable, DiskFull."""
    with shared(directory), _held(directory, name, fcntl.LOCK_EX, f"another process is working on {name}"):
        yield


@contextmanager
def place_lock(directory: Path, name: str, place: str) -> Iterator[None]:
    """Be the only one who changes what an image name is in a place; a build of the next release of it may go on, and
    so may what is done in other places. Raises as lock()."""
    # A place may have any characters, and be longer than the name of a file.
    file = f".publish-{name}-{sha256(place.encode()).hexdigest()[:32]}"
    taken = f"another process is working on {name} in {place}"
    with shared(directory), _held(directory, file, fcntl.LOCK_EX, taken):
        yield


@contextmanager
def shared(directory: Path) -> Iterator[None]:
    """Be one of those who use what the factory keeps: nobody cleans up meanwhile. Raises Busy when somebody does."""
    with _held(directory, WHOLE, fcntl.LOCK_SH, "another process is cleaning up"):
        yield


@contextmanager
def lock_all(directory: Path) -> Iterator[None]:
    """Hold the whole factory: nobody builds meanwhile. Raises Busy when somebody does."""
    with _held(directory, WHOLE, fcntl.LOCK_EX, "another process is building"):
        yield


@contextmanager
def _held(directory: Path, name: str, how: int, taken: str) -> Iterator[None]:
    with _opened(directory / f"{name}.lock") as held:
        try:
            fcntl.flock(held, how | fcntl.LOCK_NB)
        except BlockingIOError as error:
            raise Busy(taken) from error
        yield


def _opened(path: Path) -> TextIO:
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        return path.open("w")
    except OSError as error:
        if error.errno in (errno.ENOSPC, errno.EDQUOT):
            raise DiskFull(f"no space for {path}") from error
        raise HomeUnusable(
            f"{path}: {error.strerror}", advice="give the files below IMAGEFACTORY_HOME to this user, or set another"
        ) from error
