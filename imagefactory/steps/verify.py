"""Verification of a target: a file, or catalogue:PATH/NAME[@VERSION]. Proof or an error, never a bool."""

import os
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, replace
from datetime import datetime
from pathlib import Path
from typing import Any, Self

from imagefactory.errors import TargetUnsupported, UsageError, VersionMismatch
from imagefactory.model.release import ReleaseRef, Version
from imagefactory.model.target import CATALOGUE
from imagefactory.tools.catalogue import Catalogue, split_target
from signing.digest import open_regular, read_document
from signing.manifest import MANIFEST_FILE
from signing.manifest import Version as SignedVersion
from signing.trust import Trust
from signing.verify import VerifiedManifest, verify_file, verify_folder, verify_manifest


@dataclass(frozen=True)
class Expectation:
    """What must be true besides the signatures: the trusted keys, the time, and what is pinned."""

    trust: Trust
    now: datetime
    name: str | None = None
    min_version: Version | None = None

    @property
    def oldest(self) -> SignedVersion | None:
        return SignedVersion.parse(str(self.min_version)) if self.min_version else None

    def manifest(self, raw: bytes) -> VerifiedManifest:
        return verify_manifest(raw, self.trust, now=self.now, name=self.name, min_version=self.oldest)


@dataclass(frozen=True)
class Proof:
    """What was proved about a target. `facts` are sentences, `files` maps each verified file to its SHA-256."""

    target: str
    name: str
    version: str
    keyid: str
    manifest_sha256: str
    created: datetime
    expires: datetime | None
    development: bool
    name_pinned: bool
    files: dict[str, str]
    facts: tuple[str, ...]

    @classmethod
    def of(cls, target: str, signed: VerifiedManifest, files: dict[str, str], facts: tuple[str, ...]) -> Self:
        """What was proved about a target by a manifest that was verified."""
        manifest = signed.manifest
        return cls(
            target=target,
            name=manifest.name,
            version=str(manifest.version),
            keyid=signed.keyid,
            manifest_sha256=signed.sha256,
            created=manifest.created,
            expires=manifest.expires,
            development=signed.development,
            name_pinned=signed.name_pinned,
            files=files,
            facts=facts,
        )

    def to_json(self) -> dict[str, Any]:
        return {
            **vars(self),
            "created": self.created.isoformat(),
            "expires": self.expires.isoformat() if self.expires else None,
            "facts": list(self.facts),
        }


@dataclass(frozen=True)
class VerifiedImage:
    """An open image that was verified by this very descriptor."""

    descriptor: int
    format: str
    proof: Proof


def verify(
    target: str,
    expectation: Expectation,
    *,
    manifest: Path | None = None,
    on_bytes: Callable[[int], None] | None = None,
) -> Proof:
    """Verify a file or a published release. `manifest` is for a file whose manifest lies elsewhere.

    Raises UsageError, TargetUnsupported, ReleaseUnknown, VersionMismatch, and errors of the room signing.
    """
    _refuse_a_second_manifest(target, manifest)
    if target.startswith(CATALOGUE):
        return verify_catalogue(target, expectation, on_bytes)
    scheme, colon, _ = target.partition(":")
    if colon and scheme.isalpha() and not Path(target).exists():
        raise TargetUnsupported(f"{target}: targets of kind {scheme} are not known")
    with verified_file(Path(target), expectation, manifest=manifest, on_bytes=on_bytes) as image:
        return image.proof


def verify_catalogue(target: str, expectation: Expectation, on_bytes: Callable[[int], None] | None = None) -> Proof:
    """Verify every byte of a published release. Raises like `verify`."""
    root, ref = split_target(target.removeprefix(CATALOGUE))
    return _folder(target, root, ref, expectation, on_bytes)


@contextmanager
def verified_file(
    path: Path,
    expectation: Expectation,
    *,
    manifest: Path | None = None,
    on_bytes: Callable[[int], None] | None = None,
) -> Iterator[VerifiedImage]:
    """A verified image, open: what was verified is what is used.

    Raises errors of the room signing.
    """
    with _open(path) as descriptor:
        signed = expectation.manifest(read_document(manifest or path.with_name(MANIFEST_FILE)))
        yield _verified(descriptor, path, signed, on_bytes)


@contextmanager
def verified_image(
    target: str,
    expectation: Expectation,
    *,
    manifest: Path | None = None,
    on_bytes: Callable[[int], None] | None = None,
) -> Iterator[VerifiedImage]:
    """The image that a target names, verified and open; of a release's formats qcow2 before raw. Only that image is
    read. Raises like `verify`."""
    _refuse_a_second_manifest(target, manifest)
    if not target.startswith(CATALOGUE):
        with verified_file(Path(target), expectation, manifest=manifest, on_bytes=on_bytes) as image:
            yield image
        return
    root, ref = split_target(target.removeprefix(CATALOGUE))
    folder = Catalogue(root).find(ref)
    signed = _pinned(expectation, ref).manifest(read_document(folder / MANIFEST_FILE))
    _check_version(folder, str(signed.manifest.version))
    formats = signed.manifest.formats
    path = folder / formats["qcow2" if "qcow2" in formats else next(iter(formats))].file
    with _open(path) as descriptor:
        yield _verified(descriptor, path, signed, on_bytes)


def _pinned(expectation: Expectation, ref: ReleaseRef) -> Expectation:
    """Whoever asks for a name in a catalogue has pinned it."""
    return replace(expectation, name=expectation.name or ref.name)


def _refuse_a_second_manifest(target: str, manifest: Path | None) -> None:
    if manifest is not None and target.startswith(CATALOGUE):
        raise UsageError("--manifest is for a file: a catalogue has its own", advice="leave --manifest out")


@contextmanager
def _open(path: Path) -> Iterator[int]:
    descriptor = open_regular(path)
    try:
        yield descriptor
    finally:
        os.close(descriptor)


def _verified(
    descriptor: int, path: Path, signed: VerifiedManifest, on_bytes: Callable[[int], None] | None
) -> VerifiedImage:
    verified = verify_file(descriptor, signed, on_bytes=on_bytes)
    proof = Proof.of(str(path), signed, {verified.file: verified.digests.sha256}, verified.facts)
    return VerifiedImage(descriptor, verified.format, proof)


def _folder(
    target: str,
    root: Path,
    ref: ReleaseRef,
    expectation: Expectation,
    on_bytes: Callable[[int], None] | None,
) -> Proof:
    folder = Catalogue(root).find(ref)
    proved = verify_folder(
        folder,
        expectation.trust,
        now=expectation.now,
        name=_pinned(expectation, ref).name,
        min_version=expectation.oldest,
        on_bytes=on_bytes,
    )
    signed = proved.manifest
    _check_version(folder, str(signed.manifest.version))
    files = {name: digests.sha256 for name, digests in proved.files.items()}
    facts = (*signed.facts, f"provenance signed by builder key {proved.provenance_keyid[:16]}")
    return Proof.of(target, signed, files, facts)


def _check_version(folder: Path, version: str) -> None:
    """A folder that was renamed offers an old release as a new one."""
    if folder.name != version:
        raise VersionMismatch(
            f"{folder} holds version {version}", advice="use a catalogue that nobody has rearranged; publish again"
        )
