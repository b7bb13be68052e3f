"""Rows of jobs and tasks, changed within a transaction.

Everybody takes the row of a job before those of its tasks, so that no two wait for each other.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Final
from uuid import uuid4

from sqlalchemy import ColumnElement, case, exists, insert, select, update
from sqlalchemy.orm import Session

from imagefactory.errors import StateConflict
from imagefactory.errors.service import JobUnknown, TaskLost
from imagefactory.model.job import ENDS, JobState, NewTask, Role, TaskState
from imagefactory.store.clock import from_now
from imagefactory.store.tables import Job, Task

ACTIVE: Final = (JobState.QUEUED, JobState.RUNNING)
UNENDED: Final = (TaskState.QUEUED, TaskState.RUNNING)


@dataclass(frozen=True)
class Held:
    """A task that a worker has for itself, and its job."""

    task: Task
    job: Job | None


@dataclass(frozen=True)
class Call:
    """Whom a message goes to, and the task that it names."""

    role: Role
    task_id: str


def as_claimed(held: Held) -> tuple[ColumnElement[bool], ...]:
    """A task as its worker has it: one that was lost and claimed again belongs to somebody else, be it the same."""
    return (Task.id == held.task.id, Task.state == TaskState.RUNNING, Task.worker == held.task.worker)


def change(session: Session, held: Held, values: Mapping[str, Any], *also: ColumnElement[bool]) -> None:
    """Change a task that its worker has. Raises TaskLost."""
    changed = session.execute(update(Task).where(*as_claimed(held), *also).values(**values).returning(Task.id))
    if changed.first() is None:
        raise TaskLost(f"task {held.task.id} is not {held.task.worker}'s any more")


def touch(session: Session, job_id: str) -> Job:
    """Have the row of a job until the end of the transaction. Raises JobUnknown."""
    touched = update(Job).where(Job.id == job_id).values(touched=from_now()).returning(Job)
    job = session.scalars(touched, execution_options={"populate_existing": True}).one_or_none()
    if job is None:
        raise JobUnknown(f"there is no job {job_id}")
    return job


def job_of(session: Session, task: Task) -> Job | None:
    """Have the row of the job that a task belongs to, if it belongs to one."""
    return None if task.job_id is None else touch(session, task.job_id)


def begin(session: Session, task_id: str) -> Job | None:
    """Have the row of the job that a task belongs to, which is running now. Everybody takes a job before its tasks, so
    that no two wait for each other. Raises IntegrityError when another job of the name is running."""
    wanted = select(Task.job_id).where(Task.id == task_id).scalar_subquery()
    running = case((Job.state == JobState.QUEUED, JobState.RUNNING), else_=Job.state)
    return session.scalars(
        update(Job).where(Job.id == wanted).values(touched=from_now(), state=running).returning(Job)
    ).one_or_none()


def end_job(session: Session, job: Job, ending: JobState, error: tuple[str, str] | None = None) -> None:
    """Decide how a job ends: what waits is cancelled, what runs is told to stop. `error` is its code and what it says.

    What is decided stays so, but what was complete before it could be cancelled is complete. Raises StateConflict when
    it has ended, or is to end otherwise.
    """
    if job.state in ENDS:
        raise StateConflict(f"job {job.id} has ended: {job.state}")
    complete = ending not in {JobState.FAILED, JobState.CANCELLED}
    if job.ending is not None and not (complete and job.ending == JobState.CANCELLED):
        raise StateConflict(f"job {job.id} is about to end: {job.ending}")
    job.ending = ending
    code, message = error or (None, None)
    said = {"error_code": code, "error_message": message}
    session.execute(update(Job).where(Job.id == job.id).values(ending=ending, **said))
    of_it = Task.job_id == job.id
    session.execute(
        update(Task).where(of_it, Task.state == TaskState.QUEUED).values(state=TaskState.CANCELLED, finished=from_now())
    )
    session.execute(update(Task).where(of_it, Task.state == TaskState.RUNNING).values(cancel=True))


def close(session: Session, job: Job) -> bool:
    """End a job that is to end, with its last task; whether it has ended. Jobs of the same name that wait for it are
    told of again."""
    unended = exists().where(Task.job_id == job.id, Task.state.in_(UNENDED))
    ended = session.execute(
        update(Job)
        .where(Job.id == job.id, Job.ending.is_not(None), Job.state.in_(ACTIVE), ~unended)
        .values(state=Job.ending, finished=from_now())
        .returning(Job.id)
    )
    if ended.first() is None:
        return False
    waiting = select(Job.id).where(Job.name == job.name, Job.state == JobState.QUEUED)
    session.execute(update(Task).where(Task.job_id.in_(waiting), Task.state == TaskState.QUEUED).values(sent=None))
    return True


def goes_on(session: Session, job: Job) -> bool:
    """Whether any task of a job is not ended."""
    unended = select(Task.id).where(Task.job_id == job.id, Task.state.in_(UNENDED)).limit(1)
    return session.scalar(unended) is not None


def add(session: Session, job_id: str | None, tasks: Sequence[NewTask], *, told: bool = True) -> list[Call]:
    """Queue tasks. Whoever adds them tells, after the transaction, so that they count as `told` of."""
    rows = [
        {
            "id": uuid4().hex,
            "job_id": job_id,
            "role": task.role,
            "step": task.step,
            "subject": task.subject,
            "payload": dict(task.payload),
            "state": TaskState.QUEUED,
            "attempt": 0,
            "cancel": False,
            "progress": {},
            "result": {},
        }
        for task in tasks
    ]
    for row in rows:
        session.execute(
            insert(Task).values(**row, created=from_now(), not_before=from_now(), sent=from_now() if told else None)
        )
    return [Call(task.role, str(row["id"])) for task, row in zip(tasks, rows, strict=True)]
