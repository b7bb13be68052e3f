"""The service with nothing fake in it: broker, database, cloud and programs; each role has an account of its own."""

import json
import os
import shutil
from collections.abc import Iterator
from pathlib import Path

import pytest

from imagefactory.model.job import JobState, TaskState
from imagefactory.settings import read_settings
from tests.fakes import traces
from tests.integration.homes import BUILD_TIMEOUT, RECIPE, imagefactory
from tests.openstack.fixtures import Cloud
from tests.servers.directories import open_to_others
from tests.servers.postgres_fixtures import Place
from tests.servers.rabbitmq_fixtures import VirtualHost
from tests.servers.team import ACCOUNTS, GROUP, Team, working

PATIENCE = 60.0  # seconds until a beat has asked for what is due
NAME = "served-debian-12"
MORE = f"""\
extends: {RECIPE.name}
name: {NAME}
disk: {{firmware: [uefi]}}
formats: {{qcow2: {{}}}}
schedule: {{cron: "30 2 29 2 *"}}
publish:
  - catalogue: CATALOGUE
  - cloud: demo
"""


@pytest.fixture
def whole(tmp_path: Path) -> Path:
    """A home with all keys, from which those of the roles are made."""
    made = imagefactory(tmp_path / "whole", "keys", "init", "--development")
    assert made.status == 0, made.stderr
    return tmp_path / "whole"


@pytest.fixture
def team(whole: Path, service_database: Place, vhost: VirtualHost, cloud: Cloud, tmp_path: Path) -> Iterator[Team]:
    open_to_others(tmp_path)
    clouds = tmp_path / "clouds.yaml"
    shutil.copyfile(cloud.clouds_yaml, clouds)
    clouds.chmod(0o600)
    os.chown(clouds, ACCOUNTS["publish"], GROUP)
    environment = {key: value for key, value in os.environ.items() if not key.startswith(("OS_", "IMAGEFACTORY_"))}
    settings = read_settings({**environment, "IMAGEFACTORY_HOME": str(whole)})
    more = {"publish": {"OS_CLIENT_CONFIG_FILE": str(clouds)}}
    with (
        traces.adopting(),
        working(
            Team(settings, service_database, vhost, tmp_path / "service", environment, tmp_path, more=more)
        ) as made,
    ):
        yield made


def test_a_scheduled_build_is_signed_and_published_and_the_next_one_has_nothing_to_do(
    team: Team, whole: Path, cloud: Cloud, tmp_path: Path
) -> None:
    before = traces.Host.now()
    shutil.copy(RECIPE, tmp_path)
    recipe = tmp_path / "served.yaml"
    recipe.write_text(MORE.replace("CATALOGUE", str(team.catalogue)))
    team.start()
    for argv in (("schedule", "add", str(recipe)), ("schedule", "run-now", NAME)):
        done = team.run(*argv)
        assert done.returncode == 0, done.stderr
    first = team.ended(team.newest(NAME, PATIENCE), BUILD_TIMEOUT)
    with team.jobs() as jobs:
        tasks = jobs.tasks(first.id)
    assert first.state == JobState.RELEASED, (first.error_code, first.error_message)
    assert {task.state for task in tasks} == {TaskState.DONE}
    assert {task.role for task in tasks} == {"build", "test", "sign", "publish"}

    environment = {"OS_CLIENT_CONFIG_FILE": str(cloud.clouds_yaml)}
    for target in (f"catalogue:{team.catalogue}/{first.release}", f"cloud:demo/{image_of(team, 'demo')}"):
        verified = imagefactory(whole, "verify", target, environment=environment)
        assert verified.status == 0, verified.stderr

    assert team.run("schedule", "run-now", NAME).returncode == 0
    second = team.ended(team.newest(NAME, PATIENCE, after=first.id), BUILD_TIMEOUT)
    assert (second.state, second.release) == (JobState.UNCHANGED, first.release)
    shown = json.loads(team.run("schedule", "list", "--json").stdout)["schedules"]
    assert [(each["name"], each["outcome"]) for each in shown] == [(NAME, "unchanged")]
    assert set(map(tuple, team.stop().values())) == {(0,)}
    assert traces.Host.now() == before
    assert traces.gone(30.0) == {}


def image_of(team: Team, cloud: str) -> str:
    """The id of the image in a cloud."""
    with team.records() as records:
        (release,) = records.releases(NAME)
    return next(str(each.image_id) for each in release.publications if each.target == f"cloud:{cloud}")
