"""The service with nothing fake in it: broker, database, cloud and programs; each role has an account of its own."""

import json
import os
import random
import shutil
import subprocess
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from imagefactory.model.job import MOST_ATTEMPTS
from tests.chaos import Chaos, require_nothing_left, require_once
from tests.doc_pages import ROOT, Command, steps
from tests.fakes import traces
from tests.integration.homes import BUILD_TIMEOUT
from tests.integration.test_docs import SERVICE, converse, make_clone
from tests.openstack.fixtures import Cloud
from tests.servers import playground
from tests.servers.clocks import clocks
from tests.servers.directories import open_to_others
from tests.servers.team import WORKERS, Team

NAME = "scheduled-debian-12"
STATE = ".service"
STRUCK = ("chaos-a", "chaos-b")
PAUSE = 45.0  # seconds between two strikes, at the most: steps take from 1 to 260
WITHIN = 2400.0


@pytest.fixture
def clone(tmp_path: Path) -> Iterator[Path]:
    """Where a reader stands, at a place that everybody may read, as is what its links lead to."""
    for path in (tmp_path, ROOT):
        open_to_others(path)
    (tmp_path / "home").mkdir()
    make_clone(tmp_path / "clone", whole=True)
    yield tmp_path / "clone"
    playground.down(tmp_path / "clone" / STATE, print, purge=True)


def test_its_tutorial_with_a_cloud_besides(clone: Path, cloud: Cloud, tmp_path: Path) -> None:
    before = traces.Host.now()
    recipe = clone / "recipes" / f"{NAME}.yaml"
    catalogue = clone / STATE / "service/catalogue"
    sooner = recipe.read_text().replace(
        "[uefi]", "[bios]"
    )  # without keys to enroll, and an altered boot loader to refuse
    recipe.write_text(f"{sooner}\npublish:\n  - catalogue: {catalogue}\n  - cloud: demo\n")
    *todo, last = steps(SERVICE)
    assert isinstance(last, Command)
    assert last.text == "make service-down"
    environment = {"OS_CLIENT_CONFIG_FILE": str(cloud.clouds_yaml)}
    with traces.adopting():
        converse(SERVICE, todo, tmp_path, BUILD_TIMEOUT, environment)
        unchanged, first = asked(clone, "builds", "list")["builds"]
        shown = asked(clone, "builds", "show", first["job"])
        assert (unchanged["state"], unchanged["release"]) == ("unchanged", first["release"])
        assert {task["state"] for task in shown["tasks"]} == {"done"}
        assert {task["role"] for task in shown["tasks"]} == {"build", "test", "sign", "publish"}
        assert [each["outcome"] for each in asked(clone, "schedule", "list")["schedules"] if each["name"] == NAME] == [
            "unchanged"
        ]
        publications = asked(clone, "releases", "show", NAME)["publications"]
        assert len(publications) == 2
        image = next(each["image"]["id"] for each in publications if each["image"])
        verified = asked(clone, "verify", f"glance:demo/{image}", "--name", NAME, **environment)["verified"]
        assert (verified["target"], bool(verified["files"])) == (f"glance:demo/{image}", True)
        converse(SERVICE, [last], tmp_path, BUILD_TIMEOUT)
        assert traces.gone(30.0) == {}
    assert traces.Host.now() == before


def asked(clone: Path, *argv: str, **environment: str) -> dict[str, Any]:
    """What the service says to somebody."""
    ran = subprocess.run(
        [clone / STATE / "imagefactory", *argv, "--json"],
        env={"PATH": os.environ["PATH"], "HOME": str(clone.parent / "home"), **environment},
        capture_output=True,
        text=True,
        check=False,
        timeout=120,
    )
    assert ran.returncode == 0, ran.stderr
    document = json.loads(ran.stdout)
    assert isinstance(document, dict)
    return document


@pytest.fixture
def recipes(tmp_path: Path) -> Path:
    """A folder of recipes with those of STRUCK in it, each of which is for a catalogue and for a cloud."""
    made = tmp_path / "recipes"
    shutil.copytree(ROOT / "recipes", made)
    publish = [{"catalogue": str(tmp_path / "state/service/catalogue")}, {"cloud": "demo"}]
    for name in STRUCK:
        recipe = {"extends": "tiny-debian-12.yaml", "name": name, "display_name": name, "publish": publish}
        disk = {"size": "2 GiB", "firmware": ["bios"]}
        (made / f"{name}.yaml").write_text(json.dumps({**recipe, "disk": disk}))
    return made


@pytest.mark.soak
def test_what_dies_costs_at_most_the_step_that_it_hit(
    cloud: Cloud, recipes: Path, tmp_path: Path, dice: random.Random, monkeypatch: pytest.MonkeyPatch
) -> None:
    for path in (tmp_path, ROOT):
        open_to_others(path)
    monkeypatch.setenv("OS_CLIENT_CONFIG_FILE", str(cloud.clouds_yaml))
    before = traces.Host.now()
    state = tmp_path / "state"
    state.mkdir(mode=0o755)
    with traces.adopting(), clocks(tmp_path / "clocks", WORKERS) as wrong:
        more = {who: each.environ for who, each in wrong.items()}
        with playground.everybody(state, recipes, more) as team:
            team.start(jobs=2)
            jobs = [request(team, recipes / f"{name}.yaml") for name in STRUCK]
            Chaos(team, wrong, dice, MOST_ATTEMPTS).until_ended(jobs, PAUSE, WITHIN)
            require_once(team, jobs, STRUCK, places=2)
        require_nothing_left(team, before)
    with cloud.connect() as connection:
        images = [(image.name, image.status) for image in connection.image.images(owner=cloud.project_id("soe"))]
    assert sorted(each for each in images if each[0] in STRUCK) == [(name, "active") for name in STRUCK]


def request(team: Team, recipe: Path) -> str:
    """The id of the job that builds `recipe`."""
    done = team.run("builds", "request", str(recipe), "--json")
    assert done.returncode == 0, done.stderr
    return str(json.loads(done.stdout)["job"])
