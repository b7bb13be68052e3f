"""Whom we believe: the trust file.

::

    {"version": 2, "development": false,
     "keys": {"release": [{"key": PEM, "names": [NAME, ...] or ["*"]}, ...], "provenance": [...]},
     "glance_ca": [PEM, ...]}

Rules, in order:

1. It is strict JSON of exactly this shape, version 2.
2. Each purpose has at least one key; every key is canonical PEM SubjectPublicKeyInfo on P-256.
3. Each key has the image names that it may sign for: at least one, in full, and none twice. `*` alone is every name.
4. No key is listed twice, and above all not under two purposes.
5. There is at least one Glance CA; each is canonical PEM, a CA, signed by itself (which tells that it is whole), and
   listed once.

Where it lies is the caller's business; nothing beside a file to be verified is ever asked.
"""

import os
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

from cryptography import x509
from cryptography.exceptions import InvalidSignature, UnsupportedAlgorithm

from signing.certificates import certificate_pem, fingerprint, load_certificate
from signing.digest import others_may_write, read_document
from signing.errors import CertificateDamaged, KeyDamaged, KeyName, KeyPurpose, NoTrustRoot, TrustInvalid
from signing.fields import SLUG, Fields
from signing.keys import PublicKey, Purpose, keyid_of, load_public_key, public_pem
from signing.strict_json import decode, encode

DocumentPurpose = Literal["release", "provenance"]
_PURPOSES: tuple[DocumentPurpose, ...] = ("release", "provenance")
EVERY_NAME = "*"
_GUARD = "Compare it with where it comes from, then: chmod go-w"
_ABSENT = (x509.ExtensionNotFound, x509.DuplicateExtension)
_DAMAGED = (CertificateDamaged, InvalidSignature, UnsupportedAlgorithm, TypeError, ValueError, *_ABSENT)


@dataclass(frozen=True)
class Trust:
    """The content of a trust file: public keys by purpose and keyid, the CAs of Glance certificates, and by keyid the
    image names that each key may sign for."""

    development: bool
    release: Mapping[str, PublicKey]
    provenance: Mapping[str, PublicKey]
    glance_ca: tuple[x509.Certificate, ...]
    names: Mapping[str, tuple[str, ...]]

    def keys(self, purpose: DocumentPurpose) -> Mapping[str, PublicKey]:
        """Return the keys that may sign documents of this purpose, by keyid."""
        return self.release if purpose == "release" else self.provenance

    def purpose_of(self, keyid: str) -> Purpose | None:
        """Return what a key may sign, or None for a key that is not trusted at all."""
        return next((each for each in _PURPOSES if keyid in self.keys(each)), None)

    def require_name(self, keyid: str, name: str) -> None:
        """See that a key of this file may sign for an image name. Raises: KeyName."""
        allowed = self.names.get(keyid, ())
        if name not in allowed and EVERY_NAME not in allowed:
            raise KeyName(f"{self.purpose_of(keyid)} key {keyid[:16]} may not sign for {name!r}")

    def encode(self) -> bytes:
        """Return the bytes of the trust file, which `decode_trust` reads back."""
        keys = {
            each: [{"key": public_pem(key), "names": [*self.names[keyid]]} for keyid, key in self.keys(each).items()]
            for each in _PURPOSES
        }
        authorities = [certificate_pem(ca) for ca in self.glance_ca]
        document = {"version": 2, "development": self.development, "keys": keys, "glance_ca": authorities}
        return encode(document, "trust file", TrustInvalid) + b"\n"


def decode_trust(raw: bytes) -> Trust:
    """Return what the bytes of a trust file say. Raises: TrustInvalid."""
    names: dict[str, tuple[str, ...]] = {}
    with Fields(decode(raw, "trust file", TrustInvalid), "trust file", TrustInvalid) as fields:
        fields.exactly("version", 2)
        development = fields.boolean("development")
        with fields.inner("keys") as listed:
            keys = {each: _keys(listed.array(each), each, names) for each in _PURPOSES}
        authorities = _authorities(fields.array("glance_ca"))
    return Trust(development, keys["release"], keys["provenance"], authorities, names)


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


def _keys(
    listed: Sequence[object], purpose: DocumentPurpose, names: dict[str, tuple[str, ...]]
) -> dict[str, PublicKey]:
    keys: dict[str, PublicKey] = {}
    for value in listed:
        with Fields(value, f"a {purpose} key of the trust file", TrustInvalid) as entry:
            try:
                key = entry.converted("key", lambda pem: load_public_key(pem, purpose))
            except (KeyDamaged, KeyPurpose) as why:
                raise TrustInvalid(f"the trust file lists a {purpose} key that is not usable: {why.message}") from None
            if keyid_of(key) in names:
                raise TrustInvalid("the trust file lists one key twice, or under two purposes")
            keys[keyid_of(key)], names[keyid_of(key)] = key, _names(entry.array("names"))
    if not keys:
        raise TrustInvalid(f"the trust file lists no {purpose} key")
    return keys


def _names(listed: Sequence[Any]) -> tuple[str, ...]:
    if listed != [EVERY_NAME] and not all(isinstance(each, str) and SLUG.fullmatch(each) for each in listed):
        raise TrustInvalid("the trust file gives a key something else than image names")
    if not listed or len(set(listed)) != len(listed):
        raise TrustInvalid("the trust file gives a key no name, or one twice")
    return tuple(listed)


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
