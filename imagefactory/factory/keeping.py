"""The keeper of names and what works with it, put together from what a factory has."""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from imagefactory.factory.catalogue_places import RETIRED, CataloguePlaces, Intent
from imagefactory.factory.catalogues import Catalogues
from imagefactory.factory.derived import Derived, derived
from imagefactory.factory.hands import Hands
from imagefactory.factory.recipes import recipe_of
from imagefactory.lifecycle.audit import Inspection
from imagefactory.lifecycle.clouds import Clouds
from imagefactory.lifecycle.keeper import Keeper
from imagefactory.lifecycle.places import Left, Order, Settlement
from imagefactory.lifecycle.sweep import Sweep
from imagefactory.lifecycle.verbs import Verbs
from imagefactory.model.lifecycle import Held, Stage
from imagefactory.model.recipe_lifecycle import RecipeLife, policy_of
from imagefactory.model.release import ReleaseRef
from imagefactory.model.target import CataloguePlace, parse_place
from imagefactory.progress import Progress
from imagefactory.settings import Settings
from imagefactory.store.artifacts import ArtifactStore
from imagefactory.store.ledger import Ledger
from imagefactory.store.lock import Locks
from imagefactory.store.records import Records
from imagefactory.store.tables import Release
from imagefactory.tools.audit_log import AuditLog
from signing.manifest import MANIFEST_FILE, PROVENANCE_FILE
from signing.trust import load_trust


@dataclass(frozen=True)
class Everywhere:
    """Every place: clouds through the publisher, catalogues through the signer."""

    clouds: Clouds
    catalogues: CataloguePlaces

    def settle(self, target: str, orders: Sequence[Order], progress: Progress) -> Settlement:
        """Carry out orders in one place, the holder first. Raises what makes the whole place impossible to reach."""
        place = parse_place(target)
        if not isinstance(place, CataloguePlace):
            return self.clouds.settle(place, orders, progress)
        settled = self.catalogues.settle(place.root, [_intent(order) for order in orders])
        return Settlement(
            [order for order in orders if order.ref in settled.done],
            [Left(ref, target, failure) for ref, failure in settled.left.items()],
        )


@dataclass(frozen=True)
class Office:
    """Who looks after the releases of a factory."""

    settings: Settings
    records: Records
    artifacts: ArtifactStore
    progress: Progress
    trust_file: Path
    locks: Locks
    hands: Hands

    @property
    def keeper(self) -> Keeper:
        """Who keeps names in order."""
        settings = self.settings
        catalogues = Catalogues(settings, self.trust_file, self.progress, self.hands)
        places = Everywhere(self.clouds, CataloguePlaces(catalogues))
        audit = AuditLog(settings.audit)
        return Keeper(Ledger(self.records), places, audit, self.locks, settings.account, self.progress)

    @property
    def clouds(self) -> Clouds:
        """The clouds that its credentials open."""
        return Clouds(self.hands.publish)

    @property
    def verbs(self) -> Verbs:
        """What people decide."""
        return Verbs(self.records, self.keeper, self.life)

    @property
    def sweep(self) -> Sweep:
        """What policies decide."""
        return Sweep(self.keeper, self.clouds, self.life)

    @property
    def inspection(self) -> Inspection:
        """What is as it was signed and recorded, and what is not."""
        return Inspection(self.keeper, self.clouds, self.artifacts, self.trust_file, self.settings.strays)

    def derived(self, ref: ReleaseRef) -> Derived:
        """What was built from a release. Raises ReleaseUnknown."""
        return derived(self.records, self.artifacts, ref)

    def life(self, release: Release) -> RecipeLife:
        """What the recipe of a release says of its channels and of its retirement, as its builder attested. Raises
        RecipeInvalid, ArtifactMissing, errors of the room signing."""
        provenance = self.artifacts.require(release.files[PROVENANCE_FILE])
        return policy_of(recipe_of(provenance, load_trust(self.trust_file)))


def _intent(order: Order) -> Intent:
    """What a catalogue is to say. What is only older than the newest is as good there as before: whoever asks for the
    name gets the newest."""
    held, stage = order.standing.held, order.standing.stage
    superseded = held is None and stage is Stage.DEPRECATED
    return Intent(
        name=order.release.name,
        version=order.standing.version,
        manifest=order.release.files[MANIFEST_FILE],
        stage=Stage.ACTIVE if superseded else stage,
        channel=order.release.channel,
        replacement=None if superseded else order.instead,
        reason=(order.release.held_reason or RETIRED) if held is Held.REVOKED else None,
        required=stage is Stage.ACTIVE,
    )
