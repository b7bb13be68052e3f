"""What the makers of catalogues do there. All that is signed is signed by the signer's hand.

This machine trusts the catalogues that it publishes to, like any client, by a trust store of its own.
"""

import os
import shutil
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from imagefactory.errors import CatalogueUninitialised, FactoryError
from imagefactory.factory.hands import Hands, OwnHands
from imagefactory.model.listing import Listing, Relisting
from imagefactory.model.release import ReleaseRef
from imagefactory.progress import Progress, advancer, silent
from imagefactory.settings import Settings
from imagefactory.steps.registrar import known_repository, require_not_revoked
from imagefactory.tools.known_catalogue import PINNED
from imagefactory.tools.trusted_roots import TrustedRoots
from imagefactory.tools.tuf_client import CatalogueClient
from imagefactory.tools.tuf_files import CatalogueFiles
from imagefactory.tools.tuf_root import named_keys
from signing.keys import Purpose


@dataclass(frozen=True)
class Changed:
    """What the signer wrote below a catalogue, in that order; the roles that should be signed again soon, by keys that
    are not here; and whether the catalogue was begun just now."""

    written: tuple[str, ...]
    overdue: tuple[str, ...]
    begun: bool


@dataclass(frozen=True)
class Catalogues:
    """The catalogues that this factory publishes to. Each method raises what the signer raises: Busy, KeysMissing,
    PassphraseMissing, CatalogueUnusable, CatalogueDamaged and others about the metadata that lies there."""

    settings: Settings
    trust_file: Path
    progress: Progress = silent
    others: Hands | None = None  # who signs, where that is not this host

    @property
    def hands(self) -> Hands:
        """Who signs."""
        return self.others or OwnHands(self.settings)

    @property
    def roots(self) -> TrustedRoots:
        """By which roots they are known here."""
        return self.hands.roots

    def begin(self, catalogue: Path) -> Changed:
        """Begin a catalogue with the root key of development keys; one that is there is left alone."""
        return self._call("begin", catalogue, {})

    def list_release(self, catalogue: Path, ref: ReleaseRef, channel: str | None = None) -> Changed:
        """List a release whose folder is there, on a channel: by default that on which it is listed, or `stable`.
        Raises NotSignedHere, ReleaseRevoked, StateConflict, ListingInvalid, CatalogueUninitialised."""
        return self._call("list", catalogue, {"release": str(ref), "channel": channel})

    def relist(self, catalogue: Path, changes: Sequence[Relisting]) -> Changed:
        """Change what is said of releases: all of it, signed once, or nothing. Raises ReleaseUnknown, StateConflict,
        ListingInvalid, CatalogueUninitialised."""
        return self._call("relist", catalogue, {"changes": [each.to_json() for each in changes]})

    def refresh(self, catalogue: Path) -> Changed:
        """Sign anew what has little time left, and publish the trust file if it is another one. Raises
        CatalogueUninitialised."""
        return self._call("refresh", catalogue, {})

    def publish_root(self, catalogue: Path, root: bytes, *, sign: bool = False) -> Changed:
        """Publish a root, the first or the next one. With `sign` development keys sign it before. Raises RootRefused,
        CatalogueConflict."""
        return self._call("publish-root", catalogue, {"root": root.decode("utf-8", "replace"), "sign": sign})

    def listing(self, catalogue: Path, ref: ReleaseRef) -> Listing | None:
        """What a catalogue says of a release now. Raises CatalogueUninitialised, CatalogueUntrusted."""
        return known_repository(self.roots, catalogue).listing(ref)

    def listings(self, catalogue: Path, name: str) -> list[Listing]:
        """What a catalogue says of every release of an image name now. Raises CatalogueUninitialised,
        CatalogueUntrusted."""
        return known_repository(self.roots, catalogue).listings(name)

    def newest_root(self, catalogue: Path) -> bytes:
        """The root of a catalogue. Raises CatalogueUninitialised, CatalogueUntrusted."""
        return known_repository(self.roots, catalogue).newest_root()

    def require_ready(self, catalogue: Path) -> None:
        """See, before any work, that releases may be listed in a catalogue: it is one, or can be begun. Raises
        CatalogueUninitialised, KeysMissing."""
        if not CatalogueFiles(catalogue).has_begun and not self.hands.may_begin:
            raise CatalogueUninitialised(f"{catalogue} is no catalogue yet")

    def require_room(self, catalogue: Path, ref: ReleaseRef) -> None:
        """See, before anything is copied there, that a release may be listed. Raises CatalogueUninitialised,
        CatalogueUntrusted, ReleaseRevoked, KeysMissing."""
        self.require_ready(catalogue)
        if CatalogueFiles(catalogue).has_begun:
            require_not_revoked(ref, self.listing(catalogue, ref))

    def named(self) -> Iterator[tuple[Path, Mapping[Purpose, list[str]]]]:
        """The catalogues that are known and there, with the keyids that each names now; where it cannot be read, those
        that it named when the signer was there last."""
        for catalogue, remembered in self.roots.all():
            try:
                if not CatalogueFiles(catalogue).has_begun:
                    continue
                root = self.newest_root(catalogue)
            except FactoryError:
                root = remembered
            yield catalogue, named_keys(root)

    def _call(self, action: str, catalogue: Path, more: Mapping[str, Any]) -> Changed:
        catalogue = catalogue.absolute()
        self.hands.open_keys()
        request = {"action": action, "catalogue": str(catalogue), **more}
        on_advance = advancer(self.progress, f"{action} {catalogue}")
        answer = self.hands.sign(request, self.trust_file, None, on_advance)
        self._trust_it(catalogue, anew=answer["begun"])
        return Changed(tuple(answer["written"]), tuple(answer["overdue"]), answer["begun"])

    def _trust_it(self, catalogue: Path, *, anew: bool) -> None:
        """Trust a catalogue of our own, as a client. One that was begun anew is another one than any before it."""
        store = self.settings.known_catalogue(catalogue).store
        if anew:
            shutil.rmtree(store, ignore_errors=True)
        root = self.roots.of(catalogue)
        if root is not None and not os.path.lexists(store / PINNED):
            with CatalogueClient(catalogue, store, root=root) as client:
                client.refresh()
