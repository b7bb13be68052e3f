"""Independent pieces of work at once, each in a thread of its own.

What one of them comes to is no concern of the others. A single piece is done here, without a thread.
"""

import os
from collections.abc import Callable, Mapping
from concurrent.futures import Future, ThreadPoolExecutor, wait
from dataclasses import replace
from threading import Lock
from typing import TypeAlias, TypeVar

from imagefactory.errors import FactoryError
from imagefactory.progress import Event, Progress, StepAdvanced
from imagefactory.tools.process import ended_by, go_on
from signing.errors import SigningError

T = TypeVar("T")
Failure: TypeAlias = FactoryError | SigningError
FAILURES = (FactoryError, SigningError)
LOOK = 0.2  # seconds between two looks whether somebody interrupts us
MOST = 16  # pieces at once: each may have a program of its own, with its memory
Work: TypeAlias = Callable[[Progress], T]


def side_by_side(pieces: Mapping[str, Work[T]], progress: Progress) -> dict[str, T | Failure]:
    """Do every piece of work, by its title, and return what each returned or the error with a name that it raised, in
    the order of `pieces`. What a piece tells goes to `progress` under its title.

    KeyboardInterrupt (Ctrl-C) ends all of them, with the programs that they wait for, before it is raised again; none
    begins before all have a thread. What else a piece raises is raised when all have ended.
    """
    if len(pieces) == 1:
        ((title, work),) = pieces.items()
        return {title: _tried(work, progress)}
    stop = os.eventfd(0)
    desk = Lock()
    gate: Future[bool] = Future()  # a pool does not wait for a thread whose start was interrupted
    try:
        with ThreadPoolExecutor(MOST, "side-by-side") as pool:
            started: dict[str, Future[T | Failure]] = {}
            try:
                for title, work in pieces.items():
                    started[title] = pool.submit(_beside, gate, work, _Teller(title, progress, desk), stop)
                gate.set_result(True)
                # The kernel may give a signal to any thread; its handler waits for the main one to wake.
                while wait(started.values(), LOOK).not_done:
                    pass
            except KeyboardInterrupt:
                gate.cancel()
                os.eventfd_write(stop, 1)  # nobody reads it, so all see it, and the pool waits for them
                pool.shutdown(wait=False, cancel_futures=True)
                raise
        return {title: future.result() for title, future in started.items()}
    finally:
        os.close(stop)


def _beside(gate: Future[bool], work: Work[T], progress: Progress, stop: int) -> T | Failure:
    gate.result()  # CancelledError: this one never begins
    with ended_by(stop):
        return _tried(work, progress)


def _tried(work: Work[T], progress: Progress) -> T | Failure:
    try:
        return work(progress)
    except FAILURES as error:
        return error


class _Teller:
    """Passes on what one piece tells, one event at a time, and as its own."""

    def __init__(self, title: str, progress: Progress, desk: Lock) -> None:
        self._title = title
        self._progress = progress
        self._desk = desk

    def __call__(self, event: Event) -> None:
        go_on()
        if isinstance(event, StepAdvanced) and event.step != self._title:
            text = ": ".join(filter(None, (event.step, event.text)))
            event = replace(event, step=self._title, text=text)
        with self._desk:
            self._progress(event)
