"""From what a build made to a signed release: the builder attests, the signer's hand signs, the records keep it."""

import os
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from functools import cached_property
from pathlib import Path
from typing import Any

from imagefactory.factory import standard, vulnerabilities
from imagefactory.factory.inputs import Inputs
from imagefactory.factory.line import Line
from imagefactory.model import plan, properties, sbom
from imagefactory.model.compliance import Measurement
from imagefactory.model.evidence import Evidence
from imagefactory.model.packages import Package
from imagefactory.model.proof import prove
from imagefactory.model.recipe import Recipe
from imagefactory.model.release import Version, sbom_file
from imagefactory.model.vulnerabilities import KIND, Assessment
from imagefactory.progress import Note, advancer, silent
from imagefactory.settings import Settings
from imagefactory.steps import attest
from imagefactory.steps.convert import Converted
from imagefactory.store.tables import Release, StepResult
from imagefactory.tools.audit_log import AuditedSigner, AuditLog
from imagefactory.tools.hand import call_signer
from imagefactory.tools.inspect import opened
from imagefactory.tools.key_directory import open_keys
from signing.digest import Digests, hash_stream, read_document
from signing.errors import KeyUntrusted
from signing.manifest import PROVENANCE_FILE
from signing.signer import Signer, signer_in
from signing.strict_json import decode
from signing.trust import Trust

# How long a release may be trusted without being renewed.
EXPIRY = timedelta(days=365)


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


def sign(line: Line, made: Made) -> Release:
    """Attest as the builder, have the signer sign, and record the release.

    Raises PropertyContradicted where the recipe claims what the build did not prove, and what the signer raises.
    """
    recipe = line.inputs.recipe
    work = line.directory("sign")
    _check_claims(line, made)
    sbom_name = sbom_file(recipe.name, line.version)
    (work / sbom_name).write_bytes(_sbom(line, made))
    found = made.found_out(recipe)
    _tell_needless(line, found)
    evidence = (*made.evidence, *(piece for pieces in found.values() for piece in pieces))
    others = {sbom_name: line.keep(work / sbom_name, "document").sha256}
    (work / PROVENANCE_FILE).write_bytes(_attest(line, made, evidence, others))
    answer = call_signer(
        {
            "action": "sign",
            "name": recipe.name,
            "version": str(line.version),
            "images": {name: str(line.artifacts.require(digest)) for name, digest in made.digests.items()},
            "documents": {name: str(line.artifacts.require(digest)) for name, digest in others.items()},
            "provenance": str(work / PROVENANCE_FILE),
            "evidence": [piece.to_json() for piece in evidence],
            **_signers(line.settings, line.trust_file),
            "output": str(work),
            "expires": int((datetime.now(UTC) + EXPIRY).timestamp()),
            "environment": line.settings.environment,
        },
        environment=line.settings.signer_environment,
        log=line.log(plan.SIGN),
        on_advance=line.advancer(plan.SIGN),
    )
    documents = {name: line.keep(work / name, "document").sha256 for name in answer["files"]}
    files = {f"{recipe.name}-{line.version}.{name}": digest for name, digest in made.digests.items()}
    return line.records.add_release(
        line.build,
        content_digest=line.inputs.content_digest(made.digests),
        files={**files, **others, **documents},
        channel=line.inputs.recipe.channels[0],
        images={name: {"sha256": image.outputs["image"], **image.facts} for name, image in made.images.items()},
        evidence={
            "boot": made.boot.facts["evidence"],
            **{kind: [piece.to_json() for piece in pieces] for kind, pieces in found.items()},
        },
    )


def check(inputs: Inputs, settings: Settings, trust: Trust, trust_file: Path) -> Version | None:
    """See, before any work, that builder and signer have their keys, that the trust file believes them, that the policy
    approves what is to be built, and that the certificate lasts as long as the recipe promises. Returns the greatest
    version that the signer ever signed for this name: it outlives the records.

    Raises SignerRefused with a code of the room signing, and its errors for the builder's own key.
    """
    if (by := inputs.measuring) is not None:
        standard.check(by.wanted, by.content, inputs.recipe.os.distro, inputs.recipe.os.version)
    provenance = _builder(settings)
    if provenance.keyid not in trust.provenance:
        raise KeyUntrusted(f"{trust_file} does not know the provenance key {provenance.keyid[:16]}")
    trust.require_name(provenance.keyid, inputs.recipe.name)
    answer = call_signer(
        {
            "action": "check",
            "name": inputs.recipe.name,
            "builder": provenance.keyid,
            "recipe": inputs.loaded.digest,
            "elements": dict(inputs.element_digests),
            "properties": properties.typed_in(inputs.recipe),
            **_signers(settings, trust_file),
        },
        environment=settings.signer_environment,
        log=settings.logs / "signer.log",
        on_advance=advancer(silent, plan.SIGN),
    )
    return Version.parse(answer["newest"]) if answer["newest"] else None


def _signers(settings: Settings, trust_file: Path) -> dict[str, Any]:
    """Where the signer finds what is its own."""
    return {
        "keys": str(settings.keys),
        "passphrase": settings.passphrase.for_signer(),
        "trust": str(trust_file),
        "policy": [str(path) for path in settings.policy_files()],
        "signed": str(settings.signed),
        "audit": str(settings.audit),
    }


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


def _attest(line: Line, made: Made, evidence: Sequence[Evidence], documents: Mapping[str, str]) -> bytes:
    account = attest.BuildAccount(
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
        logs=_logs(Path(line.build.logs)),
        started=line.build.started.replace(tzinfo=UTC),
        finished=datetime.now(UTC),
        base=made.rootfs.facts.get("base"),
    )
    audited = AuditedSigner(_builder(line.settings), AuditLog(line.settings.audit), f"{account.name}@{account.version}")
    return attest.attest(account, _converted(line, made), evidence, audited)


def _packages(rows: Sequence[Mapping[str, Any]]) -> dict[Package, str | None]:
    return {Package(row["name"], row["version"], row["architecture"]): row["sha256"] for row in rows}


def _logs(directory: Path) -> dict[str, str]:
    """The digest of each log of this build. Steps that were not run have none; the signer's own is not written yet."""
    digests = {}
    for path in sorted(filter(Path.is_file, directory.iterdir())):
        with opened(path) as descriptor:
            digests[path.name] = hash_stream(descriptor, algorithms=("sha256",)).sha256
    return digests


def _builder(settings: Settings) -> Signer:
    return signer_in(open_keys(settings.keys, settings.passphrase), "provenance")


def _converted(line: Line, made: Made) -> dict[str, Converted]:
    return {
        name: Converted(
            line.artifacts.path(image.outputs["image"]),
            name,
            image.facts["virtual_size"],
            Digests(image.facts["size"], image.outputs["image"], image.facts["sha512"]),
        )
        for name, image in made.images.items()
    }
