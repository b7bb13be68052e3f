"""The keeper of names: who has the name in a place, recorded first, and then shown there.

A decision is a transaction in the records. What a place shows follows it, under the lock on that name in that place;
what a kill or an outage left is finished by whoever comes next.
"""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import partial

from imagefactory.lifecycle.places import Left, Order, Places, Settlement
from imagefactory.model.lifecycle import Look, Stage, Standing, holder, look, succession
from imagefactory.model.release import ReleaseRef
from imagefactory.progress import Progress
from imagefactory.store.ledger import Ledger, Row, standing_of
from imagefactory.store.lock import Locks
from imagefactory.store.records import release_version
from imagefactory.store.tables import Publication, Release
from imagefactory.tools.audit_log import AuditLog
from imagefactory.tools.side_by_side import side_by_side


@dataclass(frozen=True)
class Keeper:
    """Keeps names in order for `account`, in all `places`."""

    ledger: Ledger
    places: Places
    audit: AuditLog
    locks: Locks
    account: str
    progress: Progress

    def settle_everywhere(self, name: str) -> list[Settlement]:
        """Bring every place where releases of `name` are published to what the records say, all at once.

        A place that fails or is busy stops no other: it is left, and whoever works there finishes it.
        """
        return self.at_once(name, {target: partial(self.settle, name, target) for target in self.ledger.places(name)})

    def at_once(self, name: str, works: Mapping[str, Callable[[Progress], Settlement]]) -> list[Settlement]:
        """Do each of `works` in its place, under the lock on `name` there, side by side."""

        def alone(target: str, progress: Progress) -> Settlement:
            with self.locks.place(name, target):
                return works[target](progress)

        done = side_by_side({target: partial(alone, target) for target in works}, self.progress)
        return [
            each if isinstance(each, Settlement) else Settlement(left=[Left(ReleaseRef(name), target, each)])
            for target, each in done.items()
        ]

    def settle(self, name: str, target: str, progress: Progress) -> Settlement:
        """The same for one place, for whoever holds the lock on `name` there. Raises errors of that place."""
        self.succeed(name, target)
        rows = self.ledger.standings(name, target)
        holding = holder([standing for _, _, standing in rows])
        orders = _in_order([_order(row, holding) for row in rows if not row[1].settled], holding)
        if not orders:
            return Settlement()
        settlement = self.places.settle(target, orders, progress)
        for order in settlement.done:
            self.ledger.mark_settled(order.release, order.publication, order.standing.stage)
        return settlement

    def looks(self, name: str, target: str) -> list[Order]:
        """How every release of `name` is to look in a place."""
        return looks(self.ledger, name, target)

    def look_of(self, release: Release, publication: Publication, display_name: str) -> Look:
        """What a release that is about to be published to a place is going to look like there."""
        coming = standing_of(release, publication)
        others = [each for _, _, each in self.ledger.standings(release.name, publication.target)]
        there = [coming, *(each for each in others if each.version != coming.version)]
        return look(coming, holder(there), display_name)

    def succeed(self, name: str, target: str) -> None:
        """Record what changes at once in a place: who has the name, who has it no more. For whoever holds the lock."""
        rows = {standing.version: row for row in self.ledger.standings(name, target) for standing in row[2:]}
        standings = [standing for _, _, standing in rows.values()]
        changes, holding = succession(standings), holder(standings)
        coming = holding is not None and not rows[holding.version][1].settled
        if changes or coming:  # what the others name as replacement may be another one; first, lest it be forgotten
            self.ledger.unsettle(name, target)
        for standing, stage in changes:
            release, publication, _ = rows[standing.version]
            self.advance(release, publication, standing.stage, stage, "succession", None)

    def advance(
        self, release: Release, publication: Publication, before: Stage, after: Stage, verb: str, reason: str | None
    ) -> None:
        """Record that a release has another stage in a place. Raises StateConflict."""
        about = f"{release.name}@{release_version(release)}"
        self.audit.append(
            "stage",
            about=about,
            target=publication.target,
            before=before,
            after=after,
            verb=verb,
            account=self.account,
            reason=reason or "",
        )
        self.ledger.advance(release, publication, before, after, self.account, verb, reason)


def looks(ledger: Ledger, name: str, target: str) -> list[Order]:
    """How every release of `name` that is in a place is to look there, the holder first; settled or not. What was
    deleted there is left out."""
    rows = ledger.standings(name, target)
    holding = holder([standing for _, _, standing in rows])
    return _in_order([_order(row, holding) for row in rows if row[2].stage is not Stage.DELETED], holding)


def _order(row: Row, holding: Standing | None) -> Order:
    release, publication, standing = row
    name = str(publication.details.get("display_name") or publication.details.get("name") or release.name)
    return Order(release, publication, standing, look(standing, holding, name))


def _in_order(orders: Sequence[Order], holding: Standing | None) -> list[Order]:
    """The holder first, then what goes less far, and of these the newest first: deletions are last."""
    first = holding.version if holding else None
    return sorted(
        orders,
        key=lambda order: (
            order.standing.version != first,
            order.standing.stage.rank,
            -order.standing.version.day,
            -order.standing.version.number,
        ),
    )
