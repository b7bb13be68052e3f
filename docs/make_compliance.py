"""Write docs/reference/compliance.md from releases: what was signed with them, and nothing that somebody typed.

`python -m docs.make_compliance --plain NAME RELEASE...` looks into the home that IMAGEFACTORY_HOME names. Each RELEASE
was measured by a standard; the first is compared with the release `--plain`, which has the same packages and is not
hardened. Both are NAME or NAME@VERSION.

All numbers but one come from evidence whose digest the signed manifest of its release has. How long the scanner took on
the files is no part of it: that is the time between two results of one build in the records.
"""

import argparse
import itertools
import re
import sys
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from docs.make_reference import table
from imagefactory.errors import EvidenceMissing, FactoryError, NotMeasured
from imagefactory.factory import standard
from imagefactory.factory.loop import Factory
from imagefactory.model import plan
from imagefactory.model.compliance import FAILED, Measurement, RuleException, RuleResult, percent
from imagefactory.model.evidence import Evidence
from imagefactory.model.release import ReleaseRef
from imagefactory.settings import read_settings
from imagefactory.store.records import release_version
from imagefactory.store.tables import Release
from imagefactory.wiring import factory
from signing.digest import read_document
from signing.errors import SigningError
from signing.manifest import MANIFEST_FILE
from signing.trust import Trust, find_trust, load_trust
from signing.verify import VerifiedManifest, verify_manifest

PAGE = Path(__file__).parent / "reference" / "compliance.md"
MADE = "<!-- Made by make compliance from signed releases. Build them again, do not edit this page. -->\n"
MOST_SECONDS = 90  # of both measurements together, in software emulation
MOST_TIMES = 1.25  # the plain image's size, and its time to boot
_MEASURED = re.compile(r"\d+ rules, (?P<seconds>\d+) s")  # steps/boot_rounds.py


@dataclass(frozen=True)
class Subject:
    """A release as its evidence has it: the qcow2 or other image that was booted in bytes; for each boot the seconds
    since its start by phase; what the machine was; what was measured, and the seconds that took on the files (None: not
    known) and in the guest (None: it was not asked)."""

    name: str
    version: str
    created: datetime
    keyid: str
    size: int
    machine: str
    boots: Mapping[str, Mapping[str, float]]
    measurement: Measurement | None = None
    files_seconds: float | None = None
    guest_seconds: float | None = None

    @property
    def release(self) -> str:
        return f"{self.name}@{self.version}"


# -- reading ----------------------------------------------------------------------------------------------------------


def read(made: Factory, trust: Trust, text: str, now: datetime) -> Subject:
    """The release `text` (NAME or NAME@VERSION), after a look at what was signed, at the aware time `now`.

    Raises ReleaseUnknown, EvidenceMissing, and errors of the room signing.
    """
    release = made.records.release(ReleaseRef.parse(text))
    signed = _verified(made, trust, release, now)
    booted = _signed_evidence(release, "boot", signed)
    facts: Any = booted.to_json()["facts"]
    images = [each["size"] for each in release.images.values() if f"sha256:{each['sha256']}" == booted.about]
    if release.evidence.get("compliance"):
        _signed_evidence(release, "compliance", signed)
    measurement = standard.measurement(release)
    return Subject(
        name=release.name,
        version=str(release_version(release)),
        created=release.created,
        keyid=signed.keyid,
        size=images[0],
        machine=f"{facts['accelerator']['kind']}, {facts['cpus']} processors, {facts['memory_mib']} MiB",
        boots={each["boot"]: each["seconds"] for each in facts["boots"]},
        measurement=measurement,
        files_seconds=_files_seconds(made, release.name, measurement) if measurement else None,
        guest_seconds=_guest_seconds(facts["boots"]),
    )


def _verified(made: Factory, trust: Trust, release: Release, now: datetime) -> VerifiedManifest:
    path = made.artifacts.require(release.files[MANIFEST_FILE])
    signed = verify_manifest(read_document(path), trust, now=now, name=release.name)
    if str(signed.manifest.version) != str(release_version(release)):
        raise EvidenceMissing(f"the manifest of {release.name}@{release_version(release)} is another version's")
    return signed


def _signed_evidence(release: Release, kind: str, signed: VerifiedManifest) -> Evidence:
    """The first piece of a kind that the records have. Raises EvidenceMissing unless it is what was signed."""
    pieces = release.evidence.get(kind) or [{}]
    try:
        piece = Evidence.from_json(pieces[0])
    except (KeyError, ValueError):
        raise EvidenceMissing(f"{release.name} has no evidence {kind}") from None
    if piece.digest not in {each.sha256 for each in signed.manifest.evidence if each.kind == piece.kind}:
        raise EvidenceMissing(f"the evidence {kind} of {release.name} is not what was signed")
    return piece


def _guest_seconds(boots: Sequence[Mapping[str, Any]]) -> float | None:
    details = [check["detail"] for each in boots for check in each["checks"] if check["name"] == "measured"]
    matches = [_MEASURED.fullmatch(detail) for detail in details]
    return sum(float(match["seconds"]) for match in matches if match) if matches else None


def _files_seconds(made: Factory, name: str, measurement: Measurement) -> float | None:
    """From the result before it to the measurement, where one build made both."""
    results = [each for each in reversed(made.records.results()) if each.name == name]
    builds = made.records.builds(name)
    for before, after in itertools.pairwise(results):
        measured = after.step == plan.COMPLIANCE and f"sha256:{after.outputs['report']}" == measurement.report
        # Only what nobody ended before may have gone on until then.
        if measured and any(
            each.started <= before.created and (each.finished is None or each.finished >= after.created)
            for each in builds
        ):
            return (after.created - before.created).total_seconds()
    return None


# -- writing ----------------------------------------------------------------------------------------------------------

BEGINNING = """\
# Compliance

How well images of the recipes that ship keep a published standard, what they do not keep and why, and what that costs.
This page is made from the evidence of real releases, for which their manifests are signed. Of your own builds,
`imagefactory compliance show NAME` says the same.
"""
SCORES = """\
A score is the share of the applicable rules that pass, exceptions or not. Rules that begin with `partition_` or
`mount_option_` want file systems of their own for `/var`, `/home` and others. They are in the score, and are left out
of the column beside it. `wanted` is the `min_score` of the recipe.
"""
NUMBERS = """\
Both images have the same packages but those of the hardening, and were booted by the same program. Times are those of
the boot test, which boots two machines side by side; they say little about other hosts, and their ratio says more.

Times vary with what else a host does, by a third and more, so one run's ratio is no promise. Also, in emulation the
processor is one on which Linux isolates page tables with or without hardening. The hardened image asks for that on
every processor; where a plain system does without, it is behind by more. Measured once in emulation: 1.35 times all
boots.
"""
EXCEPTIONS = """\
Each rule that fails and may: until when, who answers for that, and why. `files` are rules that the files of the image
answer, `guest` those that the running system answers.
"""


def page(subjects: Sequence[Subject], plain: Subject) -> str:
    """The whole page. Raises NotMeasured for one of `subjects` without a measurement."""
    return "\n".join(_page(subjects, plain)).rstrip("\n") + "\n"


def _page(subjects: Sequence[Subject], plain: Subject) -> Iterator[str]:
    measured = [(each, _measurement(each)) for each in subjects]
    yield from (MADE, BEGINNING, "## Scores\n", SCORES)
    head = ("release", "profile", "score", "apart from these", "wanted", "rules that pass", "fail", "with an exception")
    yield from (*table(head, [_score_row(*each) for each in measured]), "")
    for each, measurement in measured:
        by = measurement.scan.standard
        yield f"- `{each.release}`, {each.created:%Y-%m-%d}, signed by release key {each.keyid[:16]}: {by.title},"
        yield f"  content {by.version} (sha256:{by.content[:16]}), scanner {by.scanner}"
    yield from ("", f"## What it costs: {subjects[0].name}\n", NUMBERS, *_costs(subjects[0], plain), "")
    for each, measurement in measured:
        yield from (f"## Exceptions: {each.name}\n", EXCEPTIONS, *_exceptions(measurement), "")


def _measurement(subject: Subject) -> Measurement:
    if subject.measurement is None:
        raise NotMeasured(f"{subject.release} was released without being measured by a standard")
    return subject.measurement


def _score_row(subject: Subject, measurement: Measurement) -> tuple[str, ...]:
    scan = measurement.scan
    apart = scan.score_apart_from_layout
    failing = scan.failing()
    excepted = {each.rule for each in measurement.exceptions}
    return (
        f"`{subject.release}`",
        f"`{scan.standard.profile}`",
        percent(scan.score),
        percent(apart),
        percent(measurement.min_score),
        f"{scan.passed} of {scan.applicable}",
        str(len(failing)),
        str(sum(each.rule in excepted for each in failing)),
    )


PHASES = {"login": "a login prompt", "settled": "all units up, cloud-init done"}


def _costs(hardened: Subject, plain: Subject) -> list[str]:
    head = ("", f"`{hardened.release}`", f"`{plain.release}`", "ratio", "goal")
    rows = [_compared("size of the image", hardened.size / (1 << 20), plain.size / (1 << 20), "MiB", goal=True)]
    both = [name for name in hardened.boots if name in plain.boots]
    for name in both:
        ours, theirs = hardened.boots[name], plain.boots[name]
        for phase, what in PHASES.items():
            if phase in ours.keys() & theirs.keys():
                rows.append(_compared(f"{name}: {what}", ours[phase], theirs[phase], "s"))
    if both:
        what = f"all boots: {PHASES['settled']}"
        rows.append(_compared(what, _settled(hardened, both), _settled(plain, both), "s", goal=True))
    rows += _measuring(hardened)
    machines = sorted({f"`{each.release}` was booted with {each.machine}" for each in (hardened, plain)})
    return [*table(head, rows), "", f"{'; '.join(machines)}."]


def _settled(subject: Subject, boots: Sequence[str]) -> float:
    """The seconds of those boots that came up whole, together."""
    return sum(subject.boots[name].get("settled", 0.0) for name in boots)


def _compared(what: str, hardened: float, plain: float, unit: str, *, goal: bool = False) -> tuple[str, ...]:
    ratio = hardened / plain
    said = f"at most {MOST_TIMES}: {_kept(ratio <= MOST_TIMES)}" if goal else ""
    return (what, f"{hardened:.1f} {unit}", f"{plain:.1f} {unit}", f"{ratio:.2f}", said)


def _measuring(subject: Subject) -> list[tuple[str, ...]]:
    """What the measurement takes, besides the boots that take place anyway."""
    parts = {"measuring the files": subject.files_seconds, "measuring the guest": subject.guest_seconds}
    rows: list[tuple[str, ...]] = [
        (what, "not known" if taken is None else f"{taken:.1f} s", "", "", "") for what, taken in parts.items()
    ]
    known = [taken for taken in parts.values() if taken is not None]
    if len(known) < len(parts):
        return rows
    said = f"at most {MOST_SECONDS} s: {_kept(sum(known) <= MOST_SECONDS)}"
    return [*rows, ("both measurements", f"{sum(known):.1f} s", "", "", said)]


def _kept(kept: bool) -> str:
    return "kept" if kept else "**missed**"


def _exceptions(measurement: Measurement) -> Iterator[str]:
    excepted = {each.rule: each for each in measurement.exceptions}
    results = {each.rule: each for each in measurement.scan.rules}
    head = ("rule", "severity", "outcome", "by", "until", "owner", "reason")
    yield from table(head, [_exception_row(results[rule], said) for rule, said in sorted(excepted.items())])
    others = [each for each in measurement.scan.rules if each.outcome in FAILED and each.rule not in excepted]
    if others:
        yield "\nThese fail without an exception:\n"
        yield from table(head[:4], [_result_cells(each) for each in others])
    if measurement.needless:
        yield "\nNothing needs these exceptions any more:\n"
        yield from table(("rule", *head[4:]), [(f"`{each.rule}`", *_said(each)) for each in measurement.needless])


def _exception_row(result: RuleResult, exception: RuleException) -> tuple[str, ...]:
    return (*_result_cells(result), *_said(exception))


def _result_cells(result: RuleResult) -> tuple[str, ...]:
    return (f"`{result.rule}`", result.severity, result.outcome, result.judge)


def _said(exception: RuleException) -> tuple[str, ...]:
    return (exception.expires.isoformat(), _one_line(exception.owner), _one_line(exception.reason))


def _one_line(text: str) -> str:
    return " ".join(text.split())


# -- the command ------------------------------------------------------------------------------------------------------


def main(arguments: Sequence[str], environ: Mapping[str, str] | None = None) -> int:
    parser = argparse.ArgumentParser(prog="python -m docs.make_compliance")
    parser.add_argument("--plain", required=True, help="the release that is not hardened")
    parser.add_argument("releases", nargs="+", help="releases that were measured, the first of which is compared")
    wanted = parser.parse_args(arguments)
    settings = read_settings(environ)
    try:
        trust = load_trust(find_trust(settings.trust_files()))
        with factory(settings) as made:
            plain, *subjects = (read(made, trust, each, datetime.now(UTC)) for each in (wanted.plain, *wanted.releases))
            text = page(subjects, plain)
    except (FactoryError, SigningError) as error:
        sys.stderr.write(f"error: {error.message} [{error.code}]\n")
        return error.exit_code
    PAGE.write_text(text)
    sys.stdout.write(f"wrote {PAGE}\n")
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
