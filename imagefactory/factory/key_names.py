"""For which image names a key is believed: the trust file says so of every key."""

from collections.abc import Sequence
from contextlib import ExitStack
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path

from imagefactory.factory.key_notes import note_rotated
from imagefactory.factory.loop import Factory
from imagefactory.factory.revocation import Revocable, choose, known_catalogues, revocable, signed_with
from imagefactory.factory.rotation import finish
from imagefactory.settings import Settings
from imagefactory.store.lock import FileLocks
from imagefactory.store.tables import Release
from imagefactory.tools.audit_log import AuditLog
from imagefactory.tools.durable import replace_file
from signing.keys import AUTHORITY
from signing.trust import EVERY_NAME, find_trust, load_trust


@dataclass(frozen=True)
class Limits:
    """The image names that a key may sign for, `before` and now. `lost` are releases that it signed and that are not
    believed any more; `catalogues` have not heard of the change."""

    key: Revocable
    trust_file: Path
    before: tuple[str, ...]
    names: tuple[str, ...]
    lost: Sequence[Release] = ()
    catalogues: Sequence[Path] = ()


def limit(settings: Settings, factory: Factory | None, prefix: str, names: Sequence[str], *, dry_run: bool) -> Limits:
    """Have the trust file believe the key whose id begins with `prefix` for these image names alone; `*` is every name.

    A rotation that was interrupted is finished first. Raises Busy, KeyUnknown, errors of the room signing.
    """
    trust_file = find_trust(settings.trust_files())
    with ExitStack() as stack:
        if settings.home.exists():
            stack.enter_context(FileLocks(settings.home / "locks").whole())
        if settings.keys.exists() and not dry_run:
            finish(settings.keys, trust_file, partial(note_rotated, settings))
        trust = load_trust(trust_file)
        listed = [each for each in revocable(trust, None) if each.kind != AUTHORITY]
        key = choose(listed, prefix, what="the trust file lists")
        before, after = trust.names[key.id], tuple(sorted(set(names)))
        if set(before) != set(after) and not dry_run:
            if settings.home.exists():
                AuditLog(settings.audit).append("key-limited", purpose=key.kind, keyid=key.id, names=" ".join(after))
            replace_file(trust_file, replace(trust, names={**trust.names, key.id: after}).encode())
        found = Limits(key, trust_file, before, after)
        if factory is None or set(before) == set(after):
            return found
        lost = _lost(factory, key, before, after)
        return replace(found, lost=lost, catalogues=known_catalogues(factory))


def may_sign(name: str, names: Sequence[str]) -> bool:
    """Whether an image name is among those of a key."""
    return name in names or EVERY_NAME in names


def _lost(factory: Factory, key: Revocable, before: Sequence[str], after: Sequence[str]) -> list[Release]:
    return [
        each
        for each in factory.records.releases()
        if may_sign(each.name, before) and not may_sign(each.name, after) and signed_with(key, each, factory.artifacts)
    ]
