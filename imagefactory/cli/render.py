"""Progress on stderr: a live display on a terminal, plain lines elsewhere. Neither can alter a result."""

import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress

from rich.console import Console
from rich.progress import BarColumn, DownloadColumn, SpinnerColumn, TextColumn, TimeElapsedColumn
from rich.progress import Progress as Bars
from rich.table import Table

from imagefactory.cli.output import say
from imagefactory.progress import Event, Note, Progress, StepAdvanced, StepFinished, StepStarted
from imagefactory.tools.passphrase import Ask

HEARTBEAT = 30.0  # seconds between two plain lines about the same step


@contextmanager
def renderer() -> Iterator[Progress]:
    """The renderer that fits where stderr goes."""
    console = Console(stderr=True, highlight=False, soft_wrap=True)
    if not console.is_terminal:
        yield _Plain()
        return
    with Bars(
        SpinnerColumn(),
        TextColumn("{task.description}"),
        BarColumn(bar_width=24),
        TextColumn("{task.fields[text]}"),
        DownloadColumn(binary_units=True),
        TimeElapsedColumn(),
        console=console,
        transient=True,
    ) as bars:
        yield _Terminal(bars)


class _Plain:
    """One line when a step begins and ends, and now and then while it lasts."""

    def __init__(self) -> None:
        self._last = time.monotonic()

    def __call__(self, event: Event) -> None:
        now = time.monotonic()
        match event:
            case StepStarted(step, reason, log):
                self._last = now
                _line(f"{step}: {reason}" + (f" (log: {log})" if log else ""))
            case StepAdvanced(step, done, total, unit, text) if now - self._last > HEARTBEAT:
                self._last = now
                amount = _amount(done, total, unit) if unit else ""
                _line(f"{step}: {', '.join(filter(None, (text, amount)))}")
            case StepFinished():
                _line(finished(event))
            case Note(level, text):
                _line(f"{level}: {text}")


class _Terminal:
    """A live line for the running step above which finished ones stay."""

    def __init__(self, bars: Bars) -> None:
        self._bars = bars
        self._task = bars.add_task("", visible=False, text="", total=None)

    @contextmanager
    def hidden(self) -> Iterator[None]:
        """Out of the way."""
        self._bars.stop()
        try:
            yield
        finally:
            self._bars.start()

    def __call__(self, event: Event) -> None:
        match event:
            case StepStarted(step, reason, _):
                self._bars.reset(self._task, description=step, visible=True, total=None, text=reason)
            case StepAdvanced(_, done, total, _, text):
                self._bars.update(self._task, completed=done, total=total or None, text=text)
            case StepFinished():
                self._bars.update(self._task, visible=False)
                self._bars.console.print(finished(event), markup=False)
            case Note(level, text):
                self._bars.console.print(f"{level}: {text}", markup=False)


def undisturbed(progress: Progress, ask: Ask) -> Ask:
    """`ask`, without a live display that would write over what a person is asked."""
    if not isinstance(progress, _Terminal):
        return ask

    def asking(prompt: str) -> bytes:
        with progress.hidden():
            return ask(prompt)

    return asking


def finished(event: StepFinished) -> str:
    """The line that stays of a step."""
    mark = "=" if event.reused else "+"
    duration = "" if event.reused else f" ({event.seconds:.1f} s)"
    return f"{mark} {event.step}: {event.outcome}{duration}"


def print_table(table: Table) -> None:
    """A table on stdout, its texts as they are."""
    # A pipe has no width; what reads it wants whole lines.
    width = None if sys.stdout.isatty() else 1000
    console = Console(highlight=False, markup=False, emoji=False, width=width, color_system=None)
    with console.capture() as captured:
        console.print(table)
    say(captured.get().rstrip("\n"))


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
