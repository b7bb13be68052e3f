"""A PostgreSQL for the tests of a worker of pytest, and in it a database for each test."""

import itertools
from collections.abc import Iterator
from dataclasses import dataclass

import pytest

from tests.servers.postgres import ADMIN, Postgres, postgres

_numbers = itertools.count(1)


@dataclass(frozen=True)
class Place:
    """A database that no other test sees. The server is running; who stops it, starts it again."""

    server: Postgres
    name: str

    def url(self, user: str = ADMIN) -> str:
        return self.server.url(user, self.name)


@pytest.fixture(scope="session")
def postgres_server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Postgres]:
    """A real PostgreSQL, which dies with the session however that ends."""
    with postgres(tmp_path_factory.mktemp("postgres") / "server") as server:
        yield server


@pytest.fixture
def empty_database(postgres_server: Postgres) -> Iterator[Place]:
    """A new database without any table."""
    yield from _database(postgres_server, "template0")


def _database(server: Postgres, template: str) -> Iterator[Place]:
    server.start()
    name = f"test-{next(_numbers)}"
    server.database(name, template)
    yield Place(server, name)
    server.start()
    server.drop(name)
