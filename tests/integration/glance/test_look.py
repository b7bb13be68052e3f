"""Under which name an image is published to a real Glance, and who finds it there."""

from collections.abc import Callable
from dataclasses import replace
from uuid import uuid4

import pytest

from imagefactory.errors import CloudForbidden, DuplicateName, FactoryError, ImageNotActive, ImageReplaced
from imagefactory.model.glance import (
    MANIFEST_PROPERTY,
    RELEASE_PROPERTY,
    REPLACEMENT_PROPERTY,
    Audience,
    creation,
    versioned_name,
)
from imagefactory.steps import glance_reveal
from imagefactory.tools.openstack.glance import Glance
from imagefactory.tools.openstack.session import Cloud
from tests.fakes.faults import Fault, Status
from tests.fakes.proxy import FaultProxy
from tests.integration.glance.conftest import IMAGE_NAME, QUICK, Shop

Network = Callable[..., FaultProxy]


def versioned(shop: Shop) -> str:
    return versioned_name(IMAGE_NAME, str(shop.signed.manifest.version))


def stranger(cloud: str = "demo", *, hidden: bool = False) -> str:
    """Somebody's image with our display name; the fixture `shop` removes it."""
    glance = Glance(Cloud(cloud, QUICK))
    made = glance.create(creation(str(uuid4()), IMAGE_NAME, "raw", {}, ()))
    if not hidden:
        glance.update(made.id, [{"op": "replace", "path": "/os_hidden", "value": False}])
    return made.id


def patches(proxy: FaultProxy) -> list[int | None]:
    return [each.status for each in proxy.exchanges if each.method == "PATCH"]


def test_the_display_name_comes_with_everything_else_in_one_request(shop: Shop, network: Network) -> None:
    proxy = network()
    audience = Audience("community", tags=("soe",), protected=True)
    made = shop.publish(shop.order(audience=audience))
    image = shop.only_image()
    assert (made.name, image.name, image.hidden, image.visibility) == (IMAGE_NAME, IMAGE_NAME, False, "community")
    assert (image.tags, image.protected, patches(proxy)) == (("soe",), True, [200])


def test_before_it_is_shown_it_has_not_the_name(shop: Shop, network: Network) -> None:
    network(Fault("PATCH", "/images/", Status(403)))
    with pytest.raises(CloudForbidden):
        shop.publish(shop.order())
    image = shop.only_image()
    assert (image.status, image.name, image.hidden, image.visibility) == ("active", versioned(shop), True, "private")
    shop.publish(shop.order(image.id))
    assert (shop.only_image().name, shop.only_image().hidden) == (IMAGE_NAME, False)


def test_one_that_is_not_to_have_the_name_is_complete_and_hidden(shop: Shop, network: Network) -> None:
    order = replace(shop.order(audience=Audience("community", tags=("soe",))), hidden=True)
    made = shop.publish(order)
    image = shop.only_image()
    assert (made.name, image.name, image.hidden, image.status) == (versioned(shop), versioned(shop), True, "active")
    assert (image.visibility, image.tags) == ("community", ("soe",)), "who knows its id may try it"
    proxy = network()
    assert not shop.publish(order).uploaded
    assert (shop.only_image(), patches(proxy)) == (image, [])


def test_one_that_was_hidden_is_shown_by_publishing_it_so(shop: Shop) -> None:
    made = shop.publish(replace(shop.order(), hidden=True))
    glance = Glance(Cloud("demo", QUICK))
    glance.update(made.id, [{"op": "add", "path": f"/{REPLACEMENT_PROPERTY}", "value": "fake@20990101.1"}])
    shop.publish(replace(shop.order(made.id), hidden=True))
    assert shop.only_image().properties[REPLACEMENT_PROPERTY] == "fake@20990101.1"
    assert not shop.publish(shop.order(made.id)).uploaded
    image = shop.only_image()
    assert (image.name, image.hidden, REPLACEMENT_PROPERTY in image.properties) == (IMAGE_NAME, False, False)


def test_one_that_is_shown_is_not_hidden_by_publishing_it_again(shop: Shop, network: Network) -> None:
    made = shop.publish(shop.order())
    proxy = network()
    shop.publish(shop.order(made.id))
    again = shop.publish(replace(shop.order(made.id, audience=Audience(tags=("new",))), hidden=True))
    image = shop.only_image()
    assert (again.name, image.name, image.hidden, image.tags) == (IMAGE_NAME, IMAGE_NAME, False, ("new",))
    assert patches(proxy) == [200]


def test_an_image_with_another_name_gets_the_right_one(shop: Shop) -> None:
    made = shop.publish(shop.order())
    Glance(Cloud("demo", QUICK)).update(made.id, [{"op": "replace", "path": "/name", "value": "renamed"}])
    shop.publish(shop.order(made.id))
    assert (shop.only_image().name, shop.only_image().hidden) == (IMAGE_NAME, False)


def test_what_was_replaced_while_it_was_shown_loses_the_name(shop: Shop, monkeypatch: pytest.MonkeyPatch) -> None:
    def replaced(*_: object) -> tuple[str, ...]:
        raise ImageReplaced("not what was signed")

    monkeypatch.setattr(glance_reveal, "require", replaced)
    with pytest.raises(ImageReplaced):
        shop.publish(shop.order())
    assert (shop.only_image().name, shop.only_image().hidden) == (versioned(shop), True)


def test_a_name_that_somebody_else_uses_is_not_taken(shop: Shop) -> None:
    theirs = stranger()
    before = Glance(Cloud("demo", QUICK)).show(theirs)
    with pytest.raises(DuplicateName, match=theirs):
        shop.publish(shop.order())
    assert shop.images() == [], "said before anything is uploaded"
    with pytest.raises(DuplicateName, match=theirs):
        shop.publish(replace(shop.order(), hidden=True, coming=True))
    assert shop.images() == [], "it could never be shown"
    assert Glance(Cloud("demo", QUICK)).show(theirs) == before
    shop.publish(replace(shop.order(), hidden=True))
    assert shop.only_image().hidden


def test_whoever_has_the_name_keeps_it_though_somebody_else_takes_it_too(shop: Shop) -> None:
    made = shop.publish(shop.order())
    stranger()
    assert not shop.publish(shop.order(made.id)).uploaded


def test_names_that_are_in_nobodys_way(shop: Shop) -> None:
    stranger(hidden=True)
    stranger("demo-tenant")
    said = {RELEASE_PROPERTY: f"{shop.signed.manifest.name}@20200101.1", MANIFEST_PROPERTY: "0" * 64}
    glance = Glance(Cloud("demo", QUICK))
    predecessor = glance.create(creation(str(uuid4()), IMAGE_NAME, "raw", said, ()))
    glance.update(predecessor.id, [{"op": "replace", "path": "/os_hidden", "value": False}])
    shop.publish(shop.order())
    assert not shop.only_image().hidden


@pytest.mark.parametrize("known", [True, False], ids=["recorded", "found"])
@pytest.mark.parametrize("hidden", [True, False])
def test_an_obsolete_image_is_not_offered_again_beside_itself(shop: Shop, known: bool, hidden: bool) -> None:
    made = shop.publish(replace(shop.order(), hidden=hidden))
    Glance(Cloud("demo", QUICK)).deactivate(made.id)
    before = shop.only_image()
    with pytest.raises(FactoryError) as refused:
        shop.publish(shop.order(made.id if known else None))
    assert isinstance(refused.value, ImageNotActive)
    assert "restore" in refused.value.advice
    assert shop.only_image() == before
