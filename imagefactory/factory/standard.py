"""The published standard that a recipe wants kept: held against what was measured, and turned into evidence."""

from datetime import UTC, date, datetime

from imagefactory.errors import ComplianceFailed, ExceptionExpired
from imagefactory.model.compliance import RuleException, Scan, Verdict, judge, percent
from imagefactory.model.evidence import JSON, Evidence
from imagefactory.model.recipe import Recipe
from imagefactory.model.recipe_compliance import Compliance
from imagefactory.store.tables import StepResult


def refuse_expired(recipe: Recipe) -> None:
    """Raises ExceptionExpired for a recipe with an exception whose day is over."""
    over = recipe.compliance.gate.expired(_today()) if recipe.compliance else ()
    if over:
        first, *rest = (f"{each.rule}: until {each.expires}, says {each.owner}" for each in over)
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
    scan = Scan.from_json(measured.facts["scan"])
    facts: dict[str, JSON] = {
        "scan": scan.to_json(),
        "score": percent(scan.score),
        "min_score": wanted.min_score,
        "exceptions": [_exception(each) for each in verdict.excepted],
        "needless": [_exception(each) for each in verdict.needless],
        "rootfs": f"sha256:{measured.facts['rootfs']}",
        "report": f"sha256:{measured.outputs['report']}",
    }
    return Evidence("compliance", about, "pass", facts)


def _exception(each: RuleException) -> JSON:
    return {"rule": each.rule, "reason": each.reason, "owner": each.owner, "expires": each.expires.isoformat()}


def _today() -> date:
    return datetime.now(UTC).date()
