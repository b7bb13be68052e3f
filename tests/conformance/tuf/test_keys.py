"""Keys, thresholds and their change (TUF specification 1.0.34, sections 4.2, 4.3, 5.3 and 6.1)."""

import json
from collections.abc import Sequence
from dataclasses import dataclass

import pytest
from securesystemslib.formats import encode_canonical
from securesystemslib.signer import CryptoSigner  # type: ignore[attr-defined]  # public, but not in its __all__

from tests.conformance.tuf.world import OK, World
from tests.fakes.tuf_repository import new_key

KEYS = [new_key() for _ in range(10)]


@dataclass(frozen=True)
class Step:
    """A version of a role: the numbers of its keys, how many have to sign, and who does."""

    keys: Sequence[int]
    threshold: int
    signers: Sequence[int]


ALL, OTHERS = range(5), range(5, 10)

CHANGES: dict[str, tuple[list[Step], bool]] = {
    "another key": ([Step([1], 1, [1]), Step([2], 1, [1, 2]), Step([2], 1, [2])], True),
    "strangers sign, too": ([Step([1], 1, [3, 1, 4]), Step([2], 1, [4, 2, 1]), Step([2], 1, [3, 2])], True),
    "others of the same keys": ([Step(ALL, 3, [0, 2, 4]), Step(ALL, 3, [1, 3, 4]), Step(ALL, 3, [0, 1, 2])], True),
    "one key of five": ([Step(ALL, 3, [0, 2, 4]), Step([0, 1, 3, 4, 5], 3, [0, 1, 4])], True),
    "one key of five, by two of each": (
        [Step(ALL, 3, [0, 2, 4]), Step([0, 1, 3, 4, 5], 3, [0, 2, 4, 5]), Step([0, 1, 3, 4, 5], 3, [0, 4, 5])],
        True,
    ),
    "all keys": ([Step(ALL, 3, [0, 2, 4]), Step(OTHERS, 3, [0, 2, 4, 5, 6, 7]), Step(OTHERS, 3, [7, 8, 9])], True),
    "a higher threshold": ([Step([1, 2, 3], 1, [1]), Step([1, 2, 3], 2, [1, 2])], True),
    "a lower threshold": (
        [Step([1, 2, 3], 2, [1, 2]), Step([1, 2, 3], 1, [1, 2]), Step([1, 2, 3], 1, [3])],
        True,
    ),
    "a second key": ([Step([1], 1, [1]), Step([1, 2], 2, [1, 2])], True),
    "without the old key": ([Step([1], 1, [1]), Step([2], 1, [2, 3, 4])], False),
    "without the new key": ([Step([1], 1, [1]), Step([2], 1, [1, 3, 4])], False),
    "too few of the new": ([Step(ALL, 3, [0, 2, 4]), Step([0, 1, 3, 4, 5], 3, [0, 2, 4])], False),
    "too few of the old": ([Step(ALL, 3, [0, 2, 4]), Step([0, 1, 3, 4, 5], 3, [0, 4, 5])], False),
    "the higher threshold not met": ([Step([1, 2, 3], 1, [1]), Step([1, 2, 3], 2, [2])], False),
    "the former threshold not met": ([Step([1, 2, 3], 2, [1, 2]), Step([1, 2, 3], 1, [1])], False),
}


def signed_as(world: World, role: str, step: Step) -> None:
    world.repository.holders[role] = [KEYS[number] for number in step.keys]
    world.repository.thresholds[role] = step.threshold
    world.repository.signers[role] = [KEYS[number] for number in step.signers]


@pytest.mark.parametrize("change", CHANGES)
def test_roots(world: World, change: str) -> None:
    steps, good = CHANGES[change]
    for step in steps:
        signed_as(world, "root", step)
        world.repository.publish_root()
    first = world.repository.file("2.root.json").read_bytes()  # version 1 had the keys of all other tests
    world.init(first)
    assert world.refresh() == (OK if good else "catalogue-unsigned")
    expected = len(steps) + (1 if good else 0)
    assert world.kept("root") == world.repository.file(f"{expected}.root.json").read_bytes()


@pytest.mark.parametrize("role", ["timestamp", "snapshot", "targets"])
@pytest.mark.parametrize(
    ("step", "good"),
    [
        (Step([2], 1, [2]), True),
        (Step([1], 1, [3, 1, 4]), True),
        (Step([2], 1, [1, 3, 4]), False),
        (Step([0, 1, 3, 4, 5], 3, [0, 2, 4]), False),
        (Step([0, 1, 3, 4, 5], 3, [0, 4]), False),
        (Step(ALL, 6, ALL), False),
        (Step(ALL, 3, [0, 2, 4]), True),
        (Step(ALL, 3, [4, 1, 0]), True),
        (Step(ALL, 3, [1, 2, 3]), True),
    ],
    ids=str,
)
def test_other_roles(world: World, role: str, step: Step, good: bool) -> None:
    world.init()
    assert world.refresh() == OK
    signed_as(world, role, step)
    world.repository.publish_root()
    world.repository.publish("targets")
    assert world.refresh() == (OK if good else "catalogue-unsigned")
    assert world.trusted()["root"] == 2
    if good:
        name = "timestamp.json" if role == "timestamp" else f"2.{role}.json"
        assert world.kept(role) == world.repository.file(name).read_bytes()
    else:
        assert world.trusted()[role] == 1


def test_what_was_signed_enough_before(world: World) -> None:
    """The threshold stays; one who signed does no more."""
    signed_as(world, "snapshot", Step([0, 1, 2], 3, [0, 1, 2]))
    world.repository.publish_root()
    world.repository.publish("targets")
    world.init()
    assert world.refresh() == OK
    world.repository.signers["snapshot"] = [KEYS[0], KEYS[2]]
    world.repository.publish("targets")
    assert world.refresh() == "catalogue-unsigned"
    assert world.trusted()["snapshot"] == 2


def test_one_key_many_times_is_one(world: World) -> None:
    """In the list of a role, and among the signatures."""
    signed_as(world, "snapshot", Step([0, 1], 2, [0, 1]))
    world.repository.publish_root()
    repository = world.repository
    root = json.loads(repository.file("2.root.json").read_bytes())
    one = KEYS[0].public_key.keyid
    repository.root.version = 2
    root["signed"]["roles"]["snapshot"]["keyids"] = [one] * 2
    repository.forge("2.root.json", resigned(root, repository.keys.root))
    repository.publish()
    snapshot = json.loads(repository.file("2.snapshot.json").read_bytes())
    snapshot["signatures"] = [snapshot["signatures"][0]] * 2
    repository.forge("2.snapshot.json", json.dumps(snapshot).encode())
    world.init()
    assert world.refresh() == "catalogue-damaged"
    assert "snapshot" not in world.trusted()


def resigned(document: dict[str, dict[str, object]], keys: Sequence[CryptoSigner]) -> bytes:
    """With the signatures of what it says now, though the library would never have said it."""
    payload = str(encode_canonical(document["signed"])).encode()
    made = [{"keyid": key.public_key.keyid, "sig": key.sign(payload).signature} for key in keys]
    return json.dumps({**document, "signatures": made}).encode()


def test_two_signatures_with_one_key_id(world: World) -> None:
    """Even where one is enough."""
    snapshot = json.loads(world.repository.file("1.snapshot.json").read_bytes())
    snapshot["signatures"] *= 2
    world.repository.forge("1.snapshot.json", json.dumps(snapshot).encode())
    world.init()
    assert world.refresh() == "catalogue-damaged"
    assert world.trusted() == {"root": 1, "timestamp": 1}


KINDS = {"rsassa-pss-sha256": CryptoSigner.generate_rsa, "ed25519": CryptoSigner.generate_ed25519}
KINDS["ecdsa-sha2-nistp256"] = CryptoSigner.generate_ecdsa


@pytest.mark.parametrize("scheme", KINDS)
def test_kinds_of_keys(world: World, scheme: str) -> None:
    """Those that the specification names (section 4.2): a good signature, and one that is only well-formed."""
    key = KINDS[scheme]()
    assert key.public_key.scheme == scheme
    repository = world.repository
    repository.holders["root"] = [*repository.keys.root, key]
    repository.publish_root()
    world.init()
    assert world.refresh() == OK
    assert world.trusted()["root"] == 2
    repository.publish_root()
    root = json.loads(repository.file("3.root.json").read_bytes())
    root["signatures"][-1]["sig"] = key.sign(b"something else").signature
    repository.forge("3.root.json", json.dumps(root).encode())
    assert world.refresh() == "catalogue-unsigned"
    assert world.trusted()["root"] == 2


@pytest.mark.parametrize("instead", ["of another version", ""])
def test_a_bad_signature_beside_enough_good_ones(world: World, instead: str) -> None:
    repository = world.repository
    before = json.loads(repository.file("timestamp.json").read_bytes())["signatures"][0]
    repository.holders["timestamp"] = [repository.keys.freshness, new_key()]
    repository.thresholds["timestamp"] = 1
    repository.publish_root()
    repository.put_timestamp()
    timestamp = json.loads(repository.file("timestamp.json").read_bytes())
    for signature in timestamp["signatures"]:
        if signature["keyid"] == before["keyid"]:
            signature["sig"] = before["sig"] if instead else ""
    repository.forge("timestamp.json", json.dumps(timestamp).encode())
    world.init()
    assert world.refresh() == OK
    assert world.trusted()["timestamp"] == 2
