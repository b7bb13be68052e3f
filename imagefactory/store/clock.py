"""The clock of the database, in statements: whoever shares the records shares it, whatever the clocks of hosts say."""

from datetime import datetime
from typing import Any

from sqlalchemy import ColumnElement, DateTime, literal, select
from sqlalchemy.ext.compiler import compiles
from sqlalchemy.orm import Session
from sqlalchemy.sql.compiler import SQLCompiler
from sqlalchemy.sql.functions import FunctionElement


class from_now(FunctionElement[Any]):  # noqa: N801 - a function of SQL
    """The time so many seconds after the one at which the statement runs, UTC, as the tables have it."""

    type = DateTime()
    inherit_cache = True
    name = "from_now"

    def __init__(self, seconds: float | ColumnElement[float] = 0.0) -> None:
        super().__init__(seconds if isinstance(seconds, ColumnElement) else literal(float(seconds)))


def database_now(session: Session) -> datetime:
    """Now, by the clock of the database: UTC, without a zone."""
    found: datetime = session.scalars(select(from_now())).one()
    return found


@compiles(from_now, "sqlite")
def _sqlite(element: from_now, compiler: SQLCompiler, **more: Any) -> str:  # noqa: ANN401
    # Six digits of a second, as SQLAlchemy writes and reads them; SQLite knows three.
    seconds = compiler.process(element.clauses, **more)
    return f"(strftime('%Y-%m-%d %H:%M:%f', 'now', {seconds} || ' seconds') || '000')"


@compiles(from_now, "postgresql")
def _postgresql(element: from_now, compiler: SQLCompiler, **more: Any) -> str:  # noqa: ANN401
    seconds = compiler.process(element.clauses, **more)
    return f"(timezone('utc', clock_timestamp()) + make_interval(secs => {seconds}))"
