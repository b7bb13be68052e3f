"""How well an image keeps a published standard: what each rule said, the score, and the gate. Pure.

Rules are those of the SCAP Security Guide, by their short names (sshd_disable_root_login, where the benchmark says
xccdf_org.ssgproject.content_rule_sshd_disable_root_login). Outcomes are those of XCCDF 1.2 (NIST IR 7275 revision 4,
table 26).
"""

import re
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from datetime import date
from fractions import Fraction
from typing import Any, Literal, TypeAlias, get_args

from imagefactory.model.evidence import JSON
from imagefactory.model.exceptions import Accepted, check_texts, expired, weigh

Outcome: TypeAlias = Literal[
    "pass", "fixed", "fail", "error", "unknown", "notapplicable", "notchecked", "informational"
]
Severity: TypeAlias = Literal["high", "medium", "low", "info", "unknown"]
Judge: TypeAlias = Literal["files", "guest"]

PASSED: frozenset[Outcome] = frozenset({"pass", "fixed"})
# What could not be judged is no pass.
FAILED: frozenset[Outcome] = frozenset({"fail", "error", "unknown"})

# Rules about the running kernel, its mounts, its units; their names begin like this, or are these.
_LIVE = re.compile(r"(sysctl|mount_option|partition_for|service|timer|socket)_.*|prefer_64bit_os|apparmor_configured")
# Rules about a disk of several file systems, which an image with one does not have.
_OF_LAYOUT = ("partition_", "mount_option_")
_DIGEST = re.compile(r"sha256:[0-9a-f]{64}")


def is_live(rule: str) -> bool:
    """Whether only a running system can answer a rule."""
    return _LIVE.fullmatch(rule) is not None


@dataclass(frozen=True)
class RuleResult:
    """What one rule said: by the `files` of the image, or by the running `guest`."""

    rule: str
    outcome: Outcome
    severity: Severity
    title: str
    judge: Judge = "files"

    @property
    def applicable(self) -> bool:
        return self.outcome in PASSED | FAILED


@dataclass(frozen=True)
class Standard:
    """What an image was measured by: the profile's short name and title, the benchmark's id, the SHA-256 (hex) of the
    content, its version, and the scanner's."""

    profile: str
    title: str
    benchmark: str
    content: str
    version: str
    scanner: str


@dataclass(frozen=True)
class Scan:
    """A measurement: one result for each rule that the profile selects, in the order of their names."""

    standard: Standard
    rules: tuple[RuleResult, ...]

    @property
    def counts(self) -> Mapping[str, int]:
        """How many rules had which outcome."""
        return Counter(each.outcome for each in self.rules)

    @property
    def passed(self) -> int:
        return sum(each.outcome in PASSED for each in self.rules)

    @property
    def applicable(self) -> int:
        return sum(each.applicable for each in self.rules)

    @property
    def score(self) -> Fraction:
        """The share of the applicable rules that pass, in percent; nothing applicable is nothing proved."""
        return Fraction(100 * self.passed, self.applicable) if self.applicable else Fraction(0)

    def score_apart_from(self, rules: Iterable[str]) -> Fraction:
        """The score of the other rules."""
        left_out = frozenset(rules)
        return replace(self, rules=tuple(each for each in self.rules if each.rule not in left_out)).score

    @property
    def score_apart_from_layout(self) -> Fraction:
        """The score of all rules but partition_* and mount_option_*: they ask for a disk of several file systems."""
        return self.score_apart_from(each.rule for each in self.rules if each.rule.startswith(_OF_LAYOUT))

    def failing(self) -> tuple[RuleResult, ...]:
        return tuple(each for each in self.rules if each.outcome in FAILED)

    def with_guest(self, said: Mapping[str, Outcome]) -> "Scan":
        """What a running guest says of the rules that no file can answer; what it does not say is unknown."""

        def judged(each: RuleResult) -> RuleResult:
            return replace(each, outcome=said.get(each.rule, "unknown"), judge="guest") if is_live(each.rule) else each

        return replace(self, rules=tuple(map(judged, self.rules)))

    def without_guest(self) -> "Scan":
        """The rules that files answer."""
        return replace(self, rules=tuple(each for each in self.rules if not is_live(each.rule)))

    def to_json(self) -> dict[str, JSON]:
        """The same for `from_json`, and for evidence."""
        rules: list[JSON] = [asdict(each) for each in self.rules]
        return {"standard": asdict(self.standard), "rules": rules}

    @classmethod
    def from_json(cls, document: Mapping[str, Any]) -> "Scan":
        """Read what `to_json` wrote. Raises KeyError, TypeError, ValueError."""
        standard = Standard(**document["standard"])
        rules = tuple(RuleResult(**each) for each in document["rules"])
        check_texts(standard, *rules)
        for each in rules:
            for word, words in ((each.outcome, Outcome), (each.severity, Severity), (each.judge, Judge)):
                if word not in get_args(words):
                    raise ValueError(f"{each.rule} has {word!r}, which is none of {', '.join(get_args(words))}")
        if len({each.rule for each in rules}) < len(rules):
            raise ValueError("a rule has two results")
        return cls(standard, rules)


@dataclass(frozen=True)
class RuleException(Accepted):
    """A rule that may fail until the day `expires`, included: why, and who answers for that."""

    rule: str
    reason: str
    owner: str
    expires: date

    @property
    def subject(self) -> str:
        return self.rule


@dataclass(frozen=True)
class Gate:
    """What a measurement must reach: a score in percent, and no failing rule of severity high without an exception."""

    min_score: int
    exceptions: tuple[RuleException, ...] = ()

    @classmethod
    def from_json(cls, document: Mapping[str, Any]) -> "Gate":
        """Read the part `compliance` of a recipe as JSON. Raises KeyError, TypeError, ValueError."""
        exceptions = tuple(RuleException.from_json(each) for each in document.get("exceptions", ()))
        return cls(_whole(document.get("min_score", 0)), exceptions)

    def expired(self, today: date) -> tuple[RuleException, ...]:
        return expired(self.exceptions, today)


def _whole(value: object) -> int:
    if type(value) is not int:
        raise TypeError(f"should be a whole number, not {type(value).__name__}")
    return value


@dataclass(frozen=True)
class Verdict:
    """What the gate says. `refused` are its reasons, for people (none: it passes); `excepted` are the exceptions of
    failing rules that still hold, `needless` those of rules that do not fail."""

    refused: tuple[str, ...]
    excepted: tuple[RuleException, ...]
    needless: tuple[RuleException, ...]


def judge(scan: Scan, gate: Gate, today: date) -> Verdict:
    """Hold a measurement against a gate."""
    failing = {each.rule: each for each in scan.failing()}
    weighed = weigh(gate.exceptions, failing, today)
    refused = weighed.refused
    refused += [
        f"{each.rule} fails, is of severity high, and has no exception: {each.title}"
        for each in failing.values()
        if each.severity == "high" and each.rule not in weighed.holding
    ]
    if scan.score < gate.min_score:
        refused.append(f"the score is {percent(scan.score)}, and {percent(gate.min_score)} is wanted")
    return Verdict(tuple(refused), weighed.excepted, weighed.needless)


def decimal(score: Fraction | int) -> str:
    """A score with one decimal, rounded down: 95.96 is "95.9", never 96."""
    tenths = score * 10 // 1
    return f"{tenths // 10}.{tenths % 10}"


def percent(score: Fraction | int) -> str:
    """The same for people: "95.9 %"."""
    return f"{decimal(score)} %"


@dataclass(frozen=True)
class Measurement:
    """What evidence of the kind "compliance" says: a scan and the score in percent that was wanted, the exceptions of
    failing rules and the needless ones, and the digests ("sha256:HEX") of the root file system and of the HTML report,
    None where that was not kept."""

    scan: Scan
    min_score: int
    exceptions: tuple[RuleException, ...]
    needless: tuple[RuleException, ...]
    rootfs: str
    report: str | None = None

    def facts(self) -> dict[str, JSON]:
        """The facts of the evidence. `score` follows from the scan, for whoever reads it."""
        return {
            "scan": self.scan.to_json(),
            "score": decimal(self.scan.score),
            "min_score": self.min_score,
            "exceptions": [each.to_json() for each in self.exceptions],
            "needless": [each.to_json() for each in self.needless],
            "rootfs": self.rootfs,
            "report": self.report,
        }

    @classmethod
    def from_facts(cls, facts: Mapping[str, Any]) -> "Measurement":
        """Read what `facts` wrote. Raises KeyError, TypeError, ValueError."""
        exceptions, needless = (
            tuple(RuleException.from_json(each) for each in facts[name]) for name in ("exceptions", "needless")
        )
        for digest in (facts["rootfs"], *([] if facts["report"] is None else [facts["report"]])):
            if _DIGEST.fullmatch(digest) is None:
                raise ValueError(f"{digest!r} is not sha256:HEX")
        scan, wanted = Scan.from_json(facts["scan"]), _whole(facts["min_score"])
        return cls(scan, wanted, exceptions, needless, facts["rootfs"], facts["report"])


@dataclass(frozen=True)
class Difference:
    """A rule whose outcome is another one in a later measurement; None: the rule was not selected."""

    rule: str
    old: Outcome | None
    new: Outcome | None


def differences(old: Scan, new: Scan) -> Sequence[Difference]:
    """What changed between two measurements, by rule."""
    before, after = ({each.rule: each.outcome for each in scan.rules} for scan in (old, new))
    return [
        Difference(rule, before.get(rule), after.get(rule))
        for rule in sorted(before.keys() | after.keys())
        if before.get(rule) != after.get(rule)
    ]
