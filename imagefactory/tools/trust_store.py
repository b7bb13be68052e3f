"""What this machine remembers of one catalogue, so that nobody can tell it an older story later.

A trust store is a directory (mode 0700) of one user, with

- `pinned.root.json`: the root that trust began with, written when a catalogue first proved to follow from it;
- `address`: where the catalogue was then, for people;
- `last-seen`: the latest time (RFC 3339, UTC) at which the catalogue was read and found current;
- `metadata/`: what python-tuf's Updater verified: `root_history/N.root.json`, `timestamp.json`, `snapshot.json`,
  `targets.json`, and `NAME.json` for image names.

One process at a time uses it; the kernel lets go of the lock when that dies. Python-tuf takes a file that it cannot
read for one that it never had, and would believe an older one then. So where there is a pinned root the others have to
be there and whole, and they are on the disk before it is.
"""

import fcntl
import os
import shutil
import stat
import time
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Final

# These are public, but not in its __all__.
from tuf.api.metadata import Metadata, Root, Snapshot, Targets, Timestamp  # type: ignore[attr-defined]
from tuf.api.serialization import DeserializationError

from imagefactory.errors import Busy, CatalogueUntrusted, ClockBehind, TrustStoreUnusable
from imagefactory.tools.durable import replace_file, sync_directory
from imagefactory.tools.known_catalogue import PINNED
from imagefactory.tools.tuf_fetch import LARGEST
from imagefactory.tools.tuf_files import METADATA, metadata_path
from signing.digest import read_document
from signing.errors import SigningError
from signing.fields import TIME

SLACK: Final = timedelta(minutes=5)  # by which clocks that are set from the network may step back
_BEGIN_AGAIN: Final = "find out who changed it; then move it away, and begin again with a root.json from its makers"
_POLL: Final = 0.05  # seconds


class TrustStore:
    """An open trust store that nobody else uses meanwhile."""

    def __init__(self, directory: Path) -> None:
        self.directory = directory
        self.metadata = directory / "metadata"
        self.download = directory / "download"
        self._pinned = directory / PINNED
        self._address = directory / "address"
        self._seen = directory / "last-seen"

    @property
    def pinned(self) -> bytes | None:
        """The root that trust began with. Raises TrustStoreUnusable."""
        return self._read(self._pinned) if os.path.lexists(self._pinned) else None

    def begin(self, given: bytes | None, now: datetime) -> bytes:
        """The root to begin with: the pinned one, or the one that is `given` where none was pinned yet.

        Raises CatalogueUntrusted (none, or another than the pinned one), ClockBehind, TrustStoreUnusable.
        """
        pinned = self.pinned
        if pinned is None:
            return self._begin_anew(given)
        self._require_whole(now)
        self._sweep()
        if given is not None and given != pinned and given not in self._later_roots():
            raise CatalogueUntrusted(
                f"{self.directory} has pinned another root than the one that was given",
                advice="leave the root out; if the catalogue was made anew, move the trust store away first",
            )
        return pinned

    def settle(self, root: bytes, now: datetime, address: str) -> None:
        """Remember that the catalogue at `address`, which follows from `root`, was current at `now`.

        Raises TrustStoreUnusable.
        """
        with usable(self.directory):
            new = list(self._unsynced())
            for path in new:
                _sync(path)
            for folder in {path.parent for path in new}:
                sync_directory(folder)
            latest = max(now, self._last_seen()) if self._seen.exists() else now
            replace_file(self._seen, f"{_shown(latest)}\n".encode())
            if self.pinned is None:
                replace_file(self._address, os.fsencode(f"{address}\n"))
                replace_file(self._pinned, root)

    def role(self, name: str) -> Targets:
        """What python-tuf verified last of a role of targets. Raises TrustStoreUnusable."""
        signed = self._signed(self._file(name))
        if not isinstance(signed, Targets):
            raise TrustStoreUnusable(f"{self.metadata} is damaged: {name}.json is something else", advice=_BEGIN_AGAIN)
        return signed

    def top(self, name: str) -> Root | Timestamp | Snapshot | Targets:
        """What python-tuf verified last of one of the four roles of every catalogue. Raises TrustStoreUnusable."""
        return self._signed(self._file(name))

    def files(self, names: Iterable[str]) -> dict[str, bytes]:
        """What python-tuf verified last, by its path below the catalogue: the roots since the pinned one, the other
        roles of every catalogue, those of image names. Raises TrustStoreUnusable."""
        found = {}
        for path in sorted(self.metadata.glob("root_history/*.root.json")):
            found[f"{METADATA}/{path.name}"] = self._read(path)
        for name in (Snapshot.type, Targets.type, *names):
            found[metadata_path(name, self._signed(self._file(name)).version)] = self._read(self._file(name))
        return {**found, metadata_path(Timestamp.type, None): self._read(self._file(Timestamp.type))}

    def _unsynced(self) -> Iterator[Path]:
        """The metadata that changed since `last-seen` was written, which comes when all of it is on the disk.

        The root that is pinned is not among it: python-tuf writes that anew whenever it begins. Its `root.json` is a
        link to one of the others.
        """
        since = self._seen.stat().st_ctime_ns if self._seen.exists() else 0
        for path in (*self.metadata.glob("*.json"), *self.metadata.glob("root_history/*.json")):
            if path.is_symlink() or path.stat().st_ctime_ns < since:
                continue
            if self._read(path) != self.pinned:
                yield path

    def _file(self, role: str) -> Path:
        """Python-tuf's `root.json` is a link to the newest root."""
        path = self.metadata / f"{role}.json"
        return Path(os.path.realpath(path)) if role == Root.type else path

    def _begin_anew(self, given: bytes | None) -> bytes:
        if given is None:
            raise CatalogueUntrusted(f"{self.directory} has no root for this catalogue yet")
        if len(given) > LARGEST:
            raise CatalogueUntrusted("the root that was given is too long to be one")
        with usable(self.directory):  # of somebody who never got as far as to trust it
            if self.metadata.exists():
                shutil.rmtree(self.metadata)
            self._seen.unlink(missing_ok=True)
        return given

    def _require_whole(self, now: datetime) -> None:
        last = self._last_seen()
        if now < last - SLACK:
            raise ClockBehind(
                f"here it is {_shown(now)}, and this catalogue was seen at {_shown(last)}",
                advice="set the clock of this machine. If it is right, and was ahead then, "
                f"move {self.directory} away and give the catalogue's root.json again",
            )
        for kind in (Timestamp, Snapshot):
            if not isinstance(self._signed(self.metadata / f"{kind.type}.json"), kind):
                raise TrustStoreUnusable(f"{self.metadata} is damaged: {kind.type}.json", advice=_BEGIN_AGAIN)

    def _sweep(self) -> None:
        """Remove what python-tuf was writing when it was killed."""
        with usable(self.directory):
            for path in self.metadata.glob("tmp*"):
                path.unlink()

    def _later_roots(self) -> list[bytes]:
        return [self._read(path) for path in self.metadata.glob("root_history/*.root.json")]

    def _last_seen(self) -> datetime:
        text = self._read(self._seen).decode("ascii", "replace").removesuffix("\n")
        try:
            if TIME.fullmatch(text):
                return datetime.fromisoformat(text)
        except ValueError:
            pass
        raise TrustStoreUnusable(f"{self._seen} is damaged: it holds no time", advice=_BEGIN_AGAIN)

    def _signed(self, path: Path) -> Root | Timestamp | Snapshot | Targets:
        try:
            found: Root | Timestamp | Snapshot | Targets = Metadata.from_bytes(self._read(path)).signed
        except DeserializationError:
            raise TrustStoreUnusable(f"{path} is damaged: it holds no metadata", advice=_BEGIN_AGAIN) from None
        return found

    def _read(self, path: Path) -> bytes:
        with usable(self.directory, _BEGIN_AGAIN):
            return read_document(path, most=LARGEST)


@contextmanager
def trust_store(directory: Path, patience: float) -> Iterator[TrustStore]:
    """Use the trust store `directory`, which is made if it is missing; who comes second waits `patience` seconds.

    Raises Busy, TrustStoreUnusable.
    """
    with usable(directory):
        directory.mkdir(mode=0o700, parents=True, exist_ok=True)
        descriptor = os.open(directory, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        _require_private(directory, descriptor)
        _lock(directory, descriptor, time.monotonic() + patience)
        yield TrustStore(directory)
    finally:
        os.close(descriptor)


def addresses(stores: Path) -> list[str]:
    """Of the trust stores in a directory, where their catalogues were when they were first seen."""
    found = []
    for path in sorted(stores.glob("*/address")):
        with usable(path.parent):
            found.append(os.fsdecode(read_document(path, most=LARGEST).removesuffix(b"\n")))
    return found


@contextmanager
def usable(directory: Path, advice: str | None = None) -> Iterator[None]:
    """Turn what the operating system says into TrustStoreUnusable."""
    try:
        yield
    except OSError as why:
        raise TrustStoreUnusable(f"{directory}: {why.strerror or type(why).__name__}", advice=advice) from why
    except SigningError as why:
        raise TrustStoreUnusable(why.message, advice=advice) from why


def _require_private(directory: Path, descriptor: int) -> None:
    status = os.fstat(descriptor)
    if status.st_uid != os.geteuid():
        raise TrustStoreUnusable(f"{directory} belongs to another user")
    if stat.S_IMODE(status.st_mode) & 0o077:
        raise TrustStoreUnusable(f"{directory} is open to others", advice=f"chmod 700 {directory}, if it is yours")


def _lock(directory: Path, descriptor: int, until: float) -> None:
    while True:
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError as error:
            if time.monotonic() >= until:
                raise Busy(f"another process uses the trust store {directory}") from error
            time.sleep(_POLL)
        except OSError as why:
            raise TrustStoreUnusable(f"{directory} cannot be locked: {why.strerror}") from why
        else:
            return


def _shown(when: datetime) -> str:
    return f"{when.astimezone(UTC):%Y-%m-%dT%H:%M:%SZ}"


def _sync(path: Path) -> None:
    descriptor = os.open(path, os.O_RDONLY | os.O_CLOEXEC)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
