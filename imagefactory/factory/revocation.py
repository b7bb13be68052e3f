"""Revoking keys: no longer in the trust file, and what becomes of the releases that they signed."""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, Literal

from cryptography import x509
from cryptography.exceptions import InvalidSignature

from imagefactory.errors import KeyNeeded, KeyUnknown
from imagefactory.factory.rotation import authority, load_authority, replace_file
from imagefactory.store.artifacts import ArtifactStore
from imagefactory.store.records import Records
from imagefactory.store.tables import Release
from signing.certificates import fingerprint, load_certificate
from signing.digest import read_document
from signing.envelope import parse_bundle
from signing.errors import SigningError
from signing.keys import AUTHORITY, KeyRing, keyid_of, load_public_key
from signing.manifest import MANIFEST_FILE, PROVENANCE_FILE, ReleaseManifest
from signing.strict_json import decode
from signing.trust import Trust, load_trust

Kind = Literal["release", "provenance", "glance-ca"]
LEAST_PREFIX = 8


@dataclass(frozen=True)
class Revocable:
    """A key that signs documents, by its keyid, or a CA by the SHA-256 of its certificate. `trusted`: it is in the
    trust file; `in_use`: it signs here."""

    kind: Kind
    id: str
    trusted: bool
    in_use: bool
    ca: x509.Certificate | None = None


def revocable(trust: Trust, ring: KeyRing | None) -> list[Revocable]:
    """The trusted keys and CAs, and those whose public half stayed in the key directory after they were replaced.

    Raises KeyDamaged, Unreadable.
    """
    used = set(ring.metadata.keyids.values()) | {fingerprint(authority(ring))} if ring else set()
    found: dict[str, Revocable] = {}
    for kind in ("release", "provenance"):
        retired = _retired_keys(ring, kind) if ring else []
        for keyid in (*trust.keys(kind), *retired):
            found.setdefault(keyid, Revocable(kind, keyid, keyid in trust.keys(kind), keyid in used))
    trusted = {fingerprint(ca) for ca in trust.glance_ca}
    kept = [load_authority(path) for path in sorted(ring.directory.glob(f"{AUTHORITY}.*.crt"))] if ring else []
    for ca in (*trust.glance_ca, *kept):
        each = fingerprint(ca)
        found.setdefault(each, Revocable("glance-ca", each, each in trusted, each in used, ca))
    return list(found.values())


def choose(candidates: Sequence[Revocable], prefix: str) -> Revocable:
    """The one whose id begins with `prefix`. Raises KeyUnknown."""
    found = [each for each in candidates if each.id.startswith(prefix.lower())]
    if len(prefix) < LEAST_PREFIX or len(found) != 1:
        many = f"{len(found)} keys have" if found else "no key that can be revoked has"
        raise KeyUnknown(
            f"{LEAST_PREFIX} digits or more are needed, not {prefix!r}"
            if len(prefix) < LEAST_PREFIX
            else f"{many} an id that begins with {prefix}"
        )
    return found[0]


def check_revocable(trust: Trust, key: Revocable) -> None:
    """Raises KeyNeeded for the last trusted key of its purpose, and for the one that signs here."""
    rest = len(trust.glance_ca) if key.kind == "glance-ca" else len(trust.keys(key.kind))
    if key.trusted and rest == 1:
        raise KeyNeeded(f"{key.id[:16]} is the last {key.kind} that is trusted: nothing could be verified without it")
    if key.trusted and key.in_use:
        raise KeyNeeded(f"{key.id[:16]} is the {key.kind} that signs here")


def revoke(trust_file: Path, key: Revocable) -> None:
    """Take a key out of the trust file. Raises KeyNeeded, TrustInvalid, Unwritable."""
    trust = load_trust(trust_file)
    check_revocable(trust, key)
    without = {each: value for each, value in trust.release.items() if each != key.id}
    builders = {each: value for each, value in trust.provenance.items() if each != key.id}
    authorities = tuple(ca for ca in trust.glance_ca if fingerprint(ca) != key.id)
    changed = replace(trust, release=without, provenance=builders, glance_ca=authorities)
    if changed != trust:
        replace_file(trust_file, changed.encode())


def signed_with(key: Revocable, records: Records, artifacts: ArtifactStore) -> list[Release]:
    """The releases that a key signed, as far as their documents are kept; newest first for each name.

    What the documents say of themselves is enough to list them: nothing is believed for it.
    """
    return [release for release in records.releases() if _signed(release, key, artifacts)]


def _signed(release: Release, key: Revocable, artifacts: ArtifactStore) -> bool:
    name = PROVENANCE_FILE if key.kind == "provenance" else MANIFEST_FILE
    digest = release.files.get(name)
    if digest is None or not artifacts.has(digest):
        return False
    try:
        bundle = parse_bundle(read_document(artifacts.path(digest)))
        if key.ca is None:
            return bundle.keyid == key.id
        statement: dict[str, Any] = decode(bundle.envelope.payload, "statement")
        formats = ReleaseManifest.from_statement(statement).formats.values()
        return any(_issued(load_certificate(entry.glance.certificate), key.ca) for entry in formats)
    except SigningError:
        return False


def _issued(leaf: x509.Certificate, ca: x509.Certificate) -> bool:
    try:
        leaf.verify_directly_issued_by(ca)
    except (ValueError, TypeError, InvalidSignature):
        return False
    return True


def _retired_keys(ring: KeyRing, kind: Literal["release", "provenance"]) -> list[str]:
    found = []
    for path in sorted(ring.directory.glob(f"{kind}.*.pub")):
        try:
            found.append(keyid_of(load_public_key(read_document(path).decode("ascii"), kind)))
        except (SigningError, UnicodeDecodeError):
            continue
    return found
