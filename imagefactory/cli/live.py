"""Progress on a terminal: a live line for the running step, above which finished ones stay."""

from collections.abc import Iterator
from contextlib import contextmanager

from rich.console import Console
from rich.progress import BarColumn, DownloadColumn, Progress, SpinnerColumn, TextColumn, TimeElapsedColumn

from imagefactory.cli.render import Renderer, finished
from imagefactory.progress import Event, Note, StepAdvanced, StepFinished, StepStarted


@contextmanager
def live() -> Iterator[Renderer]:
    """A renderer for the terminal that stderr is."""
    with Progress(
        SpinnerColumn(),
        TextColumn("{task.description}"),
        BarColumn(bar_width=24),
        TextColumn("{task.fields[text]}"),
        DownloadColumn(binary_units=True),
        TimeElapsedColumn(),
        console=Console(stderr=True, highlight=False, soft_wrap=True),
        transient=True,
    ) as bars:
        yield _Live(bars)


class _Live:
    def __init__(self, bars: Progress) -> None:
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
