"""The catalogue: a directory that any web server can serve. targets/NAME/VERSION/ holds one release.

A version is there as a whole or not at all: files are copied under a name that no reader looks at, and one rename(2)
publishes them.
"""

import os
import shutil
import uuid
from collections.abc import Callable, Mapping
from pathlib import Path

from imagefactory.errors import CatalogueConflict, CatalogueUnusable, DiskFull, ReleaseNameInvalid, ReleaseUnknown
from imagefactory.model.release import NAME, ReleaseRef, Version

TARGETS = "targets"
BLOCK = 1 << 20
_NO_SPACE = (28, 122)  # ENOSPC, EDQUOT


class Catalogue:
    """One catalogue directory."""

    def __init__(self, root: Path) -> None:
        self.root = root

    def folder(self, name: str, version: Version) -> Path:
        return self.root / TARGETS / name / str(version)

    def versions(self, name: str) -> list[Version]:
        """The published versions of `name`, oldest first."""
        found = []
        directory = self.root / TARGETS / name
        for entry in directory.iterdir() if directory.is_dir() else ():
            try:
                found.append(Version.parse(entry.name))
            except ReleaseNameInvalid:
                continue
        return sorted(found)

    def find(self, ref: ReleaseRef) -> Path:
        """The folder of a release, the newest when `ref` has no version. Raises ReleaseUnknown."""
        version = ref.version or next(reversed(self.versions(ref.name)), None)
        if version is None or not self.folder(ref.name, version).is_dir():
            raise ReleaseUnknown(f"{self.root} has no {ref}")
        return self.folder(ref.name, version)

    def stage(self, name: str, version: Version) -> Path:
        """A new hidden folder to fill; leftovers of dead predecessors for the same version are removed.

        Raises CatalogueConflict when the version is published, CatalogueUnusable.
        """
        final = self.folder(name, version)
        if final.exists():
            raise CatalogueConflict(f"{final} exists")
        try:
            final.parent.mkdir(parents=True, exist_ok=True)
            for stale in final.parent.glob(f".{version}.*"):
                shutil.rmtree(stale)
            staged = final.with_name(f".{version}.{uuid.uuid4().hex}")
            staged.mkdir()
        except OSError as error:
            raise CatalogueUnusable(f"{self.root}: {error.strerror}") from error
        return staged

    def commit(self, staged: Path, name: str, version: Version) -> Path:
        """Make a filled folder visible. Raises CatalogueConflict when somebody else was faster."""
        final = self.folder(name, version)
        for directory in (staged, final.parent):
            _sync(directory)
        try:
            staged.rename(final)
        except OSError as error:
            raise CatalogueConflict(f"{final} exists") from error
        _sync(final.parent)
        return final

    def discard(self, staged: Path) -> None:
        shutil.rmtree(staged, ignore_errors=True)


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
        except OSError:  # ENXIO: nothing but a hole follows
            break
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


def _sync(directory: Path) -> None:
    descriptor = os.open(directory, os.O_RDONLY | os.O_DIRECTORY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def split_target(path: str) -> tuple[Path, ReleaseRef]:
    """PATH/NAME[@VERSION] as a catalogue's directory and a release. Raises ReleaseNameInvalid."""
    root, slash, ref = path.rpartition("/")
    if not NAME.fullmatch(ref.partition("@")[0]):
        raise ReleaseNameInvalid(f"{ref!r} is not NAME or NAME@VERSION")
    return Path(root if slash else "."), ReleaseRef.parse(ref)
