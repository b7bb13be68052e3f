"""Publication to a catalogue: as a whole or not at all, and verified before anybody can see it."""

from collections.abc import Callable, Mapping
from datetime import datetime
from pathlib import Path

from imagefactory.errors import CatalogueConflict
from imagefactory.model.release import Version
from imagefactory.tools.catalogue import Catalogue, copy_into
from signing.manifest import MANIFEST_FILE
from signing.trust import Trust
from signing.verify import VerifiedFolder, verify_folder


def publish(
    files: Mapping[str, Path],
    catalogue: Catalogue,
    name: str,
    version: Version,
    *,
    trust: Trust,
    now: datetime,
    on_bytes: Callable[[int], None],
) -> Path:
    """Copy the release's `files` (name to source) and return the published folder. A version that is there with the
    same manifest is left alone.

    Raises CatalogueConflict for another release under this version, CatalogueUnusable, DiskFull, and errors of the
    room signing when what would be published does not verify.
    """
    final = catalogue.folder(name, version)
    if final.exists():
        if (final / MANIFEST_FILE).read_bytes() != files[MANIFEST_FILE].read_bytes():
            raise CatalogueConflict(f"{final} holds another release")
        return final
    staged = catalogue.stage(name, version)
    try:
        copy_into(staged, files, on_bytes)
        check(staged, trust, now=now, name=name)
        return catalogue.commit(staged, name, version)
    finally:
        catalogue.discard(staged)


def check(folder: Path, trust: Trust, *, now: datetime, name: str) -> VerifiedFolder:
    """Verify a published folder, every byte of it. Raises errors of the room signing."""
    return verify_folder(folder, trust, now=now, name=name)
