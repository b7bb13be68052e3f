"""Verification from Glance: each way in which an image can differ from what was signed has a code of its own."""

from collections.abc import Iterator
from dataclasses import replace
from datetime import UTC, datetime
from pathlib import Path
from typing import Any
from uuid import uuid4

import pytest

from imagefactory.errors import (
    CertificateForeign,
    CertificateUnreadable,
    CloudForbidden,
    FactoryError,
    ImageAmbiguous,
    ImageNotActive,
    ImageOfAnotherRelease,
    ImagePropertyChanged,
    ImagePropertyMissing,
    ImageReplaced,
    ImageSignatureChanged,
    ImageSignatureIncomplete,
    ImageSignatureMissing,
    ImageUnknown,
    ManifestNotFound,
    ReleaseRevoked,
    TargetUnsupported,
)
from imagefactory.model.glance import (
    CERTIFICATE_PROPERTY,
    MANIFEST_PROPERTY,
    RELEASE_PROPERTY,
    SIGNATURE_PROPERTIES,
    Audience,
    creation,
)
from imagefactory.model.listing import ListingState
from imagefactory.model.release import ReleaseRef, Version
from imagefactory.steps.glance_publish import CloudImage
from imagefactory.steps.glance_verify import NOT_READ, glance_account, verified_download, verify_glance
from imagefactory.steps.verify import Proof
from imagefactory.tools.known_catalogue import KnownCatalogue
from imagefactory.tools.openstack.barbican import Barbican
from imagefactory.tools.openstack.glance import Glance
from imagefactory.tools.openstack.session import Cloud
from signing.errors import KeyUntrusted, NameMismatch, ReleaseExpired, ReleaseNotYet, SigningError, VersionTooOld
from signing.manifest import MANIFEST_FILE
from tests.conformance.attacks.workshop import Workshop
from tests.fakes.host import make_keys
from tests.fakes.shelf import Shelf, listing_of
from tests.integration.glance.conftest import QUICK, Shop


@pytest.fixture
def image(shop: Shop) -> CloudImage:
    return shop.publish(shop.order())


NOWHERE = KnownCatalogue("/none", Path("/none"))


@pytest.fixture
def shelf(shop: Shop, tmp_path: Path) -> Shelf:
    """A catalogue from which the manifest can be taken, and nothing else."""
    made = Shelf(tmp_path / "catalogue", (shop.host.home / "trust.json").read_bytes())
    made.list(listing_of(shop.manifest, shop.expectation().keys), shop.manifest.read_bytes())
    return made


@pytest.fixture
def catalogue(shelf: Shelf, tmp_path: Path) -> KnownCatalogue:
    return shelf.known(tmp_path / "trusted")


def verify(shop: Shop, ref: str, cloud: str = "demo", **options: Any) -> Proof:  # noqa: ANN401
    return verify_glance(
        f"glance:{cloud}/{ref}",
        shop.expectation(),
        **{"manifest": shop.manifest, "catalogue": NOWHERE, **options},
    )


def change(image: CloudImage, *operations: dict[str, Any]) -> None:
    Glance(Cloud("demo", QUICK)).update(image.id, operations)


def setting(key: str, value: object) -> dict[str, object]:
    return {"op": "replace", "path": f"/{key}", "value": value}


def adding(key: str, value: str) -> dict[str, object]:
    return {"op": "add", "path": f"/{key}", "value": value}


def removing(key: str) -> dict[str, object]:
    return {"op": "remove", "path": f"/{key}"}


def test_proof(shop: Shop, image: CloudImage, catalogue: KnownCatalogue) -> None:
    proof = verify(shop, image.id, manifest=None, catalogue=catalogue)
    manifest = shop.signed.manifest
    assert proof.release == f"{manifest.name}@{manifest.version}"
    assert proof.files == {manifest.formats["qcow2"].file: manifest.formats["qcow2"].sha256}
    assert any(image.id in fact for fact in proof.facts)
    assert verify(shop, "Fake").signed.sha256 == proof.signed.sha256


def test_the_account_of_an_image(shop: Shop, image: CloudImage) -> None:
    """Every rule of the manifest and of the cloud; of several deviations each, with its code."""
    account = glance_account()
    verify(shop, image.id, account=account)
    states = {each.number: each.state for each in account.outcomes}
    assert states == {
        **dict.fromkeys([*range(1, 12), *range(23, 29)], "passed"),
        **dict.fromkeys([7, 8, *range(19, 23)], "does not apply"),
    }

    account = glance_account()
    verify(shop, image.id, read_data=False, account=account)
    assert account.outcomes[-1].state == "does not apply"

    change(image, setting(RELEASE_PROPERTY, "other@20251121.1"), setting("min_ram", 1))
    account = glance_account()
    with pytest.raises(ImageOfAnotherRelease) as caught:
        verify(shop, image.id, account=account)
    account.ended(caught.value)
    codes = {each.number: each.code for each in account.outcomes if each.state == "refused"}
    assert codes == {23: "image-of-another-release", 27: "image-property-changed"}
    assert [each.number for each in account.outcomes if each.state == "not reached"] == [28]


def test_a_reader_verifies(shop: Shop, image: CloudImage) -> None:
    shop.publish(shop.order(image.id, audience=Audience(certificate_readers=(shop.cloud.user_id("reader"),))))
    proof = verify(shop, image.id, "demo-reader", read_data=False)
    assert NOT_READ in proof.facts
    with pytest.raises(CloudForbidden):  # Glance lets readers see images and not read them
        verify(shop, image.id, "demo-reader")


def test_another_project_verifies_a_public_image(shop: Shop) -> None:
    audience = Audience("public", certificate_readers=(shop.cloud.user_id("tenant"),))
    made = shop.publish(shop.order(audience=audience))
    assert verify(shop, made.id, "demo-tenant").files
    assert verify(shop, "Fake", "demo-tenant").files


def test_who_may_not_read_the_certificate_cannot_say_anything(shop: Shop) -> None:
    made = shop.publish(shop.order(audience=Audience("public")))
    uuid = made.certificate
    assert uuid is not None
    # Earlier tests may have let the tenant in.
    Cloud("demo", QUICK).request("key-manager", "DELETE", f"/secrets/{uuid}/acl")
    with pytest.raises(CertificateUnreadable):
        verify(shop, made.id, "demo-tenant")


def test_a_cloud_without_barbican(shop: Shop) -> None:
    made = shop.publish(shop.order(), "demo-plain")
    proof = verify(shop, made.id, "demo-plain")
    assert any("no Barbican" in fact for fact in proof.facts)
    with pytest.raises(ImageSignatureMissing):
        verify(shop, made.id)


# -- deviations --------------------------------------------------------------------------------------------------------


def deviations() -> Iterator[Any]:
    for key in SIGNATURE_PROPERTIES:
        yield pytest.param([removing(key)], ImageSignatureIncomplete, id=f"without {key}")
    yield pytest.param([removing(key) for key in SIGNATURE_PROPERTIES], ImageSignatureMissing, id="without all four")
    yield pytest.param([setting("img_signature", "AAAA")], ImageSignatureChanged, id="another signature")
    yield pytest.param(
        [setting("img_signature_hash_method", "SHA-256")], ImageSignatureChanged, id="another hash method"
    )
    yield pytest.param([setting("img_signature_key_type", "RSA-PSS")], ImageSignatureChanged, id="another key type")
    yield pytest.param([setting(CERTIFICATE_PROPERTY, str(uuid4()))], CertificateForeign, id="no such certificate")
    yield pytest.param([setting(CERTIFICATE_PROPERTY, "../x")], CertificateForeign, id="a certificate that is a path")
    yield pytest.param([removing("os_distro")], ImagePropertyMissing, id="property removed")
    yield pytest.param([setting("os_distro", "windows")], ImagePropertyChanged, id="property changed")
    yield pytest.param([adding("hw_cpu_policy", "shared")], ImagePropertyChanged, id="how to boot, not signed")
    yield pytest.param([adding("kernel_id", str(uuid4()))], ImagePropertyChanged, id="another kernel")
    yield pytest.param([adding("block_device_mapping", "[]")], ImagePropertyChanged, id="another disk")
    yield pytest.param([setting("min_ram", 1)], ImagePropertyChanged, id="less memory")
    yield pytest.param([setting(MANIFEST_PROPERTY, "0" * 64)], ImageOfAnotherRelease, id="another manifest")
    yield pytest.param([setting(RELEASE_PROPERTY, "other@20250101.1")], ImageOfAnotherRelease, id="another release")


@pytest.mark.parametrize(("operations", "error"), list(deviations()))
def test_deviations(
    shop: Shop, image: CloudImage, operations: list[dict[str, object]], error: type[FactoryError]
) -> None:
    change(image, *operations)
    with pytest.raises(error):
        verify(shop, image.id)


def test_the_worst_comes_first_and_the_others_with_it(shop: Shop, image: CloudImage) -> None:
    change(image, removing("os_distro"), removing("img_signature"), setting("min_disk", 999))
    with pytest.raises(ImageSignatureIncomplete) as found:
        verify(shop, image.id)
    codes = [line.split(":")[0] for line in found.value.lines]
    assert codes == ["image-property-changed", "image-property-missing"]


@pytest.mark.parametrize(
    "operations",
    [
        [removing("os_distro"), setting("min_ram", 1)],
        [removing(key) for key in SIGNATURE_PROPERTIES],
        [setting("img_signature", "AAAA")],
        [removing(RELEASE_PROPERTY), removing(MANIFEST_PROPERTY)],
        [setting(CERTIFICATE_PROPERTY, str(uuid4())), adding("block_device_mapping", "[]")],
    ],
    ids=["properties", "without signature", "another signature", "without release", "another certificate and disk"],
)
def test_publishing_again_puts_properties_right(
    shop: Shop, image: CloudImage, operations: list[dict[str, object]]
) -> None:
    change(image, *operations)
    assert not shop.publish(shop.order(image.id)).uploaded
    assert verify(shop, image.id).files


def test_a_certificate_of_somebody_else(shop: Shop, image: CloudImage, tmp_path: Path) -> None:
    theirs = (make_keys(tmp_path / "theirs") / "keys" / "glance.crt").read_text()
    uuid = Barbican(Cloud("demo", QUICK)).keep(theirs, "theirs")
    change(image, setting(CERTIFICATE_PROPERTY, uuid))
    with pytest.raises(CertificateForeign):
        verify(shop, image.id)


def flip(path: Path, at: int) -> None:
    content = bytearray(path.read_bytes())
    content[at] ^= 1
    path.write_bytes(content)


@pytest.mark.parametrize("at", [0, 5000, -1])
def test_bytes_that_were_changed_in_the_store_are_never_used(
    shop: Shop, image: CloudImage, tmp_path: Path, at: int
) -> None:
    flip(shop.cloud.store / image.id, at)
    with pytest.raises(ImageReplaced):
        verify(shop, image.id)
    with (
        pytest.raises(ImageReplaced),
        verified_download(
            f"glance:demo/{image.id}",
            shop.expectation(),
            catalogue=NOWHERE,
            manifest=shop.manifest,
            work=tmp_path,
        ),
    ):
        raise AssertionError("somebody could use it")
    assert list(tmp_path.iterdir()) == []


def test_a_download_is_the_very_file_that_was_verified(shop: Shop, image: CloudImage, tmp_path: Path) -> None:
    with verified_download(
        f"glance:demo/{image.id}", shop.expectation(), catalogue=NOWHERE, manifest=shop.manifest, work=tmp_path
    ) as found:
        with open(found.descriptor, "rb", closefd=False) as stream:
            stream.seek(0)
            assert stream.read() == shop.file.read_bytes()
        assert found.format == "qcow2"
        assert list(tmp_path.iterdir()) == []


# -- everything is genuine, and the cloud or the catalogue offers it for something else --------------------------------


@pytest.mark.parametrize(
    ("expected", "error"),
    [
        ({"min_version": Version(29991231, 1)}, VersionTooOld),
        ({"name": "another-image"}, NameMismatch),
        ({"now": datetime(2999, 1, 1, tzinfo=UTC)}, ReleaseExpired),
        ({"now": datetime(2020, 1, 1, tzinfo=UTC)}, ReleaseNotYet),
    ],
    ids=["an older release", "another image", "expired", "clock turned back"],
)
def test_a_genuine_release_in_the_place_of_another(
    shop: Shop, image: CloudImage, expected: dict[str, Any], error: type[SigningError]
) -> None:
    pinned = replace(shop.expectation(), **expected)
    with pytest.raises(error):
        verify_glance(f"glance:demo/{image.id}", pinned, manifest=shop.manifest, catalogue=NOWHERE)


def test_a_catalogue_with_a_manifest_by_somebody_else(shop: Shop, image: CloudImage, tmp_path: Path) -> None:
    """All in order, of the same name, and signed with keys that the trust file does not know."""
    (tmp_path / MANIFEST_FILE).write_bytes(Workshop().release_files()[MANIFEST_FILE])
    with pytest.raises(KeyUntrusted):
        verify(shop, image.id, manifest=tmp_path / MANIFEST_FILE)


# -- which image, which manifest ---------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "target", ["glance:demo", "glance:/x", "glance:demo/", "glance:../x/y", "glance:demo/" + "x" * 256]
)
def test_no_target(shop: Shop, target: str) -> None:
    with pytest.raises(TargetUnsupported):
        verify_glance(target, shop.expectation(), catalogue=NOWHERE)


# The id that no image has gets a name of its own: workers that run side by side must call it the same.
@pytest.mark.parametrize(
    "ref", ["nothing", pytest.param(str(uuid4()), id="an id"), 'a"b,c\\d', "../images", "%00", "x?y=z"]
)
def test_no_image(shop: Shop, ref: str) -> None:
    with pytest.raises(ImageUnknown):
        verify(shop, ref)


def test_two_images_of_a_name(shop: Shop, image: CloudImage) -> None:
    glance = Glance(Cloud("demo", QUICK))
    other = glance.create(creation(str(uuid4()), "Fake", "qcow2", {}, ()))
    try:
        with pytest.raises(ImageAmbiguous) as found:
            verify(shop, "Fake")
        assert sorted(line.split()[0] for line in found.value.lines) == sorted([image.id, other.id])
    finally:
        glance.delete(other.id)


def test_an_image_without_data(shop: Shop) -> None:
    glance = Glance(Cloud("demo", QUICK))
    queued = glance.create(creation(str(uuid4()), "Queued", "qcow2", {}, ()))
    try:
        with pytest.raises(ImageNotActive):
            verify(shop, queued.id)
    finally:
        glance.delete(queued.id)


@pytest.mark.parametrize(
    "operations",
    [[removing(RELEASE_PROPERTY)], [setting(RELEASE_PROPERTY, "../../etc")], [setting(RELEASE_PROPERTY, "x")], []],
    ids=["none said", "a path", "no version", "not there"],
)
def test_no_manifest(shop: Shop, image: CloudImage, operations: list[dict[str, object]], tmp_path: Path) -> None:
    if operations:
        change(image, *operations)
    empty = Shelf(tmp_path / "empty", (shop.host.home / "trust.json").read_bytes())
    with pytest.raises(ManifestNotFound):
        verify(shop, image.id, manifest=None, catalogue=empty.known(tmp_path / "trusted"))


def test_what_became_of_its_release(shop: Shop, image: CloudImage, shelf: Shelf, catalogue: KnownCatalogue) -> None:
    """By the trust policy of the catalogue, which says what to think of an image in a cloud, too."""
    manifest = shop.signed.manifest
    ref = ReleaseRef.parse(f"{manifest.name}@{manifest.version}")
    believing = replace(shop.expectation(), trust=None)
    account = glance_account()
    assert verify_glance(f"glance:demo/{image.id}", believing, catalogue=catalogue, account=account).warnings == ()
    assert {each.number for each in account.outcomes if each.state != "passed"} == {7, 8}
    shelf.say(ref, ListingState.DEPRECATED, f"{ref.name}@29991231.1")
    (told,) = verify_glance(f"glance:demo/{image.id}", believing, catalogue=catalogue).warnings
    assert told == f"{ref} is deprecated; use {ref.name}@29991231.1 instead"
    shelf.say(ref, ListingState.REVOKED, None, "its openssl leaks keys")
    with pytest.raises(ReleaseRevoked, match="its openssl leaks keys"):
        verify(shop, image.id, manifest=None, catalogue=catalogue)
