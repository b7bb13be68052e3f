"""The image that a recipe starts from, in place of an empty directory."""

import re
from typing import Annotated, Final

from pydantic import AfterValidator, Field, model_validator

from imagefactory.model.quantity import GIB, refusal, shown
from imagefactory.model.recipe_fields import FilePath, Matching, Part, is_url, no_secret, url
from imagefactory.model.target import GLANCE

MOST_FILE: Final = 16 * GIB  # bytes of an image
MOST_DISK: Final = 256 * GIB  # bytes of the disk that it describes

_IN_CLOUD: Final = re.compile(GLANCE + r"[A-Za-z0-9][A-Za-z0-9_.-]{0,62}/.{1,255}")


def is_in_cloud(image: str) -> bool:
    """Whether `image` names an image in a cloud's Glance, and neither a file nor an address."""
    return image.startswith(GLANCE)


def _image(value: str) -> str:
    no_secret(value)
    if is_in_cloud(value):
        if _IN_CLOUD.fullmatch(value) is None:
            raise refusal("recipe-invalid", f"should be glance:CLOUD/NAME or glance:CLOUD/ID, not {shown(value)}")
        return value
    if not is_url(value):
        return value
    if not value.startswith("https://"):
        raise refusal("recipe-invalid", f"should be a path or an address that begins with https://, not {shown(value)}")
    return url(value)


class Base(Part):
    """The root file system begins as that of another image, instead of empty."""

    image: Annotated[FilePath, AfterValidator(_image)]
    """A raw or qcow2 image: a file, absolute or from the folder of this file, an https address, or glance:CLOUD/IMAGE,
    an image that verifies."""
    sha256: Annotated[str, Matching(r"[0-9a-f]{64}", "64 lower-case hexadecimal digits")] | None = Field(None)
    """The SHA-256 of the image. Only an image in Glance may go without: it has the one that was signed."""

    @model_validator(mode="after")
    def _pinned(self) -> "Base":
        if self.sha256 is None and not is_in_cloud(self.image):
            raise refusal("recipe-invalid", "should have sha256, the digest of the image")
        return self

    @property
    def is_file(self) -> bool:
        return not is_in_cloud(self.image) and not is_url(self.image)
