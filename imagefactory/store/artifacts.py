"""Content-addressed files: artifacts/sha256/ab/abcdef... A file is whole and read-only, or it is not there."""

import os
from collections.abc import Iterator
from pathlib import Path

from imagefactory.errors import ArtifactMissing


class ArtifactStore:
    """Files under `root`, named by their SHA-256."""

    def __init__(self, root: Path) -> None:
        self._root = root / "sha256"

    def path(self, digest: str) -> Path:
        return self._root / digest[:2] / digest

    def has(self, digest: str) -> bool:
        return self.path(digest).is_file()

    def require(self, digest: str) -> Path:
        """The path of a file that must be there. Raises ArtifactMissing."""
        path = self.path(digest)
        if not path.is_file():
            raise ArtifactMissing(f"artifact {digest[:12]} is not in the store")
        return path

    def adopt(self, made: Path, digest: str) -> Path:
        """Take over a finished file of the same file system; its content must have `digest`."""
        path = self.path(digest)
        path.parent.mkdir(parents=True, exist_ok=True)
        made.chmod(0o444)
        with made.open("rb") as stream:
            os.fsync(stream.fileno())
        made.replace(path)
        return path

    def remove(self, digest: str) -> int:
        """Delete a file if it is there; return the bytes that it took on disk."""
        path = self.path(digest)
        if not path.is_file():
            return 0
        freed = path.stat().st_blocks * 512
        path.unlink()
        return freed

    def __iter__(self) -> Iterator[str]:
        """The digest of every file in the store."""
        return (path.name for path in self._root.glob("??/*"))
