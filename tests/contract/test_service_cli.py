"""`imagefactory service`, on a real PostgreSQL."""

import json
import os
import shlex
from collections.abc import Iterator
from pathlib import Path

import pytest
from psycopg import sql

from imagefactory.model.broker import account_name, parse_broker
from imagefactory.model.database_url import parse_database_url
from imagefactory.store.database import REVISION
from imagefactory.store.grants import ACCOUNTS, OPERATOR
from imagefactory.store.records import Records
from imagefactory.worker.broker import Broker
from tests.contract.shell import Shell
from tests.servers.postgres_fixtures import Place
from tests.servers.rabbitmq import PROGRAMS, environment
from tests.servers.rabbitmq_fixtures import VirtualHost


@pytest.fixture
def shell(capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Shell:
    monkeypatch.setenv("IMAGEFACTORY_HOME", str(tmp_path / "home"))
    monkeypatch.delenv("IMAGEFACTORY_DATABASE", raising=False)
    return Shell(capsys)


def test_the_tables_are_made_once(shell: Shell, empty_database: Place, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("IMAGEFACTORY_DATABASE", empty_database.url())
    assert shell.refused("releases", "list") == (4, "schema-older")
    planned = {"dry_run": True, "changed": True, "version": REVISION}
    assert shell.json("service", "init", "--dry-run") == (0, planned)
    assert shell.refused("releases", "list") == (4, "schema-older"), "a dry run makes nothing"
    assert shell.text("service", "init") == (0, f"the tables are up to date now: version {REVISION}\n")
    Records(empty_database.parsed()).close()
    for options in ([], ["--dry-run"]):
        status, document = shell.json("service", "init", *options)
        assert (status, document["changed"]) == (0, False)
    assert shell.json("releases", "list") == (0, {"releases": []})


def test_where_there_is_no_database(shell: Shell, monkeypatch: pytest.MonkeyPatch) -> None:
    assert shell.refused("service", "init") == (2, "usage")
    monkeypatch.setenv("IMAGEFACTORY_DATABASE", "postgresql://nobody@127.0.0.1:1/none")
    assert shell.refused("service", "init") == (4, "database-unreachable")
    assert shell.refused("service", "init", "--dry-run") == (4, "database-unreachable")


def files(directory: Path) -> dict[str, tuple[int, bytes]]:
    """Modes and contents of all that is in a directory."""
    found = [path for path in directory.rglob("*") if path.is_file()]
    return {str(path.relative_to(directory)): (path.stat().st_mode & 0o7777, path.read_bytes()) for path in found}


@pytest.fixture
def servers(
    shell: Shell, empty_database: Place, vhost: VirtualHost, monkeypatch: pytest.MonkeyPatch
) -> Iterator[Place]:
    """Where the service is to be; its RabbitMQ is that of this host."""
    del shell  # which begins without
    broker = vhost.broker
    for name, value in {**environment(broker.directory, broker.ports), "PATH": f"{PROGRAMS}:/usr/bin:/bin"}.items():
        monkeypatch.setenv(name, value)
    monkeypatch.setenv("IMAGEFACTORY_DATABASE", empty_database.url())
    monkeypatch.setenv("IMAGEFACTORY_BROKER", vhost.url())
    yield empty_database
    for user in json.loads(broker.api("GET", "users")):
        if user["name"].startswith(account_name("")):
            broker.delete_user(user["name"])


def test_accounts_are_made_with_their_passwords(shell: Shell, servers: Place, tmp_path: Path) -> None:
    folder = tmp_path / "secrets"
    asked = ("service", "init", "--secrets", str(folder))
    status, planned = shell.json(*asked, "--dry-run")
    assert (status, planned["changed"], planned["accounts_changed"], planned["broker"]) == (0, True, True, True)
    assert not folder.exists()
    status, done = shell.json(*asked)
    assert (status, {**done, "dry_run": True}) == (0, planned)
    made = files(folder)
    assert {f"{folder}/{name}" for name in made} == set(done["files"])
    assert {mode for mode, _ in made.values()} == {0o600}
    secrets = [line.rpartition(b":")[2] for name, (_, line) in made.items() if name.endswith(("pgpass", "-password"))]
    assert len(set(secrets)) == len(secrets) == 13
    assert not [secret for secret in secrets if secret.strip() in made["rabbitmq.json"][1]]

    for who in ACCOUNTS:
        said = dict(line.split("=", 1) for line in shlex.split((folder / who / "env").read_text()))
        database = parse_database_url(f"{said['IMAGEFACTORY_DATABASE']}?passfile={said['PGPASSFILE']}")
        assert database.user == account_name(who)
        Records(database).close()
        if who != OPERATOR:
            address = parse_broker(said["IMAGEFACTORY_BROKER"])
            with Broker(address, Path(said["IMAGEFACTORY_BROKER_PASSWORD_FILE"])) as broker:
                broker.check()

    for options in (["--dry-run"], [], ["--no-rabbitmq"]):
        status, again = shell.json(*asked, *options)
        assert (status, again["changed"], again["accounts_changed"], again["files"]) == (0, False, False, [])
    assert files(folder) == made
    servers.server.execute(sql.SQL('grant delete on releases to "imagefactory-test"'), servers.name)
    assert shell.json("service", "init")[0] == 0
    assert shell.json(*asked)[1]["accounts_changed"] is False, "grants are renewed with the tables"


@pytest.mark.usefixtures("servers")
def test_passwords_that_somebody_else_has_written_are_left_alone(shell: Shell, tmp_path: Path) -> None:
    folder = tmp_path / "secrets"
    (folder / "sign").mkdir(parents=True)
    (folder / "sign/pgpass").write_text("one:1:a:b:secret\ntwo:2:a:b:secret\n")
    assert shell.refused("service", "init", "--secrets", str(folder)) == (2, "usage")
    assert "sign/pgpass' is not as" in shell.stderr
    assert list(folder.rglob("env")) == []
    assert shell.refused("service", "init", "--rabbitmq") == (2, "usage")


@pytest.mark.usefixtures("servers")
def test_a_file_keeps_whose_it_is(shell: Shell, tmp_path: Path) -> None:
    """Who moves the database elsewhere need not give everything anew to everybody."""
    folder = tmp_path / "secrets"
    assert shell.json("service", "init", "--secrets", str(folder), "--no-rabbitmq")[0] == 0
    mine = folder / "test" / "env"
    os.chown(mine, 64102, 64100)
    mine.write_text("IMAGEFACTORY_DATABASE=somewhere\n")
    status, done = shell.json("service", "init", "--no-rabbitmq", "--secrets", str(folder))
    assert (status, done["files"], mine.stat().st_uid) == (0, [str(mine)], 64102)
