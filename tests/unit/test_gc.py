"""What may go, and what stays."""

import fcntl
import hashlib
import os
import time
from collections.abc import Iterator
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path

import pytest

from imagefactory.errors import Busy
from imagefactory.errors.service import LeaseLost, StoreUnusable
from imagefactory.factory.gc import CACHE_AGE, LOG_AGE, collect, find
from imagefactory.factory.loop import Factory
from imagefactory.model.build import BuildState
from imagefactory.settings import read_settings
from imagefactory.store.directory import SharedDirectory
from imagefactory.store.lock import FileLocks
from imagefactory.wiring import factory


@dataclass(frozen=True)
class Yard:
    """A factory and short words for what it made."""

    factory: Factory

    def artifact(self, text: str) -> str:
        digest = hashlib.sha256((text * 1000).encode()).hexdigest()
        made = self.factory.settings.work / "made"
        made.write_text(text * 1000)
        self.factory.artifacts.adopt(made, digest)
        self.factory.records.add_artifact(digest, "any", 1)
        return digest

    def build(self, text: str, name: str = "soe", formats: tuple[str, ...] = ("qcow2",)) -> None:
        """A build with a root file system, a disk, images, and a release of them."""
        records = self.factory.records
        build = records.reserve(name, Path("/r.yaml"), "0" * 64, self.factory.settings.logs)
        records.move_build(build, BuildState.RUNNING)
        files = {}
        for step in ("rootfs", "disk"):
            self.remember(step, name, text, step)
        for kind in formats:
            files[kind] = self.remember("convert", name, text, kind)
        files["manifest"] = self.artifact(f"manifest {name} {text}")
        records.add_release(build, content_digest="0" * 64, files=files, images={}, evidence={})

    def remember(self, step: str, name: str, text: str, output: str) -> str:
        digest = self.artifact(f"{output} {name} {text}")
        key = hashlib.sha256(f"{step} {output} {name} {text}".encode()).hexdigest()
        self.factory.records.remember(key, step, name, {output: digest}, {"format": output})
        return digest

    def there(self) -> set[str]:
        """The artifacts that are there, by their first words."""
        paths = map(self.factory.artifacts.path, self.factory.artifacts)
        return {path.read_text().split("m0")[0][:40].split(" ", 1)[0] for path in paths}

    def count(self) -> int:
        return len(list(self.factory.artifacts))


@pytest.fixture
def yard(tmp_path: Path) -> Iterator[Yard]:
    settings = read_settings({"HOME": str(tmp_path), "PATH": ""})
    with factory(settings) as made:
        yield Yard(made)


def test_an_empty_factory(yard: Yard) -> None:
    garbage = collect(yard.factory, keep=1)
    assert (garbage.artifacts, garbage.results, garbage.directories, garbage.used, garbage.freed) == (
        frozenset(),
        frozenset(),
        (),
        0,
        0,
    )


@pytest.mark.parametrize(("keep", "left"), [(3, 2 + 2 * 3), (2, 2 + 2 * 2), (1, 2 + 2), (0, 2 + 1)])
def test_the_newest_releases_and_results_stay(yard: Yard, keep: int, left: int) -> None:
    """A release has an image and a manifest; of steps only the newest result stays, with its root and disk."""
    for text in ("one", "two", "three"):
        yard.build(text)
    planned = find(yard.factory, keep=keep)
    assert yard.count() == 12
    garbage = collect(yard.factory, keep=keep)
    assert garbage == planned
    assert yard.count() == left == 12 - len(garbage.artifacts)
    assert {artifact.digest for artifact in yard.factory.records.artifacts()} == set(yard.factory.artifacts)
    assert garbage.freed < garbage.used or keep == 3
    assert [result.step for result in yard.factory.records.results()] == ["convert", "disk", "rootfs"]
    assert len(yard.factory.records.releases()) == 3, "what was released is never forgotten"
    assert not find(yard.factory, keep=keep).artifacts, "twice is once"


def test_each_format_of_the_newest_disk_stays(yard: Yard) -> None:
    for text in ("one", "two"):
        yard.build(text, formats=("raw", "qcow2"))
    collect(yard.factory, keep=1)
    assert [result.facts["format"] for result in yard.factory.records.results() if result.step == "convert"] == [
        "qcow2",
        "raw",
    ]
    assert yard.count() == 2 + 3


def test_names_do_not_push_each_other_out(yard: Yard) -> None:
    yard.build("one", "tiny")
    for text in ("one", "two", "three"):
        yard.build(text, "soe")
    collect(yard.factory, keep=1)
    assert {release.name for release in yard.factory.records.releases()} == {"soe", "tiny"}
    assert yard.count() == 2 * 4


def test_one_name_leaves_the_others_alone(yard: Yard) -> None:
    """A build cleans up after its own image."""
    for text in ("one", "two", "three"):
        yard.build(text, "tiny")
        yard.build(text, "soe")
    logs = [yard.factory.settings.logs / name / "20240101.1" for name in ("soe", "tiny")]
    for directory in logs:
        directory.mkdir(parents=True)
        os.utime(directory, (0, 0))
    garbage = collect(yard.factory, keep=1, name="soe")
    assert garbage.directories == (logs[0],)
    assert yard.count() == 4 + 12
    assert len([result for result in yard.factory.records.results() if result.name == "tiny"]) == 9
    assert not find(yard.factory, keep=1, name="soe").artifacts
    collect(yard.factory, keep=1)
    assert yard.count() == 4 + 4


def test_lists_and_logs_take_space_too(yard: Yard) -> None:
    yard.build("one")
    for place in (
        "apt/soe/lists",
        "bases/0a",
        "feeds/0a",
        "logs/soe/20251121.1",
        "packages/boot-0a",
        "scap/apt",
        "work/dead",
    ):
        directory = yard.factory.settings.home / place
        directory.mkdir(parents=True)
        (directory / "file").write_bytes(b"x" * 100_000)
    garbage = find(yard.factory, keep=1)
    assert list(garbage.kinds) == ["artifacts", "apt", "bases", "feeds", "logs", "packages", "scap", "work"]
    assert all(size > 0 for size in garbage.kinds.values())
    assert garbage.used == sum(garbage.kinds.values())
    assert garbage.freed == garbage.kinds["work"]


def test_an_image_that_nobody_makes_any_more(yard: Yard, tmp_path: Path) -> None:
    """Without a release and a recipe, its last results can go; with one of the two they stay."""
    factory, recipe = yard.factory, tmp_path / "recipe.yaml"
    recipe.touch()
    for name, file in (("gone", Path("/no/such/recipe.yaml")), ("there", recipe)):
        factory.records.reserve(name, file, "0" * 64, factory.settings.logs)
        yard.remember("rootfs", name, "one", "rootfs")
        (factory.settings.home / "apt" / name).mkdir(parents=True)
    yard.build("one", "released")
    assert not find(factory, keep=1).results
    garbage = collect(factory, keep=0)
    assert garbage.directories == (factory.settings.home / "apt/gone",)
    assert {result.name for result in factory.records.results()} == {"there", "released"}
    assert (factory.settings.home / "apt/there").is_dir()
    recipe.unlink()
    assert not find(factory, keep=0, name="released").results
    assert len(collect(factory, keep=0).results) == 1


def test_caches_that_no_build_used_lately_go(yard: Yard) -> None:
    home, past = yard.factory.settings.home, time.time() - CACHE_AGE - 60
    old, new = (
        [home / place for place in places]
        for places in (
            ("bases/0a", "feeds/0a", "packages/boot-0a", "scap/apt", "scap/content-0a"),
            ("feeds/0b", "packages/boot-0b", "scap/content-0b", "scap/scanner-0b"),
        )
    )
    left = home / "scap/.new-dead"
    for entry in (*old, *new, left):
        entry.mkdir(parents=True)
        (entry / "file").write_bytes(b"x" * 100_000)
    for entry in old:
        os.utime(entry, (past, past))
    assert find(yard.factory, keep=1, name="soe").directories == (), "they are not one name's"
    planned = find(yard.factory, keep=1)
    assert (set(planned.directories), planned.freed) == ({*old, left}, 6 * planned.used // 10)
    assert all(entry.is_dir() for entry in old)
    assert collect(yard.factory, keep=1) == planned
    assert {entry for entry in (*old, *new, left) if entry.exists()} == set(new)


def test_what_nobody_knows_goes(yard: Yard) -> None:
    yard.build("one")
    stray = yard.artifact("stray")
    assert find(yard.factory, keep=1).artifacts == {stray}


def test_dead_builds_and_old_logs_go(yard: Yard) -> None:
    settings = yard.factory.settings
    dead = settings.work / "dead"
    (dead / "scratch").mkdir(parents=True)
    old, new = (settings.logs / "soe" / version for version in ("20240101.1", "20251121.1"))
    for directory in (old, new):
        directory.mkdir(parents=True)
        (directory / "rootfs.log").touch()
    past = time.time() - LOG_AGE - 60
    os.utime(old, (past, past))
    assert set(collect(yard.factory, keep=1).directories) == {dead, old}
    assert not dead.exists()
    assert not old.exists()
    assert new.exists()


def test_not_while_somebody_builds(yard: Yard) -> None:
    with yard.factory.locks.name("soe"), pytest.raises(Busy):
        collect(yard.factory, keep=1)


# -- what was left in catalogues ---------------------------------------------------------------------------------------


def litter(catalogue: Path) -> tuple[list[Path], list[Path]]:
    """What the dead left in a catalogue, and what the living work in: an import each, and a publication each."""
    names, made = catalogue / "targets", []
    for kind, name in (("dead", "soe"), ("live", "busy")):
        publication = names / name / f".20251121.1.{'a' * 32}"
        carried = catalogue / f".{catalogue.name}.import-{kind * 2}"
        for folder in (publication, carried):
            (folder / "inner").mkdir(parents=True)
            os.utime(folder, (0, 0))
        (names / f".{name}.lock").touch()
        made.append([carried, publication])
    return made[0], made[1]


def test_what_the_dead_left_in_catalogues(yard: Yard, tmp_path: Path) -> None:
    """In those that this home knows: its own, and those that it has read."""
    settings = yard.factory.settings
    island, stranger = tmp_path / "island", tmp_path / "stranger"
    store = settings.trusted / ("0" * 32)
    store.mkdir(parents=True)
    (store / "address").write_text(f"{island}\n")
    (dead, alive), (read, others) = litter(settings.catalogue), litter(island)
    dead, alive, unknown = [*dead, *read], [*alive, *others], litter(stranger)[0]
    with ExitStack() as held:
        for path in alive:
            lock_file = path.parent.with_name(".busy.lock") if path.parent.name == "busy" else path
            descriptor = os.open(lock_file, os.O_RDONLY)
            held.callback(os.close, descriptor)
            fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        assert sorted(find(yard.factory, keep=3).leftovers) == sorted(dead)
        assert find(yard.factory, keep=3, name="soe").leftovers == ()
        collect(yard.factory, keep=3)
        assert not any(path.exists() for path in dead)
        assert all(path.exists() for path in (*alive, *unknown))
    collect(yard.factory, keep=3)
    assert not any(path.exists() for path in alive)


@pytest.mark.parametrize("asked", [0, 1])
def test_nothing_goes_when_the_factory_may_be_somebody_elses(
    yard: Yard, monkeypatch: pytest.MonkeyPatch, asked: int
) -> None:
    """`asked` times it was still ours."""
    for text in ("one", "two"):
        yard.build(text)
    answers = iter([None] * asked)

    def require(_: FileLocks) -> None:
        if next(answers, LeaseLost) is LeaseLost:
            raise LeaseLost("others may have it now")

    monkeypatch.setattr(FileLocks, "require", require)
    before = {artifact.digest for artifact in yard.factory.records.artifacts()}
    with pytest.raises(LeaseLost):
        collect(yard.factory, keep=1)
    assert {artifact.digest for artifact in yard.factory.records.artifacts()} == before
    assert (set(yard.factory.artifacts) == before) == (asked == 0)


def test_a_shared_store_keeps_what_is_wanted_and_what_is_not_ours(tmp_path: Path) -> None:
    store = tmp_path / "store"
    store.mkdir()
    foreign = hashlib.sha256(b"foreign").hexdigest()
    settings = read_settings({"HOME": str(tmp_path), "PATH": "", "IMAGEFACTORY_STORE": str(store)})
    with factory(settings) as made:
        yard = Yard(made)
        for text in ("one", "two"):
            yard.build(text)
        (store / foreign).write_bytes(b"foreign")
        collect(made, keep=2)
        old, used = list(made.artifacts)[:2]
        gone = made.artifacts.path(old)
        for digest in (old, used):
            os.utime(made.artifacts.path(digest), (0, 0))
        made.artifacts.require(used)
        alone = find(made, keep=2)
        assert not alone.artifacts
        assert alone.copies == {old}, "what was used lately stays here"
        assert alone.freed > 0
        assert not find(made, keep=2, name="soe").copies
        collect(made, keep=2)
        assert not gone.exists()
        assert made.artifacts.has(old)
        garbage = collect(made, keep=1)
        assert garbage.artifacts
        left = {artifact.digest for artifact in made.records.artifacts()}
        assert {path.name for path in store.iterdir()} == left | {foreign}
        assert not garbage.artifacts & left


def test_who_may_not_remove_from_a_shared_store_cleans_up_here(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(*_: object) -> None:
        raise StoreUnusable("it is somebody else's")

    (tmp_path / "store").mkdir()
    settings = read_settings({"HOME": str(tmp_path), "PATH": "", "IMAGEFACTORY_STORE": str(tmp_path / "store")})
    with factory(settings) as made:
        yard = Yard(made)
        yard.build("one")
        yard.build("two")
        with monkeypatch.context() as patch:
            patch.setattr(SharedDirectory, "remove", refuse)
            with pytest.raises(StoreUnusable):
                collect(made, keep=1)
        left = set(made.artifacts)
        assert left < {artifact.digest for artifact in made.records.artifacts()}, "the records know until it is gone"
        assert find(made, keep=1).artifacts == made.artifacts.shared_sizes().keys() - left
        collect(made, keep=1)
        assert left == {artifact.digest for artifact in made.records.artifacts()}
        assert left == made.artifacts.shared_sizes().keys()
