"""Plain values to checked ones: every field has a type and a range, and a key that nobody asked for is refused.

Also the spellings that several documents share: names, versions of text, hex digests, times (RFC 3339, UTC with "Z",
whole seconds) and base64 (RFC 4648, section 4, canonical).
"""

import base64
import binascii
import re
from collections.abc import Callable
from datetime import UTC, datetime
from types import TracebackType
from typing import Any, Self, TypeVar

from signing.errors import DocumentInvalid

T = TypeVar("T")

SLUG = re.compile(r"[a-z0-9]([a-z0-9-]{0,61}[a-z0-9])?")
PLAIN_FILE = re.compile(r"[A-Za-z0-9][A-Za-z0-9._+-]{0,254}")
SHA256_HEX = re.compile(r"[0-9a-f]{64}")
SHA512_HEX = re.compile(r"[0-9a-f]{128}")
TIME = re.compile(r"[0-9]{4}-[0-9]{2}-[0-9]{2}T[0-9]{2}:[0-9]{2}:[0-9]{2}Z")
PRINTABLE = re.compile(r"[ -~]{1,255}")

MAX_SIZE = 2**60
"""Upper bound of a file's size in bytes: larger than any image, small enough for every reader's integers."""


class Fields:
    """One JSON object, read field by field. As a context manager it refuses, at the end, what was not read.

    `where` names the object in messages; `error` is the class raised for anything wrong.
    """

    def __init__(self, value: object, where: str, error: type[DocumentInvalid]) -> None:
        if not isinstance(value, dict):
            raise error(f"{where} is not an object")
        self._rest: dict[str, Any] = dict(value)
        self.where = where
        self.error = error

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, value: BaseException | None, trace: TracebackType | None
    ) -> None:
        if kind is None and self._rest:
            raise self.error(f"{self.where} has an unknown field {min(self._rest)[:64]!r}")

    def __contains__(self, key: str) -> bool:
        return key in self._rest

    def take(self, key: str) -> object:
        """Return the field `key` as it is; it must be there."""
        if key not in self._rest:
            raise self.error(f"{self.where} lacks the field {key!r}")
        return self._rest.pop(key)

    def text(self, key: str, pattern: re.Pattern[str] = PRINTABLE) -> str:
        """Return a string that `pattern` matches as a whole."""
        value = self.take(key)
        if not isinstance(value, str) or not pattern.fullmatch(value):
            raise self.error(f"{self.where}: {key!r} is not acceptable")
        return value

    def exactly(self, key: str, expected: str | int) -> None:
        """Read a field that can have only one value."""
        value = self.take(key)
        if type(value) is not type(expected) or value != expected:
            raise self.error(f"{self.where}: {key!r} is not {expected!r}")

    def integer(self, key: str, low: int = 0, high: int = MAX_SIZE) -> int:
        """Return an integer from `low` to `high`, both included. True is not 1 here."""
        value = self.take(key)
        if type(value) is not int or not low <= value <= high:
            raise self.error(f"{self.where}: {key!r} is not an integer from {low} to {high}")
        return value

    def boolean(self, key: str) -> bool:
        """Return true or false."""
        value = self.take(key)
        if not isinstance(value, bool):
            raise self.error(f"{self.where}: {key!r} is not true or false")
        return value

    def time(self, key: str) -> datetime:
        """Return an aware datetime in UTC."""
        return self.converted(key, parse_time)

    def null(self, key: str) -> bool:
        """Return whether the field is null, in which case it has been read."""
        if key in self._rest and self._rest[key] is None:
            del self._rest[key]
            return True
        return False

    def object(self, key: str) -> dict[str, Any]:
        """Return an object as a plain dict."""
        value = self.take(key)
        if not isinstance(value, dict):
            raise self.error(f"{self.where}: {key!r} is not an object")
        return value

    def array(self, key: str) -> list[Any]:
        """Return an array as a plain list."""
        value = self.take(key)
        if not isinstance(value, list):
            raise self.error(f"{self.where}: {key!r} is not an array")
        return value

    def inner(self, key: str) -> "Fields":
        """Return the object `key` for reading by fields."""
        return Fields(self.take(key), f"{self.where}.{key}", self.error)

    def converted(self, key: str, convert: Callable[[str], T]) -> T:
        """Return a string field through `convert`, whose ValueError means that it is not acceptable."""
        value = self.take(key)
        if not isinstance(value, str):
            raise self.error(f"{self.where}: {key!r} is not a string")
        try:
            return convert(value)
        except ValueError as why:
            raise self.error(f"{self.where}: {key!r} is not acceptable: {why}") from None


def parse_time(text: str) -> datetime:
    """Return the aware UTC datetime of an RFC 3339 time such as 2025-11-21T19:00:00Z. Raises: ValueError."""
    if not TIME.fullmatch(text):
        raise ValueError("not a time like 2025-11-21T19:00:00Z")
    return datetime.strptime(text, "%Y-%m-%dT%H:%M:%SZ").replace(tzinfo=UTC)


def format_time(moment: datetime) -> str:
    """Return `moment` (aware) as RFC 3339 in UTC, whole seconds. Raises: ValueError for a naive datetime."""
    if moment.tzinfo is None:
        raise ValueError("a time without a time zone")
    moment = moment.astimezone(UTC).replace(tzinfo=None)
    return moment.isoformat(timespec="seconds") + "Z"


def parse_base64(text: str) -> bytes:
    """Return the bytes of canonical base64: standard alphabet, padded, no stray bits. Raises: ValueError."""
    try:
        raw = base64.b64decode(text, validate=True)
    except (binascii.Error, ValueError):
        raise ValueError("not base64") from None
    # b64decode ignores the unused low bits of the last character: several texts would mean the same bytes.
    if base64.b64encode(raw).decode("ascii") != text:
        raise ValueError("not canonical base64")
    return raw
