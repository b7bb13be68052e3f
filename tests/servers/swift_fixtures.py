"""A Swift for the tests of a worker of pytest, and in it a bucket for each test."""

import itertools
from collections.abc import Iterator

import pytest

from tests.servers.swift import S3, prepare, swift

_numbers = itertools.count(1)


@pytest.fixture(scope="session")
def swift_server(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Iterator[S3]:
    """A real S3, which dies with the session however that ends."""
    writer = request.config.get_terminal_writer()
    prepare(lambda line: writer.line(f"\n{line}"))
    with swift(tmp_path_factory.mktemp("swift")) as server:
        yield server


@pytest.fixture
def bucket(swift_server: S3) -> str:
    """The name of a new bucket."""
    name = f"test-{next(_numbers)}"
    swift_server.client().create_bucket(Bucket=name)
    return name
