"""What we sign, checked by programs and libraries that know nothing of us."""

import base64
import json
import subprocess
from pathlib import Path

import pytest
from cryptography.hazmat.primitives.serialization import load_pem_public_key
from securesystemslib.dsse import Envelope
from securesystemslib.exceptions import VerificationError
from securesystemslib.signer import SSlibKey  # type: ignore[attr-defined]  # public, but not in its __all__

from signing.manifest import ReleaseManifest
from tests.unit.signing.builders import STEM, Keys, make_folder, make_keys


def run(*command: str, cwd: Path | None = None) -> subprocess.CompletedProcess[str]:
    return subprocess.run(command, cwd=cwd, capture_output=True, text=True, timeout=30, check=False)


@pytest.fixture(scope="module")
def keys(tmp_path_factory: pytest.TempPathFactory) -> Keys:
    return make_keys(tmp_path_factory.mktemp("conformance"))


@pytest.fixture
def published(tmp_path: Path, keys: Keys) -> tuple[Path, ReleaseManifest]:
    return tmp_path / "release", make_folder(tmp_path / "release", keys)


def openssl_verify(keys: Keys, folder: Path, key: str = "release.pub") -> subprocess.CompletedProcess[str]:
    public = str(keys.directory / key)
    return run(
        "openssl", "dgst", "-sha256", "-verify", public, "-signature", "SHA256SUMS.sig", "SHA256SUMS", cwd=folder
    )


def test_openssl_verifies_the_checksums(keys: Keys, published: tuple[Path, ReleaseManifest]) -> None:
    folder, _ = published
    done = openssl_verify(keys, folder)
    assert (done.returncode, done.stdout) == (0, "Verified OK\n")
    assert openssl_verify(keys, folder, "provenance.pub").returncode != 0
    (folder / "SHA256SUMS").write_bytes((folder / "SHA256SUMS").read_bytes() + b"#\n")
    assert openssl_verify(keys, folder).returncode != 0


def test_sha256sum_checks_the_folder(published: tuple[Path, ReleaseManifest]) -> None:
    folder, _ = published
    done = run("sha256sum", "--check", "--strict", "SHA256SUMS", cwd=folder)
    assert (done.returncode, done.stderr) == (0, "")
    covered = {line.removesuffix(": OK") for line in done.stdout.splitlines()}
    assert covered == {each.name for each in folder.iterdir()} - {"SHA256SUMS", "SHA256SUMS.sig"}
    (folder / f"{STEM}.raw").write_bytes(b"other")
    assert run("sha256sum", "--check", "SHA256SUMS", cwd=folder).returncode != 0


def test_openssl_verifies_the_certificate(keys: Keys) -> None:
    ca, leaf = str(keys.directory / "glance-ca.crt"), str(keys.directory / "glance.crt")
    strict = ("openssl", "verify", "-x509_strict", "-attime", "1763800000", "-CAfile", ca)
    done = run(*strict, leaf)
    assert (done.returncode, done.stderr) == (0, "")
    assert run(*strict, "-purpose", "sslserver", leaf).returncode != 0


def test_openssl_verifies_the_image(keys: Keys, published: tuple[Path, ReleaseManifest], tmp_path: Path) -> None:
    folder, manifest = published
    glance = manifest.formats["qcow2"].glance
    (tmp_path / "sig").write_bytes(base64.b64decode(glance.img_signature))
    (tmp_path / "key").write_text(run("openssl", "x509", "-in", str(keys.directory / "glance.crt"), "-pubkey").stdout)
    check = ("openssl", "dgst", "-sha512", "-verify", str(tmp_path / "key"), "-signature", str(tmp_path / "sig"))
    assert run(*check, str(folder / f"{STEM}.qcow2")).returncode == 0
    assert run(*check, str(folder / f"{STEM}.raw")).returncode != 0


@pytest.mark.parametrize(
    ("file", "key"), [("release.sigstore.json", "release"), ("provenance.sigstore.json", "provenance")]
)
def test_securesystemslib_opens_the_envelope(
    keys: Keys, published: tuple[Path, ReleaseManifest], file: str, key: str
) -> None:
    document = json.loads((published[0] / file).read_bytes())
    hint = document["verificationMaterial"]["publicKey"]["hint"]
    public = load_pem_public_key((keys.directory / f"{key}.pub").read_bytes())
    envelope = Envelope.from_dict(document["dsseEnvelope"])
    assert list(envelope.verify([SSlibKey.from_crypto(public, keyid=hint)], threshold=1)) == [hint]
    assert json.loads(envelope.payload)["_type"] == "https://in-toto.io/Statement/v1"
    envelope.payload += b" "
    with pytest.raises(VerificationError):
        envelope.verify([SSlibKey.from_crypto(public, keyid=hint)], threshold=1)
