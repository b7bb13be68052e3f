"""A crowd of workers who die, stop, are slow, and hear everything twice or not at all; and what stays true of jobs.

    machine(lambda: records).TestCase

is a test case of hypothesis for the jobs in `records`, which have nothing in them when it begins.
"""

from collections import Counter
from collections.abc import Callable

from hypothesis import strategies as st
from hypothesis.stateful import Bundle, RuleBasedStateMachine, consumes, initialize, invariant, multiple, rule
from sqlalchemy import text

from imagefactory.errors import StateConflict
from imagefactory.errors.service import TaskLost
from imagefactory.model.job import ENDS, MOST_ATTEMPTS, JobOrder, JobState, NewTask, Role, TaskState
from imagefactory.store.job_rows import UNENDED, Call, Held
from imagefactory.store.jobs import Jobs
from imagefactory.store.records import Records

LEASE = 3600.0
WORKERS = ("a", "b", "c")
STEPS = {Role.BUILD: "rootfs", Role.TEST: "boot-test", Role.SIGN: "sign"}


class Crowd(RuleBasedStateMachine):
    """`begin` gives the records; `ended` has the state that each job was first seen to end in."""

    begin: Callable[[], Records]
    messages = Bundle("messages")
    works = Bundle("works")

    @initialize()
    def nothing(self) -> None:
        self.jobs = Jobs(type(self).begin())
        self.ended: dict[str, str] = {}
        self.done: Counter[str] = Counter()
        self.claims: Counter[str] = Counter()
        self.handed_back: Counter[str] = Counter()

    @rule(target=messages, name=st.sampled_from(["soe", "tiny"]), digest=st.sampled_from(["d" * 64, "e" * 64]))
    def ask(self, name: str, digest: str) -> object:
        order = JobOrder(name, f"/recipes/{name}.yaml", digest, "why not", "ana")
        _, call = self.jobs.request(order, NewTask(Role.BUILD, "plan"))
        return multiple() if call is None else call

    @rule(target=works, message=messages, worker=st.sampled_from(WORKERS))
    def hear(self, message: Call, worker: str) -> object:
        """A message arrives: the first time, or again."""
        held = self.jobs.claim(message.task_id, message.role, worker, LEASE)
        if held is None:
            return multiple()
        self.claims[held.task.id] += 1
        assert str(held.task.worker).startswith(f"{worker}#")
        assert held.task.attempt == self.claims[held.task.id] - self.handed_back[held.task.id]
        return held

    @rule(message=messages, worker=st.sampled_from(WORKERS), role=st.sampled_from(list(Role)))
    def hear_what_is_not_ones_own(self, message: Call, worker: str, role: Role) -> None:
        if role is not message.role:
            assert self.jobs.claim(message.task_id, role, worker, LEASE) is None

    @rule(target=messages, work=works, after=st.lists(st.sampled_from(list(STEPS)), min_size=1, max_size=2))
    def go_on(self, work: Held, after: list[Role]) -> object:
        try:
            calls = self.jobs.done(work, {}, [NewTask(role, STEPS[role]) for role in after])
        except TaskLost:
            return multiple()
        self.done[work.task.id] += 1
        return multiple(*calls)

    @rule(work=works, end=st.sampled_from([JobState.RELEASED, JobState.UNCHANGED]))
    def finish(self, work: Held, end: JobState) -> None:
        try:
            self.jobs.done(work, {}, end=end)
        except TaskLost:
            return
        self.done[work.task.id] += 1

    @rule(work=works, again=st.booleans())
    def fail(self, work: Held, again: bool) -> None:
        try:
            self.jobs.fail(work, "disk-full", "no space", again=again)
        except TaskLost:
            assert not self._has(work)

    @rule(work=consumes(works))
    def stop(self, work: Held) -> None:
        try:
            self.jobs.hand_back(work)
        except TaskLost:
            return
        self.handed_back[work.task.id] += 1

    @rule(work=works)
    def obey(self, work: Held) -> None:
        beat = self.jobs.beat(work, LEASE)
        assert beat.alive or not self._has(work)
        if beat.cancel and self._has(work):
            self.jobs.stopped(work)

    @rule(work=works)
    def die(self, work: Held) -> None:
        """Its lease runs out; it may go on nevertheless, and be late."""
        self._sql("update tasks set lease_until = '2026-01-01' where id = :id and state = 'running'", id=work.task.id)

    @rule()
    def wait(self) -> None:
        self._sql("update tasks set not_before = '2026-01-01'")

    @rule(target=messages)
    def sweep(self) -> object:
        self.jobs.sweep()
        return multiple(*self.jobs.untold(resend=-1.0))

    @rule(message=messages)
    def cancel(self, message: Call) -> None:
        task = self.jobs.task(message.task_id)
        assert task is not None
        if task.job_id is not None:
            try:
                self.jobs.cancel(task.job_id, "eva")
            except StateConflict:
                job = self.jobs.job(task.job_id)
                assert job.state in ENDS or job.ending == JobState.FAILED

    @invariant()
    def nothing_is_done_twice(self) -> None:
        assert all(count == 1 for count in self.done.values())

    @invariant()
    def what_has_ended_stays_so(self) -> None:
        running = Counter[str]()
        for job in self.jobs.jobs():
            unended = [task for task in self.jobs.tasks(job.id) if task.state in UNENDED]
            if job.state in ENDS:
                assert self.ended.setdefault(job.id, job.state) == job.state
                assert not unended
                assert job.finished is not None
            else:
                assert job.id not in self.ended
                assert unended, "somebody will end it"
                running[job.name] += job.state == JobState.RUNNING
        assert all(count <= 1 for count in running.values())

    @invariant()
    def nobody_tries_for_ever(self) -> None:
        for job in self.jobs.jobs():
            for task in self.jobs.tasks(job.id):
                assert task.attempt <= MOST_ATTEMPTS
                assert (task.worker is not None) or task.state != TaskState.RUNNING
                if task.state == TaskState.DONE:
                    assert self.done[task.id] == 1

    def _has(self, work: Held) -> bool:
        task = self.jobs.task(work.task.id)
        assert task is not None
        return (task.state, task.worker, task.attempt) == (TaskState.RUNNING, work.task.worker, work.task.attempt)

    def _sql(self, statement: str, **values: str) -> None:
        with self.jobs._records.session() as session:
            session.execute(text(statement), values)


def machine(begin: Callable[[], Records]) -> type[Crowd]:
    """The crowd at these records."""
    return type("Crowd", (Crowd,), {"begin": staticmethod(begin)})
