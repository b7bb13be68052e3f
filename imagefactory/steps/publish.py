"""Publication to a catalogue: as a whole or not at all, and verified before anybody can see it."""

from collections.abc import Callable, Mapping
from datetime import datetime
from hashlib import sha256
from pathlib import Path

from imagefactory.errors import CatalogueConflict, CatalogueUnusable
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

    Raises CatalogueConflict for another release under this version, Busy, CatalogueUnusable, DiskFull, and errors of
    the room signing when what would be published does not verify.
    """
    final = catalogue.folder(name, version)
    if catalogue.has(name, version):
        require_same(final, sha256(files[MANIFEST_FILE].read_bytes()).hexdigest())
        return final
    with catalogue.staged(name, version) as staged:
        copy_into(staged, files, on_bytes)
        check(staged, trust, now=now, name=name)
        return catalogue.commit(staged, name, version)


def require_same(published: Path, manifest_sha256: str) -> None:
    """Raises CatalogueConflict when a published folder does not hold the release with this manifest."""
    try:
        same = sha256((published / MANIFEST_FILE).read_bytes()).hexdigest() == manifest_sha256
    except FileNotFoundError:
        same = False
    except OSError as error:
        raise CatalogueUnusable(f"{published}: {error.strerror}") from error
    if not same:
        raise CatalogueConflict(
            f"{published} holds another release, or what is left of one",
            advice="never replace a published version; remove that folder if you know what it is",
        )


def check(folder: Path, trust: Trust, *, now: datetime, name: str) -> VerifiedFolder:
    """Verify a published folder, every byte of it. Raises errors of the room signing."""
    return verify_folder(folder, trust, now=now, name=name)
