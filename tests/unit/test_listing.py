"""What a catalogue says of a release: strict when it is read, and never written otherwise."""

import json
from collections.abc import Callable
from dataclasses import replace
from datetime import date
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from imagefactory.errors import CatalogueDamaged, ListingInvalid, ReleaseNameInvalid, StateConflict
from imagefactory.model.listing import (
    MAX_REASON,
    ROLES,
    TRANSITIONS,
    Listing,
    ListingState,
    decode_listing,
    require_listable,
    target_path,
)
from imagefactory.model.release import NAME, ReleaseRef, Version

CURRENT, DEPRECATED, REVOKED = ListingState
VERSION = Version(20251121, 1)
PATH = "soe/20251121.1.sigstore.json"
PLAIN = Listing("soe", VERSION, "debian", "12", "x86_64")
NEXT = ReleaseRef("soe", Version(20251122, 1))
FULL = replace(PLAIN, state=REVOKED, replacement=NEXT, reason="Größe 0", provided_until=date(2026, 11, 21))

names = st.from_regex(NAME, fullmatch=True).filter(lambda name: name not in ROLES)
versions = st.builds(Version, st.integers(10_000_000, 99_999_999), st.integers(1, 999_999))
refs = st.builds(ReleaseRef, names, versions)
reasons = st.text(min_size=1, max_size=MAX_REASON).filter(lambda text: text.isprintable() and text == text.strip())


@st.composite
def listings(draw: st.DrawFn) -> Listing:
    ref, state = draw(refs), draw(st.sampled_from(ListingState))
    replacement = None if state == CURRENT else draw(st.none() | refs.filter(lambda other: other != ref))
    assert ref.version is not None
    return Listing(
        name=ref.name,
        version=ref.version,
        distro=draw(names),
        os_version=draw(st.text(st.characters(min_codepoint=32, max_codepoint=126), min_size=1, max_size=255)),
        arch=draw(st.from_regex(r"[a-z0-9_]{1,32}", fullmatch=True)),
        channel=draw(names),
        state=state,
        replacement=replacement,
        reason=draw(reasons) if state == REVOKED else None,
        provided_until=draw(st.none() | st.dates()),
    )


@given(listings())
def test_a_listing_comes_back_as_it_was(listing: Listing) -> None:
    custom = json.loads(json.dumps(listing.encode()))
    assert decode_listing(listing.path, custom) == listing
    assert decode_listing(listing.path, custom).encode() == listing.encode()


def test_the_document() -> None:
    assert PLAIN.path == PATH == target_path("soe", VERSION)
    assert PLAIN.encode() == {
        "name": "soe",
        "version": "20251121.1",
        "os": {"distro": "debian", "version": "12"},
        "arch": "x86_64",
        "channel": "stable",
        "state": "current",
    }
    assert FULL.encode() == PLAIN.encode() | {
        "state": "revoked",
        "replacement": "soe@20251122.1",
        "reason": "Größe 0",
        "provided_until": "2026-11-21",
    }


json_values: st.SearchStrategy[Any] = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False) | st.text(),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(), inner, max_size=3),
    max_leaves=10,
)


@given(json_values)
def test_whatever_else_is_refused(value: object) -> None:
    with pytest.raises(CatalogueDamaged):
        decode_listing(PATH, value)


@given(st.sampled_from([*FULL.encode(), "other"]), json_values)
def test_one_field_of_anything_is_read_as_written_or_refused(key: str, value: object) -> None:
    custom = FULL.encode() | {key: value}
    try:
        found = decode_listing(PATH, custom)
    except CatalogueDamaged:
        return
    assert found.encode() == custom


@pytest.mark.parametrize("key", ["name", "version", "os", "arch", "channel", "state"])
def test_what_has_to_be_there(key: str) -> None:
    custom = PLAIN.encode()
    del custom[key]
    with pytest.raises(CatalogueDamaged, match=f"lacks the field '{key}'"):
        decode_listing(PATH, custom)


BAD: list[dict[str, Any]] = [
    {"name": "soe2"},
    {"name": "../soe"},
    {"name": "targets"},
    {"name": "s" * 64},
    {"version": "20251121.2"},
    {"version": "20251121.01"},
    {"version": "00000001.1"},
    {"version": "20251121.1\n"},
    {"version": "٢٠٢٥١١٢١.1"},
    {"os": "debian"},
    {"os": {"distro": "debian"}},
    {"os": {"distro": "debian", "version": "12", "codename": "bookworm"}},
    {"os": {"distro": "debian", "version": "1" * 256}},
    {"arch": "x86 64"},
    {"channel": ""},
    {"channel": "Stable"},
    {"state": "withdrawn"},
    {"state": "Current"},
    {"state": "x" * 10_000},
    {"state": "revoked"},
    {"state": "deprecated", "reason": "because"},
    {"reason": "because"},
    {"replacement": "soe@20251122.1"},
    {"state": "deprecated", "replacement": "soe"},
    {"state": "deprecated", "replacement": "soe@20251121.1"},
    {"state": "deprecated", "replacement": "root@20251121.1"},
    {"state": "deprecated", "replacement": None},
    {"state": "revoked", "reason": ""},
    {"state": "revoked", "reason": " padded"},
    {"state": "revoked", "reason": "two\nlines"},
    {"state": "revoked", "reason": "a \x1b[31mcolour"},
    {"state": "revoked", "reason": "right \u202eto left"},
    {"state": "revoked", "reason": "half \ud800"},
    {"state": "revoked", "reason": "x" * 201},
    {"provided_until": "20261121"},
    {"provided_until": "2026-W47-6"},
    {"provided_until": "2026-02-30"},
    {"provided_until": "2026-11-21T00:00:00Z"},
    {"unknown": 1},
    {"custom": {}},
]


@pytest.mark.parametrize("change", BAD, ids=[ascii(each)[:60] for each in BAD])
def test_bad_listings(change: dict[str, Any]) -> None:
    with pytest.raises(CatalogueDamaged) as caught:
        decode_listing(PATH, PLAIN.encode() | change)
    assert len(caught.value.message) < 300


@pytest.mark.parametrize(
    "path", ["", "soe/20251121.2.sigstore.json", "soe/../soe/20251121.1.sigstore.json", f"/{PATH}", "x" * 10_000]
)
def test_a_listing_under_another_path(path: str) -> None:
    with pytest.raises(CatalogueDamaged, match="is about another release") as caught:
        decode_listing(path, PLAIN.encode())
    assert len(caught.value.message) < 300


@pytest.mark.parametrize(
    "change",
    [
        lambda it: replace(it, name="targets"),
        lambda it: replace(it, version=Version(1, 1)),
        lambda it: replace(it, arch=""),
        lambda it: replace(it, reason="because"),
        lambda it: replace(it, state=REVOKED),
        lambda it: replace(it, state=REVOKED, reason="x" * 201),
        lambda it: replace(it, state=DEPRECATED, replacement=ReleaseRef("soe")),
    ],
)
def test_what_would_not_be_read_is_not_written(change: Callable[[Listing], Listing]) -> None:
    with pytest.raises(ListingInvalid):
        change(PLAIN).encode()


@pytest.mark.parametrize("old", ListingState)
@pytest.mark.parametrize("new", ListingState)
def test_transitions(old: ListingState, new: ListingState) -> None:
    reasons: dict[ListingState, str | None] = {REVOKED: "bad"}
    before = replace(PLAIN, state=old, reason=reasons.get(old))
    if new in TRANSITIONS[old]:
        assert before.moved(new, None, reasons.get(new)) == replace(PLAIN, state=new, reason=reasons.get(new))
    else:
        assert (old, new) in {(REVOKED, CURRENT), (REVOKED, DEPRECATED)}
        with pytest.raises(StateConflict, match=f"soe@20251121.1 is revoked and cannot become {new}"):
            before.moved(new, None, None)


def test_a_move_needs_its_words() -> None:
    with pytest.raises(ListingInvalid, match="no reason"):
        PLAIN.moved(REVOKED, None, None)
    assert PLAIN.moved(REVOKED, NEXT, "bad").moved(REVOKED, None, "worse").reason == "worse"


@pytest.mark.parametrize("name", [*sorted(ROLES), "", "A", "a/b", "..", "a" * 64])
def test_names_that_a_catalogue_cannot_have(name: str) -> None:
    with pytest.raises(ReleaseNameInvalid):
        require_listable(name)
    assert require_listable("root-fs") == "root-fs"
