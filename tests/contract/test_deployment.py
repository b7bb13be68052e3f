"""What starts the service, as those see it who will: the Compose specification, and systemd."""

import copy
import json
import shutil
import subprocess
from pathlib import Path
from typing import Any

import pytest
import yaml
from jsonschema import Draft201909Validator

from imagefactory.model.job import Role
from tests.doc_pages import ROOT
from tests.servers.debian import QUIET
from tests.servers.team import ACCOUNTS, BEAT, GROUP

# Debian's docker-compose has the schema of the specification.
SCHEMA = Path("/usr/lib/python3/dist-packages/compose/config/compose_spec.json")
SYSTEMD = ROOT / "deploy/systemd"
UNITS = (*(f"imagefactory-worker@{role}.service" for role in Role), f"imagefactory-{BEAT}.service")


def run(*argv: str, **environ: str) -> "subprocess.CompletedProcess[str]":
    return subprocess.run(argv, env={**QUIET, **environ}, capture_output=True, text=True, timeout=120, check=False)


def errors(document: Any) -> list[str]:  # noqa: ANN401 - whatever YAML has
    validator = Draft201909Validator(json.loads(SCHEMA.read_text()))
    return [error.message for error in validator.iter_errors(document)]


def test_the_composition_is_one_by_the_specification() -> None:
    document = yaml.safe_load((ROOT / "docker-compose.yml").read_text())
    del document["x-process"], document["x-boots"], document["x-environment"]
    assert errors(document) == []
    broken = copy.deepcopy(document)
    broken["services"][BEAT]["read_onyl"] = True
    assert errors(broken) != []


def test_compose_reads_it_with_nothing_set(tmp_path: Path) -> None:
    done = run("docker-compose", "--file", str(ROOT / "docker-compose.yml"), "config", HOME=str(tmp_path))
    assert done.returncode == 0, done.stderr
    assert "is not set" not in done.stderr
    read = yaml.safe_load(done.stdout)["services"]
    assert read[f"worker-{Role.BUILD}"]["privileged"] is True
    assert read[f"worker-{Role.SIGN}"]["read_only"] is True


@pytest.fixture
def units(tmp_path: Path) -> Path:
    """The units, with a program that is there: what is installed where is not what is looked at."""
    shutil.copytree(SYSTEMD, tmp_path / "units")
    for path in (tmp_path / "units").glob("*.service"):
        path.write_text(path.read_text().replace("/opt/imagefactory/bin/imagefactory", "/bin/true"))
    return tmp_path / "units"


@pytest.mark.parametrize("unit", UNITS)
def test_systemd_reads_the_units(unit: str, units: Path) -> None:
    done = run("systemd-analyze", "verify", "--man=no", unit, SYSTEMD_UNIT_PATH=f"{units}:")
    assert (done.returncode, done.stderr) == (0, "")


def test_systemd_would_say_so_if_it_did_not(units: Path) -> None:
    unit = units / f"imagefactory-{BEAT}.service"
    unit.write_text(unit.read_text().replace("ProtectSystem=strict", "ProtectSystem=stritc"))
    assert "stritc" in run("systemd-analyze", "verify", "--man=no", unit.name, SYSTEMD_UNIT_PATH=f"{units}:").stderr


def test_accounts_and_directories_are_made(tmp_path: Path) -> None:
    (tmp_path / "etc/imagefactory/sign").mkdir(parents=True)
    password = tmp_path / "etc/imagefactory/sign/pgpass"
    password.write_text("secret")
    for program, file in (("systemd-sysusers", "sysusers.conf"), ("systemd-tmpfiles --create", "tmpfiles.conf")):
        done = run(*program.split(), f"--root={tmp_path}", str(SYSTEMD / file))
        assert done.returncode == 0, done.stderr
    for who, account in ACCOUNTS.items():
        status = (tmp_path / "var/lib/imagefactory" / who).stat()
        assert (status.st_uid, status.st_gid, status.st_mode & 0o7777) == (account, GROUP, 0o700)
    assert (password.stat().st_uid, password.stat().st_mode & 0o7777) == (ACCOUNTS[Role.SIGN], 0o600)
    assert (tmp_path / "var/lib/imagefactory/store").stat().st_mode & 0o7777 == 0o3775
