"""Keys in a PKCS #11 token (OASIS PKCS #11 v2.40): they sign there and never leave it. Needs python-pkcs11, an extra.

A session is opened for each signature, with the PIN in the file that the URI names, so that no PIN is kept.
CKM_ECDSA takes a digest of the length of the curve's order, so a SHA-512 is cut to its first 48 bytes for P-384 as
FIPS 186-5, section 6.4.1 has it; what it returns is r and s side by side.
"""

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.asymmetric.utils import encode_dss_signature
from cryptography.hazmat.primitives.serialization import load_der_public_key

from signing.errors import KeyPurpose, PassphraseWrong, SignerUnknown, TokenFailed
from signing.keys import PublicKey, Purpose, curve_of, read_secret
from signing.signer import GuardedSigner
from signing.token_uri import TokenUri

try:
    import pkcs11
    from pkcs11.util.ec import encode_ec_public_key
except ModuleNotFoundError:
    raise SignerUnknown("PKCS #11 tokens need python-pkcs11", advice="pip install 'imagefactory[pkcs11]'") from None


@contextmanager
def opened(uri: TokenUri, *, rw: bool = False) -> Iterator[pkcs11.Session]:
    """A session with the token, logged in as its user. Raises: TokenFailed, PassphraseWrong, and what reading the PIN
    raises."""
    pin = read_secret(uri.pin_source).decode("utf-8", "replace")
    try:
        token = pkcs11.lib(str(uri.module)).get_token(token_label=uri.token)
        with token.open(rw=rw, user_pin=pin) as session:
            yield session
    except (pkcs11.PinIncorrect, pkcs11.PinInvalid, pkcs11.PinLenRange):
        raise PassphraseWrong(f"the token {uri.token!r} does not take the PIN in {str(uri.pin_source)!r}") from None
    except pkcs11.PKCS11Error as why:
        raise TokenFailed(f"the token {uri.token!r} cannot be used: {type(why).__name__}") from None


def public_key(key: pkcs11.PublicKey) -> PublicKey:
    """Return the public key of a token. Raises: TokenFailed."""
    try:
        loaded = load_der_public_key(encode_ec_public_key(key))
    except ValueError:
        raise TokenFailed("a public key in the token cannot be read") from None
    if not isinstance(loaded, ec.EllipticCurvePublicKey):
        raise TokenFailed("a public key in the token is not one on an elliptic curve")
    return loaded


class TokenSigner(GuardedSigner):
    """A key in a token. Raises: KeyPurpose (not on the curve of its purpose), and what `opened` raises."""

    def __init__(self, uri: TokenUri, purpose: Purpose) -> None:
        if uri.label is None and uri.id is None:
            raise SignerUnknown("the PKCS #11 URI names a token and no key in it: say object or id")
        self._uri = uri
        self._named: dict[str, Any] = {"label": uri.label, "id": uri.id}
        with opened(uri) as session:
            key: Any = session.get_key(pkcs11.ObjectClass.PUBLIC_KEY, pkcs11.KeyType.EC, **self._named)
            found = public_key(key)
        curve = curve_of(purpose)
        if found.curve.name != curve.name:
            raise KeyPurpose(f"a {purpose} key is an elliptic curve key on {curve.name}; the one in the token is not")
        self._size = curve.key_size // 8
        super().__init__(purpose, found)

    def _sign_digest(self, digest: bytes) -> bytes:
        with opened(self._uri) as session:
            key: Any = session.get_key(pkcs11.ObjectClass.PRIVATE_KEY, pkcs11.KeyType.EC, **self._named)
            raw = key.sign(digest[: self._size], mechanism=pkcs11.Mechanism.ECDSA)
        if len(raw) != 2 * self._size:
            raise TokenFailed(f"the token {self._uri.token!r} gave a signature of {len(raw)} bytes")
        r, s = raw[: self._size], raw[self._size :]
        return encode_dss_signature(int.from_bytes(r), int.from_bytes(s))
