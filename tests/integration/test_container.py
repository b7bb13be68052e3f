"""The image of the Dockerfile, of a Debian from this host's mirror, and that nothing is in it which came by the way."""

import re
from collections.abc import Iterator
from pathlib import Path

import pytest

from imagefactory import __version__
from imagefactory.model.job import KEYS, Role
from tests.integration.homes import ROOT, imagefactory
from tests.servers.containers import Images, images, pip_configuration
from tests.servers.team import ACCOUNTS, GROUP

BASE, IMAGE = "localhost/base", "localhost/imagefactory-small"


@pytest.fixture
def made(tmp_path: Path) -> Iterator[Images]:
    found = images(tmp_path)
    yield found
    found.close()


def test_the_image_has_the_command_and_fills_homes(made: Images, tmp_path: Path) -> None:
    made.base(BASE)
    made.build(ROOT, "small", BASE, IMAGE)

    assert made.run(IMAGE, ["imagefactory", "--version"]).split() == ["imagefactory", __version__]
    assert "--role" in made.run(IMAGE, ["imagefactory", "worker", "--help"])
    assert made.run(IMAGE, ["id", "--user"]).strip() == str(ACCOUNTS["beat"])
    names = {line.split("==")[0] for line in made.run(IMAGE, ["pip", "freeze"]).splitlines()}
    assert {"celery", "psycopg", "openstacksdk"} <= names
    assert names.isdisjoint({"atheris", "hypothesis", "mypy", "pytest", "ruff"})

    configuration, _ = pip_configuration()
    hosts = set(re.findall(r"://([^/\s]+)", configuration))
    said = made.described(IMAGE) + made.run(IMAGE, ["sh", "-c", "cat /etc/pip.conf /opt/imagefactory/pip.conf; env"])
    assert not any(host in said for host in hosts)

    everything, keys, state = tmp_path / "everything", tmp_path / "keys", tmp_path / "state"
    assert imagefactory(everything, "keys", "init", "--development").status == 0
    volumes = [f"--volume={everything}:/factory", f"--volume={keys}:/keys", f"--volume={state}:/state"]
    keys.mkdir()
    state.mkdir()
    kept = "provision && provision && cp --archive /var/lib/imagefactory/. /state/"
    made.run(IMAGE, ["sh", "-euc", kept], "--user=0:0", *volumes)
    for role in Role:
        home = state / role
        assert (home.stat().st_uid, home.stat().st_gid, home.stat().st_mode & 0o777) == (ACCOUNTS[role], GROUP, 0o700)
        assert (home / "trust.json").stat().st_uid == ACCOUNTS[role]
        assert (home / "root.json").is_file()
        assert not (home / "keys").exists()
        private = {path.stem for path in (keys / role).glob("*.pem")}
        assert private == KEYS[role]
        for path in (keys / role, *(keys / role).glob("*")) if private else ():
            assert (path.stat().st_uid, path.stat().st_mode & 0o077) == (ACCOUNTS[role], 0)
    catalogue = state / "catalogue"
    owners = {path.name: path.stat().st_uid for path in catalogue.iterdir()}
    assert owners == {"metadata": ACCOUNTS[Role.SIGN], "targets": ACCOUNTS[Role.PUBLISH]}
    assert {path.stat().st_uid for path in (catalogue / "metadata").iterdir()} == {ACCOUNTS[Role.SIGN]}
