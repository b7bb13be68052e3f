"""What several unit tests begin with."""

from collections.abc import Iterator
from pathlib import Path

import pytest

from imagefactory.store.records import Records
from tests.fakes.places import Shop


@pytest.fixture(scope="session")
def empty(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A new database; copies of it are quicker than migrations."""
    path = tmp_path_factory.mktemp("records") / "empty.db"
    Records(path).close()
    return path


@pytest.fixture
def database(empty: Path, tmp_path: Path) -> Path:
    """The file of a factory's records in which nothing is written yet."""
    path = tmp_path / "imagefactory.db"
    path.write_bytes(empty.read_bytes())
    return path


@pytest.fixture
def records(database: Path) -> Iterator[Records]:
    """Records that know nothing yet."""
    made = Records(database)
    yield made
    made.close()


@pytest.fixture
def shop(tmp_path: Path, records: Records) -> Shop:
    """Releases in places that remember what they were told."""
    return Shop(tmp_path, records)
