"""Package sources, installed packages, and what would change."""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import TypeAlias

from packageurl import PackageURL


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
    """A package, as dpkg names it; a source package has the architecture "source"."""

    name: str
    version: str
    architecture: str

    def purl(self, distro: str, codename: str) -> PackageURL:
        """Its package URL: github.com/package-url/purl-spec, type deb."""
        return PackageURL("deb", distro, self.name, self.version, {"arch": self.architecture, "distro": codename})


@dataclass(frozen=True, order=True)
class Installed:
    """An installed package with the `source` package that it was built from, its maintainer ("": nobody says), and the
    licences of its files as Debian names them (none: nobody says in a form that a machine can read)."""

    package: Package
    source: Package
    maintainer: str
    licences: tuple[str, ...]


SourcePackages: TypeAlias = Mapping[str, Mapping[str, frozenset[str]]]
"""Source packages by name and version, each with the names of the installed packages that have its code."""


@dataclass(frozen=True)
class Change:
    """A package that changes; `old` is None for one that comes anew, `new` for one that goes."""

    name: str
    old: str | None
    new: str | None

    def __str__(self) -> str:
        if self.new is None:
            return f"{self.name} {self.old} is gone"
        return f"{self.name} {self.old} -> {self.new}" if self.old else f"{self.name} {self.new} is new"


def summary(changes: Iterable[Change], most: int = 3) -> str:
    """One line for a plan: "openssl 3.0.17 -> 3.0.18 and 4 more"."""
    all_ = [str(change) for change in changes]
    rest = f" and {len(all_) - most} more" if len(all_) > most else ""
    return ", ".join(all_[:most]) + rest
