"""Keys that are believed for some image names alone, on a host with fakes for slow programs."""

from collections.abc import Callable
from dataclasses import replace
from datetime import UTC, datetime
from pathlib import Path

import pytest

from imagefactory.factory.rotation import Replaced, finish, rotate
from imagefactory.tools import durable
from imagefactory.tools.audit_log import AuditLog
from signing.keys import KeyRing
from signing.trust import Trust, load_trust
from tests.contract.shell import Shell
from tests.fakes.host import FakeHost, folders, make_keys

NAME = "fake-debian-12"
At = Callable[..., None]


@pytest.fixture
def at(monkeypatch: pytest.MonkeyPatch) -> At:
    """Command lines are given on this host from here on."""

    def there(host: FakeHost) -> None:
        for name, value in host.environ.items():
            monkeypatch.setenv(name, value)

    return there


def keyid_at(host: FakeHost, purpose: str) -> str:
    return str(KeyRing(host.home / "keys").metadata.keyids[purpose])


def trusted(host: FakeHost) -> Trust:
    return load_trust(host.home / "trust.json")


def released(host: FakeHost) -> Path:
    (folder,) = folders(host.home / "catalogue", NAME)
    return folder


@pytest.mark.parametrize("purpose", ["release", "provenance"])
def test_a_key_is_believed_for_its_names_alone(built: FakeHost, shell: Shell, at: At, purpose: str) -> None:
    at(built)
    key, folder, ref = keyid_at(built, purpose), released(built), f"{NAME}@{released(built).name}"
    assert trusted(built).names[key] == ("*",)
    assert shell.json("verify", folder)[0] == 0

    status, said = shell.json("keys", "trust", key[:16], "--name", "soe-b", "--name", "soe-a", "--dry-run")
    assert (status, said["dry_run"], said["before"], said["names"]) == (0, True, ["*"], ["soe-a", "soe-b"])
    assert (said["key"], said["purpose"], said["lost"]) == (key, purpose, [ref])
    assert trusted(built).names[key] == ("*",), "only said"

    refresh = f"imagefactory catalogue refresh {built.home / 'catalogue'}"
    assert said["left"] == [refresh]
    status, text = shell.text("keys", "trust", key[:16], "--name", "soe-b", "--name", "soe-a")
    assert (status, text.splitlines()[:3]) == (
        0,
        [f"{purpose} {key[:16]} is believed for soe-a, soe-b", f"  lost       {ref}", f"to do: {refresh}"],
    )
    assert trusted(built).names[key] == ("soe-a", "soe-b")
    assert shell.refused("verify", folder) == (1, "key-name")
    assert shell.refused("build", built.recipe_file) == (1, "key-name")
    plan = shell.json("plan", built.recipe_file)[1]["actions"]
    (sign,) = (action for action in plan if action["step"] == "sign")
    assert sign["reason"] == f"{ref} does not verify any more: {purpose} key {key[:16]} may not sign for '{NAME}'"

    assert shell.json("keys", "trust", key[:16], "--name", NAME)[1]["lost"] == []
    assert shell.json("verify", folder)[0] == 0
    assert not built.build().worked
    assert shell.json("keys", "trust", key[:16], "--every-name")[1]["names"] == ["*"]
    assert shell.json("keys", "trust", key[:16], "--every-name")[1]["before"] == ["*"]
    log = AuditLog(built.home / "audit.log")
    limited = [entry.details for entry in log.entries() if entry.event == "key-limited"]
    assert [each["names"] for each in limited] == ["soe-a soe-b", NAME, "*"]
    assert {(each["purpose"], each["keyid"]) for each in limited} == {(purpose, key)}
    log.verify()


def test_the_list_of_keys_has_their_names(built: FakeHost, shell: Shell, at: At) -> None:
    at(built)
    assert shell.json("keys", "trust", keyid_at(built, "release"), "--name", NAME)[0] == 0
    found = {each["purpose"]: each["names"] for each in shell.json("keys", "list")[1]["keys"]}
    assert (found["release"], found["provenance"]) == ([NAME], ["*"])
    assert not any(names for purpose, names in found.items() if purpose not in {"release", "provenance"})
    text = shell.text("keys", "list")[1]
    assert [line.split()[4] for line in text.splitlines() if line.startswith("release")] == [NAME]
    assert "every name" in text


def test_its_successor_is_believed_for_the_same_names(built: FakeHost, shell: Shell, at: At) -> None:
    at(built)
    for purpose in ("release", "provenance"):
        old = keyid_at(built, purpose)
        assert shell.json("keys", "trust", old, "--name", NAME)[0] == 0
        assert shell.json("keys", "rotate", purpose)[0] == 0
        names = trusted(built).names
        assert names[keyid_at(built, purpose)] == names[old] == (NAME,)
        assert shell.json("keys", "revoke", old)[0] == 0
        assert old not in trusted(built).names
    assert built.build().worked
    assert shell.json("verify", folders(built.home / "catalogue")[-1])[0] == 0


def test_an_interrupted_rotation_widens_nothing(tmp_path: Path) -> None:
    """Whatever the trust file says by then of the old key, the new one gets the names of the moment of decision; and a
    key that is there already keeps its own."""
    root = make_keys(tmp_path / "home")
    old, file = KeyRing(root / "keys").keyid("release"), root / "trust.json"

    def believe(trust: Trust) -> None:
        durable.replace_file(file, trust.encode())

    believe(replace(load_trust(file), names={**load_trust(file).names, old: ("soe-a",)}))

    def pulled(_: Replaced) -> None:
        raise OSError("somebody pulled the plug")

    with pytest.raises(OSError, match="pulled"):
        rotate(root / "keys", file, "release", lambda: b"", now=datetime.now(UTC), note=pulled)
    stranger = load_trust(make_keys(tmp_path / "other") / "trust.json")
    believe(replace(load_trust(file), release=stranger.release, names={**load_trust(file).names, **stranger.names}))
    assert finish(root / "keys", file, lambda _: None)
    trust = load_trust(file)
    assert old not in trust.release
    assert trust.names[KeyRing(root / "keys").keyid("release")] == ("soe-a",)


@pytest.mark.parametrize(
    "options",
    [
        [],
        ["--name", "soe-a", "--every-name"],
        ["--name", ""],
        ["--name", "*"],
        ["--name", "soe-*"],
        ["--name", "soe-a,soe-b"],
        ["--name", "soe-a@20251121.1"],
        ["--name", "../x"],
    ],
)
def test_names_that_are_none(built: FakeHost, shell: Shell, at: At, options: list[str]) -> None:
    at(built)
    before = (built.home / "trust.json").read_bytes()
    status, code = shell.refused("keys", "trust", keyid_at(built, "release"), *options)
    assert (status, code) in {(2, "usage"), (2, "release-name-invalid")}
    assert (built.home / "trust.json").read_bytes() == before


def test_which_key_is_meant(built: FakeHost, shell: Shell, at: At) -> None:
    """Only keys of the trust file have names; a CA has none."""
    at(built)
    authority = next(each for each in shell.json("keys", "list")[1]["keys"] if each["purpose"] == "glance-ca")
    for prefix in ("", "0123456", "f" * 64, keyid_at(built, "glance"), authority["keyid"]):
        assert shell.refused("keys", "trust", prefix, "--every-name") == (2, "key-unknown")


def test_where_images_are_only_verified(
    built: FakeHost, tmp_path: Path, shell: Shell, at: At, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A machine with a trust file and nothing else."""
    at(built)
    key, folder = keyid_at(built, "release"), released(built)
    assert shell.json("keys", "export", tmp_path / "public")[0] == 0
    monkeypatch.setenv("IMAGEFACTORY_HOME", str(tmp_path / "none"))
    monkeypatch.setenv("IMAGEFACTORY_TRUST", str(tmp_path / "public/trust.json"))
    assert shell.json("keys", "trust", key, "--name", "soe-a")[0] == 0
    assert shell.refused("verify", folder) == (1, "key-name")
    assert not (tmp_path / "none").exists()
