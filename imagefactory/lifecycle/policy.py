"""What a policy does to the releases of one name in one place: what, when, why, and what comes free. Pure.

What is due whatever a policy says (a new holder, a revocation) is `imagefactory.model.lifecycle.succession`; here is
what comes with time and number. A policy moves a release one stage at a time, DEPRECATED -> OBSOLETE -> DELETED, each
no earlier than its date, and leaves alone

    the holder, and whatever is on its way to `stable`
    the newest `keep_at_least`
    what is excluded, by a tag, by protection or by members
    what is in use, or may be: that is never deleted
"""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta

from imagefactory.model.lifecycle import STABLE, Held, Stage, Standing, due_at_once, holder
from imagefactory.model.recipe_lifecycle import Exclusions, LifecyclePolicy, Window
from imagefactory.model.release import Version


@dataclass(frozen=True)
class Facts:
    """What a place says about the image of a release.

    `size` is in bytes, `members` whether other projects share it. `in_use` says by what it is used, for people;
    None means by nothing, if `asked`: whether everybody who may know could be asked.
    """

    size: int
    tags: frozenset[str]
    protected: bool
    members: bool
    in_use: str | None
    asked: bool


@dataclass(frozen=True)
class Change:
    """One release comes from the stage `before` to `after`.

    `due` (UTC) is the first moment at which it may, in the window of the policy; `why` says by which rule, `bytes` how
    many come free. `blocked` says what is in the way whatever the time, or is None.
    """

    version: Version
    before: Stage
    after: Stage
    due: datetime
    why: str
    bytes: int
    blocked: str | None

    def is_due(self, now: datetime) -> bool:
        """Whether it may be made at `now` (aware)."""
        return self.blocked is None and self.due <= now


def plan_place(
    standings: Sequence[Standing], facts: Mapping[Version, Facts], policy: LifecyclePolicy, now: datetime
) -> list[Change]:
    """What `policy` does in a place, due or not yet, in the order of dates.

    `standings` are all releases of one name there, `facts` what the place says about each: where it says nothing about
    one, that one stays. `now` is aware. What `succession` moves at once is not in the plan.
    """
    holding = holder(standings)
    settled = [each for each in standings if each.stage is due_at_once(each, holding)]
    staying = kept(standings, policy.keep_at_least)
    supernumerary = _beyond(standings, policy.keep_at_most)
    changes = [
        _change(each, facts.get(each.version), policy, each.version in supernumerary, now)
        for each in settled
        if each.version not in staying
    ]
    return sorted((each for each in changes if each), key=lambda change: (change.due, change.version))


def kept(standings: Sequence[Standing], least: int) -> set[Version]:
    """The newest `least` releases: of all, of those that may have the name, and of those that are not obsolete.

    The second is for rolling back and the third for what was revoked and restored: there is always as much to boot as
    was promised. What is newer than the holder and on its way to `stable` stays anyway and takes nobody's place.
    """
    holding = holder(standings)
    living = [
        each
        for each in standings
        if each.held is not Held.REVOKED and each.stage is not Stage.DELETED and not _is_coming(each, holding)
    ]
    stable = [each for each in living if each.channel == STABLE]
    offered = [each for each in living if each.stage is not Stage.OBSOLETE]
    return {each.version for group in (living, stable, offered) for each in _newest_first(group)[:least]}


def _is_coming(standing: Standing, holding: Standing | None) -> bool:
    on_its_way = standing.channel != STABLE and standing.held is None
    return on_its_way and (holding is None or standing.version > holding.version)


def _beyond(standings: Sequence[Standing], most: int | None) -> set[Version]:
    """The releases that are active or deprecated and not among the newest `most` of them."""
    if most is None:
        return set()
    offered = [each for each in standings if each.stage in {Stage.ACTIVE, Stage.DEPRECATED}]
    return {each.version for each in _newest_first(offered)[most:]}


def _newest_first(standings: Iterable[Standing]) -> list[Standing]:
    return sorted(standings, key=lambda each: each.version, reverse=True)


def _change(
    standing: Standing, facts: Facts | None, policy: LifecyclePolicy, supernumerary: bool, now: datetime
) -> Change | None:
    """What happens next to a release that nothing keeps, if anything does."""
    if standing.stage is Stage.DEPRECATED:
        after, reasons = Stage.OBSOLETE, _reasons_to_retire(policy, supernumerary)
    elif standing.stage is Stage.OBSOLETE and policy.delete_after is not None:
        after, reasons = Stage.DELETED, [(policy.delete_after, "delete_after is over")]
    else:
        return None
    if not reasons:
        return None
    age, why = min((max(age, policy.grace), why) for age, why in reasons)
    return Change(
        version=standing.version,
        before=standing.stage,
        after=after,
        due=_in_window(standing.since + timedelta(seconds=age), policy.window, now),
        why=why,
        bytes=facts.size if facts and after is Stage.DELETED else 0,
        blocked=_in_the_way(facts, policy.exclude, after),
    )


def _reasons_to_retire(policy: LifecyclePolicy, supernumerary: bool) -> list[tuple[int, str]]:
    """After how many seconds of being deprecated a release becomes obsolete, and why."""
    reasons = []
    if policy.obsolete_after is not None:
        reasons.append((policy.obsolete_after, "obsolete_after is over"))
    if supernumerary:
        reasons.append((policy.grace, f"{policy.keep_at_most} newer ones are enough (keep_at_most)"))
    return reasons


def _in_window(date: datetime, window: Window | None, now: datetime) -> datetime:
    """The first moment from `date` on at which the window is open, and if `date` is past, from `now` on."""
    if window is None or (date <= now and window.opens(now)):
        return date
    return window.next_opening(max(date, now))


def _in_the_way(facts: Facts | None, exclude: Exclusions, after: Stage) -> str | None:
    """Why an image may not come to the stage `after`, or None if it may."""
    if facts is None:
        return "the place says nothing about it"
    return _excluded(facts, exclude) or (_in_use(facts) if after is Stage.DELETED else None)


def _excluded(facts: Facts, exclude: Exclusions) -> str | None:
    if tags := sorted(facts.tags & set(exclude.tags)):
        return f"it has the tag {tags[0]}"
    if exclude.protected and facts.protected:
        return "it is protected"
    if exclude.shared and facts.members:
        return "it is shared with other projects"
    return None


def _in_use(facts: Facts) -> str | None:
    if facts.in_use is not None:
        return f"it is in use: {facts.in_use}"
    if not facts.asked:
        return "it may be in use: not everybody who may know could be asked"
    return None
