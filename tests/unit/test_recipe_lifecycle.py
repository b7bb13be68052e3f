"""What recipes say about the life of releases: windows to the minute, and what is read from attested recipes."""

import json
from datetime import UTC, date, datetime, time, timedelta
from typing import Any
from zoneinfo import ZoneInfo

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from pydantic import ValidationError

from imagefactory.errors import RecipeInvalid
from imagefactory.model.recipe import Recipe, effective
from imagefactory.model.recipe_lifecycle import (
    LifecyclePolicy,
    RecipeLife,
    Window,
    contradictions,
    policy_of,
)
from tests.unit.test_recipe import FULL, MINIMAL

DAY = 86400  # seconds
WEEK = ["mon", "tue", "wed", "thu", "fri", "sat", "sun"]
MINUTE = timedelta(minutes=1)
# Clocks change: at night, at midnight, over midnight, by half an hour, never.
ZONES = [
    "Europe/Berlin",
    "America/New_York",
    "America/Santiago",
    "America/Nuuk",
    "Australia/Lord_Howe",
    "Africa/Casablanca",
    "Asia/Kolkata",
    "UTC",
]


def window(begins: str, ends: str, zone: str = "Europe/Berlin", days: list[str] | None = None) -> Window:
    return Window.model_validate({"from": begins, "to": ends, "time_zone": zone, "days": days or WEEK})


def utc(text: str) -> datetime:
    return datetime.fromisoformat(text).replace(tzinfo=UTC)


# -- windows ----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("now", "opens", "following"),
    [
        # 2026-11-20 is a Friday; Berlin is an hour before UTC.
        ("2026-11-20T20:59:59", False, "2026-11-20T21:00"),
        ("2026-11-20T21:00", True, "2026-11-20T21:00"),
        ("2026-11-21T03:59:59", True, "2026-11-21T03:59:59"),
        ("2026-11-21T04:00", False, "2026-11-23T21:00"),
        ("2026-11-21T22:00", False, "2026-11-23T21:00"),
    ],
)
def test_a_window_over_midnight_belongs_to_the_day_on_which_it_opens(now: str, opens: bool, following: str) -> None:
    workdays = window("22:00", "05:00", days=WEEK[:5])
    assert workdays.opens(utc(now)) is opens
    assert workdays.next_opening(utc(now)) == utc(following)


def test_the_moment_counts_and_not_the_zone_in_which_it_is_written() -> None:
    now = datetime(2026, 11, 20, 22, tzinfo=ZoneInfo("Europe/Berlin"))
    assert window("22:00", "05:00").opens(now)
    assert window("22:00", "05:00").next_opening(now) == now


@pytest.mark.parametrize(
    ("begins", "ends", "start", "end"),
    [
        # The night to 2026-03-29: after 02:00 comes 03:00, at 01:00 UTC.
        ("22:00", "05:00", "2026-03-28T21:00", "2026-03-29T03:00"),
        ("01:30", "03:30", "2026-03-29T00:30", "2026-03-29T01:30"),
        ("02:30", "05:00", "2026-03-29T01:30", "2026-03-29T03:00"),  # there is no 02:30: 03:30
        ("01:00", "02:30", "2026-03-29T00:00", "2026-03-29T01:30"),
        # The night to 2026-10-25: after 03:00 comes 02:00, at 01:00 UTC.
        ("22:00", "05:00", "2026-10-24T20:00", "2026-10-25T04:00"),
        ("02:30", "05:00", "2026-10-25T00:30", "2026-10-25T04:00"),  # the first 02:30
        ("01:00", "02:30", "2026-10-24T23:00", "2026-10-25T00:30"),
        ("02:30", "02:45", "2026-10-25T00:30", "2026-10-25T00:45"),  # and not once more an hour later
    ],
)
def test_windows_in_nights_when_clocks_change(begins: str, ends: str, start: str, end: str) -> None:
    changing = window(begins, ends)
    first, last = utc(start), utc(end)
    assert not changing.opens(first - MINUTE)
    assert changing.next_opening(first - MINUTE) == first
    moments = [first + MINUTE * n for n in range(int((last - first) / MINUTE))]
    assert all(changing.opens(moment) for moment in moments)
    assert not changing.opens(last)
    assert not changing.opens(last + timedelta(minutes=59))


def test_a_window_that_a_change_of_clocks_swallows_opens_on_the_next_day() -> None:
    swallowed = window("02:30", "03:15")
    assert swallowed.next_opening(utc("2026-03-28T02:16")) == utc("2026-03-30T00:30")
    weekly = window("02:30", "03:15", days=["sun"])
    assert weekly.next_opening(utc("2026-03-28T02:16")) == utc("2026-04-05T00:30")


def moment_of(day: date, clock: time, zone: ZoneInfo) -> datetime:
    """When a clock in the zone first reads this, by watching it for every minute of four days; if it never does, as
    far after the last moment before as it reads."""
    wanted = datetime.combine(day, clock)
    watched = [datetime.combine(day, time(), UTC) - timedelta(days=2) + MINUTE * n for n in range(4 * 1440)]
    read = [(moment, moment.astimezone(zone).replace(tzinfo=None)) for moment in watched]
    for moment, reading in read:
        if reading == wanted:
            return moment
        if reading > wanted:
            break
        before = (moment, reading)
    return before[0] + (wanted - before[1])


def watched_intervals(it: Window, today: date) -> list[tuple[datetime, datetime]]:
    zone = ZoneInfo(it.time_zone)
    begins, ends = time.fromisoformat(it.begins), time.fromisoformat(it.ends)
    found = []
    for day in (today + timedelta(n) for n in range(-2, 10)):
        if day.strftime("%a").lower() in it.days:
            last = day + timedelta(1) if ends < begins else day
            found.append((moment_of(day, begins, zone), moment_of(last, ends, zone)))
    return found


CLOCKS = st.builds("{:02}:{:02}".format, st.sampled_from([0, 1, 2, 3, 12, 22, 23]), st.sampled_from([0, 15, 30, 59]))
# Around the days of 2026 on which some of these zones change.
DAYS = st.sampled_from(
    ["2026-02-15", "2026-03-08", "2026-03-22", "2026-03-29", "2026-04-05", "2026-09-06", "2026-11-01"]
)


@settings(max_examples=25, deadline=None)
@given(
    CLOCKS, CLOCKS, st.sampled_from(ZONES), st.sets(st.sampled_from(WEEK), min_size=1), DAYS, st.integers(-2880, 2880)
)
def test_windows_are_what_somebody_sees_who_watches_the_clock(
    begins: str, ends: str, zone: str, days: set[str], day: str, minutes: int
) -> None:
    if begins == ends:
        return
    seen = window(begins, ends, zone, sorted(days))
    now = utc(day) + MINUTE * minutes
    intervals = watched_intervals(seen, now.date())
    assert seen.opens(now) == any(start <= now < end for start, end in intervals)
    later = [max(start, now) for start, end in intervals if end > max(start, now)]
    if later:
        assert seen.next_opening(now) == min(later)
    assert seen.opens(seen.next_opening(now))


# -- the policy -------------------------------------------------------------------------------------------------------


def test_defaults_delete_nothing() -> None:
    policy = LifecyclePolicy()
    assert (policy.keep_at_least, policy.grace) == (2, 7 * DAY)
    assert (policy.keep_at_most, policy.obsolete_after, policy.delete_after, policy.window) == (None,) * 4
    assert (policy.exclude.tags, policy.exclude.protected, policy.exclude.shared) == ((), True, True)


def test_what_a_recipe_says() -> None:
    life = Recipe.model_validate(FULL).life
    assert (life.channels, life.requires_approval) == (("candidate", "stable"), 1)
    policy = life.policy
    assert (policy.keep_at_least, policy.keep_at_most, policy.grace) == (3, 10, 0)
    assert (policy.obsolete_after, policy.delete_after) == (30 * DAY, 90 * DAY)
    assert policy.exclude.tags == ("keep",)
    assert policy.window is not None
    assert (policy.window.begins, policy.window.ends, policy.window.days) == ("22:00", "05:00", ("mon", "fri"))
    assert (life.asked_for("prod"), life.asked_for("test"), life.asked_for("third")) == ("prod-admin", "test", None)


def test_one_cloud_asks_for_all() -> None:
    life = RecipeLife(in_use_cloud="admin")
    assert (life.asked_for("a"), life.asked_for("b")) == ("admin", "admin")
    assert RecipeLife().asked_for("a") is None


def test_deletions_where_nobody_is_asked_are_for_catalogues_only() -> None:
    life = policy_of({"lifecycle": {"obsolete_after": "30 days", "delete_after": "90 days"}})
    assert list(contradictions(life, frozenset())) == []
    assert [path for path, _ in contradictions(life, frozenset({"a"}))] == [("lifecycle", "delete_after")]


# -- attested recipes -------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("source", [MINIMAL, FULL], ids=["minimal", "full"])
def test_what_is_attested_is_read_again(source: dict[str, Any]) -> None:
    recipe = Recipe.model_validate(source)
    assert policy_of(json.loads(json.dumps(effective(recipe)))) == recipe.life


@pytest.mark.parametrize(
    "old",
    [{}, MINIMAL, {**MINIMAL, "lifecycle": {}}, {**MINIMAL, "lifecycle": None}, {"later": {"x": 1}, "os": 7}],
    ids=["nothing", "without", "empty", "null", "strange elsewhere"],
)
def test_recipes_that_are_older_than_these_keys_have_the_defaults(old: dict[str, Any]) -> None:
    life = policy_of(old)
    assert (life.channels, life.requires_approval, life.in_use_cloud) == (("stable",), 0, None)
    assert life.policy == LifecyclePolicy()


@pytest.mark.parametrize(
    "hostile",
    [
        {"lifecycle": []},
        {"lifecycle": {"keep_at_least": 0}},
        {"lifecycle": {"keep_at_least": True}},
        {"lifecycle": {"keep_at_least": "2"}},
        {"lifecycle": {"delete_at_once": True}},
        {"lifecycle": {"delete_after": "1 day"}},
        {"lifecycle": {"obsolete_after": "9" * 10_000 + " days"}},
        {"lifecycle": {"window": {"from": "22:00", "to": "05:00", "time_zone": "\0"}}},
        {"lifecycle": {"window": {"from": "22:00", "to": "05:00", "time_zone": "A" * 100_000}}},
        {"lifecycle": {"exclude": {"tags": ["x"] * 1_000_000}}},
        {"channels": "stable"},
        {"channels": ["stable", "later"]},
        {"channels": [f"c{n}" for n in range(100_000)]},
        {"requires_approval": 10**30},
        {"in_use_cloud": {f"c{n}": "a" for n in range(1000)}},
        {"in_use_cloud": {"x" * 100_000: "a"}},
        {"in_use_cloud": 7},
    ],
    ids=lambda hostile: repr(hostile)[:60],
)
def test_what_is_not_understood_is_refused_in_short(hostile: dict[str, Any]) -> None:
    with pytest.raises(RecipeInvalid) as refused:
        policy_of(hostile)
    assert len(refused.value.message) < 500


@given(
    st.dictionaries(
        st.sampled_from(["channels", "requires_approval", "lifecycle", "in_use_cloud", "name"]),
        st.recursive(
            st.none()
            | st.booleans()
            | st.integers()
            | st.text(max_size=8)
            | st.sampled_from(["stable", "1d", "window"]),
            lambda inner: (
                st.lists(inner, max_size=3)
                | st.dictionaries(
                    st.sampled_from(["window", "grace", "from", "to", "exclude", "tags"]), inner, max_size=3
                )
            ),
            max_leaves=8,
        ),
    )
)
@settings(max_examples=200, deadline=None)
def test_whatever_is_attested_is_read_or_refused(recipe: dict[str, Any]) -> None:
    try:
        life = policy_of(recipe)
    except RecipeInvalid:
        return
    assert life.policy.keep_at_least >= 1
    assert life.channels[-1] == "stable"


def test_a_channel_comes_once() -> None:
    with pytest.raises(ValidationError):
        RecipeLife(channels=("stable", "stable"))
