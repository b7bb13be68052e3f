"""How releases stand: changed from what was seen or not at all, with a line of history, in one transaction."""

import itertools
import tempfile
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest
from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, rule
from sqlalchemy import event

from imagefactory.errors import StateConflict
from imagefactory.model.build import BuildState, PublicationState
from imagefactory.model.database_url import DatabaseUrl
from imagefactory.model.lifecycle import HELD_TRANSITIONS, STABLE, STAGE_TRANSITIONS, Held, Stage
from imagefactory.model.release import ReleaseRef
from imagefactory.store.ledger import Ledger, standing_of
from imagefactory.store.records import Records, release_version
from imagefactory.store.tables import Move, Publication, Release
from tests.database import records_at

DIGEST = "d" * 64
PLACES = ("glance:a", "glance:b")


@pytest.fixture
def other(database: Path) -> Iterator[Records]:
    """The same records, opened by somebody else."""
    made = Records(database)
    yield made
    made.close()


def released(records: Records, name: str = "soe", channel: str = "candidate") -> Release:
    build = records.reserve(name, Path("/recipes/soe.yaml"), DIGEST, Path("/logs"))
    records.move_build(build, BuildState.RUNNING)
    return records.add_release(build, content_digest=DIGEST, files={}, images={}, evidence={}, channel=channel)


def published(records: Records, release: Release, target: str = PLACES[0]) -> Publication:
    publication = records.intend(release, target, "an-id")
    records.move_publication(publication, PublicationState.PUBLISHED)
    records.move_publication(publication, PublicationState.VERIFIED)
    Ledger(records).mark_settled(release, publication, Stage.ACTIVE)
    return publication


def seen_again(records: Records, release: Release) -> tuple[Release, Publication]:
    """A release and its first publication as the records have them now."""
    found = records.release(ReleaseRef(release.name, release_version(release)))
    return found, found.publications[0]


def brought_to(ledger: Ledger, release: Release, publication: Publication, stage: Stage) -> None:
    """By legal ways, one after another."""
    for step in list(Stage)[1 : stage.rank + 1]:
        ledger.advance(release, publication, Stage(publication.stage), step, "ana", "test", None)


# -- what is refused -----------------------------------------------------------------------------------------------


@pytest.mark.parametrize(("before", "after"), list(itertools.product(Stage, Stage)))
def test_a_stage_changes_by_the_table_and_in_no_other_way(records: Records, before: Stage, after: Stage) -> None:
    ledger, release = Ledger(records), released(records)
    publication = published(records, release)
    brought_to(ledger, release, publication, before)
    ledger.mark_settled(release, publication, before)
    lines = len(ledger.history("soe"))
    if after in STAGE_TRANSITIONS[before]:
        ledger.advance(release, publication, before, after, "ana", "test", None)
        assert publication.stage == seen_again(records, release)[1].stage == after
        assert not seen_again(records, release)[1].settled
        assert len(ledger.history("soe")) == lines + 1
    else:
        with pytest.raises(StateConflict, match=f"{before} does not become {after}"):
            ledger.advance(release, publication, before, after, "ana", "test", None)
        assert publication.stage == seen_again(records, release)[1].stage == before
        assert len(ledger.history("soe")) == lines


def test_what_is_deleted_was_obsolete_before() -> None:
    assert [stage for stage in Stage if Stage.DELETED in STAGE_TRANSITIONS[stage]] == [Stage.OBSOLETE]
    assert not STAGE_TRANSITIONS[Stage.DELETED]
    assert not HELD_TRANSITIONS[Held.REVOKED]
    assert all(Stage.ACTIVE in STAGE_TRANSITIONS[stage] for stage in (Stage.DEPRECATED, Stage.OBSOLETE))


@pytest.mark.parametrize(("before", "after"), list(itertools.product([None, *Held], [None, *Held])))
def test_what_holds_a_release_back_changes_by_the_table(
    records: Records, before: Held | None, after: Held | None
) -> None:
    ledger, release = Ledger(records), released(records)
    if before:
        ledger.hold(release, before, "first", "ana", "test")
    if after in HELD_TRANSITIONS[before]:
        ledger.hold(release, after, "second", "ben", "test")
        expected = (after, "second" if after else None)
    else:
        with pytest.raises(StateConflict):
            ledger.hold(release, after, "second", "ben", "test")
        expected = (before, "first" if before else None)
    (kept,) = records.releases("soe")
    assert (kept.held, kept.held_reason) == (release.held, release.held_reason) == expected


def test_nothing_comes_after_stable_and_what_was_revoked_goes_nowhere(records: Records, other: Records) -> None:
    ledger, release = Ledger(records), released(records)
    for before, after in (("candidate", "candidate"), (STABLE, "candidate"), ("beta", STABLE)):
        with pytest.raises(StateConflict):
            ledger.promote(release, before, after, "ana", None)
    (seen,) = other.releases("soe")
    Ledger(other).hold(seen, Held.REVOKED, "leaks", "ben", "revoke")
    with pytest.raises(StateConflict, match="or was revoked"):
        ledger.promote(release, "candidate", STABLE, "ana", None)
    assert release.channel == "candidate"


def test_an_account_approves_once(records: Records) -> None:
    ledger, release = Ledger(records), released(records)
    ledger.approve(release, "ana")
    ledger.approve(release, "ben")
    with pytest.raises(StateConflict, match="ana has approved"):
        ledger.approve(release, "ana")
    assert ledger.approvals(release) == ["ana", "ben"]
    assert len(ledger.history("soe")) == 2


def test_what_is_deleted_is_not_published_again(records: Records) -> None:
    ledger, release = Ledger(records), released(records)
    publication = published(records, release)
    brought_to(ledger, release, publication, Stage.DELETED)
    with pytest.raises(StateConflict, match="was deleted from glance:a"):
        records.intend(release, PLACES[0])
    ledger.mark_settled(release, publication, Stage.DELETED)
    assert publication.state == seen_again(records, release)[1].state == PublicationState.DELETED
    with pytest.raises(StateConflict, match="was deleted from glance:a"):
        records.intend(release, PLACES[0])
    assert ledger.standings("soe", PLACES[0]) == []
    ledger.unsettle("soe", PLACES[0])
    assert seen_again(records, release)[1].settled, "what is gone shows nothing"


# -- somebody else was faster ------------------------------------------------------------------------------------------


def test_whoever_is_late_changes_nothing(records: Records, other: Records) -> None:
    release = released(records)
    published(records, release)
    late, publication = seen_again(other, release)
    first, second = Ledger(records), Ledger(other)
    mine = seen_again(records, release)[1]
    first.promote(release, "candidate", STABLE, "ana", None)
    first.hold(release, Held.ROLLED_BACK, "broken", "ana", "rollback")
    first.advance(release, mine, Stage.ACTIVE, Stage.DEPRECATED, "ana", "succession", None)
    attempts: list[Callable[[], None]] = [
        lambda: second.promote(late, "candidate", STABLE, "ben", None),
        lambda: second.hold(late, Held.DEPRECATED, "old", "ben", "deprecate"),
        lambda: second.advance(late, publication, Stage.ACTIVE, Stage.OBSOLETE, "ben", "revoke", None),
        lambda: second.mark_settled(late, publication, Stage.ACTIVE),
    ]
    for attempt in attempts:
        with pytest.raises(StateConflict):
            attempt()
    assert (late.channel, late.held, publication.stage) == ("candidate", None, "active")
    kept, place = seen_again(records, release)
    assert (kept.channel, kept.held, place.stage, place.settled) == (STABLE, "rolled-back", "deprecated", False)
    assert {each.account for each in first.history("soe")} == {"ana"}


def test_who_dies_in_between_leaves_nothing(records: Records, database: Path) -> None:
    """A change and its line in the history are there together or not at all."""
    ledger, release = Ledger(records), released(records)
    publication = published(records, release)

    def die(*_: object) -> None:
        raise KeyboardInterrupt

    before = rows(database)
    event.listen(Move, "before_insert", die)
    try:
        attempts: list[Callable[[], None]] = [
            lambda: ledger.promote(release, "candidate", STABLE, "ana", None),
            lambda: ledger.approve(release, "ana"),
            lambda: ledger.hold(release, Held.REVOKED, "leaks", "ana", "revoke"),
            lambda: ledger.advance(release, publication, Stage.ACTIVE, Stage.DEPRECATED, "ana", "x", None),
        ]
        for attempt in attempts:
            with pytest.raises(KeyboardInterrupt):
                attempt()
    finally:
        event.remove(Move, "before_insert", die)
    assert rows(database) == before
    assert (release.channel, release.held, publication.stage) == ("candidate", None, "active")


def rows(database: Path) -> list[list[tuple[object, ...]]]:
    with records_at(database) as connection:
        return [
            connection.execute(query).fetchall()
            for query in (
                "select channel, held, held_reason from releases where name = 'soe'",
                "select stage, since, settled from publications",
                "select * from approvals",
                "select * from moves",
            )
        ]


# -- what is told ------------------------------------------------------------------------------------------------------


def test_places_are_to_be_seen_to_when_a_release_changes_everywhere(records: Records) -> None:
    ledger, release, bystander = Ledger(records), released(records), released(records)
    mine = [published(records, release, target) for target in PLACES]
    published(records, bystander)
    assert ledger.unsettled("soe") == []
    ledger.promote(release, "candidate", STABLE, "ana", None)
    found = [(each.target, standing.version) for _, each, standing in ledger.unsettled("soe")]
    assert found == [(target, release_version(release)) for target in PLACES]
    for each in mine:
        ledger.mark_settled(release, each, Stage.ACTIVE)
    ledger.hold(release, Held.DEPRECATED, None, "ana", "deprecate")
    assert [each.target for _, each, _ in ledger.unsettled("soe")] == list(PLACES)
    ledger.unsettle("soe", PLACES[0])
    assert len(ledger.unsettled("soe")) == 3


def test_how_releases_stand_in_a_place(records: Records) -> None:
    ledger = Ledger(records)
    old, new, elsewhere = (released(records) for _ in range(3))
    published(records, old)
    publication = published(records, new)
    published(records, elsewhere, PLACES[1])
    records.intend(released(records), PLACES[0])  # never was there
    published(records, released(records, "other"))
    before = datetime.now(UTC)
    ledger.advance(new, publication, Stage.ACTIVE, Stage.DEPRECATED, "ana", "succession", None)
    found = ledger.standings("soe", PLACES[0])
    assert [standing.version for _, _, standing in found] == [release_version(new), release_version(old)]
    standing = found[0][2]
    assert (standing.channel, standing.held, standing.stage) == ("candidate", None, Stage.DEPRECATED)
    assert before <= standing.since <= datetime.now(UTC)
    assert standing.since.utcoffset() == timedelta(0)
    assert standing == standing_of(*found[0][:2])
    assert ledger.places("soe") == list(PLACES)
    assert ledger.names() == ["other", "soe"]


def test_the_history_says_who_what_when_and_why_and_outlives_the_release(records: Records, database: Path) -> None:
    ledger, release = Ledger(records), released(records)
    publication = published(records, release)
    ledger.promote(release, "candidate", STABLE, "ana", "tested")
    ledger.hold(release, Held.ROLLED_BACK, "broken", "ben", "rollback")
    ledger.advance(release, publication, Stage.ACTIVE, Stage.DEPRECATED, "cem", "succession", None)
    ledger.hold(release, None, None, "ben", "restore")
    version = release_version(release)
    expected = [
        ("ana", "promote", None, "candidate", "stable", "tested"),
        ("ben", "rollback", None, None, "rolled-back", "broken"),
        ("cem", "succession", "glance:a", "active", "deprecated", None),
        ("ben", "restore", None, "rolled-back", "restored", None),
    ]
    with records_at(database) as connection:
        connection.executescript("delete from publications; delete from releases; delete from builds;")
    found = ledger.history("soe", version)
    assert [(m.account, m.verb, m.target, m.before, m.after, m.reason) for m in found] == expected
    assert [each.id for each in ledger.history("soe")] == [each.id for each in found]
    assert ledger.history("other") == ledger.history("soe", type(version)(20200101, 1)) == []


def test_a_place_is_read_with_one_query(records: Records) -> None:
    for _ in range(5):
        published(records, released(records))
    queries = []
    with records.session() as session:
        engine = session.connection().engine
    event.listen(engine, "before_cursor_execute", lambda *said: queries.append(said[2]))
    found = Ledger(records).standings("soe", PLACES[0])
    assert [(release.name, each.target, standing.stage) for release, each, standing in found] == [
        ("soe", PLACES[0], Stage.ACTIVE)
    ] * 5
    assert len(queries) == 1


# -- any sequence ------------------------------------------------------------------------------------------------------


class Ledgers(RuleBasedStateMachine):
    """Two who have the same records open, against dictionaries."""

    which = st.integers(0, 1)
    stages = st.sampled_from(list(Stage))
    channels = st.sampled_from(["candidate", "beta", STABLE])

    def __init__(self) -> None:
        super().__init__()
        self.stack = ExitStack()
        where = self.new_database(self.stack)
        self.both = [Records(where), Records(where)]
        self.ledgers = [Ledger(each) for each in self.both]
        made = [released(self.both[0]) for _ in range(2)]
        for release in made:
            published(self.both[0], release)
        # What each of the two saw last, which may be long ago.
        self.seen = [[seen_again(each, release) for release in made] for each in self.both]
        self.channel = ["candidate", "candidate"]
        self.held: list[Held | None] = [None, None]
        self.stage = [Stage.ACTIVE, Stage.ACTIVE]
        self.settled = [True, True]
        self.gone = [False, False]
        self.lines = 0

    def teardown(self) -> None:
        for each in self.both:
            each.close()
        self.stack.close()

    def new_database(self, stack: ExitStack) -> Path | DatabaseUrl:
        """Gone when `stack` is closed."""
        return Path(stack.enter_context(tempfile.TemporaryDirectory())) / "db"

    def attempt(self, legal: bool, action: Callable[[], None]) -> bool:
        if legal:
            action()
            return True
        with pytest.raises(StateConflict):
            action()
        return False

    def unsettle(self, at: int) -> None:
        self.settled[at] = self.settled[at] and self.gone[at]

    @rule(who=which, at=which)
    def look(self, who: int, at: int) -> None:
        self.seen[who][at] = seen_again(self.both[who], self.seen[who][at][0])

    @rule(who=which, at=which, before=channels, after=channels)
    def promote(self, who: int, at: int, before: str, after: str) -> None:
        release = self.seen[who][at][0]
        legal = before == self.channel[at] and before not in {after, STABLE} and self.held[at] is not Held.REVOKED
        if self.attempt(legal, lambda: self.ledgers[who].promote(release, before, after, "ana", None)):
            self.channel[at] = after
            self.lines += 1
            self.unsettle(at)

    @rule(who=which, at=which, held=st.sampled_from([None, *Held]))
    def hold(self, who: int, at: int, held: Held | None) -> None:
        release = self.seen[who][at][0]
        legal = release.held == self.held[at] and held in HELD_TRANSITIONS[self.held[at]]
        if self.attempt(legal, lambda: self.ledgers[who].hold(release, held, "why", "ana", "hold")):
            self.held[at] = held
            self.lines += 1
            self.unsettle(at)

    @rule(who=which, at=which, before=stages, after=stages)
    def advance(self, who: int, at: int, before: Stage, after: Stage) -> None:
        legal = before == self.stage[at] and after in STAGE_TRANSITIONS[before]
        seen = self.seen[who][at]
        if self.attempt(legal, lambda: self.ledgers[who].advance(*seen, before, after, "ana", "advance", None)):
            self.stage[at], self.settled[at] = after, False
            self.lines += 1

    @rule(who=which, at=which, stage=stages)
    def settle(self, who: int, at: int, stage: Stage) -> None:
        self.look(who, at)
        release, publication = self.seen[who][at]
        if self.gone[at]:
            return
        if self.attempt(stage == self.stage[at], lambda: self.ledgers[who].mark_settled(release, publication, stage)):
            self.settled[at], self.gone[at] = True, stage is Stage.DELETED

    @invariant()
    def the_records_are_as_expected(self) -> None:
        for at, (release, _) in enumerate(self.seen[0]):
            kept, place = seen_again(self.both[1], release)
            assert (kept.channel, kept.held, place.stage, place.settled) == (
                self.channel[at],
                self.held[at],
                self.stage[at],
                self.settled[at],
            )
            assert (place.state == PublicationState.DELETED) == self.gone[at]
        assert len(self.ledgers[0].history("soe")) == self.lines
        assert len(self.ledgers[0].standings("soe", PLACES[0])) == self.gone.count(False)


TestLedgers = Ledgers.TestCase
TestLedgers.settings = settings(max_examples=8, stateful_step_count=30)  # each step is a transaction on a disk
