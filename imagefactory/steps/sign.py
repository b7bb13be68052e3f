"""Signing, as the signer's hand does it: it is told where things lie, and finds out for itself what they are.

Rules, in order; the first that is broken refuses, and the refusal is in the audit log:

1. The provenance is signed by a provenance key of the trust file and is about this name and version. The builder's
   word counts only as far as it goes.
2. The policy approves name, builder, recipe and elements (`model.policy`).
3. Each image is a regular file of its format, safe to open (`tools.inspect`). It is opened once; what is signed are
   the digests of that descriptor, and they are those of the provenance.
4. The bill of materials is valid CycloneDX, about this release, and the very file that the provenance names. Nothing
   else is released beside images.
5. What was signed under this version already is given out again if it is the same files, and else refused. A new
   version is greater than any that was signed for the name: the signer's own memory knows (`tools.signed`).
6. There is passing evidence of every kind that the policy wants, about every image, named by the provenance.
7. The properties claim nothing that the evidence does not bear out, and promise nothing that outlives the certificate.

Only then are keys used. What comes out are release.sigstore.json, SHA256SUMS, SHA256SUMS.sig, and the provenance that
belongs to them.
"""

import os
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from hashlib import sha256
from pathlib import Path

from cryptography.x509 import Certificate

from imagefactory.errors import EvidenceMissing, FactoryError, PolicyInvalid, SbomInvalid, VersionMismatch, VersionUsed
from imagefactory.model import properties
from imagefactory.model.evidence import Evidence
from imagefactory.model.policy import Approval, Policy, inputs_of
from imagefactory.model.proof import prove
from imagefactory.model.property_forms import day_of
from imagefactory.model.release import ReleaseRef, sbom_file
from imagefactory.model.release import Version as ReleaseVersion
from imagefactory.model.sbom import MAX_SBOM
from imagefactory.steps import sbom
from imagefactory.tools import qemu_img
from imagefactory.tools.audit_log import AuditedSigner, AuditLog
from imagefactory.tools.inspect import inspect
from imagefactory.tools.signed import SignedStore
from signing.checksums import CHECKSUMS_FILE, SIGNATURE_FILE, build_checksums, sign_checksums
from signing.digest import Digests, hash_stream, open_regular, read_document
from signing.envelope import open_envelope, parse_bundle, seal
from signing.errors import CertificateExpired, KeyUntrusted, ManifestInvalid, ProvenanceMismatch, SigningError
from signing.glance import sign_image, verify_image_signature
from signing.keys import KeyRing, Purpose
from signing.manifest import (
    MANIFEST_FILE,
    PROVENANCE_FILE,
    EvidenceEntry,
    FormatEntry,
    OperatingSystem,
    ReleaseManifest,
    Version,
)
from signing.properties import read_properties
from signing.provenance import Provenance
from signing.signer import Signer, signer_in
from signing.statement import Subject
from signing.trust import Trust

LEAF_MARGIN = timedelta(days=90)
# Properties that promise how long an image can be used, where they name a day.
PROMISES = ("provided_until", "uuid_validity")
# What Glance reads into the absence of these.
ABSENT = {"min_ram": "0", "min_disk": "0"}


@dataclass(frozen=True)
class SigningOrder:
    """What to sign: the `images` (format to path) of NAME@VERSION, the `documents` released beside them (name to path),
    the provenance that speaks of all of these, and the evidence that it names. `properties` are what the image is to
    carry in Glance."""

    name: str
    version: str
    os: Mapping[str, str]
    arch: str
    images: Mapping[str, Path]
    documents: Mapping[str, Path]
    provenance: Path
    evidence: Sequence[Evidence]
    properties: Mapping[str, str]
    created: datetime
    expires: datetime | None


@dataclass(frozen=True)
class Signers:
    """What the signer has of its own: its keys, whom it trusts, what it may sign, what it signed, and its log."""

    ring: KeyRing
    trust: Trust
    policy: Policy
    memory: SignedStore
    log: AuditLog

    def approval(self, name: str) -> Approval:
        """What the policy approves for `name`. Raises NameNotApproved; PolicyInvalid for keys that it is not for."""
        if self.policy.development and not self.ring.development:
            raise PolicyInvalid("a policy for development does not speak for keys that are not")
        return self.policy.approval(name)

    def use(self, purpose: Purpose, about: str) -> Signer:
        """A signer whose uses are in the log. Raises errors of the room signing."""
        return AuditedSigner(signer_in(self.ring, purpose), self.log, about)


@dataclass(frozen=True)
class Examined:
    """An image as it was found: plain file name, digests, and its size as a guest sees it in bytes."""

    file: str
    digests: Digests
    virtual_size: int

    @property
    def subject(self) -> Subject:
        return Subject(self.file, self.digests.sha256, self.digests.sha512 or "")


def sign(
    order: SigningOrder,
    own: Signers,
    output: Path,
    *,
    environment: Mapping[str, str],
    on_advance: Callable[[str], None],
) -> dict[str, str]:
    """Examine and sign; write into the directory `output`. Returns SHA-256 by name of the files written.

    Raises ImageRefused errors, EvidenceMissing, SbomInvalid, VersionMismatch, PropertyInvalid, PropertyContradicted,
    and errors of the room signing.
    """
    about = ReleaseRef.parse(f"{order.name}@{order.version}")
    try:
        with own.memory.hold(about.name):
            documents = _documents(order, own, environment, on_advance)
    except (FactoryError, SigningError) as refusal:
        own.log.append("refused", about=str(about), code=refusal.code, message=refusal.message[:1000])
        raise
    for name, content in documents.items():
        (output / name).write_bytes(content)
    return {name: _sha256(content) for name, content in documents.items()}


def _documents(
    order: SigningOrder, own: Signers, environment: Mapping[str, str], on_advance: Callable[[str], None]
) -> dict[str, bytes]:
    raw, provenance, approval = _account(order, own)
    images = {}
    for image_format, path in order.images.items():
        on_advance(f"{image_format}: hashing and inspecting")
        images[image_format] = _examine(f"{order.name}-{order.version}.{image_format}", image_format, path, environment)
    _check_subjects(images, provenance)
    others = _examine_documents(order, provenance)
    earlier = _earlier(order, own, provenance, others)
    if earlier is not None:
        own.log.append("given-again", about=f"{order.name}@{order.version}", manifest=_sha256(earlier[MANIFEST_FILE]))
        return earlier
    entries = _check_evidence(order.evidence, images, provenance, approval)
    _check_promises(order.properties, own.ring)
    _check_properties(order, images, provenance)
    expires = _expiry(order, own.ring)
    on_advance("signing")
    documents = _signed(order, own, images, others, entries, raw, expires)
    version = ReleaseVersion.parse(order.version)
    own.memory.keep(order.name, version, documents)
    own.log.append("signed", about=f"{order.name}@{order.version}", manifest=_sha256(documents[MANIFEST_FILE]))
    return documents


def check(
    own: Signers,
    name: str,
    builder: str,
    recipe: str,
    elements: Mapping[str, str],
    claims: Mapping[str, str],
    *,
    now: datetime,
) -> None:
    """See that what the signer would sign now it may sign, could be believed, and the properties `claims` be kept:
    before hours of work, not after them. `builder` is the keyid that will sign the provenance; digests are in hex.

    Raises errors of the room signing.
    """
    own.approval(name).check(name, builder, recipe, elements)
    _check_promises(claims, own.ring)
    release = signer_in(own.ring, "release")
    if release.keyid not in own.trust.release:
        raise KeyUntrusted(f"the trust file does not know the release key {release.keyid[:16]} of {own.ring.directory}")
    anything = bytes(64)
    signature = sign_image(own.use("glance", f"check of {name}"), own.ring.certificate(), anything)
    verify_image_signature(signature, anything, own.trust.glance_ca, at=now)


def _account(order: SigningOrder, own: Signers) -> tuple[bytes, Provenance, Approval]:
    """Rules 1 and 2."""
    raw = read_document(order.provenance)
    bundle = parse_bundle(raw)
    provenance = Provenance.from_statement(bundle.open(own.trust.keys("provenance")))
    said = f"{provenance.external_parameters.get('name')}@{provenance.external_parameters.get('version')}"
    if said != f"{order.name}@{order.version}":
        raise VersionMismatch(f"the provenance is about {said}, not {order.name}@{order.version}")
    approval = own.approval(order.name)
    approval.check(order.name, bundle.keyid, *inputs_of(provenance))
    return raw, provenance, approval


def _examine(file: str, image_format: str, path: Path, environment: Mapping[str, str]) -> Examined:
    descriptor = open_regular(path)
    try:
        digests = hash_stream(descriptor)
        inspect(descriptor, file, declared=image_format)
        return Examined(file, digests, qemu_img.virtual_size(descriptor, image_format, file, environment))
    finally:
        os.close(descriptor)


def _earlier(
    order: SigningOrder, own: Signers, provenance: Provenance, others: Mapping[str, str]
) -> dict[str, bytes] | None:
    """Rule 5: what was signed under this version, which must have been these very files. Raises VersionUsed."""
    version = ReleaseVersion.parse(order.version)
    documents = own.memory.documents(order.name, version)
    if documents is not None:
        statement = open_envelope(documents[MANIFEST_FILE], own.trust.keys("release"))
        manifest = ReleaseManifest.from_statement(statement)
        if manifest.subjects != provenance.subjects:
            raise VersionUsed(f"{order.name}@{order.version} was signed already, for other images")
        if {**manifest.files, **others} != manifest.files:
            raise VersionUsed(f"{order.name}@{order.version} was signed already, with another bill of materials")
        return documents
    newest = own.memory.newest(order.name)
    if newest is not None and newest > version:
        raise VersionUsed(f"{order.name}@{newest} was signed already, which is newer than {order.version}")
    return None


def _signed(
    order: SigningOrder,
    own: Signers,
    images: Mapping[str, Examined],
    others: Mapping[str, str],
    evidence: tuple[EvidenceEntry, ...],
    provenance: bytes,
    expires: datetime | None,
) -> dict[str, bytes]:
    about = f"{order.name}@{order.version}"
    glance, release = own.use("glance", about), own.use("release", about)
    formats = {name: _entry(image, glance, own.ring.certificate()) for name, image in images.items()}
    digests = {entry.file: entry.sha256 for entry in formats.values()}
    manifest = ReleaseManifest(
        name=order.name,
        version=Version.parse(order.version),
        os=OperatingSystem(**order.os),
        arch=order.arch,
        formats=formats,
        files={**others, PROVENANCE_FILE: _sha256(provenance)},
        evidence=evidence,
        properties=order.properties,
        audit=own.log.append(
            "signing", about=about, images=" ".join(image.digests.sha256 for image in images.values())
        ),
        created=order.created,
        expires=expires,
        development=own.ring.development,
    )
    bundle = seal(manifest.to_statement(), release)
    sums = build_checksums({**digests, **manifest.files, MANIFEST_FILE: _sha256(bundle)})
    return {
        MANIFEST_FILE: bundle,
        CHECKSUMS_FILE: sums,
        SIGNATURE_FILE: sign_checksums(sums, release),
        PROVENANCE_FILE: provenance,
    }


def _entry(image: Examined, glance: Signer, certificate: Certificate) -> FormatEntry:
    digests = image.digests
    sha512 = digests.sha512 or ""
    signature = sign_image(glance, certificate, bytes.fromhex(sha512))
    return FormatEntry(image.file, digests.size, image.virtual_size, digests.sha256, sha512, signature)


def _examine_documents(order: SigningOrder, provenance: Provenance) -> dict[str, str]:
    """Rule 4; returns the SHA-256 of each document by name."""
    name = sbom_file(order.name, order.version)
    if set(order.documents) != {name}:
        raise SbomInvalid(f"{name} is what is released beside images, not {', '.join(order.documents) or 'nothing'}")
    raw = read_document(order.documents[name], most=MAX_SBOM)
    digest = _sha256(raw)
    if {"name": name, "digest": {"sha256": digest}} not in provenance.byproducts:
        raise ProvenanceMismatch(f"the provenance does not name this {name}")
    sbom.check(raw, order.name, order.version)
    return {name: digest}


def _last_day(ring: KeyRing) -> datetime:
    """How long the certificate of the Glance signatures serves: Nova checks its dates, too."""
    return ring.certificate().not_valid_after_utc.replace(microsecond=0) - LEAF_MARGIN


def _check_promises(claims: Mapping[str, str], ring: KeyRing) -> None:
    """No image is promised for longer than its Glance certificate lets Nova start it."""
    last = _last_day(ring)
    for key in PROMISES:
        day = day_of(claims.get(key, ""))
        if day is not None and day > last.date():
            raise CertificateExpired(
                f"{key} is {day}, and the Glance certificate serves until {last.date()}: "
                f"{LEAF_MARGIN.days} days before it expires",
                advice=f"Promise less in {key}, or renew the Glance certificate.",
            )


def _check_properties(order: SigningOrder, images: Mapping[str, Examined], provenance: Provenance) -> None:
    """Nothing is claimed to the outside that the evidence does not bear out, or that no manifest can hold."""
    virtual_size = max(image.virtual_size for image in images.values())
    proof = prove(order.evidence, virtual_size=virtual_size, built=provenance.started.date())
    properties.check_claims({"os_distro": order.os["distro"], "os_version": order.os["version"]}, proof)
    properties.check_claims({**ABSENT, **order.properties}, proof)
    try:
        read_properties(order.properties)
    except ValueError as why:
        raise ManifestInvalid(f"the properties to be signed: {why}") from None


def _expiry(order: SigningOrder, ring: KeyRing) -> datetime | None:
    """No release outlives the certificate of its Glance signature, less LEAF_MARGIN."""
    last = _last_day(ring)
    if last <= order.created:
        raise CertificateExpired(f"the Glance certificate expires less than {LEAF_MARGIN.days} days from now")
    return last if order.expires is None else min(order.expires, last)


def _check_subjects(images: Mapping[str, Examined], provenance: Provenance) -> None:
    found, said = {image.subject for image in images.values()}, set(provenance.subjects)
    if found != said:
        names = ", ".join(sorted({subject.name for subject in found ^ said}))
        raise ProvenanceMismatch(f"the provenance speaks of other bytes than those to be signed: {names}")


def _check_evidence(
    evidence: Sequence[Evidence], images: Mapping[str, Examined], provenance: Provenance, approval: Approval
) -> tuple[EvidenceEntry, ...]:
    """Rule 6; and one image was booted."""
    signed_for = {byproduct.get("digest", {}).get("sha256") for byproduct in provenance.byproducts}
    digests = {image.digests.sha256 for image in images.values()}
    for piece in evidence:
        if piece.digest not in signed_for:
            raise EvidenceMissing(f"the provenance does not name this evidence of kind {piece.kind}")
        if piece.about.removeprefix("sha256:") not in digests:
            raise EvidenceMissing(f"evidence of kind {piece.kind} is about other bytes: {piece.about[:19]}")
        if piece.outcome != "pass":
            raise EvidenceMissing(f"evidence of kind {piece.kind} says {piece.outcome}")
    kinds = {piece.kind for piece in evidence}
    if "boot" not in kinds:
        raise EvidenceMissing("there is no evidence that this release boots")
    if missing := approval.evidence - kinds:
        raise EvidenceMissing(f"there is no evidence of kind {min(missing)}, which the policy wants")
    covered = {piece.about.removeprefix("sha256:") for piece in evidence}
    if bare := [image.file for image in images.values() if image.digests.sha256 not in covered]:
        raise EvidenceMissing(f"there is no evidence about {', '.join(bare)}")
    return tuple(
        EvidenceEntry(piece.kind, piece.about.removeprefix("sha256:"), piece.digest, piece.outcome)
        for piece in evidence
    )


def _sha256(content: bytes) -> str:
    return sha256(content).hexdigest()
