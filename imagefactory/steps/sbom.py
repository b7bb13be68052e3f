"""The bill of materials: what the root file system's own package database says is installed.

It describes the root file system, from which every format of a release is made; the manifest binds it to the images by
digest. Equal root file systems give equal bytes: its time is the one that stands for "now" in the image, its serial
number is made of digests. The release that it belongs to is written into it once that has a version.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any
from uuid import NAMESPACE_URL, UUID, uuid5

from packageurl import PackageURL

from imagefactory.errors import SbomInvalid
from imagefactory.model.packages import Change, Package
from imagefactory.model.recipe import OperatingSystem
from imagefactory.model.release import Version
from imagefactory.tools import cyclonedx
from imagefactory.tools.inventory import read_inventory

# Counts in the digest of the inputs: raise it when a change here alters what comes out.
REVISION = 1


def make(name: str, os: OperatingSystem, rootfs: Path, rootfs_digest: str, epoch: int) -> dict[str, Any]:
    """The bill of materials of the root file system tar `rootfs` (SHA-256 in hex), of an image that is not released
    yet; `epoch` is in seconds.

    Raises RootfsUnreadable, SbomInvalid.
    """
    serial = uuid5(NAMESPACE_URL, f"urn:imagefactory:rootfs:{name}:sha256:{rootfs_digest}")
    packages = read_inventory(rootfs)
    time = datetime.fromtimestamp(epoch, UTC)
    return cyclonedx.write(name, os, packages, serial, time)


def of_release(document: dict[str, Any], version: Version) -> bytes:
    """The same as a file of the release `version`. Raises SbomInvalid."""
    image = {**document["metadata"]["component"], "version": str(version)}
    serial = uuid5(UUID(document["serialNumber"]), str(version))
    named = {
        **document,
        "metadata": {**document["metadata"], "component": image},
        "serialNumber": f"urn:uuid:{serial}",
    }
    raw = cyclonedx.encode(named)
    check(raw, image["name"], str(version))
    return raw


def check(raw: bytes, name: str, version: str) -> dict[str, Any]:
    """What a bill of materials says, if it is valid and about the release NAME@VERSION. Raises SbomInvalid."""
    document = cyclonedx.validate(raw)
    image = document.get("metadata", {}).get("component", {})
    if (image.get("name"), image.get("version")) != (name, version):
        raise SbomInvalid(f"the bill of materials is not about {name}@{version}")
    return document


@dataclass(frozen=True, order=True)
class Listed:
    """A package as a bill of materials lists it; `licences` are SPDX expressions or names."""

    package: Package
    licences: tuple[str, ...]


def listed(document: Mapping[str, Any]) -> tuple[Listed, ...]:
    """The packages of a valid bill of materials of ours, sorted."""
    components = (each for each in document.get("components", ()) if each.get("purl", "").startswith("pkg:deb/"))
    return tuple(sorted(_listed(each) for each in components))


def changes(old: Mapping[str, Any], new: Mapping[str, Any]) -> tuple[Change, ...]:
    """What the packages of one bill of materials became in another, by name."""
    before, after = ({_key(each.package): each.package.version for each in listed(one)} for one in (old, new))
    return tuple(
        Change(name, before.get(name), after.get(name))
        for name in sorted(before.keys() | after.keys())
        if before.get(name) != after.get(name)
    )


def _listed(component: Mapping[str, Any]) -> Listed:
    architecture = str(PackageURL.from_string(component["purl"]).qualifiers["arch"])
    licences = (each.get("expression") or _name(each["license"]) for each in component.get("licenses", ()))
    return Listed(Package(component["name"], component["version"], architecture), tuple(sorted(licences)))


def _name(licence: Mapping[str, Any]) -> str:
    return str(licence.get("id") or licence["name"])


def _key(package: Package) -> str:
    """A package may be installed once for each architecture; "all" is none of its own."""
    return package.name if package.architecture in {"all", "amd64"} else f"{package.name}:{package.architecture}"
