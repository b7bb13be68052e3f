"""What `releases show` says of images is what they are called now."""

from collections.abc import Iterator
from pathlib import Path

import pytest

from imagefactory.cli.releases import describe, names_now
from imagefactory.model.build import PublicationState
from imagefactory.model.lifecycle import Held
from imagefactory.model.release import ReleaseRef
from imagefactory.store.records import Records, release_version
from imagefactory.store.tables import Release
from tests.fakes.places import DISPLAY, Shop

A, B = "glance:a", "glance:b"


@pytest.fixture
def shop(tmp_path: Path) -> Iterator[Shop]:
    records = Records(tmp_path / "db")
    yield Shop(tmp_path, records)
    records.close()


def published(shop: Shop, *targets: str) -> Release:
    """A release that every place called by the display name when it came there."""
    made = shop.release(*targets)
    for each in shop.records.release(ref(made)).publications:
        details = {**each.details, "name": DISPLAY, "sha512": "0" * 128}
        shop.records.move_publication(each, PublicationState.INTENDED)
        shop.records.describe_publication(each, each.image_id, details)
        shop.records.move_publication(each, PublicationState.PUBLISHED)
    return made


def ref(release: Release) -> ReleaseRef:
    return ReleaseRef(release.name, release_version(release))


def called(shop: Shop, release: Release) -> dict[str, str]:
    """What is said of a release, by place."""
    found = describe(shop.records.release(ref(release)), names_now(shop.ledger, {release.name}))
    return {each["target"]: each["image"]["name"] for each in found["publications"]}


def test_an_image_is_called_as_it_is_now_in_each_place(shop: Shop) -> None:
    old = published(shop, A, B)
    assert called(shop, old) == {A: DISPLAY, B: DISPLAY}
    new = published(shop, A)
    assert called(shop, new) == {A: DISPLAY}
    assert called(shop, old) == {A: f"{DISPLAY} {release_version(old)}", B: DISPLAY}
    shop.ledger.hold(new, Held.ROLLED_BACK, "broken", "ana", "rollback")
    assert called(shop, old) == {A: DISPLAY, B: DISPLAY}
    assert called(shop, new) == {A: f"{DISPLAY} {release_version(new)}"}


def test_what_was_never_uploaded_has_no_name(shop: Shop) -> None:
    made = shop.release()
    shop.records.intend(made, A, "00000000-0000-4000-8000-000000000001")
    (there,) = describe(shop.records.release(ref(made)), names_now(shop.ledger, {"soe"}))["publications"]
    assert "name" not in there["image"]
