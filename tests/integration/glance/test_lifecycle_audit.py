"""`lifecycle audit` and a real cloud: what people do to published images is told, and put right if that is wanted."""

from uuid import uuid4

from imagefactory.model.glance import RELEASE_PROPERTY, creation
from imagefactory.tools.audit_log import AuditLog
from imagefactory.tools.openstack.glance import Glance
from imagefactory.tools.openstack.session import Cloud
from tests.integration.glance.conftest import IMAGE_NAME, QUICK, Desk
from tests.integration.glance.test_verify import change, removing, setting

AUDIT = ("lifecycle", "audit")


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
