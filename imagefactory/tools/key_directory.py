"""Opening a key directory, wherever its keys live."""

from importlib.util import find_spec
from pathlib import Path

from imagefactory.errors import ExtraMissing
from signing.keys import KeyRing, Passphrase


def open_keys(directory: Path, passphrase: Passphrase | None) -> KeyRing:
    """The keys in `directory`. Raises ExtraMissing when some are in a token, and what KeyRing raises."""
    ring = KeyRing(directory, passphrase)
    if any(uri.startswith("pkcs11:") for uri in ring.metadata.where.values()):
        require_pkcs11()
    return ring


def require_pkcs11() -> None:
    """Raises ExtraMissing without python-pkcs11."""
    if find_spec("pkcs11") is None:
        raise ExtraMissing("keys in a token need python-pkcs11", advice="pip install 'imagefactory[pkcs11]'")
