"""Drift: what a patch says of an image as it is, what can be helped, and what became of it."""

from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from pydantic import ValidationError

from imagefactory.model.drift import (
    PUBLISH_AGAIN,
    REPLACED,
    Audit,
    Drift,
    after_repair,
    drifts_of,
    hopeless,
    status_drift,
)
from imagefactory.model.glance import Appearance, Audience, repairs, revealing
from tests.unit.test_glance_image import ID, image

REQUEST: dict[str, Any] = {
    "cloud": "demo",
    "owner": None,
    "trust": "/trust.json",
    "images": [
        {
            "image_id": ID,
            "release": "debian-12@20261101.1",
            "manifest": "/manifest",
            "look": {"name": "Debian 12", "hidden": False, "deactivated": False, "replacement": None},
            "target": {"cloud": "demo"},
        }
    ],
}
found = st.builds(Drift, st.sampled_from("abcdef"), st.none(), st.text(max_size=3), st.booleans())
drifts = st.lists(found, max_size=6, unique_by=lambda each: each.what)


def test_what_a_patch_says() -> None:
    drifted = image(os_distro="windows", min_ram=1, kernel_id="x", tags=["a"], protected=True)
    properties = repairs(drifted, {"os_distro": "debian", "min_ram": "512", "os_version": "12"})
    looks = revealing(drifted, Audience("public", tags=("b", "a")), Appearance("Debian 12", hidden=True))
    assert drifts_of(drifted, [*properties, *looks]) == (
        Drift("os_distro", "debian", "windows", fixable=True),
        Drift("min_ram", "512", "1", fixable=True),
        Drift("os_version", "12", None, fixable=True),
        Drift("kernel_id", None, "x", fixable=True),
        Drift("visibility", "public", "private", fixable=True),
        Drift("protected", "false", "true", fixable=True),
        Drift("tags", "a, b", "a", fixable=True),
        Drift("os_hidden", "true", "false", fixable=True),
    )
    assert drifts_of(drifted, []) == ()


@pytest.mark.parametrize(
    ("status", "deactivated", "expected"),
    [
        ("active", False, None),
        ("deactivated", True, None),
        ("active", True, (True, "")),
        ("deactivated", False, (True, "")),
        ("queued", False, (False, PUBLISH_AGAIN)),
        ("pending_delete", True, (False, PUBLISH_AGAIN)),
    ],
)
def test_status(status: str, deactivated: bool, expected: tuple[bool, str] | None) -> None:
    told = [(each.fixable, each.advice) for each in status_drift(image(status=status), deactivated)]
    assert told == ([] if expected is None else [expected])


@given(drifts)
def test_nothing_of_an_image_with_other_data_is_put_right(given_drifts: list[Drift]) -> None:
    assert all(not each.fixable and each.advice == REPLACED for each in hopeless(given_drifts))


@given(drifts, drifts)
def test_what_became_of_it(before: list[Drift], after: list[Drift]) -> None:
    told = after_repair(before, after)
    left = {each.what for each in after}
    assert {each.what for each in told if not each.fixed} == left
    assert {each.what for each in told} == left | {each.what for each in before}
    assert all(each.advice for each in told if each.what in {one.what for one in before} and each.fixable
               and not each.fixed)  # fmt: skip


def test_a_request() -> None:
    read = Audit.model_validate(REQUEST)
    assert (read.deep, read.fix, read.images[0].look.appearance) == (False, False, Appearance("Debian 12"))


@pytest.mark.parametrize(
    "changes",
    [
        {"cloud": "../x"},
        {"trust": ""},
        {"images": REQUEST["images"] * 2},
        {"images": [{**REQUEST["images"][0], "image_id": "x"}]},
        {"images": [{**REQUEST["images"][0], "release": "debian-12"}]},
        {"images": [{**REQUEST["images"][0], "manifest": "x" * 5000}]},
        {"images": [{**REQUEST["images"][0], "extra": 1}]},
    ],
)
def test_what_is_no_request(changes: dict[str, Any]) -> None:
    with pytest.raises(ValidationError):
        Audit.model_validate({**REQUEST, **changes})
