"""Progress on a terminal: a live line for each running step, above which finished ones stay."""

from collections.abc import Iterator
from contextlib import contextmanager

from rich.console import Console
from rich.progress import BarColumn, DownloadColumn, Progress, SpinnerColumn, TaskID, TextColumn, TimeElapsedColumn

from imagefactory.cli.render import Renderer, failed, finished
from imagefactory.progress import Event, Note, StepAdvanced, StepFailed, StepFinished, StepStarted


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
        self._tasks: dict[str, TaskID] = {}

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
                self._end(step)
                self._tasks[step] = self._bars.add_task(step, total=None, text=reason)
            case StepAdvanced(step, done, total, _, text) if (task := self._task(step)) is not None:
                self._bars.update(task, completed=done, total=total or None, text=text)
            case StepFinished(step):
                self._end(step)
                self._bars.console.print(finished(event), markup=False)
            case StepFailed(step, why):
                self._end(step)
                self._bars.console.print(failed(step, why), markup=False)
            case Note(level, text):
                self._bars.console.print(f"{level}: {text}", markup=False)

    def _task(self, step: str) -> TaskID | None:
        """The line of a step; what is no step of its own belongs to the one that began last."""
        return self._tasks.get(step, next(reversed(self._tasks.values()), None))

    def _end(self, step: str) -> None:
        if step in self._tasks:
            self._bars.remove_task(self._tasks.pop(step))
