"""Where a release is published: catalogue:PATH or glance:CLOUD, in words and as a value."""

import re
from dataclasses import dataclass
from pathlib import Path
from posixpath import normpath
from typing import TypeAlias

from imagefactory.errors import TargetUnsupported

CATALOGUE, GLANCE = "catalogue:", "glance:"
_CLOUD = re.compile(r"[A-Za-z0-9][A-Za-z0-9_.-]{0,62}")


@dataclass(frozen=True)
class CataloguePlace:
    """A catalogue's directory, absolute.

    It is one place however somebody spells it: `..` is worked out from the text, as the signer and readers do who
    remember catalogues by their paths. Symbolic links are not followed: a catalogue that moves behind one stays the
    place that the records know.
    """

    root: Path

    def __post_init__(self) -> None:
        object.__setattr__(self, "root", Path(normpath(self.root)))

    def __str__(self) -> str:
        return f"{CATALOGUE}{self.root}"


@dataclass(frozen=True)
class CloudPlace:
    """The Glance of a cloud, as clouds.yaml names it."""

    cloud: str

    def __str__(self) -> str:
        return f"{GLANCE}{self.cloud}"


Place: TypeAlias = CataloguePlace | CloudPlace


def parse_place(text: str) -> Place:
    """catalogue:PATH or glance:CLOUD (or cloud:CLOUD, as recipes have it) as a value. Raises TargetUnsupported."""
    scheme, _, rest = text.partition(":")
    if scheme == "catalogue" and rest:
        return CataloguePlace(Path(rest))
    if scheme in {"glance", "cloud"} and _CLOUD.fullmatch(rest):
        return CloudPlace(rest)
    raise TargetUnsupported(f"{text} is no place to publish to", advice="say catalogue:PATH or glance:CLOUD")


def split_image(text: str) -> tuple[str, str]:
    """CLOUD/NAME-or-ID of a target glance:CLOUD/NAME-or-ID. Raises TargetUnsupported."""
    cloud, slash, image = text.removeprefix(GLANCE).partition("/")
    if not slash or not image or len(image) > 255 or not _CLOUD.fullmatch(cloud):
        raise TargetUnsupported(f"{text} names no image", advice="say glance:CLOUD/NAME or glance:CLOUD/ID")
    return cloud, image
