"""The seed of a test boot: a small read-only disk from which cloud-init takes a throwaway identity (NoCloud)."""

import json
import secrets
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from cryptography.hazmat.primitives.serialization import Encoding, NoEncryption, PrivateFormat, PublicFormat

from imagefactory.tools import process

SECONDS = 60.0


@dataclass(frozen=True)
class Seed:
    """A seed `disk`, the private ssh `key` that it lets in, and the `hostname` it gives."""

    disk: Path
    key: Path
    hostname: str


def create(work: Path, *, environment: Mapping[str, str]) -> Seed:
    """Make a seed with a fresh key and instance id in the directory `work`.

    As a cloud does it: the key is in the metadata, for whatever user the image calls its default.

    Raises ProgramMissing, ProgramFailed.
    """
    private = Ed25519PrivateKey.generate()
    key = work / "ssh-key"
    key.touch(mode=0o600)
    key.write_bytes(private.private_bytes(Encoding.PEM, PrivateFormat.OpenSSH, NoEncryption()))
    public = private.public_key().public_bytes(Encoding.OpenSSH, PublicFormat.OpenSSH).decode()
    hostname = f"boot-test-{secrets.token_hex(3)}"
    tree = work / "seed"
    tree.mkdir()
    metadata = {
        "instance-id": f"iid-{secrets.token_hex(8)}",
        "local-hostname": hostname,
        "public-keys": [f"{public} boot-test"],
    }
    (tree / "meta-data").write_text(json.dumps(metadata))  # JSON is YAML
    (tree / "user-data").write_text("#cloud-config\n{}\n")
    disk = work / "seed.iso"
    argv = ["xorriso", "-as", "mkisofs", "-quiet", "-o", str(disk), "-V", "cidata", "-J", "-r", str(tree)]
    process.run(argv, env=environment, timeout=SECONDS)
    return Seed(disk, key, hostname)
