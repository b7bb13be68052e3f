"""Whether a catalogue has what it lists: looked at as its clients do, one release after the other."""

import os
import stat
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

from imagefactory.errors import CatalogueUnreachable, FactoryError
from imagefactory.model.listing import ListingState
from imagefactory.model.release import ReleaseRef
from imagefactory.steps.listed import Listed, believed, client_of, verify_bytes
from imagefactory.steps.verify import Expectation
from imagefactory.tools.catalogue_files import is_there, length
from imagefactory.tools.known_catalogue import KnownCatalogue
from signing.checksums import CHECKSUMS_FILE, SIGNATURE_FILE
from signing.errors import DigestMismatch, FolderMismatch, SigningError
from signing.manifest import MANIFEST_FILE, PROVENANCE_FILE
from signing.verify import VerifiedManifest

_DOCUMENTS = (MANIFEST_FILE, CHECKSUMS_FILE, SIGNATURE_FILE, PROVENANCE_FILE)

OnRelease = Callable[[str], None]
OnBytes = Callable[[int], None]


@dataclass(frozen=True)
class Finding:
    """What is wrong with a release, by the code of the error that its users would meet."""

    release: str
    code: str
    message: str


@dataclass(frozen=True)
class Checked:
    """How many releases were looked at, how many are revoked and were not, what was found wrong, and which releases are
    not here at all, as it may be in a partial mirror."""

    releases: int
    revoked: int
    findings: tuple[Finding, ...]
    absent: tuple[str, ...] = ()


def check(
    catalogue: KnownCatalogue,
    expectation: Expectation,
    *,
    deep: bool,
    present: bool = False,
    on_release: OnRelease,
    on_bytes: OnBytes | None = None,
) -> Checked:
    """See that the manifest of each release that may be used verifies, and that each of its files is there with its
    size; if `deep`, that every byte is as it was signed. If `present`, of releases that are here at all.

    Raises what `CatalogueClient` raises for the catalogue as a whole; NoTrustRoot, TrustInvalid.
    """
    looked, revoked, findings, absent = 0, 0, list[Finding](), list[str]()
    with client_of(catalogue) as client:
        names = client.names()
    for name in names:
        for each in _listed(catalogue, name, expectation):
            if each is None:
                revoked += 1
                continue
            ref, found = each
            try:
                if present and not _is_here(catalogue, ref):
                    absent.append(str(ref))
                    continue
            except CatalogueUnreachable as error:
                found = error
            looked += 1
            on_release(str(ref))
            wrong = found if isinstance(found, Exception) else _wrong(found, deep, on_bytes)
            if wrong is not None:
                findings.append(Finding(str(ref), wrong.code, wrong.message))
    return Checked(looked, revoked, tuple(findings), tuple(absent))


def _listed(
    catalogue: KnownCatalogue, name: str, expectation: Expectation
) -> list[tuple[ReleaseRef, Listed | FactoryError] | None]:
    """The releases of a name, or why they cannot be read; None for those that are revoked. The trust store is held for
    one name at a time, and not while images are read."""
    found: list[tuple[ReleaseRef, Listed | FactoryError] | None] = []
    with client_of(catalogue) as client:
        believing = believed(client, expectation)
        for listing in client.releases(name):
            if listing.state is ListingState.REVOKED:
                found.append(None)
                continue
            try:
                manifest = client.manifest(name, listing.version)
            except FactoryError as error:
                found.append((listing.ref, error))
            else:
                found.append((listing.ref, Listed(catalogue, listing, manifest, believing, ())))
    return found


def _is_here(catalogue: KnownCatalogue, ref: ReleaseRef) -> bool:
    """Whether anything is in its folder; of a web server, whether any of its documents is. Raises
    CatalogueUnreachable."""
    folder = catalogue.folder(ref)
    if not catalogue.is_web:
        return os.path.lexists(folder)
    return any(is_there(f"{folder}/{name}") for name in _DOCUMENTS)


def _wrong(listed: Listed, deep: bool, on_bytes: OnBytes | None) -> FactoryError | SigningError | None:
    try:
        if deep:
            verify_bytes(listed, on_bytes=on_bytes)
        else:
            _require_files(listed, listed.verified())
    except (FactoryError, SigningError) as error:
        return error
    return None


def _require_files(listed: Listed, signed: VerifiedManifest) -> None:
    """Every file is there, with its size where one was signed."""
    sizes: dict[str, int | None] = {entry.file: entry.size for entry in signed.manifest.formats.values()}
    sizes |= dict.fromkeys((*signed.manifest.files, CHECKSUMS_FILE, SIGNATURE_FILE))
    sizes[MANIFEST_FILE] = len(listed.manifest)
    found = dict(_sizes_at(listed.folder, sizes) if listed.catalogue.is_web else _sizes_in(Path(listed.folder)))
    for name, size in sizes.items():
        if name not in found:
            raise FolderMismatch(f"{listed.folder} has no {name}")
        if size not in {None, found[name]}:
            raise DigestMismatch(f"{listed.folder}/{name} has {found[name]} bytes, and {size} were signed")
    if extra := found.keys() - sizes.keys():
        raise FolderMismatch(f"{listed.folder} has {min(extra)!r}, which was not signed")


def _sizes_at(address: str, names: dict[str, int | None]) -> Iterator[tuple[str, int | None]]:
    for name in names:
        yield name, length(f"{address}/{name}")


def _sizes_in(folder: Path) -> Iterator[tuple[str, int | None]]:
    try:
        with os.scandir(folder) as entries:
            for entry in entries:
                status = entry.stat(follow_symlinks=False)
                yield entry.name, status.st_size if stat.S_ISREG(status.st_mode) else -1
    except OSError as error:
        raise CatalogueUnreachable(f"{folder}: {error.strerror}") from error
