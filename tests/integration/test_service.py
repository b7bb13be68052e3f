"""The service with nothing fake in it: broker, database, cloud and programs; each role has an account of its own. What
is done is what its tutorial says."""

import json
import os
import subprocess
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from tests.doc_pages import ROOT, Command, steps
from tests.fakes import traces
from tests.integration.homes import BUILD_TIMEOUT
from tests.integration.test_docs import SERVICE, converse, make_clone
from tests.openstack.fixtures import Cloud
from tests.servers import playground
from tests.servers.directories import open_to_others

NAME = "scheduled-debian-12"
STATE = ".service"


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
