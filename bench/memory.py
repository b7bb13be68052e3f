"""How much memory our own processes take: not the programs that they start."""

import subprocess
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

OURS = (b"bin/imagefactory\0", b"imagefactory.hands.")
INTERVAL = 0.1  # seconds


@dataclass(frozen=True)
class Peaks:
    """The highest resident set of each of our processes, in bytes, while something was done; `goal` is for each."""

    doing: str
    goal: int
    sizes: Mapping[str, int]

    @property
    def met(self) -> bool:
        return all(size < self.goal for size in self.sizes.values())

    def lines(self) -> list[str]:
        shown = [f"  {name:40} {size / (1 << 20):6.1f} MiB" for name, size in sorted(self.sizes.items())]
        goal = f"  goal: below {self.goal >> 20} MiB: {'met' if self.met else 'MISSED'}"
        return [f"peak memory of our processes in {self.doing}", *shown, goal]


def peak_of_build(argv: Sequence[str | Path], log: Path) -> dict[str, int]:
    """Run a build and return the highest resident set of each of our processes, in bytes, by what it is."""
    peaks: dict[str, int] = {}
    with log.open("ab") as output:
        build = subprocess.Popen(
            [str(part) for part in argv], stdin=subprocess.DEVNULL, stdout=output, stderr=subprocess.STDOUT
        )
        while build.poll() is None:
            for name, size in _ours():
                peaks[name] = max(peaks.get(name, 0), size)
            time.sleep(INTERVAL)
    if build.returncode != 0:
        raise RuntimeError(f"the build failed; see {log}")
    return peaks


def _ours() -> list[tuple[str, int]]:
    found = []
    for process in Path("/proc").glob("[0-9]*"):
        try:
            command = (process / "cmdline").read_bytes()
            status = (process / "status").read_text()
        except OSError:  # it ended meanwhile
            continue
        arguments = command.split(b"\0")
        if b"python" not in arguments[0] or not any(mark in command for mark in OURS):
            continue
        peak = next((line for line in status.splitlines() if line.startswith("VmHWM:")), None)
        if peak:
            hand = next((a for a in arguments if a.startswith(b"imagefactory.hands.")), b"imagefactory")
            found.append((hand.decode(), int(peak.split()[1]) * 1024))
    return found
