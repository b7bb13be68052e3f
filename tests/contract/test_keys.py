"""The life of keys, on a host with fakes for slow programs: made, used, replaced, revoked, handed out."""

import errno
import json
import os
import pty
import resource
import shutil
import stat
import subprocess
import sys
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import replace
from datetime import UTC, datetime
from itertools import count
from pathlib import Path

import keyring
import pytest
from cryptography import x509
from cryptography.exceptions import InvalidSignature
from keyring.backend import KeyringBackend
from keyring.backends import fail

from imagefactory.errors import CatalogueUninitialised
from imagefactory.factory import approvals, keys, rotation
from imagefactory.factory.keys import Custody, init_keys
from imagefactory.factory.loop import Factory
from imagefactory.factory.rotation import DECISION, JOURNAL, Replaced, Rotated, Rotation, finish, rotate
from imagefactory.model.build import PublicationState
from imagefactory.model.policy import Policy
from imagefactory.progress import Progress
from imagefactory.settings import Settings
from imagefactory.store.records import release_version
from imagefactory.tools import durable
from imagefactory.tools.audit_log import AuditLog
from imagefactory.wiring import factory
from signing.errors import PassphraseMissing, PassphraseWrong, SigningError, Unwritable
from signing.keys import PURPOSES, KeyRing, Purpose
from signing.manifest import MANIFEST_FILE
from signing.signer import signer_in
from signing.trust import load_trust
from tests.contract.shell import Shell
from tests.fakes.boots import boot_test
from tests.fakes.host import FakeHost, begin_catalogue, folders, make_keys
from tests.fakes.softhsm import SoftToken
from tests.unit.signing.test_signer import ACCEPTED

NOW = datetime.now(UTC)
PASSPHRASE = "correct horse battery staple"
ROTATED: tuple[Rotated, ...] = ("release", "provenance", "glance", "glance-ca", "targets")


@pytest.fixture
def secret(tmp_path: Path) -> Path:
    path = tmp_path / "passphrase"
    path.write_text(f"{PASSPHRASE}\n")
    path.chmod(0o600)
    return path


@pytest.fixture
def shell(capsys: pytest.CaptureFixture[str]) -> Shell:
    return Shell(capsys)


@pytest.fixture
def at(monkeypatch: pytest.MonkeyPatch) -> Callable[..., None]:
    """Command lines are given on this host from here on."""

    def there(host: FakeHost, **more: str) -> None:
        for name, value in {**host.environ, **more}.items():
            monkeypatch.setenv(name, value)

    return there


def rotate_here(root: Path, name: Rotated) -> Rotation:
    return rotate(root / "keys", root / "trust.json", name, lambda: b"", now=NOW, note=lambda _: None)


def signs_and_is_believed(root: Path) -> None:
    """Every key works, and what should be trusted is."""
    ring, trust = KeyRing(root / "keys"), load_trust(root / "trust.json")
    for purpose in PURPOSES:
        signer = signer_in(ring, purpose)
        for payload in ACCEPTED[purpose]:
            signer.sign(payload)
        if purpose in {"release", "provenance"}:
            assert trust.purpose_of(signer.keyid) == purpose
    assert any(not _fails(ring.certificate().verify_directly_issued_by, ca) for ca in trust.glance_ca)


def _fails(check: Callable[[x509.Certificate], None], ca: x509.Certificate) -> bool:
    try:
        check(ca)
    except (InvalidSignature, TypeError, ValueError):  # what verify_directly_issued_by says no with
        return True
    return False


# -- replacing ---------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", ROTATED)
def test_a_key_is_replaced(tmp_path: Path, name: Rotated) -> None:
    root = make_keys(tmp_path / "home")
    before, trusted = KeyRing(root / "keys"), load_trust(root / "trust.json")
    done = rotate_here(root, name)
    signs_and_is_believed(root)
    after, trust = KeyRing(root / "keys"), load_trust(root / "trust.json")
    changed = {each for each in PURPOSES if before.keyid(each) != after.keyid(each)}
    assert changed == {"glance" if name == "glance-ca" else name}
    assert trust.release.keys() >= trusted.release.keys()
    assert trust.provenance.keys() >= trusted.provenance.keys()
    assert set(trust.glance_ca) >= set(trusted.glance_ca)
    assert (len(trust.release), len(trust.provenance), len(trust.glance_ca)) == (
        1 + (name == "release"),
        1 + (name == "provenance"),
        1 + (name == "glance-ca"),
    )
    assert done.trust_changed is (name in {"release", "provenance", "glance-ca"})
    private = {path.name for path in (root / "keys").glob("*.pem")}
    assert len(private) == len(PURPOSES) + 1
    for each in done.replaced:
        kept = {path.suffix for path in (root / "keys").glob(f"{each.name}.{each.old[:16]}.*")}
        assert ".pem" not in kept
        assert kept, "its public half stays"
    assert {stat.S_IMODE(path.stat().st_mode) for path in (root / "keys").iterdir()} == {0o600}
    assert stat.S_IMODE((root / "trust.json").stat().st_mode) == 0o644
    rotate_here(root, name)
    signs_and_is_believed(root)


def prepare_here(root: Path, purpose: Purpose) -> KeyRing:
    return rotation.prepare(root / "keys", purpose, lambda: b"", now=NOW, note=lambda _: None)


def succeed_here(root: Path, purpose: Purpose) -> Rotation | None:
    return rotation.succeed(root / "keys", root / "trust.json", purpose, lambda _: None)


def test_a_successor_waits_and_takes_its_place(tmp_path: Path) -> None:
    root = make_keys(tmp_path / "home")
    before = KeyRing(root / "keys")
    waiting = prepare_here(root, "targets")
    assert prepare_here(root, "targets").keyid("targets") == waiting.keyid("targets"), "one waits, and no more"
    assert KeyRing(root / "keys").metadata == before.metadata
    assert {stat.S_IMODE(path.stat().st_mode) for path in waiting.directory.iterdir()} == {0o600}
    prepare_here(root, "freshness")
    assert rotate_here(root, "release").replaced, "others go on"
    done = succeed_here(root, "targets")
    assert done is not None
    assert [(each.name, each.old) for each in done.replaced] == [("targets", before.keyid("targets"))]
    assert KeyRing(root / "keys").keyid("targets") == waiting.keyid("targets")
    assert KeyRing(root / "keys").keyid("freshness") == before.keyid("freshness")
    assert not waiting.directory.exists()
    assert succeed_here(root, "targets") is None
    assert not (root / "keys/targets.pem").exists()
    assert (root / f"keys/targets.{before.keyid('targets')[:16]}.pub").exists()
    signs_and_is_believed(root)


STEPS = ("fsync", "link", "rename", "replace", "rmdir", "unlink")


@pytest.mark.parametrize("name", ["release", "glance", "glance-ca"])
def test_killed_anywhere(tmp_path: Path, name: Rotated) -> None:
    """A process that dies before any of its steps leaves keys that sign; the next run ends with one new key."""
    root = make_keys(tmp_path / "home")
    survived = 0
    while True:
        home = tmp_path / f"after-{survived}"
        shutil.copytree(root, home)
        before = KeyRing(home / "keys").metadata.keyids
        status = _dies_at(home, name, survived)
        signs_and_is_believed(home)
        done = before != KeyRing(home / "keys").metadata.keyids and not (home / "keys" / JOURNAL / DECISION).exists()
        rotate_here(home, name)
        signs_and_is_believed(home)
        after, trust = KeyRing(home / "keys"), load_trust(home / "trust.json")
        assert len([each for each in PURPOSES if before[each] != after.keyid(each)]) == 1
        assert len(list((home / "keys").glob("*.pem"))) == len(PURPOSES) + 1
        assert [path for path in (home / "keys").iterdir() if path.name.startswith(".")] == []
        assert len(trust.release) == 1 + (name == "release") * (2 if done else 1)
        if status == 0:
            break
        survived += 1
    assert survived > 20


def test_a_succession_killed_anywhere(tmp_path: Path) -> None:
    """There is always one key that signs, and the same command ends with the new one and nothing else."""
    root = make_keys(tmp_path / "home")
    before = KeyRing(root / "keys").keyid("targets")
    for survived in count():
        home = tmp_path / f"after-{survived}"
        shutil.copytree(root, home)
        status = _dies_in(lambda home=home: _succession(home), survived)  # type: ignore[misc]
        signs_and_is_believed(home)
        _succession(home)
        signs_and_is_believed(home)
        assert KeyRing(home / "keys").keyid("targets") != before
        assert len(list((home / "keys").glob("*.pem"))) == len(PURPOSES) + 1
        assert [path for path in (home / "keys").iterdir() if path.name.startswith(".")] == []
        if status == 0:
            break
    assert survived > 15


def _succession(home: Path) -> None:
    """What a rotation of the targets key does, where a catalogue changes in between; it is not begun twice."""
    if succeed_here(home, "targets") is None:
        prepare_here(home, "targets")
        succeed_here(home, "targets")


def _dies_at(home: Path, name: Rotated, survived: int) -> int:
    return _dies_in(lambda: rotate_here(home, name), survived)


def _dies_in(action: Callable[[], object], survived: int) -> int:
    child = os.fork()
    if child == 0:
        left, ended = [survived], 1
        try:
            for step in STEPS:
                setattr(os, step, _mortal(getattr(os, step), left))
            action()
            ended = 0
        finally:  # nothing may get from this copy of pytest into the tests that follow
            os._exit(ended)
    status = os.waitstatus_to_exitcode(os.waitpid(child, 0)[1])
    assert status in {0, 9}, "it was killed, or all went well"
    return status


def _mortal(real: Callable[..., object], left: list[int]) -> Callable[..., object]:
    def step(*args: object, **kwargs: object) -> object:
        if left[0] == 0:
            os._exit(9)
        left[0] -= 1
        return real(*args, **kwargs)

    return step


def test_another_rotation_finishes_one_that_was_interrupted(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    root = make_keys(tmp_path / "home")
    with monkeypatch.context() as broken:
        broken.setattr(rotation, "replace_file", _only_once(durable.replace_file))
        with pytest.raises(OSError, match="pulled"):
            rotate_here(root, "release")
    assert (root / "keys" / JOURNAL).is_dir()
    signs_and_is_believed(root)
    heard: list[str] = []
    done = rotate(
        root / "keys", root / "trust.json", "provenance", lambda: b"", now=NOW, note=lambda e: heard.append(e.name)
    )
    assert heard == ["release", "provenance"]
    assert [each.name for each in done.replaced] == ["provenance"]
    assert len(load_trust(root / "trust.json").release) == 2
    assert finish(root / "keys", root / "trust.json", lambda _: None) is None


def test_what_is_finished_later_brings_no_revoked_key_back(tmp_path: Path) -> None:
    root = make_keys(tmp_path / "home")
    first = KeyRing(root / "keys").keyid("release")
    rotate_here(root, "release")

    def pulled(_: Replaced) -> None:
        raise OSError("somebody pulled the plug")

    with pytest.raises(OSError, match="pulled"):
        rotate(root / "keys", root / "trust.json", "provenance", lambda: b"", now=NOW, note=pulled)
    trust = load_trust(root / "trust.json")
    without = {keyid: key for keyid, key in trust.release.items() if keyid != first}
    durable.replace_file(root / "trust.json", replace(trust, release=without).encode())
    assert finish(root / "keys", root / "trust.json", lambda _: None)
    signs_and_is_believed(root)
    after = load_trust(root / "trust.json")
    assert (set(after.release), len(after.provenance)) == (set(without), 2)


def _only_once(real: Callable[[Path, bytes], None]) -> Callable[[Path, bytes], None]:
    used: list[Path] = []

    def step(path: Path, content: bytes) -> None:
        if used:
            raise OSError("somebody pulled the plug")
        used.append(path)
        real(path, content)

    return step


def test_nothing_is_begun_that_cannot_be_finished(tmp_path: Path) -> None:
    root = make_keys(tmp_path / "home")
    trust = Path("/proc/version")
    with pytest.raises(SigningError):
        rotate(root / "keys", trust, "release", lambda: b"", now=NOW, note=lambda _: None)
    assert not (root / "keys" / JOURNAL).exists()


def test_a_rotation_is_not_decided_when_the_policy_cannot_follow(
    host: FakeHost, shell: Shell, at: Callable[..., None]
) -> None:
    at(host)
    before = keyid_at(host, "provenance")
    policy = (host.home / "policy.json").read_bytes()
    (host.home / "policy.json").write_text("{}")
    assert shell.refused("keys", "rotate", "provenance") == (1, "policy-invalid")
    assert not (host.home / "keys" / JOURNAL).exists()
    (host.home / "policy.json").write_bytes(policy)
    at(host, IMAGEFACTORY_POLICY="/proc/self/mounts")
    with pytest.MonkeyPatch.context() as there:
        there.setattr(approvals, "current", lambda _: None)
        assert shell.refused("keys", "rotate", "provenance") == (1, "unwritable")
    assert not (host.home / "keys" / JOURNAL).exists()
    assert keyid_at(host, "provenance") == before


def test_the_ca_s_use_is_in_the_log(host: FakeHost, shell: Shell, at: Callable[..., None]) -> None:
    at(host)
    (ca,) = (each["keyid"] for each in shell.json("keys", "list")[1]["keys"] if each["purpose"] == "glance-ca")
    assert shell.json("keys", "rotate", "glance")[0] == 0
    used, rotated = AuditLog(host.home / "audit.log").entries()
    about = f"certificate of {keyid_at(host, 'glance')}"
    assert (used.event, used.details) == ("key-used", {"purpose": "glance-ca", "keyid": ca, "about": about})
    assert rotated.event == "key-rotated"


# -- making ------------------------------------------------------------------------------------------------------------


class Killed(BaseException):
    pass


def killed(*_: object) -> None:
    raise Killed


def test_init_killed_before_its_entries_is_finished(
    tmp_path: Path, shell: Shell, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The second init finishes what the first one began: each entry once, and a policy."""
    home = tmp_path / "home"
    monkeypatch.setenv("IMAGEFACTORY_HOME", str(home))
    with monkeypatch.context() as patch:
        patch.setattr(approvals, "begin", killed)
        with pytest.raises(Killed):
            shell.text("keys", "init", "--development")
    assert (home / "trust.json").exists()
    assert not (home / "policy.json").exists()
    before = dict(KeyRing(home / "keys").metadata.keyids)
    status, made = shell.json("keys", "init", "--development")
    assert (status, made["keys"]) == (0, before)
    assert (home / "policy.json").exists()
    entries = [(each.event, each.details.get("purpose")) for each in AuditLog(home / "audit.log").entries()]
    assert entries == [
        *(("key-made", purpose) for purpose in (*PURPOSES, "glance-ca")),
        ("key-used", "glance-ca"),
        ("policy-changed", None),
    ]
    assert shell.refused("keys", "init", "--development") == (1, "keys-exist")


def test_init_finishes_only_what_is_asked_for(
    tmp_path: Path, secret: Path, shell: Shell, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Whoever asks for production keys does not get those of an interrupted --development, nor those of another
    passphrase."""
    home = tmp_path / "home"
    monkeypatch.setenv("IMAGEFACTORY_HOME", str(home))
    other = secret.with_name("other")
    other.write_text("another good passphrase")
    other.chmod(0o600)
    production = ("keys", "init", "--passphrase-file", secret)
    for begun, others, code in (
        (("keys", "init", "--development"), production, "keys-exist"),
        (production, ("keys", "init", "--development"), "keys-exist"),
        (production, ("keys", "init", "--passphrase-file", other), "passphrase-wrong"),
    ):
        with monkeypatch.context() as patch:
            patch.setattr(keys, "_write_trust", killed)
            with pytest.raises(Killed):
                shell.text(*begun)
        assert shell.refused(*others) == (1, code)
        assert not (home / "trust.json").exists()
        assert shell.json(*begun)[0] == 0
        shutil.rmtree(home)


def test_two_inits_leave_keys(tmp_path: Path, shell: Shell, monkeypatch: pytest.MonkeyPatch) -> None:
    """The second of two at once is turned away; without the lock, the first would leave the keys that are trusted."""
    home, real = tmp_path / "home", keys._write_trust
    monkeypatch.setenv("IMAGEFACTORY_HOME", str(home))
    at_once: list[tuple[int, str]] = []

    def meanwhile(path: Path, content: bytes) -> None:
        monkeypatch.setattr(keys, "_write_trust", real)
        at_once.append(shell.refused("keys", "init", "--development"))
        init_keys(home / "keys", home / "trust.json", Custody(), development=True, now=NOW)
        real(path, content)

    monkeypatch.setattr(keys, "_write_trust", meanwhile)
    assert shell.text("keys", "init", "--development")[0] == 1
    assert at_once == [(3, "busy")]
    signs_and_is_believed(home)


def test_init_leaves_trusted_keys_when_the_disk_fails(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    real, trust = durable.sync_directory, tmp_path / "trust" / "trust.json"

    def failing(path: Path) -> None:
        if path == trust.parent:
            raise OSError(errno.EIO, os.strerror(errno.EIO))
        real(path)

    with monkeypatch.context() as patch:
        patch.setattr(keys, "sync_directory", failing)
        with pytest.raises(Unwritable):
            init_keys(tmp_path / "keys", trust, Custody(), development=True, now=NOW)
    assert trust.exists()
    ring = init_keys(tmp_path / "keys", trust, Custody(), development=True, now=NOW)
    assert set(load_trust(trust).release) == {ring.keyid("release")}


# -- production --------------------------------------------------------------------------------------------------------


def test_production_keys_build_when_their_passphrase_is_there(
    host: FakeHost, secret: Path, shell: Shell, at: Callable[..., None], monkeypatch: pytest.MonkeyPatch
) -> None:
    """Made, used by a build whose signer is another process, replaced, used again; the passphrase is nowhere."""
    for name in ("keys", "trust.json", "policy.json"):
        remove(host.home / name)
    at(host)
    assert shell.refused("keys", "init") == (1, "passphrase-missing")
    assert not (host.home / "keys").exists()
    status, _ = shell.json("keys", "init", "--passphrase-file", secret)
    assert status == 0
    assert shell.text("policy", "approve", host.recipe_file)[0] == 0

    with pytest.raises(CatalogueUninitialised):
        build(host, secret)
    begin_catalogue(replace(host.settings, passphrase_file=secret), host.root / "stick", PASSPHRASE.encode())
    with pytest.raises(PassphraseMissing):
        host.build()
    wrong = secret.with_name("wrong")
    wrong.write_text("something else entirely")
    wrong.chmod(0o600)
    monkeypatch.setenv("IMAGEFACTORY_PASSPHRASE_FILE", str(wrong))
    with pytest.raises(PassphraseWrong):
        build(host, wrong)
    assert not host.events, "before any work"

    release = build(host, secret)
    assert not json.loads(shell.text("keys", "list", "--json")[1])["keys"][0]["development"]
    assert shell.json("keys", "rotate", "release", "--passphrase-file", wrong)[1]["error"]["code"] == "passphrase-wrong"
    old = keyid_at(host, "provenance")
    assert shell.json("keys", "rotate", "provenance", "--passphrase-file", secret)[0] == 0
    status, told = shell.json("keys", "revoke", old)
    assert (status, told["error"]["code"]) == (1, "passphrase-wrong"), "the catalogue has to hear of it"
    assert old not in load_trust(host.home / "trust.json").provenance
    assert shell.json("keys", "revoke", old, "--passphrase-file", secret)[0] == 0
    again = build(host, secret)
    assert release != again
    found = subprocess.run(["grep", "-rlaF", PASSPHRASE, host.home], capture_output=True, text=True, check=False)
    assert found.stdout == ""


def build(host: FakeHost, passphrase_file: Path | None, tokens: Mapping[str, str] | None = None) -> str:
    """A build with nobody at a terminal."""
    host.events.clear()
    settings = replace(host.settings, passphrase_file=passphrase_file, tokens=tokens or {})
    with factory(settings, host.events.append, boot_test) as made:
        release = made.build(host.load()).release
    return f"{release.name}@{release_version(release)}"


def remove(path: Path) -> None:
    if path.is_dir():
        shutil.rmtree(path)
    else:
        path.unlink(missing_ok=True)


# -- revoking ----------------------------------------------------------------------------------------------------------


def keyid_at(host: FakeHost, purpose: str) -> str:
    return str(KeyRing(host.home / "keys").metadata.keyids[purpose])


def test_a_leaked_release_key(built: FakeHost, shell: Shell, at: Callable[..., None]) -> None:
    """Replaced, revoked; what it signed is listed, withdrawn, and signed again under a new version, all else reused."""
    at(built)
    old = keyid_at(built, "release")
    catalogue = built.home / "catalogue"
    (folder,) = folders(catalogue)
    first = f"fake-debian-12@{folder.name}"
    assert shell.refused("keys", "revoke", old[:16]) == (1, "key-needed")
    assert shell.json("keys", "rotate", "release", "--dry-run")[1]["old"] == old
    assert keyid_at(built, "release") == old, "only said"
    assert shell.json("keys", "rotate", "release")[0] == 0
    assert not built.build().worked, "the old key is trusted as long as it is not revoked"

    for asked in (["--dry-run"], []):
        status, found = shell.json("keys", "revoke", old[:16], *asked)
        assert (status, found["purpose"], found["key"], found["dry_run"]) == (0, "release", old, bool(asked))
        assert found["releases"] == [{"release": first, "published": [f"catalogue:{catalogue}"]}]
        again = f"imagefactory keys revoke {old[:16]}"
        assert found["left"] == [f"{again} --withdraw", f"{again} --re-sign"]
        assert (old in load_trust(built.home / "trust.json").release) is bool(asked)
        assert folder.is_dir()
    target = f"catalogue:{catalogue}/fake-debian-12"
    assert shell.refused("verify", target) == (1, "key-untrusted")
    plan = shell.json("plan", built.recipe_file)[1]["actions"]
    (sign,) = (action for action in plan if action["step"] == "sign")
    assert sign["reason"] == f"the release key of {first}, {old[:16]}, is no longer trusted"
    assert [action["step"] for action in plan if action["run"]] == ["sign", "publish"]

    status, text = shell.text("keys", "revoke", old[:8], "--withdraw")
    assert status == 0
    assert f"withdrawn  catalogue:{catalogue}: {first}" in text
    assert folders(catalogue) == []
    with built.factory() as factory:
        (release,) = factory.records.releases()
        assert [each.state for each in release.publications] == [PublicationState.WITHDRAWN]
    outcome = built.build()
    assert outcome.release.version_number == release.version_number + 1
    assert outcome.release.images == release.images
    assert shell.json("verify", target)[0] == 0
    assert shell.json("keys", "revoke", old[:16], "--re-sign", "--withdraw")[1]["left"] == []
    events = [entry.event for entry in AuditLog(built.home / "audit.log").entries()]
    assert [each for each in events if each in {"key-rotated", "key-revoked", "release-withdrawn"}] == [
        "key-rotated",
        "key-revoked",
        "release-withdrawn",
    ]
    AuditLog(built.home / "audit.log").verify()


@pytest.mark.parametrize("name", ["provenance", "glance-ca"])
def test_other_keys_that_releases_depend_on(
    built: FakeHost, shell: Shell, at: Callable[..., None], name: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    at(built)
    monkeypatch.setattr("imagefactory.cli.session.factory", _with_fake_boots)
    before = {each["purpose"]: each["keyid"] for each in shell.json("keys", "list")[1]["keys"]}
    assert shell.json("keys", "rotate", name)[0] == 0
    with built.factory() as factory:
        (release,) = factory.records.releases()
    status, done = shell.json("keys", "revoke", before[name][:16], "--re-sign")
    assert status == 0
    ref = f"{release.name}@{release_version(release)}"
    assert [each["release"] for each in done["releases"]] == [ref]
    assert done["signed"] == [f"{release.name}@{release.version_day}.{release.version_number + 1}"]
    assert done["left"] == [f"imagefactory keys revoke {before[name][:16]} --withdraw"]
    assert shell.json("verify", f"catalogue:{built.home}/catalogue/{release.name}")[0] == 0
    assert shell.json("verify", f"catalogue:{built.home}/catalogue/{ref}")[0] == 1


@contextmanager
def _with_fake_boots(settings: Settings, progress: Progress) -> Iterator[Factory]:
    with factory(settings, progress, boot_test) as made:
        yield made


def test_without_its_recipe_a_release_is_not_signed_again(
    built: FakeHost, shell: Shell, at: Callable[..., None]
) -> None:
    at(built)
    old = keyid_at(built, "release")
    assert shell.json("keys", "rotate", "release")[0] == 0
    built.recipe_file.unlink()
    status, done = shell.json("keys", "revoke", old, "--re-sign")
    assert (status, done["signed"], done["error"]["code"]) == (2, [], "recipe-not-found")
    assert old not in load_trust(built.home / "trust.json").release
    assert any(line.startswith("imagefactory build RECIPE  # of fake-debian-12: ") for line in done["left"])


def test_another_release_in_the_place_is_not_removed(built: FakeHost, shell: Shell, at: Callable[..., None]) -> None:
    at(built)
    old = keyid_at(built, "release")
    (folder,) = folders(built.home / "catalogue")
    (folder / "release.sigstore.json").write_bytes(b"{}")
    assert shell.json("keys", "rotate", "release")[0] == 0
    status, done = shell.json("keys", "revoke", old, "--withdraw")
    assert (status, done["error"]["code"]) == (1, "catalogue-conflict")
    assert folder.is_dir()


def test_one_place_that_fails_stops_no_other(
    built: FakeHost, shell: Shell, at: Callable[..., None], tmp_path: Path
) -> None:
    """The key is revoked, the rest withdrawn, a build that fails is told; what failed is left, with its exit code."""
    at(built)
    old = keyid_at(built, "release")
    other = tmp_path / "other"
    assert shell.json("publish", "fake-debian-12", "--to", f"catalogue:{other}")[0] == 0
    (folder,) = folders(built.home / "catalogue")
    (folder / "release.sigstore.json").write_bytes(b"{}")
    assert shell.json("keys", "rotate", "release")[0] == 0
    policy = Policy(True, {}).encode()
    (built.home / "policy.json").write_bytes(policy)
    status, done = shell.json("keys", "revoke", old, "--withdraw", "--re-sign")
    assert (status, done["error"]["code"]) == (1, "catalogue-conflict")
    assert done["withdrawn"] == [f"catalogue:{other}: fake-debian-12@{folder.name}"]
    place, build = done["left"]
    assert place.startswith(f"imagefactory keys revoke {old[:16]} --withdraw  # catalogue:{built.home}/catalogue: ")
    assert build.startswith("imagefactory build RECIPE  # of fake-debian-12: ")
    assert folders(other) == []
    status, text = shell.text("keys", "revoke", old, "--withdraw")
    assert (status, f"to do: {place}" in text) == (1, True)
    assert "[catalogue-conflict]" in shell.stderr


@pytest.mark.parametrize("damaged", [False, True])
def test_a_release_without_its_document_is_told(
    built: FakeHost, shell: Shell, at: Callable[..., None], damaged: bool
) -> None:
    at(built)
    old = keyid_at(built, "release")
    assert shell.json("keys", "rotate", "release")[0] == 0
    with built.factory() as factory:
        (release,) = factory.records.releases()
        path = factory.artifacts.path(release.files[MANIFEST_FILE])
    path.unlink()
    if damaged:
        path.write_bytes(b"{}")
    status, done = shell.json("keys", "revoke", old)
    assert (status, done["releases"]) == (0, [])
    (left,) = done["left"]
    place = f"catalogue:{built.home}/catalogue/fake-debian-12@{release_version(release)}"
    assert left.startswith(f"imagefactory verify {place}  # cannot tell whether this key signed fake-debian-12@")
    assert shell.refused("verify", place) == (1, "key-untrusted")


def test_a_rotation_that_cannot_be_finished_stops_no_revocation(
    built: FakeHost, shell: Shell, at: Callable[..., None], monkeypatch: pytest.MonkeyPatch
) -> None:
    at(built)
    old, builder = keyid_at(built, "release"), keyid_at(built, "provenance")
    assert shell.json("keys", "rotate", "release")[0] == 0

    def refused(*_: object, **__: object) -> None:
        raise PermissionError(errno.EACCES, os.strerror(errno.EACCES), "policy.json")

    with monkeypatch.context() as patch:
        patch.setattr(approvals, "change", refused)
        assert shell.refused("keys", "rotate", "provenance") == (3, "system-error")
        assert (built.home / "keys" / JOURNAL).is_dir()
        status, done = shell.json("keys", "revoke", old)
        assert (status, done["error"]["code"]) == (3, "system-error")
        assert done["left"][0].startswith(f"imagefactory keys revoke {old[:16]}  # a rotation was interrupted")
        assert old not in load_trust(built.home / "trust.json").release
        assert shell.refused("keys", "revoke", builder) == (3, "system-error")
    assert shell.json("keys", "revoke", builder)[0] == 0
    trust = load_trust(built.home / "trust.json")
    assert (old in trust.release, builder in trust.provenance) == (False, False)
    signs_and_is_believed(built.home)


def test_a_leaked_glance_key(built: FakeHost, shell: Shell, at: Callable[..., None]) -> None:
    """No trust file lists it: its CA is replaced and revoked, and the advice says so, also after it was replaced."""
    at(built)
    leaked = keyid_at(built, "glance")
    for _ in range(2):
        status, done = shell.json("keys", "revoke", leaked[:16])
        assert (status, done["error"]["code"]) == (2, "key-unknown")
        assert "keys rotate glance-ca" in done["error"]["advice"]
        replaced = {each["purpose"]: each["old"] for each in shell.json("keys", "rotate", "glance-ca")[1]["replaced"]}
        leaked = replaced["glance"]
    assert shell.json("keys", "revoke", replaced["glance-ca"])[0] == 0


def test_which_key_is_meant(built: FakeHost, shell: Shell, at: Callable[..., None]) -> None:
    at(built)
    for prefix in ("", "0", "0123456", "f" * 64, keyid_at(built, "glance")):
        assert shell.refused("keys", "revoke", prefix) == (2, "key-unknown")
    assert shell.refused("keys", "rotate", "admin") == (2, "usage")
    assert shell.refused("keys", "rotate", "targets") == (2, "usage"), "a catalogue's root says which one counts"


def test_where_images_are_only_verified(built: FakeHost, tmp_path: Path, shell: Shell, at: Callable[..., None]) -> None:
    """A machine with a trust file and nothing else; the last key of a purpose stays."""
    old = keyid_at(built, "release")
    (folder,) = folders(built.home / "catalogue")
    at(built)
    assert shell.json("keys", "rotate", "release")[0] == 0
    assert shell.json("keys", "export", tmp_path / "public")[0] == 0
    at(built, IMAGEFACTORY_HOME=str(tmp_path / "none"), IMAGEFACTORY_TRUST=str(tmp_path / "public/trust.json"))
    assert shell.json("verify", folder)[0] == 0
    assert shell.json("keys", "revoke", old)[0] == 0
    assert shell.refused("verify", folder) == (1, "key-untrusted")
    (left,) = load_trust(tmp_path / "public/trust.json").release
    assert shell.refused("keys", "revoke", left) == (1, "key-needed")
    assert not (tmp_path / "none").exists()


# -- handing out -------------------------------------------------------------------------------------------------------


def test_what_is_exported_is_public(built: FakeHost, tmp_path: Path, shell: Shell, at: Callable[..., None]) -> None:
    at(built)
    trusted_first = (built.home / "trust.json").read_bytes()
    for name in ("release", "glance-ca"):
        assert shell.json("keys", "rotate", name)[0] == 0
    status, written = shell.json("keys", "export", tmp_path / "public")
    assert (status, sorted(written["files"])) == (0, ["glance-ca.crt", "release.pub", "root.json", "trust.json"])
    assert {path.name for path in (tmp_path / "public").iterdir()} == set(written["files"])
    assert not any(b"PRIVATE" in path.read_bytes() for path in (tmp_path / "public").iterdir())
    assert len(x509.load_pem_x509_certificates((tmp_path / "public/glance-ca.crt").read_bytes())) == 2
    assert shell.refused("keys", "export", tmp_path / "public") == (1, "keys-exist")
    recipe = built.recipe_file.read_text()
    built.recipe_file.write_text(recipe.replace("formats:", "description: other words\nformats:"))
    assert built.build().worked
    newest = max(folders(built.home / "catalogue"))
    (built.home / "trust.json").write_bytes(trusted_first)
    assert shell.refused("keys", "export", tmp_path / "not-trusted") == (1, "key-untrusted")
    command = f"openssl dgst -sha256 -verify {tmp_path / 'public/release.pub'} -signature"
    subprocess.run(
        [*command.split(), newest / "SHA256SUMS.sig", newest / "SHA256SUMS"], check=True, capture_output=True
    )


def test_the_list(built: FakeHost, shell: Shell, at: Callable[..., None]) -> None:
    at(built)
    old = keyid_at(built, "release")
    assert shell.json("keys", "rotate", "release")[0] == 0
    listed = shell.json("keys", "list")[1]["keys"]
    assert [each["purpose"] for each in listed] == [*PURPOSES, "glance-ca", "release"]
    by_id = {each["keyid"]: each for each in listed}
    assert (by_id[old]["where"], by_id[old]["trusted"]) == (None, True)
    new = by_id[keyid_at(built, "release")]
    assert (new["where"], new["trusted"]) == (f"file:{built.home}/keys/release.{new['keyid'][:16]}.pem", True)
    assert (new["development"], new["expires"]) == (True, None)
    assert all(each["expires"] for each in listed if each["purpose"] in {"glance", "glance-ca"})
    assert {
        each["purpose"]: each["trusted"] for each in listed if each["purpose"] in {"root", "targets", "glance"}
    } == {
        "root": True,
        "targets": True,
        "glance": None,
    }, "as the root of the built-in catalogue says"
    text = shell.text("keys", "list")[1]
    assert all(keyid[:16] in text for keyid in by_id)


# -- passphrases -------------------------------------------------------------------------------------------------------


def test_one_root_key_for_a_stick(tmp_path: Path, secret: Path, shell: Shell, monkeypatch: pytest.MonkeyPatch) -> None:
    """On a machine that has nothing else."""
    monkeypatch.setenv("IMAGEFACTORY_HOME", str(tmp_path / "home"))
    stick = tmp_path / "media/root"
    init = ("keys", "init", "--root", stick)
    assert shell.refused(*init, "--development") == (2, "usage")
    assert shell.refused(*init, "--keyring") == (2, "usage")
    assert shell.refused(*init) == (1, "passphrase-missing")
    assert not stick.exists()
    status, made = shell.json(*init, "--passphrase-file", secret)
    ring = KeyRing(stick, PASSPHRASE.encode)
    assert (status, made["keys"], made["public"]) == (0, {"root": ring.keyid("root")}, f"{stick}/root.pub")
    assert {path.name for path in stick.iterdir()} == {"root.pem", "root.pub", "keys.json"}
    assert {stat.S_IMODE(path.stat().st_mode) for path in stick.iterdir()} == {0o600}
    assert set(ring.metadata.keyids) == {"root"}
    assert signer_in(ring, "root").keyid == ring.keyid("root")
    assert b"ENCRYPTED" in (stick / "root.pem").read_bytes()
    assert shell.refused(*init, "--passphrase-file", secret) == (1, "keys-exist")
    assert not (tmp_path / "home").exists()


def test_a_weak_passphrase_is_refused(tmp_path: Path, shell: Shell, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("IMAGEFACTORY_HOME", str(tmp_path / "home"))
    short = tmp_path / "short"
    short.write_text("hunter2\n")
    short.chmod(0o600)
    assert shell.refused("keys", "init", "--passphrase-file", short) == (2, "passphrase-weak")
    short.chmod(0o644)
    assert shell.refused("keys", "init", "--passphrase-file", short) == (1, "key-permissions")
    short.chmod(0o600)
    short.write_text("\n")
    assert shell.refused("keys", "init", "--passphrase-file", short) == (1, "passphrase-missing")
    assert shell.refused("keys", "init", "--passphrase-file", tmp_path) == (1, "not-a-regular-file")
    assert shell.refused("keys", "init", "--development", "--keyring") == (2, "usage")
    assert not (tmp_path / "home").exists()


class Memory(KeyringBackend):
    """A keyring of the test's own, behind the real library."""

    priority = 1

    def __init__(self) -> None:
        super().__init__()  # type: ignore[no-untyped-call]
        self.kept: dict[tuple[str, str], str] = {}

    def get_password(self, service: str, username: str) -> str | None:
        return self.kept.get((service, username))

    def set_password(self, service: str, username: str, password: str) -> None:
        self.kept[service, username] = password


def test_the_keyring(tmp_path: Path, shell: Shell, monkeypatch: pytest.MonkeyPatch) -> None:
    """A random passphrase is put there, found again, and never replaced by another."""
    monkeypatch.setenv("IMAGEFACTORY_HOME", str(tmp_path / "home"))
    before, memory = keyring.get_keyring(), Memory()
    keyring.set_keyring(memory)
    try:
        assert shell.json("keys", "init", "--keyring")[0] == 0
        ((service, directory), passphrase) = next(iter(memory.kept.items()))
        assert (service, directory) == ("imagefactory", str(tmp_path / "home/keys"))
        assert len(passphrase) >= 40
        assert shell.refused("keys", "init", "--keyring") == (1, "keys-exist")
        assert shell.json("keys", "rotate", "release")[0] == 0
        assert memory.kept == {(service, directory): passphrase}
        memory.kept.clear()
        assert shell.refused("keys", "rotate", "release") == (1, "keyring-unusable")
        keyring.set_keyring(fail.Keyring())  # type: ignore[no-untyped-call]
        assert shell.refused("keys", "rotate", "release") == (1, "keyring-unusable")
    finally:
        keyring.set_keyring(before)


MAIN = ("-c", "from imagefactory.cli import main; main()")


def at_a_terminal(home: Path, words: list[str], *argv: str) -> tuple[int, str]:
    """Run a command line at a terminal of its own, where somebody types `words` when asked."""
    return typed(words, {"IMAGEFACTORY_HOME": str(home), "PATH": os.environ["PATH"], "TERM": "dumb"}, *MAIN, *argv)


def typed(words: list[str], environ: dict[str, str], *argv: str) -> tuple[int, str]:
    child, terminal = pty.fork()
    if child == 0:
        os.execve(sys.executable, [sys.executable, *argv], environ)  # noqa: S606
    said = b""
    for word in (*words, None):
        while not said.endswith(b": ") or word is None:
            try:
                said += (piece := os.read(terminal, 1024))
            except OSError:  # it closed its end
                piece = b""
            if not piece:
                break
        if word is not None:
            os.write(terminal, word.encode() + b"\n")
            said += b"(typed)\n"
    os.close(terminal)
    return os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]), said.decode()


def test_a_person_is_asked(tmp_path: Path) -> None:
    """Twice for a new passphrase, once for a known one; what is typed is not shown."""
    status, said = at_a_terminal(tmp_path / "home", [PASSPHRASE, "something else here"], "keys", "init")
    assert (status, "the two passphrases differ" in said) == (1, True)
    assert not (tmp_path / "home").exists()
    status, said = at_a_terminal(tmp_path / "home", [PASSPHRASE, PASSPHRASE], "keys", "init")
    assert (status, said.count("assphrase for"), PASSPHRASE in said) == (0, 1, False), said
    status, said = at_a_terminal(tmp_path / "home", [PASSPHRASE], "keys", "rotate", "release")
    assert (status, said.count("Passphrase of"), PASSPHRASE in said) == (0, 1, False), said
    status, said = at_a_terminal(tmp_path / "home", ["wrong"], "keys", "rotate", "release")
    assert (status, "[passphrase-wrong]" in said) == (1, True)


def test_a_build_asks_once_and_its_display_does_not_write_over_it(host: FakeHost, secret: Path) -> None:
    for name in ("keys", "trust.json"):
        remove(host.home / name)
    init_keys(
        host.home / "keys",
        host.home / "trust.json",
        Custody(PASSPHRASE.encode()),
        development=False,
        now=datetime.now(UTC),
    )
    builder = KeyRing(host.home / "keys").keyid("provenance")
    found = approvals.element_digests(host.load(), host.settings)
    policy = approvals.approve(Policy(False, {}), host.load(), found, [builder], False)
    (host.home / "policy.json").write_bytes(policy.encode())
    begin_catalogue(replace(host.settings, passphrase_file=secret), host.root / "stick", PASSPHRASE.encode())
    environ = {**host.environ, "TERM": "xterm"}
    status, said = typed([PASSPHRASE], environ, "-m", "tests.fakes.command", "build", str(host.recipe_file))
    assert (status, said.count("Passphrase of"), PASSPHRASE in said) == (0, 1, False), said
    asked = said[said.index("Passphrase of") : said.index("(typed)")]
    assert "\x1b" not in asked, "nothing moved the cursor"


LIMITS = "resource.getrlimit(resource.RLIMIT_CORE)"
HAND = (
    "import resource; from imagefactory.hands.protocol import serve; "
    f"serve({{'look': lambda request, advance: {{'core': {LIMITS}}}}})"
)
COMMAND = (
    f"import atexit, resource; from imagefactory.cli import main; atexit.register(lambda: print({LIMITS})); main()"
)


@pytest.mark.parametrize(("code", "says"), [(HAND, "[0, 0]"), (COMMAND, "(0, 0)")])
def test_no_secret_gets_into_a_core_file(code: str, says: str) -> None:
    _, most = resource.getrlimit(resource.RLIMIT_CORE)
    with subprocess.Popen(
        ["prlimit", f"--core={most}", sys.executable, "-c", code, "--version"],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
    ) as started:
        assert started.stdin
        assert started.stdout
        # Left open: a hand ends when its caller's end of this pipe is gone.
        print('{"action": "look"}', file=started.stdin, flush=True)
        said = started.stdout.read()
    assert (started.returncode, says in said) == (0, True)


# -- tokens ------------------------------------------------------------------------------------------------------------


def test_a_build_with_keys_in_a_token(host: FakeHost, token: SoftToken, token_keys: Path) -> None:
    """The signer is another process, and finds the token."""
    for name in ("keys", "trust.json", "policy.json"):
        remove(host.home / name)
    subprocess.run(["cp", "-a", *token_keys.iterdir(), host.home], check=True)
    ref = build(host, None, token.environ)
    assert ref.startswith("fake-debian-12@")
