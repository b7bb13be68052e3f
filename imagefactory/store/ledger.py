"""How releases stand: their channels, what holds them back, their stage in each place, and who changed what, and why.

Nothing else changes these columns. A change is made from what it was decided upon, or not at all, and its row in the
history is written in the same transaction.
"""

from collections.abc import Sequence
from contextlib import AbstractContextManager
from datetime import UTC
from typing import Any, cast

from sqlalchemy import ColumnElement, CursorResult, Select, func, or_, select, true, update
from sqlalchemy.exc import IntegrityError
from sqlalchemy.orm import Session, defer

from imagefactory.errors import StateConflict
from imagefactory.model.build import PUBLICATION_TRANSITIONS, PublicationState
from imagefactory.model.lifecycle import HELD_TRANSITIONS, STABLE, STAGE_TRANSITIONS, Held, Stage, Standing
from imagefactory.model.release import Version
from imagefactory.store.records import Records, move, release_version, utc_now
from imagefactory.store.tables import Approval, Move, Publication, Release

Row = tuple[Release, Publication, Standing]
# Where a release is, or was complete once: what failed since then may be there all the same.
_THERE = (PublicationState.PUBLISHED, PublicationState.VERIFIED, PublicationState.WITHDRAWN)
_MAYBE = (PublicationState.INTENDED, PublicationState.FAILED)


def is_there(publication: Publication) -> bool:
    """Whether a release is in a place, as far as the records know."""
    return publication.state in _THERE or (publication.state in _MAYBE and publication.verified is not None)


def _is_lost(release: Release, publication: Publication) -> bool:
    """Whether a release was revoked before its publication was complete: whatever that left in a place is seen to."""
    return release.held == Held.REVOKED and publication.state in _MAYBE and not publication.settled


def standing_of(release: Release, publication: Publication) -> Standing:
    """How a release stands in a place. What was withdrawn there is as good as revoked."""
    withdrawn = publication.state == PublicationState.WITHDRAWN
    held = Held.REVOKED if withdrawn else Held(release.held) if release.held else None
    since = publication.since.replace(tzinfo=UTC)
    return Standing(release_version(release), release.channel, held, Stage(publication.stage), since)


class Ledger:
    """The part of the records that says how releases stand. Whatever changes raises StateConflict when somebody else
    was faster."""

    def __init__(self, records: Records) -> None:
        self._records = records

    def _deciding(self, release: Release) -> AbstractContextManager[Session]:
        """A transaction in which nobody else decides about the releases of a name: each sees what was decided before,
        and the rows of the history have their ids in the order in which they came to be seen."""
        return self._records.session(alone=f"decisions on {release.name}")

    # -- reading -------------------------------------------------------------------------------------------------------

    def standings(self, name: str, target: str) -> list[Row]:
        """Every release of `name` that is in a place, newest first; here and in `unsettled` without its evidence."""
        query = (
            select(Release, Publication)
            .join(Publication, Publication.release_id == Release.id)
            .where(Release.name == name, Publication.target == target)
            .order_by(Release.version_day.desc(), Release.version_number.desc())
        )
        return self._rows(query)

    def unsettled(self, name: str) -> list[Row]:
        """Every release of `name` in a place that does not show yet what is recorded, newest first."""
        query = (
            select(Release, Publication)
            .join(Publication, Publication.release_id == Release.id)
            .where(Release.name == name, Publication.settled.is_(False))
            .order_by(Release.version_day.desc(), Release.version_number.desc(), Publication.target)
        )
        return self._rows(query)

    def places(self, name: str) -> list[str]:
        """The places where releases of `name` are, or were once."""
        query = (
            select(Publication.target)
            .join(Release, Publication.release_id == Release.id)
            .where(Release.name == name)
            .distinct()
            .order_by(Publication.target)
        )
        with self._records.session() as session:
            return list(session.scalars(query))

    def names(self) -> list[str]:
        """Every name that has a release."""
        with self._records.session() as session:
            return list(session.scalars(select(Release.name).distinct().order_by(Release.name)))

    def image_ids(self) -> set[str]:
        """The ids of all images that were ever recorded, in any cloud."""
        with self._records.session() as session:
            return {each for each in session.scalars(select(Publication.image_id)) if each is not None}

    def approvals(self, release: Release) -> list[str]:
        """The accounts that approved a release, the first one first."""
        with self._records.session() as session:
            query = select(Approval.account).where(Approval.release_id == release.id).order_by(Approval.id)
            return list(session.scalars(query))

    def history(self, name: str, version: Version | None = None) -> Sequence[Move]:
        """What was changed about a name, or about one release of it, oldest first."""
        query = select(Move).where(Move.name == name).order_by(Move.id)
        if version is not None:
            query = query.where(Move.version == str(version))
        with self._records.session() as session:
            return session.scalars(query).all()

    def _rows(self, query: Select[Release, Publication]) -> list[Row]:
        # Evidence is most of a release, and nobody retires one by it.
        query = query.options(defer(Release.evidence, raiseload=True))
        with self._records.session() as session:
            found: list[tuple[Release, Publication]] = [(row[0], row[1]) for row in session.execute(query)]
        return [(*each, standing_of(*each)) for each in found if is_there(each[1]) or _is_lost(*each)]

    # -- releases ------------------------------------------------------------------------------------------------------

    def promote(self, release: Release, before: str, after: str, account: str, reason: str | None) -> None:
        """To another channel. Nothing comes after `stable`, and what was revoked goes nowhere."""
        if before in {after, STABLE}:
            raise StateConflict(f"{_ref(release)}: {before} does not become {after}")
        with self._deciding(release) as session:
            changed = session.execute(
                update(Release)
                .where(
                    Release.id == release.id,
                    Release.channel == before,
                    Release.held.is_distinct_from(Held.REVOKED),
                )
                .values(channel=after)
            )
            _require(changed, f"{_ref(release)} is not on {before} any more, or was revoked")
            _unsettle(session, Publication.release_id == release.id)
            _note(session, release, None, account, "promote", before, after, reason)
        release.channel = after

    def approve(self, release: Release, account: str) -> None:
        """Once by each account."""
        try:
            with self._deciding(release) as session:
                session.add(Approval(release_id=release.id, account=account, at=utc_now()))
                _note(session, release, None, account, "approve", None, "approved", None)
        except IntegrityError:
            raise StateConflict(f"{account} has approved {_ref(release)} already") from None

    def latest(self, name: str) -> int:
        """What `hold` takes for `seen`: where the history of a name ends now."""
        with self._records.session() as session:
            return session.scalar(select(func.max(Move.id)).where(Move.name == name)) or 0

    def hold(
        self,
        release: Release,
        held: Held | None,
        reason: str | None,
        account: str,
        verb: str,
        seen: int | None = None,
    ) -> None:
        """Keep the name from a release, or no longer. A revocation is final. With `seen` only if since then nobody has
        decided about any release of the name, nor deleted one: whoever counts on another one has it still."""
        before = Held(release.held) if release.held else None
        if held not in HELD_TRANSITIONS[before]:
            raise StateConflict(f"{_ref(release)}: {before or 'not held'} does not become {held or 'not held'}")
        with self._deciding(release) as session:
            changed = session.execute(
                update(Release)
                .where(
                    Release.id == release.id, Release.held.is_not_distinct_from(before), _undecided(release.name, seen)
                )
                .values(held=held, held_reason=reason if held else None)
            )
            _require(changed, f"somebody else decided about {release.name} meanwhile")
            _unsettle(session, Publication.release_id == release.id)
            _note(session, release, None, account, verb, before, held or "restored", reason)
        release.held, release.held_reason = held, reason if held else None

    # -- releases in places --------------------------------------------------------------------------------------------

    def advance(
        self,
        release: Release,
        publication: Publication,
        before: Stage,
        after: Stage,
        account: str,
        verb: str,
        reason: str | None,
    ) -> None:
        """To another stage in a place, which does not show it yet."""
        if after not in STAGE_TRANSITIONS[before]:
            raise StateConflict(f"{_ref(release)} in {publication.target}: {before} does not become {after}")
        now = utc_now()
        with self._deciding(release) as session:
            changed = session.execute(
                update(Publication)
                .where(Publication.id == publication.id, Publication.stage == before)
                .values(stage=after, since=now, settled=False)
            )
            _require(changed, f"{_ref(release)} in {publication.target} is not {before} any more")
            _note(session, release, publication.target, account, verb, before, after, reason)
        publication.stage, publication.since, publication.settled = after, now, False

    def unsettle(self, name: str, target: str) -> None:
        """What the releases of a name look like in a place is to be seen to again."""
        mine = select(Release.id).where(Release.name == name)
        with self._records.session() as session:
            _unsettle(session, Publication.release_id.in_(mine), Publication.target == target)

    def mark_settled(self, release: Release, publication: Publication, stage: Stage) -> None:
        """A place shows that a release has `stage` there, and what else was known of it when it was read; what is
        deleted is gone from there for good."""
        as_read = (
            select(Release.id)
            .where(
                Release.id == release.id,
                Release.channel == release.channel,
                Release.held.is_not_distinct_from(release.held),
            )
            .exists()
        )
        with self._deciding(release) as session:
            changed = session.execute(
                update(Publication)
                .where(Publication.id == publication.id, Publication.stage == stage, as_read)
                .values(settled=True)
            )
            _require(changed, f"{_ref(release)} in {publication.target} is not {stage} any more, or was decided upon")
            if stage is Stage.DELETED:
                before = PublicationState(publication.state)
                after = PublicationState.DELETED
                values = {"changed": utc_now()}
                move(session, Publication, publication.id, before, after, PUBLICATION_TRANSITIONS, values)
                publication.state = after
        publication.settled = True


def _undecided(name: str, seen: int | None) -> ColumnElement[bool]:
    """Whether nothing was decided about a name since `seen`; None: whatever was. What follows a decision, in one place,
    is none, but that something is gone."""
    if seen is None:
        return true()
    decided = or_(Move.target.is_(None), Move.after == Stage.DELETED)
    return ~select(Move.id).where(Move.name == name, Move.id > seen, decided).exists()


def _ref(release: Release) -> str:
    return f"{release.name}@{release_version(release)}"


def _changed(result: object) -> bool:
    return cast("CursorResult[Any]", result).rowcount == 1


def _require(result: object, otherwise: str) -> None:
    if not _changed(result):
        raise StateConflict(otherwise)


def _unsettle(session: Session, *which: ColumnElement[bool]) -> None:
    """Places do not show any more what the records say of these publications; what is gone shows nothing."""
    gone = Publication.state == PublicationState.DELETED
    session.execute(update(Publication).where(*which, ~gone).values(settled=False))


def _note(
    session: Session,
    release: Release,
    target: str | None,
    account: str,
    verb: str,
    before: str | None,
    after: str,
    reason: str | None,
) -> None:
    session.add(
        Move(
            at=utc_now(),
            account=account,
            verb=verb,
            name=release.name,
            version=str(release_version(release)),
            target=target,
            before=before,
            after=after,
            reason=reason,
        )
    )
