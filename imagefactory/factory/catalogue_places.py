"""Releases as a catalogue offers them: brought to what their stages mean there.

    ACTIVE      current
    DEPRECATED  deprecated, and says what to use instead
    OBSOLETE    the same: a catalogue can keep nobody from starting what was fetched. Revoked, if the release was
    DELETED     revoked, and its folder is gone

What a catalogue has revoked it has revoked for good, and with the reason that was given first.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from imagefactory.errors import FactoryError, ReleaseUnknown
from imagefactory.factory.catalogues import Catalogues
from imagefactory.model.lifecycle import Stage
from imagefactory.model.listing import Listing, ListingState, Relisting
from imagefactory.model.release import ReleaseRef, Version
from imagefactory.steps.publish import require_same
from imagefactory.tools.catalogue import Catalogue

RETIRED: Final = "retired"
"""Why a release is revoked that is only old."""


@dataclass(frozen=True)
class Intent:
    """What a release is to be in a catalogue. `manifest` is the SHA-256 of its manifest, in hex; without a `channel`
    that stays as it is; `reason` is why the release was revoked, if it was. Unless it is `required`, it need not be
    listed: a catalogue that was begun anew knows nothing of what was there before."""

    name: str
    version: Version
    manifest: str
    stage: Stage
    channel: str | None = None
    replacement: ReleaseRef | None = None
    reason: str | None = None
    required: bool = True

    @property
    def ref(self) -> ReleaseRef:
        """NAME@VERSION."""
        return ReleaseRef(self.name, self.version)

    def change(self, listed: Listing | None) -> Relisting | None:
        """What has to be said anew where `listed` is said; None where nothing has to.

        Raises ReleaseUnknown (it is to be used, and is not listed), StateConflict, ListingInvalid.
        """
        gone = self.stage is Stage.DELETED or self.reason is not None
        if listed is None:
            if gone or not self.required:
                return None
            raise ReleaseUnknown(f"{self.ref} is not listed", advice="publish it there again")
        wanted = self._revoked(listed) if gone else self._offered(listed)
        return wanted if wanted.of(listed) != listed else None

    def _revoked(self, listed: Listing) -> Relisting:
        """Whoever wants to keep people from a release is not stopped by its channel."""
        instead = self.replacement or listed.replacement
        return Relisting(self.ref, ListingState.REVOKED, instead, listed.reason or self.reason or RETIRED)

    def _offered(self, listed: Listing) -> Relisting:
        if self.stage is Stage.ACTIVE:
            return Relisting(self.ref, ListingState.CURRENT, channel=self.channel)
        if listed.state is ListingState.REVOKED:  # more than was asked for
            return self._revoked(listed)
        return Relisting(self.ref, ListingState.DEPRECATED, self.replacement, channel=self.channel)


@dataclass(frozen=True)
class Settled:
    """Which releases are as they were to be, and why the others are not."""

    done: tuple[ReleaseRef, ...]
    left: Mapping[ReleaseRef, FactoryError]


@dataclass(frozen=True)
class CataloguePlaces:
    """The catalogues that this factory publishes to, as places where releases live and are retired."""

    catalogues: Catalogues

    def settle(self, root: Path, intents: Sequence[Intent]) -> Settled:
        """Bring releases in one catalogue to what they are to be. All of it is signed once, and nothing if it says so
        already; folders go afterwards, so that nothing is offered that is not there. Done again, it goes on where it
        was interrupted.

        One release that cannot be brought there stops no other. Raises, when no release was changed, what the signer
        raises: CatalogueUninitialised (it is not there, and nobody knows what it offers), Busy, KeysMissing and others.
        """
        catalogue = Catalogue(root)
        listed = {
            each.ref: each
            for name in sorted({intent.name for intent in intents})
            for each in self.catalogues.listings(root, name)
        }
        changes: list[Relisting] = []
        left: dict[ReleaseRef, FactoryError] = {}
        for intent in intents:
            try:
                if intent.stage is Stage.DELETED:
                    _require_ours(catalogue, intent)
                change = intent.change(listed.get(intent.ref))
            except FactoryError as why:
                left[intent.ref] = why
            else:
                changes += [change] if change else []
        if changes:
            self.catalogues.relist(root, changes)
        for intent in intents:
            if intent.stage is Stage.DELETED and intent.ref not in left:
                try:
                    catalogue.withdraw(intent.name, intent.version)
                except FactoryError as why:
                    left[intent.ref] = why
        return Settled(tuple(intent.ref for intent in intents if intent.ref not in left), left)


def _require_ours(catalogue: Catalogue, intent: Intent) -> None:
    """Raises CatalogueConflict (there is another release), CatalogueUnusable."""
    if catalogue.has(intent.name, intent.version):
        require_same(catalogue.folder(intent.name, intent.version), intent.manifest)
