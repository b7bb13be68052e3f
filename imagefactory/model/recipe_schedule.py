"""When an image is built again by itself.

    cron, timezone                  when it is due
    jitter, window                  when it runs then
    only_if_changed, pause_after    what it runs for, and when it stops

`imagefactory.model.schedule` computes the times.
"""

from datetime import datetime
from typing import Annotated, Final

from cronsim import CronSim, CronSimError
from pydantic import AfterValidator, ConfigDict, Field, ValidationInfo, field_validator

from imagefactory.model.quantity import Between, Duration, format_duration, refusal, shown
from imagefactory.model.recipe_fields import Matching, Part
from imagefactory.model.recipe_lifecycle import Clock, TimeZone, Window

MOST_CRON: Final = 100  # characters
MOST_JITTER: Final = 12 * 3600  # seconds
MOST_FAILURES: Final = 100
_FIELDS: Final = 5
_START: Final = datetime(2000, 1, 1)


def parse_cron(expression: str, after: datetime) -> CronSim:
    """The times of `expression` after `after`, which is naive: what a wall clock shows. Raises CronSimError."""
    return CronSim(expression, after)


def _fires(value: str) -> str:
    fields = len(value.split())
    if fields != _FIELDS:
        more = ": seconds are not known" if fields == _FIELDS + 1 else ""
        raise refusal(
            "recipe-invalid",
            f"{shown(value)} has {fields} fields{more}; should be five: minute, hour, day of the month, month, weekday",
        )
    try:
        next(parse_cron(value, _START))
    except CronSimError as error:
        text = f"{shown(value)}: {str(error).lower()}; there may be no such value, or no such day in these months"
        raise refusal("recipe-invalid", f'{text}: should be such as "30 2 * * 1"') from None
    except StopIteration:
        raise refusal("recipe-invalid", f"{shown(value)} never fires: no day is like that within 50 years") from None
    return value


Cron = Annotated[
    str,
    Field(max_length=MOST_CRON),
    Matching(r"[A-Za-z0-9*,/#-]+( +[A-Za-z0-9*,/#-]+)*", 'the five fields of cron, such as "30 2 * * 1"'),
    AfterValidator(_fires),
]


class Hours(Part):
    """The hours in which a run may begin."""

    model_config = ConfigDict(serialize_by_alias=True)

    begins: Clock = Field(alias="from")
    """When it opens: a time of day, such as "22:00"."""
    ends: Clock = Field(alias="to")
    """When it closes: a time of day, on the next day if it is earlier than `from`."""

    @field_validator("ends")
    @classmethod
    def _is_another_time(cls, value: str, info: ValidationInfo) -> str:
        if value == info.data.get("begins"):
            raise refusal("recipe-invalid", "should not be the same as from; without a window it is always open")
        return value

    def has(self, hour: int, minute: int) -> bool:
        """Whether a clock that shows `hour`:`minute` stands within it."""
        clock = f"{hour:02}:{minute:02}"
        if self.begins < self.ends:
            return self.begins <= clock < self.ends
        return clock >= self.begins or clock < self.ends

    def of(self, time_zone: str) -> Window:
        """The same every day, as the clocks of `time_zone` show it."""
        return Window.model_validate({"from": self.begins, "to": self.ends, "time_zone": time_zone})


class Schedule(Part):
    """When the image is built again by itself."""

    cron: Cron
    """When it is due, as cron has it: minute, hour, day of the month, month, weekday, such as "30 2 * * 1"."""
    timezone: TimeZone = "UTC"
    """Whose clocks that means, such as Europe/Vienna."""
    jitter: Annotated[Duration, Between(0, MOST_JITTER, format_duration)] = 0
    """A run begins up to this much later, always as much for the same name and time, so that not all begin at once."""
    window: Hours | None = None
    """When a run may begin. One that is due outside of it waits until it opens. Default: at any time."""
    only_if_changed: bool = True
    """Build only if something that goes into the image has changed. Default: true."""
    pause_after: Annotated[int, Field(ge=1, le=MOST_FAILURES)] = 3
    """After so many failures in a row it pauses, until `imagefactory schedule resume`."""

    @field_validator("window")
    @classmethod
    def _is_met(cls, value: Hours | None, info: ValidationInfo) -> Hours | None:
        if value is None or "cron" not in info.data:
            return value
        times = parse_cron(info.data["cron"], _START)
        if not any(value.has(hour, minute) for hour in times.hours for minute in times.minutes):
            text = f"no run is due from {value.begins} to {value.ends}: change cron, or let the window hold its time"
            raise refusal("recipe-invalid", text)
        return value
