"""The home of one role of the service: of a factory's keys those that the role has, and what it has to know."""

import os
import shutil
import tempfile
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path

from imagefactory.factory.keys import rename_new
from imagefactory.model.job import KEYS, Role
from imagefactory.settings import Settings
from imagefactory.tools.durable import sync_directory, translated, write_new
from imagefactory.tools.trusted_roots import TrustedRoots
from signing.digest import read_document
from signing.errors import KeysExist
from signing.keys import METADATA, KeyRing
from signing.trust import find_trust

SUFFIXES = (".pem", ".pub", ".crt")


def provision(settings: Settings, role: Role, home: Path, owner: tuple[int, int] | None = None) -> tuple[str, ...]:
    """Make the new directory `home` for a worker of `role`, as a whole, for the account with the number and the group
    `owner`. Returns what is in it, by names from there.

    Who signs gets the signer's memory, too: from then on nobody else must sign for these images. Raises KeysExist (it
    is not empty), KeysMissing, Unreadable, Unwritable, NoTrustRoot.
    """
    home = home.absolute()
    with translated(home):
        if home.exists() and any(home.iterdir()):
            raise KeysExist(f"there is already something at {str(home)!r}")
        home.parent.mkdir(parents=True, exist_ok=True)
        scratch = Path(tempfile.mkdtemp(prefix=f".{home.name}.", dir=home.parent))
        try:
            _fill(settings, role, scratch)
            found = sorted(scratch.rglob("*"))
            for path in (scratch, *found) if owner else ():
                os.chown(path, *owner, follow_symlinks=False)  # type: ignore[misc]  # it is not None here
            rename_new(scratch, home)
        finally:
            shutil.rmtree(scratch, ignore_errors=True)
        sync_directory(home.parent)
    return tuple(str(path.relative_to(scratch)) for path in found if path.is_file())


def _fill(settings: Settings, role: Role, home: Path) -> None:
    if KEYS[role]:
        (home / "keys").mkdir(mode=0o700)
        for name, content in _keys(KeyRing(settings.keys), role).items():
            write_new(home / "keys" / name, content)
    write_new(home / "trust.json", read_document(find_trust(settings.trust_files())))
    root = TrustedRoots(settings.signed).of(settings.catalogue)
    if root is not None:
        write_new(home / "root.json", root)
    if role is Role.SIGN:
        for policy in settings.policy_files()[:1]:
            if policy.exists():
                write_new(home / "policy.json", read_document(policy))
        if settings.signed.exists():
            shutil.copytree(settings.signed, home / "signed")
        if settings.audit.exists():
            shutil.copy2(settings.audit, home / "audit.log")


def _keys(ring: KeyRing, role: Role) -> Mapping[str, bytes]:
    """The files of a key directory that has the keys of a role and no other."""
    known, wanted = ring.metadata, KEYS[role]
    for purpose in sorted(wanted):
        ring.keyid(purpose)  # type: ignore[arg-type]  # every role's keys have purposes
    less = replace(
        known,
        keyids={name: keyid for name, keyid in known.keyids.items() if name in wanted},
        where={name: where for name, where in known.where.items() if name in wanted},
        made={name: when for name, when in known.made.items() if name in wanted},
    )
    files = [ring.directory / f"{known.stem(name)}{suffix}" for name in sorted(wanted) for suffix in SUFFIXES]
    return {METADATA: less.encode(), **{path.name: read_document(path) for path in files if path.exists()}}
