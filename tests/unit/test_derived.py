"""What was built from a release, over as many others as there are in between."""

from collections.abc import Iterator, Mapping
from dataclasses import replace
from hashlib import sha256
from pathlib import Path
from typing import Any

import pytest

from imagefactory.errors import ReleaseUnknown
from imagefactory.factory.derived import Derived, derived
from imagefactory.factory.loop import Factory
from imagefactory.model.build import BuildState
from imagefactory.model.release import ReleaseRef
from imagefactory.settings import read_settings
from imagefactory.steps.attest import _base
from imagefactory.store.records import release_version
from imagefactory.wiring import factory
from signing.envelope import seal
from signing.manifest import PROVENANCE_FILE
from signing.statement import Subject
from tests.unit.signing.builders import Keys, make_keys, make_provenance


@pytest.fixture(scope="module")
def keys(tmp_path_factory: pytest.TempPathFactory) -> Keys:
    return make_keys(tmp_path_factory.mktemp("keys"))


@pytest.fixture
def made(tmp_path: Path) -> Iterator[Factory]:
    with factory(read_settings({"HOME": str(tmp_path), "PATH": ""})) as found:
        yield found


def digest_of(name: str, image_format: str = "qcow2") -> str:
    return sha256(f"{name}.{image_format}".encode()).hexdigest()


def from_file(sha: str) -> dict[str, str]:
    return {"kind": "file", "name": "base.qcow2", "source": "base.qcow2", "sha256": sha}


def from_cloud(release: ReleaseRef, sha: str) -> dict[str, str]:
    source = "glance:demo/0d3f"
    return {"kind": "cloud", "name": "0d3f", "source": source, "sha256": sha, "release": str(release)}


class Maker:
    """Makes releases whose provenance is the builder's."""

    def __init__(self, made: Factory, keys: Keys) -> None:
        self.made, self.keys = made, keys

    def provenance(self, base: Mapping[str, str] | None) -> bytes:
        said = make_provenance((Subject("x.qcow2", "a" * 64, "b" * 128),))
        others: list[dict[str, Any]] = [{"name": "element/x", "digest": {"sha256": "e" * 64}}, {"uri": "pkg:deb/x@1"}]
        dependencies = [*([_base(base)] if base else []), *others]
        return seal(replace(said, resolved_dependencies=dependencies).to_statement(), self.keys.signer("provenance"))

    def release(self, name: str, base: Mapping[str, str] | None = None, document: bytes | None = None) -> ReleaseRef:
        """The release of a new version, with a base, or with these bytes as its provenance."""
        raw = self.provenance(base) if document is None else document
        digest = sha256(raw).hexdigest()
        (self.made.settings.work / "made").write_bytes(raw)
        self.made.artifacts.adopt(self.made.settings.work / "made", digest)
        build = self.made.records.reserve(name, Path("/r.yaml"), "0" * 64, self.made.settings.logs)
        self.made.records.move_build(build, BuildState.RUNNING)
        version = f"{build.version_day}.{build.version_number}"
        release = self.made.records.add_release(
            build,
            content_digest="0" * 64,
            files={PROVENANCE_FILE: digest},
            images={each: {"sha256": digest_of(f"{name}@{version}", each)} for each in ("raw", "qcow2")},
            evidence={},
        )
        return ReleaseRef(name, release_version(release))

    def derived(self, ref: ReleaseRef) -> Derived:
        return derived(self.made.records, self.made.artifacts, ref)


@pytest.fixture
def maker(made: Factory, keys: Keys) -> Maker:
    return Maker(made, keys)


def test_nothing_was_built_from_it(maker: Maker) -> None:
    ref = maker.release("soe")
    maker.release("other")
    maker.release("soe", from_file("f" * 64))
    assert maker.derived(ref) == Derived((), ())


@pytest.mark.parametrize("image_format", ["raw", "qcow2"])
def test_a_file_is_known_by_its_bytes(maker: Maker, image_format: str) -> None:
    ref = maker.release("soe")
    app = maker.release("app", from_file(digest_of(str(ref), image_format)))
    assert maker.derived(ref) == Derived((app,), ())
    assert maker.derived(app) == Derived((), ()), "not the other way round"


def test_an_image_in_a_cloud_is_known_by_its_release(maker: Maker) -> None:
    """Whatever its bytes were made of there."""
    ref = maker.release("soe")
    app = maker.release("app", from_cloud(ref, "c" * 64))
    assert maker.derived(ref).releases == (app,)


def test_a_release_is_not_another_version_of_it(maker: Maker) -> None:
    first, second = maker.release("soe"), maker.release("soe")
    app = maker.release("app", from_cloud(second, digest_of(str(second))))
    assert maker.derived(first).releases == ()
    assert maker.derived(second).releases == (app,)
    assert maker.derived(ReleaseRef("soe")).releases == (app,), "the newest"


def test_over_others(maker: Maker) -> None:
    """In any order of names: what comes of what was derived is derived."""
    ref = maker.release("m")
    middle = maker.release("z", from_file(digest_of(str(ref))))
    last = maker.release("a", from_cloud(middle, digest_of(str(middle))))
    also = maker.release("a", from_file(digest_of(str(last), "raw")))
    assert maker.derived(ref).releases == (also, last, middle), "by name, the newest first"
    assert maker.derived(middle).releases == (also, last)


def test_a_circle_ends(maker: Maker) -> None:
    """No honest builder can make one."""
    ref = maker.release("soe")
    ring = maker.release("ring", from_cloud(ReleaseRef("ring", ref.version), digest_of(str(ref))))
    assert maker.derived(ref).releases == (ring,)


@pytest.mark.parametrize("damage", ["gone", "other bytes", "no document", "no provenance"])
def test_what_nobody_can_tell_is_told(maker: Maker, keys: Keys, damage: str) -> None:
    ref = maker.release("soe")
    app = maker.release("app", from_file(digest_of(str(ref))))
    statement = make_provenance((Subject("x.qcow2", "a" * 64, "b" * 128),)).to_statement()
    statement["predicate"]["buildDefinition"]["buildType"] = "urn:other"
    document = {"no document": b"<html>", "no provenance": seal(statement, keys.signer("provenance"))}.get(damage)
    lost = maker.release("lost", from_file(digest_of(str(ref), "raw")), document)
    path = maker.made.artifacts.path(maker.made.records.release(lost).files[PROVENANCE_FILE])
    if document is None:
        path.unlink()
    if damage == "other bytes":
        path.write_bytes(maker.provenance(None))
    found = maker.derived(ref)
    assert found == Derived((app,), (lost,))
    assert ref not in maker.derived(lost).unknown


def test_no_such_release(maker: Maker) -> None:
    with pytest.raises(ReleaseUnknown):
        maker.derived(ReleaseRef("soe"))
