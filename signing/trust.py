"""Whom we believe: the trust file.

::

    {"version": 1, "development": false,
     "keys": {"release": [PEM, ...], "provenance": [PEM, ...]},
     "glance_ca": [PEM, ...]}

Rules, in order:

1. It is strict JSON of exactly this shape, version 1.
2. Each purpose has at least one key; every key is canonical PEM SubjectPublicKeyInfo on P-256.
3. No key is listed twice, and above all not under two purposes.
4. There is at least one Glance CA; each is canonical PEM, a CA, signed by itself (which tells that it is whole), and
   listed once.

Where it lies is the caller's business; nothing beside a file to be verified is ever asked.
"""

import os
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from cryptography import x509
from cryptography.exceptions import InvalidSignature, UnsupportedAlgorithm

from signing.certificates import certificate_pem, fingerprint, load_certificate
from signing.digest import others_may_write, read_document
from signing.errors import CertificateDamaged, KeyDamaged, KeyPurpose, NoTrustRoot, TrustInvalid
from signing.fields import Fields
from signing.keys import PublicKey, Purpose, keyid_of, load_public_key, public_pem
from signing.strict_json import decode, encode

DocumentPurpose = Literal["release", "provenance"]
_PURPOSES: tuple[DocumentPurpose, ...] = ("release", "provenance")
_GUARD = "Compare it with where it comes from, then: chmod go-w"
_ABSENT = (x509.ExtensionNotFound, x509.DuplicateExtension)
_DAMAGED = (CertificateDamaged, InvalidSignature, UnsupportedAlgorithm, TypeError, ValueError, *_ABSENT)


@dataclass(frozen=True)
class Trust:
    """The content of a trust file: public keys by purpose and keyid, and the CAs of Glance certificates."""

    development: bool
    release: Mapping[str, PublicKey]
    provenance: Mapping[str, PublicKey]
    glance_ca: tuple[x509.Certificate, ...]

    def keys(self, purpose: DocumentPurpose) -> Mapping[str, PublicKey]:
        """Return the keys that may sign documents of this purpose, by keyid."""
        return self.release if purpose == "release" else self.provenance

    def purpose_of(self, keyid: str) -> Purpose | None:
        """Return what a key may sign, or None for a key that is not trusted at all."""
        return next((each for each in _PURPOSES if keyid in self.keys(each)), None)

    def encode(self) -> bytes:
        """Return the bytes of the trust file, which `decode_trust` reads back."""
        keys = {each: [public_pem(key) for key in self.keys(each).values()] for each in _PURPOSES}
        authorities = [certificate_pem(ca) for ca in self.glance_ca]
        document = {"version": 1, "development": self.development, "keys": keys, "glance_ca": authorities}
        return encode(document, "trust file", TrustInvalid) + b"\n"


def decode_trust(raw: bytes) -> Trust:
    """Return what the bytes of a trust file say. Raises: TrustInvalid."""
    with Fields(decode(raw, "trust file", TrustInvalid), "trust file", TrustInvalid) as fields:
        fields.exactly("version", 1)
        development = fields.boolean("development")
        with fields.inner("keys") as listed:
            keys = {each: _keys(listed.array(each), each) for each in _PURPOSES}
        authorities = _authorities(fields.array("glance_ca"))
    if keys["release"].keys() & keys["provenance"].keys():
        raise TrustInvalid("the trust file lists one key under two purposes")
    return Trust(development, keys["release"], keys["provenance"], authorities)


def load_trust(path: Path) -> Trust:
    """Return the content of a trust file, which nobody but its owner may write to.

    Symbolic links are followed: the path is the administrator's own word.

    Raises: TrustInvalid, Unreadable, NotARegularFile.
    """
    real = Path(os.path.realpath(path))
    raw = read_document(real)
    if others_may_write(real):
        raise TrustInvalid(f"the trust file {str(real)!r} may be written to by others", advice=_GUARD)
    return decode_trust(raw)


def find_trust(candidates: Sequence[Path]) -> Path:
    """Return the first of `candidates` that is there. One that is there but unusable is not skipped: reading it fails.

    Raises: NoTrustRoot.
    """
    for path in candidates:
        if os.path.lexists(path):
            return path
    looked = ", ".join(str(path) for path in candidates) or "nowhere"
    raise NoTrustRoot(f"there is no trust file; looked for {looked}")


def _keys(listed: Sequence[object], purpose: DocumentPurpose) -> dict[str, PublicKey]:
    keys: dict[str, PublicKey] = {}
    for pem in listed:
        if not isinstance(pem, str):
            raise TrustInvalid(f"the trust file lists a {purpose} key that is not text")
        try:
            key = load_public_key(pem, purpose)
        except (KeyDamaged, KeyPurpose) as why:
            raise TrustInvalid(f"the trust file lists a {purpose} key that is not usable: {why.message}") from None
        if keyid_of(key) in keys:
            raise TrustInvalid(f"the trust file lists a {purpose} key twice")
        keys[keyid_of(key)] = key
    if not keys:
        raise TrustInvalid(f"the trust file lists no {purpose} key")
    return keys


def _authorities(listed: Sequence[object]) -> tuple[x509.Certificate, ...]:
    found: dict[str, x509.Certificate] = {}
    for pem in listed:
        if not isinstance(pem, str):
            raise TrustInvalid("the trust file lists a Glance CA that is not text")
        try:
            ca = load_certificate(pem)
            basic = ca.extensions.get_extension_for_class(x509.BasicConstraints).value
            if not basic.ca:
                raise TrustInvalid("the trust file lists a Glance CA that is not a CA")
            ca.verify_directly_issued_by(ca)
        except _DAMAGED:
            raise TrustInvalid("the trust file lists a Glance CA that cannot be read, or is not whole") from None
        if fingerprint(ca) in found:
            raise TrustInvalid("the trust file lists a Glance CA twice")
        found[fingerprint(ca)] = ca
    if not found:
        raise TrustInvalid("the trust file lists no Glance CA")
    return tuple(found.values())
