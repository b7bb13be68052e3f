"""Rows of jobs and tasks, changed within a transaction.

Everybody takes the row of a job before those of its tasks, so that no two wait for each other.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Final, cast
from uuid import uuid4

from sqlalchemy import (
    JSON,
    ColumnElement,
    Float,
    Table,
    Update,
    bindparam,
    case,
    exists,
    insert,
    or_,
    select,
    true,
    update,
)
from sqlalchemy.orm import Session

from imagefactory.errors import StateConflict
from imagefactory.errors.service import JobUnknown, TaskLost
from imagefactory.model.job import ENDS, JobState, NewTask, Role, TaskState
from imagefactory.store.clock import from_now
from imagefactory.store.tables import Job, Task

ACTIVE: Final = (JobState.QUEUED, JobState.RUNNING)
UNENDED: Final = (TaskState.QUEUED, TaskState.RUNNING)


def in_state(state: TaskState) -> ColumnElement[bool]:
    """Whether a task, which is found by its id, is in a state. PostgreSQL shall not look for it by that: the index of
    states has an entry of every task that was ever in it since the last vacuum."""
    return (Task.state == state).is_(true())


# What every task needs, said once: SQLAlchemy takes longer to put a statement together than PostgreSQL to run it, and
# longer still to look after objects that nobody changes.
_JOBS, _TASKS = cast("Table", Job.__table__), cast("Table", Task.__table__)
_BEGIN: Final = (
    update(_JOBS)
    .where(_JOBS.c.id == select(_TASKS.c.job_id).where(_TASKS.c.id == bindparam("a_task")).scalar_subquery())
    .values(touched=from_now(), state=case((_JOBS.c.state == JobState.QUEUED, JobState.RUNNING), else_=_JOBS.c.state))
    .returning(_JOBS)
)
_TAKE: Final = (
    update(_TASKS)
    .where(
        _TASKS.c.id == bindparam("a_task"),
        _TASKS.c.role == bindparam("a_role"),
        in_state(TaskState.QUEUED),
        _TASKS.c.not_before <= from_now(),
    )
    .values(
        state=TaskState.RUNNING,
        attempt=_TASKS.c.attempt + 1,
        worker=bindparam("a_worker"),
        claimed=from_now(),
        lease_until=from_now(bindparam("a_lease", type_=Float())),
        progress={},
    )
    .returning(_TASKS)
)
# Most tasks belong to a job that runs already, or to none, so that there is nothing else to change.
_TAKE_NEXT: Final = _TAKE.where(
    or_(
        _TASKS.c.job_id.is_(None),
        exists().where(_JOBS.c.id == _TASKS.c.job_id, _JOBS.c.state == JobState.RUNNING, _JOBS.c.ending.is_(None)),
    )
)
_ENDED: Final = (
    update(_TASKS)
    .where(
        _TASKS.c.id == bindparam("a_task"),
        in_state(TaskState.RUNNING),
        _TASKS.c.worker == bindparam("a_worker"),
    )
    .values(state=TaskState.DONE, finished=from_now(), lease_until=None, result=bindparam("a_result", type_=JSON()))
    .returning(_TASKS.c.id)
)


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
    return (Task.id == held.task.id, in_state(TaskState.RUNNING), Task.worker == held.task.worker)


def change(session: Session, held: Held, values: Mapping[str, Any], *also: ColumnElement[bool]) -> None:
    """Change a task that its worker has. Raises TaskLost."""
    changed = session.execute(update(Task).where(*as_claimed(held), *also).values(**values).returning(Task.id))
    if changed.first() is None:
        raise _lost(held)


def _lost(held: Held) -> TaskLost:
    return TaskLost(f"task {held.task.id} is not {held.task.worker}'s any more")


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


@dataclass(frozen=True)
class Claim:
    """A task that is wanted: by a worker, which is known by this claim, for so many seconds."""

    task_id: str
    role: Role
    worker: str
    lease: float

    def next(self, session: Session) -> Held | None:
        """Have the task, unless its job has to be changed for it: one statement, which waits for nobody's job. A job
        that ends meanwhile cancels it, before or after."""
        task = self._task(session, _TAKE_NEXT)
        if task is None:
            return None
        return Held(task, None if task.job_id is None else session.get_one(Job, task.job_id))

    def first(self, session: Session) -> Held | None:
        """Have the task and its job, which is running now. Everybody takes a job before its tasks, so that no two wait
        for each other. Raises IntegrityError when another job of the name is running."""
        job = session.execute(_BEGIN, {"a_task": self.task_id}).mappings().one_or_none()
        task = self._task(session, _TAKE)
        return None if task is None else Held(task, None if job is None else Job(**job))

    def _task(self, session: Session, take: Update) -> Task | None:
        claimed = {"a_task": self.task_id, "a_role": self.role, "a_worker": self.worker, "a_lease": self.lease}
        row = session.execute(take, claimed).mappings().one_or_none()
        return None if row is None else Task(**row)


def finish(session: Session, held: Held, result: Mapping[str, Any]) -> None:
    """Record what came of a task that is done. Raises TaskLost."""
    ended = {"a_task": held.task.id, "a_worker": held.task.worker, "a_result": dict(result)}
    if session.execute(_ENDED, ended).first() is None:
        raise _lost(held)


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
