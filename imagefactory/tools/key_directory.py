"""Opening a key directory, wherever its keys live.

Which targets and freshness keys count is said by the root of each catalogue, and takes a ceremony to change. So their
successors wait in key directories of their own, `.next.PURPOSE` below the one of the keys that they are to replace, and
both sign until every catalogue has changed.
"""

from importlib.util import find_spec
from pathlib import Path

from imagefactory.errors import ExtraMissing
from signing.keys import PURPOSES, KeyRing, Passphrase, Purpose


def open_keys(directory: Path, passphrase: Passphrase | None) -> KeyRing:
    """The keys in `directory`. Raises ExtraMissing when some are in a token, and what KeyRing raises."""
    ring = KeyRing(directory, passphrase)
    if any(uri.startswith("pkcs11:") for uri in ring.metadata.where.values()):
        require_pkcs11()
    return ring


def waiting_place(directory: Path, purpose: Purpose) -> Path:
    """Where the successor of a key waits."""
    return directory / f".next.{purpose}"


def open_waiting(directory: Path, passphrase: Passphrase | None) -> dict[Purpose, KeyRing]:
    """The keys that wait to replace one in `directory`, by purpose. Raises as `open_keys`."""
    places = {purpose: waiting_place(directory, purpose) for purpose in PURPOSES}
    return {purpose: open_keys(place, passphrase) for purpose, place in places.items() if place.exists()}


def require_pkcs11() -> None:
    """Raises ExtraMissing without python-pkcs11."""
    if find_spec("pkcs11") is None:
        raise ExtraMissing("keys in a token need python-pkcs11", advice="pip install 'imagefactory[pkcs11]'")
