"""Who has something for himself: one works on one image name, and nobody works while it is cleaned up.

On one host these are locks on files, which the kernel takes from a holder that dies. Where several hosts share records
they are leases there as well (store.leases).
"""

import errno
import fcntl
from collections.abc import Iterator
from contextlib import AbstractContextManager, contextmanager
from dataclasses import dataclass
from hashlib import sha256
from pathlib import Path
from typing import Protocol, TextIO

from imagefactory.errors import Busy, DiskFull, HomeUnusable

# No image name begins with a dot.
WHOLE = ".factory"
CLEANING, BUILDING = "another process is cleaning up", "another process is building"


class Locks(Protocol):
    """What can be held, by entering it. Entering raises Busy when another one holds it, HomeUnusable, DiskFull; where
    records are shared DatabaseUnreachable, DatabaseRefused, and LeaseLost to whoever could not keep it."""

    def name(self, name: str) -> AbstractContextManager[None]:
        """Be the only one who works on `name`, beside others who work on other names."""

    def place(self, name: str, place: str) -> AbstractContextManager[None]:
        """Be the only one who changes what an image name is in a place; a build of the next release of it may go on,
        and so may what is done in other places."""

    def shared(self) -> AbstractContextManager[None]:
        """Be one of those who use what the factory keeps: nobody cleans up meanwhile."""

    def whole(self) -> AbstractContextManager[None]:
        """Hold the whole factory: nobody builds meanwhile."""

    def require(self) -> None:
        """See whether what this process holds is still its own, for whoever is about to do what cannot be undone. Costs
        nothing. Raises LeaseLost."""


def place_key(name: str, place: str) -> str:
    """What an image name in a place is called where it is held. A place may have any characters, and many."""
    return f".publish-{name}-{sha256(place.encode()).hexdigest()[:32]}"


def on_name(name: str) -> str:
    """What is told to whoever wants a name that another one has."""
    return f"another process is working on {name}"


@dataclass(frozen=True)
class FileLocks:
    """Locks on files in a directory of this host."""

    directory: Path

    @contextmanager
    def name(self, name: str) -> Iterator[None]:
        with self.shared(), self._held(name, fcntl.LOCK_EX, on_name(name)):
            yield

    @contextmanager
    def place(self, name: str, place: str) -> Iterator[None]:
        with self.shared(), self._held(place_key(name, place), fcntl.LOCK_EX, f"{on_name(name)} in {place}"):
            yield

    @contextmanager
    def shared(self) -> Iterator[None]:
        with self._held(WHOLE, fcntl.LOCK_SH, CLEANING):
            yield

    @contextmanager
    def whole(self) -> Iterator[None]:
        with self._held(WHOLE, fcntl.LOCK_EX, BUILDING):
            yield

    def require(self) -> None:
        """Nobody takes a lock on a file from a holder that lives."""

    @contextmanager
    def _held(self, name: str, how: int, taken: str) -> Iterator[None]:
        with _opened(self.directory / f"{name}.lock") as held:
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
