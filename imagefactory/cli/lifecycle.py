"""imagefactory lifecycle: what becomes of old releases, by the policy of their recipes."""

from datetime import UTC, datetime
from typing import TYPE_CHECKING, Annotated, Any

import typer

from imagefactory.cli.audited import leave_audit, tell_audit
from imagefactory.cli.common import image_name
from imagefactory.cli.output import Json, answer, describe, leave, verb
from imagefactory.cli.render import human
from imagefactory.cli.retire import leave_unsettled, settled_document, settled_lines
from imagefactory.cli.session import PassphraseFile, factory_session
from imagefactory.cli.tables import print_table, table_of
from imagefactory.errors import PlacesLeft, UsageError
from imagefactory.model.release import ReleaseRef

if TYPE_CHECKING:
    from collections.abc import Sequence

    from imagefactory.factory.keeping import Office
    from imagefactory.lifecycle.sweep import SweepPlan

app = typer.Typer(no_args_is_help=True, help="What becomes of old releases, by the policy of their recipes.")
Names = Annotated[
    list[str] | None, typer.Argument(metavar="[NAME...]", help="Only of these images.", show_default=False)
]


@app.command("plan", epilog="Example: imagefactory lifecycle plan soe-debian-12")
@verb
def plan(names: Names = None, as_json: Json = False) -> None:
    """Show what is retired when, why, and how much comes free. Asks every place, and changes nothing."""
    with factory_session() as factory:
        found = factory.office.sweep.plan(_names(factory.office, names), datetime.now(UTC))
    _tell(found, as_json)
    _leave_unknown(found, as_json)


@app.command("apply", epilog="Example: imagefactory lifecycle apply")
@verb
def apply(
    names: Names = None,
    now: Annotated[bool, typer.Option("--now", help="Also while the window of the policy is closed.")] = False,
    passphrase_file: PassphraseFile = None,
    dry_run: Annotated[bool, typer.Option("--dry-run", help="Only say what would be done: lifecycle plan.")] = False,
    as_json: Json = False,
) -> None:
    """Do what is due, and finish what an earlier command left. What is done is not repeated."""
    with factory_session(passphrase_file) as factory:
        sweep = factory.office.sweep
        found = sweep.plan(_names(factory.office, names), datetime.now(UTC), any_time=now)
        settlements = [] if dry_run else sweep.apply(found)
    if dry_run:
        _tell(found, as_json)
    else:
        lines = settled_lines(settlements) or ["nothing was due"]
        answer({**_document(found), **settled_document(settlements)}, "\n".join(lines), as_json)
    _leave_unknown(found, as_json)
    leave_unsettled(settlements, as_json)


@app.command("audit", epilog="Example: imagefactory lifecycle audit --fix")
@verb
def audit(
    names: Names = None,
    deep: Annotated[bool, typer.Option("--deep", help="Read every byte of the images.")] = False,
    fix: Annotated[bool, typer.Option("--fix", help="Put right what is metadata; data never.")] = False,
    retire_strays: Annotated[
        bool,
        typer.Option(
            "--retire-strays",
            help="Hide and deactivate images that no record knows, and that an audit saw 24 hours ago or earlier.",
        ),
    ] = False,
    cloud: Annotated[
        str | None, typer.Option("--in", metavar="CLOUD", help="Only in this cloud.", show_default=False)
    ] = None,
    as_json: Json = False,
) -> None:
    """Hold published images against what was signed and recorded, in every cloud. Images that no record knows are told,
    and touched only with --retire-strays."""
    from imagefactory.lifecycle.audit import Question  # noqa: PLC0415 - as all that a factory is made of

    with factory_session() as factory:
        office = factory.office
        wanted = _names(office, names)
        found = office.inspection.audit(Question(wanted, cloud, deep, fix, retire_strays), datetime.now(UTC))
    if cloud is not None and not found:
        raise UsageError(f"nothing of {', '.join(wanted) or 'ours'} is published in {cloud}")
    tell_audit(found, as_json)
    leave_audit(found, as_json)


def _names(office: "Office", names: "Sequence[str] | None") -> "Sequence[str]":
    """Those that were named, each once, or all. Raises ReleaseNameInvalid, UsageError, ReleaseUnknown."""
    if not names:
        return office.keeper.ledger.names()
    wanted = dict.fromkeys(map(image_name, names))
    return [office.records.release(ReleaseRef(each)).name for each in wanted]


def _tell(found: "SweepPlan", as_json: bool) -> None:
    if as_json:
        answer(_document(found), "", as_json)
        return
    table = table_of("WHEN", "RELEASE", "WHERE", "WHAT", "WHY", "FREES")
    for each in found.changes:
        change = each.change
        when = "now" if change.is_due(found.now) else f"{change.due:%Y-%m-%d %H:%M}"
        table.add_row(
            "not" if change.blocked else when,
            str(each.ref),
            each.target,
            f"{change.before} -> {change.after}",
            f"{change.why}, but {change.blocked}" if change.blocked else change.why,
            human(change.bytes) if change.bytes else "",
        )
    if not found.changes:
        answer({}, "nothing is going to be retired", as_json)
    else:
        print_table(table)


def _document(found: "SweepPlan") -> dict[str, Any]:
    return {
        "at": found.now.isoformat(),
        "changes": [
            {
                "release": str(each.ref),
                "target": each.target,
                "before": str(each.change.before),
                "after": str(each.change.after),
                "due": each.change.due.isoformat(),
                "is_due": each.change.is_due(found.now),
                "why": each.change.why,
                "blocked": each.change.blocked,
                "bytes": each.change.bytes,
            }
            for each in found.changes
        ],
        "unknown": [{"name": left.ref.name, "target": left.target, **describe(left.failure)} for left in found.unknown],
    }


def _leave_unknown(found: "SweepPlan", as_json: bool) -> None:
    """End with an error when something could not be asked; no policy changes anything there."""
    for left in found.unknown:
        why = f"the policy of {left.ref} is not followed everywhere, because of {left.target}: {left.failure}"
        raise leave(PlacesLeft(why), as_json)
