"""What the factory keeps on disk, and what it lets go: plan and act apart."""

import shutil
import time
from collections import defaultdict
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path

from imagefactory.factory.loop import Factory
from imagefactory.store.lock import lock_all

LOG_AGE = 90 * 86400  # seconds that the logs of a build stay


@dataclass(frozen=True)
class Garbage:
    """What can go: artifacts by digest, results by key, directories of dead builds, old logs. `used` and `freed` are
    bytes on disk of the artifact store."""

    artifacts: frozenset[str]
    results: frozenset[str]
    directories: tuple[Path, ...]
    used: int
    freed: int


def find(factory: Factory, *, keep: int) -> Garbage:
    """Look for garbage: everything but the newest `keep` releases of each name and the newest result of each step of
    each name. Changes nothing; what it finds is garbage only while nobody builds."""
    results = _old_results(factory)
    wanted = _wanted(factory, keep, results)
    sizes = {digest: factory.artifacts.path(digest).stat().st_blocks * 512 for digest in factory.artifacts}
    unwanted = frozenset(sizes.keys() - wanted)
    return Garbage(
        artifacts=unwanted,
        results=results,
        directories=(*factory.settings.work.iterdir(), *_old_logs(factory)),
        used=sum(sizes.values()),
        freed=sum(sizes[digest] for digest in unwanted),
    )


def collect(factory: Factory, *, keep: int) -> Garbage:
    """Find garbage and remove it. Raises Busy while somebody builds."""
    with lock_all(factory.settings.home / "locks"):
        garbage = find(factory, keep=keep)
        for key in garbage.results:
            factory.records.forget_result(key)
        for digest in garbage.artifacts:
            factory.artifacts.remove(digest)
            factory.records.forget_artifact(digest)
        for directory in garbage.directories:
            shutil.rmtree(directory, ignore_errors=True)
    return garbage


def _old_results(factory: Factory) -> frozenset[str]:
    """All but the newest result of each step of each name, and of conversions of each format."""
    newest = set()
    old = set()
    for result in factory.records.results():
        kind = (result.name, result.step, result.facts.get("format"))
        if kind in newest:
            old.add(result.key)
        newest.add(kind)
    return frozenset(old)


def _wanted(factory: Factory, keep: int, old: frozenset[str]) -> set[str]:
    wanted: set[str] = set()
    for result in factory.records.results():
        if result.key not in old:
            wanted.update(result.outputs.values())
    seen: dict[str, int] = defaultdict(int)
    for release in factory.records.releases():
        seen[release.name] += 1
        if seen[release.name] <= keep:
            wanted.update(release.files.values())
    return wanted


def _old_logs(factory: Factory) -> Iterable[Path]:
    oldest = time.time() - LOG_AGE
    return [path for path in factory.settings.logs.glob("*/*") if path.is_dir() and path.stat().st_mtime < oldest]
