"""imagefactory compliance: how well the image of a release keeps a standard, and what changed between two."""

from collections.abc import Mapping, Sequence
from dataclasses import asdict
from hashlib import sha256
from pathlib import Path
from typing import Annotated, Any, get_args

import typer

from imagefactory.cli.common import ReleaseOrName, image_name
from imagefactory.cli.output import Json, answer, say, verb
from imagefactory.cli.session import factory_session
from imagefactory.cli.tables import Table, exception_text, html_page, print_table, table_of
from imagefactory.errors import ArtifactMissing, EvidenceMissing, NotMeasured
from imagefactory.factory import standard
from imagefactory.factory.loop import Factory
from imagefactory.model.compliance import (
    Measurement,
    RuleException,
    RuleResult,
    Scan,
    Severity,
    decimal,
    differences,
    percent,
)
from imagefactory.model.release import ReleaseRef
from imagefactory.steps.compliance import MAX_REPORT
from imagefactory.store.records import release_version
from imagefactory.tools.new_file import new_file
from signing.digest import read_document

_SERIOUS_FIRST = get_args(Severity)

Everything = Annotated[bool, typer.Option("--all", help="Every rule, not only those that fail.")]
Html = Annotated[
    Path | None,
    typer.Option("--html", metavar="FILE", help="Write OpenSCAP's report to FILE, which must not exist."),
]

app = typer.Typer(no_args_is_help=True, help="How well the image of a release keeps a published standard.")


@app.command("show", epilog="Example: imagefactory compliance show soe-debian-12")
@verb
def show(
    release: ReleaseOrName,
    everything: Everything = False,
    html: Html = None,
    as_json: Json = False,
) -> None:
    """Show the score of a release, and the rules that fail with their exceptions."""
    with factory_session() as factory:
        name, found = _measured(factory, release)
        if html is not None:
            _write_report(factory, name, found.report, html)
    listed = _listed(found.scan, everything)
    excepted = {each.rule: each for each in found.exceptions}
    if as_json:
        answer(_document(name, found, listed, excepted), "", as_json)
        return
    for line in _head(name, found.scan, found.min_score):
        say(line)
    _print(listed, excepted)
    for each in found.needless:
        say(f"needless exception for {each.rule}: {exception_text(each)}")


@app.command("last", epilog="Example: imagefactory compliance last soe-debian-12 --html report.html")
@verb
def last(
    name: Annotated[str, typer.Argument(metavar="NAME", help="The name of an image.", show_default=False)],
    everything: Everything = False,
    html: Html = None,
    as_json: Json = False,
) -> None:
    """Show what was last measured for a name, released or not: after a build that a standard stopped."""
    name = image_name(name)
    with factory_session() as factory:
        found = standard.last(factory.records, name)
        if found is None:
            raise NotMeasured(f"no measurement of {name} is kept")
        scan, report = found
        if html is not None:
            _write_report(factory, name, report, html)
    listed = _listed(scan, everything)
    if as_json:
        rules = [asdict(each) for each in listed]
        answer({"name": name, **_summary(scan), "rules": rules, "report": report}, "", as_json)
        return
    for line in _head(f"{name}, measured last", scan):
        say(line)
    if not any(each.judge == "guest" for each in scan.rules):
        say("  guest     no rule was answered by a running system")
    _print(listed)


@app.command("diff", epilog="Example: imagefactory compliance diff soe-debian-12@20261121.1 soe-debian-12")
@verb
def diff(
    old: Annotated[str, typer.Argument(metavar="OLD", help="NAME or NAME@VERSION.", show_default=False)],
    new: Annotated[str, typer.Argument(metavar="NEW", help="NAME or NAME@VERSION.", show_default=False)],
    html: Annotated[
        Path | None, typer.Option("--html", metavar="FILE", help="Write that as a page to FILE, which must not exist.")
    ] = None,
    as_json: Json = False,
) -> None:
    """Show which rules have another outcome in a newer release, and how the score changed."""
    with factory_session() as factory:
        (old_name, before), (new_name, after) = (_measured(factory, release) for release in (old, new))
    severities = {each.rule: each.severity for scan in (before.scan, after.scan) for each in scan.rules}
    changed = [{**asdict(each), "severity": severities[each.rule]} for each in differences(before.scan, after.scan)]
    head, table = _diff_head(old_name, before.scan, new_name, after.scan), _diff_table(changed)
    if not changed:
        head.append("every rule has the same outcome")
    if html is not None:
        with new_file(html) as made:
            made.write_text(html_page(head, table), "utf-8")
    if as_json:
        sides = {"old": _released(old_name, before), "new": _released(new_name, after)}
        answer({**sides, "changed": changed}, "", as_json)
        return
    for line in head:
        say(line)
    if table is not None:
        say()
        print_table(table)


def _measured(factory: Factory, text: str) -> tuple[str, Measurement]:
    """NAME@VERSION, and what its evidence says. Raises ReleaseUnknown, NotMeasured, EvidenceMissing."""
    release = factory.records.release(ReleaseRef.parse(text))
    name = f"{release.name}@{release_version(release)}"
    found = standard.measurement(release)
    if found is None:
        raise NotMeasured(f"{name} was released without being measured by a standard")
    return name, found


def _write_report(factory: Factory, name: str, report: str | None, output: Path) -> None:
    """Write the very bytes whose digest `report` ("sha256:HEX") is. Raises ArtifactMissing, EvidenceMissing, and as
    `new_file` does."""
    if report is None:
        raise ArtifactMissing(f"no report of {name} was kept")
    digest = report.removeprefix("sha256:")
    raw = read_document(factory.artifacts.require(digest), most=MAX_REPORT)
    if sha256(raw).hexdigest() != digest:
        raise EvidenceMissing(f"the report of {name} that is kept is not the one that its evidence names")
    with new_file(output) as made:
        made.write_bytes(raw)


# -- for people -------------------------------------------------------------------------------------------------------


def _listed(scan: Scan, everything: bool) -> Sequence[RuleResult]:
    """The rules that fail, or all: serious ones first."""
    rules = scan.rules if everything else scan.failing()
    return sorted(rules, key=lambda each: (_SERIOUS_FIRST.index(each.severity), each.rule))


def _head(title: str, scan: Scan, min_score: int | None = None) -> Sequence[str]:
    by = scan.standard
    wanted = "" if min_score is None else f", {percent(min_score)} was wanted"
    counts = ", ".join(f"{count} {outcome}" for outcome, count in sorted(scan.counts.items()))
    return (
        title,
        f"  profile   {by.profile}, {by.title}",
        f"  content   {by.version}, sha256:{by.content}",
        f"  scanner   {by.scanner}",
        f"  score     {percent(scan.score)}{wanted}",
        f"            {percent(scan.score_apart_from_layout)} apart from partition_* and mount_option_*",
        f"  rules     {scan.passed} of {scan.applicable} applicable ones pass: {counts}",
    )


def _diff_head(old_name: str, before: Scan, new_name: str, after: Scan) -> list[str]:
    lines = [f"{old_name} -> {new_name}", f"  score      {percent(before.score)} -> {percent(after.score)}"]
    was, now = (asdict(scan.standard) for scan in (before, after))
    return [*lines, *(f"  {field:9}  {was[field]} -> {now[field]}" for field in was if was[field] != now[field])]


def _diff_table(changed: Sequence[Mapping[str, Any]]) -> Table | None:
    if not changed:
        return None
    table = table_of("RULE", "SEVERITY", "OLD", "NEW")
    for each in changed:
        table.add_row(each["rule"], each["severity"], *(each[side] or "not selected" for side in ("old", "new")))
    return table


def _print(rules: Sequence[RuleResult], excepted: Mapping[str, RuleException] | None = None) -> None:
    """A table, with the exceptions of a release; before there is one, these are the recipe's."""
    if not rules:
        return
    table = table_of("RULE", "SEVERITY", "OUTCOME", "BY", *([] if excepted is None else ["EXCEPTION"]))
    for each in rules:
        said = [exception_text(excepted[each.rule])] if excepted and each.rule in excepted else []
        table.add_row(each.rule, each.severity, each.outcome, each.judge, *said)
    say()
    print_table(table)


# -- for programs -----------------------------------------------------------------------------------------------------


def _summary(scan: Scan) -> dict[str, Any]:
    return {
        "standard": asdict(scan.standard),
        "score": decimal(scan.score),
        "score_apart_from_layout": decimal(scan.score_apart_from_layout),
        "passed": scan.passed,
        "applicable": scan.applicable,
        "counts": dict(scan.counts),
    }


def _released(name: str, found: Measurement) -> dict[str, Any]:
    return {"release": name, **_summary(found.scan), "min_score": found.min_score}


def _document(
    name: str, found: Measurement, rules: Sequence[RuleResult], excepted: Mapping[str, RuleException]
) -> dict[str, Any]:
    listed: list[dict[str, Any]] = [
        {**asdict(each), "exception": excepted[each.rule].to_json() if each.rule in excepted else None}
        for each in rules
    ]
    return {
        **_released(name, found),
        "rules": listed,
        "needless": [each.to_json() for each in found.needless],
        "rootfs": found.rootfs,
        "report": found.report,
    }
