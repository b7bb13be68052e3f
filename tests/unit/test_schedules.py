"""Schedules in the records: each run claimed once, missed ones caught up once, pauses, and what recipes change."""

import time
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from pathlib import Path
from threading import Thread
from typing import Any

import pytest
from sqlalchemy import insert
from sqlalchemy.orm import Session

from imagefactory.errors.service import SchedulePaused, ScheduleUnknown
from imagefactory.model.recipe_schedule import Schedule
from imagefactory.store.clock import database_now
from imagefactory.store.records import Records
from imagefactory.store.schedules import Change, Claim, Outcome, Schedules, claim_run
from imagefactory.store.tables import ScheduleRow

FILE = Path("/recipes/a.yaml")
NIGHTLY = Schedule.model_validate({"cron": "30 2 * * *", "timezone": "Europe/Vienna"})
HOURLY = Schedule.model_validate({"cron": "0 * * * *", "pause_after": 2})


class Clock:
    """The clock of a database, which somebody turns."""

    def __init__(self) -> None:
        self.now = datetime(2026, 11, 22, 12, 0)

    def __call__(self, session: Session) -> datetime:
        del session
        return self.now

    def turn(self, **by: int) -> None:
        self.now += timedelta(**by)


@pytest.fixture
def clock() -> Clock:
    return Clock()


@pytest.fixture
def records(tmp_path: Path) -> Iterator[Records]:
    made = Records(tmp_path / "db")
    yield made
    made.close()


@pytest.fixture
def schedules(records: Records, clock: Clock) -> Schedules:
    return Schedules(records, clock)


def planned(claims: list[Claim]) -> list[str]:
    return [f"{claim.name} {claim.planned:%d %H:%M}" for claim in claims]


# -- registering -------------------------------------------------------------------------------------------------------


def test_what_registering_changes(schedules: Schedules) -> None:
    assert schedules.register("a", FILE, NIGHTLY, dry_run=True) is Change.ADDED
    assert not schedules.all()
    assert [schedules.register("a", FILE, NIGHTLY) for _ in range(2)] == [Change.ADDED, Change.UNCHANGED]
    assert schedules.register("a", FILE, HOURLY, dry_run=True) is Change.UPDATED
    assert schedules.one("a").spec["cron"] == "30 2 * * *"
    assert schedules.register("a", FILE, HOURLY) is Change.UPDATED
    assert schedules.one("a").next_run == datetime(2026, 11, 22, 13)
    assert [schedules.register("a", FILE, None) for _ in range(2)] == [Change.REMOVED, Change.UNCHANGED]
    assert not schedules.all()


def test_an_update_runs_nothing_twice(schedules: Schedules, clock: Clock) -> None:
    schedules.register("a", FILE, HOURLY)
    clock.turn(hours=1)
    assert planned(schedules.claim_due()) == ["a 22 13:00"]
    clock.turn(minutes=-10)
    schedules.register("a", Path("/elsewhere.yaml"), HOURLY)
    clock.turn(minutes=10)
    assert not schedules.claim_due()


def test_the_clock_of_the_database_is_utc(records: Records) -> None:
    with records.session() as session:
        assert abs(database_now(session).replace(tzinfo=UTC) - datetime.now(UTC)) < timedelta(seconds=5)


# -- claims ------------------------------------------------------------------------------------------------------------


def test_a_run_is_claimed_when_it_is_due_and_says_why(schedules: Schedules, clock: Clock) -> None:
    schedules.register("a", FILE, NIGHTLY)
    assert not schedules.claim_due()
    clock.now = datetime(2026, 11, 23, 1, 30)
    (claim,) = schedules.claim_due()
    assert claim.reason == "schedule: due 2026-11-23 02:30 Europe/Vienna"
    assert (claim.recipe_file, claim.schedule) == (FILE, NIGHTLY)
    assert not schedules.claim_due()


def test_what_was_missed_is_caught_up_once(schedules: Schedules, clock: Clock) -> None:
    schedules.register("a", FILE, HOURLY)
    clock.turn(days=30, minutes=5)
    assert planned(schedules.claim_due()) == ["a 22 13:00"]
    assert not schedules.claim_due()
    clock.turn(hours=1)
    assert planned(schedules.claim_due()) == ["a 22 13:00"]  # a month later
    assert schedules.one("a").claimed_run == datetime(2026, 12, 22, 13)


def test_a_clock_that_goes_back_claims_nothing_twice(schedules: Schedules, clock: Clock) -> None:
    schedules.register("a", FILE, HOURLY)
    clock.turn(hours=1)
    assert planned(schedules.claim_due()) == ["a 22 13:00"]
    clock.turn(hours=-3)
    assert not schedules.claim_due()
    clock.turn(hours=3)
    assert not schedules.claim_due()
    clock.turn(hours=1)
    assert planned(schedules.claim_due()) == ["a 22 14:00"]


def test_the_longest_waiting_first_and_no_more_than_the_limit(schedules: Schedules, clock: Clock) -> None:
    for name in ("c", "b", "a"):
        schedules.register(name, FILE, HOURLY)
    clock.turn(hours=2)
    assert planned(schedules.claim_due(limit=2)) == ["a 22 13:00", "b 22 13:00"]
    assert planned(schedules.claim_due(limit=2)) == ["c 22 13:00"]


def test_several_beats_claim_each_run_once(tmp_path: Path, clock: Clock) -> None:
    first = Records(tmp_path / "db")
    for number in range(40):
        Schedules(first, clock).register(f"image-{number}", FILE, HOURLY)
    clock.turn(hours=1)
    claims: list[Claim] = []

    def beat() -> None:
        records = Records(tmp_path / "db")
        while found := Schedules(records, clock).claim_due(limit=7):
            claims.extend(found)
        records.close()

    beats = [Thread(target=beat) for _ in range(4)]
    for each in beats:
        each.start()
    for each in beats:
        each.join()
    first.close()
    assert sorted(claim.name for claim in claims) == sorted(f"image-{number}" for number in range(40))


def test_who_looks_before_another_claims_gets_nothing(schedules: Schedules, clock: Clock, records: Records) -> None:
    schedules.register("a", FILE, HOURLY)
    schedules.register("b", FILE, HOURLY)
    clock.turn(hours=1)
    # Both have looked when the first one claims, as the second comes to what it saw.
    before = schedules.one("a")
    assert planned(schedules.claim_due(limit=1)) == ["a 22 13:00"]
    with records.session() as session:
        assert claim_run(session, before, clock.now) is None
    assert planned(schedules.claim_due()) == ["b 22 13:00"]


def test_a_claim_stands_and_falls_with_what_is_recorded_for_it(schedules: Schedules, clock: Clock) -> None:
    schedules.register("a", FILE, HOURLY)
    clock.turn(hours=1)

    def fails(session: Session, claim: Claim) -> None:
        del session
        raise LookupError(claim.name)

    with pytest.raises(LookupError):
        schedules.claim_due(also=fails)
    assert planned(schedules.claim_due()) == ["a 22 13:00"]


def test_a_schedule_of_another_version_is_paused_and_stops_no_other(
    schedules: Schedules, records: Records, clock: Clock
) -> None:
    schedules.register("a", FILE, HOURLY)
    schedules.register("b", FILE, HOURLY)
    with records.session() as session:
        session.get_one(ScheduleRow, "a").spec = {"cron": "later", "moon": "full"}
    clock.turn(hours=1)
    assert planned(schedules.claim_due()) == ["b 22 13:00"]
    assert schedules.one("a").paused


# -- outcomes ----------------------------------------------------------------------------------------------------------


def run(schedules: Schedules, clock: Clock, outcome: Outcome, code: str | None = None) -> bool:
    clock.turn(hours=1)
    (claim,) = schedules.claim_due()
    return schedules.record_outcome(claim.name, claim.planned, outcome, code)


def test_failures_in_a_row_pause_and_resume_forgets_them(schedules: Schedules, clock: Clock) -> None:
    schedules.register("a", FILE, HOURLY)
    assert not run(schedules, clock, Outcome.FAILED, "boot-failed")
    assert not run(schedules, clock, Outcome.UNCHANGED)
    assert not run(schedules, clock, Outcome.FAILED, "boot-failed")
    assert run(schedules, clock, Outcome.FAILED, "disk-full")
    row = schedules.one("a")
    assert (row.paused, row.failures, row.last_outcome, row.last_error) == (True, 2, "failed", "disk-full")
    assert row.pause_reason == "2 failures in a row, the last of them disk-full"
    clock.turn(days=2)
    assert not schedules.claim_due()
    schedules.resume("a")
    row = schedules.one("a")
    assert (row.paused, row.failures, row.pause_reason) == (False, 0, None)
    assert not schedules.claim_due()
    assert not run(schedules, clock, Outcome.FAILED)


def test_an_outcome_counts_once_and_in_order(schedules: Schedules, clock: Clock) -> None:
    schedules.register("a", FILE, HOURLY)
    clock.turn(hours=1)
    (first,) = schedules.claim_due()
    clock.turn(hours=1)
    (second,) = schedules.claim_due()
    for claim in (second, second, first):
        assert not schedules.record_outcome("a", claim.planned, Outcome.FAILED, "boot-failed")
    assert schedules.one("a").failures == 1
    assert not schedules.record_outcome("gone", first.planned, Outcome.FAILED)


# -- what people decide ------------------------------------------------------------------------------------------------


def test_run_now_is_the_next_run_early(schedules: Schedules, clock: Clock) -> None:
    schedules.register("a", FILE, NIGHTLY)
    schedules.run_now("a")
    assert planned(schedules.claim_due()) == ["a 23 01:30"]
    assert schedules.one("a").next_run == datetime(2026, 11, 24, 1, 30)
    clock.now = datetime(2026, 11, 23, 1, 30)
    assert not schedules.claim_due()


def test_nothing_of_what_is_paused_runs(schedules: Schedules, clock: Clock) -> None:
    schedules.register("a", FILE, HOURLY)
    schedules.pause("a", "the mirror moves")
    clock.turn(hours=5)
    assert not schedules.claim_due()
    with pytest.raises(SchedulePaused, match="a is paused: the mirror moves"):
        schedules.run_now("a")


@pytest.mark.parametrize("verb", ["one", "remove", "resume", "run_now"])
def test_what_is_not_there(schedules: Schedules, verb: str) -> None:
    with pytest.raises(ScheduleUnknown, match="there is no schedule of a"):
        getattr(schedules, verb)("a")


def test_a_tick_over_ten_thousand_schedules(schedules: Schedules, records: Records, clock: Clock) -> None:
    schedules.register("a", FILE, NIGHTLY)
    like: dict[str, Any] = {
        column.name: getattr(schedules.one("a"), column.name) for column in ScheduleRow.__table__.columns
    }
    clock.turn(days=1)
    with records.session() as session:
        rows = [{**like, "name": f"image-{n}", "begins": clock.now + timedelta(seconds=n - 98)} for n in range(10_000)]
        session.execute(insert(ScheduleRow), rows)
    begun = time.perf_counter()
    claims = schedules.claim_due()
    assert len(claims) == 100
    assert time.perf_counter() - begun < 1
