"""The catalogue: a directory that any web server can serve. targets/NAME/VERSION/ holds one release.

A version is there as a whole or not at all: files are copied under a name that no reader looks at, and one rename(2)
publishes them.
"""

import errno
import fcntl
import os
import re
import shutil
import uuid
from collections.abc import Callable, Iterator, Mapping
from contextlib import ExitStack, contextmanager, suppress
from pathlib import Path

from imagefactory.errors import (
    Busy,
    CatalogueConflict,
    CatalogueUnusable,
    DiskFull,
)
from imagefactory.model.release import Version
from imagefactory.tools.durable import PUBLIC, make_public, sync_directory
from imagefactory.tools.tuf_files import TARGETS, make_folder

BLOCK = 1 << 20
# Whoever can write there may have put a link under the name of a lock.
_LOCK = os.O_RDWR | os.O_CREAT | os.O_NOFOLLOW | os.O_CLOEXEC
_NO_SPACE = (errno.ENOSPC, errno.EDQUOT)
# What staged() makes; nothing else in a catalogue is ours to remove.
_STAGED = re.compile(r"\.[0-9]{8}\.[0-9]+\.[0-9a-f]{32}")


class Catalogue:
    """One catalogue directory."""

    def __init__(self, root: Path) -> None:
        self.root = root

    def folder(self, name: str, version: Version) -> Path:
        return self.root / TARGETS / name / str(version)

    def has(self, name: str, version: Version) -> bool:
        """Whether anything is there under this version. Raises CatalogueUnusable."""
        with self._translated():
            try:
                os.lstat(self.folder(name, version))
            except (FileNotFoundError, NotADirectoryError):
                return False
            return True

    @contextmanager
    def staged(self, name: str, version: Version) -> Iterator[Path]:
        """A new hidden folder to fill and commit; without that it goes away again.

        One process at a time publishes a name here, and the kernel lets go of the lock when it dies, so leftovers are
        those of dead predecessors. Raises Busy, CatalogueConflict when the version is published, CatalogueUnusable,
        DiskFull.
        """
        final = self.folder(name, version)
        with self._alone(name), ExitStack() as stack:
            with self._translated():
                if final.exists():
                    raise CatalogueConflict(f"{final} exists")
                folder = _hidden(final)
                make_public(folder)
            stack.callback(shutil.rmtree, folder, ignore_errors=True)
            yield folder

    @contextmanager
    def _alone(self, name: str) -> Iterator[None]:
        """Hold the lock on `name`, without what the dead left. Raises Busy, CatalogueUnusable, DiskFull."""
        with ExitStack() as stack:
            with self._translated():
                directory = self.root / TARGETS / name
                make_folder(self.root, f"{TARGETS}/{name}")
                held = os.open(self._lock_file(name), _LOCK, 0o600)
                stack.callback(os.close, held)
                try:
                    fcntl.flock(held, fcntl.LOCK_EX | fcntl.LOCK_NB)
                except BlockingIOError as error:
                    raise Busy(f"another process is publishing {name} to {self.root}") from error
                for entry in list(os.scandir(directory)):
                    if _STAGED.fullmatch(entry.name) and entry.is_dir(follow_symlinks=False):
                        shutil.rmtree(entry.path)
            yield

    def commit(self, staged: Path, name: str, version: Version) -> Path:
        """Make a filled folder visible. Raises CatalogueConflict when there is one, CatalogueUnusable."""
        final = self.folder(name, version)
        with self._translated():
            for directory in (staged, final.parent):
                sync_directory(directory)
            try:
                staged.rename(final)
            except OSError as error:
                if error.errno in (errno.EEXIST, errno.ENOTEMPTY, errno.ENOTDIR):
                    raise CatalogueConflict(f"{final} exists") from error
                raise
            sync_directory(final.parent)
        return final

    def withdraw(self, name: str, version: Version) -> None:
        """Remove a published version: out of sight by one rename, then for good. One that is gone stays gone.

        Raises Busy, CatalogueUnusable.
        """
        final = self.folder(name, version)
        if not self.has(name, version):
            return
        with self._alone(name), self._translated():
            hidden = _hidden(final)
            final.rename(hidden)
            sync_directory(final.parent)
            shutil.rmtree(hidden)

    def leftovers(self) -> list[Path]:
        """The hidden folders of publishers who died, of all names."""
        return [path for path in self._hidden_folders() if not self._is_held(path.parent.name)]

    def remove_leftovers(self) -> None:
        """Remove them. Raises CatalogueUnusable."""
        for name in {path.parent.name for path in self._hidden_folders()}:
            with suppress(Busy), self._alone(name):
                pass

    def _hidden_folders(self) -> list[Path]:
        found = self.root.glob(f"{TARGETS}/*/.*")
        return [path for path in found if _STAGED.fullmatch(path.name) and path.is_dir() and not path.is_symlink()]

    def _is_held(self, name: str) -> bool:
        try:
            with self._lock_file(name).open("rb") as held:
                fcntl.flock(held, fcntl.LOCK_SH | fcntl.LOCK_NB)
        except BlockingIOError:
            return True
        except OSError:
            return False
        return False

    def _lock_file(self, name: str) -> Path:
        return self.root / TARGETS / f".{name}.lock"

    @contextmanager
    def _translated(self) -> Iterator[None]:
        try:
            yield
        except OSError as error:
            if error.errno in _NO_SPACE:
                raise DiskFull(f"no space in {self.root}") from error
            raise CatalogueUnusable(f"{self.root}: {error.strerror}") from error


def copy_into(folder: Path, files: Mapping[str, Path], on_bytes: Callable[[int], None]) -> None:
    """Copy `files` (name to source) into `folder`, holes as holes, each flushed to disk. Raises DiskFull."""
    for name, source in files.items():
        try:
            with source.open("rb") as reader, (folder / name).open("xb") as writer:
                _copy_sparse(reader.fileno(), writer.fileno(), on_bytes)
                os.fchmod(writer.fileno(), PUBLIC)  # whatever our umask is
                os.fsync(writer.fileno())
        except OSError as error:
            if error.errno in _NO_SPACE:
                raise DiskFull(f"no space for {name} in {folder.parent}") from error
            raise CatalogueUnusable(f"{folder.parent}: {error.strerror}") from error


def _copy_sparse(source: int, target: int, on_bytes: Callable[[int], None]) -> None:
    """lseek(2) SEEK_DATA and SEEK_HOLE: only what is there is read."""
    size = os.fstat(source).st_size
    os.ftruncate(target, size)
    position = 0
    while position < size:
        try:
            start = os.lseek(source, position, os.SEEK_DATA)
        except OSError as error:
            if error.errno != errno.ENXIO:
                raise
            break  # nothing but a hole follows
        end = os.lseek(source, start, os.SEEK_HOLE)
        os.lseek(target, start, os.SEEK_SET)
        os.lseek(source, start, os.SEEK_SET)
        while start < end:
            copied = os.sendfile(target, source, start, min(BLOCK, end - start))
            if not copied:
                return
            start += copied
            on_bytes(copied)
        position = end


def _hidden(final: Path) -> Path:
    """A new name beside a version's folder that no reader looks at."""
    return final.with_name(f".{final.name}.{uuid.uuid4().hex}")
