"""Reading and changing SQLite databases behind the back of who owns them."""

import sqlite3
from collections.abc import Iterator
from contextlib import closing, contextmanager
from pathlib import Path


@contextmanager
def records_at(database: Path) -> Iterator[sqlite3.Connection]:
    """One transaction on this database, closed at the end. Waits a minute for those who write.

    A connection that is only forgotten is closed when the garbage collector comes to it, and its files vanish then.
    """
    with closing(sqlite3.connect(database, timeout=60)) as connection, connection:  # noqa: TID251 - here it is closed
        yield connection
