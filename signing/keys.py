"""One key, one purpose; a key is found by its purpose and in no other way.

A key directory (mode 0700, every file 0600) holds

- `PURPOSE.pem`: the private key, PKCS#8 (RFC 5958) as PEM, for each purpose whose key is in a file; encrypted (PBES2,
  RFC 8018) unless it is for development;
- `PURPOSE.pub`: the public key, SubjectPublicKeyInfo (RFC 5280) as PEM, as `openssl dgst -verify` wants it;
- `glance.crt`, `glance-ca.crt`, `glance-ca.pem`: the Glance leaf, its CA and the CA's private key;
- `keys.json`: `{"version": 1, "development": true, "created": TIME, "keys": {PURPOSE: KEYID}}`, and where they are
  needed `"where": {PURPOSE or "glance-ca": URI}`, `"made": {PURPOSE or "glance-ca": TIME}` and `"keyring": true` (the
  passphrase is in the keyring of the operating system).

A key that `where` does not name is the file PURPOSE.pem. `file:PURPOSE.ID.pem` is a file of that name here, of a key
that replaced another; a `pkcs11:` URI is a key in a token. Of these, the public files are called PURPOSE.ID.pub and
PURPOSE.ID.crt, where ID are the first 16 digits of the keyid. So one rename of keys.json replaces a key and its
certificate.

Rules for loading, in order:

1. The directory and keys.json are there, and closed to group and others.
2. keys.json knows the purpose, and the key file is there and closed to group and others.
3. The file is a PKCS#8 elliptic curve key, and the passphrase opens it; keys for development need not be encrypted.
4. The key is on the curve of its purpose, and is the one that keys.json names for it; a key that keys.json names for
   another purpose has been put in the wrong place.

A keyid is the SHA-256 of the DER SubjectPublicKeyInfo in lower-case hex.
"""

import hashlib
import os
import re
import stat
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from datetime import datetime
from pathlib import Path
from typing import Literal, get_args

from cryptography import x509
from cryptography.exceptions import UnsupportedAlgorithm
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.asymmetric.types import PrivateKeyTypes
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
    PassphraseMissing,
    PassphraseWrong,
    Unreadable,
)
from signing.fields import SHA256_HEX, Fields, format_time
from signing.strict_json import decode, encode

Purpose = Literal["root", "targets", "freshness", "release", "provenance", "glance"]
PURPOSES: tuple[Purpose, ...] = get_args(Purpose)

PublicKey = ec.EllipticCurvePublicKey

Passphrase = Callable[[], bytes]
"""Gives the passphrase of encrypted keys when one is met. Raises PassphraseMissing."""

METADATA = "keys.json"
AUTHORITY = "glance-ca"
_URI = re.compile(r"[ -~]{1,2048}")
_OWN_FILE = re.compile(r"file:[a-z-]+\.[0-9a-f]{16}\.pem")


def curve_of(name: str) -> ec.EllipticCurve:
    """Return the only curve that a key of this purpose, or of the CA, may be on."""
    return ec.SECP384R1() if name in {"glance", AUTHORITY} else ec.SECP256R1()


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


def read_secret(path: Path) -> bytes:
    """Return the passphrase or PIN in a file: all of it but one newline at its end.

    Raises: PassphraseMissing (no such file, or nothing in it), KeyPermissions, NotARegularFile, Unreadable.
    """
    if not os.path.lexists(path):
        raise PassphraseMissing(f"there is no file {str(path)!r} with a passphrase or PIN")
    fd = open_regular(path)
    try:
        _require_private(os.fstat(fd).st_mode, str(path))
        secret = read_open_document(fd, repr(str(path))).removesuffix(b"\n")
    finally:
        os.close(fd)
    if not secret:
        raise PassphraseMissing(f"there is nothing in the file {str(path)!r}")
    return secret


@dataclass(frozen=True)
class Metadata:
    """What keys.json says. `where` and `made` have what differs from PURPOSE.pem and `created`; times are aware UTC."""

    development: bool
    created: datetime
    keyids: Mapping[str, str]
    where: Mapping[str, str] = field(default_factory=dict)
    made: Mapping[str, datetime] = field(default_factory=dict)
    keyring: bool = False

    def stem(self, name: str) -> str:
        """Return what the files of a purpose, or of the CA (`glance-ca`), are called, without .pem, .pub or .crt."""
        uri = self.where.get(name, f"file:{name}.pem")
        if uri.startswith("file:"):
            return uri.removeprefix("file:").removesuffix(".pem")
        return f"{name}.{self.keyids[name][:16]}"

    def encode(self) -> bytes:
        """Return the bytes of keys.json."""
        document: dict[str, object] = {
            "version": 1,
            "development": self.development,
            "created": format_time(self.created),
            "keys": dict(self.keyids),
        }
        if self.where:
            document["where"] = dict(self.where)
        if self.made:
            document["made"] = {name: format_time(moment) for name, moment in self.made.items()}
        if self.keyring:
            document["keyring"] = True
        return encode(document)


class KeyRing:
    """The keys in one directory. Private keys are read when asked for, and never shown.

    Raises: KeysMissing, KeyPermissions, KeyDamaged.
    """

    def __init__(self, directory: Path, passphrase: Passphrase | None = None) -> None:
        self.directory = directory
        self._passphrase = passphrase
        try:
            status = directory.stat()
        except FileNotFoundError:
            raise KeysMissing(f"there is no key directory {str(directory)!r}") from None
        except OSError as why:
            raise Unreadable(f"the key directory {str(directory)!r} cannot be examined: {why.strerror}") from None
        if not stat.S_ISDIR(status.st_mode):
            raise KeysMissing(f"{str(directory)!r} is not a key directory")
        _require_private(status.st_mode, str(directory))
        self.metadata = _read_metadata(self._read(METADATA))
        self.development = self.metadata.development

    def __repr__(self) -> str:
        return f"KeyRing({str(self.directory)!r}, development={self.development})"

    def keyid(self, purpose: Purpose) -> str:
        """Return the keyid of the key for `purpose`. Raises: KeysMissing."""
        if purpose not in self.metadata.keyids:
            raise KeysMissing(f"there is no {purpose} key in {str(self.directory)!r}")
        return self.metadata.keyids[purpose]

    def where(self, purpose: Purpose) -> str:
        """Return the URI of a key: `file:NAME` for a file here, or that of a token. Raises: KeysMissing."""
        self.keyid(purpose)
        return self.metadata.where.get(purpose, f"file:{purpose}.pem")

    def private_key(self, purpose: Purpose) -> ec.EllipticCurvePrivateKey:
        """Return the private key for `purpose`, which is in a file.

        Raises: KeysMissing, KeyPermissions, KeyDamaged, KeyPurpose, PassphraseMissing, PassphraseWrong.
        """
        self.keyid(purpose)
        key = self.open_private(purpose)
        self.check(purpose, key.public_key())
        return key

    def check(self, purpose: Purpose, key: PublicKey) -> None:
        """See that `key` is the one for `purpose`, and on its curve. Raises: KeysMissing, KeyDamaged, KeyPurpose."""
        expected = self.keyid(purpose)
        curve, shown = curve_of(purpose), f"{self.metadata.stem(purpose)}.pem"
        if key.curve.name != curve.name:
            raise KeyPurpose(f"{shown} is not an elliptic curve key on {curve.name}")
        keyid = keyid_of(key)
        for other, known in self.metadata.keyids.items():
            if keyid == known and other != purpose:
                raise KeyPurpose(f"{shown} holds the {other} key")
        if keyid != expected:
            raise KeyDamaged(f"{shown} holds another key than the one in {METADATA}")

    def open_private(self, name: str) -> ec.EllipticCurvePrivateKey:
        """Return the private key of a purpose, or of the CA, as its file has it.

        Raises: KeysMissing, KeyPermissions, KeyDamaged, KeyPurpose, PassphraseMissing, PassphraseWrong.
        """
        file = f"{self.metadata.stem(name)}.pem"
        raw = self._read(file)
        try:
            try:
                key = load_pem_private_key(raw, password=None)
                plain = True
            except TypeError:  # whole, and encrypted
                key, plain = self._decrypted(raw, name), False
        except (ValueError, UnsupportedAlgorithm):
            # The cause is dropped: a parser's message may quote what it read.
            raise KeyDamaged(f"the {name} key cannot be read") from None
        curve = curve_of(name).name
        if not isinstance(key, ec.EllipticCurvePrivateKey) or key.curve.name != curve:
            raise KeyPurpose(f"{file} is not an elliptic curve key on {curve}")
        if plain and not self.development:
            raise KeyDamaged(f"{file} is not encrypted, and these keys are not for development")
        return key

    def _decrypted(self, raw: bytes, name: str) -> PrivateKeyTypes:
        if self._passphrase is None:
            raise PassphraseMissing(f"the {name} key is encrypted, and nobody gave its passphrase")
        passphrase = self._passphrase()
        try:
            return load_pem_private_key(raw, password=passphrase)
        except (ValueError, TypeError):  # TypeError: it is empty
            raise PassphraseWrong(f"this is not the passphrase of the {name} key") from None

    def certificate(self) -> x509.Certificate:
        """Return the Glance leaf certificate.

        Raises: KeysMissing, KeyPermissions, KeyDamaged (also when it is for another key).
        """
        name = f"{self.metadata.stem('glance')}.crt"
        try:
            certificate = load_certificate(self._read(name).decode("ascii"))
            key = certificate.public_key()
        except (CertificateDamaged, UnsupportedAlgorithm, ValueError):
            raise KeyDamaged(f"{name} cannot be read") from None
        if not isinstance(key, ec.EllipticCurvePublicKey) or keyid_of(key) != self.metadata.keyids.get("glance"):
            raise KeyDamaged(f"{name} is not for the Glance key in {METADATA}")
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


def _read_metadata(raw: bytes) -> Metadata:
    names = (*PURPOSES, AUTHORITY)
    keyids: dict[str, str] = {}
    where: dict[str, str] = {}
    made: dict[str, datetime] = {}
    try:
        with Fields(decode(raw, METADATA), METADATA, DocumentInvalid) as fields:
            fields.exactly("version", 1)
            development = fields.boolean("development")
            created = fields.time("created")
            with fields.inner("keys") as listed:
                keyids = {each: listed.text(each, SHA256_HEX) for each in PURPOSES if each in listed}
            if "where" in fields:
                with fields.inner("where") as listed:
                    where = {each: listed.text(each, _URI) for each in names if each in listed}
            if "made" in fields:
                with fields.inner("made") as listed:
                    made = {each: listed.time(each) for each in names if each in listed}
            keyring = "keyring" in fields and fields.boolean("keyring")
    except DocumentInvalid as why:
        raise KeyDamaged(why.message) from None
    if len(set(keyids.values())) != len(keyids):
        raise KeyDamaged(f"{METADATA} names one key for two purposes")
    for name, uri in where.items():
        in_token = uri.startswith("pkcs11:") and name in keyids
        if not in_token and not (_OWN_FILE.fullmatch(uri) and uri.startswith(f"file:{name}.")):
            raise KeyDamaged(f"{METADATA} does not say where the {name} key is")
    return Metadata(development, created, keyids, where, made, keyring)
