"""The bill of materials: what the root file system's own package database says is installed.

It describes the root file system, from which every format of a release is made; the manifest binds it to the images by
digest. Equal root file systems give equal bytes: its time is the one that stands for "now" in the image, its serial
number is made of digests. The release that it belongs to is written into it once that has a version.
"""

from datetime import UTC, datetime
from pathlib import Path
from typing import Any
from uuid import NAMESPACE_URL, uuid5

from imagefactory.errors import SbomInvalid
from imagefactory.model.recipe import OperatingSystem
from imagefactory.tools import cyclonedx
from imagefactory.tools.inventory import read_inventory


def make(name: str, os: OperatingSystem, rootfs: Path, rootfs_digest: str, epoch: int) -> dict[str, Any]:
    """The bill of materials of the root file system tar `rootfs` (SHA-256 in hex), of an image that is not released
    yet; `epoch` is in seconds.

    Raises RootfsUnreadable, SbomInvalid.
    """
    serial = uuid5(NAMESPACE_URL, f"urn:imagefactory:rootfs:{name}:sha256:{rootfs_digest}")
    packages = read_inventory(rootfs)
    time = datetime.fromtimestamp(epoch, UTC)
    return cyclonedx.write(name, os, packages, serial, time)


def check(raw: bytes, name: str, version: str) -> dict[str, Any]:
    """What a bill of materials says, if it is valid and about the release NAME@VERSION. Raises SbomInvalid."""
    document = cyclonedx.validate(raw)
    image = document.get("metadata", {}).get("component", {})
    if (image.get("name"), image.get("version")) != (name, version):
        raise SbomInvalid(f"the bill of materials is not about {name}@{version}")
    return document
