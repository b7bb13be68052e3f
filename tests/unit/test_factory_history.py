"""What a factory knows of its releases in numbers, also when it has cleaned up."""

import json
from collections.abc import Iterator, Mapping
from dataclasses import replace
from datetime import datetime, timedelta
from fractions import Fraction
from hashlib import sha256
from pathlib import Path
from typing import Any

import pytest

from imagefactory.errors import EvidenceMissing, ReleaseUnknown
from imagefactory.factory.gc import collect
from imagefactory.factory.history import history
from imagefactory.factory.loop import Factory
from imagefactory.model.build import BuildState
from imagefactory.model.compliance import Measurement, RuleResult, Scan, Standard
from imagefactory.model.evidence import Evidence
from imagefactory.settings import read_settings
from imagefactory.store import records as module
from imagefactory.wiring import factory
from signing.envelope import seal
from signing.errors import BundleInvalid
from signing.manifest import PROVENANCE_FILE
from signing.statement import Subject
from tests.unit.signing.builders import Keys, make_keys, make_provenance

NAME = "soe"
ROOTFS = "sha256:" + "a" * 64
STANDARD = Standard("anssi_bp28_high", "ANSSI", "DEBIAN-12", "c" * 64, "0.1", "1.3")
RULES = tuple(RuleResult(name, "fail" if name == "c" else "pass", "low", name) for name in "abc")
MEASURED = Evidence("compliance", ROOTFS, "pass", Measurement(Scan(STANDARD, RULES), 0, (), (), ROOTFS).facts())


@pytest.fixture(scope="module")
def keys(tmp_path_factory: pytest.TempPathFactory) -> Keys:
    return make_keys(tmp_path_factory.mktemp("keys"))


@pytest.fixture
def made(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Factory]:
    """A factory whose clock goes on by a minute at each look."""
    times = (datetime(2026, 11, 22) + timedelta(minutes=at) for at in range(10_000))
    monkeypatch.setattr(module, "utc_now", lambda: next(times))
    monkeypatch.setattr(module, "database_now", lambda _: next(times))
    with factory(read_settings({"HOME": str(tmp_path), "PATH": ""})) as found:
        yield found


def provenance(keys: Keys, packages: int) -> bytes:
    purls = [f"pkg:deb/debian/package-{at}@1?arch=amd64&distro=bookworm" for at in range(packages)]
    others = ("http://mirror.invalid/InRelease", "https://pkg:deb@mirror.invalid/")
    dependencies = ({"name": "element/x"}, *({"uri": uri} for uri in (*others, *purls)))
    said = make_provenance((Subject("x.qcow2", "a" * 64, "b" * 128),))
    return seal(replace(said, resolved_dependencies=dependencies).to_statement(), keys.signer("provenance"))


def release(
    made: Factory,
    document: bytes | None = None,
    evidence: Mapping[str, Any] | None = None,
    images: Mapping[str, Any] | None = None,
) -> str | None:
    """Make a release, whose build takes one look at the clock. Returns the digest of its provenance."""
    files = {}
    if document is not None:
        files[PROVENANCE_FILE] = sha256(document).hexdigest()
        (made.settings.work / "made").write_bytes(document)
        made.artifacts.adopt(made.settings.work / "made", files[PROVENANCE_FILE])
    build = made.records.reserve(NAME, Path("/r.yaml"), "0" * 64, made.settings.logs)
    made.records.move_build(build, BuildState.RUNNING)
    made.records.add_release(
        build,
        content_digest="0" * 64,
        files=files,
        images=images or {"qcow2": {"size": 5}},
        evidence=evidence or {},
    )
    return files.get(PROVENANCE_FILE)


def test_no_release(made: Factory) -> None:
    release(made)
    with pytest.raises(ReleaseUnknown, match="there is no release other"):
        history(made, "other")


def test_the_oldest_first(made: Factory, keys: Keys) -> None:
    release(made, provenance(keys, 3))
    release(
        made,
        provenance(keys, 4),
        {"compliance": [MEASURED.to_json()]},
        {"qcow2": {"size": 6, "virtual_size": 99}, "raw": {"size": 7}},
    )
    first, second = history(made, NAME)
    assert (str(first.version), str(second.version)) == ("20261122.1", "20261122.2")
    assert first.created < second.created
    assert (first.score, first.profile, second.score, second.profile) == (
        None,
        None,
        Fraction(200, 3),
        "anssi_bp28_high",
    )
    assert (first.sizes, second.sizes) == ({"qcow2": 5}, {"qcow2": 6, "raw": 7})
    assert (first.packages, second.packages) == (3, 4)
    # The clock is looked at when a build starts, for its release, and when it ends.
    assert (first.seconds, second.seconds) == (120.0, 120.0)


def test_what_is_cleaned_up_stays_known(made: Factory, keys: Keys) -> None:
    for packages in (1, 2, 3):
        release(made, provenance(keys, packages), {"compliance": [MEASURED.to_json()]})
    before = history(made, NAME)
    collect(made, keep=0)
    assert history(made, NAME) == before
    assert [each.packages for each in before] == [1, 2, 3]


def test_without_a_provenance_nobody_knows_the_packages(made: Factory, keys: Keys) -> None:
    release(made)
    digest = release(made, provenance(keys, 1))
    assert digest is not None
    made.artifacts.path(digest).unlink()
    assert [each.packages for each in history(made, NAME)] == [None, None]


def test_damage_is_no_gap(made: Factory, keys: Keys) -> None:
    digest = release(made, provenance(keys, 1))
    assert digest is not None
    path = made.artifacts.path(digest)
    path.chmod(0o644)
    path.write_bytes(provenance(keys, 2))
    with pytest.raises(EvidenceMissing, match=r"the provenance of soe@20261122\.1"):
        history(made, NAME)


def test_a_provenance_that_is_none(made: Factory) -> None:
    release(made, json.dumps({}).encode())
    with pytest.raises(BundleInvalid):
        history(made, NAME)


def test_evidence_that_means_nothing(made: Factory) -> None:
    release(made, evidence={"compliance": [{**MEASURED.to_json(), "facts": {}}]})
    with pytest.raises(EvidenceMissing, match=r"the evidence of soe@20261122\.1"):
        history(made, NAME)
