"""Every rule of verification. A function here returns proof or raises; there is no third answer.

A manifest (`verify_manifest`):

1. It is a bundle of our one form (`signing.envelope`).
2. Its key is a release key of the trust file. A key that is trusted for something else is refused as such.
3. The signature verifies.
4. The statement is a release manifest, and every field of it is in range (`signing.manifest`).
5. The name is the expected one, where one was given. Where none was, the proof says so: it then says only that this
   is *a* release of these makers.
6. The version is not older than the oldest acceptable one, where one was given.
7. The release has not expired.
8. Each format's Glance signature is good for the manifest's SHA-512 of that format, under a CA of the trust file
   (`signing.glance`).

A file (`verify_file`), against a verified manifest:

9. It is a regular file whose size is that of one of the formats.
10. Its SHA-256 is that format's. What is hashed is the open file that the caller goes on to use, never a name.

A folder of a published version (`verify_folder`):

11. Its manifest passes rules 1 to 8.
12. SHA256SUMS is signed by a release key (`signing.checksums`).
13. The manifest and SHA256SUMS name the same files: the formats, the manifest's other files, and in SHA256SUMS the
    manifest itself. The folder holds exactly these, SHA256SUMS and its signature.
14. The provenance is signed by a provenance key, and its subjects are those of the manifest.
15. Every file is regular and has the digest that SHA256SUMS gives it; formats have size and SHA-256 of the manifest
    (which binds the SHA-512 too), other files the SHA-256 of the manifest. Each is read once; a document is parsed from
    the very bytes that were hashed.

Whether anything was signed with development keys is part of every proof.
"""

import hashlib
import os
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path
from typing import Any

from signing.checksums import CHECKSUMS_FILE, SIGNATURE_FILE, verify_checksums
from signing.digest import Digests, FileState, OnBytes, hash_stream, open_regular, read_document
from signing.envelope import parse_bundle
from signing.errors import (
    DigestMismatch,
    FolderMismatch,
    NameMismatch,
    ProvenanceMismatch,
    ReleaseExpired,
    Unreadable,
    VersionTooOld,
    WrongPurpose,
)
from signing.fields import format_time
from signing.glance import verify_image_signature
from signing.manifest import MANIFEST_FILE, PROVENANCE_FILE, FormatEntry, ReleaseManifest, Version
from signing.provenance import Provenance
from signing.trust import DocumentPurpose, Trust


@dataclass(frozen=True)
class VerifiedManifest:
    """Proof that `manifest` is what the holder of release key `keyid` signed.

    `sha256` is that of the bundle file; `facts` are sentences for people.
    """

    manifest: ReleaseManifest
    keyid: str
    sha256: str
    development: bool
    name_pinned: bool
    facts: tuple[str, ...]


@dataclass(frozen=True)
class Verified:
    """Proof that one open file is the `format` of a verified release. Times are aware UTC."""

    format: str
    file: str
    digests: Digests
    name: str
    version: Version
    keyid: str
    created: datetime
    expires: datetime | None
    development: bool
    name_pinned: bool
    facts: tuple[str, ...]


@dataclass(frozen=True)
class VerifiedFolder:
    """Proof that a folder holds exactly one verified release. `files` has every file's digests by name."""

    manifest: VerifiedManifest
    provenance: Provenance
    provenance_keyid: str
    files: Mapping[str, Digests]


def verify_manifest(
    raw: bytes,
    trust: Trust,
    *,
    now: datetime,
    name: str | None = None,
    min_version: Version | None = None,
) -> VerifiedManifest:
    """Verify the bytes of a release.sigstore.json at the aware time `now` (rules 1 to 8).

    Raises: BundleInvalid, WrongPurpose, KeyUntrusted, SignatureInvalid, ManifestInvalid, NameMismatch, VersionTooOld,
    ReleaseExpired, and what `signing.glance.verify_image_signature` raises.
    """
    keyid, statement = _open_signed(raw, trust, "release")
    manifest = ReleaseManifest.from_statement(statement)
    if name is not None and manifest.name != name:
        raise NameMismatch(f"this is a release of {manifest.name!r}, not of {name!r}")
    if min_version is not None and manifest.version < min_version:
        raise VersionTooOld(f"this is version {manifest.version}, older than {min_version}")
    if manifest.expires is not None and now >= manifest.expires:
        raise ReleaseExpired(f"{manifest.name}@{manifest.version} expired on {format_time(manifest.expires)}")
    for entry in manifest.formats.values():
        verify_image_signature(entry.glance, bytes.fromhex(entry.sha512), trust.glance_ca, at=now)
    development = trust.development or manifest.development
    return VerifiedManifest(
        manifest=manifest,
        keyid=keyid,
        sha256=hashlib.sha256(raw).hexdigest(),
        development=development,
        name_pinned=name is not None,
        facts=_facts(manifest, keyid, development, name is not None),
    )


def verify_file(fd: int, manifest: VerifiedManifest, *, on_bytes: OnBytes | None = None) -> Verified:
    """Verify the open file `fd` (rules 9 and 10), reading it once; the file position stays where it is.

    Raises: DigestMismatch, NotARegularFile, FileChanged, Unreadable.
    """
    release = manifest.manifest
    size = FileState.of(fd).size
    # A file of another size is refused before gigabytes of it are read.
    if all(entry.size != size for entry in release.formats.values()):
        raise DigestMismatch(f"no file of {release.name}@{release.version} has a size of {size} bytes")
    digests = hash_stream(fd, algorithms=("sha256",), on_bytes=on_bytes)
    for kind, entry in release.formats.items():
        if (entry.sha256, entry.size) == (digests.sha256, digests.size):
            return Verified(
                format=kind,
                file=entry.file,
                digests=digests,
                name=release.name,
                version=release.version,
                keyid=manifest.keyid,
                created=release.created,
                expires=release.expires,
                development=manifest.development,
                name_pinned=manifest.name_pinned,
                facts=(f"is the {kind} file of {release.name}@{release.version}", *manifest.facts),
            )
    raise DigestMismatch(f"the file is not one of {release.name}@{release.version}: its digest differs")


def verify_folder(
    folder: Path | int,
    trust: Trust,
    *,
    now: datetime,
    name: str | None = None,
    min_version: Version | None = None,
    on_bytes: OnBytes | None = None,
) -> VerifiedFolder:
    """Verify a published version folder, by path or open directory (rules 11 to 15).

    Raises: what `verify_manifest` raises; ChecksumsInvalid, FolderMismatch, ProvenanceInvalid, ProvenanceMismatch,
    DigestMismatch, NotARegularFile, FileChanged, Unreadable.
    """
    with _open_directory(folder) as fd:
        documents = _read_documents(fd)
        verified = verify_manifest(documents[MANIFEST_FILE], trust, now=now, name=name, min_version=min_version)
        manifest = verified.manifest
        _, sums = verify_checksums(documents[CHECKSUMS_FILE], documents[SIGNATURE_FILE], trust.release)
        formats = {entry.file: entry for entry in manifest.formats.values()}
        _compare_names("SHA256SUMS", set(sums), {*formats, *manifest.files, MANIFEST_FILE})
        _compare_names("the folder", _list(fd), {*sums, CHECKSUMS_FILE, SIGNATURE_FILE})
        provenance_keyid, provenance = verify_provenance(documents[PROVENANCE_FILE], verified, trust)
        files: dict[str, Digests] = {}
        for each, expected in sums.items():
            found = _digests(fd, each, documents.get(each), on_bytes)
            if found.sha256 != expected:
                raise DigestMismatch(f"{each!r} is not the file that SHA256SUMS names")
            _compare_digests(each, found, formats.get(each), manifest.files)
            files[each] = found
    return VerifiedFolder(verified, provenance, provenance_keyid, files)


def verify_provenance(raw: bytes, manifest: VerifiedManifest, trust: Trust) -> tuple[str, Provenance]:
    """Verify the bytes of a provenance.sigstore.json against a verified manifest (rule 14, and that it is the very file
    that the manifest names); returns the builder's keyid and what it says.

    Raises: BundleInvalid, WrongPurpose, KeyUntrusted, SignatureInvalid, ProvenanceInvalid, ProvenanceMismatch,
    DigestMismatch.
    """
    keyid, statement = _open_signed(raw, trust, "provenance")
    provenance = Provenance.from_statement(statement)
    if provenance.subjects != manifest.manifest.subjects:
        raise ProvenanceMismatch("the provenance is about other files than the manifest")
    if hashlib.sha256(raw).hexdigest() != manifest.manifest.files[PROVENANCE_FILE]:
        raise DigestMismatch(f"{PROVENANCE_FILE!r} is not the file that the manifest names")
    return keyid, provenance


@contextmanager
def _open_directory(folder: Path | int) -> Iterator[int]:
    if isinstance(folder, int):
        yield folder
        return
    try:
        fd = os.open(folder, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    except OSError as why:
        raise Unreadable(f"{str(folder)!r} cannot be opened as a directory: {why.strerror}") from None
    try:
        yield fd
    finally:
        os.close(fd)


def _open_signed(raw: bytes, trust: Trust, purpose: DocumentPurpose) -> tuple[str, dict[str, Any]]:
    """Rules 1 to 3: return the keyid and the statement of a bundle that a key of `purpose` signed."""
    bundle = parse_bundle(raw)
    actual = trust.purpose_of(bundle.keyid)
    if actual is not None and actual != purpose:
        raise WrongPurpose(f"signed by a {actual} key where only a {purpose} key may sign")
    return bundle.keyid, bundle.open(trust.keys(purpose))


def _facts(manifest: ReleaseManifest, keyid: str, development: bool, name_pinned: bool) -> tuple[str, ...]:
    facts = [f"signed by release key {keyid[:16]}"]
    if development:
        facts.append("development keys: good for trying things out, not for production")
    facts.append(f"name pinned to {manifest.name}" if name_pinned else "name not pinned")
    if manifest.expires is None:
        facts.append("never expires")
    return tuple(facts)


def _read_documents(fd: int) -> dict[str, bytes]:
    present = _list(fd)
    needed = (MANIFEST_FILE, CHECKSUMS_FILE, SIGNATURE_FILE, PROVENANCE_FILE)
    for each in needed:
        if each not in present:
            raise FolderMismatch(f"the folder has no {each}")
    return {each: read_document(each, dir_fd=fd) for each in needed}


def _list(fd: int) -> set[str]:
    try:
        return set(os.listdir(fd))
    except OSError as why:
        raise Unreadable(f"the folder cannot be listed: {why.strerror}") from None


def _compare_names(where: str, found: set[str], expected: set[str]) -> None:
    if missing := expected - found:
        raise FolderMismatch(f"{where} has no {min(missing)!r}, which was signed")
    if extra := found - expected:
        raise FolderMismatch(f"{where} has {min(extra)!r}, which was not signed")


def _digests(fd: int, name: str, raw: bytes | None, on_bytes: OnBytes | None) -> Digests:
    if raw is not None:
        return Digests(len(raw), hashlib.sha256(raw).hexdigest())
    file = open_regular(name, dir_fd=fd)
    try:
        return hash_stream(file, algorithms=("sha256",), on_bytes=on_bytes)
    finally:
        os.close(file)


def _compare_digests(name: str, found: Digests, entry: FormatEntry | None, others: Mapping[str, str]) -> None:
    if entry is not None and (found.size, found.sha256) != (entry.size, entry.sha256):
        raise DigestMismatch(f"{name!r} is not the file that the manifest names")
    if name in others and found.sha256 != others[name]:
        raise DigestMismatch(f"{name!r} is not the file that the manifest names")
