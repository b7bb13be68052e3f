"""Verification of a target: a file, a folder, or catalogue:PATH/NAME[@VERSION]. Proof or an error, never a bool.

The rules are those of `signing.verify`, and for a catalogue one more:

19. The folder is called as the version that was signed. A renamed folder would offer an old release as a new one.
"""

import os
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, replace
from datetime import datetime
from pathlib import Path
from typing import Any

from imagefactory.errors import TargetUnsupported, UsageError, VersionMismatch
from imagefactory.model.release import ReleaseRef, Version
from imagefactory.model.target import CATALOGUE
from imagefactory.tools.catalogue import Catalogue, split_target
from signing.account import Account, read_rules
from signing.digest import open_regular, read_document
from signing.manifest import MANIFEST_FILE
from signing.manifest import Version as SignedVersion
from signing.trust import Trust
from signing.verify import (
    BEGINNING,
    FILE_RULES,
    FOLDER_RULES,
    MANIFEST_RULES,
    RULES,
    VerifiedManifest,
    verify_file,
    verify_folder,
    verify_manifest,
)

CATALOGUE_RULES = read_rules(__doc__)


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

    def manifest(self, raw: bytes, account: Account | None = None) -> VerifiedManifest:
        return verify_manifest(raw, self.trust, now=self.now, name=self.name, min_version=self.oldest, account=account)

    def begin(self, account: Account) -> None:
        """Report the first rule: whoever has a `Trust` has read it by all its rules."""
        account.passed(1, f"{len(self.trust.release)} release and {len(self.trust.provenance)} provenance keys")


@dataclass(frozen=True)
class Proof:
    """What was proved about a target by the manifest `signed`. `facts` are sentences, `files` maps each verified file
    to its SHA-256."""

    target: str
    signed: VerifiedManifest
    files: dict[str, str]
    facts: tuple[str, ...]

    @property
    def release(self) -> str:
        return f"{self.signed.manifest.name}@{self.signed.manifest.version}"

    def to_json(self) -> dict[str, Any]:
        return {"target": self.target, **self.signed.to_json(), "files": self.files, "facts": list(self.facts)}


def account_of(target: str) -> Account:
    """An account of the rules for a file, a folder or a release in a catalogue."""
    if target.startswith(CATALOGUE):
        return Account({**RULES, **CATALOGUE_RULES}, (*BEGINNING, *MANIFEST_RULES, *FOLDER_RULES, *CATALOGUE_RULES))
    return Account(RULES, (*BEGINNING, *MANIFEST_RULES, *(FOLDER_RULES if _is_folder(target) else FILE_RULES)))


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
    account: Account | None = None,
) -> Proof:
    """Verify a file, a folder or a published release. `manifest` is for a file whose manifest lies elsewhere.

    Raises UsageError, TargetUnsupported, ReleaseUnknown, VersionMismatch, and errors of the room signing.
    """
    _check_usage(target, manifest)
    account = account or account_of(target)
    if target.startswith(CATALOGUE):
        return verify_catalogue(target, expectation, on_bytes, account)
    if _is_folder(target):
        return _folder(target, Path(target), expectation, on_bytes, account)
    scheme, colon, _ = target.partition(":")
    if colon and scheme.isalpha() and not Path(target).exists():
        raise TargetUnsupported(f"{target}: targets of kind {scheme} are not known")
    with verified_file(Path(target), expectation, manifest=manifest, on_bytes=on_bytes, account=account) as image:
        return image.proof


def verify_catalogue(
    target: str,
    expectation: Expectation,
    on_bytes: Callable[[int], None] | None = None,
    account: Account | None = None,
) -> Proof:
    """Verify every byte of a published release. Raises like `verify`."""
    account = account or account_of(target)
    root, ref = split_target(target.removeprefix(CATALOGUE))
    folder = Catalogue(root).find(ref)
    proof = _folder(target, folder, _pinned(expectation, ref), on_bytes, account)
    _check_version(folder, str(proof.signed.manifest.version))
    account.passed(19, folder.name)
    return proof


@contextmanager
def verified_file(
    path: Path,
    expectation: Expectation,
    *,
    manifest: Path | None = None,
    on_bytes: Callable[[int], None] | None = None,
    account: Account | None = None,
) -> Iterator[VerifiedImage]:
    """A verified image, open: what was verified is what is used.

    Raises errors of the room signing.
    """
    account = account or account_of(str(path))
    expectation.begin(account)
    with _open(path) as descriptor:
        account.passed(2, f"opened {str(path)!r}")
        signed = expectation.manifest(read_document(manifest or path.with_name(MANIFEST_FILE)), account)
        yield _verified(descriptor, path, signed, on_bytes, account)


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
    _check_usage(target, manifest)
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


def _is_folder(target: str) -> bool:
    try:
        return Path(target).is_dir()
    except (OSError, ValueError):  # whoever opens it says what is wrong with the name
        return False


def _check_usage(target: str, manifest: Path | None) -> None:
    if not target:  # as a path it would be the current directory
        raise UsageError("the target is empty", advice="name a file, a release folder or catalogue:PATH/NAME[@VERSION]")
    if manifest is not None and (target.startswith(CATALOGUE) or _is_folder(target)):
        raise UsageError("--manifest is for a file: a published release has its own", advice="leave --manifest out")


@contextmanager
def _open(path: Path) -> Iterator[int]:
    descriptor = open_regular(path)
    try:
        yield descriptor
    finally:
        os.close(descriptor)


def _verified(
    descriptor: int,
    path: Path,
    signed: VerifiedManifest,
    on_bytes: Callable[[int], None] | None,
    account: Account | None = None,
) -> VerifiedImage:
    verified = verify_file(descriptor, signed, on_bytes=on_bytes, account=account)
    proof = Proof(str(path), signed, {verified.file: verified.digests.sha256}, verified.facts)
    return VerifiedImage(descriptor, verified.format, proof)


def _folder(
    target: str,
    folder: Path,
    expectation: Expectation,
    on_bytes: Callable[[int], None] | None,
    account: Account,
) -> Proof:
    expectation.begin(account)
    proved = verify_folder(
        folder,
        expectation.trust,
        now=expectation.now,
        name=expectation.name,
        min_version=expectation.oldest,
        on_bytes=on_bytes,
        account=account,
    )
    files = {name: digests.sha256 for name, digests in proved.files.items()}
    return Proof(target, proved.manifest, files, proved.facts)


def _check_version(folder: Path, version: str) -> None:
    """A folder that was renamed offers an old release as a new one."""
    if folder.name != version:
        raise VersionMismatch(
            f"{folder} holds version {version}", advice="use a catalogue that nobody has rearranged; publish again"
        )
