"""Leases in a real PostgreSQL: holders that are killed, and a server that restarts or is gone."""

import os
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing, contextmanager
from pathlib import Path

import pytest
from sqlalchemy import text

from imagefactory import wiring
from imagefactory.errors import Busy
from imagefactory.errors.service import LeaseLost
from imagefactory.settings import read_settings
from imagefactory.store.leases import LeaseLocks, Leases
from imagefactory.store.records import Records
from imagefactory.tools.process import BASE_ENVIRONMENT, run
from tests.servers.postgres import alive
from tests.servers.postgres_fixtures import Place

SHORT = 8.0  # seconds: a busy machine may let a process wait for one or two
HOSTS = 6
LONG = 3 * SHORT  # for whoever is not to be late by seconds
HOLDER = """
import signal, sys, time
from contextlib import ExitStack
from imagefactory.model.database_url import parse_database_url
from imagefactory.store.leases import Leases
from imagefactory.store.records import Records
from imagefactory.tools.process import BASE_ENVIRONMENT, start
records = Records(parse_database_url(sys.argv[1]))
if "deaf" in sys.argv:
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # as a shell starts what is to be in the background
with ExitStack() as several:
    for _ in range(4):  # connections that it keeps
        several.enter_context(records.session()).connection()
with (
    Leases(records, float(sys.argv[2])).hold("soe", "taken"),
    start(["sleep", "600"], env=BASE_ENVIRONMENT, timeout=600.0) as program,
):
    print("held", flush=True)
    try:
        program.wait()
    except KeyboardInterrupt:
        print(time.monotonic(), flush=True)
        raise
"""


@pytest.fixture
def records(service_database: Place) -> Iterator[Records]:
    """Records that know nothing yet."""
    with closing(Records(service_database.parsed())) as made:
        yield made


@contextmanager
def another_process(place: Place, lifetime: float = SHORT, *more: str) -> Iterator["subprocess.Popen[str]"]:
    """Another process that has a program, holds the lease, and renews it, until it is stopped or killed."""
    command = [sys.executable, "-c", HOLDER, place.url(), str(lifetime), *more]
    with subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True) as holder:
        try:
            assert holder.stdout is not None
            assert holder.stdout.readline() == "held\n"
            yield holder
        finally:
            holder.kill()


def is_free(records: Records) -> bool:
    try:
        with Leases(records).hold("soe", "taken"):
            return True
    except Busy:
        return False


def test_who_is_killed_has_it_until_its_time_is_over(service_database: Place, records: Records) -> None:
    with another_process(service_database) as holder:
        time.sleep(1.5 * SHORT)  # it is renewed
        assert not is_free(records)
        killed = time.monotonic()
        holder.kill()
        assert not is_free(records)
        while not is_free(records):
            assert time.monotonic() - killed < 10 * SHORT
            time.sleep(0.1)


def test_it_survives_a_restart(service_database: Place, records: Records) -> None:
    with another_process(service_database) as holder:
        service_database.server.restart()
        for _ in range(10):
            assert not is_free(records)
            time.sleep(SHORT / 4)
        assert holder.poll() is None


def test_who_cannot_reach_the_server_is_stopped_before_another_has_it(
    service_database: Place, records: Records
) -> None:
    with another_process(service_database) as holder:
        renewed = time.monotonic()  # at the latest
        service_database.server.stop()
        assert holder.stdout is not None
        stopped = float(holder.stdout.readline())
        assert stopped < renewed + SHORT, "when it ends"
        assert holder.wait(10 * SHORT) != 0
        assert holder.stderr is not None
        assert "LeaseLost: lease-lost: the lease on soe could not be renewed" in holder.stderr.read()
        service_database.server.start()
    while not is_free(records):
        assert time.monotonic() - renewed < 20 * SHORT
        time.sleep(0.1)


def test_who_does_not_hear_that_is_killed_before_another_has_it(service_database: Place) -> None:
    with another_process(service_database, LONG, "deaf") as holder:
        programs = children(holder.pid)
        assert programs
        renewed = time.monotonic()  # at the latest
        service_database.server.stop()
        assert holder.wait(10 * LONG) == LeaseLost.exit_code
        assert time.monotonic() < renewed + LONG, "when it ends"
        assert holder.stderr is not None
        assert "[lease-lost]" in holder.stderr.read()
        while any(alive(program) for program in programs):
            assert time.monotonic() - renewed < 10 * LONG, "its programs die with it"
            time.sleep(0.01)


def children(pid: int) -> list[int]:
    return [int(child) for child in Path(f"/proc/{pid}/task/{pid}/children").read_text().split()]


def test_connections_that_are_silent_cost_nobody_his_lease(service_database: Place, records: Records) -> None:
    """All that a process had when the other end of them went without a word."""
    with another_process(service_database) as holder, silenced(records) as silent:
        assert silent >= 4
        held = time.monotonic()
        while time.monotonic() - held < 2 * SHORT:
            assert not is_free(records)
            time.sleep(SHORT / 4)
        assert holder.poll() is None


@contextmanager
def silenced(records: Records) -> Iterator[int]:
    """Nobody is answered who is connected now, but us; how many that are."""
    with records.session() as session:
        others = "select pid from pg_stat_activity where datname = current_database() and pid <> pg_backend_pid()"
        pids = list(session.scalars(text(others)))
    for pid in pids:
        os.kill(pid, signal.SIGSTOP)
    try:
        yield len(pids)
    finally:
        for pid in pids:
            os.kill(pid, signal.SIGCONT)


def test_many_hosts_want_it_at_once(service_database: Place) -> None:
    gate, refused = threading.Barrier(HOSTS), threading.Semaphore(0)

    def one(_: int) -> bool:
        with closing(Records(service_database.parsed())) as mine:
            gate.wait()
            try:
                with Leases(mine).hold("soe", "taken"):
                    return all(refused.acquire(timeout=60) for _ in range(HOSTS - 1))
            except Busy:
                refused.release()
                return False

    with ThreadPoolExecutor(HOSTS) as pool:
        assert sum(pool.map(one, range(HOSTS))) == 1


def test_a_factory_with_shared_records_has_leases(service_database: Place, tmp_path: Path) -> None:
    homes = [
        read_settings(
            {
                "HOME": str(tmp_path),
                "PATH": os.environ["PATH"],
                "IMAGEFACTORY_HOME": str(tmp_path / host),
                "IMAGEFACTORY_DATABASE": service_database.url(),
            }
        )
        for host in ("a", "b")
    ]
    with wiring.factory(homes[0]) as here, wiring.factory(homes[1]) as there:
        assert isinstance(here.locks, LeaseLocks)
        with here.locks.name("soe"), pytest.raises(Busy, match="working on soe"), there.locks.name("soe"):
            pass
        with there.locks.name("soe"):
            pass


def test_it_is_stopped_as_if_by_ctrl_c(records: Records) -> None:
    """So that the programs of whoever lost it are ended, too."""
    with pytest.raises(LeaseLost) as lost:
        _lose_it(records)
    assert isinstance(lost.value.__cause__, KeyboardInterrupt)
    assert signal.getsignal(signal.SIGINT) is signal.default_int_handler


def _lose_it(records: Records) -> None:
    with Leases(records, SHORT, kill=lambda: None).hold("soe", "taken"):
        records._database.engine.dispose()
        with records.session() as session:
            session.connection().exec_driver_sql("delete from leases")
        run(["sleep", "60"], env=BASE_ENVIRONMENT, timeout=60.0)
