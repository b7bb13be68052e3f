"""How the releases of one name stand, in one place and everywhere, and what they look like there. Pure.

A release is on a channel, everywhere the same. In each place where it is published it has a stage of its own:

    ACTIVE -> DEPRECATED -> OBSOLETE -> DELETED

    ACTIVE      offered. The newest one on `stable` that nobody holds back is the holder: it has the display name
    DEPRECATED  hidden, called NAME VERSION, and says what to use instead
    OBSOLETE    deactivated, too: nobody new boots it
    DELETED     gone

All but the last can be taken back. What a place is about to become is decided here and recorded first; the place is
changed to it afterwards, the holder first, so that the name is never without a visible image.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from enum import StrEnum
from typing import Final

from imagefactory.model.release import Version

STABLE: Final = "stable"


class Stage(StrEnum):
    """How far a release has left a place, in this order."""

    ACTIVE = "active"
    DEPRECATED = "deprecated"
    OBSOLETE = "obsolete"
    DELETED = "deleted"

    @property
    def rank(self) -> int:
        """How far, as a number."""
        return list(Stage).index(self)


# What a stage becomes: forward one by one, but at once to obsolete what was revoked; back until it is deleted.
STAGE_TRANSITIONS: Final[Mapping[Stage, frozenset[Stage]]] = {
    Stage.ACTIVE: frozenset({Stage.DEPRECATED, Stage.OBSOLETE}),
    Stage.DEPRECATED: frozenset({Stage.ACTIVE, Stage.OBSOLETE}),
    Stage.OBSOLETE: frozenset({Stage.ACTIVE, Stage.DEPRECATED, Stage.DELETED}),
    Stage.DELETED: frozenset(),
}


class Held(StrEnum):
    """Why a release on `stable` is not to hold the name although it is the newest."""

    DEPRECATED = "deprecated"
    ROLLED_BACK = "rolled-back"
    REVOKED = "revoked"


# What keeps the name from a release, None for nothing. It is taken back, or becomes a revocation, which is final.
HELD_TRANSITIONS: Final[Mapping[Held | None, frozenset[Held | None]]] = {
    None: frozenset(Held),
    Held.DEPRECATED: frozenset({None, Held.ROLLED_BACK, Held.REVOKED}),
    Held.ROLLED_BACK: frozenset({None, Held.DEPRECATED, Held.REVOKED}),
    Held.REVOKED: frozenset(),
}


@dataclass(frozen=True)
class Standing:
    """One release in one place. `since` (aware UTC) is when it came to its stage there."""

    version: Version
    channel: str
    held: Held | None
    stage: Stage
    since: datetime


@dataclass(frozen=True)
class Look:
    """What people see of a release in a cloud. `replacement` is the version to use instead."""

    name: str
    hidden: bool
    deactivated: bool
    replacement: Version | None


def holder(standings: Sequence[Standing]) -> Standing | None:
    """The release that is to have the display name in a place."""
    candidates = [
        each for each in standings if each.channel == STABLE and each.held is None and each.stage is not Stage.DELETED
    ]
    return max(candidates, key=lambda each: each.version, default=None)


def due_at_once(standing: Standing, holding: Standing | None) -> Stage:
    """The stage that a release has to have now, whatever the policy says about later.

    The holder is active; what was revoked is obsolete; what is newer than the holder and on its way to `stable` is
    active; everything else is deprecated at least.
    """
    if standing.stage is Stage.DELETED:
        return Stage.DELETED
    if standing.held is Held.REVOKED:
        return Stage.OBSOLETE
    if holding is not None and standing.version == holding.version:
        return Stage.ACTIVE
    coming = standing.channel != STABLE and standing.held is None
    if coming and (holding is None or standing.version > holding.version):
        return Stage.ACTIVE
    return max(standing.stage, Stage.DEPRECATED, key=lambda stage: stage.rank)


def succession(standings: Sequence[Standing]) -> list[tuple[Standing, Stage]]:
    """What changes its stage at once in a place, to which one: the holder first, then the newest first."""
    holding = holder(standings)
    changes = [(each, due_at_once(each, holding)) for each in standings]
    first = holding.version if holding else None
    return sorted(
        ((each, stage) for each, stage in changes if stage is not each.stage),
        key=lambda change: (change[0].version != first, -change[0].version.day, -change[0].version.number),
    )


def look(standing: Standing, holding: Standing | None, display_name: str) -> Look:
    """What a release looks like in a cloud where `holding` has the name."""
    if holding is not None and standing.version == holding.version:
        return Look(display_name, hidden=False, deactivated=False, replacement=None)
    retired = standing.stage is not Stage.ACTIVE
    return Look(
        f"{display_name} {standing.version}",
        hidden=True,
        deactivated=standing.stage in {Stage.OBSOLETE, Stage.DELETED},
        replacement=holding.version if retired and holding else None,
    )
