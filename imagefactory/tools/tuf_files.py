"""The files of a catalogue that speak TUF, one writer at a time: metadata/, and each manifest under its digest.

Every write is a whole file that is on the disk, with its name, before the next one begins. So a list of writes that is
in the right order may be cut short anywhere.
"""

import errno
import fcntl
import os
import time
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path

from imagefactory.errors import Busy, CatalogueDamaged, CatalogueUnusable, DiskFull
from imagefactory.tools.durable import make_public, put_file, sync_directory
from signing.digest import read_document
from signing.errors import SigningError

METADATA = "metadata"
TARGETS = "targets"
LOCK = ".lock"
_POLL = 0.05  # seconds
_NO_SPACE = (errno.ENOSPC, errno.EDQUOT)


@dataclass(frozen=True)
class Write:
    """A file to be: its path below the catalogue, and its bytes."""

    path: str
    content: bytes


def metadata_path(role: str, version: int | None) -> str:
    """Where the metadata of a role lies below a catalogue; without a version, the timestamp."""
    return f"{METADATA}/{role}.json" if version is None else f"{METADATA}/{version}.{role}.json"


def write_file(path: Path, content: bytes) -> None:
    """Replace one file. Raises OSError."""
    put_file(path, content)


def make_folder(root: Path, path: str) -> None:
    """Have the directory at `path` below the catalogue `root`; everybody may read what is new. Raises OSError."""
    _make(root.parent, Path.mkdir)
    _make(root, make_public)
    folder = root
    for part in Path(path).parts:
        folder /= part
        _make(folder, make_public)


def _make(directory: Path, make: Callable[[Path], object]) -> None:
    if not directory.is_dir():
        _make(directory.parent, make)
        with suppress(FileExistsError):  # somebody else has made it just now
            make(directory)
        sync_directory(directory.parent)


class CatalogueFiles:
    """One catalogue directory."""

    def __init__(self, root: Path) -> None:
        self.root = root

    @property
    def has_begun(self) -> bool:
        """Whether this is a catalogue yet. Raises CatalogueUnusable."""
        return self.has(metadata_path("timestamp", None))

    def make(self) -> None:
        """Have the directory. Raises CatalogueUnusable, DiskFull."""
        with self._translated():
            make_folder(self.root, METADATA)

    @contextmanager
    def alone(self, patience: float = 0.0) -> Iterator[None]:
        """Be the only one who writes: flock(2), which the kernel lets go of when its holder dies. Who comes second
        waits `patience` seconds.

        Raises Busy, CatalogueUnusable, DiskFull.
        """
        with self._translated():
            flags = os.O_RDWR | os.O_CREAT | os.O_NOFOLLOW | os.O_CLOEXEC
            descriptor = os.open(self.root / METADATA / LOCK, flags, 0o600)
        try:
            with self._translated():
                self._lock(descriptor, time.monotonic() + patience)
            yield
        finally:
            os.close(descriptor)

    def has(self, path: str) -> bool:
        """Whether anything is there under this path. Raises CatalogueUnusable."""
        with self._translated():
            return os.path.lexists(self.root / path)

    def read(self, path: str, most: int) -> bytes:
        """Return the bytes of a file of at most `most` bytes. Raises CatalogueDamaged (missing), CatalogueUnusable."""
        if not self.has(path):
            raise CatalogueDamaged(f"{self.root} lacks {path}")
        try:
            return read_document(self.root / path, most=most)
        except SigningError as error:
            raise CatalogueUnusable(error.message, advice=error.advice) from error

    def write(self, writes: Iterable[Write]) -> None:
        """Write one after the other. Raises CatalogueUnusable, DiskFull."""
        for each in writes:
            with self._translated():
                make_folder(self.root, os.path.dirname(each.path))  # noqa: PTH120 - a path of the catalogue
                write_file(self.root / each.path, each.content)

    def _lock(self, descriptor: int, until: float) -> None:
        while True:
            try:
                fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except BlockingIOError as error:
                if time.monotonic() >= until:
                    raise Busy(f"another process is publishing to {self.root}") from error
                time.sleep(_POLL)
            else:
                return

    @contextmanager
    def _translated(self) -> Iterator[None]:
        try:
            yield
        except OSError as error:
            if error.errno in _NO_SPACE:
                raise DiskFull(f"no space in {self.root}") from error
            raise CatalogueUnusable(f"{self.root}: {error.strerror}") from error
