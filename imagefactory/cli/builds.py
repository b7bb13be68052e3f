"""imagefactory builds: what workers are asked for, what is going on, and what came of it."""

import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Annotated, Any

import typer

from imagefactory.cli.common import DryRun, image_name
from imagefactory.cli.jobs_shown import (
    SHORT,
    Wait,
    follow,
    lines_of,
    said_of,
    seconds_between,
    show_end,
    shown_time,
    stamp,
    summary,
    title_of,
    why_of,
)
from imagefactory.cli.output import Json, answer, say, verb
from imagefactory.cli.session import RecipeFile, read_recipe
from imagefactory.cli.tables import print_table, table_of
from imagefactory.model.job import ENDS, JobState
from imagefactory.service.asking import PLAN, again, order_of, require_ended
from imagefactory.settings import Settings, read_settings
from imagefactory.store.jobs import Jobs
from imagefactory.store.tables import Job, Task
from imagefactory.tools.process import printable, tail
from imagefactory.wiring import records_of

app = typer.Typer(
    no_args_is_help=True, help="Builds by workers: what was asked for, what is going on, what came of it."
)
JobId = Annotated[
    str, typer.Argument(metavar="JOB", help="Its id, the beginning of it, or a name: its newest.", show_default=False)
]
Follow = Annotated[bool, typer.Option("--follow", "-f", help="Say what is going on until it has ended.")]
LINES = 200  # of each log


@app.command("request", epilog="Example: imagefactory builds request recipes/soe-debian-12.yaml --wait")
@verb
def request(
    recipe: RecipeFile,
    fresh: Annotated[bool, typer.Option("--fresh", help="Do every step again.")] = False,
    publish: Annotated[bool, typer.Option("--publish/--no-publish", help="Publish where the recipe says.")] = True,
    reason: Annotated[str, typer.Option("--reason", help="What the build is for.")] = "somebody asked for it",
    wait: Wait = False,
    as_json: Json = False,
) -> None:
    """Ask the workers for a build. The same as one that goes on is that one."""
    settings = read_settings()
    loaded = read_recipe(recipe, settings)
    order = order_of(loaded, reason, settings.account, fresh=fresh, publish=publish)
    with _jobs(settings) as jobs:
        job, call = jobs.request(order, PLAN, told=False)
        _asked(jobs, job, joined=call is None, wait=wait, as_json=as_json)


@app.command("list", epilog="Example: imagefactory builds list --active")
@verb
def list_(
    name: Annotated[
        str | None, typer.Argument(metavar="[NAME]", help="Only of this image.", show_default=False)
    ] = None,
    active: Annotated[bool, typer.Option("--active", help="Only those that have not ended.")] = False,
    most: Annotated[int, typer.Option("--most", min=1, max=10_000, help="How many, the newest.")] = 50,
    as_json: Json = False,
) -> None:
    """List builds, the newest first."""
    states = set(JobState) - ENDS if active else None
    with _jobs(read_settings()) as jobs:
        found = jobs.jobs(image_name(name) if name else None, states, most=most)
    if as_json:
        answer({"builds": [summary(job) for job in found]}, "", as_json=True)
        return
    table = table_of("JOB", "NAME", "STATE", "CREATED", "TOOK", "RELEASE", "REASON")
    for job in found:
        took = seconds_between(job.created, job.finished)
        table.add_row(
            job.id[:SHORT],
            job.name,
            job.state,
            shown_time(job.created),
            took,
            job.release or "",
            why_of(job) or job.reason,
        )
    print_table(table)


@app.command("show", epilog="Example: imagefactory builds show 3f9a12c0")
@verb
def show(job_id: JobId, as_json: Json = False) -> None:
    """Show one build: its steps, who did them, and what came of each."""
    with _jobs(read_settings()) as jobs:
        job = _one(jobs, job_id)
        tasks = jobs.tasks(job.id)
    if as_json:
        answer({**summary(job), "tasks": [_task(task) for task in tasks]}, "", as_json=True)
        return
    for line in lines_of(job):
        say(line)
    table = table_of("STEP", "ROLE", "STATE", "ATTEMPT", "TOOK", "WORKER", "")
    for task in tasks:
        took = seconds_between(task.claimed, task.finished)
        row = (title_of(task), task.role, task.state, str(task.attempt), took, _worker(task), said_of(task))
        table.add_row(*row)
    print_table(table)


@app.command("logs", epilog="Example: imagefactory builds logs 3f9a12c0 -f")
@verb
def logs(job_id: JobId, follow_it: Follow = False) -> None:
    """Show how the logs of the steps of a build end, and where they are."""
    with _jobs(read_settings()) as jobs:
        job = _one(jobs, job_id)
        if follow_it:
            job = follow(jobs, job)
        for task in jobs.tasks(job.id):
            for line in _log(task):
                say(line)


@app.command("cancel", epilog="Example: imagefactory builds cancel 3f9a12c0")
@verb
def cancel(job_id: JobId, dry_run: DryRun = False, as_json: Json = False) -> None:
    """Cancel a build: what waits does not begin, what runs is stopped. What was finished is kept."""
    settings = read_settings()
    with _jobs(settings) as jobs:
        job = _one(jobs, job_id)
        if not dry_run:
            job = jobs.cancel(job.id, settings.account)
    done = "would be cancelled" if dry_run else "is cancelled" if job.state in ENDS else "will be as soon as it stops"
    answer({**summary(job), "dry_run": dry_run}, f"{job.id[:SHORT]} {job.name}: {done}", as_json)


@app.command("retry", epilog="Example: imagefactory builds retry 3f9a12c0 --wait")
@verb
def retry(job_id: JobId, wait: Wait = False, dry_run: DryRun = False, as_json: Json = False) -> None:
    """Ask again for what a build was to do. What was finished is not done again."""
    settings = read_settings()
    with _jobs(settings) as jobs:
        job = _one(jobs, job_id)
        require_ended(job)
        loaded = read_recipe(Path(job.recipe_file), settings)
        if dry_run:
            answer({**summary(job), "dry_run": True}, f"{job.name} would be asked for again", as_json)
            return
        asked = again(jobs, job, loaded, settings.account)
        _asked(jobs, asked, joined=asked.repeats != job.id, wait=wait, as_json=as_json)


@contextmanager
def _jobs(settings: Settings) -> Iterator[Jobs]:
    with records_of(settings) as records:
        yield Jobs(records)


def _one(jobs: Jobs, named: str) -> Job:
    """Raises JobUnknown."""
    newest = jobs.jobs(named, most=1)
    return newest[0] if newest else jobs.job(named)


def _asked(jobs: Jobs, job: Job, *, joined: bool, wait: bool, as_json: bool) -> None:
    if wait:
        show_end(jobs, job, as_json, goes_on=joined)
        return
    text = f"{job.id[:SHORT]} {job.name}: {'goes on already' if joined else 'asked for'}"
    answer({**summary(job), "goes_on": joined}, text, as_json)


def _task(task: Task) -> dict[str, Any]:
    return {
        "task": task.id,
        "step": task.step,
        "subject": task.subject,
        "role": task.role,
        "state": task.state,
        "attempt": task.attempt,
        "worker": _worker(task) or None,
        "claimed": stamp(task.claimed),
        "finished": stamp(task.finished),
        "progress": task.progress or None,
        "said": task.result.get("said"),
        "error": task.result.get("error"),
        "logs": task.result.get("logs"),
    }


def _log(task: Task) -> Iterator[str]:
    """What one step said: the end of each of its logs, a longer one of those that can be read here."""
    host = task.result.get("host")
    yield f"== {title_of(task)}: {task.state}{f' on {host}' if host else ''}"
    ends = task.result.get("ends") or {}
    for name, end in ends.items():
        path = Path(task.result["logs"]) / Path(name).name
        yield f"-- the end of {path}"
        whole = tail(path, LINES) if os.access(path, os.R_OK) else printable("\n".join(end).encode(), LINES)
        yield from (f"  | {line}" for line in whole)
    if not ends:
        yield from (f"  | {line}" for line in (task.result.get("error") or {}).get("lines", ()))


def _worker(task: Task) -> str:
    return (task.worker or "").partition("#")[0]
