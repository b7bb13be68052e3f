"""An image as Glance describes it, and as we would have it described. Pure.

Format: the Image service API v2 (docs.openstack.org/api-ref/image/v2): one flat JSON object in which everything that is
no base attribute is a property with a text value.
"""

import re
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass
from types import MappingProxyType
from typing import Any, Final, Self

from imagefactory.model.recipe_targets import CloudTarget, Visibility
from imagefactory.model.release import Version

RELEASE_PROPERTY: Final = "imagefactory_release"
MANIFEST_PROPERTY: Final = "imagefactory_manifest_sha256"
REPLACEMENT_PROPERTY: Final = "imagefactory_replacement"  # NAME@VERSION: what to use instead
CERTIFICATE_PROPERTY: Final = "img_signature_certificate_uuid"
SIGNATURE_PROPERTIES: Final = (
    "img_signature",
    "img_signature_hash_method",
    "img_signature_key_type",
    CERTIFICATE_PROPERTY,
)
# What is set as numbers of their own, not as properties.
NUMBERS: Final = ("min_ram", "min_disk")

MAX_PROPERTIES: Final = 512  # Glance's default quota is 128
_UUID: Final = re.compile(r"[0-9a-f]{8}(-[0-9a-f]{4}){3}-[0-9a-f]{12}")
_WORD: Final = re.compile(r"[A-Za-z0-9_.-]{0,255}")
_BASE: Final = frozenset(
    {"id", "name", "status", "visibility", "owner", "checksum", "os_hash_algo", "os_hash_value", "size", "virtual_size"}
    | {"min_ram", "min_disk", "protected", "os_hidden", "tags", "disk_format", "container_format", "created_at"}
    | {"updated_at", "file", "self", "schema", "locations", "direct_url", "stores"}
)


def is_uuid(text: str) -> bool:
    """Whether `text` is a UUID as OpenStack writes it: lower case, with hyphens."""
    return _UUID.fullmatch(text) is not None


@dataclass(frozen=True, slots=True)
class ImageFacts:
    """What Glance says of every image. `size` is bytes (None: no data yet), min_ram MiB, min_disk GiB."""

    id: str
    name: str
    status: str
    owner: str
    visibility: str
    hidden: bool
    protected: bool
    disk_format: str
    size: int | None
    hash_value: str
    min_ram: int
    min_disk: int
    tags: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class GlanceImage(ImageFacts):
    """All that Glance says of one image."""

    hash_algorithm: str
    properties: Mapping[str, str]

    @classmethod
    def from_json(cls, document: object) -> Self:
        """Read one image. Raises ValueError when it is none: whoever answered is not trusted."""
        if not isinstance(document, dict):
            raise ValueError("an image is an object")
        if not is_uuid(str(document.get("id"))):
            raise ValueError("an image has a UUID")
        tags = document.get("tags") or []
        if not isinstance(tags, list) or not all(isinstance(tag, str) for tag in tags):
            raise ValueError("tags are texts")
        properties = {str(key): str(value) for key, value in document.items() if key not in _BASE}
        if len(properties) > MAX_PROPERTIES:
            raise ValueError("an image has too many properties")
        return cls(
            id=document["id"],
            name=_text(document, "name"),
            status=_word(document, "status"),
            owner=_word(document, "owner"),
            visibility=_word(document, "visibility"),
            hidden=document.get("os_hidden") is True,
            protected=document.get("protected") is True,
            disk_format=_word(document, "disk_format"),
            size=_number(document, "size"),
            hash_algorithm=_word(document, "os_hash_algo"),
            hash_value=_text(document, "os_hash_value"),
            min_ram=_number(document, "min_ram") or 0,
            min_disk=_number(document, "min_disk") or 0,
            tags=tuple(sorted(tags)),  # Glance keeps no order
            properties=MappingProxyType(properties),
        )

    def value(self, key: str) -> str | None:
        """A property, or min_ram or min_disk, as text; None when it is not there."""
        if key in NUMBERS:
            return str(self.min_ram if key == "min_ram" else self.min_disk)
        return self.properties.get(key)


NOT_BY_GLANCE: Final = (
    "Glance could not verify the signature itself: with an application credential it may not fetch the certificate"
)
# What makes Nova boot something else than the image's data, or boot it otherwise.
_STEERING: Final = re.compile(
    r"(hw_|os_(?!glance|hash)).*|kernel_id|ramdisk_id|block_device_mapping|bdm_v2|mappings|root_device_name"
)


def unsigned(image: GlanceImage, signed: Collection[str]) -> list[str]:
    """The properties of an image that say how it boots and are none of those that were signed."""
    return sorted(key for key in image.properties if key not in signed and _STEERING.fullmatch(key))


@dataclass(frozen=True)
class Audience:
    """Who sees a published image, and how it is kept: the part of a publication that is the publisher's choice.

    `members` are ids of projects with whom a `shared` image is shared, `certificate_readers` ids of users who may read
    the certificate in Barbican besides the project, `owner` is the id of the project that owns the image (None: ours).
    """

    visibility: Visibility = "private"
    members: tuple[str, ...] = ()
    tags: tuple[str, ...] = ()
    protected: bool = False
    certificate_readers: tuple[str, ...] = ()
    owner: str | None = None

    @classmethod
    def of(cls, target: CloudTarget) -> Self:
        """What a recipe's target says."""
        return cls(
            visibility=target.visibility,
            members=target.members,
            tags=target.tags,
            protected=target.protected,
            certificate_readers=target.certificate_readers,
            owner=target.owner,
        )


def creation(
    image_id: str,
    name: str,
    disk_format: str,
    properties: Mapping[str, str],
    tags: Sequence[str],
    owner: str | None = None,
) -> dict[str, Any]:
    """The body of a create request: nobody but the project sees the image yet. `owner` is another project than the one
    that asks."""
    return {
        **({"owner": owner} if owner else {}),
        **{key: value for key, value in properties.items() if key not in NUMBERS},
        **{key: int(properties[key]) for key in NUMBERS if key in properties},
        "id": image_id,
        "name": name,
        "disk_format": disk_format,
        "container_format": "bare",
        "visibility": "private",
        "os_hidden": True,
        "protected": False,
        "tags": sorted(set(tags)),
    }


@dataclass(frozen=True)
class Appearance:
    """As what an image is listed: its name, whether it is listed only for those who ask for hidden ones, and which
    release, NAME@VERSION, to use instead of it."""

    name: str
    hidden: bool = False
    replacement: str | None = None

    @classmethod
    def of(cls, image: GlanceImage) -> Self:
        """As what an image is listed now."""
        return cls(image.name, image.hidden, image.properties.get(REPLACEMENT_PROPERTY))


def versioned_name(display_name: str, version: Version | str) -> str:
    """What an image is called that does not have the display name."""
    return f"{display_name} {version}"


def revealing(image: GlanceImage, audience: Audience, appearance: Appearance) -> list[dict[str, Any]]:
    """The JSON patch (RFC 6902, as Glance's v2.1 media type takes it) that gives an image its audience and its
    appearance at once; empty when it has them."""
    wanted = {
        "/visibility": (image.visibility, audience.visibility),
        "/protected": (image.protected, audience.protected),
        "/tags": (list(image.tags), sorted(set(audience.tags))),
    }
    return [*_replaced(wanted), *appearing(image, appearance)]


def appearing(image: GlanceImage, appearance: Appearance) -> list[dict[str, Any]]:
    """The JSON patch that has an image listed as it should be; empty when it is."""
    patch = _replaced({"/name": (image.name, appearance.name), "/os_hidden": (image.hidden, appearance.hidden)})
    path, said = f"/{REPLACEMENT_PROPERTY}", image.properties.get(REPLACEMENT_PROPERTY)
    if appearance.replacement is None and said is not None:
        patch.append({"op": "remove", "path": path})
    elif appearance.replacement != said:
        patch.append({"op": "add", "path": path, "value": appearance.replacement})
    return patch


def _replaced(wanted: Mapping[str, tuple[object, object]]) -> list[dict[str, Any]]:
    """The JSON patch that makes new values of old ones: (old, new) by path."""
    return [{"op": "replace", "path": path, "value": new} for path, (old, new) in wanted.items() if old != new]


def without_signature(image: GlanceImage) -> list[dict[str, Any]]:
    """The JSON patch that removes what there is of a signature."""
    return [{"op": "remove", "path": f"/{key}"} for key in SIGNATURE_PROPERTIES if key in image.properties]


def repairs(image: GlanceImage, wanted: Mapping[str, str]) -> list[dict[str, Any]]:
    """The JSON patch that gives an image the properties it should have; empty when it has them."""
    changed: list[dict[str, Any]] = [
        {"op": "add", "path": f"/{key}", "value": int(value) if key in NUMBERS else value}
        for key, value in wanted.items()
        if image.value(key) != value
    ]
    return changed + [{"op": "remove", "path": f"/{key}"} for key in unsigned(image, wanted)]


def _text(document: Mapping[str, Any], key: str) -> str:
    value = document.get(key)
    return value if isinstance(value, str) else ""


def _word(document: Mapping[str, Any], key: str) -> str:
    """A text of Glance's own making, which gets into messages. Raises ValueError."""
    value = _text(document, key)
    if _WORD.fullmatch(value) is None:
        raise ValueError(f"{key} is no word")
    return value


def _number(document: Mapping[str, Any], key: str) -> int | None:
    value = document.get(key)
    return value if isinstance(value, int) and not isinstance(value, bool) and value >= 0 else None
