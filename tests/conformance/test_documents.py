"""Our statements and bills of materials, read by other people's schemas, which take nothing that they do not know."""

import copy
import json
import subprocess
import sys
from collections.abc import Callable
from datetime import timedelta
from hashlib import sha256
from pathlib import Path
from typing import Any
from uuid import UUID

import pytest
from cyclonedx.model.bom import Bom
from cyclonedx.schema import SchemaVersion
from cyclonedx.validation.json import JsonStrictValidator
from google.protobuf.json_format import Parse, ParseError
from in_toto_attestation.predicates.provenance.v1.provenance_pb2 import Provenance as SlsaProvenance
from in_toto_attestation.v1.resource_descriptor import ResourceDescriptor
from in_toto_attestation.v1.statement import Statement
from in_toto_attestation.v1.statement_pb2 import Statement as StatementMessage
from packageurl import PackageURL

from imagefactory.model.evidence import Evidence
from imagefactory.model.packages import Installed, Package
from imagefactory.model.recipe import OperatingSystem
from imagefactory.model.release import Version
from imagefactory.model.sbom import MAX_SBOM, of_release
from imagefactory.steps.attest import BuildAccount, attest
from imagefactory.steps.convert import Converted
from imagefactory.tools import cyclonedx
from signing.digest import Digests
from signing.envelope import open_envelope
from signing.strict_json import MAX_BYTES
from tests.unit.signing.builders import NOW, Keys, make_folder, make_keys
from tests.unit.test_cyclonedx_formats import IRIS, NO_IRIS

NAME, VERSION = "fake-debian-12", "20251121.1"
DIGEST = "1" * 64
GRAMMAR = """
import json, sys
from rfc3987_syntax import is_valid_syntax
json.dump([is_valid_syntax("iri_reference", each) for each in json.load(sys.stdin)], sys.stdout)
"""


@pytest.fixture(scope="module")
def keys(tmp_path_factory: pytest.TempPathFactory) -> Keys:
    return make_keys(tmp_path_factory.mktemp("documents"))


def provenance(keys: Keys, packages: dict[Package, str | None]) -> bytes:
    """The builder's provenance of a release with these packages."""
    account = BuildAccount(
        name=NAME,
        version=VERSION,
        build_id="b" * 32,
        recipe={"name": NAME, "packages": [package.name for package in packages], "disk": {"size": 1 << 31}},
        recipe_digest=DIGEST,
        elements={"soe-base": DIGEST},
        distro="debian",
        codename="bookworm",
        packages=packages,
        in_releases={"http://deb.debian.org/debian/dists/bookworm/InRelease": DIGEST},
        tools={"qemu-utils": "7.2"},
        separated=True,
        rootfs=DIGEST,
        disk=DIGEST,
        documents={f"{NAME}-{VERSION}.sbom.cdx.json": DIGEST},
        logs={"rootfs.log": DIGEST},
        started=NOW - timedelta(hours=1),
        finished=NOW,
    )
    images = {"raw": Converted(Path("disk.raw"), "raw", 1 << 31, Digests(1 << 31, DIGEST, "2" * 128))}
    evidence = [Evidence("boot", f"sha256:{DIGEST}", "pass", {})]
    return attest(account, images, evidence, keys.signer("provenance"))


@pytest.fixture(scope="module")
def statement(keys: Keys) -> dict[str, Any]:
    packages = {Package("g++", "1:5+b1", "amd64"): DIGEST, Package("own", "1", "all"): None}
    return open_envelope(provenance(keys, packages), keys.trust.provenance)


def read_by_in_toto(document: dict[str, Any]) -> Statement:
    message = Parse(json.dumps(document), StatementMessage(), ignore_unknown_fields=False)
    statement = Statement.copy_from_pb(message)
    statement.validate()
    return statement


def read_by_slsa(document: dict[str, Any]) -> SlsaProvenance:
    message: SlsaProvenance = Parse(json.dumps(document["predicate"]), SlsaProvenance(), ignore_unknown_fields=False)
    for descriptor in (*message.build_definition.resolved_dependencies, *message.run_details.byproducts):
        ResourceDescriptor.copy_from_pb(descriptor).validate()
    return message


def test_in_toto_reads_our_statements(keys: Keys, statement: dict[str, Any], tmp_path: Path) -> None:
    assert read_by_in_toto(statement).pb.predicate_type == "https://slsa.dev/provenance/v1"
    make_folder(tmp_path / "release", keys)
    release = open_envelope((tmp_path / "release/release.sigstore.json").read_bytes(), keys.trust.release)
    assert len(read_by_in_toto(release).pb.subject) == 3


def test_slsa_reads_our_provenance(statement: dict[str, Any]) -> None:
    message = read_by_slsa(statement)
    definition, run = message.build_definition, message.run_details
    assert definition.build_type == "urn:imagefactory:build:v1"
    assert definition.external_parameters["recipe"]["name"] == NAME
    found = {each.uri or each.name: dict(each.digest) for each in definition.resolved_dependencies}
    assert found == {
        "element/soe-base": {"sha256": DIGEST},
        "http://deb.debian.org/debian/dists/bookworm/InRelease": {"sha256": DIGEST},
        "pkg:deb/debian/g%2B%2B@1:5%2Bb1?arch=amd64&distro=bookworm": {"sha256": DIGEST},
        "pkg:deb/debian/own@1?arch=all&distro=bookworm": {},
    }
    (unknown,) = [each for each in definition.resolved_dependencies if not each.digest]
    assert dict(unknown.annotations) == {"digest": "unknown"}
    assert [each.name for each in run.byproducts] == [
        "rootfs",
        "disk",
        f"{NAME}-{VERSION}.sbom.cdx.json",
        "evidence/boot",
        "log/rootfs.log",
    ]
    assert (run.builder.id.partition(":0")[0], run.metadata.invocation_id) == ("urn:imagefactory:builder", "b" * 32)


WRONG: list[Callable[[dict[str, Any]], object]] = [
    lambda s: s.update(_type="https://in-toto.io/Statement/v0.1"),
    lambda s: s.update(more=1),
    lambda s: s.update(subject=[]),
    lambda s: s.pop("predicateType"),
    lambda s: s["subject"][0].pop("digest"),
    lambda s: s["subject"][0].update(digest=[DIGEST]),
    lambda s: s["predicate"].update(more=1),
    lambda s: s["predicate"]["buildDefinition"].update(resolvedDependencies=[{}]),
    lambda s: s["predicate"]["buildDefinition"].update(resolvedDependencies=[{"name": "x", "sha256": DIGEST}]),
    lambda s: s["predicate"]["buildDefinition"].update(externalParameters="x"),
    lambda s: s["predicate"]["runDetails"]["metadata"].update(startedOn="yesterday"),
    lambda s: s["predicate"]["runDetails"].update(builder="x"),
]


@pytest.mark.parametrize("change", WRONG, ids=range(len(WRONG)))
def test_the_same_schemas_refuse_what_is_wrong(
    statement: dict[str, Any], change: Callable[[dict[str, Any]], object]
) -> None:
    wrong = copy.deepcopy(statement)
    change(wrong)
    with pytest.raises((ParseError, ValueError)):
        read_by_slsa(wrong if read_by_in_toto(wrong) else {})


def many(count: int) -> list[Package]:
    """Packages with names and versions as long as Debian's longer ones."""
    return [
        Package(f"libsomething-with-a-name{n:05}-dev", f"2:{n}.12.13~dfsg-1+deb12u3", "amd64") for n in range(count)
    ]


def test_provenance_of_two_thousand_packages_stays_below_the_bound_of_a_document(keys: Keys) -> None:
    raw = provenance(keys, {package: sha256(package.name.encode()).hexdigest() for package in many(2000)})
    assert len(raw) < 0.75 * MAX_BYTES
    statement = open_envelope(raw, keys.trust.provenance)
    assert len(statement["predicate"]["buildDefinition"]["resolvedDependencies"]) == 2002


# -- CycloneDX ---------------------------------------------------------------------------------------------------------


def sbom(packages: list[Installed]) -> bytes:
    system = OperatingSystem(distro="debian", version="12")
    return of_release(cyclonedx.write(NAME, system, packages, UUID(int=0), NOW), Version.parse(VERSION))


def installed(package: Package, *licences: str, maintainer: str = "A <a@example.org>") -> Installed:
    return Installed(package, Package("source", "1", "source"), maintainer, licences)


BASH = Package("bash", "5.2.15-2+b1", "amd64")
SOME = [
    installed(BASH, "GPL-3+"),
    installed(Package("a", "1", "all"), "Expat", "GPL-2+ or Artistic"),
    installed(Package("b", "1", "all"), "Expat", "public-domain", "GPL-2+ or Artistic"),
    installed(Package("c", "1", "all"), "own"),
    installed(Package("d", "1", "all"), maintainer=""),
    installed(Package("e", "1", "all"), "Expat", "expat"),
    installed(Package("f", "1", "all"), "GPL-3 or Apache-2.0"),
]


def test_cyclonedx_reads_our_bill_of_materials() -> None:
    raw = sbom(SOME)
    assert JsonStrictValidator(SchemaVersion.V1_6).validate_str(raw.decode()) is None
    bom = Bom.from_json(json.loads(raw))  # type: ignore[attr-defined]
    assert (bom.metadata.component.name, bom.metadata.component.version) == (NAME, VERSION)
    components = {each.name: each for each in bom.components}
    assert components["debian"].version == "12"
    assert components["bash"].purl == PackageURL.from_string(
        "pkg:deb/debian/bash@5.2.15-2%2Bb1?arch=amd64&distro=bookworm"
    )
    said = {
        name: {getattr(each, "id", None) or getattr(each, "name", None) or each.value for each in component.licenses}
        for name, component in components.items()
    }
    assert said == {
        "debian": set(),
        "bash": {"GPL-3.0-or-later"},
        "a": {"(GPL-2.0-or-later OR Artistic-1.0) AND MIT"},
        "b": {"MIT", "public-domain", "GPL-2+ or Artistic"},
        "c": {"own"},
        "d": set(),
        "e": {"MIT"},
        "f": {"GPL-3.0-only OR Apache-2.0"},
    }


@pytest.mark.parametrize(
    "change",
    [
        {"components": [{"type": "library"}]},
        {"components": [{"type": "program", "name": "x"}]},
        {"components": [{"type": "library", "name": "x", "licenses": [{"license": {"id": "GPL-2+"}}]}]},
        {"serialNumber": "1"},
        {"more": 1},
        {"bomFormat": "SPDX"},
    ],
)
def test_the_same_schema_refuses_what_is_wrong(change: dict[str, Any]) -> None:
    wrong = {**json.loads(sbom(SOME)), **change}
    assert JsonStrictValidator(SchemaVersion.V1_6).validate_str(json.dumps(wrong)) is not None


def test_equal_packages_give_equal_bytes() -> None:
    assert sbom(SOME) == sbom(list(reversed(SOME)))
    document = json.loads(sbom(SOME))
    assert document["metadata"]["timestamp"] == "2025-11-21T19:00:00+00:00"


def test_a_bill_of_two_thousand_packages_is_far_below_its_bound() -> None:
    raw = sbom([installed(package, "GPL-2+", "public-domain") for package in many(2000)])
    assert MAX_BYTES < len(raw) < MAX_SBOM / 16


def test_iris_are_those_of_the_grammar() -> None:
    """In a process of its own, because ours keeps the grammar from being prepared. It knows neither addresses in
    brackets nor characters above U+FFFF, which RFC 3987 does."""
    asked = [*IRIS, *NO_IRIS]
    command = [sys.executable, "-c", GRAMMAR]
    done = subprocess.run(command, input=json.dumps(asked), capture_output=True, text=True, check=True)
    valid = {iri for iri, yes in zip(asked, json.loads(done.stdout), strict=True) if yes}
    assert valid <= set(IRIS)
    assert set(IRIS) - valid <= {"http://[::1]:80/", "\U0001f600"}
