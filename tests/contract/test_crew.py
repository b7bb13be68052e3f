"""Builds by workers of all roles, with fake programs and real processes; messages are a list."""

import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path

import pytest

from imagefactory.model.job import JobState, NewTask, Role, TaskState
from imagefactory.service.asking import PLAN, order_of
from imagefactory.store.tables import Job
from tests.fakes import traces
from tests.fakes.crew import Crew, crew
from tests.fakes.host import FakeHost, folders

STEPS = [
    ("build", "plan"),
    ("sign", "check"),
    ("build", "rootfs"),
    ("test", "sbom"),
    ("build", "disk"),
    ("build", "convert"),
    ("test", "boot-test"),
    ("build", "attest"),
    ("sign", "sign"),
    ("publish", "publish"),
]
PLENTY = 60.0  # seconds, on a busy machine


@pytest.fixture
def workers(host: FakeHost) -> Iterator[Crew]:
    with traces.adopting(), crew(host) as made:
        yield made


def state(job: Job) -> tuple[str, str | None]:
    return job.state, job.error_message


def steps(workers: Crew, job: Job) -> list[tuple[str, str]]:
    return [(task.role, task.step) for task in workers.jobs.tasks(job.id)]


def wait(what: Callable[[], object]) -> None:
    until = time.monotonic() + PLENTY
    while not what():
        assert time.monotonic() < until
        time.sleep(0.02)


@contextmanager
def paused(host: FakeHost, point: str) -> Iterator[None]:
    """Whoever comes to a point stays there. Inside, somebody is there."""
    host.say(f"pause-{point}")
    yield
    host.unsay(f"pause-{point}")
    host.unsay("reached")


def reached(host: FakeHost) -> bool:
    return (host.control / "reached").exists()


def test_a_build_through_all_roles_and_once_more(workers: Crew) -> None:
    first = workers.work(workers.ask())
    assert state(first) == (JobState.RELEASED, None)
    assert steps(workers, first) == STEPS
    (folder,) = folders(workers.host.home / "catalogue")
    assert first.release == f"fake-debian-12@{folder.name}"
    second = workers.work(workers.ask())
    assert (*state(second), second.release) == (JobState.UNCHANGED, None, first.release)
    assert steps(workers, second) == STEPS[:1]

    workers.host.offer({"openssl": "3.0.18-1", "bash": "5.2.15-2"}, in_release="second")
    third = workers.work(workers.ask())
    assert state(third) == (JobState.RELEASED, None)
    (planned, *_) = workers.jobs.tasks(third.id)
    assert "openssl 3.0.17-1 -> 3.0.18-1" in planned.result["said"]
    assert len(folders(workers.host.home / "catalogue")) == 2


def test_what_was_built_without_being_published_is_published_later(workers: Crew) -> None:
    first = workers.work(workers.ask(publish=False))
    assert steps(workers, first) == STEPS[:-1]
    assert folders(workers.host.home / "catalogue") == []
    second = workers.work(workers.ask())
    assert (*state(second), second.release) == (JobState.RELEASED, None, first.release)
    assert steps(workers, second) == [STEPS[0], STEPS[-1]]


def test_fresh_gives_the_same_bytes(workers: Crew) -> None:
    first = workers.work(workers.ask())
    second = workers.work(workers.ask(fresh=True))
    assert (*state(second), second.release) == (JobState.REPRODUCED, None, first.release)
    assert steps(workers, second) == STEPS[:-3]
    with workers.host.factory() as factory:
        assert [build.state for build in factory.records.builds("fake-debian-12")] == ["released", "reproduced"]


def test_a_recipe_that_changes_while_it_is_built(workers: Crew) -> None:
    job = workers.ask()
    workers.host.recipe_file.write_text(workers.host.recipe_file.read_text().replace("512 MiB", "768 MiB"))
    ended = workers.work(job)
    assert (ended.state, ended.error_code) == (JobState.FAILED, "inputs-changed")


def test_a_step_that_fails_ends_its_job_and_says_why(workers: Crew) -> None:
    workers.host.say("fail-disk-image-create", "root.d: 10-broken failed\n")
    job = workers.work(workers.ask())
    assert job.state == JobState.FAILED
    task = workers.jobs.tasks(job.id)[-1]
    assert (task.step, task.state, task.attempt) == ("rootfs", TaskState.FAILED, 1)
    assert task.result["error"]["code"] == job.error_code
    with workers.host.factory() as factory:
        (build,) = factory.records.builds("fake-debian-12")
    assert (build.state, build.error_code) == ("failed", job.error_code)


def test_what_passes_ends_no_build(workers: Crew) -> None:
    """Else somebody who may not begin one would have to, when it is done again: who tests, say."""
    job = workers.ask()
    with workers.working(but=[Role.TEST]):
        (sbom,) = workers.taken(Role.TEST, PLENTY)
        workers.desk(Role.TEST).run(sbom.task_id)
        (boot,) = workers.taken(Role.TEST, PLENTY)
    for path in workers.host.home.glob("**/lists/*Release"):
        path.unlink()  # as on a host of its own
    workers.host.say("fail-apt-get", "the mirror is down\n")
    workers.desk(Role.TEST).run(boot.task_id)
    workers.host.unsay("fail-apt-get")
    task = workers.jobs.tasks(job.id)[-1]
    assert (task.step, task.state, task.attempt, task.error_code) == (
        "boot-test",
        TaskState.QUEUED,
        1,
        "mirror-unreachable",
    )
    assert workers.work(job).state == JobState.RELEASED
    with workers.host.factory() as factory:
        assert [build.state for build in factory.records.builds("fake-debian-12")] == ["released"]


def test_a_cancelled_step_is_ended_with_all_that_it_started(workers: Crew) -> None:
    with paused(workers.host, "disk-image-create.begin"), workers.working():
        job = workers.ask()
        wait(lambda: reached(workers.host))
        workers.jobs.cancel(job.id, "ana")
        wait(lambda: workers.jobs.job(job.id).state == JobState.CANCELLED)
        assert traces.gone(PLENTY) == {}
    assert workers.jobs.tasks(job.id)[-1].state == TaskState.CANCELLED
    assert workers.work(workers.ask()).state == JobState.RELEASED


def test_whoever_is_stopped_hands_back_and_somebody_else_goes_on(workers: Crew) -> None:
    job = workers.ask()
    with paused(workers.host, "disk-image-create.begin"), workers.working() as desks:
        wait(lambda: reached(workers.host))
        for desk in desks:
            desk.stop()
            desk.hand_back()
        wait(lambda: workers.jobs.tasks(job.id)[-1].state == TaskState.QUEUED)
        assert traces.gone(PLENTY) == {}
    assert workers.jobs.tasks(job.id)[-1].attempt == 0
    assert workers.work(job).state == JobState.RELEASED


def test_a_lost_lease_stops_the_step_and_what_was_finished_counts(workers: Crew) -> None:
    job = workers.ask()
    with paused(workers.host, "qemu-img.begin"), workers.working(lease=10.0) as desks:
        wait(lambda: reached(workers.host))
        before = workers.jobs.tasks(job.id)[-1]
        for desk in desks:
            desk.lease = -1.0  # it renews too late
        wait(lambda: workers.jobs.tasks(job.id)[-1].worker != before.worker)
        assert traces.gone(PLENTY) == {}
    assert workers.work(job).state == JobState.RELEASED
    with workers.host.factory() as factory:
        assert len(factory.records.releases()) == 1


def test_who_finds_somebody_at_work_waits_and_has_not_failed(workers: Crew) -> None:
    with workers.host.factory() as factory, factory.locks.name("fake-debian-12"), workers.working():
        job = workers.ask()
        wait(lambda: workers.jobs.tasks(job.id)[0].worker is None and workers.jobs.job(job.id).state == "running")
    task = workers.jobs.tasks(job.id)[0]
    assert (task.state, task.attempt) == (TaskState.QUEUED, 0)


@pytest.mark.parametrize(
    ("role", "step"),
    [(Role.TEST, "sign"), (Role.PUBLISH, "publish"), (Role.SIGN, "publish-root"), (Role.LIFECYCLE, "apply")],
)
def test_a_role_does_nothing_that_is_not_its_own(workers: Crew, role: Role, step: str) -> None:
    call = workers.jobs.ask(NewTask(role, step, "somewhere"))
    workers.desk(role).run(call.task_id)
    task = workers.jobs.task(call.task_id)
    assert task is not None
    assert (task.state, task.error_code) == (TaskState.FAILED, "request-invalid")


def test_who_can_write_into_the_database_and_has_no_key_has_nothing_signed(workers: Crew) -> None:
    job = workers.ask()
    with workers.working(but=[Role.SIGN]):
        (check,) = workers.taken(Role.SIGN, PLENTY)
        workers.desk(Role.SIGN).run(check.task_id)
        (sign,) = workers.taken(Role.SIGN, PLENTY)
    task = workers.jobs.task(sign.task_id)
    assert task is not None
    attested = task.payload["attested"]
    (other,) = [each for each in workers.digests() if each != attested["images"]["qcow2"]["sha256"]][:1]
    forged = attested | {"images": {"qcow2": attested["images"]["qcow2"] | {"sha256": other}}}
    workers.forge(sign.task_id, task.payload | {"attested": forged})
    workers.desk(Role.SIGN).run(sign.task_id)
    ended = workers.jobs.job(job.id)
    assert ended.state == JobState.FAILED
    assert ended.error_code not in {None, "system-failure", "hand-died"}
    with workers.host.factory() as factory:
        assert factory.records.releases() == []


def test_no_recipe_is_built_that_nobody_put_where_recipes_are(workers: Crew, tmp_path: Path) -> None:
    """Else who can write into the database would have anything run as root."""
    elsewhere = tmp_path / "elsewhere.yaml"
    elsewhere.write_text(workers.host.recipe_file.read_text())
    order = order_of(workers.host.load(), "to see what happens", "eve")
    around = workers.host.recipe_file.parent / ".." / ".." / elsewhere.name
    assert around.exists()
    for forged, code in (
        (replace(order, name="a", recipe_file=str(elsewhere)), "request-invalid"),
        (replace(order, name="b", recipe_file=str(around)), "request-invalid"),
        (replace(order, name="another"), "inputs-changed"),
    ):
        job, call = workers.jobs.request(forged, PLAN)
        assert call is not None
        workers.desk(Role.BUILD).run(call.task_id)
        assert workers.jobs.job(job.id).error_code == code


def test_several_at_once_join(workers: Crew) -> None:
    asked = [workers.ask() for _ in range(5)]
    assert len({job.id for job in asked}) == 1
    assert workers.work(asked[0]).joined == 4
