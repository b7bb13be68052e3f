import json
import os
from collections.abc import Callable
from dataclasses import replace
from datetime import timedelta
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from signing.account import Account
from signing.checksums import build_checksums, sign_checksums, verify_checksums
from signing.digest import open_regular
from signing.envelope import MEDIA_TYPE, seal
from signing.errors import DigestMismatch, KeyName, ReleaseNotYet, SigningError, WrongPurpose
from signing.keys import Purpose
from signing.manifest import MANIFEST_FILE, PROVENANCE_FILE, ReleaseManifest, Version
from signing.statement import Subject
from signing.strict_json import encode
from signing.trust import Trust
from signing.verify import (
    FILE_RULES,
    FOLDER_RULES,
    MANIFEST_RULES,
    RULES,
    Verified,
    VerifiedManifest,
    verify_file,
    verify_folder,
    verify_manifest,
)
from tests.unit.signing.builders import (
    IMAGES,
    NAME,
    NOW,
    SBOM_FILE,
    STEM,
    VERSION,
    Keys,
    make_entry,
    make_provenance,
    sha256,
    with_glance,
    write_checksums,
    write_manifest,
)

RAW = f"{STEM}.raw"
SUMS = build_checksums({f"{STEM}.raw": "ab" * 32, f"{STEM}.iso": "cd" * 32})


@pytest.fixture(scope="module")
def verified(keys: Keys, bundle: bytes) -> VerifiedManifest:
    return verify_manifest(bundle, keys.trust, now=NOW, name=NAME)


@pytest.fixture(scope="module")
def signature(keys: Keys) -> bytes:
    return sign_checksums(SUMS, keys.signer("release"))


def verify_bytes(tmp_path: Path, content: bytes, manifest: VerifiedManifest) -> Verified:
    (tmp_path / "image").write_bytes(content)
    fd = open_regular(tmp_path / "image")
    try:
        return verify_file(fd, manifest)
    finally:
        os.close(fd)


def test_good_manifest(keys: Keys, bundle: bytes, manifest: ReleaseManifest) -> None:
    found = verify_manifest(bundle, keys.trust, now=NOW)
    keyid = keys.signer("release").keyid
    assert (found.manifest, found.keyid, found.sha256) == (manifest, keyid, sha256(bundle))
    assert (found.development, found.name_pinned) == (True, False)
    assert found.facts == (
        f"signed by release key {keyid[:16]}",
        "development keys: good for trying things out, not for production",
        "name not pinned",
        "created 2025-11-21T19:00:00Z",
        "expires 2026-05-20T19:00:00Z",
        f"evidence boot-test: passed, about {STEM}.qcow2",
    )


def test_pinned(keys: Keys, bundle: bytes) -> None:
    found = verify_manifest(bundle, keys.trust, now=NOW, name=NAME, min_version=VERSION)
    assert found.name_pinned
    assert f"name pinned to {NAME}" in found.facts


def test_never_expires(keys: Keys, manifest: ReleaseManifest) -> None:
    raw = seal(replace(manifest, expires=None).to_statement(), keys.signer("release"))
    assert "never expires" in verify_manifest(raw, keys.trust, now=NOW + timedelta(days=900)).facts


@pytest.mark.parametrize(("trust", "release"), [(True, True), (True, False), (False, True), (False, False)])
def test_development_is_either(keys: Keys, manifest: ReleaseManifest, trust: bool, release: bool) -> None:
    raw = seal(replace(manifest, development=release).to_statement(), keys.signer("release"))
    found = verify_manifest(raw, replace(keys.trust, development=trust), now=NOW)
    assert found.development is (trust or release)
    assert any("development" in fact for fact in found.facts) is (trust or release)


def test_name(keys: Keys, bundle: bytes) -> None:
    with pytest.raises(SigningError, match="of 'debian-12', not of 'debian-13'") as caught:
        verify_manifest(bundle, keys.trust, now=NOW, name="debian-13")
    assert caught.value.code == "name-mismatch"


@pytest.mark.parametrize("oldest", ["20251121.2", "20251121.10", "20251122.1"])
def test_version(keys: Keys, bundle: bytes, oldest: str) -> None:
    with pytest.raises(SigningError, match=r"version 20251121\.1, older than") as caught:
        verify_manifest(bundle, keys.trust, now=NOW, min_version=Version.parse(oldest))
    assert caught.value.code == "version-too-old"


def test_expiry(keys: Keys, bundle: bytes) -> None:
    verify_manifest(bundle, keys.trust, now=NOW + timedelta(days=180, seconds=-1))
    with pytest.raises(SigningError, match=r"debian-12@20251121\.1 expired on 2026-05-20T19:00:00Z") as caught:
        verify_manifest(bundle, keys.trust, now=NOW + timedelta(days=180))
    assert caught.value.code == "release-expired"


@pytest.mark.parametrize("early", [timedelta(0), timedelta(minutes=5)])
def test_a_clock_that_is_a_little_behind(keys: Keys, bundle: bytes, early: timedelta) -> None:
    verify_manifest(bundle, keys.trust, now=NOW - early)


@pytest.mark.parametrize("early", [timedelta(minutes=5, seconds=1), timedelta(days=900)])
def test_not_yet(keys: Keys, bundle: bytes, early: timedelta) -> None:
    """The makers' clock was ahead, or ours was turned back, so that what has expired would be good again."""
    with pytest.raises(ReleaseNotYet, match=r"created on 2025-11-21T19:00:00Z, and now is") as caught:
        verify_manifest(bundle, keys.trust, now=NOW - early)
    assert caught.value.code == "release-not-yet"


def test_wrong_purpose(keys: Keys, bundle: bytes, manifest: ReleaseManifest) -> None:
    """A manifest by the builder's key, whatever its signature, is not only unknown but wrong."""
    document = json.loads(bundle)
    provenance = keys.signer("provenance").keyid
    document["verificationMaterial"]["publicKey"]["hint"] = provenance
    document["dsseEnvelope"]["signatures"][0]["keyid"] = provenance
    genuine = seal(make_provenance(manifest.subjects).to_statement(), keys.signer("provenance"))
    for raw in (encode(document), genuine):
        with pytest.raises(WrongPurpose, match="by a provenance key where only a release key may sign") as caught:
            verify_manifest(raw, keys.trust, now=NOW)
        assert caught.value.code == "wrong-purpose"


def test_a_release_key_makes_no_release_of_a_provenance(keys: Keys, manifest: ReleaseManifest) -> None:
    """Signed past our own signer's rules by the right key, a statement of another type is still refused."""
    signer = keys.signer("release")
    signer._purpose = "provenance"
    raw = seal(make_provenance(manifest.subjects).to_statement(), signer)
    with pytest.raises(SigningError) as caught:
        verify_manifest(raw, keys.trust, now=NOW)
    assert caught.value.code == "manifest-invalid"


def limited(keys: Keys, purpose: Purpose, *names: str) -> Trust:
    return replace(keys.trust, names={**keys.trust.names, keys.signer(purpose).keyid: names})


@pytest.mark.parametrize("expected", [NAME, None])
def test_a_release_key_of_other_names(keys: Keys, bundle: bytes, expected: str | None) -> None:
    """It is believed for some images, and this is none of them, whatever is expected."""
    verify_manifest(bundle, limited(keys, "release", "debian-13", NAME), now=NOW, name=expected)
    with pytest.raises(KeyName, match=r"release key [0-9a-f]{16} may not sign for 'debian-12'") as caught:
        verify_manifest(bundle, limited(keys, "release", "debian-13", f"{NAME}-x"), now=NOW, name=expected)
    assert caught.value.code == "key-name"


def test_a_provenance_key_of_other_names(folder: Path, keys: Keys) -> None:
    verify_folder(folder, limited(keys, "provenance", NAME), now=NOW)
    with pytest.raises(KeyName, match="provenance key"):
        verify_folder(folder, limited(keys, "provenance", "debian-13"), now=NOW)


def test_checksums_by_a_release_key_of_other_names(folder: Path, keys: Keys, strangers: Keys) -> None:
    """Two keys may release, each its own images: neither signs the files of the other."""
    other = strangers.signer("release")
    (folder / "SHA256SUMS.sig").write_bytes(sign_checksums((folder / "SHA256SUMS").read_bytes(), other))
    both = replace(keys.trust, release={**keys.trust.release, **strangers.trust.release})
    verify_folder(folder, replace(both, names={**both.names, other.keyid: (NAME,)}), now=NOW)
    with pytest.raises(KeyName, match=f"release key {other.keyid[:16]} may not sign for"):
        verify_folder(folder, replace(both, names={**both.names, other.keyid: ("debian-13",)}), now=NOW)


def test_untrusted(strangers: Keys, bundle: bytes) -> None:
    with pytest.raises(SigningError) as caught:
        verify_manifest(bundle, strangers.trust, now=NOW)
    assert caught.value.code == "key-untrusted"


def test_glance_signature_of_another_image(keys: Keys, manifest: ReleaseManifest) -> None:
    other = manifest.formats["raw"].glance.img_signature
    raw = seal(with_glance(manifest, img_signature=other).to_statement(), keys.signer("release"))
    with pytest.raises(SigningError) as caught:
        verify_manifest(raw, keys.trust, now=NOW)
    assert caught.value.code == "glance-signature-invalid"


def test_glance_signature_of_a_stranger(keys: Keys, strangers: Keys, manifest: ReleaseManifest) -> None:
    entry = make_entry(strangers, "raw", IMAGES["raw"])
    other = replace(manifest, formats={**manifest.formats, "raw": entry})
    with pytest.raises(SigningError) as caught:
        verify_manifest(seal(other.to_statement(), keys.signer("release")), keys.trust, now=NOW)
    assert caught.value.code == "certificate-untrusted"


@pytest.mark.parametrize("kind", IMAGES)
def test_files(tmp_path: Path, verified: VerifiedManifest, kind: str) -> None:
    found = verify_bytes(tmp_path, IMAGES[kind], verified)
    assert (found.format, found.file, found.digests.size) == (kind, f"{STEM}.{kind}", len(IMAGES[kind]))
    assert (found.digests.sha256, found.digests.sha512) == (sha256(IMAGES[kind]), None)
    assert found.manifest == verified
    assert found.facts[0] == f"is the {kind} file of debian-12@20251121.1"


@pytest.mark.parametrize(
    ("content", "text"),
    [
        (b"", "has a size of 0 bytes"),
        (IMAGES["raw"] + b"\0", "has a size of 70001 bytes"),
        (IMAGES["raw"][:-1] + b"\1", "its digest differs"),
    ],
)
def test_other_files(tmp_path: Path, verified: VerifiedManifest, content: bytes, text: str) -> None:
    with pytest.raises(DigestMismatch, match=text) as caught:
        verify_bytes(tmp_path, content, verified)
    assert caught.value.code == "digest-mismatch"


def test_what_is_used_is_what_was_verified(tmp_path: Path, verified: VerifiedManifest) -> None:
    """The name may point elsewhere by the end: the open file counts."""
    path = tmp_path / "image"
    path.write_bytes(IMAGES["raw"])
    fd = open_regular(path)
    (tmp_path / "evil").write_bytes(b"evil")
    (tmp_path / "evil").replace(path)
    assert verify_file(fd, verified).format == "raw"
    with os.fdopen(fd, "rb") as stream:
        assert stream.read() == IMAGES["raw"]


def test_good_folder(folder: Path, keys: Keys) -> None:
    read: list[int] = []
    found = verify_folder(folder, keys.trust, now=NOW, name=NAME, on_bytes=read.append)
    assert set(found.files) == {each.name for each in folder.iterdir()} - {"SHA256SUMS", "SHA256SUMS.sig"}
    assert found.provenance_keyid == keys.signer("provenance").keyid
    assert found.provenance.subjects == found.manifest.manifest.subjects
    assert sum(read) == sum(map(len, IMAGES.values())) + (folder / SBOM_FILE).stat().st_size
    fd = os.open(folder, os.O_RDONLY)
    try:
        assert verify_folder(fd, keys.trust, now=NOW).files == found.files
    finally:
        os.close(fd)


def replace_by_link(path: Path) -> None:
    path.rename(path.parent.parent / "outside")
    path.symlink_to(path.parent.parent / "outside")


def replace_by_fifo(path: Path) -> None:
    path.unlink()
    os.mkfifo(path)


def flip(path: Path) -> None:
    content = bytearray(path.read_bytes())
    content[len(content) // 2] ^= 1
    path.write_bytes(content)


def other_digest(path: Path) -> None:
    lines = path.read_text().splitlines(keepends=True)
    path.write_text(lines[0] + "00" * 32 + lines[1][64:] + "".join(lines[2:]))


def manifest_as_provenance(folder: Path) -> None:
    (folder / PROVENANCE_FILE).write_bytes((folder / MANIFEST_FILE).read_bytes())


# What is done to the folder, whether a release key then signs its checksums, and how that is refused.
BAD_FOLDERS: dict[str, tuple[Callable[[Path], None], bool, str, str]] = {
    "no manifest": (lambda f: (f / MANIFEST_FILE).unlink(), False, "folder-mismatch", "has no release.sigstore"),
    "no sums": (lambda f: (f / "SHA256SUMS").unlink(), False, "folder-mismatch", "the folder has no SHA256SUMS$"),
    "no signature": (lambda f: (f / "SHA256SUMS.sig").unlink(), False, "folder-mismatch", "has no SHA256SUMS.sig"),
    "no provenance": (lambda f: (f / PROVENANCE_FILE).unlink(), False, "folder-mismatch", "has no provenance"),
    "no image": (lambda f: (f / RAW).unlink(), False, "folder-mismatch", "the folder has no 'debian-12-"),
    "no image, signed": (lambda f: (f / RAW).unlink(), True, "folder-mismatch", "SHA256SUMS has no 'debian-12-"),
    "extra file": (lambda f: (f / "x").touch(), False, "folder-mismatch", "the folder has 'x', which was not signed"),
    "extra file, signed": (lambda f: (f / "x").touch(), True, "folder-mismatch", "SHA256SUMS has 'x'"),
    "extra directory": (lambda f: (f / "x").mkdir(), False, "folder-mismatch", "the folder has 'x'"),
    "hidden file": (lambda f: (f / ".x").touch(), False, "folder-mismatch", "the folder has '.x'"),
    "image altered": (lambda f: flip(f / RAW), False, "digest-mismatch", "that SHA256SUMS names"),
    "image altered, signed": (lambda f: flip(f / RAW), True, "digest-mismatch", "that the manifest names"),
    "SBOM altered, signed": (lambda f: flip(f / SBOM_FILE), True, "digest-mismatch", "that the manifest names"),
    "link": (lambda f: replace_by_link(f / RAW), False, "not-a-regular-file", "a symbolic link"),
    "link of the manifest": (
        lambda f: replace_by_link(f / MANIFEST_FILE),
        False,
        "not-a-regular-file",
        "a symbolic link",
    ),
    "pipe": (lambda f: replace_by_fifo(f / RAW), False, "not-a-regular-file", "a pipe"),
    "signature altered": (lambda f: flip(f / "SHA256SUMS.sig"), False, "signature-invalid", "no trusted release key"),
    "sums altered": (lambda f: other_digest(f / "SHA256SUMS"), False, "signature-invalid", "no trusted release key"),
    "manifest for a provenance": (manifest_as_provenance, True, "wrong-purpose", "where only a provenance key"),
}


@pytest.mark.parametrize(("spoil", "signed", "code", "text"), BAD_FOLDERS.values(), ids=BAD_FOLDERS.keys())
def test_bad_folders(
    folder: Path, keys: Keys, spoil: Callable[[Path], None], signed: bool, code: str, text: str
) -> None:
    spoil(folder)
    if signed:
        write_checksums(folder, keys)
    with pytest.raises(SigningError, match=text) as caught:
        verify_folder(folder, keys.trust, now=NOW, name=NAME)
    assert caught.value.code == code


@pytest.mark.parametrize(
    ("name", "size", "code"),
    [(RAW, 2**43, "digest-mismatch"), (SBOM_FILE, 2**43, "unreadable"), (SBOM_FILE, 2**26 + 1, "unreadable")],
)
def test_sparse_files_are_not_read(folder: Path, keys: Keys, name: str, size: int, code: str) -> None:
    """Terabytes that take no space would take hours to read."""
    os.truncate(folder / name, size)
    read: list[int] = []
    with pytest.raises(SigningError) as caught:
        verify_folder(folder, keys.trust, now=NOW, on_bytes=read.append)
    assert caught.value.code == code
    assert sum(read) < 2**20


def test_a_folder_of_countless_files(folder: Path, keys: Keys) -> None:
    for number in range(10_001):
        (folder / f"x{number}").touch()
    with pytest.raises(SigningError, match="more than 10000 entries") as caught:
        verify_folder(folder, keys.trust, now=NOW)
    assert caught.value.code == "folder-mismatch"


def reported(account: Account) -> dict[int, str]:
    return {each.number: each.state for each in account.outcomes}


def test_the_account_of_a_folder(folder: Path, keys: Keys) -> None:
    account = Account(RULES, (2, *MANIFEST_RULES, *FOLDER_RULES))
    verify_folder(folder, keys.trust, now=NOW, name=NAME, min_version=VERSION, account=account)
    assert reported(account) == dict.fromkeys((2, *MANIFEST_RULES, *FOLDER_RULES), "passed")


def test_the_account_of_a_file(tmp_path: Path, keys: Keys, bundle: bytes) -> None:
    account = Account(RULES, (*MANIFEST_RULES, *FILE_RULES))
    verified = verify_manifest(bundle, keys.trust, now=NOW, account=account)
    (tmp_path / "image").write_bytes(IMAGES["raw"])
    with (tmp_path / "image").open("rb") as stream:
        verify_file(stream.fileno(), verified, account=account)
    unpinned = dict.fromkeys((7, 8), "does not apply")
    assert reported(account) == {**dict.fromkeys((*MANIFEST_RULES, *FILE_RULES), "passed"), **unpinned}


# How a folder is refused, and by which rule.
BY_RULE: dict[str, tuple[Callable[[Path], object], bool, int]] = {
    "no manifest": (lambda f: (f / MANIFEST_FILE).unlink(), False, 3),
    "reformatted": (lambda f: (f / MANIFEST_FILE).write_bytes(b" " + (f / MANIFEST_FILE).read_bytes()), False, 3),
    "signature": (lambda f: flip(f / "SHA256SUMS.sig"), False, 14),
    "extra file": (lambda f: (f / "x").touch(), False, 15),
    "no provenance": (manifest_as_provenance, True, 16),
    "SBOM": (lambda f: flip(f / SBOM_FILE), True, 18),
    "image": (lambda f: flip(f / RAW), False, 18),
}


@pytest.mark.parametrize(("spoil", "signed", "number"), BY_RULE.values(), ids=BY_RULE.keys())
def test_the_rule_that_refuses(
    folder: Path, keys: Keys, spoil: Callable[[Path], object], signed: bool, number: int
) -> None:
    spoil(folder)
    if signed:
        write_checksums(folder, keys)
    account = Account(RULES, (2, *MANIFEST_RULES, *FOLDER_RULES))
    with pytest.raises(SigningError) as caught:
        verify_folder(folder, keys.trust, now=NOW, name=NAME, min_version=VERSION, account=account)
    account.ended(caught.value)
    found = reported(account)
    assert found[number] == "refused"
    assert {state for rule, state in found.items() if rule < number} == {"passed"}
    assert {state for rule, state in found.items() if rule > number} <= {"not reached"}


def test_folder_of_another_name(folder: Path, keys: Keys) -> None:
    with pytest.raises(SigningError) as caught:
        verify_folder(folder, keys.trust, now=NOW, name="another")
    assert caught.value.code == "name-mismatch"


def test_provenance_of_another_build(folder: Path, keys: Keys) -> None:
    """Genuine, and put in by somebody who may sign SHA256SUMS."""
    statement = make_provenance((Subject(RAW, "ab" * 32, "cd" * 64),)).to_statement()
    (folder / PROVENANCE_FILE).write_bytes(seal(statement, keys.signer("provenance")))
    write_checksums(folder, keys)
    with pytest.raises(SigningError, match="about other files") as caught:
        verify_folder(folder, keys.trust, now=NOW)
    assert caught.value.code == "provenance-mismatch"


def test_a_genuine_provenance_that_the_manifest_does_not_name(folder: Path, keys: Keys) -> None:
    raw = (folder / PROVENANCE_FILE).read_bytes()
    manifest = verify_folder(folder, keys.trust, now=NOW).manifest.manifest
    again = seal(make_provenance(manifest.subjects).to_statement(), keys.signer("provenance"))
    assert again != raw
    (folder / PROVENANCE_FILE).write_bytes(again)
    write_checksums(folder, keys)
    with pytest.raises(DigestMismatch, match=r"'provenance\.sigstore\.json' is not the file that the manifest names"):
        verify_folder(folder, keys.trust, now=NOW)
    files = {**manifest.files, PROVENANCE_FILE: sha256(again)}
    write_manifest(folder, keys, replace(manifest, files=files))
    verify_folder(folder, keys.trust, now=NOW)


@pytest.mark.parametrize("where", ["absent", "file"])
def test_no_folder(tmp_path: Path, keys: Keys, where: str) -> None:
    (tmp_path / "file").touch()
    with pytest.raises(SigningError, match="cannot be opened as a directory") as caught:
        verify_folder(tmp_path / where, keys.trust, now=NOW)
    assert caught.value.code == "unreadable"


def mutated(raw: bytes, data: st.DataObject) -> bytes:
    """One byte altered, removed, added or the rest cut off."""
    place = data.draw(st.integers(0, len(raw) - 1), "place")
    byte = data.draw(st.integers(0, 255).filter(lambda value: value != raw[place]), "byte")
    head, tail = raw[:place], raw[place + 1 :]
    results = (head + bytes((byte,)) + tail, head + tail, head + bytes((byte,)) + raw[place:], head)
    return data.draw(st.sampled_from(results), "result")


many = settings(max_examples=150, deadline=None)


@many
@given(st.data())
def test_any_other_manifest_is_refused(keys: Keys, bundle: bytes, data: st.DataObject) -> None:
    with pytest.raises(SigningError):
        verify_manifest(mutated(bundle, data), keys.trust, now=NOW)


@many
@given(st.data())
def test_any_other_sums_are_refused(keys: Keys, signature: bytes, data: st.DataObject) -> None:
    with pytest.raises(SigningError):
        verify_checksums(mutated(SUMS, data), signature, keys.trust.release)


@many
@given(st.data())
def test_any_other_signature_is_refused(keys: Keys, signature: bytes, data: st.DataObject) -> None:
    with pytest.raises(SigningError):
        verify_checksums(SUMS, mutated(signature, data), keys.trust.release)


@many
@given(st.binary(max_size=300) | st.builds(lambda rest: f'{{"mediaType":"{MEDIA_TYPE}"{rest}'.encode(), st.text()))
def test_any_bytes_are_refused_in_our_own_words(keys: Keys, raw: bytes) -> None:
    with pytest.raises(SigningError):
        verify_manifest(raw, keys.trust, now=NOW)
