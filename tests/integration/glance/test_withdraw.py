"""Taking an image back from a real cloud, because the key that signed its release is revoked."""

import shutil
from collections.abc import Iterator
from pathlib import Path

import pytest

from imagefactory.hands.publisher import withdraw_image
from imagefactory.model.glance import MANIFEST_PROPERTY
from imagefactory.tools.openstack.glance import Glance
from imagefactory.tools.openstack.session import Cloud
from signing.errors import SigningError
from signing.keys import KeyRing
from tests.integration.glance.conftest import QUICK, Desk, Shop


@pytest.fixture
def keys_as_before(shop: Shop, tmp_path: Path) -> Iterator[None]:
    """Keys and trust of the host, which other tests use too, are those of before afterwards."""
    home = shop.host.home
    shutil.copytree(home / "keys", tmp_path / "keys")
    shutil.copy2(home / "trust.json", tmp_path / "trust.json")
    yield
    shutil.rmtree(home / "keys")
    shutil.copytree(tmp_path / "keys", home / "keys")
    shutil.copy2(tmp_path / "trust.json", home / "trust.json")


def status_of(image_id: str) -> str:
    """What Glance says of an image; the release of which does not verify any more."""
    found = Glance(Cloud("demo-admin", QUICK)).show(image_id)
    assert found is not None
    return found.status


@pytest.mark.usefixtures("keys_as_before")
def test_the_image_of_a_revoked_key_is_deactivated(desk: Desk) -> None:
    ref = desk.release
    desk.json("publish", ref, "--to", "glance:demo")
    image = desk.shop.only_image()
    old = KeyRing(desk.shop.host.home / "keys").keyid("release")
    desk.json("keys", "rotate", "release")
    said = desk.json("keys", "revoke", old[:16])
    assert said["releases"] == [{"release": ref, "published": ["glance:demo"]}]
    assert status_of(image.id) == "active", "only said"

    done = desk.json("keys", "revoke", old[:16], "--withdraw")
    assert done["withdrawn"] == [f"glance:demo: {ref}"]
    assert status_of(image.id) == "deactivated"
    (publication,) = desk.json("releases", "show", ref)["publications"]
    assert publication["state"] == "withdrawn"
    with pytest.raises(SigningError, match="not trusted"):
        _ = desk.shop.signed
    again = desk.json("keys", "revoke", old[:16], "--withdraw")
    assert (again["withdrawn"], again["releases"][0]["published"]) == ([], [])


def test_only_an_image_of_that_release_and_as_often_as_one_likes(desk: Desk) -> None:
    desk.json("publish", desk.release, "--to", "glance:demo")
    image = desk.shop.only_image()
    request = {"cloud": "demo", "image_id": image.id, "manifest_sha256": image.properties[MANIFEST_PROPERTY]}
    with pytest.raises(Exception, match="not of the release to be withdrawn"):
        withdraw_image({**request, "manifest_sha256": "0" * 64}, lambda *_: None)
    assert desk.shop.only_image().status == "active"
    for _ in range(2):
        assert withdraw_image(request, lambda *_: None) == {"there": True}
        assert desk.shop.only_image().status == "deactivated"
    Glance(Cloud("demo-admin", QUICK)).delete(image.id)
    assert withdraw_image(request, lambda *_: None) == {"there": False}
