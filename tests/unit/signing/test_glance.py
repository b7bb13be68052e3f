import base64
import hashlib
from collections.abc import Callable
from dataclasses import replace
from datetime import datetime, timedelta

import pytest
from cryptography import x509
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec, rsa
from cryptography.hazmat.primitives.asymmetric.utils import decode_dss_signature, encode_dss_signature
from cryptography.hazmat.primitives.serialization import Encoding
from cryptography.x509.oid import ExtendedKeyUsageOID, ExtensionOID, NameOID
from hypothesis import given, settings
from hypothesis import strategies as st

from imagefactory.factory.authority import CA_VALIDITY, LEAF_VALIDITY, issue_ca, issue_leaf
from signing.certificates import certificate_pem, check_leaf, fingerprint, load_certificate
from signing.errors import CertificateDamaged, CertificateMismatch, CertificatePurpose, KeyPurpose, SigningError
from signing.glance import GlanceSignature, sign_image, verify_image_signature
from signing.signer import one_spelling
from tests.unit.signing.builders import NOW, Keys, respelled

DIGEST = hashlib.sha512(b"image").digest()


@pytest.fixture(scope="module")
def signature(keys: Keys) -> GlanceSignature:
    return sign_image(keys.signer("glance"), keys.ring.certificate(), DIGEST)


def test_good(keys: Keys, strangers: Keys, signature: GlanceSignature) -> None:
    assert (signature.img_signature_hash_method, signature.img_signature_key_type) == ("SHA-512", "ECC_SECP384R1")
    assert len(signature.img_signature) < 255
    several = (*strangers.trust.glance_ca, *keys.trust.glance_ca)
    assert verify_image_signature(signature, DIGEST, several, at=NOW) == keys.ring.certificate()


def test_signer_and_certificate_belong_together(keys: Keys, strangers: Keys) -> None:
    with pytest.raises(CertificateMismatch, match="for another key than the one that signs"):
        sign_image(keys.signer("glance"), strangers.ring.certificate(), DIGEST)
    with pytest.raises(CertificateMismatch):
        sign_image(keys.signer("release"), keys.ring.certificate(), DIGEST)
    with pytest.raises(KeyPurpose, match="64 bytes"):
        sign_image(keys.signer("glance"), keys.ring.certificate(), DIGEST[:48])
    small = ec.generate_private_key(ec.SECP256R1()).public_key()
    certificate = issue_leaf(small, "small", keys.trust.glance_ca[0], ec.generate_private_key(ec.SECP384R1()), NOW)
    with pytest.raises(CertificatePurpose, match="not on P-384"):
        sign_image(keys.signer("release"), certificate, DIGEST)


def recoded(text: str, alter: Callable[[bytes], bytes]) -> str:
    return base64.b64encode(alter(base64.b64decode(text))).decode()


def long_length(der: bytes) -> bytes:
    return der[:1] + b"\x81" + der[1:]


def padded_integer(der: bytes) -> bytes:
    length = der[3]
    return bytes((0x30, der[1] + 1, 2, length + 1, 0)) + der[4:]


def swapped(der: bytes) -> bytes:
    r, s = decode_dss_signature(der)
    return one_spelling(encode_dss_signature(s, r), ec.SECP384R1())


BAD: dict[str, tuple[Callable[[GlanceSignature], GlanceSignature], str, str]] = {
    "hash method": (lambda s: replace(s, img_signature_hash_method="SHA-256"), "glance-label-invalid", "not labelled"),
    "hash case": (lambda s: replace(s, img_signature_hash_method="sha-512"), "glance-label-invalid", "not labelled"),
    "key type": (lambda s: replace(s, img_signature_key_type="ECC_SECP521R1"), "glance-label-invalid", "not labelled"),
    "not base64": (
        lambda s: replace(s, img_signature="!" + s.img_signature),
        "glance-encoding-invalid",
        "signature is not base64",
    ),
    "newline": (lambda s: replace(s, img_signature=s.img_signature + "\n"), "glance-encoding-invalid", "not base64"),
    "bytes of Python": (
        lambda s: replace(s, img_signature=f"b'{s.img_signature}'"),
        "glance-encoding-invalid",
        "not base64",
    ),
    "stray bits": (
        lambda s: replace(s, img_signature="AB=="),
        "glance-encoding-invalid",
        "not canonical base64",
    ),
    "empty": (lambda s: replace(s, img_signature=""), "glance-encoding-invalid", "not DER"),
    "raw r and s": (
        lambda s: replace(s, img_signature=base64.b64encode(bytes(96)).decode()),
        "glance-encoding-invalid",
        "not DER of an ECDSA signature",
    ),
    "trailing byte": (
        lambda s: replace(s, img_signature=recoded(s.img_signature, lambda der: der + b"\0")),
        "glance-encoding-invalid",
        "DER",
    ),
    "long length": (
        lambda s: replace(s, img_signature=recoded(s.img_signature, long_length)),
        "glance-encoding-invalid",
        "DER",
    ),
    "padded integer": (
        lambda s: replace(s, img_signature=recoded(s.img_signature, padded_integer)),
        "glance-encoding-invalid",
        "DER",
    ),
    "r and s swapped": (
        lambda s: replace(s, img_signature=recoded(s.img_signature, swapped)),
        "glance-signature-invalid",
        "does not belong to the image",
    ),
    "n - s for s": (
        lambda s: replace(s, img_signature=recoded(s.img_signature, lambda der: respelled(der, ec.SECP384R1()))),
        "glance-encoding-invalid",
        "not canonical DER with the smaller s",
    ),
    "zeros": (
        lambda s: replace(s, img_signature=base64.b64encode(encode_dss_signature(0, 0)).decode()),
        "glance-signature-invalid",
        "does not belong",
    ),
    "fingerprint": (lambda s: replace(s, certificate_sha256="ab" * 32), "certificate-mismatch", "fingerprint"),
    "certificate empty": (lambda s: replace(s, certificate=""), "certificate-damaged", "cannot be read"),
    "certificate not ASCII": (lambda s: replace(s, certificate="é"), "certificate-damaged", "cannot be read"),
    "certificate with more": (
        lambda s: replace(s, certificate=s.certificate + "more\n"),
        "certificate-damaged",
        "not canonical PEM",
    ),
}


@pytest.mark.parametrize(("alter", "code", "text"), BAD.values(), ids=BAD.keys())
def test_bad_signatures(
    keys: Keys,
    signature: GlanceSignature,
    alter: Callable[[GlanceSignature], GlanceSignature],
    code: str,
    text: str,
) -> None:
    with pytest.raises(SigningError, match=text) as caught:
        verify_image_signature(alter(signature), DIGEST, keys.trust.glance_ca, at=NOW)
    assert caught.value.code == code


@pytest.mark.parametrize("digest", [DIGEST[::-1], DIGEST[:48], b"", hashlib.sha512(b"other").digest()])
def test_another_image(keys: Keys, signature: GlanceSignature, digest: bytes) -> None:
    with pytest.raises(SigningError) as caught:
        verify_image_signature(signature, digest, keys.trust.glance_ca, at=NOW)
    assert caught.value.code == "glance-signature-invalid"


def test_another_ca(strangers: Keys, signature: GlanceSignature) -> None:
    """The strangers' CA has the same name as ours."""
    for authorities in (strangers.trust.glance_ca, ()):
        with pytest.raises(SigningError) as caught:
            verify_image_signature(signature, DIGEST, authorities, at=NOW)
        assert caught.value.code == "certificate-untrusted"


@pytest.mark.parametrize("at", [NOW - timedelta(minutes=6), NOW + LEAF_VALIDITY + timedelta(seconds=1)])
def test_dates_of_the_leaf(keys: Keys, signature: GlanceSignature, at: datetime) -> None:
    with pytest.raises(SigningError, match="valid from 2025-11-21 to 2028-11-20") as caught:
        verify_image_signature(signature, DIGEST, keys.trust.glance_ca, at=at)
    assert caught.value.code == "certificate-expired"


CA_KEY, LEAF_KEY = ec.generate_private_key(ec.SECP384R1()), ec.generate_private_key(ec.SECP384R1())
CA = issue_ca(CA_KEY, "test CA", NOW)
KU = x509.KeyUsage(True, False, False, False, False, False, False, False, False)
KU_CA = x509.KeyUsage(True, False, False, False, False, True, False, False, False)
KU_AGREEMENT = x509.KeyUsage(False, False, False, False, True, False, False, False, False)
CODE = x509.ExtendedKeyUsage([ExtendedKeyUsageOID.CODE_SIGNING])
SERVER = x509.ExtendedKeyUsage([ExtendedKeyUsageOID.SERVER_AUTH])
BOTH = x509.ExtendedKeyUsage([ExtendedKeyUsageOID.CODE_SIGNING, ExtendedKeyUsageOID.SERVER_AUTH])
LEAF = x509.BasicConstraints(ca=False, path_length=None)
IS_CA = x509.BasicConstraints(ca=True, path_length=None)
SignedBy = ec.EllipticCurvePrivateKey | rsa.RSAPrivateKey


def verify_with(
    extensions: tuple[x509.ExtensionType, ...],
    key: SignedBy = LEAF_KEY,
    issuer_key: ec.EllipticCurvePrivateKey = CA_KEY,
) -> None:
    """Sign as somebody would whose CA issued a leaf with these extensions, and verify."""
    builder = (
        x509.CertificateBuilder()
        .subject_name(x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, "leaf")]))
        .issuer_name(CA.subject)
        .public_key(key.public_key())
        .serial_number(x509.random_serial_number())
        .not_valid_before(NOW)
        .not_valid_after(NOW + timedelta(days=9000))
        .add_extension(x509.AuthorityKeyIdentifier.from_issuer_public_key(CA_KEY.public_key()), critical=False)
    )
    for each in extensions:
        builder = builder.add_extension(each, critical=not isinstance(each, x509.ExtendedKeyUsage))
    certificate = builder.sign(issuer_key, hashes.SHA384())
    der = LEAF_KEY.sign(b"image", ec.ECDSA(hashes.SHA512()))
    signature = GlanceSignature(
        base64.b64encode(one_spelling(der, ec.SECP384R1())).decode(),
        "SHA-512",
        "ECC_SECP384R1",
        fingerprint(certificate),
        certificate_pem(certificate),
    )
    verify_image_signature(signature, DIGEST, [CA], at=NOW + timedelta(days=1))


def test_good_leaf() -> None:
    verify_with((KU, CODE, LEAF))


LEAVES: dict[str, tuple[tuple[x509.ExtensionType, ...], SignedBy, str]] = {
    "no key usage": ((CODE, LEAF), LEAF_KEY, "does not say what it may be used for"),
    "no extended key usage": ((KU, LEAF), LEAF_KEY, "does not say"),
    "no basic constraints": ((KU, CODE), LEAF_KEY, "does not say"),
    "agreement": ((KU_AGREEMENT, CODE, LEAF), LEAF_KEY, "not digitalSignature"),
    "may sign certificates": ((KU_CA, CODE, LEAF), LEAF_KEY, "not digitalSignature"),
    "web server": ((KU, SERVER, LEAF), LEAF_KEY, "not codeSigning alone"),
    "both": ((KU, BOTH, LEAF), LEAF_KEY, "not codeSigning alone"),
    "CA": ((KU, CODE, IS_CA), LEAF_KEY, "is a CA, not a leaf"),
    "P-256": ((KU, CODE, LEAF), ec.generate_private_key(ec.SECP256R1()), "not on P-384"),
    "P-521": ((KU, CODE, LEAF), ec.generate_private_key(ec.SECP521R1()), "not on P-384"),
    "RSA": ((KU, CODE, LEAF), rsa.generate_private_key(65537, 2048), "not on P-384"),
}


@pytest.mark.parametrize(("extensions", "key", "text"), LEAVES.values(), ids=LEAVES.keys())
def test_bad_leaves(extensions: tuple[x509.ExtensionType, ...], key: SignedBy, text: str) -> None:
    with pytest.raises(CertificatePurpose, match=text) as caught:
        verify_with(extensions, key)
    assert caught.value.code == "certificate-purpose"


def damaged_pem(der: bytes) -> str:
    body = base64.encodebytes(der).decode().replace("\n", "")
    lines = [body[at : at + 64] for at in range(0, len(body), 64)]
    return "\n".join(["-----BEGIN CERTIFICATE-----", *lines, "-----END CERTIFICATE-----", ""])


X400 = x509.UnrecognizedExtension(ExtensionOID.SUBJECT_ALTERNATIVE_NAME, bytes.fromhex("3004a3023000"))


def test_names_that_the_library_does_not_know() -> None:
    """They come out as exceptions of many families, and not before somebody looks."""
    with pytest.raises(CertificateDamaged) as caught:
        verify_with((KU, CODE, LEAF, X400))
    assert caught.value.code == "certificate-damaged"


@pytest.mark.parametrize("version", [1, 3, 127])
def test_versions_of_x509_that_do_not_exist(keys: Keys, version: int) -> None:
    der = keys.ring.certificate().public_bytes(Encoding.DER)
    altered = der.replace(bytes.fromhex("a003020102"), bytes([0xA0, 3, 2, 1, version]), 1)
    assert altered != der
    with pytest.raises(CertificateDamaged):
        load_certificate(damaged_pem(altered))


@pytest.mark.parametrize("tag", [0x02, 0x03, 0x05])
def test_names_that_are_no_text(keys: Keys, tag: int) -> None:
    """A common name that is a BIT STRING: a TypeError of the library, which fuzzing found."""
    der = keys.ring.certificate().public_bytes(Encoding.DER)
    name = keys.ring.certificate().subject.get_attributes_for_oid(NameOID.COMMON_NAME)[0].value
    assert isinstance(name, str)
    altered = der.replace(bytes((0x0C, len(name))) + name.encode(), bytes((tag, len(name))) + name.encode())
    assert altered != der
    with pytest.raises(CertificateDamaged, match="cannot be read"):
        load_certificate(damaged_pem(altered))


def test_serial_numbers_are_positive(keys: Keys) -> None:
    """RFC 5280, 4.1.2.2; the library only warns."""
    der = keys.ring.certificate().public_bytes(Encoding.DER)
    first = der.index(bytes.fromhex("a003020102")) + 7
    # Not 0xFF, which DER leaves away before another bit that is set.
    altered = der[:first] + b"\x80" + der[first + 1 :]
    with pytest.raises(CertificateDamaged, match="positive serial number"):
        load_certificate(damaged_pem(altered))


def test_a_signature_with_unused_bits() -> None:
    """Where its last bit is 0, "one bit is unused" says the same in other words, and no signature covers them."""
    certificates = (issue_ca(CA_KEY, "test CA", NOW) for _ in range(100))
    certificate = next(each for each in certificates if each.signature[-1] % 2 == 0)
    der = certificate.public_bytes(Encoding.DER)
    end = len(der) - len(certificate.signature)
    with pytest.raises(CertificateDamaged):
        load_certificate(damaged_pem(der[: end - 1] + b"\1" + der[end:]))


@settings(max_examples=300, deadline=None)
@given(st.data())
@pytest.mark.filterwarnings("ignore::cryptography.utils.CryptographyDeprecationWarning")
def test_any_other_certificate_is_refused_in_our_own_words(keys: Keys, data: st.DataObject) -> None:
    der = keys.ring.certificate().public_bytes(Encoding.DER)
    place = data.draw(st.integers(0, len(der) - 1))
    byte = data.draw(st.integers(0, 255).filter(lambda value: value != der[place]))
    with pytest.raises(SigningError):
        check_leaf(
            load_certificate(damaged_pem(der[:place] + bytes([byte]) + der[place + 1 :])), keys.trust.glance_ca, NOW
        )


def test_forged_issuer() -> None:
    with pytest.raises(SigningError) as caught:
        verify_with((KU, CODE, LEAF), issuer_key=LEAF_KEY)
    assert caught.value.code == "certificate-untrusted"


def test_expired_ca() -> None:
    """A leaf that outlives its CA is worth nothing after the CA's end."""
    long_leaf = issue_leaf(LEAF_KEY.public_key(), "leaf", CA, CA_KEY, NOW + CA_VALIDITY - timedelta(days=1))
    der = LEAF_KEY.sign(b"image", ec.ECDSA(hashes.SHA512()))
    signature = GlanceSignature(
        base64.b64encode(one_spelling(der, ec.SECP384R1())).decode(),
        "SHA-512",
        "ECC_SECP384R1",
        fingerprint(long_leaf),
        certificate_pem(long_leaf),
    )
    verify_image_signature(signature, DIGEST, [CA], at=NOW + CA_VALIDITY)
    with pytest.raises(SigningError, match="the CA of the certificate is not valid") as caught:
        verify_image_signature(signature, DIGEST, [CA], at=NOW + CA_VALIDITY + timedelta(days=1))
    assert caught.value.code == "certificate-expired"
