"""Leases: what one of several hosts has nobody else has, until it gives it back, dies, or cannot say that it lives."""

import re
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path

import pytest
from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, rule, run_state_machine_as_test
from sqlalchemy import text
from sqlalchemy.orm import Session

from imagefactory.errors import Busy
from imagefactory.errors.service import DatabaseUnreachable, LeaseLost
from imagefactory.store.leases import LeaseLocks, Leases
from imagefactory.store.lock import WHOLE, FileLocks
from imagefactory.store.records import Records

SHORT = 0.6  # seconds


@pytest.fixture
def host(records: Records, tmp_path: Path) -> Callable[[str], LeaseLocks]:
    """Makes the locks of a host, which shares nothing but the records with others."""
    return lambda name: LeaseLocks(FileLocks(tmp_path / name), Leases(records))


def changed(records: Records, statement: str) -> None:
    with records.session() as session:
        session.execute(text(statement))


def count(records: Records) -> int:
    with records.session() as session:
        return int(session.scalar(text("select count(*) from leases")) or 0)


def test_hosts_exclude_each_other(host: Callable[[str], LeaseLocks], records: Records) -> None:
    a, b = host("a"), host("b")
    with a.name("soe"):
        with (
            pytest.raises(Busy, match=r"another process is working on soe: \S+:\d+, since [\d-]+ [\d:]+ UTC"),
            b.name("soe"),
        ):
            pass
        with b.name("tiny"), b.place("soe", "glance:a"):
            with pytest.raises(Busy, match="working on soe in glance:a"), a.place("soe", "glance:a"):
                pass
            with a.place("soe", "glance:b"):
                pass
        with pytest.raises(Busy, match="another process is building"), b.whole():
            pass
    with b.whole(), pytest.raises(Busy, match="cleaning up"), a.shared():
        pass
    with b.name("soe"), a.shared():
        pass
    assert count(records) == 0


def test_one_host_excludes_itself_by_files(host: Callable[[str], LeaseLocks], tmp_path: Path) -> None:
    """What is a host's own, as its keys, is changed by whoever holds the files alone."""
    with FileLocks(tmp_path / "a").whole(), pytest.raises(Busy), host("a").name("soe"):
        pass


def test_an_error_gives_it_back(host: Callable[[str], LeaseLocks], records: Records) -> None:
    with pytest.raises(KeyError), host("a").name("soe"):
        raise KeyError
    assert count(records) == 0


def test_who_died_has_it_until_its_time_is_over(records: Records) -> None:
    dead = Leases(records, stop=lambda: None)
    dead._take("dead:1#1", "soe", "taken", shared=False)
    with pytest.raises(Busy, match=r"taken: dead:1, since"), Leases(records).hold("soe", "taken"):
        pass
    changed(records, "update leases set until = '2026-01-01 00:00:00.000000'")
    with Leases(records).hold("soe", "taken"):
        pass
    dead._give_back("dead:1#1")


@contextmanager
def unreachable(alone: str | None = None) -> Iterator[Session]:
    del alone
    raise DatabaseUnreachable("no answer")
    yield


@contextmanager
def silent(alone: str | None = None) -> Iterator[Session]:
    del alone
    time.sleep(10 * SHORT)
    raise DatabaseUnreachable("no answer")
    yield


@pytest.mark.parametrize("gone", [unreachable, silent])
def test_who_cannot_renew_it_is_stopped(
    records: Records, monkeypatch: pytest.MonkeyPatch, gone: Callable[..., object]
) -> None:
    stopped = threading.Event()
    lease = Leases(records, SHORT, stopped.set).hold("soe", "taken")
    lease.__enter__()
    monkeypatch.setattr(records, "session", gone)
    assert stopped.wait(60)
    with pytest.raises(LeaseLost, match="the lease on soe"):
        lease.__exit__(None, None, None)


def test_who_was_taken_for_dead_is_stopped(records: Records) -> None:
    stopped = threading.Event()
    lease = Leases(records, SHORT, stopped.set).hold("soe", "taken")
    lease.__enter__()
    changed(records, "delete from leases")
    assert stopped.wait(60)
    with pytest.raises(LeaseLost):
        lease.__exit__(None, None, None)


def test_what_was_stopped_says_why(records: Records) -> None:
    """Not that somebody pressed Ctrl-C."""
    with pytest.raises(LeaseLost) as lost:
        _be_stopped(records)
    assert isinstance(lost.value.__cause__, KeyboardInterrupt)
    assert (lost.value.code, lost.value.exit_code) == ("lease-lost", 4)


def _be_stopped(records: Records) -> None:
    with Leases(records, SHORT).hold("soe", "taken"):
        changed(records, "delete from leases")
        time.sleep(100 * SHORT)


def test_holders_are_told_by_host_and_process(records: Records) -> None:
    with Leases(records).hold("soe", "taken"), records.session() as session:
        holder = session.scalar(text("select holder from leases"))
    assert re.fullmatch(r"[^#]+:\d+#[0-9a-f]{12}", str(holder))


class Hosts(RuleBasedStateMachine):
    """Three hosts, one name, the whole; against sets."""

    records: Records
    hosts = st.integers(0, 2)

    def __init__(self) -> None:
        super().__init__()
        changed(self.records, "delete from leases")
        self.stacks: list[dict[str, ExitStack]] = [{}, {}, {}]

    def teardown(self) -> None:
        for stacks in self.stacks:
            for stack in stacks.values():
                stack.close()

    def others(self, kind: str) -> bool:
        return any(kind in stacks for stacks in self.stacks)

    @rule(host=hosts, kind=st.sampled_from(["exclusive", "shared"]))
    def take(self, host: int, kind: str) -> None:
        if kind in self.stacks[host]:
            return
        taken = self.others("exclusive") or (kind == "exclusive" and self.others("shared"))
        stack = ExitStack()
        try:
            stack.enter_context(Leases(self.records).hold(WHOLE, "taken", shared=kind == "shared"))
        except Busy:
            assert taken
            return
        assert not taken
        self.stacks[host][kind] = stack

    @rule(host=hosts, kind=st.sampled_from(["exclusive", "shared"]))
    def give_back(self, host: int, kind: str) -> None:
        stack = self.stacks[host].pop(kind, None)
        if stack is not None:
            stack.close()


def test_any_order_of_taking_and_giving_back(records: Records) -> None:
    hosts = type("Hosts", (Hosts,), {"records": records})
    run_state_machine_as_test(hosts, settings=settings(max_examples=30, stateful_step_count=25, deadline=None))
