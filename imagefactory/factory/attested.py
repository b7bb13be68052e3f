"""The builder's half of a release: what was made is attested, and by digest handed to whoever signs it."""

import os
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from datetime import UTC
from functools import cached_property
from pathlib import Path
from typing import Any, Self

from imagefactory.factory import standard, vulnerabilities
from imagefactory.factory.line import Line
from imagefactory.model import plan, properties, sbom
from imagefactory.model.compliance import Measurement
from imagefactory.model.evidence import Evidence
from imagefactory.model.packages import Package
from imagefactory.model.proof import prove
from imagefactory.model.recipe import Recipe
from imagefactory.model.release import sbom_file
from imagefactory.model.vulnerabilities import KIND, Assessment
from imagefactory.progress import Note
from imagefactory.settings import Settings
from imagefactory.steps import attest as attest_step
from imagefactory.steps.convert import Converted
from imagefactory.store.tables import StepResult
from imagefactory.tools.audit_log import AuditedSigner, AuditLog
from imagefactory.tools.inspect import opened
from imagefactory.tools.key_directory import open_keys
from signing.digest import Digests, hash_stream, read_document
from signing.manifest import PROVENANCE_FILE
from signing.signer import Signer, signer_in
from signing.strict_json import decode


@dataclass(frozen=True)
class Made:
    """What a build's steps made, all of it: `images` by format."""

    rootfs: StepResult
    sbom: StepResult
    compliance: StepResult | None
    vulnerabilities: StepResult | None
    disk: StepResult
    images: Mapping[str, StepResult]
    boot: StepResult

    @property
    def digests(self) -> dict[str, str]:
        """SHA-256 of each format."""
        return {name: image.outputs["image"] for name, image in self.images.items()}

    @cached_property
    def evidence(self) -> tuple[Evidence, ...]:
        return tuple(Evidence.from_json(piece) for piece in self.boot.facts["evidence"])

    def found_out(self, recipe: Recipe) -> dict[str, tuple[Evidence, ...]]:
        """What was measured and looked up, by kind, about the image that was booted: the others are proved to be the
        same disk. Raises ComplianceFailed, VulnerabilitiesFound."""
        boot = next(piece for piece in self.evidence if piece.kind == "boot")
        measured: tuple[Evidence, ...] = ()
        scanned: tuple[Evidence, ...] = ()
        if recipe.compliance is not None and self.compliance is not None:
            measured = (standard.evidence(recipe.compliance, self.compliance, boot),)
        if recipe.vulnerabilities is not None and self.vulnerabilities is not None:
            scanned = (vulnerabilities.evidence(recipe.vulnerabilities, self.vulnerabilities, boot.about),)
        return {plan.COMPLIANCE: measured, KIND: scanned}


@dataclass(frozen=True)
class Attested:
    """What a builder made and attested. Files are artifacts, named by their SHA-256.

    `images` has by format the digest ("sha256") and what is known of it, `documents` by name what is released beside
    them, `evidence` by kind what was proved, as JSON. `content_digest` says which inputs gave these images; the release
    is to begin on `channel`.
    """

    name: str
    version: str
    images: Mapping[str, Mapping[str, Any]]
    documents: Mapping[str, str]
    provenance: str
    evidence: Mapping[str, Sequence[Mapping[str, Any]]]
    content_digest: str
    channel: str

    def to_json(self) -> dict[str, Any]:
        return asdict(self)

    @classmethod
    def from_json(cls, document: Mapping[str, Any]) -> Self:
        return cls(**document)


def attest(line: Line, made: Made) -> Attested:
    """Say in a signed provenance how the images were made, and keep it with the bill of materials.

    Raises PropertyContradicted where the recipe claims what the build did not prove, ComplianceFailed,
    VulnerabilitiesFound, and errors of the room signing.
    """
    recipe = line.inputs.recipe
    work = line.directory("attest")
    _check_claims(line, made)
    sbom_name = sbom_file(recipe.name, line.version)
    (work / sbom_name).write_bytes(_sbom(line, made))
    found = made.found_out(recipe)
    _tell_needless(line, found)
    evidence = (*made.evidence, *(piece for pieces in found.values() for piece in pieces))
    documents = {sbom_name: line.keep(work / sbom_name, "document").sha256}
    (work / PROVENANCE_FILE).write_bytes(_provenance(line, made, evidence, documents))
    return Attested(
        name=recipe.name,
        version=str(line.version),
        images={name: {"sha256": image.outputs["image"], **image.facts} for name, image in made.images.items()},
        documents=documents,
        provenance=line.keep(work / PROVENANCE_FILE, "document").sha256,
        evidence={
            "boot": made.boot.facts["evidence"],
            **{kind: [piece.to_json() for piece in pieces] for kind, pieces in found.items()},
        },
        content_digest=line.inputs.content_digest(made.digests),
        channel=recipe.channels[0],
    )


def builder(settings: Settings) -> Signer:
    """The key of provenance. Raises errors of the room signing."""
    return signer_in(open_keys(settings.keys, settings.passphrase), "provenance")


def _check_claims(line: Line, made: Made) -> None:
    """The signer finds out the properties for itself, and does not know where in the recipe a wrong one is written.
    Packages are looked up right before a build starts, so its day is theirs."""
    size = max(image.facts["virtual_size"] for image in made.images.values())
    proof = prove(made.evidence, virtual_size=size, built=line.build.started.date())
    loaded = line.inputs.loaded
    properties.derive(loaded.recipe, proof, lambda key: loaded.where("properties", key))


def _tell_needless(line: Line, found: Mapping[str, Sequence[Evidence]]) -> None:
    """Exceptions that nothing needs any more: a scheduled build's log is where their owner sees it."""
    rules = {each.rule for piece in found[plan.COMPLIANCE] for each in Measurement.from_facts(piece.facts).needless}
    known = {each.cve for piece in found[KIND] for each in Assessment.from_facts(piece.facts).needless}
    for what in sorted(rules | known):
        line.progress(
            Note("warning", f"the exception for {what} is needless, nothing fails: take it out of the recipe")
        )


def _sbom(line: Line, made: Made) -> bytes:
    """The bill of materials of the release that this build is going to be."""
    raw = read_document(line.artifacts.require(made.sbom.outputs["sbom"]), most=sbom.MAX_SBOM)
    return sbom.of_release(decode(raw, "bill of materials", most=sbom.MAX_SBOM), line.version)


def _provenance(line: Line, made: Made, evidence: Sequence[Evidence], documents: Mapping[str, str]) -> bytes:
    account = attest_step.BuildAccount(
        name=line.inputs.recipe.name,
        version=str(line.version),
        build_id=line.build.id,
        recipe=line.inputs.loaded.document,
        recipe_digest=line.inputs.loaded.digest,
        elements=line.inputs.element_digests,
        distro=line.inputs.recipe.os.distro,
        codename=line.inputs.recipe.os.codename,
        packages=_packages(made.rootfs.facts["packages"]),
        in_releases=made.rootfs.facts["in_releases"],
        tools=line.inputs.tools,
        separated=os.geteuid() != 0,
        rootfs=made.rootfs.outputs["rootfs"],
        disk=made.disk.outputs["disk"],
        documents=documents,
        logs={**line.logged, **logs_in(line.log(plan.SIGN).parent)},
        started=line.build.started.replace(tzinfo=UTC),
        finished=line.records.now(),
        base=made.rootfs.facts.get("base"),
    )
    audited = AuditedSigner(builder(line.settings), AuditLog(line.settings.audit), f"{account.name}@{account.version}")
    return attest_step.attest(account, _converted(line, made), evidence, audited)


def _packages(rows: Sequence[Mapping[str, Any]]) -> dict[Package, str | None]:
    return {Package(row["name"], row["version"], row["architecture"]): row["sha256"] for row in rows}


def logs_in(directory: Path) -> dict[str, str]:
    """The SHA-256 of each log of a build that lies here. Steps that were not run have none; the signer's own is not
    written yet."""
    digests = {}
    for path in sorted(filter(Path.is_file, directory.iterdir())):
        with opened(path) as descriptor:
            digests[path.name] = hash_stream(descriptor, algorithms=("sha256",)).sha256
    return digests


def _converted(line: Line, made: Made) -> dict[str, Converted]:
    return {
        name: Converted(
            line.artifacts.require(image.outputs["image"]),
            name,
            image.facts["virtual_size"],
            Digests(image.facts["size"], image.outputs["image"], image.facts["sha512"]),
        )
        for name, image in made.images.items()
    }
