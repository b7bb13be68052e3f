"""Several pieces of work at once: what each comes to, what is told of each, and how all of them end."""

import os
import signal
import threading
from collections.abc import Callable
from functools import partial

import pytest

from imagefactory.errors import CloudForbidden, CloudUnreachable
from imagefactory.progress import Event, Progress, StepAdvanced, StepStarted, silent
from imagefactory.tools.process import go_on
from imagefactory.tools.side_by_side import MOST, side_by_side
from signing.errors import DigestMismatch

SOON = 10.0  # seconds that nothing here takes


def returning(value: int) -> Callable[[Progress], int]:
    return lambda _: value


def raising(error: BaseException) -> Callable[[Progress], int]:
    def work(_: Progress) -> int:
        raise error

    return work


def test_what_fails_is_no_concern_of_the_others() -> None:
    forbidden, mismatch = CloudForbidden("no"), DigestMismatch("other bytes")
    pieces = {"b": raising(forbidden), "a": returning(1), "c": raising(mismatch), "d": returning(2)}
    done = side_by_side(pieces, silent)
    assert list(done.items()) == [("b", forbidden), ("a", 1), ("c", mismatch), ("d", 2)]


def test_none_and_one() -> None:
    assert side_by_side(dict[str, Callable[[Progress], int]](), silent) == {}
    here = threading.current_thread()
    assert side_by_side({"one": lambda _: threading.current_thread()}, silent) == {"one": here}
    refused = CloudUnreachable("gone")
    assert side_by_side({"one": raising(refused)}, silent) == {"one": refused}


def test_they_do_run_at_once() -> None:
    together = threading.Barrier(MOST)

    def work(_: Progress) -> bool:
        together.wait(SOON)
        return True

    assert all(side_by_side({str(number): work for number in range(MOST)}, silent).values())


def test_what_is_told_says_of_whom_and_comes_one_by_one() -> None:
    told: list[Event] = []
    inside = threading.Lock()

    def progress(event: Event) -> None:
        assert inside.acquire(blocking=False), "two at a time"
        told.append(event)
        inside.release()

    def work(title: str, tell: Progress) -> None:
        tell(StepStarted(title, "why"))
        for number in range(200):
            tell(StepAdvanced(title, number, 200, "bytes"))
        tell(StepAdvanced("list", 0, 0, "", "signing"))

    side_by_side({title: partial(work, title) for title in ("a", "b")}, progress)
    for title in ("a", "b"):
        mine = [event for event in told if isinstance(event, StepAdvanced) and event.step == title]
        assert [event.done for event in mine[:-1]] == list(range(200))
        assert mine[-1].text == "list: signing"


def test_what_has_no_name_is_raised_when_all_have_ended() -> None:
    ended = threading.Event()

    def slow(_: Progress) -> None:
        threading.Event().wait(0.2)
        ended.set()

    with pytest.raises(ZeroDivisionError):
        side_by_side({"bad": raising(ZeroDivisionError()), "slow": slow}, silent)
    assert ended.is_set()


def test_none_begins_when_a_start_is_interrupted(monkeypatch: pytest.MonkeyPatch) -> None:
    """A pool does not know, and so does not wait for, a thread whose start() was interrupted."""
    begun: list[str] = []
    threads: list[threading.Thread] = []
    start = threading.Thread.start

    def interrupted(thread: threading.Thread) -> None:
        threads.append(thread)
        start(thread)
        if len(threads) == 2:
            raise KeyboardInterrupt

    def work(title: str, _: Progress) -> None:
        begun.append(title)

    monkeypatch.setattr(threading.Thread, "start", interrupted)
    with pytest.raises(KeyboardInterrupt):
        side_by_side({title: partial(work, title) for title in ("a", "b", "c")}, silent)
    for thread in threads:
        thread.join(SOON)
    assert begun == []


@pytest.mark.parametrize("tells", [True, False])
def test_who_interrupts_one_ends_all(tells: bool) -> None:
    """Each sees it the next time that it tells something, or looks."""
    ended: list[BaseException] = []
    begun = threading.Barrier(3)

    def work(tell: Progress) -> None:
        begun.wait(SOON)
        try:
            while True:
                threading.Event().wait(0.01)
                if tells:
                    tell(StepAdvanced("x", 1, 2, "bytes"))
                else:
                    go_on()
        except KeyboardInterrupt as error:
            ended.append(error)
            raise

    def interrupt() -> None:
        begun.wait(SOON)
        os.kill(os.getpid(), signal.SIGINT)

    teller = threading.Thread(target=interrupt)
    teller.start()
    with pytest.raises(KeyboardInterrupt):
        side_by_side({"a": work, "b": work}, silent)
    teller.join()
    assert len(ended) == 2
    go_on()  # whoever comes next is not concerned
