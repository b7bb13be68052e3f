"""The passphrase of a key directory: from a file, the operating system's keyring, or a person at a terminal.

It is never an argument, and never in the environment: those only say where it is.
"""

import secrets
from collections.abc import Callable
from importlib import import_module
from pathlib import Path
from typing import Any

from imagefactory.errors import ExtraMissing, KeyringUnusable, PassphraseWeak
from signing.errors import PassphraseMissing
from signing.keys import KeyRing, read_secret

Ask = Callable[[str], bytes]
"""Shows a prompt and returns what is typed without being shown. Raises PassphraseMissing."""

SERVICE = "imagefactory"
# `cryptography` writes PBES2 with PBKDF2, HMAC-SHA-256, 2,048 rounds: that hardly slows down whoever guesses, so the
# passphrase itself must not be guessable.
SHORTEST = 16


class PassphraseSource:
    """Gives the passphrase of one key directory, asking at most once. `ask` asks a person, where there is one."""

    def __init__(self, directory: Path, file: Path | None = None, ask: Ask | None = None) -> None:
        self._directory = directory
        self._file = file
        self._ask = ask
        self._known: bytes | None = None

    def __call__(self) -> bytes:
        """The passphrase. Raises PassphraseMissing where nobody can be asked, KeyPermissions, KeyringUnusable."""
        if self._known is None:
            self._known = self._find()
        return self._known

    def _find(self) -> bytes:
        if self._file is not None:
            return read_secret(self._file)
        if KeyRing(self._directory).metadata.keyring:
            return from_keyring(self._directory)
        if self._ask is None:
            raise PassphraseMissing(f"the keys in {self._directory} are encrypted, and there is no terminal to ask at")
        return self._ask(f"Passphrase of {self._directory}: ")

    def for_signer(self) -> dict[str, str] | None:
        """How the signer gets it: it reads the file itself; what was found elsewhere goes through its pipe."""
        if self._file is not None:
            return {"file": str(self._file)}
        return None if self._known is None else {"text": self._known.decode("utf-8", "surrogateescape")}


def received(document: dict[str, str] | None) -> PassphraseSource | None:
    """The signer's side of `for_signer`."""
    if document is None:
        return None
    source = PassphraseSource(Path("/"), Path(document["file"]) if "file" in document else None)
    if "text" in document:
        source._known = document["text"].encode("utf-8", "surrogateescape")
    return source


def new_passphrase(directory: Path, file: Path | None, ask: Ask | None, *, keyring: bool) -> bytes:
    """The passphrase for keys that are to be made in `directory`: with the keyring, the one there or a new random one.

    Raises PassphraseMissing, PassphraseWeak, KeyPermissions, KeyringUnusable, ExtraMissing.
    """
    if keyring:
        if _keyring("get_password", directory) is None:
            _keyring("set_password", directory, secrets.token_urlsafe(32))
        return from_keyring(directory)
    if file is not None:
        return _strong(read_secret(file))
    if ask is None:
        raise PassphraseMissing("new keys are encrypted, and there is no terminal to ask for a passphrase at")
    first = _strong(ask(f"New passphrase for {directory}: "))
    if ask("The same again: ") != first:
        raise PassphraseMissing("the two passphrases differ", advice="try again")
    return first


def from_keyring(directory: Path) -> bytes:
    """What the keyring has for the keys in `directory`. Raises KeyringUnusable, ExtraMissing."""
    found = _keyring("get_password", directory)
    if not isinstance(found, str) or not found:
        raise KeyringUnusable(f"the keyring has no passphrase for {directory}")
    return found.encode()


def _keyring(action: str, directory: Path, *value: str) -> object:
    try:
        keyring: Any = import_module("keyring")
    except ModuleNotFoundError as missing:
        raise ExtraMissing(
            f"the keyring needs the library keyring: {missing}", advice="pip install 'imagefactory[keyring]'"
        ) from missing
    try:
        return getattr(keyring, action)(SERVICE, str(directory), *value)
    except keyring.errors.KeyringError as why:
        raise KeyringUnusable(f"the keyring cannot be used: {type(why).__name__}") from None


def _strong(passphrase: bytes) -> bytes:
    if len(passphrase) < SHORTEST:
        raise PassphraseWeak(f"a passphrase has at least {SHORTEST} characters")
    return passphrase
