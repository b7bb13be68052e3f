"""The signer's memory: what it signed under which version, so that no version ever means two things.

A directory NAME/VERSION for each, with the documents as they left the house. It is the signer's own: it believes no
record of anybody else about what it did.
"""

import shutil
import tempfile
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path

from imagefactory.errors import MemoryDamaged, ReleaseNameInvalid
from imagefactory.model.release import Version
from imagefactory.tools.durable import held, sync_directory, write_new
from signing.checksums import CHECKSUMS_FILE, SIGNATURE_FILE
from signing.digest import read_document
from signing.manifest import MANIFEST_FILE, PROVENANCE_FILE

DOCUMENTS = frozenset({MANIFEST_FILE, PROVENANCE_FILE, CHECKSUMS_FILE, SIGNATURE_FILE})


class SignedStore:
    """What was signed, below the directory `root`, which need not be there yet."""

    def __init__(self, root: Path) -> None:
        self._root = root

    @contextmanager
    def hold(self, name: str) -> Iterator[None]:
        """Nobody else signs for `name` meanwhile."""
        with held(self._root / name):
            yield

    def documents(self, name: str, version: Version) -> dict[str, bytes] | None:
        """The documents of a version by file name; None if it was never signed. Raises MemoryDamaged."""
        folder = self._root / name / str(version)
        if not folder.is_dir():
            return None
        found = {path.name: read_document(path) for path in folder.iterdir()}
        if not found.keys() >= DOCUMENTS:
            raise MemoryDamaged(f"{folder} lacks {min(DOCUMENTS - found.keys())}")
        return found

    def newest(self, name: str) -> Version | None:
        """The greatest version that was ever signed for `name`. Raises MemoryDamaged."""
        folders = (self._root / name).iterdir()
        try:
            return max((Version.parse(each.name) for each in folders if not each.name.startswith(".")), default=None)
        except ReleaseNameInvalid as why:
            raise MemoryDamaged(f"{self._root / name} has something that is no version: {why.message}") from None

    def keep(self, name: str, version: Version, documents: Mapping[str, bytes]) -> None:
        """Remember a version that is not known yet: all of its documents, or none if the process dies."""
        directory = self._root / name
        scratch = Path(tempfile.mkdtemp(prefix=".", dir=directory))
        try:
            for file, content in documents.items():
                write_new(scratch / file, content)
            scratch.rename(directory / str(version))
        finally:
            shutil.rmtree(scratch, ignore_errors=True)
        sync_directory(directory)
