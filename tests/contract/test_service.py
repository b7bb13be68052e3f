"""The service on a real broker and a real database, each role under an account of its own; its programs are fakes."""

import json
import os
import re
import socket
import time
from collections.abc import Callable, Iterator
from http.client import HTTPConnection
from pathlib import Path
from typing import Any

import pytest
from sqlalchemy import text

from imagefactory.model.job import JobState, Role
from imagefactory.store.tables import Release
from tests.fakes.host import FakeHost, folders
from tests.fakes.team import team
from tests.servers.directories import open_to_others
from tests.servers.postgres import free_port
from tests.servers.postgres_fixtures import Place
from tests.servers.rabbitmq_fixtures import VirtualHost
from tests.servers.team import ACCOUNTS, BEAT, GROUP, Team

STEPS = ("rootfs", "boot-test")  # that write logs where programs are fakes


@pytest.fixture
def everybody(host: FakeHost, service_database: Place, vhost: VirtualHost, tmp_path: Path) -> Iterator[Team]:
    open_to_others(tmp_path)
    with team(host, service_database, vhost, tmp_path / "service") as made:
        yield made


def test_from_a_request_to_a_published_release(everybody: Team, host: FakeHost) -> None:
    everybody.start()
    asked = everybody.run("builds", "request", str(host.recipe_file), "--json")
    assert asked.returncode == 0, asked.stderr
    job = everybody.ended(json.loads(asked.stdout)["job"])
    assert job.state == JobState.RELEASED, (job.error_code, job.error_message)
    assert [path.name for path in folders(everybody.catalogue)] == [str(job.release).partition("@")[2]]
    assert set(map(tuple, everybody.stop().values())) == {(0,)}
    # Whoever asked may read no worker's home.
    logs = everybody.run("builds", "logs", job.id)
    assert logs.returncode == 0, logs.stderr
    said = logs.stdout.split("== ")
    ends = [re.search(rf"^{step}: done on .*\n-- the end of /.*\.log\n.", each) for step in STEPS for each in said]
    assert len(list(filter(None, ends))) == len(STEPS), logs.stdout


def test_what_a_killed_signer_leaves_is_gone_when_it_has_signed(everybody: Team, host: FakeHost) -> None:
    work = everybody.base / Role.SIGN / "work"
    everybody.start()
    with everybody.records() as records, records.session() as session:
        session.execute(text(f"LOCK TABLE {Release.__tablename__} IN SHARE MODE"))  # it may look, and record nothing
        asked = everybody.run("builds", "request", str(host.recipe_file), "--json")
        assert asked.returncode == 0, asked.stderr
        wait(lambda: session.scalar(text("SELECT 1")) == 1 and list(work.glob("*")) != [])  # who is idle loses it
        everybody.kill(Role.SIGN)
        assert list(work.iterdir()) != []
    everybody.start(Role.SIGN)
    job = everybody.ended(json.loads(asked.stdout)["job"])
    assert job.state == JobState.RELEASED, (job.error_code, job.error_message)
    assert list(work.iterdir()) == []


def refused(team: Team, role: str, *argv: str, **environ: str) -> tuple[int, str]:
    """What a process says that does not start: its status, and the code of its error."""
    command = ["beat"] if role == BEAT else ["worker", "--role", role]
    done = team.run(*command, *argv, who=role, environ=environ)
    assert "Traceback" not in done.stderr
    assert "to do: " in done.stderr
    found = re.search(r"^error: .* \[([a-z-]+)\]$", done.stderr, re.MULTILINE)
    assert found is not None, done.stderr
    return done.returncode, found[1]


def passwords_for(team: Team, role: str, place: Place) -> Path:
    """All passwords of a server, as somebody may read them."""
    path = team.base / "passwords"
    path.write_text(place.server.passfile.read_text())
    path.chmod(0o600)
    os.chown(path, ACCOUNTS[role], GROUP)
    return path


@pytest.mark.parametrize("role", [Role.TEST, BEAT])
def test_what_is_wrong_at_the_start_is_said(
    everybody: Team, empty_database: Place, vhost: VirtualHost, tmp_path: Path, role: str
) -> None:
    nowhere = f"127.0.0.1:{free_port()}"
    empty = f"{empty_database.url().partition('?')[0]}?passfile={passwords_for(everybody, role, empty_database)}"
    assert refused(everybody, role, IMAGEFACTORY_BROKER="") == (2, "usage")
    assert refused(everybody, role, IMAGEFACTORY_BROKER=f"amqp://guest@{nowhere}/x") == (4, "broker-unreachable")
    assert refused(everybody, role, IMAGEFACTORY_BROKER=f"{vhost.url()}-other") == (4, "broker-refused")
    assert refused(everybody, role, IMAGEFACTORY_DATABASE=f"postgresql://a@{nowhere}/b") == (4, "database-unreachable")
    assert refused(everybody, role, PGPASSFILE=str(tmp_path / "none")) == (4, "database-refused")
    assert refused(everybody, role, IMAGEFACTORY_DATABASE=empty) == (4, "schema-older")
    with socket.create_server(("127.0.0.1", 0)) as taken:
        where = f"127.0.0.1:{taken.getsockname()[1]}"
        assert refused(everybody, role, "--listen", where) == (3, "watch-unusable")


def test_a_worker_with_too_much_does_not_start(everybody: Team, host: FakeHost) -> None:
    assert refused(everybody, Role.BUILD, IMAGEFACTORY_HOME=str(host.home)) == (3, "overprivileged")
    assert refused(everybody, Role.BUILD, OS_CLOUD="demo") == (3, "overprivileged")


def test_it_answers_for_its_health_and_says_when_the_database_is_gone(everybody: Team, service_database: Place) -> None:
    port = free_port()
    everybody.start(Role.TEST, more=["--listen", f"127.0.0.1:{port}"])
    assert answer(port, "healthz") == (200, {"alive": True})
    status, document = answer(port, "readyz")
    assert (status, document["ready"], set(document["checks"])) == (200, True, {"database", "clock", "broker", "store"})
    service_database.server.stop()
    wait(lambda: answer(port, "readyz")[0] == 503)
    assert answer(port, "readyz")[1]["checks"]["database"] == {"ok": False, "code": "database-unreachable"}
    assert answer(port, "healthz")[0] == 200
    service_database.server.start()
    wait(lambda: answer(port, "readyz")[0] == 200)


def answer(port: int, path: str) -> tuple[int, dict[str, Any]]:
    connection = HTTPConnection("127.0.0.1", port, timeout=30)
    connection.request("GET", f"/{path}")
    said = connection.getresponse()
    return said.status, json.loads(said.read())


def wait(what: Callable[[], bool]) -> None:
    until = time.monotonic() + 60.0
    while not what():
        assert time.monotonic() < until
        time.sleep(0.1)
