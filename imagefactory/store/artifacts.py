"""Content-addressed files: artifacts/sha256/ab/abcdef... A file is whole and read-only, or it is not there.

Behind the files of one home there may be a store that workers of several hosts share. What is made here is brought
there before it counts as made; what others made is fetched when it is asked for. The files here are copies then.
"""

import errno
import os
import time
import uuid
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

from imagefactory.errors import ArtifactMissing, DiskFull, HomeUnusable
from imagefactory.errors.service import StoreDamaged
from imagefactory.progress import Meter, Progress, silent
from imagefactory.store.copying import OtherBytes, Read, checked, write_sparse
from imagefactory.store.shared import SharedStore
from signing.digest import open_regular
from signing.errors import FileChanged, Unreadable

STALE = 86400.0  # seconds after which nobody fetches any more
_USED = 86400.0  # seconds: the time of a file is that of its last use, give or take a day

SizeOf = Callable[[str], int | None]
"""The bytes of an artifact, as it was recorded where it was made."""


class ArtifactStore:
    """Files under `root`, named by their SHA-256, and what is in `shared`, of which nothing is taken that is larger
    than `size_of` says."""

    def __init__(
        self,
        root: Path,
        shared: SharedStore | None = None,
        size_of: SizeOf = lambda _: None,
        progress: Progress = silent,
    ) -> None:
        self._root = root / "sha256"
        self._fetched = root / "fetched"
        self._shared = shared
        self._size_of = size_of
        self._progress = progress

    def path(self, digest: str) -> Path:
        """Where a file is when it is here."""
        return self._root / digest[:2] / digest

    def has(self, digest: str) -> bool:
        """Whether `require` would find it. Raises StoreUnusable."""
        return self.path(digest).is_file() or (self._shared is not None and self._shared.size(digest) is not None)

    def size(self, digest: str) -> int:
        """The bytes of a file, here or in the shared store. Raises ArtifactMissing, StoreUnusable."""
        with suppress(FileNotFoundError):
            return self.path(digest).stat().st_size
        size = None if self._shared is None else self._shared.size(digest)
        if size is None:
            raise _missing(digest)
        return size

    def require(self, digest: str) -> Path:
        """The path of a file that must be there; it is fetched if it is not here.

        Raises ArtifactMissing, StoreUnusable, StoreDamaged, DiskFull, HomeUnusable.
        """
        path = self.path(digest)
        if not path.is_file():
            if self._shared is None:
                raise _missing(digest)
            self._fetch(self._shared, digest)
        elif self._shared is not None:
            _use(path)
        return path

    def adopt(self, made: Path, digest: str) -> Path:
        """Take over a finished file of the same file system; its content must have `digest`, which is looked at only
        where it is brought to the shared store. Raises StoreUnusable, FileChanged, Unreadable."""
        if self._shared is not None:
            self._bring(self._shared, made, digest)
        made.chmod(0o444)
        with made.open("rb") as stream:
            os.fsync(stream.fileno())
        return self._give_name(made, digest)

    def remove(self, digest: str) -> int:
        """Delete a file, here and in the shared store, if it is there; return the bytes that it took on the disk here.
        Raises StoreUnusable."""
        if self._shared is not None:
            self._shared.remove(digest)
        return self.drop(digest)

    def drop(self, digest: str) -> int:
        """Delete a file here only; return the bytes that it took on disk."""
        path = self.path(digest)
        if not path.is_file():
            return 0
        freed = path.stat().st_blocks * 512
        path.unlink()
        return freed

    def shared_sizes(self) -> dict[str, int]:
        """The bytes of each file in the shared store; nothing where there is none. Raises StoreUnusable."""
        return {} if self._shared is None else self._shared.sizes()

    def unused(self, seconds: float) -> Iterator[str]:
        """The digest of every file here that nobody required for so long."""
        oldest = time.time() - seconds
        return (digest for digest in self if self.path(digest).stat().st_mtime < oldest)

    def sweep(self) -> None:
        """Remove what those left, here and in the shared store, who were killed long ago. Raises StoreUnusable."""
        oldest = time.time() - STALE
        for path in self._fetched.glob("*"):
            with suppress(FileNotFoundError):
                if path.stat().st_mtime < oldest:
                    path.unlink()
        if self._shared is not None:
            self._shared.sweep()

    def __iter__(self) -> Iterator[str]:
        """The digest of every file here."""
        return (path.name for path in self._root.glob("??/*"))

    def _bring(self, shared: SharedStore, made: Path, digest: str) -> None:
        descriptor = open_regular(made)
        try:
            size = os.fstat(descriptor).st_size
            meter = Meter(self._progress, f"upload {digest[:12]}", size)
            shared.put(digest, size, checked(_reader(descriptor), digest, size, meter))
        except OtherBytes:
            raise FileChanged(f"{str(made)!r} does not have the digest {digest[:12]} any more") from None
        finally:
            os.close(descriptor)

    def _fetch(self, shared: SharedStore, digest: str) -> None:
        size, there = self._size_of(digest), shared.size(digest)
        if size is None or there is None:
            raise _missing(digest)
        if there != size:
            raise StoreDamaged(f"artifact {digest[:12]} has {there} bytes in the store, and {size} in the records")
        meter = Meter(self._progress, f"fetch {digest[:12]}", size)
        with self._incoming(digest) as new, shared.reading(digest) as read:
            with new.open("xb") as stream:
                write_sparse(stream.fileno(), checked(read, digest, size, meter))
                os.fchmod(stream.fileno(), 0o444)
                os.fsync(stream.fileno())
            self._give_name(new, digest)

    @contextmanager
    def _incoming(self, digest: str) -> Iterator[Path]:
        """A path for a file that is not whole yet; whatever is there in the end goes away."""
        new = self._fetched / uuid.uuid4().hex
        try:
            self._fetched.mkdir(exist_ok=True, parents=True)
            yield new
        except OtherBytes:
            raise StoreDamaged(f"artifact {digest[:12]} is other bytes in the store") from None
        except OSError as error:
            if error.errno in {errno.ENOSPC, errno.EDQUOT}:
                raise DiskFull(f"no space for artifact {digest[:12]} in {self._fetched}") from error
            raise HomeUnusable(f"{self._fetched}: {error.strerror}") from error
        finally:
            new.unlink(missing_ok=True)  # a kill leaves it to `sweep`

    def _give_name(self, new: Path, digest: str) -> Path:
        path = self.path(digest)
        path.parent.mkdir(parents=True, exist_ok=True)
        new.replace(path)
        return path


def _missing(digest: str) -> ArtifactMissing:
    return ArtifactMissing(f"artifact {digest[:12]} is not in the store")


def _use(path: Path) -> None:
    """Note that a file was used: `gc` lets those go that were not, and are in the shared store too."""
    with suppress(OSError):  # it may be another account's, and we only read it
        if time.time() - path.stat().st_mtime > _USED:
            os.utime(path)


def _reader(descriptor: int) -> Read:
    def read(most: int) -> bytes:
        try:
            return os.read(descriptor, most)
        except OSError as error:
            raise Unreadable(f"what was made cannot be read: {error.strerror}") from None

    return read
