"""When schedules run: cron in time zones against minutes that are counted one by one, jitter, windows, missed runs."""

from collections.abc import Iterator
from dataclasses import dataclass
from datetime import datetime, timedelta
from itertools import islice, pairwise
from typing import Any
from zoneinfo import ZoneInfo

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from pydantic import ValidationError

from imagefactory.model.recipe_schedule import Schedule
from imagefactory.model.schedule import next_run, next_runs, occurrences

MINUTE = timedelta(minutes=1)
ZONES = ("Europe/Vienna", "America/New_York", "Australia/Lord_Howe", "Asia/Kolkata", "Antarctica/Troll", "UTC")


def schedule(cron: str, **more: Any) -> Schedule:  # noqa: ANN401 - as YAML has it
    return Schedule.model_validate({"cron": cron, **more})


def at(text: str, zone: str = "UTC", fold: int = 0) -> datetime:
    return datetime.fromisoformat(text).replace(tzinfo=ZoneInfo(zone), fold=fold)


def shown(cron: str, zone: str, after: str, count: int) -> list[str]:
    """The next occurrences, as clocks there show them, with their distance from UTC."""
    found = islice(occurrences(schedule(cron, timezone=zone), at(after, zone)), count)
    return [f"{each.astimezone(ZoneInfo(zone)):%m-%d %H:%M %z}" for each in found]


# -- clocks that change ------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("cron", "zone", "after", "expected"),
    [
        ("30 2 * * *", "Europe/Vienna", "2026-03-28T12:00", ["03-29 03:00 +0200", "03-30 02:30 +0200"]),
        ("0,30 2 * * *", "Europe/Vienna", "2026-03-28T12:00", ["03-29 03:00 +0200", "03-30 02:00 +0200"]),
        ("30 2 * * *", "Europe/Vienna", "2026-10-24T12:00", ["10-25 02:30 +0200", "10-26 02:30 +0100"]),
        ("30 * 25 10 *", "Europe/Vienna", "2026-10-25T01:45", ["10-25 02:30 +0200", "10-25 02:30 +0100"]),
        ("30 * 29 3 *", "Europe/Vienna", "2026-03-29T01:00", ["03-29 01:30 +0100", "03-29 03:30 +0200"]),
        ("30 2 * * *", "America/New_York", "2026-03-07T12:00", ["03-08 03:00 -0400", "03-09 02:30 -0400"]),
        ("30 1 * * *", "America/New_York", "2026-10-31T12:00", ["11-01 01:30 -0400", "11-02 01:30 -0500"]),
        ("15 2 * * *", "Australia/Lord_Howe", "2026-10-03T12:00", ["10-04 02:30 +1100", "10-05 02:15 +1100"]),
        ("45 1 * * *", "Australia/Lord_Howe", "2026-04-04T12:00", ["04-05 01:45 +1100", "04-06 01:45 +1030"]),
        ("*/15 */2 5 4 *", "Australia/Lord_Howe", "2026-04-05T01:50", ["04-05 02:00 +1030", "04-05 02:15 +1030"]),
        ("*/15 */3 4 10 *", "Australia/Lord_Howe", "2026-10-04T01:00", ["10-04 03:00 +1100", "10-04 03:15 +1100"]),
        ("30 2 * * 1", "Asia/Kolkata", "2026-11-22T12:00", ["11-23 02:30 +0530", "11-30 02:30 +0530"]),
    ],
)
def test_a_change_of_clocks(cron: str, zone: str, after: str, expected: list[str]) -> None:
    assert shown(cron, zone, after, len(expected)) == expected


def test_what_comes_twice_is_not_run_again_by_the_second() -> None:
    after = at("2026-10-25T02:30", "Europe/Vienna", fold=1)
    assert next(occurrences(schedule("30,45 2 * * *", timezone="Europe/Vienna"), after)) == at("2026-10-26T01:30")
    hourly = occurrences(schedule("45 * * * *", timezone="Europe/Vienna"), after)
    assert next(hourly) == at("2026-10-25T01:45")


@dataclass(frozen=True)
class Fields:
    """A cron as sets of numbers, from which its text is written and not the other way round."""

    minutes: frozenset[int]
    hours: frozenset[int]
    days: frozenset[int] | None
    weekdays: frozenset[int] | None

    @property
    def text(self) -> str:
        return " ".join(
            ("*" if not some or len(some) == size else ",".join(map(str, sorted(some))))
            for some, size in (
                (self.minutes, 60),
                (self.hours, 24),
                (self.days, 31),
                (frozenset(), 0),
                (self.weekdays, 7),
            )
        )

    def matches(self, wall: datetime) -> bool:
        day = self.days is None or wall.day in self.days
        weekday = self.weekdays is None or wall.isoweekday() % 7 in self.weekdays
        either = self.days is not None and self.weekdays is not None
        dated = (day or weekday) if either else (day and weekday)
        return dated and wall.hour in self.hours and wall.minute in self.minutes

    @property
    def follows(self) -> bool:
        return len(self.minutes) == 60 or len(self.hours) == 24


def counted(fields: Fields, zone: ZoneInfo, after: datetime, days: int) -> Iterator[datetime]:
    """Every minute of real time, asked one by one what a clock shows, and what it did not show since the last."""
    before = after.astimezone(zone).replace(tzinfo=None)
    for number in range(1, days * 24 * 60):
        moment = after + number * MINUTE
        local = moment.astimezone(zone)
        wall = local.replace(tzinfo=None, fold=0)
        skipped = [before + n * MINUTE for n in range(1, int((wall - before) / MINUTE))]
        here = fields.matches(wall) and (fields.follows or local.fold == 0)
        if here or (not fields.follows and any(map(fields.matches, skipped))):
            yield moment
        before = wall


def some(low: int, high: int) -> st.SearchStrategy[frozenset[int]]:
    return st.frozensets(st.integers(low, high), min_size=1, max_size=4)


FIELDS = st.builds(
    Fields,
    st.just(frozenset(range(60))) | some(0, 59),
    st.just(frozenset(range(24))) | some(0, 4),
    st.none() | some(1, 31),
    st.none() | some(0, 6),
)
CHANGES = ("2026-03-07", "2026-03-28", "2026-04-04", "2026-10-03", "2026-10-24", "2026-10-31", "2026-12-30")


@settings(max_examples=60, deadline=None)
@given(FIELDS, st.sampled_from(ZONES), st.sampled_from(CHANGES), st.integers(0, 2 * 24 * 60))
def test_as_minutes_that_are_counted(fields: Fields, zone: str, day: str, minutes: int) -> None:
    after = at(day) + minutes * MINUTE
    end = after + timedelta(days=2)
    expected = [each for each in counted(fields, ZoneInfo(zone), after, 2) if each < end]
    found: list[datetime] = []
    for each in occurrences(schedule(fields.text, timezone=zone), after):
        if each >= end:
            break
        found.append(each)
    assert found == expected


@settings(max_examples=300, deadline=None)
@given(st.text("0123456789*,/-#LWMONFEB ", max_size=40))
def test_any_text_is_a_cron_that_fires_or_refused(text: str) -> None:
    try:
        read = schedule(text)
    except ValidationError:
        return
    assert next(occurrences(read, at("2026-01-01"))) > at("2026-01-01")


# -- jitter and window -------------------------------------------------------------------------------------------------


def test_jitter_is_of_the_name_and_the_time() -> None:
    nightly = schedule("0 2 * * *", jitter="1h")
    runs = [next_run(f"image-{n}", nightly, at("2026-01-01")) for n in range(200)]
    assert {run.planned for run in runs} == {at("2026-01-01T02:00")}
    assert all(timedelta() <= run.begins - run.planned < timedelta(hours=1) for run in runs)
    assert len({run.begins for run in runs}) > 150
    assert runs == [next_run(f"image-{n}", nightly, at("2026-01-01")) for n in range(200)]


def test_a_run_that_has_begun_to_wait_is_still_the_next() -> None:
    nightly = schedule("0 2 * * *", jitter="1h")
    run = next_run("a", nightly, at("2026-01-01"))
    assert next_run("a", nightly, run.begins - timedelta(seconds=1)) == run
    assert next_run("a", nightly, run.begins).planned == at("2026-01-02T02:00")


def test_what_is_due_outside_of_the_window_is_one_run_when_it_opens() -> None:
    often = schedule("*/20 * * * *", window={"from": "22:00", "to": "23:00"}, timezone="Europe/Vienna", jitter="30m")
    runs = list(islice(next_runs("a", often, at("2026-01-01")), 4))
    assert [f"{run.planned:%d %H:%M}" for run in runs] == ["01 21:00", "01 21:20", "01 21:40", "02 21:00"]
    assert all(at("2026-01-01T21:00") <= run.begins < at("2026-01-01T22:00") for run in runs[:3])


def test_a_run_within_its_window_keeps_its_time() -> None:
    night = schedule("30 2 * * 1", window={"from": "22:00", "to": "05:00"}, timezone="Europe/Vienna")
    assert next_run("a", night, at("2026-11-22")).begins == at("2026-11-23T01:30")


# -- clocks of machines that jump --------------------------------------------------------------------------------------


def test_missed_runs_are_nobodys_next() -> None:
    nightly = schedule("0 2 * * *")
    missed = next_run("a", nightly, at("2026-01-01"))
    later = next_run("a", nightly, at("2026-03-01"), missed.planned)
    assert later.planned == at("2026-03-01T02:00")


def test_a_clock_that_goes_back_makes_no_run_twice() -> None:
    nightly = schedule("0 2 * * *", jitter="1h")
    first = next_run("a", nightly, at("2026-01-10"))
    assert next_run("a", nightly, at("2026-01-05"), first.planned).planned == at("2026-01-11T02:00")


@settings(max_examples=50, deadline=None)
@given(
    st.sampled_from(["0 2 * * *", "*/30 * * * *", "15 1,2 * * 0"]),
    st.sampled_from(ZONES),
    st.sampled_from(["0s", "20m", "3h"]),
    st.sampled_from([None, {"from": "01:00", "to": "04:00"}]),
    st.lists(st.integers(-3 * 24 * 60, 5 * 24 * 60), min_size=2, max_size=8),
)
def test_no_planned_run_is_claimed_twice(
    cron: str, zone: str, jitter: str, window: dict[str, str] | None, jumps: list[int]
) -> None:
    known = schedule(cron, timezone=zone, jitter=jitter, window=window)
    now = at("2026-10-20")
    run = next_run("a", known, now)
    planned = [run.planned]
    for jump in jumps:
        now += jump * MINUTE
        if run.begins <= now:
            run = next_run("a", known, now, run.planned)
            planned.append(run.planned)
            assert run.begins > now
    assert all(one < other for one, other in pairwise(planned))
