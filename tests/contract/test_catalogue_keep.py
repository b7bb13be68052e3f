"""A catalogue as its makers keep it: begun, published to, renewed, given other keys; on a host with fakes for slow
programs. The judge is the client that everybody has."""

import json
import shutil
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest

from imagefactory.errors import ReleaseRevoked
from imagefactory.factory import hands
from imagefactory.model.build import PublicationState
from imagefactory.model.listing import Listing, ListingState
from imagefactory.model.release import ReleaseRef
from imagefactory.progress import Advance
from imagefactory.store.records import release_version
from imagefactory.tools.audit_log import AuditLog
from imagefactory.tools.hand import call_signer
from imagefactory.tools.trusted_roots import TrustedRoots
from imagefactory.tools.tuf_client import CatalogueClient
from signing.keys import KeyRing, Purpose
from signing.trust import decode_trust, load_trust
from tests.contract.shell import Shell
from tests.fakes.host import FakeHost, folders

NAME = "fake-debian-12"
PASSPHRASE = "correct horse battery staple"
On = Callable[[FakeHost], FakeHost]


@contextmanager
def client(host: FakeHost, catalogue: Path | None = None) -> Iterator[CatalogueClient]:
    """This machine as a client, which trusts what it trusts already."""
    known = host.settings.known_catalogue(catalogue or host.settings.catalogue)
    with CatalogueClient(known.address, known.store) as made:
        yield made


def listed(host: FakeHost, catalogue: Path | None = None) -> list[Listing]:
    with client(host, catalogue) as seen:
        return seen.releases(NAME)


def keyid(host: FakeHost, purpose: Purpose) -> str:
    return KeyRing(host.settings.keys).keyid(purpose)


def ref_of(host: FakeHost) -> ReleaseRef:
    with host.factory() as factory:
        release = factory.records.release(ReleaseRef(NAME))
    return ReleaseRef(NAME, release_version(release))


# -- begun ------------------------------------------------------------------------------------------------------------


def test_with_development_keys_there_is_no_ceremony(host: FakeHost, on: On, shell: Shell) -> None:
    on(host)
    catalogue = host.settings.catalogue
    assert shell.json("catalogue", "init", "--dry-run")[1]["dry_run"]
    assert shell.refused("catalogue", "init", "--threshold", "2") == (2, "usage")
    assert not catalogue.exists()
    status, made = shell.json("catalogue", "init")
    assert (status, made["catalogue"], made["root"]["version"]) == (0, str(catalogue), 1)
    assert made["root"]["keys"] == {each: [keyid(host, each)] for each in ("root", "targets", "freshness")}
    with client(host) as seen:
        assert seen.names() == []
        assert decode_trust(seen.trust_policy()) == load_trust(host.home / "trust.json")
    assert shell.refused("catalogue", "init") == (1, "catalogue-conflict")
    assert "is a catalogue, and this machine trusts it" in shell.text("catalogue", "init", host.root / "other")[1]


def test_the_first_publication_begins_a_catalogue(built: FakeHost, on: On) -> None:
    on(built)
    (found,) = listed(built)
    assert (found.ref, found.state, found.distro, found.arch) == (ref_of(built), "current", "debian", "amd64")
    events = [entry.event for entry in AuditLog(built.home / "audit.log").entries()]
    (begun, trusted, told, published) = (
        events.index(each) for each in ("catalogue-begun", "trust-published", "listed", "published")
    )
    assert begun < trusted < told < published


def test_a_catalogue_that_was_removed_is_begun_anew(built: FakeHost, on: On) -> None:
    """This machine made both, and trusts the new one."""
    on(built)
    shutil.rmtree(built.settings.catalogue)
    built.build()
    assert [each.ref for each in listed(built)] == [ref_of(built)]


# -- what is said of a release ----------------------------------------------------------------------------------------


def test_a_home_is_moved_with_its_catalogue(built: FakeHost, on: On, shell: Shell, tmp_path: Path) -> None:
    """What it remembers of the catalogue in it goes with it, for those who read and for those who sign."""
    shutil.copytree(built.root, tmp_path / "moved", symlinks=True)
    built.home.rename(built.root / "gone")
    host = on(FakeHost(tmp_path / "moved"))
    assert shell.json("catalogue", "refresh")[0] == 0
    assert shell.json("verify", f"catalogue:{host.settings.catalogue}/{NAME}")[0] == 0
    assert [where for where, _ in TrustedRoots(host.settings.signed).all()] == [host.settings.catalogue]


def test_a_catalogue_is_moved(built: FakeHost, on: On, shell: Shell) -> None:
    """It is another one to everybody, until somebody says by which root to trust it."""
    host = on(built)
    moved = host.root / "moved"
    host.settings.catalogue.rename(moved)
    assert shell.refused("verify", f"catalogue:{moved}/{NAME}") == (1, "catalogue-untrusted")
    assert "--root" in shell.stderr
    assert shell.refused("catalogue", "refresh", moved) == (1, "catalogue-untrusted")
    assert f"imagefactory catalogue publish-root {moved}/metadata/N.root.json {moved}" in shell.stderr
    assert shell.refused("catalogue", "deprecate", str(ref_of(host)), moved) == (1, "catalogue-untrusted")
    assert shell.refused("catalogue", "refresh") == (1, "catalogue-uninitialised")
    assert shell.json("catalogue", "publish-root", moved / "metadata/1.root.json", moved)[0] == 0
    assert shell.json("catalogue", "refresh", moved)[0] == 0
    assert shell.json("verify", f"catalogue:{moved}/{NAME}")[0] == 0


def test_a_release_is_deprecated_reinstated_and_revoked(built: FakeHost, on: On, shell: Shell) -> None:
    on(built)
    ref, catalogue = str(ref_of(built)), str(built.settings.catalogue)
    other = f"{NAME}@20991231.1"
    state = {"catalogue": catalogue, "before": "current", "state": "deprecated"}
    for dry_run in (["--dry-run"], []):
        status, done = shell.json("catalogue", "deprecate", ref, "--replacement", other, *dry_run)
        assert (status, done) == (0, {"release": ref, "dry_run": bool(dry_run), "catalogues": [state]})
        (found,) = listed(built)
        assert (found.state == ListingState.CURRENT) is bool(dry_run)
    assert str(found.replacement) == other
    assert shell.text("catalogue", "reinstate", ref, catalogue) == (
        0,
        f"{catalogue}: {ref} is current, was deprecated\n",
    )
    revoke = ("catalogue", "revoke", ref, "--reason", "leaks a key")
    assert shell.json(*revoke, "--dry-run")[0] == 0
    assert listed(built)[0].state == ListingState.CURRENT
    assert shell.json(*revoke)[0] == 0
    assert listed(built)[0].reason == "leaks a key"
    assert shell.refused("catalogue", "reinstate", ref) == (1, "state-conflict")
    assert folders(built.settings.catalogue), "its files stay"


def test_what_cannot_be_said_of_a_release(built: FakeHost, on: On, shell: Shell, tmp_path: Path) -> None:
    on(built)
    ref = str(ref_of(built))
    assert shell.refused("catalogue", "deprecate", NAME) == (2, "usage")
    assert shell.refused("catalogue", "deprecate", ref, "--replacement", NAME) == (2, "usage")
    assert shell.refused("catalogue", "deprecate", ref, "--replacement", ref) == (2, "listing-invalid")
    assert shell.refused("catalogue", "deprecate", f"{NAME}@19990101.1") == (1, "release-unknown")
    assert shell.refused("catalogue", "deprecate", f"{NAME}@19990101.1", built.settings.catalogue) == (
        1,
        "release-unknown",
    )
    assert shell.refused("catalogue", "revoke", ref) == (2, "usage"), "a reason is wanted"
    for reason in ("", "two\nlines", "x" * 201):
        assert shell.refused("catalogue", "revoke", ref, "--reason", reason) == (2, "listing-invalid")
    assert shell.refused("catalogue", "deprecate", ref, tmp_path) == (1, "catalogue-uninitialised")
    assert listed(built)[0].state == ListingState.CURRENT


def test_it_is_said_wherever_the_release_is_published(built: FakeHost, on: On, shell: Shell, tmp_path: Path) -> None:
    """One place that fails stops no other."""
    on(built)
    ref, other = str(ref_of(built)), tmp_path / "other"
    assert shell.json("publish", ref, "--to", f"catalogue:{other}")[0] == 0
    assert shell.json("catalogue", "deprecate", ref)[0] == 0
    assert [listed(built, each)[0].state for each in (None, other)] == ["deprecated", "deprecated"]
    shutil.rmtree(other / "metadata")
    status, done = shell.json("catalogue", "reinstate", ref)
    assert (status, [each.get("state") for each in done["catalogues"]]) == (1, ["current", None])
    assert done["catalogues"][1]["error"]["code"] == "catalogue-uninitialised"


def test_what_was_revoked_is_not_published_again(built: FakeHost, on: On, shell: Shell) -> None:
    on(built)
    ref = ref_of(built)
    assert shell.json("catalogue", "revoke", str(ref), "--reason", "leaks a key")[0] == 0
    shutil.rmtree(folders(built.settings.catalogue)[0])
    target = f"catalogue:{built.settings.catalogue}"
    assert shell.refused("publish", str(ref), "--to", target) == (1, "release-revoked")
    assert folders(built.settings.catalogue) == []


# -- withdrawn, and keys that were revoked ----------------------------------------------------------------------------


def test_what_a_revoked_key_signed_is_revoked_and_goes(built: FakeHost, on: On, shell: Shell) -> None:
    on(built)
    old = keyid(built, "release")
    assert shell.json("keys", "rotate", "release")[0] == 0
    assert shell.json("keys", "revoke", old)[0] == 0
    with client(built) as seen:
        assert old not in decode_trust(seen.trust_policy()).release, "the catalogue has heard of it"
    assert listed(built)[0].state == ListingState.CURRENT
    assert shell.json("keys", "revoke", old, "--withdraw")[0] == 0
    (found,) = listed(built)
    assert (found.state, found.reason) == (ListingState.REVOKED, f"the release key {old[:16]} was revoked")
    assert folders(built.settings.catalogue) == []
    with client(built) as seen, pytest.raises(ReleaseRevoked):
        seen.newest(NAME)


def test_a_catalogue_that_is_away_hears_of_it_later(built: FakeHost, on: On, shell: Shell, tmp_path: Path) -> None:
    on(built)
    old, other = keyid(built, "release"), tmp_path / "other"
    assert shell.json("publish", NAME, "--to", f"catalogue:{other}")[0] == 0
    other.rename(tmp_path / "away")
    assert shell.json("keys", "rotate", "release")[0] == 0
    status, done = shell.json("keys", "revoke", old)
    assert status == 0
    assert f"imagefactory catalogue refresh {other}  # it has not heard of this" in done["left"]
    (tmp_path / "away").rename(other)
    assert shell.json("catalogue", "refresh", other)[0] == 0
    with client(built, other) as seen:
        assert old not in decode_trust(seen.trust_policy()).release


# -- killed -----------------------------------------------------------------------------------------------------------


class Killed(BaseException):
    """Nobody catches it."""


def dying(action: str, *, after: bool) -> Callable[..., dict[str, Any]]:
    """A signer whose caller dies before, or after, it has done `action`."""

    def call(
        request: Mapping[str, Any], *, environment: Mapping[str, str], log: Path, on_advance: Advance
    ) -> dict[str, Any]:
        if request["action"] != action:
            return call_signer(request, environment=environment, log=log, on_advance=on_advance)
        if after:
            call_signer(request, environment=environment, log=log, on_advance=on_advance)
        raise Killed

    return call


@pytest.mark.parametrize("after", [False, True])
def test_killed_around_the_listing_the_next_build_ends_it(
    host: FakeHost, on: On, monkeypatch: pytest.MonkeyPatch, after: bool
) -> None:
    """The records say intended, the folder is there, and it is listed or not."""
    on(host)
    with monkeypatch.context() as patch:
        patch.setattr(hands, "call_signer", dying("list", after=after))
        with pytest.raises(Killed):
            host.build()
    assert len(folders(host.settings.catalogue)) == 1
    with host.factory() as factory:
        (release,) = factory.records.releases()
        assert [each.state for each in release.publications] == [PublicationState.INTENDED]
    outcome = host.build()
    assert [each.ref for each in listed(host)] == [ref_of(host)]
    assert outcome.release.id == release.id
    with host.factory() as factory:
        (release,) = factory.records.releases()
        assert [each.state for each in release.publications] == [PublicationState.VERIFIED]


def test_killed_while_it_is_withdrawn(built: FakeHost, on: On, shell: Shell, monkeypatch: pytest.MonkeyPatch) -> None:
    """It is revoked before its folder goes: nobody sees a release that is offered and not there."""
    on(built)
    old = keyid(built, "release")
    assert shell.json("keys", "rotate", "release")[0] == 0

    def killed(*_: object) -> None:
        raise Killed

    with monkeypatch.context() as patch:
        patch.setattr("imagefactory.tools.catalogue.Catalogue.withdraw", killed)
        with pytest.raises(Killed):
            shell.json("keys", "revoke", old, "--withdraw")
    assert listed(built)[0].state == ListingState.REVOKED
    assert len(folders(built.settings.catalogue)) == 1
    assert shell.json("keys", "revoke", old, "--withdraw")[0] == 0
    assert folders(built.settings.catalogue) == []


# -- other keys -------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("purpose", ["root", "targets", "freshness"])
def test_a_development_key_is_replaced_at_once(built: FakeHost, on: On, shell: Shell, purpose: Purpose) -> None:
    on(built)
    old = keyid(built, purpose)
    assert shell.refused("keys", "rotate", purpose) == (2, "usage")
    assert shell.json("catalogue", "rotate", purpose, "--dry-run")[1]["root"] == 2
    status, done = shell.json("catalogue", "rotate", purpose)
    new = keyid(built, purpose)
    assert status == 0
    assert done["replaced"] == [{"purpose": purpose, "old": old, "new": new}]
    assert (done["root"]["version"], done["root"]["keys"][purpose]) == (2, [new])
    assert [each.ref for each in listed(built)] == [ref_of(built)], "clients follow"
    assert shell.json("catalogue", "refresh")[1]["overdue"] == []
    assert not list(built.settings.keys.glob(f"{purpose}.pem"))
    assert [path for path in built.settings.keys.iterdir() if path.name.startswith(".")] == []
    assert shell.json("catalogue", "rotate", purpose)[1]["root"]["version"] == 3
    assert listed(built)


def test_the_old_key_stays_for_as_long_as_a_catalogue_names_it(
    built: FakeHost, on: On, shell: Shell, tmp_path: Path
) -> None:
    on(built)
    old, other = keyid(built, "freshness"), tmp_path / "other"
    assert shell.json("catalogue", "init", other)[0] == 0
    first = shell.json("catalogue", "rotate", "freshness")[1]
    assert (first["replaced"], first["waited_for"]) == ([], [str(other)])
    (new,) = first["root"]["keys"]["freshness"]
    assert keyid(built, "freshness") == old
    trusted = {each["keyid"]: each["trusted"] for each in shell.json("keys", "list")[1]["keys"]}
    assert (trusted[old], trusted[new]) == (False, True)
    for each in (built.settings.catalogue, other):
        assert shell.json("catalogue", "refresh", each)[0] == 0
    assert shell.refused("catalogue", "rotate", "freshness") == (1, "state-conflict")
    second = shell.json("catalogue", "rotate", "freshness", other)[1]
    assert second["replaced"] == [{"purpose": "freshness", "old": old, "new": new}]
    assert keyid(built, "freshness") == new
    for each in (built.settings.catalogue, other):
        assert shell.json("catalogue", "refresh", each)[0] == 0


def test_a_rotation_killed_before_the_root_is_out_is_taken_up_again(
    built: FakeHost, on: On, shell: Shell, monkeypatch: pytest.MonkeyPatch
) -> None:
    on(built)
    old = keyid(built, "targets")
    for after in (False, True):
        with monkeypatch.context() as patch:
            patch.setattr(hands, "call_signer", dying("publish-root", after=after))
            with pytest.raises(Killed):
                shell.json("catalogue", "rotate", "targets")
        assert keyid(built, "targets") == old
        assert shell.json("catalogue", "refresh")[0] == 0
        assert listed(built)
    status, done = shell.json("catalogue", "rotate", "targets")
    assert (status, [each["old"] for each in done["replaced"]]) == (0, [old])
    assert done["root"]["version"] == 2, "one new root, not two"


# -- production -------------------------------------------------------------------------------------------------------


@pytest.fixture
def secret(tmp_path: Path) -> Path:
    path = tmp_path / "passphrase"
    path.write_text(f"{PASSPHRASE}\n")
    path.chmod(0o600)
    return path


@pytest.fixture
def factory_home(host: FakeHost, on: On, shell: Shell, secret: Path) -> FakeHost:
    """A host with keys for production."""
    for name in ("keys", "trust.json", "policy.json"):
        path = host.home / name
        shutil.rmtree(path) if path.is_dir() else path.unlink()
    shutil.copy2(secret, host.passphrase_file)
    on(host)
    assert shell.json("keys", "init", "--passphrase-file", secret)[0] == 0
    assert "root" not in KeyRing(host.settings.keys).metadata.keyids
    return host


@pytest.fixture
def sticks(tmp_path: Path, shell: Shell, secret: Path) -> dict[str, Path]:
    """Root keys, each on a stick of its own."""
    found = {name: tmp_path / "media" / name for name in "abc"}
    for path in found.values():
        assert shell.json("keys", "init", "--root", path, "--passphrase-file", secret)[0] == 0
    return found


def test_a_ceremony(
    factory_home: FakeHost,
    sticks: dict[str, Path],
    shell: Shell,
    secret: Path,
    monkeypatch: pytest.MonkeyPatch,
    tmp_path: Path,
) -> None:
    """Two of two root keys begin a catalogue, give it another targets key, and then other root keys; the roots are
    signed on a machine that has nothing else."""
    catalogue, draft = factory_home.settings.catalogue, tmp_path / "draft.json"

    def sign(stick: str, *more: str | Path) -> dict[str, Any]:
        with monkeypatch.context() as offline:
            offline.setenv("IMAGEFACTORY_HOME", str(tmp_path / "offline"))
            status, done = shell.json(
                "catalogue", "sign-root", draft, "--key", sticks[stick], "--passphrase-file", secret, *more
            )
        assert status == 0
        assert not (tmp_path / "offline").exists()
        root: dict[str, Any] = done["root"]
        return root

    def offered(*command: str | Path) -> dict[str, Any]:
        draft.unlink(missing_ok=True)
        status, done = shell.json("catalogue", *command, "--output", draft)
        assert (status, done["draft"]) == (0, str(draft))
        return done

    def of(*names: str) -> list[str | Path]:
        return [each for name in names for each in ("--root-key", sticks[name] / "root.pub")]

    assert shell.refused("catalogue", "init") == (2, "usage"), "it names no root keys"
    begun = offered("init", *of("a", "b"))
    assert (begun["root"]["threshold"], begun["root"]["signed"], begun["previous"]) == (2, False, None)
    assert shell.refused("catalogue", "init", *of("a", "b"), "--output", draft) == (2, "output-exists")
    assert sign("a", "--dry-run")["signatures"] == [{"of_root": 1, "found": 0, "threshold": 2}]
    assert sign("a")["signatures"][0]["found"] == 1
    assert sign("a")["signatures"][0]["found"] == 1, "twice is once"
    assert shell.refused("catalogue", "publish-root", draft) == (1, "root-refused")
    assert shell.refused("catalogue", "sign-root", draft, "--key", sticks["c"], "--passphrase-file", secret) == (
        1,
        "root-refused",
    )
    assert not catalogue.exists()
    assert sign("b")["signed"]
    assert shell.json("catalogue", "publish-root", draft)[0] == 0
    assert shell.json("catalogue", "publish-root", draft)[0] == 0, "done again"
    with client(factory_home) as seen:
        assert seen.names() == []

    old = keyid(factory_home, "targets")
    previous = offered("rotate", "targets")["previous"]
    assert previous == f"{catalogue}/metadata/1.root.json"
    (new,) = json.loads(shell.text("catalogue", "rotate", "targets", "--output", tmp_path / "again", "--json")[1])[
        "root"
    ]["keys"]["targets"]
    assert keyid(factory_home, "targets") == old
    assert shell.json("catalogue", "refresh")[0] == 0, "meanwhile all goes on"
    sign("a", "--previous", previous)
    assert sign("b", "--previous", previous)["signed"]
    done = shell.json("catalogue", "publish-root", draft)[1]
    assert done["replaced"] == [{"purpose": "targets", "old": old, "new": new}]
    assert keyid(factory_home, "targets") == new

    previous = offered("rotate", "root", *of("b", "c"))["previous"]
    for stick in "ab":
        sign(stick, "--previous", previous)
    assert shell.refused("catalogue", "publish-root", draft) == (1, "root-refused"), "the new ones have to sign, too"
    assert sign("c", "--previous", previous)["signed"]
    assert shell.json("catalogue", "publish-root", draft)[1]["root"]["version"] == 3
    assert shell.json("catalogue", "refresh")[1]["overdue"] == []
    with client(factory_home) as seen:
        assert next(iter(seen.roles())).version == 3
    assert offered("rotate", "root")["root"]["threshold"] == 2, "the same keys for another year"
    assert PASSPHRASE.encode() not in b"".join(
        path.read_bytes() for path in factory_home.home.rglob("*") if path.is_file()
    )


def test_what_is_no_root(factory_home: FakeHost, sticks: dict[str, Path], shell: Shell, tmp_path: Path) -> None:
    damaged = tmp_path / "damaged"
    damaged.write_text("<html>")
    assert shell.refused("catalogue", "sign-root", damaged, "--key", sticks["a"], "--dry-run") == (
        1,
        "catalogue-damaged",
    )
    assert shell.refused("catalogue", "publish-root", damaged) == (1, "catalogue-damaged")
    assert shell.refused("catalogue", "publish-root", tmp_path / "none") == (1, "unreadable")
    assert shell.refused("catalogue", "init", "--root-key", damaged) == (1, "key-damaged")
    assert shell.refused("catalogue", "rotate", "targets") == (1, "catalogue-uninitialised")
    assert shell.refused("catalogue", "rotate", "glance") == (2, "usage")
    assert shell.refused("catalogue", "rotate", "targets", "--threshold", "2") == (2, "usage")
    assert shell.refused("catalogue", "refresh") == (1, "catalogue-uninitialised")
    assert not factory_home.settings.catalogue.exists()
