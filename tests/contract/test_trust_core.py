"""Policy and audit log as people meet them: on the command line, around whole builds."""

import shutil
from collections.abc import Callable

import pytest

from imagefactory.errors import PolicyMissing
from imagefactory.model.policy import Policy
from imagefactory.store.records import release_version
from imagefactory.tools.audit_log import AuditLog
from signing.keys import PURPOSES, KeyRing
from signing.manifest import AuditHead
from tests.contract.shell import Shell
from tests.fakes.host import FakeHost, folders

NAME = "fake-debian-12"


@pytest.fixture
def strict(host: FakeHost, on: Callable[[FakeHost], FakeHost]) -> FakeHost:
    """A host whose policy approves nothing yet."""
    (host.home / "policy.json").write_bytes(Policy(False, {}).encode())
    return on(host)


def test_a_recipe_is_approved_and_changed_and_removed(strict: FakeHost, shell: Shell) -> None:
    recipe = strict.recipe_file
    assert shell.refused("policy", "check", recipe) == (1, "name-not-approved")
    status, dry = shell.json("policy", "approve", recipe, "--dry-run")
    assert (status, dry["changed"]) == (0, False)
    assert shell.refused("policy", "check", recipe) == (1, "name-not-approved")
    status, done = shell.json("policy", "approve", recipe)
    assert (status, done["changed"], done["changes"]) == (0, True, dry["changes"])
    builder = KeyRing(strict.home / "keys").keyid("provenance")
    assert f"+ builder {builder}" in done["changes"]
    assert any(line.startswith("+ element plain sha256:") for line in done["changes"])
    assert shell.text("policy", "check", recipe) == (0, f"{NAME} is approved\n")
    assert shell.json("policy", "approve", recipe)[1]["changed"] is False
    (recipe.parent / "elements/plain/element-provides").write_text("operating-system\nmore\n")
    assert shell.refused("policy", "check", recipe) == (1, "element-not-approved")
    assert len(shell.json("policy", "approve", recipe, "--add")[1]["changes"]) == 1
    recipe.write_text(recipe.read_text().replace("openssl", "bash"))
    assert shell.refused("policy", "check", recipe) == (1, "recipe-not-approved")
    changes = shell.json("policy", "approve", recipe)[1]["changes"]
    assert [line[0] for line in changes] == ["+", "-", "-"]
    status, shown = shell.json("policy", "show")
    assert len(shown["names"][NAME]["recipes"]) == 1
    assert builder in shell.text("policy", "show")[1]
    assert shell.refused("policy", "remove", "other") == (1, "name-not-approved")
    assert shell.json("policy", "remove", NAME)[1]["changed"] is True
    assert shell.text("policy", "show")[1].endswith("approves nothing\n")
    events = [entry.event for entry in AuditLog(strict.home / "audit.log").entries()]
    assert events == ["policy-changed"] * 4


def test_what_is_not_approved_is_not_even_built(strict: FakeHost, shell: Shell) -> None:
    assert shell.refused("build", strict.recipe_file) == (1, "name-not-approved")
    assert not list((strict.home / "artifacts").glob("sha256/*/*"))
    assert shell.text("policy", "approve", strict.recipe_file)[0] == 0
    with strict.factory() as factory:
        assert factory.build(strict.load()).worked


def test_lost_records_cost_no_version(host: FakeHost) -> None:
    """The signer remembers what it signed; the build after that goes on behind it."""
    with host.factory() as factory:
        signed = release_version(factory.build(host.load()).release)
    (host.home / "imagefactory.db").unlink()
    host.offer({"openssl": "3.0.17-2", "bash": "5.2.15-2"}, in_release="second")
    with host.factory() as factory:
        assert release_version(factory.build(host.load()).release) > signed


def test_a_policy_is_made_with_the_keys_or_by_itself(host: FakeHost, shell: Shell, on: Callable[..., FakeHost]) -> None:
    on(host)
    assert shell.refused("policy", "init") == (2, "output-exists")
    (host.home / "policy.json").unlink()
    assert shell.refused("policy", "show") == (1, "policy-missing")
    with pytest.raises(PolicyMissing):
        host.build()
    assert shell.text("policy", "init") == (0, f"policy {host.home / 'policy.json'}\n")
    assert shell.json("policy", "show")[1]["development"] is True
    assert shell.text("policy", "check", host.recipe_file)[0] == 0


def test_the_log_of_a_build_is_verified_and_a_cut_shows(
    built: FakeHost, shell: Shell, on: Callable[[FakeHost], FakeHost]
) -> None:
    host = on(built)
    status, found = shell.json("audit", "verify")
    assert (status, found["verified"]["releases"]) == (0, 1)
    assert shell.text("audit", "verify")[1].startswith("VERIFIED ")
    shown = shell.json("audit", "show")[1]["entries"]
    used = [entry["details"]["purpose"] for entry in shown if entry["event"] == "key-used"]
    assert set(PURPOSES) == set(used), "those of the catalogue that it began, too"
    assert [entry["event"] for entry in shown].count("signed") == 1
    assert shell.json("audit", "show", "--event", "signed")[1]["entries"][0]["details"]["about"].startswith(NAME)
    assert shell.text("audit", "show", "--since", "2999-01-01") == (0, "no entries\n")
    log = host.home / "audit.log"
    whole = log.read_bytes()
    lines = whole.splitlines(keepends=True)
    signing = next(n for n, entry in enumerate(shown) if entry["event"] == "signing")
    for kept in (0, signing, signing + 1):
        log.write_bytes(b"".join(lines[:kept]))
        assert shell.refused("audit", "verify") == (1, "audit-cut")
    log.write_bytes(whole.replace(b"key-used", b"key-lost", 1))
    assert shell.refused("audit", "verify") == (1, "audit-damaged")


def test_publications_are_in_the_log(built: FakeHost) -> None:
    entries = list(AuditLog(built.home / "audit.log").entries())
    (published,) = [entry for entry in entries if entry.event == "published"]
    assert published.details["about"].startswith(f"{NAME}@")
    assert published.details["target"].startswith("catalogue:")


def test_a_lost_database_hides_no_cut(built: FakeHost, shell: Shell, on: Callable[[FakeHost], FakeHost]) -> None:
    """The database can be made again by building, and is the first thing that somebody with something to hide loses."""
    host, log = on(built), built.home / "audit.log"
    whole = log.read_bytes()
    for path in host.home.glob("imagefactory.db*"):
        path.unlink()
    assert shell.json("audit", "verify")[1]["verified"]["releases"] == 1
    log.write_bytes(b"")
    assert shell.refused("audit", "verify") == (1, "audit-cut")
    shutil.rmtree(host.home / "catalogue")
    assert shell.refused("audit", "verify") == (1, "audit-cut"), "the signer's memory alone knows"
    log.write_bytes(whole)
    assert shell.json("audit", "verify")[0] == 0


def test_what_is_in_the_catalogue_was_signed_here(
    built: FakeHost, shell: Shell, on: Callable[[FakeHost], FakeHost]
) -> None:
    host, log = on(built), built.home / "audit.log"
    for path in host.home.glob("imagefactory.db*"):
        path.unlink()
    shutil.rmtree(host.home / "signed")
    lines = log.read_bytes().splitlines(keepends=True)
    signed = next(n for n, entry in enumerate(AuditLog(log).entries()) if entry.event == "signed")
    log.write_bytes(b"".join(lines[:signed]))
    assert shell.refused("audit", "verify") == (1, "audit-cut")


def test_a_signer_killed_before_it_could_say_so_is_no_cut(
    built: FakeHost, shell: Shell, on: Callable[[FakeHost], FakeHost]
) -> None:
    """It remembers first; the documents had not left it."""
    host, log = on(built), built.home / "audit.log"
    for path in host.home.glob("imagefactory.db*"):
        path.unlink()
    shutil.rmtree(host.home / "catalogue")
    lines = log.read_bytes().splitlines(keepends=True)
    signed = next(n for n, entry in enumerate(AuditLog(log).entries()) if entry.event == "signed")
    log.write_bytes(b"".join(lines[:signed]))
    assert shell.json("audit", "verify")[1]["verified"]["releases"] == 1


def test_one_version_is_not_signed_as_two_things(
    built: FakeHost, shell: Shell, on: Callable[[FakeHost], FakeHost]
) -> None:
    log = AuditLog(on(built).home / "audit.log")
    (signed,) = [entry for entry in log.entries() if entry.event == "signed"]
    log.append("given-again", **signed.details)
    assert shell.json("audit", "verify")[0] == 0
    log.append("signed", about=signed.details["about"], manifest="0" * 64)
    assert shell.refused("audit", "verify") == (1, "audit-cut")


def test_an_entry_that_was_never_finished_is_told(
    built: FakeHost, shell: Shell, on: Callable[[FakeHost], FakeHost]
) -> None:
    log = on(built).home / "audit.log"
    assert shell.json("audit", "verify")[1]["verified"]["unfinished_bytes"] == 0
    with log.open("ab") as stream:
        stream.write(b'{"details":{"ab')
    status, text = shell.text("audit", "verify")
    assert status == 0
    assert "never finished (15 bytes)" in text
    assert shell.json("audit", "verify")[1]["verified"]["unfinished_bytes"] == 15
    assert shell.json("audit", "show")[0] == 0


class Killed(BaseException):
    """Nobody catches it."""


def test_a_publication_is_in_the_log_before_it_is_done(
    host: FakeHost, on: Callable[[FakeHost], FakeHost], monkeypatch: pytest.MonkeyPatch
) -> None:
    """Killed in between, the next run publishes, and says so."""
    on(host)
    real = AuditLog.append

    def killed(log: AuditLog, event: str, **details: str) -> AuditHead:
        if event == "published":
            raise Killed
        return real(log, event, **details)

    with monkeypatch.context() as patch:
        patch.setattr(AuditLog, "append", killed)
        with pytest.raises(Killed):
            host.build()
    host.build()
    events = [entry.event for entry in AuditLog(host.home / "audit.log").entries()]
    assert events.count("published") == len(folders(host.home / "catalogue")) == 1
