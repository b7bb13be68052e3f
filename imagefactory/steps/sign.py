"""Signing, as the signer's hand does it: it is told where things lie, and finds out for itself what they are.

Rules, in order; the first that is broken refuses, and the refusal is in the audit log:

1. The provenance is signed by a provenance key that the trust file believes for this name, and is about this name and
   version. The builder's word counts only as far as it goes. The release key here is believed for this name, too.
2. The policy approves name, builder, recipe and elements (`model.policy`).
3. Each image is a regular file of its format, safe to open (`tools.inspect`). It is opened once, and nobody writes to
   it meanwhile; what is signed are the digests of that descriptor, and they are those of the provenance.
4. The bill of materials is valid CycloneDX, about this release, and the very file that the provenance names. Nothing
   else is released beside images.
5. What was signed under this version already is given out again if it is the same files, and else refused. A new
   version is greater than any that was signed for the name: the signer's own memory knows (`tools.signed`), and its log
   where the memory was lost. No version is of a day to come, and the time is about that of the records.
6. There is passing evidence of every kind that the policy wants, a boot at least, about every image, named by the
   provenance. What is the same disk as another image of the release shares its evidence. Where the approved recipe
   wants a standard kept or known vulnerabilities looked up, what was found reaches the recipe's gates today.
7. Operating system, architecture and properties are those of the approved recipe and of the evidence; the caller says
   none of them. They promise nothing that outlives the certificate.

Only then are keys used. What comes out are release.sigstore.json, SHA256SUMS, SHA256SUMS.sig, and the provenance that
belongs to them.
"""

import os
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from hashlib import sha256
from pathlib import Path

from cryptography.x509 import Certificate

from imagefactory.errors import PolicyInvalid, SbomInvalid, VersionAhead, VersionMismatch, VersionUsed
from imagefactory.model.clock import require_agreed
from imagefactory.model.policy import Approval, Policy, inputs_of
from imagefactory.model.release import ReleaseRef, sbom_file
from imagefactory.model.release import Version as ReleaseVersion
from imagefactory.model.sbom import MAX_SBOM
from imagefactory.steps import sbom
from imagefactory.steps.signing_order import (
    Examined,
    SigningOrder,
    check_evidence,
    check_gates,
    check_promises,
    check_subjects,
    expiry,
    last_day_after,
    properties_of,
    system_of,
)
from imagefactory.tools import qemu_img
from imagefactory.tools.audit_log import AuditedSigner, AuditLog, refusals
from imagefactory.tools.inspect import inspect
from imagefactory.tools.signed import SignedStore
from signing.checksums import CHECKSUMS_FILE, SIGNATURE_FILE, build_checksums, sign_checksums
from signing.digest import FileState, hash_stream, open_regular, read_document, require_unchanged
from signing.envelope import open_envelope, parse_bundle, seal
from signing.errors import KeyUntrusted, ProvenanceMismatch
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
from signing.provenance import Provenance
from signing.signer import Signer, signer_in
from signing.trust import Trust


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
class Findings:
    """What the manifest is going to say, all of it examined."""

    images: Mapping[str, Examined]
    files: Mapping[str, str]
    system: OperatingSystem
    arch: str
    evidence: tuple[EvidenceEntry, ...]
    properties: Mapping[str, str]
    created: datetime
    expires: datetime


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
    HostClockOff, and errors of the room signing.
    """
    about = ReleaseRef.parse(f"{order.name}@{order.version}")
    with refusals(own.log, str(about)), own.memory.hold(about.name):
        documents = _documents(order, own, environment, on_advance)
    for name, content in documents.items():
        (output / name).write_bytes(content)
    return {name: _sha256(content) for name, content in documents.items()}


def _documents(
    order: SigningOrder, own: Signers, environment: Mapping[str, str], on_advance: Callable[[str], None]
) -> dict[str, bytes]:
    now = datetime.now(UTC).replace(microsecond=0)
    require_agreed(now, order.asked)
    raw, provenance, approval = _account(order, own)
    system, arch, said = system_of(provenance)
    images = {}
    for image_format, path in order.images.items():
        on_advance(f"{image_format}: hashing and inspecting")
        images[image_format] = _examine(f"{order.name}-{order.version}.{image_format}", image_format, path, environment)
    check_subjects(images, provenance)
    others = _examine_documents(order, provenance)
    earlier = _earlier(order, own, provenance, others, now)
    if earlier is not None:
        own.log.append("given-again", about=f"{order.name}@{order.version}", manifest=_sha256(earlier[MANIFEST_FILE]))
        return earlier
    entries = check_evidence(order.evidence, images, provenance, approval)
    check_gates(order.evidence, provenance, now.date())
    claims = properties_of(order, images, provenance, system, said)
    check_promises(claims, own.ring)
    expires = expiry(order, own.ring, now)
    on_advance("signing")
    documents = _signed(
        order,
        own,
        Findings(images, {**others, PROVENANCE_FILE: _sha256(raw)}, system, arch, entries, claims, now, expires),
    )
    documents[PROVENANCE_FILE] = raw
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
) -> ReleaseVersion | None:
    """See that what the signer would sign now it may sign, could be believed, and the properties `claims` be kept:
    before hours of work, not after them. `builder` is the keyid that will sign the provenance; digests are in hex.

    Returns the greatest version that was signed for `name`, which the next one has to follow. Raises VersionAhead,
    MemoryDamaged, errors about the policy and of the room signing.
    """
    with refusals(own.log, name):
        known = ReleaseRef.parse(name).name
        own.approval(name).check(name, builder, recipe, elements)
        check_promises(claims, own.ring)
        last_day_after(now, own.ring)
        _require_believed(own, signer_in(own.ring, "release").keyid, known)
        anything = bytes(64)
        signature = sign_image(own.use("glance", f"check of {name}"), own.ring.certificate(), anything)
        verify_image_signature(signature, anything, own.trust.glance_ca, at=now)
        with own.memory.hold(known):
            newest = _newest(own, known)
        if newest is not None:
            _check_day(known, newest, now)
        return newest


def _account(order: SigningOrder, own: Signers) -> tuple[bytes, Provenance, Approval]:
    """Rules 1 and 2."""
    raw = read_document(order.provenance)
    bundle = parse_bundle(raw)
    provenance = Provenance.from_statement(bundle.open(own.trust.keys("provenance")))
    said = f"{provenance.external_parameters.get('name')}@{provenance.external_parameters.get('version')}"
    if said != f"{order.name}@{order.version}":
        raise VersionMismatch(f"the provenance is about {said}, not {order.name}@{order.version}")
    own.trust.require_name(bundle.keyid, order.name)
    _require_believed(own, own.ring.keyid("release"), order.name)
    approval = own.approval(order.name)
    approval.check(order.name, bundle.keyid, *inputs_of(provenance))
    return raw, provenance, approval


def _require_believed(own: Signers, keyid: str, name: str) -> None:
    """Nobody would believe what is signed here otherwise. Raises KeyUntrusted, KeyName."""
    if keyid not in own.trust.release:
        raise KeyUntrusted(f"the trust file does not know the release key {keyid[:16]} of {own.ring.directory}")
    own.trust.require_name(keyid, name)


def _examine(file: str, image_format: str, path: Path, environment: Mapping[str, str]) -> Examined:
    descriptor = open_regular(path)
    try:
        before = FileState.of(descriptor)
        digests = hash_stream(descriptor)
        inspect(descriptor, file, declared=image_format)
        size = qemu_img.virtual_size(descriptor, image_format, file, environment)
        # What was inspected is what was hashed.
        require_unchanged(descriptor, before)
        return Examined(file, digests, size)
    finally:
        os.close(descriptor)


def _earlier(
    order: SigningOrder, own: Signers, provenance: Provenance, others: Mapping[str, str], now: datetime
) -> dict[str, bytes] | None:
    """Rule 5: what was signed under this version, which must have been these very files.

    Raises VersionUsed, VersionAhead, MemoryDamaged.
    """
    version = ReleaseVersion.parse(order.version)
    _check_day(order.name, version, now)
    documents = own.memory.documents(order.name, version)
    if documents is not None:
        statement = open_envelope(documents[MANIFEST_FILE], own.trust.keys("release"))
        manifest = ReleaseManifest.from_statement(statement)
        if manifest.subjects != provenance.subjects:
            raise VersionUsed(f"{order.name}@{order.version} was signed already, for other images")
        if {**manifest.files, **others} != manifest.files:
            raise VersionUsed(f"{order.name}@{order.version} was signed already, with another bill of materials")
        return documents
    newest = _newest(own, order.name)
    if newest == version:
        raise VersionUsed(f"{order.name}@{newest} was signed already, says the log, and the signer's memory is lost")
    if newest is not None and newest > version:
        raise VersionUsed(f"{order.name}@{newest} was signed already, which is newer than {order.version}")
    return None


def _check_day(name: str, version: ReleaseVersion, now: datetime) -> None:
    if version.day > int((now + timedelta(days=1)).strftime("%Y%m%d")):
        raise VersionAhead(f"{name}@{version} is of a day that has not come yet")


def _newest(own: Signers, name: str) -> ReleaseVersion | None:
    """The greatest version signed for a name. A memory that knows nothing of it was perhaps lost; the log remembers."""
    if known := own.memory.newest(name):
        return known
    signed = (entry.details.get("about", "") for entry in own.log.entries() if entry.event == "signed")
    refs = (ReleaseRef.parse(about) for about in signed if about.startswith(f"{name}@"))
    return max((ref.version for ref in refs if ref.version is not None), default=None)


def _signed(order: SigningOrder, own: Signers, found: Findings) -> dict[str, bytes]:
    about = f"{order.name}@{order.version}"
    glance, release = own.use("glance", about), own.use("release", about)
    images = found.images
    formats = {name: _entry(image, glance, own.ring.certificate()) for name, image in images.items()}
    digests = {entry.file: entry.sha256 for entry in formats.values()}
    manifest = ReleaseManifest(
        name=order.name,
        version=Version.parse(order.version),
        os=found.system,
        arch=found.arch,
        formats=formats,
        files=found.files,
        evidence=found.evidence,
        properties=found.properties,
        audit=own.log.append(
            "signing", about=about, images=" ".join(image.digests.sha256 for image in images.values())
        ),
        created=found.created,
        expires=found.expires,
        development=own.ring.development,
    )
    bundle = seal(manifest.to_statement(), release)
    sums = build_checksums({**digests, **manifest.files, MANIFEST_FILE: _sha256(bundle)})
    return {
        MANIFEST_FILE: bundle,
        CHECKSUMS_FILE: sums,
        SIGNATURE_FILE: sign_checksums(sums, release),
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


def _sha256(content: bytes) -> str:
    return sha256(content).hexdigest()
