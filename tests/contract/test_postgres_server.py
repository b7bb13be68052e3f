"""The PostgreSQL of tests is a real one, on loopback only, and leaves nothing behind."""

import re
import subprocess
import sys
import time
from pathlib import Path

import psycopg
import pytest
from psycopg import sql

from tests.servers.postgres import HOST, Postgres, alive, memory_segments, postgres
from tests.servers.postgres_fixtures import Place


def put(place: Place, word: str) -> None:
    with psycopg.connect(place.url()) as connection:
        connection.execute("CREATE TABLE IF NOT EXISTS words (word text)")
        connection.execute("INSERT INTO words VALUES (%s)", (word,))


def words(place: Place) -> list[str]:
    with psycopg.connect(place.url()) as connection:
        return [row[0] for row in connection.execute("SELECT word FROM words ORDER BY word")]


def test_listens_on_loopback_only(postgres_server: Postgres) -> None:
    said = subprocess.run(["ss", "-Hltnp"], capture_output=True, text=True, check=True).stdout.splitlines()
    ours = re.compile(rf"\bpid={postgres_server.pids()[0]},")
    assert {line.split()[3] for line in said if ours.search(line)} == {f"{HOST}:{postgres_server.port}"}


def test_is_nobody_special(postgres_server: Postgres) -> None:
    for pid in postgres_server.pids():
        facts = dict(line.split(":", 1) for line in Path(f"/proc/{pid}/status").read_text().splitlines())
        assert "0" not in facts["Uid"].split()
        assert int(facts["CapEff"], 16) == 0


def test_what_is_written_survives_a_restart_and_a_kill(empty_database: Place) -> None:
    server = empty_database.server
    put(empty_database, "one")
    server.restart()
    assert words(empty_database) == ["one"]
    put(empty_database, "two")
    server.execute(sql.SQL("CHECKPOINT"))
    before = server.pids()
    server.kill()
    assert not server.running
    assert not [pid for pid in before if alive(pid)]
    server.start()
    assert words(empty_database) == ["one", "two"]


def test_stopped_it_answers_nobody(empty_database: Place) -> None:
    empty_database.server.stop()
    with pytest.raises(psycopg.OperationalError, match="refused"):
        psycopg.connect(empty_database.url())


def test_nobody_gets_in_without_a_password(postgres_server: Postgres) -> None:
    postgres_server.add_user("anne")
    with psycopg.connect(postgres_server.url("anne")) as connection:
        assert connection.info.user == "anne"
    for host in (HOST, str(postgres_server.data)):
        with pytest.raises(psycopg.OperationalError, match="no password supplied"):
            psycopg.connect(postgres_server.url("anne"), passfile="/dev/null", host=host)
    postgres_server.delete_user("anne")


def test_a_database_is_made_like_another(postgres_server: Postgres, empty_database: Place) -> None:
    put(empty_database, "copied")
    postgres_server.database("copy", empty_database.name)
    assert words(Place(postgres_server, "copy")) == ["copied"]
    postgres_server.drop("copy")


@pytest.mark.parametrize("how", ["close", "kill"])
def test_nothing_is_left(postgres_server: Postgres, how: str) -> None:
    with postgres(postgres_server.directory.parent / how) as server:
        memory, family = segment(server.directory), server.pids()
        assert len(family) > 3
        getattr(server, how)()
    assert not [pid for pid in family if alive(pid)]
    assert memory not in segments()


def test_dies_with_whoever_started_it(postgres_server: Postgres) -> None:
    program = (
        "import os, signal, sys; from pathlib import Path; from tests.servers.postgres import postgres\n"
        "with postgres(Path(sys.argv[1])) as server:\n"
        "    print(*server.pids(), flush=True)\n"
        "    os.kill(os.getpid(), signal.SIGSTOP)\n"
    )
    directory = postgres_server.directory.parent / "orphan"
    with subprocess.Popen([sys.executable, "-c", program, directory], stdout=subprocess.PIPE, text=True) as starter:
        assert starter.stdout is not None
        family = [int(word) for word in starter.stdout.readline().split()]
        memory = segment(directory)
        assert len(family) > 3
        starter.kill()
    deadline = time.monotonic() + 10
    while any(alive(pid) for pid in family) and time.monotonic() < deadline:
        time.sleep(0.05)
    assert not [pid for pid in family if alive(pid)]
    assert memory not in segments()


def segments() -> set[str]:
    """The numbers of all segments of shared memory that there are."""
    return {line.split()[1] for line in Path("/proc/sysvipc/shm").read_text().splitlines()[1:]}


def segment(directory: Path) -> str:
    """The one that a running server has, whose directory this is."""
    (number,) = memory_segments(directory / "data")
    assert number in segments()
    return number
