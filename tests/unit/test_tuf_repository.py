"""The writing side of the catalogue's metadata. The judge is python-tuf's own client."""

import json
import os
import threading
from collections.abc import Callable
from dataclasses import replace
from datetime import datetime, timedelta
from hashlib import sha256
from itertools import count, pairwise
from pathlib import Path
from typing import Any

import pytest
from tuf.api.exceptions import DownloadHTTPError, RepositoryError
from tuf.api.metadata import (  # type: ignore[attr-defined]  # public, but it has no __all__
    Metadata,
    MetaFile,
    Snapshot,
    Targets,
    Timestamp,
)

from imagefactory.errors import (
    Busy,
    CatalogueConflict,
    CatalogueDamaged,
    CatalogueFull,
    CatalogueMixed,
    CatalogueUnsigned,
    CatalogueUnusable,
    DiskFull,
    ListingInvalid,
    ReleaseNameInvalid,
    ReleaseUnknown,
    RootRefused,
    StateConflict,
)
from imagefactory.model.listing import Listing, ListingState, Relisting
from imagefactory.model.release import ReleaseRef, Version
from imagefactory.tools import tuf_files, tuf_state
from imagefactory.tools.tuf_files import CatalogueFiles
from imagefactory.tools.tuf_repository import TufRepository
from imagefactory.tools.tuf_root import first_root
from imagefactory.tools.tuf_signer import TufSigner, sign_metadata
from signing.errors import KeyPurpose, KeysMissing
from signing.keys import PublicKey, Purpose
from signing.signer import Signer
from tests.unit.signing.builders import make_keys
from tests.unit.tuf_world import (
    Client,
    Killed,
    MemorySigner,
    Ring,
    deaths,
    dying,
    manifest,
    moment,
    publish,
    release,
    see,
    signed,
)

A, B, C = release("soe-a"), release("soe-b"), release("soe-a", 2)
REFS = [A.ref, B.ref, C.ref]
DAY = timedelta(days=1)


@pytest.fixture(autouse=True)
def no_waiting(monkeypatch: pytest.MonkeyPatch) -> None:
    """Nobody pulls a plug here, except where fsync is what a test is about."""
    monkeypatch.setattr(os, "fsync", lambda _: None)


@pytest.fixture(scope="module")
def ring() -> Ring:
    return Ring()


@pytest.fixture(scope="module")
def now() -> datetime:
    return moment()


@pytest.fixture(scope="module")
def root(ring: Ring, now: datetime) -> bytes:
    return ring.first(now)


@pytest.fixture
def repository(tmp_path: Path, ring: Ring, root: bytes, now: datetime) -> TufRepository:
    made = TufRepository(tmp_path / "catalogue", root, ring.online)
    made.create(now)
    return made


@pytest.fixture
def place(repository: TufRepository, tmp_path: Path) -> Path:
    del repository
    return tmp_path / "catalogue"


def files(place: Path) -> dict[str, bytes]:
    return {str(each.relative_to(place)): each.read_bytes() for each in place.rglob("*") if each.is_file()}


# -- what clients see -------------------------------------------------------------------------------------------------


def test_a_new_catalogue_is_valid_and_has_nothing(place: Path, root: bytes) -> None:
    assert see(place, root, REFS) == {}
    assert sorted(files(place)) == [
        "metadata/.lock",
        "metadata/1.root.json",
        "metadata/1.snapshot.json",
        "metadata/1.targets.json",
        "metadata/timestamp.json",
    ]


def test_a_release_is_one_target_in_the_role_of_its_name(
    repository: TufRepository, place: Path, root: bytes, now: datetime
) -> None:
    change = repository.list_release(A, manifest(A.ref), now)
    assert change.written == (
        f"targets/soe-a/{sha256(manifest(A.ref)).hexdigest()}.20251121.1.sigstore.json",
        "metadata/1.soe-a.json",
        "metadata/2.targets.json",
        "metadata/2.snapshot.json",
        "metadata/timestamp.json",
    )
    publish(repository, B, now)
    assert see(place, root, REFS) == {str(A.ref): A, str(B.ref): B}
    targets = json.loads((place / "metadata/3.targets.json").read_bytes())["signed"]
    assert targets["targets"] == {}
    [first, second] = targets["delegations"]["roles"]
    assert first == {
        "name": "soe-a",
        "keyids": list(targets["delegations"]["keys"]),
        "paths": ["soe-a/*"],
        "terminating": True,
        "threshold": 1,
    }
    assert second["name"] == "soe-b"


def newest(place: Path) -> dict[str, bytes]:
    """The metadata that counts, by role."""
    found: dict[str, tuple[int, bytes]] = {}
    for path in (place / "metadata").glob("*.json"):
        version, _, role = path.name.removesuffix(".json").rpartition(".")
        found[role] = max(found.get(role, (-1, b"")), (int(version or 0), path.read_bytes()))
    return {role: raw for role, (_, raw) in found.items()}


def test_each_part_names_the_next_by_version_length_and_digest(
    repository: TufRepository, place: Path, now: datetime
) -> None:
    for releases in ((), (A,), (A, B, C)):
        repository.list_releases([(each, manifest(each.ref)) for each in releases], now)
        parts = newest(place)
        signed = {role: json.loads(raw)["signed"] for role, raw in parts.items()}
        named = {**signed["timestamp"]["meta"], **signed["snapshot"]["meta"]}
        assert named == {
            f"{role}.json": {
                "version": signed[role]["version"],
                "length": len(raw),
                "hashes": {"sha256": sha256(raw).hexdigest()},
            }
            for role, raw in parts.items()
            if role not in {"root", "timestamp"}
        }
        assert all(b"\n" not in raw and b'": ' not in raw for raw in parts.values())


def signers_of(place: Path) -> dict[str, list[str]]:
    return {role: [each["keyid"] for each in json.loads(raw)["signatures"]] for role, raw in newest(place).items()}


def test_each_part_has_one_signature(repository: TufRepository, place: Path, ring: Ring, now: datetime) -> None:
    publish(repository, A, now)
    publish(repository, C, now)
    targets, freshness = ([TufSigner(each).public_key.keyid] for each in ring.online)
    del (found := signers_of(place))["root"]
    assert found == {"timestamp": freshness, "snapshot": freshness, "targets": targets, "soe-a": targets}


def test_a_name_that_is_known_leaves_the_other_roles_alone(repository: TufRepository, now: datetime) -> None:
    publish(repository, A, now)
    publish(repository, B, now)
    change = repository.list_release(C, manifest(C.ref), now)
    assert change.written[1:] == ("metadata/2.soe-a.json", "metadata/4.snapshot.json", "metadata/timestamp.json")


def test_the_same_again_writes_nothing(repository: TufRepository, place: Path, now: datetime) -> None:
    publish(repository, A, now)
    before = files(place)
    assert repository.list_release(A, manifest(A.ref), now).written == ()
    assert repository.relist([Relisting(A.ref, ListingState.CURRENT, None, None)], now).written == ()
    assert files(place) == before


def test_another_state(repository: TufRepository, place: Path, root: bytes, now: datetime) -> None:
    for each in (A, B, C):
        publish(repository, each, now)
    repository.relist([Relisting(A.ref, ListingState.DEPRECATED, C.ref, None)], now)
    repository.relist([Relisting(B.ref, ListingState.REVOKED, None, "its key was stolen")], now)
    assert see(place, root, REFS) == {
        str(A.ref): replace(A, state=ListingState.DEPRECATED, replacement=C.ref),
        str(B.ref): replace(B, state=ListingState.REVOKED, reason="its key was stolen"),
        str(C.ref): C,
    }


def test_who_publishes_again_brings_nothing_back(repository: TufRepository, place: Path, now: datetime) -> None:
    publish(repository, A, now)
    repository.relist([Relisting(A.ref, ListingState.REVOKED, None, "bad")], now)
    before = files(place)
    with pytest.raises(StateConflict, match="is listed as revoked"):
        publish(repository, A, now)
    for state in (ListingState.DEPRECATED, ListingState.CURRENT):
        with pytest.raises(StateConflict, match=f"is revoked and cannot become {state}"):
            repository.relist([Relisting(A.ref, state, None, None)], now)
    assert files(place) == before
    with pytest.raises(StateConflict, match="is revoked and cannot become deprecated"):
        publish(repository, replace(A, state=ListingState.DEPRECATED), now)


def test_what_was_deprecated_is_offered_again_by_a_change_of_its_state(
    repository: TufRepository, place: Path, root: bytes, now: datetime
) -> None:
    candidate = replace(A, channel="nightly")
    publish(repository, candidate, now)
    repository.relist([Relisting(A.ref, ListingState.DEPRECATED, None, None)], now)
    with pytest.raises(StateConflict, match="is listed as deprecated"):
        publish(repository, candidate, now)
    publish(repository, replace(A, state=ListingState.DEPRECATED, channel="candidate"), now)
    repository.relist([Relisting(A.ref, ListingState.CURRENT, None, None)], now)
    assert see(place, root, REFS) == {str(A.ref): replace(A, channel="candidate")}


def test_a_release_moves_on_to_another_channel(
    repository: TufRepository, place: Path, root: bytes, now: datetime
) -> None:
    """And nothing leaves `stable`, neither by a change nor by being published again."""
    candidate = replace(A, channel="candidate")
    publish(repository, candidate, now)
    done = repository.relist([Relisting(A.ref, ListingState.CURRENT, channel="stable")], now)
    assert done.relisted == (A,)
    assert repository.relist([Relisting(A.ref, ListingState.CURRENT, channel="stable")], now).written == ()
    before = files(place)
    with pytest.raises(StateConflict, match="does not leave it"):
        repository.relist([Relisting(A.ref, ListingState.CURRENT, channel="candidate")], now)
    with pytest.raises(StateConflict, match="does not leave it"):
        publish(repository, candidate, now)
    assert files(place) == before
    assert see(place, root, REFS) == {str(A.ref): A}


def test_many_are_changed_at_once_or_none(repository: TufRepository, place: Path, root: bytes, now: datetime) -> None:
    candidate = replace(C, channel="candidate")
    for each in (A, candidate, B):
        publish(repository, each, now)
    changes = [
        Relisting(C.ref, ListingState.CURRENT, channel="stable"),
        Relisting(A.ref, ListingState.DEPRECATED, C.ref),
        Relisting(B.ref, ListingState.REVOKED, None, "leaks"),
    ]
    before, unlisted = files(place), ReleaseRef("soe-a", Version(20251121, 3))
    for wrong, error in (
        (Relisting(unlisted, ListingState.CURRENT), ReleaseUnknown),
        (Relisting(ReleaseRef("soe-c", C.version), ListingState.CURRENT), ReleaseUnknown),
        (Relisting(A.ref, ListingState.REVOKED), ListingInvalid),
    ):
        with pytest.raises(error):
            repository.relist([*changes, wrong], now)
    assert files(place) == before
    done = repository.relist(changes, now)
    assert len([path for path in done.written if path.endswith(".snapshot.json")]) == 1, "signed once"
    deprecated = replace(A, state=ListingState.DEPRECATED, replacement=C.ref)
    revoked = replace(B, state=ListingState.REVOKED, reason="leaks")
    assert sorted(done.relisted, key=str) == sorted((C, deprecated, revoked), key=str)
    assert see(place, root, REFS) == {str(each.ref): each for each in (deprecated, C, revoked)}
    assert repository.listings("soe-a") == [deprecated, C]
    assert repository.listings("soe-unknown") == []


def test_a_version_keeps_its_manifest(repository: TufRepository, place: Path, now: datetime) -> None:
    publish(repository, A, now)
    before = files(place)
    with pytest.raises(CatalogueConflict, match="with another manifest"):
        repository.list_release(A, b"{}", now)
    assert files(place) == before


@pytest.mark.parametrize("ref", [B.ref, C.ref, ReleaseRef("soe-a"), ReleaseRef("targets", Version(20251121, 1))])
def test_what_is_not_listed_has_no_state(repository: TufRepository, ref: ReleaseRef, now: datetime) -> None:
    publish(repository, A, now)
    with pytest.raises(ReleaseUnknown):
        repository.relist([Relisting(ref, ListingState.DEPRECATED, None, None)], now)


def test_what_is_listed_can_be_asked_for(repository: TufRepository, place: Path, root: bytes, now: datetime) -> None:
    assert repository.listing(A.ref) is None
    publish(repository, A, now)
    repository.relist([Relisting(A.ref, ListingState.REVOKED, None, "leaks")], now)
    reader = TufRepository(place, root)
    assert reader.listing(A.ref) == A.moved(ListingState.REVOKED, None, "leaks")
    assert [reader.listing(ref) for ref in (B.ref, C.ref, ReleaseRef("soe-a"))] == [None, None, None]
    with pytest.raises(ReleaseNameInvalid):
        reader.listing(ReleaseRef("targets", Version(20251121, 1)))


@pytest.mark.parametrize("name", ["root", "targets", "snapshot", "timestamp", "../x", "a/b", ""])
def test_names_that_a_catalogue_cannot_have(repository: TufRepository, place: Path, name: str, now: datetime) -> None:
    before = files(place)
    with pytest.raises(ReleaseNameInvalid):
        publish(repository, replace(A, name=name), now)
    assert files(place) == before


def test_what_clients_would_not_read_is_not_written(
    repository: TufRepository, place: Path, now: datetime, monkeypatch: pytest.MonkeyPatch
) -> None:
    publish(repository, A, now)
    before = files(place)
    most = len(before["metadata/2.targets.json"])
    monkeypatch.setattr(tuf_state, "_CLIENT", replace(tuf_state._CLIENT, targets_max_length=most))
    with pytest.raises(CatalogueFull, match=f"targets would have [0-9]+ bytes; clients read at most {most}"):
        publish(repository, B, now)
    assert files(place) == before


def test_many_at_once_are_one_change(
    repository: TufRepository, place: Path, root: bytes, now: datetime, monkeypatch: pytest.MonkeyPatch
) -> None:
    publish(repository, A, now)
    deprecated = replace(A, state=ListingState.DEPRECATED, replacement=C.ref)
    entries = [(each, manifest(each.ref)) for each in (deprecated, B, C)]
    before = files(place)
    with pytest.raises(CatalogueConflict):
        repository.list_releases([*entries[1:], (A, b"{}")], now)
    with pytest.raises(CatalogueConflict):
        repository.list_releases([*entries, (C, b"{}")], now)
    assert files(place) == before
    seen = []
    write = tuf_files.write_file

    def write_and_look(path: Path, content: bytes) -> None:
        seen.append(see(place, root, REFS))
        write(path, content)

    monkeypatch.setattr(tuf_files, "write_file", write_and_look)
    change = repository.list_releases(entries, now)
    assert [path.rpartition(".sig")[0][-10:] for path in change.written[:2]] == ["20251121.2", "20251121.1"]
    assert change.written[2:] == (
        "metadata/2.soe-a.json",
        "metadata/1.soe-b.json",
        "metadata/3.targets.json",
        "metadata/3.snapshot.json",
        "metadata/timestamp.json",
    )
    assert seen == [{str(A.ref): A}] * 7
    assert see(place, root, REFS) == {str(A.ref): deprecated, str(B.ref): B, str(C.ref): C}


# -- freshness --------------------------------------------------------------------------------------------------------


def expiries(place: Path) -> dict[str, datetime]:
    return {role: Metadata.from_bytes(raw).signed.expires for role, raw in newest(place).items()}


def test_lifetimes(repository: TufRepository, place: Path, now: datetime) -> None:
    publish(repository, A, now)
    assert expiries(place) == {
        "root": now + 365 * DAY,
        "timestamp": now + 2 * DAY,
        "snapshot": now + 14 * DAY,
        "targets": now + 90 * DAY,
        "soe-a": now + 90 * DAY,
    }


@pytest.mark.parametrize(
    ("days", "roles"),
    [
        (0, {"timestamp"}),
        (1, {"timestamp"}),
        (7, {"timestamp"}),
        (8, {"timestamp", "snapshot"}),
        (45, {"timestamp", "snapshot"}),
        (46, {"timestamp", "snapshot", "targets", "soe-a"}),
        (1000, {"timestamp", "snapshot", "targets", "soe-a"}),
    ],
)
def test_what_has_less_than_half_of_its_time_left_is_renewed(
    repository: TufRepository, place: Path, now: datetime, days: int, roles: set[str]
) -> None:
    publish(repository, A, now)
    before, later = expiries(place), now + days * DAY
    change = repository.refresh(later)
    after = expiries(place)
    renewed = {path.removesuffix(".json").rpartition("/")[2].rpartition(".")[2] for path in change.written}
    assert renewed == roles
    assert {role for role in after if after[role] > before[role]} == (roles if days else set())
    assert change.overdue == (("root",) if days > 365 / 2 else ())


def test_expired_metadata_is_renewed(tmp_path: Path, ring: Ring, now: datetime) -> None:
    long_ago = now - 200 * DAY
    root = ring.first(long_ago)
    repository = TufRepository(tmp_path / "catalogue", root, ring.online)
    repository.create(long_ago)
    publish(repository, A, long_ago)
    with pytest.raises(RepositoryError, match="expired"):
        see(tmp_path / "catalogue", root, REFS)
    repository.refresh(now)
    assert see(tmp_path / "catalogue", root, REFS) == {str(A.ref): A}


def test_the_freshness_key_alone_keeps_a_catalogue_fresh_and_can_do_no_more(
    repository: TufRepository, place: Path, ring: Ring, root: bytes, now: datetime
) -> None:
    publish(repository, A, now)
    job = TufRepository(place, root, [ring.freshness])
    assert job.refresh(now + 10 * DAY).written == ("metadata/3.snapshot.json", "metadata/timestamp.json")
    assert job.refresh(now + 50 * DAY).overdue == ("targets", "soe-a")
    before = files(place)
    for listing in (B, C):
        with pytest.raises(KeysMissing, match="the keys at hand cannot sign"):
            publish(job, listing, now)
    assert files(place) == before
    assert see(place, root, REFS) == {str(A.ref): A}


def test_the_keys_of_a_key_directory(tmp_path: Path, now: datetime) -> None:
    keys = make_keys(tmp_path)
    found = Ring((keys.signer("root"),), keys.signer("targets"), keys.signer("freshness"))
    public: dict[Purpose, list[PublicKey]] = {
        "root": [found.roots[0].public_key],
        "targets": [found.targets.public_key],
        "freshness": [found.freshness.public_key],
    }
    root = signed(first_root(public, 1, now + 365 * DAY), found.roots)
    repository = TufRepository(tmp_path / "catalogue", root, found.online)
    repository.create(now)
    publish(repository, A, now)
    assert see(tmp_path / "catalogue", root, REFS) == {str(A.ref): A}
    with pytest.raises(KeyPurpose):
        TufRepository(tmp_path / "catalogue", root, [keys.signer("glance")])


def test_one_of_two_keys_that_a_root_wants_together(tmp_path: Path, ring: Ring, now: datetime) -> None:
    """A root made elsewhere may want two targets keys; a job with one of them still keeps the catalogue fresh."""
    second = MemorySigner("targets")
    document = json.loads(ring.first(now))
    key = TufSigner(second).public_key
    document["signed"]["keys"][key.keyid] = key.to_dict()
    document["signed"]["roles"]["targets"]["keyids"].append(key.keyid)
    document["signed"]["roles"]["targets"]["threshold"] = 2
    document["signatures"] = []
    root = signed(json.dumps(document).encode(), ring.roots)
    both = TufRepository(tmp_path, root, (*ring.online, second))
    both.create(now)
    publish(both, A, now)
    one = TufRepository(tmp_path, root, ring.online)
    assert one.refresh(now + 50 * DAY).overdue == ("targets",)
    with pytest.raises(KeysMissing):
        publish(one, B, now)
    publish(one, C, now)
    assert see(tmp_path, root, REFS) == {str(A.ref): A, str(C.ref): C}


def test_the_targets_key_alone_publishes_nothing(
    repository: TufRepository, place: Path, ring: Ring, root: bytes, now: datetime
) -> None:
    publish(repository, A, now)
    before = files(place)
    with pytest.raises(KeysMissing, match="cannot sign snapshot"):
        publish(TufRepository(place, root, [ring.targets]), C, now)
    assert files(place) == before


def test_keys_of_strangers_sign_nothing(repository: TufRepository, place: Path, root: bytes, now: datetime) -> None:
    del repository
    before = files(place)
    with pytest.raises(KeysMissing):
        publish(TufRepository(place, root, Ring().online), A, now)
    assert files(place) == before


# -- killed at any write ----------------------------------------------------------------------------------------------

Operation = Callable[[TufRepository, datetime], object]
DEPRECATED = replace(A, state=ListingState.DEPRECATED, replacement=C.ref)
OPERATIONS: list[tuple[str, Operation, dict[str, Listing]]] = [
    ("a new version", lambda it, now: publish(it, C, now), {str(each.ref): each for each in (A, C)}),
    ("a new name", lambda it, now: publish(it, B, now), {str(each.ref): each for each in (A, B)}),
    (
        "a new state",
        lambda it, now: it.relist([Relisting(A.ref, ListingState.DEPRECATED, C.ref, None)], now),
        {str(A.ref): DEPRECATED},
    ),
    ("refresh", lambda it, now: it.refresh(now), {str(A.ref): A}),
    ("everything refreshed", lambda it, now: it.refresh(now + 60 * DAY), {str(A.ref): A}),
]


@pytest.mark.parametrize(
    ("operation", "after"), [each[1:] for each in OPERATIONS], ids=[each[0] for each in OPERATIONS]
)
def test_killed_at_any_write(
    tmp_path: Path,
    ring: Ring,
    root: bytes,
    now: datetime,
    monkeypatch: pytest.MonkeyPatch,
    operation: Operation,
    after: dict[str, Listing],
) -> None:
    numbers = count()
    place = client = repository = None

    def begin() -> Callable[[], object]:
        nonlocal place, client, repository
        place = tmp_path / str(next(numbers))
        repository = TufRepository(place, root, ring.online)
        repository.create(now)
        publish(repository, A, now)
        client = Client(place, root, tmp_path / f"{place.name}.client")
        assert client.see(REFS) == {str(A.ref): A}
        return lambda: operation(repository, now)

    for killed in deaths(monkeypatch, begin):
        assert place is not None
        assert client is not None
        seen = client.see(REFS)
        assert seen in ({str(A.ref): A}, after) if killed else seen == after
        assert see(place, root, REFS) == seen
        operation(TufRepository(place, root, ring.online), now)
        assert client.see(REFS) == see(place, root, REFS) == after


def test_killed_while_it_is_created(
    tmp_path: Path, ring: Ring, root: bytes, now: datetime, monkeypatch: pytest.MonkeyPatch
) -> None:
    numbers = count()
    place = tmp_path

    def begin() -> Callable[[], object]:
        nonlocal place
        place = tmp_path / str(next(numbers))
        return lambda: TufRepository(place, root, ring.online).create(now)

    for killed in deaths(monkeypatch, begin):
        whole = (place / "metadata/timestamp.json").exists()
        if killed and not whole:
            with pytest.raises(DownloadHTTPError):
                see(place, root, REFS)
            TufRepository(place, root, ring.online).create(now)
        assert see(place, root, REFS) == {}
        with pytest.raises(CatalogueConflict, match="is a catalogue already"):
            TufRepository(place, root, ring.online).create(now)


def test_a_directory_with_the_root_of_another_is_left_alone(tmp_path: Path, ring: Ring, now: datetime) -> None:
    (tmp_path / "metadata").mkdir()
    (tmp_path / "metadata/1.root.json").write_bytes(Ring().first(now))
    before = files(tmp_path)
    with pytest.raises(CatalogueConflict, match="the root of another catalogue"):
        TufRepository(tmp_path, ring.first(now), ring.online).create(now)
    assert {path: raw for path, raw in files(tmp_path).items() if path != "metadata/.lock"} == before


def test_each_write_is_on_the_disk_before_the_next_begins(
    tmp_path: Path, ring: Ring, root: bytes, now: datetime, monkeypatch: pytest.MonkeyPatch
) -> None:
    place = tmp_path / "new/catalogue"
    events: list[str] = []
    rename, mkdir = Path.rename, Path.mkdir

    def note_rename(self: Path, target: Path) -> Path:
        events.append(f"rename {self.relative_to(tmp_path)} {target.name}")
        return rename(self, target)

    def note_mkdir(self: Path, *args: object, **more: object) -> None:
        events.append(f"mkdir {self.relative_to(tmp_path)}")
        mkdir(self, *args, **more)  # type: ignore[arg-type]  # handed on as they are

    def note_fsync(descriptor: int) -> None:
        found = Path(f"/proc/self/fd/{descriptor}").readlink().relative_to(tmp_path)
        events.append(f"fsync {found}")

    monkeypatch.setattr(Path, "rename", note_rename)
    monkeypatch.setattr(Path, "mkdir", note_mkdir)
    monkeypatch.setattr(os, "fsync", note_fsync)
    repository = TufRepository(place, root, ring.online)
    written = [*repository.create(now).written, *repository.list_release(A, manifest(A.ref), now).written]
    expected = []
    for made in ("new", "new/catalogue", "new/catalogue/metadata"):
        expected += [f"mkdir {made}", f"fsync {Path(made).parent}"]
    first = next(each for each in written if each.startswith("targets/"))
    for path in written:
        directory = Path("new/catalogue", path).parent
        for folder in (directory.parent, directory) if path == first else ():
            expected += [f"mkdir {folder}", f"fsync {folder.parent}"]
        scratch = directory / f".{Path(path).name}.new"
        expected += [f"fsync {scratch}", f"rename {scratch} {Path(path).name}", f"fsync {directory}"]
    assert events == expected


# -- two at once ------------------------------------------------------------------------------------------------------


def test_of_two_at_once_one_is_refused_and_nothing_is_lost(
    repository: TufRepository, place: Path, ring: Ring, root: bytes, now: datetime, monkeypatch: pytest.MonkeyPatch
) -> None:
    write, refused = tuf_files.write_file, 0

    def write_and_be_disturbed(path: Path, content: bytes) -> None:
        nonlocal refused
        with pytest.raises(Busy):
            publish(TufRepository(place, root, ring.online), B, now)
        refused += 1
        write(path, content)

    monkeypatch.setattr(tuf_files, "write_file", write_and_be_disturbed)
    publish(repository, A, now)
    assert refused == 5
    assert see(place, root, REFS) == {str(A.ref): A}
    monkeypatch.setattr(tuf_files, "write_file", write)
    publish(TufRepository(place, root, ring.online), B, now)
    assert see(place, root, REFS) == {str(A.ref): A, str(B.ref): B}


def test_who_has_patience_waits_for_another_publisher(
    repository: TufRepository, place: Path, ring: Ring, root: bytes, now: datetime, monkeypatch: pytest.MonkeyPatch
) -> None:
    write, second = tuf_files.write_file, TufRepository(place, root, ring.online, patience=60)
    waiting: list[threading.Thread] = []

    def write_while_somebody_waits(path: Path, content: bytes) -> None:
        if not waiting:
            monkeypatch.setattr(tuf_files, "write_file", write)
            waiting.append(threading.Thread(target=publish, args=(second, B, now)))
            waiting[0].start()
        write(path, content)

    monkeypatch.setattr(tuf_files, "write_file", write_while_somebody_waits)
    publish(repository, A, now)
    waiting[0].join()
    assert see(place, root, REFS) == {str(A.ref): A, str(B.ref): B}


# -- what is written --------------------------------------------------------------------------------------------------


def test_one_more_release_of_many_rewrites_little(tmp_path: Path, ring: Ring, root: bytes, now: datetime) -> None:
    """200 releases of a name, all but the newest deprecated, among 50 names."""
    repository = TufRepository(tmp_path, root, ring.online)
    repository.create(now)
    name = "soe-debian-12-separate"
    releases = [release(name, number) for number in range(1, 202)]
    older = [
        replace(each, state=ListingState.DEPRECATED, replacement=following.ref)
        for each, following in pairwise(releases)
    ]
    others = [release(f"another-debian-{number}") for number in range(49)]
    repository.list_releases([(each, manifest(each.ref)) for each in (*older, *others)], now)
    before = files(tmp_path)
    change = repository.list_release(releases[-1], manifest(releases[-1].ref), now)
    after = files(tmp_path)
    assert {path for path, raw in after.items() if before.get(path) != raw} == {*change.written}
    written = [(path, len(after[path])) for path in change.written if path.startswith("metadata/")]
    assert [path for path, _ in written][:1] == [f"metadata/2.{name}.json"]
    assert sum(size for _, size in written) < 100_000
    assert len(see(tmp_path, root, [each.ref for each in releases])) == 201


NOT_OURS = (CatalogueDamaged, CatalogueMixed)


# -- a hostile or broken directory ------------------------------------------------------------------------------------


def test_a_stranger_with_the_disk_does_not_get_our_signature(
    repository: TufRepository, place: Path, root: bytes, now: datetime
) -> None:
    """Whatever single file of metadata is another one, and signed as well as a stranger can."""
    publish(repository, A, now)
    stranger = Ring()
    elsewhere = place.with_name("elsewhere")
    theirs = TufRepository(elsewhere, stranger.first(now), stranger.online)
    theirs.create(now)
    publish(theirs, replace(A, os_version="evil"), now)
    before = files(place)
    for name in ("1.soe-a.json", "2.targets.json", "2.snapshot.json", "timestamp.json"):
        (place / "metadata" / name).write_bytes((elsewhere / "metadata" / name).read_bytes())
        with pytest.raises((CatalogueMixed, CatalogueUnsigned)):
            publish(repository, C, now)
        (place / "metadata" / name).write_bytes(before[f"metadata/{name}"])
    (place / "metadata/2.root.json").write_bytes(stranger.first(now))
    with pytest.raises(CatalogueDamaged, match="says that it is version 1"):
        publish(repository, C, now)
    (place / "metadata/2.root.json").write_bytes(stranger.followed_by(stranger, stranger.first(now), now))
    with pytest.raises(CatalogueUnsigned, match="root 2 is not signed as root 1 asks"):
        publish(repository, C, now)
    (place / "metadata/2.root.json").unlink()
    assert files(place) == before
    publish(repository, C, now)
    assert see(place, root, REFS) == {str(A.ref): A, str(C.ref): C}


def test_who_has_one_of_our_keys_does_not_get_the_signature_of_another(
    repository: TufRepository, place: Path, ring: Ring, root: bytes, now: datetime
) -> None:
    """Lists and snapshots that our own keys signed, and that are not those which the catalogue is made of."""
    elsewhere = place.with_name("elsewhere")
    twin = TufRepository(elsewhere, root, ring.online)
    twin.create(now)
    publish(repository, A, now)
    publish(twin, replace(A, os_version="evil"), now)
    before = files(place)
    for name in ("1.soe-a.json", "2.snapshot.json"):
        (place / "metadata" / name).write_bytes((elsewhere / "metadata" / name).read_bytes())
        with pytest.raises(CatalogueMixed):
            publish(repository, C, now)
        (place / "metadata" / name).write_bytes(before[f"metadata/{name}"])
    assert files(place) == before


def test_one_key_signs_two_roles_and_one_cannot_stand_for_the_other(
    repository: TufRepository, place: Path, now: datetime
) -> None:
    publish(repository, A, now)
    (place / "metadata/timestamp.json").write_bytes((place / "metadata/2.snapshot.json").read_bytes())
    with pytest.raises(CatalogueDamaged, match="timestamp is snapshot metadata"):
        publish(repository, C, now)


def test_a_version_that_says_it_is_another(repository: TufRepository, place: Path, ring: Ring, now: datetime) -> None:
    """Where a timestamp names a version and no digest, as TUF allows it."""
    publish(repository, A, now)
    timestamp = Metadata[Timestamp].from_bytes((place / "metadata/timestamp.json").read_bytes())
    timestamp.signed.snapshot_meta = MetaFile(1)
    timestamp.signatures.clear()
    sign_metadata(timestamp, TufSigner(ring.freshness))
    (place / "metadata/timestamp.json").write_bytes(timestamp.to_bytes())
    (place / "metadata/1.snapshot.json").write_bytes((place / "metadata/2.snapshot.json").read_bytes())
    with pytest.raises(CatalogueMixed, match="says that it is version 2, not 1"):
        publish(repository, C, now)


def test_a_role_whose_name_is_a_number(repository: TufRepository, place: Path, ring: Ring, now: datetime) -> None:
    """Python-tuf takes it; found by fuzzing."""
    publish(repository, A, now)
    at, write = place / "metadata", {}
    targets = Metadata[Targets].from_bytes((at / "2.targets.json").read_bytes())
    assert targets.signed.delegations is not None
    assert targets.signed.delegations.roles is not None
    targets.signed.delegations.roles[A.name].name = 7  # type: ignore[assignment]
    write["2.targets.json"] = _again(targets, ring.targets)
    snapshot = Metadata[Snapshot].from_bytes((at / "2.snapshot.json").read_bytes())
    snapshot.signed.meta["targets.json"] = MetaFile.from_data(2, write["2.targets.json"], ["sha256"])
    write["2.snapshot.json"] = _again(snapshot, ring.freshness)
    timestamp = Metadata[Timestamp].from_bytes((at / "timestamp.json").read_bytes())
    timestamp.signed.snapshot_meta = MetaFile.from_data(2, write["2.snapshot.json"], ["sha256"])
    write["timestamp.json"] = _again(timestamp, ring.freshness)
    for name, raw in write.items():
        (at / name).write_bytes(raw)
    with pytest.raises(CatalogueDamaged, match="is no text"):
        publish(repository, C, now)


def _again(metadata: Metadata[Any], signer: Signer) -> bytes:
    metadata.signatures.clear()
    sign_metadata(metadata, TufSigner(signer))
    return metadata.to_bytes()


def test_a_lock_that_leads_elsewhere(repository: TufRepository, place: Path, tmp_path: Path, now: datetime) -> None:
    (place / "metadata/.lock").unlink()
    (place / "metadata/.lock").symlink_to(tmp_path / "made")
    with pytest.raises(CatalogueUnusable):
        publish(repository, A, now)
    assert not (tmp_path / "made").exists()


def test_the_whole_catalogue_of_somebody_else(tmp_path: Path, ring: Ring, root: bytes, now: datetime) -> None:
    stranger = Ring()
    TufRepository(tmp_path, stranger.first(now), stranger.online).create(now)
    with pytest.raises(CatalogueUnsigned):
        publish(TufRepository(tmp_path, root, ring.online), A, now)


@pytest.mark.parametrize("name", ["1.soe-a.json", "2.targets.json", "2.snapshot.json", "timestamp.json"])
@pytest.mark.parametrize(
    ("damage", "error"),
    [
        (lambda path: path.unlink(), CatalogueDamaged),
        (lambda path: path.write_bytes(path.read_bytes()[:-10]), NOT_OURS),
        (lambda path: path.write_bytes(b"<html>404</html>"), NOT_OURS),
        (lambda path: path.write_bytes(b"[" * 10_000), NOT_OURS),
        (lambda path: path.write_bytes(path.read_bytes().replace(b'"signed":{', b'"signed":{"x":1.5,')), NOT_OURS),
        (lambda path: path.write_bytes(b" " * 6_000_000), CatalogueUnusable),
        (lambda path: (path.rename(path.with_name("x")), path.symlink_to("x")), CatalogueUnusable),
        (lambda path: (path.unlink(), path.mkdir()), CatalogueUnusable),
    ],
    ids=["missing", "cut", "html", "deep", "a number", "long", "link", "directory"],
)
def test_damage_is_refused_and_nothing_is_written(
    repository: TufRepository,
    place: Path,
    now: datetime,
    name: str,
    damage: Callable[[Path], object],
    error: type[Exception],
) -> None:
    publish(repository, A, now)
    damage(place / "metadata" / name)
    before = files(place)
    with pytest.raises(error):
        publish(repository, C, now)
    assert files(place) == before


def test_no_catalogue(tmp_path: Path, ring: Ring, root: bytes, now: datetime) -> None:
    with pytest.raises(CatalogueUnusable):
        publish(TufRepository(tmp_path / "none", root, ring.online), A, now)
    assert not (tmp_path / "none").exists()


def test_a_full_disk(
    repository: TufRepository, place: Path, root: bytes, now: datetime, monkeypatch: pytest.MonkeyPatch
) -> None:
    def full(path: Path, content: bytes) -> None:
        raise OSError(28, "No space left on device", str(path), None, str(len(content)))

    publish(repository, A, now)
    monkeypatch.setattr(tuf_files, "write_file", full)
    with pytest.raises(DiskFull):
        publish(repository, C, now)
    assert see(place, root, REFS) == {str(A.ref): A}


# -- roots ------------------------------------------------------------------------------------------------------------


def test_other_keys_for_everything(
    repository: TufRepository, place: Path, ring: Ring, root: bytes, now: datetime
) -> None:
    publish(repository, A, now)
    new = Ring()
    second = ring.followed_by(new, root, now)
    change = TufRepository(place, root, (*ring.online, *new.online)).publish_root(second, now)
    assert change.written == (
        "metadata/2.soe-a.json",
        "metadata/3.targets.json",
        "metadata/3.snapshot.json",
        "metadata/timestamp.json",
        "metadata/2.root.json",
    )
    old_keys, new_keys = ([TufSigner(signer).public_key.keyid for signer in each.online] for each in (ring, new))
    found = signers_of(place)
    assert {role: {*found[role]} for role in ("targets", "snapshot", "timestamp", "soe-a")} == {
        "targets": {old_keys[0], new_keys[0]},
        "snapshot": {old_keys[1], new_keys[1]},
        "timestamp": {old_keys[1], new_keys[1]},
        "soe-a": {new_keys[0]},
    }
    delegations = json.loads(newest(place)["targets"])["signed"]["delegations"]
    assert [*delegations["keys"]] == delegations["roles"][0]["keyids"] == [new_keys[0]]
    publish(TufRepository(place, root, new.online), C, now)
    assert see(place, root, REFS) == see(place, second, REFS) == {str(A.ref): A, str(C.ref): C}
    before = files(place)
    for signers in (ring.online, (ring.targets, new.freshness), (new.targets, ring.freshness)):
        with pytest.raises(KeysMissing):
            publish(TufRepository(place, root, signers), B, now)
    assert TufRepository(place, root, new.online).publish_root(second, now).written == ()
    assert files(place) == before


def test_root_keys_alone_are_one_write(
    repository: TufRepository, place: Path, ring: Ring, root: bytes, now: datetime
) -> None:
    new = replace(ring, roots=Ring().roots)
    second = ring.followed_by(new, root, now)
    assert repository.publish_root(second, now).written == ("metadata/2.root.json",)
    third = new.followed_by(new, second, now)
    assert repository.publish_root(third, now).written == ("metadata/3.root.json",)
    publish(repository, A, now)
    assert see(place, root, REFS) == see(place, third, REFS) == {str(A.ref): A}


@pytest.mark.parametrize("purpose", ["targets", "freshness"])
@pytest.mark.parametrize("lost", [False, True], ids=["the old key is at hand", "the old key is lost"])
def test_killed_while_a_key_is_replaced(
    tmp_path: Path, ring: Ring, root: bytes, now: datetime, monkeypatch: pytest.MonkeyPatch, purpose: str, lost: bool
) -> None:
    new = replace(ring, **{purpose: MemorySigner(purpose)})  # type: ignore[arg-type]  # one of two purposes
    second = ring.followed_by(new, root, now)
    signers = new.online if lost else {*ring.online, *new.online}
    numbers = count()
    place, client = tmp_path, None

    def begin() -> Callable[[], object]:
        nonlocal place, client
        place = tmp_path / str(next(numbers))
        old = TufRepository(place, root, ring.online)
        old.create(now)
        publish(old, A, now)
        publish(old, B, now)
        client = Client(place, root, tmp_path / f"{place.name}.client")
        client.see(REFS)
        return lambda: TufRepository(place, root, list(signers)).publish_root(second, now)

    both, blind = {str(A.ref): A, str(B.ref): B}, 0
    for _ in deaths(monkeypatch, begin):
        assert client is not None
        try:
            assert client.see(REFS) == see(place, root, REFS) == both
        except RepositoryError:
            blind += 1
        TufRepository(place, root, list(signers)).publish_root(second, now)
        assert client.see(REFS) == see(place, root, REFS) == see(place, second, REFS) == both
        publish(TufRepository(place, root, new.online), C, now)
        assert len(client.see(REFS)) == 3
    # Between two renames, after the one and before the other: two deaths that look the same.
    assert blind == (2 if lost else 0)


def test_an_interrupted_change_of_keys_is_finished_from_the_root_before_it(
    tmp_path: Path, ring: Ring, root: bytes, now: datetime, monkeypatch: pytest.MonkeyPatch
) -> None:
    TufRepository(tmp_path, root, ring.online).create(now)
    new = replace(ring, freshness=MemorySigner("freshness"))
    second = ring.followed_by(new, root, now)
    write = tuf_files.write_file
    monkeypatch.setattr(tuf_files, "write_file", dying(write, 1, True))
    with pytest.raises(Killed):
        TufRepository(tmp_path, root, new.online).publish_root(second, now)
    monkeypatch.setattr(tuf_files, "write_file", write)
    before = files(tmp_path)
    assert "metadata/2.root.json" in before
    with pytest.raises(CatalogueUnsigned) as caught:
        publish(TufRepository(tmp_path, root, new.online), A, now)
    assert "publish its newest root again" in caught.value.advice
    with pytest.raises(CatalogueUnsigned, match="not signed as its newest root asks"):
        TufRepository(tmp_path, second, new.online).publish_root(second, now)
    assert files(tmp_path) == before
    TufRepository(tmp_path, root, new.online).publish_root(second, now)
    assert see(tmp_path, root, REFS) == see(tmp_path, second, REFS) == {}


def test_a_stolen_key_is_worth_nothing_afterwards(
    repository: TufRepository, place: Path, ring: Ring, root: bytes, now: datetime, tmp_path: Path
) -> None:
    """Also to a client that has seen a version of the future (fast-forward)."""
    publish(repository, A, now)
    client = Client(place, root, tmp_path / "client")
    mine = files(place)
    for _ in range(20):
        TufRepository(place, root, ring.online).refresh(now + 60 * DAY)
    client.see(REFS)
    for path, raw in mine.items():
        (place / path).write_bytes(raw)
    with pytest.raises(RepositoryError):
        client.see(REFS)
    new = replace(ring, freshness=MemorySigner("freshness"))
    second = ring.followed_by(new, root, now)
    TufRepository(place, root, (*ring.online, *new.online)).publish_root(second, now)
    assert client.see(REFS) == {str(A.ref): A}
    before = files(place)
    with pytest.raises(KeysMissing):
        repository.refresh(now)
    assert files(place) == before


def test_what_lacks_signatures_is_not_published(place: Path, ring: Ring, root: bytes, now: datetime) -> None:
    new = Ring()
    second = json.loads(ring.followed_by(new, root, now))
    before = files(place)
    for left_out in range(4):
        short = {**second, "signatures": [each for at, each in enumerate(second["signatures"]) if at != left_out]}
        with pytest.raises(RootRefused, match="lacks signatures"):
            TufRepository(place, root, (*ring.online, *new.online)).publish_root(json.dumps(short).encode(), now)
    assert files(place) == before


def test_one_root_for_a_version(repository: TufRepository, place: Path, ring: Ring, root: bytes, now: datetime) -> None:
    second, another = (ring.followed_by(replace(ring, roots=Ring().roots), root, now) for _ in range(2))
    repository.publish_root(second, now)
    before = files(place)
    with pytest.raises(CatalogueConflict, match="has another root 2"):
        repository.publish_root(another, now)
    with pytest.raises(RootRefused, match="version 3 is next"):
        repository.publish_root(ring.followed_by(ring, ring.followed_by(ring, second, now), now), now)
    assert repository.publish_root(root, now).written == ()
    assert files(place) == before
    assert TufRepository(place, root).newest_root() == second


def test_a_catalogue_that_has_not_begun(tmp_path: Path, root: bytes, ring: Ring, now: datetime) -> None:
    repository = TufRepository(tmp_path / "catalogue", root, ring.online)
    files = CatalogueFiles(tmp_path / "catalogue")
    assert (files.has_begun, repository.newest_root()) == (False, root)
    repository.create(now)
    assert (files.has_begun, repository.newest_root()) == (True, root)
