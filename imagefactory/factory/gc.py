"""What the factory keeps on disk, and what it lets go: plan and act apart."""

import os
import shutil
import time
from collections import defaultdict
from collections.abc import Collection, Iterable, Mapping
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

from imagefactory.errors import CatalogueUnusable
from imagefactory.factory.loop import Factory
from imagefactory.steps.bundle import leftovers, remove_leftovers
from imagefactory.store.tables import Release
from imagefactory.tools.known_catalogue import is_web
from imagefactory.tools.trust_store import addresses
from imagefactory.tools.trusted_roots import TrustedRoots
from signing.manifest import MANIFEST_FILE, PROVENANCE_FILE

DOCUMENTS = (MANIFEST_FILE, PROVENANCE_FILE)  # they stay
LOG_AGE = 90 * 86400  # seconds that the logs of a build stay
CACHE_AGE = 30 * 86400  # seconds that what a build fetched, and may fetch again, stays after its last use


@dataclass(frozen=True)
class Garbage:
    """What can go: artifacts by digest, here and in a shared store, `copies` of what a shared store keeps and nobody
    here used lately, results by key, directories of dead builds, old logs, package lists of images that nobody makes
    any more, parts of caches that nobody used lately; `leftovers` of publishers and imports that were killed, hidden in
    catalogues. `kinds` says what each part of the home takes; `used` (their sum) and `freed` are bytes on its disk."""

    artifacts: frozenset[str]
    copies: frozenset[str]
    results: frozenset[str]
    directories: tuple[Path, ...]
    leftovers: tuple[Path, ...]
    kinds: Mapping[str, int]
    freed: int

    @property
    def used(self) -> int:
        return sum(self.kinds.values())


def find(factory: Factory, *, keep: int, name: str | None = None) -> Garbage:
    """Look for garbage: everything but the newest `keep` releases of each name and the newest result of each step of
    each name; with `keep` 0 also the last results of a name that has neither release nor recipe any more. With `name`
    what belongs to other names, or to all, is left alone. Changes nothing; what it finds is garbage only while nobody
    builds."""
    gone = _gone(factory) if keep == 0 else frozenset()
    results = _old_results(factory, gone, name)
    wanted = _wanted(factory, keep, results, name)
    sizes = {digest: factory.artifacts.path(digest).stat().st_blocks * 512 for digest in factory.artifacts}
    shared = factory.artifacts.shared_sizes()
    unwanted = frozenset(sizes.keys() - wanted) | _unwanted(factory, shared, wanted)
    unused = factory.artifacts.unused(CACHE_AGE) if name is None else ()
    copies = frozenset(digest for digest in unused if digest in shared) - unwanted
    home = factory.settings.home
    lists = [home / "apt" / each for each in sorted(gone) if name in {None, each} and (home / "apt" / each).is_dir()]
    caches = _unused(factory) if name is None else ()
    hidden = tuple(path for each in _catalogues(factory) for path in leftovers(each)) if name is None else ()
    directories = (*factory.settings.work.iterdir(), *_old_logs(factory, name), *lists, *caches)
    parts = sorted(("apt", "logs", "work", *(each.name for each in factory.settings.caches)))
    return Garbage(
        artifacts=unwanted,
        copies=copies,
        results=results,
        directories=directories,
        leftovers=hidden,
        kinds={
            "artifacts": sum(sizes.values()),
            **{part: _taken(home / part) for part in parts},
        },
        freed=sum(sizes.get(digest, 0) for digest in unwanted | copies) + sum(map(_taken, (*directories, *hidden))),
    )


def collect(factory: Factory, *, keep: int, name: str | None = None) -> Garbage:
    """Find garbage (of `name`, or of all) and remove it. Raises Busy while somebody builds, StoreUnusable,
    LeaseLost."""
    with factory.locks.whole():
        garbage = find(factory, keep=keep, name=name)
        factory.locks.require()  # to look may take long
        for key in garbage.results:
            factory.records.forget_result(key)
        for digest in garbage.artifacts | garbage.copies:
            factory.artifacts.drop(digest)
        for directory in garbage.directories:
            shutil.rmtree(directory, ignore_errors=True)
        for catalogue in _catalogues(factory) if garbage.leftovers else ():
            with suppress(CatalogueUnusable):  # somebody else's
                remove_leftovers(catalogue)
        # Last, for it may be another account that may do that: then the records know until it did.
        for digest in garbage.artifacts:
            factory.locks.require()
            factory.artifacts.remove(digest)
            factory.records.forget_artifact(digest)
        factory.artifacts.sweep()
    return garbage


def _catalogues(factory: Factory) -> Iterable[Path]:
    """The catalogue directories that this home knows: its own, those that it publishes to, those that it has read."""
    settings = factory.settings
    published = [path for path, _ in TrustedRoots(settings.signed).all()]
    read = [Path(address) for address in addresses(settings.trusted) if not is_web(address)]
    return sorted({settings.catalogue, *published, *read})


def _gone(factory: Factory) -> frozenset[str]:
    """Names of which something is kept, that have no release, and whose recipe is not where it was."""
    lists = factory.settings.home / "apt"
    names = {result.name for result in factory.records.results()}
    names |= {path.name for path in lists.iterdir()} if lists.is_dir() else set()
    names -= {release.name for release in factory.records.releases()}
    return frozenset(
        name for name in names if not any(Path(build.recipe_file).exists() for build in factory.records.builds(name))
    )


def _old_results(factory: Factory, gone: frozenset[str], name: str | None) -> frozenset[str]:
    """All but the newest result of each step of each name, and of conversions of each format; of names that are gone
    all."""
    newest = set()
    old = set()
    for result in factory.records.results():
        kind = (result.name, result.step, result.facts.get("format"))
        if name in {None, result.name} and (kind in newest or result.name in gone):
            old.add(result.key)
        newest.add(kind)
    return frozenset(old)


def _wanted(factory: Factory, keep: int, old: frozenset[str], name: str | None) -> set[str]:
    wanted: set[str] = set()
    for result in factory.records.results():
        if result.key not in old:
            wanted.update(result.outputs.values())
    seen: dict[str, int] = defaultdict(int)
    for release in factory.records.releases():
        seen[release.name] += 1
        if seen[release.name] <= keep or name not in {None, release.name}:
            wanted.update(release.files.values(), _reports(release))
        # Small, and who revokes a key wants to know every release that it signed.
        wanted.update(release.files[each] for each in DOCUMENTS if each in release.files)
    return wanted


def _unwanted(factory: Factory, shared: Iterable[str], wanted: Collection[str]) -> set[str]:
    """What may go from a shared store. What no record knows is not ours to judge."""
    known = {artifact.digest for artifact in factory.records.artifacts()} if shared else set()
    return (known & set(shared)) - set(wanted)


def _reports(release: Release) -> set[str]:
    """What people read of a measurement: no file of the release, but named by its evidence."""
    said = (piece["facts"]["report"] for piece in release.evidence.get("compliance", ()))
    return {digest.removeprefix("sha256:") for digest in said if digest is not None}


def _unused(factory: Factory) -> Iterable[Path]:
    """What nobody used lately, and what somebody left who was killed while he fetched it."""
    oldest = time.time() - CACHE_AGE
    return [
        entry
        for cache in factory.settings.caches
        for entry in cache.glob("*")
        if entry.name.startswith(".new-") or entry.stat().st_mtime < oldest
    ]


def _taken(directory: Path) -> int:
    """The bytes on disk of the files below a directory."""
    taken = 0
    for place, _, files in os.walk(directory):
        for file in files:
            with suppress(OSError):  # gone meanwhile
                taken += (Path(place) / file).lstat().st_blocks * 512
    return taken


def _old_logs(factory: Factory, name: str | None) -> Iterable[Path]:
    oldest = time.time() - LOG_AGE
    return [
        path
        for path in factory.settings.logs.glob(f"{name or '*'}/*")
        if path.is_dir() and path.stat().st_mtime < oldest
    ]
