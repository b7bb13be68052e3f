"""JSON from strangers to plain values, and plain values to one canonical form.

Rules for what is read (RFC 8259, narrowed as in I-JSON, RFC 7493):

1. At most 1 MiB, unless the caller knows better.
2. UTF-8 and nothing else: no byte order mark, no other encoding, no lone surrogates.
3. No key twice in one object: two readers could see two different documents.
4. No NaN, no infinity, and no number that overflows into one.
5. At most 32 levels deep.
6. The outermost value is an object.

The canonical form: keys sorted, no white space, everything but ASCII escaped, so that equal values are equal bytes.
"""

import json
import math
from collections.abc import Mapping
from typing import Any, NoReturn

from signing.errors import DocumentInvalid

MAX_BYTES = 1024 * 1024
MAX_DEPTH = 32


def decode(
    raw: bytes,
    what: str = "document",
    error: type[DocumentInvalid] = DocumentInvalid,
    *,
    most: int = MAX_BYTES,
) -> dict[str, Any]:
    """Return the object that `raw`, at most `most` bytes, holds; `what` names the document in messages.

    Raises: `error`, when one of the rules above is broken.
    """
    if len(raw) > most:
        raise error(f"{what} is longer than {most} bytes")
    try:
        text = raw.decode("utf-8")
    except UnicodeDecodeError:
        raise error(f"{what} is not UTF-8") from None
    try:
        value = json.loads(
            text, object_pairs_hook=_object_without_duplicates, parse_constant=_no_constant, parse_float=_finite
        )
    except RecursionError:
        raise error(f"{what} is nested deeper than {MAX_DEPTH} levels") from None
    except ValueError as why:
        raise error(f"{what} is not valid JSON: {why}") from None
    _check_tree(value, what, error)
    if not isinstance(value, dict):
        raise error(f"{what} is not a JSON object")
    return value


def encode(value: Mapping[str, Any], what: str = "document", error: type[DocumentInvalid] = DocumentInvalid) -> bytes:
    """Return the canonical form of `value`, which `decode` is known to accept.

    Raises: `error`, when `value` is not JSON or breaks one of the rules above.
    """
    try:
        raw = json.dumps(value, sort_keys=True, separators=(",", ":"), allow_nan=False).encode("ascii")
    except (TypeError, ValueError, RecursionError) as why:
        raise error(f"{what} cannot be written as JSON: {why}") from None
    decode(raw, what, error)
    return raw


def _object_without_duplicates(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    found = dict(pairs)
    if len(found) != len(pairs):
        raise ValueError("a key appears twice in one object")
    return found


def _no_constant(name: str) -> NoReturn:
    raise ValueError(f"{name} is not a JSON number")


def _finite(text: str) -> float:
    number = float(text)
    if not math.isfinite(number):
        raise ValueError("a number is too large")
    return number


def _check_tree(root: object, what: str, error: type[DocumentInvalid]) -> None:
    """Rules 2 (surrogates) and 5, without recursion: the depth is what is in doubt."""
    todo: list[tuple[object, int]] = [(root, 1)]
    while todo:
        value, depth = todo.pop()
        if depth > MAX_DEPTH:
            raise error(f"{what} is nested deeper than {MAX_DEPTH} levels")
        if isinstance(value, str):
            _check_text(value, what, error)
        elif isinstance(value, dict):
            for key, inner in value.items():
                _check_text(key, what, error)
                todo.append((inner, depth + 1))
        elif isinstance(value, list):
            todo.extend((inner, depth + 1) for inner in value)


def _check_text(text: str, what: str, error: type[DocumentInvalid]) -> None:
    try:
        text.encode("utf-8")
    except UnicodeEncodeError:
        raise error(f"{what} holds a lone surrogate, which is not text") from None
