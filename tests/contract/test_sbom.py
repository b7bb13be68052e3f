"""The bill of materials of a release: published, signed for, named everywhere, and shown."""

import json
from collections.abc import Callable
from hashlib import sha256
from pathlib import Path
from typing import Any

import pytest

from imagefactory.errors import SbomInvalid
from imagefactory.model.sbom import of_release
from imagefactory.progress import Note
from imagefactory.steps import sbom
from imagefactory.store.records import release_version
from imagefactory.tools.cyclonedx import validate
from signing.checksums import parse_checksums
from signing.envelope import open_envelope
from signing.errors import DigestMismatch
from signing.manifest import ReleaseManifest
from signing.trust import load_trust
from signing.verify import verify_folder
from tests.contract.shell import Shell
from tests.contract.test_factory import NAME, done, folder, releases
from tests.database import records_at
from tests.fakes.host import FakeHost, folders

On = Callable[[FakeHost], FakeHost]


def published(host: FakeHost) -> Path:
    (path,) = folder(host).glob("*.sbom.cdx.json")
    return path


def predicate(host: FakeHost, file: str) -> dict[str, Any]:
    trust = load_trust(host.home / "trust.json")
    keys = trust.provenance if file.startswith("provenance") else trust.release
    statement = open_envelope((folder(host) / file).read_bytes(), keys)
    if file.startswith("release"):
        ReleaseManifest.from_statement(statement)
    return dict(statement["predicate"])


def test_it_is_published_and_bound_by_everything_that_is_signed(built: FakeHost) -> None:
    file = published(built)
    digest = sha256(file.read_bytes()).hexdigest()
    (release,) = releases(built)
    assert file.name == f"{NAME}-{release_version(release)}.sbom.cdx.json"
    assert release.files[file.name] == digest
    assert predicate(built, "release.sigstore.json")["files"][file.name] == digest
    assert parse_checksums((folder(built) / "SHA256SUMS").read_bytes())[file.name] == digest
    byproducts = predicate(built, "provenance.sigstore.json")["runDetails"]["byproducts"]
    assert {"name": file.name, "digest": {"sha256": digest}} in byproducts


def test_another_one_is_noticed(built: FakeHost) -> None:
    published(built).write_bytes(published(built).read_bytes().replace(b"5.2.15-2", b"5.2.15-3"))
    version = releases(built)[0].created.astimezone()
    with pytest.raises(DigestMismatch):
        verify_folder(folder(built), load_trust(built.home / "trust.json"), now=version)


def test_its_packages_are_those_of_the_provenance_each_with_its_archive(built: FakeHost) -> None:
    document = validate(published(built).read_bytes())
    purls = {each["purl"] for each in document["components"] if "purl" in each}
    dependencies = predicate(built, "provenance.sigstore.json")["buildDefinition"]["resolvedDependencies"]
    archives = {each["uri"]: each["digest"]["sha256"] for each in dependencies if "uri" in each}
    assert purls == {uri for uri in archives if uri.startswith("pkg:")}
    bash = sha256(b"bash 5.2.15-2\n").hexdigest()
    assert archives["pkg:deb/debian/bash@5.2.15-2?arch=amd64&distro=bookworm"] == bash
    suites = {uri: digest for uri, digest in archives.items() if uri.endswith("/InRelease")}
    assert suites == {
        f"http://mirror.invalid/{suite}/InRelease": sha256(b"first").hexdigest()
        for suite in ("debian/dists/bookworm", "debian-security/dists/bookworm-security")
    }


def test_the_logs_of_the_build_are_in_its_provenance(built: FakeHost) -> None:
    byproducts = predicate(built, "provenance.sigstore.json")["runDetails"]["byproducts"]
    said = {each["name"]: each["digest"]["sha256"] for each in byproducts if each["name"].startswith("log/")}
    with built.factory() as factory:
        logs = Path(factory.records.builds(NAME)[0].logs)
    assert "log/rootfs.log" in said
    for name, digest in said.items():
        assert sha256((logs / name.removeprefix("log/")).read_bytes()).hexdigest() == digest


def test_a_package_without_a_known_archive_is_named(host: FakeHost) -> None:
    host.say("unlisted-bash")
    host.build()
    (note,) = [event for event in host.events if isinstance(event, Note) and "archives" in event.text]
    assert note.text == (
        "no package list says which archives these came from: bash; the provenance has no digest of them"
    )
    dependencies = predicate(host, "provenance.sigstore.json")["buildDefinition"]["resolvedDependencies"]
    (bash,) = [each for each in dependencies if "/bash@" in each.get("uri", "")]
    assert bash == {
        "uri": "pkg:deb/debian/bash@5.2.15-2?arch=amd64&distro=bookworm",
        "annotations": {"digest": "unknown"},
    }


def test_the_same_root_file_system_and_version_give_the_same_bytes(built: FakeHost) -> None:
    raw = published(built).read_bytes()
    with built.factory() as factory:
        (rootfs,) = [one for one in factory.records.results() if one.step == "rootfs"]
        digest = rootfs.outputs["rootfs"]
        document = sbom.make(
            NAME, built.load().recipe.os, factory.artifacts.path(digest), digest, rootfs.facts["epoch"]
        )
    (release,) = releases(built)
    assert of_release(document, release_version(release)) == raw
    with pytest.raises(SbomInvalid):
        sbom.check(raw, NAME, "20200101.1")


def test_a_release_of_a_time_without_is_signed_anew(built: FakeHost) -> None:
    with records_at(built.home / "imagefactory.db") as records:
        (files,) = records.execute("select files from releases").fetchone()
        kept = {name: digest for name, digest in json.loads(files).items() if "sbom" not in name}
        records.execute("update releases set files = ?", (json.dumps(kept),))
    built.build()
    assert done(built) == ["sign", "publish"]


def test_it_is_shown_and_compared(built: FakeHost, shell: Shell, on: On) -> None:
    built.offer({"openssl": "3.0.18-1", "zlib1g": "1.3"}, in_release="second")
    built.build()
    new, old = (f"{NAME}@{release_version(release)}" for release in releases(built))
    on(built)
    status, text = shell.text("sbom", "show", NAME)
    assert (status, [line.split() for line in text.splitlines()]) == (
        0,
        [
            ["PACKAGE", "VERSION", "ARCH", "LICENCES"],
            ["openssl", "3.0.18-1", "amd64", "GPL-2.0-or-later"],
            ["zlib1g", "1.3", "amd64", "GPL-2.0-or-later"],
        ],
    )
    status, raw = shell.text("sbom", "show", old, "--json")
    (first, _) = folders(built.home / "catalogue", NAME)
    assert (status, raw.encode()) == (0, next(first.glob("*.cdx.json")).read_bytes())
    status, text = shell.text("sbom", "diff", old, new)
    assert (status, text.splitlines()) == (
        0,
        ["bash 5.2.15-2 is gone", "openssl 3.0.17-1 -> 3.0.18-1", "zlib1g 1.3 is new"],
    )
    status, document = shell.json("sbom", "diff", old, new)
    assert (status, document) == (
        0,
        {
            "added": [{"name": "zlib1g", "new": "1.3"}],
            "removed": [{"name": "bash", "old": "5.2.15-2"}],
            "changed": [{"name": "openssl", "old": "3.0.17-1", "new": "3.0.18-1"}],
        },
    )
    assert shell.text("sbom", "diff", new, NAME) == (0, "the same packages\n")
    assert ".sbom.cdx.json" in shell.text("releases", "show", NAME)[1]


def test_a_damaged_one_is_not_shown(built: FakeHost, shell: Shell, on: On) -> None:
    (release,) = releases(built)
    with built.factory() as factory:
        path = factory.artifacts.path(next(d for name, d in release.files.items() if "sbom" in name))
    path.chmod(0o644)
    path.write_bytes(path.read_bytes() + b"\n")
    on(built)
    assert shell.refused("sbom", "show", NAME) == (1, "sbom-invalid")
    path.unlink()
    assert shell.refused("sbom", "diff", NAME, NAME) == (1, "artifact-missing")
