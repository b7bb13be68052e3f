"""Project Wycheproof's vectors for the two signature algorithms that we verify, through our own verification.

Each vector goes the whole way of a document that carries it: an envelope, SHA256SUMS, a Glance signature with its
certificate. Only what the signed bytes say is replaced, because the vectors sign bytes of their own.
"""

import base64
import gzip
import hashlib
import json
from collections import Counter
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path

import pytest
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.asymmetric.utils import decode_dss_signature
from securesystemslib.dsse import Envelope
from securesystemslib.signer import Signature  # type: ignore[attr-defined]  # public, but not in its __all__

from imagefactory.factory.authority import issue_ca, issue_leaf
from signing import checksums
from signing.certificates import certificate_pem, fingerprint
from signing.envelope import PAYLOAD_TYPE, Bundle
from signing.errors import GlanceEncodingInvalid, GlanceSignatureInvalid, SignatureInvalid, SigningError
from signing.glance import HASH_METHOD, KEY_TYPE, GlanceSignature, verify_image_signature
from signing.keys import PublicKey, Purpose, keyid_of, load_public_key
from signing.signer import one_spelling

VECTORS = Path(__file__).parent.parent / "data" / "wycheproof"
NOW = datetime(2025, 11, 21, 19, 0, tzinfo=UTC)
CA_KEY = ec.generate_private_key(ec.SECP384R1())
CA = issue_ca(CA_KEY, "Wycheproof CA", NOW)


@dataclass(frozen=True)
class Vector:
    """One signature: of `message` by `key`, good or not."""

    number: int
    key: PublicKey
    message: bytes
    signature: bytes
    valid: bool
    flags: tuple[str, ...]

    @property
    def respelled(self) -> bool:
        """Whether it is good, and not in the one spelling that we accept."""
        return self.valid and one_spelling(self.signature, self.key.curve) != self.signature


def vectors(file: str, purpose: Purpose) -> Iterator[Vector]:
    document = json.loads(gzip.decompress((VECTORS / file).read_bytes()))
    found = 0
    for group in document["testGroups"]:
        key = load_public_key(group["publicKeyPem"], purpose)
        for test in group["tests"]:
            assert test["result"] in {"valid", "invalid"}  # "acceptable" would leave it to us
            found += 1
            message, signature = bytes.fromhex(test["msg"]), bytes.fromhex(test["sig"])
            yield Vector(test["tcId"], key, message, signature, test["result"] == "valid", tuple(test["flags"]))
    assert found == document["numberOfTests"]


Verify = Callable[[Vector, bytes], None]
P256 = list(vectors("ecdsa_secp256r1_sha256_test.json.gz", "release"))
P384 = list(vectors("ecdsa_secp384r1_sha512_test.json.gz", "glance"))


class AnyBytes(Envelope):
    """An envelope whose signed bytes are given, instead of being made from the payload."""

    def pae(self) -> bytes:
        return bytes.fromhex(self.payload_type)


def by_envelope(vector: Vector, signature: bytes) -> None:
    keyid = keyid_of(vector.key)
    envelope = AnyBytes(b"{}", vector.message.hex(), {keyid: Signature(keyid, signature.hex())})
    assert envelope.payload_type != PAYLOAD_TYPE
    assert Bundle(keyid, envelope).open({keyid: vector.key}) == {}


def by_checksums(vector: Vector, signature: bytes) -> None:
    keyid = keyid_of(vector.key)
    assert checksums.verify_checksums(vector.message, signature, {keyid: vector.key}) == (keyid, {})


def by_glance(vector: Vector, signature: bytes) -> None:
    leaf = issue_leaf(vector.key, "Wycheproof leaf", CA, CA_KEY, NOW)
    signed = GlanceSignature(
        base64.b64encode(signature).decode(), HASH_METHOD, KEY_TYPE, fingerprint(leaf), certificate_pem(leaf)
    )
    assert verify_image_signature(signed, hashlib.sha512(vector.message).digest(), [CA], at=NOW) == leaf


def refused(verify: Verify, vector: Vector, errors: tuple[type[SigningError], ...]) -> bool:
    """Whether the vector as it stands is refused, with one of `errors` and with nothing else."""
    try:
        verify(vector, vector.signature)
    except errors:
        return True
    return False


@pytest.fixture(autouse=True)
def any_document(monkeypatch: pytest.MonkeyPatch) -> None:
    """SHA256SUMS of any bytes: the vectors' messages are no documents of ours."""
    monkeypatch.setattr(checksums, "parse_checksums", lambda _: {})


WAYS = [
    pytest.param(by_envelope, P256, (SignatureInvalid,), id="envelope"),
    pytest.param(by_checksums, P256, (SignatureInvalid,), id="checksums"),
    pytest.param(by_glance, P384, (GlanceSignatureInvalid, GlanceEncodingInvalid), id="glance"),
]


@pytest.mark.parametrize(("verify", "given", "errors"), WAYS)
def test_every_invalid_vector_is_refused(
    verify: Verify, given: list[Vector], errors: tuple[type[SigningError], ...]
) -> None:
    invalid = [vector for vector in given if not vector.valid]
    assert len(invalid) > 300
    for vector in invalid:
        assert refused(verify, vector, errors), f"vector {vector.number} {vector.flags} was accepted"


@pytest.mark.parametrize(("verify", "given", "errors"), WAYS)
def test_every_valid_vector_is_accepted_in_its_one_spelling(
    verify: Verify, given: list[Vector], errors: tuple[type[SigningError], ...]
) -> None:
    valid = [vector for vector in given if vector.valid]
    assert len(valid) > 150
    for vector in valid:
        verify(vector, one_spelling(vector.signature, vector.key.curve))
        if vector.respelled:
            assert refused(verify, vector, errors), f"vector {vector.number} has the larger s and was accepted"


# Valid vectors that we refuse as they stand, by flag: all have the larger s, and none is refused for anything else.
STRICTER = {
    "P-256": {
        "ArithmeticError": 28,
        "EdgeCasePublicKey": 13,
        "PointDuplication": 1,
        "SpecialCaseHash": 23,
        "ValidSignature": 6,
    },
    "P-384": {
        "ArithmeticError": 25,
        "EdgeCasePublicKey": 10,
        "EdgeCaseShamirMultiplication": 1,
        "PointDuplication": 1,
        "SpecialCaseHash": 59,
        "ValidSignature": 5,
    },
}


@pytest.mark.parametrize(("name", "given"), [("P-256", P256), ("P-384", P384)])
def test_only_the_larger_s_is_refused(name: str, given: list[Vector]) -> None:
    respelled = [vector for vector in given if vector.respelled]
    for vector in respelled:
        _, s = decode_dss_signature(vector.signature)
        assert s > vector.key.curve.group_order // 2
    assert Counter(flag for vector in respelled for flag in vector.flags) == STRICTER[name]
