"""imagefactory audit: what was done with keys."""

from datetime import datetime
from typing import Annotated

import typer

from imagefactory.cli.output import Json, answer, verb
from imagefactory.cli.session import factory_session
from imagefactory.factory.audit import audit
from imagefactory.settings import read_settings
from imagefactory.tools.audit_log import AuditLog
from signing.fields import format_time

app = typer.Typer(no_args_is_help=True, help="The audit log: what was done with keys.")


@app.command("verify", epilog="Example: imagefactory audit verify")
@verb
def verify(as_json: Json = False) -> None:
    """Check that nobody altered or cut the log: its chain, and every release that was signed into it."""
    with factory_session() as factory:
        found = audit(factory)
    lines = [
        f"VERIFIED {found.head.entries} entries, head sha256:{found.head.sha256}",
        f"  {found.releases} releases of this factory are in it",
    ]
    if found.torn:
        lines.append(f"  after them an entry that was never finished ({found.torn} bytes): the next writer removes it")
    document = {
        "entries": found.head.entries,
        "head": found.head.sha256,
        "releases": found.releases,
        "unfinished_bytes": found.torn,
    }
    answer({"verified": document}, "\n".join(lines), as_json)


@app.command("show", epilog="Example: imagefactory audit show --event signed")
@verb
def show(
    event: Annotated[str | None, typer.Option("--event", help="Only entries of this kind.")] = None,
    since: Annotated[
        datetime | None, typer.Option("--since", formats=["%Y-%m-%d"], help="Only entries since this day, UTC.")
    ] = None,
    as_json: Json = False,
) -> None:
    """Show what the log says, oldest first, each entry checked against the one before it."""
    entries = [
        entry
        for entry in AuditLog(read_settings().audit).entries()
        if event in {None, entry.event} and (since is None or entry.time.replace(tzinfo=None) >= since)
    ]
    lines = [
        " ".join(
            [
                f"{entry.head.entries:5} {format_time(entry.time)} {entry.event}",
                *(f"{key}={value}" for key, value in entry.details.items()),
            ]
        )
        for entry in entries
    ]
    documents = [
        {"entry": entry.head.entries, "time": format_time(entry.time), "event": entry.event, "details": entry.details}
        for entry in entries
    ]
    answer({"entries": documents}, "\n".join(lines) or "no entries", as_json)
