"""Which known vulnerabilities the packages of an image have, and the gate. Pure.

Packages are looked up by source: a feed names source packages, and an installed package has the code of its own source
and of those that it was built with (Built-Using), as a signed kernel has that of `linux`. Versions are compared as
dpkg compares them.
"""

import re
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from datetime import date, timedelta
from typing import Any, Final, Literal, TypeAlias, get_args

from debian.debian_support import Version

from imagefactory.model.advisories import RANK, Advisory, Severity
from imagefactory.model.evidence import JSON
from imagefactory.model.exceptions import Accepted, check_texts, expired, weigh
from imagefactory.model.packages import SourcePackages

KIND: Final = "vulnerabilities"

Format: TypeAlias = Literal["debian-tracker", "osv"]
Threshold: TypeAlias = Literal["unimportant", "low", "medium", "high", "critical"]

MAX_AGE: Final = timedelta(days=7)
"""What is older says nothing about what is known today."""
AHEAD: Final = timedelta(days=1)
"""How far the clock of whoever dated a feed may be ahead of ours."""

_SHA256 = re.compile(r"[0-9a-f]{64}")
_ROOTFS = re.compile(r"sha256:[0-9a-f]{64}")


@dataclass(frozen=True)
class Feed:
    """What vulnerabilities are known by: the address or the path as the recipe writes it, the SHA-256 (hex) of the
    file, and the day that it is of (UTC)."""

    source: str
    format: Format
    sha256: str
    dated: date


def why_stale(dated: date, today: date) -> str | None:
    """Why a feed of a day says nothing about `today`; None: it does."""
    if dated > today + AHEAD:
        return f"the feed is of {dated}, which has not come yet"
    if today - dated > MAX_AGE:
        return f"the feed is of {dated}, more than {MAX_AGE.days} days ago"
    return None


@dataclass(frozen=True)
class Finding:
    """A vulnerability in a source package of the image at `version`; `fixed` is the first later version without it, if
    one is known."""

    id: str
    source: str
    version: str
    severity: Severity
    fixed: str | None = None

    def __str__(self) -> str:
        fixed = f", fixed in {self.fixed}" if self.fixed else ""
        return f"{self.id} in {self.source} {self.version}, severity {self.severity}{fixed}"


@dataclass(frozen=True)
class VulnerabilityScan:
    """What a feed knows about an image: how many source packages were looked up, what was found, by source and id, and
    the installed packages of each source that has a finding."""

    feed: Feed
    sources: int
    findings: tuple[Finding, ...]
    packages: Mapping[str, tuple[str, ...]]

    @property
    def counts(self) -> Mapping[str, int]:
        """How many findings have which severity."""
        return Counter(each.severity for each in self.findings)

    def worst_first(self) -> Sequence[Finding]:
        return sorted(self.findings, key=lambda each: (-RANK[each.severity], each.source, each.id))

    def to_json(self) -> dict[str, JSON]:
        """The same for `from_json`, and for evidence."""
        findings: list[JSON] = [asdict(each) for each in self.findings]
        return {
            "feed": {**asdict(self.feed), "dated": self.feed.dated.isoformat()},
            "sources": self.sources,
            "findings": findings,
            "packages": {source: list(names) for source, names in self.packages.items()},
        }

    @classmethod
    def from_json(cls, document: Mapping[str, Any]) -> "VulnerabilityScan":
        """Read what `to_json` wrote. Raises KeyError, TypeError, ValueError."""
        feed = Feed(**{**document["feed"], "dated": date.fromisoformat(document["feed"]["dated"])})
        findings = tuple(Finding(**each) for each in document["findings"])
        if not isinstance(document["packages"], Mapping):
            raise TypeError("packages should be an object")
        packages = {source: _names(names) for source, names in document["packages"].items()}
        check_texts(feed, *(each if each.fixed is not None else replace(each, fixed="") for each in findings))
        for each in findings:
            _require(each.severity, get_args(Severity))
        _require(feed.format, get_args(Format))
        if _SHA256.fullmatch(feed.sha256) is None:
            raise ValueError(f"{feed.sha256!r} is no SHA-256")
        if len({(each.id, each.source, each.version) for each in findings}) < len(findings):
            raise ValueError("a finding is there twice")
        if {each.source for each in findings} != packages.keys():
            raise ValueError("the packages are not those of the findings")
        if type(document["sources"]) is not int or document["sources"] < 1:
            raise ValueError("no source package was looked up")
        return cls(feed, document["sources"], findings, packages)


def _names(names: Any) -> tuple[str, ...]:  # noqa: ANN401 - of JSON
    if isinstance(names, str) or not all(isinstance(each, str) for each in names):
        raise TypeError("names of packages should be texts")
    return tuple(names)


def _require(word: str, words: Sequence[str]) -> None:
    if word not in words:
        raise ValueError(f"{word!r} is none of {', '.join(words)}")


def match(sources: SourcePackages, advisories: Iterable[Advisory], feed: Feed) -> VulnerabilityScan:
    """What the advisories say about the source packages of an image."""
    found: dict[tuple[str, str, str], Finding] = {}
    for advisory in advisories:
        for version in sources.get(advisory.source, ()):
            if advisory.affects(version):
                one = Finding(advisory.id, advisory.source, version, advisory.severity, advisory.fixed_after(version))
                key = (one.source, one.id, one.version)
                found[key] = _both(found[key], one) if key in found else one
    affected = {each.source for each in found.values()}
    packages = {
        source: tuple(sorted({name for names in sources[source].values() for name in names}))
        for source in sorted(affected)
    }
    return VulnerabilityScan(feed, len(sources), tuple(found[key] for key in sorted(found)), packages)


def _both(one: Finding, other: Finding) -> Finding:
    """Two advisories about one vulnerability: who judged it counts more than who did not, and the worse of two more.
    The fix is in the later version."""
    judged = [each.severity for each in (one, other) if each.severity != "unknown"]
    fixes = [each.fixed for each in (one, other) if each.fixed is not None]
    severity: Severity = max(judged, key=RANK.__getitem__, default="unknown")
    return Finding(one.id, one.source, one.version, severity, max(fixes, key=Version, default=None))


# -- the gate ---------------------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class CveException(Accepted):
    """A vulnerability that may stay until the day `expires`, included: why, and who answers for that."""

    cve: str
    reason: str
    owner: str
    expires: date

    @property
    def subject(self) -> str:
        return self.cve


@dataclass(frozen=True)
class Gate:
    """How bad a vulnerability may be that has no exception."""

    max_severity: Threshold
    exceptions: tuple[CveException, ...] = ()

    @classmethod
    def from_json(cls, document: Mapping[str, Any]) -> "Gate":
        """Read the part `vulnerabilities` of a recipe as JSON. Raises KeyError, TypeError, ValueError."""
        _require(document["max_severity"], get_args(Threshold))
        exceptions = tuple(CveException.from_json(each) for each in document.get("exceptions", ()))
        return cls(document["max_severity"], exceptions)

    def expired(self, today: date) -> tuple[CveException, ...]:
        return expired(self.exceptions, today)

    def lets_pass(self, severity: Severity) -> bool:
        return RANK[severity] <= RANK[self.max_severity]


@dataclass(frozen=True)
class Verdict:
    """What the gate says. `refused` are its reasons, for people (none: it passes); `excepted` are the exceptions that
    still hold of what was found, `needless` those of what was not."""

    refused: tuple[str, ...]
    excepted: tuple[CveException, ...]
    needless: tuple[CveException, ...]


def judge(scan: VulnerabilityScan, gate: Gate, today: date) -> Verdict:
    """Hold what was found against a gate."""
    weighed = weigh(gate.exceptions, {each.id for each in scan.findings}, today)
    stale = why_stale(scan.feed.dated, today)
    refused = [*([stale] if stale else []), *weighed.refused]
    refused += [
        f"{each}; more than {gate.max_severity} has no exception"
        for each in scan.worst_first()
        if not gate.lets_pass(each.severity) and each.id not in weighed.holding
    ]
    return Verdict(tuple(refused), weighed.excepted, weighed.needless)


@dataclass(frozen=True)
class Assessment:
    """What evidence of the kind "vulnerabilities" says: a scan and the severity that was the worst to be let pass, the
    exceptions of what was found and the needless ones, and the digest ("sha256:HEX") of the root file system."""

    scan: VulnerabilityScan
    max_severity: Threshold
    exceptions: tuple[CveException, ...]
    needless: tuple[CveException, ...]
    rootfs: str

    def facts(self) -> dict[str, JSON]:
        """The facts of the evidence. `counts` follow from the scan, for whoever reads it."""
        return {
            "scan": self.scan.to_json(),
            "counts": dict(self.scan.counts),
            "max_severity": self.max_severity,
            "exceptions": [each.to_json() for each in self.exceptions],
            "needless": [each.to_json() for each in self.needless],
            "rootfs": self.rootfs,
        }

    @classmethod
    def from_facts(cls, facts: Mapping[str, Any]) -> "Assessment":
        """Read what `facts` wrote. Raises KeyError, TypeError, ValueError."""
        exceptions, needless = (
            tuple(CveException.from_json(each) for each in facts[name]) for name in ("exceptions", "needless")
        )
        if _ROOTFS.fullmatch(facts["rootfs"]) is None:
            raise ValueError(f"{facts['rootfs']!r} is not sha256:HEX")
        _require(facts["max_severity"], get_args(Threshold))
        scan = VulnerabilityScan.from_json(facts["scan"])
        return cls(scan, facts["max_severity"], exceptions, needless, facts["rootfs"])


def summary(counts: Mapping[str, int]) -> str:
    """Counts for people, the worst first: "2 high, 1 unknown, 4 low"."""
    worst_first = sorted(counts, key=lambda each: (-RANK[each], each))  # type: ignore[index]
    return ", ".join(f"{counts[each]} {each}" for each in worst_first if counts[each]) or "none"
