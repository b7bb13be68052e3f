"""The trust policy of a catalogue: one target, in the role targets. The judge is python-tuf's own client."""

import json
import os
from collections.abc import Callable
from datetime import datetime, timedelta
from hashlib import sha256
from itertools import count
from pathlib import Path

import pytest

from imagefactory.tools.tuf_repository import TufRepository
from signing.errors import KeysMissing, TrustInvalid
from tests.unit.tuf_world import Client, Ring, deaths, moment, publish, release, see, trust_file

A, B = release("soe-a"), release("soe-b")
POLICY, OTHER = trust_file(), trust_file()


@pytest.fixture(autouse=True)
def no_waiting(monkeypatch: pytest.MonkeyPatch) -> None:
    """Nobody pulls a plug here."""
    monkeypatch.setattr(os, "fsync", lambda _: None)


@pytest.fixture
def now() -> datetime:
    return moment()


@pytest.fixture(scope="module")
def ring() -> Ring:
    return Ring()


@pytest.fixture
def root(ring: Ring, now: datetime) -> bytes:
    return ring.first(now)


@pytest.fixture
def repository(tmp_path: Path, ring: Ring, root: bytes, now: datetime) -> TufRepository:
    made = TufRepository(tmp_path / "catalogue", root, ring.online)
    made.create(now)
    publish(made, A, now)
    return made


@pytest.fixture
def client(repository: TufRepository, root: bytes, tmp_path: Path) -> Client:
    del repository
    return Client(tmp_path / "catalogue", root, tmp_path / "client")


def files(place: Path) -> dict[str, bytes]:
    return {str(each.relative_to(place)): each.read_bytes() for each in place.rglob("*") if each.is_file()}


def test_it_is_a_target_of_the_role_targets_itself(
    repository: TufRepository, client: Client, tmp_path: Path, now: datetime
) -> None:
    assert client.trust() is None
    change = repository.set_trust(POLICY, now)
    digest = sha256(POLICY).hexdigest()
    assert change.written == (
        f"targets/{digest}.trust.json",
        "metadata/3.targets.json",
        "metadata/3.snapshot.json",
        "metadata/timestamp.json",
    )
    targets = json.loads((tmp_path / "catalogue/metadata/3.targets.json").read_bytes())["signed"]["targets"]
    assert targets == {"trust.json": {"length": len(POLICY), "hashes": {"sha256": digest}}}
    assert client.trust() == POLICY
    assert client.see([A.ref]) == {str(A.ref): A}


def test_the_same_again_writes_nothing(repository: TufRepository, tmp_path: Path, now: datetime) -> None:
    repository.set_trust(POLICY, now)
    before = files(tmp_path)
    assert repository.set_trust(POLICY, now).written == ()
    assert files(tmp_path) == before


def test_another_takes_its_place(repository: TufRepository, client: Client, now: datetime) -> None:
    for policy in (POLICY, OTHER, POLICY):
        assert len(repository.set_trust(policy, now).written) == 4
        assert client.trust() == policy


def test_it_stays_whatever_else_is_published(
    repository: TufRepository, client: Client, ring: Ring, root: bytes, tmp_path: Path, now: datetime
) -> None:
    repository.set_trust(POLICY, now)
    publish(repository, B, now)
    repository.refresh(now + timedelta(days=60))
    new = Ring()
    second = ring.followed_by(new, root, now)
    TufRepository(tmp_path / "catalogue", root, (*ring.online, *new.online)).publish_root(second, now)
    assert client.trust() == POLICY
    assert client.see([A.ref, B.ref]) == see(tmp_path / "catalogue", second, [A.ref, B.ref])


@pytest.mark.parametrize("policy", [b"", b"{}", POLICY[:-2], POLICY.replace(b'"development"', b'"developments"')])
def test_what_is_no_trust_file_is_not_published(
    repository: TufRepository, tmp_path: Path, now: datetime, policy: bytes
) -> None:
    before = files(tmp_path)
    with pytest.raises(TrustInvalid):
        repository.set_trust(policy, now)
    assert files(tmp_path) == before


def test_the_freshness_key_says_nothing_of_it(
    repository: TufRepository, ring: Ring, root: bytes, tmp_path: Path, now: datetime
) -> None:
    del repository
    before = files(tmp_path)
    with pytest.raises(KeysMissing):
        TufRepository(tmp_path / "catalogue", root, [ring.freshness]).set_trust(POLICY, now)
    assert files(tmp_path) == before


def test_killed_at_any_write(
    tmp_path: Path, ring: Ring, root: bytes, now: datetime, monkeypatch: pytest.MonkeyPatch
) -> None:
    numbers, place, client = count(), tmp_path, Client(tmp_path, root, tmp_path / "nobody")

    def begin() -> Callable[[], object]:
        nonlocal place, client
        place = tmp_path / str(next(numbers))
        repository = TufRepository(place, root, ring.online)
        repository.create(now)
        repository.set_trust(POLICY, now)
        client = Client(place, root, tmp_path / f"{place.name}.client")
        assert client.trust() == POLICY
        return lambda: repository.set_trust(OTHER, now)

    for killed in deaths(monkeypatch, begin):
        assert client.trust() in ((POLICY, OTHER) if killed else (OTHER,))
        TufRepository(place, root, ring.online).set_trust(OTHER, now)
        assert client.trust() == OTHER
