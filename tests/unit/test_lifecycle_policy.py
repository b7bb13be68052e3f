"""What a policy does in one place: each rule by example, and the whole against somebody who counts on fingers."""

from dataclasses import replace
from datetime import UTC, datetime, timedelta
from random import Random
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from imagefactory.lifecycle.policy import Change, Facts, plan_place
from imagefactory.model.lifecycle import STABLE, Held, Stage, Standing, succession
from imagefactory.model.recipe_lifecycle import LifecyclePolicy
from imagefactory.model.release import Version

NOW = datetime(2026, 11, 20, 12, tzinfo=UTC)  # a Friday
PLAIN = Facts(size=1000, tags=frozenset(), protected=False, members=False, in_use=None, asked=True)
BY_AGE = {"obsolete_after": "30 days", "delete_after": "90 days"}


def version(number: int) -> Version:
    return Version(20260101, number)


def standing(number: int, stage: str, days: float = 0, channel: str = STABLE, held: Held | None = None) -> Standing:
    return Standing(version(number), channel, held, Stage(stage), NOW - timedelta(days=days))


def policy(**said: object) -> LifecyclePolicy:
    return LifecyclePolicy.model_validate(said)


def planned(standings: list[Standing], rules: LifecyclePolicy, facts: Facts = PLAIN) -> list[Change]:
    """The plan where the place says the same about each image."""
    return plan_place(standings, {each.version: facts for each in standings}, rules, NOW)


def moves(changes: list[Change]) -> list[tuple[int, str]]:
    return [(change.version.number, change.after) for change in changes]


def due(changes: list[Change]) -> list[tuple[int, str]]:
    return moves([change for change in changes if change.is_due(NOW)])


# One who has the name, one to go back to, and one of each stage.
LINE = [
    standing(4, "active", 1),
    standing(3, "deprecated", 100),
    standing(2, "deprecated", 31),
    standing(1, "obsolete", 91),
]


# -- ages and counts --------------------------------------------------------------------------------------------------


def test_without_a_policy_nothing_leaves() -> None:
    assert planned(LINE, LifecyclePolicy()) == []


def test_what_is_due_and_what_comes_free() -> None:
    assert planned(LINE, policy(**BY_AGE)) == [
        Change(version(1), Stage.OBSOLETE, Stage.DELETED, NOW - timedelta(days=1), "delete_after is over", 1000, None),
        Change(
            version(2), Stage.DEPRECATED, Stage.OBSOLETE, NOW - timedelta(days=1), "obsolete_after is over", 0, None
        ),
    ]


def test_what_is_not_due_yet_has_its_date() -> None:
    (change,) = planned([*LINE[:2], standing(2, "deprecated", 10)], policy(**BY_AGE))
    assert (change.due, change.is_due(NOW)) == (NOW + timedelta(days=20), False)
    assert change.is_due(change.due)


def test_one_stage_at_a_time() -> None:
    forgotten = [*LINE[:2], standing(2, "deprecated", 1000), standing(1, "obsolete", 1000)]
    assert due(planned(forgotten, policy(**BY_AGE))) == [(2, "obsolete"), (1, "deleted")]


def test_nothing_is_deleted_where_only_ages_of_obsolescence_are_written() -> None:
    assert moves(planned(LINE, policy(obsolete_after="30 days"))) == [(2, "obsolete")]


@pytest.mark.parametrize(("least", "leaving"), [(1, [1, 2, 3]), (2, [1, 2]), (3, [1]), (4, []), (1000, [])])
def test_the_newest_are_kept_however_old(least: int, leaving: list[int]) -> None:
    changes = planned(LINE, policy(keep_at_least=least, **BY_AGE))
    assert sorted(change.version.number for change in changes) == leaving


def test_grace_comes_before_ages() -> None:
    hasty = policy(obsolete_after="1 day", delete_after="1 day", grace="40 days")
    fresh = [*LINE[:2], standing(2, "deprecated", 39), standing(1, "obsolete", 41)]
    assert due(planned(fresh, hasty)) == [(1, "deleted")]
    assert due(planned(fresh, hasty.model_copy(update={"grace": 0}))) == [(1, "deleted"), (2, "obsolete")]


def test_more_than_are_wanted_leave_oldest_first() -> None:
    many = [standing(9, "active", 1), *(standing(number, "deprecated", number) for number in range(8, 0, -1))]
    changes = planned(many, policy(keep_at_most=5, grace="3 days"))
    assert moves(changes) == [(4, "obsolete"), (3, "obsolete"), (2, "obsolete"), (1, "obsolete")]
    assert due(changes) == [(4, "obsolete"), (3, "obsolete")]
    assert {change.why for change in changes} == {"5 newer ones are enough (keep_at_most)"}


def test_of_two_reasons_the_earlier_counts() -> None:
    rules = policy(keep_at_most=2, obsolete_after="30 days", grace="7 days")
    (change,) = planned([*LINE[:2], standing(2, "deprecated", 8)], rules)
    assert (change.due, change.why) == (NOW - timedelta(days=1), "2 newer ones are enough (keep_at_most)")


# -- what stays -------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("facts", "words"),
    [
        (replace(PLAIN, tags=frozenset({"a", "keep"})), "the tag keep"),
        (replace(PLAIN, protected=True), "protected"),
        (replace(PLAIN, members=True), "shared"),
    ],
)
def test_what_is_excluded_goes_no_further(facts: Facts, words: str) -> None:
    changes = planned(LINE, policy(exclude={"tags": ["keep"]}, **BY_AGE), facts)
    assert moves(changes) == [(1, "deleted"), (2, "obsolete")]
    assert all(words in (change.blocked or "") for change in changes)
    assert due(changes) == []
    lifted = policy(exclude={"protected": False, "shared": False}, **BY_AGE)
    assert len(due(planned(LINE, lifted, facts))) == 2


@pytest.mark.parametrize(
    ("facts", "words"),
    [
        (replace(PLAIN, in_use="3 servers"), "in use: 3 servers"),
        (replace(PLAIN, asked=False), "could be asked"),
    ],
)
def test_what_may_be_in_use_is_not_deleted(facts: Facts, words: str) -> None:
    changes = planned(LINE, policy(**BY_AGE), facts)
    assert due(changes) == [(2, "obsolete")]
    assert words in (changes[0].blocked or "")


def test_where_the_place_says_nothing_nothing_moves() -> None:
    changes = plan_place(LINE, {}, policy(**BY_AGE), NOW)
    assert [change.is_due(NOW) for change in changes] == [False, False]
    assert [change.bytes for change in changes] == [0, 0]


def test_what_was_revoked_is_not_among_those_that_are_kept() -> None:
    line = [
        standing(4, "obsolete", 100, held=Held.REVOKED),
        standing(3, "active", 100),
        standing(2, "deprecated", 100),
        standing(1, "deprecated", 100),
    ]
    assert moves(planned(line, policy(**BY_AGE))) == [(1, "obsolete"), (4, "deleted")]


def test_what_was_revoked_and_restored_pushes_nobody_out() -> None:
    line = [standing(3, "active", 100), standing(2, "obsolete", 100), standing(1, "deprecated", 100)]
    assert planned(line, policy(**BY_AGE)) == []


def test_what_is_kept_of_all_may_be_an_obsolete_candidate() -> None:
    assert planned([standing(2, "active", 100), standing(1, "obsolete", 100, "candidate")], policy(**BY_AGE)) == []


def test_a_candidate_that_is_held_back_is_on_its_way_no_more() -> None:
    line = [
        standing(3, "deprecated", 100, "candidate", Held.DEPRECATED),
        standing(2, "active", 100),
        standing(1, "deprecated", 100),
    ]
    assert planned(line, policy(**BY_AGE)) == []


def test_candidates_push_nobody_out() -> None:
    line = [
        standing(6, "active", 100, "candidate"),
        standing(5, "active", 100, "candidate"),
        standing(4, "active", 100),
        standing(3, "deprecated", 100, "candidate"),
        standing(2, "deprecated", 100),
        standing(1, "deprecated", 100),
    ]
    assert moves(planned(line, policy(**BY_AGE))) == [(1, "obsolete")]
    assert moves(planned(line, policy(keep_at_least=1, **BY_AGE))) == [
        (1, "obsolete"),
        (2, "obsolete"),
        (3, "obsolete"),
    ]


def test_what_succession_moves_is_not_in_the_plan() -> None:
    line = [
        standing(4, "deprecated", 100),
        standing(3, "active", 100),
        standing(2, "active", 100, "candidate"),
        standing(1, "deprecated", 100),
    ]
    assert [(each.version.number, stage) for each, stage in succession(line)] == [
        (4, "active"),
        (3, "deprecated"),
        (2, "deprecated"),
    ]
    assert moves(planned(line, policy(**BY_AGE))) == [(1, "obsolete")]


# -- windows and clocks -----------------------------------------------------------------------------------------------


def test_a_closed_window_moves_dates_to_its_opening() -> None:
    nightly = policy(window={"days": ["mon", "fri"], "from": "22:00", "to": "05:00", "time_zone": "UTC"}, **BY_AGE)
    line = [*LINE, standing(0, "obsolete", 88)]
    dates = {change.version.number: change.due for change in planned(line, nightly)}
    tonight, monday = datetime(2026, 11, 20, 22, tzinfo=UTC), datetime(2026, 11, 23, 22, tzinfo=UTC)
    assert dates == {1: tonight, 2: tonight, 0: monday}


def test_an_open_window_leaves_dates_that_are_past() -> None:
    daily = policy(window={"from": "11:00", "to": "13:00", "time_zone": "UTC"}, **BY_AGE)
    assert {change.due for change in planned(LINE, daily)} == {NOW - timedelta(days=1)}


def test_what_comes_from_a_clock_that_is_far_ahead_waits() -> None:
    line = [*LINE[:2], standing(2, "deprecated", -10_000)]
    assert due(planned(line, policy(**BY_AGE))) == []


# -- somebody who counts on fingers -----------------------------------------------------------------------------------

HELD = st.sampled_from([None, None, None, *Held])
STAGES = st.sampled_from(list(Stage))
FACTS = st.sampled_from(
    [
        PLAIN,
        PLAIN,
        replace(PLAIN, size=7, tags=frozenset({"keep", "other"})),
        replace(PLAIN, size=8, tags=frozenset({"other"})),
        replace(PLAIN, protected=True),
        replace(PLAIN, members=True),
        replace(PLAIN, in_use="1 server"),
        replace(PLAIN, asked=False),
        None,
    ]
)


@st.composite
def places(draw: st.DrawFn) -> tuple[list[Standing], dict[Version, Facts]]:
    """Releases as they may stand after a kill: in any stage, on any channel, in any order; facts of most of them."""
    numbers = draw(st.lists(st.integers(1, 30), unique=True, max_size=9))
    standings, facts = [], {}
    for number in numbers:
        channel = draw(st.sampled_from([STABLE, STABLE, "candidate"]))
        days = draw(st.integers(-5, 60))
        standings.append(standing(number, draw(STAGES), days, channel, draw(HELD)))
        if (said := draw(FACTS)) is not None:
            facts[version(number)] = said
    return standings, facts


@st.composite
def policies(draw: st.DrawFn) -> LifecyclePolicy:
    least = draw(st.integers(1, 4))
    most = draw(st.none() | st.integers(least, 6))
    obsolete = draw(st.none() | st.integers(0, 40))
    delete = None if most is None and obsolete is None else draw(st.none() | st.integers(0, 40))
    said: dict[str, Any] = {"keep_at_least": least, "grace": f"{draw(st.integers(0, 20))} days"}
    said |= {} if most is None else {"keep_at_most": most}
    said |= {} if obsolete is None else {"obsolete_after": f"{obsolete} days"}
    said |= {} if delete is None else {"delete_after": f"{delete} days"}
    said["exclude"] = draw(
        st.sampled_from([{}, {"tags": ["keep"]}, {"protected": False}, {"tags": ["keep"], "shared": False}])
    )
    return policy(**said)


def by_hand(place: list[Standing], facts: dict[Version, Facts], rules: LifecyclePolicy) -> set[tuple[int, str, int]]:
    """What may be done now: (number, stage, bytes). One release after the other, asking the questions of the issue."""
    named = max(
        (one.version.number for one in place if (one.channel, one.held) == (STABLE, None) and one.stage != "deleted"),
        default=-1,
    )
    found = set()
    for one in place:
        number, days = one.version.number, (NOW - one.since).days
        newer = [other for other in place if other.version.number > number]
        counted = [
            other
            for other in newer
            if other.held != "revoked"
            and other.stage != "deleted"
            and (other.channel == STABLE or other.held is not None or other.version.number < named)
        ]
        enough = len(counted) >= rules.keep_at_least
        enough &= len([other for other in counted if other.stage != "obsolete"]) >= rules.keep_at_least or (
            one.stage == "obsolete"
        )
        enough &= len([other for other in counted if other.channel == STABLE]) >= rules.keep_at_least or (
            one.channel != STABLE
        )
        if number == named or (one.held != "revoked" and not enough) or version(number) not in facts:
            continue
        if one.channel != STABLE and one.held is None and number > named:
            continue
        said = facts[version(number)]
        if ("keep" in said.tags and "keep" in rules.exclude.tags) or (said.protected and rules.exclude.protected):
            continue
        if (said.members and rules.exclude.shared) or days * 86400 < rules.grace:
            continue
        if one.stage == "deprecated" and one.held != "revoked":
            old = rules.obsolete_after is not None and days * 86400 >= rules.obsolete_after
            offered = [other for other in newer if other.stage in {"active", "deprecated"}]
            if old or (rules.keep_at_most is not None and len(offered) >= rules.keep_at_most):
                found.add((number, "obsolete", 0))
        expired = rules.delete_after is not None and days * 86400 >= rules.delete_after
        if one.stage == "obsolete" and expired and said.in_use is None and said.asked:
            found.add((number, "deleted", said.size))
    return found


@settings(max_examples=200, deadline=None)
@given(places(), policies())
def test_the_plan_is_what_somebody_finds_who_asks_of_each_release(
    place: tuple[list[Standing], dict[Version, Facts]], rules: LifecyclePolicy
) -> None:
    standings, facts = place
    changes = plan_place(standings, facts, rules, NOW)
    found = {(change.version.number, str(change.after), change.bytes) for change in changes if change.is_due(NOW)}
    assert found == by_hand(standings, facts, rules)
    assert changes == sorted(changes, key=lambda change: change.due)
    assert len({change.version for change in changes}) == len(changes)


@settings(max_examples=50, deadline=None)
@given(places(), policies(), st.randoms(use_true_random=False))
def test_the_order_in_which_releases_are_told_changes_nothing(
    place: tuple[list[Standing], dict[Version, Facts]], rules: LifecyclePolicy, random: Random
) -> None:
    standings, facts = place
    shuffled = random.sample(standings, len(standings))
    assert plan_place(shuffled, facts, rules, NOW) == plan_place(standings, facts, rules, NOW)


@settings(max_examples=50, deadline=None)
@given(places(), policies(), st.integers(0, 100))
def test_dates_are_kept(place: tuple[list[Standing], dict[Version, Facts]], rules: LifecyclePolicy, days: int) -> None:
    """What the plan of today says about a day is what the plan of that day does, if nothing else happens."""
    standings, facts = place
    that_day = NOW + timedelta(days=days)
    today = plan_place(standings, facts, rules, NOW)
    assert plan_place(standings, facts, rules, that_day) == today
