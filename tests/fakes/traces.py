"""What a process leaves behind when it is killed: its descendants, mounts, loop devices."""

import ctypes
import os
import subprocess
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path

PR_SET_CHILD_SUBREAPER = 36
_servers: set[int] = set()


@contextmanager
def adopting() -> Iterator[None]:
    """Descendants whose parents die become our children, wherever in the tree they were. Those that are there already,
    servers that tests share, do not count as such."""
    libc = ctypes.CDLL(None, use_errno=True)
    if libc.prctl(PR_SET_CHILD_SUBREAPER, 1, 0, 0, 0) != 0:
        raise OSError(ctypes.get_errno(), "prctl")
    _servers.update(children())
    try:
        yield
    finally:
        _servers.clear()
        libc.prctl(PR_SET_CHILD_SUBREAPER, 0, 0, 0, 0)


def children() -> dict[int, str]:
    """Our children that run, and their children, with their command lines."""
    found: dict[int, str] = {}
    waiting = [os.getpid()]
    while waiting:
        for task in Path(f"/proc/{waiting.pop()}/task").glob("*/children"):
            with suppress(OSError):
                for pid in set(map(int, task.read_text().split())) - _servers:
                    command = Path(f"/proc/{pid}/cmdline").read_bytes().replace(b"\0", b" ").decode(errors="replace")
                    if command:  # a zombie has none
                        found[pid] = command
                    waiting.append(pid)
    return found


def reap() -> None:
    """Collect the adopted that have ended."""
    with suppress(ChildProcessError):
        while os.waitpid(-1, os.WNOHANG)[0]:
            pass


def gone(within: float) -> dict[int, str]:
    """The children that are still there after `within` seconds; returns as soon as there is none."""
    deadline = time.monotonic() + within
    while (left := children()) and time.monotonic() < deadline:
        time.sleep(0.02)
        reap()
    reap()
    return left


@dataclass(frozen=True)
class Host:
    """What must be the same before and after."""

    mounts: str
    loops: str

    @classmethod
    def now(cls) -> "Host":
        loops = subprocess.run(["losetup", "-a"], capture_output=True, text=True, check=True)
        return cls(Path("/proc/self/mounts").read_text(), loops.stdout)
