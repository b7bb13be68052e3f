"""Bytes from one place to another, each read once: hashed, counted and limited while they go by."""

import hashlib
import os
from collections.abc import Callable, Iterator

CHUNK = 1 << 20  # bytes
_ZEROS = bytes(CHUNK)

Read = Callable[[int], bytes]
"""At most so many bytes more; none at the end."""
OnBytes = Callable[[int], None]
"""Told after each piece how many bytes (not: how many in all) went by."""


class OtherBytes(Exception):
    """What was read is not what its digest and size promise."""


def checked(read: Read, digest: str, size: int, on_bytes: OnBytes) -> Iterator[bytes]:
    """The bytes that `read` gives, in pieces of CHUNK bytes at most; after the last one they are known to be `size`
    bytes with this SHA-256. Never gives more than that. Raises OtherBytes."""
    seen, left = hashlib.sha256(), size
    while left and (piece := read(min(left, CHUNK))):
        seen.update(piece)
        left -= len(piece)
        yield piece
        on_bytes(len(piece))
    if left or read(1) or seen.hexdigest() != digest:
        raise OtherBytes


def write_sparse(descriptor: int, pieces: Iterator[bytes]) -> None:
    """Write an empty file; where there are only zeros it gets holes. Raises OSError."""
    end = 0
    for piece in pieces:
        if piece != _ZEROS[: len(piece)]:
            _write(descriptor, piece, end)
        end += len(piece)
    os.truncate(descriptor, end)


def _write(descriptor: int, piece: bytes, position: int) -> None:
    """All of it: the end of a disk takes a part of what it is given, before it takes nothing."""
    view = memoryview(piece)
    while view:
        written = os.pwrite(descriptor, view, position)
        position, view = position + written, view[written:]
