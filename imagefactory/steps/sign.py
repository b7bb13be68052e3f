"""Signing, as the signer's hand does it: it is told where things lie, and finds out for itself what they are.

The builder's word counts only as far as its provenance key signed it. Every image is opened once, hashed and
inspected on that descriptor; what is signed are these digests. The three files that come out are release.sigstore.json,
SHA256SUMS and SHA256SUMS.sig.
"""

import os
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from hashlib import sha256
from pathlib import Path

from imagefactory.errors import EvidenceMissing, VersionMismatch
from imagefactory.model import properties
from imagefactory.model.evidence import Evidence
from imagefactory.model.proof import prove
from imagefactory.model.property_forms import day_of
from imagefactory.tools import qemu_img
from imagefactory.tools.inspect import inspect
from signing.checksums import CHECKSUMS_FILE, SIGNATURE_FILE, build_checksums, sign_checksums
from signing.digest import hash_stream, open_regular, read_document
from signing.envelope import open_envelope, seal
from signing.errors import CertificateExpired, KeyUntrusted, ProvenanceMismatch
from signing.glance import sign_image, verify_image_signature
from signing.keys import KeyRing
from signing.manifest import (
    MANIFEST_FILE,
    PROVENANCE_FILE,
    EvidenceEntry,
    FormatEntry,
    OperatingSystem,
    ReleaseManifest,
    Version,
)
from signing.provenance import Provenance
from signing.signer import Signer, signer_for
from signing.trust import Trust

LEAF_MARGIN = timedelta(days=90)
# Properties that promise how long an image can be used, where they name a day.
PROMISES = ("provided_until", "uuid_validity")
# What Glance reads into the absence of these.
ABSENT = {"min_ram": "0", "min_disk": "0"}


@dataclass(frozen=True)
class SigningOrder:
    """What to sign: the `images` (format to path) of NAME@VERSION, the provenance that speaks of them, and the
    evidence that the provenance names. `properties` are what the image is to carry in Glance, `keys` is the URI of
    the keys."""

    name: str
    version: str
    os: Mapping[str, str]
    arch: str
    images: Mapping[str, Path]
    provenance: Path
    evidence: Sequence[Evidence]
    properties: Mapping[str, str]
    keys: str
    created: datetime
    expires: datetime | None


def sign(
    order: SigningOrder,
    trust: Trust,
    ring: KeyRing,
    output: Path,
    *,
    environment: Mapping[str, str],
    on_advance: Callable[[str], None],
) -> dict[str, str]:
    """Examine and sign; write into the directory `output`. Returns SHA-256 by name of the files written.

    Raises ImageRefused errors, EvidenceMissing, VersionMismatch, PropertyInvalid, PropertyContradicted, and errors of
    the room signing.
    """
    expires = _expiry(order, ring)
    _check_promises(order.properties, ring)
    provenance_raw = read_document(order.provenance)
    provenance = Provenance.from_statement(open_envelope(provenance_raw, trust.keys("provenance")))
    _check_invocation(order, provenance)
    glance = signer_for(order.keys, "glance")
    formats = {}
    for image_format, path in order.images.items():
        on_advance(f"{image_format}: hashing and inspecting")
        formats[image_format] = _examine(order, image_format, path, ring, glance, environment)
    _check_subjects(formats, provenance)
    entries = _check_evidence(order.evidence, formats, provenance)
    _check_properties(order, formats, provenance)
    provenance_sha256 = _sha256(provenance_raw)
    manifest = ReleaseManifest(
        name=order.name,
        version=Version.parse(order.version),
        os=OperatingSystem(**order.os),
        arch=order.arch,
        formats=formats,
        files={PROVENANCE_FILE: provenance_sha256},
        evidence=entries,
        properties=order.properties,
        created=order.created,
        expires=expires,
        development=ring.development,
    )
    on_advance("signing")
    release = signer_for(order.keys, "release")
    bundle = seal(manifest.to_statement(), release)
    sums = build_checksums(
        {
            **{entry.file: entry.sha256 for entry in formats.values()},
            PROVENANCE_FILE: provenance_sha256,
            MANIFEST_FILE: _sha256(bundle),
        }
    )
    written = {MANIFEST_FILE: bundle, CHECKSUMS_FILE: sums, SIGNATURE_FILE: sign_checksums(sums, release)}
    for name, content in written.items():
        (output / name).write_bytes(content)
    return {name: _sha256(content) for name, content in written.items()}


def check_keys(keys: str, ring: KeyRing, trust: Trust, claims: Mapping[str, str], *, now: datetime) -> None:
    """See that what the signer would sign now could be believed, and the properties `claims` be kept: before hours of
    work, not after them.

    Raises errors of the room signing.
    """
    _check_promises(claims, ring)
    release = signer_for(keys, "release")
    if release.keyid not in trust.release:
        raise KeyUntrusted(f"the trust file does not know the release key {release.keyid[:16]} of {ring.directory}")
    anything = bytes(64)
    signature = sign_image(signer_for(keys, "glance"), ring.certificate(), anything)
    verify_image_signature(signature, anything, trust.glance_ca, at=now)


def _examine(
    order: SigningOrder,
    image_format: str,
    path: Path,
    ring: KeyRing,
    glance: Signer,
    environment: Mapping[str, str],
) -> FormatEntry:
    file = f"{order.name}-{order.version}.{image_format}"
    descriptor = open_regular(path)
    try:
        digests = hash_stream(descriptor)
        inspect(descriptor, file, declared=image_format)
        virtual_size = qemu_img.virtual_size(descriptor, image_format, file, environment)
    finally:
        os.close(descriptor)
    sha512 = digests.sha512 or ""
    return FormatEntry(
        file=file,
        size=digests.size,
        virtual_size=virtual_size,
        sha256=digests.sha256,
        sha512=sha512,
        glance=sign_image(glance, ring.certificate(), bytes.fromhex(sha512)),
    )


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


def _check_properties(order: SigningOrder, formats: Mapping[str, FormatEntry], provenance: Provenance) -> None:
    """Nothing is claimed to the outside that the evidence does not bear out."""
    virtual_size = max(entry.virtual_size for entry in formats.values())
    proof = prove(order.evidence, virtual_size=virtual_size, built=provenance.started.date())
    properties.check_claims({"os_distro": order.os["distro"], "os_version": order.os["version"]}, proof)
    properties.check_claims({**ABSENT, **order.properties}, proof)


def _expiry(order: SigningOrder, ring: KeyRing) -> datetime | None:
    """No release outlives the certificate of its Glance signature, less LEAF_MARGIN."""
    last = _last_day(ring)
    if last <= order.created:
        raise CertificateExpired(f"the Glance certificate expires less than {LEAF_MARGIN.days} days from now")
    return last if order.expires is None else min(order.expires, last)


def _check_invocation(order: SigningOrder, provenance: Provenance) -> None:
    said = f"{provenance.external_parameters.get('name')}@{provenance.external_parameters.get('version')}"
    if said != f"{order.name}@{order.version}":
        raise VersionMismatch(f"the provenance is about {said}, not {order.name}@{order.version}")


def _check_subjects(formats: Mapping[str, FormatEntry], provenance: Provenance) -> None:
    found = {(entry.file, entry.sha256, entry.sha512) for entry in formats.values()}
    said = {(subject.name, subject.sha256, subject.sha512) for subject in provenance.subjects}
    if found != said:
        names = ", ".join(sorted({name for name, _, _ in found ^ said}))
        raise ProvenanceMismatch(f"the provenance speaks of other bytes than those to be signed: {names}")


def _check_evidence(
    evidence: Sequence[Evidence], formats: Mapping[str, FormatEntry], provenance: Provenance
) -> tuple[EvidenceEntry, ...]:
    """Every piece passed, is about an image of this release, and is one that the builder signed for; one image was
    booted, and every other is covered too."""
    signed_for = {byproduct.get("digest", {}).get("sha256") for byproduct in provenance.byproducts}
    images = {entry.sha256 for entry in formats.values()}
    for piece in evidence:
        if piece.digest not in signed_for:
            raise EvidenceMissing(f"the provenance does not name this evidence of kind {piece.kind}")
        if piece.about.removeprefix("sha256:") not in images:
            raise EvidenceMissing(f"evidence of kind {piece.kind} is about other bytes: {piece.about[:19]}")
        if piece.outcome != "pass":
            raise EvidenceMissing(f"evidence of kind {piece.kind} says {piece.outcome}")
    if not any(piece.kind == "boot" for piece in evidence):
        raise EvidenceMissing("there is no evidence that this release boots")
    covered = {piece.about.removeprefix("sha256:") for piece in evidence}
    if not images <= covered:
        missing = ", ".join(entry.file for entry in formats.values() if entry.sha256 not in covered)
        raise EvidenceMissing(f"there is no evidence about {missing}")
    return tuple(
        EvidenceEntry(piece.kind, piece.about.removeprefix("sha256:"), piece.digest, piece.outcome)
        for piece in evidence
    )


def _sha256(content: bytes) -> str:
    return sha256(content).hexdigest()
