import hashlib
import json
import os
import shutil
import stat
from collections.abc import Callable
from pathlib import Path

import pytest
from cryptography import x509
from cryptography.hazmat.primitives.asymmetric import ec, ed25519
from cryptography.hazmat.primitives.serialization import (
    BestAvailableEncryption,
    Encoding,
    NoEncryption,
    PrivateFormat,
    PublicFormat,
    load_pem_public_key,
)
from cryptography.x509.oid import ExtendedKeyUsageOID

from imagefactory.factory import keys as development
from imagefactory.factory.authority import LEAF_VALIDITY
from imagefactory.factory.keys import init_development
from imagefactory.tools import durable
from signing.errors import (
    KeyDamaged,
    KeyPermissions,
    KeyPurpose,
    KeysExist,
    KeysMissing,
    NotARegularFile,
    PassphraseMissing,
    SigningError,
    Unwritable,
)
from signing.keys import PURPOSES, KeyRing, Purpose, keyid_of
from signing.signer import FileSigner
from signing.trust import load_trust
from tests.unit.signing.builders import NOW, Keys


@pytest.fixture
def copied(tmp_path: Path, keys: Keys) -> Path:
    directory = tmp_path / "copied"
    shutil.copytree(keys.directory, directory)
    return directory


def test_files_and_modes(keys: Keys) -> None:
    assert stat.S_IMODE(keys.directory.stat().st_mode) == 0o700
    assert {stat.S_IMODE(each.stat().st_mode) for each in keys.directory.iterdir()} == {0o600}
    pairs = {f"{purpose}.{kind}" for purpose in PURPOSES for kind in ("pem", "pub")}
    others = {"glance.crt", "glance-ca.crt", "glance-ca.pem", "keys.json"}
    assert {each.name for each in keys.directory.iterdir()} == pairs | others
    assert [each.name for each in keys.directory.parent.iterdir() if each.name.startswith(".")] == []
    assert keys.ring.development


def test_modes_do_not_depend_on_umask(tmp_path: Path) -> None:
    before = os.umask(0)
    try:
        init_development(tmp_path / "keys", tmp_path / "trust.json", now=NOW)
    finally:
        os.umask(before)
    assert {stat.S_IMODE(each.stat().st_mode) for each in (tmp_path / "keys").iterdir()} == {0o600}
    assert stat.S_IMODE((tmp_path / "trust.json").stat().st_mode) == 0o644


@pytest.mark.parametrize("purpose", PURPOSES)
def test_each_key(keys: Keys, purpose: Purpose) -> None:
    key = keys.ring.private_key(purpose)
    assert key.curve.name == ("secp384r1" if purpose == "glance" else "secp256r1")
    public = load_pem_public_key((keys.directory / f"{purpose}.pub").read_bytes())
    assert public == key.public_key()
    spki = public.public_bytes(Encoding.DER, PublicFormat.SubjectPublicKeyInfo)
    assert keyid_of(key.public_key()) == hashlib.sha256(spki).hexdigest()


def test_all_keys_differ(keys: Keys) -> None:
    assert len({keyid_of(keys.ring.private_key(each).public_key()) for each in PURPOSES}) == len(PURPOSES)


def test_certificate(keys: Keys) -> None:
    leaf = keys.ring.certificate()
    ca = x509.load_pem_x509_certificate((keys.directory / "glance-ca.crt").read_bytes())
    leaf.verify_directly_issued_by(ca)
    extension = leaf.extensions.get_extension_for_class
    assert list(extension(x509.ExtendedKeyUsage).value) == [ExtendedKeyUsageOID.CODE_SIGNING]
    usage = extension(x509.KeyUsage)
    assert (usage.critical, usage.value.digital_signature, usage.value.key_cert_sign) == (True, True, False)
    assert not extension(x509.BasicConstraints).value.ca
    issuer_id = ca.extensions.get_extension_for_class(x509.SubjectKeyIdentifier).value.digest
    assert extension(x509.AuthorityKeyIdentifier).value.key_identifier == issuer_id
    assert extension(x509.SubjectKeyIdentifier).value.digest != issuer_id
    assert leaf.not_valid_after_utc == NOW + LEAF_VALIDITY


def test_an_empty_directory_is_filled(tmp_path: Path) -> None:
    (tmp_path / "keys").mkdir()
    init_development(tmp_path / "keys", tmp_path / "deep" / "trust.json", now=NOW)
    assert KeyRing(tmp_path / "keys").development


@pytest.mark.parametrize("there", ["full directory", "file", "link", "trust file", "trust link"])
def test_nothing_is_overwritten(tmp_path: Path, there: str) -> None:
    directory, trust_file = tmp_path / "keys", tmp_path / "trust.json"
    match there:
        case "full directory":
            directory.mkdir()
            (directory / "precious").write_bytes(b"")
        case "file":
            directory.write_bytes(b"")
        case "link":
            (tmp_path / "elsewhere").mkdir()
            directory.symlink_to("elsewhere")
        case "trust file":
            trust_file.write_bytes(b"")
        case "trust link":
            trust_file.symlink_to("nowhere")
    before = sorted(tmp_path.rglob("*"))
    with pytest.raises(KeysExist, match="there is already") as caught:
        init_development(directory, trust_file, now=NOW)
    assert caught.value.code == "keys-exist"
    assert sorted(tmp_path.rglob("*")) == before


def test_second_time(tmp_path: Path) -> None:
    init_development(tmp_path / "keys", tmp_path / "trust.json", now=NOW)
    before = (tmp_path / "keys" / "release.pem").read_bytes()
    with pytest.raises(KeysExist):
        init_development(tmp_path / "keys", tmp_path / "other.json", now=NOW)
    assert (tmp_path / "keys" / "release.pem").read_bytes() == before
    assert not (tmp_path / "other.json").exists()


def test_no_keys_without_a_trust_file(tmp_path: Path) -> None:
    (tmp_path / "file").write_bytes(b"")
    with pytest.raises(Unwritable, match="cannot be made") as caught:
        init_development(tmp_path / "keys", tmp_path / "file" / "trust.json", now=NOW)
    assert caught.value.code == "unwritable"
    assert [each.name for each in tmp_path.iterdir()] == ["file"]


def test_unwritable_place() -> None:
    with pytest.raises(Unwritable, match="cannot be made"):
        init_development(Path("/proc/ours"), Path("/proc/trust.json"), now=NOW)


@pytest.mark.parametrize("survived", [0, 1, 7, 16, 17])
def test_killed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, survived: int) -> None:
    """A process that dies between two files leaves no part of a set, and does not stand in the way of the next."""
    write = durable.write_new
    written: list[Path] = []

    def dying(path: Path, content: bytes) -> None:
        if len(written) == survived:
            os._exit(9)
        written.append(path)
        write(path, content)

    child = os.fork()
    if child == 0:
        monkeypatch.setattr(development, "write_new", dying)
        monkeypatch.setattr(development, "_write_trust", dying)
        init_development(tmp_path / "keys", tmp_path / "trust.json", now=NOW)
        os._exit(0)
    assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == 9
    assert not (tmp_path / "trust.json").exists()
    whole = survived == 17  # every key file was written: only the trust file is missing
    assert (tmp_path / "keys").exists() is whole
    if whole:
        keyid = FileSigner(KeyRing(tmp_path / "keys"), "release").keyid
    ring = init_development(tmp_path / "keys", tmp_path / "trust.json", now=NOW)
    trust = load_trust(tmp_path / "trust.json")
    assert set(trust.release) == {keyid if whole else FileSigner(ring, "release").keyid}
    with pytest.raises(KeysExist):
        init_development(tmp_path / "keys", tmp_path / "trust.json", now=NOW)


@pytest.mark.parametrize("written", [False, True])
def test_stopped_at_the_trust_file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, written: bool) -> None:
    """Ctrl-C before or after the trust file is there never takes away keys that are whole, or that are trusted."""
    write = development._write_trust

    def stopped(path: Path, content: bytes) -> None:
        if written:
            write(path, content)
        raise KeyboardInterrupt

    monkeypatch.setattr(development, "_write_trust", stopped)
    with pytest.raises(KeyboardInterrupt):
        init_development(tmp_path / "keys", tmp_path / "trust.json", now=NOW)
    keyid = FileSigner(KeyRing(tmp_path / "keys"), "release").keyid
    monkeypatch.setattr(development, "_write_trust", write)
    if not written:
        init_development(tmp_path / "keys", tmp_path / "trust.json", now=NOW)
    assert set(load_trust(tmp_path / "trust.json").release) == {keyid}


def private_pem(key: ec.EllipticCurvePrivateKey | ed25519.Ed25519PrivateKey, password: bytes | None = None) -> bytes:
    encryption = NoEncryption() if password is None else BestAvailableEncryption(password)
    return key.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, encryption)


def edit_metadata(directory: Path, **changes: object) -> None:
    path = directory / "keys.json"
    path.write_text(json.dumps({**json.loads(path.read_text()), **changes}))


def one_key_twice(directory: Path) -> None:
    path = directory / "keys.json"
    document = json.loads(path.read_text())
    document["keys"]["root"] = document["keys"]["targets"]
    path.write_text(json.dumps(document))


def not_listed(directory: Path) -> None:
    path = directory / "keys.json"
    document = json.loads(path.read_text())
    del document["keys"]["release"]
    path.write_text(json.dumps(document))


def as_link(directory: Path) -> None:
    (directory / "release.pem").rename(directory / "real.pem")
    (directory / "release.pem").symlink_to("real.pem")


def become_a_file(directory: Path) -> None:
    shutil.rmtree(directory)
    directory.touch()


P256 = ec.generate_private_key(ec.SECP256R1())
P384 = ec.generate_private_key(ec.SECP384R1())
BROKEN: dict[str, tuple[Callable[[Path], object], type[SigningError], str]] = {
    "no directory": (shutil.rmtree, KeysMissing, "no key directory"),
    "a file": (become_a_file, KeysMissing, "not a key directory"),
    "no metadata": (lambda d: (d / "keys.json").unlink(), KeysMissing, "keys.json' is missing"),
    "no key": (lambda d: (d / "release.pem").unlink(), KeysMissing, "release.pem' is missing"),
    "not listed": (not_listed, KeysMissing, "no release key in"),
    "directory open": (lambda d: d.chmod(0o750), KeyPermissions, r"open to group or others \(mode 0750\)"),
    "key readable": (lambda d: (d / "release.pem").chmod(0o640), KeyPermissions, "mode 0640"),
    "key writable": (lambda d: (d / "release.pem").chmod(0o602), KeyPermissions, "mode 0602"),
    "metadata open": (lambda d: (d / "keys.json").chmod(0o644), KeyPermissions, "mode 0644"),
    "link": (as_link, NotARegularFile, "a symbolic link"),
    "truncated": (lambda d: os.truncate(d / "release.pem", 100), KeyDamaged, "release key cannot be read"),
    "empty": (lambda d: os.truncate(d / "release.pem", 0), KeyDamaged, "release key cannot be read"),
    "encrypted": (
        lambda d: (d / "release.pem").write_bytes(private_pem(P256, b"x")),
        PassphraseMissing,
        "release key is encrypted, and nobody gave its passphrase",
    ),
    "plain in production": (
        lambda d: edit_metadata(d, development=False),
        KeyDamaged,
        "release.pem is not encrypted, and these keys are not for development",
    ),
    "another": (lambda d: (d / "release.pem").write_bytes(private_pem(P256)), KeyDamaged, "holds another key"),
    "another curve": (lambda d: (d / "release.pem").write_bytes(private_pem(P384)), KeyPurpose, "on secp256r1"),
    "another kind": (
        lambda d: (d / "release.pem").write_bytes(private_pem(ed25519.Ed25519PrivateKey.generate())),
        KeyPurpose,
        "on secp256r1",
    ),
    "another purpose": (
        lambda d: shutil.copy(d / "provenance.pem", d / "release.pem"),
        KeyPurpose,
        "holds the provenance key",
    ),
    "metadata damaged": (lambda d: os.truncate(d / "keys.json", 40), KeyDamaged, "keys.json is not valid JSON"),
    "metadata version": (lambda d: edit_metadata(d, version=2), KeyDamaged, "'version' is not 1"),
    "metadata unknown": (lambda d: edit_metadata(d, note="x"), KeyDamaged, "unknown field 'note'"),
    "unknown purpose": (lambda d: edit_metadata(d, keys={"admin": "00" * 32}), KeyDamaged, "unknown field 'admin'"),
    "one key twice": (one_key_twice, KeyDamaged, "one key for two purposes"),
}


@pytest.mark.parametrize(("spoil", "error", "text"), BROKEN.values(), ids=BROKEN.keys())
def test_broken_rings(copied: Path, spoil: Callable[[Path], object], error: type[SigningError], text: str) -> None:
    spoil(copied)
    with pytest.raises(SigningError, match=text) as caught:
        KeyRing(copied).private_key("release")
    assert type(caught.value) is error


BROKEN_CERTIFICATES: dict[str, tuple[Callable[[Path], object], type[SigningError], str]] = {
    "missing": (lambda d: (d / "glance.crt").unlink(), KeysMissing, "glance.crt' is missing"),
    "damaged": (lambda d: os.truncate(d / "glance.crt", 300), KeyDamaged, "glance.crt cannot be read"),
    "not ASCII": (lambda d: (d / "glance.crt").write_bytes(b"\xff"), KeyDamaged, "glance.crt cannot be read"),
    "of the CA": (lambda d: shutil.copy(d / "glance-ca.crt", d / "glance.crt"), KeyDamaged, "not for the Glance key"),
}


@pytest.mark.parametrize(("spoil", "error", "text"), BROKEN_CERTIFICATES.values(), ids=BROKEN_CERTIFICATES.keys())
def test_broken_certificates(
    copied: Path, spoil: Callable[[Path], object], error: type[SigningError], text: str
) -> None:
    spoil(copied)
    with pytest.raises(SigningError, match=text) as caught:
        KeyRing(copied).certificate()
    assert type(caught.value) is error


def test_some_purposes_are_enough(copied: Path) -> None:
    """A builder's machine holds the provenance key only."""
    document = json.loads((copied / "keys.json").read_text())
    edit_metadata(copied, keys={"provenance": document["keys"]["provenance"]})
    KeyRing(copied).private_key("provenance")
