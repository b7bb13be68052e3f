"""Verification of a file or a folder, by the rules of `signing.verify`. Proof or an error, never a bool."""

import os
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path
from typing import Any

from imagefactory.errors import TargetUnsupported, UsageError
from imagefactory.model.release import Version
from signing.account import Account
from signing.digest import open_regular, read_document
from signing.errors import NoTrustRoot
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


@dataclass(frozen=True)
class Expectation:
    """What must be true besides the signatures: the trusted keys, the time, and what is pinned.

    Without `trust`, a catalogue's own trust policy is believed, and nothing else.
    """

    trust: Trust | None
    now: datetime
    name: str | None = None
    min_version: Version | None = None

    @property
    def keys(self) -> Trust:
        """The trusted keys. Raises NoTrustRoot."""
        if self.trust is None:
            raise NoTrustRoot("no trust file was named, and no catalogue was asked for its own")
        return self.trust

    @property
    def oldest(self) -> SignedVersion | None:
        return SignedVersion.parse(str(self.min_version)) if self.min_version else None

    def manifest(self, raw: bytes, account: Account | None = None) -> VerifiedManifest:
        return verify_manifest(raw, self.keys, now=self.now, name=self.name, min_version=self.oldest, account=account)

    def begin(self, account: Account) -> None:
        """Report the first rule: whoever has a `Trust` has read it by all its rules. Raises NoTrustRoot."""
        account.passed(1, f"{len(self.keys.release)} release and {len(self.keys.provenance)} provenance keys")


@dataclass(frozen=True)
class Proof:
    """What was proved about a target by the manifest `signed`. `facts` are sentences, and `warnings` those of them that
    nobody should miss; `files` maps each verified file to its SHA-256."""

    target: str
    signed: VerifiedManifest
    files: dict[str, str]
    facts: tuple[str, ...]
    warnings: tuple[str, ...] = ()

    @property
    def release(self) -> str:
        return f"{self.signed.manifest.name}@{self.signed.manifest.version}"

    def to_json(self) -> dict[str, Any]:
        said = {"files": self.files, "facts": list(self.facts), "warnings": list(self.warnings)}
        return {"target": self.target, **self.signed.to_json(), **said}


def account_of(target: str) -> Account:
    """An account of the rules for a file or a folder."""
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
    """Verify a file or a folder. `manifest` is for a file whose manifest lies elsewhere.

    Raises UsageError, TargetUnsupported, and errors of the room signing.
    """
    require_path(target)
    if manifest is not None and _is_folder(target):
        raise UsageError("--manifest is for a file: a folder has its own", advice="leave --manifest out")
    account = account or account_of(target)
    if _is_folder(target):
        return _folder(target, Path(target), expectation, on_bytes, account)
    scheme, colon, _ = target.partition(":")
    if colon and scheme.isalpha() and not Path(target).exists():
        raise TargetUnsupported(f"{target}: targets of kind {scheme} are not known")
    with verified_file(Path(target), expectation, manifest=manifest, on_bytes=on_bytes, account=account) as image:
        return image.proof


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


def _is_folder(target: str) -> bool:
    try:
        return Path(target).is_dir()
    except (OSError, ValueError):  # whoever opens it says what is wrong with the name
        return False


def require_path(target: str) -> None:
    """An empty target would be the current directory. Raises UsageError."""
    if not target:
        raise UsageError(
            "the target is empty", advice="name a file, a release folder or catalogue:WHERE/NAME[@VERSION]"
        )


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
        expectation.keys,
        now=expectation.now,
        name=expectation.name,
        min_version=expectation.oldest,
        on_bytes=on_bytes,
        account=account,
    )
    files = {name: digests.sha256 for name, digests in proved.files.items()}
    return Proof(target, proved.manifest, files, proved.facts)
