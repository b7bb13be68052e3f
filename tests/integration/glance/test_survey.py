"""What a survey of a real Glance finds: everything of ours, however it is hidden, and nothing else."""

from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from pathlib import Path
from uuid import uuid4

import pytest

from imagefactory.errors import ClockOff, CloudForbidden
from imagefactory.model.glance import RELEASE_PROPERTY, Audience, creation
from imagefactory.model.survey import Survey, duplicates, intruders, missing, strays
from imagefactory.steps.glance_publish import CloudImage
from imagefactory.steps.glance_survey import survey
from imagefactory.tools.hand import call_publisher
from imagefactory.tools.openstack import listing
from imagefactory.tools.openstack.glance import Glance
from imagefactory.tools.openstack.session import Cloud
from tests.fakes.faults import CutDownload, DeadKeepAlive, Fault, LoseAnswer, Status
from tests.fakes.proxy import FaultProxy
from tests.integration.glance.conftest import IMAGE_NAME, QUICK, Shop


@pytest.fixture
def image(shop: Shop) -> CloudImage:
    return shop.publish(shop.order())


@pytest.fixture
def glance(shop: Shop) -> Glance:
    del shop  # it names the clouds
    return Glance(Cloud("demo", QUICK))


def look(owner: str | None = None, cloud: str = "demo", *, members: bool = False) -> Survey:
    return survey(Cloud(cloud, QUICK), owner, (IMAGE_NAME,), members=members)


def replacing(key: str, value: object) -> dict[str, object]:
    return {"op": "replace", "path": f"/{key}", "value": value}


def queued(glance: Glance, properties: dict[str, str], name: str = IMAGE_NAME) -> str:
    """An image without data, hidden."""
    return glance.create(creation(str(uuid4()), name, "qcow2", properties, ())).id


def test_everything_of_ours(shop: Shop, image: CloudImage, glance: Glance) -> None:
    manifest = shop.signed.manifest
    release = f"{manifest.name}@{manifest.version}"
    begun = queued(glance, {RELEASE_PROPERTY: release}, "Fake 1")
    glance.deactivate(image.id)
    found = look()
    assert {each.id for each in found.images} == {image.id, begun}
    (published,) = (each for each in found.images if each.id == image.id)
    assert (published.status, published.hidden, published.release) == ("deactivated", False, release)
    assert (published.manifest_sha256, published.size) == (shop.signed.sha256, manifest.formats["qcow2"].size)
    assert published.hash_value == manifest.formats["qcow2"].sha512
    assert len(published.signature) == 4
    assert (strays(found, {image.id})[0].id, missing(found, {image.id, "x"})) == (begun, ("x",))
    assert intruders(found, IMAGE_NAME) == ()
    assert found.server_time is not None
    assert abs(found.server_time - datetime.now(UTC)) < timedelta(minutes=1)
    glance.delete(begun)


@pytest.mark.parametrize("visibility", ["shared", "community", "public"])
def test_whoever_sees_it(shop: Shop, visibility: str) -> None:
    made = shop.publish(shop.order(audience=Audience(visibility=visibility)))  # type: ignore[arg-type]
    assert [each.visibility for each in look().images if each.id == made.id] == [visibility]


def test_members_are_told_when_asked_for(shop: Shop) -> None:
    """Although nobody has accepted the image."""
    tenant = shop.cloud.project_id("tenant")
    shared = shop.publish(shop.order(audience=Audience("shared", members=(tenant,))))
    assert [each.members for each in look().images if each.id == shared.id] == [None]
    assert [each.members for each in look(members=True).images if each.id == shared.id] == [(tenant,)]


def test_an_image_that_has_the_name_and_is_not_ours(image: CloudImage, glance: Glance) -> None:
    theirs, hidden = queued(glance, {}), queued(glance, {})
    other = queued(glance, {}, "Something else")
    glance.update(theirs, [replacing("os_hidden", False)])
    glance.update(other, [replacing("os_hidden", False)])
    found = look()
    assert [each.id for each in intruders(found, IMAGE_NAME)] == [theirs]
    assert (image.id in {each.id for each in found.images}, len(found.others)) == (True, 1)
    for each in (theirs, hidden, other):
        glance.delete(each)


def test_duplicates_of_one_manifest(shop: Shop, image: CloudImage, glance: Glance) -> None:
    kept = glance.show(image.id)
    assert kept is not None
    second = queued(glance, dict(kept.properties))
    assert {each.id for each in duplicates(look())[0]} == {image.id, second}
    glance.delete(second)
    assert duplicates(look()) == ()
    assert shop.only_image().id == image.id


def test_many_pages(image: CloudImage, glance: Glance, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(listing, "PAGE", 2)
    more = {queued(glance, {RELEASE_PROPERTY: f"fake@20260101.{number}"}) for number in range(1, 6)}
    assert {each.id for each in look().images} == {image.id, *more}
    for each in more:
        glance.delete(each)


def test_another_project(shop: Shop, image: CloudImage) -> None:
    """An administrator sees all of it. Anybody else would see what is public, and take the rest for gone."""
    soe = shop.cloud.project_id("soe")
    assert image.id in {each.id for each in look(soe, "demo-admin").images}
    assert look(cloud="demo-tenant").images == ()
    with pytest.raises(CloudForbidden, match="role admin"):
        look(soe, "demo-tenant")


@pytest.mark.usefixtures("image")
@pytest.mark.parametrize("hours", [-1, 1])
def test_a_clock_that_is_off(hours: int) -> None:
    wrong = datetime.now(UTC) + timedelta(hours=hours)
    with pytest.raises(ClockOff) as refused:
        survey(Cloud("demo", QUICK), clock=lambda: wrong)
    assert refused.value.code == "clock-off"
    assert refused.value.message.count(" UTC") == 2


def test_by_the_publisher(shop: Shop, image: CloudImage, tmp_path: Path) -> None:
    """As the factory asks for it."""
    said: list[int] = []
    answer = call_publisher(
        {"action": "survey", "cloud": "demo", "owner": None},
        environment={"OS_CLIENT_CONFIG_FILE": str(shop.cloud.clouds_yaml), "NO_PROXY": "*"},
        log=tmp_path / "log",
        on_advance=lambda _text, done=0, _total=0: said.append(done),
    )
    assert [each.id for each in Survey.from_document(answer).images] == [image.id]
    assert said[-1] == 1


def test_a_bad_network(shop: Shop, image: CloudImage, network: Callable[..., FaultProxy]) -> None:
    proxy = network(
        Fault("GET", r"/images\?", CutDownload(300)),
        Fault("GET", r"/images\?", LoseAnswer()),
        Fault("GET", r"/images\?", Status(503)),
        Fault("GET", r"/images\?", DeadKeepAlive()),
    )
    assert [each.id for each in look().images] == [image.id]
    assert proxy.unused == []
    assert shop.only_image().id == image.id
