"""Jobs and tasks in the records: asked for, claimed, kept, ended.

A task belongs to the one worker that has claimed it, for as long as its lease is renewed. All times are those of the
database (store.clock). Every change is made from what it was decided upon, in one statement, or not at all; a change of
a task that belongs to a job has that job's row for itself, so that a job ends once, with its last task.
"""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Final
from uuid import uuid4

from sqlalchemy import func, insert, or_, select, update
from sqlalchemy.exc import IntegrityError
from sqlalchemy.orm import Session

from imagefactory.errors import StateConflict
from imagefactory.errors.service import JobUnknown, TaskLost
from imagefactory.model.job import ENDS, MOST_ATTEMPTS, JobOrder, JobState, NewTask, Role, TaskState, delay
from imagefactory.store.clock import from_now
from imagefactory.store.job_rows import (
    ACTIVE,
    Call,
    Claim,
    Held,
    add,
    as_claimed,
    change,
    close,
    end_job,
    finish,
    goes_on,
    job_of,
    touch,
)
from imagefactory.store.records import Records
from imagefactory.store.tables import Job, Task

RESEND: Final = 60.0
"""Seconds after which a task that still waits is told of again: its message may be lost."""
_MOST_JOINS = 8  # a job that is joined may end in that very moment, and the next one as well


@dataclass(frozen=True)
class Beat:
    """What a worker learns when it renews a lease: whether it still has it, and whether the work is to be stopped."""

    alive: bool
    cancel: bool


@dataclass(frozen=True)
class Swept:
    """Ids of the tasks that died: begun again, failed for good, and cancelled."""

    again: tuple[str, ...]
    failed: tuple[str, ...]
    cancelled: tuple[str, ...]


class Jobs:
    """The part of the records that says what there is to do."""

    def __init__(self, records: Records) -> None:
        self._records = records

    # -- asking --------------------------------------------------------------------------------------------------------

    def request(
        self, order: JobOrder, first: NewTask, *, repeats: str | None = None, told: bool = True
    ) -> tuple[Job, Call | None]:
        """Ask for a build. Returns the job and whom to tell: nobody, where the same was asked for before and has not
        ended, so that this is one job. Who cannot tell says so with `told`: then a beat does."""
        with self._records.session() as session:
            return self.request_in(session, order, first, repeats=repeats, told=told)

    def request_in(
        self, session: Session, order: JobOrder, first: NewTask, *, repeats: str | None = None, told: bool = True
    ) -> tuple[Job, Call | None]:
        """The same, within a transaction."""
        for _ in range(_MOST_JOINS):
            try:
                with session.begin_nested():
                    return self._new(session, order, first, repeats, told)
            except IntegrityError:
                job = self._joined(session, order)
                if job is not None:
                    return job, None
        raise StateConflict(f"jobs for {order.name} end as fast as they are asked for")

    def _new(
        self, session: Session, order: JobOrder, first: NewTask, repeats: str | None, told: bool
    ) -> tuple[Job, Call]:
        job_id = uuid4().hex
        values = {**vars(order), "id": job_id, "state": JobState.QUEUED, "repeats": repeats, "joined": 0, "course": {}}
        made = insert(Job).values(**values, created=from_now(), touched=from_now()).returning(Job)
        job = session.scalars(made).one()
        (call,) = add(session, job_id, [first], told=told)
        return job, call

    def _joined(self, session: Session, order: JobOrder) -> Job | None:
        same = (
            Job.name == order.name,
            Job.recipe_digest == order.recipe_digest,
            Job.fresh == order.fresh,
            Job.publish == order.publish,
        )
        joined = (
            update(Job)
            .where(*same, Job.state.in_(ACTIVE), Job.ending.is_(None))
            .values(joined=Job.joined + 1)
            .returning(Job)
        )
        return session.scalars(joined).one_or_none()

    def ask(self, task: NewTask) -> Call:
        """Ask another role for something that belongs to no job. Returns whom to tell."""
        with self._records.session() as session:
            (call,) = add(session, None, [task])
        return call

    def call_off(self, task_id: str) -> bool:
        """Have nobody do any more what was asked for without a job; False when somebody has begun."""
        waiting = (Task.id == task_id, Task.job_id.is_(None), Task.state == TaskState.QUEUED)
        off = update(Task).where(*waiting).values(state=TaskState.CANCELLED, finished=from_now()).returning(Task.id)
        with self._records.session() as session:
            return session.execute(off).first() is not None

    def cancel(self, job_id: str, account: str) -> Job:
        """Have a job end: what waits does not begin, what runs is stopped by its worker. Raises JobUnknown,
        StateConflict when it has ended, or is ending, otherwise."""
        with self._records.session() as session:
            job = touch(session, job_id)
            if job.ending != JobState.CANCELLED or job.state in ENDS:
                end_job(session, job, JobState.CANCELLED, ("cancelled", f"cancelled by {account}"))
            close(session, job)
        return self.job(job_id)

    # -- working -------------------------------------------------------------------------------------------------------

    def claim(self, task_id: str, role: Role, worker: str, lease: float) -> Held | None:
        """Have a task for `worker`, which is known by that and a number of this claim, for `lease` seconds.

        None when it is not there to be had: somebody else has it, it has ended, it is another role's, its time has not
        come, or another job of the same name is running.
        """
        claim = Claim(task_id, role, f"{worker}#{uuid4().hex[:12]}", lease)
        with self._records.statements() as session:
            held = claim.next(session)
        return held or self._begin(claim)

    def _begin(self, claim: Claim) -> Held | None:
        """Claim what may be the first task of its job."""
        try:
            with self._records.session() as session:
                held = claim.first(session)
                if held is None:
                    session.rollback()  # the job, too, is as it was
                return held
        except IntegrityError:  # another job of this name is running
            return None

    def beat(self, held: Held, lease: float, progress: Mapping[str, Any] | None = None) -> Beat:
        """Renew a lease, and say how far the work is."""
        values: dict[str, Any] = {"lease_until": from_now(lease)}
        if progress is not None:
            values["progress"] = dict(progress)
        with self._records.session() as session:
            cancel = session.scalar(update(Task).where(*as_claimed(held)).values(**values).returning(Task.cancel))
        return Beat(cancel is not None, bool(cancel))

    def done(
        self,
        held: Held,
        result: Mapping[str, Any],
        then: Sequence[NewTask] = (),
        *,
        course: Mapping[str, Any] | None = None,
        end: JobState | None = None,
        release: str | None = None,
    ) -> list[Call]:
        """Record what came of a task, what comes next, how far its job is and, with the last one, how that ends.
        Returns whom to tell. Raises TaskLost when the worker does not have the task any more."""
        if held.task.job_id is None and not then:
            with self._records.statements() as session:
                finish(session, held, result)
            return []
        with self._records.session() as session:
            job = job_of(session, held.task)
            finish(session, held, result)
            if job is None:
                return add(session, None, then)
            changed = {key: value for key, value in (("course", course), ("release", release)) if value is not None}
            if changed:
                session.execute(update(Job).where(Job.id == job.id).values(**changed))
            if end is not None and job.ending in {None, JobState.CANCELLED}:
                end_job(session, job, end)
            calls = add(session, job.id, then) if job.ending is None else []
            if not close(session, job) and not goes_on(session, job):
                raise AssertionError(f"{held.task.step} is the last task of job {job.id}, and does not end it")
            return calls

    def fail(
        self, held: Held, code: str, message: str, *, again: bool, details: Mapping[str, Any] | None = None
    ) -> None:
        """Record that a task failed, with `details` as its result: with `again` it is begun anew after a while, if it
        has an attempt left; else it ends its job. Raises TaskLost."""
        error = {"error_code": code, "error_message": message, "result": dict(details or {})}
        with self._records.session() as session:
            job = job_of(session, held.task)
            if again and held.task.attempt < MOST_ATTEMPTS and not (job and job.ending):
                self._queue_again(session, held, delay(held.task.attempt), error)
                return
            self._finish(session, held, TaskState.FAILED, error)
            if job is not None:
                if job.ending is None:
                    end_job(session, job, JobState.FAILED, (code, message))
                close(session, job)

    def hand_back(self, held: Held, wait: float = 0.0) -> Call | None:
        """Give a task back as if it had not been begun, to be begun in `wait` seconds: whoever stops does not use up an
        attempt. Returns whom to tell now. Raises TaskLost."""
        with self._records.session() as session:
            job = job_of(session, held.task)
            if job is not None and job.ending is not None:
                self._finish(session, held, TaskState.CANCELLED, {})
                close(session, job)
                return None
            self._queue_again(session, held, wait, {"attempt": Task.attempt - 1})
        return None if wait else Call(Role(held.task.role), held.task.id)

    def stopped(self, held: Held) -> None:
        """Record that a task was stopped because its job is to end. Raises TaskLost."""
        with self._records.session() as session:
            job = job_of(session, held.task)
            self._finish(session, held, TaskState.CANCELLED, {})
            if job is not None:
                close(session, job)

    def _finish(self, session: Session, held: Held, state: TaskState, values: Mapping[str, Any]) -> None:
        change(session, held, {"state": state, "finished": from_now(), "lease_until": None, **values})

    def _queue_again(self, session: Session, held: Held, wait: float, values: Mapping[str, Any]) -> None:
        back = {"state": TaskState.QUEUED, "not_before": from_now(wait), "sent": None}
        change(session, held, {**back, "worker": None, "lease_until": None, **values})

    # -- keeping -------------------------------------------------------------------------------------------------------

    def sweep(self) -> Swept:
        """Find tasks whose lease ran out: their worker is dead, or cannot reach the records. Each is begun again after
        a while, or fails after its last attempt, and its job with it."""
        with self._records.session() as session:
            over = (Task.state == TaskState.RUNNING, Task.lease_until < from_now())
            dead = session.scalars(select(Task).where(*over).order_by(Task.lease_until).limit(1000)).all()
        outcomes: dict[TaskState, list[str]] = {state: [] for state in TaskState}
        for task in dead:
            state = self._bury(task)
            if state is not None:
                outcomes[state].append(task.id)
        queued, failed, cancelled = (
            tuple(outcomes[state]) for state in (TaskState.QUEUED, TaskState.FAILED, TaskState.CANCELLED)
        )
        return Swept(queued, failed, cancelled)

    def _bury(self, task: Task) -> TaskState | None:
        """What becomes of one that died; None when it lives after all, or somebody else buried it."""
        held = Held(task, None)
        error = {"error_code": TaskLost.code, "error_message": f"{task.worker} did not end it, attempt {task.attempt}"}
        try:
            with self._records.session() as session:
                job = job_of(session, held.task)
                if task.cancel or (job and job.ending):
                    state = TaskState.CANCELLED
                else:
                    state = TaskState.QUEUED if task.attempt < MOST_ATTEMPTS else TaskState.FAILED
                again = {"not_before": from_now(delay(task.attempt)), "sent": None, "worker": None}
                values = again if state is TaskState.QUEUED else {"finished": from_now()}
                still = Task.lease_until < from_now()
                change(session, held, {"state": state, "lease_until": None, **values, **error}, still)
                if job is not None:
                    if state is TaskState.FAILED:
                        end_job(session, job, JobState.FAILED, (error["error_code"], error["error_message"]))
                    close(session, job)
                return state
        except TaskLost:
            return None

    def untold(self, most: int = 1000, resend: float = RESEND) -> list[Call]:
        """Tasks whose time has come and of which nobody was told, or long ago; from now on they count as told."""
        waits = (
            Task.state == TaskState.QUEUED,
            Task.not_before <= from_now(),
            or_(Task.sent.is_(None), Task.sent < from_now(-resend)),
        )
        with self._records.session() as session:
            # What somebody else is changing is left to them: who waits for none of many rows is in nobody's way.
            chosen = (
                select(Task.id).where(*waits).order_by(Task.not_before).limit(most).with_for_update(skip_locked=True)
            )
            told = update(Task).where(Task.id.in_(chosen), *waits).values(sent=from_now()).returning(Task.role, Task.id)
            return [Call(Role(role), task_id) for role, task_id in session.execute(told)]

    def unsettled(self, most: int) -> Sequence[Job]:
        """Jobs that have ended and of which nobody was told."""
        query = select(Job).where(Job.state.in_(list(ENDS)), Job.told.is_(False)).order_by(Job.finished).limit(most)
        with self._records.session() as session:
            return session.scalars(query).all()

    def settled(self, session: Session, job: Job) -> None:
        """People are told of it."""
        session.execute(update(Job).where(Job.id == job.id).values(told=True))

    # -- reading -------------------------------------------------------------------------------------------------------

    def job(self, job_id: str) -> Job:
        """One job, by its id or the unique beginning of it. Raises JobUnknown."""
        with self._records.session() as session:
            found = session.scalars(select(Job).where(Job.id.startswith(job_id, autoescape=True)).limit(2)).all()
        if len(found) != 1:
            what = "there is no job" if not found else "several jobs begin with"
            raise JobUnknown(f"{what} {job_id}")
        return found[0]

    def jobs(
        self, name: str | None = None, states: Iterable[JobState] | None = None, *, most: int = 100
    ) -> Sequence[Job]:
        """Jobs, the newest first."""
        query = select(Job).order_by(Job.created.desc(), Job.id).limit(most)
        if name is not None:
            query = query.where(Job.name == name)
        if states is not None:
            query = query.where(Job.state.in_(list(states)))
        with self._records.session() as session:
            return session.scalars(query).all()

    def tasks(self, job_id: str) -> Sequence[Task]:
        """The tasks of a job, in the order in which they came."""
        with self._records.session() as session:
            return session.scalars(select(Task).where(Task.job_id == job_id).order_by(Task.created, Task.id)).all()

    def task(self, task_id: str) -> Task | None:
        """One task, if it is there."""
        with self._records.session() as session:
            return session.get(Task, task_id)

    def depths(self) -> dict[Role, int]:
        """How many tasks wait for each role."""
        query = select(Task.role, func.count()).where(Task.state == TaskState.QUEUED).group_by(Task.role)
        with self._records.session() as session:
            waiting = {str(role): int(count) for role, count in session.execute(query)}
        return {role: waiting.get(role, 0) for role in Role}
