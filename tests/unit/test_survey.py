"""A survey: what is read of a page of images, and how the whole compares with what the records know."""

import io
import json
from datetime import UTC, datetime, timedelta
from typing import Any
from uuid import UUID

import pytest
from hypothesis import given
from hypothesis import strategies as st

from imagefactory.errors import CloudAnswerInvalid
from imagefactory.model.glance import MANIFEST_PROPERTY, RELEASE_PROPERTY, REPLACEMENT_PROPERTY, GlanceImage
from imagefactory.model.survey import (
    CLOCK_TOLERANCE,
    MAX_TAG,
    MAX_TAGS,
    MAX_VALUE,
    OtherImage,
    Survey,
    SurveyedImage,
    clock_is_off,
    duplicates,
    intruders,
    made_of_a_server,
    missing,
    strays,
)
from imagefactory.tools.openstack import listing
from imagefactory.tools.openstack.listing import images_in
from tests.unit.test_glance_image import DOCUMENT, ID, json_values

OURS = {
    **DOCUMENT,
    RELEASE_PROPERTY: "debian-12@20261101.1",
    MANIFEST_PROPERTY: "a" * 64,
    REPLACEMENT_PROPERTY: "debian-12@20261121.1",
    "img_signature": "AAAA",
}
ids = st.integers(0, 2**128 - 1).map(lambda number: str(UUID(int=number)))
NOW = datetime(2026, 11, 22, 12, tzinfo=UTC)


def ours(number: int = 0, **changes: Any) -> SurveyedImage:  # noqa: ANN401
    document = {**OURS, "id": str(UUID(int=number)), **changes}
    return SurveyedImage.of(GlanceImage.from_json(document))


def read(raw: bytes) -> list[dict[str, Any]]:
    return list(images_in(io.BytesIO(raw)))


# -- one page ----------------------------------------------------------------------------------------------------------


@st.composite
def listed(draw: st.DrawFn) -> dict[str, Any]:
    """An image with whatever else. What is no number elsewhere is none here: JSON has no NaN."""
    values = st.none() | st.booleans() | st.integers(-(2**62), 2**62) | st.text(max_size=20) | st.lists(st.text())
    return {**draw(st.dictionaries(st.text(max_size=9), values, max_size=4)), "id": draw(ids)}


@given(st.lists(listed(), max_size=5), st.booleans())
def test_a_page_is_read_as_json_would_be(images: list[dict[str, Any]], links_first: bool) -> None:
    links = {"first": "/v2/images", "next": "https://elsewhere/", "schema": "/v2/schemas/images"}
    document = {**links, "images": images} if links_first else {"images": images, **links}
    assert read(json.dumps(document).encode()) == images


@given(st.lists(ids, max_size=3), st.data())
def test_a_page_that_is_cut_off_is_never_a_shorter_one(listed: list[str], data: st.DataObject) -> None:
    raw = json.dumps({"images": [{"id": each} for each in listed]}).encode()
    at = data.draw(st.integers(0, len(raw) - 1))
    with pytest.raises(CloudAnswerInvalid):
        read(raw[:at])


@given(json_values | st.dictionaries(st.sampled_from(["image", "item", ""]), json_values))
def test_any_other_document_is_no_page(document: Any) -> None:  # noqa: ANN401
    with pytest.raises(CloudAnswerInvalid):
        read(json.dumps(document).encode())


@given(st.binary(max_size=60))
def test_noise_is_no_page(raw: bytes) -> None:
    with pytest.raises(CloudAnswerInvalid):
        read(raw)


@pytest.mark.parametrize(
    "raw",
    [
        b"",
        b"{}",
        b"[]",
        b"null",
        b'{"images": null}',
        b'{"images": {}}',
        b'{"images": [[]]}',
        b'{"images": [{}]}',
        b'{"images": [{"id": "../x"}]}',
        b'{"images": [{"id": 7}]}',
        b'{"images": [null]}',
        b'{"images": []}garbage',
        b'{"images": []',
        b'{"images": [], "images": []}',
        b'{"images": ["x"]}',
        b'{"images": "images"}',
        b'{"image": {"images": []}}',
        b'{"images": ' + b"[" * 100_000,
        b'{"x": ' + b"[" * 100_000,
        b'{"images": [{"id": "%s", "x": %s}]}' % (ID.encode(), b"[" * 100_000),
        b'{"images": [{"id": "%s", "size": %s}]}' % (ID.encode(), b"9" * 5000),
        b'{"images": [{"id": "\xff"}]}',
    ],
)
def test_what_is_no_page(raw: bytes) -> None:
    with pytest.raises(CloudAnswerInvalid):
        read(raw)


def test_an_image_without_end_is_not_kept_in_memory(monkeypatch: pytest.MonkeyPatch) -> None:
    class Endless(io.RawIOBase):
        given = 0

        def read1(self, size: int, /) -> bytes:
            self.given += size
            return b'{"images": [{"id": "' if self.given == size else b"x" * size

    source = Endless()
    with pytest.raises(CloudAnswerInvalid):
        list(images_in(source))
    assert source.given <= 2 * listing.MOST_IMAGE + (64 << 10)
    monkeypatch.setattr(listing, "MOST_PAGE", 1000)
    raw = json.dumps({"images": [{"id": ID}] * 1000}).encode()
    with pytest.raises(CloudAnswerInvalid):
        read(raw)


# -- one image ---------------------------------------------------------------------------------------------------------


def test_what_is_kept() -> None:
    kept = ours(7, visibility="shared")
    assert (kept.release, kept.manifest_sha256, kept.replacement) == (
        "debian-12@20261101.1",
        "a" * 64,
        "debian-12@20261121.1",
    )
    assert (kept.id, kept.size, kept.hash_value, kept.hidden) == (str(UUID(int=7)), 7, "00", False)
    assert (kept.signature, kept.members) == ({"img_signature": "AAAA"}, None)
    assert "os_distro" not in str(kept)


@pytest.mark.parametrize(
    "changes",
    [
        {"name": "x" * 256},
        {"tags": ["x"] * (MAX_TAGS + 1)},
        {"tags": ["x" * (MAX_TAG + 1)]},
        {RELEASE_PROPERTY: "x" * (MAX_VALUE + 1)},
        {"img_signature": "x" * (MAX_VALUE + 1)},
        {"os_hash_value": "x" * (MAX_VALUE + 1)},
    ],
    ids=str,
)
def test_what_says_too_much(changes: dict[str, Any]) -> None:
    with pytest.raises(ValueError, match=r"longer|more"):
        ours(**changes)


@given(st.dictionaries(st.sampled_from(sorted(OURS)), json_values))
def test_whatever_is_listed_is_kept_or_refused(changes: dict[str, Any]) -> None:
    try:
        kept = SurveyedImage.of(GlanceImage.from_json({**OURS, **changes}))
    except ValueError:
        return
    assert SurveyedImage.from_document(json.loads(json.dumps(kept.to_document()))) == kept
    assert kept.weight >= len(kept.release)


# -- all of them -------------------------------------------------------------------------------------------------------


@given(st.sets(st.integers(0, 20)), st.sets(st.integers(0, 20)))
def test_what_records_and_cloud_know_of_each_other(there: set[int], known: set[int]) -> None:
    survey = Survey("abc", tuple(map(ours, sorted(there))))
    recorded = {str(UUID(int=each)) for each in known}
    assert {UUID(each.id).int for each in strays(survey, recorded)} == there - known
    assert {UUID(each).int for each in missing(survey, recorded)} == known - there


@pytest.mark.parametrize(
    ("said", "copied"),
    [
        ({}, False),
        ({"image_type": "base"}, False),
        ({"image_type": "snapshot"}, True),
        ({"image_type": "backup"}, True),
        ({"base_image_ref": ID}, True),
        ({"base_image_ref": ""}, False),
        ({"image_type": ["snapshot"]}, False),
    ],
)
def test_what_was_made_of_a_server(said: dict[str, object], copied: bool) -> None:
    assert made_of_a_server({**OURS, **said}) is copied


def test_duplicates() -> None:
    raw, other = ours(3, disk_format="raw"), ours(4, **{MANIFEST_PROPERTY: "b" * 64})
    assert duplicates(Survey("abc", (ours(1), raw, other))) == ()
    assert duplicates(Survey("abc", (ours(1), raw, other, ours(5)))) == ((ours(1), ours(5)),)


def test_intruders() -> None:
    theirs = OtherImage(ID, "Debian 12", "private")
    survey = Survey("abc", (ours(1, name="Debian 12"),), (theirs, OtherImage(ID, "Debian 13", "public")))
    assert intruders(survey, "Debian 12") == (theirs,)
    assert intruders(survey, "Debian") == ()


def test_a_survey_goes_from_process_to_process() -> None:
    whole = Survey("abc", (ours(1), ours(2, size=None)), (OtherImage(ID, "x", "public"),), NOW)
    assert Survey.from_document(json.loads(json.dumps(whole.to_document()))) == whole
    silent = Survey("abc", ())
    assert Survey.from_document(json.loads(json.dumps(silent.to_document()))) == silent


@pytest.mark.parametrize("sign", [1, -1])
def test_clocks(sign: int) -> None:
    assert not clock_is_off(NOW + sign * CLOCK_TOLERANCE, NOW)
    assert clock_is_off(NOW + sign * (CLOCK_TOLERANCE + timedelta(seconds=1)), NOW)
