import contextlib

import pytest
from hypothesis import given
from hypothesis import strategies as st

from signing.errors import BundleInvalid, DocumentInvalid
from signing.strict_json import MAX_BYTES, MAX_DEPTH, decode, encode

BAD = {
    "empty": (b"", "is not valid JSON"),
    "two documents": (b"{}{}", "is not valid JSON"),
    "single quotes": (b"{'a':1}", "is not valid JSON"),
    "array": (b"[]", "is not a JSON object"),
    "string": (b'"a"', "is not a JSON object"),
    "duplicate": (b'{"a":1,"a":1}', "a key appears twice"),
    "duplicate, escaped": (b'{"a":1,"\\u0061":2}', "a key appears twice"),
    "duplicate, deep": (b'{"b":[{"a":1,"a":2}]}', "a key appears twice"),
    "NaN": (b'{"a":NaN}', "NaN is not a JSON number"),
    "Infinity": (b'{"a":Infinity}', "Infinity is not"),
    "-Infinity": (b'{"a":-Infinity}', "-Infinity is not"),
    "overflow": (b'{"a":1e999}', "a number is too large"),
    "huge integer": (b'{"a":' + b"9" * 5000 + b"}", "is not valid JSON"),
    "latin-1": (b'{"a":"\xe9"}', "is not UTF-8"),
    "UTF-16": ('{"a":1}'.encode("utf-16"), "is not UTF-8"),
    "byte order mark": (b"\xef\xbb\xbf{}", "is not valid JSON"),
    "surrogate": (b'{"a":"\\ud800"}', "lone surrogate"),
    "surrogate key": (b'{"\\udfff":1}', "lone surrogate"),
    "too deep": (b'{"a":' * 40 + b"1" + b"}" * 40, "nested deeper than 32"),
    "far too deep": (b'{"a":' + b"[" * 500_000, "nested deeper than 32"),
    "too long": (b'{"a":"' + b"x" * MAX_BYTES + b'"}', "is longer than 1048576 bytes"),
}


@pytest.mark.parametrize(("raw", "text"), BAD.values(), ids=BAD.keys())
def test_bad_documents(raw: bytes, text: str) -> None:
    with pytest.raises(DocumentInvalid, match=text) as caught:
        decode(raw, "thing")
    assert caught.value.code == "document-invalid"
    assert caught.value.message.startswith("thing ")


def test_error_class_is_the_callers() -> None:
    with pytest.raises(BundleInvalid):
        decode(b"", "thing", BundleInvalid)


def test_deepest_accepted() -> None:
    nested = b'{"a":' * (MAX_DEPTH - 1) + b"1" + b"}" * (MAX_DEPTH - 1)
    assert decode(nested)


@pytest.mark.parametrize("value", [{"a": b"bytes"}, {"a": float("nan")}, {1: 1, "1": 1}, {"a": "\ud800"}])
def test_what_cannot_be_written(value: dict[str, object]) -> None:
    with pytest.raises(DocumentInvalid):
        encode(value)


def test_canonical_form() -> None:
    assert encode({"b": [1.5, True, None], "a": "é"}) == b'{"a":"\\u00e9","b":[1.5,true,null]}'


@given(st.binary(max_size=200))
def test_any_bytes_are_decoded_or_refused(raw: bytes) -> None:
    with contextlib.suppress(DocumentInvalid):
        assert isinstance(decode(raw), dict)


@given(
    st.dictionaries(
        st.text(max_size=5),
        st.recursive(
            st.none() | st.booleans() | st.integers() | st.text(max_size=9), lambda inner: st.lists(inner, max_size=3)
        ),
        max_size=4,
    )
)
def test_round_trip(value: dict[str, object]) -> None:
    assert decode(encode(value)) == value
