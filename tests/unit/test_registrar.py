"""What the signer says in a catalogue: only of what it signed itself, and whole whenever it dies."""

import os
import shutil
from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from datetime import datetime, timedelta
from itertools import count
from pathlib import Path

import pytest
from tuf.api.metadata import Metadata, Root, Targets  # type: ignore[attr-defined]  # public, but it has no __all__

from imagefactory.errors import (
    CatalogueDamaged,
    CatalogueUninitialised,
    CatalogueUntrusted,
    NotSignedHere,
    ReleaseRevoked,
    ReleaseUnknown,
    RootRefused,
    StateConflict,
    VersionMismatch,
)
from imagefactory.factory import ceremony
from imagefactory.factory.keys import Custody, init_keys, init_root
from imagefactory.model.listing import Listing, ListingState, Relisting
from imagefactory.model.release import ReleaseRef, Version
from imagefactory.steps import registrar
from imagefactory.steps.registrar import Registrar, begin, list_release, publish_root, refresh, relist
from imagefactory.tools import durable, trusted_roots, tuf_files
from imagefactory.tools.audit_log import AuditLog
from imagefactory.tools.signed import SignedStore
from imagefactory.tools.trusted_roots import TrustedRoots
from imagefactory.tools.tuf_files import CatalogueFiles
from imagefactory.tools.tuf_root import named_keys
from signing.errors import KeysMissing, SigningError
from signing.keys import KeyRing
from signing.manifest import MANIFEST_FILE
from signing.signer import Signer, signer_in
from signing.trust import Trust, load_trust
from tests.unit.signing import builders
from tests.unit.signing.builders import NAME, NOW, Keys
from tests.unit.tuf_world import Killed, dying

VERSION = Version.parse(str(builders.VERSION))
REF = ReleaseRef(NAME, VERSION)
DAY = timedelta(days=1)
PASSPHRASE = b"correct horse battery staple"


@pytest.fixture(autouse=True)
def no_waiting(monkeypatch: pytest.MonkeyPatch) -> None:
    """Nobody pulls a plug here."""
    monkeypatch.setattr(os, "fsync", lambda _: None)


@pytest.fixture(scope="module")
def keys(tmp_path_factory: pytest.TempPathFactory) -> Keys:
    return builders.make_keys(tmp_path_factory.mktemp("development"))


@pytest.fixture(scope="module")
def release(tmp_path_factory: pytest.TempPathFactory, keys: Keys) -> Path:
    folder = tmp_path_factory.mktemp("release") / "files"
    builders.make_folder(folder, keys)
    return folder


@dataclass(frozen=True)
class World:
    """A signer, and a catalogue with the folder of a release that it has signed."""

    home: Path
    own: Registrar

    @property
    def catalogue(self) -> Path:
        return self.home / "catalogue"

    @property
    def folder(self) -> Path:
        return self.catalogue / "targets" / NAME / str(VERSION)

    @property
    def listed(self) -> Listing | None:
        """What the catalogue says, to whoever has the root that the signer remembers."""
        return registrar.known_repository(self.own.roots, self.catalogue).listing(REF)

    @property
    def trust(self) -> bytes | None:
        """The trust policy that the catalogue has."""
        newest = max(self.catalogue.glob("metadata/*.targets.json"), key=lambda path: int(path.name.partition(".")[0]))
        target = Metadata[Targets].from_bytes(newest.read_bytes()).signed.targets.get("trust.json")
        if target is None:
            return None
        return (self.catalogue / "targets" / f"{target.hashes['sha256']}.trust.json").read_bytes()

    @property
    def events(self) -> list[str]:
        return [entry.event for entry in self.own.log.entries() if entry.event != "key-used"]


def make_world(home: Path, ring: KeyRing, trust: Trust, release: Path) -> World:
    own = Registrar(
        ring, {}, trust, SignedStore(home / "signed"), TrustedRoots(home / "signed"), AuditLog(home / "log")
    )
    made = World(home, own)
    made.folder.parent.mkdir(parents=True)
    shutil.copytree(release, made.folder)
    with own.memory.hold(NAME):
        own.memory.keep(NAME, VERSION, {path.name: path.read_bytes() for path in release.iterdir()})
    return made


@pytest.fixture
def world(tmp_path: Path, keys: Keys, release: Path) -> World:
    return make_world(tmp_path, keys.ring, keys.trust, release)


def files(directory: Path) -> dict[str, bytes]:
    return {str(path.relative_to(directory)): path.read_bytes() for path in directory.rglob("*") if path.is_file()}


# -- listing ----------------------------------------------------------------------------------------------------------


def test_with_development_keys_the_first_release_begins_a_catalogue(world: World, keys: Keys) -> None:
    done = list_release(world.own, world.catalogue, REF, NOW)
    assert done.begun
    assert world.listed == Listing(NAME, VERSION, "debian", "12", "x86_64")
    assert world.trust == keys.trust.encode()
    assert world.events == ["catalogue-begun", "trust-published", "listed"]
    used = {
        (each.details["purpose"], each.details["about"])
        for each in world.own.log.entries()
        if "purpose" in each.details
    }
    about = f"catalogue {world.catalogue}"
    assert used == {
        ("root", "a first root"),
        ("targets", about),
        ("freshness", about),
        ("targets", str(REF)),
        ("freshness", str(REF)),
    }
    root = world.own.roots.of(world.catalogue)
    assert root == (world.catalogue / "metadata/1.root.json").read_bytes()
    assert named_keys(root) == {purpose: [keys.ring.keyid(purpose)] for purpose in ("root", "targets", "freshness")}


def test_the_same_again_writes_nothing(world: World) -> None:
    list_release(world.own, world.catalogue, REF, NOW)
    before, log = files(world.catalogue), world.events
    done = list_release(world.own, world.catalogue, REF, NOW + DAY)
    assert (done.written, done.begun) == ((), False)
    assert (files(world.catalogue), world.events) == (before, log)


def _no_memory(world: World) -> None:
    shutil.rmtree(world.home / "signed")


def _other_bytes(world: World) -> None:
    """They say the same, and are signed by the same key."""
    manifest = world.folder / MANIFEST_FILE
    manifest.write_bytes(manifest.read_bytes() + b"\n")


def _as_another_version(world: World) -> None:
    """A folder and a memory that somebody has rearranged."""
    other = ReleaseRef(NAME, Version(20251121, 2))
    world.folder.rename(world.folder.with_name(str(other.version)))
    shutil.move(world.home / "signed" / NAME / str(VERSION), world.home / "signed" / NAME / str(other.version))


def _no_folder(world: World) -> None:
    shutil.rmtree(world.folder)


@pytest.mark.parametrize(
    ("spoil", "number", "error"),
    [
        (_no_memory, 1, NotSignedHere),
        (_other_bytes, 1, NotSignedHere),
        (_as_another_version, 2, VersionMismatch),
        (_no_folder, 1, ReleaseUnknown),
    ],
)
def test_only_what_was_signed_here_is_listed(
    world: World, spoil: Callable[[World], None], number: int, error: type[Exception]
) -> None:
    spoil(world)
    with pytest.raises(error):
        list_release(world.own, world.catalogue, ReleaseRef(NAME, Version(20251121, number)), NOW)
    assert not (world.catalogue / "metadata").exists()
    assert world.events == ["refused"]


def test_a_name_is_no_release(world: World) -> None:
    with pytest.raises(ReleaseUnknown):
        list_release(world.own, world.catalogue, ReleaseRef(NAME), NOW)


def test_what_does_not_verify_any_more_is_not_listed(world: World, keys: Keys, tmp_path: Path) -> None:
    with pytest.raises(SigningError):
        list_release(world.own, world.catalogue, REF, NOW + 200 * DAY)
    another = builders.make_keys(tmp_path / "another")
    with pytest.raises(SigningError):
        list_release(replace(world.own, trust=another.trust), world.catalogue, REF, NOW)
    assert not (world.catalogue / "metadata").exists()
    list_release(world.own, world.catalogue, REF, NOW)
    assert world.trust == keys.trust.encode()


# -- states -----------------------------------------------------------------------------------------------------------


def test_states(world: World) -> None:
    other = ReleaseRef(NAME, Version(20251122, 1))
    list_release(world.own, world.catalogue, REF, NOW)
    relist(world.own, world.catalogue, [Relisting(REF, ListingState.DEPRECATED, other, None)], NOW)
    list_release(world.own, world.catalogue, REF, NOW)
    assert world.listed is not None
    assert (world.listed.state, world.listed.replacement) == (ListingState.DEPRECATED, other), (
        "published again, it stays"
    )
    relist(world.own, world.catalogue, [Relisting(REF, ListingState.CURRENT, None, None)], NOW)
    relist(world.own, world.catalogue, [Relisting(REF, ListingState.REVOKED, other, "it leaks")], NOW)
    for late in (ListingState.CURRENT, ListingState.DEPRECATED):
        with pytest.raises(StateConflict):
            relist(world.own, world.catalogue, [Relisting(REF, late, None, None)], NOW)
    with pytest.raises(ReleaseRevoked, match="it leaks"):
        list_release(world.own, world.catalogue, REF, NOW)
    assert world.events[3:] == ["relisted", "relisted", "relisted", "refused", "refused", "refused"]
    (last,) = [each for each in world.own.log.entries() if each.details.get("state") == "revoked"]
    assert last.details == {
        "about": str(REF),
        "catalogue": str(world.catalogue),
        "state": "revoked",
        "channel": "stable",
        "replacement": str(other),
        "reason": "it leaks",
    }


def test_a_refresh_carries_another_trust_file(world: World, keys: Keys, tmp_path: Path) -> None:
    begin(world.own, world.catalogue, NOW)
    assert refresh(world.own, world.catalogue, NOW + DAY).written == ("metadata/timestamp.json",)
    other = builders.make_keys(tmp_path / "other")
    both = replace(keys.trust, glance_ca=(*keys.trust.glance_ca, *other.trust.glance_ca))
    done = refresh(replace(world.own, trust=both), world.catalogue, NOW + DAY)
    assert f"targets/{builders.sha256(both.encode())}.trust.json" in done.written
    assert world.trust == both.encode()


def test_what_cannot_be_signed_here_is_told(world: World) -> None:
    begin(world.own, world.catalogue, NOW)
    assert refresh(world.own, world.catalogue, NOW + 200 * DAY).overdue == ("root",)


# -- whose catalogue it is --------------------------------------------------------------------------------------------


def test_no_catalogue_is_believed_for_itself(world: World, keys: Keys, release: Path, tmp_path: Path) -> None:
    """Another signer, with the very same keys, has not begun it."""
    begin(world.own, world.catalogue, NOW)
    other = make_world(tmp_path / "other", keys.ring, keys.trust, release)
    before = files(world.catalogue)
    actions: list[Callable[[], object]] = [
        lambda: list_release(other.own, world.catalogue, REF, NOW),
        lambda: refresh(other.own, world.catalogue, NOW),
        lambda: relist(other.own, world.catalogue, [Relisting(REF, ListingState.DEPRECATED, None, None)], NOW),
    ]
    for action in actions:
        with pytest.raises(CatalogueUntrusted):
            action()
    unsigned = Metadata[Root].from_bytes((world.catalogue / "metadata/1.root.json").read_bytes())
    unsigned.signatures.clear()
    with pytest.raises(RootRefused):
        publish_root(other.own, world.catalogue, unsigned.to_bytes(), NOW)
    assert files(world.catalogue) == before
    assert other.own.roots.of(world.catalogue) is None
    publish_root(other.own, world.catalogue, (world.catalogue / "metadata/1.root.json").read_bytes(), NOW)
    list_release(other.own, other.catalogue, REF, NOW)
    refresh(other.own, world.catalogue, NOW)


def test_lost_keys_are_not_replaced_in_silence(world: World, tmp_path: Path) -> None:
    begin(world.own, world.catalogue, NOW)
    before, other = files(world.catalogue), builders.make_keys(tmp_path / "new")
    with pytest.raises(KeysMissing, match="names another targets key"):
        refresh(replace(world.own, ring=other.ring), world.catalogue, NOW)
    assert files(world.catalogue) == before


def test_what_is_no_catalogue(world: World) -> None:
    with pytest.raises(CatalogueUninitialised):
        refresh(world.own, world.catalogue, NOW)
    with pytest.raises(CatalogueUninitialised):
        relist(world.own, world.catalogue, [Relisting(REF, ListingState.DEPRECATED, None, None)], NOW)


def test_a_catalogue_without_its_timestamp_is_not_begun_anew(world: World) -> None:
    """Whoever takes that file away does not take back what was revoked."""
    list_release(world.own, world.catalogue, REF, NOW)
    (world.catalogue / "metadata/timestamp.json").unlink()
    before = files(world.catalogue)
    with pytest.raises(CatalogueDamaged):
        list_release(world.own, world.catalogue, REF, NOW)
    assert files(world.catalogue) == before


# -- production -------------------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Production:
    """A world whose root keys are elsewhere."""

    world: World
    ring: KeyRing
    roots: list[Signer]

    def drafted(self, threshold: int | None = None, now: datetime = NOW) -> bytes:
        return ceremony.draft_first(self.ring, [each.public_key for each in self.roots], threshold, now)


@pytest.fixture
def production(tmp_path: Path) -> Production:
    home = tmp_path / "production"
    init_keys(home / "keys", home / "trust.json", Custody(PASSPHRASE), development=False, now=NOW)
    ring, trust = KeyRing(home / "keys", lambda: PASSPHRASE), load_trust(home / "trust.json")
    release = tmp_path / "files"
    builders.make_folder(release, Keys(home / "keys", home / "trust.json", ring, trust))
    roots = []
    for stick in ("a", "b"):
        init_root(tmp_path / stick, Custody(PASSPHRASE), now=NOW)
        roots.append(signer_in(KeyRing(tmp_path / stick, lambda: PASSPHRASE), "root"))
    return Production(make_world(home / "world", ring, trust, release), ring, roots)


def test_a_catalogue_takes_a_ceremony(production: Production) -> None:
    world = production.world
    with pytest.raises(CatalogueUninitialised):
        list_release(world.own, world.catalogue, REF, NOW)
    assert "root" not in production.ring.metadata.keyids
    root = production.drafted()
    for signer in production.roots:
        for sign in (False, True):
            with pytest.raises(RootRefused):
                publish_root(world.own, world.catalogue, root, NOW, sign=sign)
        assert not (world.catalogue / "metadata").exists()
        assert world.own.roots.of(world.catalogue) is None
        root = ceremony.sign_draft(root, signer, None)
    assert publish_root(world.own, world.catalogue, root, NOW).begun
    list_release(world.own, world.catalogue, REF, NOW)
    assert world.listed is not None
    assert publish_root(world.own, world.catalogue, root, NOW).written == (), "done again"


def test_one_root_key_is_enough_where_one_is_wanted(production: Production) -> None:
    root = ceremony.sign_draft(production.drafted(threshold=1), production.roots[1], None)
    publish_root(production.world.own, production.world.catalogue, root, NOW)
    assert production.world.listed is None


# -- killed -----------------------------------------------------------------------------------------------------------


@pytest.fixture
def deaths(monkeypatch: pytest.MonkeyPatch) -> Iterator[Callable[[int, bool], None]]:
    """Die before, or after, the nth file that is written to a catalogue or to the memory of roots."""

    def arm(nth: int, after: bool) -> None:
        mortal = dying(durable.put_file, nth, after)
        monkeypatch.setattr(tuf_files, "put_file", mortal)
        monkeypatch.setattr(trusted_roots, "put_file", mortal)

    yield arm
    monkeypatch.undo()


@pytest.mark.parametrize("after", [False, True])
def test_killed_anywhere_the_next_one_finishes(
    tmp_path: Path, keys: Keys, release: Path, deaths: Callable[[int, bool], None], after: bool
) -> None:
    for nth in count():
        world = make_world(tmp_path / str(nth), keys.ring, keys.trust, release)
        deaths(nth, after)
        try:
            list_release(world.own, world.catalogue, REF, NOW)
        except Killed:
            alive = False
        else:
            alive = True
        deaths(10**6, False)
        if CatalogueFiles(world.catalogue).has_begun:
            assert world.listed is None or world.listed.state == ListingState.CURRENT
        list_release(world.own, world.catalogue, REF, NOW)
        assert world.listed is not None
        assert world.trust == keys.trust.encode()
        assert world.own.roots.of(world.catalogue) == (world.catalogue / "metadata/1.root.json").read_bytes()
        if alive:
            break
    assert nth >= 14


def test_two_that_begin_at_once_begin_one_catalogue(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    """Whoever comes second finds it begun."""
    real, told = registrar._first_root, []

    def first_root(own: Registrar, now: datetime) -> bytes:
        told.append(now)
        return real(own, now)

    monkeypatch.setattr(registrar, "_first_root", first_root)
    assert begin(world.own, world.catalogue, NOW).begun
    assert not begin(world.own, world.catalogue, NOW).begun
    assert len(told) == 1
