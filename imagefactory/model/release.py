"""Names and versions of releases."""

import re
from dataclasses import dataclass
from datetime import date

from imagefactory.errors import ReleaseNameInvalid, UsageError

NAME = re.compile(r"[a-z0-9]([a-z0-9-]{0,61}[a-z0-9])?")
SBOM_SUFFIX = ".sbom.cdx.json"
_VERSION = re.compile(r"(?P<day>[0-9]{8})\.(?P<number>[1-9][0-9]{0,5})")


@dataclass(frozen=True, order=True)
class Version:
    """YYYYMMDD.N: a UTC day and a number from 1, compared as integers."""

    day: int
    number: int

    def __str__(self) -> str:
        return f"{self.day}.{self.number}"

    @classmethod
    def parse(cls, text: str) -> "Version":
        """Raises ReleaseNameInvalid."""
        match = _VERSION.fullmatch(text)
        if match is None:
            raise ReleaseNameInvalid(f"{text!r} is not a version")
        return cls(int(match["day"]), int(match["number"]))

    @classmethod
    def next(cls, today: date, used: "Version | None") -> "Version":
        """The version that follows `used` (the highest so far), on `today`."""
        day = int(today.strftime("%Y%m%d"))
        if used is not None and used.day >= day:
            return cls(used.day, used.number + 1)
        return cls(day, 1)


def sbom_file(name: str, version: Version | str) -> str:
    """What the bill of materials of a release is called."""
    return f"{name}-{version}{SBOM_SUFFIX}"


@dataclass(frozen=True)
class ReleaseRef:
    """NAME or NAME@VERSION; without a version the newest is meant."""

    name: str
    version: Version | None = None

    def __str__(self) -> str:
        return f"{self.name}@{self.version}" if self.version else self.name

    @classmethod
    def parse(cls, text: str) -> "ReleaseRef":
        """Raises ReleaseNameInvalid."""
        name, at, version = text.partition("@")
        if NAME.fullmatch(name) is None:
            raise ReleaseNameInvalid(f"{name!r} is not an image name")
        return cls(name, Version.parse(version) if at else None)

    def exact(self) -> "ReleaseRef":
        """The same, if it is one release. Raises UsageError."""
        if self.version is None:
            raise UsageError(f"{self} is a name, and one release is wanted", advice=f"say {self}@VERSION")
        return self
