"""What our publisher writes, our reader reads: with real keys, from the first release to new keys."""

from pathlib import Path

import pytest

from imagefactory import errors
from imagefactory.model.listing import Listing, ListingState, Relisting
from imagefactory.model.release import ReleaseRef
from imagefactory.tools.tuf_client import CatalogueClient, warning
from imagefactory.tools.tuf_repository import TufRepository
from tests.unit.tuf_world import Ring, manifest, moment, publish, release

NAME = "soe-debian-12"
FIRST, SECOND = release(NAME), release(NAME, 2)


class World:
    """A catalogue with one release, its keys, and a machine that has read it."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.ring = Ring()
        self.root = self.ring.first(moment())
        self.repository = TufRepository(folder / "catalogue", self.root, self.ring.online)
        self.repository.create(moment())
        publish(self.repository, FIRST, moment())
        assert self.newest(self.root) == (FIRST, manifest(FIRST.ref))

    def client(self, root: bytes | None = None) -> CatalogueClient:
        return CatalogueClient(self.folder / "catalogue", self.folder / "store", root=root)

    def newest(self, root: bytes | None = None) -> tuple[Listing, bytes]:
        with self.client(root) as client:
            found = client.newest(NAME)
            return found, client.manifest(NAME, found.version)

    def say(self, ref: ReleaseRef, state: ListingState, instead: ReleaseRef | None, reason: str | None = None) -> None:
        self.repository.relist([Relisting(ref, state, instead, reason)], moment())


@pytest.fixture
def world(tmp_path: Path) -> World:
    return World(tmp_path)


def test_a_second_release(world: World) -> None:
    publish(world.repository, SECOND, moment())
    assert world.newest() == (SECOND, manifest(SECOND.ref))


def test_names_beside_each_other(world: World) -> None:
    other = release("soe-debian-12-separate", 7)
    publish(world.repository, other, moment())
    with world.client() as client:
        assert client.releases(NAME) == [FIRST]
        assert client.releases(other.name) == [other]


def test_from_deprecated_to_revoked(world: World) -> None:
    publish(world.repository, SECOND, moment())
    world.say(FIRST.ref, ListingState.DEPRECATED, SECOND.ref)
    with world.client() as client:
        found = client.release(NAME, FIRST.version)
        assert warning(found) == f"{FIRST.ref} is deprecated; use {SECOND.ref} instead"
        assert client.manifest(NAME, FIRST.version) == manifest(FIRST.ref)
    world.say(FIRST.ref, ListingState.REVOKED, SECOND.ref, "its kernel is broken")
    with world.client() as client, pytest.raises(errors.ReleaseRevoked, match="its kernel is broken") as refused:
        client.manifest(NAME, FIRST.version)
    assert refused.value.advice == f"use {SECOND.ref} instead"


def test_nothing_but_freshness(world: World) -> None:
    world.repository.refresh(moment())
    assert world.newest() == (FIRST, manifest(FIRST.ref))


def test_all_keys_anew(world: World) -> None:
    new = Ring()
    both = (*world.ring.online, *new.online)
    root = world.ring.followed_by(new, world.root, moment())
    TufRepository(world.folder / "catalogue", world.root, both).publish_root(root, moment())
    assert world.newest() == (FIRST, manifest(FIRST.ref))
    repository = TufRepository(world.folder / "catalogue", root, new.online)
    publish(repository, SECOND, moment())
    assert world.newest() == (SECOND, manifest(SECOND.ref))


def test_what_was_published_is_not_forgotten(world: World, tmp_path: Path) -> None:
    """The whole catalogue as it was, for whoever has seen what came after."""
    past = {path: path.read_bytes() for path in (tmp_path / "catalogue/metadata").glob("*.json")}
    publish(world.repository, SECOND, moment())
    world.newest()
    for path, raw in past.items():
        path.write_bytes(raw)
    with pytest.raises(errors.CatalogueRollback):
        world.newest()
