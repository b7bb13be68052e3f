"""Leases in records that several hosts share: what one holds nobody else has, until it is given back or runs out.

A lease ends by the clock of the database, and is renewed in a third of its time. A holder that cannot renew it is
stopped before it ends, by its own clock since its start from the moment at which it asked last with success, and ended
if it goes on. So no two work on the same, whatever dies, whatever the clocks of hosts say, and also while the database
is gone. An advisory lock of PostgreSQL would be let go when that restarts, while its holder goes on.
"""

import os
import signal
import socket
import threading
import time
from collections.abc import Callable, Collection, Iterator
from contextlib import AbstractContextManager, contextmanager, suppress
from dataclasses import dataclass, field
from math import inf
from select import POLLOUT, poll
from uuid import uuid4

from sqlalchemy import delete, insert, select, true, update
from sqlalchemy.exc import SQLAlchemyError

from imagefactory.errors import Busy, FactoryError
from imagefactory.errors.service import LeaseLost
from imagefactory.store.clock import from_now
from imagefactory.store.lock import BUILDING, CLEANING, WHOLE, FileLocks, on_name, place_key
from imagefactory.store.records import Records
from imagefactory.store.tables import Lease

LIFETIME = 60.0  # seconds
# Parts of a lifetime. Two attempts to renew a lease, and most of a third, come to an end before its holder is stopped.
RENEWAL = 1 / 3  # after which it is renewed
ATTEMPT = 1 / 6  # after which a request that is not answered is made anew
MARGIN = 1 / 4  # before its end, when its holder is stopped
PATIENCE = 1 / 8  # for a holder that was stopped to end its programs and itself
LOOK = 1 / 40  # between two looks at the clock
STDERR = 2


def since_start() -> float:
    """Seconds by a clock that nobody sets, and that goes on while this host sleeps."""
    return time.clock_gettime(time.CLOCK_BOOTTIME)


def interrupt() -> None:
    """Stop what this process does, as Ctrl-C would: its programs are ended with it."""
    signal.pthread_kill(threading.main_thread().ident or 0, signal.SIGINT)


def leave() -> None:
    """End this process, whatever it does and whatever it ignores: the kernel ends its programs with it."""
    stderr = poll()
    stderr.register(STDERR, POLLOUT)
    if stderr.poll(0) == [(STDERR, POLLOUT)]:  # whoever does not read what we say does not keep us
        os.write(STDERR, f"error: a lease was lost, and its holder did not stop in time [{LeaseLost.code}]\n".encode())
    os._exit(LeaseLost.exit_code)


def this_process() -> str:
    """Who holds, for people: HOST:PID."""
    return f"{socket.gethostname()[:200]}:{os.getpid()}"


@dataclass
class Leases:
    """The leases of one process. Who loses one of them loses all: `stop` is called, once, and `kill` when something of
    what was lost is not given back in time."""

    records: Records
    lifetime: float = LIFETIME
    stop: Callable[[], None] = interrupt
    kill: Callable[[], None] = leave
    clock: Callable[[], float] = since_start
    _held: dict[str, float] = field(default_factory=dict)  # by holder, until when it is surely ours
    _lost: set[str] = field(default_factory=set)  # nothing is held while there is one
    _stopped: float = -inf
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
            lost = self._give_back(holder)
        except BaseException as error:  # also an interrupt in the middle of giving it back
            if self._give_back(holder) and not isinstance(error, LeaseLost):
                raise _not_renewed(key) from error
            raise
        if lost:
            raise _not_renewed(key)

    def require(self) -> None:
        """See whether what this process has is surely its own, for whoever is about to do what cannot be undone. The
        database is not asked. Raises LeaseLost."""
        with self._change:
            if not self._held or self._is_over():
                raise LeaseLost("the lease could not be renewed, and others may have it now")

    def _take(self, holder: str, key: str, taken: str, shared: bool) -> None:
        asked = self.clock()
        with self.records.session(alone=f"lease {key}") as session:
            session.execute(delete(Lease).where(Lease.key == key, Lease.until <= from_now()))
            in_the_way = select(Lease).where(Lease.key == key, Lease.shared.is_(False) if shared else true())
            other = session.scalar(in_the_way.limit(1))
            if other is not None:
                raise Busy(f"{taken}: {other.holder.partition('#')[0]}, since {other.taken:%Y-%m-%d %H:%M:%S} UTC")
            row = {"key": key, "holder": holder, "shared": shared}
            session.execute(insert(Lease).values(**row, taken=from_now(), until=from_now(self.lifetime)))
        with self._change:
            stopped = bool(self._lost)
            if not stopped:
                self._held[holder] = asked + self.lifetime
                if self._heart is None:
                    self._heart = threading.Thread(target=self._beat, name="leases", daemon=True)
                    self._heart.start()
        if stopped:
            self._give_back(holder)
            raise _not_renewed(key)

    def _give_back(self, holder: str) -> bool:
        """Whether it was lost before. Such a one runs out, as does one that the database does not take back now."""
        with self._change:
            self._held.pop(holder, None)
            lost = holder in self._lost
            self._lost.discard(holder)
            self._change.notify_all()
        if lost:
            return True
        with suppress(FactoryError, SQLAlchemyError), self.records.session() as session:
            session.execute(delete(Lease).where(Lease.holder == holder))
        return False

    def _beat(self) -> None:
        """Renew what is held, and see that what is lost is given back, until nothing is left. Time is up in time, also
        while an answer does not come."""
        renewal: _Renewal | None = None
        due = self.clock() + self.lifetime * RENEWAL
        while True:
            with self._change:
                self._change.wait_for(lambda: not self._held and not self._lost, self.lifetime * LOOK)
                if not self._held and not self._lost:
                    self._heart = None
                    return
                mine = list(self._held)
            if renewal is not None and renewal.answered.is_set():
                self._note(renewal)
                due = renewal.asked + (self.lifetime * RENEWAL if renewal.kept is not None else 0.0)
                renewal = None
            elif renewal is not None and self.clock() >= renewal.asked + self.lifetime * ATTEMPT:
                self.records.close()  # what is silent here may be so in every connection that is kept
                due, renewal = renewal.asked, None
            if renewal is None and mine and self.clock() >= due:
                renewal = _Renewal(self.records, mine, self.lifetime, self.clock())
            self._stop_what_is_over()

    def _note(self, renewal: "_Renewal") -> None:
        if renewal.kept is None:
            return
        with self._change:
            for holder in renewal.mine & self._held.keys():
                self._held[holder] = renewal.asked + self.lifetime if holder in renewal.kept else 0.0

    def _stop_what_is_over(self) -> None:
        """All at once, for they are one process's: a second interrupt would keep it from ending its programs."""
        with self._change:
            if self._lost and self.clock() >= self._stopped + self.lifetime * PATIENCE:
                self.kill()
            if self._is_over():
                self._lost |= self._held.keys()
                self._held.clear()
                self._stopped = self.clock()
                self.stop()  # now, so that whoever gives it back meanwhile is not stopped later

    def _is_over(self) -> bool:
        return min(self._held.values(), default=inf) < self.clock() + self.lifetime * MARGIN


def _not_renewed(key: str) -> LeaseLost:
    return LeaseLost(f"the lease on {key} could not be renewed")


class _Renewal:
    """One request to renew leases, in a thread of its own. When `answered` is set, `kept` has those that still are."""

    def __init__(self, records: Records, mine: Collection[str], lifetime: float, asked: float) -> None:
        self.mine = frozenset(mine)
        self.asked = asked
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

    def require(self) -> None:
        self.leases.require()

    def _shared(self) -> AbstractContextManager[None]:
        return self.leases.hold(WHOLE, CLEANING, shared=True)
