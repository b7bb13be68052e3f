"""The releases of a name in numbers, from what the factory keeps of every release for good."""

from hashlib import sha256

from imagefactory.errors import EvidenceMissing, ReleaseUnknown
from imagefactory.factory import standard
from imagefactory.factory.loop import Factory
from imagefactory.model.history import Numbers
from imagefactory.store.artifacts import ArtifactStore
from imagefactory.store.records import release_version
from imagefactory.store.tables import Build, Release
from signing.digest import read_document
from signing.envelope import parse_bundle
from signing.manifest import PROVENANCE_FILE
from signing.provenance import Provenance
from signing.strict_json import decode


def history(factory: Factory, name: str) -> tuple[Numbers, ...]:
    """Every release of `name` in numbers, oldest first.

    Raises ReleaseUnknown when there is none, EvidenceMissing, and errors of the room signing for documents that are
    damaged.
    """
    releases = factory.records.releases(name)
    if not releases:
        raise ReleaseUnknown(f"there is no release {name}")
    builds = {build.id: build for build in factory.records.builds(name)}
    return tuple(_numbers(factory.artifacts, each, builds[each.build_id]) for each in reversed(releases))


def _numbers(artifacts: ArtifactStore, release: Release, build: Build) -> Numbers:
    measured = standard.measurement(release)
    return Numbers(
        version=release_version(release),
        created=release.created,
        score=measured.scan.score if measured else None,
        profile=measured.scan.standard.profile if measured else None,
        sizes={image_format: image["size"] for image_format, image in release.images.items()},
        packages=_packages(artifacts, release),
        seconds=(build.finished - build.started).total_seconds() if build.finished else None,
    )


def _packages(artifacts: ArtifactStore, release: Release) -> int | None:
    """How many packages the builder attested. Its provenance is never cleaned up; the bill of materials is.

    The digest in the records says that these are the bytes that were signed; whether their key is still trusted is no
    matter of counting.
    """
    digest = release.files.get(PROVENANCE_FILE)
    if digest is None or not artifacts.has(digest):
        return None
    raw = read_document(artifacts.require(digest))
    if sha256(raw).hexdigest() != digest:
        raise EvidenceMissing(f"the provenance of {release.name}@{release_version(release)} is not the one it had")
    provenance = Provenance.from_statement(decode(parse_bundle(raw).envelope.payload, "statement"))
    return sum(str(each.get("uri")).startswith("pkg:deb/") for each in provenance.resolved_dependencies)
