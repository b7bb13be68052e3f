"""The known vulnerabilities that a recipe lets pass: held against what was found, and turned into evidence."""

from datetime import UTC, date, datetime

from imagefactory.errors import FeedStale, VulnerabilitiesFound
from imagefactory.factory.evidence import found_of
from imagefactory.model.evidence import Evidence
from imagefactory.model.recipe import LoadedRecipe
from imagefactory.model.recipe_vulnerabilities import Vulnerabilities
from imagefactory.model.vulnerabilities import KIND, Assessment, Verdict, VulnerabilityScan, judge, why_stale
from imagefactory.progress import Note, Progress
from imagefactory.settings import Settings
from imagefactory.store.tables import Release, StepResult
from imagefactory.tools.apt import through
from imagefactory.tools.feed_source import FeedFile, get_feed

MOST_SHOWN = 50  # lines of an error


def feed_of(loaded: LoadedRecipe, settings: Settings, progress: Progress) -> FeedFile | None:
    """The feed that the recipe wants its image held against, if any. `progress` is told when it has to be fetched.

    Raises FeedMissing, FeedTooLarge, FeedUnreachable, FeedStale, ProgramMissing.
    """
    wanted = loaded.recipe.vulnerabilities
    if wanted is None:
        return None
    written = loaded.document["vulnerabilities"]["feed"]
    environment = through(loaded.recipe.proxy, settings.environment)
    found = get_feed(
        settings.feeds,
        wanted.feed,
        written,
        environment,
        on_fetch=lambda: progress(Note("info", f"fetching {wanted.feed}")),
    )
    stale = why_stale(found.dated, _today())
    if stale is not None:
        raise FeedStale(f"{wanted.feed}: {stale}")
    return found


def require(wanted: Vulnerabilities, scanned: StepResult) -> Verdict:
    """What the gate says of what was found. Raises VulnerabilitiesFound."""
    scan = VulnerabilityScan.from_json(scanned.facts["scan"])
    verdict = judge(scan, wanted.gate, _today())
    if verdict.refused:
        first, *rest = verdict.refused
        left = [f"and {len(rest) - MOST_SHOWN} more"] if len(rest) > MOST_SHOWN else []
        raise VulnerabilitiesFound(first, lines=(*rest[:MOST_SHOWN], *left))
    return verdict


def evidence(wanted: Vulnerabilities, scanned: StepResult, about: str) -> Evidence:
    """The proof that the image `about` ("sha256:HEX") has no known vulnerability that the recipe does not let pass.
    Raises VulnerabilitiesFound."""
    verdict = require(wanted, scanned)
    assessment = Assessment(
        scan=VulnerabilityScan.from_json(scanned.facts["scan"]),
        max_severity=wanted.max_severity,
        exceptions=verdict.excepted,
        needless=verdict.needless,
        rootfs=f"sha256:{scanned.facts['rootfs']}",
    )
    return Evidence(KIND, about, "pass", assessment.facts())


def assessment(release: Release) -> Assessment | None:
    """What the evidence of a release says; None when it was not scanned. Raises EvidenceMissing."""
    return found_of(release, KIND, Assessment.from_facts)


def _today() -> date:
    return datetime.now(UTC).date()
