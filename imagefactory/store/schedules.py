"""Schedules: registered from recipes, claimed when they are due, paused when they fail too often.

Times are those of the database's own clock, so that those of hosts do not matter. Tables have UTC without a zone.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from enum import StrEnum
from pathlib import Path
from typing import Final
from zoneinfo import ZoneInfo

from pydantic import ValidationError
from sqlalchemy import CursorResult, Update, delete, or_, select, update
from sqlalchemy.orm import Session

from imagefactory.errors.service import SchedulePaused, ScheduleUnknown
from imagefactory.model.recipe_schedule import Schedule
from imagefactory.model.schedule import Run, next_run
from imagefactory.store.clock import database_now
from imagefactory.store.records import Records
from imagefactory.store.tables import ScheduleRow

MOST_CLAIMED: Final = 100  # at once; the rest is due a moment later
_NOT_UNDERSTOOD: Final = "its schedule is not understood here: add the recipe again"


class Kind(StrEnum):
    """What runs."""

    REBUILD = "rebuild"
    LIFECYCLE = "lifecycle"
    AUDIT = "audit"
    REFRESH = "refresh"
    KEYS = "keys"


class Outcome(StrEnum):
    """How a run ended."""

    RELEASED = "released"
    UNCHANGED = "unchanged"
    FAILED = "failed"
    DONE = "done"


class Change(StrEnum):
    """What registering a recipe does."""

    ADDED = "added"
    UPDATED = "updated"
    UNCHANGED = "unchanged"
    REMOVED = "removed"


@dataclass(frozen=True)
class Claim:
    """A run that nobody else has: of which schedule, and for when it was `planned` (UTC, aware)."""

    name: str
    kind: Kind
    recipe_file: Path
    schedule: Schedule
    planned: datetime

    @property
    def reason(self) -> str:
        """Why it runs: "schedule: due 2026-11-23 02:30 Europe/Vienna"."""
        zone = self.schedule.timezone
        return f"schedule: due {self.planned.astimezone(ZoneInfo(zone)):%Y-%m-%d %H:%M} {zone}"


Clock = Callable[[Session], datetime]
Also = Callable[[Session, Claim], None]


def _nothing(session: Session, claim: Claim) -> None:
    del session, claim


class Schedules:
    """The schedules of one database."""

    def __init__(self, records: Records, clock: Clock = database_now) -> None:
        self._records = records
        self._clock = clock

    # -- what there is ---------------------------------------------------------------------------------------------

    def all(self) -> Sequence[ScheduleRow]:
        """Every schedule, by name."""
        with self._records.session() as session:
            return session.scalars(select(ScheduleRow).order_by(ScheduleRow.name)).all()

    def paused(self) -> dict[str, bool]:
        """Which of them are."""
        with self._records.session() as session:
            return {
                name: bool(paused) for name, paused in session.execute(select(ScheduleRow.name, ScheduleRow.paused))
            }

    def one(self, name: str) -> ScheduleRow:
        """Raises ScheduleUnknown."""
        with self._records.session() as session:
            return _row(session, name)

    def now(self) -> datetime:
        """What the clock of the database shows: UTC, aware."""
        with self._records.session() as session:
            return _aware(self._clock(session))

    def register(
        self,
        name: str,
        recipe_file: Path,
        schedule: Schedule | None,
        *,
        kind: Kind = Kind.REBUILD,
        dry_run: bool = False,
    ) -> Change:
        """Have `name` built by its schedule, or not any more if its recipe has none; say what that changes.

        The same again changes nothing. Another one keeps what is known of runs, and none of them runs twice.
        """
        with self._records.session() as session:
            known = session.get(ScheduleRow, name)
            if schedule is None:
                change = Change.REMOVED if known else Change.UNCHANGED
            elif known is None:
                change = Change.ADDED
            else:
                same = (known.spec, known.recipe_file) == (_spec(schedule), str(recipe_file))
                change = Change.UNCHANGED if same else Change.UPDATED
            if not dry_run and change is not Change.UNCHANGED:
                if schedule is None:
                    session.delete(known)
                else:
                    _put(
                        session, known or ScheduleRow(name=name, kind=kind), recipe_file, schedule, self._clock(session)
                    )
        return change

    def remove(self, name: str) -> None:
        """Raises ScheduleUnknown."""
        self._change(name, lambda session: session.execute(delete(ScheduleRow).where(ScheduleRow.name == name)))

    # -- runs ------------------------------------------------------------------------------------------------------

    def claim_due(self, limit: int = MOST_CLAIMED, also: Also = _nothing) -> list[Claim]:
        """Claim at most `limit` runs that are due, those that wait longest first, each for whoever is the first.

        What was missed is one run. `also` is called for each claim within the transaction: a run is claimed if what it
        begins with is recorded, and not otherwise.
        """
        with self._records.session() as session:
            now = self._clock(session)
            due = session.scalars(
                select(ScheduleRow)
                .where(ScheduleRow.paused.is_(False), ScheduleRow.begins <= now)
                .order_by(ScheduleRow.begins, ScheduleRow.name)
                .limit(limit)
            ).all()
        if not due:
            return []
        claims = []
        # Of its own, because SQLite does not let a transaction write that has read what others changed since.
        with self._records.session() as session:
            for row in due:
                claim = claim_run(session, row, now)
                if claim is not None:
                    also(session, claim)
                    claims.append(claim)
        return claims

    def record_outcome(self, name: str, planned: datetime, outcome: Outcome, error_code: str | None = None) -> bool:
        """Record how the run that was `planned` for then (aware) ended; whether it paused the schedule.

        A run counts once, and one that ends after a later one does not count. Nothing happens where the schedule was
        removed meanwhile.
        """
        failed = outcome is Outcome.FAILED
        run = _plain(planned)
        changed = (
            update(ScheduleRow)
            .where(ScheduleRow.name == name, or_(ScheduleRow.ended_run.is_(None), ScheduleRow.ended_run < run))
            .values(
                ended_run=run,
                last_outcome=outcome,
                last_error=error_code,
                failures=ScheduleRow.failures + 1 if failed else 0,
            )
            .returning(ScheduleRow.failures, ScheduleRow.spec, ScheduleRow.paused)
        )
        with self._records.session() as session:
            row = session.execute(changed).one_or_none()
            if row is None or row.paused or not failed or row.failures < row.spec["pause_after"]:
                return False
            reason = f"{row.failures} failures in a row, the last of them {error_code or 'without a code'}"
            session.execute(
                update(ScheduleRow).where(ScheduleRow.name == name).values(paused=True, pause_reason=reason)
            )
        return True

    # -- what people decide ----------------------------------------------------------------------------------------

    def pause(self, name: str, reason: str | None) -> None:
        """Let nothing of it run until it is resumed. Raises ScheduleUnknown."""
        self._change(name, lambda session: _set(session, name, paused=True, pause_reason=reason))

    def resume(self, name: str) -> Run:
        """Let it run again, with no failures counted, from the next run that is due after now. What it would have done
        while it was paused is not caught up. Raises ScheduleUnknown."""
        with self._records.session() as session:
            row = _row(session, name)
            run = next_run(name, schedule_of(row), _aware(self._clock(session)), _maybe_aware(row.claimed_run))
            if row.paused:
                row.paused, row.pause_reason, row.failures = False, None, 0
                row.next_run, row.begins = _plain(run.planned), _plain(run.begins)
        return run

    def run_now(self, name: str) -> None:
        """Have its next run begin now: whoever claims what is due does it. Raises ScheduleUnknown, SchedulePaused."""
        with self._records.session() as session:
            row = _row(session, name)
            refuse_paused(row)
            now = self._clock(session)
            session.execute(
                update(ScheduleRow)
                .where(ScheduleRow.name == name, ScheduleRow.next_run == row.next_run, ScheduleRow.begins > now)
                .values(begins=now)
            )

    def _change(self, name: str, statement: Callable[[Session], object]) -> None:
        with self._records.session() as session:
            _row(session, name)
            statement(session)


def schedule_of(row: ScheduleRow) -> Schedule:
    """What its recipe says. Raises pydantic's ValidationError for what another version wrote."""
    return Schedule.model_validate(row.spec)


def upcoming(row: ScheduleRow) -> Run:
    """Its next run, aware."""
    return Run(_aware(row.next_run), _aware(row.begins))


def refuse_paused(row: ScheduleRow) -> None:
    """Raises SchedulePaused."""
    if row.paused:
        why = f": {row.pause_reason}" if row.pause_reason else ""
        raise SchedulePaused(f"{row.name} is paused{why}", advice=f"imagefactory schedule resume {row.name}")


def _row(session: Session, name: str) -> ScheduleRow:
    row = session.get(ScheduleRow, name)
    if row is None:
        raise ScheduleUnknown(f"there is no schedule of {name}")
    return row


def _set(session: Session, name: str, **values: object) -> None:
    session.execute(update(ScheduleRow).where(ScheduleRow.name == name).values(**values))


def _put(session: Session, row: ScheduleRow, recipe_file: Path, schedule: Schedule, now: datetime) -> None:
    run = next_run(row.name, schedule, _aware(now), _maybe_aware(row.claimed_run))
    row.recipe_file, row.spec = str(recipe_file), _spec(schedule)
    row.next_run, row.begins = _plain(run.planned), _plain(run.begins)
    session.add(row)


def claim_run(session: Session, row: ScheduleRow, now: datetime) -> Claim | None:
    """The run of `row` that is due, or None if somebody else has it, or if nobody can say when the next one is."""
    still = update(ScheduleRow).where(
        ScheduleRow.name == row.name,
        ScheduleRow.next_run == row.next_run,
        ScheduleRow.begins == row.begins,
        ScheduleRow.paused.is_(False),
    )
    try:
        schedule = schedule_of(row)
    except ValidationError:
        _changes(session, still.values(paused=True, pause_reason=_NOT_UNDERSTOOD))
        return None
    planned = _aware(row.next_run)
    run = next_run(row.name, schedule, _aware(now), planned)
    new = still.values(claimed_run=row.next_run, last_run=now, next_run=_plain(run.planned), begins=_plain(run.begins))
    if not _changes(session, new):
        return None
    return Claim(row.name, Kind(row.kind), Path(row.recipe_file), schedule, planned)


def _changes(session: Session, statement: Update) -> bool:
    done = session.execute(statement.execution_options(synchronize_session=False))
    return isinstance(done, CursorResult) and done.rowcount == 1


def _spec(schedule: Schedule) -> dict[str, object]:
    return schedule.model_dump(mode="json", exclude_none=True)


def _aware(moment: datetime) -> datetime:
    return moment.replace(tzinfo=UTC)


def _maybe_aware(moment: datetime | None) -> datetime | None:
    return None if moment is None else _aware(moment)


def _plain(moment: datetime) -> datetime:
    return moment.astimezone(UTC).replace(tzinfo=None)
