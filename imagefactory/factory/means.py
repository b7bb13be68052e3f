"""What a factory works with, and who does what in it."""

from collections.abc import Sequence
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

from imagefactory.factory.hands import Hands, OwnHands
from imagefactory.factory.keeping import Office
from imagefactory.factory.line import BootTest
from imagefactory.factory.places import Errand, Outcomes, publish_all
from imagefactory.factory.publishing import Desk
from imagefactory.factory.release import SigningDesk
from imagefactory.factory.view import Lookout
from imagefactory.progress import Progress
from imagefactory.settings import Settings
from imagefactory.store.artifacts import ArtifactStore
from imagefactory.store.lock import Locks
from imagefactory.store.records import Records
from imagefactory.store.tables import Release
from signing.errors import SigningError
from signing.trust import Trust, find_trust, load_trust


@dataclass(frozen=True)
class Means:
    """The papers and the tools of one factory."""

    settings: Settings
    records: Records
    artifacts: ArtifactStore
    progress: Progress
    boot_test: BootTest
    locks: Locks
    others: Hands | None = None  # who signs and publishes, where that is not this host

    @property
    def hands(self) -> Hands:
        """Who signs and publishes."""
        return self.others or OwnHands(self.settings)

    @property
    def lookout(self) -> Lookout:
        """Who looks at what is there."""
        return Lookout(self.records, self.artifacts, near=self.others is None)

    @property
    def trust_file(self) -> Path:
        """The file that says whom this factory trusts. Raises NoTrustRoot."""
        return find_trust(self.settings.trust_files())

    @property
    def trust(self) -> Trust | None:
        """Whom this factory trusts; a plan may be made before there are keys."""
        with suppress(SigningError):
            return load_trust(self.trust_file)
        return None

    @property
    def signing(self) -> SigningDesk:
        """Who makes releases of what was attested. Raises NoTrustRoot."""
        return SigningDesk(self.settings, self.records, self.artifacts, self.trust_file, self.progress, self.hands)

    @property
    def office(self) -> Office:
        """Who looks after what it has released. Raises NoTrustRoot."""
        return Office(
            self.settings, self.records, self.artifacts, self.progress, self.trust_file, self.locks, self.hands
        )

    @property
    def desk(self) -> Desk:
        """Who publishes. Raises NoTrustRoot."""
        office = self.office
        trust_file, keeper = office.trust_file, office.keeper
        return Desk(self.settings, self.records, self.artifacts, self.progress, trust_file, keeper, self.hands)

    def publish_all(self, release: Release, errands: Sequence[Errand], *, deep: bool = False) -> Outcomes:
        """Publish a release to several places at once and verify it there; what goes wrong in one of them is returned.
        Raises Busy while somebody cleans up."""
        desk = self.desk
        with self.locks.shared():
            return publish_all(desk, release, errands, deep=deep)
