"""Every rule of verification. A function here returns proof or raises; there is no third answer.

Whatever is verified:

1. There is a trust file, and every rule of `signing.trust` holds for it. It is never looked for beside the image.
2. What is to be verified is there, and is opened or looked up once. All that follows is about what was found then.

Its manifest (`verify_manifest`):

3. The manifest is a regular file of at most 1 MiB, and a bundle of our one form (`signing.envelope`).
4. Its key is a release key of the trust file. A key that is trusted for something else is refused as such.
5. The signature verifies, in its one spelling, over strict JSON (`signing.envelope`, `signing.signer`).
6. The statement is a release manifest, and every field of it is in range (`signing.manifest`). The trust file lets its
   key sign for its name.
7. The name is the expected one. Where none was given, the proof says so: it then says only that this is *a* release of
   these makers.
8. The version is not older than the oldest acceptable one. This holds where one was given.
9. The release was not created in the future. Two clocks may differ by five minutes.
10. The release has not expired.
11. Each format's Glance signature is good for its SHA-512, under a CA of the trust file (`signing.glance`).

A file (`verify_file`), against a verified manifest:

12. The open file is a regular one whose size is that of one of the formats.
13. Its SHA-256 is that format's. What is hashed is the open file that the caller goes on to use, never a name.

A folder of a published version (`verify_folder`), instead of 12 and 13:

14. SHA256SUMS is signed by a release key (`signing.checksums`), which may sign for the name of the manifest.
15. Manifest, SHA256SUMS and folder name the same files. These are the formats, the manifest's other files, in
    SHA256SUMS the manifest itself, and in the folder SHA256SUMS and its signature.
16. The provenance is signed by a provenance key, and every field of it is in range (`signing.provenance`). The key may
    sign for the name of the manifest.
17. The provenance is about the images of the manifest, and is the very file that the manifest names.
18. Every file is a regular one with the size and the digest that were signed. Manifest and SHA256SUMS agree on them.
    Each is read once; a document is parsed from the very bytes that were hashed. A file without a signed size has at
    most 64 MiB.

Other rooms continue the list. Whether anything was signed with development keys is part of every proof.
"""

import hashlib
import itertools
import os
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path
from typing import Any, Protocol

from signing.account import Account, read_rules
from signing.certificates import CLOCK_SKEW
from signing.checksums import CHECKSUMS_FILE, SIGNATURE_FILE, verify_checksums
from signing.digest import Digests, FileState, OnBytes, hash_stream, open_regular, read_document
from signing.envelope import Bundle, parse_bundle
from signing.errors import (
    DigestMismatch,
    FolderMismatch,
    KeyUntrusted,
    NameMismatch,
    ProvenanceMismatch,
    ReleaseExpired,
    ReleaseNotYet,
    Unreadable,
    VersionTooOld,
    WrongPurpose,
)
from signing.fields import format_time
from signing.glance import verify_image_signature
from signing.manifest import MANIFEST_FILE, PROVENANCE_FILE, FormatEntry, ReleaseManifest, Version
from signing.provenance import Provenance
from signing.trust import DocumentPurpose, Trust

RULES = read_rules(__doc__)
BEGINNING, MANIFEST_RULES, FILE_RULES, FOLDER_RULES = range(1, 3), range(3, 12), range(12, 14), range(14, 19)

MAX_OTHER_BYTES = 64 * 1024 * 1024
_DOCUMENTS = (MANIFEST_FILE, CHECKSUMS_FILE, SIGNATURE_FILE, PROVENANCE_FILE)
_MAX_ENTRIES = 10_000
"""Of a folder: more than a manifest can name."""


class Files(Protocol):
    """The files of a published version, wherever they lie."""

    def names(self) -> set[str] | None:
        """What is there, or None where nobody can tell."""

    def document(self, name: str) -> bytes:
        """A file of at most 1 MiB. Raises: NotARegularFile, Unreadable, FileChanged."""

    def digests(self, name: str, size: int | None, on_bytes: OnBytes | None) -> Digests:
        """What is there, read once: `size` bytes, or where no size was signed at most MAX_OTHER_BYTES.

        Raises: DigestMismatch (another size), NotARegularFile, Unreadable, FileChanged.
        """


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

    def to_json(self) -> dict[str, Any]:
        """What was proved, for programs: by whom, when, until when, with which evidence. Times as in the manifest."""
        signed = self.manifest.to_statement()["predicate"]
        said = {key: signed[key] for key in ("name", "version", "created", "expires", "evidence")}
        proved = {"keyid": self.keyid, "manifest_sha256": self.sha256, "name_pinned": self.name_pinned}
        return {**said, **proved, "development": self.development}


@dataclass(frozen=True)
class Verified:
    """Proof that one open file is `file`, the `format` of the release in `manifest`."""

    format: str
    file: str
    digests: Digests
    manifest: VerifiedManifest
    facts: tuple[str, ...]


@dataclass(frozen=True)
class VerifiedFolder:
    """Proof that a folder holds exactly one verified release. `files` has every file's digests by name."""

    manifest: VerifiedManifest
    provenance: Provenance
    provenance_keyid: str
    files: Mapping[str, Digests]

    @property
    def facts(self) -> tuple[str, ...]:
        """Sentences for people."""
        return (*self.manifest.facts, f"provenance signed by builder key {self.provenance_keyid[:16]}")


def verify_manifest(
    raw: bytes,
    trust: Trust,
    *,
    now: datetime,
    name: str | None = None,
    min_version: Version | None = None,
    account: Account | None = None,
) -> VerifiedManifest:
    """Verify the bytes of a release.sigstore.json at the aware time `now` (rules 3 to 11).

    Raises: BundleInvalid, WrongPurpose, KeyUntrusted, SignatureInvalid, ManifestInvalid, KeyName,
    NameMismatch, VersionTooOld, ReleaseNotYet, ReleaseExpired, and what `signing.glance.verify_image_signature` raises.
    """
    account = account or Account(RULES, MANIFEST_RULES)
    digest = hashlib.sha256(raw).hexdigest()
    bundle = parse_bundle(raw)
    account.passed(3, f"sha256:{digest}")
    _require_purpose(bundle, trust, "release")
    account.passed(4, f"release key {bundle.keyid[:16]}")
    statement = bundle.open(trust.release)
    account.passed(5)
    manifest = ReleaseManifest.from_statement(statement)
    trust.require_name(bundle.keyid, manifest.name)
    account.passed(6, f"{manifest.name}@{manifest.version}")
    if name is None:
        account.skipped(7, "name not pinned")
    elif manifest.name != name:
        raise NameMismatch(f"this is a release of {manifest.name!r}, not of {name!r}")
    else:
        account.passed(7, name)
    if min_version is None:
        account.skipped(8, "no oldest version was given")
    elif manifest.version < min_version:
        raise VersionTooOld(f"this is version {manifest.version}, older than {min_version}")
    else:
        account.passed(8, f"{manifest.version} >= {min_version}")
    _check_times(manifest, now, account)
    for entry in manifest.formats.values():
        verify_image_signature(entry.glance, bytes.fromhex(entry.sha512), trust.glance_ca, at=now)
    account.passed(11, ", ".join(manifest.formats))
    development = trust.development or manifest.development
    facts = _facts(manifest, bundle.keyid, development, name is not None)
    return VerifiedManifest(manifest, bundle.keyid, digest, development, name is not None, facts)


def verify_file(
    fd: int, manifest: VerifiedManifest, *, on_bytes: OnBytes | None = None, account: Account | None = None
) -> Verified:
    """Verify the open file `fd` (rules 12 and 13), reading it once; the file position stays where it is.

    Raises: DigestMismatch, NotARegularFile, FileChanged, Unreadable.
    """
    account = account or Account(RULES, FILE_RULES)
    release = manifest.manifest
    size = FileState.of(fd).size
    # A file of another size is refused before gigabytes of it are read.
    if all(entry.size != size for entry in release.formats.values()):
        raise DigestMismatch(f"no file of {release.name}@{release.version} has a size of {size} bytes")
    account.passed(12, f"{size} bytes")
    digests = hash_stream(fd, algorithms=("sha256",), on_bytes=on_bytes)
    for kind, entry in release.formats.items():
        if (entry.sha256, entry.size) == (digests.sha256, digests.size):
            account.passed(13, f"{entry.file} sha256:{digests.sha256}")
            facts = (f"is the {kind} file of {release.name}@{release.version}", *manifest.facts)
            return Verified(kind, entry.file, digests, manifest, facts)
    raise DigestMismatch(f"the file is not one of {release.name}@{release.version}: its digest differs")


def verify_folder(
    folder: Path | int | Files,
    trust: Trust,
    *,
    now: datetime,
    name: str | None = None,
    min_version: Version | None = None,
    on_bytes: OnBytes | None = None,
    account: Account | None = None,
) -> VerifiedFolder:
    """Verify a published version folder, by path, open directory, or what else has its files (rules 2 to 11 and 14 to
    18).

    Raises: what `verify_manifest` raises; ChecksumsInvalid, FolderMismatch, ProvenanceInvalid, ProvenanceMismatch,
    DigestMismatch, NotARegularFile, FileChanged, Unreadable.
    """
    account = account or Account(RULES, (2, *MANIFEST_RULES, *FOLDER_RULES))
    with opened(folder) as source:
        present = source.names()
        account.passed(2, "a folder" if present is None else f"a folder of {len(present)} files")
        if present is not None and not present.issuperset(_DOCUMENTS):
            raise FolderMismatch(f"the folder has no {min(set(_DOCUMENTS) - present)}")
        documents = {each: source.document(each) for each in _DOCUMENTS}
        verified = verify_manifest(
            documents[MANIFEST_FILE], trust, now=now, name=name, min_version=min_version, account=account
        )
        manifest = verified.manifest
        sums_keyid, sums = verify_checksums(documents[CHECKSUMS_FILE], documents[SIGNATURE_FILE], trust.release)
        trust.require_name(sums_keyid, manifest.name)
        account.passed(14, f"release key {sums_keyid[:16]}")
        formats = {entry.file: entry for entry in manifest.formats.values()}
        _compare_names("SHA256SUMS", set(sums), {*formats, *manifest.files, MANIFEST_FILE})
        if present is not None:
            _compare_names("the folder", present, {*sums, CHECKSUMS_FILE, SIGNATURE_FILE})
        account.passed(15, f"{len(sums)} files, SHA256SUMS and its signature")
        provenance_keyid, provenance = verify_provenance(documents[PROVENANCE_FILE], verified, trust, account=account)
        for each, signed in {**{file: entry.sha256 for file, entry in formats.items()}, **manifest.files}.items():
            if sums[each] != signed:
                raise DigestMismatch(f"{each!r} in SHA256SUMS is not the file that the manifest names")
        files: dict[str, Digests] = {}
        for each, expected in sums.items():
            found = _digests(source, each, documents.get(each), formats.get(each), on_bytes)
            if found.sha256 != expected:
                raise DigestMismatch(f"{each!r} is not the file that SHA256SUMS names")
            files[each] = found
        account.passed(18, f"{sum(found.size for found in files.values())} bytes")
    return VerifiedFolder(verified, provenance, provenance_keyid, files)


def verify_provenance(
    raw: bytes, manifest: VerifiedManifest, trust: Trust, *, account: Account | None = None
) -> tuple[str, Provenance]:
    """Verify the bytes of a provenance.sigstore.json against a verified manifest (rules 16 and 17); returns the
    builder's keyid and what it says.

    Raises: BundleInvalid, WrongPurpose, KeyUntrusted, SignatureInvalid, ProvenanceInvalid, KeyName,
    ProvenanceMismatch, DigestMismatch.
    """
    account = account or Account(RULES, (16, 17))
    bundle = parse_bundle(raw)
    _require_purpose(bundle, trust, "provenance")
    provenance = Provenance.from_statement(bundle.open(trust.provenance))
    trust.require_name(bundle.keyid, manifest.manifest.name)
    account.passed(16, f"provenance key {bundle.keyid[:16]}")
    if provenance.subjects != manifest.manifest.subjects:
        raise ProvenanceMismatch("the provenance is about other files than the manifest")
    if hashlib.sha256(raw).hexdigest() != manifest.manifest.files[PROVENANCE_FILE]:
        raise DigestMismatch(f"{PROVENANCE_FILE!r} is not the file that the manifest names")
    account.passed(17, f"built by {provenance.builder_id}")
    return bundle.keyid, provenance


@contextmanager
def opened(folder: Path | int | Files) -> Iterator[Files]:
    """The files of a folder. Raises: Unreadable."""
    if not isinstance(folder, Path | int):
        yield folder
        return
    if isinstance(folder, int):
        yield OpenFolder(folder)
        return
    try:
        fd = os.open(folder, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    except OSError as why:
        raise Unreadable(f"{str(folder)!r} cannot be opened as a directory: {why.strerror}") from None
    try:
        yield OpenFolder(fd)
    finally:
        os.close(fd)


def _require_purpose(bundle: Bundle, trust: Trust, purpose: DocumentPurpose) -> None:
    actual = trust.purpose_of(bundle.keyid)
    if actual is None:
        raise KeyUntrusted(f"signed by key {bundle.keyid[:16]}, which is not trusted for anything")
    if actual != purpose:
        raise WrongPurpose(f"signed by a {actual} key where only a {purpose} key may sign")


def _check_times(manifest: ReleaseManifest, now: datetime, account: Account) -> None:
    what = f"{manifest.name}@{manifest.version}"
    if now + CLOCK_SKEW < manifest.created:
        raise ReleaseNotYet(f"{what} was created on {format_time(manifest.created)}, and now is {format_time(now)}")
    account.passed(9, f"created {format_time(manifest.created)}, now {format_time(now)}")
    if manifest.expires is None:
        account.skipped(10, "never expires")
    elif now >= manifest.expires:
        raise ReleaseExpired(f"{what} expired on {format_time(manifest.expires)}")
    else:
        account.passed(10, f"expires {format_time(manifest.expires)}")


def _facts(manifest: ReleaseManifest, keyid: str, development: bool, name_pinned: bool) -> tuple[str, ...]:
    names = {entry.sha256: entry.file for entry in manifest.formats.values()}
    facts = [f"signed by release key {keyid[:16]}"]
    if development:
        facts.append("development keys: good for trying things out, not for production")
    facts.append(f"name pinned to {manifest.name}" if name_pinned else "name not pinned")
    facts.append(f"created {format_time(manifest.created)}")
    facts.append("never expires" if manifest.expires is None else f"expires {format_time(manifest.expires)}")
    for each in manifest.evidence:
        facts.append(f"evidence {each.kind}: {each.outcome}, about {names.get(each.about, f'sha256:{each.about}')}")
    return tuple(facts)


def _compare_names(where: str, found: set[str], expected: set[str]) -> None:
    if missing := expected - found:
        raise FolderMismatch(f"{where} has no {min(missing)!r}, which was signed")
    if extra := found - expected:
        raise FolderMismatch(f"{where} has {min(extra)!r}, which was not signed")


def _digests(
    source: Files, name: str, raw: bytes | None, entry: FormatEntry | None, on_bytes: OnBytes | None
) -> Digests:
    if raw is not None:
        return Digests(len(raw), hashlib.sha256(raw).hexdigest())
    return source.digests(name, None if entry is None else entry.size, on_bytes)


class OpenFolder(Files):
    """An open directory."""

    def __init__(self, fd: int) -> None:
        self._fd = fd

    def names(self) -> set[str]:
        """All entries. Raises: Unreadable, FolderMismatch."""
        try:
            with os.scandir(self._fd) as entries:
                found = {entry.name for entry in itertools.islice(entries, _MAX_ENTRIES + 1)}
        except OSError as why:
            raise Unreadable(f"the folder cannot be listed: {why.strerror}") from None
        if len(found) > _MAX_ENTRIES:
            raise FolderMismatch(f"the folder has more than {_MAX_ENTRIES} entries")
        return found

    def document(self, name: str) -> bytes:
        """As `Files` has it."""
        return read_document(name, dir_fd=self._fd)

    def digests(self, name: str, size: int | None, on_bytes: OnBytes | None) -> Digests:
        """As `Files` has it."""
        file = open_regular(name, dir_fd=self._fd)
        try:
            # A sparse file of petabytes takes no space and years to read.
            found = FileState.of(file).size
            if size is not None and found != size:
                raise DigestMismatch(f"{name!r} has {found} bytes, and {size} were signed")
            if size is None and found > MAX_OTHER_BYTES:
                raise Unreadable(f"{name!r} is longer than {MAX_OTHER_BYTES} bytes")
            return hash_stream(file, algorithms=("sha256",), on_bytes=on_bytes)
        finally:
            os.close(file)
