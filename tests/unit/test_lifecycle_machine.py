"""The whole life of a name in two places, as anybody may walk through it, under a clock that is simulated.

The world does what keeping a name does: what people decide is everywhere at once; each place follows when it is
reached, the new holder first, and then what the policy says is due there, if somebody applies it.
"""

from collections.abc import Callable
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime, timedelta
from typing import TypeAlias

from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, precondition, rule

from imagefactory.lifecycle.policy import Facts, plan_place
from imagefactory.model.lifecycle import STABLE, Held, Stage, Standing, holder, look, succession
from imagefactory.model.recipe_lifecycle import LifecyclePolicy
from imagefactory.model.release import Version

CHANNELS = ("candidate", STABLE)
PLACES = ("north", "south")
Decision: TypeAlias = Callable[[str], tuple[str, Held | None]]
IN_ORDER = list(Stage)
WINDOW = {"from": "22:00", "to": "05:00", "time_zone": "Europe/Berlin"}
POLICIES = st.fixed_dictionaries(
    {
        "keep_at_least": st.integers(1, 3),
        "keep_at_most": st.integers(3, 4),
        "obsolete_after": st.sampled_from(["0 days", "3 days"]),
        "delete_after": st.sampled_from(["0 days", "2 days"]),
        "grace": st.sampled_from(["0 days", "1 day"]),
        "exclude": st.just({"tags": ["keep"]}),
    },
    optional={"window": st.just(WINDOW)},
).map(LifecyclePolicy.model_validate)


@dataclass
class Copy:
    """A release in a place."""

    stage: Stage
    since: datetime
    facts: Facts


@dataclass
class World:
    """`everywhere` is what holds in all places: the channel and why it is held back; `places` have their copies."""

    now: datetime
    everywhere: dict[Version, tuple[str, Held | None]] = field(default_factory=dict)
    places: dict[str, dict[Version, Copy]] = field(default_factory=lambda: {place: {} for place in PLACES})

    def standings(self, place: str) -> list[Standing]:
        return [
            Standing(version, *self.everywhere[version], copy.stage, copy.since)
            for version, copy in self.places[place].items()
        ]

    def move(self, place: str, version: Version, stage: Stage) -> None:
        copy = self.places[place][version]
        assert copy.stage is not Stage.DELETED, "what is deleted came back"
        copy.stage, copy.since = stage, self.now


class Life(RuleBasedStateMachine):
    @initialize(policy=POLICIES)
    def begin(self, policy: LifecyclePolicy) -> None:
        self.policy = policy
        self.world = World(datetime(2026, 3, 20, 9, tzinfo=UTC))
        self.unreachable = set[str]()
        self.number = 0
        for channel in ["candidate", *[STABLE] * 5]:
            self.publish(channel)
            self.world.now += timedelta(hours=7)

    # -- what people decide -------------------------------------------------------------------------------------------

    @rule(channel=st.sampled_from(CHANNELS))
    def publish(self, channel: str) -> None:
        self.number += 1
        version = Version(20260320, self.number)
        self.world.everywhere[version] = (channel, None)
        facts = Facts(10, frozenset(), protected=False, members=False, in_use=None, asked=True)
        for place in self.reached():
            self.world.places[place][version] = Copy(Stage.ACTIVE, self.world.now, facts)
        self.follow()

    @rule(data=st.data())
    def promote(self, data: st.DataObject) -> None:
        self.decide(data, "candidate", None, lambda _: (STABLE, None))

    @rule(data=st.data(), held=st.sampled_from([Held.DEPRECATED, Held.REVOKED]))
    def hold(self, data: st.DataObject, held: Held) -> None:
        self.decide(data, None, None, lambda channel: (channel, held))

    @rule(place=st.sampled_from(PLACES))
    def roll_back(self, place: str) -> None:
        holding = holder(self.world.standings(place))
        if holding is not None:
            self.world.everywhere[holding.version] = (STABLE, Held.ROLLED_BACK)
            self.follow()

    @rule(data=st.data(), held=st.sampled_from(list(Held)))
    def restore(self, data: st.DataObject, held: Held) -> None:
        self.decide(data, None, held, lambda channel: (channel, None))

    # -- what happens -------------------------------------------------------------------------------------------------

    @rule(hours=st.sampled_from([1, 7, 24, 24, 80]))
    def time_passes(self, hours: int) -> None:
        self.world.now += timedelta(hours=hours)

    @rule(place=st.sampled_from(PLACES))
    def a_place_comes_and_goes(self, place: str) -> None:
        self.unreachable ^= {place}
        self.follow()

    @rule(data=st.data(), place=st.sampled_from(PLACES), kind=st.sampled_from(["in use", "unknown", "tagged", "plain"]))
    def somebody_uses_or_tags_it(self, data: st.DataObject, place: str, kind: str) -> None:
        copy = self.world.places[place][data.draw(st.sampled_from(sorted(self.world.places[place])))]
        copy.facts = replace(
            copy.facts,
            in_use="a server" if kind == "in use" else None,
            asked=kind != "unknown",
            tags=frozenset({"keep"} if kind == "tagged" else ()),
        )

    @rule(hours=st.sampled_from([0, 13, 24, 80]), times=st.integers(1, 4))
    def apply(self, hours: int, times: int) -> None:
        """`lifecycle apply`, again and again."""
        for _ in range(times):
            for place in self.reached():
                self.apply_in(place)
            self.world.now += timedelta(hours=hours)

    # -- what is promised ---------------------------------------------------------------------------------------------

    @invariant()
    @precondition(lambda self: hasattr(self, "world"))
    def one_has_the_name(self) -> None:
        """In a place that was reached exactly one is visible, if any may be: the holder, which is active."""
        for place in self.reached():
            standings = self.world.standings(place)
            holding = holder(standings)
            looks = {each.version: look(each, holding, "Tiny") for each in standings if each.stage is not Stage.DELETED}
            visible = [version for version, shown in looks.items() if not shown.hidden]
            assert visible == ([holding.version] if holding else [])
            assert [version for version, shown in looks.items() if shown.name == "Tiny"] == visible
            if holding is not None:
                assert holding.stage is Stage.ACTIVE
                assert holding.held is None
                assert not looks[holding.version].deactivated
            assert succession(standings) == []

    # -- the world ----------------------------------------------------------------------------------------------------

    def reached(self) -> list[str]:
        return [place for place in PLACES if place not in self.unreachable]

    def follow(self) -> None:
        """Settle each place that is reached, after what was decided."""
        for place in self.reached():
            before = holder(self.world.standings(place))
            changes = succession(self.world.standings(place))
            if before is not None and before.stage is not Stage.ACTIVE:
                assert changes[0][0].version == before.version, "the holder comes first"
            for standing, stage in changes:
                self.world.move(place, standing.version, stage)

    def apply_in(self, place: str) -> None:
        standings = self.world.standings(place)
        copies = self.world.places[place]
        holding = holder(standings)
        facts = {version: copy.facts for version, copy in copies.items()}
        least = self.policy.keep_at_least
        before = self.bootable(place)
        for change in plan_place(standings, facts, self.policy, self.world.now):
            copy = copies[change.version]
            assert holding is None or change.version != holding.version
            assert (change.before, IN_ORDER.index(change.after)) == (copy.stage, IN_ORDER.index(copy.stage) + 1)
            if not change.is_due(self.world.now):
                continue
            self.check_date(copy, change.after)
            assert "keep" not in copy.facts.tags
            assert change.after is not Stage.DELETED or (copy.facts.in_use is None and copy.facts.asked)
            self.world.move(place, change.version, change.after)
        assert self.bootable(place) >= min(least, before), "fewer are left than the policy promises"

    def check_date(self, copy: Copy, after: Stage) -> None:
        """Grace is over, and the age or, for the first step, the number may be why; and the window is open."""
        age = (self.world.now - copy.since).total_seconds()
        assert age >= self.policy.grace
        if after is Stage.DELETED:
            assert self.policy.delete_after is not None
            assert age >= self.policy.delete_after
        assert self.policy.window is None or self.policy.window.opens(self.world.now)

    def bootable(self, place: str) -> int:
        """How many nobody revoked and anybody can boot."""
        return sum(
            each.stage in {Stage.ACTIVE, Stage.DEPRECATED} and each.held is not Held.REVOKED
            for each in self.world.standings(place)
        )

    def decide(self, data: st.DataObject, channel: str | None, held: Held | None, change: Decision) -> None:
        """Draw a release on that channel that is held so, and change it everywhere."""
        matching = [
            version
            for version, (its_channel, its_held) in self.world.everywhere.items()
            if channel in {None, its_channel} and its_held is held
        ]
        if matching:
            version = data.draw(st.sampled_from(matching))
            self.world.everywhere[version] = change(self.world.everywhere[version][0])
            self.follow()


TestLife = Life.TestCase
TestLife.settings = settings(max_examples=100, stateful_step_count=40, deadline=None)
