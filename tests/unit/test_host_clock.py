"""The clock of a host beside that of the database: what a worker does when it is wrong."""

import sys
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from pathlib import Path
from time import sleep

import pytest

from imagefactory.errors import HandDied
from imagefactory.errors.service import DatabaseUnreachable, HostClockOff
from imagefactory.model.clock import agree, require_agreed
from imagefactory.model.job import JobOrder, JobState, NewTask, Role, TaskState
from imagefactory.service.desk import WAIT_FOR_OTHERS, Desk
from imagefactory.service.host_clock import HostClock, wall
from imagefactory.service.outcome import Outcome
from imagefactory.store.job_rows import Call, Held
from imagefactory.store.jobs import Jobs
from imagefactory.store.records import Records
from signing.certificates import CLOCK_SKEW

NOON = datetime(2026, 11, 23, 12, tzinfo=UTC)
SECOND = timedelta(seconds=1)
HOURS = timedelta(hours=6)
PLAN = NewTask(Role.BUILD, "plan")


@dataclass
class Time:
    """Two clocks of a host: one that can be set, and one that cannot."""

    now: datetime = NOON
    since: float = 100.0

    def pass_by(self, seconds: float) -> None:
        self.now += timedelta(seconds=seconds)
        self.since += seconds

    def clock(self) -> HostClock:
        return HostClock(lambda: self.now, lambda: self.since)


@pytest.mark.parametrize("sign", [-1, 1])
def test_clocks_agree_as_long_as_everybody_believes_what_is_signed(sign: int) -> None:
    assert agree(NOON + sign * CLOCK_SKEW, NOON)
    assert not agree(NOON + sign * (CLOCK_SKEW + SECOND), NOON)


@pytest.mark.parametrize(("by", "says"), [(HOURS, "6:00:00 ahead of"), (-HOURS, "6:00:00 behind")])
def test_says_by_how_much_and_in_which_direction(by: timedelta, says: str) -> None:
    with pytest.raises(HostClockOff, match=says) as caught:
        require_agreed(NOON + by, NOON)
    assert (caught.value.code, caught.value.exit_code) == ("host-clock-off", 4)
    assert "chrony" in caught.value.advice


def test_who_has_heard_nothing_sees_nothing() -> None:
    HostClock().require()


def test_half_of_the_way_there_and_back_counts() -> None:
    time = Time()
    clock = time.clock()

    def database() -> datetime:
        """Is asked in the middle of ten minutes."""
        time.pass_by(300)
        said = time.now
        time.pass_by(300)
        return said

    clock.ask(database)
    clock.require()
    time.now += CLOCK_SKEW
    assert clock.right
    time.now += SECOND
    assert not clock.right


@pytest.mark.parametrize("by", [HOURS, -HOURS])
def test_a_jump_is_seen_without_asking_and_is_over_when_it_is_over(by: timedelta) -> None:
    time = Time()
    clock = time.clock()
    clock.hear(NOON.replace(tzinfo=None), time.since)
    time.pass_by(86400)
    assert clock.right
    time.now += by
    assert not clock.right
    time.now -= by
    assert clock.right


def test_a_database_that_does_not_answer_says_nothing() -> None:
    def gone() -> datetime:
        raise DatabaseUnreachable("gone")

    clock = Time().clock()
    with pytest.raises(DatabaseUnreachable):
        clock.ask(gone)
    clock.require()


# -- desks -------------------------------------------------------------------------------------------------------------


class Wall:
    """The real clock, as somebody sets it."""

    def __init__(self) -> None:
        self.off = timedelta(0)

    def __call__(self) -> datetime:
        return wall() + self.off


@dataclass
class Bench(Desk):
    """A desk whose steps are done by `work`, without a process."""

    work: Callable[[], Outcome] = Outcome
    begun: int = field(default=0, init=False)

    def _step(self, held: Held, watched: object) -> Outcome:
        del held, watched
        self.begun += 1
        return self.work()


@pytest.fixture
def jobs(records: Records) -> Jobs:
    return Jobs(records)


@pytest.fixture
def task_id(jobs: Jobs) -> str:
    _, call = jobs.request(JobOrder("soe", "/recipes/soe.yaml", "d" * 64, "somebody asks", "ana"), PLAN)
    assert call is not None
    return call.task_id


@dataclass
class Shift:
    """A worker and the wall clock of its host."""

    jobs: Jobs
    task_id: str
    told: list[Call] = field(default_factory=list)
    wall: Wall = field(default_factory=Wall)

    def run(self, work: Callable[[], Outcome], lease: float = 60.0) -> Bench:
        clock = HostClock(self.wall)
        step: Sequence[str] = (sys.executable,)
        bench = Bench(self.jobs, Role.BUILD, self.told.extend, {}, Path("/dev/null"), step, lease, None, clock, work)
        bench.run(self.task_id)
        return bench

    def require_handed_back(self) -> None:
        """As if it had not been begun, and not at once."""
        task = self.jobs.task(self.task_id)
        assert task is not None
        assert (task.state, task.attempt, task.worker, task.error_code) == (TaskState.QUEUED, 0, None, None)
        assert task.not_before > task.created + timedelta(seconds=WAIT_FOR_OTHERS - 1)
        assert self.told == []


@pytest.fixture
def shift(jobs: Jobs, task_id: str) -> Shift:
    return Shift(jobs, task_id)


def done() -> Outcome:
    return Outcome(end=JobState.UNCHANGED)


@pytest.mark.parametrize("by", [HOURS, -HOURS, CLOCK_SKEW + 5 * SECOND])
def test_a_task_is_given_back_while_the_clock_is_wrong(
    shift: Shift, by: timedelta, capsys: pytest.CaptureFixture[str]
) -> None:
    shift.wall.off = by
    assert shift.run(done).begun == 0
    shift.require_handed_back()
    assert "host-clock-off" in capsys.readouterr().out


@pytest.mark.parametrize("by", [timedelta(0), CLOCK_SKEW - 5 * SECOND, 5 * SECOND - CLOCK_SKEW])
def test_a_clock_that_is_good_enough(shift: Shift, by: timedelta) -> None:
    shift.wall.off = by
    assert shift.run(done).begun == 1
    task = shift.jobs.task(shift.task_id)
    assert task is not None
    assert task.state == TaskState.DONE


def test_what_is_done_is_done_whatever_the_clock_says(shift: Shift) -> None:
    def jumps() -> Outcome:
        shift.wall.off = HOURS
        return done()

    shift.run(jumps)
    task = shift.jobs.task(shift.task_id)
    assert task is not None
    assert task.state == TaskState.DONE


def test_a_failure_with_a_wrong_clock_proves_nothing(shift: Shift) -> None:
    def fails() -> Outcome:
        shift.wall.off = -HOURS
        raise HandDied("a certificate is not valid yet")

    assert shift.run(fails).begun == 1
    shift.require_handed_back()


def test_nor_does_one_after_a_clock_was_wrong_for_a_while(shift: Shift) -> None:
    def fails() -> Outcome:
        shift.wall.off = HOURS
        wait_for_pulses()
        shift.wall.off = timedelta(0)
        raise HandDied("a certificate was not valid any more")

    shift.run(fails, lease=1.0)
    shift.require_handed_back()


def test_who_finds_a_wrong_clock_himself_has_not_failed(shift: Shift) -> None:
    def finds() -> Outcome:
        raise HostClockOff("it is 6 hours ahead")

    shift.run(finds)
    shift.require_handed_back()


def wait_for_pulses() -> None:
    """A desk with a lease of a second looks every 50 ms."""
    sleep(0.3)
