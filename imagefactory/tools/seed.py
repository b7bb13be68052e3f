"""The seed of a test boot: a small read-only disk from which cloud-init takes a throwaway identity.

NoCloud: https://docs.cloud-init.io/en/latest/reference/datasources/nocloud.html. Config drive: Nova's user
documentation, "Config drives" (label config-2, openstack/latest/meta_data.json).
"""

import json
import secrets
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Literal, TypeAlias
from uuid import uuid4

from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from cryptography.hazmat.primitives.serialization import Encoding, NoEncryption, PrivateFormat, PublicFormat

from imagefactory.tools import data_disk

Source: TypeAlias = Literal["nocloud", "config-drive"]
LABELS: Mapping[Source, str] = {"nocloud": "cidata", "config-drive": "config-2"}


@dataclass(frozen=True)
class Seed:
    """A seed `disk`, the private ssh `key` that it lets in, and the `hostname` that it gives."""

    disk: Path
    key: Path
    hostname: str


def create(work: Path, source: Source, *, environment: Mapping[str, str]) -> Seed:
    """Make a seed with a fresh key and instance id in the directory `work`, as the data source `source` reads it.

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
    for name, content in _files(source, hostname, f"{public} boot-test").items():
        (tree / name).parent.mkdir(parents=True, exist_ok=True)
        (tree / name).write_text(content)
    disk = data_disk.make(work / "seed.iso", LABELS[source], tree, environment=environment)
    return Seed(disk, key, hostname)


def _files(source: Source, hostname: str, key: str) -> Mapping[str, str]:
    if source == "nocloud":
        metadata = {"instance-id": f"iid-{secrets.token_hex(8)}", "local-hostname": hostname, "public-keys": [key]}
        return {"meta-data": json.dumps(metadata), "user-data": "#cloud-config\n{}\n"}  # JSON is YAML
    openstack = {"uuid": str(uuid4()), "hostname": hostname, "name": hostname, "public_keys": {"boot-test": key}}
    return {"openstack/latest/meta_data.json": json.dumps(openstack)}
