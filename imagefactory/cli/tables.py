"""Tables on stdout, and what stands in several of them."""

import sys
from collections.abc import Sequence
from datetime import UTC, datetime
from io import StringIO

from rich.console import Console
from rich.table import Table

from imagefactory.cli.output import say
from imagefactory.model.exceptions import Accepted

WIDE = 1000  # columns, where nothing has to fit a terminal


def table_of(*columns: str) -> Table:
    """An empty table with these headings. A long text is folded, never cut."""
    table = Table(box=None, pad_edge=False, header_style="")
    for column in columns:
        table.add_column(column, overflow="fold")
    return table


def print_table(table: Table) -> None:
    """A table on stdout, its texts as they are."""
    # A pipe has no width; what reads it wants whole lines.
    width = None if sys.stdout.isatty() else WIDE
    console = Console(highlight=False, markup=False, emoji=False, width=width, color_system=None)
    with console.capture() as captured:
        console.print(table)
    say(captured.get().rstrip("\n"))


def html_page(lines: Sequence[str], table: Table | None) -> str:
    """An HTML page of its own that says `lines`, and below them a table."""
    console = Console(file=StringIO(), highlight=False, markup=False, emoji=False, width=WIDE, record=True)
    for line in lines:
        console.print(line, soft_wrap=True)
    if table is not None:
        console.print("", table)
    return console.export_html()


def exception_text(exception: Accepted) -> str:
    """An exception, for people: until when, whose, why."""
    over = exception.expires < datetime.now(UTC).date()
    reason = " ".join(exception.reason.split())
    return f"{'expired' if over else 'until'} {exception.expires}, {exception.owner}: {reason}"
