"""Progress on stderr: a live display on a terminal, plain lines elsewhere. Neither can alter a result."""

import sys
import time
from collections.abc import Iterator
from contextlib import AbstractContextManager, contextmanager, nullcontext, suppress
from typing import TYPE_CHECKING, Protocol

from imagefactory.progress import Event, Note, StepAdvanced, StepFailed, StepFinished, StepStarted

if TYPE_CHECKING:
    from imagefactory.tools.passphrase import Ask

HEARTBEAT = 30.0  # seconds between two plain lines about the same step


class Renderer(Protocol):
    """Shows progress; `hidden` while somebody else writes."""

    def __call__(self, event: Event) -> None: ...

    def hidden(self) -> AbstractContextManager[None]: ...


@contextmanager
def renderer() -> Iterator[Renderer]:
    """The renderer that fits where stderr goes."""
    if not sys.stderr.isatty():
        yield _Plain()
        return
    from imagefactory.cli.live import live  # noqa: PLC0415 - rich takes a while to load

    with live() as shown:
        yield shown


class _Plain:
    """One line when a step begins and ends, and now and then while it lasts."""

    def __init__(self) -> None:
        self._begun = time.monotonic()
        self._last: dict[str, float] = {}  # step to when its last line was written; several may go on at once

    def hidden(self) -> AbstractContextManager[None]:
        return nullcontext()

    def __call__(self, event: Event) -> None:
        now = time.monotonic()
        match event:
            case StepStarted(step, reason, log):
                self._last[step] = now
                _line(f"{step}: {reason}" + (f" (log: {log})" if log else ""))
            case StepAdvanced(step, done, total, unit, text) if now - self._last.get(step, self._begun) > HEARTBEAT:
                self._last[step] = now
                amount = _amount(done, total, unit) if unit else ""
                _line(f"{step}: {', '.join(filter(None, (text, amount)))}")
            case StepFinished():
                _line(finished(event))
            case StepFailed(step, why):
                _line(failed(step, why))
            case Note(level, text):
                _line(f"{level}: {text}")


def undisturbed(progress: Renderer, ask: "Ask") -> "Ask":
    """`ask`, without a live display that would write over what a person is asked."""

    def asking(prompt: str) -> bytes:
        with progress.hidden():
            return ask(prompt)

    return asking


def finished(event: StepFinished) -> str:
    """The line that stays of a step."""
    mark = "=" if event.reused else "+"
    duration = "" if event.reused else f" ({event.seconds:.1f} s)"
    return f"{mark} {event.step}: {event.outcome}{duration}"


def failed(step: str, why: str) -> str:
    """The line that stays of a step that failed while others go on."""
    return f"! {step}: {why}"


def human(size: int) -> str:
    """A number of bytes for people: "298.2 MiB"."""
    amount = float(size)
    for unit in ("B", "KiB", "MiB", "GiB"):
        if amount < 1024:
            return f"{amount:.0f} {unit}" if unit == "B" else f"{amount:.1f} {unit}"
        amount /= 1024
    return f"{amount:.1f} TiB"


def _amount(done: int, total: int, unit: str) -> str:
    if unit == "bytes" and not total:
        return human(done)
    if unit == "bytes":
        return f"{human(done)} of {human(total)}"
    return f"{done} of {total} {unit}"


def _line(text: str) -> None:
    # `2>&1 | head` stops reading, not the work.
    with suppress(BrokenPipeError):
        sys.stderr.write(text + "\n")
        sys.stderr.flush()
