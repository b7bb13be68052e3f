"""What a catalogue says, as the signer's hand signs it: which releases it has, in which state, and who may sign them.

Rules, in order; the first that is broken refuses, and the refusal is in the audit log:

1. A catalogue is known by the root that the signer remembers for it, never by the one that lies there, and what lies
   there is not older than what was there before. Where there is no catalogue yet, development keys begin one; others
   take a root that was signed where the root keys are.
2. A release is listed if the manifest in its folder is, byte for byte, the one in the signer's memory, and verifies
   now. Nobody can name a digest to be listed.
3. The trust policy of a catalogue is the trust file of the signer, and is published before what needs it.
4. A root is published if enough of its own keys and of those of the root before it have signed it. Only development
   keys have a root key here, and sign it, too.

Whoever is killed anywhere leaves a catalogue as it was or as it was to be (tools.tuf_repository), and what is done
again is finished.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from datetime import datetime
from hashlib import sha256
from pathlib import Path
from typing import Final

from imagefactory.errors import (
    CatalogueDamaged,
    CatalogueRollback,
    CatalogueUninitialised,
    CatalogueUntrusted,
    NotSignedHere,
    ReleaseRevoked,
    ReleaseUnknown,
    RootRefused,
    VersionMismatch,
)
from imagefactory.model.listing import Listing, ListingState, Relisting
from imagefactory.model.property_forms import day_of
from imagefactory.model.release import ReleaseRef, Version
from imagefactory.tools.audit_log import AuditedSigner, AuditLog, refusals
from imagefactory.tools.catalogue import Catalogue
from imagefactory.tools.signed import SignedStore
from imagefactory.tools.trusted_roots import TrustedRoots
from imagefactory.tools.tuf_files import CatalogueFiles, metadata_path
from imagefactory.tools.tuf_repository import Change, TufRepository
from imagefactory.tools.tuf_root import (
    add_signature,
    first_root,
    named_keys,
    read_root,
    require_fit,
    signatures_of,
)
from imagefactory.tools.tuf_state import ROOT, SNAPSHOT, TIMESTAMP, Lifetimes
from signing.digest import read_document
from signing.errors import KeysMissing
from signing.keys import KeyRing, Purpose
from signing.manifest import MANIFEST_FILE, ReleaseManifest
from signing.signer import Signer, signer_in
from signing.trust import Trust
from signing.verify import verify_manifest

PATIENCE: Final = 60.0  # seconds to wait for another publisher; one takes less than a second
ROOT_KEY: Final[Purpose] = "root"
ONLINE: Final[tuple[Purpose, ...]] = ("targets", "freshness")


@dataclass(frozen=True)
class Registrar:
    """What the signer has of its own: its keys and those that wait to replace them, the trust file, what it signed, by
    which roots it knows catalogues, and its log."""

    ring: KeyRing
    waiting: Mapping[Purpose, KeyRing]
    trust: Trust
    memory: SignedStore
    roots: TrustedRoots
    log: AuditLog

    def signer(self, ring: KeyRing, purpose: Purpose, about: str) -> Signer:
        """A signer whose uses are in the log. Raises errors of the room signing."""
        return AuditedSigner(signer_in(ring, purpose), self.log, about)

    def signers(self, purposes: tuple[Purpose, ...], about: str) -> list[Signer]:
        """Those of the keys that sign now, and of those that wait. Raises errors of the room signing."""
        rings = [(self.ring, purpose) for purpose in purposes if purpose in self.ring.metadata.keyids]
        rings += [(self.waiting[purpose], purpose) for purpose in purposes if purpose in self.waiting]
        return [self.signer(ring, purpose, about) for ring, purpose in rings]


@dataclass(frozen=True)
class Done:
    """What was written below the catalogue, in that order; the roles that should be signed again soon, by keys that are
    not here; and whether the catalogue was begun just now."""

    written: tuple[str, ...]
    overdue: tuple[str, ...] = ()
    begun: bool = False


def known_repository(roots: TrustedRoots, catalogue: Path, signers: Sequence[Signer] = ()) -> TufRepository:
    """A catalogue that has begun, trusted by rule 1. Raises CatalogueUninitialised, CatalogueUntrusted."""
    if not CatalogueFiles(catalogue).has_begun:
        raise CatalogueUninitialised(f"{catalogue} is no catalogue yet")
    root = roots.of(catalogue)
    if root is None:
        raise CatalogueUntrusted(
            f"the signer does not know the catalogue {catalogue}",
            advice="if it is yours, and was moved here, publish its newest root once more, which you should know:"
            f" imagefactory catalogue publish-root {catalogue}/metadata/N.root.json {catalogue}",
        )
    return TufRepository(catalogue, root, signers, patience=PATIENCE, known=roots.versions(catalogue))


def require_not_revoked(ref: ReleaseRef, listed: Listing | None) -> None:
    """Raises ReleaseRevoked."""
    if listed is not None and listed.state is ListingState.REVOKED:
        raise ReleaseRevoked(f"{ref} was revoked: {listed.reason}", advice="publish what is good as a new version")


def begin(own: Registrar, catalogue: Path, now: datetime) -> Done:
    """Begin a catalogue with the root key of development keys; one that has begun meanwhile is left as it is.

    Raises CatalogueUninitialised (keys for production: their root key is not here), and what the repository raises.
    """
    with refusals(own.log, _about(catalogue)):
        return _begin(own, catalogue, now)


def list_release(
    own: Registrar, catalogue: Path, ref: ReleaseRef, now: datetime, *, channel: str | None = None
) -> Done:
    """List a release that lies in a catalogue's folder, on `stable` unless another channel is named. One that is listed
    already keeps its state, and its channel unless another one is named.

    Raises NotSignedHere, ReleaseUnknown (no folder), ReleaseRevoked, and what `begin`, the repository and verification
    raise.
    """
    with refusals(own.log, str(ref)):
        listing, manifest = _signed_here(own, catalogue, ref, now)
        begun = Done(()) if CatalogueFiles(catalogue).has_begun else _begin(own, catalogue, now)
        repository = _repository(own, catalogue, str(ref))
        policy = _publish_trust(own, repository, catalogue, now)
        known = repository.listing(ref)
        require_not_revoked(ref, known)
        wanted = known or listing
        wanted = wanted if channel is None else replace(wanted, channel=channel)
        change = repository.list_release(wanted, manifest, now)
        if change.written:
            digest, where = sha256(manifest).hexdigest(), str(catalogue)
            own.log.append("listed", about=str(ref), catalogue=where, manifest=digest, channel=wanted.channel)
        return Done((*begun.written, *policy.written, *change.written), begun=begun.begun)


def relist(own: Registrar, catalogue: Path, changes: Sequence[Relisting], now: datetime) -> Done:
    """Change what is said of listed releases: all of it, signed once, or nothing.

    Raises ReleaseUnknown, StateConflict, ListingInvalid, CatalogueUninitialised, and what the repository raises.
    """
    about = str(changes[0].ref) if len(changes) == 1 else _about(catalogue)
    with refusals(own.log, about):
        change = _repository(own, catalogue, about).relist(changes, now)
        for listing in change.relisted:
            more = {"replacement": listing.replacement and str(listing.replacement), "reason": listing.reason}
            said = {"state": str(listing.state), "channel": listing.channel, **{k: v for k, v in more.items() if v}}
            own.log.append("relisted", about=str(listing.ref), catalogue=str(catalogue), **said)
        return Done(change.written)


def refresh(own: Registrar, catalogue: Path, now: datetime) -> Done:
    """Sign anew what has little time left, and publish the trust policy if it is another one.

    Raises CatalogueUninitialised, and what the repository raises.
    """
    about = _about(catalogue)
    with refusals(own.log, about):
        repository = _repository(own, catalogue, about)
        change = repository.refresh(now)
        policy = _publish_trust(own, repository, catalogue, now)
        return Done((*change.written, *policy.written), change.overdue)


def publish_root(own: Registrar, catalogue: Path, root: bytes, now: datetime, *, sign: bool = False) -> Done:
    """Publish a root: the first one begins the catalogue, another follows the newest. Done again, it finishes what was
    interrupted. With `sign` the root keys here sign it before, which are those of development keys.

    Raises RootRefused, CatalogueConflict, and what the repository raises.
    """
    about = _about(catalogue)
    with refusals(own.log, about), own.roots.hold():
        begun = CatalogueFiles(catalogue).has_begun
        trusted = own.roots.of(catalogue)
        if sign:
            root = _sign_root(own, root, TufRepository(catalogue, trusted).newest_root() if begun and trusted else None)
        if not begun:
            return _create(own, catalogue, root, now)
        if trusted is None and not signatures_of(root)[0].enough:
            raise RootRefused("this root lacks signatures of its own keys")
        repository = _opened(own, catalogue, trusted or root)
        change = repository.publish_root(root, now)
        if change.written:
            own.log.append("root-published", catalogue=str(catalogue), sha256=sha256(root).hexdigest())
        own.roots.keep(catalogue, repository.newest_root())
        return Done((*change.written, *_publish_trust(own, repository, catalogue, now).written))


def _begin(own: Registrar, catalogue: Path, now: datetime) -> Done:
    with own.roots.hold():
        files = CatalogueFiles(catalogue)
        if files.has_begun:
            return Done(())
        if not own.ring.development:
            raise CatalogueUninitialised(f"{catalogue} is no catalogue yet, and its root keys are not here")
        if files.has(metadata_path(SNAPSHOT, 2)):  # what it said once is not to be forgotten
            raise CatalogueDamaged(f"{catalogue} lacks {metadata_path(TIMESTAMP, None)}")
        # What a dead predecessor left is finished with the root that he had.
        left = own.roots.of(catalogue) if files.has(metadata_path(ROOT, 1)) else None
        if left is None:  # another catalogue than any before it, for which clients need its root
            own.roots.versions(catalogue).forget()
        return _create(own, catalogue, left or _first_root(own, now), now)


def _create(own: Registrar, catalogue: Path, root: bytes, now: datetime) -> Done:
    """The root is remembered first: whoever comes after a kill must know what it was."""
    require_fit(read_root(root), None, now)
    known = own.roots.versions(catalogue)
    if versions := known.read():
        raise CatalogueRollback(
            f"{catalogue} is no catalogue any more, and had version {versions.get(TIMESTAMP, 0)} of {TIMESTAMP}",
            advice=f"restore it from a mirror or a backup; for another catalogue in its place, remove {known.file}",
        )
    own.roots.keep(catalogue, root)
    repository = _opened(own, catalogue, root)
    change = repository.create(now)
    own.log.append("catalogue-begun", catalogue=str(catalogue), sha256=sha256(root).hexdigest())
    policy = _publish_trust(own, repository, catalogue, now)
    return Done((*change.written, *policy.written), begun=True)


def _opened(own: Registrar, catalogue: Path, root: bytes) -> TufRepository:
    signers = own.signers(ONLINE, _about(catalogue))
    return TufRepository(catalogue, root, signers, patience=PATIENCE, known=own.roots.versions(catalogue))


def _first_root(own: Registrar, now: datetime) -> bytes:
    about = "a first root"
    signers = {purpose: own.signer(own.ring, purpose, about) for purpose in (ROOT_KEY, *ONLINE)}
    keys = {purpose: [signer.public_key] for purpose, signer in signers.items()}
    return add_signature(first_root(keys, 1, now + Lifetimes().root), signers[ROOT_KEY])


def _sign_root(own: Registrar, root: bytes, previous: bytes | None) -> bytes:
    if not own.ring.development:
        raise RootRefused("a root is signed here with development keys only")
    version = read_root(root).signed.version
    for signer in own.signers((ROOT_KEY,), f"root {version}"):
        root = add_signature(root, signer, previous)
    return root


def _repository(own: Registrar, catalogue: Path, about: str) -> TufRepository:
    signers = own.signers(ONLINE, about)
    repository = known_repository(own.roots, catalogue, signers)
    named, here = named_keys(repository.newest_root()), {signer.keyid for signer in signers}
    for purpose in ONLINE:
        if here.isdisjoint(named[purpose]):
            raise KeysMissing(
                f"the root of {catalogue} names another {purpose} key than the one here",
                advice=f"imagefactory catalogue rotate {purpose}, if its root keys are left, or begin another one",
            )
    return repository


def _publish_trust(own: Registrar, repository: TufRepository, catalogue: Path, now: datetime) -> Change:
    """Rule 3."""
    policy = own.trust.encode()
    change = repository.set_trust(policy, now)
    if change.written:
        own.log.append("trust-published", catalogue=str(catalogue), sha256=sha256(policy).hexdigest())
    return change


def _signed_here(own: Registrar, catalogue: Path, ref: ReleaseRef, now: datetime) -> tuple[Listing, bytes]:
    """Rule 2."""
    if ref.version is None:
        raise ReleaseUnknown(f"{ref} names no version")
    folder = Catalogue(catalogue).folder(ref.name, ref.version)
    if not folder.is_dir():
        raise ReleaseUnknown(f"{catalogue} has no folder of {ref}")
    manifest = read_document(folder / MANIFEST_FILE)
    documents = own.memory.documents(ref.name, ref.version) or {}
    if documents.get(MANIFEST_FILE) != manifest:
        raise NotSignedHere(f"the signer has not signed what lies in {folder}")
    signed = verify_manifest(manifest, own.trust, now=now, name=ref.name).manifest
    listing = _listing(signed)
    if listing.ref != ref:
        raise VersionMismatch(f"{folder} holds {listing.ref}")
    return listing, manifest


def _listing(manifest: ReleaseManifest) -> Listing:
    return Listing(
        name=manifest.name,
        version=Version.parse(str(manifest.version)),
        distro=manifest.os.distro,
        os_version=manifest.os.version,
        arch=manifest.arch,
        provided_until=day_of(manifest.properties.get("provided_until", "")),
    )


def _about(catalogue: Path) -> str:
    return f"catalogue {catalogue}"
