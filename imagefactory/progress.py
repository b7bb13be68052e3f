"""What a user is told while work goes on: frozen events, drawn by renderers that cannot alter a result."""

from collections.abc import Callable
from dataclasses import dataclass
from typing import TypeAlias


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
class Note:
    """Something a user should know that belongs to no step: "warning" or "info"."""

    level: str
    text: str


Event: TypeAlias = StepStarted | StepAdvanced | StepFinished | Note
Progress: TypeAlias = Callable[[Event], None]


def silent(event: Event) -> None:
    """Draw nothing."""
