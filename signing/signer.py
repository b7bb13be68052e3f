"""Who signs: a Protocol, and keys in files and in tokens behind it.

Rules, which hold at the key itself, wherever it lives and whoever calls it:

1. A document key signs only bytes that begin like the documents of its purpose. A `release` key signs DSSE
   (`DSSEv1 `, https://github.com/secure-systems-lab/dsse) and SHA256SUMS (its first line), and neither can be taken
   for the other; a `provenance` key signs DSSE; `root`, `targets` and `freshness` sign TUF metadata, which is JSON.
2. Only the `glance` key signs a digest, because an image is too large to hand over; and it signs nothing else. So no
   other key can be brought to sign a document by showing it the document's digest.

ECDSA as in FIPS 186-5, signatures as DER (RFC 3279, section 2.2.3): P-256 with SHA-256, P-384 (glance) with SHA-512.
With (r, s) goes (r, n - s), which anybody can make of it. We write and accept only the smaller s, in canonical DER, so
that a signature has one spelling (`one_spelling`, whatever the key's storage returned).
"""

import hashlib
from abc import ABC, abstractmethod
from pathlib import Path
from typing import Protocol

from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.asymmetric.utils import Prehashed, decode_dss_signature, encode_dss_signature

from signing.errors import KeyPurpose, SignatureInvalid, SignerUnknown
from signing.keys import PURPOSES, KeyRing, Passphrase, PublicKey, Purpose, keyid_of

DSSE_PREFIX = b"DSSEv1 "
CHECKSUMS_PREFIX = b"# imagefactory SHA256SUMS v1\n"

_BEGINNINGS: dict[Purpose, tuple[bytes, ...]] = {
    "root": (b"{",),
    "targets": (b"{",),
    "freshness": (b"{",),
    "release": (DSSE_PREFIX, CHECKSUMS_PREFIX),
    "provenance": (DSSE_PREFIX,),
    "glance": (),
}


def one_spelling(signature: bytes, curve: ec.EllipticCurve) -> bytes:
    """Return the canonical DER of an ECDSA signature, with the smaller of s and n - s.

    Raises: SignatureInvalid, when it is no DER of an ECDSA signature, or s is beyond the order n of the curve.
    """
    try:
        r, s = decode_dss_signature(signature)
        return encode_dss_signature(r, min(s, curve.group_order - s))
    except ValueError:
        raise SignatureInvalid("not DER of an ECDSA signature") from None


class Signer(Protocol):
    """One private key, wherever it lives."""

    @property
    def keyid(self) -> str:
        """SHA-256 of the DER SubjectPublicKeyInfo, lower-case hex."""

    @property
    def purpose(self) -> Purpose:
        """The one purpose of the key."""

    @property
    def public_key(self) -> PublicKey:
        """The public half."""

    def sign(self, payload: bytes) -> bytes:
        """Return the DER signature of a document. Raises: KeyPurpose."""

    def sign_prehashed(self, digest: bytes) -> bytes:
        """Return the DER signature of an image by its 64-byte SHA-512. Raises: KeyPurpose."""


class GuardedSigner(ABC):
    """A Signer that keeps the rules above; where its key lives adds only how a digest is signed there."""

    def __init__(self, purpose: Purpose, public_key: PublicKey) -> None:
        self._purpose = purpose
        self._public_key = public_key
        self._keyid = keyid_of(public_key)

    def __repr__(self) -> str:
        return f"{type(self).__name__}(purpose={self._purpose!r}, keyid={self._keyid!r})"

    @property
    def keyid(self) -> str:
        """SHA-256 of the DER SubjectPublicKeyInfo, lower-case hex."""
        return self._keyid

    @property
    def purpose(self) -> Purpose:
        """The one purpose of the key."""
        return self._purpose

    @property
    def public_key(self) -> PublicKey:
        """The public half."""
        return self._public_key

    def sign(self, payload: bytes) -> bytes:
        """Return the DER signature of a document. Raises: KeyPurpose, what the storage raises."""
        if not payload.startswith(_BEGINNINGS[self._purpose]):
            raise KeyPurpose(f"the {self._purpose} key does not sign this kind of document")
        return self._sign_digest(hashlib.sha256(payload).digest())

    def sign_prehashed(self, digest: bytes) -> bytes:
        """Return the DER signature of an image by its 64-byte SHA-512. Raises: KeyPurpose, what the storage raises."""
        if self._purpose != "glance":
            raise KeyPurpose(f"the {self._purpose} key signs documents, never a digest")
        if len(digest) != 64:
            raise KeyPurpose("the glance key signs a SHA-512 digest of 64 bytes and nothing else")
        return self._sign_digest(digest)

    @abstractmethod
    def _sign_digest(self, digest: bytes) -> bytes:
        """Return the DER signature of a SHA-256 (32 bytes) or SHA-512 (64 bytes)."""


class FileSigner(GuardedSigner):
    """A key of a `KeyRing` that is in a file. Raises: what `KeyRing.private_key` raises."""

    def __init__(self, ring: KeyRing, purpose: Purpose) -> None:
        self._key = ring.private_key(purpose)
        super().__init__(purpose, self._key.public_key())

    def _sign_digest(self, digest: bytes) -> bytes:
        algorithm = hashes.SHA512() if len(digest) == 64 else hashes.SHA256()
        return self._key.sign(digest, ec.ECDSA(Prehashed(algorithm)))


def signer_in(ring: KeyRing, purpose: Purpose) -> Signer:
    """Return the signer for `purpose` of a key directory: with a file there, or the token that keys.json names.

    Raises: KeyPurpose, and what the storage raises.
    """
    if purpose not in PURPOSES:
        raise KeyPurpose(f"{purpose!r} is not a purpose")
    uri = ring.where(purpose)
    if uri.startswith("file:"):
        return FileSigner(ring, purpose)
    signer = _in_token(uri, purpose)
    ring.check(purpose, signer.public_key)
    return signer


def signer_for(uri: str, purpose: Purpose, passphrase: Passphrase | None = None) -> Signer:
    """Return the signer for `purpose` at `uri`: file:/path/to/key/directory, or a key in a token (RFC 7512).

    Raises: SignerUnknown, KeyPurpose, and what the storage raises.
    """
    scheme, _, rest = uri.partition(":")
    if purpose not in PURPOSES:
        raise KeyPurpose(f"{purpose!r} is not a purpose")
    if scheme == "file" and rest.startswith("/"):
        return signer_in(KeyRing(Path(rest), passphrase), purpose)
    if scheme == "pkcs11":
        return _in_token(uri, purpose)
    # The URI itself is not shown: some kinds of storage take a secret in it.
    raise SignerUnknown("this is not the URI of a signer; known are those that begin with file:/ or pkcs11:")


def _in_token(uri: str, purpose: Purpose) -> Signer:
    # python-pkcs11 is an extra: asked for only by those who have a token.
    from signing.token import TokenSigner  # noqa: PLC0415
    from signing.token_uri import TokenUri  # noqa: PLC0415

    return TokenSigner(TokenUri.parse(uri), purpose)
