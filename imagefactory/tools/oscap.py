"""What OpenSCAP reads and writes: SCAP data streams, XCCDF 1.2 tailoring files and results (NIST IR 7275 revision 4).

Results were written by a program that ran in the image under test, with the image's own libraries; data streams and
tailoring files are a stranger's, too. They are XML without a document type, bounded in bytes, elements and depth. Of
the results nothing but the outcomes is believed: titles and severities come from the content, and each rule that the
profile selects, whatever others it selects, must have an outcome.
"""

import difflib
import io
import re
from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any, TypeAlias, cast, get_args
from xml.etree.ElementTree import Element, ParseError

from defusedxml.common import DefusedXmlException
from defusedxml.ElementTree import iterparse

from imagefactory.errors import (
    ContentInvalid,
    FactoryError,
    ProfileUnknown,
    RuleUnknown,
    ScanFailed,
    TailoringInvalid,
)
from imagefactory.model.compliance import Outcome, RuleResult, Scan, Severity, Standard

MAX_CONTENT = 64 << 20  # bytes of a data stream; Debian 12's has 10 MiB
MAX_TAILORING = 4 << 20
MAX_RESULTS = 64 << 20  # bytes; they repeat the benchmark
MAX_ELEMENTS = 1_000_000  # Debian 12's data stream has 64,000
MAX_DEPTH = 100
MAX_TITLE = 300  # characters
CHUNK = 1 << 20  # bytes that expat is given at a time
MAX_EXTENDS = 16  # profiles, one extending the other
OUTCOMES = frozenset(get_args(Outcome))
# What a rule says when it has several results, one for each of its checks: the first of these that any has.
WORST: Sequence[Outcome] = ("fail", "error", "unknown", "notchecked", "fixed", "pass", "informational", "notapplicable")

Wrong: TypeAlias = Callable[[str], FactoryError]

_XCCDF = "{http://checklists.nist.gov/xccdf/1.2}"
_COLLECTION = "{http://scap.nist.gov/schema/scap/source/1.2}data-stream-collection"
# XCCDF 1.2, 6.2.4: xccdf_NAMESPACE_KIND_NAME, where a namespace is a reversed domain name.
_ID = re.compile(r"xccdf_[A-Za-z0-9.-]{1,200}_(?P<kind>rule|profile|benchmark|group)_(?P<name>[\w.-]{1,200})", re.ASCII)


@dataclass(frozen=True)
class Rule:
    """A rule of a benchmark: its id, its short name, and the groups around it. A `conditional` one is left out where
    others that it requires are not selected, or others that it conflicts with are: the scanner knows."""

    id: str
    name: str
    title: str
    severity: Severity
    selected: bool
    clusters: frozenset[str]
    groups: tuple[str, ...]
    conditional: bool


@dataclass(frozen=True)
class Choice:
    """What a profile says of the rule, group or cluster `about`: whether it is selected, or how severe it is."""

    about: str
    selected: bool | None = None
    severity: Severity | None = None


@dataclass(frozen=True)
class Profile:
    """A profile of a benchmark or of a tailoring file; `extends` is the id of another one."""

    id: str
    name: str
    title: str
    extends: str | None
    choices: tuple[Choice, ...]


@dataclass(frozen=True)
class Content:
    """A benchmark: the platforms (CPE names) it is made for, its groups with whether each is selected, its rules, its
    profiles, and those of a tailoring file, each by id."""

    benchmark: str
    platforms: tuple[str, ...]
    groups: Mapping[str, bool]
    rules: Mapping[str, Rule]
    profiles: Mapping[str, Profile]
    tailored: Mapping[str, Profile]

    def require_platform(self, distro: str, version: str) -> None:
        """Raises ContentInvalid for content that is made for something else, by which nothing would be judged."""
        wanted = f"cpe:/o:{distro}:{distro}_linux:{version}"
        if self.platforms and wanted not in self.platforms:
            made_for = ", ".join(self.platforms[:3])
            raise ContentInvalid(f"the SCAP content is made for {made_for}, and the image is {distro} {version}")

    def profile(self, name: str) -> Profile:
        """The profile with the short name or the id `name`; a tailored one comes first. Raises ProfileUnknown."""
        offered = [*self.tailored.values(), *self.profiles.values()]
        for each in offered:
            if name in (each.name, each.id):
                return each
        raise ProfileUnknown(f"the SCAP content has no profile {name}{_nearest(name, [each.name for each in offered])}")

    def base(self, profile: Profile) -> Profile:
        """The profile of the content itself that a profile is, or is tailored from. Raises as `selection`."""
        return next((each for each in self._chain(profile) if self.profiles.get(each.id) is each), profile)

    def selection(self, profile: Profile) -> dict[str, Rule]:
        """The rules that a profile selects, by short name in its order, with the severity that they have in it.

        A rule in a group that is not selected is not selected either (XCCDF 1.2, 7.2.2.2). Raises TailoringInvalid,
        ContentInvalid.
        """
        groups, chosen = dict(self.groups), {each.id: each.selected for each in self.rules.values()}
        severities: dict[str, Severity] = {}
        clusters: dict[str, list[str]] = {}
        for rule in self.rules.values():
            for cluster in rule.clusters:
                clusters.setdefault(cluster, []).append(rule.id)
        for choice in self._choices(profile):
            for about in clusters.get(choice.about, [choice.about]):
                if choice.severity is not None:
                    severities[about] = choice.severity
                if choice.selected is not None:
                    (groups if about in groups else chosen)[about] = choice.selected
        selected = (
            _with_severity(rule, severities)
            for rule in self.rules.values()
            if chosen[rule.id] and all(groups[group] for group in rule.groups)
        )
        return dict(sorted((rule.name, rule) for rule in selected))

    def require_rules(self, profile: Profile, names: Collection[str]) -> None:
        """Raises RuleUnknown for the first of `names` that is no rule which the profile selects."""
        selection = self.selection(profile)
        for name in names:
            if name not in selection:
                raise RuleUnknown(f"the profile {profile.name} selects no rule {name}{_nearest(name, selection)}")

    def _choices(self, profile: Profile) -> Iterator[Choice]:
        """What the profile and those that it extends say; the last word counts."""
        for each in reversed(self._chain(profile)):
            yield from each.choices

    def _chain(self, profile: Profile) -> list[Profile]:
        """The profile, the one that it extends, and so on."""
        chain = [profile]
        while (extends := chain[-1].extends) is not None:
            # A tailored profile may have the id of the one that it extends.
            parent = self.profiles.get(extends) or self.tailored.get(extends)
            wrong = TailoringInvalid if profile.id in self.tailored else ContentInvalid
            if parent is None:
                raise wrong(f"the profile {chain[-1].name} extends {extends!r:.300}, which does not exist")
            if len(chain) > MAX_EXTENDS:
                raise wrong(f"the profile {profile.name} extends more than {MAX_EXTENDS} others, or itself")
            chain.append(parent)
        return chain


def read_content(raw: bytes) -> Content:
    """Read a SCAP source data stream. Raises ContentInvalid."""
    seen = _Benchmark(ContentInvalid)
    for event, element, parents in _walk(raw, _COLLECTION, "SCAP data stream", ContentInvalid):
        (seen.start if event == "start" else seen.end)(element, parents)
    if len(seen.benchmarks) != 1:
        raise ContentInvalid(f"the SCAP data stream has {len(seen.benchmarks)} benchmarks, and should have one")
    names = [rule.name for rule in seen.rules.values()]
    if len(set(names)) != len(names):
        raise ContentInvalid("the SCAP data stream has two rules of one short name")
    return Content(seen.benchmarks[0], tuple(seen.platforms), seen.groups, seen.rules, seen.profiles, {})


def tailor(content: Content, raw: bytes) -> Content:
    """The content with the profiles of an XCCDF tailoring file. Raises TailoringInvalid."""
    tailored: dict[str, Profile] = {}
    for event, element, parents in _walk(raw, f"{_XCCDF}Tailoring", "XCCDF tailoring", TailoringInvalid):
        if event == "end" and element.tag == f"{_XCCDF}Profile" and len(parents) == 1:
            profile = _profile(element, TailoringInvalid)
            tailored[profile.id] = profile
            element.clear()
    if not tailored:
        raise TailoringInvalid("the XCCDF tailoring has no profile")
    made = replace(content, tailored=tailored)
    known = content.rules.keys() | content.groups.keys() | {c for r in content.rules.values() for c in r.clusters}
    for profile in tailored.values():
        for choice in made._choices(profile):
            if choice.about not in known:
                name = choice.about.rpartition("_rule_")[2]
                near = _nearest(name, [rule.name for rule in content.rules.values()])
                raise TailoringInvalid(f"the profile {profile.name} selects {name:.200}, which does not exist{near}")
    return made


@dataclass(frozen=True)
class Results:
    """What oscap wrote: the ids of the benchmark and the profile, and the outcome of each rule that was selected, by
    id."""

    benchmark: str
    profile: str
    outcomes: Mapping[str, Outcome]


def read_results(raw: bytes) -> Results:
    """Read the XCCDF results of one evaluation. Raises ScanFailed."""
    found: list[tuple[str, str]] = []
    outcomes: dict[str, Outcome] = {}
    for event, element, _ in _walk(raw, f"{_XCCDF}Benchmark", "XCCDF results", ScanFailed):
        if event == "start":
            continue
        if element.tag == f"{_XCCDF}rule-result":
            rule, said = element.get("idref", ""), (element.findtext(f"{_XCCDF}result") or "").strip()
            if said != "notselected":
                outcomes[rule] = worst(_outcome(rule, said), outcomes.get(rule))
            element.clear()
        elif element.tag == f"{_XCCDF}TestResult":
            found.append((_idref(element, "benchmark", "id"), _idref(element, "profile", "idref")))
        elif element.tag in _NOT_ASKED_FOR:
            element.clear()
    if len(found) != 1:
        raise ScanFailed(f"the scanner's results are those of {len(found)} evaluations")
    return Results(*found[0], outcomes)


def scan_of(content: Content, profile: Profile, results: Results, standard: Standard) -> Scan:
    """The measurement that `results` are. Raises ScanFailed when they are not those of the profile, or not all."""
    if (results.benchmark, results.profile) != (content.benchmark, profile.id):
        raise ScanFailed(f"the scanner's results are not those of the profile {profile.name}")
    selection = content.selection(profile)
    differing = {rule.id for rule in selection.values()} ^ results.outcomes.keys()
    differing -= {rule.id for rule in selection.values() if rule.conditional}
    if differing:
        some = ", ".join(f"{each!r:.300}" for each in sorted(differing)[:3])
        raise ScanFailed(f"the scanner's results have too many rules or too few for {profile.name}: {some}")
    said = ((rule, results.outcomes[rule.id]) for rule in selection.values() if rule.id in results.outcomes)
    return Scan(standard, tuple(RuleResult(rule.name, each, rule.severity, rule.title) for rule, each in said))


_CONDITIONS = frozenset(f"{_XCCDF}{name}" for name in ("requires", "conflicts"))
_NOT_ASKED_FOR = frozenset(f"{_XCCDF}{name}" for name in ("Rule", "Group", "Profile", "Value"))


class _Benchmark:
    """What was read of a data stream so far."""

    def __init__(self, wrong: Wrong) -> None:
        self._wrong = wrong
        self.benchmarks: list[str] = []
        self.platforms: list[str] = []
        self.groups: dict[str, bool] = {}
        self.conditional: set[str] = set()  # groups
        self.rules: dict[str, Rule] = {}
        self.profiles: dict[str, Profile] = {}

    def start(self, element: Element, parents: Sequence[Element]) -> None:
        del parents
        if element.tag == f"{_XCCDF}Benchmark":
            self.benchmarks.append(_id(element, "benchmark", self._wrong)[0])
        elif element.tag == f"{_XCCDF}Group":
            self.groups[_id(element, "group", self._wrong)[0]] = _true(element.get("selected", "true"))

    def end(self, element: Element, parents: Sequence[Element]) -> None:
        within = parents[-1].tag if parents else None
        if element.tag == f"{_XCCDF}platform" and within == f"{_XCCDF}Benchmark":
            self.platforms.append(element.get("idref", ""))
        elif element.tag in _CONDITIONS and within == f"{_XCCDF}Group":
            self.conditional.add(parents[-1].get("id", ""))
        elif element.tag == f"{_XCCDF}Rule":
            made = self._rule(element, parents)
            if made.id in self.rules:
                raise self._wrong(f"the SCAP data stream has two rules of the id {made.id}")
            self.rules[made.id] = made
            element.clear()
        elif element.tag == f"{_XCCDF}Profile":
            profile = _profile(element, self._wrong)
            self.profiles[profile.id] = profile
            element.clear()
        elif not any(each.tag in (f"{_XCCDF}Rule", f"{_XCCDF}Profile") for each in parents[-2:]):
            element.clear()

    def _rule(self, element: Element, parents: Sequence[Element]) -> Rule:
        id_, name = _id(element, "rule", self._wrong)
        groups = tuple(each.get("id", "") for each in parents if each.tag == f"{_XCCDF}Group")
        return Rule(
            id_,
            name,
            _title(element) or name,
            _severity(element.get("severity", "unknown"), self._wrong),
            _true(element.get("selected", "true")),
            frozenset(filter(None, [element.get("cluster-id")])),
            groups,
            not self.conditional.isdisjoint(groups) or any(element.find(each) is not None for each in _CONDITIONS),
        )


class _Chunks(io.BytesIO):
    """Bytes in large pieces. expat before 2.6.0 reads a tag anew with each piece that does not end it
    (CVE-2023-52425), so the small ones that are asked for would take minutes."""

    def read(self, size: int | None = -1, /) -> bytes:
        del size
        return super().read(CHUNK)


def _walk(raw: bytes, root: str, what: str, wrong: Wrong) -> Iterator[tuple[str, Element, Sequence[Element]]]:
    """The start and the end of each element, with the elements around it, outermost first."""
    parents: list[Element] = []
    count = 0
    try:
        events: Any = iterparse(_Chunks(raw), ("start", "end"), forbid_dtd=True)
        for event, element in events:
            if event == "end":
                parents.pop()
                yield event, element, parents
                continue
            count += 1
            if not parents and element.tag != root:
                raise wrong(f"this is no {what}: it begins with {element.tag!r:.200}")
            if count > MAX_ELEMENTS or len(parents) >= MAX_DEPTH:
                raise wrong(f"the {what} has more than {MAX_ELEMENTS} elements or {MAX_DEPTH} levels")
            yield event, element, parents
            parents.append(element)
    except DefusedXmlException:
        raise wrong(f"the {what} has a document type, which is where XML is made dangerous") from None
    except (ParseError, ValueError, LookupError) as error:
        raise wrong(f"the {what} is no XML: {error!s:.200}") from None


def _profile(element: Element, wrong: Wrong) -> Profile:
    id_, name = _id(element, "profile", wrong)
    choices = []
    for each in element:
        if each.tag == f"{_XCCDF}select":
            choices.append(Choice(each.get("idref", ""), selected=_true(each.get("selected", ""))))
        elif each.tag == f"{_XCCDF}refine-rule" and "severity" in each.attrib:
            choices.append(Choice(each.get("idref", ""), severity=_severity(each.get("severity", ""), wrong)))
    return Profile(id_, name, _title(element) or name, element.get("extends"), tuple(choices))


def _id(element: Element, kind: str, wrong: Wrong) -> tuple[str, str]:
    """The id of an element, and the short name in it."""
    value = element.get("id", "")
    match = _ID.fullmatch(value)
    if match is None or match["kind"] != kind:
        raise wrong(f"{value!r:.200} is no id of a {kind} in XCCDF 1.2")
    return value, match["name"]


def _idref(element: Element, child: str, attribute: str) -> str:
    found = element.find(f"{_XCCDF}{child}")
    return "" if found is None else found.get(attribute, "")


def _title(element: Element) -> str:
    """A title on one line, without anything that a terminal would obey."""
    found = element.find(f"{_XCCDF}title")
    text = " ".join("".join(found.itertext()).split()) if found is not None else ""
    return "".join(each if each.isprintable() else "\ufffd" for each in text)[:MAX_TITLE]


def _severity(value: str, wrong: Wrong) -> Severity:
    if value not in get_args(Severity):
        raise wrong(f"{value!r:.100} is no severity in XCCDF 1.2")
    return cast(Severity, value)


def _with_severity(rule: Rule, severities: Mapping[str, Severity]) -> Rule:
    return replace(rule, severity=severities.get(rule.id, rule.severity))


def _outcome(rule: str, said: str) -> Outcome:
    if said not in OUTCOMES:
        raise ScanFailed(f"the scanner says {said!r:.100} of {rule!r:.300}, which is no outcome in XCCDF 1.2")
    return cast(Outcome, said)


def worst(new: Outcome, old: Outcome | None) -> Outcome:
    """What a rule says that has said `old` of one check, if anything, and says `new` of another."""
    return new if old is None else min(new, old, key=WORST.index)


def _true(value: str) -> bool:
    """xs:boolean."""
    return value.strip() in ("true", "1")


def _nearest(name: str, known: Collection[str]) -> str:
    near = difflib.get_close_matches(name[:100], sorted(known), n=1)
    return f"; did you mean {near[0]}?" if near else ""
