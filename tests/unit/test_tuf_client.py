"""Reading a catalogue in a directory: what its makers say arrives, and every attack that TUF knows is refused."""

import copy
import json
import os
import shutil
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from hashlib import sha256
from pathlib import Path
from typing import Any
from urllib.parse import quote

import pytest
from tuf.api.exceptions import DownloadError
from tuf.api.metadata import (  # type: ignore[attr-defined]  # public, but not in its __all__
    DelegatedRole,
    Delegations,
    MetaFile,
    SuccinctRoles,
    TargetFile,
    Targets,
)

from imagefactory import errors
from imagefactory.errors import FactoryError
from imagefactory.model.listing import Listing, decode_listing
from imagefactory.model.release import Version
from imagefactory.tools import tuf_client
from imagefactory.tools.trust_store import TrustStore
from imagefactory.tools.tuf_client import CatalogueClient, utc_now, warning
from imagefactory.tools.tuf_fetch import LARGEST, DirectorySource
from signing.errors import NoTrustRoot
from tests.fakes.tuf_repository import (
    Repository,
    custom,
    in_days,
    kept,
    manifest,
    meta,
    new_key,
    require_sound,
    signed_by,
)

NAME = "soe-debian-12"
OLD, NEW = "20261121.1", "20261122.1"


@dataclass
class Scene:
    """A catalogue, and a machine that reads it."""

    repository: Repository
    store: Path
    root: bytes | None = None
    now: datetime = field(default_factory=utc_now)

    @contextmanager
    def client(self) -> Iterator[CatalogueClient]:
        with CatalogueClient(self.repository.directory, self.store, lambda: self.now, root=self.root) as client:
            yield client

    def read(self) -> bytes:
        """The manifest of the newest release, with all that is asked on the way."""
        with self.client() as client:
            return client.manifest(NAME, client.newest(NAME).version)


@pytest.fixture(autouse=True)
def synced(monkeypatch: pytest.MonkeyPatch) -> list[Path]:
    """What would be on the disk if the power went, in that order; waiting for a busy disk would take minutes."""
    files: list[Path] = []
    monkeypatch.setattr(os, "fsync", lambda descriptor: files.append(Path(f"/proc/self/fd/{descriptor}").readlink()))
    return files


@pytest.fixture
def fresh(tmp_path: Path) -> Scene:
    """The first time that this catalogue is read."""
    repository = Repository(tmp_path / "catalogue")
    repository.add(NAME, OLD)
    repository.publish("targets", NAME)
    repository.publish(NAME)
    return Scene(repository, tmp_path / "store", repository.first_root)


@pytest.fixture
def scene(fresh: Scene) -> Scene:
    """This catalogue was read before, and its root is pinned."""
    fresh.read()
    fresh.root = None
    return fresh


def listed(scene: Scene) -> list[str]:
    with scene.client() as client:
        return [str(each.version) for each in client.releases(NAME)]


# -- what its makers say -----------------------------------------------------------------------------------------------


def test_the_manifest_of_the_newest(scene: Scene) -> None:
    assert scene.read() == manifest(NAME, OLD)
    scene.repository.add(NAME, NEW)
    scene.repository.publish(NAME)
    assert scene.read() == manifest(NAME, NEW)
    assert listed(scene) == [OLD, NEW]
    require_sound(scene.store, scene.repository, {})


def test_versions_are_numbers(scene: Scene) -> None:
    for number in (10, 9):
        scene.repository.add(NAME, f"20261122.{number}")
    scene.repository.publish(NAME)
    assert listed(scene) == [OLD, "20261122.9", "20261122.10"]


def test_what_is_said_of_a_release(scene: Scene) -> None:
    scene.repository.add(NAME, NEW, provided_until="2027-05-01")
    scene.repository.publish(NAME)
    with scene.client() as client:
        found = client.release(NAME, Version.parse(NEW))
    assert isinstance(found, Listing)
    assert (str(found.ref), found.distro, found.os_version, found.arch) == (f"{NAME}@{NEW}", "debian", "12", "x86_64")
    assert (found.channel, found.state.value, str(found.provided_until)) == ("stable", "current", "2027-05-01")
    assert warning(found) is None


def test_what_python_tuf_verified_counts_and_not_the_file_that_it_left(
    scene: Scene, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Somebody who can write to the store changes it at the worst moment."""
    read_role = TrustStore.role

    def altered(store: TrustStore, name: str) -> Targets:
        role = read_role(store, name)
        for target in role.targets.values():
            target.unrecognized_fields["custom"] = custom(NAME, OLD, channel="evil")
            target.hashes["sha256"] = "0" * 64
        return role

    def longer(store: TrustStore, name: str) -> Targets:
        role = read_role(store, name)
        if name == NAME:
            path = f"{NAME}/{NEW}.sigstore.json"
            said = {"custom": custom(NAME, NEW)}
            role.targets[path] = TargetFile(10, {"sha256": "0" * 64}, path, said)
        return role

    for changed in (altered, longer):
        monkeypatch.setattr(TrustStore, "role", changed)
        with pytest.raises(errors.TrustStoreUnusable, match="changed"):
            scene.read()


def test_a_listing_is_read_once(scene: Scene, monkeypatch: pytest.MonkeyPatch) -> None:
    for number in range(1, 9):
        scene.repository.add(NAME, f"20261122.{number}")
    scene.repository.publish(NAME)
    read: list[str] = []

    def noted(path: str, custom: object) -> Listing:
        read.append(path)
        return decode_listing(path, custom)

    monkeypatch.setattr(tuf_client, "decode_listing", noted)
    with scene.client() as client:
        client.manifest(NAME, client.newest(NAME).version)
        assert len(client.releases(NAME)) == 9
    assert len(read) == len(set(read)) == 9


def test_one_client_sees_what_is_published_meanwhile_when_it_looks_again(scene: Scene) -> None:
    with scene.client() as client:
        before = client.releases(NAME)
        scene.repository.add(NAME, NEW)
        scene.repository.publish(NAME)
        assert client.releases(NAME) == before
        client.refresh()
        assert len(client.releases(NAME)) == 2


def test_channels(scene: Scene) -> None:
    scene.repository.add(NAME, NEW, channel="candidate")
    scene.repository.publish(NAME)
    with scene.client() as client:
        assert str(client.newest(NAME).version) == OLD
        assert str(client.newest(NAME, "candidate").version) == NEW
        with pytest.raises(errors.ReleaseUnknown, match="channel 'nightly'"):
            client.newest(NAME, "nightly")


def test_a_deprecated_release_comes_with_a_warning(scene: Scene) -> None:
    scene.repository.add(NAME, OLD, state="deprecated", replacement=f"{NAME}@{NEW}")
    scene.repository.publish(NAME)
    with scene.client() as client:
        found = client.release(NAME, Version.parse(OLD))
        assert client.manifest(NAME, Version.parse(OLD)) == manifest(NAME, OLD)
        assert client.newest(NAME) == found, "there is nothing else"
    assert warning(found) == f"{NAME}@{OLD} is deprecated; use {NAME}@{NEW} instead"


def test_a_current_release_goes_before_a_newer_one_that_is_deprecated(scene: Scene) -> None:
    scene.repository.add(NAME, NEW, state="deprecated")
    scene.repository.publish(NAME)
    with scene.client() as client:
        assert str(client.newest(NAME).version) == OLD
        assert warning(client.release(NAME, Version.parse(NEW))) == f"{NAME}@{NEW} is deprecated"


def test_a_revoked_release_is_refused_with_its_reason(scene: Scene) -> None:
    scene.repository.add(NAME, OLD, state="revoked", reason="its openssl is broken", replacement=f"{NAME}@{NEW}")
    scene.repository.publish(NAME)
    version = Version.parse(OLD)
    with scene.client() as client:
        for ask in (lambda: client.release(NAME, version), lambda: client.manifest(NAME, version)):
            with pytest.raises(errors.ReleaseRevoked, match="its openssl is broken") as refused:
                ask()
            assert refused.value.advice == f"use {NAME}@{NEW} instead"
        with pytest.raises(errors.ReleaseRevoked):
            client.newest(NAME)
        assert [each.state.value for each in client.releases(NAME)] == ["revoked"]
        scene.repository.add(NAME, NEW)
        scene.repository.publish(NAME)
        client.refresh()
        assert str(client.newest(NAME).version) == NEW


def test_a_name_or_version_that_is_not_there(scene: Scene) -> None:
    with scene.client() as client:
        with pytest.raises(errors.ReleaseUnknown, match="no releases of other"):
            client.releases("other")
        with pytest.raises(errors.ReleaseUnknown, match=NEW):
            client.manifest(NAME, Version.parse(NEW))


@pytest.mark.parametrize("name", ["..", "../x", "a/b", "", "A", "timestamp", "root", "targets", "snapshot", "x\n"])
def test_names_that_are_none(scene: Scene, name: str) -> None:
    with scene.client() as client, pytest.raises(errors.ReleaseNameInvalid):
        client.releases(name)


def test_a_name_that_is_gone_is_not_remembered(scene: Scene) -> None:
    """The file of its role still lies in the store."""
    scene.repository.targets.delegations = Delegations({}, {})
    scene.repository.publish("targets")
    with scene.client() as client, pytest.raises(errors.ReleaseUnknown):
        client.releases(NAME)


def test_a_new_root(scene: Scene) -> None:
    scene.repository.publish_root()
    before, scene.repository.keys.root = scene.repository.keys.root, [new_key(), new_key()]
    scene.repository.publish_root(*before)
    assert scene.read() == manifest(NAME, OLD)
    names = {path.name for path in (scene.store / "metadata/root_history").iterdir()}
    assert names == {"1.root.json", "2.root.json", "3.root.json"}
    require_sound(scene.store, scene.repository, {})


def test_nobody_reads_without_holding_the_store(fresh: Scene) -> None:
    client = CatalogueClient(fresh.repository.directory, fresh.store, root=fresh.root)
    with pytest.raises(ValueError, match="with"):
        client.refresh()
    assert not fresh.store.exists()


# -- attacks -----------------------------------------------------------------------------------------------------------
# Each takes the catalogue, which has published a second release that the client has not seen, and says what is refused.

Attack = Callable[[Repository, dict[str, bytes]], object]


def files(repository: Repository) -> dict[str, bytes]:
    return {path.name: path.read_bytes() for path in (repository.directory / "metadata").iterdir()}


def latest(repository: Repository, name: str) -> str:
    role = repository.targets if name == "targets" else repository.roles[name]
    return f"{role.version}.{name}.json"


def older_snapshot(repository: Repository, past: dict[str, bytes]) -> None:
    """Whoever has stolen the freshness key signs anew what is old."""
    repository.timestamp.snapshot_meta = meta(2, past["2.snapshot.json"])
    sign_timestamp(repository)


def sign_timestamp(repository: Repository) -> None:
    repository.timestamp.version += 1
    repository.write_stolen("timestamp.json", signed_by(repository.timestamp, [repository.keys.freshness]))


def sign_snapshot(repository: Repository) -> None:
    repository.snapshot.version += 1
    raw = signed_by(repository.snapshot, [repository.keys.freshness])
    repository.write_stolen(f"{repository.snapshot.version}.snapshot.json", raw)
    repository.timestamp.snapshot_meta = meta(repository.snapshot.version, raw)
    sign_timestamp(repository)


def sign_role(repository: Repository, name: str) -> None:
    """With the stolen keys of all roles but root."""
    role = repository.targets if name == "targets" else repository.roles[name]
    role.version += 1
    raw = signed_by(role, [repository.keys.targets])
    repository.write_stolen(f"{role.version}.{quote(name, '')}.json", raw)
    repository.snapshot.meta[f"{name}.json"] = meta(role.version, raw)
    sign_snapshot(repository)


def older_role(repository: Repository, past: dict[str, bytes]) -> None:
    repository.snapshot.meta[f"{NAME}.json"] = meta(1, past[f"1.{NAME}.json"])
    sign_snapshot(repository)


def replayed_role(repository: Repository, past: dict[str, bytes]) -> None:
    """Without digests in the snapshot, what a file says of itself has to do."""
    repository.snapshot.meta[f"{NAME}.json"] = MetaFile(repository.roles[NAME].version)
    repository.forge(latest(repository, NAME), past[f"1.{NAME}.json"])
    sign_snapshot(repository)


def forgotten_role(repository: Repository, _: object) -> None:
    del repository.snapshot.meta[f"{NAME}.json"]
    sign_snapshot(repository)


def mixed_role(repository: Repository, past: dict[str, bytes]) -> None:
    repository.forge(latest(repository, NAME), past[f"1.{NAME}.json"])


def mixed_snapshot(repository: Repository, _: object) -> None:
    raw = repository.file(snapshot(repository)).read_bytes()
    repository.forge(snapshot(repository), raw.replace(b'"snapshot"', b'"Snapshot"'))


def other_manifest(repository: Repository, _: object) -> None:
    file = repository.target_file(NAME, NEW)
    file.write_bytes(bytes(len(file.read_bytes())))


def short_manifest(repository: Repository, _: object) -> None:
    file = repository.target_file(NAME, NEW)
    file.write_bytes(file.read_bytes()[:-1])


def long_manifest(repository: Repository, _: object) -> None:
    with repository.target_file(NAME, NEW).open("ab") as file:
        file.write(b" ")


def no_manifest(repository: Repository, _: object) -> None:
    repository.target_file(NAME, NEW).unlink()


def expired_role(name: str) -> Attack:
    def attack(repository: Repository, _: object) -> None:
        repository.put_role(name, -1)
        repository.put_snapshot()
        repository.put_timestamp()

    return attack


def expired_snapshot(repository: Repository, _: object) -> None:
    repository.put_snapshot(-1)
    repository.put_timestamp()


def expired_timestamp(repository: Repository, _: object) -> None:
    repository.put_timestamp(-1)


def next_root(repository: Repository) -> None:
    repository.root = copy.deepcopy(repository.root)
    repository.root.version += 1


def root_of_one_key(repository: Repository, _: object) -> None:
    next_root(repository)
    repository.forge("2.root.json", signed_by(repository.root, repository.keys.root[:1]))


def root_of_strangers(repository: Repository, _: object) -> None:
    """Self-consistent, and nobody of the old root agreed."""
    stranger = Repository(repository.directory.parent / "stranger")
    stranger.publish_root()
    repository.forge("2.root.json", stranger.file("2.root.json").read_bytes())


def root_that_skips(repository: Repository, _: object) -> None:
    next_root(repository)
    next_root(repository)
    repository.forge("2.root.json", signed_by(repository.root, repository.keys.root))


def signatures_of(repository: Repository, change: Callable[[list[dict[str, str]]], None]) -> None:
    next_root(repository)
    document = json.loads(signed_by(repository.root, repository.keys.root))
    change(document["signatures"])
    repository.forge("2.root.json", json.dumps(document).encode())


def root_signed_twice_by_one(repository: Repository, _: object) -> None:
    signatures_of(repository, lambda found: found.__setitem__(1, found[0]))


def root_signed_by_one_under_two_ids(repository: Repository, _: object) -> None:
    signatures_of(repository, lambda found: found[1].update(sig=found[0]["sig"]))


def root_with_one_key_under_two_ids(repository: Repository, _: object) -> None:
    """What was signed is not what the old root's keys wanted: there, too, one signature is missing."""
    next_root(repository)
    first, second = (key.public_key.keyid for key in repository.keys.root)
    document = json.loads(signed_by(repository.root, repository.keys.root))
    document["signed"]["keys"][second] = document["signed"]["keys"][first]
    repository.forge("2.root.json", json.dumps(document).encode())


def timestamp_of_a_stranger(repository: Repository, _: object) -> None:
    repository.timestamp.version += 1
    repository.forge("timestamp.json", signed_by(repository.timestamp, [new_key()]))


def timestamp_unsigned(repository: Repository, _: object) -> None:
    repository.timestamp.version += 1
    repository.forge("timestamp.json", signed_by(repository.timestamp, []))


def timestamp_by_the_wrong_key(repository: Repository, _: object) -> None:
    repository.timestamp.version += 1
    repository.forge("timestamp.json", signed_by(repository.timestamp, [repository.keys.targets]))


def timestamp_with_a_signature_that_is_none(repository: Repository, _: object) -> None:
    document = json.loads(repository.file("timestamp.json").read_bytes())
    document["signatures"][0]["sig"] = 5
    repository.forge("timestamp.json", json.dumps(document).encode())


def role_of_freshness(repository: Repository, _: object) -> None:
    """The freshness key was stolen, and is not enough to list a release."""
    role = repository.roles[NAME]
    role.version += 1
    raw = signed_by(role, [repository.keys.freshness])
    repository.forge(f"{role.version}.{NAME}.json", raw)
    repository.snapshot.meta[f"{NAME}.json"] = meta(role.version, raw)
    sign_snapshot(repository)


def of_another_kind(repository: Repository, _: object) -> None:
    repository.forge("timestamp.json", repository.file(f"{repository.snapshot.version}.snapshot.json").read_bytes())


def content(name: Callable[[Repository], str] | str, raw: bytes) -> Attack:
    return lambda repository, _: repository.forge(name if isinstance(name, str) else name(repository), raw)


def truncated_timestamp(repository: Repository, _: object) -> None:
    repository.forge("timestamp.json", repository.file("timestamp.json").read_bytes()[:-20])


def truncated_role(repository: Repository, _: object) -> None:
    repository.forge(latest(repository, NAME), repository.file(latest(repository, NAME)).read_bytes()[:-20])


def longer_snapshot(repository: Repository, _: object) -> None:
    repository.forge(snapshot(repository), repository.file(snapshot(repository)).read_bytes() + b" ")


def promised_without_end(name: str) -> Attack:
    """Whoever holds the freshness key promises any length, and python-tuf would read as far as that."""

    def attack(repository: Repository, _: object) -> None:
        if name == "snapshot":
            repository.snapshot.version += 1
            repository.timestamp.snapshot_meta = MetaFile(repository.snapshot.version, 2**50)
            sign_timestamp(repository)
        else:
            repository.roles[NAME].version += 1
            repository.snapshot.meta[f"{NAME}.json"] = MetaFile(repository.roles[NAME].version, 2**50)
            sign_snapshot(repository)
        with repository.file(role(repository) if name == NAME else snapshot(repository)).open("wb") as file:
            file.truncate(LARGEST + 1)

    return attack


def missing(name: Callable[[Repository], str]) -> Attack:
    return lambda repository, _: repository.file(name(repository)).unlink()


def delegated(role: str, *paths: str, terminating: bool = True) -> Attack:
    """The targets key was stolen; what leads astray is signed."""

    def attack(repository: Repository, _: object) -> None:
        key = repository.keys.targets.public_key
        made = DelegatedRole(role, [key.keyid], 1, terminating, paths=list(paths) or [f"{NAME}/*"])
        repository.targets.delegations = Delegations({key.keyid: key}, {})
        repository.targets.delegations.roles = {role: made}  # the library itself would make none of TUF's
        repository.roles.setdefault(role, copy.deepcopy(repository.roles[NAME]))
        sign_role(repository, "targets")
        sign_role(repository, role)

    return attack


def bins(repository: Repository, _: object) -> None:
    key = repository.keys.targets.public_key
    made = SuccinctRoles([key.keyid], 1, 1, NAME)
    repository.targets.delegations = Delegations({key.keyid: key}, None, made)
    sign_role(repository, "targets")


def delegated_further(repository: Repository, _: object) -> None:
    key = repository.keys.targets.public_key
    further = DelegatedRole("further", [key.keyid], 1, True, paths=[f"{NAME}/*"])
    repository.roles[NAME].delegations = Delegations({key.keyid: key}, {"further": further})
    repository.snapshot.meta["further.json"] = MetaFile(1)
    repository.forge("1.further.json", signed_by(repository.targets, [repository.keys.targets]))
    sign_role(repository, NAME)


def listed_at_the_top(repository: Repository, _: object) -> None:
    path = f"{NAME}/{NEW}.sigstore.json"
    repository.targets.targets[path] = repository.roles[NAME].targets[path]
    sign_role(repository, "targets")


def target(path: str = f"{NAME}/{NEW}.sigstore.json", **more: object) -> Attack:
    """The targets key was stolen; what is listed is no release of ours."""

    def attack(repository: Repository, _: object) -> None:
        hashes, length = more.get("hashes", {"sha256": "0" * 64}), more.get("length", 100)
        said = more.get("custom", custom(NAME, NEW))
        assert isinstance(hashes, dict)
        assert isinstance(length, int)
        repository.roles[NAME].targets[path] = TargetFile(length, hashes, path, {"custom": said})
        sign_role(repository, NAME)

    return attack


def linked(name: str) -> Attack:
    """What is linked to is all right, and no part of the catalogue."""

    def attack(repository: Repository, _: object) -> None:
        place, elsewhere = repository.directory / name, repository.directory.parent / "elsewhere"
        place.rename(elsewhere)
        place.symlink_to(elsewhere)

    return attack


def pipe(repository: Repository, _: object) -> None:
    repository.file("timestamp.json").unlink()
    os.mkfifo(repository.file("timestamp.json"))


def folder(repository: Repository, _: object) -> None:
    repository.file("timestamp.json").unlink()
    repository.file("timestamp.json").mkdir()


OTHER = f"other/{NEW}.sigstore.json"
HTML = b"<!doctype html><title>It works!</title>"


def snapshot(repository: Repository) -> str:
    return f"{repository.snapshot.version}.snapshot.json"


def role(repository: Repository) -> str:
    return latest(repository, NAME)


ATTACKS: dict[str, tuple[str, Attack]] = {
    "an older snapshot": ("catalogue-rollback", older_snapshot),
    "an older role": ("catalogue-rollback", older_role),
    "a role replayed": ("catalogue-rollback", replayed_role),
    "a root that skips": ("catalogue-rollback", root_that_skips),
    "expired timestamp": ("catalogue-frozen", expired_timestamp),
    "expired snapshot": ("catalogue-frozen", expired_snapshot),
    "expired targets": ("catalogue-frozen", expired_role("targets")),
    "expired role": ("catalogue-frozen", expired_role(NAME)),
    "another role": ("catalogue-mixed", mixed_role),
    "another snapshot": ("catalogue-mixed", mixed_snapshot),
    "another manifest": ("catalogue-mixed", other_manifest),
    "short manifest": ("catalogue-mixed", short_manifest),
    "truncated role": ("catalogue-mixed", truncated_role),
    "long manifest": ("catalogue-endless", long_manifest),
    "long snapshot": ("catalogue-endless", longer_snapshot),
    "endless timestamp": ("catalogue-endless", content("timestamp.json", bytes(16_385))),
    "endless root": ("catalogue-endless", content("2.root.json", bytes(512_001))),
    "snapshot promised without end": ("catalogue-endless", promised_without_end("snapshot")),
    "role promised without end": ("catalogue-endless", promised_without_end(NAME)),
    "root of one key": ("catalogue-unsigned", root_of_one_key),
    "root of strangers": ("catalogue-unsigned", root_of_strangers),
    "one signature under two ids": ("catalogue-unsigned", root_signed_by_one_under_two_ids),
    "one key under two ids": ("catalogue-unsigned", root_with_one_key_under_two_ids),
    "timestamp of a stranger": ("catalogue-unsigned", timestamp_of_a_stranger),
    "timestamp unsigned": ("catalogue-unsigned", timestamp_unsigned),
    "timestamp by the wrong key": ("catalogue-unsigned", timestamp_by_the_wrong_key),
    "a signature that is none": ("catalogue-unsigned", timestamp_with_a_signature_that_is_none),
    "role by the wrong key": ("catalogue-unsigned", role_of_freshness),
    "one signature twice": ("catalogue-damaged", root_signed_twice_by_one),
    "a role forgotten": ("catalogue-damaged", forgotten_role),
    "another kind": ("catalogue-damaged", of_another_kind),
    "HTML timestamp": ("catalogue-damaged", content("timestamp.json", HTML)),
    "HTML root": ("catalogue-damaged", content("2.root.json", HTML)),
    "HTML role": ("catalogue-mixed", content(role, HTML)),
    "empty timestamp": ("catalogue-damaged", content("timestamp.json", b"")),
    "deep timestamp": ("catalogue-damaged", content("timestamp.json", b"[" * 16_000)),
    "no UTF-8": ("catalogue-damaged", content("timestamp.json", b"\xff\xfe{}")),
    "truncated timestamp": ("catalogue-damaged", truncated_timestamp),
    "no timestamp": ("catalogue-unreachable", missing(lambda _: "timestamp.json")),
    "no snapshot": ("catalogue-unreachable", missing(snapshot)),
    "no role": ("catalogue-unreachable", missing(role)),
    "no manifest": ("catalogue-unreachable", no_manifest),
    "a link": ("catalogue-unreachable", linked("metadata/timestamp.json")),
    "a folder that is a link": ("catalogue-unreachable", linked("metadata")),
    "a pipe": ("catalogue-unreachable", pipe),
    "a folder": ("catalogue-unreachable", folder),
    "a role of another name": ("catalogue-damaged", delegated("other")),
    "a role of TUF's": ("catalogue-damaged", delegated("timestamp")),
    "a role of a path": ("catalogue-damaged", delegated("../../evil")),
    "a role that does not end": ("catalogue-damaged", delegated(NAME, terminating=False)),
    "a role for everything": ("catalogue-damaged", delegated("all", "*/*")),
    "bins": ("catalogue-damaged", bins),
    "a role that delegates": ("catalogue-damaged", delegated_further),
    "a release of targets": ("catalogue-damaged", listed_at_the_top),
    "a path with dots": ("catalogue-damaged", target(f"{NAME}/../x.sigstore.json")),
    "a path of another name": ("catalogue-damaged", target(f"other/{NEW}.sigstore.json")),
    "a release of another name": ("catalogue-damaged", target(OTHER, custom=custom("other", NEW))),
    "a path outside": ("catalogue-damaged", target("/etc/passwd")),
    "custom of another release": ("catalogue-damaged", target(custom=custom(NAME, OLD))),
    "custom with more": ("catalogue-damaged", target(custom=custom(NAME, NEW, more=True))),
    "no custom": ("catalogue-damaged", target(custom=None)),
    "a digest of a path": ("catalogue-damaged", target(hashes={"sha256": "../../../../etc/x"})),
    "another digest": ("catalogue-damaged", target(hashes={"md5": "0" * 32})),
    "two digests": ("catalogue-damaged", target(hashes={"sha512": "0" * 128, "sha256": "0" * 64})),
    "no length": ("catalogue-damaged", target(length=0)),
    "too long for a manifest": ("catalogue-damaged", target(length=(1 << 20) + 1)),
}


@pytest.mark.parametrize("attack", ATTACKS)
def test_attacks(scene: Scene, tmp_path: Path, attack: str) -> None:
    code, act = ATTACKS[attack]
    before, past = kept(scene.store), files(scene.repository)
    scene.repository.add(NAME, NEW)
    scene.repository.publish(NAME)
    honest = copy.deepcopy(scene.repository)
    shutil.copytree(scene.repository.directory, tmp_path / "backup")
    act(scene.repository, past)
    with pytest.raises(FactoryError) as refused:
        scene.read()
    assert refused.value.code == code, refused.value
    assert refused.value.message.isprintable()
    assert not (scene.store / "download").exists()
    require_sound(scene.store, scene.repository, before)
    # Nor is anything left that would keep the truth away.
    shutil.copytree(tmp_path / "backup/targets", scene.repository.directory / "targets", dirs_exist_ok=True)
    scene.repository.recover(honest, tmp_path / "backup/metadata")
    assert scene.read() == manifest(NAME, NEW)


@pytest.mark.parametrize("attack", ATTACKS)
def test_attacks_on_whoever_comes_for_the_first_time(fresh: Scene, attack: str) -> None:
    """Nothing is to be compared with: what is signed and fits together has to be believed."""
    code, act = ATTACKS[attack]
    past = files(fresh.repository)
    fresh.repository.add(NAME, NEW)
    fresh.repository.publish(NAME)
    act(fresh.repository, past)
    if act in BELIEVED:
        assert fresh.read() == manifest(NAME, OLD)
        return
    with pytest.raises(FactoryError) as refused:
        fresh.read()
    assert refused.value.code == code, refused.value
    require_sound(fresh.store, fresh.repository, {})


# Whoever has stolen keys may show a state of before to somebody who has not seen what came after.
BELIEVED = {older_snapshot, older_role}


def test_a_timestamp_that_was_seen_to_be_older(scene: Scene) -> None:
    past = files(scene.repository)
    scene.repository.add(NAME, NEW)
    scene.repository.publish(NAME)
    assert scene.read() == manifest(NAME, NEW)
    before = kept(scene.store)
    for name, raw in past.items():
        scene.repository.forge(name, raw)
    with pytest.raises(errors.CatalogueRollback, match=r"timestamp\.json: New timestamp version 3 must be >= 4"):
        scene.read()
    assert kept(scene.store) == before
    scene.repository.write("timestamp.json", before["metadata/timestamp.json"])
    assert scene.read() == manifest(NAME, NEW)


def test_fast_forward(scene: Scene) -> None:
    """A thief of the freshness key goes so far ahead that the makers cannot follow; a new key lets them begin again."""
    repository = scene.repository
    honest = (repository.timestamp.version, repository.snapshot.version)
    repository.timestamp.version = repository.snapshot.version = 2**40
    sign_snapshot(repository)
    assert scene.read() == manifest(NAME, OLD)
    repository.timestamp.version, repository.snapshot.version = honest
    repository.add(NAME, NEW)
    repository.publish(NAME)
    with pytest.raises(errors.CatalogueRollback):
        scene.read()
    repository.keys.freshness = new_key()
    repository.publish_root()
    repository.publish(NAME)
    assert scene.read() == manifest(NAME, NEW)


def test_a_root_that_has_expired(scene: Scene) -> None:
    repository = scene.repository
    before = kept(scene.store)
    repository.root.version += 1
    repository.root.expires = in_days(-1)
    repository.write("2.root.json", signed_by(repository.root, repository.keys.root))
    with pytest.raises(errors.CatalogueFrozen, match=r"Final root\.json is expired"):
        scene.read()
    require_sound(scene.store, repository, before)
    repository.publish_root()
    assert scene.read() == manifest(NAME, OLD)


def test_more_roots_than_anybody_makes(scene: Scene, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(tuf_client.CONFIG, "max_root_rotations", 3)
    for _ in range(5):
        scene.repository.publish_root()
    assert scene.read() == manifest(NAME, OLD)
    assert len(list((scene.store / "metadata/root_history").iterdir())) == 4


# -- whom to trust -----------------------------------------------------------------------------------------------------


def test_without_a_root(fresh: Scene) -> None:
    root, fresh.root = fresh.root, None
    with pytest.raises(errors.CatalogueUntrusted, match="no root for this catalogue yet") as refused:
        fresh.read()
    assert refused.value.exit_code == 1
    fresh.root = root
    assert fresh.read() == manifest(NAME, OLD)


def test_the_same_root_or_one_that_follows_may_be_given_again(scene: Scene) -> None:
    scene.root = scene.repository.first_root
    assert scene.read() == manifest(NAME, OLD)
    scene.repository.publish_root()
    scene.read()
    scene.root = scene.repository.file("2.root.json").read_bytes()
    assert scene.read() == manifest(NAME, OLD)


def test_another_root_at_the_same_place(scene: Scene, tmp_path: Path) -> None:
    before = kept(scene.store)
    scene.root = Repository(tmp_path / "other").first_root
    with pytest.raises(errors.CatalogueUntrusted, match="pinned another root"):
        scene.read()
    assert kept(scene.store) == before


def test_the_wrong_root_does_not_stay(fresh: Scene, tmp_path: Path) -> None:
    """A root is pinned when a catalogue was seen to follow from it, and not before."""
    right, fresh.root = fresh.root, Repository(tmp_path / "other").first_root
    with pytest.raises(errors.CatalogueUnsigned):
        fresh.read()
    fresh.root = right
    assert fresh.read() == manifest(NAME, OLD)
    require_sound(fresh.store, fresh.repository, {})


def test_nothing_of_a_catalogue_that_was_never_trusted_stays(fresh: Scene, tmp_path: Path) -> None:
    """It went on for three roots, and then did not prove to be current."""
    other = Repository(tmp_path / "other")
    other.publish_root()
    other.publish_root()
    other.put_timestamp(-1)
    with (
        pytest.raises(errors.CatalogueFrozen),
        CatalogueClient(other.directory, fresh.store, root=other.first_root) as it,
    ):
        it.refresh()
    assert fresh.read() == manifest(NAME, OLD)
    require_sound(fresh.store, fresh.repository, {})


@pytest.mark.parametrize("given", [b"", HTML, b"{}", b"[]", b"x" * 6_000_000], ids=len)
def test_a_root_that_is_none(fresh: Scene, given: bytes) -> None:
    fresh.root = given
    with pytest.raises(errors.CatalogueUntrusted):
        fresh.read()
    assert given not in kept(fresh.store).values()


def test_a_root_that_its_own_keys_did_not_sign(fresh: Scene) -> None:
    fresh.root = signed_by(fresh.repository.root, fresh.repository.keys.root[:1])
    with pytest.raises(errors.CatalogueUntrusted, match="root was signed by 1/2 keys"):
        fresh.read()


def test_a_timestamp_is_no_root(fresh: Scene) -> None:
    fresh.root = fresh.repository.file("timestamp.json").read_bytes()
    with pytest.raises(errors.CatalogueUntrusted):
        fresh.read()


# -- the clock ---------------------------------------------------------------------------------------------------------


def seen(scene: Scene) -> str:
    return (scene.store / "last-seen").read_text()


def test_a_clock_that_was_turned_back(scene: Scene) -> None:
    before, now = kept(scene.store), scene.now
    scene.now = now - timedelta(minutes=5, seconds=2)
    with pytest.raises(errors.ClockBehind, match="was seen at") as refused:
        scene.read()
    assert refused.value.exit_code == 3
    assert kept(scene.store) == before
    scene.now = now
    assert scene.read() == manifest(NAME, OLD)


def test_a_clock_that_is_a_little_behind_does_not_make_the_past_later(scene: Scene) -> None:
    before = seen(scene)
    scene.now -= timedelta(minutes=4)
    assert scene.read() == manifest(NAME, OLD)
    assert seen(scene) == before


def test_the_time_goes_on(scene: Scene) -> None:
    scene.now += timedelta(hours=1)
    scene.read()
    assert seen(scene) == f"{scene.now:%Y-%m-%dT%H:%M:%SZ}\n"


def test_a_catalogue_that_is_refused_was_not_seen(scene: Scene) -> None:
    before = seen(scene)
    scene.now += timedelta(hours=1)
    scene.repository.put_timestamp(-1)
    with pytest.raises(errors.CatalogueFrozen):
        scene.read()
    assert seen(scene) == before


# -- the store ---------------------------------------------------------------------------------------------------------


def test_the_store_is_for_its_owner(scene: Scene) -> None:
    assert scene.store.stat().st_mode & 0o777 == 0o700
    scene.store.chmod(0o750)
    with pytest.raises(errors.TrustStoreUnusable, match="open to others") as refused:
        scene.read()
    assert refused.value.exit_code == 3


def test_the_store_of_another_user(scene: Scene, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(os, "geteuid", lambda: scene.store.stat().st_uid + 1)
    with pytest.raises(errors.TrustStoreUnusable, match="another user"):
        scene.read()


@pytest.mark.parametrize("at", ["store", "store/x/y"])
def test_a_store_that_cannot_be(fresh: Scene, at: str) -> None:
    fresh.store.write_bytes(b"")
    fresh.store = fresh.store.parent / at
    with pytest.raises(errors.TrustStoreUnusable):
        fresh.read()


def test_what_is_remembered_is_on_the_disk_before_it_counts(fresh: Scene, synced: list[Path]) -> None:
    fresh.read()
    store = fresh.store
    pinned = synced.index(store / ".pinned.root.json.new")
    kept_before = {str(path.relative_to(store)) for path in synced[:pinned]}
    assert {
        *("metadata/root_history/1.root.json", "metadata/root_history", "metadata"),
        *("metadata/timestamp.json", "metadata/snapshot.json", "metadata/targets.json", ".last-seen.new"),
    } <= kept_before
    assert store in synced[pinned:], "its name, too"


def test_what_is_on_the_disk_already_is_not_waited_for(scene: Scene, synced: list[Path]) -> None:
    """A disk takes its time for each file, and a catalogue has as many as names."""
    role, seen = scene.store / f"metadata/{NAME}.json", {scene.store / ".last-seen.new", scene.store}
    synced.clear()
    scene.read()
    assert role in synced, "it came when the catalogue had been seen, last time"
    synced.clear()
    scene.read()
    assert set(synced) == seen
    synced.clear()
    scene.repository.publish(NAME)
    scene.read()
    changed = {scene.store / f"metadata/{each}" for each in ("timestamp.json", "snapshot.json")}
    assert set(synced) == {*seen, *changed, scene.store / "metadata"}


KEPT = ["last-seen", "pinned.root.json", "metadata/timestamp.json", "metadata/snapshot.json"]


@pytest.mark.parametrize("name", KEPT)
@pytest.mark.parametrize("how", ["empty", "short", "gone", "other"])
def test_a_store_that_has_forgotten_something(scene: Scene, name: str, how: str) -> None:
    """It would believe what is older than what it knew."""
    file = scene.store / name
    if how == "gone":
        file.unlink()
    else:
        other = (scene.store / "metadata/targets.json").read_bytes()
        file.write_bytes({"empty": b"", "short": file.read_bytes()[:-5], "other": other}[how])
    expected = errors.CatalogueUntrusted if (name, how) == ("pinned.root.json", "gone") else errors.TrustStoreUnusable
    with pytest.raises(expected):
        scene.read()


@pytest.mark.parametrize("text", ["2026-11-22", "2026-13-45T00:00:00Z\n", "soon\n", "9" * 100, "\xff"])
def test_a_time_that_is_none(scene: Scene, text: str) -> None:
    (scene.store / "last-seen").write_text(text)
    with pytest.raises(errors.TrustStoreUnusable, match="holds no time"):
        scene.read()


def test_what_a_killed_reader_left(scene: Scene) -> None:
    """Python-tuf's temporary files, half a manifest, and a first reading that never came to its end."""
    (scene.store / "download").write_bytes(b"half")
    (scene.store / "metadata/tmpabcdefgh").write_bytes(b"half")
    assert scene.read() == manifest(NAME, OLD)
    assert not (scene.store / "metadata/tmpabcdefgh").exists()
    (scene.store / "pinned.root.json").unlink()
    (scene.store / "metadata/timestamp.json").write_bytes(b"half")
    scene.root = scene.repository.first_root
    assert scene.read() == manifest(NAME, OLD)
    require_sound(scene.store, scene.repository, {})


def test_who_comes_second_waits_for_a_while(scene: Scene) -> None:
    with scene.client() as first:
        first.refresh()
        second = CatalogueClient(scene.repository.directory, scene.store, patience=0.0)
        with pytest.raises(errors.Busy, match="uses the trust store"), second:
            pass
    with second:
        assert second.releases(NAME)


# -- where a catalogue is ----------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "where",
    [
        *("ftp://host/x", "file:///etc", "https://", "https:///x", "http://host:x/", "http://host:99999/", "://"),
        *("https://host/?a", "https://host/#a", "http://[::1", "https://host/\x1b", "http://host:0/"),
    ],
)
def test_addresses_that_are_none(scene: Scene, where: str) -> None:
    with CatalogueClient(where, scene.store) as client, pytest.raises(errors.TargetUnsupported):
        client.refresh()


@pytest.mark.parametrize("where", ["https://me:hunter2@host/", "ftp://me:hunter2@host/", "https://host/?key=hunter2"])
def test_a_password_in_an_address_is_not_repeated(scene: Scene, where: str) -> None:
    with CatalogueClient(where, scene.store) as client:
        with pytest.raises(errors.TargetUnsupported) as refused:
            client.refresh()
        assert "hunter2" not in str(refused.value)


def test_a_directory_that_is_not_there(scene: Scene) -> None:
    scene.repository.directory.rename(scene.repository.directory.with_name("moved"))
    with pytest.raises(errors.CatalogueUnreachable, match="No such file or directory") as refused:
        scene.read()
    assert refused.value.exit_code == 4


@pytest.mark.parametrize("name", ["../x", "metadata/../../x", "metadata/../x", "/x", "metadata//x", ".", "", "x\0"])
def test_names_that_are_not_of_the_catalogue(scene: Scene, name: str) -> None:
    for place in ("x", "metadata/x", "catalogue/x"):
        (scene.repository.directory.parent / place).parent.mkdir(exist_ok=True)
        (scene.repository.directory.parent / place).write_bytes(b"x")
    with pytest.raises(DownloadError):
        DirectorySource(scene.repository.directory).download_bytes(name, 100)


def test_a_link_to_a_catalogue(scene: Scene, tmp_path: Path) -> None:
    """Whoever names it may; only what is below is not followed."""
    (tmp_path / "link").symlink_to(scene.repository.directory)
    with CatalogueClient(tmp_path / "link", scene.store) as client:
        assert client.releases(NAME)


# -- the trust policy, names, what others ask for ----------------------------------------------------------------------

POLICY = b'{"version": 2}'


def with_policy(scene: Scene, content: bytes = POLICY, **changes: Any) -> None:  # noqa: ANN401
    """Publish a trust policy, whose rules are for others to check."""
    digest = sha256(content).hexdigest()
    fields = {"length": len(content), "hashes": {"sha256": digest}, **changes}
    scene.repository.targets.targets["trust.json"] = TargetFile(path="trust.json", **fields)
    scene.repository.write_target(f"{digest}.trust.json", content)
    scene.repository.publish("targets")


def policy_of(scene: Scene) -> bytes:
    with scene.client() as client:
        return client.trust_policy()


def test_the_trust_policy(scene: Scene) -> None:
    with pytest.raises(NoTrustRoot):
        policy_of(scene)
    with_policy(scene)
    assert policy_of(scene) == POLICY
    with_policy(scene, b"{}")
    assert policy_of(scene) == b"{}"
    scene.repository.write_target(f"{sha256(b'{}').hexdigest()}.trust.json", b"[]")
    with pytest.raises(errors.CatalogueMixed):
        policy_of(scene)


@pytest.mark.parametrize(
    "changes",
    [{"length": 2 << 20}, {"hashes": {"sha512": "0" * 128}}, {"hashes": {"sha256": "0" * 64, "sha512": "0" * 128}}],
)
def test_a_trust_policy_that_is_no_document(scene: Scene, changes: dict[str, Any]) -> None:
    with_policy(scene, **changes)
    with pytest.raises(errors.CatalogueDamaged, match="the trust policy has no digest and length of a document"):
        policy_of(scene)


def test_a_trust_policy_of_an_image_name_is_none(scene: Scene) -> None:
    """A role below `targets` says nothing of keys, whatever it may list."""
    repository = scene.repository
    repository.delegate("other", ["other/*", "trust.json"])
    digest = sha256(POLICY).hexdigest()
    repository.roles["other"].targets["trust.json"] = TargetFile(len(POLICY), {"sha256": digest}, "trust.json")
    repository.write_target(f"{digest}.trust.json", POLICY)
    repository.publish("targets", "other")
    with pytest.raises(NoTrustRoot):
        policy_of(scene)


def test_names_and_roles(scene: Scene) -> None:
    scene.repository.add("another", OLD)
    scene.repository.publish("targets", "another")
    with scene.client() as client:
        assert client.names() == ["another", NAME]
        roles = {role.name: (role.version, role.expires) for role in client.roles()}
    made = scene.repository
    assert list(roles) == ["root", "timestamp", "snapshot", "targets"]
    for signed in (made.root, made.timestamp, made.snapshot, made.targets):
        assert roles[signed.type] == (signed.version, signed.expires)


def test_a_role_whose_name_is_a_number(scene: Scene) -> None:
    """Python-tuf takes it; found by fuzzing."""
    scene.repository.delegate("2026")
    delegations = scene.repository.targets.delegations
    assert delegations is not None
    assert delegations.roles is not None
    delegations.roles["2026"].name = 2026  # type: ignore[assignment]
    scene.repository.publish("targets")
    with scene.client() as client, pytest.raises(errors.CatalogueDamaged, match="is no text"):
        client.names()


def test_what_others_would_ask_for(scene: Scene, tmp_path: Path) -> None:
    """A catalogue of nothing but that is one."""
    with scene.client() as client:
        files = client.metadata([NAME])
    newest = {"1.root", "timestamp", "3.snapshot", "2.targets", f"2.{NAME}"}
    assert {path.removeprefix("metadata/").removesuffix(".json") for path in files} == newest
    for path, raw in files.items():
        assert raw == (scene.repository.directory / path).read_bytes()
        (tmp_path / "copy" / path).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / "copy" / path).write_bytes(raw)
    with CatalogueClient(tmp_path / "copy", tmp_path / "other", root=scene.repository.first_root) as client:
        assert [str(each.version) for each in client.releases(NAME)] == [OLD]
