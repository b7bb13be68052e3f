"""The writing side of a catalogue's TUF repository: python-tuf's, kept on a disk under a few rules.

1. What is new is made and signed in memory, and then written in an order in which it may be cut short: a publisher that
   is killed anywhere leaves the catalogue as it was, or as it was to be. timestamp.json is replaced last; what it does
   not refer to is nobody's, and the next publisher writes over it.
2. One process at a time publishes to a catalogue.
3. What lies there is verified first, from a root that somebody trusts, and not from the one that lies there.
4. What lies there is not older than what the publisher remembers, who would else sign for what was revoked since.
5. States change as `imagefactory.model.listing` allows it, and a version keeps its manifest.

A root that names other keys than the one before it changes what clients accept by its mere presence. So what it makes
necessary is written first, signed with the old keys and the new ones, and the root comes last. Where the old keys are
lost, clients refuse the catalogue from the moment when the root is written until the timestamp is; and if the publisher
is killed between the two, until the root is published again.
"""

from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace
from datetime import datetime
from pathlib import Path
from typing import Protocol

from tuf.api.metadata import Metadata, Root, TargetFile, Targets  # type: ignore[attr-defined]  # public, but it has no __all__
from tuf.repository import AbortEdit  # type: ignore[attr-defined]

from imagefactory.errors import (
    CatalogueConflict,
    CatalogueRollback,
    CatalogueUnsigned,
    ReleaseUnknown,
    StateConflict,
)
from imagefactory.model.listing import (
    TRUST_POLICY,
    Listing,
    ListingState,
    Relisting,
    decode_listing,
    require_listable,
    target_path,
)
from imagefactory.model.release import ReleaseRef
from imagefactory.tools.tuf_files import TARGETS as FOLDER
from imagefactory.tools.tuf_files import CatalogueFiles, Write, metadata_path
from imagefactory.tools.tuf_root import read_root, require_fit, root_chain, same_keys
from imagefactory.tools.tuf_signer import TufSigner
from imagefactory.tools.tuf_state import HASHES, ROOT, SNAPSHOT, TARGETS, Draft, Lifetimes, State, most_bytes
from signing.signer import Signer
from signing.trust import decode_trust


@dataclass(frozen=True)
class Change:
    """What was written, as paths below the catalogue, in that order. `overdue` are roles that should be signed again
    soon, and whose keys are not at hand; `relisted` what is said now of releases of which it was something else."""

    written: tuple[str, ...]
    overdue: tuple[str, ...] = ()
    relisted: tuple[Listing, ...] = ()


class Known(Protocol):
    """Which version each role but root had when the publisher saw the catalogue last, in a `file`."""

    file: Path

    def read(self) -> Mapping[str, int]:
        """By role."""

    def write(self, versions: Mapping[str, int]) -> None:
        """Know this from now on."""


class TufRepository:
    """The metadata of one catalogue directory.

    `trusted_root` is a root that came from somewhere else; newer ones that lie there are followed. `signers` are those
    of targets and freshness keys that are at hand, `patience` the seconds to wait for another publisher, `known` the
    publisher's memory. Every method that writes takes the time, aware UTC, and raises Busy, DiskFull,
    CatalogueUnusable, CatalogueDamaged, CatalogueMixed, CatalogueUnsigned and CatalogueRollback; those that sign,
    KeysMissing, CatalogueFull and what the storage of the keys raises.
    """

    def __init__(
        self,
        root: Path,
        trusted_root: bytes,
        signers: Sequence[Signer] = (),
        lifetimes: Lifetimes | None = None,
        patience: float = 0.0,
        known: Known | None = None,
    ) -> None:
        self._known = known
        self._files = CatalogueFiles(root)
        self._trusted_root = trusted_root
        self._signers = [TufSigner(signer) for signer in signers]
        self._lifetimes = lifetimes or Lifetimes()
        self._patience = patience

    def newest_root(self) -> bytes:
        """The newest root that lies there and follows from the trusted one; where none does, the trusted one."""
        version = self._chain()[-1].signed.version
        return self._read_root(version) or self._trusted_root

    def listing(self, ref: ReleaseRef) -> Listing | None:
        """What the catalogue says of a release, NAME@VERSION; None where it does not list it."""
        listed, path = self._listed(ref.name), target_path(ref.name, ref.version) if ref.version else ""
        return decode_listing(path, listed[path].custom) if path in listed else None

    def listings(self, name: str) -> list[Listing]:
        """What the catalogue says of every release of an image name; nothing where it has none."""
        return [decode_listing(path, target.custom) for path, target in self._listed(name).items()]

    def _listed(self, name: str) -> Mapping[str, TargetFile]:
        raw = self._state(self._chain()[-1]).raw(require_listable(name))
        return Metadata[Targets].from_bytes(raw).signed.targets if raw else {}

    def create(self, now: datetime) -> Change:
        """Begin with no release at all; the trusted root is the first one.

        Raises RootRefused, CatalogueConflict when there is a catalogue already.
        """
        root = read_root(self._trusted_root)
        require_fit(root, None, now)
        self._files.make()
        with self._files.alone(self._patience):
            if self._files.has_begun:
                raise CatalogueConflict(f"{self._files.root} is a catalogue already", advice="name another directory")
            self._require_room(root)
            draft = self._draft(None, [root], now)
            draft.renew(TARGETS)
            return self._finish(draft, [Write(metadata_path(ROOT, 1), self._trusted_root)])

    def list_release(self, listing: Listing, manifest: bytes, now: datetime) -> Change:
        """List one release, as `list_releases` does."""
        return self.list_releases([(listing, manifest)], now)

    def list_releases(self, releases: Iterable[tuple[Listing, bytes]], now: datetime) -> Change:
        """List releases with their manifests, all at once; what is listed already with the same manifest is changed.
        A new name gets a role of its own. Who publishes again does not bring back what was deprecated or revoked.

        Raises ReleaseNameInvalid, ListingInvalid, StateConflict, CatalogueConflict (listed with another manifest).
        """
        names: dict[str, list[TargetFile]] = {}
        manifests: dict[str, Write] = {}
        for listing, manifest in releases:
            name, target = require_listable(listing.name), _target(listing, manifest)
            names.setdefault(name, []).append(target)
            manifests[target.path] = _file(target, manifest)
        with self._prepared(now) as (state, draft):
            draft.delegate(sorted(names.keys() - state.names))
            new = [path for name in sorted(names) for path in _put(draft, name, names[name])]
            return self._finish(draft, [manifests[path] for path in new])

    def relist(self, changes: Iterable[Relisting], now: datetime) -> Change:
        """Change what is said of listed releases, all at once or nothing at all.

        Raises ReleaseUnknown, StateConflict, ListingInvalid.
        """
        names: dict[str, list[Relisting]] = {}
        for each in changes:
            names.setdefault(each.ref.name, []).append(each)
        with self._prepared(now) as (found, draft):
            for each in (each for name in names.keys() - found.names for each in names[name]):
                raise self._unlisted(each.ref)
            new = [listing for name in sorted(names) for listing in self._relisted(draft, name, names[name])]
            return replace(self._finish(draft), relisted=tuple(new))

    def _relisted(self, draft: Draft, name: str, changes: Sequence[Relisting]) -> list[Listing]:
        """Change the list of a name, and return what is new in it."""
        new = []
        with draft.edit_targets(name) as listed:
            for each in changes:
                path = target_path(name, each.ref.version) if each.ref.version else ""
                if path not in listed.targets:
                    raise self._unlisted(each.ref)
                target = listed.targets[path]
                before = decode_listing(path, target.custom)
                after = each.of(before)
                if after != before:
                    new.append(after)
                    target.unrecognized_fields["custom"] = after.encode()
            if not new:
                raise AbortEdit
        return new

    def _unlisted(self, ref: ReleaseRef) -> ReleaseUnknown:
        return ReleaseUnknown(f"{self._files.root} does not list {ref}")

    def set_trust(self, policy: bytes, now: datetime) -> Change:
        """Publish the trust policy, the bytes of a trust file; the one that is published already is left alone.

        Raises TrustInvalid.
        """
        decode_trust(policy)
        target = TargetFile.from_data(TRUST_POLICY, policy, HASHES)
        new = [_file(target, policy)]
        with self._prepared(now) as (_, draft):
            with draft.edit_targets() as targets:
                if targets.targets.get(TRUST_POLICY) == target:
                    new.clear()
                    raise AbortEdit
                targets.targets[TRUST_POLICY] = target
            return self._finish(draft, new)

    def refresh(self, now: datetime) -> Change:
        """Sign the timestamp again, and whatever else has less than half of its time left.

        What the keys at hand cannot sign is left, and reported: that must not keep the timestamp from being fresh.
        """
        with self._prepared(now) as (state, draft):
            due = [each for each in (ROOT, TARGETS, *state.names) if self._is_due(draft, each, now)]
            overdue = [each for each in due if not draft.can_sign(each)]
            for role in due:
                if role not in overdue:
                    draft.renew(role)
            draft.do_snapshot(force=self._is_due(draft, SNAPSHOT, now))
            draft.do_timestamp(force=True)
            return self._write(draft, list(draft.writes()), tuple(overdue))

    def publish_root(self, root: bytes, now: datetime) -> Change:
        """Publish the root that follows the newest one, and sign anew what it gives other keys to.

        It may be done again with the same root, which finishes what was interrupted. The signers are the new keys and,
        as far as they are at hand, the old ones. Raises RootRefused, CatalogueConflict (another root was published).
        """
        with self._files.alone(self._patience):
            chain, new = self._chain(), read_root(root)
            if new.signed.version > chain[-1].signed.version:
                require_fit(new, chain[-1], now)
                return self._turn(chain[-1], new, root, now)
            if self._read_root(new.signed.version) != root:
                raise CatalogueConflict(f"{self._files.root} has another root {new.signed.version}")
            if new.signed.version < chain[-1].signed.version or self._is_sound(chain[-1]):
                return Change(())
            if len(chain) < 2:
                raise CatalogueUnsigned(
                    f"{self._files.root} is not signed as its newest root asks",
                    advice="give the root before it as the trusted one, and publish this one again",
                )
            return self._turn(chain[-2], chain[-1], root, now)

    def _turn(self, old: Metadata[Root], new: Metadata[Root], raw: bytes, now: datetime) -> Change:
        draft = self._draft(self._state(old), [old, new], now)
        if not same_keys(old.signed, new.signed, TARGETS):
            draft.replace_targets_keys()
        # python-tuf signs again what the new root would not accept, or what now names something else.
        draft.do_snapshot()
        draft.do_timestamp()
        writes = list(draft.writes())
        last = len(writes) if draft.signed_for_both else len(writes) - 1
        writes.insert(last, Write(metadata_path(ROOT, new.signed.version), raw))
        return self._write(draft, writes)

    @contextmanager
    def _prepared(self, now: datetime) -> Iterator[tuple[State, Draft]]:
        """What lies there and a draft of what follows it, while nobody else publishes."""
        with self._files.alone(self._patience):
            root = self._chain()[-1]
            state = self._state(root)
            self._know(state.versions)  # of a predecessor who died before he did
            yield state, self._draft(state, [root], now)

    def _draft(self, state: State | None, roots: Sequence[Metadata[Root]], now: datetime) -> Draft:
        return Draft(state, roots, self._signers, now, self._lifetimes)

    def _finish(self, draft: Draft, first: Sequence[Write] = ()) -> Change:
        """Write `first` and whatever a draft has that is new."""
        draft.do_snapshot()
        draft.do_timestamp()
        return self._write(draft, [*first, *draft.writes()])

    def _write(self, draft: Draft, writes: Sequence[Write], overdue: tuple[str, ...] = ()) -> Change:
        self._files.write(writes)
        self._know(draft.versions)
        return Change(tuple(each.path for each in writes), overdue)

    def _state(self, root: Metadata[Root]) -> State:
        """What lies there, by rules 3 and 4."""
        state = State(self._files, root.signed)
        for role, version in (self._known.read() if self._known else {}).items():
            if state.version(role) < version:
                raise CatalogueRollback(
                    f"{self._files.root} has version {state.version(role)} of {role}, and had version {version}",
                    advice="restore the newest metadata from a mirror. If there is none, revoke again what was "
                    f"revoked, once {self._known.file if self._known else ''} is removed, and replace the freshness "
                    "key: imagefactory catalogue rotate freshness",
                )
        return state

    def _know(self, versions: Mapping[str, int]) -> None:
        if self._known is not None and self._known.read() != versions:
            self._known.write(versions)

    def _is_due(self, draft: Draft, role: str, now: datetime) -> bool:
        return draft.expires(role) - now < self._lifetimes.of(role) / 2

    def _chain(self) -> list[Metadata[Root]]:
        return root_chain(self._trusted_root, self._read_root)

    def _read_root(self, version: int) -> bytes | None:
        path = metadata_path(ROOT, version)
        return self._files.read(path, most_bytes(ROOT)) if self._files.has(path) else None

    def _is_sound(self, root: Metadata[Root]) -> bool:
        try:
            State(self._files, root.signed)
        except CatalogueUnsigned:
            return False
        return True

    def _require_room(self, root: Metadata[Root]) -> None:
        """A root that a dead predecessor left may be ours, and no other."""
        if self._read_root(root.signed.version) not in {None, self._trusted_root}:
            raise CatalogueConflict(
                f"{self._files.root} has the root of another catalogue",
                advice="name another directory, or remove its metadata/ if you know that nobody trusts that root",
            )


def _target(listing: Listing, manifest: bytes) -> TargetFile:
    target = TargetFile.from_data(listing.path, manifest, HASHES)
    target.unrecognized_fields["custom"] = listing.encode()
    return target


def _file(target: TargetFile, content: bytes) -> Write:
    """Where clients of consistent snapshots look for a target."""
    return Write(f"{FOLDER}/{target.get_prefixed_paths()[0]}", content)


def _put(draft: Draft, name: str, targets: Sequence[TargetFile]) -> list[str]:
    """Put targets into the list of a name, and return the paths of those that it did not have."""
    new = []
    with draft.edit_targets(name) as listed:
        before = dict(listed.targets)
        for target in targets:
            known = listed.targets.get(target.path)
            if known is None:
                new.append(target.path)
            else:
                _require_successor(known, target)
            listed.targets[target.path] = target
        if listed.targets == before:
            raise AbortEdit
    return new


def _require_successor(known: TargetFile, target: TargetFile) -> None:
    """The same manifest, and a state that may follow. Raises CatalogueConflict, StateConflict, CatalogueDamaged."""
    before, after = (decode_listing(each.path, each.custom) for each in (known, target))
    if (known.length, known.hashes) != (target.length, target.hashes):
        raise CatalogueConflict(f"{after.ref} is listed with another manifest")
    if after.state == ListingState.CURRENT != before.state:
        raise StateConflict(f"{after.ref} is listed as {before.state}", advice="leave it so, or change its state")
    before.moved(after.state, after.replacement, after.reason, after.channel)
