"""What people want to be told of: that something happened, where, and what they could do. Pure.

The id of an event hangs on what happened and on nothing else: whoever hears of it twice can tell that it is the same.
"""

from collections.abc import Collection, Mapping
from dataclasses import dataclass, field
from datetime import datetime
from enum import StrEnum
from typing import Final
from uuid import UUID, uuid5

from imagefactory.model.plain_text import printable

WARNINGS: Final = (30, 7, 1)
"""Days before something expires at which it is told of."""
_OURS: Final = UUID("6f2f3c1e-9d55-4b55-8a0e-3d1c1f0a7b42")
MOST_TEXT: Final = 2000  # characters of what happened
MOST_LINE: Final = 300  # characters of everything else


class EventKind(StrEnum):
    """As configurations name it; `type` is what receivers see."""

    JOB_FAILED = "job.failed"
    RELEASE_PUBLISHED = "release.published"
    SCHEDULE_PAUSED = "schedule.paused"
    EXPIRY_SOON = "expiry.soon"
    TEST = "test"

    @property
    def type(self) -> str:
        """The type of the CloudEvent, with the version of what is in it."""
        return f"imagefactory.{self.value}.v1"


@dataclass(frozen=True)
class Event:
    """Something that happened `at` an aware time to `subject`: what, where, and what to do, in plain text. `facts` is
    for programs: short names to texts."""

    kind: EventKind
    occurrence: str
    subject: str
    at: datetime
    title: str
    what: str
    where: str
    advice: str
    facts: Mapping[str, str] = field(default_factory=dict)

    @property
    def id(self) -> str:
        """The same for the same occurrence, whoever tells of it and when."""
        named = "\0".join((self.kind.type, self.subject, self.occurrence))
        return str(uuid5(_OURS, named))


@dataclass(frozen=True)
class Due:
    """An event that somebody is still to be told of."""

    event: Event
    receiver: str


def job_failed(job: str, name: str, code: str, message: str, advice: str, host: str, at: datetime) -> Event:
    """A job ended as failed; `code` and `message` say why, `host` where its last task ran."""
    facts = {"job": job, "name": name, "code": code, "host": host}
    todo = advice or f"imagefactory builds show {job}"
    return _event(EventKind.JOB_FAILED, job, name, at, f"{name}: build failed ({code})", message, host, todo, facts)


def release_published(name: str, version: str, place: str, at: datetime) -> Event:
    """A release is to be had in a place."""
    release = f"{name}@{version}"
    what = f"{release} was published to {place}."
    facts = {"name": name, "version": version, "place": place}
    todo = f"Nothing. imagefactory verify checks it: {release}"
    return _event(
        EventKind.RELEASE_PUBLISHED, f"{version} {place}", name, at, f"{release} is out", what, place, todo, facts
    )


def schedule_paused(name: str, reason: str, host: str, at: datetime) -> Event:
    """A schedule does not run any more, until somebody resumes it."""
    facts = {"name": name, "reason": reason, "host": host}
    todo = f"See what is wrong, then: imagefactory schedule resume {name}"
    return _event(
        EventKind.SCHEDULE_PAUSED,
        at.isoformat(),
        name,
        at,
        f"{name}: its schedule is paused",
        reason,
        host,
        todo,
        facts,
    )


def expiry_soon(
    purpose: str, keyid: str, expires: datetime, now: datetime, where: str, told: Collection[int] = WARNINGS
) -> Event | None:
    """A key or certificate that expires within the greatest of `told` days; None for one that lasts longer. Between two
    of these numbers it is the same event."""
    days = (expires - now).total_seconds() / 86400
    reached = [each for each in told if days <= each]
    if not reached:
        return None
    left = "has expired" if days <= 0 else f"expires in {days:.0f} days"
    what = f"The {purpose} key or certificate {keyid[:16]} {left}: {expires:%Y-%m-%d %H:%M} UTC."
    facts = {"purpose": purpose, "keyid": keyid, "expires": expires.isoformat()}
    todo = f"imagefactory keys rotate {purpose}"
    stage = "over" if days <= 0 else str(min(reached))
    return _event(
        EventKind.EXPIRY_SOON,
        f"{expires.isoformat()} {stage}",
        keyid,
        now,
        f"{purpose}: {left}",
        what,
        where,
        todo,
        facts,
    )


def trial(host: str, at: datetime) -> Event:
    """What shows whether anybody hears of events."""
    what, todo = "This is a test of notifications. Nothing has happened.", "Nothing."
    return _event(EventKind.TEST, at.isoformat(), host, at, "imagefactory: test", what, host, todo, {"host": host})


def _event(
    kind: EventKind,
    occurrence: str,
    subject: str,
    at: datetime,
    title: str,
    what: str,
    where: str,
    advice: str,
    facts: Mapping[str, str],
) -> Event:
    """One with nothing in it that a terminal or a mail program would obey."""
    return Event(
        kind,
        printable(occurrence, MOST_TEXT),
        printable(subject, MOST_LINE) or kind.value,  # a CloudEvent has one, or none at all
        at,
        printable(title, MOST_LINE),
        printable(what, MOST_TEXT, lines=True),
        printable(where, MOST_LINE),
        printable(advice, MOST_TEXT, lines=True),
        {key: printable(value, MOST_LINE) for key, value in facts.items()},
    )
