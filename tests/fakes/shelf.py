"""A catalogue whose releases are real: folders that were signed with real keys, listed in real metadata."""

import shutil
from dataclasses import dataclass, field
from pathlib import Path

from imagefactory.model.listing import Listing, ListingState, Relisting
from imagefactory.model.release import ReleaseRef, Version
from imagefactory.tools.known_catalogue import KnownCatalogue, known_catalogue
from imagefactory.tools.tuf_repository import TufRepository
from signing.envelope import parse_bundle
from signing.manifest import MANIFEST_FILE, ReleaseManifest
from signing.trust import Trust
from tests.unit.tuf_world import Ring, moment


@dataclass
class Shelf:
    """A catalogue in `root`, which begins with no release; `policy` are the bytes of the trust file that it publishes,
    if it does. The root to trust it by is in a file beside it.
    """

    root: Path
    policy: bytes | None
    ring: Ring = field(default_factory=Ring)

    def __post_init__(self) -> None:
        self.root_file.parent.mkdir(parents=True, exist_ok=True)
        self.root_file.write_bytes(self.ring.first(moment()))
        self.repository.create(moment())
        if self.policy is not None:
            self.repository.set_trust(self.policy, moment())

    @property
    def root_file(self) -> Path:
        return self.root.with_name(f"{self.root.name}.root.json")

    @property
    def repository(self) -> TufRepository:
        return TufRepository(self.root, self.root_file.read_bytes(), self.ring.online)

    def add(self, folder: Path, trust: Trust, version: str | None = None) -> Listing:
        """Publish a copy of a release folder, signed with keys of `trust`; list it, or as another version than that."""
        listing = listing_of(folder / MANIFEST_FILE, trust, version)
        self.list(listing, (folder / MANIFEST_FILE).read_bytes())
        shutil.copytree(folder, self.folder(listing.ref))
        return listing

    def list(self, listing: Listing, manifest: bytes) -> None:
        """List a release whose files are not here."""
        self.repository.list_release(listing, manifest, moment())

    def say(self, ref: ReleaseRef, state: ListingState, instead: str | None = None, reason: str | None = None) -> None:
        """Give a release another state."""
        self.repository.relist(
            [Relisting(ref, state, ReleaseRef.parse(instead) if instead else None, reason)], moment()
        )

    def folder(self, ref: ReleaseRef) -> Path:
        return self.root / "targets" / ref.name / str(ref.version)

    def known(self, stores: Path, where: str | Path | None = None) -> KnownCatalogue:
        """This catalogue as a machine knows it that has been given the root, at `where` it is served."""
        return known_catalogue(where or self.root, stores, [self.root_file])


def listing_of(manifest: Path, trust: Trust, version: str | None = None) -> Listing:
    """What a catalogue says of a release, or of another version of it."""
    signed = ReleaseManifest.from_statement(parse_bundle(manifest.read_bytes()).open(trust.release))
    of = Version.parse(version or str(signed.version))
    return Listing(signed.name, of, signed.os.distro, signed.os.version, signed.arch)
