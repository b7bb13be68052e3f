"""Reading a catalogue as a TUF client does (The Update Framework, specification 1.0.34): what is listed there is what
its makers say now, or it is refused.

The rules of TUF are those of python-tuf's Updater. What a catalogue of ours is beside that, and nothing else is taken:

1. The role that `targets` delegates `NAME/*` to is called NAME, is the only one for these paths, and delegates nothing.
   No other name is ever used, so none of a stranger's making becomes the name of a file here.
2. `targets` itself lists nothing below `NAME/`, and the trust policy, if there is one, as `trust.json`.
3. A target is a release: its path, its `custom`, one SHA-256 and a length that a manifest may have.
"""

from collections.abc import Callable, Iterable, Mapping
from contextlib import AbstractContextManager, ExitStack
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from types import TracebackType
from typing import Final, Self, cast

from tuf.ngclient import TargetFile, UpdaterConfig  # type: ignore[attr-defined]  # its __all__ is computed

from imagefactory.errors import (
    CatalogueDamaged,
    ReleaseNameInvalid,
    ReleaseRevoked,
    ReleaseUnknown,
    TrustStoreUnusable,
)
from imagefactory.model.listing import STABLE, TRUST_POLICY, Listing, ListingState, decode_listing, require_listable
from imagefactory.model.release import Version
from imagefactory.tools.trust_store import TrustStore, trust_store
from imagefactory.tools.tuf_errors import translated
from imagefactory.tools.tuf_fetch import AGENT, LARGEST
from imagefactory.tools.tuf_root import delegated_names
from imagefactory.tools.tuf_session import Session, refreshed
from signing.errors import NoTrustRoot
from signing.fields import SHA256_HEX
from signing.strict_json import MAX_BYTES

TOP: Final = ("root", "timestamp", "snapshot", "targets")
PATIENCE: Final = 300.0  # seconds
# Two roles are looked at, `targets` and one that it delegates to; sizes are bytes.
CONFIG: Final = UpdaterConfig(
    max_root_rotations=256,
    max_delegations=1,
    root_max_length=512_000,
    timestamp_max_length=16_384,
    snapshot_max_length=2_000_000,
    targets_max_length=LARGEST,
    app_user_agent=AGENT,
)


def utc_now() -> datetime:
    """What the clock of this machine says, which is the one that python-tuf asks, too."""
    return datetime.now(UTC)


@dataclass(frozen=True)
class Role:
    """A role of a catalogue: the version of its metadata, and until when (aware UTC) that is good."""

    name: str
    version: int
    expires: datetime


class CatalogueClient(AbstractContextManager["CatalogueClient"]):
    """Reads the catalogue in the directory or at the http(s) address `where`; `with` holds its trust store `store`.

    `root` is the root.json to trust it by, wanted once. `patience` in seconds is how long somebody else may hold the
    store, and how long a server may take for one call.
    """

    def __init__(
        self,
        where: str | Path,
        store: Path,
        now: Callable[[], datetime] = utc_now,
        *,
        root: bytes | None = None,
        patience: float = PATIENCE,
    ) -> None:
        self._where = where
        self._directory = store
        self._now = now
        self._root = root
        self._patience = patience
        self._held = ExitStack()
        self._store: TrustStore | None = None
        self._state: _State | None = None

    def __enter__(self) -> Self:
        """Raises Busy, TrustStoreUnusable."""
        self._store = self._held.enter_context(trust_store(self._directory, self._patience))
        return self

    def __exit__(
        self, kind: type[BaseException] | None, value: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._store = self._state = None
        self._held.close()

    def refresh(self) -> None:
        """See what the catalogue says now. Everything else does that first where nobody did.

        Raises TargetUnsupported, CatalogueUntrusted, CatalogueRollback, CatalogueFrozen, CatalogueMixed,
        CatalogueUnsigned, CatalogueDamaged, CatalogueEndless, CatalogueUnreachable, ClockBehind, TrustStoreUnusable.
        """
        if self._store is None:
            raise ValueError("a catalogue is read inside `with`")
        self._state = None
        self._state = _State(refreshed(self._store, self._where, self._now(), self._root, self._patience, CONFIG))

    def releases(self, name: str) -> list[Listing]:
        """What the catalogue lists of an image name, oldest first, whatever its state.

        Raises ReleaseNameInvalid, ReleaseUnknown (no such name), and what `refresh` raises.
        """
        return [listing for listing, _ in self._current().releases(name).values()]

    def newest(self, name: str, channel: str = STABLE) -> Listing:
        """The newest current release of a channel; where there is none, the newest that is deprecated.

        Raises ReleaseUnknown, ReleaseRevoked (nothing else is left), and what `releases` raises.
        """
        offered = [listing for listing in self.releases(name) if listing.channel == channel]
        for state in (ListingState.CURRENT, ListingState.DEPRECATED):
            if found := [listing for listing in offered if listing.state is state]:
                return found[-1]
        if offered:
            raise _revoked(offered[-1])
        raise ReleaseUnknown(f"the catalogue has no {name} in the channel {channel[:64]!r}")

    def release(self, name: str, version: Version) -> Listing:
        """What the catalogue says of a release that may be used; `warning` has what is to be told of it.

        Raises ReleaseUnknown, ReleaseRevoked, and what `releases` raises.
        """
        return self._current().usable(name, version)[0]

    def manifest(self, name: str, version: Version) -> bytes:
        """The release manifest that the catalogue names. Its own signature is for others to verify.

        Raises like `release`.
        """
        return self._current().manifest(name, version)

    def names(self) -> list[str]:
        """The image names that the catalogue has, sorted.

        Raises CatalogueDamaged (a role that no image name can have), and what `refresh` raises.
        """
        return self._current().names()

    def trust_policy(self) -> bytes:
        """The trust policy that the catalogue has: a trust file, whose rules are for others to check.

        Raises NoTrustRoot (it has none), CatalogueDamaged (it is too long to be one), and what `refresh` raises.
        """
        return self._current().trust_policy()

    def roles(self) -> list[Role]:
        """The four roles of every catalogue as they are now, from the root down. Raises what `refresh` raises."""
        return self._current().roles()

    def metadata(self, names: Iterable[str]) -> dict[str, bytes]:
        """What was verified of the four roles, and of those of image names, by its path below the catalogue: what a
        client that knows none of it but the pinned root asks for. Raises what `releases` raises."""
        return self._current().metadata(names)

    def _current(self) -> "_State":
        if self._state is None:
            self.refresh()
        return cast("_State", self._state)


def warning(listing: Listing) -> str | None:
    """A sentence on a release that is still good and that nobody should begin with."""
    if listing.state is not ListingState.DEPRECATED:
        return None
    instead = f"; use {listing.replacement} instead" if listing.replacement else ""
    return f"{listing.ref} is deprecated{instead}"


def _revoked(listing: Listing) -> ReleaseRevoked:
    advice = f"use {listing.replacement} instead" if listing.replacement else None
    return ReleaseRevoked(f"{listing.ref} was revoked: {listing.reason}", advice=advice)


class _State:
    """A catalogue as it was when it was refreshed."""

    def __init__(self, session: Session) -> None:
        self._session = session
        self._store = session.store
        self._top = self._store.role("targets")
        self._read: dict[str, Mapping[Version, tuple[Listing, TargetFile]]] = {}

    def releases(self, name: str) -> Mapping[Version, tuple[Listing, TargetFile]]:
        if name not in self._read:
            self._require_own_role(require_listable(name))
            self._session.target(_any_below(name))  # loads the role, and keeps it in the store
            role = self._store.role(name)
            if role.delegations is not None:
                raise CatalogueDamaged(f"the role {name} delegates to others")
            read = [_listed(name, each) for each in role.targets.values()]
            for _, target in read:
                self._require_verified(target)
            found = {listing.version: (listing, target) for listing, target in read}
            self._read[name] = {version: found[version] for version in sorted(found)}
        return self._read[name]

    def names(self) -> list[str]:
        try:
            return [require_listable(name) for name in delegated_names(self._top)]
        except ReleaseNameInvalid as why:
            raise CatalogueDamaged(f"the role targets delegates to a role that is no image: {why.message}") from None

    def roles(self) -> list[Role]:
        found = [(name, self._store.top(name)) for name in TOP]
        return [Role(name, signed.version, signed.expires) for name, signed in found]

    def metadata(self, names: Iterable[str]) -> dict[str, bytes]:
        read = list(names)
        for name in read:
            self.releases(name)
        return self._store.files(read)

    def trust_policy(self) -> bytes:
        listed = self._top.targets.get(TRUST_POLICY)
        if listed is None:
            raise NoTrustRoot("the catalogue has no trust policy", advice="name a trust file with --trust")
        self._require_verified(listed)
        return self._session.download(_small(listed, "the trust policy"))

    def manifest(self, name: str, version: Version) -> bytes:
        return self._session.download(self.usable(name, version)[1])

    def _require_verified(self, target: TargetFile) -> None:
        """The file in the store says what there is, which python-tuf does not tell in another way. What it says of a
        target is what python-tuf verified."""
        if self._session.target(target.path) != target:
            raise TrustStoreUnusable(f"{self._store.metadata} was changed while it was used")

    def usable(self, name: str, version: Version) -> tuple[Listing, TargetFile]:
        found = self.releases(name).get(version)
        if found is None:
            raise ReleaseUnknown(f"the catalogue has no {name}@{version}")
        if found[0].state is ListingState.REVOKED:
            raise _revoked(found[0])
        return found

    def _require_own_role(self, name: str) -> None:
        """Rules 1 and 2. Python-tuf would go where it is led."""
        delegations = self._top.delegations
        with translated(lambda: "the role targets", self._store.directory):  # patterns of strangers
            roles = list(delegations.get_roles_for_target(_any_below(name))) if delegations else []
        if not roles:
            raise ReleaseUnknown(f"the catalogue has no releases of {name}")
        if roles != [(name, True)]:
            raise CatalogueDamaged(f"the releases of {name} are not those of the role {name} alone")
        if any(path.startswith(_any_below(name)) for path in self._top.targets):
            raise CatalogueDamaged(f"the role targets lists releases of {name} itself")


def _any_below(name: str) -> str:
    """A path that the pattern of the role matches and that is no release's."""
    return f"{name}/"


def _listed(name: str, target: TargetFile) -> tuple[Listing, TargetFile]:
    listing = decode_listing(target.path, target.custom)
    if listing.name != name:
        raise CatalogueDamaged(f"the role {name} lists {listing.ref}")
    return listing, _small(target, f"the manifest of {listing.ref}")


def _small(target: TargetFile, what: str) -> TargetFile:
    """A target that is a document: with one SHA-256, and of a length that such a one may have."""
    digest = target.hashes.get("sha256", "")
    if set(target.hashes) != {"sha256"} or not SHA256_HEX.fullmatch(digest) or not 0 < target.length <= MAX_BYTES:
        raise CatalogueDamaged(f"{what} has no digest and length of a document")
    return target
