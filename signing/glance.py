"""The signature that Glance and Nova check: ECDSA P-384 over the SHA-512 of the stored image bytes.

Format: OpenStack's image signature verification (the four `img_signature*` properties; cursive does the checking).
DER (RFC 3279, section 2.2.3) in standard base64, `SHA-512`, `ECC_SECP384R1`. Glance gets the certificate from
Barbican; the release manifest carries it too, so that it can be verified without either.

Rules for verification, in order:

1. The labels are exactly ours.
2. The signature is canonical base64 of canonical DER, with the smaller s (`signing.signer`).
3. The certificate is canonical, and the one with the named fingerprint.
4. The certificate is a P-384 leaf for signing code, valid at the time in question, issued by a trusted CA
   (`signing.certificates`).
5. The signature over the digest verifies with the certificate's key.
"""

import base64
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime

from cryptography import x509
from cryptography.exceptions import InvalidSignature
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.asymmetric.utils import Prehashed

from signing.certificates import certificate_pem, check_leaf, fingerprint, is_p384, load_certificate
from signing.errors import (
    CertificateMismatch,
    CertificatePurpose,
    GlanceEncodingInvalid,
    GlanceLabelInvalid,
    GlanceSignatureInvalid,
    SignatureInvalid,
)
from signing.fields import parse_base64
from signing.keys import keyid_of
from signing.signer import Signer, one_spelling

HASH_METHOD = "SHA-512"
KEY_TYPE = "ECC_SECP384R1"


@dataclass(frozen=True)
class GlanceSignature:
    """The `img_signature*` properties, and the certificate (PEM) with its SHA-256 (hex, of the DER form)."""

    img_signature: str
    img_signature_hash_method: str
    img_signature_key_type: str
    certificate_sha256: str
    certificate: str


def sign_image(signer: Signer, certificate: x509.Certificate, sha512: bytes) -> GlanceSignature:
    """Return the signature of an image by its SHA-512 (64 bytes).

    Raises: CertificatePurpose, CertificateMismatch (the certificate is not for the signer's key), KeyPurpose.
    """
    if not is_p384(certificate):
        raise CertificatePurpose("the certificate's key is not on P-384")
    key = certificate.public_key()
    if not isinstance(key, ec.EllipticCurvePublicKey) or keyid_of(key) != signer.keyid:
        raise CertificateMismatch("the certificate is for another key than the one that signs")
    return GlanceSignature(
        img_signature=base64.b64encode(one_spelling(signer.sign_prehashed(sha512), key.curve)).decode("ascii"),
        img_signature_hash_method=HASH_METHOD,
        img_signature_key_type=KEY_TYPE,
        certificate_sha256=fingerprint(certificate),
        certificate=certificate_pem(certificate),
    )


def verify_image_signature(
    signature: GlanceSignature, sha512: bytes, authorities: Sequence[x509.Certificate], *, at: datetime
) -> x509.Certificate:
    """Return the certificate that signed, if the signature is good for this SHA-512 (64 bytes) at the aware time `at`.

    Raises: GlanceLabelInvalid, GlanceEncodingInvalid, CertificateDamaged, CertificateMismatch, CertificatePurpose,
    CertificateExpired, CertificateUntrusted, GlanceSignatureInvalid.
    """
    if (signature.img_signature_hash_method, signature.img_signature_key_type) != (HASH_METHOD, KEY_TYPE):
        raise GlanceLabelInvalid(f"the Glance signature is not labelled {HASH_METHOD} and {KEY_TYPE}")
    der = _decode(signature.img_signature)
    certificate = load_certificate(signature.certificate)
    if fingerprint(certificate) != signature.certificate_sha256:
        raise CertificateMismatch("the certificate is not the one whose fingerprint is given")
    check_leaf(certificate, authorities, at)
    key = certificate.public_key()
    if not isinstance(key, ec.EllipticCurvePublicKey) or len(sha512) != 64:
        raise GlanceSignatureInvalid("the Glance signature is not one of a SHA-512 by an elliptic curve key")
    try:
        key.verify(der, sha512, ec.ECDSA(Prehashed(hashes.SHA512())))
    except InvalidSignature:
        raise GlanceSignatureInvalid("the Glance signature does not belong to the image") from None
    return certificate


def _decode(text: str) -> bytes:
    try:
        der = parse_base64(text)
        canonical = one_spelling(der, ec.SECP384R1())
    except (ValueError, SignatureInvalid) as why:
        raise GlanceEncodingInvalid(f"the Glance signature is {why}") from None
    if canonical != der:
        raise GlanceEncodingInvalid("the Glance signature is not canonical DER with the smaller s")
    return der
