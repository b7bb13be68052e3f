"""What a user is told while work goes on: frozen events, drawn by renderers that cannot alter a result."""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Protocol, TypeAlias


@dataclass(frozen=True)
class StepStarted:
    """A step begins. `reason` says why it runs, `log` where its output goes."""

    step: str
    reason: str
    log: str | None = None


@dataclass(frozen=True)
class StepAdvanced:
    """A step is `done` of `total` (0: unknown) in `unit` ("bytes", "seconds", "packages")."""

    step: str
    done: int
    total: int
    unit: str
    text: str = ""


@dataclass(frozen=True)
class StepFinished:
    """A step ended well. `outcome` is one line a user can read; `reused` when no work was needed."""

    step: str
    outcome: str
    reused: bool
    seconds: float


@dataclass(frozen=True)
class StepFailed:
    """A step ended badly while others go on beside it; `why` is one line a user can read."""

    step: str
    why: str


@dataclass(frozen=True)
class Note:
    """Something a user should know that belongs to no step: "warning" or "info"."""

    level: str
    text: str


class Advance(Protocol):
    """Told what a step is doing, and, where that is known, how many bytes of `total` are `done`."""

    def __call__(self, text: str, done: int = 0, total: int = 0) -> None: ...


Event: TypeAlias = StepStarted | StepAdvanced | StepFinished | StepFailed | Note
Progress: TypeAlias = Callable[[Event], None]


def advancer(progress: Progress, step: str) -> Advance:
    """Passes on what a step says of itself."""

    def advance(text: str, done: int = 0, total: int = 0) -> None:
        progress(StepAdvanced(step, done, total, "bytes" if total else "", text))

    return advance


class Meter:
    """Counts the bytes of a step and passes the sum on."""

    def __init__(self, progress: Progress, step: str, total: int = 0) -> None:
        self._progress = progress
        self._step = step
        self._total = total
        self._done = 0

    def __call__(self, count: int) -> None:
        """So many bytes more went by."""
        self._done += count
        self._progress(StepAdvanced(self._step, self._done, self._total, "bytes"))


def silent(event: Event) -> None:
    """Draw nothing."""
