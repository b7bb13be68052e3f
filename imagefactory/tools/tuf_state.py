"""The metadata of a catalogue: what lies there, verified, and in memory what shall follow it.

What is read is as hostile as what a client downloads: whoever can write to the directory must not get our signature
under words of his. So every part is verified by the one that names it, from the root down. Expired metadata is read:
somebody has to renew it.
"""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Any, Final

from tuf.api.exceptions import LengthOrHashMismatchError, UnsignedMetadataError
from tuf.api.metadata import (  # type: ignore[attr-defined]  # public, but it has no __all__
    DelegatedRole,
    Delegations,
    Key,
    Metadata,
    MetaFile,
    Root,
    Snapshot,
    Targets,
    Timestamp,
)
from tuf.ngclient import UpdaterConfig  # type: ignore[attr-defined]
from tuf.repository import Repository  # type: ignore[attr-defined]

from imagefactory.errors import CatalogueDamaged, CatalogueFull, CatalogueMixed, CatalogueUnsigned, RootRefused
from imagefactory.tools.tuf_files import CatalogueFiles, Write, metadata_path
from imagefactory.tools.tuf_root import delegated_names, read_metadata
from imagefactory.tools.tuf_signer import TufSigner, sign_metadata
from signing.errors import KeysMissing

ROOT, TARGETS, SNAPSHOT, TIMESTAMP = Root.type, Targets.type, Snapshot.type, Timestamp.type
# What python-tuf's client reads at most, in bytes, unless somebody configures it.
_CLIENT: Final = UpdaterConfig()
_MOST: Final[Mapping[str, int]] = {
    ROOT: _CLIENT.root_max_length,
    TIMESTAMP: _CLIENT.timestamp_max_length,
    SNAPSHOT: _CLIENT.snapshot_max_length,
}
_KINDS: Final[Mapping[str, type[Timestamp | Snapshot]]] = {TIMESTAMP: Timestamp, SNAPSHOT: Snapshot}
HASHES: Final = ["sha256"]


@dataclass(frozen=True)
class Lifetimes:
    """How long metadata is valid from its signature on; `targets` is also for the roles of image names."""

    timestamp: timedelta = timedelta(days=2)
    snapshot: timedelta = timedelta(days=14)
    targets: timedelta = timedelta(days=90)
    root: timedelta = timedelta(days=365)

    def of(self, role: str) -> timedelta:
        """The lifetime of a role."""
        return {TIMESTAMP: self.timestamp, SNAPSHOT: self.snapshot, ROOT: self.root}.get(role, self.targets)


def most_bytes(role: str) -> int:
    """How long the metadata of a role may be."""
    return _MOST.get(role, _CLIENT.targets_max_length)


class State:
    """The metadata that the timestamp of a catalogue refers to, read when it is asked for.

    Raises CatalogueDamaged, CatalogueMixed, CatalogueUnsigned, CatalogueUnusable.
    """

    def __init__(self, files: CatalogueFiles, judge: Root) -> None:
        self._files, self._judge = files, judge
        self._verified: dict[str, bytes] = {}
        timestamp: Timestamp = self._load(TIMESTAMP, None, judge).signed
        self.timestamp_version = timestamp.version
        self.snapshot_info = timestamp.snapshot_meta
        snapshot: Snapshot = self._load(SNAPSHOT, self.snapshot_info, judge).signed
        self.infos = snapshot.meta
        self._targets: Targets = self._load(TARGETS, self._info(TARGETS), judge).signed

    @property
    def names(self) -> list[str]:
        """The image names that it has, sorted."""
        return delegated_names(self._targets)

    @property
    def versions(self) -> dict[str, int]:
        """The version of every role but root."""
        return _versions(self.timestamp_version, self.snapshot_info, self.infos)

    def raw(self, role: str) -> bytes | None:
        """Return the verified metadata of a role, or None where there is no such image name."""
        if role not in self._verified:
            if role not in self.names:
                return None
            self._load(role, self._info(role), self._targets)
        return self._verified[role]

    def version(self, role: str) -> int:
        """The version of a role's metadata; 0 where there is none."""
        if role == TIMESTAMP:
            return self.timestamp_version
        info = self.snapshot_info if role == SNAPSHOT else self.infos.get(f"{role}.json")
        return info.version if info else 0

    def _info(self, role: str) -> MetaFile:
        info = self.infos.get(f"{role}.json")
        if info is None:
            raise CatalogueDamaged(f"the snapshot does not name {role}")
        return info

    def _load(self, role: str, info: MetaFile | None, delegator: Root | Targets) -> Metadata[Any]:
        raw = self._files.read(metadata_path(role, info.version if info else None), most_bytes(role))
        try:
            if info is not None:
                info.verify_length_and_hashes(raw)
            metadata = read_metadata(raw, role, most_bytes(role))
            delegator.verify_delegate(role, metadata.signed_bytes, metadata.signatures)
        except LengthOrHashMismatchError as error:
            raise CatalogueMixed(f"{role}: {error}") from None
        except UnsignedMetadataError as error:
            raise CatalogueUnsigned(
                str(error),
                advice="publish its newest root again if that was interrupted; if not, find out who wrote there",
            ) from None
        if type(metadata.signed) is not _KINDS.get(role, Targets):
            raise CatalogueDamaged(f"{role} is {metadata.signed.type} metadata")
        if info is not None and metadata.signed.version != info.version:
            raise CatalogueMixed(f"{role} says that it is version {metadata.signed.version}, not {info.version}")
        self._verified[role] = raw
        return metadata


class Draft(Repository):
    """What shall follow a state (or nothing), in memory.

    `roots` are the root that clients have and, when it is another, the one that comes now. Metadata is signed with
    every key at hand that either of them names, and has to be good for the last.
    """

    def __init__(
        self,
        state: State | None,
        roots: Sequence[Metadata[Root]],
        signers: Sequence[TufSigner],
        now: datetime,
        lifetimes: Lifetimes,
    ) -> None:
        self._state, self._roots, self._signers = state, roots, signers
        self._now, self._lifetimes = now, lifetimes
        self._pending: dict[str, Metadata[Any]] = {}
        self._bytes: dict[str, bytes] = {}
        self._infos: dict[str, MetaFile] = dict(state.infos) if state else {}
        self._snapshot_info: MetaFile | None = state.snapshot_info if state else None

    @property
    def targets_infos(self) -> dict[str, MetaFile]:
        """What the snapshot has to name."""
        return self._infos

    @property
    def snapshot_info(self) -> MetaFile:
        """What the timestamp has to name."""
        if self._snapshot_info is None:
            raise AssertionError("the snapshot comes before the timestamp")
        return self._snapshot_info

    @property
    def versions(self) -> dict[str, int]:
        """The version of every role but root, once this is written."""
        timestamp = self._pending.get(TIMESTAMP)
        before = self._state.timestamp_version if self._state else 0
        return _versions(timestamp.signed.version if timestamp else before, self.snapshot_info, self._infos)

    @property
    def signed_for_both(self) -> bool:
        """Whether clients that have the first root accept what is new, too."""
        roles = self._bytes.keys() & {TARGETS, SNAPSHOT, TIMESTAMP}
        return all(_is_signed(self._roots[0].signed, role, self._pending[role]) for role in roles)

    def open(self, role: str) -> Metadata[Any]:
        """Return a role's metadata, or what its first version begins with."""
        if role == ROOT:
            return self._roots[-1]
        raw = self._bytes.get(role) or (self._state.raw(role) if self._state else None)
        if raw is not None:
            return Metadata[Any].from_bytes(raw)
        if role == TIMESTAMP:
            return Metadata(Timestamp(snapshot_meta=self.snapshot_info))
        return Metadata(Snapshot(meta={}) if role == SNAPSHOT else Targets())

    def close(self, role: str, md: Metadata[Any]) -> None:
        """Take a role's metadata as its next version, signed.

        Raises KeysMissing, CatalogueFull, and what the keys' storage raises.
        """
        if role == ROOT:
            raise RootRefused("a root is signed elsewhere")
        md.signed.version = (self._state.version(role) if self._state else 0) + 1
        md.signed.expires = self._now + self._lifetimes.of(role)
        md.signatures.clear()
        for signer in self._signers_of(role):
            sign_metadata(md, signer)
        if not _is_signed(self._delegator(role), role, md):
            raise KeysMissing(f"the keys at hand cannot sign {role}")
        raw = md.to_bytes()
        if len(raw) > most_bytes(role):
            raise CatalogueFull(f"{role} would have {len(raw)} bytes; clients read at most {most_bytes(role)}")
        self._pending[role], self._bytes[role] = md, raw
        info = MetaFile.from_data(md.signed.version, raw, HASHES)
        if role == SNAPSHOT:
            self._snapshot_info = info
        elif role != TIMESTAMP:
            self._infos[f"{role}.json"] = info

    def can_sign(self, role: str) -> bool:
        """Whether enough keys for this role are at hand, where those of root never are."""
        if role == ROOT:
            return False
        return len(self._signers_of(role)) >= self._delegator(role).get_delegated_role(role).threshold

    def expires(self, role: str) -> datetime:
        """When a role's metadata expires."""
        found: datetime = self.open(role).signed.expires
        return found

    def renew(self, role: str) -> None:
        """The same words, signed again."""
        with self.edit(role):
            pass

    def delegate(self, names: Sequence[str]) -> None:
        """Have a role for each of these image names, with the keys of targets."""
        if not names:
            return
        with self.edit_targets() as targets:
            keys, roles = _delegations(targets)
            targets.delegations = Delegations(keys, roles)
            for name in names:
                roles[name] = DelegatedRole(name, [], 1, terminating=True, paths=[f"{name}/*"])
                self._give_keys(targets, name)

    def replace_targets_keys(self) -> None:
        """Let the targets keys of the last root sign for every name, and nobody else."""
        names = self._state.names if self._state else []
        with self.edit_targets() as targets:
            keys, roles = _delegations(targets)
            keys.clear()
            for name in names:
                roles[name].keyids.clear()
                self._give_keys(targets, name)
        for name in names:
            self.renew(name)

    def writes(self) -> Iterator[Write]:
        """What is new, in the order in which it may be cut short: what names another comes after it."""
        names = sorted(self._bytes.keys() - {TARGETS, SNAPSHOT, TIMESTAMP})
        for role in (*names, TARGETS, SNAPSHOT, TIMESTAMP):
            if role in self._bytes:
                version = None if role == TIMESTAMP else self._pending[role].signed.version
                yield Write(metadata_path(role, version), self._bytes[role])

    def _give_keys(self, targets: Targets, name: str) -> None:
        root = self._roots[-1].signed
        for keyid in root.roles[TARGETS].keyids:
            targets.add_key(root.keys[keyid], name)

    def _delegator(self, role: str) -> Root | Targets:
        return self._roots[-1].signed if role in {TARGETS, SNAPSHOT, TIMESTAMP} else self.targets()

    def _signers_of(self, role: str) -> list[TufSigner]:
        judges: list[Root | Targets] = [self._delegator(role)]
        if role in {TARGETS, SNAPSHOT, TIMESTAMP}:
            judges.append(self._roots[0].signed)
        named = {keyid for judge in judges for keyid in judge.get_delegated_role(role).keyids}
        return [signer for signer in self._signers if signer.public_key.keyid in named]


def _delegations(targets: Targets) -> tuple[dict[str, Key], dict[str, DelegatedRole]]:
    """The keys, and the roles by image name."""
    if targets.delegations is None:
        return {}, {}
    return targets.delegations.keys, targets.delegations.roles or {}


def _versions(timestamp: int, snapshot: MetaFile, infos: Mapping[str, MetaFile]) -> dict[str, int]:
    roles = {name.removesuffix(".json"): info.version for name, info in infos.items()}
    return {**roles, SNAPSHOT: snapshot.version, TIMESTAMP: timestamp}


def _is_signed(judge: Root | Targets, role: str, metadata: Metadata[Any]) -> bool:
    return bool(judge.get_verification_result(role, metadata.signed_bytes, metadata.signatures))
