"""Leases: what one of several hosts has nobody else has, until it gives it back, dies, or cannot say that it lives."""

import re
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from pathlib import Path

import pytest
from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, rule, run_state_machine_as_test
from sqlalchemy import text
from sqlalchemy.exc import SQLAlchemyError
from sqlalchemy.orm import Session

from imagefactory.errors import Busy
from imagefactory.errors.service import DatabaseRefused, DatabaseUnreachable, LeaseLost
from imagefactory.store import leases as module
from imagefactory.store.leases import LIFETIME, LeaseLocks, Leases
from imagefactory.store.lock import WHOLE, FileLocks
from imagefactory.store.records import Records

SHORT = 0.6  # seconds


@pytest.fixture
def host(records: Records, tmp_path: Path) -> Callable[[str], LeaseLocks]:
    """Makes the locks of a host, which shares nothing but the records with others."""
    return lambda name: LeaseLocks(FileLocks(tmp_path / name), Leases(records))


@dataclass
class Sheltered:
    """Leases of a process that only notes how often it is stopped and killed, and whose clock a test sets."""

    records: Records
    lifetime: float = 100 * LIFETIME  # seconds: nothing looks at the clock by itself before a test is over
    now: float = 0.0
    stopped: int = 0
    killed: int = 0

    def __post_init__(self) -> None:
        self.leases = Leases(self.records, self.lifetime, self.stop, self.kill, lambda: self.now)

    def stop(self) -> None:
        self.stopped += 1

    def kill(self) -> None:
        self.killed += 1

    def look(self, part: float) -> tuple[int, int]:
        """How often it was stopped and killed when such a part of a lifetime is over."""
        self.now = part * self.lifetime
        self.leases._stop_what_is_over()
        return self.stopped, self.killed


@pytest.fixture
def sheltered(records: Records) -> Sheltered:
    return Sheltered(records)


def nothing() -> None:
    """Whoever waits for a process that is told to end, on a busy machine, is not killed himself."""


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
    dead = Leases(records, stop=nothing)
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
    lease = Leases(records, SHORT, stopped.set, nothing).hold("soe", "taken")
    lease.__enter__()
    monkeypatch.setattr(records, "session", gone)
    assert stopped.wait(60)
    with pytest.raises(LeaseLost, match="the lease on soe"):
        lease.__exit__(None, None, None)


def test_who_was_taken_for_dead_is_stopped(records: Records) -> None:
    stopped = threading.Event()
    lease = Leases(records, SHORT, stopped.set, nothing).hold("soe", "taken")
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
    with Leases(records, SHORT, kill=nothing).hold("soe", "taken"):
        changed(records, "delete from leases")
        time.sleep(100 * SHORT)


def test_who_loses_one_loses_all_and_is_stopped_once(sheltered: Sheltered) -> None:
    """A second interrupt would keep a process from ending its programs."""
    first, second = ExitStack(), ExitStack()
    first.enter_context(sheltered.leases.hold("soe", "taken"))
    sheltered.now = 0.1 * sheltered.lifetime
    second.enter_context(sheltered.leases.hold("tiny", "taken"))
    assert sheltered.look(0.74) == (0, 0)
    assert sheltered.look(0.76) == (1, 0)
    assert sheltered.look(0.87) == (1, 0), "when the second one is over as well"
    for stack, key in ((second, "tiny"), (first, "soe")):
        with pytest.raises(LeaseLost, match=f"the lease on {key} could not be renewed"):
            stack.close()


def test_who_is_stopped_gets_nothing_new(sheltered: Sheltered, records: Records) -> None:
    lost = ExitStack()
    lost.enter_context(sheltered.leases.hold("soe", "taken"))
    sheltered.look(0.8)
    with pytest.raises(LeaseLost, match="on tiny"), sheltered.leases.hold("tiny", "taken"):
        pass
    assert count(records) == 1, "nobody waits for what nobody has"
    with pytest.raises(LeaseLost):
        lost.close()
    with sheltered.leases.hold("tiny", "taken"):
        assert sheltered.look(0.9) == (1, 0)


def test_who_does_not_stop_is_killed_before_another_has_it(sheltered: Sheltered) -> None:
    lease = ExitStack()
    lease.enter_context(sheltered.leases.hold("soe", "taken"))
    assert sheltered.look(0.76) == (1, 0)
    assert sheltered.look(0.88) == (1, 0)
    assert sheltered.look(0.89) == (1, 1)
    with pytest.raises(LeaseLost):
        lease.close()


def test_who_has_stopped_is_not_killed(sheltered: Sheltered) -> None:
    with pytest.raises(LeaseLost), sheltered.leases.hold("soe", "taken"):
        sheltered.look(0.76)
    assert sheltered.look(0.99) == (1, 0)


def test_it_is_killed_by_itself(records: Records) -> None:
    """Whatever the main thread does."""
    killed = threading.Event()
    lease = ExitStack()
    lease.enter_context(Leases(records, SHORT, nothing, killed.set).hold("soe", "taken"))
    changed(records, "delete from leases")
    assert killed.wait(60)
    with pytest.raises(LeaseLost):
        lease.close()


def test_the_sleep_of_a_host_counts(monkeypatch: pytest.MonkeyPatch) -> None:
    slept = 1000.0
    clock = time.clock_gettime
    before = module.since_start()
    monkeypatch.setattr(time, "clock_gettime", lambda which: clock(which) + slept * (which == time.CLOCK_BOOTTIME))
    assert module.since_start() >= before + slept


def test_a_request_that_is_not_answered_is_made_anew(records: Records, monkeypatch: pytest.MonkeyPatch) -> None:
    """In another connection, and while the first one still waits."""
    process = Sheltered(records, lifetime=2.0)  # it looks at the clock twenty times a second
    session, close = records.session, records.close
    asked, closed, release = threading.Semaphore(0), threading.Semaphore(0), threading.Event()

    @contextmanager
    def first_is_silent(alone: str | None = None) -> Iterator[Session]:
        is_first = not closed.acquire(blocking=False)
        asked.release()
        if is_first:
            release.wait(60)
        with session(alone) as made:
            yield made

    def note() -> None:
        close()
        closed.release()

    with process.leases.hold("soe", "taken"), monkeypatch.context() as patch:
        patch.setattr(records, "session", first_is_silent)
        patch.setattr(records, "close", note)
        process.now = 0.34 * process.lifetime
        assert asked.acquire(timeout=60)
        process.now = 0.51 * process.lifetime
        assert asked.acquire(timeout=60), "a second time"
        given_up = time.monotonic() + 60
        while max(process.leases._held.values()) <= process.lifetime:
            assert time.monotonic() < given_up, "that of the second one does not count"
            time.sleep(0.01)
        release.set()
    assert process.stopped == 0


@pytest.mark.parametrize("error", [DatabaseUnreachable("gone"), DatabaseRefused("not yours"), SQLAlchemyError("odd")])
def test_what_cannot_be_given_back_hides_nothing(
    records: Records, monkeypatch: pytest.MonkeyPatch, error: Exception
) -> None:
    @contextmanager
    def fails(alone: str | None = None) -> Iterator[Session]:
        del alone
        raise error
        yield

    with Leases(records).hold("soe", "taken"):
        monkeypatch.setattr(records, "session", fails)
    monkeypatch.undo()
    lease = Leases(records).hold("tiny", "taken")
    lease.__enter__()
    monkeypatch.setattr(records, "session", fails)
    own = KeyError()
    assert not lease.__exit__(KeyError, own, None)
    assert own.__context__ is None


def test_an_interrupt_while_it_is_given_back_leaves_nothing(records: Records, monkeypatch: pytest.MonkeyPatch) -> None:
    """Else whoever ended in order would be killed."""
    mine = Leases(records)
    take = threading.Condition.__enter__

    def interrupted(condition: threading.Condition) -> bool:
        if condition is mine._change and threading.current_thread() is threading.main_thread():
            monkeypatch.undo()
            raise KeyboardInterrupt
        return take(condition)

    with pytest.raises(KeyboardInterrupt), mine.hold("soe", "taken"):
        monkeypatch.setattr(threading.Condition, "__enter__", interrupted)
    assert not mine._held
    assert count(records) == 0


def test_the_first_one_that_was_lost_is_told(sheltered: Sheltered) -> None:
    """Not the one around it, which was lost with it."""
    with (
        pytest.raises(LeaseLost, match="on soe"),
        sheltered.leases.hold(WHOLE, "taken", shared=True),
        sheltered.leases.hold("soe", "taken"),
    ):
        sheltered.look(0.8)


def test_whoever_asks_is_told_that_it_is_lost(sheltered: Sheltered, tmp_path: Path) -> None:
    """Also before anybody was stopped: after a sleep, it is whoever wakes first."""
    locks, held = LeaseLocks(FileLocks(tmp_path), sheltered.leases), ExitStack()
    held.enter_context(locks.whole())
    sheltered.now = 0.74 * sheltered.lifetime
    locks.require()
    sheltered.now = 0.76 * sheltered.lifetime
    with pytest.raises(LeaseLost, match="others may have it now"):
        locks.require()
    assert sheltered.look(0.76) == (1, 0)
    with pytest.raises(LeaseLost, match="others may have it now"):
        locks.require()
    with pytest.raises(LeaseLost, match=r"on \.factory"):
        held.close()


def test_whoever_lives_has_his_locks_on_files(tmp_path: Path) -> None:
    with FileLocks(tmp_path).whole():
        FileLocks(tmp_path).require()


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
