"""A PostgreSQL for the tests of a worker of pytest, and in it a database for each test."""

import itertools
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass

import pytest

from imagefactory.model.database_url import DatabaseUrl, parse_database_url
from imagefactory.store.database import ServiceDatabase
from tests.servers.postgres import ADMIN, Postgres, postgres

_numbers = itertools.count(1)


@dataclass(frozen=True)
class Place:
    """A database that no other test sees. The server is running; who stops it, starts it again."""

    server: Postgres
    name: str

    def url(self, user: str = ADMIN) -> str:
        return self.server.url(user, self.name)

    def parsed(self, user: str = ADMIN) -> DatabaseUrl:
        """As `Records` has it."""
        return parse_database_url(self.url(user))


@pytest.fixture(scope="session")
def postgres_server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Postgres]:
    """A real PostgreSQL, which dies with the session however that ends."""
    with postgres(tmp_path_factory.mktemp("postgres") / "server") as server:
        yield server


@pytest.fixture(scope="session")
def template_database(postgres_server: Postgres) -> str:
    """The name of a database with our tables and no row: copies of it are quicker than migrations."""
    name = "migrated"
    ServiceDatabase(parse_database_url(postgres_server.database(name))).migrate()
    return name


@pytest.fixture
def empty_database(postgres_server: Postgres) -> Iterator[Place]:
    """A new database without any table."""
    with database(postgres_server, "template0") as place:
        yield place


@pytest.fixture
def service_database(postgres_server: Postgres, template_database: str) -> Iterator[Place]:
    """A new database with our tables, in which nothing is written."""
    with database(postgres_server, template_database) as place:
        yield place


@contextmanager
def database(server: Postgres, template: str) -> Iterator[Place]:
    """One like `template`, until the end."""
    server.start()
    name = f"test-{next(_numbers)}"
    server.database(name, template)
    try:
        yield Place(server, name)
    finally:
        server.start()
        server.drop(name)
