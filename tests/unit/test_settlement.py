"""What the publisher is asked to settle fits together, or is refused."""

from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from pydantic import ValidationError

from imagefactory.errors import RequestInvalid
from imagefactory.hands.publisher import settle_images
from imagefactory.model.glance import Appearance
from imagefactory.model.settlement import MOST_IMAGES, DisplayLook, Settlement

IDS = [f"6a3c2f0e-1b5d-4f6a-9a2e-{number:012d}" for number in range(4)]
SHOWN = {"name": "Debian 12", "hidden": False, "deactivated": False, "replacement": None}
HIDDEN = {"name": "Debian 12 20261121.1", "hidden": True, "deactivated": False, "replacement": "soe@20261122.1"}


def image(number: int, look: dict[str, Any], **changes: object) -> dict[str, Any]:
    return {
        "image_id": IDS[number],
        "manifest_sha256": "0" * 64,
        "release": f"soe@2026112{number}.1",
        "look": look,
        "visibility": "private",
        "protected": False,
        "delete": False,
        **changes,
    }


def request(*images: dict[str, Any], **changes: object) -> dict[str, Any]:
    return {"cloud": "mine", "owner": None, "name": "soe", "images": list(images), **changes}


def test_who_is_shown_is_apart_from_the_others_who_keep_their_order() -> None:
    order = Settlement.model_validate(request(image(2, HIDDEN), image(0, SHOWN), image(1, HIDDEN)))
    assert order.holder is not None
    assert (order.holder.image_id, [each.image_id for each in order.others]) == (IDS[0], [IDS[2], IDS[1]])
    assert order.holder.look.appearance == Appearance("Debian 12")
    assert order.others[0].look.appearance == Appearance("Debian 12 20261121.1", True, "soe@20261122.1")


def test_nobody_has_to_be_shown() -> None:
    assert Settlement.model_validate(request()).holder is None


@pytest.mark.parametrize(
    "document",
    [
        request(image(0, SHOWN), image(1, SHOWN)),
        request(image(0, HIDDEN), image(0, HIDDEN)),
        request(image(0, SHOWN, delete=True)),
        request(image(0, {**SHOWN, "deactivated": True})),
        request(image(0, {**SHOWN, "replacement": "soe@20261122.1"})),
        request(image(0, HIDDEN), name="other"),
        request(image(0, HIDDEN), name="Soe/.."),
        request(image(0, HIDDEN), cloud="../mine"),
        request(image(0, HIDDEN), owner="somebody"),
        request(image(0, HIDDEN, image_id=IDS[0].upper())),
        request(image(0, HIDDEN, manifest_sha256="0" * 63)),
        request(image(0, HIDDEN, release="soe")),
        request(image(0, HIDDEN, release="soe@1")),
        request(image(0, HIDDEN, visibility="everybody")),
        request(image(0, HIDDEN, protected="yes")),
        request(image(0, {**HIDDEN, "name": ""})),
        request(image(0, {**HIDDEN, "name": "x" * 256})),
        request(image(0, {**HIDDEN, "name": "a\x1b[2J"})),
        request(image(0, {**HIDDEN, "hidden": 1})),
        request(image(0, HIDDEN), surprise=True),
        request(*[image(0, HIDDEN)] * (MOST_IMAGES + 1)),
    ],
)
def test_what_makes_no_sense(document: dict[str, Any]) -> None:
    with pytest.raises(ValidationError):
        Settlement.model_validate(document)
    with pytest.raises(RequestInvalid):
        settle_images({**document, "action": "settle"}, lambda *_: None)


json_values = st.recursive(
    st.none() | st.booleans() | st.integers() | st.text(max_size=20),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=9), inner, max_size=3),
    max_leaves=9,
)


@given(
    st.dictionaries(st.sampled_from(["cloud", "owner", "name", "images"]), json_values),
    st.dictionaries(st.sampled_from(sorted(image(0, HIDDEN))), json_values),
    st.dictionaries(st.sampled_from(sorted(HIDDEN)), json_values),
)
def test_whatever_is_asked_fits_together_or_is_refused(
    whole: dict[str, Any], part: dict[str, Any], look: dict[str, Any]
) -> None:
    try:
        order = Settlement.model_validate({**request({**image(0, {**HIDDEN, **look}), **part}), **whole})
    except ValidationError:
        return
    for each in order.images:
        assert each.release.startswith(f"{order.name}@")
        assert each.look.hidden or not (each.delete or each.look.deactivated or each.look.replacement)


def test_what_is_published_is_shown_or_coming_or_neither() -> None:
    kinds = [(hidden, coming) for hidden in (True, False) for coming in (True, False)]
    read = {}
    for hidden, coming in kinds:
        document = {"name": "Debian 12", "hidden": hidden, "coming": coming}
        if coming and not hidden:
            with pytest.raises(ValidationError, match="not coming any more"):
                DisplayLook.model_validate(document)
        else:
            read[hidden, coming] = DisplayLook.model_validate(document)
    assert all((look.hidden, look.coming) == kind for kind, look in read.items())
    with pytest.raises(ValidationError):
        DisplayLook.model_validate({"name": "Debian 12", "hidden": True})
