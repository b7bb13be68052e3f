"""Targets: what strangers write into catalogues, with the keys and without."""

import io
import json
import stat
import tarfile
from collections.abc import Iterator
from contextlib import suppress
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any, Final

from tuf.api.metadata import Metadata, MetaFile  # type: ignore[attr-defined]  # public, but it has no __all__
from tuf.api.serialization import DeserializationError, SerializationError

from imagefactory.errors import CatalogueDamaged, FactoryError
from imagefactory.model.release import ReleaseRef
from imagefactory.tools.tar_bundle import packing, unpack
from imagefactory.tools.tuf_client import CatalogueClient
from imagefactory.tools.tuf_files import metadata_path
from imagefactory.tools.tuf_repository import TufRepository
from imagefactory.tools.tuf_signer import TufSigner, sign_metadata
from signing.errors import SigningError
from tests.fuzz.memory import directory
from tests.unit.tuf_world import Ring, manifest, moment, publish, release, trust_file

NAME: Final = "debian-12"
ROLES: Final = ("timestamp", "snapshot", "targets", NAME)
DIGEST: Final = "0a" * 32
CARRIED: Final = {
    "metadata/1.root.json": b"{}",
    "metadata/timestamp.json": b"{}",
    f"targets/{DIGEST}.trust.json": b"{}",
    f"targets/{NAME}/{DIGEST}.20251121.1.sigstore.json": b"{}",
    f"targets/{NAME}/20251121.1/{NAME}-20251121.1.qcow2": b"QFI\xfb" * 200,
}


def bundle_tar(raw: bytes) -> None:
    """What comes out of a bundle are plain files of a catalogue, or nothing is said but that it is none. What it has
    can be carried again."""
    with directory() as folder:
        bundle, out, whole = folder / "bundle.tar", folder / "out", False
        bundle.write_bytes(raw)
        out.mkdir()
        with suppress(CatalogueDamaged):
            unpack(bundle, out)
            whole = True
        assert {path.name for path in folder.iterdir()} == {"bundle.tar", "out"}, "something beside it"
        found = {}
        for path in out.rglob("*"):
            kind = path.lstat().st_mode
            assert stat.S_ISREG(kind) or stat.S_ISDIR(kind), "something that is no file"
            if stat.S_ISREG(kind):
                found[str(path.relative_to(out))] = path.read_bytes()
        assert sum(map(len, found.values())) <= len(raw), "more came out than was in it"
        assert {name.split("/")[0] for name in found} <= {"metadata", "targets"}
        if whole:
            _carried_again(found)


def _carried_again(found: dict[str, bytes]) -> None:
    with directory() as scratch:
        with packing(scratch / "bundle.tar") as packer:
            for path, content in found.items():
                packer.add(path, content)
        (scratch / "out").mkdir()
        unpack(scratch / "bundle.tar", scratch / "out")
        for path, content in found.items():
            assert (scratch / "out" / path).read_bytes() == content


def packed(files: dict[str, bytes], form: int) -> bytes:
    made = io.BytesIO()
    with tarfile.open(fileobj=made, mode="w:", format=form) as tar:
        for path, content in files.items():
            member = tarfile.TarInfo(path)
            member.size = len(content)
            member.pax_headers = {"comment": "x"} if form == tarfile.PAX_FORMAT else {}
            tar.addfile(member, io.BytesIO(content))
    return made.getvalue()


def catalogue_metadata(raw: bytes) -> None:
    """The metadata of one role, which the first byte chooses. It lies there as it is; and if it is metadata at all, as
    somebody wrote it who has the keys. Publishers and readers refuse it, or find in it what may be in it."""
    if not raw:
        return
    role, document = ROLES[raw[0] % len(ROLES)], raw[1:]
    _look({**world().files, world().path(role): document})
    _look_at_signed(role, document)


def catalogue_value(raw: bytes) -> None:
    """Somebody with the keys wrote another value into the metadata of a role. The first byte chooses the role, two more
    where; the others are the value, as JSON or as text."""
    if len(raw) < 4:
        return
    role = ROLES[raw[0] % len(ROLES)]
    document = json.loads(world().files[world().path(role)])
    try:
        value = json.loads(raw[3:])
    except (ValueError, RecursionError):
        value = raw[3:].decode(errors="replace")
    places = list(_places(document["signed"]))
    holder, key = places[int.from_bytes(raw[1:3], "big") % len(places)]
    holder[key] = value
    _look_at_signed(role, json.dumps(document).encode())


def _places(document: object) -> Iterator[tuple[Any, Any]]:
    """Where a value is in JSON: what holds it, and its key there."""
    keys = list(document) if isinstance(document, dict) else range(len(document)) if isinstance(document, list) else ()
    holder: Any = document
    for key in keys:
        yield holder, key
        yield from _places(holder[key])


def _look_at_signed(role: str, document: bytes) -> None:
    try:
        written = world().rewritten(role, document)
    except (DeserializationError, SerializationError, ValueError, RecursionError):
        return
    _look({**world().files, **written})


@dataclass(frozen=True)
class World:
    """A catalogue, by path; its keys; and its root."""

    files: dict[str, bytes]
    ring: Ring
    root: bytes

    def path(self, role: str) -> str:
        """Where the newest metadata of a role is."""
        if role == "timestamp":
            return metadata_path(role, None)
        return max((path for path in self.files if path.endswith(f".{role}.json")), key=lambda path: (len(path), path))

    def rewritten(self, role: str, document: bytes) -> dict[str, bytes]:
        """A role's metadata with these words, and all that names it, with good signatures.

        Raises DeserializationError, SerializationError, ValueError.
        """
        metadata = Metadata[Any].from_bytes(document)
        found = [self._write(role, metadata)]
        if role not in {"snapshot", "timestamp"}:
            snapshot = Metadata[Any].from_bytes(self.files[self.path("snapshot")])
            snapshot.signed.meta[f"{role}.json"] = MetaFile.from_data(metadata.signed.version, found[-1][1], ["sha256"])
            metadata = snapshot
            found.append(self._write("snapshot", metadata))
        if role != "timestamp":
            timestamp = Metadata[Any].from_bytes(self.files[self.path("timestamp")])
            timestamp.signed.snapshot_meta = MetaFile.from_data(metadata.signed.version, found[-1][1], ["sha256"])
            found.append(self._write("timestamp", timestamp))
        return dict(found)

    def _write(self, role: str, metadata: Metadata[Any]) -> tuple[str, bytes]:
        metadata.signatures.clear()
        key = self.ring.freshness if role in {"snapshot", "timestamp"} else self.ring.targets
        sign_metadata(metadata, TufSigner(key))
        return metadata_path(role, None if role == "timestamp" else metadata.signed.version), metadata.to_bytes()


@cache
def world() -> World:
    ring, now = Ring(), moment()
    root = ring.first(now)
    with directory() as folder:
        repository = TufRepository(folder, root, ring.online)
        repository.create(now)
        repository.set_trust(trust_file(), now)
        publish(repository, release(NAME), now)
        found = {str(path.relative_to(folder)): path.read_bytes() for path in folder.rglob("*.json")}
    return World(found, ring, root)


def _look(files: dict[str, bytes]) -> None:
    ref = release(NAME).ref
    with directory() as folder:
        for path, content in files.items():
            (folder / path).parent.mkdir(parents=True, exist_ok=True)
            (folder / path).write_bytes(content)
        repository = TufRepository(folder, world().root, world().ring.online)
        with suppress(FactoryError, SigningError):
            listed = repository.listing(ref)
            assert listed is None or listed.ref == ref
        _read(folder, ref)
        with suppress(FactoryError, SigningError):
            repository.refresh(moment())
            _read(folder, ref)


def _read(catalogue: Path, ref: ReleaseRef) -> None:
    """As a newcomer."""
    assert ref.version is not None
    with (
        directory() as stores,
        suppress(FactoryError, SigningError),
        CatalogueClient(catalogue, stores / "store", root=world().root) as client,
    ):
        for name in client.names():
            assert all(each.name == name for each in client.releases(name))
        assert client.manifest(NAME, ref.version) == manifest(ref)


def seeds() -> tuple[bytes, ...]:
    """Each role as it is."""
    return tuple(bytes([number]) + world().files[world().path(role)] for number, role in enumerate(ROLES))


VALUES: Final = tuple(
    bytes([role, 0, place]) + value
    for role in range(len(ROLES))
    for place in range(0, 32, 8)
    for value in (b"0", b"-1", b"[]", b"{}", b"null", b"../x", b"1e400", b'"9999-12-31T23:59:59Z"')
)


BUNDLES: Final = tuple(packed(CARRIED, form) for form in (tarfile.PAX_FORMAT, tarfile.GNU_FORMAT, tarfile.USTAR_FORMAT))
