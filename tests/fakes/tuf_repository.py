"""A small TUF repository with real keys, made with python-tuf's Metadata API: honest, and able to be attacked."""

import copy
import json
import shutil
from collections.abc import Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from hashlib import sha256
from pathlib import Path
from typing import Any
from urllib.parse import quote

# These are public, but not in their __all__.
from securesystemslib.signer import CryptoSigner  # type: ignore[attr-defined]
from tuf.api.metadata import (  # type: ignore[attr-defined]
    DelegatedRole,
    Delegations,
    Metadata,
    MetaFile,
    Role,
    Root,
    Snapshot,
    TargetFile,
    Targets,
    Timestamp,
)

DAYS = {"root": 365, "timestamp": 2, "snapshot": 14}


def new_key() -> CryptoSigner:
    """P-256, as all keys of catalogues are."""
    return CryptoSigner.generate_ecdsa()


def in_days(days: float) -> datetime:
    return (datetime.now(UTC) + timedelta(days=days)).replace(microsecond=0)


def signed_by(signed: Root | Timestamp | Snapshot | Targets, signers: Sequence[CryptoSigner]) -> bytes:
    """A file with the signatures of all `signers`."""
    made: Metadata[Any] = Metadata(signed)
    for signer in signers:
        made.sign(signer, append=True)
    return made.to_bytes()


def custom(name: str, version: str, **more: object) -> dict[str, Any]:
    """What a catalogue says of a release."""
    system = {"distro": "debian", "version": "12"}
    said: dict[str, Any] = {"name": name, "version": version, "os": system, "arch": "x86_64"}
    return {**said, "channel": "stable", "state": "current", **more}


def manifest(name: str, version: str) -> bytes:
    """Bytes that stand for a manifest: nobody here looks inside."""
    return json.dumps({"release": f"{name}@{version}"}).encode()


@dataclass
class Keys:
    """Who signs: two of the `root` keys are enough."""

    root: list[CryptoSigner] = field(default_factory=lambda: [new_key(), new_key()])
    targets: CryptoSigner = field(default_factory=new_key)
    freshness: CryptoSigner = field(default_factory=new_key)


@dataclass
class Repository:
    """A catalogue in `directory`, whose makers publish with `publish`; `honest` are all files that they ever wrote, and
    `stolen` those that others signed with their keys.

    Other repositories than catalogues come about with `holders`, whose keys the next root or delegation gives a role;
    `thresholds`, where not all of them are needed; `signers`, who sign in their stead; and without `digests`, where
    only versions tie the metadata together.
    """

    directory: Path
    keys: Keys = field(default_factory=Keys)
    holders: dict[str, Sequence[CryptoSigner]] = field(default_factory=dict)
    thresholds: dict[str, int] = field(default_factory=dict)
    signers: dict[str, Sequence[CryptoSigner]] = field(default_factory=dict)
    digests: bool = True
    honest: set[bytes] = field(default_factory=set)
    stolen: set[bytes] = field(default_factory=set)
    root: Root = field(init=False)
    timestamp: Timestamp = field(init=False)
    snapshot: Snapshot = field(init=False)
    targets: Targets = field(init=False)
    roles: dict[str, Targets] = field(default_factory=dict)

    def __post_init__(self) -> None:
        self.root = Root(consistent_snapshot=True)
        self.timestamp = Timestamp()
        self.snapshot = Snapshot()
        self.targets = Targets(delegations=Delegations({}, {}))
        self.timestamp.version = self.snapshot.version = self.targets.version = self.root.version = 0
        self.publish_root()
        self.first_root = self.file("1.root.json").read_bytes()
        self.publish("targets")

    # -- what its makers do --------------------------------------------------------------------------------------------

    def publish_root(self, *more: CryptoSigner) -> None:
        """A new root with the present keys, signed by them and by `more`."""
        who = {role: self.held(role) for role in ("root", "targets", "snapshot", "timestamp")}
        self.root = copy.deepcopy(self.root)
        self.root.version += 1
        self.root.expires = in_days(DAYS["root"])
        self.root.keys = {each.public_key.keyid: each.public_key for group in who.values() for each in group}
        self.root.roles = {
            role: Role([each.public_key.keyid for each in group], self.thresholds.get(role, len(group)))
            for role, group in who.items()
        }
        self.write(f"{self.root.version}.root.json", self.signed(self.root, "root", *more))

    def held(self, role: str) -> Sequence[CryptoSigner]:
        """Who has a role."""
        freshness = role in ("snapshot", "timestamp")
        usual = self.keys.root if role == "root" else [self.keys.freshness if freshness else self.keys.targets]
        return self.holders.get(role, usual)

    def signed(self, signed: Root | Timestamp | Snapshot | Targets, role: str, *more: CryptoSigner) -> bytes:
        """A file with the signatures that a role has."""
        return signed_by(signed, [*self.signers.get(role, self.held(role)), *more])

    def add(self, name: str, version: str, **more: object) -> None:
        """List a release, or say something else of it, in the next publication of `name`."""
        self.delegate(name)
        content = manifest(name, version)
        path = f"{name}/{version}.sigstore.json"
        digest = sha256(content).hexdigest()
        target = TargetFile(len(content), {"sha256": digest}, path, {"custom": custom(name, version, **more)})
        self.roles[name].targets[path] = target
        self.write_target(f"{name}/{digest}.{version}.sigstore.json", content)

    def delegate(self, name: str, paths: Sequence[str] = ()) -> None:
        """Have a role for an image name."""
        if name in self.roles:
            return
        self.delegate_from("targets", name, paths or [f"{name}/*"], True)

    def delegate_from(self, delegator: str, name: str, paths: Sequence[str], terminating: bool) -> None:
        """Have a role that another one, which is there, delegates to as its last."""
        if name not in self.roles:
            self.roles[name] = Targets()
            self.roles[name].version = 0
        above = self.role(delegator)
        above.delegations = above.delegations or Delegations({}, {})
        assert above.delegations.roles is not None
        keys = [each.public_key for each in self.held(name)]
        above.delegations.keys.update({key.keyid: key for key in keys})
        threshold = self.thresholds.get(name, len(keys))
        role = DelegatedRole(name, [key.keyid for key in keys], threshold, terminating, paths=list(paths))
        above.delegations.roles[name] = role

    def role(self, name: str) -> Targets:
        return self.targets if name == "targets" else self.roles[name]

    def publish(self, *roles: str) -> None:
        """New versions of these roles of targets, and of what says that they are the newest."""
        for role in roles:
            self.put_role(role)
        self.put_snapshot()
        self.put_timestamp()

    def put_role(self, name: str, days: float = 90) -> None:
        """A new version of a role of targets, which the next snapshot names."""
        role = self.role(name)
        role.version += 1
        role.expires = in_days(days)
        raw = self.signed(role, name)
        self.write(f"{role.version}.{quote(name, '')}.json", raw)
        self.snapshot.meta[f"{name}.json"] = self.meta(role.version, raw)

    def put_snapshot(self, days: float = DAYS["snapshot"]) -> None:
        self.snapshot.version += 1
        self.snapshot.expires = in_days(days)
        raw = self.signed(self.snapshot, "snapshot")
        self.write(f"{self.snapshot.version}.snapshot.json", raw)
        self.timestamp.snapshot_meta = self.meta(self.snapshot.version, raw)

    def put_timestamp(self, days: float = DAYS["timestamp"]) -> None:
        self.timestamp.version += 1
        self.timestamp.expires = in_days(days)
        self.write("timestamp.json", self.signed(self.timestamp, "timestamp"))

    def meta(self, version: int, raw: bytes) -> MetaFile:
        return meta(version, raw) if self.digests else MetaFile(version)

    def recover(self, honest: "Repository", metadata: Path) -> None:
        """Its makers put everything back as it was, from what they have, and sign it anew."""
        folder = self.directory / "metadata"
        shutil.move(folder, self.directory / "bad")
        shutil.copytree(metadata, folder)
        for name, role in honest.roles.items():
            role.version = self.roles[name].version
        honest.targets.version = self.targets.version
        honest.snapshot.version = self.snapshot.version
        # What a snapshot has named once, clients want it to name for ever.
        honest.snapshot.meta = {**self.snapshot.meta, **honest.snapshot.meta}
        honest.timestamp.version = self.timestamp.version
        self.root, self.roles, self.targets = honest.root, honest.roles, honest.targets
        self.snapshot, self.timestamp = honest.snapshot, honest.timestamp
        self.publish("targets", *self.roles)

    # -- files ---------------------------------------------------------------------------------------------------------

    def file(self, name: str) -> Path:
        return self.directory / "metadata" / name

    def write(self, name: str, raw: bytes) -> None:
        """What the makers themselves write."""
        self.honest.add(raw)
        self.forge(name, raw)

    def write_stolen(self, name: str, raw: bytes) -> None:
        """What somebody writes who has stolen the right keys."""
        self.stolen.add(raw)
        self.forge(name, raw)

    def forge(self, name: str, raw: bytes) -> None:
        """What somebody else puts there."""
        self.file(name).parent.mkdir(parents=True, exist_ok=True)
        self.file(name).write_bytes(raw)

    def write_target(self, path: str, raw: bytes) -> None:
        file = self.directory / "targets" / path
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_bytes(raw)

    def target_file(self, name: str, version: str) -> Path:
        """The file that a client asks for as the manifest of a release."""
        digest = sha256(manifest(name, version)).hexdigest()
        return self.directory / "targets" / name / f"{digest}.{version}.sigstore.json"


def meta(version: int, raw: bytes) -> MetaFile:
    return MetaFile(version, len(raw), {"sha256": sha256(raw).hexdigest()})


# -- a client's store --------------------------------------------------------------------------------------------------


def kept(store: Path) -> dict[str, bytes]:
    """The files of a trust store."""
    return {str(path.relative_to(store)): path.read_bytes() for path in store.rglob("*") if path.is_file()}


def require_sound(store: Path, repository: Repository, before: dict[str, bytes]) -> None:
    """Everything in a store was signed with the right keys, and nothing went back or away."""
    now = kept(store)
    assert before.keys() <= now.keys()
    for name, raw in now.items():
        if name == "address":
            continue
        if name == "last-seen":
            assert raw >= before.get(name, b"")
            continue
        assert raw in repository.honest | repository.stolen, f"{name} is of somebody else"
        if name in before and "metadata/" in name:
            assert version_of(raw) >= version_of(before[name]), f"{name} went back"


def version_of(raw: bytes) -> int:
    return int(json.loads(raw)["signed"]["version"])
