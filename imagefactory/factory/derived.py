"""What was built from a release: whoever takes that back has to know what else has the same fault in it."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from hashlib import sha256
from typing import Any, Final

from imagefactory.model.release import ReleaseRef
from imagefactory.store.artifacts import ArtifactStore
from imagefactory.store.records import Records, release_version
from imagefactory.store.tables import Release
from signing.digest import read_document
from signing.envelope import parse_bundle
from signing.errors import SigningError
from signing.manifest import PROVENANCE_FILE
from signing.provenance import Provenance
from signing.strict_json import decode

BASE: Final = "base/"
"""How the name of a dependency begins that an image starts from (`steps.attest`)."""


@dataclass(frozen=True)
class Derived:
    """The releases that were built from one, directly or over others, and those whose provenance is not here or
    damaged, so that nobody can tell. Both by name, newest first."""

    releases: tuple[ReleaseRef, ...]
    unknown: tuple[ReleaseRef, ...]


def derived(records: Records, artifacts: ArtifactStore, ref: ReleaseRef) -> Derived:
    """What this factory has built from the release `ref`.

    A base is known by its bytes, wherever it was taken from, and one in a cloud by the release that it was verified to
    be. That the digest of a provenance is the one in the records is enough: a key that is not trusted any more is no
    reason to name less. Raises ReleaseUnknown.
    """
    first = records.release(ref)
    others = {_ref(each): each for each in records.releases() if each.id != first.id}
    starts = {each: _start(artifacts, release) for each, release in others.items()}
    known = {each: start for each, start in starts.items() if start is not None}
    found: set[ReleaseRef] = set()
    bases = [first]
    while bases:
        base = bases.pop()
        new = {each for each, start in known.items() if each not in found and start.is_from(base)}
        found |= new
        bases += [others[each] for each in new]
    return Derived(tuple(each for each in others if each in found), tuple(each for each in others if each not in known))


@dataclass(frozen=True)
class _Start:
    """What a release starts from: SHA-256 of images (hex), and releases as text. Mostly neither."""

    digests: frozenset[str]
    names: frozenset[str]

    def is_from(self, release: Release) -> bool:
        images = {image.get("sha256") for image in release.images.values()}
        return str(_ref(release)) in self.names or not self.digests.isdisjoint(images)


def _ref(release: Release) -> ReleaseRef:
    return ReleaseRef(release.name, release_version(release))


def _start(artifacts: ArtifactStore, release: Release) -> _Start | None:
    """None where nobody can tell."""
    digest = release.files.get(PROVENANCE_FILE)
    if digest is None or not artifacts.has(digest):
        return None
    try:
        raw = read_document(artifacts.require(digest))
        if sha256(raw).hexdigest() != digest:
            return None
        said = Provenance.from_statement(decode(parse_bundle(raw).envelope.payload, "statement"))
    except SigningError:
        return None
    bases = [each for each in said.resolved_dependencies if str(each.get("name")).startswith(BASE)]
    return _Start(_texts(bases, "digest", "sha256"), _texts(bases, "annotations", "release"))


def _texts(dependencies: Sequence[Mapping[str, Any]], part: str, key: str) -> frozenset[str]:
    """What the dependencies have under `part` and `key`."""
    parts = (each.get(part) for each in dependencies)
    return frozenset(str(each[key]) for each in parts if isinstance(each, dict) and key in each)
