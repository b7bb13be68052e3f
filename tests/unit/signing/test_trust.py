import json
from dataclasses import replace
from pathlib import Path

import pytest
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.serialization import Encoding, NoEncryption, PrivateFormat
from hypothesis import given
from hypothesis import strategies as st

from imagefactory.factory.authority import issue_ca, issue_leaf
from signing.certificates import certificate_pem
from signing.errors import KeyName, NotARegularFile, NoTrustRoot, TrustInvalid, Unreadable
from signing.fields import SLUG
from signing.keys import keyid_of, public_pem
from signing.trust import decode_trust, find_trust, load_trust
from tests.unit.signing.builders import DELETE, NOW, Keys, changed

KEY, OTHER_KEY = ec.generate_private_key(ec.SECP256R1()), ec.generate_private_key(ec.SECP256R1())
CA_KEY, LEAF_KEY = ec.generate_private_key(ec.SECP384R1()), ec.generate_private_key(ec.SECP384R1())
RELEASE_PEM, PROVENANCE_PEM, GLANCE_PEM = (public_pem(each.public_key()) for each in (KEY, OTHER_KEY, LEAF_KEY))
PRIVATE_PEM = KEY.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption()).decode()
CA_CERTIFICATE = issue_ca(CA_KEY, "CA", NOW)
CA = certificate_pem(CA_CERTIFICATE)
LEAF = certificate_pem(issue_leaf(LEAF_KEY.public_key(), "leaf", CA_CERTIFICATE, CA_KEY, NOW))


def entry(pem: object, *names: object) -> dict[str, object]:
    """A key and its names; every name, unless some are given."""
    return {"key": pem, "names": list(names or "*")}


GOOD = {
    "version": 2,
    "development": False,
    "keys": {"release": [entry(RELEASE_PEM)], "provenance": [entry(PROVENANCE_PEM)]},
    "glance_ca": [CA],
}
RELEASE = ("keys", "release")
NAMES = (*RELEASE, 0, "names")
BAD: dict[str, tuple[tuple[str | int, ...], object, str]] = {
    "version": (("version",), 3, "'version' is not 2"),
    "version 1": (("version",), 1, "'version' is not 2"),
    "version text": (("version",), "2", "'version' is not 2"),
    "no version": (("version",), DELETE, "lacks the field 'version'"),
    "unknown": (("note",), "x", "unknown field 'note'"),
    "development": (("development",), None, "'development' is not true or false"),
    "no keys": (("keys",), {}, "lacks the field 'release'"),
    "unknown purpose": (("keys", "admin"), [], "unknown field 'admin'"),
    "no release": (RELEASE, [], "lists no release key"),
    "no provenance": (("keys", "provenance"), [], "lists no provenance key"),
    "release missing": (RELEASE, DELETE, "lacks the field 'release'"),
    "release text": (RELEASE, RELEASE_PEM, "'release' is not an array"),
    "as in version 1": (RELEASE, [RELEASE_PEM], "a release key of the trust file is not an object"),
    "number": (RELEASE, [entry(1)], "'key' is not a string"),
    "no key": (RELEASE, [{"names": ["*"]}], "lacks the field 'key'"),
    "no names": (RELEASE, [{"key": RELEASE_PEM}], "lacks the field 'names'"),
    "more of a key": ((*RELEASE, 0, "until"), "2030-01-01", "unknown field 'until'"),
    "names text": (NAMES, "*", "'names' is not an array"),
    "names empty": (NAMES, [], "gives a key no name, or one twice"),
    "a name twice": (NAMES, ["a", "a"], "gives a key no name, or one twice"),
    "every name and one": (NAMES, ["*", "a"], "something else than image names"),
    "every name twice": (NAMES, ["*", "*"], "something else than image names"),
    "a pattern": (NAMES, ["soe-*"], "something else than image names"),
    "a name with a version": (NAMES, ["soe@20251121.1"], "something else than image names"),
    "a name of another case": (NAMES, ["SOE"], "something else than image names"),
    "a name with a newline": (NAMES, ["soe\n"], "something else than image names"),
    "a name that is none": (NAMES, [""], "something else than image names"),
    "a name that is a number": (NAMES, [1], "something else than image names"),
    "a name that is a list": (NAMES, [["a"]], "something else than image names"),
    "a name that is null": (NAMES, [None], "something else than image names"),
    "damaged": (RELEASE, [entry(RELEASE_PEM[:60])], "not usable: a public key cannot be read"),
    "not ASCII": (RELEASE, [entry("é")], "not usable: a public key cannot be read"),
    "private": (RELEASE, [entry(PRIVATE_PEM)], "not usable: a public key cannot be read"),
    "two in one": (RELEASE, [entry(RELEASE_PEM * 2)], "not canonical PEM of one key"),
    "comment": (RELEASE, [entry("# mine\n" + RELEASE_PEM)], "not canonical PEM of one key"),
    "curve": (RELEASE, [entry(GLANCE_PEM)], "on secp256r1; this one is not"),
    "twice": (RELEASE, [entry(RELEASE_PEM, "a"), entry(RELEASE_PEM, "b")], "one key twice, or under two purposes"),
    "two purposes": (RELEASE, [entry(RELEASE_PEM), entry(PROVENANCE_PEM)], "one key twice, or under two purposes"),
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


@pytest.mark.parametrize("names", [("*",), ("soe-debian-12",), ("b", "a"), ("a" * 63, "0")])
def test_names(names: tuple[str, ...]) -> None:
    trust = decode_trust(json.dumps(changed(GOOD, NAMES, list(names))).encode())
    keyid, builder = keyid_of(KEY.public_key()), keyid_of(OTHER_KEY.public_key())
    assert trust.names == {keyid: names, builder: ("*",)}
    assert decode_trust(trust.encode()) == trust
    for name in ("a", "b", "0", "soe-debian-12", "soe-debian-1", "soe-debian-12-separate", "x"):
        trust.require_name(builder, name)
        if name in names or names == ("*",):
            trust.require_name(keyid, name)
        else:
            with pytest.raises(KeyName, match=f"release key {keyid[:16]} may not sign for '{name}'") as caught:
                trust.require_name(keyid, name)
            assert caught.value.code == "key-name"


@pytest.mark.parametrize("name", ["", "*", "a\n", "A"])
def test_what_is_no_name_is_nobodys(name: str) -> None:
    trust = decode_trust(json.dumps(changed(GOOD, NAMES, ["a"])).encode())
    with pytest.raises(KeyName):
        trust.require_name(keyid_of(KEY.public_key()), name)


def test_a_key_that_nobody_named_signs_for_nothing(keys: Keys) -> None:
    with pytest.raises(KeyName):
        replace(keys.trust, names={}).require_name(keys.signer("release").keyid, "a")


@given(st.lists(st.one_of(st.text(max_size=4), st.from_regex(r"[a-z0-9][a-z0-9-]{0,4}", fullmatch=True)), max_size=4))
def test_any_names(names: list[str]) -> None:
    """Read as they are written, or refused."""
    good = names == ["*"] or (names and len({*names}) == len(names) and all(map(SLUG.fullmatch, names)))
    raw = json.dumps(changed(GOOD, NAMES, names)).encode()
    if good:
        assert decode_trust(raw).names[keyid_of(KEY.public_key())] == tuple(names)
    else:
        with pytest.raises(TrustInvalid):
            decode_trust(raw)


@pytest.mark.parametrize("raw", [b"", b"{}", b"[]", b"null", b'{"version":2,"version":2}'])
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
