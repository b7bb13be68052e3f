"""Homes of roles: what is in them, and that a worker with more than its role needs does not start."""

import os
from dataclasses import replace
from pathlib import Path

import pytest

from imagefactory.errors.service import Overprivileged
from imagefactory.factory.key_inventory import inventory
from imagefactory.factory.provision import provision
from imagefactory.model.job import KEYS, Role
from imagefactory.service.custody import held, require
from imagefactory.settings import Settings, read_settings
from signing.errors import KeysExist, KeysMissing
from signing.keys import AUTHORITY, KeyRing
from signing.trust import load_trust
from tests.fakes.host import FakeHost
from tests.fakes.softhsm import SoftToken


@pytest.fixture(autouse=True)
def _somebody(monkeypatch: pytest.MonkeyPatch) -> None:
    """Not root, but where a test says so."""
    monkeypatch.setattr(os, "geteuid", lambda: 1000)


def home_of(role: Role, settings: Settings, directory: Path) -> Settings:
    provision(settings, role, directory)
    return read_settings({"HOME": str(directory), "IMAGEFACTORY_HOME": str(directory), "PATH": "/usr/bin"})


@pytest.mark.parametrize("role", Role)
def test_a_role_has_its_keys_and_no_other(host: FakeHost, tmp_path: Path, role: Role) -> None:
    made = home_of(role, host.settings, tmp_path / role)
    require(role, made, system=tmp_path)
    if KEYS[role]:
        assert held(made.keys) == KEYS[role]
        ring, whole = KeyRing(made.keys), KeyRing(host.settings.keys)
        assert {ring.keyid(purpose) for purpose in ring.metadata.keyids} == {  # type: ignore[arg-type]
            whole.keyid(purpose)  # type: ignore[arg-type]
            for purpose in KEYS[role]
        }
    else:
        assert not made.keys.exists()
    assert (made.home / "trust.json").read_bytes() == (host.home / "trust.json").read_bytes()
    assert (made.home / "policy.json").exists() == (role is Role.SIGN)
    assert {path.stat().st_mode & 0o077 for path in made.home.rglob("*")} == {0}


@pytest.mark.parametrize("role", Role)
def test_all_keys_are_too_much_for_anybody(host: FakeHost, tmp_path: Path, role: Role) -> None:
    with pytest.raises(Overprivileged, match="the root key in"):
        require(role, host.settings, system=tmp_path)


@pytest.mark.parametrize("role", [role for role in Role if role is not Role.BUILD])
def test_root_is_too_much(host: FakeHost, tmp_path: Path, role: Role, monkeypatch: pytest.MonkeyPatch) -> None:
    made = home_of(role, host.settings, tmp_path / role)
    monkeypatch.setattr(os, "geteuid", lambda: 0)
    with pytest.raises(Overprivileged, match="it is root"):
        require(role, made, system=tmp_path)


@pytest.mark.parametrize("role", [role for role in Role if role is not Role.PUBLISH])
def test_credentials_of_clouds_are_too_much(host: FakeHost, tmp_path: Path, role: Role) -> None:
    made = home_of(role, host.settings, tmp_path / role)
    (tmp_path / "clouds.yaml").write_text("clouds: {}\n")
    with pytest.raises(Overprivileged, match=r"clouds\.yaml"):
        require(role, made, system=tmp_path)
    with pytest.raises(Overprivileged, match="OS_CLOUD in its environment"):
        require(role, replace(made, environ={**made.environ, "OS_CLOUD": "one"}), system=tmp_path / "none")
    own = made.home / ".config/openstack"
    own.mkdir(parents=True)
    (own / "secure.yaml").write_text("clouds: {}\n")
    with pytest.raises(Overprivileged, match=r"secure\.yaml"):
        require(role, made, system=tmp_path / "none")


def test_who_publishes_has_credentials(host: FakeHost, tmp_path: Path) -> None:
    made = home_of(Role.PUBLISH, host.settings, tmp_path / "publish")
    (tmp_path / "clouds.yaml").write_text("clouds: {}\n")
    require(Role.PUBLISH, made, system=tmp_path)


@pytest.mark.parametrize("role", [Role.BUILD, Role.SIGN])
def test_a_role_without_its_keys(host: FakeHost, tmp_path: Path, role: Role) -> None:
    made = home_of(role, host.settings, tmp_path / role)
    (made.keys / f"{min(KEYS[role])}.pem").unlink()
    with pytest.raises(KeysMissing, match=min(KEYS[role])):
        require(role, made, system=tmp_path)


def test_keys_in_a_token_count(token_keys: Path, token: SoftToken, tmp_path: Path) -> None:
    whole = read_settings({"HOME": str(token_keys), "IMAGEFACTORY_HOME": str(token_keys), **token.environ})
    made = home_of(Role.SIGN, whole, tmp_path / "sign")
    assert held(made.keys) == KEYS[Role.SIGN]
    assert not list(made.keys.glob("release*.pem"))


def test_a_home_is_made_whole_or_not_at_all(host: FakeHost, tmp_path: Path) -> None:
    (tmp_path / "there").mkdir()
    (tmp_path / "there/something").touch()
    with pytest.raises(KeysExist):
        provision(host.settings, Role.SIGN, tmp_path / "there")
    with pytest.raises(KeysMissing):
        provision(replace(host.settings, home=tmp_path / "nowhere"), Role.SIGN, tmp_path / "sign")
    assert sorted(path.name for path in tmp_path.iterdir() if "sign" in path.name) == []


@pytest.mark.parametrize("role", [Role.BUILD, Role.SIGN])
def test_a_home_without_the_ca_lists_its_keys(host: FakeHost, tmp_path: Path, role: Role) -> None:
    """The CA stays where the keys came from; what is said of its end is in the trust file."""
    made = home_of(role, host.settings, tmp_path / role)
    entries = inventory(load_trust(made.home / "trust.json"), KeyRing(made.keys))
    assert {each.purpose for each in entries if each.where} == KEYS[role]
    (ca,) = [each for each in entries if each.purpose == AUTHORITY]
    assert ca.expires is not None
    assert ca.where is None
