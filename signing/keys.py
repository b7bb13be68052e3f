"""One key, one purpose; a key is found by its purpose and in no other way.

A key directory (mode 0700, every file 0600) holds

- `PURPOSE.pem`: the private key, PKCS#8 (RFC 5958) as PEM, for each purpose that lives on this machine;
- `PURPOSE.pub`: the public key, SubjectPublicKeyInfo (RFC 5280) as PEM, as `openssl dgst -verify` wants it;
- `glance.crt`, `glance-ca.crt`, `glance-ca.pem`: the Glance leaf, its CA and the CA's private key;
- `keys.json`: `{"version": 1, "development": true, "created": TIME, "keys": {PURPOSE: KEYID}}`.

Rules for loading, in order:

1. The directory and keys.json are there, and closed to group and others.
2. keys.json knows the purpose, and the key file is there and closed to group and others.
3. The file is an unencrypted PKCS#8 elliptic curve key.
4. The key is on the curve of its purpose, and is the one that keys.json names for it; a key that keys.json names for
   another purpose has been put in the wrong place.

A keyid is the SHA-256 of the DER SubjectPublicKeyInfo in lower-case hex.
"""

import hashlib
import os
import stat
from datetime import datetime
from pathlib import Path
from typing import Literal, get_args

from cryptography import x509
from cryptography.exceptions import UnsupportedAlgorithm
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.serialization import (
    Encoding,
    PublicFormat,
    load_pem_private_key,
    load_pem_public_key,
)

from signing.certificates import load_certificate
from signing.digest import open_regular, read_open_document
from signing.errors import (
    CertificateDamaged,
    DocumentInvalid,
    KeyDamaged,
    KeyPermissions,
    KeyPurpose,
    KeysMissing,
    Unreadable,
)
from signing.fields import SHA256_HEX, Fields, format_time
from signing.strict_json import decode, encode

Purpose = Literal["root", "targets", "freshness", "release", "provenance", "glance"]
PURPOSES: tuple[Purpose, ...] = get_args(Purpose)

PublicKey = ec.EllipticCurvePublicKey

METADATA = "keys.json"


def curve_of(purpose: Purpose) -> ec.EllipticCurve:
    """Return the only curve that a key of this purpose may be on."""
    return ec.SECP384R1() if purpose == "glance" else ec.SECP256R1()


def keyid_of(key: PublicKey) -> str:
    """Return the SHA-256 of the DER SubjectPublicKeyInfo in lower-case hex."""
    return hashlib.sha256(key.public_bytes(Encoding.DER, PublicFormat.SubjectPublicKeyInfo)).hexdigest()


def public_pem(key: PublicKey) -> str:
    """Return the canonical PEM SubjectPublicKeyInfo, ending with a newline."""
    return key.public_bytes(Encoding.PEM, PublicFormat.SubjectPublicKeyInfo).decode("ascii")


def load_public_key(pem: str, purpose: Purpose) -> PublicKey:
    """Return the public key of a canonical PEM text.

    Raises: KeyDamaged (not such a text), KeyPurpose (not on the curve of `purpose`).
    """
    try:
        key = load_pem_public_key(pem.encode("ascii"))
    except (ValueError, UnsupportedAlgorithm):
        raise KeyDamaged("a public key cannot be read") from None
    if not isinstance(key, ec.EllipticCurvePublicKey) or key.curve.name != curve_of(purpose).name:
        raise KeyPurpose(f"a {purpose} key is an elliptic curve key on {curve_of(purpose).name}; this one is not")
    if public_pem(key) != pem:
        raise KeyDamaged("a public key is not canonical PEM of one key")
    return key


def metadata(development: bool, created: datetime, keyids: dict[Purpose, str]) -> bytes:
    """Return the bytes of keys.json."""
    return encode({"version": 1, "development": development, "created": format_time(created), "keys": keyids})


class KeyRing:
    """The keys in one directory. Private keys are read when asked for, and never shown.

    Raises: KeysMissing, KeyPermissions, KeyDamaged.
    """

    def __init__(self, directory: Path) -> None:
        self.directory = directory
        try:
            status = directory.stat()
        except FileNotFoundError:
            raise KeysMissing(f"there is no key directory {str(directory)!r}") from None
        except OSError as why:
            raise Unreadable(f"the key directory {str(directory)!r} cannot be examined: {why.strerror}") from None
        if not stat.S_ISDIR(status.st_mode):
            raise KeysMissing(f"{str(directory)!r} is not a key directory")
        _require_private(status.st_mode, str(directory))
        self.development, self._keyids = _read_metadata(self._read(METADATA))

    def __repr__(self) -> str:
        return f"KeyRing({str(self.directory)!r}, development={self.development})"

    def keyid(self, purpose: Purpose) -> str:
        """Return the keyid of the key for `purpose`. Raises: KeysMissing."""
        if purpose not in self._keyids:
            raise KeysMissing(f"there is no {purpose} key in {str(self.directory)!r}")
        return self._keyids[purpose]

    def private_key(self, purpose: Purpose) -> ec.EllipticCurvePrivateKey:
        """Return the private key for `purpose`.

        Raises: KeysMissing, KeyPermissions, KeyDamaged, KeyPurpose.
        """
        expected = self.keyid(purpose)
        raw = self._read(f"{purpose}.pem")
        try:
            key = load_pem_private_key(raw, password=None)
        except (ValueError, TypeError, UnsupportedAlgorithm):
            # The cause is dropped: a parser's message may quote what it read.
            raise KeyDamaged(f"the {purpose} key cannot be read") from None
        curve = curve_of(purpose)
        if not isinstance(key, ec.EllipticCurvePrivateKey) or key.curve.name != curve.name:
            raise KeyPurpose(f"{purpose}.pem is not an elliptic curve key on {curve.name}")
        keyid = keyid_of(key.public_key())
        for other, known in self._keyids.items():
            if keyid == known and other != purpose:
                raise KeyPurpose(f"{purpose}.pem holds the {other} key")
        if keyid != expected:
            raise KeyDamaged(f"{purpose}.pem holds another key than the one in {METADATA}")
        return key

    def certificate(self) -> x509.Certificate:
        """Return the Glance leaf certificate.

        Raises: KeysMissing, KeyPermissions, KeyDamaged (also when it is for another key).
        """
        try:
            certificate = load_certificate(self._read("glance.crt").decode("ascii"))
            key = certificate.public_key()
        except (CertificateDamaged, UnsupportedAlgorithm, ValueError):
            raise KeyDamaged("glance.crt cannot be read") from None
        if not isinstance(key, ec.EllipticCurvePublicKey) or keyid_of(key) != self._keyids.get("glance"):
            raise KeyDamaged(f"glance.crt is not for the Glance key in {METADATA}")
        return certificate

    def _read(self, name: str) -> bytes:
        path = self.directory / name
        if not os.path.lexists(path):
            raise KeysMissing(f"{str(path)!r} is missing")
        fd = open_regular(path)
        try:
            _require_private(os.fstat(fd).st_mode, str(path))
            return read_open_document(fd, repr(str(path)))
        finally:
            os.close(fd)


def _require_private(mode: int, shown: str) -> None:
    if mode & 0o077:
        raise KeyPermissions(f"{shown!r} is open to group or others (mode {stat.S_IMODE(mode):04o})")


def _read_metadata(raw: bytes) -> tuple[bool, dict[Purpose, str]]:
    try:
        with Fields(decode(raw, METADATA), METADATA, DocumentInvalid) as fields:
            fields.exactly("version", 1)
            development = fields.boolean("development")
            fields.time("created")
            with fields.inner("keys") as listed:
                keyids = {each: listed.text(each, SHA256_HEX) for each in PURPOSES if each in listed}
    except DocumentInvalid as why:
        raise KeyDamaged(why.message) from None
    if len(set(keyids.values())) != len(keyids):
        raise KeyDamaged(f"{METADATA} names one key for two purposes")
    return development, keyids
