"""Image signatures of a release, verified by the library that Glance and Nova verify them with, unmodified."""

import json
import subprocess
from collections.abc import Mapping
from pathlib import Path

import pytest

from signing.manifest import ReleaseManifest
from tests.openstack.install import VENV, install
from tests.unit.signing.builders import IMAGES, STEM, Keys, make_folder, make_keys

ORACLE = Path(__file__).with_name("oracle_cursive.py")


@pytest.fixture(scope="module", autouse=True)
def cursive() -> None:
    install(lambda _: None)


@pytest.fixture(scope="module")
def keys(tmp_path_factory: pytest.TempPathFactory) -> Keys:
    return make_keys(tmp_path_factory.mktemp("cursive"))


@pytest.fixture
def published(tmp_path: Path, keys: Keys) -> tuple[Path, ReleaseManifest]:
    return tmp_path / "release", make_folder(tmp_path / "release", keys)


def ask(properties: Mapping[str, str], certificate: str, image: Path) -> str:
    done = subprocess.run(
        [str(VENV / "bin/python"), "-I", str(ORACLE)],
        input=json.dumps({"properties": dict(properties), "certificate": certificate, "image": str(image)}),
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    return done.stdout


def properties_of(manifest: ReleaseManifest, kind: str) -> dict[str, str]:
    glance = manifest.formats[kind].glance
    return {
        "img_signature": glance.img_signature,
        "img_signature_hash_method": glance.img_signature_hash_method,
        "img_signature_key_type": glance.img_signature_key_type,
        "img_signature_certificate_uuid": "9d1a5f5e-6b1c-4a5f-9d5e-2f6d1b3c4a5e",
    }


@pytest.mark.parametrize("kind", IMAGES)
def test_cursive_accepts_each_image_of_a_release(published: tuple[Path, ReleaseManifest], kind: str) -> None:
    folder, manifest = published
    properties = properties_of(manifest, kind)
    assert ask(properties, manifest.formats[kind].glance.certificate, folder / f"{STEM}.{kind}") == "accepted"
    assert all(len(text) <= 255 for text in properties.values()), "what Glance's documentation allows"


def test_cursive_refuses_what_is_wrong(published: tuple[Path, ReleaseManifest], tmp_path: Path) -> None:
    folder, manifest = published
    image = folder / f"{STEM}.qcow2"
    certificate = manifest.formats["qcow2"].glance.certificate
    properties = properties_of(manifest, "qcow2")
    stranger = make_keys(tmp_path / "strangers").directory / "glance.crt"
    raw = properties_of(manifest, "raw")["img_signature"]
    (tmp_path / "longer").write_bytes(image.read_bytes() + b"\0")
    assert ask(properties, certificate, tmp_path / "longer") == "InvalidSignature"
    assert ask(properties, certificate, folder / f"{STEM}.raw") == "InvalidSignature"
    assert ask({**properties, "img_signature": raw}, certificate, image) == "InvalidSignature"
    assert ask(properties, stranger.read_text(), image) == "InvalidSignature"
    assert ask({**properties, "img_signature_hash_method": "SHA-256"}, certificate, image) == "InvalidSignature"
    for key, value in {"img_signature_hash_method": "MD5", "img_signature_key_type": "RSA-PSS"}.items():
        assert ask({**properties, key: value}, certificate, image) == "SignatureVerificationError"
