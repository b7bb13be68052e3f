"""JSON of strangers as a stream: how deep it is and how much of it is in memory is bounded."""

from collections.abc import Iterator
from typing import Any, Final, Protocol, TypeAlias

import ijson

MAX_DEPTH: Final = 16
MAX_PARTS: Final = 200_000  # keys and values of one object

Event: TypeAlias = tuple[int, str, Any]
"""How many containers are open around it, what it is, and its value, as ijson has them."""


class Readable(Protocol):
    """What ijson reads from."""

    def read(self, size: int, /) -> bytes:
        """The next piece, `size` bytes at most; nothing at the end."""


class ObjectTooLarge(Exception):
    """An object has more in it than it should."""


def events_of(stream: Readable) -> Iterator[Event]:
    """Every event of a document. Raises RecursionError beyond MAX_DEPTH, and what ijson raises."""
    depth = 0
    for event, value in ijson.basic_parse(stream):
        if event in {"start_map", "start_array"}:
            yield depth, event, value
            depth += 1
            if depth > MAX_DEPTH:
                raise RecursionError
        elif event in {"end_map", "end_array"}:
            depth -= 1
            yield depth, event, value
        else:
            yield depth, event, value


def object_of(events: Iterator[Event], event: str, around: int, most: int) -> dict[str, Any]:
    """The object that has just begun with `event`, with `around` containers around it; what is left of `events`
    comes after it. Raises ValueError when it is no object, ObjectTooLarge when it has more than `most` characters."""
    if event != "start_map":
        raise ValueError("what should be an object is none")
    builder = ijson.ObjectBuilder()
    builder.event(event, None)
    size = 0
    for count, (depth, kind, value) in enumerate(events):
        builder.event(kind, value)
        size += len(value) if isinstance(value, str) else 1
        if count > MAX_PARTS or size > most:
            raise ObjectTooLarge
        if depth == around:
            break
    return dict(builder.value)
