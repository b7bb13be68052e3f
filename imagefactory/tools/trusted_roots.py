"""The signer's memory of catalogues: by which root it trusts each one that it publishes to, and how far that had come.

A directory with `ID.root.json`, the newest root that it published there or was given for it, `ID.address`, the path of
the catalogue, and `ID.versions.json`, `{ROLE: VERSION, ...}` of all its metadata but roots, as the signer saw it last;
ID are the first 32 digits of the SHA-256 of that path, which begins in the home for a catalogue that lies there. What
lies in a catalogue is never believed for itself: whoever can write there must not choose what the signer signs on, and
what was true once is not signed as if it were new.
"""

import os
from collections.abc import Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import Final

from imagefactory.errors import MemoryDamaged
from imagefactory.tools.durable import held, put_file, translated
from imagefactory.tools.known_catalogue import address_of, identity, name_in
from signing.digest import read_document
from signing.errors import DocumentInvalid
from signing.strict_json import decode, encode

FOLDER: Final = ".catalogues"  # no image name begins with a dot
_ROOT, _ADDRESS, _VERSIONS = ".root.json", ".address", ".versions.json"


class KnownVersions:
    """Which version each role of one catalogue had when it was seen last, in `file`; one process at a time."""

    def __init__(self, file: Path) -> None:
        self.file = file

    def read(self) -> dict[str, int]:
        """By role; nothing where nothing is known. Raises MemoryDamaged, Unreadable."""
        if not os.path.lexists(self.file):
            return {}
        try:
            found = decode(read_document(self.file), str(self.file))
        except DocumentInvalid as why:
            raise MemoryDamaged(why.message) from None
        if not all(type(version) is int for version in found.values()):
            raise MemoryDamaged(f"{self.file} has something that is no version")
        return found

    def write(self, versions: Mapping[str, int]) -> None:
        """Know this from now on. Raises Unwritable."""
        with translated(self.file):
            put_file(self.file, encode(dict(versions)))

    def forget(self) -> None:
        """Know nothing any more. Raises Unwritable."""
        with translated(self.file):
            self.file.unlink(missing_ok=True)


class TrustedRoots:
    """What is remembered, below the signer's memory `signed`, which need not be there yet."""

    def __init__(self, signed: Path) -> None:
        self._home = signed.parent
        self._folder = signed / FOLDER

    def of(self, catalogue: Path) -> bytes | None:
        """The root for a catalogue directory; None where none is known. Raises Unreadable."""
        path = self._path(catalogue, _ROOT)
        return read_document(path) if os.path.lexists(path) else None

    def versions(self, catalogue: Path) -> KnownVersions:
        """How far a catalogue directory had come."""
        return KnownVersions(self._path(catalogue, _VERSIONS))

    @contextmanager
    def hold(self) -> Iterator[None]:
        """Nobody else remembers another root meanwhile; who comes second waits. Raises Unwritable."""
        with ExitStack() as stack:
            with translated(self._folder):
                stack.enter_context(held(self._folder))
            yield

    def keep(self, catalogue: Path, root: bytes) -> None:
        """Remember another root for a catalogue, inside `hold`. Raises Unwritable."""
        with translated(self._folder):
            put_file(self._path(catalogue, _ADDRESS), os.fsencode(f"{self._name(catalogue)}\n"))
            put_file(self._path(catalogue, _ROOT), root)

    def all(self) -> Iterator[tuple[Path, bytes]]:
        """Every catalogue that is known, with its root. Raises Unreadable."""
        for path in sorted(self._folder.glob(f"*{_ROOT}")):
            address = read_document(path.with_name(path.name.removesuffix(_ROOT) + _ADDRESS))
            yield self._home / os.fsdecode(address.removesuffix(b"\n")), read_document(path)

    def _path(self, catalogue: Path, suffix: str) -> Path:
        return self._folder / f"{identity(self._name(catalogue))}{suffix}"

    def _name(self, catalogue: Path) -> str:
        return name_in(self._home, address_of(catalogue))


class PinnedRoots(TrustedRoots):
    """What somebody knows who is not the signer: the root that was put into his home, like any client's, for every
    catalogue; `files` are where it may be."""

    def __init__(self, signed: Path, files: Sequence[Path]) -> None:
        super().__init__(signed)
        self._files = tuple(files)

    def of(self, catalogue: Path) -> bytes | None:
        found = next(filter(os.path.lexists, self._files), None)
        return super().of(catalogue) or (read_document(found) if found else None)
