"""How releases come and go: the channels that they pass, when old ones leave, and who is asked whether they are used.

    channels, requires_approval     what a release has to pass before it is offered
    lifecycle                       what happens to it when newer ones are
    in_use_cloud                    with whose eyes servers and volumes of a cloud are seen

`policy_of` reads them from the recipe that a release was built from, as its builder attested it.
"""

from collections.abc import Iterator, Mapping
from datetime import UTC, datetime, time, timedelta
from types import MappingProxyType
from typing import Annotated, Any, Final, Literal, TypeAlias
from zoneinfo import ZoneInfo, ZoneInfoNotFoundError

from pydantic import (
    AfterValidator,
    ConfigDict,
    Discriminator,
    Field,
    PlainSerializer,
    Tag,
    ValidationError,
    ValidationInfo,
    field_validator,
)

from imagefactory.errors import RecipeInvalid
from imagefactory.model.lifecycle import STABLE
from imagefactory.model.quantity import Between, Duration, format_duration, refusal, shown
from imagefactory.model.recipe_fields import CloudName, ImageTag, Items, Matching, Part, Slug, Unique

MOST_CHANNELS: Final = 8
MOST_KEPT: Final = 1000
MOST_APPROVALS: Final = 20
_DAY: Final = 86400  # seconds
_WEEKDAYS: Final = ("mon", "tue", "wed", "thu", "fri", "sat", "sun")  # as datetime.weekday() counts

Weekday: TypeAlias = Literal["mon", "tue", "wed", "thu", "fri", "sat", "sun"]
Age = Annotated[Duration, Between(0, 3650 * _DAY, format_duration)]


# -- channels ---------------------------------------------------------------------------------------------------------


def _ends_stable(value: tuple[str, ...]) -> tuple[str, ...]:
    if value[-1] != STABLE:
        raise refusal("recipe-invalid", f"should end with {STABLE}, the channel whose newest release has the name")
    return value


Channels = Annotated[Items[Slug], Unique(at_least=1), Field(max_length=MOST_CHANNELS), AfterValidator(_ends_stable)]
Approvals = Annotated[int, Field(ge=0, le=MOST_APPROVALS)]


# -- windows ----------------------------------------------------------------------------------------------------------


def _known_zone(value: str) -> str:
    try:
        ZoneInfo(value)
    except (ZoneInfoNotFoundError, OSError, ValueError):
        raise refusal(
            "recipe-invalid", f"{shown(value)} is no time zone: should be a name such as Europe/Berlin or UTC"
        ) from None
    return value


# Names of the time zone database begin with a capital; what else lies in its folder does not.
TimeZone = Annotated[
    str,
    Field(max_length=64),
    Matching(r"[A-Z][A-Za-z0-9_+-]*(/[A-Za-z0-9_+-]+){0,2}", "a time zone, such as Europe/Berlin or UTC"),
    AfterValidator(_known_zone),
]
Clock = Annotated[str, Matching(r"([01][0-9]|2[0-3]):[0-5][0-9]", 'a time of day in quotes, such as "22:00"')]


class Window(Part):
    """When `lifecycle apply` may change something."""

    model_config = ConfigDict(serialize_by_alias=True)

    days: Annotated[Items[Weekday], Unique(at_least=1)] = _WEEKDAYS
    """The days on which it opens."""
    begins: Clock = Field(alias="from")
    """When it opens: a time of day, such as "22:00"."""
    ends: Clock = Field(alias="to")
    """When it closes: a time of day, on the next day if it is earlier than `from`."""
    time_zone: TimeZone
    """Whose time that is, such as Europe/Berlin."""

    @field_validator("ends")
    @classmethod
    def _is_another_time(cls, value: str, info: ValidationInfo) -> str:
        if value == info.data.get("begins"):
            raise refusal("recipe-invalid", "should not be the same as from; without a window it is always open")
        return value

    def opens(self, now: datetime) -> bool:
        """Whether it is open at `now` (aware)."""
        return self.next_opening(now) == now

    def next_opening(self, now: datetime) -> datetime:
        """The first moment, not before `now` (aware), at which it is open; UTC.

        A time of day that a change of clocks skips is the one after the change that is as far away, and one that comes
        twice is the first, as RFC 5545 has it.
        """
        return self.opening(now)[0]

    def opening(self, now: datetime) -> tuple[datetime, datetime]:
        """The first moment, not before `now` (aware), at which it is open, and when it closes after that; UTC."""
        now = now.astimezone(UTC)
        return min((max(start, now), end) for start, end in self._around(now) if start < end and now < end)

    def _around(self, now: datetime) -> Iterator[tuple[datetime, datetime]]:
        """When it opens and closes: from before `now` until long enough after it that one is sure to open. A window
        that clocks skip ends before it begins."""
        zone = ZoneInfo(self.time_zone)
        begins, ends = time.fromisoformat(self.begins), time.fromisoformat(self.ends)
        today = now.astimezone(zone).date()
        for day in (today + timedelta(days) for days in range(-2, 22)):
            if _WEEKDAYS[day.weekday()] in self.days:
                last = day if begins < ends else day + timedelta(1)
                start, end = datetime.combine(day, begins, zone), datetime.combine(last, ends, zone)
                yield start.astimezone(UTC), end.astimezone(UTC)


# -- the policy -------------------------------------------------------------------------------------------------------


class Exclusions(Part):
    """Images that never go beyond deprecated."""

    tags: Annotated[Items[ImageTag], Unique(), Field(max_length=50)] = ()
    """Those with one of these tags."""
    protected: bool = True
    """Those that Glance protects. Default: true."""
    shared: bool = True
    """Those that are shared with other projects. Default: true."""


class LifecyclePolicy(Part):
    """When old releases leave a place. Without `obsolete_after` and `keep_at_most` none does."""

    keep_at_least: Annotated[int, Field(ge=1, le=MOST_KEPT)] = 2
    """The newest so many never go beyond deprecated, at least 1. Revoked ones do not count."""
    keep_at_most: Annotated[int, Field(ge=1, le=MOST_KEPT)] | None = None
    """If more than so many are active or deprecated in a place, the oldest become obsolete. Default: any number."""
    obsolete_after: Age | None = None
    """How long after it was deprecated a release becomes obsolete. Default: never."""
    delete_after: Age | None = None
    """How long after it became obsolete a release is deleted. Default: never."""
    grace: Age = 7 * _DAY
    """The least time between one stage and the next, whatever else is said."""
    exclude: Exclusions = Exclusions()
    """What never goes beyond deprecated."""
    window: Window | None = None
    """When `lifecycle apply` may change something. Default: at any time."""

    @field_validator("keep_at_least", mode="before")
    @classmethod
    def _keeps_one(cls, value: object) -> object:
        if isinstance(value, int) and not 1 <= value <= MOST_KEPT:
            text = f"should be from 1 to {MOST_KEPT}, not {shown(value)}: the last release is never given up"
            raise refusal("recipe-invalid", text)
        return value

    @field_validator("keep_at_most")
    @classmethod
    def _keeps_the_least(cls, value: int | None, info: ValidationInfo) -> int | None:
        least = info.data.get("keep_at_least")
        if value is not None and least is not None and value < least:
            raise refusal("recipe-invalid", f"should be at least keep_at_least, which is {least}, not {value}")
        return value

    @field_validator("delete_after")
    @classmethod
    def _follows_obsolete(cls, value: int | None, info: ValidationInfo) -> int | None:
        known = {"keep_at_most", "obsolete_after"} <= info.data.keys()
        if value is not None and known and info.data["keep_at_most"] is info.data["obsolete_after"] is None:
            raise refusal(
                "recipe-invalid",
                "means nothing without obsolete_after or keep_at_most: only what is obsolete is deleted",
            )
        return value


# -- who is asked -----------------------------------------------------------------------------------------------------


def _one_or_each(value: object) -> str:
    return "each cloud" if isinstance(value, Mapping) else "one for all"


_Each = Annotated[
    Mapping[CloudName, CloudName],
    Field(min_length=1, max_length=100, json_schema_extra={"additionalProperties": False}),
    AfterValidator(MappingProxyType),
    PlainSerializer(dict),
]
InUseCloud = Annotated[
    Annotated[CloudName, Tag("one for all")] | Annotated[_Each, Tag("each cloud")], Discriminator(_one_or_each)
]


# -- altogether -------------------------------------------------------------------------------------------------------


class RecipeLife(Part):
    """What a recipe says about the life of its releases."""

    channels: Channels = (STABLE,)
    """The channels, first to last."""
    requires_approval: Approvals = 0
    """How many others approve a release before it comes to `stable`."""
    lifecycle: LifecyclePolicy | None = None
    """The policy, if it has one."""
    in_use_cloud: InUseCloud | None = None
    """A cloud of clouds.yaml, or one for each cloud."""

    @property
    def policy(self) -> LifecyclePolicy:
        """The policy; where none is written, the one by which nothing leaves."""
        return self.lifecycle or LifecyclePolicy()

    def asked_for(self, cloud: str) -> str | None:
        """The cloud of clouds.yaml with which the servers and volumes of `cloud` are seen, or None."""
        if isinstance(self.in_use_cloud, Mapping):
            return self.in_use_cloud.get(cloud)
        return self.in_use_cloud


def policy_of(recipe: Mapping[str, Any]) -> RecipeLife:
    """What an attested recipe says. One that is older than these keys has the defaults.

    Raises RecipeInvalid for what is there and not understood: nobody guesses what may be deleted.
    """
    said = {key: recipe[key] for key in RecipeLife.model_fields if recipe.get(key) is not None}
    try:
        return RecipeLife.model_validate(said)
    except ValidationError as error:
        first = error.errors(include_url=False, include_input=False)[0]
        where = ".".join(str(part)[:40] for part in first["loc"][:4])
        raise RecipeInvalid(f"the recipe of the release: {where}: {first['msg'][:200]}") from None


def contradictions(life: RecipeLife, clouds: frozenset[str]) -> Iterator[tuple[tuple[str, ...], str]]:
    """What does not fit together in a recipe that publishes to `clouds`: the path of the key, and what is wrong."""
    if life.requires_approval and life.channels == (STABLE,):
        yield (
            ("requires_approval",),
            f"means nothing where {STABLE} is the only channel: say channels: [candidate, stable]",
        )
    if isinstance(life.in_use_cloud, Mapping):
        for cloud in sorted(life.in_use_cloud.keys() - clouds):
            yield ("in_use_cloud", cloud), "is no cloud that is published to"
    unseen = sorted(cloud for cloud in clouds if life.asked_for(cloud) is None)
    if life.policy.delete_after is not None and unseen:
        text = f"wants in_use_cloud for {', '.join(unseen)}: what may be in use is not deleted"
        yield ("lifecycle", "delete_after"), text
