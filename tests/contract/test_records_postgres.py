"""Records in a real PostgreSQL: each case of those in SQLite, and what only several hosts do to each other."""

import inspect
import os
import signal
import socket
import threading
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack, closing
from datetime import datetime
from pathlib import Path
from typing import Any

import pytest
from alembic import command
from alembic.autogenerate import compare_metadata
from alembic.config import Config
from alembic.runtime.migration import MigrationContext
from hypothesis import settings
from psycopg import sql
from sqlalchemy import Connection, text

from imagefactory.errors import StateConflict
from imagefactory.errors.service import DatabaseRefused, DatabaseUnreachable, SchemaNewer, SchemaOlder
from imagefactory.model.build import BuildState, PublicationState
from imagefactory.model.database_url import DatabaseUrl, parse_database_url
from imagefactory.model.lifecycle import Held, Stage
from imagefactory.settings import read_settings
from imagefactory.store import database as module
from imagefactory.store.database import MIGRATIONS, REVISION, ServiceDatabase
from imagefactory.store.ledger import Ledger
from imagefactory.store.records import Records, build_version, utc_now
from imagefactory.store.tables import Base, Build, Publication, Release
from imagefactory.wiring import factory
from tests.contract.shell import Shell
from tests.fakes.boots import boot_test
from tests.fakes.host import FakeHost
from tests.servers import postgres_fixtures
from tests.servers.postgres import HOST, Postgres, free_port
from tests.servers.postgres_fixtures import Place
from tests.unit import test_ledger, test_records
from tests.unit.test_ledger import Ledgers, published, released, seen_again
from tests.unit.test_records import DIGEST, clock, reserve

__all__ = ["clock"]

# What they look at is a file.
OF_SQLITE = {"test_a_full_disk_has_its_own_code"}
FIXTURES = {"database", "empty", "tmp_path"}


def shared() -> dict[str, Callable[..., None]]:
    """The cases that ask for records, whatever these are in."""
    cases = {**vars(test_records), **vars(test_ledger)}
    wanted = {name: set(inspect.signature(case).parameters) for name, case in cases.items() if name.startswith("test_")}
    return {
        name: cases[name]
        for name, fixtures in wanted.items()
        if "records" in fixtures and not fixtures & FIXTURES and name not in OF_SQLITE
    }


globals().update(shared())


@pytest.fixture
def records(service_database: Place) -> Iterator[Records]:
    """Records that know nothing yet."""
    with closing(Records(service_database.parsed())) as made:
        yield made


@pytest.fixture
def other(service_database: Place) -> Iterator[Records]:
    """The same records, opened by somebody else."""
    with closing(Records(service_database.parsed())) as made:
        yield made


class PostgresLedgers(Ledgers):
    """The same two, on two hosts."""

    server: Postgres

    def new_database(self, stack: ExitStack) -> Path | DatabaseUrl:
        return stack.enter_context(postgres_fixtures.database(self.server, "migrated")).parsed()


@pytest.mark.usefixtures("template_database")
class TestPostgresLedgers(PostgresLedgers.TestCase):  # type: ignore[valid-type,misc]
    settings = settings(max_examples=8, stateful_step_count=30, deadline=None)

    @pytest.fixture(autouse=True)
    def a_server(self, postgres_server: Postgres) -> None:
        PostgresLedgers.server = postgres_server


def test_most_cases_are_run_here_too() -> None:
    assert len(shared()) >= 25


# -- several at once -----------------------------------------------------------------------------------------------


def at_once(place: Place, number: int, action: Callable[[Records, int], Any]) -> list[Any]:
    """What came of each of those who do it at the same moment, each with connections of its own: errors, too."""
    gate = threading.Barrier(number)

    def one(which: int) -> object:
        with closing(Records(place.parsed())) as mine:
            gate.wait(30)
            try:
                return action(mine, which)
            except StateConflict as error:
                return error

    with ThreadPoolExecutor(number) as pool:
        return list(pool.map(one, range(number)))


def test_nobody_gets_the_version_of_another(service_database: Place) -> None:
    def reserve_some(mine: Records, _: int) -> list[Any]:
        return [build_version(reserve(mine)) for _ in range(10)]

    found = [version for versions in at_once(service_database, 6, reserve_some) for version in versions]
    assert len(found) == len(set(found)) == 60
    assert max(version.number for version in found if version.day == max(found).day) <= 60


def test_one_of_several_moves_a_build(service_database: Place, records: Records) -> None:
    for _ in range(5):
        build = reserve(records)
        records.move_build(build, BuildState.RUNNING)

        seen = [records.abandoned("soe")[0] for _ in range(6)]

        def finish(mine: Records, which: int, of: list[Build] = seen) -> int:
            mine.move_build(of[which], BuildState.FAILED, (f"error-{which}", "text with \0 in it"))
            return which

        found = at_once(service_database, 6, finish)
        (winner,) = [each for each in found if isinstance(each, int)]
        kept = records.builds("soe")[-1]
        assert (kept.state, kept.error_code) == ("failed", f"error-{winner}")


def test_several_remember_the_same(service_database: Place, records: Records) -> None:
    def remember(mine: Records, which: int) -> int:
        for _ in range(10):
            mine.remember(DIGEST, "rootfs", "soe", {"rootfs": DIGEST}, {"by": which})
            mine.add_artifact(DIGEST, "disk", which)
        return which

    assert at_once(service_database, 6, remember) == list(range(6))
    assert records.counts()["step_results"] == records.counts()["artifacts"] == 1


def test_several_intend_the_same(service_database: Place, records: Records) -> None:
    for _ in range(5):

        def intend(mine: Records, which: int, of: Release = released(records)) -> Publication:  # noqa: B008 - in turn
            return mine.intend(of, "glance:a", f"image-{which}")

        found = at_once(service_database, 6, intend)
        assert len({publication.id for publication in found}) == len({each.image_id for each in found}) == 1
        assert found[0].state == PublicationState.INTENDED


def test_one_of_several_decides_upon_what_all_of_them_have_seen(service_database: Place, records: Records) -> None:
    """Each holds another release of the name back, because there is one beside it: the last one stays."""
    mine = [released(records) for _ in range(6)]
    seen = Ledger(records).latest("soe")
    found = at_once(
        service_database,
        6,
        lambda each, which: Ledger(each).hold(mine[which], Held.ROLLED_BACK, "bad", "ana", "rollback", seen),
    )
    assert found.count(None) == 1
    assert len([each for each in records.releases("soe") if each.held]) == 1


def test_what_a_place_shows_is_not_settled_by_who_read_it_before_a_decision(
    service_database: Place, records: Records
) -> None:
    for _ in range(20):
        release = released(records)
        published(records, release)
        Ledger(records).unsettle("soe", "glance:a")

        read = [seen_again(records, release) for _ in range(2)]

        def act(each: Records, which: int, of: list[tuple[Release, Publication]] = read) -> str:
            seen, publication = of[which]
            if which:
                Ledger(each).hold(seen, Held.REVOKED, "leaks", "ana", "revoke")
            else:
                Ledger(each).mark_settled(seen, publication, Stage.ACTIVE)
            return "done"

        assert at_once(service_database, 2, act)[1] == "done"
        kept, place = seen_again(records, release)
        assert (kept.held, place.settled) == (Held.REVOKED, False)


# -- the factory ---------------------------------------------------------------------------------------------------


def test_a_host_builds_with_shared_records(
    service_database: Place, host: FakeHost, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    for name, value in {**host.environ, "IMAGEFACTORY_DATABASE": service_database.url()}.items():
        monkeypatch.setenv(name, value)
    host.offer({"bash": "5.2.15-2", "dpkg": "1.21.22", "openssl": "3.0.17-1"}, in_release="first")
    with factory(read_settings(), boot_test=boot_test) as made:
        release = made.build(host.load(), publish=False).release
    assert not (host.home / "imagefactory.db").exists()
    status, said = Shell(capsys).json("releases", "list")
    assert (status, len(said["releases"])) == (0, 1)
    with closing(Records(service_database.parsed())) as records:
        assert [each.build_id for each in records.releases()] == [release.build_id]
    service_database.server.stop()
    assert Shell(capsys).refused("releases", "list") == (4, "database-unreachable")


# -- the tables ----------------------------------------------------------------------------------------------------


def test_the_migrations_give_the_tables(service_database: Place) -> None:
    database = ServiceDatabase(service_database.parsed())
    with database.engine.connect() as connection:
        assert compare_metadata(MigrationContext.configure(connection), Base.metadata) == []
    database.engine.dispose()


def test_several_may_migrate_at_once(empty_database: Place) -> None:
    url = empty_database.parsed()
    with pytest.raises(SchemaOlder, match="has none of our tables") as caught:
        Records(url)
    assert caught.value.exit_code == 4
    with ThreadPoolExecutor(4) as pool:
        assert sorted(pool.map(lambda _: ServiceDatabase(url).migrate(), range(4))) == [False, False, False, True]
    Records(url).close()


@pytest.mark.parametrize(("version", "error"), [("0001", SchemaOlder), ("9999", SchemaNewer)])
def test_tables_of_another_version_are_refused_and_left_alone(
    service_database: Place, version: str, error: type[Exception]
) -> None:
    service_database.server.execute(
        sql.SQL("UPDATE alembic_version SET version_num = {}").format(version), service_database.name
    )
    with pytest.raises(error, match=rf"is of version {version}, and this imagefactory of {REVISION}"):
        Records(service_database.parsed())


def test_what_is_newer_is_not_migrated(service_database: Place) -> None:
    service_database.server.execute(sql.SQL("UPDATE alembic_version SET version_num = '9999'"), service_database.name)
    with pytest.raises(SchemaNewer):
        ServiceDatabase(service_database.parsed()).migrate()


def test_a_migration_that_fails_leaves_nothing(empty_database: Place) -> None:
    empty_database.server.execute(sql.SQL("CREATE TABLE moves (id int)"), empty_database.name)
    with pytest.raises(DatabaseRefused, match="already exists"):
        ServiceDatabase(empty_database.parsed()).migrate()
    with pytest.raises(SchemaOlder, match="has none of our tables"):
        Records(empty_database.parsed())


def test_what_was_there_before_is_brought_along(empty_database: Place) -> None:
    url = empty_database.parsed()
    database = ServiceDatabase(url)
    with database.engine.begin() as connection:
        alembic_to(connection, "0002")
        for statement in (
            "insert into builds values ('b', 'soe', 20260101, 1, '/r', 'd', 'released', now(), null, null, null, '/l')",
            "insert into releases values (7, 'soe', 20260101, 1, 'b', 'd', 'd', '{}', '{}', '{}', now())",
            "insert into publications values (9, 7, 'catalogue:/srv/x/../c', 'verified', '2026-01-02 03:04:05.000006')",
        ):
            connection.execute(text(statement))
    assert ServiceDatabase(url).migrate()
    with closing(Records(url)) as records:
        (release,) = records.releases("soe")
    (publication,) = release.publications
    assert (release.channel, release.held, publication.stage, publication.settled) == ("stable", None, "active", True)
    assert publication.since == publication.changed == datetime(2026, 1, 2, 3, 4, 5, 6)
    assert (publication.target, publication.details) == ("catalogue:/srv/c", {})
    with database.engine.begin() as connection:
        alembic_to(connection, "base", down=True)
        assert not connection.scalar(text("select count(*) from alembic_version"))
    database.engine.dispose()


def alembic_to(connection: Connection, version: str, *, down: bool = False) -> None:
    config = Config()
    config.set_main_option("script_location", str(MIGRATIONS))
    config.attributes["connection"] = connection
    (command.downgrade if down else command.upgrade)(config, version)


# -- what goes wrong -----------------------------------------------------------------------------------------------


def test_a_restart_is_survived_by_the_next_transaction(service_database: Place, records: Records) -> None:
    reserve(records)
    service_database.server.restart()
    reserve(records)
    service_database.server.kill()
    with pytest.raises(DatabaseUnreachable):
        reserve(records)
    service_database.server.start()
    reserve(records)
    assert len(records.builds("soe")) == 3


def test_what_is_lost_in_the_middle_was_never_done(service_database: Place, records: Records) -> None:
    def build(number: int) -> Build:
        return Build(
            id=str(number), name="soe", version_day=20250101, version_number=number, recipe_file="/r",
            recipe_digest=DIGEST, state="reserved", started=utc_now(), logs="/l",
        )  # fmt: skip

    def interrupted() -> None:
        with records.session() as session:
            session.add(build(1))
            session.flush()
            service_database.server.restart()
            session.add(build(2))

    with pytest.raises(DatabaseUnreachable) as caught:
        interrupted()
    assert caught.value.exit_code == 4
    assert records.builds("soe") == []


def test_who_was_thrown_out_says_so(records: Records) -> None:
    def thrown_out() -> None:
        with records.session() as session:
            pid = session.scalar(text("select pg_backend_pid()"))
            assert isinstance(pid, int)
            os.kill(pid, signal.SIGTERM)
            session.execute(text("select pg_sleep(5)"))

    with pytest.raises(DatabaseUnreachable, match="terminating connection"):
        thrown_out()


def test_nobody_waits_for_a_lock_forever(
    service_database: Place, monkeypatch: pytest.MonkeyPatch, records: Records
) -> None:
    monkeypatch.setattr(module, "PATIENCE", "-c lock_timeout=100ms")
    with (
        closing(Records(service_database.parsed())) as hasty,
        records.session(alone="versions of soe"),
        pytest.raises(DatabaseUnreachable, match="lock timeout"),
    ):
        reserve(hasty)
    reserve(records)


@pytest.mark.parametrize("wrong", ["password", "no password", "user", "database"])
def test_who_is_not_let_in(service_database: Place, tmp_path: Path, wrong: str) -> None:
    passwords = tmp_path / "passwords"
    passwords.touch(0o600)
    passwords.write_text("" if wrong == "no password" else "*:*:*:*:a-secret-word")
    server = service_database.server
    url = {
        "password": f"{service_database.url().partition('?')[0]}?passfile={passwords}",
        "no password": f"{service_database.url().partition('?')[0]}?passfile={passwords}",
        "user": f"{server.url('nobody', service_database.name).partition('?')[0]}?passfile={passwords}",
        "database": server.url(database="there-is-none"),
    }[wrong]
    with pytest.raises(DatabaseRefused) as caught:
        Records(parse_database_url(url))
    assert (caught.value.code, caught.value.exit_code) == ("database-refused", 4)
    assert "a-secret-word" not in f"{caught.value}{caught.value.advice}"
    assert server.password not in str(caught.value)


def test_who_was_granted_nothing_is_refused(service_database: Place) -> None:
    service_database.server.add_user("guest")
    try:
        with pytest.raises(DatabaseRefused, match="permission denied"):
            Records(service_database.parsed("guest"))
    finally:
        service_database.server.delete_user("guest")


def test_a_server_that_lets_in_nobody_now_is_no_refusal(service_database: Place) -> None:
    service_database.server.add_user("guest")
    limit = sql.SQL("ALTER ROLE guest CONNECTION LIMIT 0")
    try:
        service_database.server.execute(limit)
        with pytest.raises(DatabaseUnreachable, match="too many connections"):
            Records(service_database.parsed("guest"))
    finally:
        service_database.server.delete_user("guest")


def test_nobody_listens() -> None:
    with pytest.raises(DatabaseUnreachable, match="refused") as caught:
        Records(parse_database_url(f"postgresql://ana@{HOST}:{free_port()}/soe"))
    assert (caught.value.code, caught.value.exit_code) == ("database-unreachable", 4)


def test_a_host_that_nobody_knows() -> None:
    with pytest.raises(DatabaseUnreachable):
        Records(parse_database_url("postgresql://ana@host.invalid/soe"))


def test_somebody_accepts_and_says_nothing(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "CONNECT_TIMEOUT", 2)
    with socket.create_server((HOST, 0)) as silent, pytest.raises(DatabaseUnreachable, match="timeout"):
        Records(parse_database_url(f"postgresql://ana@{HOST}:{silent.getsockname()[1]}/soe"))


def test_somebody_else_answers() -> None:
    with socket.create_server((HOST, 0)) as web:

        def answer() -> None:
            with web.accept()[0] as client:
                client.recv(100)
                client.sendall(b"HTTP/1.1 400 Bad Request\r\n\r\n" + b"x" * 100_000)

        thread = threading.Thread(target=answer)
        thread.start()
        with pytest.raises(DatabaseUnreachable) as caught:
            Records(parse_database_url(f"postgresql://ana@{HOST}:{web.getsockname()[1]}/soe"))
        thread.join()
    assert len(str(caught.value)) < 500
