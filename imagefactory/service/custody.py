"""What a worker has, held against what its role needs: one that was broken into must not be able to do more."""

import os
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Final

from imagefactory.errors.service import Overprivileged
from imagefactory.model.job import KEYS, Role
from imagefactory.settings import Settings
from signing.errors import KeysMissing
from signing.keys import AUTHORITY, KeyRing

CLOUDS_FILES: Final = ("clouds.yaml", "clouds.yml", "secure.yaml", "secure.yml", "clouds-public.yaml")
SYSTEM_CLOUDS: Final = Path("/etc/openstack")


def require(role: Role, settings: Settings, *, system: Path = SYSTEM_CLOUDS) -> None:
    """See that a worker of `role` with these settings has the keys that it needs, and nothing that others need.

    Raises Overprivileged, which names all that is too much; KeysMissing, KeyPermissions, KeyDamaged.
    """
    excess = [*_excess_keys(role, settings.keys)]
    if role is not Role.BUILD and os.geteuid() == 0:
        excess.append("it is root")
    if role is not Role.PUBLISH:
        excess += _credentials(settings.environ, system)
    if excess:
        raise Overprivileged(f"a worker of the role {role} has too much: {'; '.join(excess)}")
    missing = KEYS[role] - held(settings.keys) if KEYS[role] else set()
    if missing:
        raise KeysMissing(f"a worker of the role {role} needs the {min(missing)} key in {str(settings.keys)!r}")


def held(directory: Path) -> set[str]:
    """The purposes whose private keys can be used from a key directory, with `glance-ca` for that CA's. A key in a
    token counts. Raises KeysMissing, KeyPermissions, KeyDamaged."""
    ring = KeyRing(directory)
    names = [*ring.metadata.keyids, AUTHORITY]
    in_tokens = {name for name, where in ring.metadata.where.items() if not where.startswith("file:")}
    return {name for name in names if name in in_tokens or (directory / f"{ring.metadata.stem(name)}.pem").exists()}


def _excess_keys(role: Role, directory: Path) -> Iterator[str]:
    if directory.exists():
        for name in sorted(held(directory) - KEYS[role]):
            yield f"the {name} key in {directory}"


def _credentials(environment: Mapping[str, str], system: Path) -> Iterator[str]:
    """Where openstacksdk would find credentials (its configuration reference)."""
    for name in sorted(environment):
        if name.startswith("OS_"):
            yield f"{name} in its environment"
    home = environment.get("HOME")
    own = environment.get("XDG_CONFIG_HOME") or (f"{home}/.config" if home else None)
    for directory in (Path.cwd(), *([Path(own) / "openstack"] if own else []), system):
        yield from (str(directory / name) for name in CLOUDS_FILES if os.access(directory / name, os.R_OK))
