"""imagefactory preflight: what an account may do in a cloud, before anything depends on it."""

from typing import Annotated

import typer

from imagefactory.cli.output import Json, answer, say, verb
from imagefactory.cli.tables import print_table, table_of

MARKS = {"yes": "+", "no": "-", "unknown": "?"}


def register(app: typer.Typer) -> None:
    app.command("preflight", epilog="Example: imagefactory preflight mycloud")(preflight)


@verb
def preflight(
    cloud: Annotated[str, typer.Argument(help="A cloud of clouds.yaml.", show_default=False)],
    as_json: Json = False,
) -> None:
    """Ask a cloud what this account may do there, and what it does with signatures.

    Tries it on an image and a secret of its own, and removes them again. Exit 1 when nothing could be published.
    """
    from imagefactory.steps import preflight as step  # noqa: PLC0415 - openstacksdk takes its time

    found = step.preflight(cloud)
    document = {
        "cloud": found.cloud,
        "project": found.project,
        "user": found.user,
        "roles": list(found.roles),
        "formats": list(found.formats),
        "ready": found.ready,
        "findings": [finding.to_json() for finding in found.findings],
        "operator": [{"file": file, "option": option, "why": why} for file, option, why in step.OPERATOR],
        "gaps": list(step.GAPS),
    }
    if as_json:
        answer(document, "", as_json)
    else:
        say(f"{found.cloud}: user {found.user} in project {found.project}, roles {', '.join(found.roles)}")
        _table([(MARKS[each.outcome], each.question, each.detail, each.advice) for each in found.findings])
        say("\nWhat the operator of the cloud sets, so that it verifies what it boots:")
        _table([("", file, option, why) for file, option, why in step.OPERATOR])
        say("\nWhat stays unverified even then:")
        for gap in step.GAPS:
            say(f"  {gap}")
        say(f"\n{'READY' if found.ready else 'NOT READY'}: {found.cloud}")
    if not found.ready:
        raise typer.Exit(1)


def _table(rows: list[tuple[str, str, str, str]]) -> None:
    table = table_of("", "", "", "")
    for row in rows:
        table.add_row(*row)
    print_table(table)
