"""Where records are: in SQLite in a home, or in a PostgreSQL that several hosts share."""

import re
import select
import sqlite3
from abc import ABC, abstractmethod
from functools import cached_property
from pathlib import Path
from typing import Protocol

from sqlalchemy import URL, Connection, Engine, TextClause, create_engine, event, inspect, text
from sqlalchemy.dialects import postgresql, sqlite
from sqlalchemy.exc import DBAPIError, InvalidatePoolError, OperationalError
from sqlalchemy.exc import TimeoutError as PoolTimeout
from sqlalchemy.orm import Session

from imagefactory.errors import DiskFull, ExtraMissing, FactoryError, HomeUnusable
from imagefactory.errors.service import DatabaseRefused, DatabaseUnreachable, SchemaNewer, SchemaOlder
from imagefactory.model.database_url import DatabaseUrl
from imagefactory.store.tables import Base

MIGRATIONS = Path(__file__).parent / "migrations"
# The newest migration; a test compares it with the files. They are numbered, so that older ones are lesser.
REVISION = "0008"
CONNECT_TIMEOUT = 10  # seconds
# Nobody waits forever: for a lock, for an answer, for somebody who forgot a transaction, for a network that is gone.
PATIENCE = "-c lock_timeout=10s -c statement_timeout=60s -c idle_in_transaction_session_timeout=60s"
KEEPALIVE = {"keepalives_idle": 10, "keepalives_interval": 5, "keepalives_count": 3, "tcp_user_timeout": 30_000}
MOST_CHARACTERS = 300  # of what PostgreSQL says
NOT_ALLOWED = "42501"  # what an SQLSTATE says to an account that has not been granted something
_OTHERS_MAY = (
    "each account may do its own part only: ask the service for a build with imagefactory builds request RECIPE, and "
    "see imagefactory service init for who may do what"
)
# Classes of SQLSTATE, or whole ones, of what another attempt may find changed: connections, lost races, resources,
# somebody's intervention, the system. All others say that PostgreSQL does not want to.
_LATER = ("08", "40", "53", "55P03", "57", "58", "XX")
# Before there is a connection PostgreSQL's words are all that we get.
_SAID_NO = re.compile(r"\bFATAL:|no password supplied")
_NOT_NOW = re.compile(
    r"starting up|shutting down|in recovery|not (yet )?accepting|connection slots|too many (clients|con)"
)


class Database(ABC):
    """One of the two kinds, and what is different between them."""

    engine: Engine

    @cached_property
    def by_statement(self) -> Engine:
        """The same connections, on which each statement is a transaction of its own."""
        return self.engine.execution_options(isolation_level="AUTOCOMMIT")

    @abstractmethod
    def prepare(self) -> None:
        """Make sure that the tables are those of this version."""

    @abstractmethod
    def failure(self, error: DBAPIError | PoolTimeout) -> FactoryError:
        """What an error of the database is called here."""

    @abstractmethod
    def alone(self, session: Session, key: str) -> None:
        """At the beginning of a transaction: wait until nobody else has one with this key, and keep others waiting."""

    @abstractmethod
    def insert(self, table: type[Base]) -> postgresql.Insert | sqlite.Insert:
        """An insert that knows what to do when the row is there already."""


class HomeDatabase(Database):
    """A file in a home, which whoever opens it brings up to date."""

    def __init__(self, path: Path) -> None:
        self.engine = create_engine(f"sqlite:///{path}")
        event.listen(self.engine, "connect", _pragmas)

    def prepare(self) -> None:
        """Raises HomeUnusable when a newer imagefactory made it."""
        with self.engine.begin() as connection:
            if revision(connection) == REVISION:
                return
            from alembic.util import CommandError  # noqa: PLC0415 - as in _upgrade

            try:
                _upgrade(connection)
            except CommandError as error:
                newer = "update imagefactory, or set IMAGEFACTORY_HOME"
                raise HomeUnusable(
                    f"{self.engine.url.database} is of another version: {error}", advice=newer
                ) from error

    def failure(self, error: DBAPIError | PoolTimeout) -> FactoryError:
        reason = error.orig if isinstance(error, DBAPIError) else error
        if "disk is full" in str(reason):
            return DiskFull(f"no space for {self.engine.url.database}")
        return HomeUnusable(f"{self.engine.url.database} cannot be used: {reason}")

    def alone(self, session: Session, key: str) -> None:
        del key  # SQLite has one writer at a time
        session.connection().exec_driver_sql("BEGIN IMMEDIATE")

    def insert(self, table: type[Base]) -> sqlite.Insert:
        return sqlite.insert(table)


class ServiceDatabase(Database):
    """A PostgreSQL. Nobody migrates it by the way: others use it, who may be of another version."""

    def __init__(self, url: DatabaseUrl) -> None:
        """Raises ExtraMissing. Nothing is connected yet."""
        self._url = url
        try:
            self.engine = create_engine(
                URL.create("postgresql+psycopg", url.user, None, url.host, url.port, url.name, dict(url.options)),
                isolation_level="READ COMMITTED",
                pool_timeout=CONNECT_TIMEOUT,
                use_native_hstore=False,
                connect_args={
                    "connect_timeout": CONNECT_TIMEOUT,
                    "application_name": "imagefactory",
                    "client_encoding": "utf8",
                    "options": PATIENCE,
                    "prepare_threshold": None,  # a prepared statement does not survive a migration
                    **KEEPALIVE,
                },
            )
        except ImportError as missing:
            advice = "pip install 'imagefactory[service]'"
            raise ExtraMissing(f"PostgreSQL needs psycopg: {missing}", advice=advice) from missing
        event.listen(self.engine, "checkout", _refuse_ended)

    def prepare(self) -> None:
        """Raises SchemaOlder, SchemaNewer."""
        with self.engine.connect() as connection:
            found = revision(connection)
        _refuse_newer(self._url, found)
        if found != REVISION:
            is_it = "has none of our tables" if found is None else f"is of version {found}"
            raise SchemaOlder(f"{_short(self._url)} {is_it}, and this imagefactory of {REVISION}")

    def migrate(self) -> bool:
        """Bring the tables up to date; whether that changed something. Of two who do it at once, one waits. All of it
        happens or nothing. Raises DatabaseUnreachable, DatabaseRefused, SchemaNewer."""
        try:
            with self.engine.begin() as connection:
                connection.execute(text("SET LOCAL lock_timeout = '5min'"))
                connection.execute(text("SET LOCAL statement_timeout = 0"))
                connection.execute(_lock("migrate"))
                found = revision(connection)
                _refuse_newer(self._url, found)
                if found != REVISION:
                    _upgrade(connection)
        except DBAPIError as error:
            raise self.failure(error) from error
        finally:
            self.engine.dispose()
        return found != REVISION

    def failure(self, error: DBAPIError | PoolTimeout) -> FactoryError:
        reason = error.orig if isinstance(error, DBAPIError) else error
        said = " ".join(str(reason).split())[:MOST_CHARACTERS]
        state: str | None = getattr(reason, "sqlstate", None)
        if state is not None:
            later = state.startswith(_LATER)
        elif isinstance(error, OperationalError):
            later = _SAID_NO.search(said) is None or _NOT_NOW.search(said) is not None
        else:
            later = isinstance(error, PoolTimeout)
        message = f"{_short(self._url)}: {said}"
        if state == NOT_ALLOWED:
            return DatabaseRefused(message, advice=_OTHERS_MAY)
        return (DatabaseUnreachable if later else DatabaseRefused)(message)

    def alone(self, session: Session, key: str) -> None:
        session.execute(_lock(key))

    def insert(self, table: type[Base]) -> postgresql.Insert:
        return postgresql.insert(table)


def database_at(where: Path | DatabaseUrl) -> Database:
    """Raises ExtraMissing."""
    return ServiceDatabase(where) if isinstance(where, DatabaseUrl) else HomeDatabase(where)


def revision(connection: Connection) -> str | None:
    """The migration that was made last; None where there never was one."""
    if not inspect(connection).has_table("alembic_version"):
        return None
    found: str | None = connection.scalar(text("select version_num from alembic_version"))
    return found


def _upgrade(connection: Connection) -> None:
    # alembic takes a third of a second to import, and is seldom needed.
    from alembic import command  # noqa: PLC0415
    from alembic.config import Config  # noqa: PLC0415

    config = Config()
    config.set_main_option("script_location", str(MIGRATIONS))
    config.attributes["connection"] = connection
    command.upgrade(config, "head")


def _refuse_newer(url: DatabaseUrl, found: str | None) -> None:
    if found is not None and found > REVISION:
        raise SchemaNewer(f"{_short(url)} is of version {found}, and this imagefactory of {REVISION}")


def _lock(key: str) -> TextClause:
    """Until the end of the transaction; whatever is read after it is as others left it who held it before."""
    return text("select pg_advisory_xact_lock(hashtextextended(:key, 0))").bindparams(key=f"imagefactory {key}")


def _short(url: DatabaseUrl) -> str:
    return f"{url.name} at {url.host}:{url.port}"


class _Connected(Protocol):
    def fileno(self) -> int: ...


def _refuse_ended(connection: _Connected, record: object, proxy: object) -> None:
    """When a connection is wanted again: that PostgreSQL has ended it, in a restart, is seen without a question.
    Whatever else it says unasked, a new connection does no harm."""
    del record, proxy
    ready = select.poll()
    ready.register(connection.fileno(), select.POLLIN)
    if ready.poll(0):
        raise InvalidatePoolError("PostgreSQL has ended the connection")


def _pragmas(connection: sqlite3.Connection, record: object) -> None:
    del record
    for pragma in ("journal_mode=WAL", "foreign_keys=ON", "busy_timeout=10000", "synchronous=FULL"):
        connection.execute(f"PRAGMA {pragma}")
