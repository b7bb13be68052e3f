"""Releases carried from one catalogue to another, where no network goes: all of its metadata, and chosen folders.

What is packed was verified while it was read, and what is unpacked is verified as any client would, against the trust
store of the catalogue that it comes to. Before that nothing of it appears there: it waits in a directory that only its
owner can read. Then the folders come first and the timestamp last, so that whoever is stopped in between leaves a
catalogue that is as it was, and does the same again.
"""

import hashlib
import os
import shutil
from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace
from pathlib import Path
from typing import IO, cast

from imagefactory.errors import CatalogueDamaged, CatalogueMixed, CatalogueUnusable, UsageError
from imagefactory.model.listing import SUFFIX, TRUST_POLICY
from imagefactory.model.release import ReleaseRef
from imagefactory.steps.listed import Listed, believed, client_of, files_of, listed_of, pinned, verify_bytes
from imagefactory.steps.publish import require_same
from imagefactory.steps.verify import Expectation
from imagefactory.tools.catalogue import Catalogue
from imagefactory.tools.catalogue_files import reading
from imagefactory.tools.known_catalogue import MAX_ROOT, KnownCatalogue
from imagefactory.tools.new_file import new_file
from imagefactory.tools.scratch import abandoned, scratch, sweep
from imagefactory.tools.tar_bundle import Packer, packing, unpack
from imagefactory.tools.trust_store import trust_store
from imagefactory.tools.tuf_client import PATIENCE, CatalogueClient
from imagefactory.tools.tuf_files import TARGETS, CatalogueFiles, Write, metadata_path
from imagefactory.tools.tuf_root import read_root, root_chain
from signing.digest import Digests, OnBytes
from signing.errors import NoTrustRoot
from signing.verify import MAX_OTHER_BYTES, Files


@dataclass(frozen=True)
class _Seen:
    """A catalogue as a client verified it: its metadata by path in the order of writing, and some of its releases."""

    metadata: dict[str, bytes]
    policy: bytes | None
    releases: tuple[Listed, ...]

    def documents(self) -> Iterator[tuple[str, bytes]]:
        """Every small file of it, by path, in an order in which it may be written: the timestamp last."""
        if self.policy is not None:
            yield f"{TARGETS}/{_digest(self.policy)}.{TRUST_POLICY}", self.policy
        for each in self.releases:
            listing = each.listing
            yield f"{TARGETS}/{listing.name}/{_digest(each.manifest)}.{listing.version}{SUFFIX}", each.manifest
        timestamp = metadata_path("timestamp", None)
        yield from ((path, raw) for path, raw in self.metadata.items() if path != timestamp)
        yield timestamp, self.metadata[timestamp]


def export(
    catalogue: KnownCatalogue,
    refs: Sequence[ReleaseRef],
    output: Path,
    expectation: Expectation,
    *,
    on_bytes: OnBytes | None = None,
) -> list[str]:
    """Pack releases, and all metadata, into the new file `output`; returns which.

    Raises OutputExists, OutputUnusable, DiskFull, what `listed_release` raises, and what verification raises.
    """
    with new_file(output) as made, packing(made) as packer:
        with client_of(catalogue) as client:
            seen = _seen(client, catalogue, refs, expectation)
        for path, raw in _with_early_roots(seen, catalogue).documents():
            packer.add(path, raw)
        for listed in seen.releases:
            with files_of(listed) as files:
                verify_bytes(listed, _Packing(files, listed, packer), on_bytes=on_bytes)
    return [str(each.listing.ref) for each in seen.releases]


def import_(
    file: Path, catalogue: KnownCatalogue, expectation: Expectation, *, on_bytes: OnBytes | None = None
) -> list[str]:
    """Unpack releases into the catalogue in a directory, once all of them are verified; returns which.

    Raises UsageError, CatalogueDamaged, Busy, CatalogueConflict, CatalogueUnusable, DiskFull, what `listed_release`
    raises, and what verification raises.
    """
    if catalogue.is_web:
        raise UsageError("a bundle is unpacked into a directory", advice="name a directory")
    catalogue.root()
    target = Path(catalogue.address)
    with _scratch(target) as work:
        unpack(file, work / "catalogue")
        trial = _trial(catalogue, work, "store")
        refs = _folders(work / "catalogue")
        with client_of(trial) as client:
            seen = _seen(client, trial, refs, expectation)
        seen = _with_early_roots(seen, trial)
        for listed in seen.releases:
            verify_bytes(listed, on_bytes=on_bytes)
        with _alone(target):
            # Somebody else may have unpacked something newer meanwhile.
            _refresh(_trial(catalogue, work, "store.again"))
            _publish(seen, Path(trial.address), target)
            _refresh(catalogue)
    return [str(ref) for ref in refs]


def _seen(
    client: CatalogueClient, catalogue: KnownCatalogue, refs: Iterable[ReleaseRef], expectation: Expectation
) -> _Seen:
    believing = believed(client, expectation)
    releases = tuple(listed_of(client, catalogue, ref, pinned(believing, ref)) for ref in refs)
    try:
        policy = client.trust_policy()
    except NoTrustRoot:
        policy = None  # they believe a trust file that was named
    return _Seen(client.metadata(client.names()), policy, releases)


def _with_early_roots(seen: _Seen, catalogue: KnownCatalogue) -> _Seen:
    """With the roots before the one that is pinned here, which others may have pinned, if they lead to the newest."""
    known = sorted(int(path.split("/")[1].split(".")[0]) for path in seen.metadata if path.endswith(".root.json"))
    early = {}
    for version in range(1, known[0]):
        path = metadata_path("root", version)
        with reading(f"{catalogue.address}/{path}", None, most=MAX_ROOT) as (_, stream):
            early[path] = stream.read()
    roots = {**early, **seen.metadata}
    if early:
        chain = root_chain(roots[metadata_path("root", 1)], lambda version: roots.get(metadata_path("root", version)))
        if chain[-1].signed != read_root(roots[metadata_path("root", known[-1])]).signed:
            raise CatalogueMixed(f"the first roots of {catalogue.address} do not lead to its newest")
    return replace(seen, metadata=roots)


class _Packing(Files):
    """Packs every file of a release while it is verified."""

    def __init__(self, files: Files, listed: Listed, packer: Packer) -> None:
        self._files, self._listed, self._packer = files, listed, packer
        self._path = f"{TARGETS}/{listed.listing.name}/{listed.listing.version}"

    def names(self) -> set[str] | None:
        return self._files.names()

    def document(self, name: str) -> bytes:
        raw = self._files.document(name)
        self._packer.add(f"{self._path}/{name}", raw)
        return raw

    def digests(self, name: str, size: int | None, on_bytes: OnBytes | None) -> Digests:
        with reading(f"{self._listed.folder}/{name}", size, most=MAX_OTHER_BYTES) as (_, stream):
            tee = _Tee(stream, on_bytes)
            if size is None:
                self._packer.add(f"{self._path}/{name}", tee.read(MAX_OTHER_BYTES))
            else:
                self._packer.add_stream(f"{self._path}/{name}", size, cast(IO[bytes], tee))
        return Digests(tee.size, tee.hasher.hexdigest())


class _Tee:
    """Hashes what somebody reads, who wants as much as he asks for."""

    def __init__(self, stream: IO[bytes], on_bytes: OnBytes | None) -> None:
        self._stream, self._on_bytes = stream, on_bytes
        self.hasher, self.size = hashlib.sha256(), 0

    def read(self, size: int) -> bytes:
        pieces, left = [], size
        while left and (piece := self._stream.read(left)):
            pieces.append(piece)
            left -= len(piece)
            self.hasher.update(piece)
            if self._on_bytes is not None:
                self._on_bytes(len(piece))
        self.size += size - left
        return b"".join(pieces)


def leftovers(target: Path) -> list[Path]:
    """What imports and publishers left in a catalogue directory, or beside it, that were killed."""
    imports = [path for place in _places(target) for path in abandoned(place, _prefix(target))]
    return [*imports, *Catalogue(target).leftovers()]


def remove_leftovers(target: Path) -> None:
    """Remove them. Raises CatalogueUnusable."""
    for place in _places(target):
        sweep(place, _prefix(target), lambda path, _: shutil.rmtree(path))
    Catalogue(target).remove_leftovers()


def _places(target: Path) -> tuple[Path, Path]:
    """Where an import works: in the catalogue, or beside one to be."""
    return target, target.parent


def _prefix(target: Path) -> str:
    return f".{target.name}.import-"


@contextmanager
def _scratch(target: Path) -> Iterator[Path]:
    """A private directory on the file system of the catalogue."""
    try:
        remove_leftovers(target)
        with scratch(target if target.is_dir() else target.parent, _prefix(target)) as made:
            (made / "catalogue").mkdir()
            yield made
    except OSError as error:
        raise CatalogueUnusable(f"{target}: {error.strerror}") from error


def _trial(catalogue: KnownCatalogue, work: Path, name: str) -> KnownCatalogue:
    """What was unpacked, with a copy of the trust store: it is not to remember what may be refused yet."""
    store = work / name
    if catalogue.store.is_dir():
        with trust_store(catalogue.store, PATIENCE):
            shutil.copytree(catalogue.store, store, symlinks=True)
        store.chmod(0o700)
    return replace(catalogue, address=str(work / "catalogue"), store=store)


def _folders(catalogue: Path) -> list[ReleaseRef]:
    """The releases that were unpacked, whose names `unpack` has looked at. Raises CatalogueDamaged (there is the
    manifest of one that is not)."""
    folders, manifests = list[Path](), set[str]()
    for path in sorted(catalogue.glob(f"{TARGETS}/*/*")):
        if path.is_dir():
            folders.append(path)
        else:
            manifests.add(f"{path.parent.name}/{path.name.partition('.')[2].removesuffix(SUFFIX)}")
    if lost := manifests - {f"{path.parent.name}/{path.name}" for path in folders}:
        raise CatalogueDamaged(f"the bundle has no release {min(lost)}", advice="export it again")
    return [ReleaseRef.parse(f"{path.parent.name}@{path.name}") for path in folders]


def _refresh(catalogue: KnownCatalogue) -> None:
    with client_of(catalogue) as client:
        client.refresh()


@contextmanager
def _alone(target: Path) -> Iterator[None]:
    files = CatalogueFiles(target)
    files.make()
    with files.alone():
        yield


def _publish(seen: _Seen, unpacked: Path, target: Path) -> None:
    catalogue = Catalogue(target)
    for listed in seen.releases:
        name, version = listed.listing.name, listed.listing.version
        if catalogue.has(name, version):
            require_same(catalogue.folder(name, version), _digest(listed.manifest))
            continue
        with catalogue.staged(name, version) as staged:
            os.rename(unpacked / TARGETS / name / str(version), staged)  # noqa: PTH104 - onto an empty directory
            catalogue.commit(staged, name, version)
    CatalogueFiles(target).write(Write(path, raw) for path, raw in seen.documents())


def _digest(raw: bytes) -> str:
    return hashlib.sha256(raw).hexdigest()
