"""Publication to a real Glance: one image, signed, complete, and seen by nobody before it is."""

import logging
import time
from contextlib import nullcontext
from datetime import UTC, datetime, timedelta
from pathlib import Path
from uuid import uuid4

import pytest

from imagefactory.errors import (
    BarbicanFailed,
    CloudAuthFailed,
    CloudForbidden,
    CloudUnknown,
    CloudUnreachable,
    FactoryError,
    GlanceRefused,
    GlanceRefusedFormat,
    GlanceRefusedSignature,
    ImageIdBurnt,
    ImageNotActive,
)
from imagefactory.model.glance import CERTIFICATE_PROPERTY, MANIFEST_PROPERTY, NOT_BY_GLANCE, Audience, creation
from imagefactory.steps import glance_publish
from imagefactory.steps.glance_publish import CHUNK, CloudOrder, Publisher
from imagefactory.tools.openstack.barbican import Barbican
from imagefactory.tools.openstack.glance import Glance
from imagefactory.tools.openstack.session import Cloud
from signing.errors import DigestMismatch
from tests.integration.glance.conftest import QUICK, Shop


def test_a_signed_upload_becomes_active_and_private(shop: Shop) -> None:
    made = shop.publish(shop.order(deep=True))
    image = shop.only_image()
    assert (image.id, image.status, image.visibility, image.hidden) == (made.id, "active", "private", False)
    assert image.hash_value == shop.signed.manifest.formats["qcow2"].sha512 == made.sha512
    assert image.properties[CERTIFICATE_PROPERTY] == made.certificate
    for key, value in shop.signed.manifest.properties.items():
        assert image.value(key) == value
    assert made.facts == ("every byte was read back",)
    assert made.uploaded


def test_a_second_publication_changes_nothing(shop: Shop) -> None:
    order = shop.order()
    first = shop.publish(order)
    before = shop.only_image()
    again = shop.publish(order)
    assert (again.id, again.certificate, again.uploaded) == (first.id, first.certificate, False)
    assert shop.only_image() == before


def test_records_that_were_lost_do_not_make_a_second_image(shop: Shop) -> None:
    first = shop.publish(shop.order())
    assert shop.publish(shop.order()).id == first.id
    shop.only_image()


def test_the_certificate_is_kept_once(shop: Shop) -> None:
    entry = shop.signed.manifest.formats["qcow2"].glance
    barbican = Barbican(Cloud("demo", QUICK))
    first = barbican.keep(entry.certificate, entry.certificate_sha256)
    assert barbican.keep(entry.certificate, entry.certificate_sha256) == first
    assert barbican.fetch(first) == entry.certificate


def test_readers_of_the_certificate_are_added_and_never_removed(shop: Shop) -> None:
    made = shop.publish(shop.order())
    assert made.certificate
    with pytest.raises(FactoryError):
        Barbican(Cloud("demo-tenant", QUICK)).fetch(made.certificate)
    tenant, reader = shop.cloud.user_id("tenant"), shop.cloud.user_id("reader")
    shop.publish(shop.order(made.id, audience=Audience(certificate_readers=(tenant,))))
    shop.publish(shop.order(made.id, audience=Audience(certificate_readers=(reader,))))
    for user in ("demo-tenant", "demo-reader", "demo"):
        assert Barbican(Cloud(user, QUICK)).fetch(made.certificate)


# -- who sees it -------------------------------------------------------------------------------------------------------


def test_who_is_no_member_any_more_sees_it_no_more(shop: Shop) -> None:
    tenant, admin = shop.cloud.project_id("tenant"), shop.cloud.project_id("admin")
    made = shop.publish(shop.order(audience=Audience("shared", members=(tenant, admin))))
    shop.publish(shop.order(made.id, audience=Audience("shared", members=(admin,))))
    assert Glance(Cloud("demo", QUICK)).members(made.id) == [admin]
    assert Glance(Cloud("demo-tenant", QUICK)).show(made.id) is None


def test_an_image_that_was_deactivated_is_not_replaced(shop: Shop) -> None:
    made = shop.publish(shop.order())
    Cloud("demo-admin", QUICK).request("image", "POST", f"/images/{made.id}/actions/deactivate")
    with pytest.raises(ImageNotActive):
        shop.publish(shop.order(made.id))
    assert shop.only_image().status == "deactivated"


def test_an_image_of_another_project_with_our_manifest_is_never_touched(shop: Shop) -> None:
    order = shop.order()
    tenant = Glance(Cloud("demo-tenant", QUICK))
    theirs = tenant.create(creation(order.image_id, "Fake", "qcow2", {MANIFEST_PROPERTY: order.signed.sha256}, ()))
    for mine in (order, shop.order()):
        # An administrator sees it, and could change it.
        with pytest.raises(ImageIdBurnt) if mine is order else nullcontext():
            shop.publish(mine, "demo-admin")
        assert tenant.show(theirs.id) == theirs


def test_it_is_shared_with_members(shop: Shop) -> None:
    tenant = shop.cloud.project_id("tenant")
    made = shop.publish(shop.order(audience=Audience("shared", members=(tenant,), tags=("soe", "debian"))))
    image = Glance(Cloud("demo-tenant", QUICK)).show(made.id)
    assert image is not None
    assert (image.visibility, image.tags, image.hidden) == ("shared", ("debian", "soe"), False)


@pytest.mark.parametrize("visibility", ["community", "public"])
def test_it_is_shown_to_everybody(shop: Shop, visibility: str) -> None:
    made = shop.publish(shop.order(audience=Audience(visibility, protected=True)))  # type: ignore[arg-type]
    image = Glance(Cloud("demo-tenant", QUICK)).show(made.id)
    assert image is not None
    assert (image.visibility, image.protected) == (visibility, True)


def test_who_may_not_make_it_public_leaves_it_hidden_for_somebody_who_may(shop: Shop) -> None:
    order = shop.order(audience=Audience("public"))
    with pytest.raises(CloudForbidden, match="complete and stays hidden"):
        shop.publish(order, "demo-member")
    assert (shop.only_image().status, shop.only_image().hidden) == ("active", True)
    made = shop.publish(order)
    assert (made.id, made.uploaded) == (order.image_id, False)
    assert shop.only_image().visibility == "public"


def test_an_administrator_publishes_for_another_project(shop: Shop) -> None:
    tenant = shop.cloud.project_id("tenant")
    order = shop.order(audience=Audience(owner=tenant))
    made = shop.publish(order, "demo-admin")
    assert shop.only_image().owner == tenant
    assert not shop.publish(order, "demo-admin").uploaded
    assert Glance(Cloud("demo-tenant", QUICK)).show(made.id)
    with pytest.raises(CloudForbidden):
        shop.publish(shop.order(audience=Audience(owner=tenant)))


def test_a_reader_cannot_publish(shop: Shop) -> None:
    with pytest.raises(CloudForbidden):
        shop.publish(shop.order(), "demo-reader")
    assert shop.images() == []


# -- what was begun before ---------------------------------------------------------------------------------------------


def begun(order: CloudOrder) -> None:
    document = creation(order.image_id, order.name, "qcow2", glance_publish._properties(order, None), ())
    Glance(Cloud("demo", QUICK)).create(document)


def test_an_image_that_was_begun_is_finished(shop: Shop) -> None:
    order = shop.order()
    first = shop.publish(order)
    Glance(Cloud("demo", QUICK)).delete(first.id)
    fresh = shop.order()
    document = creation(fresh.image_id, fresh.name, "qcow2", glance_publish._properties(fresh, first.certificate), ())
    Glance(Cloud("demo", QUICK)).create(document)
    assert shop.publish(fresh).id == fresh.image_id


def test_an_image_that_was_begun_without_its_signature_gets_it(shop: Shop) -> None:
    order = shop.order()
    begun(order)
    made = shop.publish(order)
    assert shop.only_image().properties[CERTIFICATE_PROPERTY] == made.certificate


def test_orphans_are_removed(shop: Shop) -> None:
    for _ in range(2):
        begun(shop.order())
    order = shop.order()
    shop.publish(order)
    shop.only_image()


def test_an_id_is_never_used_twice(shop: Shop) -> None:
    order = shop.order()
    shop.publish(order)
    Glance(Cloud("demo", QUICK)).delete(order.image_id)
    with pytest.raises(ImageIdBurnt):
        shop.publish(order)
    assert shop.images() == []


def test_an_image_of_somebody_else_is_never_touched(shop: Shop) -> None:
    tenant = Glance(Cloud("demo-tenant", QUICK))
    theirs = tenant.create(creation(str(uuid4()), "Fake", "qcow2", {}, ()))
    try:
        with pytest.raises(ImageIdBurnt):
            shop.publish(shop.order(theirs.id))
        assert tenant.show(theirs.id) == theirs
        shop.publish(shop.order())
        assert tenant.show(theirs.id) == theirs
    finally:
        tenant.delete(theirs.id)


# -- what Glance refuses -----------------------------------------------------------------------------------------------


@pytest.mark.parametrize("at", [0, CHUNK, -1])
def test_a_file_that_was_changed_never_gets_there_whole(shop: Shop, tmp_path: Path, at: int) -> None:
    content = bytearray(shop.file.read_bytes())
    content[min(at, len(content) - 1)] ^= 1
    (tmp_path / "changed").write_bytes(content)
    with pytest.raises(DigestMismatch):
        shop.publish(shop.order(file=tmp_path / "changed"))
    assert shop.images() == []


def test_a_file_of_another_size(shop: Shop, tmp_path: Path) -> None:
    (tmp_path / "longer").write_bytes(shop.file.read_bytes() + b"\0")
    with pytest.raises(DigestMismatch):
        shop.publish(shop.order(file=tmp_path / "longer"))
    assert shop.images() == []


@pytest.mark.parametrize(
    "wrong",
    [
        {"img_signature_hash_method": "sha512"},
        {"img_signature_hash_method": "SHA-256"},
        {"img_signature_key_type": "RSA-PSS"},
        {CERTIFICATE_PROPERTY: "00000000-0000-4000-8000-000000000000"},
        {"img_signature": "AAAA"},
    ],
    ids="-".join,
)
def test_glance_itself_refuses_a_wrong_signature(
    shop: Shop, monkeypatch: pytest.MonkeyPatch, wrong: dict[str, str]
) -> None:
    right = glance_publish._properties
    monkeypatch.setattr(
        glance_publish, "_properties", lambda order, certificate: {**right(order, certificate), **wrong}
    )
    with pytest.raises(GlanceRefusedSignature):
        shop.publish(shop.order())
    assert shop.images() == []


def test_glance_refuses_another_format(shop: Shop, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(
        glance_publish,
        "creation",
        lambda *args: {**creation(*args), "disk_format": "vmdk"},
    )
    with pytest.raises(GlanceRefusedFormat):
        shop.publish(shop.order())
    assert shop.images() == []


def test_too_many_properties(shop: Shop, monkeypatch: pytest.MonkeyPatch) -> None:
    right = glance_publish._properties
    many = {f"x_{number}": "y" for number in range(200)}
    monkeypatch.setattr(glance_publish, "_properties", lambda order, certificate: {**right(order, certificate), **many})
    with pytest.raises(FactoryError) as refused:
        shop.publish(shop.order())
    assert refused.value.code in {"cloud-quota", "glance-refused"}
    assert shop.images() == []


def test_a_reserved_property(shop: Shop, monkeypatch: pytest.MonkeyPatch) -> None:
    right = glance_publish._properties
    monkeypatch.setattr(
        glance_publish, "_properties", lambda order, certificate: {**right(order, certificate), "os_glance_x": "y"}
    )
    with pytest.raises((GlanceRefused, CloudForbidden)):
        shop.publish(shop.order())
    assert shop.images() == []


# -- clouds that are not as they should be -----------------------------------------------------------------------------


def test_without_barbican_the_manifest_is_the_only_proof(shop: Shop) -> None:
    made = shop.publish(shop.order(), "demo-plain")
    assert made.certificate is None
    assert "no Barbican" in made.facts[0]
    assert not any(key.startswith("img_signature") for key in shop.only_image().properties)


def test_barbican_down(shop: Shop) -> None:
    shop.cloud.stop("barbican")
    try:
        with pytest.raises(BarbicanFailed):
            shop.publish(shop.order())
    finally:
        shop.cloud.start("barbican")
    assert shop.images() == []
    shop.publish(shop.order())


def test_with_an_application_credential_glance_cannot_verify_and_the_proof_says_so(shop: Shop) -> None:
    name = shop.cloud.application_credential()
    made = shop.publish(shop.order(), name)
    assert made.facts == (NOT_BY_GLANCE,)
    assert shop.only_image().properties[CERTIFICATE_PROPERTY] == made.certificate


def test_a_fact_about_the_upload_stays_true(shop: Shop) -> None:
    name = shop.cloud.application_credential()
    first = shop.publish(shop.order(), name)
    assert shop.publish(shop.order(first.id)).facts == ()  # nothing was uploaded: the records keep what was known


def test_an_application_credential_that_expired(shop: Shop) -> None:
    name = shop.cloud.application_credential(expires_at=datetime.now(UTC) + timedelta(seconds=5))
    time.sleep(5.5)
    with pytest.raises(CloudAuthFailed):
        shop.publish(shop.order(), name)
    assert shop.images() == []


def test_an_unknown_cloud(shop: Shop) -> None:
    with pytest.raises(CloudUnknown, match="nowhere"):
        shop.publish(shop.order(), "nowhere")


def changed_clouds(shop: Shop, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, old: str, new: str) -> None:
    text = shop.cloud.clouds_yaml.read_text()
    assert old in text
    (tmp_path / "clouds.yaml").write_text(text.replace(old, new))
    monkeypatch.setenv("OS_CLIENT_CONFIG_FILE", str(tmp_path / "clouds.yaml"))


def test_a_wrong_password(shop: Shop, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    changed_clouds(shop, tmp_path, monkeypatch, "password: ", "password: not-")
    with pytest.raises(CloudAuthFailed) as failed:
        shop.publish(shop.order())
    assert "not-" not in str(failed.value)


def test_keystone_down(shop: Shop, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    changed_clouds(shop, tmp_path, monkeypatch, shop.cloud.identity_url, "http://127.0.0.1:9/v3")
    with pytest.raises(CloudUnreachable):
        shop.publish(shop.order())


@pytest.mark.parametrize("text", ["clouds: [", "clouds: 7", "\0", "- a\n- b"])
def test_a_clouds_yaml_that_is_none(shop: Shop, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, text: str) -> None:
    (tmp_path / "clouds.yaml").write_text(text)
    monkeypatch.setenv("OS_CLIENT_CONFIG_FILE", str(tmp_path / "clouds.yaml"))
    with pytest.raises(CloudUnknown):
        shop.publish(shop.order())


def test_nothing_shows_a_credential(shop: Shop, caplog: pytest.LogCaptureFixture) -> None:
    """Not even the logs of the libraries below at their most talkative."""
    caplog.set_level(logging.DEBUG)
    cloud = Cloud("demo", QUICK)
    Publisher(cloud, shop.said.append, lambda _: None).publish(shop.order())
    with pytest.raises(FactoryError) as failed:
        Publisher(Cloud("demo-reader", QUICK), shop.said.append, lambda _: None).publish(shop.order())
    token = cloud._session.get_token()
    passwords = [
        line.split()[-1].strip("'\"") for line in shop.cloud.clouds_yaml.read_text().splitlines() if "password:" in line
    ]
    assert token
    assert len(passwords) > 3
    shown = f"{cloud!r} {shop.said} {failed.value!r} {failed.value} {failed.value.lines}{caplog.text}"
    assert not any(secret in shown for secret in (token, *passwords))
    assert "request" in caplog.text.lower()
