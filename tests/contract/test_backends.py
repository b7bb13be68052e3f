"""What every place for keys has in common, on real ones: files, encrypted files, a PKCS #11 token."""

import hashlib
import os
import subprocess
import sys
from collections.abc import Callable
from dataclasses import replace
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pkcs11
import pytest
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.asymmetric.utils import Prehashed
from securesystemslib.dsse import Envelope
from tuf.api.exceptions import UnsignedMetadataError
from tuf.api.metadata import Metadata, Root  # type: ignore[attr-defined]  # public, but not in its __all__

from imagefactory.factory.keys import ONLINE, Custody, init_keys, init_root
from imagefactory.factory.rotation import prepare, rotate, succeed
from imagefactory.tools.token import make_key
from signing.checksums import sign_checksums, verify_checksums
from signing.envelope import open_envelope, seal
from signing.errors import KeyDamaged, KeyPurpose, PassphraseMissing, PassphraseWrong, SignerUnknown, TokenFailed
from signing.foreign import DocumentSigner
from signing.glance import sign_image, verify_image_signature
from signing.keys import PURPOSES, KeyRing, Passphrase, Purpose, keyid_of
from signing.signer import Signer, signer_for, signer_in
from signing.statement import Subject
from signing.token import TokenSigner, opened
from signing.token_uri import TokenUri
from signing.trust import load_trust
from tests.fakes.softhsm import PIN, SoftToken
from tests.unit.signing.builders import make_provenance
from tests.unit.signing.test_signer import ACCEPTED, DSSE, SUMS, TUF

NOW = datetime.now(UTC)
PASSPHRASE = b"correct horse battery staple"


class Home:
    """A key directory and its trust file. Where there is a stick, the root key is there."""

    def __init__(self, root: Path, passphrase: Passphrase | None = None) -> None:
        self.keys, self.trust_file, self.passphrase = root / "keys", root / "trust.json", passphrase
        self.stick = root / "stick"

    def signer(self, purpose: Purpose) -> Signer:
        return signer_for(f"file:{self._directory(purpose)}", purpose, self.passphrase)

    def keyid(self, purpose: Purpose) -> str:
        return KeyRing(self._directory(purpose)).keyid(purpose)

    @property
    def ring(self) -> KeyRing:
        return KeyRing(self.keys, self.passphrase)

    def _directory(self, purpose: Purpose) -> Path:
        return self.stick if purpose == "root" and self.stick.exists() else self.keys


@pytest.fixture(scope="session")
def encrypted(tmp_path_factory: pytest.TempPathFactory) -> Path:
    root = tmp_path_factory.mktemp("encrypted")
    init_keys(root / "keys", root / "trust.json", Custody(PASSPHRASE), development=False, now=NOW)
    init_root(root / "stick", Custody(PASSPHRASE), now=NOW)
    return root


@pytest.fixture(params=["file", "encrypted file", "token"])
def home(request: pytest.FixtureRequest) -> Home:
    match request.param:
        case "file":
            return Home(request.getfixturevalue("keys"))
        case "encrypted file":
            return Home(request.getfixturevalue("encrypted"), lambda: PASSPHRASE)
        case _:
            return Home(request.getfixturevalue("token_keys"))


# -- the contract ------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("purpose", PURPOSES)
def test_a_key_signs_the_documents_of_its_purpose_and_nothing_else(home: Home, purpose: Purpose) -> None:
    signer = home.signer(purpose)
    for payload in (DSSE, SUMS, TUF, b"", b"anything", SUMS[:-1], b"\n" + SUMS):
        if payload in ACCEPTED[purpose]:
            signer.public_key.verify(signer.sign(payload), payload, ec.ECDSA(hashes.SHA256()))
        else:
            with pytest.raises(KeyPurpose, match="does not sign this kind of document"):
                signer.sign(payload)


@pytest.mark.parametrize("purpose", PURPOSES)
def test_only_glance_signs_digests_and_only_of_one_length(home: Home, purpose: Purpose) -> None:
    signer, digest = home.signer(purpose), bytes(range(64))
    if purpose != "glance":
        with pytest.raises(KeyPurpose, match="never a digest"):
            signer.sign_prehashed(digest)
        return
    signer.public_key.verify(signer.sign_prehashed(digest), digest, ec.ECDSA(Prehashed(hashes.SHA512())))
    for length in (0, 32, 48, 63, 65):
        with pytest.raises(KeyPurpose, match="64 bytes"):
            signer.sign_prehashed(bytes(length))


@pytest.mark.parametrize("purpose", PURPOSES)
def test_a_signer_knows_its_key(home: Home, purpose: Purpose) -> None:
    signer = home.signer(purpose)
    assert (signer.purpose, signer.keyid) == (purpose, keyid_of(signer.public_key))
    assert signer.keyid == home.keyid(purpose)
    assert signer.keyid in repr(signer)


def test_our_documents(home: Home) -> None:
    trust, image = load_trust(home.trust_file), hashlib.sha512(b"image").digest()
    sums = SUMS + f"{'0' * 64}  a\n".encode()
    keyid, _ = verify_checksums(sums, sign_checksums(sums, home.signer("release")), trust.release)
    assert keyid == home.ring.keyid("release")
    statement = make_provenance((Subject("a", "0" * 64, "1" * 128),)).to_statement()
    assert open_envelope(seal(statement, home.signer("provenance")), trust.provenance) == statement
    signature = sign_image(home.signer("glance"), home.ring.certificate(), image)
    verify_image_signature(signature, image, trust.glance_ca, at=NOW)


def test_for_securesystemslib(home: Home) -> None:
    """Its DSSE and python-tuf take any of our signers, and verify what it signed with its public key alone."""
    document = DocumentSigner(home.signer("release"))
    envelope = Envelope(b"{}", "application/json", {})
    envelope.sign(document)
    assert envelope.verify([document.public_key], threshold=1).keys() == {home.ring.keyid("release")}
    root = DocumentSigner(home.signer("root"))
    metadata = Metadata(Root())
    metadata.signed.add_key(root.public_key, "root")
    metadata.sign(root)
    metadata.signed.verify_delegate("root", metadata.signed_bytes, metadata.signatures)
    with pytest.raises(UnsignedMetadataError, match="the release key does not sign this kind of document"):
        metadata.sign(document)
    with pytest.raises(KeyPurpose, match="never a document"):
        DocumentSigner(home.signer("glance"))
    with pytest.raises(ValueError, match="make it of a signer"):
        DocumentSigner.from_priv_key_uri("file:/x", document.public_key)


# -- encrypted files ---------------------------------------------------------------------------------------------------


def test_an_encrypted_key_wants_its_passphrase(encrypted: Path) -> None:
    for purpose in PURPOSES:
        with pytest.raises(PassphraseMissing):
            Home(encrypted).signer(purpose)
        for wrong in (b"wrong", b"", PASSPHRASE + b"\n"):
            with pytest.raises(PassphraseWrong) as caught:
                Home(encrypted, lambda wrong=wrong: wrong).signer(purpose)  # type: ignore[misc]
            assert PASSPHRASE.decode() not in caught.value.message


def test_encrypted_as_the_documentation_says(encrypted: Path) -> None:
    """PBES2 with PBKDF2, HMAC-SHA-256 and AES-256-CBC, as openssl reads it; the CA's key, too."""
    found = [*(encrypted / "keys").glob("*.pem"), *(encrypted / "stick").glob("*.pem")]
    for path in found:
        assert path.read_text().startswith("-----BEGIN ENCRYPTED PRIVATE KEY-----\n")
        parsed = subprocess.run(["openssl", "asn1parse", "-in", path], check=True, capture_output=True, text=True)
        assert {":PBES2", ":PBKDF2", ":hmacWithSHA256", ":aes-256-cbc"} <= set(parsed.stdout.split())
    assert {path.stem for path in found} == {*PURPOSES, "glance-ca"}
    assert [path.name for path in (encrypted / "stick").glob("*.pem")] == ["root.pem"]


def test_a_key_encrypted_by_openssl_is_read(encrypted: Path, tmp_path: Path) -> None:
    """For those who want scrypt."""
    home = Home(tmp_path, lambda: PASSPHRASE)
    subprocess.run(["cp", "-a", *encrypted.iterdir(), tmp_path], check=True)
    secret = tmp_path / "secret"
    secret.write_bytes(PASSPHRASE)
    pem = tmp_path / "keys/release.pem"
    secret.with_name("again").write_bytes(PASSPHRASE)
    words = f"-topk8 -scrypt -in {pem} -passin file:{secret} -passout file:{secret.with_name('again')} -out {pem}.new"
    subprocess.run(["openssl", "pkcs8", *words.split()], check=True, capture_output=True)
    pem.write_bytes(Path(f"{pem}.new").read_bytes())
    parsed = subprocess.run(["openssl", "asn1parse", "-in", pem], check=True, capture_output=True, text=True)
    assert "scrypt" in parsed.stdout
    home.signer("release").sign(DSSE)


# -- tokens ------------------------------------------------------------------------------------------------------------


def test_a_key_never_leaves_its_token(token_keys: Path) -> None:
    assert {path.name for path in (token_keys / "keys").glob("*.pem")} == {"glance-ca.pem"}
    ring = KeyRing(token_keys / "keys")
    for purpose in PURPOSES:
        uri = TokenUri.parse(ring.where(purpose))
        with opened(uri, rw=True) as session:
            key = session.get_key(pkcs11.ObjectClass.PRIVATE_KEY, id=uri.id)
            assert (key[pkcs11.Attribute.EXTRACTABLE], key[pkcs11.Attribute.SENSITIVE]) == (False, True)
            assert (key[pkcs11.Attribute.NEVER_EXTRACTABLE], key[pkcs11.Attribute.LOCAL]) == (True, True)
            with pytest.raises(pkcs11.AttributeSensitive):
                _ = key[pkcs11.Attribute.VALUE]
            wrapping: Any = session.generate_key(pkcs11.KeyType.AES, 256, store=False)
            with pytest.raises(pkcs11.KeyUnextractable):
                wrapping.wrap_key(key)
            with pytest.raises(pkcs11.AttributeReadOnly):
                key[pkcs11.Attribute.EXTRACTABLE] = True


def wrong_pin(uri: TokenUri, scratch: Path) -> TokenUri:
    (scratch / "pin").write_text("000000")
    (scratch / "pin").chmod(0o600)
    return replace(uri, pin_source=scratch / "pin")


BAD: dict[str, tuple[Callable[[TokenUri, Path], TokenUri], type[Exception], str]] = {
    "no key named": (lambda uri, _: replace(uri, label=None, id=None), SignerUnknown, "no key in it"),
    "no such key": (lambda uri, _: replace(uri, id=b"none"), TokenFailed, "NoSuchKey"),
    "no such token": (lambda uri, _: replace(uri, token="none"), TokenFailed, "NoSuchToken"),
    "no such module": (lambda uri, _: replace(uri, module=Path("/no/such.so")), TokenFailed, "PKCS11Error"),
    "wrong PIN": (wrong_pin, PassphraseWrong, "does not take the PIN in"),
    "no PIN": (lambda uri, scratch: replace(uri, pin_source=scratch / "none"), PassphraseMissing, "there is no file"),
}


@pytest.mark.parametrize(("spoil", "kind", "text"), BAD.values(), ids=BAD)
def test_tokens_that_do_not_work(
    token_keys: Path, tmp_path: Path, spoil: Callable[[TokenUri, Path], TokenUri], kind: type[Exception], text: str
) -> None:
    uri = TokenUri.parse(KeyRing(token_keys / "keys").where("release"))
    with pytest.raises(kind, match=text) as caught:
        TokenSigner(spoil(uri, tmp_path), "release")
    assert PIN not in str(caught.value)
    assert "000000" not in str(caught.value)


def test_a_key_of_another_curve_is_for_another_purpose(token_keys: Path) -> None:
    uri = KeyRing(token_keys / "keys").where("glance")
    with pytest.raises(KeyPurpose, match="secp256r1"):
        signer_for(uri, "release")


def test_another_key_in_the_token_is_not_ours(token: SoftToken, token_keys: Path, tmp_path: Path) -> None:
    """keys.json names the key; that a URI leads to one is not enough."""
    subprocess.run(["cp", "-a", token_keys / "keys", tmp_path], check=True)
    ring = KeyRing(tmp_path / "keys")
    other, _ = make_key(token.uri, "release")
    swapped = replace(ring.metadata, where={**ring.metadata.where, "release": other.encode()})
    (tmp_path / "keys/keys.json").write_bytes(swapped.encode())
    with pytest.raises(KeyDamaged, match="holds another key"):
        signer_in(KeyRing(tmp_path / "keys"), "release")


def test_rotation_in_a_token(token: SoftToken, tmp_path: Path) -> None:
    """The old private key is destroyed; the new one is in the same token."""
    init_keys(tmp_path / "keys", tmp_path / "trust.json", Custody(PASSPHRASE, token.uri), development=False, now=NOW)
    home = Home(tmp_path, lambda: PASSPHRASE)
    old = {purpose: home.ring.where(purpose) for purpose in ONLINE}
    for name in ("release", "glance", "glance-ca"):
        rotate(home.keys, home.trust_file, name, lambda: PASSPHRASE, now=NOW, note=lambda _: None)
    for purpose in ("release", "glance"):
        with pytest.raises(TokenFailed, match="NoSuchKey"):
            signer_for(old[purpose], purpose)
    test_our_documents(home)


def test_a_root_key_in_a_token(token: SoftToken, tmp_path: Path) -> None:
    """The directory has nothing private; the key signs, wherever the directory is carried."""
    init_root(tmp_path / "stick", Custody(token=token.uri), now=NOW)
    names = {path.name for path in (tmp_path / "stick").iterdir()}
    (public,) = names - {"keys.json"}
    assert public.endswith(".pub")
    (tmp_path / "stick").rename(tmp_path / "elsewhere")
    signer = signer_in(KeyRing(tmp_path / "elsewhere"), "root")
    signer.public_key.verify(signer.sign(TUF), TUF, ec.ECDSA(hashes.SHA256()))


def test_the_successor_of_a_key_in_a_token(token: SoftToken, tmp_path: Path) -> None:
    """It waits in the same token; then the old private key is destroyed."""
    init_keys(tmp_path / "keys", tmp_path / "trust.json", Custody(PASSPHRASE, token.uri), development=False, now=NOW)
    home = Home(tmp_path, lambda: PASSPHRASE)
    old = home.ring.where("targets")
    waiting = prepare(home.keys, "targets", lambda: PASSPHRASE, now=NOW, note=lambda _: None)
    for ring in (home.ring, waiting):
        signer_in(ring, "targets").sign(TUF)
    assert succeed(home.keys, home.trust_file, "targets", lambda _: None)
    assert signer_in(home.ring, "targets").keyid == waiting.keyid("targets")
    with pytest.raises(TokenFailed, match="NoSuchKey"):
        signer_for(old, "targets")


def test_without_the_library(tmp_path: Path) -> None:
    """An extra: what needs it says so, and nothing else misses it."""
    code = (
        "import sys; sys.modules['pkcs11'] = None\n"
        "import importlib.util as u; find = u.find_spec\n"
        "u.find_spec = lambda name, *more: None if name == 'pkcs11' else find(name, *more)\n"
        "from imagefactory.cli.app import run\n"
        "sys.exit(run(sys.argv[1:]))"
    )
    secret = tmp_path / "secret"
    secret.write_bytes(PASSPHRASE)
    secret.chmod(0o600)
    uri = "pkcs11:token=x?module-path=/x.so&pin-source=file:/x"
    environ = {"IMAGEFACTORY_HOME": str(tmp_path / "home"), "PATH": os.environ["PATH"]}
    argv = ["keys", "init", "--signer", uri, "--passphrase-file", str(secret)]
    done = subprocess.run(
        [sys.executable, "-c", code, *argv], env=environ, capture_output=True, text=True, check=False, timeout=60
    )
    assert (done.returncode, "[extra-missing]" in done.stderr) == (3, True), done.stderr
    assert "pip install 'imagefactory[pkcs11]'" in done.stderr
    listed = subprocess.run(
        [sys.executable, "-c", code, "keys", "list"],
        env=environ,
        capture_output=True,
        text=True,
        check=False,
        timeout=60,
    )
    assert listed.returncode == 0, listed.stderr
