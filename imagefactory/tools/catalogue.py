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
from contextlib import ExitStack, contextmanager
from pathlib import Path

from imagefactory.errors import (
    Busy,
    CatalogueConflict,
    CatalogueUnusable,
    DiskFull,
    ReleaseNameInvalid,
    ReleaseUnknown,
)
from imagefactory.model.release import NAME, ReleaseRef, Version
from imagefactory.tools.durable import sync_directory

TARGETS = "targets"
BLOCK = 1 << 20
_NO_SPACE = (errno.ENOSPC, errno.EDQUOT)
# What staged() makes; nothing else in a catalogue is ours to remove.
_STAGED = re.compile(r"\.[0-9]{8}\.[0-9]+\.[0-9a-f]{32}")


class Catalogue:
    """One catalogue directory."""

    def __init__(self, root: Path) -> None:
        self.root = root

    def folder(self, name: str, version: Version) -> Path:
        return self.root / TARGETS / name / str(version)

    def versions(self, name: str) -> list[Version]:
        """The published versions of `name`, oldest first. Raises CatalogueUnusable."""
        found = []
        directory = self.root / TARGETS / name
        with self._translated():
            entries = list(directory.iterdir()) if directory.is_dir() else []
        for entry in entries:
            try:
                found.append(Version.parse(entry.name))
            except ReleaseNameInvalid:
                continue
        return sorted(found)

    def find(self, ref: ReleaseRef) -> Path:
        """The folder of a release, the newest when `ref` has no version. Raises ReleaseUnknown, CatalogueUnusable."""
        version = ref.version or next(reversed(self.versions(ref.name)), None)
        with self._translated():
            there = version is not None and self.folder(ref.name, version).is_dir()
        if version is None or not there:
            raise ReleaseUnknown(f"{self.root} has no {ref}")
        return self.folder(ref.name, version)

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
                folder.mkdir()
            stack.callback(shutil.rmtree, folder, ignore_errors=True)
            yield folder

    @contextmanager
    def _alone(self, name: str) -> Iterator[None]:
        """Hold the lock on `name`, without what the dead left. Raises Busy, CatalogueUnusable, DiskFull."""
        with ExitStack() as stack:
            with self._translated():
                directory = self.root / TARGETS / name
                directory.mkdir(parents=True, exist_ok=True)
                held = stack.enter_context((self.root / TARGETS / f".{name}.lock").open("w"))
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


def split_target(path: str) -> tuple[Path, ReleaseRef]:
    """PATH/NAME[@VERSION] as a catalogue's directory and a release. Raises ReleaseNameInvalid."""
    root, slash, ref = path.rpartition("/")
    if not NAME.fullmatch(ref.partition("@")[0]):
        raise ReleaseNameInvalid(f"{ref!r} is not NAME or NAME@VERSION")
    return Path(root or slash or "."), ReleaseRef.parse(ref)
