"""The keeper of names: who has the name is recorded first and shown then, and the name is never nobody's meanwhile."""

import tempfile
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path

import pytest
from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, precondition, rule

from imagefactory.errors import Busy, CloudUnreachable, FactoryError, HolderNotShown, ImageInUse, StateConflict
from imagefactory.lifecycle.places import Settlement
from imagefactory.lifecycle.verbs import Verbs
from imagefactory.model.build import PublicationState
from imagefactory.model.lifecycle import STABLE, Held, Look, Stage, Standing, holder
from imagefactory.model.recipe_lifecycle import RecipeLife
from imagefactory.model.release import ReleaseRef
from imagefactory.store.ledger import Ledger
from imagefactory.store.lock import FileLocks
from imagefactory.store.records import Records, release_version
from imagefactory.store.tables import Release
from tests.fakes.places import DISPLAY, Killed, Shop

A, B = "glance:a", "glance:b"


def stages(shop: Shop, target: str = A) -> list[str]:
    """Newest first."""
    return [str(standing.stage) for _, _, standing in shop.ledger.standings("soe", target)]


def orders(shop: Shop) -> list[list[str]]:
    """Who was asked for what, call by call: version, name, hidden."""
    return [[f"{each.standing.version.number} {each.look.name}" for each in asked] for _, asked in shop.places.asked]


# -- who comes next ----------------------------------------------------------------------------------------------------


def test_the_new_one_has_the_name_and_all_others_say_so(shop: Shop) -> None:
    old, older, new = (shop.release(A) for _ in range(3))
    looks = shop.places.seen[A]
    assert looks[release_version(new)] == Look(DISPLAY, hidden=False, deactivated=False, replacement=None)
    for each in (old, older):
        name = f"{DISPLAY} {release_version(each)}"
        expected = Look(name, hidden=True, deactivated=False, replacement=release_version(new))
        assert looks[release_version(each)] == expected, "what to use instead is never one that is retired, too"
    assert stages(shop) == ["active", "deprecated", "deprecated"]
    assert shop.ledger.unsettled("soe") == []


def test_who_was_revoked_as_the_only_one_names_its_successor(shop: Shop) -> None:
    bad = shop.release(A)
    shop.ledger.hold(bad, Held.REVOKED, "leaks", "ana", "revoke")
    shop.keeper().settle_everywhere("soe")
    assert shop.places.seen[A][release_version(bad)].replacement is None
    good = shop.release(A)
    assert shop.places.seen[A][release_version(bad)].replacement == release_version(good)


def test_the_holder_is_first_and_nothing_is_asked_twice(shop: Shop) -> None:
    for _ in range(3):
        shop.release(A)
    newest = shop.records.releases("soe")[0]
    shop.places.asked.clear()
    shop.ledger.hold(newest, Held.ROLLED_BACK, "broken", "ana", "rollback")
    shop.keeper().settle_everywhere("soe")
    (first,) = orders(shop)
    assert [each.split()[0] for each in first] == ["2", "3", "1"]
    assert first[0] == f"2 {DISPLAY}"
    shop.places.asked.clear()
    assert shop.keeper().settle_everywhere("soe") == [Settlement()]
    assert orders(shop) == []


def test_a_candidate_is_hidden_until_it_is_stable(shop: Shop) -> None:
    old = shop.release(A)
    new = shop.release(A, channel="candidate")
    assert shop.places.named(A) == [release_version(old)]
    shop.ledger.promote(new, "candidate", STABLE, "ana", None)
    shop.keeper().settle_everywhere("soe")
    assert shop.places.named(A) == [release_version(new)]


def test_what_was_withdrawn_in_a_place_has_the_name_there_no_more(shop: Shop) -> None:
    old, new = shop.release(A, B), shop.release(A, B)
    there = next(each for each in shop.records.release(ReleaseRef("soe")).publications if each.target == A)
    shop.records.move_publication(there, PublicationState.WITHDRAWN)
    shop.keeper().settle_everywhere("soe")
    assert stages(shop) == ["obsolete", "active"]
    assert shop.places.named(A) == [release_version(old)]
    assert shop.places.named(B) == [release_version(new)]
    assert shop.places.seen[A][release_version(new)].deactivated


# -- what goes wrong ---------------------------------------------------------------------------------------------------


def test_a_place_that_fails_or_is_busy_stops_no_other_and_is_finished_later(shop: Shop) -> None:
    targets = (A, B, "glance:c")
    old, new = shop.release(*targets), shop.release(*targets)
    shop.places.unreachable = {A}
    shop.ledger.hold(new, Held.ROLLED_BACK, "broken", "ana", "rollback")
    with FileLocks(shop.root / "locks").place("soe", B):
        settled = shop.keeper().settle_everywhere("soe")
    assert [type(left.failure) for each in settled for left in each.left] == [CloudUnreachable, Busy]
    assert [left.target for each in settled for left in each.left] == [A, B]
    named = {target: shop.places.named(target) for target in targets}
    assert named == {A: [release_version(new)], B: [release_version(new)], "glance:c": [release_version(old)]}
    shop.places.unreachable.clear()
    shop.keeper().settle_everywhere("soe")
    assert all(shop.places.named(target) == [release_version(old)] for target in targets)
    assert shop.ledger.unsettled("soe") == []


def test_while_the_holder_cannot_be_shown_nobody_gives_up_the_name(shop: Shop) -> None:
    old, new = shop.release(A), shop.release(A)
    shop.places.stuck = {(A, release_version(old))}
    shop.ledger.hold(new, Held.ROLLED_BACK, "broken", "ana", "rollback")
    for _ in range(3):
        (settled,) = shop.keeper().settle_everywhere("soe")
        assert [type(left.failure) for left in settled.left] == [ImageInUse, HolderNotShown]
        assert shop.places.named(A) == [release_version(new)]
    shop.places.stuck.clear()
    (settled,) = shop.keeper().settle_everywhere("soe")
    assert settled.left == []
    assert shop.places.named(A) == [release_version(old)]


def test_what_is_decided_while_a_place_is_changed_is_not_taken_for_done(shop: Shop) -> None:
    """The verbs record without waiting for whoever works in a place; that one may know an older state."""
    release = shop.release(A)
    shop.release(A)
    row = shop.ledger.standings("soe", A)[1]
    shop.keeper().advance(row[0], row[1], Stage.DEPRECATED, Stage.OBSOLETE, "lifecycle", None)
    decided = shop.records.release(row_ref(release))
    shop.places.meanwhile = lambda: shop.ledger.hold(decided, Held.REVOKED, "leaks", "ben", "revoke")
    (settled,) = shop.keeper().settle_everywhere("soe")
    assert [type(left.failure) for left in settled.left] == [StateConflict]
    assert [each.target for _, each, _ in shop.ledger.unsettled("soe")] == [A]
    shop.places.meanwhile = lambda: None
    shop.keeper().settle_everywhere("soe")
    assert shop.ledger.unsettled("soe") == []


def row_ref(release: Release) -> ReleaseRef:
    return ReleaseRef(release.name, release_version(release))


def test_what_others_name_instead_is_seen_to_even_after_a_kill(shop: Shop, monkeypatch: pytest.MonkeyPatch) -> None:
    for _ in range(3):
        shop.release(A)
    newest = shop.records.releases("soe")[0]
    shop.ledger.hold(newest, Held.ROLLED_BACK, "broken", "ana", "rollback")
    advance = Ledger.advance

    def die(ledger: Ledger, *arguments: object) -> None:
        advance(ledger, *arguments)  # type: ignore[arg-type]
        raise Killed

    for _ in range(2):  # one change of a stage is recorded each time
        with monkeypatch.context() as patched:
            patched.setattr(Ledger, "advance", die)
            with pytest.raises(Killed):
                shop.keeper().settle("soe", A, lambda _: None)
    shop.keeper().settle("soe", A, lambda _: None)
    second = shop.records.releases("soe")[1]
    others = [look for each, look in shop.places.seen[A].items() if each != release_version(second)]
    assert [look.replacement for look in others] == [release_version(second)] * 2


def test_every_change_of_a_stage_is_in_the_audit_log(shop: Shop) -> None:
    shop.release(A)
    shop.release(A)
    assert '"after":"deprecated"' in (shop.root / "audit.log").read_text()
    assert [(each.verb, each.before, each.after) for each in shop.ledger.history("soe")] == [
        ("succession", "active", "deprecated")
    ]


# -- any sequence ------------------------------------------------------------------------------------------------------


class Life(RuleBasedStateMachine):
    """People decide, two places fail and come back, and processes die in the middle."""

    @initialize()
    def begin(self) -> None:
        self.directory = tempfile.TemporaryDirectory()
        root = Path(self.directory.name)
        self.records = Records(root / "db")
        self.shop = Shop(root, self.records)
        self.shop.release(A, B)

    def teardown(self) -> None:
        if hasattr(self, "records"):
            self.records.close()
            self.directory.cleanup()

    @property
    def verbs(self) -> Verbs:
        life = RecipeLife.model_validate({"channels": ["candidate", STABLE]})
        return Verbs(self.records, self.shop.keeper(), lambda _: life)

    @rule(channel=st.sampled_from(["candidate", STABLE]), where=st.sampled_from([(A,), (B,), (A, B)]))
    def publish(self, channel: str, where: tuple[str, ...]) -> None:
        reached = [each for each in where if each not in self.shop.places.unreachable]
        with suppress(Killed):
            self.shop.release(*reached, channel=channel)

    @rule(data=st.data(), verb=st.sampled_from(["promote", "deprecate", "restore", "revoke", "rollback"]))
    def decide(self, data: st.DataObject, verb: str) -> None:
        releases = self.records.releases("soe")
        ref = row_ref(data.draw(st.sampled_from(releases)))
        verbs = self.verbs
        decisions: dict[str, Callable[[], object]] = {
            "promote": lambda: verbs.carry_out(verbs.promote(ref, None, None)),
            "deprecate": lambda: verbs.carry_out(verbs.deprecate(ref, "old")),
            "restore": lambda: verbs.carry_out(verbs.restore(ref, None)),
            "revoke": lambda: verbs.carry_out(verbs.revoke(ref, "leaks")),
            "rollback": lambda: verbs.carry_out(verbs.rollback("soe", "broken")),
        }
        before = {target: self.holding(target) for target in (A, B)}
        with suppress(FactoryError, Killed):
            decisions[verb]()
        for target, had in before.items():
            if had and not self.holding(target):
                assert verb == "revoke", "nothing else leaves a name without a release"
                places = self.shop.places  # nobody can have it there
                places.ever_shown.discard(target)
                places.unnamed[:] = [each for each in places.unnamed if each != target]

    @rule(data=st.data())
    def retire(self, data: st.DataObject) -> None:
        """As the sweep does, without its dates."""
        target = data.draw(st.sampled_from([A, B]))
        rows = self.shop.ledger.standings("soe", target)
        old = [row for row in rows if row[2].stage in {Stage.DEPRECATED, Stage.OBSOLETE}]
        if old and not self.unsteady(target):
            release, publication, standing = data.draw(st.sampled_from(old))
            after = Stage.OBSOLETE if standing.stage is Stage.DEPRECATED else Stage.DELETED
            self.shop.keeper().advance(release, publication, standing.stage, after, "lifecycle", "old")

    def unsteady(self, target: str) -> bool:
        """Whether the records themselves have not been brought to who has the name yet."""
        holding = self.holding(target)
        return holding is not None and holding.stage is not Stage.ACTIVE

    def holding(self, target: str) -> Standing | None:
        return holder([standing for _, _, standing in self.shop.ledger.standings("soe", target)])

    @rule(place=st.sampled_from([A, B]))
    def comes_and_goes(self, place: str) -> None:
        self.shop.places.unreachable ^= {place}

    @rule(place=st.sampled_from([A, B]), data=st.data())
    def sticks(self, place: str, data: st.DataObject) -> None:
        release = data.draw(st.sampled_from(self.records.releases("soe")))
        self.shop.places.stuck ^= {(place, release_version(release))}

    @rule(after=st.integers(0, 3))
    def is_about_to_die(self, after: int) -> None:
        self.shop.places.dies_after = after

    @rule()
    def undisturbed(self) -> None:
        """Whatever happened: the next run that nobody disturbs puts everything in order."""
        places = self.shop.places
        places.dies_after = None
        places.unreachable.clear()
        places.stuck.clear()
        self.shop.keeper().settle_everywhere("soe")
        assert self.shop.ledger.unsettled("soe") == []
        for target in (A, B):
            holding = self.holding(target)
            assert places.named(target) == ([holding.version] if holding else [])
            for _, _, standing in self.shop.ledger.standings("soe", target):
                look = places.seen[target][standing.version]
                if holding is None or standing.version != holding.version:
                    retired = standing.stage is not Stage.ACTIVE
                    assert look.hidden
                    assert look.deactivated == (standing.stage is Stage.OBSOLETE)
                    assert look.replacement == (holding.version if holding and retired else None)
        places.asked.clear()
        self.shop.keeper().settle_everywhere("soe")
        assert places.asked == [], "nothing is done twice"

    @invariant()
    @precondition(lambda self: hasattr(self, "shop"))
    def the_name_is_somebodys(self) -> None:
        assert self.shop.places.unnamed == []


TestLife = Life.TestCase
TestLife.settings = settings(max_examples=10, stateful_step_count=15, deadline=None)
