"""How a job of the workers is shown: what goes on, and what came of it."""

import time
from collections.abc import Iterator, Sequence
from datetime import UTC, datetime
from typing import Annotated, Any

import typer

from imagefactory.cli.output import answer, leave, say
from imagefactory.errors import FactoryError
from imagefactory.model.job import ENDS, JobState, TaskState
from imagefactory.store.jobs import Jobs
from imagefactory.store.tables import Job, Task
from imagefactory.tools.hand import rebuild

Wait = Annotated[bool, typer.Option("--wait", help="Say what is going on until it has ended; fail as it does.")]
PATIENCE = 10.0  # seconds that a task may wait before anything is said
LOOK = 1.0  # seconds between two looks at what is going on
SHORT = 8  # digits of an id that people are shown


def show_end(jobs: Jobs, job: Job, as_json: bool, **more: object) -> None:
    """Say what is going on until a job has ended, and what came of it. Raises what it failed with."""
    job = follow(jobs, job, quiet=as_json)
    failure = _failure(job)
    if failure is not None:
        raise leave(failure, as_json, summary(job))
    answer({**summary(job), **more}, "\n".join(lines_of(job)), as_json)


def follow(jobs: Jobs, job: Job, *, quiet: bool = False) -> Job:
    """Say what changes, until the job has ended."""
    told: dict[str, str] = {}
    waiting = Waiting()
    while True:
        job = jobs.job(job.id)
        tasks = jobs.tasks(job.id)
        if not quiet:
            ahead = [each for each in jobs.jobs(job.name, [JobState.RUNNING]) if each.id != job.id]
            for hint in waiting.hints(tasks, ahead, time.monotonic()):
                say(hint)
        for task in tasks:
            line = f"{title_of(task)}: {task.state}{f', {said}' if (said := said_of(task)) else ''}"
            if told.get(task.id) != line and not quiet:
                say(line)
            told[task.id] = line
        if JobState(job.state) in ENDS:
            return job
        time.sleep(LOOK)


class Waiting:
    """Since when tasks wait, as one sees who looks, and when that is to be said again: seldomer and seldomer."""

    def __init__(self) -> None:
        self._since: dict[str, tuple[float, float]] = {}

    def hints(self, tasks: Sequence[Task], ahead: Sequence[Job], now: float) -> Iterator[str]:
        """What to say at this time of a clock that nobody sets, in seconds, while these jobs of the same name run."""
        for task in tasks:
            if task.state != TaskState.QUEUED or task.error_code:  # a step that failed is begun again after a while
                self._since.pop(task.id, None)
                continue
            since, patience = self._since.setdefault(task.id, (now, PATIENCE))
            if now - since < patience:
                continue
            self._since[task.id] = (since, patience * 4)
            behind = f"for build {ahead[0].id[:SHORT]} of the same name" if ahead else ""
            worker = f"for a worker: is there one that is free, of imagefactory worker --role {task.role}?"
            yield f"{title_of(task)}: has waited {now - since:.0f} s {behind or worker}"


def _failure(job: Job) -> FactoryError | None:
    if job.error_code is None:
        return None
    advice = f"imagefactory builds show {job.id[:SHORT]}"
    document = {"code": job.error_code, "message": job.error_message, "advice": advice, "log": None, "lines": ()}
    return rebuild(document)


def summary(job: Job) -> dict[str, Any]:
    """A job as JSON."""
    return {
        "job": job.id,
        "name": job.name,
        "recipe": job.recipe_file,
        "state": job.state,
        "reason": job.reason,
        "account": job.account,
        "created": stamp(job.created),
        "finished": stamp(job.finished),
        "release": job.release,
        "repeats": job.repeats,
        "joined": job.joined,
        "why": {"code": job.error_code, "message": job.error_message} if job.error_code else None,
    }


def lines_of(job: Job) -> list[str]:
    """A job as text: who asked for it and why, and what came of it."""
    asked = f"  asked      {shown_time(job.created)} by {job.account}: {job.reason}"
    lines = [f"{job.id} {job.name}: {job.state}", asked]
    lines += [f"  release    {job.release}"] if job.release else []
    lines += [f"  took       {seconds_between(job.created, job.finished)}"] if job.finished else []
    return lines + ([f"  because    {because}"] if (because := why_of(job)) else [])


def why_of(job: Job) -> str:
    """Why a job failed; nothing if it did not."""
    return f"{job.error_message} [{job.error_code}]" if job.error_code else ""


def said_of(task: Task) -> str:
    """What is to be told of a task in one line."""
    if task.state == TaskState.DONE:
        return str(task.result.get("said", ""))
    if task.error_code and task.state != TaskState.RUNNING:
        return f"{task.error_message} [{task.error_code}]"
    done, total = task.progress.get("done", 0), task.progress.get("total", 0)
    share = f" ({100 * done // total} %)" if total else ""
    return f"{task.progress.get('text', '')}{share}"


def title_of(task: Task) -> str:
    """What a task is called, such as `boot-test uefi`."""
    return f"{task.step} {task.subject}" if task.subject else task.step


def shown_time(moment: datetime | None) -> str:
    """For people: UTC, to the second."""
    return f"{moment.replace(tzinfo=UTC):%Y-%m-%d %H:%M:%S}" if moment else ""


def stamp(moment: datetime | None) -> str | None:
    """For programs: UTC, as RFC 3339 has it."""
    return moment.replace(tzinfo=UTC).isoformat().replace("+00:00", "Z") if moment else None


def seconds_between(begun: datetime | None, ended: datetime | None) -> str:
    """How long something took, once it has ended."""
    return f"{(ended - begun).total_seconds():.0f} s" if begun and ended else ""
