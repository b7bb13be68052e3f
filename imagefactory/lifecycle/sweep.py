"""The sweep: what the policy says of every release in every place, planned first, then done.

Each cloud is listed once, and those who know what is in use are asked once, whatever the number of images.
"""

from collections import defaultdict
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime
from functools import partial
from typing import TypeAlias

from imagefactory.lifecycle.clouds import Clouds, owner_of
from imagefactory.lifecycle.keeper import Keeper
from imagefactory.lifecycle.places import Left, Settlement
from imagefactory.lifecycle.policy import Change, Facts, kept, plan_place
from imagefactory.model.lifecycle import Stage
from imagefactory.model.recipe_lifecycle import RecipeLife
from imagefactory.model.release import ReleaseRef, Version
from imagefactory.model.survey import Survey, SurveyedImage
from imagefactory.model.target import CataloguePlace, CloudPlace, parse_place
from imagefactory.progress import Progress
from imagefactory.store.ledger import Row
from imagefactory.store.tables import Release
from imagefactory.tools.side_by_side import FAILURES, Failure, side_by_side

Rows: TypeAlias = Mapping[tuple[str, str], Sequence[Row]]
"""The releases of a name in a place, by both."""
Spot: TypeAlias = tuple[str, str]
"""A place and the id of an image there: what another place says of the same id counts for nothing."""


@dataclass(frozen=True)
class Planned:
    """A change of one release of `name` in the place `target`, by a policy that keeps the newest `least`."""

    name: str
    target: str
    change: Change
    least: int

    @property
    def ref(self) -> ReleaseRef:
        """NAME@VERSION."""
        return ReleaseRef(self.name, self.change.version)


@dataclass(frozen=True)
class SweepPlan:
    """All changes, due or not yet, by date; the names that have releases somewhere, also those of which nothing is
    planned, because nobody can read their recipe; and what could not be asked, with why: no policy counts there."""

    now: datetime
    changes: tuple[Planned, ...]
    names: tuple[str, ...]
    unknown: tuple[Left, ...]

    def due(self) -> list[Planned]:
        """What may be done now."""
        return [each for each in self.changes if each.change.is_due(self.now)]


@dataclass(frozen=True)
class Sweep:
    """Plans and does what policies say. `life` reads what the recipe of a release says."""

    keeper: Keeper
    clouds: Clouds
    life: Callable[[Release], RecipeLife]

    def plan(self, names: Sequence[str], now: datetime, *, any_time: bool = False) -> SweepPlan:
        """What the policies of `names` say at `now` (aware), with `any_time` whatever their windows. Changes nothing. A
        place that cannot be asked, and a recipe that cannot be read, stop no other."""
        rows, lives, unknown = self._read(names)
        there = {*lives, *(left.ref.name for left in unknown)}
        seen = self._look(rows, lives)
        unknown += [
            Left(ReleaseRef(name), f"what uses it, asked as {admin}", error)
            for (name, admin), error in sorted(seen.unasked.items(), key=lambda each: each[0])
        ]
        changes: list[Planned] = []
        for (name, target), mine in rows.items():
            failure = seen.failures.get(target)
            if failure is not None:
                unknown.append(Left(ReleaseRef(name), target, failure))
                continue
            facts = {row[2].version: fact for row in mine if (fact := seen.facts(row, rows)) is not None}
            policy = lives[name].policy.model_copy(update={"window": None} if any_time else {})
            found = plan_place([row[2] for row in mine], facts, policy, now)
            changes += [Planned(name, target, each, policy.keep_at_least) for each in found]
        ordered = sorted(changes, key=lambda each: (each.change.due, each.name, each.change.version, each.target))
        return SweepPlan(now, tuple(ordered), tuple(sorted(there)), tuple(unknown))

    def apply(self, plan: SweepPlan) -> list[Settlement]:
        """Do what is due: recorded first, place by place, each under its lock and only if it is still as planned. What
        an earlier run left is finished, too: that was decided, whatever a recipe says now."""
        due = defaultdict[tuple[str, str], list[Planned]](list)
        for planned in plan.due():
            due[planned.name, planned.target].append(planned)
        failed = {left.target for left in plan.unknown}
        settlements = []
        for name in plan.names:
            targets = [each for each in self.keeper.ledger.places(name) if each not in failed]
            works = {each: partial(self._apply, name, each, due[name, each]) for each in targets}
            settlements += self.keeper.at_once(name, works)
        return settlements

    def _apply(self, name: str, target: str, changes: Sequence[Planned], progress: Progress) -> Settlement:
        self.keeper.succeed(name, target)
        rows = {row[2].version: row for row in self.keeper.ledger.standings(name, target)}
        # What was revoked or deprecated meanwhile counts no more: an older one may be needed now.
        standings = [standing for _, _, standing in rows.values()]
        for planned in changes:
            if planned.change.version not in kept(standings, planned.least):
                self._move(rows.get(planned.change.version), planned.change)
        return self.keeper.settle(name, target, progress)

    def _move(self, row: Row | None, change: Change) -> None:
        """A release that somebody touched meanwhile is left to the next run."""
        if row is not None and row[2].stage is change.before and row[2].since <= change.due:
            release, publication, _ = row
            self.keeper.advance(release, publication, change.before, change.after, "lifecycle", change.why)

    def _read(self, names: Sequence[str]) -> tuple[Rows, dict[str, RecipeLife], list[Left]]:
        """What the records say of `names` in each place, what the newest recipe of each name says, and which recipes
        cannot be read: of these names nothing else is told."""
        rows: dict[tuple[str, str], list[Row]] = {}
        lives: dict[str, RecipeLife] = {}
        unknown: list[Left] = []
        ledger = self.keeper.ledger
        for name in names:
            places = {target: ledger.standings(name, target) for target in ledger.places(name)}
            newest = max((row for each in places.values() for row in each), key=_version, default=None)
            if newest is None:
                continue
            try:
                lives[name] = self.life(newest[0])
            except FAILURES as error:
                unknown.append(Left(ReleaseRef(name), "its recipe", error))
                continue
            rows.update({(name, target): each for target, each in places.items()})
        return rows, lives, unknown

    # -- looking -------------------------------------------------------------------------------------------------------

    def _look(self, rows: Rows, lives: Mapping[str, RecipeLife]) -> "_Seen":
        seen = _Seen()
        projects = {(target, owner_of(row[1])) for (_, target), mine in rows.items() for row in mine}
        works = {
            f"{target} {owner or ''}": (target, partial(self.clouds.survey, place, owner))
            for target, owner in sorted(projects, key=str)
            if isinstance(place := parse_place(target), CloudPlace)
        }
        for title, found in side_by_side({key: work for key, (_, work) in works.items()}, self.keeper.progress).items():
            target = works[title][0]
            if isinstance(found, Survey):
                seen.images.update({(target, each.id): each for each in found.images})
            else:
                seen.failures[target] = found
        self._ask_who_uses(rows, lives, seen)
        return seen

    def _ask_who_uses(self, rows: Rows, lives: Mapping[str, RecipeLife], seen: "_Seen") -> None:
        """Of what might be deleted, once with each credential. Who cannot be asked has not said no."""
        wanted, asking = defaultdict[str, set[Spot]](set), defaultdict[str, set[str]](set)
        for (name, target), mine in rows.items():
            place = parse_place(target)
            admin = lives[name].asked_for(place.cloud) if isinstance(place, CloudPlace) else None
            if admin is not None and lives[name].policy.delete_after is not None:
                obsolete = [(target, str(row[1].image_id)) for row in mine if row[2].stage is Stage.OBSOLETE]
                found = {each for each in obsolete if each in seen.images}
                wanted[admin] |= found
                asking[admin] |= {name} if found else set()
        for admin, spots in sorted(wanted.items()):
            if spots:
                try:
                    used = self.clouds.usage(admin, sorted({each for _, each in spots}), self.keeper.progress)
                    seen.used.update({spot: used[spot[1]] for spot in spots if spot[1] in used})
                    seen.asked.update(spots)
                except FAILURES as error:
                    seen.unasked.update({(name, admin): error for name in asking[admin]})


@dataclass
class _Seen:
    """What places say, each only of its own images: which there are, what uses them, and of which that could be asked;
    and the places that could not be asked, and for which names with which credentials nobody could."""

    images: dict[Spot, SurveyedImage] = field(default_factory=dict)
    used: dict[Spot, str] = field(default_factory=dict)
    asked: set[Spot] = field(default_factory=set)
    failures: dict[str, Failure] = field(default_factory=dict)
    unasked: dict[tuple[str, str], Failure] = field(default_factory=dict)

    def facts(self, row: Row, rows: Rows) -> Facts | None:
        """What is known of a release in a place; None where the place has nothing of it."""
        release, publication, _ = row
        if isinstance(parse_place(publication.target), CataloguePlace):
            size = sum(int(image["size"]) for image in release.images.values())
            return Facts(size, frozenset(), protected=False, members=False, in_use=_still(row, rows), asked=True)
        spot = publication.target, str(publication.image_id)
        image = self.images.get(spot)
        if image is None:
            return None
        shared = image.visibility == "shared" and bool(image.members)
        used, asked = self.used.get(spot), spot in self.asked
        return Facts(image.size or 0, frozenset(image.tags), image.protected, shared, used, asked)


def _version(row: Row) -> Version:
    return row[2].version


def _still(row: Row, rows: Rows) -> str | None:
    """A cloud that still has a release: its catalogue, by which it is verified, is the last to let it go."""
    release, _, standing = row
    for (name, target), mine in rows.items():
        if name == release.name and isinstance(parse_place(target), CloudPlace):
            there = [each for _, _, each in mine if each.version == standing.version]
            if there:  # what is deleted and gone has no standing any more
                return f"{target} still has it"
    return None
