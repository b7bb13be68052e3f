"""What a cloud has of ours, all of it, and how that compares with what the records say. Pure.

An image is ours when it says of which release it is, in a project that we publish to, unless it was made of a server.
What else is there matters only where it has a name that is to be ours.
"""

from collections import defaultdict
from collections.abc import Collection, Mapping
from dataclasses import dataclass, fields
from datetime import datetime, timedelta
from types import MappingProxyType
from typing import Any, Final, Self

from imagefactory.model.glance import (
    MANIFEST_PROPERTY,
    RELEASE_PROPERTY,
    REPLACEMENT_PROPERTY,
    SIGNATURE_PROPERTIES,
    GlanceImage,
    ImageFacts,
)

CLOCK_TOLERANCE: Final = timedelta(minutes=5)
MAX_NAME: Final = 255  # characters, as Glance has it
MAX_TAGS: Final = 128
MAX_TAG: Final = 255  # characters
MAX_VALUE: Final = 1024  # characters of a property of ours


@dataclass(frozen=True, slots=True)
class SurveyedImage(ImageFacts):
    """One image of ours. `signature` has what there is of the four properties; `members` are ids of projects, accepted
    or not, None where nobody asked."""

    release: str
    manifest_sha256: str | None
    replacement: str | None
    signature: Mapping[str, str]
    members: tuple[str, ...] | None = None

    @classmethod
    def of(cls, image: GlanceImage) -> Self:
        """What is kept of an image that says of which release it is. Raises ValueError when that is too much."""
        said = {
            key: image.properties[key]
            for key in (RELEASE_PROPERTY, MANIFEST_PROPERTY, REPLACEMENT_PROPERTY, *SIGNATURE_PROPERTIES)
            if key in image.properties
        }
        lengths = max(map(len, (image.hash_value, *said.values())))
        if len(image.name) > MAX_NAME or len(image.tags) > MAX_TAGS or lengths > MAX_VALUE:
            raise ValueError("an image says more than Glance would let it")
        if any(len(tag) > MAX_TAG for tag in image.tags):
            raise ValueError("a tag is longer than Glance would let it be")
        return cls(
            **{each.name: getattr(image, each.name) for each in fields(ImageFacts)},
            release=said[RELEASE_PROPERTY],
            manifest_sha256=said.get(MANIFEST_PROPERTY),
            replacement=said.get(REPLACEMENT_PROPERTY),
            signature=MappingProxyType({key: said[key] for key in SIGNATURE_PROPERTIES if key in said}),
        )

    @classmethod
    def from_document(cls, document: Mapping[str, Any]) -> Self:
        """What `to_document` made."""
        members = document["members"]
        return cls(
            **{
                **document,
                "tags": tuple(document["tags"]),
                "signature": MappingProxyType(document["signature"]),
                "members": None if members is None else tuple(members),
            }
        )

    def to_document(self) -> dict[str, Any]:
        """As JSON."""
        said = {each.name: getattr(self, each.name) for each in fields(self)}
        return {**said, "signature": dict(self.signature)}

    @property
    def weight(self) -> int:
        """How many characters are kept of it."""
        texts = (self.name, self.release, self.manifest_sha256 or "", self.replacement or "", *self.signature.values())
        return sum(map(len, (*texts, *self.tags, *(self.members or ()))))


@dataclass(frozen=True, slots=True)
class OtherImage:
    """An image that is not ours and has a name that was asked about. Hidden ones are nobody's concern."""

    id: str
    name: str
    visibility: str


@dataclass(frozen=True)
class Survey:
    """All images of ours in the project `owner`, and those of others that have one of the names asked about.

    `server_time` (aware) is what the image service says that it is, None where it does not say.
    """

    owner: str
    images: tuple[SurveyedImage, ...]
    others: tuple[OtherImage, ...] = ()
    server_time: datetime | None = None

    def to_document(self) -> dict[str, Any]:
        """As JSON."""
        return {
            "owner": self.owner,
            "images": [each.to_document() for each in self.images],
            "others": [{"id": each.id, "name": each.name, "visibility": each.visibility} for each in self.others],
            "server_time": self.server_time.isoformat() if self.server_time else None,
        }

    @classmethod
    def from_document(cls, document: Mapping[str, Any]) -> Self:
        """What `to_document` made."""
        said = document["server_time"]
        return cls(
            owner=document["owner"],
            images=tuple(map(SurveyedImage.from_document, document["images"])),
            others=tuple(OtherImage(**each) for each in document["others"]),
            server_time=None if said is None else datetime.fromisoformat(said),
        )


def made_of_a_server(document: Mapping[str, object]) -> bool:
    """Whether an image, as Glance lists it, is a snapshot or a backup of a server: these have the properties of the
    image that the server was booted from, and are none of ours."""
    return document.get("image_type") in ("snapshot", "backup") or bool(document.get("base_image_ref"))


def strays(survey: Survey, known: Collection[str]) -> tuple[SurveyedImage, ...]:
    """The images of ours whose id no record knows."""
    return tuple(each for each in survey.images if each.id not in known)


def missing(survey: Survey, known: Collection[str]) -> tuple[str, ...]:
    """The ids that records know and that are not there, sorted."""
    return tuple(sorted(set(known) - {each.id for each in survey.images}))


def duplicates(survey: Survey) -> tuple[tuple[SurveyedImage, ...], ...]:
    """The images of ours that are the same format of the same release as another one, together."""
    found = defaultdict[tuple[str, str], list[SurveyedImage]](list)
    for each in survey.images:
        found[each.manifest_sha256 or each.release, each.disk_format].append(each)
    return tuple(tuple(same) for same in found.values() if len(same) > 1)


def intruders(survey: Survey, name: str) -> tuple[OtherImage, ...]:
    """The visible images called `name` that are not ours."""
    return tuple(each for each in survey.others if each.name == name)


def clock_is_off(server: datetime, here: datetime) -> bool:
    """Whether two clocks (aware times) differ too much for dates to be acted upon."""
    return abs(server - here) > CLOCK_TOLERANCE
