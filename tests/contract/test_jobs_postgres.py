"""Jobs in a real PostgreSQL: each case of those in SQLite, and workers of several hosts who all come at once."""

import inspect
import threading
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack, closing
from typing import Any

import pytest
from hypothesis import HealthCheck, settings
from hypothesis.stateful import run_state_machine_as_test
from sqlalchemy import text

from imagefactory.errors import StateConflict
from imagefactory.errors.service import TaskLost
from imagefactory.model.job import JobState, NewTask, Role, TaskState
from imagefactory.store.job_rows import Call, Held
from imagefactory.store.jobs import Jobs
from imagefactory.store.records import Records
from tests.jobs_machine import machine
from tests.servers.postgres import Postgres
from tests.servers.postgres_fixtures import Place, database
from tests.unit import test_jobs
from tests.unit.test_jobs import BOOT, DISK, LEASE, ROOTFS, asked, claimed, jobs, order, waited

__all__ = ["jobs"]

HOSTS = 6


def shared() -> dict[str, Callable[..., None]]:
    """The cases that ask for jobs, whatever these are in."""
    cases = {name: case for name, case in vars(test_jobs).items() if name.startswith("test_")}
    return {name: case for name, case in cases.items() if "jobs" in inspect.signature(case).parameters}


globals().update(shared())


@pytest.fixture
def records(service_database: Place) -> Iterator[Records]:
    """Records that know nothing yet."""
    with closing(Records(service_database.parsed())) as made:
        yield made


def test_most_cases_are_run_here_too() -> None:
    assert len(shared()) >= 15


@pytest.mark.usefixtures("template_database")
def test_a_crowd_of_workers(postgres_server: Postgres) -> None:
    checks = [HealthCheck.too_slow, HealthCheck.data_too_large]
    quick = settings(max_examples=8, stateful_step_count=30, deadline=None, suppress_health_check=checks)
    with ExitStack() as stack:

        def begin() -> Records:
            stack.close()
            place = stack.enter_context(database(postgres_server, "migrated"))
            return stack.enter_context(closing(Records(place.parsed())))

        run_state_machine_as_test(machine(begin), settings=quick)


def at_once(place: Place, action: Callable[[Jobs, int], Any]) -> list[Any]:
    """What came of each host that does it at the same moment: errors, too, that they are to expect."""
    gate = threading.Barrier(HOSTS)

    def one(which: int) -> object:
        with closing(Records(place.parsed())) as mine:
            gate.wait(30)
            try:
                return action(Jobs(mine), which)
            except (StateConflict, TaskLost) as error:
                return error

    with ThreadPoolExecutor(HOSTS) as pool:
        return list(pool.map(one, range(HOSTS)))


def test_one_of_several_has_a_task(service_database: Place, jobs: Jobs) -> None:
    for number in range(5):
        _, call = asked(jobs, f"soe-{number}")

        def claim(each: Jobs, which: int, of: Call = call) -> Held | None:
            return each.claim(of.task_id, of.role, f"host-{which}", LEASE)

        found = at_once(service_database, claim)
        (held,) = [each for each in found if each is not None]
        kept = jobs.task(call.task_id)
        assert kept is not None
        assert (kept.worker, kept.attempt) == (held.task.worker, 1)


def test_several_ask_for_the_same(service_database: Place, jobs: Jobs) -> None:
    found = at_once(service_database, lambda each, _: each.request(order(), ROOTFS))
    (job,) = jobs.jobs()
    assert {each.id for each, _ in found} == {job.id}
    assert len([call for _, call in found if call]) == 1
    assert (job.joined, len(jobs.tasks(job.id))) == (HOSTS - 1, 1)


def test_of_one_name_one_job_is_begun(service_database: Place, jobs: Jobs) -> None:
    calls = [asked(jobs, digest=str(which) * 64)[1] for which in range(HOSTS)]
    found = at_once(
        service_database, lambda each, which: each.claim(calls[which].task_id, Role.BUILD, f"host-{which}", LEASE)
    )
    assert len([held for held in found if held]) == 1
    assert len(jobs.jobs(states=[JobState.RUNNING])) == 1


def test_a_result_is_recorded_once(service_database: Place, jobs: Jobs) -> None:
    job, call = asked(jobs)
    held = claimed(jobs, call)
    found = at_once(service_database, lambda each, which: each.done(held, {"by": which}, [DISK]))
    (winner,) = [which for which, each in enumerate(found) if not isinstance(each, Exception)]
    assert all(isinstance(each, TaskLost) for which, each in enumerate(found) if which != winner)
    assert [task.result for task in jobs.tasks(job.id) if task.state == TaskState.DONE] == [{"by": winner}]
    assert len(jobs.tasks(job.id)) == 2


def test_a_job_ends_with_the_last_of_its_tasks_whoever_that_is(service_database: Place, jobs: Jobs) -> None:
    for number in range(5):
        job, call = asked(jobs, f"soe-{number}")
        calls = jobs.done(claimed(jobs, call), {}, [BOOT] * HOSTS)
        works = [claimed(jobs, each, f"host-{which}") for which, each in enumerate(calls)]

        def end(each: Jobs, which: int, of: list[Any] = works) -> None:
            if which:
                each.stopped(of[which])
            else:
                each.done(of[which], {}, end=JobState.RELEASED)

        assert at_once(service_database, end) == [None] * HOSTS
        assert jobs.job(job.id).state == JobState.RELEASED


def test_the_dead_are_buried_once(service_database: Place, jobs: Jobs) -> None:
    job, call = asked(jobs)
    claimed(jobs, call, lease=-1.0)
    found = at_once(service_database, lambda each, _: each.sweep())
    assert [task_id for swept in found for task_id in swept.again] == [call.task_id]
    assert [task.attempt for task in jobs.tasks(job.id)] == [1]


def test_who_tells_and_who_cancels_do_not_wait_for_each_other(service_database: Place, jobs: Jobs) -> None:
    """Both change many tasks, each in an order of its own; each waiting task is told of by one."""
    for number in range(5):
        job, call = asked(jobs, f"soe-{number}")
        jobs.done(claimed(jobs, call), {}, [NewTask(Role.TEST, "boot-test", str(each)) for each in range(200)])
        waited(jobs)
        waiting = {task.id for task in jobs.tasks(job.id)} - {call.task_id}

        def act(each: Jobs, which: int, of: str = job.id) -> list[str]:
            if which == 0:
                each.cancel(of, "eva")
                return []
            return [told.task_id for told in each.untold(resend=0.0 if which == 1 else -1.0)]

        found = at_once(service_database, act)
        assert not [each for each in found if isinstance(each, Exception)]
        assert {told for each in found for told in each} <= waiting
        assert jobs.job(job.id).state == JobState.CANCELLED


def test_who_tells_waits_for_nobody(jobs: Jobs, records: Records) -> None:
    """Who cancels a job has one row of many and wants the next: were the others waited for, both would wait."""
    _, call = asked(jobs)
    told = jobs.done(claimed(jobs, call), {}, [BOOT, DISK])
    with records.session() as session:
        session.execute(text("update tasks set cancel = true where id = :id"), {"id": told[0].task_id})
        with ThreadPoolExecutor(1) as pool:
            assert pool.submit(jobs.untold, resend=-1.0).result(timeout=5) == [told[1]]
