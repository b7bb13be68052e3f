"""Jobs and tasks: who may do what, and what becomes of a job whose workers die, stop and are told to."""

from collections.abc import Mapping

import pytest
from sqlalchemy import text

from imagefactory.errors import StateConflict
from imagefactory.errors.service import JobUnknown, TaskLost
from imagefactory.model.job import (
    ENDS,
    JOB_TRANSITIONS,
    MOST_ATTEMPTS,
    TASK_TRANSITIONS,
    JobOrder,
    JobState,
    NewTask,
    Role,
    TaskState,
    delay,
)
from imagefactory.store.job_rows import Call, Held
from imagefactory.store.jobs import Beat, Jobs
from imagefactory.store.records import Records
from imagefactory.store.tables import Job

LEASE = 60.0
PLAN, ROOTFS, DISK = NewTask(Role.BUILD, "plan"), NewTask(Role.BUILD, "rootfs"), NewTask(Role.BUILD, "disk")
BOOT = NewTask(Role.TEST, "boot-test", payload={"format": "qcow2"})


def order(name: str = "soe", digest: str = "d" * 64) -> JobOrder:
    return JobOrder(name, f"/recipes/{name}.yaml", digest, "somebody asks for it", "ana")


@pytest.fixture
def jobs(records: Records) -> Jobs:
    return Jobs(records)


def asked(jobs: Jobs, name: str = "soe", digest: str = "d" * 64) -> tuple[Job, Call]:
    job, call = jobs.request(order(name, digest), PLAN)
    assert call is not None
    return job, call


def claimed(jobs: Jobs, call: Call, worker: str = "a", lease: float = LEASE) -> Held:
    held = jobs.claim(call.task_id, call.role, worker, lease)
    assert held is not None
    return held


def waited(jobs: Jobs) -> None:
    """The time of whatever waits has come."""
    with jobs._records.session() as session:
        session.execute(text("update tasks set not_before = '2026-01-01 00:00:00.000000'"))


def states(jobs: Jobs, job: Job) -> Mapping[str, str]:
    return {task.step: task.state for task in jobs.tasks(job.id)}


def test_every_state_has_its_transitions() -> None:
    assert set(JOB_TRANSITIONS) == set(JobState)
    assert set(TASK_TRANSITIONS) == set(TaskState)
    assert {state for state, after in JOB_TRANSITIONS.items() if not after} == ENDS


def test_delays_grow_and_have_an_end() -> None:
    waits = [delay(attempt) for attempt in range(1, 20)]
    assert waits == sorted(waits)
    assert (waits[0], waits[-1]) == (5.0, 300.0)


def test_a_job_from_its_first_task_to_its_last(jobs: Jobs) -> None:
    job, call = asked(jobs)
    assert (job.state, job.name, job.course, job.release) == ("queued", "soe", {}, None)
    held = claimed(jobs, call)
    assert (held.task.attempt, held.job and held.job.state) == (1, "running")
    after = jobs.done(held, {}, [ROOTFS], course={"in_release": "x"})
    assert jobs.job(job.id).course == {"in_release": "x"}
    after = jobs.done(claimed(jobs, after[0]), {"rootfs": "r"}, [BOOT])
    booting = claimed(jobs, after[0], "tester")
    assert booting.task.payload == {"format": "qcow2"}
    assert jobs.done(booting, {}, end=JobState.RELEASED, release="soe@20261123.1") == []
    ended = jobs.job(job.id)
    assert (ended.state, ended.release, ended.error_code) == ("released", "soe@20261123.1", None)
    assert ended.finished is not None
    assert ended.finished >= ended.created
    assert states(jobs, job) == {"plan": "done", "rootfs": "done", "boot-test": "done"}


def test_the_same_is_one_job_until_it_has_ended(jobs: Jobs) -> None:
    job, call = asked(jobs)
    again, nobody = jobs.request(order(), PLAN)
    assert (again.id, again.joined, nobody) == (job.id, 1, None)
    assert asked(jobs, digest="e" * 64)[0].id != job.id
    jobs.done(claimed(jobs, call), {}, end=JobState.UNCHANGED)
    assert asked(jobs)[0].id != job.id


def test_of_one_name_one_job_runs(jobs: Jobs) -> None:
    _, first = asked(jobs)
    waiting, second = asked(jobs, digest="e" * 64)
    held = claimed(jobs, first)
    assert jobs.claim(second.task_id, second.role, "b", LEASE) is None
    assert jobs.job(waiting.id).state == "queued"
    claimed(jobs, asked(jobs, "other")[1], "b")
    jobs.done(held, {}, end=JobState.RELEASED)
    claimed(jobs, second, "b")


def test_only_its_role_gets_a_task_and_once(jobs: Jobs) -> None:
    job, call = asked(jobs)
    assert jobs.claim(call.task_id, Role.SIGN, "b", LEASE) is None
    assert jobs.claim("0" * 32, Role.BUILD, "b", LEASE) is None
    assert jobs.job(job.id).state == "queued", "whoever got nothing has begun nothing"
    claimed(jobs, call)
    assert jobs.claim(call.task_id, Role.BUILD, "b", LEASE) is None


def test_a_lease_is_renewed_and_says_how_far_the_work_is(jobs: Jobs) -> None:
    job, call = asked(jobs)
    held = claimed(jobs, call, lease=-1.0)
    assert jobs.beat(held, LEASE, {"done": 3}) == Beat(alive=True, cancel=False)
    assert jobs.sweep().again == ()
    assert jobs.tasks(job.id)[0].progress == {"done": 3}
    jobs.done(held, {}, [ROOTFS])
    assert jobs.beat(held, LEASE) == Beat(alive=False, cancel=False)


def test_who_died_is_followed_by_another_attempt_and_then_by_none(jobs: Jobs) -> None:
    job, call = asked(jobs)
    for attempt in range(1, MOST_ATTEMPTS + 1):
        held = claimed(jobs, call, f"worker-{attempt}", lease=-1.0)
        swept = jobs.sweep()
        last = attempt == MOST_ATTEMPTS
        assert (swept.again, swept.failed) == (((), (call.task_id,)) if last else ((call.task_id,), ()))
        assert jobs.claim(call.task_id, Role.BUILD, "early", LEASE) is None
        with pytest.raises(TaskLost):
            jobs.done(held, {}, [ROOTFS])
        waited(jobs)
    ended = jobs.job(job.id)
    assert (ended.state, ended.error_code) == ("failed", "task-lost")
    assert ended.error_message is not None
    assert "worker-3" in ended.error_message
    assert jobs.claim(call.task_id, Role.BUILD, "late", LEASE) is None


def test_who_lost_a_task_and_has_it_again_is_two(jobs: Jobs) -> None:
    _, call = asked(jobs)
    early = claimed(jobs, call, lease=-1.0)
    jobs.sweep()
    waited(jobs)
    late = claimed(jobs, call)
    with pytest.raises(TaskLost):
        jobs.done(early, {}, [ROOTFS])
    assert not jobs.beat(early, LEASE).alive
    given_back = jobs.hand_back(late)
    assert given_back is not None
    again = claimed(jobs, given_back)
    assert not jobs.beat(late, LEASE).alive, "the same attempt, and begun anew"
    jobs.done(again, {}, [ROOTFS])


def test_who_gives_back_uses_up_no_attempt(jobs: Jobs) -> None:
    _, call = asked(jobs)
    for _ in range(MOST_ATTEMPTS + 2):
        assert jobs.hand_back(claimed(jobs, call)) == call
    assert claimed(jobs, call).task.attempt == 1


def test_what_fails_for_a_while_is_tried_again(jobs: Jobs) -> None:
    job, call = asked(jobs)
    for _ in range(MOST_ATTEMPTS - 1):
        jobs.fail(claimed(jobs, call), "mirror-unreachable", "no answer", again=True)
        assert jobs.job(job.id).state == "running"
        waited(jobs)
    jobs.fail(claimed(jobs, call), "mirror-unreachable", "no answer", again=True)
    ended = jobs.job(job.id)
    assert (ended.state, ended.error_code, ended.error_message) == ("failed", "mirror-unreachable", "no answer")


def test_a_failure_ends_what_goes_on_beside_it(jobs: Jobs) -> None:
    job, call = asked(jobs)
    one, two, three = jobs.done(claimed(jobs, call), {}, [ROOTFS, DISK, BOOT])
    failing, other = claimed(jobs, one), claimed(jobs, two, "b")
    jobs.fail(failing, "disk-full", "no space", again=False)
    assert states(jobs, job) == {"plan": "done", "rootfs": "failed", "disk": "running", "boot-test": "cancelled"}
    assert jobs.beat(other, LEASE) == Beat(alive=True, cancel=True)
    assert jobs.job(job.id).state == "running", "one of its tasks is"
    assert jobs.claim(three.task_id, Role.TEST, "c", LEASE) is None
    jobs.stopped(other)
    assert jobs.job(job.id).state == "failed"


@pytest.mark.parametrize("running", [False, True])
def test_a_job_is_cancelled(jobs: Jobs, running: bool) -> None:
    job, call = asked(jobs)
    held = claimed(jobs, call) if running else None
    jobs.cancel(job.id, "eva")
    if held is not None:
        assert jobs.beat(held, LEASE).cancel
        assert jobs.job(job.id).state == "running"
        jobs.cancel(job.id, "eva")
        jobs.stopped(held)
    ended = jobs.job(job.id)
    assert (ended.state, ended.error_code, ended.error_message) == ("cancelled", "cancelled", "cancelled by eva")
    with pytest.raises(StateConflict, match="has ended"):
        jobs.cancel(job.id, "eva")


def test_who_cancelled_first_has_cancelled(jobs: Jobs) -> None:
    job, call = asked(jobs)
    held = claimed(jobs, call)
    jobs.cancel(job.id, "eva")
    assert jobs.cancel(job.id, "bob").error_message == "cancelled by eva"
    jobs.stopped(held)
    failing, call = asked(jobs)
    one, two = jobs.done(claimed(jobs, call), {}, [ROOTFS, DISK])
    claimed(jobs, two, "b")
    jobs.fail(claimed(jobs, one), "disk-full", "no space", again=False)
    with pytest.raises(StateConflict, match="about to end: failed"):
        jobs.cancel(failing.id, "eva")


def test_nobody_joins_what_is_about_to_end(jobs: Jobs) -> None:
    job, call = asked(jobs)
    held = claimed(jobs, call)
    jobs.cancel(job.id, "eva")
    another, first = asked(jobs)
    assert another.id != job.id
    assert jobs.untold() == []
    jobs.stopped(held)
    assert jobs.untold() == [first], "the name is free now"
    claimed(jobs, first)


def test_the_last_task_ends_its_job(jobs: Jobs) -> None:
    job, call = asked(jobs)
    held = claimed(jobs, call)
    with pytest.raises(AssertionError, match="does not end it"):
        jobs.done(held, {})
    assert states(jobs, job) == {"plan": "running"}


def test_what_was_to_stop_is_not_begun_again(jobs: Jobs) -> None:
    job, call = asked(jobs)
    claimed(jobs, call, lease=-1.0)
    jobs.cancel(job.id, "eva")
    assert jobs.sweep().cancelled == (call.task_id,)
    assert jobs.job(job.id).state == "cancelled"
    job, call = asked(jobs)
    held = claimed(jobs, call)
    jobs.cancel(job.id, "eva")
    assert jobs.hand_back(held) is None
    assert jobs.job(job.id).state == "cancelled"


def test_what_was_complete_before_it_could_be_cancelled_is_complete(jobs: Jobs) -> None:
    job, call = asked(jobs)
    held = claimed(jobs, call)
    jobs.cancel(job.id, "eva")
    jobs.done(held, {}, end=JobState.RELEASED, release="soe@20261123.1")
    ended = jobs.job(job.id)
    assert (ended.state, ended.error_code) == ("released", None)


def test_nothing_is_added_to_what_is_to_end(jobs: Jobs) -> None:
    job, call = asked(jobs)
    held = claimed(jobs, call)
    jobs.cancel(job.id, "eva")
    assert jobs.done(held, {}, [ROOTFS]) == []
    assert states(jobs, job) == {"plan": "done"}
    assert jobs.job(job.id).state == "cancelled"


def test_a_message_that_was_lost_is_sent_again(jobs: Jobs) -> None:
    _, call = asked(jobs)
    assert jobs.untold() == [], "whoever asked has told it"
    assert jobs.untold(resend=-1.0) == [call]
    jobs.fail(claimed(jobs, call), "mirror-unreachable", "no answer", again=True)
    assert jobs.untold() == [], "not yet"
    waited(jobs)
    assert jobs.untold() == [call]
    assert jobs.untold() == []


def test_an_errand_belongs_to_no_job(jobs: Jobs) -> None:
    call = jobs.ask(NewTask(Role.SIGN, "refresh", payload={"catalogue": "/srv/c"}))
    held = claimed(jobs, call)
    assert held.job is None
    jobs.done(held, {"written": []})
    task = jobs.task(call.task_id)
    assert task is not None
    assert (task.state, task.result) == ("done", {"written": []})
    lost = jobs.ask(NewTask(Role.SIGN, "refresh"))
    jobs.fail(claimed(jobs, lost), "keys-missing", "no key", again=False)
    failed = jobs.task(lost.task_id)
    assert failed is not None
    assert failed.error_code == "keys-missing"


def test_jobs_are_found(jobs: Jobs) -> None:
    first, second = asked(jobs)[0], asked(jobs, "other")[0]
    assert [job.id for job in jobs.jobs()] == [second.id, first.id]
    assert [job.id for job in jobs.jobs("soe")] == [first.id]
    assert list(jobs.jobs(states=ENDS)) == []
    assert jobs.job(first.id[:12]).id == first.id
    for wrong in ("", "0" * 32, "%"):
        with pytest.raises(JobUnknown):
            jobs.job(wrong)
    assert jobs.depths() == {role: 2 if role is Role.BUILD else 0 for role in Role}
