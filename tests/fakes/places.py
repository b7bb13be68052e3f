"""A cloud that keeps nothing but names: what the keeper asks of a place, done to dictionaries. It can fail and die."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from imagefactory.errors import CloudUnreachable, FactoryError, HolderNotShown, ImageInUse
from imagefactory.lifecycle.keeper import Keeper
from imagefactory.lifecycle.places import Left, Order, Settlement
from imagefactory.model.build import BuildState, PublicationState
from imagefactory.model.lifecycle import STABLE, Look, Stage
from imagefactory.model.release import Version
from imagefactory.progress import Progress
from imagefactory.store.ledger import Ledger
from imagefactory.store.lock import FileLocks
from imagefactory.store.records import Records, release_version
from imagefactory.store.tables import Publication, Release
from imagefactory.tools.audit_log import AuditLog
from signing.manifest import MANIFEST_FILE, PROVENANCE_FILE

DIGEST = "d" * 64
DISPLAY = "Debian 12"


class Killed(BaseException):
    """The process ends here."""


@dataclass
class FakePlaces:
    """What is seen in each place, by version. `asked` are the orders of each call; `stuck` are images that do not
    change; `unreachable` places do not answer; `meanwhile` is what others do while it works; `dies_after` is how many
    more images it is until the process ends; `unnamed` are places where the name was nobody's for a while."""

    seen: dict[str, dict[Version, Look]] = field(default_factory=dict)
    asked: list[tuple[str, list[Order]]] = field(default_factory=list)
    stuck: set[tuple[str, Version]] = field(default_factory=set)
    unreachable: set[str] = field(default_factory=set)
    dies_after: int | None = None
    meanwhile: Callable[[], None] = lambda: None
    ever_shown: set[str] = field(default_factory=set)
    unnamed: list[str] = field(default_factory=list)

    def settle(self, target: str, orders: Sequence[Order], progress: Progress) -> Settlement:
        """As the protocol has it."""
        del progress
        self.asked.append((target, list(orders)))
        self.meanwhile()
        if target in self.unreachable:
            raise CloudUnreachable(f"{target} does not answer")
        settlement = Settlement()
        unshown = False
        for order in orders:
            version = order.standing.version
            if unshown or (target, version) in self.stuck:
                why: FactoryError = HolderNotShown("the first") if unshown else ImageInUse(f"{order.ref} is in use")
                settlement.left.append(Left(order.ref, target, why))
                unshown = unshown or not order.look.hidden
                continue
            self._live_on()
            if order.standing.stage is Stage.DELETED:
                self.seen[target].pop(version, None)
            else:
                self.show(target, version, order.look)
            settlement.done.append(order)
        return settlement

    def show(self, target: str, version: Version, look: Look) -> None:
        """Give an image its look."""
        self.seen.setdefault(target, {})[version] = look
        if self.named(target):
            self.ever_shown.add(target)
        elif target in self.ever_shown:
            self.unnamed.append(target)

    def named(self, target: str) -> list[Version]:
        """Who is visible under the display name, newest first."""
        images = self.seen.get(target, {})
        return sorted(
            (each for each, look in images.items() if (look.name, look.hidden) == (DISPLAY, False)), reverse=True
        )

    def _live_on(self) -> None:
        if self.dies_after is not None:
            if self.dies_after == 0:
                self.dies_after = None
                raise Killed
            self.dies_after -= 1


@dataclass
class Shop:
    """Records in a file, places, and who keeps them in order."""

    root: Path
    records: Records
    places: FakePlaces = field(default_factory=FakePlaces)

    @property
    def ledger(self) -> Ledger:
        return Ledger(self.records)

    def keeper(self, account: str = "ana") -> Keeper:
        """The keeper, for an account."""
        audit = AuditLog(self.root / "audit.log")
        return Keeper(self.ledger, self.places, audit, FileLocks(self.root / "locks"), account, lambda _: None)

    def release(self, *targets: str, name: str = "soe", channel: str = STABLE) -> Release:
        """Build the next release and publish it, as publishing does: hidden until it is recorded, then settled."""
        build = self.records.reserve(name, Path("/recipes/soe.yaml"), DIGEST, Path("/logs"))
        self.records.move_build(build, BuildState.RUNNING)
        files = {MANIFEST_FILE: DIGEST, PROVENANCE_FILE: DIGEST}
        made = self.records.add_release(
            build, content_digest=DIGEST, files=files, images={}, evidence={}, channel=channel
        )
        for target in targets:
            self.publish(made, target)
        return made

    def publish(self, release: Release, target: str, owner: str | None = None) -> Publication:
        """Publish a release to a place."""
        version = release_version(release)
        number = f"{version.day}{version.number:024d}"
        image_id = f"{number[:8]}-{number[8:12]}-4{number[13:16]}-8{number[17:20]}-{number[20:32]}"
        publication = self.records.intend(release, target, image_id)
        details = {"display_name": DISPLAY, "wish": {"owner": owner, "visibility": "private", "protected": False}}
        self.records.describe_publication(publication, publication.image_id, details)
        self.records.move_publication(publication, PublicationState.PUBLISHED)
        complete = Look(f"{DISPLAY} {version}", hidden=True, deactivated=False, replacement=None)
        self.places.seen.setdefault(target, {}).setdefault(version, complete)
        self.records.move_publication(publication, PublicationState.VERIFIED)
        self.keeper().settle(release.name, target, lambda _: None)
        return publication
