import pytest
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec

from signing.checksums import build_checksums, parse_checksums, sign_checksums, verify_checksums
from signing.errors import ChecksumsInvalid, KeyPurpose, SignatureInvalid
from tests.unit.signing.builders import Keys, respelled

HEAD = b"# imagefactory SHA256SUMS v1\n"
A, B = b"ab" * 32, b"cd" * 32
GOOD = HEAD + A + b"  a.raw\n" + B + b"  b.raw\n"
BAD = {
    "empty": (b"", "does not begin with its first line"),
    "no first line": (A + b"  a.raw\n", "does not begin"),
    "v2": (GOOD.replace(b"v1", b"v2"), "does not begin"),
    "windows": (GOOD.replace(b"\n", b"\r\n"), "does not begin"),
    "something before": (b"\n" + GOOD, "does not begin"),
    "DSSE": (b"DSSEv1 " + GOOD, "does not begin"),
    "no file": (HEAD, "names no file"),
    "last line open": (GOOD[:-1], "last line does not end"),
    "empty line": (GOOD + b"\n", "a line that is not HEX"),
    "comment": (HEAD + b"# more\n" + A + b"  a.raw\n", "a line that is not HEX"),
    "one space": (HEAD + A + b" a.raw\n", "a line that is not HEX"),
    "binary mark": (HEAD + A + b" *a.raw\n", "a line that is not HEX"),
    "upper case": (HEAD + A.upper() + b"  a.raw\n", "a line that is not HEX"),
    "short": (HEAD + A[2:] + b"  a.raw\n", "a line that is not HEX"),
    "path": (HEAD + A + b"  x/a.raw\n", "a line that is not HEX"),
    "parent": (HEAD + A + b"  ..\n", "a line that is not HEX"),
    "carriage return": (HEAD + A + b"  a.raw\r\n", "a line that is not HEX"),
    "escaped": (HEAD + b"\\" + A + b"  a\\n.raw\n", "a line that is not HEX"),
    "trailing space": (HEAD + A + b"  a.raw \n", "a line that is not HEX"),
    "not ASCII": (HEAD + A + "  é.raw\n".encode(), "is not plain ASCII"),
    "twice": (HEAD + A + b"  a.raw\n" + B + b"  a.raw\n", "is not sorted, or names a file twice"),
    "unsorted": (HEAD + B + b"  b.raw\n" + A + b"  a.raw\n", "is not sorted"),
    "long": (HEAD + (A + b"  a.raw\n") * 20_000, "is longer than"),
}


@pytest.mark.parametrize(("raw", "text"), BAD.values(), ids=BAD.keys())
def test_neither_signed_nor_accepted(keys: Keys, raw: bytes, text: str) -> None:
    with pytest.raises(ChecksumsInvalid, match=text) as caught:
        sign_checksums(raw, keys.signer("release"))
    assert caught.value.code == "checksums-invalid"
    with pytest.raises(ChecksumsInvalid, match=text):
        verify_checksums(raw, b"", keys.trust.release)


def test_round_trip(keys: Keys) -> None:
    files = {"b.raw": B.decode(), "a.raw": A.decode()}
    assert build_checksums(files) == GOOD
    assert parse_checksums(GOOD) == files
    signer = keys.signer("release")
    assert verify_checksums(GOOD, sign_checksums(GOOD, signer), keys.trust.release) == (signer.keyid, files)


@pytest.mark.parametrize("name", ["x/a", "a\nb", "é", "", ".hidden"])
def test_names(name: str) -> None:
    with pytest.raises(ChecksumsInvalid):
        build_checksums({name: A.decode()})


def test_only_a_release_key(keys: Keys, strangers: Keys) -> None:
    with pytest.raises(KeyPurpose, match="not by the provenance key"):
        sign_checksums(GOOD, keys.signer("provenance"))
    signature = sign_checksums(GOOD, keys.signer("release"))
    for trusted in (strangers.trust.release, keys.trust.provenance, {}):
        with pytest.raises(SignatureInvalid, match="no trusted release key") as caught:
            verify_checksums(GOOD, signature, trusted)
        assert caught.value.code == "signature-invalid"
    both = {**strangers.trust.release, **keys.trust.release}
    assert verify_checksums(GOOD, signature, both)[0] == keys.signer("release").keyid


def test_a_signature_has_one_spelling(keys: Keys) -> None:
    signer = keys.signer("release")
    for _ in range(8):  # half of what ECDSA makes has the larger s
        signature = sign_checksums(GOOD, signer)
        assert verify_checksums(GOOD, signature, keys.trust.release)[0] == signer.keyid
    other = respelled(signature, ec.SECP256R1())
    signer.public_key.verify(other, GOOD, ec.ECDSA(hashes.SHA256()))
    with pytest.raises(SignatureInvalid):
        verify_checksums(GOOD, other, keys.trust.release)
