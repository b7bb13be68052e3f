import json
from pathlib import Path

import pytest
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.serialization import Encoding, NoEncryption, PrivateFormat

from imagefactory.factory.authority import issue_ca, issue_leaf
from signing.certificates import certificate_pem
from signing.errors import NotARegularFile, NoTrustRoot, TrustInvalid, Unreadable
from signing.keys import public_pem
from signing.trust import decode_trust, find_trust, load_trust
from tests.unit.signing.builders import DELETE, NOW, Keys, changed

KEY, OTHER_KEY = ec.generate_private_key(ec.SECP256R1()), ec.generate_private_key(ec.SECP256R1())
CA_KEY, LEAF_KEY = ec.generate_private_key(ec.SECP384R1()), ec.generate_private_key(ec.SECP384R1())
RELEASE_PEM, PROVENANCE_PEM, GLANCE_PEM = (public_pem(each.public_key()) for each in (KEY, OTHER_KEY, LEAF_KEY))
PRIVATE_PEM = KEY.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption()).decode()
CA_CERTIFICATE = issue_ca(CA_KEY, "CA", NOW)
CA = certificate_pem(CA_CERTIFICATE)
LEAF = certificate_pem(issue_leaf(LEAF_KEY.public_key(), "leaf", CA_CERTIFICATE, CA_KEY, NOW))
GOOD = {
    "version": 1,
    "development": False,
    "keys": {"release": [RELEASE_PEM], "provenance": [PROVENANCE_PEM]},
    "glance_ca": [CA],
}
RELEASE = ("keys", "release")
BAD: dict[str, tuple[tuple[str | int, ...], object, str]] = {
    "version": (("version",), 2, "'version' is not 1"),
    "version true": (("version",), True, "'version' is not 1"),
    "no version": (("version",), DELETE, "lacks the field 'version'"),
    "unknown": (("note",), "x", "unknown field 'note'"),
    "development": (("development",), None, "'development' is not true or false"),
    "no keys": (("keys",), {}, "lacks the field 'release'"),
    "unknown purpose": (("keys", "admin"), [], "unknown field 'admin'"),
    "no release": (RELEASE, [], "lists no release key"),
    "no provenance": (("keys", "provenance"), [], "lists no provenance key"),
    "release missing": (RELEASE, DELETE, "lacks the field 'release'"),
    "release text": (RELEASE, RELEASE_PEM, "'release' is not an array"),
    "number": (RELEASE, [1], "a release key that is not text"),
    "damaged": (RELEASE, [RELEASE_PEM[:60]], "not usable: a public key cannot be read"),
    "not ASCII": (RELEASE, ["é"], "not usable: a public key cannot be read"),
    "private": (RELEASE, [PRIVATE_PEM], "not usable: a public key cannot be read"),
    "two in one": (RELEASE, [RELEASE_PEM * 2], "not canonical PEM of one key"),
    "comment": (RELEASE, ["# mine\n" + RELEASE_PEM], "not canonical PEM of one key"),
    "curve": (RELEASE, [GLANCE_PEM], "on secp256r1; this one is not"),
    "twice": (RELEASE, [RELEASE_PEM] * 2, "a release key twice"),
    "two purposes": (RELEASE, [RELEASE_PEM, PROVENANCE_PEM], "one key under two purposes"),
    "no CA": (("glance_ca",), [], "lists no Glance CA"),
    "CA missing": (("glance_ca",), DELETE, "lacks the field 'glance_ca'"),
    "CA number": (("glance_ca",), [1], "a Glance CA that is not text"),
    "CA damaged": (("glance_ca",), [CA[:200]], "a Glance CA that cannot be read"),
    "CA twice": (("glance_ca",), [CA, CA], "a Glance CA twice"),
    "CA two in one": (("glance_ca",), [CA + CA], "a Glance CA that cannot be read"),
    "leaf": (("glance_ca",), [LEAF], "a Glance CA that is not a CA"),
}


@pytest.mark.parametrize(("path", "value", "text"), BAD.values(), ids=BAD.keys())
def test_bad_trust_files(path: tuple[str | int, ...], value: object, text: str) -> None:
    with pytest.raises(TrustInvalid, match=text) as caught:
        decode_trust(json.dumps(changed(GOOD, path, value)).encode())
    assert caught.value.code == "trust-invalid"
    assert "PRIVATE" not in caught.value.message


def test_good_trust_file() -> None:
    trust = decode_trust(json.dumps(GOOD).encode())
    assert (trust.development, len(trust.release), len(trust.provenance), len(trust.glance_ca)) == (False, 1, 1, 1)


@pytest.mark.parametrize("raw", [b"", b"{}", b"[]", b"null", b'{"version":1,"version":1}'])
def test_not_a_trust_file(raw: bytes) -> None:
    with pytest.raises(TrustInvalid):
        decode_trust(raw)


def test_content(keys: Keys) -> None:
    trust = keys.trust
    assert trust.development
    for purpose in ("release", "provenance"):
        assert trust.purpose_of(keys.signer(purpose).keyid) == purpose
    assert trust.purpose_of(keys.signer("glance").keyid) is None
    again = decode_trust(trust.encode())
    assert again.encode() == trust.encode() == keys.trust_file.read_bytes()


def test_load(keys: Keys, tmp_path: Path) -> None:
    (tmp_path / "link").symlink_to(keys.trust_file)
    assert load_trust(tmp_path / "link").encode() == keys.trust.encode()
    with pytest.raises(Unreadable):
        load_trust(tmp_path / "absent")
    with pytest.raises(NotARegularFile):
        load_trust(tmp_path)


def test_find(keys: Keys, tmp_path: Path) -> None:
    assert find_trust([tmp_path / "absent", keys.trust_file, tmp_path]) == keys.trust_file
    (tmp_path / "dangling").symlink_to("nowhere")
    assert find_trust([tmp_path / "dangling", keys.trust_file]) == tmp_path / "dangling"
    with pytest.raises(NoTrustRoot, match=r"looked for .*absent, .*other") as caught:
        find_trust([tmp_path / "absent", tmp_path / "other"])
    assert caught.value.code == "no-trust-root"
    with pytest.raises(NoTrustRoot, match="looked for nowhere"):
        find_trust([])


@pytest.mark.parametrize("mode", [0o664, 0o646, 0o666])
def test_a_trust_file_that_others_may_write_to(keys: Keys, tmp_path: Path, mode: int) -> None:
    path, link = tmp_path / "trust.json", tmp_path / "link.json"
    path.write_bytes(keys.trust_file.read_bytes())
    link.symlink_to(path)
    path.chmod(0o644)
    assert load_trust(link) == load_trust(path)
    path.chmod(mode)
    for each in (path, link):
        with pytest.raises(TrustInvalid, match="written to by others"):
            load_trust(each)
