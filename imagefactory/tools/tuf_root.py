"""Root metadata: who may sign what in a catalogue. It is made here, signed wherever the root keys are, and checked.

A root of ours (TUF specification 1.0.34, sections 4.3 and 6.1) follows rules of its own, beside TUF's:

1. `consistent_snapshot` is true.
2. Every key is on P-256 and has the key id that is computed from it, so that no key counts twice.
3. One key, one purpose: `root` for root, `targets` for targets, `freshness` for snapshot and timestamp.
4. It has not expired when it is published, and the versions follow each other without a gap.
"""

from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any, Final

from tuf.api.metadata import Key, Metadata, Root, Targets  # type: ignore[attr-defined]  # public, but it has no __all__
from tuf.api.serialization import DeserializationError, SerializationError
from tuf.ngclient import UpdaterConfig  # type: ignore[attr-defined]

from imagefactory.errors import CatalogueDamaged, CatalogueUnsigned, RootRefused
from imagefactory.tools.tuf_signer import TufSigner, sign_metadata, tuf_key
from signing.errors import DocumentInvalid, KeyPurpose, SigningError
from signing.keys import PublicKey, Purpose, keyid_of, load_public_key
from signing.signer import Signer
from signing.strict_json import decode

ROLES: Final[Mapping[Purpose, tuple[str, ...]]] = {
    "root": ("root",),
    "targets": ("targets",),
    "freshness": ("snapshot", "timestamp"),
}


def first_root(keys: Mapping[Purpose, Sequence[PublicKey]], threshold: int, expires: datetime) -> bytes:
    """Return version 1, unsigned. `threshold` root keys sign together; each of the other keys signs alone.

    `expires` is aware UTC. Raises RootRefused when a purpose has no key, or `threshold` more than there are.
    """
    return _with_keys(Root(expires=expires, consistent_snapshot=True), keys, threshold)


def next_root(
    current: bytes, keys: Mapping[Purpose, Sequence[PublicKey]], expires: datetime, threshold: int | None = None
) -> bytes:
    """Return the version after `current`, unsigned, with other `keys` for some purposes and, it may be, another
    threshold of root keys. With no keys it has a later end and nothing else that is new.

    Raises RootRefused, CatalogueDamaged.
    """
    root = read_root(current).signed
    root.version += 1
    root.expires = expires
    return _with_keys(root, keys, root.roles[Root.type].threshold if threshold is None else threshold)


def add_signature(root: bytes, signer: Signer, previous: bytes | None = None) -> bytes:
    """Return `root` with one signature more. `previous` is the root before it, whose keys sign it too.

    Raises KeyPurpose, RootRefused (a key that neither of them names), CatalogueDamaged, what the storage raises.
    """
    if signer.purpose != "root":
        raise KeyPurpose(f"a root is signed with root keys; this is the {signer.purpose} key")
    metadata, key = read_root(root), TufSigner(signer)
    named = {*metadata.signed.roles[Root.type].keyids}
    if previous is not None:
        named |= {*read_root(previous).signed.roles[Root.type].keyids}
    if key.public_key.keyid not in named:
        raise RootRefused("neither this root nor the one before it names this key")
    sign_metadata(metadata, key)
    return metadata.to_bytes()


def read_root(raw: bytes) -> Metadata[Root]:
    """Return root metadata, its signatures not verified. Raises CatalogueDamaged."""
    metadata: Metadata[Root] = read_metadata(raw, "a root", UpdaterConfig().root_max_length)
    if type(metadata.signed) is not Root:
        raise CatalogueDamaged(f"a root was expected, and this is {metadata.signed.type} metadata")
    return metadata


def read_metadata(raw: bytes, what: str, most: int) -> Metadata[Any]:
    """Return metadata of any role, at most `most` bytes, its signatures not verified. Raises CatalogueDamaged.

    What has no canonical form is refused, because that is what is signed; so is JSON that two readers could read in two
    ways, or that is nested without end.
    """
    try:
        decode(raw, what, most=most)
        metadata = Metadata[Any].from_bytes(raw)
        _ = metadata.signed_bytes
    except (DocumentInvalid, DeserializationError, SerializationError):
        raise CatalogueDamaged(f"{what} is not TUF metadata") from None
    return metadata


def delegated_names(targets: Targets) -> list[str]:
    """The names of the roles that targets metadata delegates to, sorted. Raises CatalogueDamaged: python-tuf takes any
    value for one."""
    roles = list(targets.delegations.roles or ()) if targets.delegations else []
    if not all(isinstance(name, str) for name in roles):
        raise CatalogueDamaged("the role targets delegates to a role whose name is no text")
    return sorted(roles)


def named_keys(raw: bytes) -> dict[Purpose, list[str]]:
    """Return the keys that a root names, by purpose, with the keyids of `signing.keys`; they are not those of TUF.

    Raises RootRefused, CatalogueDamaged.
    """
    root = read_root(raw).signed
    _require_proper_keys(root)
    keyids = {each: keyid_of(load_public_key(str(key.keyval["public"]), "root")) for each, key in root.keys.items()}
    return {purpose: [keyids[each] for each in root.roles[roles[0]].keyids] for purpose, roles in ROLES.items()}


@dataclass(frozen=True)
class Signatures:
    """How many good signatures a root has of the keys that root number `of` names; `threshold` are wanted."""

    of: int
    found: int
    threshold: int

    @property
    def enough(self) -> bool:
        return self.found >= self.threshold


def signatures_of(raw: bytes, previous: bytes | None = None) -> list[Signatures]:
    """Return what has been signed of a root, and by whom: its own keys first. Raises CatalogueDamaged."""
    root = read_root(raw)
    judges = [root.signed, *([read_root(previous).signed] if previous else [])]
    found = []
    for judge in judges:
        result = judge.get_verification_result(Root.type, root.signed_bytes, root.signatures)
        found.append(Signatures(judge.version, len(result.signed), result.threshold))
    return found


def require_fit(root: Metadata[Root], previous: Metadata[Root] | None, now: datetime) -> None:
    """See that `root` follows every rule, and is signed by enough keys of its own and of `previous`.

    Raises RootRefused.
    """
    version = 1 if previous is None else previous.signed.version + 1
    if root.signed.version != version:
        raise RootRefused(f"this root has version {root.signed.version}, and version {version} is next")
    if root.signed.is_expired(now):
        raise RootRefused(f"this root expired at {root.signed.expires:%Y-%m-%dT%H:%M:%SZ}")
    if root.signed.consistent_snapshot is not True:
        raise RootRefused("this root is not one of a repository with consistent snapshots")
    _require_proper_keys(root.signed)
    result = root.signed.get_root_verification_result(
        None if previous is None else previous.signed, root.signed_bytes, root.signatures
    )
    if not result:
        missing = f"{result.second.missing} of its own keys"
        if previous is not None:
            missing = f"{result.first.missing} keys of the root before it, and of {missing}"
        raise RootRefused(f"this root lacks signatures: of {missing}")


def root_chain(trusted: bytes, read: Callable[[int], bytes | None]) -> list[Metadata[Root]]:
    """Return the roots from the trusted one to the newest; `read` gives that of a version, or None after the last.

    Raises CatalogueDamaged, CatalogueUnsigned.
    """
    chain = [read_root(trusted)]
    while (raw := read(chain[-1].signed.version + 1)) is not None:
        found, last = read_root(raw), chain[-1].signed
        if found.signed.version != last.version + 1:
            raise CatalogueDamaged(f"root {last.version + 1} says that it is version {found.signed.version}")
        if not found.signed.get_root_verification_result(last, found.signed_bytes, found.signatures):
            raise CatalogueUnsigned(f"root {found.signed.version} is not signed as root {last.version} asks")
        chain.append(found)
    return chain


def same_keys(one: Root, other: Root, role: str) -> bool:
    """Whether two roots name the same keys, and the same threshold, for a role."""
    before, after = one.roles[role], other.roles[role]
    return ({*before.keyids}, before.threshold) == ({*after.keyids}, after.threshold)


def _with_keys(root: Root, keys: Mapping[Purpose, Sequence[PublicKey]], threshold: int) -> bytes:
    for purpose, given in keys.items():
        if purpose not in ROLES:
            raise RootRefused(f"a root names no {purpose} keys")
        for role in ROLES[purpose]:
            _replace(root, role, [tuf_key(each) for each in given])
    for role, each in root.roles.items():
        each.threshold = threshold if role == Root.type else 1
        if not 1 <= each.threshold <= len(each.keyids):
            raise RootRefused(f"{each.threshold} of {len(each.keyids)} keys cannot sign for {role}")
    _require_proper_keys(root)
    return Metadata(root).to_bytes()


def _replace(root: Root, role: str, keys: Collection[Key]) -> None:
    for keyid in list(root.roles[role].keyids):
        root.revoke_key(keyid, role)
    for key in keys:
        root.add_key(key, role)


def _require_proper_keys(root: Root) -> None:
    """Rules 2 and 3."""
    for keyid, key in root.keys.items():
        try:
            proper = key == tuf_key(load_public_key(str(key.keyval.get("public")), "root"))
        except SigningError as why:
            raise RootRefused(f"key {keyid[:16]} of this root is not usable: {why.message}") from None
        if not proper:
            raise RootRefused(f"key {keyid[:16]} of this root has not the key id that belongs to it")
    purposes = [{keyid for role in roles for keyid in root.roles[role].keyids} for roles in ROLES.values()]
    named = set().union(*purposes)
    if len(named) != sum(map(len, purposes)):
        raise RootRefused("this root names one key for two purposes")
    if named != root.keys.keys():
        raise RootRefused("this root names keys that it does not have, or has keys that it does not name")
