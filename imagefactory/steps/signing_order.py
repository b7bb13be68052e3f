"""An order to sign, what was found of its images, and the rules that both must keep (`steps.sign` has the list)."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from datetime import date, datetime, timedelta
from pathlib import Path
from typing import Any, TypeAlias

from imagefactory.errors import ComplianceFailed, EvidenceMissing, StepFailed, VulnerabilitiesFound
from imagefactory.model import compliance, properties, vulnerabilities
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
    the recipe in the provenance, which was approved. `asked` is when that was, by the clock of the records: what is
    signed has a time that everybody believes. `expires` is None for as late as possible."""

    name: str
    version: str
    images: Mapping[str, Path]
    documents: Mapping[str, Path]
    provenance: Path
    evidence: Sequence[Evidence]
    asked: datetime
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
    wanted = {kind for kind in GATES if wanted_by(provenance, kind) is not None}
    for digest, file in digests.items():
        if missing := ({"boot"} | wanted | approval.evidence) - kinds[digest]:
            raise EvidenceMissing(f"there is no evidence of kind {min(missing)} about {file}")
    return tuple(
        EvidenceEntry(piece.kind, piece.about.removeprefix("sha256:"), piece.digest, piece.outcome)
        for piece in evidence
    )


def wanted_by(provenance: Provenance, kind: str) -> Mapping[str, Any] | None:
    """What the approved recipe says about evidence of a kind; the part of the recipe has the same name. Raises
    ProvenanceInvalid."""
    said = provenance.external_parameters["recipe"].get(kind)
    if not isinstance(said, dict | None):
        raise ProvenanceInvalid(f"the recipe in the provenance has a part `{kind}` that is none")
    return said


def check_gates(evidence: Sequence[Evidence], provenance: Provenance, today: date) -> None:
    """Rule 6, what was measured and looked up: the signer holds it against the gates of the approved recipe by itself.

    Raises ComplianceFailed, VulnerabilitiesFound, ProvenanceInvalid.
    """
    for kind, (judged, error) in GATES.items():
        wanted = wanted_by(provenance, kind)
        for piece in evidence if wanted is not None else ():
            if piece.kind != kind:
                continue
            try:
                facts: Any = piece.to_json()["facts"]
                refused = judged(facts["scan"], wanted or {}, today)
            except (KeyError, TypeError, ValueError):
                raise ProvenanceInvalid(f"{kind}: what was found, or what the recipe wants, cannot be read") from None
            if refused:
                raise error(refused[0], lines=tuple(refused[1:]))


def _compliance(found: Mapping[str, Any], wanted: Mapping[str, Any], today: date) -> Sequence[str]:
    scan, gate = compliance.Scan.from_json(found), compliance.Gate.from_json(wanted)
    if not isinstance(wanted["profile"], str):
        raise TypeError("a profile has a name")
    # A recipe may write the whole id of a profile.
    profile = wanted["profile"].rpartition("_profile_")[2]
    content = wanted["content"]["sha256"] if "content" in wanted else scan.standard.content
    if scan.standard.profile != profile:
        return [f"the image was measured by {scan.standard.profile}, and the recipe says {profile}"]
    if scan.standard.content != content:
        return ["the image was measured by other SCAP content than the recipe names"]
    unasked = [each.rule for each in scan.rules if compliance.is_live(each.rule) and each.judge != "guest"]
    if unasked:
        return [f"only a running system can answer {each}, and none was asked" for each in unasked]
    return compliance.judge(scan, gate, today).refused


def _vulnerabilities(found: Mapping[str, Any], wanted: Mapping[str, Any], today: date) -> Sequence[str]:
    scan, feed = vulnerabilities.VulnerabilityScan.from_json(found), wanted["feed"]
    gate = vulnerabilities.Gate.from_json(wanted)
    if scan.feed.source != feed:
        return [f"the image was looked up in {scan.feed.source}, and the recipe says {feed}"]
    return vulnerabilities.judge(scan, gate, today).refused


_Judge: TypeAlias = Callable[[Mapping[str, Any], Mapping[str, Any], date], Sequence[str]]
# By the kind of evidence: who judges what was found, and how it is refused.
GATES: Mapping[str, tuple[_Judge, type[StepFailed]]] = {
    "compliance": (_compliance, ComplianceFailed),
    vulnerabilities.KIND: (_vulnerabilities, VulnerabilitiesFound),
}


def _digest_of(byproduct: Mapping[str, Any]) -> str | None:
    digest = byproduct.get("digest")
    found = digest.get("sha256") if isinstance(digest, dict) else None
    return found if isinstance(found, str) else None
