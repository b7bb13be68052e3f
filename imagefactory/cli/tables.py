"""Tables on stdout, and what stands in several of them."""

import sys
from collections.abc import Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime
from io import StringIO
from itertools import chain
from shutil import get_terminal_size
from typing import TYPE_CHECKING

from imagefactory.cli.output import say
from imagefactory.model.exceptions import Accepted

if TYPE_CHECKING:
    import rich.table

WIDE = 1000  # columns, where nothing has to fit a terminal
_BETWEEN = "  "


@dataclass(frozen=True)
class Table:
    """Rows of texts, each as long as there are columns; without headings where none says anything."""

    columns: tuple[str, ...]
    rows: list[tuple[str, ...]] = field(default_factory=list)

    @property
    def has_headings(self) -> bool:
        return any(self.columns)

    def add_row(self, *texts: str) -> None:
        """Add a row below the others; what it lacks at its end is empty."""
        self.rows.append((*texts, *("" for _ in self.columns[len(texts) :])))


def table_of(*columns: str) -> Table:
    """An empty table with these headings. A long text is folded, never cut."""
    return Table(columns)


def print_table(table: Table) -> None:
    """A table on stdout, its texts as they are."""
    # A pipe has no width; what reads it wants whole lines.
    width = get_terminal_size().columns if sys.stdout.isatty() else WIDE
    lines = _lines(table, width)
    say(_folded(table, width) if lines is None else "\n".join(lines))


def html_page(lines: Sequence[str], table: Table | None) -> str:
    """An HTML page of its own that says `lines`, and below them a table."""
    from rich.console import Console  # noqa: PLC0415 - rich takes a while to load

    console = Console(file=StringIO(), highlight=False, markup=False, emoji=False, width=WIDE, record=True)
    for line in lines:
        console.print(line, soft_wrap=True)
    if table is not None:
        console.print("", _rich(table))
    return console.export_html()


def exception_text(exception: Accepted) -> str:
    """An exception, for people: until when, whose, why."""
    over = exception.expires < datetime.now(UTC).date()
    reason = " ".join(exception.reason.split())
    return f"{'expired' if over else 'until'} {exception.expires}, {exception.owner}: {reason}"


def _lines(table: Table, width: int) -> list[str] | None:
    """One line a row, which takes no time for thousands of rows as rich does; None where something has to be folded."""
    rows = [table.columns, *table.rows] if table.has_headings else table.rows
    if not all(map(str.isprintable, chain.from_iterable(rows))):
        return None
    widths = [max(map(_width, texts)) for texts in zip(*rows, strict=True)]
    if sum(widths) + len(_BETWEEN) * (len(widths) - 1) > width:
        return None
    return [_BETWEEN.join(map(_padded, row, widths)).rstrip() for row in rows]


def _width(text: str) -> int:
    """How many columns of a terminal a text takes."""
    if text.isascii():
        return len(text)
    from rich.cells import cell_len  # noqa: PLC0415 - which characters are wide

    return cell_len(text)


def _padded(text: str, width: int) -> str:
    return text + " " * (width - _width(text))


def _folded(table: Table, width: int) -> str:
    from rich.console import Console  # noqa: PLC0415 - rich takes a while to load

    console = Console(highlight=False, markup=False, emoji=False, width=width, color_system=None)
    with console.capture() as captured:
        console.print(_rich(table))
    return captured.get().rstrip("\n")


def _rich(table: Table) -> "rich.table.Table":
    from rich.table import Table as Rich  # noqa: PLC0415

    made = Rich(box=None, pad_edge=False, header_style="", show_header=table.has_headings)
    for column in table.columns:
        made.add_column(column, overflow="fold")
    for row in table.rows:
        made.add_row(*row)
    return made
