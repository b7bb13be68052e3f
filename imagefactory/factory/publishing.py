"""Publication of a release: intended in the records first, done, read back from there, and recorded as verified."""

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import UTC, datetime
from functools import partial
from pathlib import Path
from typing import Any
from uuid import uuid4

from imagefactory.errors import FactoryError, FormatUnsupported, ImageIdBurnt
from imagefactory.factory.catalogues import Catalogues
from imagefactory.model import plan
from imagefactory.model.build import PublicationState
from imagefactory.model.glance import NOT_BY_GLANCE
from imagefactory.model.recipe_targets import CatalogueTarget, CloudTarget, format_for
from imagefactory.model.release import ReleaseRef
from imagefactory.model.target import CataloguePlace, CloudPlace, parse_place
from imagefactory.progress import Meter, Progress, advancer
from imagefactory.settings import Settings
from imagefactory.steps import publish
from imagefactory.steps.listed import verify_listed
from imagefactory.steps.verify import Expectation
from imagefactory.store.artifacts import ArtifactStore
from imagefactory.store.lock import lock
from imagefactory.store.records import Records, release_version
from imagefactory.store.tables import Publication, Release
from imagefactory.tools.audit_log import AuditLog
from imagefactory.tools.catalogue import Catalogue
from imagefactory.tools.hand import call_publisher
from signing.digest import read_document
from signing.envelope import parse_bundle
from signing.errors import SigningError
from signing.manifest import MANIFEST_FILE, PROVENANCE_FILE
from signing.provenance import Provenance
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


@dataclass(frozen=True)
class Desk:
    """What publishing needs: the factory's papers, and whom to trust."""

    settings: Settings
    records: Records
    artifacts: ArtifactStore
    progress: Progress
    trust_file: Path

    def publish(self, release: Release, target: CatalogueTarget | CloudTarget, *, deep: bool = False) -> Published:
        """Publish a release and verify it from there. Whatever happens is recorded.

        `deep` reads an image back from its cloud, every byte. Raises Busy, FormatUnsupported, and what publishing and
        verifying raise.
        """
        # One publisher at a time of an image name; a build of the next release of it may go on.
        with lock(self.settings.home / "locks", f".publish-{release.name}"):
            if isinstance(target, CatalogueTarget):
                return self._to_catalogue(release, Path(target.catalogue))
            return self._to_cloud(release, target, deep=deep)

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
        return Catalogues(self.settings, self.trust_file, self.progress)

    def withdraw(self, release: Release, publication: Publication, reason: str) -> None:
        """Take a publication back: in a catalogue it is revoked for this reason and its folder goes away, in a cloud
        the image is deactivated.

        Done a second time, it changes nothing. Raises Busy, CatalogueConflict (there is another release), what the
        signer raises, errors of clouds.
        """
        place = parse_place(publication.target)
        if isinstance(place, CataloguePlace):
            self._withdraw(release, place.root, reason)
        elif publication.image_id is not None:
            call_publisher(
                {
                    "action": "withdraw",
                    "cloud": place.cloud,
                    "image_id": publication.image_id,
                    "manifest_sha256": release.files[MANIFEST_FILE],
                },
                environment=self.settings.cloud_environment,
                log=self.settings.logs / "publisher.log",
                on_advance=advancer(self.progress, f"withdraw {publication.target}"),
            )
        self.records.move_publication(publication, PublicationState.WITHDRAWN)

    def _withdraw(self, release: Release, root: Path, reason: str) -> None:
        catalogue, version = Catalogue(root), release_version(release)
        there = catalogue.has(release.name, version)
        if there:
            publish.require_same(catalogue.folder(release.name, version), release.files[MANIFEST_FILE])
        self.catalogues.withdraw(root, ReleaseRef(release.name, version), reason)
        if there:
            catalogue.withdraw(release.name, version)

    def _to_catalogue(self, release: Release, root: Path) -> Published:
        place, ref = CataloguePlace(root), ReleaseRef(release.name, release_version(release))
        publication = self.records.intend(release, str(place))
        with self._recorded(publication):
            trust = load_trust(self.trust_file)
            self.catalogues.require_room(root, ref)
            self._copy(release, root, trust)
            self.catalogues.list_release(root, ref)
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
        with self._recorded(publication):
            made = self._uploaded(publication, request)
            wish = target.model_dump(mode="json", exclude={"cloud"})
            if not made["uploaded"] and NOT_BY_GLANCE in publication.details.get("facts", ()):
                made["facts"] = [*made["facts"], NOT_BY_GLANCE]
            details = {"wish": wish, **{key: value for key, value in made.items() if key not in {"id", "uploaded"}}}
            self.records.describe_publication(publication, made["id"], details)
            self.records.move_publication(publication, PublicationState.PUBLISHED)
        return self._verified(release, publication)

    def _uploaded(self, publication: Publication, request: Mapping[str, Any]) -> dict[str, Any]:
        """What the publisher says is in the cloud now. An id is recorded before it is used, and never used again once
        Glance has burnt it."""
        call = partial(
            call_publisher,
            environment=self.settings.cloud_environment,
            log=self.settings.logs / "publisher.log",
            on_advance=advancer(self.progress, f"{plan.PUBLISH} {publication.target}"),
        )
        for attempt in range(ATTEMPTS):
            try:
                return call({**request, "image_id": publication.image_id})
            except ImageIdBurnt:
                self.records.describe_publication(publication, str(uuid4()), publication.details)
                if attempt + 1 == ATTEMPTS:
                    raise
        raise AssertionError("the last attempt returns or raises")

    def _request(self, release: Release, target: CloudTarget, deep: bool) -> dict[str, Any]:
        image_format = format_for(target, tuple(release.images))
        if image_format is None:
            ref = f"{release.name}@{release_version(release)}"
            raise FormatUnsupported(
                f"{ref} has no {target.format or 'qcow2'}, only {', '.join(release.images)}",
                advice="name one of these, or build the release with that format",
            )
        documents = {name: self.artifacts.require(release.files[name]) for name in (MANIFEST_FILE, PROVENANCE_FILE)}
        return {
            "action": "publish",
            "target": target.model_dump(mode="json"),
            "name": release.name,
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


def published(release: Release, publication: Publication) -> Published:
    """Where a publication has put a release."""
    place = parse_place(publication.target)
    if isinstance(place, CataloguePlace):
        version = release_version(release)
        return Published(f"{place}/{release.name}@{version}", Catalogue(place.root).folder(release.name, version))
    return Published(f"{place}/{publication.image_id}", None, tuple(publication.details.get("facts", ())))


def recipe_of(provenance: Path, trust: Trust) -> Mapping[str, Any]:
    """The recipe that a release was built from, as its builder attested it. Raises errors of the room signing."""
    statement = parse_bundle(read_document(provenance)).open(trust.provenance)
    recipe = Provenance.from_statement(statement).external_parameters.get("recipe")
    return recipe if isinstance(recipe, dict) else {}
