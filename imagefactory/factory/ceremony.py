"""Roots of catalogues: drafted where the other keys are, and signed wherever a root key is.

A draft is a root that lacks signatures. Nothing here needs a catalogue or a network, so that a root key need not come
near either.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path
from typing import Any

from imagefactory.errors import RootRefused
from imagefactory.tools.key_directory import open_waiting
from imagefactory.tools.tuf_root import (
    Signatures,
    add_signature,
    first_root,
    named_keys,
    next_root,
    read_root,
    signatures_of,
)
from imagefactory.tools.tuf_state import Lifetimes
from signing.digest import read_document
from signing.errors import KeyDamaged
from signing.fields import format_time
from signing.keys import KeyRing, PublicKey, Purpose, keyid_of, load_public_key
from signing.signer import Signer


@dataclass(frozen=True)
class RootFacts:
    """What somebody should read before he signs a root. `keys` are keyids by purpose; `signatures` those that it has of
    its own keys, and then of those of the root before it. The time is aware UTC."""

    version: int
    expires: datetime
    threshold: int
    keys: Mapping[Purpose, Sequence[str]]
    signatures: Sequence[Signatures]

    @property
    def is_signed(self) -> bool:
        """Whether nobody else has to sign, as far as is known."""
        return all(each.enough for each in self.signatures)

    def to_json(self) -> dict[str, Any]:
        return {
            "version": self.version,
            "expires": format_time(self.expires),
            "threshold": self.threshold,
            "keys": {purpose: list(keyids) for purpose, keyids in self.keys.items()},
            "signatures": [
                {"of_root": each.of, "found": each.found, "threshold": each.threshold} for each in self.signatures
            ],
            "signed": self.is_signed,
        }


def facts_of(root: bytes, previous: bytes | None = None) -> RootFacts:
    """What a root says. Raises RootRefused, CatalogueDamaged."""
    signed = read_root(root).signed
    threshold = signed.roles["root"].threshold
    return RootFacts(signed.version, signed.expires, threshold, named_keys(root), signatures_of(root, previous))


def newest_keys(ring: KeyRing) -> dict[Purpose, PublicKey]:
    """The public keys for catalogues in a key directory, each the one that waits to replace it if there is one. There
    is a root key only among those for development. Raises KeysMissing, KeyDamaged."""
    waiting = open_waiting(ring.directory, None)
    purposes: tuple[Purpose, ...] = ("root", "targets", "freshness")
    return {
        purpose: public_key(waiting.get(purpose, ring), purpose)
        for purpose in purposes
        if purpose != "root" or purpose in ring.metadata.keyids
    }


def public_key(ring: KeyRing, purpose: Purpose) -> PublicKey:
    """The public half of a key, for which nobody needs a passphrase. Raises KeysMissing, KeyDamaged, Unreadable."""
    keyid = ring.keyid(purpose)
    path = ring.directory / f"{ring.metadata.stem(purpose)}.pub"
    key = read_public_key(path, purpose)
    if keyid_of(key) != keyid:
        raise KeyDamaged(f"{path} is not the {purpose} key {keyid[:16]}")
    return key


def read_public_key(path: Path, purpose: Purpose) -> PublicKey:
    """The public key in a file. Raises KeyDamaged, KeyPurpose, Unreadable, NotARegularFile."""
    try:
        return load_public_key(read_document(path).decode("ascii"), purpose)
    except UnicodeDecodeError:
        raise KeyDamaged(f"{path} is not a public key") from None


def draft_first(ring: KeyRing, root_keys: Sequence[PublicKey], threshold: int | None, now: datetime) -> bytes:
    """A first root, unsigned. As a threshold two of several root keys are wanted, or the only one.

    Raises RootRefused, KeysMissing, KeyDamaged.
    """
    here = newest_keys(ring)
    keys: dict[Purpose, Sequence[PublicKey]] = {
        "root": root_keys,
        "targets": [here["targets"]],
        "freshness": [here["freshness"]],
    }
    return first_root(keys, threshold or min(2, len(root_keys)), now + Lifetimes().root)


def draft_next(
    current: bytes, ring: KeyRing, root_keys: Sequence[PublicKey], threshold: int | None, now: datetime
) -> bytes:
    """The root after `current`, unsigned: with the targets and freshness keys of the key directory, with `root_keys` if
    there are any, and with a later end. Raises RootRefused, KeysMissing, KeyDamaged, CatalogueDamaged."""
    here = newest_keys(ring)
    keys: dict[Purpose, Sequence[PublicKey]] = {"targets": [here["targets"]], "freshness": [here["freshness"]]}
    if root_keys:
        keys["root"] = root_keys
        threshold = threshold or min(2, len(root_keys))
    return next_root(current, keys, now + Lifetimes().root, threshold)


def sign_draft(root: bytes, signer: Signer, previous: bytes | None) -> bytes:
    """The root with one signature more. Raises RootRefused, KeyPurpose, CatalogueDamaged, what the key's storage
    raises."""
    version = read_root(root).signed.version
    if previous is not None and read_root(previous).signed.version != version - 1:
        raise RootRefused(f"the root before {version} is {version - 1}, and another was given")
    return add_signature(root, signer, previous)
