"""imagefactory vulnerabilities: what was known of the packages of a release when it was made."""

from collections.abc import Mapping, Sequence
from dataclasses import asdict
from typing import Annotated, Any

import typer

from imagefactory.cli.common import ReleaseOrName
from imagefactory.cli.output import Json, answer, say, verb
from imagefactory.cli.session import factory_session
from imagefactory.cli.tables import exception_text, print_table, table_of
from imagefactory.errors import NotScanned
from imagefactory.factory.vulnerabilities import assessment
from imagefactory.model.release import ReleaseRef
from imagefactory.model.vulnerabilities import Assessment, CveException, Finding, summary
from imagefactory.store.records import release_version
from imagefactory.store.tables import Release

app = typer.Typer(no_args_is_help=True, help="The known vulnerabilities of a release.")


@app.command("show", epilog="Example: imagefactory vulnerabilities show soe-debian-12")
@verb
def show(
    release: ReleaseOrName,
    everything: Annotated[bool, typer.Option("--all", help="Unimportant ones, too.")] = False,
    as_json: Json = False,
) -> None:
    """Show which vulnerabilities were known of a release when it was made, the worst first, with their exceptions."""
    with factory_session() as factory:
        name, found = _assessed(factory.records.release(ReleaseRef.parse(release)))
    listed = [each for each in found.scan.worst_first() if everything or each.severity != "unimportant"]
    excepted = {each.cve: each for each in found.exceptions}
    if as_json:
        answer(_document(name, found, listed, excepted), "", as_json)
        return
    feed = found.scan.feed
    say(name)
    say(f"  feed      {feed.source}")
    say(f"            of {feed.dated}, sha256:{feed.sha256}")
    say(f"  packages  {found.scan.sources} source packages were looked up")
    say(f"  found     {summary(found.scan.counts)}; up to {found.max_severity} was let pass")
    _print(found, listed, excepted)
    for each in found.needless:
        say(f"needless exception for {each.cve}: {exception_text(each)}")


def _assessed(release: Release) -> tuple[str, Assessment]:
    """NAME@VERSION, and what its evidence says. Raises NotScanned, EvidenceMissing."""
    name = f"{release.name}@{release_version(release)}"
    found = assessment(release)
    if found is None:
        raise NotScanned(f"{name} was not scanned: its recipe names no feed of vulnerabilities")
    return name, found


def _print(found: Assessment, findings: Sequence[Finding], excepted: Mapping[str, CveException]) -> None:
    if not findings:
        return
    table = table_of("VULNERABILITY", "SEVERITY", "SOURCE", "VERSION", "FIXED IN", "PACKAGES", "EXCEPTION")
    for each in findings:
        packages = ", ".join(found.scan.packages[each.source])
        said = exception_text(excepted[each.id]) if each.id in excepted else ""
        table.add_row(each.id, each.severity, each.source, each.version, each.fixed or "", packages, said)
    say()
    print_table(table)


def _document(
    name: str, found: Assessment, findings: Sequence[Finding], excepted: Mapping[str, CveException]
) -> dict[str, Any]:
    listed: list[dict[str, Any]] = [
        {
            **asdict(each),
            "packages": list(found.scan.packages[each.source]),
            "exception": excepted[each.id].to_json() if each.id in excepted else None,
        }
        for each in findings
    ]
    return {
        "release": name,
        "feed": {**asdict(found.scan.feed), "dated": found.scan.feed.dated.isoformat()},
        "sources": found.scan.sources,
        "counts": dict(found.scan.counts),
        "max_severity": found.max_severity,
        "findings": listed,
        "needless": [each.to_json() for each in found.needless],
        "rootfs": found.rootfs,
    }
