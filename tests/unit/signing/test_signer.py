from pathlib import Path

import pytest
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.asymmetric.utils import Prehashed, encode_dss_signature

from signing.errors import KeyPurpose, KeysMissing, SignatureInvalid, SignerUnknown
from signing.keys import PURPOSES, Purpose, keyid_of
from signing.signer import Signer, one_spelling, signer_for
from tests.unit.signing.builders import Keys

DSSE = b"DSSEv1 1 a 1 b"
SUMS = b"# imagefactory SHA256SUMS v1\n"
TUF = b'{"_type":"root"}'
ACCEPTED: dict[Purpose, set[bytes]] = {
    "root": {TUF},
    "targets": {TUF},
    "freshness": {TUF},
    "release": {DSSE, SUMS},
    "provenance": {DSSE},
    "glance": set(),
}


@pytest.mark.parametrize("purpose", PURPOSES)
@pytest.mark.parametrize("payload", [DSSE, SUMS, TUF, b"", b"anything", SUMS[:-1], b"\n" + SUMS])
def test_a_key_signs_the_documents_of_its_purpose(keys: Keys, purpose: Purpose, payload: bytes) -> None:
    signer: Signer = keys.signer(purpose)
    if payload in ACCEPTED[purpose]:
        signer.public_key.verify(signer.sign(payload), payload, ec.ECDSA(hashes.SHA256()))
    else:
        with pytest.raises(KeyPurpose, match="does not sign this kind of document") as caught:
            signer.sign(payload)
        assert caught.value.code == "key-purpose"


@pytest.mark.parametrize("purpose", PURPOSES)
def test_only_glance_signs_digests(keys: Keys, purpose: Purpose) -> None:
    signer = keys.signer(purpose)
    digest = bytes(range(64))
    if purpose == "glance":
        signer.public_key.verify(signer.sign_prehashed(digest), digest, ec.ECDSA(Prehashed(hashes.SHA512())))
    else:
        with pytest.raises(KeyPurpose, match="never a digest"):
            signer.sign_prehashed(digest)


@pytest.mark.parametrize("length", [0, 32, 48, 63, 65])
def test_other_digests(keys: Keys, length: int) -> None:
    with pytest.raises(KeyPurpose, match="SHA-512 digest of 64 bytes"):
        keys.signer("glance").sign_prehashed(bytes(length))


def test_uri(keys: Keys) -> None:
    signer = signer_for(f"file:{keys.directory}", "release")
    assert signer.purpose == "release"
    assert signer.keyid == keyid_of(signer.public_key)


@pytest.mark.parametrize("uri", ["", "file:", "file:relative", "/path", "vault:token=x;pin-value=1234", "File:/x"])
def test_unknown_uris(uri: str) -> None:
    with pytest.raises(SignerUnknown, match="known are those that begin with file:/") as caught:
        signer_for(uri, "release")
    assert caught.value.code == "signer-unknown"
    assert "1234" not in caught.value.message


def test_no_such_purpose(keys: Keys) -> None:
    with pytest.raises(KeyPurpose, match=r"'\.\./release' is not a purpose"):
        signer_for(f"file:{keys.directory}", "../release")  # type: ignore[arg-type]  # that is the point


def test_no_such_directory(tmp_path: Path) -> None:
    with pytest.raises(KeysMissing):
        signer_for(f"file:{tmp_path / 'none'}", "release")


def test_no_secret_is_shown(keys: Keys) -> None:
    secret = keys.ring.private_key("release").private_numbers().private_value
    signer = keys.signer("release")
    for shown in (repr(keys.ring), repr(signer), str(signer)):
        assert str(secret) not in shown
        assert f"{secret:x}" not in shown
        assert "PRIVATE" not in shown


@pytest.mark.parametrize("curve", [ec.SECP256R1(), ec.SECP384R1()])
def test_one_spelling(curve: ec.EllipticCurve) -> None:
    order = curve.group_order
    for s in (1, 2, order // 2, order // 2 + 1, order - 1):
        found = one_spelling(encode_dss_signature(7, s), curve)
        assert found == encode_dss_signature(7, min(s, order - s))
        assert one_spelling(found, curve) == found


@pytest.mark.parametrize(
    "raw", [b"", b"x", bytes(64), encode_dss_signature(1, 2) + b"\0", encode_dss_signature(1, 2**400)]
)
def test_no_spelling(raw: bytes) -> None:
    with pytest.raises(SignatureInvalid, match="not DER of an ECDSA signature"):
        one_spelling(raw, ec.SECP256R1())
