"""Bills of materials as plain values: what one says, what changed between two, and how it is written.

CycloneDX in JSON (ECMA-424). Writing one from scratch and judging one need its library, which is `tools.cyclonedx`'s.
"""

import json
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any
from uuid import UUID, uuid5

from packageurl import PackageURL

from imagefactory.model.packages import Change, Package
from imagefactory.model.release import Version

# Counts in the digest of the inputs: raise it when a change of how one is made alters what comes out.
REVISION = 1
MAX_SBOM = 64 << 20  # bytes; 2,000 packages take 2 MiB


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


def encode(document: Mapping[str, Any]) -> bytes:
    """The bytes of a bill of materials: sorted, and broken into lines for people who compare two."""
    return json.dumps(document, indent=1, sort_keys=True).encode() + b"\n"


def of_release(document: Mapping[str, Any], version: Version) -> bytes:
    """The same as a file of the release `version`."""
    image = {**document["metadata"]["component"], "version": str(version)}
    serial = uuid5(UUID(document["serialNumber"]), str(version))
    named = {
        **document,
        "metadata": {**document["metadata"], "component": image},
        "serialNumber": f"urn:uuid:{serial}",
    }
    return encode(named)
