"""What a catalogue says of a release: one TUF target, whose file is the release manifest. Pure.

The target's path is `NAME/VERSION.sigstore.json`. In a repository with consistent snapshots its file is found under
its digest (TUF specification 1.0.34, section 6.2): `NAME/SHA256.VERSION.sigstore.json`. Its `custom` object is ::

    {"name": SLUG, "version": "YYYYMMDD.N", "os": {"distro": SLUG, "version": TEXT}, "arch": "x86_64", "channel": SLUG,
     "state": "current" | "deprecated" | "revoked",
     "replacement": "NAME@VERSION", "reason": TEXT, "provided_until": "YYYY-MM-DD"}

Rules, beside the type and range of every field:

1. There is no other field. The last three may be missing.
2. Name and version are those of the path, and no name is one of TUF's own roles.
3. `replacement` is another release; it goes with `deprecated` and `revoked`.
4. `reason`, one line of at most 200 printable characters, goes with `revoked`, which always has one.
5. `revoked` is final: what is good again is a new version, and its channel is the one that it was on.
6. The channel may change, and nothing leaves `stable`, where clients look who ask for no channel: what is not to be
   offered there is deprecated or revoked.
"""

import re
from collections.abc import Mapping
from dataclasses import dataclass, replace
from datetime import date
from enum import StrEnum
from typing import Any, Final, Self

from imagefactory.errors import CatalogueDamaged, ListingInvalid, ReleaseNameInvalid, StateConflict
from imagefactory.model.release import NAME, ReleaseRef, Version
from signing.errors import DocumentInvalid
from signing.fields import SLUG, Fields

SUFFIX: Final = ".sigstore.json"
TRUST_POLICY: Final = "trust.json"
"""The path of the target that is no release: the trust policy (`signing.trust`), in the role targets itself."""
STABLE: Final = "stable"
ROLES: Final = frozenset({"root", "targets", "snapshot", "timestamp"})
MAX_REASON: Final = 200  # characters

_ARCH: Final = re.compile(r"[a-z0-9_]{1,32}")
_DAY: Final = re.compile(r"[0-9]{4}-[0-9]{2}-[0-9]{2}")


class ListingState(StrEnum):
    """How a release is offered: to everybody, to nobody who begins now, to nobody at all."""

    CURRENT = "current"
    DEPRECATED = "deprecated"
    REVOKED = "revoked"


TRANSITIONS: Final[Mapping[ListingState, frozenset[ListingState]]] = {
    ListingState.CURRENT: frozenset(ListingState),
    ListingState.DEPRECATED: frozenset(ListingState),
    ListingState.REVOKED: frozenset({ListingState.REVOKED}),
}


@dataclass(frozen=True)
class Listing:
    """A release as a catalogue lists it. `distro` and `os_version` are os-release's words for what is inside."""

    name: str
    version: Version
    distro: str
    os_version: str
    arch: str
    channel: str = STABLE
    state: ListingState = ListingState.CURRENT
    replacement: ReleaseRef | None = None
    reason: str | None = None
    provided_until: date | None = None

    @property
    def ref(self) -> ReleaseRef:
        """NAME@VERSION."""
        return ReleaseRef(self.name, self.version)

    @property
    def path(self) -> str:
        """The path of the target."""
        return target_path(self.name, self.version)

    def moved(
        self, state: ListingState, replacement: ReleaseRef | None, reason: str | None, channel: str | None = None
    ) -> Self:
        """This release in another state, or in the same one with other words; on another channel, if one is named.

        Raises: StateConflict (rules 5 and 6), ListingInvalid.
        """
        if state not in TRANSITIONS[self.state]:
            raise StateConflict(
                f"{self.ref} is {self.state} and cannot become {state}", advice="publish what is good as a new version"
            )
        channel = self.channel if channel is None else channel
        self._require_may_go_to(channel)
        found = replace(self, state=state, replacement=replacement, reason=reason, channel=channel)
        found.encode()
        return found

    def _require_may_go_to(self, channel: str) -> None:
        if channel != self.channel and self.state is ListingState.REVOKED:
            raise StateConflict(f"{self.ref} is revoked and stays on the channel {self.channel}")
        if channel != self.channel == STABLE:
            raise StateConflict(
                f"{self.ref} is on the channel {STABLE} and does not leave it",
                advice="deprecate it: what is older is offered again then",
            )

    def encode(self) -> dict[str, Any]:
        """Return the `custom` object, which `decode_listing` is known to read. Raises: ListingInvalid."""
        optional = {"replacement": self.replacement, "reason": self.reason, "provided_until": self.provided_until}
        custom = {
            "name": self.name,
            "version": str(self.version),
            "os": {"distro": self.distro, "version": self.os_version},
            "arch": self.arch,
            "channel": self.channel,
            "state": str(self.state),
            **{key: str(value) for key, value in optional.items() if value is not None},
        }
        try:
            _read(self.path, custom)
        except DocumentInvalid as why:
            raise ListingInvalid(why.message) from None
        return custom


@dataclass(frozen=True)
class Relisting:
    """What a catalogue is to say of a release, NAME@VERSION, that it lists. Without a channel that stays as it is."""

    ref: ReleaseRef
    state: ListingState
    replacement: ReleaseRef | None = None
    reason: str | None = None
    channel: str | None = None

    def of(self, listing: Listing) -> Listing:
        """What is said of that release then. Raises: StateConflict, ListingInvalid."""
        return listing.moved(self.state, self.replacement, self.reason, self.channel)

    def to_json(self) -> dict[str, str | None]:
        """As the signer is asked for it."""
        return {
            "release": str(self.ref),
            "state": str(self.state),
            "replacement": str(self.replacement) if self.replacement else None,
            "reason": self.reason,
            "channel": self.channel,
        }

    @classmethod
    def from_json(cls, document: Mapping[str, Any]) -> Self:
        """Raises: ReleaseNameInvalid, ValueError (no such state)."""
        instead = document["replacement"]
        return cls(
            ReleaseRef.parse(document["release"]),
            ListingState(document["state"]),
            ReleaseRef.parse(instead) if instead else None,
            document["reason"],
            document["channel"],
        )


def target_path(name: str, version: Version) -> str:
    """The path of the target that is the manifest of a release."""
    return f"{name}/{version}{SUFFIX}"


def require_listable(name: str) -> str:
    """Return an image name that a catalogue can have. Raises ReleaseNameInvalid for the names of TUF's roles."""
    if not NAME.fullmatch(name):
        raise ReleaseNameInvalid(f"{name[:64]!r} is not an image name")
    if name in ROLES:
        raise ReleaseNameInvalid(f"a catalogue cannot have an image called {name}", advice="choose another name")
    return name


def decode_listing(path: str, custom: object) -> Listing:
    """Return what a catalogue says in the `custom` of the target `path`. Raises CatalogueDamaged."""
    try:
        return _read(path, custom)
    except DocumentInvalid as why:
        raise CatalogueDamaged(why.message) from None


def _read(path: str, custom: object) -> Listing:
    with Fields(custom, f"the listing of {path[:100]!r}", DocumentInvalid) as fields:
        with fields.inner("os") as system:
            distro, os_version = system.text("distro", SLUG), system.text("version")
        listing = Listing(
            name=fields.converted("name", _name),
            version=fields.converted("version", _version),
            distro=distro,
            os_version=os_version,
            arch=fields.text("arch", _ARCH),
            channel=fields.text("channel", SLUG),
            state=fields.converted("state", _state),
            replacement=fields.converted("replacement", _release) if "replacement" in fields else None,
            reason=fields.converted("reason", _reason) if "reason" in fields else None,
            provided_until=fields.converted("provided_until", _day) if "provided_until" in fields else None,
        )
    wrong = _contradiction(path, listing)
    if wrong is not None:
        raise DocumentInvalid(f"the listing of {path[:100]!r} {wrong}")
    return listing


def _contradiction(path: str, listing: Listing) -> str | None:
    """Rules 2 to 4."""
    if listing.path != path:
        return "is about another release"
    if listing.replacement is not None and listing.state == ListingState.CURRENT:
        return "names a replacement of a current release"
    if listing.replacement == listing.ref:
        return "names the release as its own replacement"
    if listing.state == ListingState.REVOKED and listing.reason is None:
        return "gives no reason for a revocation"
    if listing.state != ListingState.REVOKED and listing.reason is not None:
        return "gives the reason for a revocation, and it is not revoked"
    return None


def _name(text: str) -> str:
    try:
        return require_listable(text)
    except ReleaseNameInvalid as why:
        raise ValueError(why.message) from None


def _version(text: str) -> Version:
    try:
        version = Version.parse(text)
    except ReleaseNameInvalid:
        raise ValueError("not a version like 20251121.1") from None
    if str(version) != text:  # a day that begins with zeros
        raise ValueError("not a version like 20251121.1")
    return version


def _state(text: str) -> ListingState:
    try:
        return ListingState(text)
    except ValueError:
        raise ValueError(f"not one of {', '.join(ListingState)}") from None


def _release(text: str) -> ReleaseRef:
    name, at, version = text.partition("@")
    if not at:
        raise ValueError("not NAME@VERSION")
    return ReleaseRef(_name(name), _version(version))


def _reason(text: str) -> str:
    if not 1 <= len(text) <= MAX_REASON or not text.isprintable() or text != text.strip():
        raise ValueError(f"not one line of at most {MAX_REASON} printable characters")
    return text


def _day(text: str) -> date:
    if not _DAY.fullmatch(text):
        raise ValueError("not a day like 2025-11-21")
    return date.fromisoformat(text)
