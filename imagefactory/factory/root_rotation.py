"""Changing who signs a catalogue: a new root says so, and it is signed where the root keys are.

The order, which may be cut short anywhere and is taken up again by the same command:

1. the new key is made, and waits beside the old one (factory.rotation);
2. a root that names it is drafted, signed and published, for each catalogue that names the old one;
3. when no catalogue names the old one any more, the new key takes its place, and the old one is destroyed.

A catalogue whose directory is gone keeps nothing from going on. Where the root key is one for development and lies in
the key directory, all of this is one command.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime
from functools import partial
from pathlib import Path

from imagefactory.errors import StateConflict
from imagefactory.factory.catalogues import Catalogues
from imagefactory.factory.ceremony import draft_next, newest_keys
from imagefactory.factory.key_notes import note_rotated
from imagefactory.factory.rotation import Replaced, prepare, succeed
from imagefactory.tools.audit_log import AuditLog
from imagefactory.tools.key_directory import open_waiting
from imagefactory.tools.tuf_root import named_keys
from signing.keys import KeyRing, PublicKey, Purpose


@dataclass(frozen=True)
class Turn:
    """What came of it: a draft to be signed by root keys elsewhere, or None for a root that is published; the keys that
    were replaced for good; and the catalogues that still name the old key of one that waits."""

    draft: bytes | None
    replaced: tuple[Replaced, ...] = ()
    waited_for: tuple[Path, ...] = ()


def rotate(
    catalogues: Catalogues,
    catalogue: Path,
    purpose: Purpose,
    *,
    root_keys: Sequence[PublicKey] = (),
    threshold: int | None = None,
    now: datetime,
) -> Turn:
    """Give a catalogue another key for `purpose`: for targets and freshness a new one, for root `root_keys`, or for
    development a new one, or else the same for another year. Nobody else uses the keys meanwhile.

    A rotation of `purpose` that was interrupted is finished, and no other begun. Raises StateConflict (the key is new
    here, and waits for another catalogue), RootRefused, and what `Catalogues` and `prepare` raise.
    """
    settings = catalogues.settings
    current, ring = catalogues.newest_root(catalogue), KeyRing(settings.keys)
    finished = settle(catalogues)
    if any(each.name == purpose for each in finished.replaced):
        return finished
    ours = not root_keys and ring.metadata.keyids.get("root") in named_keys(current)["root"]
    if purpose != "root" or ours:
        _prepare(catalogues, catalogue, purpose, current, now)
    draft = draft_next(current, ring, _root_keys(ring, root_keys, ours), threshold, now)
    if not ours:
        return Turn(draft, waited_for=finished.waited_for)
    catalogues.publish_root(catalogue, draft, sign=True)
    return settle(catalogues)


def publish(catalogues: Catalogues, catalogue: Path, root: bytes) -> Turn:
    """Publish a signed root, the first or the next one. Nobody else uses the keys meanwhile. Raises as `Catalogues`."""
    catalogues.publish_root(catalogue, root)
    return settle(catalogues)


def settle(catalogues: Catalogues) -> Turn:
    """Let each key that waits take its place, unless a catalogue names the old one and not yet the new one. Raises as
    `succeed`."""
    settings = catalogues.settings
    ring, named = KeyRing(settings.keys), list(catalogues.named())
    replaced: list[Replaced] = []
    waited_for: list[Path] = []
    for purpose, waiting in open_waiting(settings.keys, None).items():
        old, new = ring.keyid(purpose), waiting.keyid(purpose)
        behind = [where for where, keys in named if old in keys[purpose] and new not in keys[purpose]]
        if behind:
            waited_for += behind
        elif any(new in keys[purpose] for _, keys in named):
            note = partial(note_rotated, settings)
            done = succeed(settings.keys, catalogues.trust_file, purpose, note)
            replaced += done.replaced if done else ()
    return Turn(None, tuple(replaced), tuple(dict.fromkeys(waited_for)))


def _prepare(catalogues: Catalogues, catalogue: Path, purpose: Purpose, current: bytes, now: datetime) -> None:
    """Have a key that waits, and that this catalogue does not name yet."""
    settings, log = catalogues.settings, AuditLog(catalogues.settings.audit)
    waiting = open_waiting(settings.keys, None).get(purpose)
    if waiting is not None and waiting.keyid(purpose) in named_keys(current)[purpose]:
        others = ", ".join(map(str, settle(catalogues).waited_for))
        raise StateConflict(
            f"the {purpose} key {waiting.keyid(purpose)[:16]} is new in {catalogue}, and waits for {others}",
            advice=f"imagefactory catalogue rotate {purpose} CATALOGUE, for each of these",
        )

    def note(keyid: str) -> None:
        log.append("key-made", purpose=purpose, keyid=keyid)

    prepare(settings.keys, purpose, settings.passphrase, now=now, note=note)


def _root_keys(ring: KeyRing, given: Sequence[PublicKey], ours: bool) -> Sequence[PublicKey]:
    return [newest_keys(ring)["root"]] if ours else given
