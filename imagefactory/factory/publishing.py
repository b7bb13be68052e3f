"""Publication of a release: intended in the records first, done, read back from there, and recorded as verified."""

from collections.abc import Iterator, Mapping
from contextlib import AbstractContextManager, contextmanager
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any
from uuid import uuid4

from imagefactory.errors import (
    FactoryError,
    FormatUnsupported,
    ImageIdBurnt,
    PlacesLeft,
    ReleaseDeleted,
    ReleaseRevoked,
    StateConflict,
)
from imagefactory.factory.catalogue_places import CataloguePlaces, Intent
from imagefactory.factory.catalogues import Catalogues
from imagefactory.factory.hands import Hands
from imagefactory.factory.recipes import recipe_of
from imagefactory.lifecycle.keeper import Keeper
from imagefactory.model import plan
from imagefactory.model.build import PublicationState
from imagefactory.model.cloud_format import choose, wanted
from imagefactory.model.glance import NOT_BY_GLANCE
from imagefactory.model.lifecycle import Held, Stage
from imagefactory.model.recipe_targets import CatalogueTarget, CloudTarget
from imagefactory.model.release import ReleaseRef
from imagefactory.model.target import CataloguePlace, CloudPlace, parse_place
from imagefactory.progress import Meter, Progress, advancer
from imagefactory.settings import Settings
from imagefactory.steps import publish
from imagefactory.steps.listed import verify_listed
from imagefactory.steps.verify import Expectation
from imagefactory.store.artifacts import ArtifactStore
from imagefactory.store.records import Records, release_version
from imagefactory.store.tables import Publication, Release
from imagefactory.tools.audit_log import AuditLog
from imagefactory.tools.catalogue import Catalogue
from signing.errors import SigningError
from signing.manifest import MANIFEST_FILE, PROVENANCE_FILE
from signing.trust import Trust, load_trust

ATTEMPTS = 3  # ids for one image: a burnt one is not the last


@dataclass(frozen=True)
class Published:
    """Where a release is: `target` is what verify takes, `folder` its folder in a catalogue."""

    target: str
    folder: Path | None
    facts: tuple[str, ...] = ()

    @property
    def text(self) -> str:
        return str(self.folder or self.target)

    def to_json(self) -> dict[str, Any]:
        folder = str(self.folder) if self.folder else None
        return {"target": self.target, "folder": folder, "facts": list(self.facts), "verified": True}


@dataclass(frozen=True)
class Desk:
    """What publishing needs: the factory's papers, and whom to trust."""

    settings: Settings
    records: Records
    artifacts: ArtifactStore
    progress: Progress
    trust_file: Path
    keeper: Keeper
    hands: Hands

    def publish(self, release: Release, target: CatalogueTarget | CloudTarget, *, deep: bool = False) -> Published:
        """Publish a release and verify it from there, for somebody who holds `alone`. Whatever happens is recorded.

        `deep` reads an image back from its cloud, every byte. An image is hidden until it is recorded as verified; only
        then it has the name, and whoever had it before gives it up. Raises FormatUnsupported, ReleaseRevoked,
        ReleaseDeleted, StateConflict (it is obsolete there), PlacesLeft (it is published, and it or others are not as
        they should be), and what publishing and verifying raise.
        """
        require_publishable(release, str(target.place))
        if isinstance(target, CatalogueTarget):
            done = self._to_catalogue(release, target.place.root)
        else:
            done = self._to_cloud(release, target, deep=deep)
        self._settle(release, str(target.place), "is published")
        return done

    def _settle(self, release: Release, target: str, said: str) -> None:
        """Have the releases of the name look as they should now. Raises PlacesLeft, errors of the place."""
        for left in self.keeper.settle(release.name, target, self.progress).left:
            ref = ReleaseRef(release.name, release_version(release))
            what = "it" if left.ref == ref else str(left.ref)
            raise PlacesLeft(f"{ref} {said}, and {what} in {target} is as before: {left.failure}")

    def alone(self, release: Release, place: str) -> AbstractContextManager[None]:
        """Be the only one who changes in a place what has this release's name. Entering raises Busy."""
        return self.keeper.locks.place(release.name, place)

    def _verified(self, release: Release, publication: Publication) -> Published:
        """Record a publication that was verified: in the audit log first, so that the records never know of one that it
        does not. Killed in between, it is verified and written down once more."""
        where = published(release, publication)
        about, manifest = f"{release.name}@{release_version(release)}", release.files[MANIFEST_FILE]
        AuditLog(self.settings.audit).append("published", about=about, manifest=manifest, target=where.target)
        self.records.move_publication(publication, PublicationState.VERIFIED)
        return where

    @property
    def catalogues(self) -> Catalogues:
        """Who has the signer list what is published."""
        return Catalogues(self.settings, self.trust_file, self.progress, self.hands)

    def withdraw(self, release: Release, publication: Publication, reason: str) -> None:
        """Take a publication back: in a catalogue it is revoked for this reason and its folder goes away, in a cloud
        the image is deactivated.

        Done a second time, it changes nothing. Raises Busy, CatalogueConflict (there is another release), what the
        signer raises, errors of clouds.
        """
        place = parse_place(publication.target)
        with self.alone(release, publication.target):
            if isinstance(place, CataloguePlace):
                self._withdraw(release, place.root, reason)
            elif publication.image_id is not None:
                request = {
                    "action": "withdraw",
                    "cloud": place.cloud,
                    "image_id": publication.image_id,
                    "manifest_sha256": release.files[MANIFEST_FILE],
                }
                on_advance = advancer(self.progress, f"withdraw {publication.target}")
                self.hands.publish(place.cloud, request, on_advance)
            self.records.move_publication(publication, PublicationState.WITHDRAWN)
            self._settle(release, publication.target, "is withdrawn")

    def _withdraw(self, release: Release, root: Path, reason: str) -> None:
        manifest = release.files[MANIFEST_FILE]
        intent = Intent(release.name, release_version(release), manifest, Stage.DELETED, reason=reason)
        for why in CataloguePlaces(self.catalogues).settle(root, [intent]).left.values():
            raise why

    def _to_catalogue(self, release: Release, root: Path) -> Published:
        place, ref = CataloguePlace(root), ReleaseRef(release.name, release_version(release))
        publication = self.records.intend(release, str(place))
        with self._recorded(publication):
            trust = load_trust(self.trust_file)
            self.catalogues.require_room(root, ref)
            self._copy(release, root, trust)
            self.catalogues.list_release(root, ref, release.channel)
            self.records.move_publication(publication, PublicationState.PUBLISHED)
            # As any client would, who believes the catalogue's own trust policy.
            verify_listed(self.settings.known_catalogue(root), ref, Expectation(None, datetime.now(UTC)))
        return self._verified(release, publication)

    def _copy(self, release: Release, root: Path, trust: Trust) -> Path:
        title = f"{plan.PUBLISH} {CataloguePlace(root)}"
        files = {name: self.artifacts.require(digest) for name, digest in release.files.items()}
        total = sum(path.stat().st_size for path in files.values())
        meter = Meter(self.progress, title, total)
        version, now = release_version(release), datetime.now(UTC)
        return publish.publish(files, Catalogue(root), release.name, version, trust=trust, now=now, on_bytes=meter)

    def _to_cloud(self, release: Release, target: CloudTarget, *, deep: bool) -> Published:
        place = CloudPlace(target.cloud)
        request = self._request(release, target, deep)
        publication = self.records.intend(release, str(place), str(uuid4()))
        display_name = request["display_name"]
        request = {**request, "look": self._look(release, publication, display_name)}
        wish = target.model_dump(mode="json", exclude={"cloud"})
        # Whoever revokes it before it is complete has to know whose image that is.
        known = {"wish": wish, "display_name": display_name, **publication.details}
        self.records.describe_publication(publication, publication.image_id, known)
        with self._recorded(publication):
            made = self._uploaded(publication, request)
            if not made["uploaded"] and NOT_BY_GLANCE in publication.details.get("facts", ()):
                made["facts"] = [*made["facts"], NOT_BY_GLANCE]
            details = {
                "wish": wish,
                "display_name": display_name,
                **{key: value for key, value in made.items() if key not in {"id", "uploaded"}},
            }
            self.records.describe_publication(publication, made["id"], details)
            self.records.move_publication(publication, PublicationState.PUBLISHED)
        return self._verified(release, publication)

    def _look(self, release: Release, publication: Publication, display_name: str) -> dict[str, Any]:
        """How the publisher is to list an image. It shows only what the records know to be shown: what is new comes to
        its name as everything else does, by settling the place."""
        hidden = self.keeper.look_of(release, publication, display_name).hidden
        shown = not hidden and publication.verified is not None and publication.settled
        return {"name": display_name, "hidden": not shown, "coming": not hidden and not shown}

    def _uploaded(self, publication: Publication, request: Mapping[str, Any]) -> dict[str, Any]:
        """What the publisher says is in the cloud now. An id is recorded before it is used, and never used again once
        Glance has burnt it."""
        cloud = str(request["target"]["cloud"])
        on_advance = advancer(self.progress, f"{plan.PUBLISH} {publication.target}")
        for attempt in range(ATTEMPTS):
            try:
                return self.hands.publish(cloud, {**request, "image_id": publication.image_id}, on_advance)
            except ImageIdBurnt:
                self.records.describe_publication(publication, str(uuid4()), publication.details)
                if attempt + 1 == ATTEMPTS:
                    raise
        raise AssertionError("the last attempt returns or raises")

    def _request(self, release: Release, target: CloudTarget, deep: bool) -> dict[str, Any]:
        image_format = require_format(release, target)
        documents = {name: self.artifacts.require(release.files[name]) for name in (MANIFEST_FILE, PROVENANCE_FILE)}
        recipe = recipe_of(documents[PROVENANCE_FILE], load_trust(self.trust_file))
        return {
            "action": "publish",
            "target": target.model_dump(mode="json"),
            "name": release.name,
            "display_name": str(recipe.get("display_name") or release.name),
            "manifest": str(documents[MANIFEST_FILE]),
            "provenance": str(documents[PROVENANCE_FILE]),
            "trust": str(self.trust_file),
            "format": image_format,
            "file": str(self.artifacts.require(release.images[image_format]["sha256"])),
            "deep": deep,
        }

    @contextmanager
    def _recorded(self, publication: Publication) -> Iterator[None]:
        try:
            yield
        except (FactoryError, SigningError):
            self.records.move_publication(publication, PublicationState.FAILED)
            raise


def require_format(release: Release, target: CloudTarget) -> str:
    """Which format of a release goes to a cloud; what it is there stays it. Raises FormatUnsupported."""
    sizes = {name: int(image["size"]) for name, image in release.images.items()}
    before = (each.details.get("format") for each in release.publications if each.target == str(target.place))
    found = choose(target, sizes, next(before, None))
    if found is None:
        raise FormatUnsupported(
            f"{release.name}@{release_version(release)} has no {wanted(target) or 'qcow2'}, only {', '.join(sizes)}",
            advice="name one of these, or build the release with that format",
        )
    return found


def require_publishable(release: Release, target: str) -> None:
    """Raises ReleaseRevoked, ReleaseDeleted, StateConflict for what was retired there: that is taken back by a
    decision, and not by the way."""
    ref = f"{release.name}@{release_version(release)}"
    if release.held == Held.REVOKED:
        raise ReleaseRevoked(f"{ref} was revoked: {release.held_reason}")
    if any(each.target == target and each.stage == Stage.DELETED for each in release.publications):
        raise ReleaseDeleted(f"{ref} was deleted in {target}")
    # What was withdrawn there is obsolete, too, and comes back by being published.
    mine = (each for each in release.publications if each.target == target)
    if any(each.stage == Stage.OBSOLETE and each.state != PublicationState.WITHDRAWN for each in mine):
        raise StateConflict(
            f"{ref} is obsolete in {target}, and stays it",
            advice=f"imagefactory restore {ref}, if it is wanted again; then publish it",
        )


def published(release: Release, publication: Publication) -> Published:
    """Where a publication has put a release."""
    place = parse_place(publication.target)
    if isinstance(place, CataloguePlace):
        version = release_version(release)
        return Published(f"{place}/{release.name}@{version}", Catalogue(place.root).folder(release.name, version))
    return Published(f"{place}/{publication.image_id}", None, tuple(publication.details.get("facts", ())))
