"""Clocks of hosts that are wrong, by libfaketime: the wall clock of a process and of those that it starts.

What counts seconds goes on as ever, and the times of files are as they are. Locks and waits of Python go by the former.
"""

import subprocess
from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from tests.servers.debian import installed
from tests.servers.errors import ServerError

PACKAGES = ("faketime", "tcc")
LIBRARY = Path("/usr/lib/x86_64-linux-gnu/faketime/libfaketime.so.1")
SLEEP = Path(__file__).with_name("clock_nanosleep.c")
SHARED = Path("/dev/shm")  # noqa: S108 - where the library keeps what its processes share
RIGHT = 0.0


@dataclass(frozen=True)
class Clock:
    """The clock of a host; its `file` says by how many seconds it is off, `sleep` is a library made of SLEEP."""

    file: Path
    sleep: Path

    @property
    def environ(self) -> Mapping[str, str]:
        """What processes have in their environment whose clock it is."""
        return {
            "LD_PRELOAD": f"{self.sleep}:{LIBRARY}",
            "FAKETIME_TIMESTAMP_FILE": str(self.file),
            "FAKETIME_NO_CACHE": "1",
            "FAKETIME_DONT_FAKE_MONOTONIC": "1",
            "NO_FAKE_STAT": "1",
        }

    def set(self, off: float) -> None:
        """Have it be wrong by so many seconds. Nobody reads half of that."""
        new = self.file.with_suffix(".new")
        new.write_text(f"{off:+.0f}\n")
        new.chmod(0o644)
        new.rename(self.file)

    @contextmanager
    def wrong(self, off: float) -> Iterator[None]:
        self.set(off)
        try:
            yield
        finally:
            self.set(RIGHT)


def clock(file: Path) -> Clock:
    """One that is right. Raises ServerError."""
    for package in PACKAGES:
        if not installed(package):
            raise ServerError(f"{package} is not installed: python -m tests.servers prepare")
    made = Clock(file, file.with_suffix(".so"))
    subprocess.run(["tcc", "-shared", "-nostdlib", "-o", str(made.sleep), str(SLEEP)], check=True)
    made.sleep.chmod(0o644)
    made.set(RIGHT)
    return made


@contextmanager
def clocks(directory: Path, hosts: Iterable[str]) -> Iterator[Mapping[str, Clock]]:
    """A clock for each host; `directory` is new, and everybody comes there. Raises ServerError."""
    directory.mkdir(mode=0o755)
    try:
        yield {host: clock(directory / host) for host in hosts}
    finally:
        _sweep()


def _sweep() -> None:
    """Remove what the library leaves of processes that were killed."""
    for path in SHARED.glob("faketime_shm_*"):
        pid = path.name.rpartition("_")[2]
        if not Path(f"/proc/{pid}").exists():
            for left in (path, SHARED / f"sem.faketime_sem_{pid}"):
                left.unlink(missing_ok=True)
