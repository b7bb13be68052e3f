"""The store behind the artifacts of one home: where workers of other hosts find them. Each kind of it does the same."""

from collections.abc import Iterator
from contextlib import AbstractContextManager
from typing import Protocol

from imagefactory.model.storage import Bucket, Storage
from imagefactory.store.copying import Read
from imagefactory.store.directory import SharedDirectory


class SharedStore(Protocol):
    """Files by their SHA-256. A file is whole, or it is not there; who comes second replaces it by the same bytes.

    Everything raises StoreUnusable when the store cannot be reached, or does not let us.
    """

    def size(self, digest: str) -> int | None:
        """The bytes of a file; None when it is not there."""

    def put(self, digest: str, size: int, pieces: Iterator[bytes]) -> None:
        """Keep a file of `size` bytes. It gets its name after the last piece; an error in between leaves nothing."""

    def reading(self, digest: str) -> AbstractContextManager[Read]:
        """Read a file from its beginning. Raises ArtifactMissing."""

    def remove(self, digest: str) -> None:
        """Delete a file if it is there."""

    def sizes(self) -> dict[str, int]:
        """The bytes of each file that is there."""

    def sweep(self) -> None:
        """Remove what uploads left that were killed long ago."""


def shared_store(storage: Storage) -> SharedStore:
    """The store at a place, which is looked at when it is used. Raises ExtraMissing."""
    if isinstance(storage, Bucket):
        # An S3 client takes half a second to import.
        from imagefactory.store.bucket import SharedBucket  # noqa: PLC0415

        return SharedBucket(storage)
    return SharedDirectory(storage)
