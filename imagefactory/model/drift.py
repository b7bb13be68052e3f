"""How an image in a cloud has drifted from what was signed and what the records say. Pure."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Annotated, Any, Final, Self

from pydantic import Field, model_validator

from imagefactory.model.glance import GlanceImage
from imagefactory.model.recipe_fields import CloudName, KeystoneId, Part
from imagefactory.model.recipe_targets import CloudTarget
from imagefactory.model.settlement import ImageId, Release, SettledLook

MOST_AUDITED: Final = 10_000
PUBLISH_AGAIN: Final = "publish the release again"
REPLACED: Final = "do not boot it: deactivate or delete it and publish the release again; data is never put right here"
GLANCE_KEEPS: Final = "this cloud does not let this account change it: see what imagefactory preflight says"

ImagePath = Annotated[str, Field(min_length=1, max_length=4096)]


class AuditedImage(Part):
    """One image: its manifest is the file `manifest`, `target` says who sees it and how it is kept."""

    image_id: ImageId
    release: Release
    manifest: ImagePath
    look: SettledLook
    target: CloudTarget


class Audit(Part):
    """What the publisher is asked to hold against what was signed. `owner` is the project of the images (None: that of
    the credentials), `trust` the trust file that manifests are verified with; `deep` reads the data, too."""

    cloud: CloudName
    owner: KeystoneId | None
    trust: ImagePath
    deep: bool = False
    fix: bool = False
    images: Annotated[list[AuditedImage], Field(max_length=MOST_AUDITED)]

    @model_validator(mode="after")
    def _once(self) -> "Audit":
        if len({each.image_id for each in self.images}) != len(self.images):
            raise ValueError("an image is there twice")
        return self


@dataclass(frozen=True)
class Drift:
    """One thing that is not as it should be: the name that Glance has for it, or data, certificate, members, image or
    owner. None means that it should not be, or is not, there. `advice` says what to do about what is not fixable."""

    what: str
    expected: str | None
    found: str | None
    fixable: bool
    advice: str = ""
    fixed: bool = False


@dataclass(frozen=True)
class Finding:
    """What an audit found of one image. `code` and `message` say why it could not be looked at, or put right, to the
    end; `notes` are worth knowing and no drift."""

    image_id: str
    release: str
    drift: tuple[Drift, ...] = ()
    notes: tuple[str, ...] = ()
    code: str | None = None
    message: str | None = None

    @classmethod
    def from_document(cls, document: Mapping[str, Any]) -> Self:
        """What the publisher said."""
        drift = tuple(Drift(**each) for each in document["drift"])
        return cls(**{**document, "drift": drift, "notes": tuple(document["notes"])})

    @property
    def right(self) -> bool:
        """Whether the image is now as it should be, as far as could be seen."""
        return self.code is None and all(each.fixed for each in self.drift)


def drifts_of(image: GlanceImage, patch: Sequence[Mapping[str, Any]]) -> tuple[Drift, ...]:
    """What a JSON patch that would put an image right says of how it is now."""
    keys = [operation["path"].removeprefix("/") for operation in patch]
    return tuple(
        Drift(key, _text(operation.get("value")), _found(image, key), fixable=True)
        for key, operation in zip(keys, patch, strict=True)
    )


def status_drift(image: GlanceImage, deactivated: bool) -> tuple[Drift, ...]:
    """Whether an image can be booted as it should be. Without its data it cannot be helped."""
    expected = "deactivated" if deactivated else "active"
    if image.status == expected:
        return ()
    fixable = image.status in {"active", "deactivated"}
    return (Drift("status", expected, image.status, fixable, "" if fixable else PUBLISH_AGAIN),)


def hopeless(drifts: Sequence[Drift]) -> tuple[Drift, ...]:
    """The same, when the data is not what was signed: an image with other data is not made to look genuine."""
    return tuple(replace(each, fixable=False, advice=each.advice or REPLACED) for each in drifts)


def after_repair(before: Sequence[Drift], after: Sequence[Drift]) -> tuple[Drift, ...]:
    """What was found before, saying what is right now; and what came up only then."""
    left = {each.what for each in after}
    known = {each.what for each in before}
    told = [
        replace(each, fixed=True)
        if each.what not in left
        else replace(each, advice=each.advice or (GLANCE_KEEPS if each.fixable else ""))
        for each in before
    ]
    return (*told, *(each for each in after if each.what not in known))


def _found(image: GlanceImage, key: str) -> str | None:
    own: dict[str, object] = {
        "name": image.name,
        "visibility": image.visibility,
        "os_hidden": image.hidden,
        "protected": image.protected,
        "tags": list(image.tags),
    }
    return _text(own[key]) if key in own else image.value(key)


def _text(value: object) -> str | None:
    if isinstance(value, bool):
        return str(value).lower()
    if isinstance(value, list):
        return ", ".join(map(str, value))
    return None if value is None else str(value)
