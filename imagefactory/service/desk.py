"""What a worker does with a task that it is told of: claim it, have it done in a process of its own, say what came.

The process gets its task, and everything else from its environment, which is the worker's. Beside it, one thread renews
the lease; where that is lost, or the job is cancelled, the process is ended, with all that it has started.
"""

import os
import socket
import sys
import threading
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Final, TypeVar

from tenacity import Retrying, retry_if_exception_type, stop_after_delay, wait_fixed

from imagefactory.errors import Busy, FactoryError, HostError, RemoteError
from imagefactory.errors.service import DatabaseRefused, DatabaseUnreachable, HostClockOff
from imagefactory.model.job import Role
from imagefactory.service.host_clock import HostClock
from imagefactory.service.logs import about, logger
from imagefactory.service.metrics import Metrics
from imagefactory.service.outcome import Errand, Outcome, logged, passes
from imagefactory.store.job_rows import Call, Held
from imagefactory.store.jobs import Jobs
from imagefactory.tools.hand import converse
from imagefactory.tools.process import ended_by

LEASE: Final = 60.0  # seconds that a task is ours when nobody renews it
PULSES: Final = 20  # how often it is renewed in that time; as often we see whether a step is to be stopped
MARGIN: Final = 0.2  # of a lease, before its end, in which a step must have been stopped
STEP_TIMEOUT: Final = 2 * 86400.0  # seconds; what a step starts has shorter deadlines of its own
WAIT_FOR_OTHERS: Final = 30.0  # seconds until a task is begun again that found somebody else at work, or a wrong clock
MOST_JOBS: Final = 64  # at once on one host
R = TypeVar("R")
STEP: Final = (sys.executable, "-I", "-m", "imagefactory.service.step")


@dataclass
class Watched:
    """What is known of a task while it runs. `why` says why it is to be stopped: it is lost, cancelled, or wanted
    back. `timely` is False once the clock of this host was wrong."""

    stop: int
    progress: dict[str, Any] = field(default_factory=dict)
    why: str | None = None
    timely: bool = True

    def end(self, why: str) -> None:
        """Have the step end, for the first reason that there is."""
        self.why = self.why or why
        os.eventfd_write(self.stop, 1)


@dataclass
class Desk:
    """Does the tasks of one role. `tell` sends messages; `log` takes what steps complain about."""

    jobs: Jobs
    role: Role
    tell: Callable[[Sequence[Call]], None]
    environment: Mapping[str, str]
    log: Path
    step: Sequence[str] = STEP
    lease: float = LEASE
    metrics: Metrics | None = None
    clock: HostClock = field(default_factory=HostClock)

    def __post_init__(self) -> None:
        self._name = f"{socket.gethostname()}:{os.getpid()}"
        self._all: dict[str, Watched] = {}
        self._stopping = False
        self._renewers = ThreadPoolExecutor(MOST_JOBS, thread_name_prefix="renewer")

    def run(self, task_id: str) -> None:
        """Do a task, if it is there to be had. What goes wrong with it is in the records; what goes wrong with these is
        in our log, and left to whoever sweeps."""
        try:
            held = None if self._stopping else self._claim(task_id)
            if held is not None:
                with about(held.task.job_id, task_id):
                    self._do(held)
        except (RemoteError, HostError) as error:
            logger().warning("a task is left to others", task=task_id, code=error.code, why=error.message)

    def stop(self) -> None:
        """Take nothing more."""
        self._stopping = True

    def hand_back(self) -> None:
        """Give back what runs."""
        for watched in list(self._all.values()):
            watched.end("stopping")

    def _claim(self, task_id: str) -> Held | None:
        """Have a task, unless the clock of this host is wrong: then others may have it."""
        asked = self.clock.steady()
        held = self.jobs.claim(task_id, self.role, self._name, self.lease)
        if held is None or held.task.claimed is None:
            return held
        self.clock.hear(held.task.claimed, asked)
        try:
            self.clock.require()
        except HostClockOff as error:
            try:
                self._patiently(self.jobs.hand_back, held, WAIT_FOR_OTHERS)
            finally:  # when it is in nobody's hands any more, for whoever reads this
                logger().error("a task is left to others", task=task_id, code=error.code, why=error.message)
            return None
        return held

    def _do(self, held: Held) -> None:
        step, started = held.task.step, time.monotonic()
        logger().info("a step begins", step=step, subject=held.task.subject, attempt=held.task.attempt)
        with self._alive(held) as watched:
            try:
                outcome = self._step(held, watched)
            except KeyboardInterrupt:
                logger().warning("a step was stopped", step=step, why=watched.why)
                self._stopped(held, watched)
            except FactoryError as error:
                logger().error("a step failed", step=step, code=error.code, why=error.message, lines=error.lines)
                self._failed(held, error, watched)
            else:
                self._done(held, outcome)
                logger().info("a step is done", step=step, said=outcome.result.get("said"))
        if self.metrics is not None:
            self.metrics.stepped(step, time.monotonic() - started)

    def _step(self, held: Held, watched: Watched) -> Outcome:
        def hear(message: Mapping[str, Any]) -> None:
            if "call" in message:
                role, task_id = message["call"]
                self.tell([Call(Role(role), task_id)])
            elif "note" in message:
                logger().warning("a step says", note=message["note"])
            else:
                watched.progress = {"text": message["advance"], "done": message["done"], "total": message["total"]}

        errand = Errand.of(held.task, held.job)
        request = {"action": "run", "errand": errand.to_json()}
        with ended_by(watched.stop):
            answer = converse(
                self.step, request, environment=self.environment, log=self.log, hear=hear, timeout=STEP_TIMEOUT
            )
        return Outcome.from_json(answer)

    def _done(self, held: Held, outcome: Outcome) -> None:
        calls = self._patiently(
            self.jobs.done,
            held,
            outcome.result,
            outcome.then,
            course=outcome.course,
            end=outcome.end,
            release=outcome.release,
        )
        self.tell(calls)

    def _failed(self, held: Held, error: FactoryError, watched: Watched) -> None:
        # With a wrong clock certificates and signatures seem to be what they are not: such a failure proves nothing.
        if isinstance(error, Busy | HostClockOff) or not (watched.timely and self.clock.right):
            self._patiently(self.jobs.hand_back, held, WAIT_FOR_OTHERS)
            return
        document = {
            "code": error.code,
            "message": error.message,
            "advice": error.advice,
            "log": str(error.log) if error.log else None,
            "lines": list(error.lines),
        }
        if self.metrics is not None:
            self.metrics.failed(error.code)
        details = {"error": document, "host": socket.gethostname(), **logged(*filter(None, [error.log]))}
        self._patiently(self.jobs.fail, held, error.code, error.message, again=passes(error), details=details)

    def _patiently(self, record: Callable[..., R], *args: object, **options: object) -> R:
        """Record something for as long as the task is ours, though the database may be restarted meanwhile."""
        patient = Retrying(
            retry=retry_if_exception_type(DatabaseUnreachable),
            stop=stop_after_delay(self.lease * (1 - MARGIN)),
            wait=wait_fixed(self.lease / PULSES),
            reraise=True,
        )
        return patient(record, *args, **options)

    def _stopped(self, held: Held, watched: Watched) -> None:
        if watched.why == "cancelled":
            self.jobs.stopped(held)
        elif watched.why == "stopping":
            call = self.jobs.hand_back(held)
            self.tell([call] if call else [])

    @contextmanager
    def _alive(self, held: Held) -> Iterator[Watched]:
        """Renew the lease of a task until we are done with it."""
        watched, over = Watched(os.eventfd(0)), threading.Event()
        self._all[held.task.id] = watched
        renewing = self._renewers.submit(self._renew, held, watched, over)
        try:
            yield watched
        finally:
            over.set()
            renewing.result()
            del self._all[held.task.id]
            os.close(watched.stop)

    def _renew(self, held: Held, watched: Watched, over: threading.Event) -> None:
        renewed = time.monotonic()
        while not over.wait(self.lease / PULSES):
            if watched.timely and not self.clock.right:
                logger().error("the clock of this host is wrong", task=held.task.id, code=HostClockOff.code)
                watched.timely = False
            with suppress(DatabaseUnreachable, DatabaseRefused):
                beat = self.jobs.beat(held, self.lease, watched.progress)
                renewed = time.monotonic()
                if not beat.alive:
                    watched.end("lost")
                elif beat.cancel:
                    watched.end("cancelled")
            if time.monotonic() - renewed > self.lease * (1 - MARGIN):
                watched.end("lost")
