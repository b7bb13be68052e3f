"""The release manifest: one release, every format of it, and what was found out about it, in one signed statement.

Format: an in-toto statement of type `urn:imagefactory:release:v1`. Its subjects are the format files; its predicate ::

    {"name": SLUG, "version": "YYYYMMDD.N", "arch": "amd64",
     "os": {"distro": "debian", "version": "12", "codename": "bookworm"},
     "formats": {"qcow2": {"file": "NAME-VERSION.qcow2", "size": BYTES, "virtual_size": BYTES,
                           "glance": {"img_signature": BASE64, "img_signature_hash_method": "SHA-512",
                                      "img_signature_key_type": "ECC_SECP384R1",
                                      "certificate_sha256": HEX, "certificate": PEM}}, ...},
     "files": {"provenance.sigstore.json": SHA256, ...},
     "evidence": [{"kind": SLUG, "about": SHA256, "sha256": SHA256, "outcome": SLUG}, ...],
     "properties": {KEY: TEXT, ...},
     "audit": {"entries": N, "head": SHA256},
     "created": TIME, "expires": TIME or null, "development": BOOL}

Rules, beside the type and range of every field:

1. A version is a real calendar day and a number from 1; versions compare as pairs of integers.
2. There is at least one format; each file is called NAME-VERSION.FORMAT, and the subjects are exactly these files.
3. `files` names the other files of the release, the provenance among them, and none of those that hold or cover the
   manifest itself.
4. `evidence`: `sha256` is the digest of what was recorded, `about` the digest of what it was recorded about.
5. A release expires after it was created, or never.
6. `properties` are what the image carries in Glance, as `signing.properties` allows them: at most 100 keys with texts
   of at most 4096 characters, no attribute of Glance's own but min_ram (MiB) and min_disk (GiB), which are decimal
   numbers without leading zeros, and no key that begins with os_glance, img_signature, imagefactory_ or os_hash_.
7. `audit` is the head of the signer's audit log before this was signed: at least one entry, as the
   Glance key was used before.
"""

import re
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any, Self

from signing.checksums import CHECKSUMS_FILE, SIGNATURE_FILE
from signing.errors import ManifestInvalid
from signing.fields import PLAIN_FILE, SHA256_HEX, SLUG, Fields, format_time
from signing.glance import GlanceSignature
from signing.properties import read_properties
from signing.statement import RELEASE_TYPE, Subject, read_statement, write_statement

MANIFEST_FILE = "release.sigstore.json"
PROVENANCE_FILE = "provenance.sigstore.json"
FORMATS = ("qcow2", "raw", "iso")

_RESERVED = {MANIFEST_FILE, CHECKSUMS_FILE, SIGNATURE_FILE}
_VERSION = re.compile(r"([0-9]{8})\.([1-9][0-9]{0,8})")
_ARCH = re.compile(r"[a-z0-9_]{1,32}")
_PEM = re.compile(r"[A-Za-z0-9+/= \n-]{1,16384}")


@dataclass(frozen=True, order=True)
class Version:
    """YYYYMMDD.N: a UTC day as an integer such as 20251121, and a number from 1. Compares as that pair."""

    day: int
    number: int

    @classmethod
    def parse(cls, text: str) -> "Version":
        """Return the version that `text` spells. Raises: ManifestInvalid."""
        match = _VERSION.fullmatch(text)
        try:
            if match is None:
                raise ValueError
            datetime.strptime(match[1], "%Y%m%d").replace(tzinfo=UTC)
        except ValueError:
            raise ManifestInvalid(f"{text[:32]!r} is not a version like 20251121.1") from None
        return cls(int(match[1]), int(match[2]))

    def __str__(self) -> str:
        return f"{self.day:08}.{self.number}"


@dataclass(frozen=True)
class OperatingSystem:
    """What is inside, in os-release's words."""

    distro: str
    version: str
    codename: str


@dataclass(frozen=True)
class FormatEntry:
    """One format file: sizes in bytes (`virtual_size` as a guest sees the disk), digests in hex."""

    file: str
    size: int
    virtual_size: int
    sha256: str
    sha512: str
    glance: GlanceSignature


@dataclass(frozen=True)
class AuditHead:
    """How many `entries` the signer's audit log has, and the SHA-256 (hex) of its last line."""

    entries: int
    sha256: str


@dataclass(frozen=True)
class EvidenceEntry:
    """A digest of recorded evidence (`sha256`), about what (`about`, a SHA-256 too), and how it came out."""

    kind: str
    about: str
    sha256: str
    outcome: str


@dataclass(frozen=True)
class ReleaseManifest:
    """A release. `formats` by format, `files` from name to SHA-256 hex, `properties` as Glance is to have them; times
    are aware UTC, whole seconds."""

    name: str
    version: Version
    os: OperatingSystem
    arch: str
    formats: Mapping[str, FormatEntry]
    files: Mapping[str, str]
    evidence: tuple[EvidenceEntry, ...]
    properties: Mapping[str, str]
    audit: AuditHead
    created: datetime
    expires: datetime | None
    development: bool

    @property
    def subjects(self) -> tuple[Subject, ...]:
        """The format files as in-toto subjects, sorted by name."""
        return tuple(sorted(Subject(each.file, each.sha256, each.sha512) for each in self.formats.values()))

    def to_statement(self) -> dict[str, Any]:
        """Return the in-toto statement as plain values, after reading it back. Raises: ManifestInvalid."""
        try:
            times = {
                "created": format_time(self.created),
                "expires": None if self.expires is None else format_time(self.expires),
            }
        except ValueError as why:
            raise ManifestInvalid(f"manifest: {why}") from None
        predicate = {
            "name": self.name,
            "version": str(self.version),
            "os": vars(self.os).copy(),
            "arch": self.arch,
            "formats": {key: _write_format(each) for key, each in self.formats.items()},
            "files": dict(self.files),
            "evidence": [vars(each).copy() for each in self.evidence],
            "properties": dict(self.properties),
            "audit": {"entries": self.audit.entries, "head": self.audit.sha256},
            "development": self.development,
            **times,
        }
        statement = write_statement(self.subjects, RELEASE_TYPE, predicate, ManifestInvalid)
        self.from_statement(statement)
        return statement

    @classmethod
    def from_statement(cls, statement: Mapping[str, Any]) -> Self:
        """Return what a statement says, every rule checked. Raises: ManifestInvalid."""
        subjects, predicate = read_statement(statement, RELEASE_TYPE, ManifestInvalid)
        with predicate as fields:
            name = fields.text("name", SLUG)
            version = fields.converted("version", Version.parse)
            with fields.inner("os") as system:
                os = OperatingSystem(system.text("distro", SLUG), system.text("version"), system.text("codename"))
            arch = fields.text("arch", _ARCH)
            formats = _read_formats(fields, f"{name}-{version}", {each.name: each for each in subjects})
            files = _read_files(fields, {each.file for each in formats.values()})
            evidence = tuple(_read_evidence(each) for each in fields.array("evidence"))
            properties = _read_properties(fields)
            with fields.inner("audit") as log:
                audit = AuditHead(log.integer("entries", 1), log.text("head", SHA256_HEX))
            created, expires = _read_times(fields)
            development = fields.boolean("development")
        return cls(name, version, os, arch, formats, files, evidence, properties, audit, created, expires, development)


def _write_format(entry: FormatEntry) -> dict[str, Any]:
    return {
        "file": entry.file,
        "size": entry.size,
        "virtual_size": entry.virtual_size,
        "glance": vars(entry.glance).copy(),
    }


def _read_formats(fields: Fields, stem: str, subjects: dict[str, Subject]) -> dict[str, FormatEntry]:
    formats: dict[str, FormatEntry] = {}
    with fields.inner("formats") as listed:
        for key in FORMATS:
            if key not in listed:
                continue
            with listed.inner(key) as entry:
                entry.exactly("file", f"{stem}.{key}")
                subject = subjects.pop(f"{stem}.{key}", None)
                if subject is None:
                    raise ManifestInvalid(f"the manifest has no digest of its {key} file")
                size, virtual_size = entry.integer("size", 1), entry.integer("virtual_size", 1)
                with entry.inner("glance") as glance:
                    signature = _read_glance(glance)
            formats[key] = FormatEntry(subject.name, size, virtual_size, subject.sha256, subject.sha512, signature)
    if not formats:
        raise ManifestInvalid("the manifest has no format")
    if subjects:
        raise ManifestInvalid(f"the manifest's subject {min(subjects)!r} is none of its formats")
    return formats


def _read_glance(fields: Fields) -> GlanceSignature:
    return GlanceSignature(
        img_signature=fields.text("img_signature"),
        img_signature_hash_method=fields.text("img_signature_hash_method"),
        img_signature_key_type=fields.text("img_signature_key_type"),
        certificate_sha256=fields.text("certificate_sha256", SHA256_HEX),
        certificate=fields.text("certificate", _PEM),
    )


def _read_files(fields: Fields, taken: set[str]) -> dict[str, str]:
    names = fields.object("files")
    with Fields(names, "predicate.files", ManifestInvalid) as listed:
        files = {name: listed.text(name, SHA256_HEX) for name in names}
    for name in files:
        if not PLAIN_FILE.fullmatch(name):
            raise ManifestInvalid("the manifest names a file that is not a plain file name")
        if name in taken | _RESERVED:
            raise ManifestInvalid(f"the manifest lists {name!r} among its other files")
    if PROVENANCE_FILE not in files:
        raise ManifestInvalid(f"the manifest does not name {PROVENANCE_FILE}")
    return files


def _read_evidence(value: object) -> EvidenceEntry:
    with Fields(value, "evidence", ManifestInvalid) as entry:
        return EvidenceEntry(
            kind=entry.text("kind", SLUG),
            about=entry.text("about", SHA256_HEX),
            sha256=entry.text("sha256", SHA256_HEX),
            outcome=entry.text("outcome", SLUG),
        )


def _read_properties(fields: Fields) -> dict[str, str]:
    try:
        return read_properties(fields.object("properties"))
    except ValueError as why:
        raise ManifestInvalid(f"predicate: {why}") from None


def _read_times(fields: Fields) -> tuple[datetime, datetime | None]:
    created = fields.time("created")
    # null is said, not left out: "never expires" must not look like a forgotten field.
    expires = None if fields.null("expires") else fields.time("expires")
    if expires is not None and expires <= created:
        raise ManifestInvalid("the release expires before it was created")
    return created, expires
