"""`lifecycle audit` and a real cloud: what people do to published images is told, and put right if that is wanted."""

import json
from dataclasses import replace
from datetime import datetime
from hashlib import sha512
from uuid import uuid4

from imagefactory.model.glance import RELEASE_PROPERTY, GlanceImage, creation
from imagefactory.model.strays import WAIT, Retirement
from imagefactory.steps.glance_retire import Retirer
from imagefactory.tools.audit_log import AuditLog
from imagefactory.tools.openstack.glance import Glance
from imagefactory.tools.openstack.session import Cloud
from imagefactory.tools.strays import FILE
from tests.integration.glance.conftest import IMAGE_NAME, QUICK, Desk
from tests.integration.glance.test_verify import adding, change, removing, setting

AUDIT = ("lifecycle", "audit")
DATA = b"data"
DATA_SHA512 = sha512(DATA).hexdigest()


def test_drift_is_told_and_mended_and_strays_are_left_alone(desk: Desk) -> None:
    desk.json("publish", desk.release, "--to", "glance:demo")
    (clean,) = desk.json(*AUDIT)["places"]
    assert (clean["drifted"], len(clean["images"]), clean["images"][0]["drift"]) == (False, 1, [])
    image = desk.shop.only_image()
    change(image, removing("os_distro"), setting("name", "Other"))  # type: ignore[arg-type]
    glance = Glance(Cloud("demo", QUICK))
    said = {RELEASE_PROPERTY: desk.release}
    stray = glance.create(creation(str(uuid4()), IMAGE_NAME, "qcow2", said, ()))
    copy = {**said, "image_type": "snapshot", "base_image_ref": image.id}
    snapshot = glance.create(creation(str(uuid4()), IMAGE_NAME, "qcow2", copy, ()))
    (found,) = desk.json(*AUDIT, status=1)["places"]
    assert sorted(each["what"] for each in found["images"][0]["drift"]) == ["name", "os_distro"]
    assert [(each["image_id"], each["seen_before"]) for each in found["strays"]] == [(stray.id, False)]
    (fixed,) = desk.json(*AUDIT, "--fix", status=1)["places"]
    assert all(each["fixed"] for each in fixed["images"][0]["drift"])
    assert [(each["image_id"], each["seen_before"]) for each in fixed["strays"]] == [(stray.id, True)]
    log = AuditLog(desk.shop.host.home / "audit.log").entries()
    assert sorted(each.details["what"] for each in log if each.event == "mended") == ["name", "os_distro"]
    assert glance.show(stray.id) == stray
    assert glance.show(snapshot.id) == snapshot
    glance.delete(stray.id)
    assert desk.run(*AUDIT, "--deep")[0] == 0


def test_what_is_gone_and_who_cannot_be_asked(desk: Desk) -> None:
    desk.json("publish", desk.release, "--to", "glance:demo")
    Glance(Cloud("demo", QUICK)).delete(desk.shop.only_image().id)
    code, out, err = desk.run(*AUDIT, "--in", "demo")
    assert code == 1
    assert "not there" in out
    assert "[drift-found]" in err
    assert desk.json(*AUDIT, "--in", "elsewhere", status=2)["error"]["code"] == "usage"


def test_strays_are_retired_when_they_were_there_a_day_ago(desk: Desk) -> None:
    desk.json("publish", desk.release, "--to", "glance:demo")
    glance = Glance(Cloud("demo", QUICK))
    said = {RELEASE_PROPERTY: desk.release}
    stray, wanted, copied = (strange(glance, said) for _ in range(3))
    shown = [setting("os_hidden", False)]
    for image in (stray, wanted, copied):
        glance.update(image.id, shown)
    glance.update(wanted.id, [setting("protected", True)])
    (young,) = desk.json(*AUDIT, "--retire-strays", status=1)["places"]
    assert {each["image_id"] for each in young["strays"]} == {stray.id, wanted.id, copied.id}
    assert not any(each["done"] for each in young["strays"])
    a_day_passes(desk)
    glance.update(copied.id, [adding("image_type", "snapshot")])
    (found,) = desk.json(*AUDIT, "--retire-strays", status=1)["places"]
    assert {each["image_id"]: each["done"] for each in found["strays"]} == {
        stray.id: ["hidden", "deactivated"],
        wanted.id: [],
    }
    after = glance.show(stray.id)
    assert after is not None
    assert (after.hidden, after.status, after.name, after.hash_value) == (
        True,
        "deactivated",
        stray.name,
        DATA_SHA512,
    )
    assert dict(after.properties).items() >= said.items()
    for image in (wanted, copied):
        left = glance.show(image.id)
        assert left is not None
        assert (left.hidden, left.status) == (False, "active")
    assert desk.shop.only_image().status == "active"
    log = AuditLog(desk.shop.host.home / "audit.log").entries()
    assert [each.details["image"] for each in log if each.event == "stray-retired"] == [stray.id]
    glance.update(wanted.id, [setting("protected", False)])
    glance.delete(wanted.id)
    glance.delete(copied.id)
    (told,) = desk.json(*AUDIT)["places"]
    assert [(each["retired"], each["done"]) for each in told["strays"]] == [(True, [])], "out of the way, and told"
    glance.reactivate(stray.id)
    glance.update(stray.id, shown)
    assert glance.show(stray.id) == replace(stray, status="active", hidden=False, size=4, hash_value=DATA_SHA512)
    glance.delete(stray.id)


def test_a_stray_is_looked_at_again_before_it_is_touched(desk: Desk) -> None:
    cloud = Cloud("demo", QUICK)
    glance = Glance(cloud)
    said = {RELEASE_PROPERTY: desk.release}
    image, empty = strange(glance, said), glance.create(creation(str(uuid4()), IMAGE_NAME, "raw", said, ()))
    shared = strange(glance, said)
    glance.update(shared.id, [setting("visibility", "shared")])
    glance.share(shared.id, "f" * 32)
    ids = [*((each.id, desk.release) for each in (empty, shared)), (image.id, "soe@20200101.1"), (str(uuid4()), "x")]
    images = [{"image_id": each, "release": release} for each, release in ids]
    order = Retirement.model_validate({"cloud": "demo", "owner": cloud.project, "images": images})
    told = Retirer(cloud, lambda _: None).retire(order)
    assert [each.code for each in told] == [
        "image-not-active",
        "image-protected",
        "image-of-another-release",
        "image-unknown",
    ]
    theirs = Retirement.model_validate({"cloud": "demo", "owner": "e" * 32, "images": images[:1]})
    assert [each.code for each in Retirer(cloud, lambda _: None).retire(theirs)] == ["image-of-another-release"]
    for each in (image, empty, shared):
        left = glance.show(each.id)
        assert left is not None
        assert left.status == ("queued" if each is empty else "active")
        glance.delete(each.id)


def strange(glance: Glance, said: dict[str, str]) -> GlanceImage:
    """An image with data that says something and that nobody recorded."""
    made = glance.create(creation(str(uuid4()), IMAGE_NAME, "raw", said, ()))
    glance.upload(made.id, iter([DATA]))
    found = glance.show(made.id)
    assert found is not None
    return found


def a_day_passes(desk: Desk) -> None:
    """What audits saw until now, they saw a day earlier."""
    memory = desk.shop.host.home / "strays" / FILE
    seen = {
        project: {image: (datetime.fromisoformat(since) - WAIT).isoformat() for image, since in images.items()}
        for project, images in json.loads(memory.read_text()).items()
    }
    memory.write_text(json.dumps(seen))
