"""Leases in records that several hosts share: what one holds nobody else has, until it is given back or runs out.

A lease ends by the clock of the database, and is renewed in a third of its time. A holder that cannot renew it is
stopped before it ends, by its own monotonic clock from the moment at which it asked last with success. So no two work
on the same, whatever dies, whatever the clocks of hosts say, and also while the database is gone. An advisory lock of
PostgreSQL would be let go when that restarts, while its holder goes on.
"""

import os
import signal
import socket
import threading
import time
from collections.abc import Callable, Collection, Iterator
from contextlib import AbstractContextManager, contextmanager, suppress
from dataclasses import dataclass, field
from uuid import uuid4

from sqlalchemy import delete, insert, select, true, update

from imagefactory.errors import Busy, FactoryError
from imagefactory.errors.service import DatabaseUnreachable, LeaseLost
from imagefactory.store.clock import from_now
from imagefactory.store.lock import BUILDING, CLEANING, WHOLE, FileLocks, on_name, place_key
from imagefactory.store.records import Records
from imagefactory.store.tables import Lease

LIFETIME = 60.0  # seconds
MARGIN = 0.25  # of a lifetime: what a holder that is stopped has to end its programs


def interrupt() -> None:
    """Stop what this process does, as Ctrl-C would: its programs are ended with it."""
    signal.pthread_kill(threading.main_thread().ident or 0, signal.SIGINT)


def this_process() -> str:
    """Who holds, for people: HOST:PID."""
    return f"{socket.gethostname()[:200]}:{os.getpid()}"


@dataclass
class Leases:
    """The leases of one process, which calls `stop` when it lost one."""

    records: Records
    lifetime: float = LIFETIME
    stop: Callable[[], None] = interrupt
    _held: dict[str, float] = field(default_factory=dict)  # by holder, until when it is surely ours, monotonic
    _lost: set[str] = field(default_factory=set)
    _change: threading.Condition = field(default_factory=threading.Condition)
    _heart: threading.Thread | None = None

    @contextmanager
    def hold(self, key: str, taken: str, *, shared: bool = False) -> Iterator[None]:
        """Have a lease on `key`, with others if it is `shared`. Entering raises Busy, which says `taken` and by whom;
        leaving raises LeaseLost if it was not ours until then."""
        holder = f"{this_process()}#{uuid4().hex[:12]}"
        self._take(holder, key, taken, shared)
        try:
            yield
        except BaseException as error:
            if self._give_back(holder):
                raise LeaseLost(f"the lease on {key} could not be renewed") from error
            raise
        if self._give_back(holder):
            raise LeaseLost(f"the lease on {key} could not be renewed")

    def _take(self, holder: str, key: str, taken: str, shared: bool) -> None:
        asked = time.monotonic()
        with self.records.session(alone=f"lease {key}") as session:
            session.execute(delete(Lease).where(Lease.key == key, Lease.until <= from_now()))
            in_the_way = select(Lease).where(Lease.key == key, Lease.shared.is_(False) if shared else true())
            other = session.scalar(in_the_way.limit(1))
            if other is not None:
                raise Busy(f"{taken}: {other.holder.partition('#')[0]}, since {other.taken:%Y-%m-%d %H:%M:%S} UTC")
            row = {"key": key, "holder": holder, "shared": shared}
            session.execute(insert(Lease).values(**row, taken=from_now(), until=from_now(self.lifetime)))
        with self._change:
            self._held[holder] = asked + self.lifetime
            if self._heart is None:
                self._heart = threading.Thread(target=self._beat, name="leases", daemon=True)
                self._heart.start()

    def _give_back(self, holder: str) -> bool:
        """Whether it was lost before."""
        with self._change:
            self._held.pop(holder, None)
            self._change.notify_all()
            if holder in self._lost:
                self._lost.discard(holder)
                return True
        with suppress(DatabaseUnreachable), self.records.session() as session:  # or else it runs out
            session.execute(delete(Lease).where(Lease.holder == holder))
        return False

    def _beat(self) -> None:
        """Renew what is held until nothing is. Time is up in time, also while an answer does not come."""
        renewal: _Renewal | None = None
        due = time.monotonic() + self.lifetime / 3
        while True:
            with self._change:
                self._change.wait_for(lambda: not self._held, self.lifetime / 20)
                if not self._held:
                    self._heart = None
                    return
                mine = list(self._held)
            if renewal is None and time.monotonic() >= due:
                renewal = _Renewal(self.records, mine, self.lifetime)
            elif renewal is not None and renewal.answered.is_set():
                self._note(renewal)
                due = renewal.asked + (self.lifetime / 3 if renewal.kept is not None else 0.0)
                renewal = None
            self._stop_what_is_over()

    def _note(self, renewal: "_Renewal") -> None:
        if renewal.kept is None:
            return
        with self._change:
            for holder in renewal.mine & self._held.keys():
                self._held[holder] = renewal.asked + self.lifetime if holder in renewal.kept else 0.0

    def _stop_what_is_over(self) -> None:
        end = time.monotonic() + self.lifetime * MARGIN
        with self._change:
            lost = {holder for holder, until in self._held.items() if until < end}
            for holder in lost:
                del self._held[holder]
            self._lost |= lost
            if lost:  # now, so that whoever gives it back meanwhile is not stopped later
                self.stop()


class _Renewal:
    """One request to renew leases, in a thread of its own. When `answered` is set, `kept` has those that still are."""

    def __init__(self, records: Records, mine: Collection[str], lifetime: float) -> None:
        self.mine = frozenset(mine)
        self.asked = time.monotonic()
        self.kept: frozenset[str] | None = None
        self.answered = threading.Event()
        threading.Thread(target=self._ask, args=(records, lifetime), name="leases", daemon=True).start()

    def _ask(self, records: Records, lifetime: float) -> None:
        still = (Lease.holder.in_(self.mine), Lease.until > from_now())
        renewed = update(Lease).where(*still).values(until=from_now(lifetime)).returning(Lease.holder)
        with suppress(FactoryError):
            with records.session() as session:
                kept = frozenset(session.scalars(renewed))
            self.kept = kept  # now that it is sure
        self.answered.set()


@dataclass(frozen=True)
class LeaseLocks:
    """Leases in shared records, beside locks on files: keys and caches are a host's own."""

    files: FileLocks
    leases: Leases

    @contextmanager
    def name(self, name: str) -> Iterator[None]:
        with self.files.name(name), self._shared(), self.leases.hold(name, on_name(name)):
            yield

    @contextmanager
    def place(self, name: str, place: str) -> Iterator[None]:
        taken = f"{on_name(name)} in {place}"
        with self.files.place(name, place), self._shared(), self.leases.hold(place_key(name, place), taken):
            yield

    @contextmanager
    def shared(self) -> Iterator[None]:
        with self.files.shared(), self._shared():
            yield

    @contextmanager
    def whole(self) -> Iterator[None]:
        with self.files.whole(), self.leases.hold(WHOLE, BUILDING):
            yield

    def _shared(self) -> AbstractContextManager[None]:
        return self.leases.hold(WHOLE, CLEANING, shared=True)
