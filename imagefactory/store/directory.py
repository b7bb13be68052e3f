"""A directory that the workers of several hosts reach, as several Unix users, by NFS or the like.

All files are in the directory itself, so that its owner may remove them whoever brought them, and its mode says who
may: 3775 with a group lets the group bring files, which nobody but who brought them and the directory's owner can
replace or remove. Files are 0444 whatever our umask is. There are neither locks nor links: a file is written under
another name and renamed.
"""

import errno
import os
import re
import stat
import time
import uuid
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

from imagefactory.errors import ArtifactMissing
from imagefactory.errors.service import StoreUnusable
from imagefactory.store.copying import CHUNK, OtherBytes, Read, checked, write_sparse

NEW = ".new-"
STALE = 86400.0  # seconds after which nobody uploads any more
_DIGEST = re.compile(r"[0-9a-f]{64}")
_OPEN = os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC  # a link is no file, and a pipe is not waited for
_NOT_OURS = {errno.EPERM, errno.EACCES}


class SharedDirectory:
    """Files in `root`, which is there already: only who mounts it knows its mode."""

    def __init__(self, root: Path) -> None:
        self._root = root

    def size(self, digest: str) -> int | None:
        with self._translated():
            return self._size(digest)

    def put(self, digest: str, size: int, pieces: Iterator[bytes]) -> None:
        with self._translated():
            new = self._root / f"{NEW}{uuid.uuid4().hex}"
            descriptor = os.open(new, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW | os.O_CLOEXEC, 0o600)
            try:
                try:
                    write_sparse(descriptor, pieces)
                    os.fchmod(descriptor, 0o444)
                    os.fsync(descriptor)
                finally:
                    os.close(descriptor)
                self._give_name(new, digest, size)
            except BaseException:
                with suppress(OSError):
                    new.unlink()
                raise
            self._sync()

    @contextmanager
    def reading(self, digest: str) -> Iterator[Read]:
        with self._translated():
            descriptor = self._open(digest)
        try:
            yield lambda most: self._read(descriptor, most)
        finally:
            os.close(descriptor)

    def remove(self, digest: str) -> None:
        with self._translated():
            self._root.lstat()
            (self._root / digest).unlink(missing_ok=True)

    def sizes(self) -> dict[str, int]:
        with self._translated():
            names = [path.name for path in self._root.iterdir() if _DIGEST.fullmatch(path.name)]
            found = {name: self._size(name) for name in names}
        return {name: size for name, size in found.items() if size is not None}

    def sweep(self) -> None:
        oldest = time.time() - STALE
        with self._translated():
            for path in [each for each in self._root.iterdir() if each.name.startswith(NEW)]:
                with suppress(FileNotFoundError):
                    if path.lstat().st_mtime < oldest:
                        path.unlink()

    def _size(self, digest: str) -> int | None:
        try:
            status = (self._root / digest).lstat()
        except FileNotFoundError:
            self._root.lstat()  # a directory that is not there is no empty one
            return None
        return status.st_size if stat.S_ISREG(status.st_mode) else None

    def _open(self, digest: str) -> int:
        if self._size(digest) is None:
            raise ArtifactMissing(f"artifact {digest[:12]} is not in {self._root}")
        return os.open(self._root / digest, _OPEN)

    def _give_name(self, new: Path, digest: str, size: int) -> None:
        try:
            new.rename(self._root / digest)
        except OSError as error:
            # Somebody else's, in a directory where nobody replaces what others brought.
            if error.errno not in _NOT_OURS or not self._holds(digest, size):
                raise
            new.unlink()

    def _holds(self, digest: str, size: int) -> bool:
        """Whether what is there under a digest has it."""
        try:
            with self.reading(digest) as read:
                for _ in checked(read, digest, size, lambda _: None):
                    pass
        except (ArtifactMissing, OtherBytes):
            return False
        return True

    def _read(self, descriptor: int, most: int) -> bytes:
        with self._translated():
            return os.read(descriptor, min(most, CHUNK))

    def _sync(self) -> None:
        descriptor = os.open(self._root, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
        try:
            os.fsync(descriptor)
        finally:
            os.close(descriptor)

    @contextmanager
    def _translated(self) -> Iterator[None]:
        try:
            yield
        except OSError as error:
            raise StoreUnusable(f"{self._root}: {error.strerror}") from error
