"""Images of ours that no record knows, and when they may be retired: hidden and deactivated, which both can be taken
back. Pure.

Another factory may publish to the same project, and know them; so may we, if a publication has just begun. That is why
nobody retires one that was not there an earlier day, and why nothing else is done to it.
"""

from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Annotated, Final, Self

from pydantic import Field, model_validator

from imagefactory.model.recipe_fields import CloudName, KeystoneId, Part
from imagefactory.model.settlement import MOST_IMAGES, ImageId
from imagefactory.model.survey import MAX_VALUE, SurveyedImage

WAIT: Final = timedelta(hours=24)  # longer than any upload, and somebody has been at work since
HIDDEN, DEACTIVATED = "hidden", "deactivated"


@dataclass(frozen=True)
class Stray:
    """An image of ours that no record knows.

    `since` is when an earlier audit saw it first (None: none did), `due` from when on it may be retired. `done` is what
    was done to it now; `code` and `message` say why it was not retired although it was due.
    """

    image: SurveyedImage
    since: datetime | None
    due: datetime
    done: tuple[str, ...] = ()
    code: str | None = None
    message: str | None = None

    @classmethod
    def seen(cls, image: SurveyedImage, since: datetime | None, now: datetime) -> Self:
        """One that is there `now`."""
        return cls(image, since, (since or now) + WAIT)

    @property
    def retired(self) -> bool:
        """Whether nobody who lists images finds it, and nobody starts it."""
        before = {HIDDEN} if self.image.hidden else set()
        return {HIDDEN, DEACTIVATED} <= {*before, self.image.status, *self.done}

    @property
    def kept_by(self) -> str | None:
        """What says that somebody wants it, or None."""
        return kept_by(self.image.protected, self.image.members or ())


def kept_by(protected: bool, members: object) -> str | None:
    """What says of an image that somebody wants it: that it is protected, or has members. None if nothing does."""
    if protected:
        return "it is protected"
    return "it is shared with other projects" if members else None


class StrayImage(Part):
    """One image to be retired, and the release that it says it is of."""

    image_id: ImageId
    release: Annotated[str, Field(min_length=1, max_length=MAX_VALUE)]


class Retirement(Part):
    """What the publisher is asked to retire in the project `owner` of a cloud."""

    cloud: CloudName
    owner: KeystoneId
    images: Annotated[list[StrayImage], Field(max_length=MOST_IMAGES)]

    @model_validator(mode="after")
    def _once(self) -> "Retirement":
        if len({each.image_id for each in self.images}) != len(self.images):
            raise ValueError("an image is there twice")
        return self


@dataclass(frozen=True)
class Retired:
    """What became of one image: what was done to it, and the stable code and the words of what went wrong."""

    image_id: str
    done: tuple[str, ...] = ()
    code: str | None = None
    message: str | None = None
