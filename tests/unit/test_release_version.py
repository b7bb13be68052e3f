"""Versions and references of releases."""

from datetime import date

import pytest
from hypothesis import given
from hypothesis import strategies as st

from imagefactory.errors import ReleaseNameInvalid
from imagefactory.model.release import NAME, ReleaseRef, Version

DAYS = st.dates(min_value=date(2020, 1, 1), max_value=date(2100, 1, 1))


def test_versions_compare_as_integers() -> None:
    assert Version.parse("20251121.9") < Version.parse("20251121.10") < Version.parse("20251122.1")


@pytest.mark.parametrize("text", ["20251121.1", "20251121.999999", "99991231.10"])
def test_what_is_a_version(text: str) -> None:
    assert str(Version.parse(text)) == text


@pytest.mark.parametrize(
    "text",
    ["", "1", "20251121", "20251121.", "20251121.0", "20251121.01", "2025112.1", "20251121.1\n", " 20251121.1",
     "20251121.1.2", "20251121.-1", "20251121.1000000", "٢٠٢٥١١٢١.1", "../../etc", "20251121/1"],
)  # fmt: skip
def test_what_is_none(text: str) -> None:
    with pytest.raises(ReleaseNameInvalid, match="is not a version") as caught:
        Version.parse(text)
    assert caught.value.code == "release-name-invalid"
    assert caught.value.exit_code == 2


@pytest.mark.parametrize(
    ("today", "used", "expected"),
    [
        (date(2025, 11, 21), None, "20251121.1"),
        (date(2025, 11, 21), "20251121.1", "20251121.2"),
        (date(2025, 11, 21), "20251121.41", "20251121.42"),
        (date(2025, 11, 22), "20251121.41", "20251122.1"),
        # The clock went back: what was given out stays given out.
        (date(2025, 11, 20), "20251121.1", "20251121.2"),
        (date(2026, 1, 1), "20251231.7", "20260101.1"),
    ],
)
def test_the_next_version(today: date, used: str | None, expected: str) -> None:
    assert str(Version.next(today, Version.parse(used) if used else None)) == expected


@given(st.lists(DAYS, max_size=30))
def test_versions_always_grow_whatever_the_clock_does(days: list[date]) -> None:
    given_out: list[Version] = []
    for day in days:
        given_out.append(Version.next(day, given_out[-1] if given_out else None))
    assert given_out == sorted(set(given_out))


@pytest.mark.parametrize("name", ["a", "9", "soe-debian-12", "a" * 63])
def test_what_is_a_name(name: str) -> None:
    assert NAME.fullmatch(name)
    assert ReleaseRef.parse(name) == ReleaseRef(name)
    assert str(ReleaseRef.parse(f"{name}@20251121.1")) == f"{name}@20251121.1"


@pytest.mark.parametrize(
    "text",
    ["", "-a", "a-", "A", "a_b", "a.b", "a/b", "a\n", "a" * 64, "@20251121.1", "a@", "a@1", "a@20251121.1@2", "../a",
     ".hidden", "ä"],
)  # fmt: skip
def test_what_is_no_reference(text: str) -> None:
    with pytest.raises(ReleaseNameInvalid):
        ReleaseRef.parse(text)
