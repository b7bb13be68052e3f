"""Releases that a catalogue lists, and their verification. Proof or an error, never a bool.

Whoever names a catalogue wants to know what its makers say now. So it is read as a TUF client reads it (The Update
Framework, specification 1.0.34), and beside the rules of `signing.verify` there are

19. The catalogue follows from the root that this machine trusts, is not older than it was here before, and has not
    expired. What it says is signed by enough of the keys that its root names.
20. It lists the release, and has not revoked it.
21. The manifest is the one that it lists, by length and SHA-256.
22. The name and the version that were signed are those that it lists. A folder of the release has that very manifest.

The trust file of rule 1 is the catalogue's own trust policy, which its `targets` key has signed, unless one is named.
"""

import os
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, nullcontext
from dataclasses import dataclass, replace
from hashlib import sha256
from pathlib import Path
from tempfile import TemporaryFile

from imagefactory.errors import CatalogueMixed, CatalogueUnreachable, DiskFull, FormatUnsupported, VersionMismatch
from imagefactory.model.listing import STABLE, Listing
from imagefactory.model.release import ReleaseRef
from imagefactory.steps.verify import Expectation, Proof, VerifiedImage
from imagefactory.tools.catalogue_files import WebFolder, reading
from imagefactory.tools.known_catalogue import KnownCatalogue
from imagefactory.tools.tuf_client import CatalogueClient, Role, warning
from imagefactory.tools.tuf_fetch import CHUNK
from signing.account import Account, read_rules
from signing.digest import Digests, OnBytes, open_regular
from signing.fields import format_time
from signing.manifest import MANIFEST_FILE, FormatEntry
from signing.trust import decode_trust
from signing.verify import FOLDER_RULES, MANIFEST_RULES, RULES, Files, VerifiedManifest, opened, verify_file
from signing.verify import verify_folder as verify_files

CATALOGUE_RULES = read_rules(__doc__)
PREFERRED = ("qcow2", "raw", "iso")


@dataclass(frozen=True)
class Listed:
    """A release as a catalogue lists it. `manifest` are the bytes that it names, whose signature nobody has verified
    yet; `expectation` has the keys to do that with; `facts` are sentences for people."""

    catalogue: KnownCatalogue
    listing: Listing
    manifest: bytes
    expectation: Expectation
    facts: tuple[str, ...]

    @property
    def warnings(self) -> tuple[str, ...]:
        """Those of the facts that nobody should miss."""
        return _warnings(self.listing)

    @property
    def folder(self) -> str:
        """Where its files are: a path or an address."""
        return self.catalogue.folder(self.listing.ref)

    def verified(self, account: Account | None = None) -> VerifiedManifest:
        """The manifest, verified (rules 3 to 11 and 22). Raises VersionMismatch, errors of the room signing."""
        account = account or Account({**RULES, **CATALOGUE_RULES}, (*MANIFEST_RULES, 22))
        signed = self.expectation.manifest(self.manifest, account)
        self.require(signed, account)
        return signed

    def require(self, signed: VerifiedManifest, account: Account) -> None:
        """See that a verified manifest is the one that is listed (rule 22). Raises VersionMismatch, CatalogueMixed."""
        said = f"{signed.manifest.name}@{signed.manifest.version}"
        if said != str(self.listing.ref):
            raise VersionMismatch(
                f"{self.catalogue.address} lists {said} as {self.listing.ref}", advice="tell its makers"
            )
        if signed.sha256 != sha256(self.manifest).hexdigest():
            raise CatalogueMixed(f"{self.folder} has another {MANIFEST_FILE} than is listed")
        account.passed(22, said)


def listed_account() -> Account:
    """An account of the rules for a release in a catalogue."""
    plan = (19, 1, 20, 21, 2, *MANIFEST_RULES, *FOLDER_RULES, 22)
    return Account({**RULES, **CATALOGUE_RULES}, plan)


@contextmanager
def client_of(catalogue: KnownCatalogue) -> Iterator[CatalogueClient]:
    """A client of a catalogue, which holds its trust store. Raises CatalogueUntrusted, Busy, TrustStoreUnusable."""
    with CatalogueClient(catalogue.address, catalogue.store, root=catalogue.root()) as client:
        yield client


def listed_release(
    catalogue: KnownCatalogue,
    ref: ReleaseRef,
    expectation: Expectation,
    account: Account | None = None,
    *,
    channel: str = STABLE,
) -> Listed:
    """A release in a catalogue (rules 19, 1, 20 and 21), the newest one that is offered on `channel` if `ref` has no
    version.

    Raises CatalogueUntrusted and what else `CatalogueClient` raises; NoTrustRoot, TrustInvalid.
    """
    with client_of(catalogue) as client:
        return listed_of(client, catalogue, ref, expectation, account, channel=channel)


def listed_of(
    client: CatalogueClient,
    catalogue: KnownCatalogue,
    ref: ReleaseRef,
    expectation: Expectation,
    account: Account | None = None,
    *,
    channel: str = STABLE,
) -> Listed:
    """The same with a client of that catalogue."""
    account = account or listed_account()
    seen = _seen(client.roles())
    account.passed(19, seen)
    believing = believed(client, expectation)
    believing.begin(account)
    listing = client.release(ref.name, ref.version) if ref.version else client.newest(ref.name, channel)
    account.passed(20, f"{listing.ref}, {listing.state} on {listing.channel}")
    manifest = client.manifest(listing.name, listing.version)
    account.passed(21, f"sha256:{sha256(manifest).hexdigest()}")
    facts = (f"listed by {catalogue.address}, {seen}", *_warnings(listing))
    return Listed(catalogue, listing, manifest, believing, facts)


def pinned(expectation: Expectation, ref: ReleaseRef) -> Expectation:
    """Whoever asks for a name in a catalogue has pinned it."""
    return replace(expectation, name=expectation.name or ref.name)


def believed(client: CatalogueClient, expectation: Expectation) -> Expectation:
    """With the keys that a catalogue's own trust policy names, unless a trust file was named.

    Raises NoTrustRoot, TrustInvalid, and what `CatalogueClient` raises.
    """
    if expectation.trust is not None:
        return expectation
    return replace(expectation, trust=decode_trust(client.trust_policy()))


def verify_listed(
    catalogue: KnownCatalogue,
    ref: ReleaseRef,
    expectation: Expectation,
    *,
    on_bytes: OnBytes | None = None,
    account: Account | None = None,
    channel: str = STABLE,
) -> Proof:
    """Verify every byte of a release in a catalogue, of the newest one on `channel` if `ref` has no version.

    Raises what `listed_release` raises, errors of `tools.catalogue_files` and of the room signing.
    """
    account = account or listed_account()
    listed = listed_release(catalogue, ref, pinned(expectation, ref), account, channel=channel)
    return verify_bytes(listed, on_bytes=on_bytes, account=account)


def verify_bytes(
    listed: Listed, files: Files | None = None, *, on_bytes: OnBytes | None = None, account: Account | None = None
) -> Proof:
    """Verify every byte of a release that was looked up; `files` are its files, by default where the catalogue has
    them. Raises like `verify_listed`."""
    account = account or Account({**RULES, **CATALOGUE_RULES}, (2, *MANIFEST_RULES, *FOLDER_RULES, 22))
    expectation = listed.expectation
    with nullcontext(files) if files else files_of(listed) as source:
        proved = verify_files(
            source,
            expectation.keys,
            now=expectation.now,
            name=expectation.name,
            min_version=expectation.oldest,
            on_bytes=on_bytes,
            account=account,
        )
    listed.require(proved.manifest, account)
    found = {name: digests.sha256 for name, digests in proved.files.items()}
    return Proof(listed.folder, proved.manifest, found, (*proved.facts, *listed.facts), listed.warnings)


@contextmanager
def listed_image(
    catalogue: KnownCatalogue,
    ref: ReleaseRef,
    expectation: Expectation,
    *,
    work: Path,
    on_bytes: OnBytes | None = None,
    channel: str = STABLE,
) -> Iterator[VerifiedImage]:
    """The image of a release, verified and open; of its formats qcow2 before raw. Over a network it is downloaded to a
    nameless file in the directory `work` first. Raises like `verify_listed`."""
    listed = listed_release(catalogue, ref, pinned(expectation, ref), channel=channel)
    signed = listed.verified()
    entry = format_of(signed, None)
    with _downloaded(listed, entry, work) if catalogue.is_web else _opened(listed, entry) as descriptor:
        verified = verify_file(descriptor, signed, on_bytes=on_bytes)
        files, facts = {verified.file: verified.digests.sha256}, (*verified.facts, *listed.facts)
        proof = Proof(listed.folder, signed, files, facts, listed.warnings)
        yield VerifiedImage(descriptor, verified.format, proof)


def format_of(signed: VerifiedManifest, wanted: str | None) -> FormatEntry:
    """The format of a release that is wanted, or the first that it has of qcow2, raw, iso. Raises FormatUnsupported."""
    formats = signed.manifest.formats
    for each in PREFERRED if wanted is None else (wanted,):
        if each in formats:
            return formats[each]
    ref = f"{signed.manifest.name}@{signed.manifest.version}"
    raise FormatUnsupported(f"{ref} has no {wanted}, only {', '.join(formats)}", advice="name one of these")


def _warnings(listing: Listing) -> tuple[str, ...]:
    told = warning(listing)
    return (told,) if told else ()


def _seen(roles: Sequence[Role]) -> str:
    """Which state of a catalogue that is, and until when it is the newest."""
    by_name = {role.name: role for role in roles}
    fresh = min(role.expires for role in roles)
    return f"version {by_name['snapshot'].version} of it, fresh until {format_time(fresh)}"


class _ListedFiles(Files):
    """Files whose manifest has to be the listed one, before anything else is read."""

    def __init__(self, files: Files, listed: Listed) -> None:
        self._files, self._listed = files, listed

    def names(self) -> set[str] | None:
        return self._files.names()

    def document(self, name: str) -> bytes:
        raw = self._files.document(name)
        if name == MANIFEST_FILE and raw != self._listed.manifest:
            raise CatalogueMixed(f"{self._listed.folder} has another {MANIFEST_FILE} than is listed")
        return raw

    def digests(self, name: str, size: int | None, on_bytes: OnBytes | None) -> Digests:
        return self._files.digests(name, size, on_bytes)


@contextmanager
def files_of(listed: Listed) -> Iterator[Files]:
    """The files of a release where the catalogue has them. Raises CatalogueUnreachable, and as it says while they are
    read."""
    if listed.catalogue.is_web:
        yield _ListedFiles(WebFolder(listed.folder), listed)
        return
    folder = Path(listed.folder)
    if not folder.is_dir():
        raise CatalogueUnreachable(f"{folder} is not there, and the catalogue lists it")
    with opened(folder) as files:
        yield _ListedFiles(files, listed)


@contextmanager
def _opened(listed: Listed, entry: FormatEntry) -> Iterator[int]:
    descriptor = open_regular(Path(listed.folder) / entry.file)
    try:
        yield descriptor
    finally:
        os.close(descriptor)


@contextmanager
def _downloaded(listed: Listed, entry: FormatEntry, work: Path) -> Iterator[int]:
    with TemporaryFile(dir=work) as file:
        with reading(f"{listed.folder}/{entry.file}", entry.size) as (_, stream):
            try:
                while piece := stream.read(CHUNK):
                    file.write(piece)
                file.flush()
            except OSError as error:
                raise DiskFull(f"the image cannot be kept: {error.strerror}") from error
        # The same nameless file, for reading only: nobody writes to it any more, and QEMU wants it so.
        descriptor = os.open(f"/proc/self/fd/{file.fileno()}", os.O_RDONLY | os.O_CLOEXEC)
        try:
            yield descriptor
        finally:
            os.close(descriptor)
