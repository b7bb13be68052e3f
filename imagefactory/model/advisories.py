"""What a feed says of one vulnerability in one source package, and how bad that is. Pure.

Two feeds are understood:

- The Debian security tracker's JSON, as its bin/tracker_service.py writes it: source package -> issue -> "releases" ->
  codename -> "status" (open, undetermined, resolved), "fixed_version" ("0": never affected), "urgency", "nodsa".
- OSV records (OSV Schema 1.7, https://ossf.github.io/osv-schema/) of the ecosystems "Debian:VERSION" and "Debian".

Severities are those of CVSS v3.1 (section 5), with `unimportant` below and `unknown` beside them:

| here | Debian's urgency | CVSS |
|---|---|---|
| unimportant | unimportant: it does not affect the binary packages | None, 0.0 |
| low | low, or not yet assigned and "no DSA": the security team finds it minor | Low, 0.1 to 3.9 |
| medium | medium | Medium, 4.0 to 6.9 |
| high | high | High, 7.0 to 8.9 |
| critical | | Critical, 9.0 to 10.0 |
| unknown | not yet assigned, end-of-life, none | none |

Debian's own word about its package comes before CVSS, and of several scores the worst counts.
"""

import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Final, Literal, TypeAlias, get_args

from cvss import CVSS2, CVSS3, CVSS4, CVSSError
from debian.debian_support import Version

from imagefactory.model.packages import SourcePackages

Severity: TypeAlias = Literal["unimportant", "low", "medium", "high", "critical", "unknown"]
EventKind: TypeAlias = Literal["introduced", "fixed", "last_affected", "limit"]

# What nobody has judged counts as high: not as harmless, and not as the end of the world.
RANK: Final[Mapping[Severity, int]] = {
    "unimportant": 0,
    "low": 1,
    "medium": 2,
    "high": 3,
    "unknown": 3,
    "critical": 4,
}

IDENTIFIER: Final = r"[A-Z][A-Z0-9]{1,31}(-[A-Za-z0-9.]{1,31}){1,6}"

_IDENTIFIER: Final = re.compile(IDENTIFIER)
_CVE: Final = re.compile(r"CVE-[0-9]{4}-[0-9]{4,19}")
_VERSION: Final = re.compile(r"[0-9A-Za-z.+:~-]{1,255}")  # Debian Policy 5.6.12
_URGENCIES: Final[Mapping[str, Severity]] = {
    "unimportant": "unimportant",
    "low": "low",
    "medium": "medium",
    "high": "high",
}
_CVSS: Final = {"CVSS_V2": CVSS2, "CVSS_V3": CVSS3, "CVSS_V4": CVSS4}
_BEGINNING: Final = "0"  # OSV: it sorts before any other version, "0~1" included
_NO_LIMIT: Final = "*"
MAX_VECTOR: Final = 512  # characters


@dataclass(frozen=True)
class Event:
    """A change in the history of a package, at a version (of "introduced" and "limit" also "0" and "*")."""

    kind: EventKind
    version: str


@dataclass(frozen=True)
class Advisory:
    """`id` (a CVE id, if it has one) in the source package `source`: it is in the versions of any of the `ranges`, each
    a history, and in those of `versions`, which lists no others than the image has."""

    id: str
    source: str
    severity: Severity
    ranges: tuple[tuple[Event, ...], ...]
    versions: frozenset[str] = frozenset()

    def affects(self, version: str) -> bool:
        """Whether it is in a version of the package: OSV Schema, "Evaluation"."""
        return version in self.versions or any(_within(version, events) for events in self.ranges)

    def fixed_after(self, version: str) -> str | None:
        """The first version after `version` in which it is fixed, if one is known."""
        known = (each.version for events in self.ranges for each in events if each.kind == "fixed")
        return min((each for each in known if Version(each) > Version(version)), key=Version, default=None)


def _within(version: str, events: Sequence[Event]) -> bool:
    this = Version(version)
    limits = [each.version for each in events if each.kind == "limit"]
    if limits and not any(each == _NO_LIMIT or this < Version(each) for each in limits):
        return False
    affected = False
    # What is written at one version counts in the order in which it is written.
    for each in sorted((one for one in events if one.kind != "limit"), key=_when):
        if each.kind == "introduced" and (each.version == _BEGINNING or this >= Version(each.version)):
            affected = True
        elif (each.kind == "fixed" and this >= Version(each.version)) or (
            each.kind == "last_affected" and this > Version(each.version)
        ):
            affected = False
    return affected


def _when(event: Event) -> tuple[bool, Version]:
    return not (event.kind == "introduced" and event.version == _BEGINNING), Version(event.version)


# -- the Debian security tracker --------------------------------------------------------------------------------------


def of_tracker(source: str, identifier: str, issue: object, codename: str) -> Advisory | None:
    """What the tracker says of an issue in a source package of a release; None: the package of that release does not
    have it, or is not in that release. Raises ValueError for what the tracker does not write."""
    releases = _mapping(_mapping(issue, "an issue").get("releases"), "the releases of an issue")
    if codename not in releases:
        return None
    said = _mapping(releases[codename], "a release")
    severity = _of_urgency(said.get("urgency")) or ("low" if "nodsa" in said else "unknown")
    match said.get("status"):
        case "open" | "undetermined":
            events: tuple[Event, ...] = (Event("introduced", _BEGINNING),)
        case "resolved":
            fixed = _version(said.get("fixed_version"))
            if fixed == "0":
                return None
            events = (Event("introduced", _BEGINNING), Event("fixed", fixed))
        case _:
            raise ValueError("the status of an issue is open, undetermined or resolved")
    return Advisory(_identifier(identifier), source, severity, (events,))


# -- OSV --------------------------------------------------------------------------------------------------------------


def ecosystems(record: Mapping[str, Any]) -> Iterator[str]:
    """The ecosystems that an OSV record is about. Raises ValueError."""
    for each in _affected(record):
        yield str(_package(each).get("ecosystem"))


def of_osv(record: Mapping[str, Any], system: str, sources: SourcePackages) -> Iterator[Advisory]:
    """What an OSV record says of those source packages of Debian `system`, such as "12", one for each CVE that it
    names. Raises ValueError for what is none."""
    identifier = _identifier(record.get("id"))
    if record.get("withdrawn") is not None:
        return
    names = [identifier.removeprefix("DEBIAN-")]
    names += [each for key in ("aliases", "upstream") for each in _texts(record.get(key))]
    cves = sorted({each for each in names if _CVE.fullmatch(each)}) or [identifier]
    for each in _affected(record):
        package = _package(each)
        name, ecosystem = package.get("name"), package.get("ecosystem")
        if not isinstance(name, str) or name not in sources or ecosystem not in (f"Debian:{system}", "Debian"):
            continue
        specific = each.get("ecosystem_specific")
        urgency = _of_urgency(specific.get("urgency")) if isinstance(specific, dict) else None
        severity = urgency or _worst(each.get("severity")) or _worst(record.get("severity")) or "unknown"
        ranges = tuple(_ranges(each.get("ranges")))
        versions = frozenset(sources[name].keys() & _texts(each.get("versions")))
        for cve in cves:
            yield Advisory(cve, name, severity, ranges, versions)


def _affected(record: Mapping[str, Any]) -> Iterator[Mapping[str, Any]]:
    for each in _list(record.get("affected"), "affected"):
        yield _mapping(each, "affected")


def _package(affected: Mapping[str, Any]) -> Mapping[str, Any]:
    package = affected.get("package")
    return {} if package is None else _mapping(package, "package")


def _ranges(ranges: object) -> Iterator[tuple[Event, ...]]:
    """The histories by versions of Debian; commits are of no use here."""
    for each in _list(ranges, "ranges"):
        history = _mapping(each, "a range")
        if history.get("type") == "ECOSYSTEM":
            yield tuple(_event(event) for event in _list(history.get("events"), "events"))


def _event(document: object) -> Event:
    event = _mapping(document, "an event")
    if len(event) != 1:
        raise ValueError("an event is one of introduced, fixed, last_affected, limit")
    ((kind, version),) = event.items()
    known: dict[str, EventKind] = {each: each for each in get_args(EventKind)}
    if kind not in known:
        raise ValueError("an event is one of introduced, fixed, last_affected, limit")
    return Event(known[kind], version if kind == "limit" and version == _NO_LIMIT else _version(version))


def _worst(scores: object) -> Severity | None:
    """The worst of the scores that are CVSS; None where there is none."""
    found: list[Severity] = []
    for each in _list(scores, "severity"):
        score = _mapping(each, "a severity")
        kind, vector = score.get("type"), score.get("score")
        if isinstance(kind, str) and kind in _CVSS and isinstance(vector, str):
            found.append(of_vector(kind, vector))
    return max(found, key=RANK.__getitem__, default=None)


def of_vector(kind: str, vector: str) -> Severity:
    """The severity of the base score of a CVSS vector; `kind` is CVSS_V2, CVSS_V3 or CVSS_V4. Raises ValueError."""
    if len(vector) > MAX_VECTOR:
        raise ValueError("a CVSS vector is too long")
    try:
        word = _CVSS[kind](vector).severities()[0].lower()
    except CVSSError:
        raise ValueError("a CVSS vector is none") from None
    known: dict[str, Severity] = {each: each for each in get_args(Severity)}
    return "unimportant" if word == "none" else known[word]


# -- values from strangers --------------------------------------------------------------------------------------------


def _of_urgency(urgency: object) -> Severity | None:
    """Older data has asterisks where the word was not Debian's own."""
    return _URGENCIES.get(urgency.rstrip("*")) if isinstance(urgency, str) else None


def _identifier(value: object) -> str:
    if not isinstance(value, str) or _IDENTIFIER.fullmatch(value) is None:
        raise ValueError("an issue has no identifier such as CVE-2026-12345")
    return value


def _version(value: object) -> str:
    if not isinstance(value, str) or _VERSION.fullmatch(value) is None:
        raise ValueError("a version is none of Debian's")
    Version(value)
    return value


def _mapping(value: object, what: str) -> Mapping[str, Any]:
    if not isinstance(value, dict):
        raise ValueError(f"{what} should be an object")
    return value


def _list(value: object, what: str) -> Sequence[Any]:
    if value is None:
        return ()
    if not isinstance(value, list):
        raise ValueError(f"{what} should be a list")
    return value


def _texts(value: object) -> Sequence[str]:
    found = _list(value, "a list of texts")
    if not all(isinstance(each, str) for each in found):
        raise ValueError("a list of texts holds something else")
    return found
