"""Whole builds with a store behind the home, as a worker on another host sees them."""

import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, replace
from pathlib import Path

import pytest

from imagefactory.factory.loop import Factory
from imagefactory.model.recipe_targets import CatalogueTarget
from imagefactory.progress import StepAdvanced
from imagefactory.wiring import factory
from signing.manifest import MANIFEST_FILE, PROVENANCE_FILE
from tests.fakes.boots import boot_test
from tests.fakes.host import FakeHost


@dataclass(frozen=True)
class Workers:
    """A host, and another one that has nothing of it but the records, the keys and the store."""

    host: FakeHost
    store: Path

    @contextmanager
    def factory(self) -> Iterator[Factory]:
        settings = replace(self.host.settings, storage=self.store)
        with factory(settings, self.host.events.append, boot_test) as made:
            yield made

    def move(self) -> None:
        shutil.rmtree(self.host.home / "artifacts")

    @property
    def here(self) -> set[str]:
        return {path.name for path in (self.host.home / "artifacts/sha256").glob("??/*")}


@pytest.fixture
def workers(host: FakeHost, tmp_path: Path) -> Workers:
    """A first build was done, and work goes on elsewhere."""
    (tmp_path / "store").mkdir()
    made = Workers(host, tmp_path / "store")
    with made.factory() as factory:
        factory.build(host.load())
    made.move()
    return made


def test_what_another_host_built_is_unchanged_here_and_not_fetched(workers: Workers) -> None:
    with workers.factory() as factory:
        outcome = factory.build(workers.host.load())
        files = outcome.release.files
        recorded = {artifact.digest for artifact in factory.records.artifacts()}
    assert not outcome.worked
    assert workers.here <= {files[MANIFEST_FILE], files[PROVENANCE_FILE]}
    assert {path.name for path in workers.store.iterdir()} == recorded


def test_what_another_host_built_is_published_from_here(workers: Workers, tmp_path: Path) -> None:
    with workers.factory() as factory:
        (release,) = factory.records.releases()
        workers.host.events.clear()
        factory.publish(release, CatalogueTarget(catalogue=str(tmp_path / "stick")))
    assert workers.here == set(release.files.values())
    fetched = {event.step for event in workers.host.events if isinstance(event, StepAdvanced)}
    assert {f"fetch {digest[:12]}" for digest in release.files.values()} <= fetched


def test_what_is_lost_in_the_store_is_made_again(workers: Workers) -> None:
    with workers.factory() as factory:
        (disk,) = [each for each in factory.records.results() if each.step == "disk"]
        (workers.store / disk.outputs["disk"]).unlink()
        outcome = factory.build(workers.host.load())
    assert outcome.worked
    assert outcome.reproduced
    assert (workers.store / disk.outputs["disk"]).exists()
