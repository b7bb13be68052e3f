from dataclasses import replace
from datetime import datetime, timedelta, timezone
from typing import Any

import pytest
from hypothesis import assume, given
from hypothesis import strategies as st

from signing.errors import ManifestInvalid, ProvenanceInvalid, SigningError
from signing.manifest import ReleaseManifest, Version
from signing.properties import KEY, MAX_PROPERTIES, is_attribute, is_reserved
from signing.provenance import Provenance
from tests.unit.signing.builders import DELETE, NOW, STEM, VERSION, changed, make_provenance

QCOW2 = ("predicate", "formats", "qcow2")
RAW_FILE = ("predicate", "formats", "raw", "file")
SUBJECT = ("subject", 0)
BAD: dict[str, tuple[tuple[str | int, ...], object, str]] = {
    "statement type": (("_type",), "https://in-toto.io/Statement/v0.1", "'_type' is not"),
    "predicate type": (("predicateType",), "https://slsa.dev/provenance/v1", "'predicateType' is not"),
    "predicate missing": (("predicate",), DELETE, "lacks the field 'predicate'"),
    "predicate a list": (("predicate",), [], "is not an object"),
    "statement unknown": (("extra",), 1, "unknown field 'extra'"),
    "predicate unknown": (("predicate", "extra"), 1, "unknown field 'extra'"),
    "no subject": (("subject",), [], "no subject"),
    "subject twice": ((*SUBJECT, "name"), f"{STEM}.raw", "names a subject twice"),
    "subject path": ((*SUBJECT, "name"), "../x", "'name' is not acceptable"),
    "subject hidden": ((*SUBJECT, "name"), ".x", "'name' is not acceptable"),
    "subject another": ((*SUBJECT, "name"), "other.iso", "no digest of its iso file"),
    "subject newline": ((*SUBJECT, "name"), f"{STEM}.iso\n", "'name' is not acceptable"),
    "subject no sha512": ((*SUBJECT, "digest", "sha512"), DELETE, "lacks the field 'sha512'"),
    "subject sha256 upper": ((*SUBJECT, "digest", "sha256"), "AB" * 32, "'sha256' is not acceptable"),
    "subject sha256 short": ((*SUBJECT, "digest", "sha256"), "ab" * 31, "'sha256' is not acceptable"),
    "subject md5": ((*SUBJECT, "digest", "md5"), "ab" * 16, "unknown field 'md5'"),
    "name upper": (("predicate", "name"), "Debian", "'name' is not acceptable"),
    "name empty": (("predicate", "name"), "", "'name' is not acceptable"),
    "name hyphen": (("predicate", "name"), "debian-", "'name' is not acceptable"),
    "name long": (("predicate", "name"), "a" * 64, "'name' is not acceptable"),
    "name newline": (("predicate", "name"), "debian-12\n", "'name' is not acceptable"),
    "name other": (("predicate", "name"), "debian-13", "'file' is not 'debian-13-20251121.1.qcow2'"),
    "version number": (("predicate", "version"), 20251121.1, "'version' is not a string"),
    "version day": (("predicate", "version"), "20251301.1", "is not a version like 20251121.1"),
    "version other": (("predicate", "version"), "20251121.2", "'file' is not"),
    "os unknown": (("predicate", "os", "id"), "x", "unknown field 'id'"),
    "os control": (("predicate", "os", "version"), "12\x1b[0m", "'version' is not acceptable"),
    "arch": (("predicate", "arch"), "x86-64", "'arch' is not acceptable"),
    "no formats": (("predicate", "formats"), {}, "has no format"),
    "format unknown": (("predicate", "formats", "vmdk"), {}, "unknown field 'vmdk'"),
    "format gone": (QCOW2, DELETE, "subject 'debian-12-20251121.1.qcow2' is none of its formats"),
    "file other": (RAW_FILE, "x.raw", "'file' is not 'debian-12-20251121.1.raw'"),
    "file path": (RAW_FILE, f"/{STEM}.raw", "'file' is not"),
    "size true": ((*QCOW2, "size"), True, "'size' is not an integer"),
    "size text": ((*QCOW2, "size"), "5", "'size' is not an integer"),
    "size float": ((*QCOW2, "size"), 5.0, "'size' is not an integer"),
    "size zero": ((*QCOW2, "size"), 0, "'size' is not an integer from 1"),
    "size huge": ((*QCOW2, "size"), 2**63, "'size' is not an integer from 1"),
    "virtual size": ((*QCOW2, "virtual_size"), -1, "'virtual_size' is not an integer"),
    "glance missing": ((*QCOW2, "glance"), DELETE, "lacks the field 'glance'"),
    "glance null": ((*QCOW2, "glance"), None, "is not an object"),
    "glance fingerprint": ((*QCOW2, "glance", "certificate_sha256"), "x", "'certificate_sha256' is not acceptable"),
    "glance signature long": ((*QCOW2, "glance", "img_signature"), "A" * 256, "'img_signature' is not acceptable"),
    "files path": (("predicate", "files", "a/b"), "ab" * 32, "not a plain file name"),
    "files format": (("predicate", "files", f"{STEM}.raw"), "ab" * 32, "among its other files"),
    "files itself": (("predicate", "files", "release.sigstore.json"), "ab" * 32, "among its other files"),
    "files sums": (("predicate", "files", "SHA256SUMS"), "ab" * 32, "among its other files"),
    "files digest": (("predicate", "files", "provenance.sigstore.json"), "ab", "is not acceptable"),
    "files no provenance": (("predicate", "files", "provenance.sigstore.json"), DELETE, "does not name provenance"),
    "evidence object": (("predicate", "evidence"), {}, "'evidence' is not an array"),
    "evidence entry": (("predicate", "evidence", 0), "passed", "evidence is not an object"),
    "evidence outcome": (("predicate", "evidence", 0, "outcome"), "Passed!", "'outcome' is not acceptable"),
    "evidence about": (("predicate", "evidence", 0, "about"), "the image", "'about' is not acceptable"),
    "no properties": (("predicate", "properties"), DELETE, "lacks the field 'properties'"),
    "properties a list": (("predicate", "properties"), [], "'properties' is not an object"),
    "properties many": (("predicate", "properties"), {f"p{n}": "" for n in range(101)}, "more than 100 properties"),
    "property key": (("predicate", "properties", "a b"), "x", "a key that is none"),
    "property key long": (("predicate", "properties", "a" * 256), "x", "a key that is none"),
    "property key digit": (("predicate", "properties", "1a"), "x", "a key that is none"),
    "property reserved": (("predicate", "properties", "os_glance_x"), "x", "'os_glance_x' is no property"),
    "property signature": (("predicate", "properties", "img_signature"), "x", "'img_signature' is no property"),
    "property ours": (("predicate", "properties", "imagefactory_release"), "x", "is no property of a release"),
    "property hash": (("predicate", "properties", "OS_HASH_value"), "x", "'OS_HASH_value' is no property"),
    "property attribute": (("predicate", "properties", "visibility"), "public", "'visibility' is no property"),
    "property deleted": (("predicate", "properties", "deleted_at"), "x", "'deleted_at' is no property"),
    "property number": (("predicate", "properties", "hw_x"), 3, "'hw_x' is no text"),
    "property true": (("predicate", "properties", "hw_x"), True, "'hw_x' is no text"),
    "property null": (("predicate", "properties", "hw_x"), None, "'hw_x' is no text"),
    "property long": (("predicate", "properties", "hw_x"), "x" * 4097, "'hw_x' is no text"),
    "property lines": (("predicate", "properties", "hw_x"), "a\nb", "'hw_x' is no text"),
    "property escape": (("predicate", "properties", "hw_x"), "a\x9bb", "'hw_x' is no text"),
    "min_ram text": (("predicate", "properties", "min_ram"), "512 MiB", "'min_ram' is not a whole number"),
    "min_ram zero": (("predicate", "properties", "min_ram"), "0512", "'min_ram' is not a whole number"),
    "min_ram digits": (("predicate", "properties", "min_ram"), "\u0665", "'min_ram' is not a whole number"),
    "min_disk negative": (("predicate", "properties", "min_disk"), "-1", "'min_disk' is not a whole number"),
    "min_disk huge": (("predicate", "properties", "min_disk"), "4294967296", "'min_disk' is not a whole number"),
    "created offset": (("predicate", "created"), "2025-11-21T19:00:00+00:00", "not a time like"),
    "created fraction": (("predicate", "created"), "2025-11-21T19:00:00.5Z", "not a time like"),
    "created leap": (("predicate", "created"), "2025-02-30T19:00:00Z", "'created' is not acceptable"),
    "created number": (("predicate", "created"), 1763751600, "'created' is not a string"),
    "expires missing": (("predicate", "expires"), DELETE, "lacks the field 'expires'"),
    "expires false": (("predicate", "expires"), False, "'expires' is not a string"),
    "expires early": (("predicate", "expires"), "2025-11-21T19:00:00Z", "expires before it was created"),
    "development text": (("predicate", "development"), "false", "'development' is not true or false"),
    "development zero": (("predicate", "development"), 0, "'development' is not true or false"),
}


@pytest.mark.parametrize(("path", "value", "text"), BAD.values(), ids=BAD.keys())
def test_bad_manifests(manifest: ReleaseManifest, path: tuple[str | int, ...], value: object, text: str) -> None:
    with pytest.raises(ManifestInvalid, match=text) as caught:
        ReleaseManifest.from_statement(changed(manifest.to_statement(), path, value))
    assert caught.value.code == "manifest-invalid"


def paths(value: object, prefix: tuple[str | int, ...] = ()) -> list[tuple[str | int, ...]]:
    inner = value.items() if isinstance(value, dict) else enumerate(value) if isinstance(value, list) else ()
    return [prefix, *(path for key, each in inner for path in paths(each, (*prefix, key)))]


@given(st.data())
def test_junk_anywhere_is_refused_or_kept(manifest: ReleaseManifest, data: st.DataObject) -> None:
    """Any value put at any place: either refused, or read so that writing gives the same statement again."""
    statement = manifest.to_statement()
    junk = st.none() | st.booleans() | st.integers() | st.text(max_size=5) | st.just([]) | st.just({}) | st.just(DELETE)
    other = changed(statement, data.draw(st.sampled_from(paths(statement)[1:])), data.draw(junk))
    try:
        found = ReleaseManifest.from_statement(other)
    except ManifestInvalid:
        return
    assert found.to_statement() == other


@pytest.mark.parametrize("expires", [None, NOW + timedelta(seconds=1)])
def test_round_trip(manifest: ReleaseManifest, expires: datetime | None) -> None:
    one = replace(manifest, expires=expires, evidence=())
    assert ReleaseManifest.from_statement(one.to_statement()) == one


@given(
    st.dictionaries(
        st.from_regex(KEY, fullmatch=True).filter(lambda key: not is_reserved(key) and not is_attribute(key)),
        st.text(st.characters(exclude_categories=["Cc", "Cs"]), max_size=100),
        max_size=MAX_PROPERTIES,
    )
)
def test_properties_come_back_as_they_were(manifest: ReleaseManifest, properties: dict[str, str]) -> None:
    one = replace(manifest, properties={**properties, "min_ram": "0", "min_disk": "1"})
    assume(len(one.properties) <= MAX_PROPERTIES)
    assert ReleaseManifest.from_statement(one.to_statement()) == one


def test_times_are_written_in_utc(manifest: ReleaseManifest) -> None:
    elsewhere = replace(manifest, created=NOW.astimezone(timezone(timedelta(hours=2))))
    assert elsewhere.to_statement()["predicate"]["created"] == "2025-11-21T19:00:00Z"


@pytest.mark.parametrize(
    ("changes", "text"),
    [
        ({"created": NOW.replace(tzinfo=None)}, "a time without a time zone"),
        ({"name": "Debian"}, "'name' is not acceptable"),
        ({"version": Version(20259999, 1)}, "is not a version"),
        ({"version": Version(20251121, 0)}, "is not a version"),
        ({"formats": {}}, "no subject"),
        ({"files": {}}, "does not name provenance"),
        ({"properties": {"owner": "me"}}, "'owner' is no property"),
        ({"properties": {"min_ram": 512}}, "'min_ram' is no text"),
    ],
)
def test_bad_manifests_are_not_written(manifest: ReleaseManifest, changes: dict[str, Any], text: str) -> None:
    with pytest.raises(ManifestInvalid, match=text):
        replace(manifest, **changes).to_statement()


def test_versions_compare_as_integers() -> None:
    texts = ["20241231.9", "20251121.1", "20251121.2", "20251121.10", "20260101.1"]
    assert sorted(map(Version.parse, reversed(texts))) == [Version.parse(each) for each in texts]
    assert [str(Version.parse(each)) for each in texts] == texts
    assert str(VERSION) == "20251121.1"


@pytest.mark.parametrize(
    "text",
    [
        "",
        "20251121",
        "20251121.0",
        "20251121.01",
        "2025112.1",
        "20251121.1 ",
        "20251121.1\n",
        "20250230.1",
        "\u0662\u0660\u0662\u06651121.1",
    ],
)
def test_bad_versions(text: str) -> None:
    with pytest.raises(ManifestInvalid, match=r"is not a version like 20251121\.1"):
        Version.parse(text)


BAD_PROVENANCE: dict[str, tuple[tuple[str | int, ...], object, str]] = {
    "build type": (("predicate", "buildDefinition", "buildType"), "https://x", "'buildType' is not"),
    "parameters": (("predicate", "buildDefinition", "externalParameters"), [], "'externalParameters' is not an object"),
    "internal": (("predicate", "buildDefinition", "internalParameters"), DELETE, "lacks the field"),
    "dependencies": (("predicate", "buildDefinition", "resolvedDependencies"), ["x"], "that is not an object"),
    "unknown": (("predicate", "extra"), 1, "unknown field 'extra'"),
    "builder": (("predicate", "runDetails", "builder", "id"), "", "'id' is not acceptable"),
    "builder version": (("predicate", "runDetails", "builder", "version"), {}, "unknown field 'version'"),
    "invocation": (("predicate", "runDetails", "metadata", "invocationId"), 1, "'invocationId' is not acceptable"),
    "order": (("predicate", "runDetails", "metadata", "startedOn"), "2026-01-01T00:00:00Z", "finished before"),
    "byproducts": (("predicate", "runDetails", "byproducts"), None, "'byproducts' is not an array"),
    "release": (("predicateType",), "urn:imagefactory:release:v1", "'predicateType' is not"),
}


@pytest.mark.parametrize(("path", "value", "text"), BAD_PROVENANCE.values(), ids=BAD_PROVENANCE.keys())
def test_bad_provenance(manifest: ReleaseManifest, path: tuple[str | int, ...], value: object, text: str) -> None:
    statement = make_provenance(manifest.subjects).to_statement()
    with pytest.raises(ProvenanceInvalid, match=text) as caught:
        Provenance.from_statement(changed(statement, path, value))
    assert caught.value.code == "provenance-invalid"


def test_provenance_round_trip(manifest: ReleaseManifest) -> None:
    provenance = make_provenance(manifest.subjects)
    assert Provenance.from_statement(provenance.to_statement()) == provenance
    with pytest.raises(SigningError, match="a time without a time zone"):
        replace(provenance, started=NOW.replace(tzinfo=None)).to_statement()
