"""The published standard that a recipe wants kept: held against what was measured, and turned into evidence."""

from datetime import UTC, date, datetime
from pathlib import Path

from imagefactory.errors import ComplianceFailed, ExceptionExpired
from imagefactory.model.compliance import Measurement, Scan, Verdict, judge
from imagefactory.model.evidence import Evidence
from imagefactory.model.recipe import Recipe
from imagefactory.model.recipe_compliance import Compliance
from imagefactory.steps.compliance import read_tailoring
from imagefactory.store.tables import StepResult
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


def require(wanted: Compliance, measured: StepResult) -> Verdict:
    """What the gate says of a measurement. Raises ComplianceFailed."""
    scan = Scan.from_json(measured.facts["scan"])
    verdict = judge(scan, wanted.gate, _today())
    if verdict.refused:
        first, *rest = verdict.refused
        failing = (f"{each.severity}: {each.rule} ({each.title})" for each in scan.failing())
        raise ComplianceFailed(f"{wanted.profile}: {first}", lines=(*rest, *failing))
    return verdict


def evidence(wanted: Compliance, measured: StepResult, about: str) -> Evidence:
    """The proof that the image `about` ("sha256:HEX") keeps the standard. Raises ComplianceFailed."""
    verdict = require(wanted, measured)
    measurement = Measurement(
        scan=Scan.from_json(measured.facts["scan"]),
        min_score=wanted.min_score,
        exceptions=verdict.excepted,
        needless=verdict.needless,
        rootfs=f"sha256:{measured.facts['rootfs']}",
        report=f"sha256:{measured.outputs['report']}",
    )
    return Evidence("compliance", about, "pass", measurement.facts())


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
