"""One process at a time works on one image name."""

import os
import signal
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from imagefactory.errors import Busy
from imagefactory.store.lock import FileLocks


@contextmanager
def another_process(directory: Path, name: str) -> Iterator[int]:
    """Another process that holds the lock until it is killed, as a crash would."""
    ready, tell = os.pipe()
    child = os.fork()
    if child == 0:  # pragma: no cover - the other process
        with FileLocks(directory).name(name):
            os.write(tell, b"x")
            signal.pause()
        os._exit(1)
    try:
        os.read(ready, 1)
        yield child
    finally:
        os.kill(child, signal.SIGKILL)
        os.waitpid(child, 0)
        os.close(ready)
        os.close(tell)


def test_the_same_name_is_busy_and_another_is_not(tmp_path: Path) -> None:
    with another_process(tmp_path, "soe"):
        with pytest.raises(Busy, match="another process is working on soe") as caught, FileLocks(tmp_path).name("soe"):
            pass
        assert caught.value.exit_code == 3
        with FileLocks(tmp_path).name("tiny"):
            pass


def test_a_kill_frees_the_lock(tmp_path: Path) -> None:
    with another_process(tmp_path, "soe"):
        pass
    with FileLocks(tmp_path).name("soe"):
        pass


def test_nobody_cleans_up_while_somebody_builds(tmp_path: Path) -> None:
    with (
        another_process(tmp_path, "soe"),
        pytest.raises(Busy, match="another process is building"),
        FileLocks(tmp_path).whole(),
    ):
        pass
    with FileLocks(tmp_path).whole():
        pass


def test_nobody_builds_while_somebody_cleans_up(tmp_path: Path) -> None:
    with FileLocks(tmp_path).whole(), pytest.raises(Busy, match="cleaning up"), FileLocks(tmp_path).name("soe"):
        pass


def test_it_is_let_go_after_an_error(tmp_path: Path) -> None:
    with pytest.raises(KeyError), FileLocks(tmp_path).name("soe"):
        raise KeyError
    with FileLocks(tmp_path).name("soe"):
        pass


def test_each_place_of_a_name_has_a_lock_of_its_own(tmp_path: Path) -> None:
    long = f"catalogue:/{'x' * 300}"
    with (
        FileLocks(tmp_path).place("soe", "glance:a"),
        FileLocks(tmp_path).place("soe", long),
        FileLocks(tmp_path).name("soe"),
    ):
        for name, place in (("soe", "glance:a"), ("soe", long)):
            with pytest.raises(Busy, match=f"working on {name} in {place}"), FileLocks(tmp_path).place(name, place):
                pass
        with FileLocks(tmp_path).place("soe", "glance:b"), FileLocks(tmp_path).place("tiny", "glance:a"):
            pass
