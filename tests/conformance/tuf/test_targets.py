"""Targets and the roles that lead to them (TUF specification 1.0.34, sections 4.5, 5.6 and 5.7)."""

import urllib.parse
from collections.abc import Sequence
from hashlib import sha256

import pytest

from tests.conformance.tuf.world import OK, World, delegating
from tests.fakes.tuf_repository import new_key

PATH, CONTENT = "folder/of/a/target.txt", b"what was listed"
ABSENT = "target-unsupported"  # how the client says that nobody lists such a target
Delegation = tuple[str, str, Sequence[str], bool]

# -- files -------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("path", ["target.txt", PATH])
def test_a_target(world: World, path: str) -> None:
    world.put("targets", path, CONTENT)
    world.repository.publish("targets")
    world.init()
    assert world.refresh() == OK
    assert world.fetched() == set()
    assert world.download(path) == OK
    assert world.fetched() == {CONTENT}


def test_a_target_of_which_others_have_made_something_else(world: World) -> None:
    world.put("targets", PATH, CONTENT)
    world.put("targets", "second", b"2")
    world.repository.publish("targets")
    world.init()
    assert world.download(PATH) == OK
    world.substitute(PATH, CONTENT, b"another text!!!")
    world.substitute("second", b"2", b"II")
    assert world.download(PATH) == "catalogue-mixed"
    assert world.download("second") == "catalogue-endless", "longer than was listed"
    world.substitute("second", b"2", b"")
    assert world.download("second") == "catalogue-mixed"
    assert world.fetched() == {CONTENT}


def test_a_target_that_changes(world: World) -> None:
    """As its makers change it, and then as somebody else would."""
    world.init()
    for number in range(6):
        content = f"version {number}".encode()
        world.put("targets", PATH, content)
        world.repository.publish("targets")
        if number % 2:
            continue  # the client does not see each
        assert world.download(PATH) == OK
        assert world.fetched() == {content}
        world.substitute(PATH, content, b"evil one!")
        world.repository.publish("targets")
        assert world.download(PATH) == "catalogue-mixed"
        assert world.fetched() == {content}


@pytest.mark.parametrize("algorithms", [["sha256"], ["sha512"], ["sha256", "sha512"]], ids=str)
def test_algorithms(world: World, algorithms: list[str]) -> None:
    """Of a catalogue, CatalogueClient takes one SHA-256 only; TUF leaves it open."""
    world.put("targets", PATH, CONTENT, algorithms)
    world.repository.publish("targets")
    world.init()
    assert world.download(PATH) == OK
    assert sum(asked.startswith("targets/") for asked in world.asked()) == 1
    assert world.fetched() == {CONTENT}


def test_an_algorithm_that_nobody_knows(world: World) -> None:
    world.put("targets", PATH, CONTENT)
    hashes = world.repository.targets.targets[PATH].hashes
    hashes["rot13"] = hashes.pop("sha256")
    world.repository.publish("targets")
    world.init()
    assert world.download(PATH) == "catalogue-mixed"
    assert world.fetched() == set()


def test_what_is_there_is_asked_for_again(world: World) -> None:
    """The one expected failure of client.xfails."""
    world.put("targets", PATH, CONTENT)
    world.repository.publish("targets")
    world.init()
    for _ in range(2):
        assert world.download(PATH) == OK
    assert sum(asked.startswith("targets/") for asked in world.asked()) == 2


# -- the search --------------------------------------------------------------------------------------------------------

ANY = ["*"]

SEARCHES: dict[str, tuple[list[Delegation], str]] = {
    "one role": ([("targets", "A", ANY, False)], "A"),
    "beside each other": ([("targets", "A", ANY, False), ("targets", "B", ANY, False)], "AB"),
    "below the last": ([("targets", "A", ANY, False), ("targets", "B", ANY, False), ("B", "C", ANY, False)], "ABC"),
    "depth before breadth": (
        [("targets", "A", ANY, False), ("targets", "B", ANY, False), ("A", "C", ANY, False), ("A", "D", ANY, False)],
        "ACDB",
    ),
    "deeper before breadth": (
        [("targets", "A", ANY, False), ("targets", "B", ANY, False), ("A", "C", ANY, False), ("C", "D", ANY, False)],
        "ACDB",
    ),
    "the end": (
        [("targets", "A", ANY, False), ("targets", "B", ANY, False), ("A", "C", ANY, True), ("A", "D", ANY, False)],
        "AC",
    ),
    "the end, but for what is below": (
        [("targets", "A", ANY, False), ("targets", "B", ANY, False), ("A", "C", ANY, True), ("C", "D", ANY, False)],
        "ACD",
    ),
    "not its pattern": (
        [("targets", "A", ["*.py"], False), ("targets", "B", ANY, False), ("A", "C", ANY, False)],
        "B",
    ),
    "not the pattern below": (
        [
            ("targets", "A", ANY, False),
            ("targets", "B", ANY, False),
            ("A", "C", ["*.py"], False),
            ("C", "D", ANY, False),
        ],
        "AB",
    ),
    "round and round": (
        [("targets", "A", ANY, False), ("targets", "B", ANY, False), ("B", "C", ANY, False), ("C", "B", ANY, False)],
        "ABC",
    ),
    "two ways to one": (
        [("targets", "A", ANY, False), ("targets", "B", ANY, False), ("B", "C", ANY, False), ("A", "C", ANY, False)],
        "ACB",
    ),
    "two ways to one, and a pattern": (
        [
            ("targets", "A", ANY, False),
            ("targets", "B", ANY, False),
            ("B", "C", ANY, False),
            ("A", "C", ["*.x"], False),
        ],
        "ABC",
    ),
}


@pytest.mark.parametrize("search", SEARCHES)
def test_the_order_of_a_search(world: World, search: str) -> None:
    delegations, order = SEARCHES[search]
    delegating(world, *delegations)
    world.init()
    assert world.download("nowhere") == ABSENT
    assert world.asked()[4:] == [f"1.{role}" for role in order]


TREE: list[Delegation] = [
    ("targets", "A", ["*.doc", "*.md", "part-?.tgz"], False),
    ("targets", "B", ["all/*/*"], False),
    ("B", "C", ["all/x/*"], False),
    ("B", "D", ["all/y/*.zip"], False),
]
LISTED = {
    "top": "targets",
    "README.md": "A",
    "all/README.md": "A",
    "part-1.tgz": "A",
    "part-one.tgz": "A",
    "all/x/v1": "C",
    "all/y/v1.zip": "D",
    "all/z/v1.zip": "D",
}


@pytest.mark.parametrize(
    ("path", "found", "order"),
    [
        ("top", True, ""),
        ("README.md", True, "A"),
        ("README.MD", False, ""),
        ("all/README.md", False, ""),
        ("part-1.tgz", True, "A"),
        ("part-one.tgz", False, ""),
        ("all/x/v1", True, "BC"),
        ("all/y/v1.zip", True, "BD"),
        ("all/z/v1.zip", False, "B"),
    ],
)
def test_what_a_role_may_list(world: World, path: str, found: bool, order: str) -> None:
    """A pattern holds within a folder, to the letter, and for every role on the way."""
    for delegator, name, patterns, terminating in TREE:
        world.repository.delegate_from(delegator, name, patterns, terminating)
    for listed, role in LISTED.items():
        world.put(role, listed, listed.encode())
    delegating(world)
    world.init()
    assert world.download(path) == (OK if found else ABSENT)
    assert world.fetched() == ({path.encode()} if found else set())
    assert [each for each in world.asked()[4:] if not each.startswith("targets/")] == [f"1.{role}" for role in order]


def test_a_role_that_is_known_already_by_another_delegator(world: World) -> None:
    """A name is not the authority: who delegates says whose signatures count."""
    repository = world.repository
    for parent, folder in (("first", "a/*"), ("second", "b/*")):
        repository.delegate_from("targets", parent, [folder], False)
        repository.holders["shared"] = [new_key()]
        repository.signers.setdefault("shared", repository.holders["shared"])
        repository.delegate_from(parent, "shared", [folder], False)
    world.put("shared", "a/file", b"a")
    world.put("shared", "b/file", b"b")
    delegating(world)
    world.init()
    assert world.download("a/file", "b/file") == "catalogue-unsigned"
    assert world.fetched() == {b"a"}
    assert world.download("b/file") == "catalogue-unsigned"


def test_a_role_that_the_snapshot_does_not_name(world: World) -> None:
    delegating(world, ("targets", "other", ANY, False))
    del world.repository.snapshot.meta["other.json"]
    world.repository.publish()
    world.init()
    assert world.refresh() == OK
    world.asked()
    assert world.download("file") == "catalogue-damaged"
    assert world.asked() == ["2.root", "timestamp"]
    assert "other" not in world.trusted()


@pytest.mark.parametrize("name", ["?", "#", "/absolute", "../above", "..", "%2e%2e", "with space", "a\\b", "ünïcode"])
def test_a_role_of_an_unusual_name(world: World, name: str) -> None:
    """What it is called is one part of an address, and of the name of a file."""
    before = set(world.home.parent.iterdir())
    delegating(world, ("targets", name, ANY, False))
    world.init()
    site_has = world.repository.file(f"1.{urllib.parse.quote(name, '')}.json")
    world.repository.forge(f"1.{name}.json" if "/" not in name else site_has.name, site_has.read_bytes())
    assert world.download("file") == ABSENT
    assert world.asked()[-1] == f"1.{urllib.parse.quote(name, '')}"
    assert len(world.trusted()) == 5
    assert set(world.home.parent.iterdir()) == before


# -- time --------------------------------------------------------------------------------------------------------------


def test_a_role_that_has_expired(world: World) -> None:
    world.repository.delegate_from("targets", "other", ANY, False)
    world.put("other", "file", CONTENT)
    world.repository.put_role("targets")
    world.repository.put_role("other", -1)
    world.repository.publish()
    world.init()
    assert world.refresh() == OK
    assert world.download("file") == "catalogue-frozen"
    assert world.fetched() == set()
    assert "other" not in world.trusted()


def test_a_role_that_has_expired_since(world: World) -> None:
    world.repository.delegate_from("targets", "other", ANY, False)
    world.put("other", "first", b"1")
    world.put("other", "second", b"2")
    delegating(world)
    world.init()
    assert world.download("first") == OK
    world.age("other")
    assert world.download("second") == "catalogue-frozen"
    assert world.fetched() == {b"1"}
    world.repository.publish("other")
    assert world.download("second") == OK
    assert world.fetched() == {b"1", b"2"}


def test_a_target_is_asked_for_by_its_digest(world: World) -> None:
    world.put("targets", PATH, CONTENT)
    world.repository.publish("targets")
    world.init()
    assert world.download(PATH) == OK
    folder, _, name = PATH.rpartition("/")
    assert world.asked()[-1] == f"targets/{folder}/{sha256(CONTENT).hexdigest()}.{name}"
