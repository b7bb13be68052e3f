"""The published standard that a recipe wants kept: held against what was measured, and turned into evidence."""

from collections.abc import Mapping
from datetime import UTC, date, datetime
from pathlib import Path
from typing import Any

from imagefactory.errors import ComplianceFailed, EvidenceMissing, ExceptionExpired
from imagefactory.factory.evidence import found_of
from imagefactory.model import plan
from imagefactory.model.compliance import Gate, Measurement, Outcome, Scan, Verdict, judge
from imagefactory.model.evidence import Evidence
from imagefactory.model.recipe import Recipe
from imagefactory.model.recipe_compliance import Compliance
from imagefactory.steps.compliance import read_tailoring
from imagefactory.store.records import Records
from imagefactory.store.tables import Release, StepResult
from imagefactory.tools.oscap import MAX_CONTENT, read_content, tailor
from imagefactory.tools.scap import DataStream
from signing.digest import read_document


def refuse_expired(recipe: Recipe) -> None:
    """Raises ExceptionExpired for a recipe with an exception of any kind whose day is over."""
    gates = [part.gate for part in (recipe.compliance, recipe.vulnerabilities) if part is not None]
    over = [each for gate in gates for each in gate.expired(_today())]
    if over:
        first, *rest = (f"{each.subject}: until {each.expires}, says {each.owner}" for each in over)
        raise ExceptionExpired(f"an exception has expired: {first}", lines=tuple(rest))


def require_files(wanted: Compliance, measured: StepResult) -> None:
    """See, before an image is made and booted, that no rule that files answer keeps it from being signed. The score is
    not known yet. Raises ComplianceFailed."""
    scan = Scan.from_json(measured.facts["scan"])
    _require(wanted, measured, scan.without_guest(), Gate(0, wanted.gate.exceptions))


def _require(wanted: Compliance, measured: StepResult, scan: Scan, gate: Gate) -> Verdict:
    verdict = judge(scan, gate, _today())
    if verdict.refused:
        first, *rest = verdict.refused
        failing = (f"{each.severity}: {each.rule} ({each.title})" for each in scan.failing())
        kept = f"report: sha256:{measured.outputs['report']}"
        read = f"imagefactory compliance last {measured.name} --html FILE writes the report"
        advice = f"{read}; {ComplianceFailed.default_advice}"
        raise ComplianceFailed(f"{wanted.profile}: {first}", advice=advice, lines=(*rest, *failing, kept))
    return verdict


def last(records: Records, name: str) -> tuple[Scan, str] | None:
    """What was last measured for a name, whatever became of it, and the digest ("sha256:HEX") of its report; None when
    nothing is kept. What only a running system answers is left out where no image of it was booted. Raises
    EvidenceMissing."""
    kept = [each for each in records.results() if each.name == name]
    newest = next((each for each in kept if each.step == plan.COMPLIANCE), None)
    if newest is None:
        return None
    booted = next((each for each in kept if each.step == plan.BOOT and each.facts.get("measured") == newest.key), None)
    try:
        scan = Scan.from_json(newest.facts["scan"])
        whole = scan.without_guest() if booted is None else scan.with_guest(_said_in(_boot_in(booted)))
        return whole, f"sha256:{newest.outputs['report']}"
    except (KeyError, TypeError, ValueError) as error:
        raise EvidenceMissing(f"what was last measured for {name} cannot be read") from error


def evidence(wanted: Compliance, measured: StepResult, boot: Evidence) -> Evidence:
    """The proof that the image which was booted keeps the standard: its files as `measured`, the rest as it said itself
    in its `boot`. Raises ComplianceFailed."""
    scan = Scan.from_json(measured.facts["scan"]).with_guest(_said_in(boot))
    verdict = _require(wanted, measured, scan, wanted.gate)
    measurement = Measurement(
        scan=scan,
        min_score=wanted.min_score,
        exceptions=verdict.excepted,
        needless=verdict.needless,
        rootfs=f"sha256:{measured.facts['rootfs']}",
        report=f"sha256:{measured.outputs['report']}",
    )
    return Evidence("compliance", boot.about, "pass", measurement.facts())


def _boot_in(booted: StepResult) -> Evidence:
    """The boot itself comes before what was found out from it."""
    return Evidence.from_json(booted.facts["evidence"][0])


def _said_in(boot: Evidence) -> Mapping[str, Outcome]:
    """What the guest measured of itself; nothing, where nobody asked it."""
    facts: Any = boot.to_json()["facts"]
    return next((one["measured"] for one in facts["boots"] if "measured" in one), {})


def measurement(release: Release) -> Measurement | None:
    """What the evidence of a release says; None when nobody measured it. Raises EvidenceMissing."""
    return found_of(release, plan.COMPLIANCE, Measurement.from_facts)


def check(wanted: Compliance, content: DataStream, distro: str, version: str) -> None:
    """See, before any work, that the content is for this system, and has the profile and each rule that an exception is
    for. Raises ContentInvalid, TailoringInvalid, ProfileUnknown, RuleUnknown."""
    known = read_content(read_document(content.path, most=MAX_CONTENT))
    if wanted.tailoring is not None:
        known = tailor(known, read_tailoring(Path(wanted.tailoring)))
    known.require_platform(distro, version)
    known.require_rules(known.profile(wanted.profile), [each.rule for each in wanted.exceptions])


def _today() -> date:
    return datetime.now(UTC).date()
