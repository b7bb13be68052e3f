"""What the publisher is asked to make of the images of one name in one cloud. Pure.

A request is JSON. Reading it raises pydantic's ValidationError; whatever is in it after that is bounded and fits
together.
"""

from typing import Annotated, Final

from pydantic import AfterValidator, Field, model_validator

from imagefactory.errors import ReleaseNameInvalid
from imagefactory.model.glance import Appearance, is_uuid
from imagefactory.model.recipe_fields import CloudName, KeystoneId, Line, Matching, Part, Slug
from imagefactory.model.recipe_targets import Visibility
from imagefactory.model.release import ReleaseRef

MOST_IMAGES: Final = 10_000  # of one name in one cloud


def _image_id(value: str) -> str:
    if not is_uuid(value):
        raise ValueError("should be a UUID")
    return value


def _release(value: str) -> str:
    try:
        ref = ReleaseRef.parse(value)
    except ReleaseNameInvalid as error:
        raise ValueError(error.message) from error
    if ref.version is None:
        raise ValueError("should be NAME@VERSION")
    return value


ImageId = Annotated[str, Field(max_length=36), AfterValidator(_image_id)]
Release = Annotated[str, Field(max_length=100), AfterValidator(_release)]
Sha256 = Annotated[str, Matching(r"[0-9a-f]{64}", "64 lower-case hexadecimal digits")]


class DisplayLook(Part):
    """How a release that is published is to be listed: under the display name `name`, or hidden, with its version
    behind that. One that is `coming` is hidden until it is recorded, and has the name then."""

    name: Line
    hidden: bool
    coming: bool

    @model_validator(mode="after")
    def _coming_is_hidden(self) -> "DisplayLook":
        if self.coming and not self.hidden:
            raise ValueError("what is shown is not coming any more")
        return self


class SettledLook(Part):
    """How an image is to look: model.lifecycle.Look as a request has it."""

    name: Line
    hidden: bool
    deactivated: bool
    replacement: Release | None

    @model_validator(mode="after")
    def _shown_is_whole(self) -> "SettledLook":
        if not self.hidden and (self.deactivated or self.replacement is not None):
            raise ValueError("an image that is shown is neither deactivated nor replaced")
        return self

    @property
    def appearance(self) -> Appearance:
        """As what it is listed."""
        return Appearance(self.name, self.hidden, self.replacement)


class SettledImage(Part):
    """One image and what is to become of it. `visibility` is whom it is shown to, if it is; `protected` whether its
    publisher protects it, and may lift that; `delete` whether it is to go in the end."""

    image_id: ImageId
    manifest_sha256: Sha256
    release: Release
    look: SettledLook
    visibility: Visibility
    protected: bool
    delete: bool

    @model_validator(mode="after")
    def _shown_stays(self) -> "SettledImage":
        if self.delete and not self.look.hidden:
            raise ValueError("an image that is shown is not deleted")
        return self


class Settlement(Part):
    """The images of the image name `name` in a cloud, in the order in which they are to be settled. At most one is
    shown. `owner` is the project that owns them (None: that of the credentials)."""

    cloud: CloudName
    owner: KeystoneId | None
    name: Slug
    images: Annotated[list[SettledImage], Field(max_length=MOST_IMAGES)]

    @model_validator(mode="after")
    def _fits(self) -> "Settlement":
        ids = [each.image_id for each in self.images]
        if len(set(ids)) != len(ids):
            raise ValueError("an image is there twice")
        if any(ReleaseRef.parse(each.release).name != self.name for each in self.images):
            raise ValueError("an image is of another name")
        if sum(not each.look.hidden for each in self.images) > 1:
            raise ValueError("two images are to have the name")
        return self

    @property
    def holder(self) -> SettledImage | None:
        """The image that is to have the display name."""
        return next((each for each in self.images if not each.look.hidden), None)

    @property
    def others(self) -> list[SettledImage]:
        """The images that are not to have it, in order."""
        return [each for each in self.images if each.look.hidden]
