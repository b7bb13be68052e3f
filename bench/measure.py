"""Run commands side by side and compare them: medians of interleaved runs, and ratios. Never a lone time."""

import os
import statistics
import subprocess
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TypeAlias

Candidate: TypeAlias = Callable[[], None]


@dataclass(frozen=True)
class Comparison:
    """Seconds of ours and of each peer, run in turns; `limit` is what the ratio to the first peer should not pass, or,
    `in_seconds`, what our own median should not. `notes` say what the peers are."""

    name: str
    seconds: Mapping[str, tuple[float, ...]]
    limit: float
    in_seconds: bool = False
    notes: tuple[str, ...] = ()

    @property
    def medians(self) -> dict[str, float]:
        return {name: statistics.median(times) for name, times in self.seconds.items()}

    @property
    def ratios(self) -> dict[str, float]:
        """Ours divided by each peer."""
        ours, *peers = self.medians.items()
        return {name: ours[1] / median for name, median in peers}

    @property
    def met(self) -> bool:
        """Whether the goal was reached."""
        reached = next(iter((self.medians if self.in_seconds else self.ratios).values()))
        return reached <= self.limit

    def lines(self) -> list[str]:
        ours = next(iter(self.seconds))
        shown = [f"{self.name} ({len(self.seconds[ours])} interleaved runs, medians)"]
        for name, median in self.medians.items():
            spread = f"{min(self.seconds[name]):.2f}-{max(self.seconds[name]):.2f}"
            ratio = "" if name == ours else f"  ours is {self.ratios[name]:.2f}x of it"
            shown.append(f"  {name:58} {median:8.2f} s  ({spread}){ratio}")
        shown += [f"  {note}" for note in self.notes]
        goal = f"{self.limit:.1f} s" if self.in_seconds else f"{self.limit:.2f}x of the first peer"
        shown.append(f"  goal: at most {goal}: {'met' if self.met else 'MISSED'}")
        return shown


def compare(
    name: str,
    limit: float,
    runs: int,
    candidates: Mapping[str, Candidate],
    clean: Candidate = lambda: None,
    in_seconds: bool = False,
) -> Comparison:
    """Time `candidates` (ours first) in turns, so that a busy moment hits all of them; where there are several runs, an
    unmeasured round comes first. `clean` runs before each, unmeasured."""
    seconds: dict[str, list[float]] = {candidate: [] for candidate in candidates}
    for number in range(runs + (1 if runs > 1 else 0)):
        for candidate, run in candidates.items():
            clean()
            started = time.monotonic()
            run()
            if number or runs == 1:
                seconds[candidate].append(time.monotonic() - started)
    return Comparison(name, {candidate: tuple(times) for candidate, times in seconds.items()}, limit, in_seconds)


def command(argv: Sequence[str | Path], log: Path, env: Mapping[str, str] | None = None) -> Candidate:
    """A candidate that runs a program; its output goes to `log`, a failure stops the bench."""

    def run() -> None:
        with log.open("ab") as output:
            subprocess.run(
                [str(part) for part in argv],
                check=True,
                stdin=subprocess.DEVNULL,
                stdout=output,
                stderr=output,
                env={**os.environ, **(env or {})},
            )

    return run
