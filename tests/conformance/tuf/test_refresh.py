"""The workflow of a client up to the role targets (TUF specification 1.0.34, sections 5.1 to 5.6), and its attacks."""

import copy
import json
from collections.abc import Callable

import pytest
from tuf.api.metadata import MetaFile, Root, Snapshot  # type: ignore[attr-defined]  # public, but not in its __all__

from tests.conformance.tuf.world import OK, TOP, World
from tests.fakes.tuf_repository import Repository, new_key, signed_by

FIRST = dict.fromkeys(TOP, 1)


def seen(world: World) -> World:
    """The client was here before."""
    world.init()
    assert world.refresh() == OK
    assert world.trusted() == FIRST
    world.asked()
    return world


# -- what is asked for, and what is kept -------------------------------------------------------------------------------


def test_the_order_of_questions(world: World) -> None:
    world.init()
    assert world.refresh() == OK
    assert world.asked() == ["2.root", "timestamp", "1.snapshot", "1.targets"]
    assert world.refresh() == OK
    assert world.asked() == ["2.root", "timestamp"]


def test_what_is_kept_is_what_came(world: World) -> None:
    raw = world.repository.file("timestamp.json").read_bytes() + b"\n \n"
    world.repository.forge("timestamp.json", raw)
    world.init()
    assert world.refresh() == OK
    assert world.kept("timestamp") == raw
    for role in ("root", "snapshot", "targets"):
        assert world.kept(role) == world.repository.file(f"1.{role}.json").read_bytes()


def test_a_download_refreshes_first(world: World) -> None:
    world.init()
    assert world.download("nothing of the kind") == "target-unsupported"
    assert world.asked() == ["2.root", "timestamp", "1.snapshot", "1.targets"]
    assert world.trusted() == FIRST


def without_version(root: bytes) -> bytes:
    document = json.loads(root)
    del document["signed"]["version"]
    return json.dumps(document).encode()


def signed_otherwise(root: bytes) -> bytes:
    document = json.loads(root)
    document["signatures"][0]["sig"] = document["signatures"][1]["sig"]
    return json.dumps(document).encode()


@pytest.mark.parametrize("change", [without_version, signed_otherwise])
def test_a_first_root_that_is_not_good(world: World, change: Callable[[bytes], bytes]) -> None:
    world.init(change(world.repository.first_root))
    assert world.refresh() == "catalogue-untrusted"
    assert world.asked() == []


def test_fields_that_nobody_knows_are_signed_with_the_rest(world: World) -> None:
    seen(world)
    repository = world.repository
    key = new_key()
    key.public_key.unrecognized_fields["extra"] = {"a": 1}
    repository.holders["root"] = [*repository.keys.root, key]
    repository.root.unrecognized_fields["custom"] = "value"
    repository.publish_root()
    assert world.refresh() == OK
    assert world.trusted()["root"] == 2
    document = json.loads(repository.file("2.root.json").read_bytes())
    document["signed"].update(version=3, custom="other")
    repository.forge("3.root.json", json.dumps(document).encode())
    assert world.refresh() == "catalogue-unsigned"


def test_a_field_of_former_times_means_nothing(world: World) -> None:
    """How the id of a key came about is no business of a client's."""
    key = new_key()
    key.public_key.unrecognized_fields["keyid_hash_algorithms"] = ["md5"]
    world.repository.holders["snapshot"] = [key]
    world.repository.publish_root()
    world.repository.publish()
    world.init()
    assert world.refresh() == OK
    assert world.trusted() == {"root": 2, "timestamp": 2, "snapshot": 2, "targets": 1}


# -- a role that is not good -------------------------------------------------------------------------------------------
# What came before it in the workflow is kept, and nothing after it is asked for.


def publish_all(repository: Repository) -> None:
    repository.publish_root()
    repository.publish("targets")


def require_as_far_as(world: World, role: str) -> None:
    """All of the new versions before `role` are trusted; that of `role` was the last that was asked for."""
    before = TOP[: TOP.index(role)]
    expected = dict.fromkeys(before, 2) if role != "root" else {"root": 1}
    assert world.trusted() == expected
    assert world.asked()[-1] == ("timestamp" if role == "timestamp" else f"2.{role}")


@pytest.mark.parametrize("role", TOP)
def test_without_its_signature(world: World, role: str) -> None:
    world.repository.signers[role] = []
    publish_all(world.repository)
    world.init()
    assert world.refresh() == "catalogue-unsigned"
    require_as_far_as(world, role)


@pytest.mark.parametrize("role", ["root", "snapshot", "targets"])
def test_another_version_than_that_of_its_address(world: World, role: str) -> None:
    repository = world.repository
    publish_all(repository)
    tops: dict[str, Root | Snapshot] = {"root": repository.root, "snapshot": repository.snapshot}
    signed = copy.deepcopy(tops.get(role) or repository.targets)
    signed.version = 3
    repository.forge(f"2.{role}.json", repository.signed(signed, role))
    world.init()
    assert world.refresh() == "catalogue-rollback"
    require_as_far_as(world, role)


@pytest.mark.parametrize("role", ["timestamp", "snapshot", "targets"])
def test_not_there(world: World, role: str) -> None:
    seen(world)
    publish_all(world.repository)
    world.repository.file("timestamp.json" if role == "timestamp" else f"2.{role}.json").unlink()
    assert world.refresh() == "catalogue-unreachable"
    newer = TOP[: TOP.index(role)]
    assert world.trusted() == {each: 2 if each in newer else 1 for each in TOP}
    assert world.asked()[-1] == ("timestamp" if role == "timestamp" else f"2.{role}")


def test_of_another_type(world: World) -> None:
    """Everything else of it would do: the key, the version, the shape."""
    repository = world.repository
    repository.snapshot.version = 2
    repository.snapshot.meta = {"snapshot.json": MetaFile(1)}
    repository.forge("timestamp.json", repository.signed(repository.snapshot, "timestamp"))
    world.init()
    assert world.refresh() == "catalogue-damaged"
    assert world.trusted() == {"root": 1}


def test_a_timestamp_of_the_same_version(world: World) -> None:
    """It is not looked into."""
    seen(world)
    before = world.kept("timestamp")
    world.repository.timestamp.version = 0
    world.repository.timestamp.snapshot_meta = MetaFile(100)
    world.repository.put_timestamp()
    assert world.refresh() == OK
    assert world.asked() == ["2.root", "timestamp"]
    assert world.kept("timestamp") == before


def test_a_role_that_no_snapshot_names_yet(world: World) -> None:
    seen(world)
    world.repository.put_role("targets")
    assert world.refresh() == OK
    assert world.asked() == ["2.root", "timestamp"]


@pytest.mark.parametrize("role", ["snapshot", "targets"])
def test_digests(world: World, role: str) -> None:
    repository = world.repository
    repository.digests = True
    repository.publish("targets")
    world.init()
    assert world.refresh() == OK
    repository.publish("targets")
    name = f"3.{role}.json"
    repository.forge(name, repository.file(name).read_bytes().replace(b"{", b"{ ", 1)[:-1])
    assert world.refresh() == "catalogue-mixed"
    assert world.trusted() == {"root": 1, "timestamp": 3, "snapshot": 2 if role == "snapshot" else 3, "targets": 2}


# -- going back --------------------------------------------------------------------------------------------------------


def test_an_older_timestamp(world: World) -> None:
    world.repository.put_timestamp()
    world.init()
    assert world.refresh() == OK
    world.asked()
    world.repository.timestamp.version = 0
    world.repository.put_timestamp()
    assert world.refresh() == "catalogue-rollback"
    assert world.trusted()["timestamp"] == 2
    assert world.asked()[-1] == "timestamp"


@pytest.mark.parametrize("digests", [False, True])
@pytest.mark.parametrize("role", ["snapshot", "targets"])
def test_an_older_role_by_a_newer_timestamp(world: World, role: str, digests: bool) -> None:
    repository = world.repository
    repository.digests = digests
    repository.publish("targets")
    world.init()
    assert world.refresh() == OK
    world.asked()
    if role == "snapshot":
        repository.snapshot.version = 0
        repository.publish()
    else:
        repository.targets.version = 0
        repository.publish("targets")
    assert world.refresh() == "catalogue-rollback"
    assert world.trusted() == {"root": 1, "timestamp": 2 if role == "snapshot" else 3, "snapshot": 2, "targets": 2}
    assert world.asked()[-1] == ("timestamp" if role == "snapshot" else "3.snapshot")


def test_a_snapshot_that_names_a_role_no_more(world: World) -> None:
    world.repository.delegate("other")
    world.repository.publish("targets", "other")
    world.init()
    assert world.refresh() == OK
    del world.repository.snapshot.meta["other.json"]
    world.repository.publish()
    assert world.refresh() == "catalogue-damaged"
    assert world.trusted()["snapshot"] == 2


@pytest.mark.parametrize("role", ["timestamp", "snapshot", "targets"])
def test_recovery_from_a_fast_forward(world: World, role: str) -> None:
    """Whoever had the keys went far ahead. With new keys the makers begin again at the first version."""
    repository = world.repository
    repository.delegate("other")
    repository.publish("other")
    signed = {"timestamp": repository.timestamp, "snapshot": repository.snapshot, "targets": repository.targets}[role]
    signed.version = 100
    repository.publish(*["targets"] * (role == "targets"))
    world.init()
    assert world.refresh() == OK
    assert world.trusted()[role] == 101
    signed.version = 0
    repository.publish(*["targets"] * (role == "targets"))
    assert world.refresh() == "catalogue-rollback"
    signed.version = 0
    new = [new_key()]
    # The versions of targets are those of the snapshot, and that of the snapshot is the timestamp's.
    anew = {"timestamp": ["timestamp"], "snapshot": ["snapshot", "timestamp"], "targets": ["snapshot"]}[role]
    repository.holders.update(dict.fromkeys(anew, new))
    if role == "targets":
        del repository.snapshot.meta["other.json"]
    repository.publish_root()
    repository.publish(*["targets"] * (role == "targets"))
    assert world.refresh() == OK
    assert world.trusted()[role] == 1


# -- time --------------------------------------------------------------------------------------------------------------


def test_an_expired_root_is_kept_and_is_the_end(world: World) -> None:
    seen(world)
    repository = world.repository
    publish_all(repository)
    repository.root.expires = repository.root.expires.replace(year=2020)
    repository.write("2.root.json", repository.signed(repository.root, "root"))
    assert world.refresh() == "catalogue-frozen"
    assert world.trusted() == {**FIRST, "root": 2}
    assert world.asked()[-1] in ("3.root", "timestamp")


@pytest.mark.parametrize("role", ["timestamp", "snapshot", "targets"])
def test_what_has_expired_is_not_taken(world: World, role: str) -> None:
    seen(world)
    repository = world.repository
    repository.put_role("targets", -1 if role == "targets" else 90)
    repository.put_snapshot(-1 if role == "snapshot" else 14)
    repository.put_timestamp(-1 if role == "timestamp" else 2)
    assert world.refresh() == "catalogue-frozen"
    newer = TOP[: TOP.index(role)]
    assert world.trusted() == {each: 2 if each in newer and each != "root" else 1 for each in TOP}


def test_from_a_root_that_has_expired_since(world: World) -> None:
    world.repository.publish_root()
    world.init()
    assert world.refresh() == OK
    world.age("root")
    assert world.refresh() == "catalogue-frozen"
    world.repository.publish_root()
    assert world.refresh() == OK
    assert world.trusted()["root"] == 3


def test_from_a_timestamp_that_has_expired_since(world: World) -> None:
    seen(world)
    world.age("timestamp")
    assert world.refresh() == "catalogue-frozen"
    world.repository.publish("targets")
    assert world.refresh() == OK
    assert world.trusted() == {"root": 1, "timestamp": 2, "snapshot": 2, "targets": 2}


def test_an_expired_timestamp_still_says_what_is_older(world: World) -> None:
    world.repository.publish()
    world.init()
    assert world.refresh() == OK
    world.age("timestamp")
    world.repository.timestamp.version = 0
    world.repository.put_timestamp()
    assert world.refresh() == "catalogue-rollback"


def test_a_signature_is_over_the_bytes_that_came(world: World) -> None:
    """A stranger's timestamp, with the right key's id and the right key's signature of something else."""
    seen(world)
    world.repository.put_timestamp()
    genuine = json.loads(world.repository.file("timestamp.json").read_bytes())
    other = json.loads(signed_by(world.repository.timestamp, [new_key()]))
    other["signed"]["version"] = 3
    other["signatures"] = genuine["signatures"]
    world.repository.forge("timestamp.json", json.dumps(other).encode())
    assert world.refresh() == "catalogue-unsigned"
    assert world.trusted() == FIRST
