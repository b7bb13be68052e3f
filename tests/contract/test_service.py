"""The service on a real broker and a real database, each role under an account of its own; its programs are fakes."""

import json
from collections.abc import Iterator
from pathlib import Path

import pytest

from imagefactory.model.job import JobState
from tests.fakes.host import FakeHost, folders
from tests.fakes.team import team
from tests.servers.directories import open_to_others
from tests.servers.postgres_fixtures import Place
from tests.servers.rabbitmq_fixtures import VirtualHost
from tests.servers.team import Team


@pytest.fixture
def everybody(host: FakeHost, service_database: Place, vhost: VirtualHost, tmp_path: Path) -> Iterator[Team]:
    open_to_others(tmp_path)
    with team(host, service_database, vhost, tmp_path / "service") as made:
        yield made


def test_from_a_request_to_a_published_release(everybody: Team, host: FakeHost) -> None:
    everybody.start()
    asked = everybody.run("builds", "request", str(host.recipe_file), "--json")
    assert asked.returncode == 0, asked.stderr
    job = everybody.ended(json.loads(asked.stdout)["job"])
    assert job.state == JobState.RELEASED, (job.error_code, job.error_message)
    assert [path.name for path in folders(everybody.catalogue)] == [str(job.release).partition("@")[2]]
    assert set(map(tuple, everybody.stop().values())) == {(0,)}
