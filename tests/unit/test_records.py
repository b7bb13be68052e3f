"""What is remembered: versions, states, and a database that is always of today's shape."""

import itertools
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest
from alembic import command
from alembic.autogenerate import compare_metadata
from alembic.config import Config
from alembic.runtime.migration import MigrationContext
from alembic.script import ScriptDirectory
from sqlalchemy import create_engine

from imagefactory.errors import DiskFull, HomeUnusable, ReleaseUnknown, StateConflict
from imagefactory.model.build import BUILD_TRANSITIONS, PUBLICATION_TRANSITIONS, BuildState, PublicationState
from imagefactory.model.release import ReleaseRef, Version
from imagefactory.store import records as module
from imagefactory.store.database import MIGRATIONS, REVISION
from imagefactory.store.records import Records, build_version, release_version
from imagefactory.store.tables import Base, Build, Publication, Release
from tests.database import records_at

DIGEST = "d" * 64
NOON = datetime(2025, 11, 21, 12, 0)


@pytest.fixture
def clock(monkeypatch: pytest.MonkeyPatch) -> "Clock":
    clock = Clock()
    monkeypatch.setattr(module, "utc_now", clock)
    monkeypatch.setattr(module, "database_now", lambda _: clock())
    return clock


class Clock:
    """Every look is a second later, unless somebody turns it."""

    def __init__(self) -> None:
        self.now = NOON

    def __call__(self) -> datetime:
        self.now += timedelta(seconds=1)
        return self.now


def reserve(records: Records, name: str = "soe") -> Build:
    return records.reserve(name, Path("/recipes/soe.yaml"), DIGEST, Path("/logs"))


def build_in(records: Records, state: BuildState) -> Build:
    """A build that came to `state` in legal ways."""
    build = reserve(records)
    if state is BuildState.RESERVED:
        return build
    if state is BuildState.INTERRUPTED:
        records.move_build(build, state)
        return build
    records.move_build(build, BuildState.RUNNING)
    if state is not BuildState.RUNNING:
        records.move_build(build, state)
    return build


def released(records: Records, name: str = "soe", content: str = DIGEST) -> Release:
    build = reserve(records, name)
    records.move_build(build, BuildState.RUNNING)
    return records.add_release(build, content_digest=content, files={"a": DIGEST}, images={}, evidence={})


def published_in(records: Records, state: PublicationState) -> Publication:
    publication = records.intend(released(records), "catalogue:/srv")
    for step in {
        PublicationState.INTENDED: [],
        PublicationState.PUBLISHED: [PublicationState.PUBLISHED],
        PublicationState.VERIFIED: [PublicationState.PUBLISHED, PublicationState.VERIFIED],
        PublicationState.FAILED: [PublicationState.FAILED],
        PublicationState.WITHDRAWN: [PublicationState.PUBLISHED, PublicationState.VERIFIED, PublicationState.WITHDRAWN],
        PublicationState.DELETED: [PublicationState.PUBLISHED, PublicationState.VERIFIED, PublicationState.DELETED],
    }[state]:
        records.move_publication(publication, step)
    return publication


def test_what_the_signer_remembers_is_not_given_out_again(records: Records) -> None:
    def after(signed: Version | None) -> Version:
        return build_version(records.reserve("soe", Path("/recipes/soe.yaml"), DIGEST, Path("/logs"), after=signed))

    first = after(None)
    assert after(Version(first.day, 7)) == Version(first.day, 8)
    assert after(Version(first.day, 2)) == Version(first.day, 9)


# -- the tables --------------------------------------------------------------------------------------------------------


def test_the_newest_migration_is_known_and_those_before_it_are_lesser() -> None:
    found = [each.revision for each in ScriptDirectory(str(MIGRATIONS)).walk_revisions()]
    assert found[0] == REVISION
    assert found == sorted(found, reverse=True)
    assert len({len(each) for each in found}) == 1


def test_the_migrations_give_the_tables(empty: Path) -> None:
    engine = create_engine(f"sqlite:///{empty}")
    with engine.connect() as connection:
        context = MigrationContext.configure(connection, opts={"compare_type": True, "compare_server_default": True})
        assert compare_metadata(context, Base.metadata) == []
    engine.dispose()


def migrate(database: Path, revision: str, *, down: bool = False) -> None:
    engine = create_engine(f"sqlite:///{database}")
    config = Config()
    config.set_main_option("script_location", str(MIGRATIONS))
    with engine.begin() as connection:
        config.attributes["connection"] = connection
        (command.downgrade if down else command.upgrade)(config, revision)
    engine.dispose()


def test_what_was_there_before_lifecycles_is_kept_and_active(tmp_path: Path) -> None:
    path = tmp_path / "old.db"
    migrate(path, "0002")
    changed = "2026-01-02 03:04:05.000006"
    with records_at(path) as old:
        old.execute(
            "insert into builds values ('b', 'soe', 20260101, 1, '/r', 'd', 'released', ?, null, null, null, '/l')",
            (changed,),
        )
        old.execute(
            "insert into releases values (7, 'soe', 20260101, 1, 'b', 'd', 'd', '{}', '{}', '{}', ?)", (changed,)
        )
        old.execute(
            "insert into publications values (9, 7, 'glance:a', 'verified', ?, ?, 'id', '{\"name\": \"x\"}')",
            (changed, "2026-05-05 00:00:00.000000"),
        )
    records = Records(path)
    (release,) = records.releases("soe")
    (publication,) = release.publications
    records.close()
    assert (release.id, release.channel, release.held, release.held_reason) == (7, "stable", None, None)
    assert (publication.id, publication.stage, publication.settled) == (9, "active", True)
    assert publication.since == publication.changed == datetime(2026, 1, 2, 3, 4, 5, 6)
    assert publication.details == {"name": "x"}
    migrate(path, "0002", down=True)
    with records_at(path) as old:
        assert old.execute("select id, release_id, target, state, changed, image_id from publications").fetchall() == [
            (9, 7, "glance:a", "verified", changed, "id")
        ]
        columns = {
            row[1] for table in ("releases", "publications") for row in old.execute(f"pragma table_info({table})")
        }
        tables = {row[0] for row in old.execute("select name from sqlite_master where type = 'table'")}
    assert not columns & {"channel", "held", "held_reason", "stage", "since", "settled"}
    assert not tables & {"approvals", "moves"}
    Records(path).close()


def test_a_catalogue_that_was_spelled_in_two_ways_is_one_place(tmp_path: Path) -> None:
    path = tmp_path / "old.db"
    migrate(path, "0003")
    first, later = "2026-01-02 03:04:05.000000", "2026-01-03 03:04:05.000000"
    with records_at(path) as old:
        old.execute(
            "insert into builds values ('b', 'soe', 20260101, 1, '/r', 'd', 'released', ?, null, null, null, '/l')",
            (first,),
        )
        old.execute(
            "insert into releases (id, name, version_day, version_number, build_id, recipe_digest, content_digest,"
            " files, images, evidence, created) values (7, 'soe', 20260101, 1, 'b', 'd', 'd', '{}', '{}', '{}', ?)",
            (first,),
        )
        for number, target, changed in (
            (1, "catalogue:/srv/c", first),
            (2, "catalogue:/srv/recipes/../c", later),
            (3, "catalogue:/srv/d/", first),
            (4, "glance:a", first),
        ):
            old.execute(
                "insert into publications (id, release_id, target, state, changed, since) "
                "values (?, 7, ?, 'verified', ?, ?)",
                (number, target, changed, changed),
            )
        old.execute(
            "insert into moves (at, account, verb, name, version, target, after) "
            "values (?, 'ana', 'succession', 'soe', '20260101.1', 'catalogue:/srv/recipes/../c', 'active')",
            (first,),
        )
    records = Records(path)
    (release,) = records.releases("soe")
    records.close()
    assert {each.id: each.target for each in release.publications} == {
        2: "catalogue:/srv/c",
        3: "catalogue:/srv/d",
        4: "glance:a",
    }
    with records_at(path) as now:
        assert now.execute("select target from moves").fetchall() == [("catalogue:/srv/c",)]
    migrate(path, "0003", down=True)
    Records(path).close()


def test_it_is_kept_when_it_is_opened_again(database: Path) -> None:
    first = Records(database)
    build = reserve(first)
    first.remember(DIGEST, "rootfs", "soe", {"rootfs": DIGEST}, {"epoch": 1})
    first.close()
    second = Records(database)
    assert [each.id for each in second.builds("soe")] == [build.id]
    result = second.result(DIGEST)
    assert result is not None
    assert (result.outputs, result.facts) == ({"rootfs": DIGEST}, {"epoch": 1})
    nothing = dict.fromkeys(("artifacts", "releases", "publications", "approvals", "moves", "schedules"), 0)
    assert second.counts() == {"builds": 1, "step_results": 1, **nothing}
    second.close()


def test_two_processes_may_have_it_open(database: Path) -> None:
    first, second = Records(database), Records(database)
    assert str(build_version(reserve(first))).endswith(".1")
    assert str(build_version(reserve(second))).endswith(".2")
    first.close()
    second.close()


def test_what_is_no_database_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "db"
    path.write_bytes(b"this is no database" * 100)
    with pytest.raises(HomeUnusable, match="cannot be used: file is not a database") as caught:
        Records(path)
    assert caught.value.code == "home-unusable"
    with pytest.raises(HomeUnusable, match="unable to open database file"):
        Records(tmp_path / "no/such/folder/db")


def test_a_database_of_a_later_version_is_refused(database: Path) -> None:
    with records_at(database) as connection:
        connection.execute("UPDATE alembic_version SET version_num = '9999'")
    with pytest.raises(HomeUnusable, match="is of another version"):
        Records(database)


def test_a_full_disk_has_its_own_code(records: Records) -> None:
    with records.session() as session:
        session.connection().exec_driver_sql("PRAGMA max_page_count = 1")
    with pytest.raises(DiskFull) as caught:
        records.remember(DIGEST, "rootfs", "soe", {}, {"much": "x" * 100_000})
    assert caught.value.exit_code == 3


# -- versions ----------------------------------------------------------------------------------------------------------


def versions(records: Records) -> list[str]:
    return [str(build_version(build)) for build in records.builds("soe")]


def test_versions_are_of_a_day_and_count_from_one(records: Records, clock: Clock) -> None:
    reserve(records)
    reserve(records)
    reserve(records, "other")
    assert versions(records) == ["20251121.1", "20251121.2"]
    clock.now = datetime(2025, 11, 21, 23, 59, 58)
    reserve(records)
    reserve(records)
    assert versions(records)[2:] == ["20251121.3", "20251122.1"]


def test_a_version_is_never_given_out_twice(records: Records, clock: Clock) -> None:
    for state in BuildState:
        build_in(records, state)
    clock.now = NOON - timedelta(days=400)
    reserve(records)
    assert versions(records) == [f"20251121.{number}" for number in range(1, len(BuildState) + 2)]


@pytest.mark.usefixtures("clock")
def test_after_ten_comes_eleven(records: Records) -> None:
    for _ in range(12):
        reserve(records)
    assert versions(records)[-3:] == ["20251121.10", "20251121.11", "20251121.12"]


# -- states ------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(("old", "new"), list(itertools.product(BuildState, BuildState)))
def test_a_build_moves_by_the_table_and_in_no_other_way(records: Records, old: BuildState, new: BuildState) -> None:
    build = build_in(records, old)
    if new in BUILD_TRANSITIONS[old]:
        records.move_build(build, new)
        expected = new
    else:
        with pytest.raises(StateConflict, match=f"{old} does not become {new}"):
            records.move_build(build, new)
        expected = old
    assert build.state == expected
    (kept,) = records.builds("soe")
    assert kept.state == expected
    assert (kept.finished is not None) == (not BUILD_TRANSITIONS[expected])


@pytest.mark.parametrize(("old", "new"), list(itertools.product(PublicationState, PublicationState)))
def test_a_publication_moves_by_the_table_and_in_no_other_way(
    records: Records, old: PublicationState, new: PublicationState
) -> None:
    publication = published_in(records, old)
    if new in PUBLICATION_TRANSITIONS[old]:
        records.move_publication(publication, new)
        assert publication.state == new
    else:
        with pytest.raises(StateConflict, match=f"{old} does not become {new}"):
            records.move_publication(publication, new)
        assert publication.state == old


def test_the_tables_know_every_state_and_every_state_can_be_reached() -> None:
    for table, start in (
        (BUILD_TRANSITIONS, BuildState.RESERVED),
        (PUBLICATION_TRANSITIONS, PublicationState.INTENDED),
    ):
        reached = {start}
        for _ in table:
            reached |= {new for old in reached for new in table[old]}  # type: ignore[index]
        assert reached == set(table)


def test_whoever_is_late_loses(records: Records) -> None:
    """Compare-and-set: two who saw the same state cannot both change it."""
    build = build_in(records, BuildState.RUNNING)
    (late,) = records.builds("soe")
    records.move_build(build, BuildState.FAILED, ("disk-full", "no space"))
    with pytest.raises(StateConflict, match="is not running any more"):
        records.move_build(late, BuildState.RELEASED)
    (kept,) = records.builds("soe")
    assert (kept.state, kept.error_code, kept.error_message) == ("failed", "disk-full", "no space")


def test_a_dead_build_cannot_be_released(records: Records) -> None:
    build = build_in(records, BuildState.RUNNING)
    (other,) = records.builds("soe")
    records.move_build(other, BuildState.INTERRUPTED)
    with pytest.raises(StateConflict):
        records.add_release(build, content_digest=DIGEST, files={}, images={}, evidence={})
    assert records.releases() == [], "both in one transaction, or neither"


def test_the_abandoned_are_those_that_never_ended(records: Records) -> None:
    made = {state: build_in(records, state).id for state in BuildState}
    found = {build.id for build in records.abandoned("soe")}
    assert found == {made[BuildState.RESERVED], made[BuildState.RUNNING]}
    assert records.abandoned("other") == []


# -- releases and publications -----------------------------------------------------------------------------------------


@pytest.mark.usefixtures("clock")
def test_a_release_by_its_name_and_version(records: Records) -> None:
    for _ in range(11):
        released(records)
    assert str(release_version(records.release(ReleaseRef.parse("soe")))) == "20251121.11"
    assert str(release_version(records.release(ReleaseRef.parse("soe@20251121.9")))) == "20251121.9"
    for unknown in ("soe@20251121.12", "other"):
        with pytest.raises(ReleaseUnknown, match=f"there is no release {unknown}") as caught:
            records.release(ReleaseRef.parse(unknown))
        assert caught.value.code == "release-unknown"


def test_an_intention_is_recorded_once_for_a_place(records: Records) -> None:
    release = released(records)
    first = records.intend(release, "catalogue:/srv")
    again = records.intend(release, "catalogue:/srv")
    elsewhere = records.intend(release, "catalogue:/mnt")
    assert first.id == again.id != elsewhere.id
    (kept,) = records.releases("soe")
    assert [(each.target, each.state) for each in kept.publications] == [
        ("catalogue:/mnt", "intended"),
        ("catalogue:/srv", "intended"),
    ], "in the order of their names"


@pytest.mark.parametrize("state", [state for state in PublicationState if state is not PublicationState.DELETED])
def test_a_publication_is_intended_anew_until_it_is_deleted(records: Records, state: PublicationState) -> None:
    published_in(records, state)
    (release,) = records.releases()
    assert records.intend(release, "catalogue:/srv").state == PublicationState.INTENDED


@pytest.mark.usefixtures("clock")
def test_verification_has_its_time(records: Records) -> None:
    publication = published_in(records, PublicationState.VERIFIED)
    records.move_publication(publication, PublicationState.FAILED)
    (release,) = records.releases()
    (kept,) = release.publications
    assert kept.verified is not None
    assert kept.verified < kept.changed, "it keeps the time of its last good verification"


@pytest.mark.usefixtures("clock")
def test_results_are_newest_first(records: Records) -> None:
    for number in range(3):
        records.remember(str(number) * 64, "disk", "soe", {}, {})
    records.remember("0" * 64, "disk", "soe", {}, {"again": True})
    assert [result.key[0] for result in records.results()] == ["0", "2", "1"]
    records.forget_result("2" * 64)
    assert [result.key[0] for result in records.results()] == ["0", "1"]


def test_artifacts(records: Records) -> None:
    records.add_artifact(DIGEST, "disk", 1 << 40)
    records.add_artifact(DIGEST, "disk", 1 << 40)
    (artifact,) = records.artifacts()
    assert (artifact.digest, artifact.kind, artifact.size) == (DIGEST, "disk", 1 << 40)
    records.forget_artifact(DIGEST)
    assert records.artifacts() == []


def test_times_are_utc(records: Records) -> None:
    started = reserve(records).started.replace(tzinfo=UTC)
    assert abs((started - datetime.now(UTC)).total_seconds()) < 60
