"""imagefactory schedule: when images are built again by themselves."""

import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from datetime import datetime
from enum import StrEnum
from itertools import islice
from pathlib import Path
from typing import Annotated, Any, Final
from zoneinfo import ZoneInfo

import typer
from pydantic import ValidationError

from imagefactory.cli.common import DryRun, image_name
from imagefactory.cli.jobs_shown import LOOK, Wait, show_end
from imagefactory.cli.output import Json, answer, say, verb
from imagefactory.cli.session import read_recipe
from imagefactory.cli.tables import print_table, table_of
from imagefactory.errors import UsageError
from imagefactory.errors.service import RoleSilent, ScheduleMissing
from imagefactory.lifecycle.verbs import require_reason
from imagefactory.model.recipe_schedule import Schedule
from imagefactory.model.schedule import Run, next_runs
from imagefactory.settings import read_settings
from imagefactory.store.jobs import Jobs
from imagefactory.store.schedules import Change, Kind, Schedules, refuse_paused, schedule_of, upcoming
from imagefactory.store.tables import Job, ScheduleRow
from imagefactory.wiring import records_of

MOST_SHOWN = 1000
BEAT_WITHIN = 60.0  # seconds in which a beat takes up what is due


class Maintained(StrEnum):
    """What is looked after by schedules of its own."""

    LIFECYCLE = "lifecycle"
    AUDIT = "audit"
    REFRESH = "refresh"
    KEYS = "keys"


DAILY: Final[Mapping[Maintained, str]] = {
    Maintained.LIFECYCLE: "30 3 * * *",
    Maintained.AUDIT: "30 4 * * *",
    Maintained.REFRESH: "15 * * * *",
    Maintained.KEYS: "30 5 * * *",
}
OWN: Final = frozenset(f".{kind}" for kind in Maintained)

app = typer.Typer(no_args_is_help=True, help="When images are built again by themselves.")

Name = Annotated[str, typer.Argument(metavar="NAME", help="The name of an image.", show_default=False)]


@app.command("add", epilog="Example: imagefactory schedule add soe-debian-12.yaml soe-debian-13.yaml")
@verb
def add(
    recipes: Annotated[
        list[Path], typer.Argument(metavar="RECIPE...", help="Recipe files (YAML).", show_default=False, readable=False)
    ],
    dry_run: DryRun = False,
    as_json: Json = False,
) -> None:
    """Have images built by the schedules of their recipes; the same again takes up what has changed in them."""
    changes: dict[str, Change] = {}
    settings = read_settings()
    loaded = [read_recipe(path, settings) for path in recipes]
    with _schedules() as schedules:
        known = {row.name for row in schedules.all()}
        for each in loaded:
            if each.recipe.schedule is None and each.recipe.name not in known:
                raise ScheduleMissing(f"{each.files[0]} has no schedule")
        for each in loaded:
            name, file = each.recipe.name, each.files[0].absolute()
            changes[name] = schedules.register(name, file, each.recipe.schedule, dry_run=dry_run)
    would = "would be " if dry_run else ""
    lines = [f"{name}: {would}{change}" for name, change in changes.items()]
    answer({"dry_run": dry_run, "schedules": changes}, "\n".join(lines), as_json)


@app.command("maintain", epilog="Example: imagefactory schedule maintain audit --cron '30 4 * * *'")
@verb
def maintain(
    kind: Annotated[
        Maintained, typer.Argument(metavar="WHAT", help="lifecycle, audit, refresh or keys.", show_default=False)
    ],
    cron: Annotated[
        str | None,
        typer.Option("--cron", help="In five fields. Default: daily; refresh hourly.", show_default=False),
    ] = None,
    timezone: Annotated[str, typer.Option("--timezone", help="Whose clocks that means.")] = "UTC",
    dry_run: DryRun = False,
    as_json: Json = False,
) -> None:
    """Have releases looked after: retired by their policies (lifecycle), held in clouds against what was signed
    (audit), listings in catalogues signed anew in time (refresh), keys that expire told of (keys). Each is a schedule,
    such as .lifecycle."""
    spec = {"cron": cron or DAILY[kind], "timezone": timezone}
    try:
        schedule = Schedule.model_validate(spec)
    except ValidationError as why:
        raise UsageError(f"--cron or --timezone: {why.errors(include_url=False)[0]['msg']}") from None
    name = f".{kind}"
    with _schedules() as schedules:
        change = schedules.register(name, Path(), schedule, kind=Kind(kind), dry_run=dry_run)
    would = "would be " if dry_run else ""
    answer({"dry_run": dry_run, "schedules": {name: change}}, f"{name}: {would}{change}", as_json)


@app.command("remove", epilog="Example: imagefactory schedule remove soe-debian-12")
@verb
def remove(name: Name, dry_run: DryRun = False, as_json: Json = False) -> None:
    """Do not build an image by its schedule any more."""
    with _schedules() as schedules:
        row = schedules.one(_known(name))
        if not dry_run:
            schedules.remove(row.name)
    _done(row.name, "removed", dry_run, as_json)


@app.command("list", epilog="Example: imagefactory schedule list")
@verb
def list_(as_json: Json = False) -> None:
    """List schedules: when each runs next, and how the last run ended."""
    with _schedules() as schedules:
        rows = schedules.all()
    if as_json:
        answer({"schedules": [_described(row) for row in rows]}, "", as_json)
        return
    if not rows:
        say("no schedules yet")
        return
    table = table_of("NAME", "CRON", "NEXT", "LAST", "OUTCOME", "STATE")
    for row in rows:
        zone = row.spec["timezone"]
        table.add_row(
            row.name,
            f"{row.spec['cron']} {zone}",
            "-" if row.paused else _local(upcoming(row).begins, zone),
            f"{row.last_run:%Y-%m-%d %H:%M} UTC" if row.last_run else "never",
            _outcome(row),
            _state(row),
        )
    print_table(table)


@app.command("next", epilog="Example: imagefactory schedule next soe-debian-12 --count 5")
@verb
def next_(
    name: Annotated[str | None, typer.Argument(metavar="NAME", help="Only of this image.", show_default=False)] = None,
    count: Annotated[int, typer.Option("--count", min=1, max=MOST_SHOWN, help="How many runs.")] = 10,
    as_json: Json = False,
) -> None:
    """Show the next runs of one schedule, or of all that are not paused, in the order in which they begin."""
    with _schedules() as schedules:
        if name is None:
            rows = [row for row in schedules.all() if not row.paused]
        else:
            rows = [schedules.one(_known(name))]
            refuse_paused(rows[0])
    found = [(run, row) for row in rows for run in islice(_runs(row), count)]
    found = sorted(found, key=lambda each: (each[0].begins, each[1].name))[:count]
    if as_json:
        answer({"runs": [{"name": row.name, **_times(run)} for run, row in found]}, "", as_json)
        return
    if not found:
        say("nothing is going to run")
        return
    table = table_of("BEGINS", "NAME", "PLANNED")
    for run, row in found:
        zone = row.spec["timezone"]
        table.add_row(_local(run.begins, zone), row.name, _local(run.planned, zone))
    print_table(table)


@app.command("pause", epilog="Example: imagefactory schedule pause soe-debian-12 --reason 'the mirror moves'")
@verb
def pause(
    name: Name,
    reason: Annotated[
        str | None, typer.Option("--reason", metavar="TEXT", help="Why, in one line.", show_default=False)
    ] = None,
    dry_run: DryRun = False,
    as_json: Json = False,
) -> None:
    """Let nothing of a schedule run until it is resumed."""
    if reason is not None:
        require_reason(reason)
    with _schedules() as schedules:
        row = schedules.one(_known(name))
        if not dry_run:
            schedules.pause(row.name, reason)
    _done(row.name, "paused", dry_run, as_json, reason=reason)


@app.command("resume", epilog="Example: imagefactory schedule resume soe-debian-12")
@verb
def resume(name: Name, dry_run: DryRun = False, as_json: Json = False) -> None:
    """Let a schedule run again. What it would have done meanwhile is not caught up."""
    with _schedules() as schedules:
        row = schedules.one(_known(name))
        if not dry_run:
            schedules.resume(row.name)
    _done(row.name, "resumed", dry_run, as_json)


@app.command("run-now", epilog="Example: imagefactory schedule run-now soe-debian-12")
@verb
def run_now(name: Name, wait: Wait = False, dry_run: DryRun = False, as_json: Json = False) -> None:
    """Have the next run of a schedule begin now, by the service, and not when it is planned."""
    with records_of(read_settings()) as records:
        schedules = Schedules(records)
        row = schedules.one(_known(name))
        refuse_paused(row)
        if not dry_run:
            schedules.run_now(row.name)
        if wait and not dry_run:
            show_end(jobs := Jobs(records), _begun(schedules, jobs, row), as_json, decision="due now")
            return
    _done(row.name, "due now", dry_run, as_json)


def _begun(schedules: Schedules, jobs: Jobs, before: ScheduleRow) -> Job:
    """The job of the run that came next, as soon as a beat has asked for it. Raises RoleSilent."""
    until = time.monotonic() + BEAT_WITHIN
    while schedules.one(before.name).claimed_run != before.next_run:
        if time.monotonic() > until:
            raise RoleSilent(
                f"no beat has taken up {before.name} within {BEAT_WITHIN:.0f} s",
                advice="start one, or look at its log: it is due, and the first that comes takes it up",
            )
        time.sleep(LOOK)
    return jobs.jobs(before.name, most=1)[0]


@contextmanager
def _schedules() -> Iterator[Schedules]:
    with records_of(read_settings()) as records:
        yield Schedules(records)


def _known(name: str) -> str:
    """The name of an image, or of what is looked after. Raises ReleaseNameInvalid, UsageError."""
    return name if name in OWN else image_name(name)


def _done(name: str, what: str, dry_run: bool, as_json: bool, **more: str | None) -> None:
    would = "would be " if dry_run else ""
    answer({"name": name, "decision": what, "dry_run": dry_run, **more}, f"{name}: {would}{what}", as_json)


def _runs(row: ScheduleRow) -> Iterator[Run]:
    """The next run as it is recorded, which somebody may have asked for, and those that follow."""
    run = upcoming(row)
    yield run
    yield from next_runs(row.name, schedule_of(row), run.planned, run.planned)


def _local(moment: datetime, zone: str) -> str:
    return f"{moment.astimezone(ZoneInfo(zone)):%Y-%m-%d %H:%M} {zone}"


def _outcome(row: ScheduleRow) -> str:
    return " ".join(filter(None, (row.last_outcome, row.last_error))) or "-"


def _state(row: ScheduleRow) -> str:
    if not row.paused:
        return "active" if not row.failures else f"active, {row.failures} failures in a row"
    return f"paused: {row.pause_reason}" if row.pause_reason else "paused"


def _times(run: Run) -> dict[str, str]:
    return {"planned": run.planned.isoformat(), "begins": run.begins.isoformat()}


def _described(row: ScheduleRow) -> dict[str, Any]:
    return {
        "name": row.name,
        "kind": row.kind,
        "recipe": row.recipe_file,
        "schedule": row.spec,
        "next": None if row.paused else _times(upcoming(row)),
        "last_run": row.last_run and f"{row.last_run.isoformat()}+00:00",
        "outcome": row.last_outcome,
        "error_code": row.last_error,
        "failures": row.failures,
        "paused": row.paused,
        "pause_reason": row.pause_reason,
    }
