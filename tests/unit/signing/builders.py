"""Real keys, a small release and its folder: made as the signer makes them, with small files for images."""

import copy
import hashlib
from collections.abc import Mapping
from dataclasses import dataclass, replace
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.asymmetric.utils import decode_dss_signature, encode_dss_signature

from imagefactory.factory.keys import init_development
from signing.checksums import build_checksums, sign_checksums
from signing.envelope import seal
from signing.glance import sign_image
from signing.keys import KeyRing, Purpose
from signing.manifest import (
    MANIFEST_FILE,
    PROVENANCE_FILE,
    AuditHead,
    EvidenceEntry,
    FormatEntry,
    OperatingSystem,
    ReleaseManifest,
    Version,
)
from signing.provenance import Provenance
from signing.signer import FileSigner
from signing.statement import Subject
from signing.trust import Trust, load_trust

NOW = datetime(2025, 11, 21, 19, 0, tzinfo=UTC)
NAME = "debian-12"
VERSION = Version(20251121, 1)
STEM = f"{NAME}-{VERSION}"
SBOM_FILE = f"{STEM}.sbom.cdx.json"
SBOM = b'{"bomFormat":"CycloneDX"}\n'
IMAGES: Mapping[str, bytes] = {"qcow2": b"QFI\xfb" + b"disk" * 5000, "raw": b"\0" * 70_000, "iso": b"CD001" * 999}
PROPERTIES: Mapping[str, str] = {"min_ram": "512", "min_disk": "3", "os_distro": "debian", "trait:HW_CPU": "required"}
DELETE = object()


@dataclass(frozen=True)
class Keys:
    """A development key directory with everything loaded from it."""

    directory: Path
    trust_file: Path
    ring: KeyRing
    trust: Trust

    def signer(self, purpose: Purpose) -> FileSigner:
        return FileSigner(self.ring, purpose)


def make_keys(base: Path) -> Keys:
    directory, trust_file = base / "keys", base / "trust.json"
    ring = init_development(directory, trust_file, now=NOW)
    return Keys(directory, trust_file, ring, load_trust(trust_file))


def sha256(raw: bytes) -> str:
    return hashlib.sha256(raw).hexdigest()


def make_entry(keys: Keys, kind: str, image: bytes) -> FormatEntry:
    digest = hashlib.sha512(image)
    return FormatEntry(
        file=f"{STEM}.{kind}",
        size=len(image),
        virtual_size=3 * 2**30,
        sha256=sha256(image),
        sha512=digest.hexdigest(),
        glance=sign_image(keys.signer("glance"), keys.ring.certificate(), digest.digest()),
    )


def make_provenance(subjects: tuple[Subject, ...]) -> Provenance:
    return Provenance(
        subjects=subjects,
        external_parameters={"recipe": {"name": NAME, "size_gib": 3}},
        builder_id="urn:imagefactory:builder:test",
        invocation_id="0194-build-1",
        started=NOW - timedelta(hours=1),
        finished=NOW,
        internal_parameters={"separated": True},
        resolved_dependencies=({"uri": "pkg:deb/debian/openssl@3.0.18", "digest": {"sha256": "ab" * 32}},),
    )


def make_manifest(keys: Keys, provenance: bytes = b"", images: Mapping[str, bytes] = IMAGES) -> ReleaseManifest:
    formats = {kind: make_entry(keys, kind, image) for kind, image in images.items()}
    return ReleaseManifest(
        name=NAME,
        version=VERSION,
        os=OperatingSystem("debian", "12", "bookworm"),
        arch="x86_64",
        formats=formats,
        files={PROVENANCE_FILE: sha256(provenance), SBOM_FILE: sha256(SBOM)},
        evidence=(EvidenceEntry("boot-test", formats["qcow2"].sha256, "cd" * 32, "passed"),),
        properties=PROPERTIES,
        audit=AuditHead(7, "ef" * 32),
        created=NOW,
        expires=NOW + timedelta(days=180),
        development=True,
    )


def make_folder(folder: Path, keys: Keys) -> ReleaseManifest:
    """Write a whole published version folder and return its manifest."""
    folder.mkdir()
    for kind, image in IMAGES.items():
        (folder / f"{STEM}.{kind}").write_bytes(image)
    (folder / SBOM_FILE).write_bytes(SBOM)
    subjects = make_manifest(keys).subjects
    provenance = seal(make_provenance(subjects).to_statement(), keys.signer("provenance"))
    (folder / PROVENANCE_FILE).write_bytes(provenance)
    manifest = make_manifest(keys, provenance)
    write_manifest(folder, keys, manifest)
    return manifest


def write_manifest(folder: Path, keys: Keys, manifest: ReleaseManifest) -> None:
    """Write the manifest and sign the folder as it then is."""
    (folder / MANIFEST_FILE).write_bytes(seal(manifest.to_statement(), keys.signer("release")))
    write_checksums(folder, keys)


def write_checksums(folder: Path, keys: Keys) -> None:
    names = {each.name for each in folder.iterdir()} - {"SHA256SUMS", "SHA256SUMS.sig"}
    raw = build_checksums({name: sha256((folder / name).read_bytes()) for name in names})
    (folder / "SHA256SUMS").write_bytes(raw)
    (folder / "SHA256SUMS.sig").write_bytes(sign_checksums(raw, keys.signer("release")))


def respelled(der: bytes, curve: ec.EllipticCurve) -> bytes:
    """Return the other signature that anybody can make of one: (r, n - s) for (r, s)."""
    r, s = decode_dss_signature(der)
    return encode_dss_signature(r, curve.group_order - s)


def with_glance(manifest: ReleaseManifest, **changes: str) -> ReleaseManifest:
    """Return the manifest with other Glance fields in its qcow2."""
    entry = manifest.formats["qcow2"]
    other = replace(entry, glance=replace(entry.glance, **changes))
    return replace(manifest, formats={**manifest.formats, "qcow2": other})


def changed(document: Mapping[str, Any], path: tuple[str | int, ...], value: object) -> dict[str, Any]:
    """Return a copy of a JSON document with the value at `path` replaced, or removed when it is DELETE."""
    result: dict[str, Any] = copy.deepcopy(dict(document))
    place: Any = result
    for step in path[:-1]:
        place = place[step]
    if value is DELETE:
        del place[path[-1]]
    else:
        place[path[-1]] = value
    return result
