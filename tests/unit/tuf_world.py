"""Keys in memory, a catalogue in a directory, and python-tuf's own client, unmodified, as the judge of it."""

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from datetime import UTC, date, datetime, timedelta
from itertools import count
from pathlib import Path
from tempfile import TemporaryDirectory

import pytest
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.asymmetric.utils import Prehashed
from tuf.api.exceptions import DownloadHTTPError
from tuf.api.metadata import TargetFile  # type: ignore[attr-defined]  # public, but it has no __all__
from tuf.ngclient import FetcherInterface, Updater  # type: ignore[attr-defined]

from imagefactory.factory.authority import issue_ca
from imagefactory.model.listing import Listing, decode_listing, target_path
from imagefactory.model.release import ReleaseRef, Version
from imagefactory.tools import tuf_files
from imagefactory.tools.tuf_repository import TufRepository
from imagefactory.tools.tuf_root import add_signature, first_root, next_root
from signing.keys import Purpose, keyid_of
from signing.signer import GuardedSigner, Signer
from signing.trust import EVERY_NAME, Trust

ROOT_LIFE = timedelta(days=365)


class MemorySigner(GuardedSigner):
    """A new key that lives nowhere."""

    def __init__(self, purpose: Purpose) -> None:
        self._key = ec.generate_private_key(ec.SECP256R1())
        super().__init__(purpose, self._key.public_key())

    def _sign_digest(self, digest: bytes) -> bytes:
        return self._key.sign(digest, ec.ECDSA(Prehashed(hashes.SHA256())))


@dataclass(frozen=True)
class Ring:
    """Two of three root keys sign together."""

    roots: tuple[Signer, ...] = field(default_factory=lambda: tuple(MemorySigner("root") for _ in range(3)))
    targets: Signer = field(default_factory=lambda: MemorySigner("targets"))
    freshness: Signer = field(default_factory=lambda: MemorySigner("freshness"))

    @property
    def online(self) -> tuple[Signer, Signer]:
        return self.targets, self.freshness

    def first(self, now: datetime) -> bytes:
        """A signed root, version 1."""
        keys: dict[Purpose, list[ec.EllipticCurvePublicKey]] = {
            "root": [each.public_key for each in self.roots],
            "targets": [self.targets.public_key],
            "freshness": [self.freshness.public_key],
        }
        return signed(first_root(keys, 2, now + ROOT_LIFE), self.roots[:2])

    def followed_by(self, new: "Ring", current: bytes, now: datetime) -> bytes:
        """The next root, with the keys of `new`, signed by both."""
        keys: dict[Purpose, list[ec.EllipticCurvePublicKey]] = {
            "root": [each.public_key for each in new.roots],
            "targets": [new.targets.public_key],
            "freshness": [new.freshness.public_key],
        }
        return signed(next_root(current, keys, now + ROOT_LIFE), (*self.roots[:2], *new.roots[:2]), current)


def signed(root: bytes, signers: Sequence[Signer], previous: bytes | None = None) -> bytes:
    for signer in signers:
        root = add_signature(root, signer, previous)
    return root


class DirectoryFetcher(FetcherInterface):
    """What a web server would do with a directory."""

    def __init__(self, root: Path) -> None:
        self._root = root

    def _fetch(self, url: str) -> Iterator[bytes]:
        try:
            return iter([(self._root / url).read_bytes()])
        except FileNotFoundError:
            raise DownloadHTTPError(f"{url} is not there", 404) from None


class Client:
    """One client's memory: what it trusts outlives each of its visits."""

    def __init__(self, catalogue: Path, root: bytes, memory: Path) -> None:
        self._catalogue, self._root, self.memory = catalogue, root, memory
        memory.mkdir(parents=True, exist_ok=True)

    def _refreshed(self) -> Updater:
        updater = Updater(
            str(self.memory), "metadata", str(self.memory), "targets", DirectoryFetcher(self._catalogue),
            bootstrap=self._root,
        )  # fmt: skip
        updater.refresh()
        return updater

    def trust(self) -> bytes | None:
        """The trust policy of the catalogue, fetched. Raises what python-tuf raises."""
        updater = self._refreshed()
        target: TargetFile | None = updater.get_targetinfo("trust.json")
        if target is None:
            return None
        return Path(updater.download_target(target, str(self.memory / "policy"))).read_bytes()

    def see(self, refs: Sequence[ReleaseRef]) -> dict[str, Listing]:
        """What the catalogue says now of `refs`, each manifest fetched. Raises what python-tuf raises."""
        updater, found = self._refreshed(), {}
        for ref in refs:
            assert ref.version is not None
            target: TargetFile | None = updater.get_targetinfo(target_path(ref.name, ref.version))
            if target is not None:
                fetched = Path(updater.download_target(target, str(self.memory / "manifest")))
                assert fetched.read_bytes() == manifest(ref)
                found[str(ref)] = decode_listing(target.path, target.custom)
        return found


def see(catalogue: Path, root: bytes, refs: Sequence[ReleaseRef]) -> dict[str, Listing]:
    """What somebody sees who has never been here."""
    with TemporaryDirectory() as memory:
        return Client(catalogue, root, Path(memory)).see(refs)


def manifest(ref: ReleaseRef) -> bytes:
    return f'{{"release": "{ref}"}}\n'.encode() * 50


def release(name: str, number: int = 1) -> Listing:
    return Listing(name, Version(20251121, number), "debian", "12", "x86_64", provided_until=date(2026, 11, 21))


def trust_file(*, development: bool = True) -> bytes:
    """A trust file with keys that nobody has."""
    release, provenance = (MemorySigner(each).public_key for each in ("release", "provenance"))
    ca = issue_ca(ec.generate_private_key(ec.SECP384R1()), "CA", moment())
    keys, builders = {keyid_of(release): release}, {keyid_of(provenance): provenance}
    return Trust(development, keys, builders, (ca,), dict.fromkeys((*keys, *builders), (EVERY_NAME,))).encode()


def publish(repository: TufRepository, listing: Listing, now: datetime) -> None:
    repository.list_release(listing, manifest(listing.ref), now)


def moment() -> datetime:
    """The clock that python-tuf's client looks at."""
    return datetime.now(UTC).replace(microsecond=0)


class Killed(BaseException):
    """kill -9, as far as the disk can tell."""


def dying(write: Callable[[Path, bytes], None], nth: int, after: bool) -> Callable[[Path, bytes], None]:
    """A write_file that dies before, or after, the `nth` write (from 0)."""
    left = nth

    def write_or_die(path: Path, content: bytes) -> None:
        nonlocal left
        if left == 0 and not after:
            raise Killed
        write(path, content)
        if left == 0:
            raise Killed
        left -= 1

    return write_or_die


def deaths(monkeypatch: pytest.MonkeyPatch, begin: Callable[[], Callable[[], object]]) -> Iterator[bool]:
    """Begin anew and die before, or after, the first write, then the second, until one life was long enough."""
    write = tuf_files.write_file
    for nth in count():
        for after in (False, True):
            act = begin()
            monkeypatch.setattr(tuf_files, "write_file", dying(write, nth, after))
            killed = False
            try:
                act()
            except Killed:
                killed = True
            monkeypatch.setattr(tuf_files, "write_file", write)
            yield killed
            if not killed:
                assert nth > 0, "nothing was written"
                return
