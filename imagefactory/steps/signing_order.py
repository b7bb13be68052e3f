"""An order to sign, what was found of its images, and the rules that both must keep (`steps.sign` has the list)."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import date, datetime, timedelta
from pathlib import Path
from typing import Any

from imagefactory.errors import ComplianceFailed, EvidenceMissing
from imagefactory.model import properties
from imagefactory.model.compliance import Gate, Scan, judge
from imagefactory.model.evidence import Evidence
from imagefactory.model.policy import Approval
from imagefactory.model.proof import prove
from imagefactory.model.property_forms import day_of
from signing.digest import Digests
from signing.errors import CertificateExpired, ManifestInvalid, ProvenanceInvalid, ProvenanceMismatch
from signing.keys import KeyRing
from signing.manifest import EvidenceEntry, OperatingSystem
from signing.properties import read_properties
from signing.provenance import Provenance
from signing.statement import Subject

LEAF_MARGIN = timedelta(days=90)
LONGEST = timedelta(days=365)
"""How long a release may be believed without being renewed."""
# Properties that promise how long an image can be used, where they name a day.
PROMISES = ("provided_until", "uuid_validity")


@dataclass(frozen=True)
class SigningOrder:
    """What to sign: the `images` (format to path) of NAME@VERSION, the `documents` released beside them (name to path),
    the provenance that speaks of all of these, and the evidence that it names. What else the manifest says comes from
    the recipe in the provenance, which was approved. `expires` is None for as late as possible."""

    name: str
    version: str
    images: Mapping[str, Path]
    documents: Mapping[str, Path]
    provenance: Path
    evidence: Sequence[Evidence]
    expires: datetime | None


@dataclass(frozen=True)
class Examined:
    """An image as it was found: plain file name, digests, and its size as a guest sees it in bytes."""

    file: str
    digests: Digests
    virtual_size: int

    @property
    def subject(self) -> Subject:
        return Subject(self.file, self.digests.sha256, self.digests.sha512 or "")


def system_of(provenance: Provenance) -> tuple[OperatingSystem, str, Mapping[str, Any]]:
    """What the approved recipe says: operating system, architecture, and the whole. Raises ProvenanceInvalid."""
    recipe = provenance.external_parameters["recipe"]
    said = recipe.get("os")
    keys = ("distro", "version", "codename", "arch")
    if not isinstance(said, dict) or not all(isinstance(said.get(key), str) for key in keys):
        raise ProvenanceInvalid("the recipe in the provenance does not say for which operating system it is")
    return OperatingSystem(said["distro"], said["version"], said["codename"]), said["arch"], recipe


def _last_day(ring: KeyRing) -> datetime:
    """How long the certificate of the Glance signatures serves: Nova checks its dates, too."""
    return ring.certificate().not_valid_after_utc.replace(microsecond=0) - LEAF_MARGIN


def check_promises(claims: Mapping[str, str], ring: KeyRing) -> None:
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


def properties_of(
    order: SigningOrder,
    images: Mapping[str, Examined],
    provenance: Provenance,
    system: OperatingSystem,
    recipe: Mapping[str, Any],
) -> dict[str, str]:
    """Rule 7: what the image carries in Glance. Nothing that the evidence does not bear out, or that no manifest can
    hold."""
    size = max(image.virtual_size for image in images.values())
    proof = prove(order.evidence, virtual_size=size, built=provenance.started.date())
    typed, description = recipe.get("properties", {}), recipe.get("description")
    if not isinstance(typed, dict) or not isinstance(description, str | None):
        raise ProvenanceInvalid("the recipe in the provenance has properties or a description that are none")
    texts = {key: str(value) for key, value in typed.items()}
    made = properties.derive_from(texts, system.distro, system.version, description, proof)
    try:
        return read_properties(made)
    except ValueError as why:
        raise ManifestInvalid(f"the properties to be signed: {why}") from None


def last_day_after(now: datetime, ring: KeyRing) -> datetime:
    """How long the certificate serves, which is longer than `now`. Raises CertificateExpired."""
    last = _last_day(ring)
    if last <= now:
        raise CertificateExpired(f"the Glance certificate expires less than {LEAF_MARGIN.days} days from now")
    return last


def expiry(order: SigningOrder, ring: KeyRing, now: datetime) -> datetime:
    """No release outlives the certificate of its Glance signature, less LEAF_MARGIN, or is believed for longer than
    LONGEST."""
    return min(last_day_after(now, ring), now + LONGEST, order.expires or now + LONGEST)


def check_subjects(images: Mapping[str, Examined], provenance: Provenance) -> None:
    """Rule 3: the images are those of the provenance. Raises ProvenanceMismatch."""
    found, said = {image.subject for image in images.values()}, set(provenance.subjects)
    if found != said:
        names = ", ".join(sorted({subject.name for subject in found ^ said}))
        raise ProvenanceMismatch(f"the provenance speaks of other bytes than those to be signed: {names}")


def check_evidence(
    evidence: Sequence[Evidence], images: Mapping[str, Examined], provenance: Provenance, approval: Approval
) -> tuple[EvidenceEntry, ...]:
    """Rule 6. What is the same disk as another image of the release shares its evidence."""
    signed_for = {_digest_of(byproduct) for byproduct in provenance.byproducts}
    digests = {image.digests.sha256: image.file for image in images.values()}
    kinds: dict[str, set[str]] = {digest: set() for digest in digests}
    for piece in evidence:
        about = piece.about.removeprefix("sha256:")
        if piece.digest not in signed_for:
            raise EvidenceMissing(f"the provenance does not name this evidence of kind {piece.kind}")
        if about not in digests:
            raise EvidenceMissing(f"evidence of kind {piece.kind} is about other bytes: {piece.about[:19]}")
        if piece.outcome != "pass":
            raise EvidenceMissing(f"evidence of kind {piece.kind} says {piece.outcome}")
        kinds[about].add(piece.kind)
    for piece in evidence:
        if piece.kind == "same-disk":  # what was found out about one is true of the other
            kinds[piece.about.removeprefix("sha256:")] |= kinds.get(str(piece.facts.get("booted"))[7:], set())
    if not any("boot" in found for found in kinds.values()):
        raise EvidenceMissing("there is no evidence that this release boots")
    wanted = {"compliance"} if measured_by(provenance) else set()
    for digest, file in digests.items():
        if missing := ({"boot"} | wanted | approval.evidence) - kinds[digest]:
            raise EvidenceMissing(f"there is no evidence of kind {min(missing)} about {file}")
    return tuple(
        EvidenceEntry(piece.kind, piece.about.removeprefix("sha256:"), piece.digest, piece.outcome)
        for piece in evidence
    )


def measured_by(provenance: Provenance) -> Mapping[str, Any] | None:
    """What the approved recipe says about compliance. Raises ProvenanceInvalid."""
    said = provenance.external_parameters["recipe"].get("compliance")
    if not isinstance(said, dict | None):
        raise ProvenanceInvalid("the recipe in the provenance has a part `compliance` that is none")
    return said


def check_compliance(evidence: Sequence[Evidence], provenance: Provenance, today: date) -> None:
    """Rule 6, what was measured: the signer holds it against the gate of the approved recipe by itself.

    Raises ComplianceFailed, ProvenanceInvalid.
    """
    wanted = measured_by(provenance)
    if wanted is None:
        return
    for piece in evidence:
        if piece.kind == "compliance":
            refused = _judged(piece, wanted, today)
            if refused:
                raise ComplianceFailed(refused[0], lines=tuple(refused[1:]))


def _judged(piece: Evidence, wanted: Mapping[str, Any], today: date) -> Sequence[str]:
    try:
        facts: Any = piece.to_json()["facts"]
        scan = Scan.from_json(facts["scan"])
        gate = Gate.from_json(wanted)
        # A recipe may write the whole id of a profile.
        profile = wanted["profile"].rpartition("_profile_")[2]
        content = wanted["content"]["sha256"] if "content" in wanted else scan.standard.content
    except (AttributeError, KeyError, TypeError, ValueError):
        raise ProvenanceInvalid("the measurement, or what the recipe wants of it, cannot be read") from None
    if scan.standard.profile != profile:
        return [f"the image was measured by {scan.standard.profile}, and the recipe says {profile}"]
    if scan.standard.content != content:
        return ["the image was measured by other SCAP content than the recipe names"]
    return judge(scan, gate, today).refused


def _digest_of(byproduct: Mapping[str, Any]) -> str | None:
    digest = byproduct.get("digest")
    found = digest.get("sha256") if isinstance(digest, dict) else None
    return found if isinstance(found, str) else None
