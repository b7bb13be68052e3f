"""X.509 for the one purpose that needs it: the Glance signature.

The rules for a leaf, in the order in which they are checked (RFC 5280):

1. It is canonical PEM of one certificate with a positive serial number, and has the fingerprint that was named.
2. Its key is on P-384.
3. It may sign and only sign: key usage has digitalSignature and not keyCertSign, extended key usage is codeSigning
   and nothing else, basicConstraints says that it is no CA.
4. It is valid at the time in question.
5. A CA of the trust file issued it directly, and is valid then, and is a CA.

cursive, which Glance and Nova use, checks none of 1, 2 and 3.
"""

import contextlib
import hashlib
from collections.abc import Sequence
from datetime import datetime, timedelta

from cryptography import x509
from cryptography.exceptions import UnsupportedAlgorithm
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.serialization import Encoding
from cryptography.x509.oid import ExtendedKeyUsageOID
from cryptography.x509.verification import ExtensionPolicy, PolicyBuilder, Store, VerificationError

from signing.errors import CertificateDamaged, CertificateExpired, CertificatePurpose, CertificateUntrusted

CLOCK_SKEW = timedelta(minutes=5)
"""How far back a new certificate is dated, for hosts whose clocks are behind."""


def load_certificate(pem: str) -> x509.Certificate:
    """Return the certificate of a canonical PEM text (RFC 7468): one block, nothing before or after it.

    Raises: CertificateDamaged.
    """
    try:
        certificate = x509.load_pem_x509_certificate(pem.encode("ascii"))
        # The library parses these when it is asked for them: what is damaged in them is damaged here.
        _ = certificate.subject, certificate.issuer, certificate.not_valid_before_utc, certificate.not_valid_after_utc
        with contextlib.suppress(x509.DuplicateExtension):
            _ = certificate.extensions
    except (TypeError, ValueError, UnsupportedAlgorithm, x509.InvalidVersion, x509.UnsupportedGeneralNameType):
        raise CertificateDamaged("the certificate cannot be read") from None
    # The library passes over the number of unused bits before the signature, which nothing signs: it is 0.
    whole = certificate.public_bytes(Encoding.DER).endswith(b"\0" + certificate.signature)
    if certificate_pem(certificate) != pem or certificate.serial_number < 1 or not whole:
        raise CertificateDamaged("the certificate is not canonical PEM of one, whole and with a positive serial number")
    return certificate


def certificate_pem(certificate: x509.Certificate) -> str:
    """Return the canonical PEM text, ending with a newline."""
    return certificate.public_bytes(Encoding.PEM).decode("ascii")


def fingerprint(certificate: x509.Certificate) -> str:
    """Return the SHA-256 of the DER form in lower-case hex."""
    return hashlib.sha256(certificate.public_bytes(Encoding.DER)).hexdigest()


def check_leaf(leaf: x509.Certificate, authorities: Sequence[x509.Certificate], at: datetime) -> None:
    """Check rules 2 to 5 for `leaf` at the aware time `at`.

    Raises: CertificatePurpose, CertificateExpired, CertificateUntrusted.
    """
    if not is_p384(leaf):
        raise CertificatePurpose("the certificate's key is not on P-384")
    _check_usage(leaf)
    if not leaf.not_valid_before_utc <= at <= leaf.not_valid_after_utc:
        raise CertificateExpired(
            f"the certificate is valid from {leaf.not_valid_before_utc:%Y-%m-%d} to {leaf.not_valid_after_utc:%Y-%m-%d}"
        )
    _check_chain(leaf, authorities, at)


def is_p384(certificate: x509.Certificate) -> bool:
    """Return whether the certificate's key is an elliptic curve key on P-384."""
    try:
        key = certificate.public_key()
    except (ValueError, UnsupportedAlgorithm):  # what the library does not know is not P-384 either
        return False
    return isinstance(key, ec.EllipticCurvePublicKey) and isinstance(key.curve, ec.SECP384R1)


def _check_usage(leaf: x509.Certificate) -> None:
    try:
        extensions = leaf.extensions
        usage = extensions.get_extension_for_class(x509.KeyUsage).value
        extended = extensions.get_extension_for_class(x509.ExtendedKeyUsage).value
        basic = extensions.get_extension_for_class(x509.BasicConstraints).value
    except (x509.ExtensionNotFound, x509.DuplicateExtension, ValueError):
        raise CertificatePurpose("the certificate does not say what it may be used for") from None
    if not usage.digital_signature or usage.key_cert_sign:
        raise CertificatePurpose("the certificate's key usage is not digitalSignature")
    if list(extended) != [ExtendedKeyUsageOID.CODE_SIGNING]:
        raise CertificatePurpose("the certificate's extended key usage is not codeSigning alone")
    if basic.ca:
        raise CertificatePurpose("the certificate is a CA, not a leaf")


def _check_chain(leaf: x509.Certificate, authorities: Sequence[x509.Certificate], at: datetime) -> None:
    if not authorities:
        raise CertificateUntrusted("there is no CA to trust")
    # The leaf's own extensions were checked above; the library's defaults for leaves are those of web servers.
    policy = (
        PolicyBuilder()
        .store(Store(list(authorities)))
        .time(at)
        .max_chain_depth(0)
        .extension_policies(
            ca_policy=ExtensionPolicy.webpki_defaults_ca(),
            ee_policy=ExtensionPolicy.permit_all(),
        )
    )
    try:
        policy.build_client_verifier().verify(leaf, [])
    except VerificationError:
        issuers = [ca for ca in authorities if ca.subject == leaf.issuer]
        if issuers and not any(ca.not_valid_before_utc <= at <= ca.not_valid_after_utc for ca in issuers):
            raise CertificateExpired("the CA of the certificate is not valid at this time") from None
        raise CertificateUntrusted("the certificate was not issued by a CA in the trust file") from None
