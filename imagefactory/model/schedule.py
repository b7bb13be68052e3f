"""When schedules run. It touches nothing, the clock included: whoever asks says what time it is.

cronsim reads a cron expression and finds the times at which a wall clock shows it. What a time zone makes of them is
done here, because cronsim passes over times after a change by half an hour (Australia/Lord_Howe), and gives a time that
is skipped once for each time that it stands for.

As cron of Debian has it: where minute and hour are given, a time that a change of clocks skips is the first minute
after it, and one that comes twice is the first; where one of them begins with a star, the run follows the clock.
"""

from collections.abc import Iterator
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from hashlib import sha256
from heapq import heappop, heappush
from typing import Final
from zoneinfo import ZoneInfo

from imagefactory.model.recipe_schedule import Schedule, parse_cron

_MINUTE: Final = timedelta(minutes=1)
# The clocks of Antarctica/Troll are put back by two hours, and nowhere by more.
_PUT_BACK: Final = timedelta(hours=3)


@dataclass(frozen=True, order=True)
class Run:
    """One run: `planned` as cron and window have it, and `begins`, which is that and the jitter. Both UTC, aware."""

    planned: datetime
    begins: datetime


def occurrences(schedule: Schedule, after: datetime) -> Iterator[datetime]:
    """When cron has it due, later than `after` (aware): UTC, ascending, each once, without end."""
    zone = ZoneInfo(schedule.timezone)
    after = after.astimezone(UTC)
    begin = (after.astimezone(zone) - _PUT_BACK).replace(tzinfo=None)
    walls = parse_cron(schedule.cron, begin)
    minute, hour = schedule.cron.split()[:2]
    follows = minute.startswith("*") or hour.startswith("*")
    moments = _following(walls, zone) if follows else (_once(wall, zone) for wall in walls)
    last = after
    for moment in moments:
        if moment > last:
            last = moment
            yield moment


def _once(wall: datetime, zone: ZoneInfo) -> datetime:
    """When clocks show `wall` for the first time, or the first minute that they show instead."""
    while not _shown(wall, zone):
        wall += _MINUTE
    return _shown(wall, zone)[0]


def _following(walls: Iterator[datetime], zone: ZoneInfo) -> Iterator[datetime]:
    """Each moment at which clocks show one of `walls` (ascending); what comes twice is there twice."""
    waiting: list[datetime] = []
    for wall in walls:
        moments = _shown(wall, zone)
        while moments and waiting and waiting[0] < moments[0]:
            yield heappop(waiting)
        for moment in moments:
            heappush(waiting, moment)


def _shown(wall: datetime, zone: ZoneInfo) -> list[datetime]:
    """When the clocks of `zone` show `wall` (naive): never, once or twice; UTC."""
    moments = {wall.replace(tzinfo=zone, fold=fold).astimezone(UTC) for fold in (0, 1)}
    return sorted(each for each in moments if each.astimezone(zone).replace(tzinfo=None, fold=0) == wall)


def next_run(name: str, schedule: Schedule, after: datetime, last: datetime | None = None) -> Run:
    """The first run of `name` that begins later than `after`, planned later than `last`; both aware.

    What is due while the window is closed is one run, planned for when it opens. What was missed is nobody's next run:
    whoever claims a run asks for the next after now. A clock that was put back makes no run twice, by `last`.
    """
    after = after.astimezone(UTC)
    planned = after - timedelta(seconds=schedule.jitter)
    if last is not None:
        planned = max(planned, last.astimezone(UTC))
    while True:
        run = _run(name, schedule, next(occurrences(schedule, planned)))
        if run.begins > after:
            return run
        planned = run.planned


def next_runs(name: str, schedule: Schedule, after: datetime, last: datetime | None = None) -> Iterator[Run]:
    """The run that `next_run` gives and those that are planned after it, as if each began in time; without end."""
    run = next_run(name, schedule, after, last)
    while True:
        yield run
        run = next_run(name, schedule, max(run.planned, after.astimezone(UTC)), run.planned)


def _run(name: str, schedule: Schedule, occurrence: datetime) -> Run:
    jitter = timedelta(seconds=schedule.jitter)
    planned = occurrence
    if schedule.window is not None:
        planned, closes = schedule.window.of(schedule.timezone).opening(occurrence)
        jitter = min(jitter, closes - planned)
    return Run(planned, planned + timedelta(seconds=int(jitter.total_seconds() * _share(name, planned))))


def _share(name: str, planned: datetime) -> float:
    """From 0 to less than 1: the same for the same name and time, and as if by chance for another."""
    digest = sha256(f"{name} {planned.isoformat()}".encode()).digest()
    return int.from_bytes(digest[:6]) / (1 << 48)
