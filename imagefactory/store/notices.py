"""Events that people are to be told of: rows, one for each receiver, written with what happened.

Who sends one has it for HOLD seconds; if he dies, somebody sends it again, and receivers know it by its id.
"""

from collections.abc import Collection, Mapping
from datetime import datetime
from typing import Any, Final

from sqlalchemy import insert, select, update
from sqlalchemy.orm import Session

from imagefactory.errors.service import NotifyInvalid, NotifyRefused, NotifyUnreachable
from imagefactory.model.event import Due, Event, EventKind
from imagefactory.model.job import delay
from imagefactory.store.clock import from_now
from imagefactory.store.records import Records
from imagefactory.store.tables import Notice

HOLD: Final = 300.0  # seconds
MOST_ATTEMPTS: Final = 12


class Notices:
    """The notices of one database: an outbox (service.notify)."""

    def __init__(self, records: Records) -> None:
        self._records = records

    def add(self, session: Session, event: Event, receivers: Collection[str]) -> None:
        """Have each of `receivers` told of an event, once."""
        known = set(session.scalars(select(Notice.receiver).where(Notice.event == event.id)))
        for receiver in sorted(set(receivers) - known):
            row = {"event": event.id, "receiver": receiver, "document": _document(event), "attempts": 0}
            session.execute(insert(Notice).values(**row, due=from_now()))

    def due(self, most: int) -> list[Due]:
        """Those whose time has come; others do not get them for HOLD seconds."""
        waiting = (Notice.due <= from_now(), Notice.sent.is_(None))
        with self._records.session() as session:
            chosen = select(Notice.id).where(*waiting).order_by(Notice.due).limit(most)
            taken = (
                update(Notice)
                .where(Notice.id.in_(chosen.with_for_update(skip_locked=True)), *waiting)
                .values(due=from_now(HOLD), attempts=Notice.attempts + 1)
                .returning(Notice.document, Notice.receiver)
            )
            return [Due(_event(document), receiver) for document, receiver in session.execute(taken)]

    def sent(self, due: Due) -> None:
        """It was taken."""
        self._change(due, {"sent": from_now(), "due": None, "error_code": None})

    def failed(self, due: Due, why: NotifyInvalid | NotifyRefused | NotifyUnreachable) -> None:
        """It was not: tried again later where that may help, and not for ever."""
        with self._records.session() as session:
            attempts = session.scalar(select(Notice.attempts).where(*_of(due))) or 0
        again = isinstance(why, NotifyUnreachable) and attempts < MOST_ATTEMPTS
        self._change(due, {"due": from_now(delay(attempts)) if again else None, "error_code": why.code})

    def _change(self, due: Due, values: Mapping[str, Any]) -> None:
        with self._records.session() as session:
            session.execute(update(Notice).where(*_of(due)).values(**values))


def _of(due: Due) -> tuple[Any, ...]:
    return (Notice.event == due.event.id, Notice.receiver == due.receiver)


def _document(event: Event) -> dict[str, Any]:
    return {**vars(event), "at": event.at.isoformat(), "facts": dict(event.facts)}


def _event(document: Mapping[str, Any]) -> Event:
    known = {"kind": EventKind(document["kind"]), "at": datetime.fromisoformat(document["at"])}
    return Event(**{**document, **known})
