"""Catalogues as this machine knows them: where each is, and where its trust store lies.

A catalogue is the directory or the http(s) address `where`. Its trust store is the directory of `stores` that is called
after the SHA-256 of its address (32 hex digits): the absolute path, or the address without a slash at its end. One that
lies in the home, beside `stores`, is called after its path from there, so that a home may be moved with what is in it.
"""

import os
from collections.abc import Sequence
from dataclasses import dataclass
from hashlib import sha256
from pathlib import Path
from typing import Final
from urllib.parse import urlsplit

from imagefactory.errors import CatalogueUntrusted, ReleaseNameInvalid, TargetUnsupported
from imagefactory.model.release import NAME, ReleaseRef
from imagefactory.tools.tuf_files import TARGETS
from signing.digest import read_document
from signing.errors import SigningError

PINNED: Final = "pinned.root.json"
MAX_ROOT: Final = 512_000  # bytes
_SCHEMES: Final = ("http", "https")
_ADVICE: Final = "give a directory, or http(s)://HOST[:PORT]/PATH"


@dataclass(frozen=True)
class KnownCatalogue:
    """One catalogue: its address, its trust store, and where a root to begin with may lie.

    `given` is a root that somebody names now. The first of `roots` that is there is asked where nothing is pinned yet.
    """

    address: str
    store: Path
    roots: Sequence[Path] = ()
    given: Path | None = None

    @property
    def is_web(self) -> bool:
        """Whether it is asked over a network."""
        return is_web(self.address)

    def folder(self, ref: ReleaseRef) -> str:
        """Where the files of a release are, as an address or a path."""
        return f"{self.address}/{TARGETS}/{ref.name}/{ref.version}"

    def root(self) -> bytes | None:
        """The root to begin with; None where one is pinned and no other was named.

        Raises CatalogueUntrusted (there is none, or it cannot be read).
        """
        if self.given is not None:
            return _read(self.given)
        if os.path.lexists(self.store / PINNED):
            return None
        for path in self.roots:
            if os.path.lexists(path):
                return _read(path)
        looked = ", ".join(map(str, self.roots))
        raise CatalogueUntrusted(f"nothing is known yet of {self.address}, and there is no root in {looked}")


def known_catalogue(
    where: str | Path, stores: Path, roots: Sequence[Path] = (), given: Path | None = None
) -> KnownCatalogue:
    """The catalogue at `where`. Raises TargetUnsupported."""
    address = address_of(where)
    return KnownCatalogue(address, stores / identity(name_in(stores.parent, address)), roots, given)


def name_in(home: Path, address: str) -> str:
    """What a home calls a catalogue: by its path from there, if it lies in it, and otherwise by its address."""
    here = Path(os.path.abspath(home))  # noqa: PTH100 - as addresses are
    path = Path(address)
    return str(path.relative_to(here)) if not is_web(address) and path.is_relative_to(here) else address


def identity(name: str) -> str:
    """32 hex digits."""
    return sha256(os.fsencode(name)).hexdigest()[:32]


def address_of(where: str | Path) -> str:
    """How a catalogue is called, however somebody spells it. Raises TargetUnsupported."""
    text = str(where)
    if "://" in text:
        return web_address(text)
    if not text or "\0" in text:
        raise TargetUnsupported("the catalogue is nowhere", advice=_ADVICE)
    return str(Path(os.path.abspath(text)))  # noqa: PTH100 - Path.absolute keeps `..`


def web_address(text: str) -> str:
    """An http(s) address without a slash at its end, and without a secret. Raises TargetUnsupported."""
    try:
        parts = urlsplit(text)
        sound = parts.scheme in _SCHEMES and bool(parts.hostname) and parts.port != 0
    except ValueError:
        raise TargetUnsupported("the address of the catalogue is none", advice=_ADVICE) from None
    if parts.username is not None or parts.password is not None:  # they would be shown in messages
        raise TargetUnsupported("the address of the catalogue has a user name or a password in it", advice=_ADVICE)
    if parts.query or parts.fragment:  # often a secret, too
        raise TargetUnsupported("the address of the catalogue has a query or a fragment in it", advice=_ADVICE)
    if not sound or not text.isprintable():
        raise TargetUnsupported(f"{text[:200]!r} is no address of a catalogue", advice=_ADVICE)
    return text.rstrip("/")


def is_web(where: str) -> bool:
    """Whether this is an address and no path."""
    return "://" in where


def split_target(text: str) -> tuple[str, ReleaseRef]:
    """WHERE/NAME[@VERSION] as a catalogue and a release. Raises ReleaseNameInvalid."""
    where, slash, ref = text.rpartition("/")
    if not NAME.fullmatch(ref.partition("@")[0]) or is_web(text) != is_web(where):
        raise ReleaseNameInvalid(f"{ref!r} is not NAME or NAME@VERSION")
    return where or slash or ".", ReleaseRef.parse(ref)


def _read(path: Path) -> bytes:
    try:
        return read_document(os.path.realpath(path), most=MAX_ROOT)
    except SigningError as why:
        raise CatalogueUntrusted(f"the root cannot be read: {why.message}") from why
