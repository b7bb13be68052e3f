"""Verification of an image in a cloud's Glance: its data, its properties, its signature and its certificate.

The manifest comes from a catalogue or a file and is verified first; what Glance says about the image only helps to
find it. Each deviation has a code of its own; the worst is raised, and the others are in its lines.

The rules of `signing.verify` hold for the manifest, those of `steps.listed` for the catalogue that it comes from, and
the cloud has some of its own:

23. The image does not say that it is of another release.
24. Its format is one of the signed ones, and Glance gives it the size and the SHA-512 that were signed.
25. The four signature properties are there and are those that were signed. In a cloud without Barbican there are none.
26. Barbican holds the certificate that was signed. It is asked if there is nothing wrong with the signature.
27. Every signed property is there as it was signed, and no other one says how the image boots.
28. The data, read to its last byte, has the size and the SHA-512 that were signed.
"""

import os
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from tempfile import TemporaryFile
from typing import IO

from imagefactory.errors import (
    CertificateForeign,
    CertificateUnreadable,
    DiskFull,
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
)
from imagefactory.model.glance import (
    CERTIFICATE_PROPERTY,
    MANIFEST_PROPERTY,
    RELEASE_PROPERTY,
    SIGNATURE_PROPERTIES,
    GlanceImage,
    is_uuid,
    unsigned,
)
from imagefactory.model.properties import Claim
from imagefactory.model.target import GLANCE, split_image
from imagefactory.steps.glance_manifest import listed_as, manifest_in
from imagefactory.steps.listed import CATALOGUE_RULES
from imagefactory.steps.verify import Expectation, Proof, VerifiedImage
from imagefactory.tools.known_catalogue import KnownCatalogue
from imagefactory.tools.openstack.barbican import Barbican
from imagefactory.tools.openstack.glance import Glance
from imagefactory.tools.openstack.session import Cloud
from signing.account import Account, read_rules
from signing.digest import sha512_stream
from signing.manifest import FormatEntry, ReleaseManifest
from signing.verify import MANIFEST_RULES, RULES, VerifiedManifest

GLANCE_RULES = read_rules(__doc__)
NO_BARBICAN = "this cloud has no Barbican: neither Glance nor Nova verifies the image, our manifest is the only proof"
NOT_READ = "the data was not read: Glance says that it has the signed hash"
OnBytes = Callable[[int], None]
_OWN = ("img_signature", "imagefactory_", "os_glance", "owner_specified")


@dataclass(frozen=True)
class Found:
    """An image in a cloud and the manifest that it is held against, which was verified. `facts` and `warnings` are what
    a catalogue says of the release."""

    cloud: Cloud
    image: GlanceImage
    signed: VerifiedManifest
    facts: tuple[str, ...] = ()
    warnings: tuple[str, ...] = ()

    @property
    def entry(self) -> FormatEntry:
        """What the manifest says about the image's format, which `require` has seen to be one of its own."""
        return self.signed.manifest.formats[self.image.disk_format]


def glance_account() -> Account:
    """An account of the rules for an image in a cloud."""
    rules = {**RULES, **CATALOGUE_RULES, **GLANCE_RULES}
    return Account(rules, (2, 19, 1, 20, 21, *MANIFEST_RULES, 22, *GLANCE_RULES))


def verify_glance(
    target: str,
    expectation: Expectation,
    *,
    catalogue: KnownCatalogue,
    manifest: Path | None = None,
    on_bytes: OnBytes | None = None,
    read_data: bool = True,
    account: Account | None = None,
) -> Proof:
    """Verify the image that glance:CLOUD/NAME-or-ID names, every byte of it. Without `read_data` Glance is believed
    what it says of the data's hash.

    Its manifest is the file `manifest`, or that of its release in `catalogue`. Raises TargetUnsupported,
    ManifestNotFound, the errors of `require`, of the catalogue and of the cloud, and errors of the room signing.
    """
    account = account or glance_account()
    found = find(target, expectation, catalogue=catalogue, manifest=manifest, account=account)
    facts = require(found.cloud, found.image, found.signed, account)
    if not read_data:
        account.skipped(28, NOT_READ)
        return _proof(found, (*facts, NOT_READ))
    check_data(found.cloud, found.image, found.entry, on_bytes=on_bytes)
    account.passed(28, f"{found.entry.size} bytes")
    return _proof(found, facts)


@contextmanager
def verified_download(
    target: str,
    expectation: Expectation,
    *,
    catalogue: KnownCatalogue,
    manifest: Path | None = None,
    on_bytes: OnBytes | None = None,
    work: Path,
) -> Iterator[VerifiedImage]:
    """The image, downloaded to a nameless file in the directory `work`, verified by that very descriptor, and gone
    again afterwards. Raises like `verify_glance`: nothing can use the bytes before."""
    found = find(target, expectation, catalogue=catalogue, manifest=manifest)
    facts = require(found.cloud, found.image, found.signed)
    entry = found.entry
    with TemporaryFile(dir=work) as file:
        check_data(found.cloud, found.image, entry, on_bytes=on_bytes, file=file)
        # The same nameless file, for reading only: nobody writes to it any more, and QEMU wants it so.
        descriptor = os.open(f"/proc/self/fd/{file.fileno()}", os.O_RDONLY | os.O_CLOEXEC)
        try:
            yield VerifiedImage(descriptor, found.image.disk_format, _proof(found, facts))
        finally:
            os.close(descriptor)


def find(
    target: str,
    expectation: Expectation,
    *,
    catalogue: KnownCatalogue,
    manifest: Path | None = None,
    account: Account | None = None,
) -> Found:
    """The image of a target and the verified manifest of its release. Raises like `verify_glance`."""
    account = account or glance_account()
    name, ref = split_image(target)
    cloud = Cloud(name)
    image = look_up(cloud, ref)
    if image.status != "active":
        raise ImageNotActive(f"{target}: image {image.id} is {image.status}")
    account.passed(2, f"image {image.id} of {cloud.name}")
    if manifest is not None:
        return Found(cloud, image, manifest_in(manifest, expectation, account))
    listed = listed_as(image, catalogue, expectation, account)
    return Found(cloud, image, listed.verified(account), listed.facts, listed.warnings)


def look_up(cloud: Cloud, ref: str) -> GlanceImage:
    """The one image that has this id or name. Raises ImageUnknown, ImageAmbiguous, NoImageService."""
    glance = Glance(cloud)
    glance.require()
    images = glance.named(ref)
    if not images:
        raise ImageUnknown(f"{cloud.name} shows us no image {ref}")
    if len(images) > 1:
        lines = tuple(f"{each.id} {each.visibility}, of project {each.owner}" for each in images)
        raise ImageAmbiguous(f"{cloud.name} has {len(images)} images called {ref}", lines=lines)
    return images[0]


def require(
    cloud: Cloud, image: GlanceImage, signed: VerifiedManifest, account: Account | None = None
) -> tuple[str, ...]:
    """See that what Glance says about an image is what was signed (rules 23 to 27); returns what is worth knowing.

    Raises ImageOfAnotherRelease, ImageReplaced, ImageSignatureMissing, ImageSignatureIncomplete,
    ImageSignatureChanged, CertificateForeign, CertificateUnreadable, ImagePropertyMissing, ImagePropertyChanged.
    """
    account = account or Account(GLANCE_RULES, range(23, 28))
    barbican = Barbican(cloud)
    there = barbican.there
    found = _note(account, 23, _release(image, signed))
    found += _note(account, 24, data_errors(image, signed), image.disk_format)
    signature = _signature(image, signed, there)
    uuid = image.properties.get(CERTIFICATE_PROPERTY)
    if there or signature:
        found += _note(account, 25, signature)
    else:
        account.skipped(25, NO_BARBICAN)
    if signature or not there or uuid is None:
        account.skipped(26, "there is no signature whose certificate could be asked for")
    else:
        found += _note(account, 26, certificate_errors(barbican, uuid, signed, image), uuid)
    found += _note(account, 27, _properties(image, signed), f"{len(signed.manifest.properties)} properties")
    _raise_the_worst(found)
    return () if there else (NO_BARBICAN,)


def _note(account: Account, number: int, errors: list[FactoryError], found: str = "") -> list[FactoryError]:
    """Report a rule of which several things may be wrong."""
    if errors:
        account.refused(number, errors[0])
    else:
        account.passed(number, found)
    return errors


def require_properties(image: GlanceImage, signed: VerifiedManifest) -> None:
    """See that an image has the properties that were signed. Raises ImagePropertyMissing, ImagePropertyChanged."""
    _raise_the_worst(_properties(image, signed))


def require_leftover(image: GlanceImage, manifest: ReleaseManifest, image_format: str) -> None:
    """An image that was shown, or that somebody deactivated, is nothing to be replaced in silence."""
    if image.status == "deactivated":
        ref = f"{manifest.name}@{manifest.version}"
        raise ImageNotActive(
            f"image {image.id} was deactivated: {ref} is obsolete or revoked there, or somebody took it back",
            advice=f"imagefactory restore {ref} brings back what is obsolete; openstack image set --activate the rest",
        )
    if image.hidden:
        return
    if image.disk_format == image_format and image.status == "active":
        raise ImageReplaced(f"image {image.id}, which others see, has other data than was signed")
    ref = f"{manifest.name}@{manifest.version}"
    raise ImageOfAnotherRelease(
        f"image {image.id}, which others see, is not the {image_format} of {ref} any more",
        advice="delete it, or hide it, and publish again",
    )


def claims(image: GlanceImage, signed: VerifiedManifest) -> tuple[Claim, ...]:
    """Every property of an image in a cloud, sorted by key, with what the manifest says of it. The signature and what
    Glance adds of its own are not among them."""
    wanted = signed.manifest.properties
    found = [
        Claim(key, said, "signed" if said == value else f"not what was signed: {value}")
        for key, value in wanted.items()
        if (said := image.value(key)) is not None
    ]
    others = image.properties.keys() - wanted.keys()
    found += [Claim(key, image.properties[key], "not signed") for key in others if not key.startswith(_OWN)]
    return tuple(sorted(found, key=lambda claim: claim.key))


def check_data(
    cloud: Cloud,
    image: GlanceImage,
    entry: FormatEntry,
    *,
    on_bytes: OnBytes | None = None,
    file: IO[bytes] | None = None,
) -> None:
    """Read the image's data from Glance and compare it with the manifest; `file` keeps it.

    A download that breaks off is begun again. Raises ImageReplaced, ImageNotActive, DiskFull, and errors of the cloud.
    """

    def once() -> None:
        if file is not None:
            file.seek(0)
            file.truncate()
        with Glance(cloud).download(image) as stream:
            size, sha512 = sha512_stream(stream, most=entry.size, on_bytes=on_bytes, sink=_sink(file))
        if (size, sha512) != (entry.size, entry.sha512):
            raise ImageReplaced(f"{cloud.name} delivers other data for image {image.id} than was signed")

    cloud.patiently(once)
    if file is not None:
        file.flush()


def _sink(file: IO[bytes] | None) -> Callable[[memoryview], object] | None:
    """Writes to `file`, and whatever is wrong with that is not the network's fault."""
    if file is None:
        return None

    def write(piece: memoryview) -> None:
        try:
            file.write(piece)
        except OSError as error:
            raise DiskFull(f"the image cannot be kept: {error.strerror}") from error

    return write


def _raise_the_worst(found: Sequence[FactoryError]) -> None:
    """What makes the image another one comes before what it says of itself."""
    if found:
        worst, *others = found
        worst.lines = tuple(f"{each.code}: {each.message}" for each in others)
        raise worst


def _release(image: GlanceImage, signed: VerifiedManifest) -> list[FactoryError]:
    manifest = signed.manifest
    wanted = {RELEASE_PROPERTY: f"{manifest.name}@{manifest.version}", MANIFEST_PROPERTY: signed.sha256}
    said = {key: image.properties.get(key, value) for key, value in wanted.items()}
    return [
        ImageOfAnotherRelease(f"image {image.id} has {key}={said[key][:80]!r}, and the manifest is {wanted[key]}")
        for key in wanted
        if said[key] != wanted[key]
    ]


def data_errors(image: GlanceImage, signed: VerifiedManifest) -> list[FactoryError]:
    """What says that the data of an image is not what was signed, as far as Glance tells."""
    entry = signed.manifest.formats.get(image.disk_format)
    if entry is None:
        formats = ", ".join(signed.manifest.formats)
        return [ImageReplaced(f"image {image.id} is {image.disk_format or 'of no format'}; signed were {formats}")]
    if image.size != entry.size:
        return [ImageReplaced(f"image {image.id} has {image.size} bytes, signed were {entry.size}")]
    if (image.hash_algorithm, image.hash_value) != ("sha512", entry.sha512):
        return [ImageReplaced(f"image {image.id} has another {image.hash_algorithm or 'hash'} than what was signed")]
    return []


def _signature(image: GlanceImage, signed: VerifiedManifest, there: bool) -> list[FactoryError]:
    missing = [key for key in SIGNATURE_PROPERTIES if key not in image.properties]
    if len(missing) == len(SIGNATURE_PROPERTIES):
        none = ImageSignatureMissing(f"image {image.id} has no signature, and this cloud has a Barbican")
        return [none] if there else []
    if missing:
        return [ImageSignatureIncomplete(f"image {image.id} lacks {', '.join(missing)}")]
    entry = signed.manifest.formats.get(image.disk_format)
    if entry is None:
        return []
    wanted = {key: getattr(entry.glance, key) for key in SIGNATURE_PROPERTIES if key != CERTIFICATE_PROPERTY}
    changed = [key for key, value in wanted.items() if image.properties[key] != value]
    if changed:
        return [ImageSignatureChanged(f"image {image.id}: {', '.join(changed)} differ from the manifest")]
    if not there:
        return [CertificateUnreadable(f"image {image.id} is signed, and this cloud has no Barbican to ask")]
    return []


def certificate_errors(
    barbican: Barbican, uuid: str, signed: VerifiedManifest, image: GlanceImage
) -> list[FactoryError]:
    """What is wrong with the certificate in Barbican that an image names. Raises what `Barbican.fetch` raises, but for
    CertificateUnreadable."""
    entry = signed.manifest.formats.get(image.disk_format)
    if not is_uuid(uuid):
        return [CertificateForeign(f"image {image.id} names a certificate that is none of Barbican's")]
    try:
        pem = barbican.fetch(uuid)
    except CertificateUnreadable as error:
        return [error]
    if pem is None:
        return [CertificateForeign(f"Barbican has no certificate {uuid}, which image {image.id} names")]
    if entry is not None and pem.strip() != entry.glance.certificate.strip():
        return [CertificateForeign(f"Barbican's certificate {uuid} is not the one of the manifest")]
    return []


def _properties(image: GlanceImage, signed: VerifiedManifest) -> list[FactoryError]:
    found: list[FactoryError] = []
    for key, value in sorted(signed.manifest.properties.items()):
        said = image.value(key)
        if said is None:
            found.append(ImagePropertyMissing(f"image {image.id} has no {key}, signed was {value!r}"))
        elif said != value:
            found.append(ImagePropertyChanged(f"image {image.id} has {key}={said[:80]!r}, signed was {value!r}"))
    for key in unsigned(image, signed.manifest.properties):
        found.append(
            ImagePropertyChanged(f"image {image.id} has {key[:80]}, which says how it boots and was not signed")
        )
    return found


def _proof(found: Found, facts: tuple[str, ...]) -> Proof:
    """A name may be another image's tomorrow: what was proved is proved of an id."""
    image, where = found.image, found.cloud.name
    about = f"image {image.id} of {where}, {image.visibility}, is its {image.disk_format}"
    files = {found.entry.file: found.entry.sha256}
    return Proof(
        f"{GLANCE}{where}/{image.id}",
        found.signed,
        files,
        (about, *found.signed.facts, *found.facts, *facts),
        found.warnings,
    )
