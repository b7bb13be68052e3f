"""The manifest that an image in a cloud is held against: of a file that somebody names, or as a catalogue lists it."""

from pathlib import Path

from imagefactory.errors import ManifestNotFound, ReleaseNameInvalid, ReleaseUnknown
from imagefactory.model.glance import CERTIFICATE_PROPERTY, MANIFEST_PROPERTY, RELEASE_PROPERTY, GlanceImage
from imagefactory.model.release import ReleaseRef
from imagefactory.steps.listed import Listed, listed_release
from imagefactory.steps.verify import Expectation
from imagefactory.tools.known_catalogue import KnownCatalogue
from signing.account import Account
from signing.digest import read_document
from signing.verify import VerifiedManifest

_NAMED = "the manifest was named, and no catalogue asked"


def manifest_in(manifest: Path, expectation: Expectation, account: Account) -> VerifiedManifest:
    """The manifest in a file, verified. No catalogue says what became of its release since.

    Raises errors of the room signing.
    """
    account.skipped(19, _NAMED)
    expectation.begin(account)
    for number in (20, 21):
        account.skipped(number, _NAMED)
    signed = expectation.manifest(read_document(manifest), account)
    account.skipped(22, _NAMED)
    return signed


def listed_as(image: GlanceImage, catalogue: KnownCatalogue, expectation: Expectation, account: Account) -> Listed:
    """The release that an image says to be of, as a catalogue lists it. Raises ManifestNotFound, and what
    `listed_release` raises."""
    said = image.properties.get(RELEASE_PROPERTY)
    if said is None:
        raise ManifestNotFound(f"image {image.id} does not say which release it is", advice="name --manifest FILE")
    try:
        ref = ReleaseRef.parse(said)
    except ReleaseNameInvalid as error:
        raise ManifestNotFound(f"image {image.id} says that it is of release {said[:80]!r}, which is none") from error
    if ref.version is None:
        raise ManifestNotFound(f"image {image.id} says that it is of release {ref}, without a version")
    try:
        return listed_release(catalogue, ref, expectation, account)
    except ReleaseUnknown as error:
        raise ManifestNotFound(f"{catalogue.address} has no {ref}, which image {image.id} says to be") from error


def described(signed: VerifiedManifest, image_format: str, certificate: str | None) -> dict[str, str]:
    """Everything that a published image says of itself. `certificate` is its UUID in Barbican, None: no signature."""
    manifest = signed.manifest
    properties = {
        **manifest.properties,
        RELEASE_PROPERTY: f"{manifest.name}@{manifest.version}",
        MANIFEST_PROPERTY: signed.sha256,
    }
    if certificate is None:
        return properties
    glance = manifest.formats[image_format].glance
    return {
        **properties,
        "img_signature": glance.img_signature,
        "img_signature_hash_method": glance.img_signature_hash_method,
        "img_signature_key_type": glance.img_signature_key_type,
        CERTIFICATE_PROPERTY: certificate,
    }
