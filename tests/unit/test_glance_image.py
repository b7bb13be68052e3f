"""What Glance says of an image is read with suspicion; what we say is one document."""

from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from imagefactory.errors import TargetUnsupported
from imagefactory.model.glance import (
    MAX_PROPERTIES,
    NUMBERS,
    REPLACEMENT_PROPERTY,
    Appearance,
    Audience,
    GlanceImage,
    appearing,
    creation,
    revealing,
    versioned_name,
)
from imagefactory.model.recipe_targets import CatalogueTarget, CloudTarget, visibility_refusal
from imagefactory.model.target import CataloguePlace, CloudPlace, parse_place, split_image

ID = "6a3c2f0e-1b5d-4f6a-9a2e-0123456789ab"
DOCUMENT: dict[str, Any] = {
    "id": ID,
    "name": "Debian 12",
    "status": "active",
    "owner": "abc",
    "visibility": "private",
    "os_hidden": False,
    "protected": False,
    "disk_format": "qcow2",
    "container_format": "bare",
    "size": 7,
    "os_hash_algo": "sha512",
    "os_hash_value": "00",
    "min_ram": 512,
    "min_disk": 2,
    "tags": ["b", "a"],
    "os_distro": "debian",
}
json_values = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=20),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=9), inner, max_size=3),
    max_leaves=9,
)


def image(**changes: object) -> GlanceImage:
    return GlanceImage.from_json({**DOCUMENT, **changes})


def test_reading() -> None:
    read = image()
    assert (read.id, read.size, read.tags, dict(read.properties)) == (ID, 7, ("a", "b"), {"os_distro": "debian"})
    assert (read.value("min_ram"), read.value("os_distro"), read.value("nothing")) == ("512", "debian", None)


@pytest.mark.parametrize(
    "document",
    [
        None,
        [],
        {},
        {**DOCUMENT, "id": "../x"},
        {**DOCUMENT, "id": ID.upper()},
        {**DOCUMENT, "tags": "abc"},
        {**DOCUMENT, "tags": [1]},
        {**DOCUMENT, **{f"x{number}": "" for number in range(MAX_PROPERTIES + 1)}},
    ],
)
def test_what_is_no_image(document: object) -> None:
    with pytest.raises(ValueError, match=r"."):
        GlanceImage.from_json(document)


@given(st.dictionaries(st.sampled_from(sorted(DOCUMENT)), json_values))
def test_whatever_is_answered_is_an_image_or_refused(changes: dict[str, Any]) -> None:
    try:
        read = image(**changes)
    except ValueError:
        return
    assert read.size is None or read.size >= 0
    assert read.min_ram >= 0
    assert all(isinstance(value, str) for value in read.properties.values())


def test_numbers_are_no_booleans_and_hidden_is_no_text() -> None:
    read = image(size=True, min_ram=True, os_hidden="true", protected=1)
    assert (read.size, read.min_ram, read.hidden, read.protected) == (None, 0, False, False)


def test_what_is_created_is_seen_by_nobody() -> None:
    made = creation(
        ID, "Debian 12", "qcow2", {"min_ram": "512", "min_disk": "2", "os_distro": "debian"}, ("b", "a", "b")
    )
    assert (made["visibility"], made["os_hidden"], made["protected"]) == ("private", True, False)
    assert {key: made[key] for key in NUMBERS} == {"min_ram": 512, "min_disk": 2}
    assert (made["os_distro"], made["tags"]) == ("debian", ["a", "b"])


def test_revealing() -> None:
    hidden = image(os_hidden=True)
    shown = Appearance("Debian 12")
    assert revealing(image(tags=[]), Audience(), shown) == []
    assert revealing(hidden, Audience("public", tags=("a", "b"), protected=True), shown) == [
        {"op": "replace", "path": "/visibility", "value": "public"},
        {"op": "replace", "path": "/protected", "value": True},
        {"op": "replace", "path": "/os_hidden", "value": False},
    ]


texts = st.sampled_from(["Debian 12", versioned_name("Debian 12", "20261122.1"), "x"])
appearances = st.builds(Appearance, texts, st.booleans(), st.none() | st.sampled_from(["a@20261122.1", "a@20261123.1"]))


def patched(document: dict[str, Any], patch: list[dict[str, Any]]) -> dict[str, Any]:
    """As Glance does it."""
    after = dict(document)
    for change in patch:
        key = {"/os_hidden": "os_hidden", "/name": "name"}.get(change["path"], change["path"][1:])
        if change["op"] == "remove":
            del after[key]
        else:
            assert (key in after) or change["op"] == "add"
            after[key] = change["value"]
    return after


@given(appearances, appearances)
def test_a_patch_of_the_appearance_makes_it_and_is_empty_then(before: Appearance, after: Appearance) -> None:
    said = {} if before.replacement is None else {REPLACEMENT_PROPERTY: before.replacement}
    document = {**DOCUMENT, "name": before.name, "os_hidden": before.hidden, **said}
    assert Appearance.of(GlanceImage.from_json(document)) == before
    patch = appearing(GlanceImage.from_json(document), after)
    made = GlanceImage.from_json(patched(document, patch))
    assert (Appearance.of(made), appearing(made, after)) == (after, [])
    assert (patch == []) is (before == after)


# -- places ------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("text", ["catalogue:/srv/images", "glance:mycloud"])
def test_places_are_written_as_they_are_read(text: str) -> None:
    assert str(parse_place(text)) == text


def test_places_of_recipes() -> None:
    assert CloudTarget(cloud="mine").place == CloudPlace("mine") == parse_place("cloud:mine")
    assert CatalogueTarget(catalogue="/srv").place == CataloguePlace(Path("/srv"))


@pytest.mark.parametrize(
    "spelled", ["/srv/c", "/srv/c/", "/srv//c", "/srv/./c", "/srv/recipes/../c", "/srv/c/.", "/../srv/c"]
)
def test_a_catalogue_is_one_place_however_it_is_spelled(spelled: str) -> None:
    place = CataloguePlace(Path("/srv/c"))
    assert CatalogueTarget(catalogue=spelled).place == parse_place(f"catalogue:{spelled}") == place
    assert str(parse_place(f"catalogue:{spelled}")) == "catalogue:/srv/c"


def test_a_link_is_another_place(tmp_path: Path) -> None:
    (tmp_path / "link").symlink_to(tmp_path)
    assert parse_place(f"catalogue:{tmp_path}/link") != parse_place(f"catalogue:{tmp_path}")


@pytest.mark.parametrize("text", ["", "catalogue:", "glance:", "glance:a/b", "glance:../x", "ftp:x", "mycloud"])
def test_what_is_no_place(text: str) -> None:
    with pytest.raises(TargetUnsupported):
        parse_place(text)


def test_the_name_of_an_image_may_hold_anything() -> None:
    assert split_image("glance:mine/Debian 12/x@y") == ("mine", "Debian 12/x@y")


# -- who may see it ----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("target", "licensed", "development", "refused"),
    [
        (CloudTarget(cloud="c"), "a licence", True, False),
        (CloudTarget(cloud="c", visibility="shared"), "a licence", True, False),
        (CloudTarget(cloud="c", visibility="public"), None, False, True),
        (CloudTarget(cloud="c", visibility="public", allow_public=True), None, False, False),
        (CloudTarget(cloud="c", visibility="public", allow_public=True), "a licence", False, True),
        (CloudTarget(cloud="c", visibility="public", allow_public=True), None, True, True),
        (CloudTarget(cloud="c", visibility="community"), None, False, False),
        (CloudTarget(cloud="c", visibility="community"), None, True, True),
        (CloudTarget(cloud="c", visibility="community"), "a licence", False, True),
    ],
)
def test_who_may_see_it(target: CloudTarget, licensed: str | None, development: bool, refused: bool) -> None:
    assert (visibility_refusal(target, licensed, development=development) is not None) is refused
