"""Package sources, installed packages, and what would change."""

from collections.abc import Iterable
from dataclasses import dataclass


@dataclass(frozen=True)
class Source:
    """One apt archive: `uri`, `suite`, `components`, and the keyring file that signs it (a path on this host)."""

    uri: str
    suite: str
    components: tuple[str, ...]
    signed_by: str | None

    def apt_line(self) -> str:
        """The line of sources.list(5)."""
        option = f"[signed-by={self.signed_by}] " if self.signed_by else ""
        return f"deb {option}{self.uri} {self.suite} {' '.join(self.components)}"


@dataclass(frozen=True, order=True)
class Package:
    """An installed package, as dpkg names it."""

    name: str
    version: str
    architecture: str


@dataclass(frozen=True)
class Change:
    """A package that would change; `old` is None for one that would come anew."""

    name: str
    old: str | None
    new: str

    def __str__(self) -> str:
        return f"{self.name} {self.old} -> {self.new}" if self.old else f"{self.name} {self.new} is new"


def summary(changes: Iterable[Change], most: int = 3) -> str:
    """One line for a plan: "openssl 3.0.17 -> 3.0.18 and 4 more"."""
    all_ = [str(change) for change in changes]
    rest = f" and {len(all_) - most} more" if len(all_) > most else ""
    return ", ".join(all_[:most]) + rest
