"""An audit against real servers: each way in which an image drifts is seen, and what is metadata is put right."""

from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any
from uuid import uuid4

import pytest

from imagefactory.errors import CertificateForeign, CloudUnreachable, RequestInvalid
from imagefactory.model.drift import Audit, Drift, Finding
from imagefactory.model.glance import (
    CERTIFICATE_PROPERTY,
    MANIFEST_PROPERTY,
    RELEASE_PROPERTY,
    REPLACEMENT_PROPERTY,
    SIGNATURE_PROPERTIES,
    Audience,
    creation,
)
from imagefactory.steps.glance_audit import Auditor
from imagefactory.steps.glance_publish import CloudImage
from imagefactory.tools.hand import call_publisher
from imagefactory.tools.openstack.barbican import Barbican
from imagefactory.tools.openstack.glance import Glance
from imagefactory.tools.openstack.session import Cloud
from signing.trust import load_trust
from tests.fakes.faults import Fault, Status
from tests.fakes.host import make_keys
from tests.fakes.proxy import FaultProxy
from tests.integration.glance.conftest import IMAGE_NAME, QUICK, Shop
from tests.integration.glance.test_verify import adding, change, flip, removing, setting


def nothing(text: str, done: int = 0, total: int = 0) -> None:
    """Whoever is told hears nothing."""
    del text, done, total


SHOWN = {"name": IMAGE_NAME, "hidden": False, "deactivated": False, "replacement": None}


@pytest.fixture
def image(shop: Shop) -> CloudImage:
    return shop.publish(shop.order())


def release(shop: Shop) -> str:
    manifest = shop.signed.manifest
    return f"{manifest.name}@{manifest.version}"


def request(shop: Shop, image_id: str, look: dict[str, Any] = SHOWN, **options: Any) -> dict[str, Any]:  # noqa: ANN401
    target = {"cloud": "demo", **options.pop("target", {})}
    images = [
        {
            "image_id": image_id,
            "release": release(shop),
            "manifest": str(shop.manifest),
            "look": look,
            "target": target,
        }
    ]
    return {
        "cloud": "demo",
        "owner": None,
        "trust": str(shop.host.home / "trust.json"),
        "images": images,
        **options,
    }


def audit(shop: Shop, image_id: str, look: dict[str, Any] = SHOWN, **options: Any) -> Finding:  # noqa: ANN401
    order = Audit.model_validate(request(shop, image_id, look, **options))
    auditor = Auditor(Cloud(order.cloud, QUICK), load_trust(Path(order.trust)), nothing)
    (finding,) = auditor.audit(order)
    return finding


def whats(finding: Finding) -> list[str]:
    return [each.what for each in finding.drift]


@pytest.mark.parametrize("deep", [False, True])
def test_what_was_published_has_not_drifted(shop: Shop, image: CloudImage, deep: bool) -> None:
    assert audit(shop, image.id, deep=deep, fix=True) == Finding(image.id, release(shop))


def drifts() -> Iterator[Any]:
    yield pytest.param([removing("img_signature")], ["img_signature"], id="incomplete")
    yield pytest.param([setting("img_signature", "AAAA")], ["img_signature"], id="another signature")
    yield pytest.param(
        [removing(key) for key in SIGNATURE_PROPERTIES], ["certificate", *SIGNATURE_PROPERTIES[:3]], id="no signature"
    )
    yield pytest.param([removing(CERTIFICATE_PROPERTY)], ["certificate"], id="no certificate named")
    yield pytest.param([setting(CERTIFICATE_PROPERTY, str(uuid4()))], ["certificate"], id="no such certificate")
    yield pytest.param([setting(CERTIFICATE_PROPERTY, "../x")], ["certificate"], id="a certificate that is a path")
    yield pytest.param([setting("os_distro", "windows")], ["os_distro"], id="property")
    yield pytest.param([removing("os_distro")], ["os_distro"], id="property removed")
    yield pytest.param([setting("min_ram", 1), setting("min_disk", 0)], ["min_disk", "min_ram"], id="numbers")
    yield pytest.param([adding("kernel_id", str(uuid4()))], ["kernel_id"], id="another kernel")
    yield pytest.param([adding("hw_cpu_policy", "shared")], ["hw_cpu_policy"], id="how to boot, not signed")
    yield pytest.param([setting(MANIFEST_PROPERTY, "0" * 64)], [MANIFEST_PROPERTY], id="another manifest")
    yield pytest.param([removing(RELEASE_PROPERTY)], [RELEASE_PROPERTY], id="no release")
    yield pytest.param([adding(REPLACEMENT_PROPERTY, "x@20260101.1")], [REPLACEMENT_PROPERTY], id="replacement")
    yield pytest.param([setting("name", "Other")], ["name"], id="name")
    yield pytest.param([setting("os_hidden", True)], ["os_hidden"], id="hidden")
    yield pytest.param([setting("visibility", "community")], ["visibility"], id="visibility")
    yield pytest.param([setting("tags", ["x"]), setting("protected", True)], ["protected", "tags"], id="kept otherwise")


@pytest.mark.parametrize(("operations", "expected"), list(drifts()))
def test_drift_is_seen_and_put_right(
    shop: Shop, image: CloudImage, operations: list[dict[str, object]], expected: list[str]
) -> None:
    change(image, *operations)
    found = audit(shop, image.id)
    assert sorted(whats(found)) == sorted(expected)
    assert all(each.fixable and not each.fixed and each.expected != each.found for each in found.drift)
    assert sorted(whats(audit(shop, image.id))) == sorted(expected), "looking changes nothing"
    fixed = audit(shop, image.id, fix=True)
    assert all(each.fixed for each in fixed.drift), fixed
    assert audit(shop, image.id, deep=True) == Finding(image.id, release(shop))


def test_a_certificate_of_somebody_else(shop: Shop, image: CloudImage, tmp_path: Path) -> None:
    theirs = (make_keys(tmp_path / "theirs") / "keys" / "glance.crt").read_text()
    change(image, setting(CERTIFICATE_PROPERTY, Barbican(Cloud("demo", QUICK)).keep(theirs, "theirs")))
    (drift,) = audit(shop, image.id, fix=True).drift
    assert (drift.what, drift.fixed) == ("certificate", True)
    assert CertificateForeign.code not in str(audit(shop, image.id))


def test_a_certificate_that_was_deleted_comes_back(shop: Shop, image: CloudImage) -> None:
    cloud = Cloud("demo", QUICK)
    cloud.request("key-manager", "DELETE", f"/secrets/{image.certificate}")
    assert whats(audit(shop, image.id)) == ["certificate"]
    (drift,) = audit(shop, image.id, fix=True).drift
    assert drift.fixed
    kept = Glance(cloud).show(image.id)
    assert kept is not None
    assert kept.properties[CERTIFICATE_PROPERTY] != image.certificate
    assert audit(shop, image.id, deep=True).drift == ()


def test_stages(shop: Shop, image: CloudImage) -> None:
    """Retired and brought back by nothing but an audit that was told how it should look."""
    look = {"name": "Fake 1", "hidden": True, "deactivated": True, "replacement": "fake@20991231.1"}
    assert whats(audit(shop, image.id, look)) == ["status", "name", "os_hidden", REPLACEMENT_PROPERTY]
    assert all(each.fixed for each in audit(shop, image.id, look, fix=True).drift)
    retired = shop.only_image()
    assert (retired.status, retired.hidden, retired.name) == ("deactivated", True, "Fake 1")
    deep = audit(shop, image.id, look, deep=True)
    assert (deep.drift, len(deep.notes)) == ((), 1)
    change(image, setting("os_distro", "windows"))
    assert all(each.fixed for each in audit(shop, image.id, fix=True).drift)
    assert (shop.only_image().status, shop.only_image().hidden) == ("active", False)


def test_members(shop: Shop) -> None:
    tenant = shop.cloud.project_id("tenant")
    made = shop.publish(shop.order(audience=Audience("shared", members=(tenant,))))
    target = {"visibility": "shared", "members": [tenant]}
    assert audit(shop, made.id, target=target).drift == ()
    glance = Glance(Cloud("demo", QUICK))
    glance.unshare(made.id, tenant)
    glance.share(made.id, shop.cloud.project_id("admin"))
    assert whats(audit(shop, made.id, target=target, fix=True)) == ["members"]
    assert glance.members(made.id) == [tenant]
    change(made, setting("visibility", "private"))
    assert all(each.fixed for each in audit(shop, made.id, target=target, fix=True).drift)
    assert (shop.only_image().visibility, glance.members(made.id)) == ("shared", [tenant])


# -- what is not put right ---------------------------------------------------------------------------------------------


def test_bytes_that_were_changed_in_the_store(shop: Shop, image: CloudImage) -> None:
    flip(shop.cloud.store / image.id, 5000)
    assert audit(shop, image.id).drift == ()
    change(image, setting("os_distro", "windows"))
    found = audit(shop, image.id, deep=True, fix=True)
    assert [(each.what, each.fixable, each.fixed) for each in found.drift] == [
        ("data", False, False),
        ("os_distro", False, False),
    ]
    assert shop.only_image().properties["os_distro"] == "windows"


def test_an_image_with_other_data(shop: Shop) -> None:
    """It has everything that the genuine one would say, and is not made to look more genuine."""
    genuine = shop.publish(shop.order())
    glance = Glance(Cloud("demo", QUICK))
    known = glance.show(genuine.id)
    assert known is not None
    said = {key: value for key, value in known.properties.items() if key not in SIGNATURE_PROPERTIES}
    forged = glance.create(creation(str(uuid4()), IMAGE_NAME, "qcow2", said, ()))
    glance.upload(forged.id, iter([b"QFI\xfb" + shop.file.read_bytes()[4:-1] + b"x"]))
    found = audit(shop, forged.id, fix=True)
    assert whats(found)[0] == "data"
    assert not any(each.fixable or each.fixed for each in found.drift)
    assert all(each.advice for each in found.drift)
    after = glance.show(forged.id)
    assert after is not None
    assert (after.hidden, CERTIFICATE_PROPERTY in after.properties) == (True, False)


def test_an_image_that_is_gone_or_has_no_data(shop: Shop) -> None:
    nowhere = str(uuid4())
    assert audit(shop, nowhere, fix=True).drift[0].what == "image"
    glance = Glance(Cloud("demo", QUICK))
    begun = glance.create(creation(nowhere, IMAGE_NAME, "qcow2", {}, ()))
    first, *_ = audit(shop, begun.id, deep=True).drift
    assert (first.what, first.expected, first.found, first.fixable) == ("status", "active", "queued", False)


def test_an_image_of_another_project(shop: Shop) -> None:
    made = shop.publish(shop.order(audience=Audience("public")))
    order = Audit.model_validate(request(shop, made.id, cloud="demo-tenant", fix=True))
    trust = load_trust(Path(order.trust))
    (finding,) = Auditor(Cloud("demo-tenant", QUICK), trust, nothing).audit(order)
    assert [(each.what, each.fixable) for each in finding.drift] == [("owner", False)]


def test_a_name_that_somebody_took_is_not_taken_back(shop: Shop, image: CloudImage) -> None:
    """Nobody guesses whose it is. What has nothing to do with it stays as it was, too."""
    change(image, setting("os_hidden", True))
    glance = Glance(Cloud("demo", QUICK))
    theirs = glance.create(creation(str(uuid4()), IMAGE_NAME, "qcow2", {}, ()))
    glance.update(theirs.id, [setting("os_hidden", False)])
    found = audit(shop, image.id, fix=True)
    assert (found.code, [each.fixed for each in found.drift]) == ("duplicate-name", [False])
    assert shop.only_image().hidden


def test_a_cloud_that_lets_nobody_change_it(shop: Shop, image: CloudImage, network: Callable[..., FaultProxy]) -> None:
    change(image, setting("os_distro", "windows"))
    network(Fault("PATCH", "/images/[^/]+$", Status(403), times=9))
    found = audit(shop, image.id, fix=True)
    assert (found.code, [(each.what, each.fixed) for each in found.drift]) == (
        "cloud-forbidden",
        [("os_distro", False)],
    )


def test_a_cloud_that_does_not_answer(shop: Shop, image: CloudImage, network: Callable[..., FaultProxy]) -> None:
    network(Fault("GET", "/images/[^/]+$", Status(500), times=99))
    with pytest.raises(CloudUnreachable):
        audit(shop, image.id, fix=True)


def test_a_cloud_without_barbican(shop: Shop, image: CloudImage) -> None:
    found = audit(shop, image.id, cloud="demo-plain", fix=True)
    assert whats(found) == list(SIGNATURE_PROPERTIES)
    assert not any(each.fixable for each in found.drift)
    assert len(found.notes) == 1
    assert audit(shop, image.id).drift == ()


# -- manifests and requests --------------------------------------------------------------------------------------------


def test_a_manifest_of_another_release(shop: Shop, image: CloudImage) -> None:
    wrong = request(shop, image.id)
    wrong["images"][0]["release"] = f"{shop.signed.manifest.name}@20200101.1"
    (finding,) = Auditor(Cloud("demo", QUICK), shop.expectation().keys, nothing).audit(Audit.model_validate(wrong))
    assert (finding.code, finding.drift) == ("image-of-another-release", ())


def test_a_manifest_that_is_not_signed_here(shop: Shop, image: CloudImage, tmp_path: Path) -> None:
    theirs = make_keys(tmp_path / "theirs") / "trust.json"
    assert audit(shop, image.id, trust=str(theirs)).code == "key-untrusted"


def test_a_release_that_has_expired_is_held_against_its_manifest(shop: Shop, image: CloudImage) -> None:
    expires = shop.signed.manifest.expires
    assert expires is not None
    order = Audit.model_validate(request(shop, image.id))
    trust = load_trust(Path(order.trust))
    (finding,) = Auditor(Cloud("demo", QUICK), trust, nothing, clock=lambda: expires).audit(order)
    assert (finding.drift, finding.code, len(finding.notes)) == ((), None, 1)


def test_by_the_publisher(shop: Shop, image: CloudImage, tmp_path: Path) -> None:
    change(image, setting("os_distro", "windows"))
    environment = {"OS_CLIENT_CONFIG_FILE": str(shop.cloud.clouds_yaml), "NO_PROXY": "*"}

    def ask(asked: dict[str, Any]) -> dict[str, Any]:
        return call_publisher(asked, environment=environment, log=tmp_path / "log", on_advance=nothing)

    (found,) = ask({"action": "audit", **request(shop, image.id, fix=True)})["images"]
    (drift,) = found["drift"]
    assert Drift(**drift) == Drift("os_distro", shop.signed.manifest.properties["os_distro"], "windows", True, "", True)
    with pytest.raises(RequestInvalid):
        ask({"action": "audit", **request(shop, "../x")})
