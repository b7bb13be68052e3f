"""Tables on stdout, and what stands in several of them."""

import sys
from datetime import UTC, datetime

from rich.console import Console
from rich.table import Table

from imagefactory.cli.output import say
from imagefactory.model.exceptions import Accepted


def table_of(*columns: str) -> Table:
    """An empty table with these headings. A long text is folded, never cut."""
    table = Table(box=None, pad_edge=False, header_style="")
    for column in columns:
        table.add_column(column, overflow="fold")
    return table


def print_table(table: Table) -> None:
    """A table on stdout, its texts as they are."""
    # A pipe has no width; what reads it wants whole lines.
    width = None if sys.stdout.isatty() else 1000
    console = Console(highlight=False, markup=False, emoji=False, width=width, color_system=None)
    with console.capture() as captured:
        console.print(table)
    say(captured.get().rstrip("\n"))


def exception_text(exception: Accepted) -> str:
    """An exception, for people: until when, whose, why."""
    over = exception.expires < datetime.now(UTC).date()
    reason = " ".join(exception.reason.split())
    return f"{'expired' if over else 'until'} {exception.expires}, {exception.owner}: {reason}"
