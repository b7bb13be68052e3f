"""What people decide about releases: the decision is recorded at once, for every place; the keeper shows it there."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass

from imagefactory.errors import (
    ApprovalMissing,
    ChannelUnknown,
    NothingToChange,
    PreviousMissing,
    ReleaseRevoked,
    StateConflict,
    UsageError,
)
from imagefactory.lifecycle.keeper import Keeper
from imagefactory.lifecycle.places import Settlement
from imagefactory.model.build import PublicationState
from imagefactory.model.lifecycle import STABLE, Held, Stage, holder
from imagefactory.model.listing import MAX_REASON
from imagefactory.model.recipe_lifecycle import RecipeLife
from imagefactory.model.release import ReleaseRef
from imagefactory.store.ledger import is_there
from imagefactory.store.records import Records, release_version
from imagefactory.store.tables import Publication, Release


@dataclass(frozen=True)
class Decision:
    """What a verb is about to do: in words for people, and the act. It is pure until `act` is called."""

    ref: ReleaseRef
    words: str
    act: Callable[[], None]


@dataclass(frozen=True)
class Verbs:
    """The verbs of one account. `life` reads what a release's recipe says of channels and approvals.

    Each returns a decision; `carry_out` records it and brings the places to it.
    """

    records: Records
    keeper: Keeper
    life: Callable[[Release], RecipeLife]

    def carry_out(self, decision: Decision) -> list[Settlement]:
        """Record a decision, then bring every place to what the records say. Raises StateConflict."""
        decision.act()
        return self.keeper.settle_everywhere(decision.ref.name)

    def promote(self, ref: ReleaseRef, to: str | None, reason: str | None) -> Decision:
        """To the next channel of its recipe, or to a later one. Raises ReleaseUnknown, ReleaseRevoked, ChannelUnknown,
        NothingToChange, ApprovalMissing, StateConflict (it is held back), UsageError."""
        release = self._usable(ref)
        if reason is not None:
            require_reason(reason)
        if release.held is not None:
            raise StateConflict(
                f"{_ref(release)} is {release.held}: {release.held_reason}",
                advice=f"imagefactory restore {_ref(release)}, if that is no longer so",
            )
        life = self.life(release)
        target = _next(release, life.channels, to)
        if target == STABLE:
            self._require_approvals(release, life.requires_approval)
        before = release.channel

        def act() -> None:
            self._audit("promote", release, reason, before, target)
            self.keeper.ledger.promote(release, before, target, self.keeper.account, reason)

        return Decision(_ref(release), f"{_ref(release)}: {before} -> {target}", act)

    def approve(self, ref: ReleaseRef) -> Decision:
        """Say that a release may become stable. Raises ReleaseUnknown, ReleaseRevoked, NothingToChange."""
        release = self._usable(ref)
        if release.channel == STABLE:
            raise NothingToChange(f"{_ref(release)} is on {STABLE} already")
        account = self.keeper.account
        if account in self.keeper.ledger.approvals(release):
            raise NothingToChange(f"{account} has approved {_ref(release)} already")

        def act() -> None:
            self._audit("approve", release, None, None, "approved")
            self.keeper.ledger.approve(release, account)

        return Decision(_ref(release), f"{_ref(release)} is approved by {account}", act)

    def rollback(self, name: str, reason: str) -> Decision:
        """Give the name back to the release that had it before. Raises ReleaseUnknown, PreviousMissing."""
        seen = self.keeper.ledger.latest(name)
        releases = self.records.releases(name)
        self.records.release(ReleaseRef(name))
        stable = [each for each in releases if each.channel == STABLE and each.held is None and _live(each)]
        if len(stable) < 2:
            raise PreviousMissing(f"{name} has no earlier release that could have the name again")
        current, previous = stable[:2]
        there = {each.target for each in _live(previous)}
        missing = [each.target for each in _live(current) if each.target not in there]
        if missing:
            raise PreviousMissing(
                f"{_ref(previous)} is not in {', '.join(missing)} any more",
                advice=f"imagefactory publish {_ref(previous)} --to {missing[0]}, then roll back",
            )
        words = f"{name}: {release_version(current)} -> {release_version(previous)}"
        return self._hold(current, Held.ROLLED_BACK, reason, "rollback", words, seen)

    def deprecate(self, ref: ReleaseRef, reason: str) -> Decision:
        """Take the name from a release, or keep it from it: it is hidden everywhere, and stays. Raises ReleaseUnknown,
        ReleaseRevoked, NothingToChange, PreviousMissing (it is the only one that can have the name)."""
        seen = self.keeper.ledger.latest(ref.name)
        release = self._usable(ref)
        if release.held is not None:
            raise NothingToChange(f"{_ref(release)} is {release.held} already")
        for each in _live(release):
            standings = [row[2] for row in self.keeper.ledger.standings(release.name, each.target)]
            holding, version = holder(standings), release_version(release)
            left = holder([standing for standing in standings if standing.version != version])
            if holding is not None and holding.version == version and left is None:
                raise PreviousMissing(
                    f"{_ref(release)} is the only release in {each.target} that can be called {release.name}",
                    advice="publish another one there first; a bad release is revoked",
                )
        return self._hold(release, Held.DEPRECATED, reason, "deprecate", f"{_ref(release)} is deprecated", seen)

    def revoke(self, ref: ReleaseRef, reason: str) -> Decision:
        """Withdraw a bad release everywhere, for good. Raises ReleaseUnknown. Once more, it finishes what is left."""
        release = self.records.release(ref.exact())
        if release.held == Held.REVOKED:
            return Decision(_ref(release), f"{_ref(release)} is revoked already", lambda: None)
        return self._hold(release, Held.REVOKED, reason, "revoke", f"{_ref(release)} is revoked", None)

    def restore(self, ref: ReleaseRef, reason: str | None) -> Decision:
        """Take back what retired a release: a deprecation or a rollback, and the deactivation of its images. The
        newest on stable has the name again. Raises ReleaseUnknown, ReleaseRevoked, NothingToChange, UsageError."""
        release = self._usable(ref)
        if reason is not None:
            require_reason(reason)
        obsolete = [each for each in _live(release) if each.stage == Stage.OBSOLETE]
        if release.held is None and not obsolete:
            raise NothingToChange(f"{_ref(release)} has nothing that could be taken back")

        def act() -> None:
            self._audit("restore", release, reason, release.held, "restored")
            if release.held is not None:
                self.keeper.ledger.hold(release, None, reason, self.keeper.account, "restore")
            for each in obsolete:
                self.keeper.advance(release, each, Stage.OBSOLETE, Stage.DEPRECATED, "restore", reason)

        return Decision(_ref(release), f"{_ref(release)} is restored", act)

    def _hold(self, release: Release, held: Held, reason: str, verb: str, words: str, seen: int | None) -> Decision:
        require_reason(reason)

        def act() -> None:
            self._audit(verb, release, reason, release.held, held)
            self.keeper.ledger.hold(release, held, reason, self.keeper.account, verb, seen)

        return Decision(_ref(release), words, act)

    def _audit(self, verb: str, release: Release, reason: str | None, before: str | None, after: str) -> None:
        self.keeper.audit.append(
            "decided",
            about=str(_ref(release)),
            account=self.keeper.account,
            verb=verb,
            before=before or "",
            after=after,
            reason=reason or "",
        )

    def _usable(self, ref: ReleaseRef) -> Release:
        release = self.records.release(ref.exact())
        if release.held == Held.REVOKED:
            raise ReleaseRevoked(f"{_ref(release)} was revoked: {release.held_reason}")
        return release

    def _require_approvals(self, release: Release, wanted: int) -> None:
        accounts = [each for each in self.keeper.ledger.approvals(release) if each != self.keeper.account]
        if len(accounts) < wanted:
            raise ApprovalMissing(
                f"{_ref(release)} has {len(accounts)} of {wanted} approvals by others than {self.keeper.account}",
                advice=f"somebody else: imagefactory approve {_ref(release)}",
            )


def require_reason(text: str) -> None:
    """Raises UsageError for what is not one line of at most 200 printable characters: catalogues repeat it."""
    if not 1 <= len(text) <= MAX_REASON or not text.isprintable() or text != text.strip():
        raise UsageError(f"a reason is one line of at most {MAX_REASON} printable characters")


def _next(release: Release, channels: Sequence[str], to: str | None) -> str:
    """The channel that a release goes to."""
    at = channels.index(release.channel) if release.channel in channels else -1
    later = channels[at + 1 :]
    if to is not None and to not in channels:
        raise ChannelUnknown(f"{_ref(release)} has no channel {to!r}", advice=f"its channels: {', '.join(channels)}")
    if not later or (to is not None and to not in later):
        raise NothingToChange(f"{_ref(release)} is on {release.channel} already, which is not before {to or STABLE}")
    return to or later[0]


def _live(release: Release) -> list[Publication]:
    """Where a release is, or can come back to: neither deleted there nor withdrawn."""
    there = [each for each in release.publications if is_there(each) and each.stage != Stage.DELETED]
    return [each for each in there if each.state != PublicationState.WITHDRAWN]


def _ref(release: Release) -> ReleaseRef:
    return ReleaseRef(release.name, release_version(release))
