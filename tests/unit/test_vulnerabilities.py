"""Known vulnerabilities: what is found in an image, the gate, what evidence says, and what a recipe writes of it."""

import json
from dataclasses import asdict, replace
from datetime import date, timedelta
from hashlib import sha256
from pathlib import Path
from typing import Any, get_args

import pytest
from hypothesis import given
from hypothesis import strategies as st

from imagefactory.errors import FeedTooLarge, VulnerabilitiesFound
from imagefactory.factory import vulnerabilities
from imagefactory.model.advisories import RANK, Advisory, Event, Severity
from imagefactory.model.evidence import Evidence
from imagefactory.model.recipe import OperatingSystem, Recipe, effective
from imagefactory.model.recipe_vulnerabilities import Vulnerabilities
from imagefactory.model.vulnerabilities import (
    MAX_AGE,
    Assessment,
    CveException,
    Feed,
    Finding,
    Gate,
    Threshold,
    VulnerabilityScan,
    judge,
    match,
    summary,
    why_stale,
)
from imagefactory.steps import vulnerabilities as step
from imagefactory.store.tables import StepResult
from imagefactory.tools.feed_source import FeedFile
from imagefactory.tools.recipe_file import load_recipe
from tests.fakes.feeds import issue, tracker
from tests.unit.test_inventory import paragraph
from tests.unit.test_recipe_file import MINIMAL, refused, write

TODAY = date(2026, 11, 22)
FEED = Feed("https://example.org/data/json", "debian-tracker", "c" * 64, TODAY)
ROOTFS = "sha256:" + "a" * 64


def finding(identifier: str, severity: Severity = "medium", source: str = "openssl") -> Finding:
    return Finding(identifier, source, "3.0.17-1", severity)


def scan(*findings: Finding) -> VulnerabilityScan:
    return VulnerabilityScan(FEED, 3, findings, {each.source: (f"lib{each.source}",) for each in findings})


def exception(cve: str, expires: date = TODAY) -> CveException:
    return CveException(cve, "Nobody reaches that code.", "platform team", expires)


def advisory(cve: str, source: str, severity: Severity = "medium", fixed: str | None = None) -> Advisory:
    end = (Event("fixed", fixed),) if fixed else ()
    return Advisory(cve, source, severity, ((Event("introduced", "0"), *end),))


CVES = st.sampled_from([f"CVE-2026-{number:04}" for number in range(8)])
SEVERITIES = st.sampled_from(get_args(Severity))
FINDINGS = st.builds(
    Finding,
    CVES,
    st.sampled_from(["linux", "openssl"]),
    st.sampled_from(["1", "2~rc1"]),
    SEVERITIES,
    st.sampled_from([None, "3"]),
)
SCANS = st.lists(FINDINGS, max_size=8, unique_by=lambda each: (each.id, each.source, each.version)).map(
    lambda found: scan(*found)
)
DAYS = st.integers(-3, 3).map(lambda days: TODAY + timedelta(days))
EXCEPTIONS = st.lists(
    st.builds(CveException, CVES, st.text(max_size=20), st.text(max_size=20), DAYS),
    max_size=6,
    unique_by=lambda each: each.cve,
).map(tuple)
GATES = st.builds(Gate, st.sampled_from(get_args(Threshold)), EXCEPTIONS)


# -- what is found ----------------------------------------------------------------------------------------------------


def test_what_is_found_in_an_image() -> None:
    sources = {
        "linux": {"6.1.192-2": frozenset({"linux-image-cloud-amd64", "linux-image-6.1.0-56-cloud-amd64"})},
        "openssl": {"3.0.17-1": frozenset({"libssl3"}), "1.1.1-1": frozenset({"old"})},
        "zlib": {"1:1.2.13.dfsg-1": frozenset({"zlib1g"})},
    }
    said = [
        advisory("CVE-2026-0002", "openssl", "high", fixed="3.0.17-1"),
        advisory("CVE-2026-0001", "linux", "unknown"),
        advisory("CVE-2026-0003", "zlib", fixed="1:1.2.13.dfsg-1"),
        advisory("CVE-2026-0004", "systemd"),
    ]
    assert match(sources, said, FEED) == VulnerabilityScan(
        FEED,
        3,
        (
            Finding("CVE-2026-0001", "linux", "6.1.192-2", "unknown"),
            Finding("CVE-2026-0002", "openssl", "1.1.1-1", "high", "3.0.17-1"),
        ),
        {
            "linux": ("linux-image-6.1.0-56-cloud-amd64", "linux-image-cloud-amd64"),
            "openssl": ("libssl3", "old"),
        },
    )


@pytest.mark.parametrize(
    ("one", "other", "severity"),
    [("unknown", "low", "low"), ("low", "high", "high"), ("unknown", "unknown", "unknown"), ("high", "high", "high")],
)
def test_two_advisories_about_one_vulnerability(one: Severity, other: Severity, severity: Severity) -> None:
    sources = {"openssl": {"1": frozenset({"libssl3"})}}
    said = [advisory("CVE-2026-0001", "openssl", one, "2"), advisory("CVE-2026-0001", "openssl", other, "10")]
    for order in (said, said[::-1]):
        (found,) = match(sources, order, FEED).findings
        assert (found.severity, found.fixed) == (severity, "10")


def test_counts_and_the_worst_first() -> None:
    found = scan(finding("A-1", "low"), finding("A-2", "critical"), finding("A-3", "unknown"), finding("A-4", "low"))
    assert summary(found.counts) == "1 critical, 1 unknown, 2 low"
    assert [each.id for each in found.worst_first()] == ["A-2", "A-3", "A-1", "A-4"]
    assert summary(scan().counts) == "none"


def test_a_dpkg_status_file_is_looked_up(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "status").write_text(
        paragraph("libssl3", Source="openssl", Version="3.0.17-1")
        + paragraph("linux-image", Source="linux-signed-amd64 (6.1.192+2)", **{"Built-Using": "linux (= 6.1.192-2)"})
    )
    issues = {"linux": {"CVE-2026-0001": issue(urgency="high")}, "openssl": {"CVE-2026-0002": issue(urgency="low")}}
    (tmp_path / "feed").write_bytes(tracker(issues))
    file = FeedFile(tmp_path / "feed", sha256(tracker(issues)).hexdigest(), TODAY, "feed.json")
    system = OperatingSystem(distro="debian", version="12")
    found = step.scan(tmp_path / "status", file, system)
    assert [(each.id, each.source, each.version) for each in found.findings] == [
        ("CVE-2026-0001", "linux", "6.1.192-2"),
        ("CVE-2026-0002", "openssl", "3.0.17-1"),
    ]
    assert (found.sources, found.feed) == (3, Feed("feed.json", "debian-tracker", file.sha256, TODAY))
    monkeypatch.setattr(step, "MAX_FOUND", len(json.dumps(found.to_json())) - 1)
    with pytest.raises(FeedTooLarge, match="more of this image than"):
        step.scan(tmp_path / "status", file, system)


# -- the gate ---------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("severity", "passing"),
    [
        ("unimportant", ["unimportant", "low", "medium", "high", "critical"]),
        ("low", ["low", "medium", "high", "critical"]),
        ("medium", ["medium", "high", "critical"]),
        ("high", ["high", "critical"]),
        ("unknown", ["high", "critical"]),
        ("critical", ["critical"]),
    ],
)
def test_how_bad_it_may_be(severity: Severity, passing: list[str]) -> None:
    found = scan(finding("CVE-2026-0001", severity))
    gates: list[Threshold] = list(get_args(Threshold))
    assert [each for each in gates if not judge(found, Gate(each), TODAY).refused] == passing


def test_what_is_refused_says_what_and_where() -> None:
    found = scan(replace(finding("CVE-2026-0001", "high"), fixed="3.0.18-1"), finding("CVE-2026-0002", "unknown"))
    assert judge(found, Gate("low"), TODAY).refused == (
        "CVE-2026-0001 in openssl 3.0.17-1, severity high, fixed in 3.0.18-1; more than low has no exception",
        "CVE-2026-0002 in openssl 3.0.17-1, severity unknown; more than low has no exception",
    )


def test_an_exception_holds_on_its_last_day_and_not_on_the_next() -> None:
    found = scan(finding("CVE-2026-0001", "high"), finding("CVE-2026-0001", "high", "linux"))
    gate = Gate("low", (exception("CVE-2026-0001"), exception("CVE-2026-0002")))
    verdict = judge(found, gate, TODAY)
    assert (verdict.refused, verdict.excepted, verdict.needless) == ((), gate.exceptions[:1], gate.exceptions[1:])
    assert gate.expired(TODAY) == ()
    after = judge(found, gate, TODAY + timedelta(1))
    assert after.refused[:2] == (
        "the exception for CVE-2026-0001 expired on 2026-11-22",
        "the exception for CVE-2026-0002 expired on 2026-11-22",
    )
    assert len(after.refused) == 4
    assert after.excepted == ()


@pytest.mark.parametrize(
    ("days", "stale"), [(0, False), (7, False), (8, True), (400, True), (-1, False), (-2, True), (-9000, True)]
)
def test_a_feed_says_nothing_about_another_time(days: int, stale: bool) -> None:
    feed = replace(FEED, dated=TODAY - timedelta(days))
    assert (why_stale(feed.dated, TODAY) is not None) is stale
    refused = judge(replace(scan(), feed=feed), Gate("critical"), TODAY).refused
    assert [f"the feed is of {feed.dated}" in each for each in refused] == ([True] if stale else [])
    assert why_stale(TODAY - MAX_AGE, TODAY) is None


def test_a_build_is_not_told_of_thousands(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(vulnerabilities, "_today", lambda: TODAY)
    wanted = Vulnerabilities(feed="feed.json", max_severity="high")
    found = scan(*(finding(f"CVE-2026-{number:05}", "critical") for number in range(60)), finding("CVE-2026-1", "low"))
    result = StepResult(facts={"scan": found.to_json(), "rootfs": "a" * 64})
    with pytest.raises(VulnerabilitiesFound) as refused:
        vulnerabilities.require(wanted, result)
    assert refused.value.message.startswith("CVE-2026-00000 in openssl 3.0.17-1, severity critical")
    assert (len(refused.value.lines), refused.value.lines[-1]) == (51, "and 9 more")


@given(SCANS, GATES)
def test_the_gate(found: VulnerabilityScan, gate: Gate) -> None:
    verdict = judge(found, gate, TODAY)
    holding = {each.cve for each in gate.exceptions if each.expires >= TODAY}
    known = {each.id for each in found.findings}
    bad = {each.id for each in found.findings if RANK[each.severity] > RANK[gate.max_severity]}
    assert (verdict.refused == ()) is (len(holding) == len(gate.exceptions) and bad <= holding)
    assert {each.cve for each in verdict.excepted} == known & holding
    assert {each.cve for each in verdict.needless} == {each.cve for each in gate.exceptions} - known


@given(SCANS, GATES, st.sampled_from(get_args(Threshold)))
def test_a_gate_that_wants_less_refuses_no_more(found: VulnerabilityScan, gate: Gate, other: Threshold) -> None:
    strict, mild = sorted((gate.max_severity, other), key=RANK.__getitem__)
    left = judge(found, replace(gate, max_severity=mild), TODAY).refused
    assert len(left) <= len(judge(found, replace(gate, max_severity=strict), TODAY).refused)


# -- what evidence says -----------------------------------------------------------------------------------------------


@given(SCANS, st.sampled_from(get_args(Threshold)), EXCEPTIONS, EXCEPTIONS)
def test_evidence_keeps_all_of_it(
    found: VulnerabilityScan,
    wanted: Threshold,
    exceptions: tuple[CveException, ...],
    needless: tuple[CveException, ...],
) -> None:
    said = Assessment(found, wanted, exceptions, needless, ROOTFS)
    written = Evidence("vulnerabilities", ROOTFS, "pass", said.facts()).to_json()
    read = Evidence.from_json(json.loads(json.dumps(written)))
    assert Assessment.from_facts(read.facts) == said
    assert read.to_json() == written


@given(GATES)
def test_a_gate_is_read_as_the_recipe_writes_it(gate: Gate) -> None:
    document = {"max_severity": gate.max_severity, "exceptions": [each.to_json() for each in gate.exceptions]}
    assert Gate.from_json(json.loads(json.dumps(document))) == gate
    assert Gate.from_json({"max_severity": "low", "feed": "x"}) == Gate("low")


@pytest.mark.parametrize("severity", ["unknown", "none", "", None, 7, ["low"]])
def test_a_gate_wants_a_severity(severity: object) -> None:
    with pytest.raises((TypeError, ValueError)):
        Gate.from_json({"max_severity": severity})
    with pytest.raises(KeyError):
        Gate.from_json({})


def facts_with(**changes: object) -> dict[str, Any]:
    found = scan(finding("CVE-2026-0001"))
    facts = Assessment(found, "medium", (exception("CVE-2026-0001"),), (), ROOTFS).facts()
    return {**json.loads(json.dumps(facts)), **changes}


def scan_with(**changes: object) -> dict[str, Any]:
    return facts_with(scan={**facts_with()["scan"], **changes})


def feed_with(**changes: object) -> dict[str, Any]:
    return scan_with(feed={**facts_with()["scan"]["feed"], **changes})


def findings_with(*changes: dict[str, object]) -> dict[str, Any]:
    return scan_with(findings=[{**asdict(finding("CVE-2026-0001")), **change} for change in changes])


BAD_FACTS: dict[str, dict[str, Any]] = {
    "no scan": facts_with(scan=None),
    "no feed": scan_with(feed=None),
    "a feed of no day": feed_with(dated=None),
    "a feed of some day": feed_with(dated="today"),
    "a feed of another format": feed_with(format="oval"),
    "a feed without a digest": feed_with(sha256="c"),
    "a feed of nobody": feed_with(source=None),
    "a feed with more": feed_with(colour="red"),
    "no findings": scan_with(findings=None),
    "findings of text": scan_with(findings=["CVE-2026-0001"]),
    "an unknown severity": findings_with({"severity": "severe"}),
    "a severity that is a list": findings_with({"severity": ["low"]}),
    "a finding of a number": findings_with({"id": 1}),
    "a finding with more": findings_with({"colour": "red"}),
    "a finding twice": findings_with({}, {"severity": "low"}),
    "a finding of no package": scan_with(packages={}),
    "packages without a finding": scan_with(packages={"openssl": ["libssl3"], "zlib": ["zlib1g"]}),
    "packages as text": scan_with(packages={"openssl": "libssl3"}),
    "packages as a list": scan_with(packages=["openssl"]),
    "a fix that is no version": findings_with({"fixed": 0}),
    "a fix that is nothing": findings_with({"fixed": []}),
    "packages of numbers": scan_with(packages={"openssl": [1]}),
    "nothing was looked up": scan_with(sources=0),
    "something was looked up": scan_with(sources=True),
    "another gate": facts_with(max_severity="unknown"),
    "an exception without a day": facts_with(exceptions=[{"cve": "CVE-2026-0001", "reason": "r", "owner": "o"}]),
    "an exception for a rule": facts_with(exceptions=[{**exception("x").to_json(), "rule": "x"}]),
    "no root file system": facts_with(rootfs=None),
}


@pytest.mark.parametrize("facts", BAD_FACTS.values(), ids=BAD_FACTS)
def test_facts_that_mean_nothing(facts: dict[str, Any]) -> None:
    with pytest.raises((KeyError, TypeError, ValueError)):
        Assessment.from_facts(facts)


# -- recipes ----------------------------------------------------------------------------------------------------------

WHOLE = """\
vulnerabilities:
  feed: https://security-tracker.debian.org/tracker/data/json
  max_severity: medium
  exceptions:
    - cve: CVE-2026-12345
      reason: The module is not loaded.
      owner: platform team <platform@example.org>
      expires: 2027-06-30
    - cve: TEMP-0000000-1A2B3C
      reason: Nobody knows yet what it is.
      owner: platform team
      expires: "2026-12-31"
"""


def test_a_recipe_says_what_is_wanted(tmp_path: Path) -> None:
    loaded = load_recipe(write(tmp_path, MINIMAL + WHOLE))
    wanted = loaded.recipe.vulnerabilities
    assert wanted is not None
    assert (wanted.feed, wanted.is_remote) == ("https://security-tracker.debian.org/tracker/data/json", True)
    assert (wanted.gate.max_severity, [each.cve for each in wanted.gate.exceptions]) == (
        "medium",
        ["CVE-2026-12345", "TEMP-0000000-1A2B3C"],
    )
    assert wanted.gate.exceptions[0].expires == date(2027, 6, 30)
    assert Gate.from_json(loaded.document["vulnerabilities"]) == wanted.gate
    assert Recipe.model_validate(json.loads(json.dumps(effective(loaded.recipe)))) == loaded.recipe


def test_a_recipe_that_says_nothing_is_not_looked_up(tmp_path: Path) -> None:
    assert load_recipe(write(tmp_path, MINIMAL)).recipe.vulnerabilities is None


def test_a_file_counts_from_the_recipe_that_writes_it_and_its_content_is_no_part_of_it(tmp_path: Path) -> None:
    (tmp_path / "shared").mkdir()
    write(tmp_path / "shared", "vulnerabilities: {feed: feeds/debian.json, max_severity: low}\n", "base.yaml")
    path = write(tmp_path, "extends: shared/base.yaml\n" + MINIMAL)
    before = load_recipe(path)
    assert before.recipe.vulnerabilities is not None
    assert before.recipe.vulnerabilities.feed == str(tmp_path / "shared/feeds/debian.json")
    assert before.document["vulnerabilities"]["feed"] == "feeds/debian.json"
    (tmp_path / "shared/feeds").mkdir()
    (tmp_path / "shared/feeds/debian.json").write_text("{}")
    assert load_recipe(path).digest == before.digest


def changed(old: str, new: str) -> str:
    assert old in WHOLE
    return MINIMAL + WHOLE.replace(old, new)


ADDRESS = "https://security-tracker.debian.org/tracker/data/json"
# name -> the text, the code, line:column, the message (its beginning)
BAD: dict[str, tuple[str, str, str, str]] = {
    "no feed": (
        changed(f"  feed: {ADDRESS}\n", ""),
        "recipe-invalid",
        "6:1",
        "vulnerabilities.feed: is missing",
    ),
    "no severity": (
        changed("  max_severity: medium\n", ""),
        "recipe-invalid",
        "6:1",
        "vulnerabilities.max_severity: is missing",
    ),
    "a feed without encryption": (
        changed("https:", "http:"),
        "recipe-invalid",
        "7:9",
        "vulnerabilities.feed: should be a path or an address that begins with https://, not 'http:",
    ),
    "a feed by another way": (
        changed(ADDRESS, "ftp://example.org/feed"),
        "recipe-invalid",
        "7:9",
        "vulnerabilities.feed: should be a path or an address that begins with https://, not 'ftp:",
    ),
    "a feed without a host": (
        changed(ADDRESS, "https:///feed"),
        "recipe-invalid",
        "7:9",
        "vulnerabilities.feed: should be an address that begins with",
    ),
    "a secret in the address": (
        changed("https://", "https://joe:hunter2@"),
        "secret-in-recipe",
        "7:9",
        "vulnerabilities.feed: has a URL with a user name or password in it",
    ),
    "an empty feed": (
        changed(ADDRESS, '""'),
        "recipe-invalid",
        "7:9",
        "vulnerabilities.feed: should have at least 1 character",
    ),
    "a severity of nobody": (
        changed("medium", "unknown"),
        "recipe-invalid",
        "8:17",
        "vulnerabilities.max_severity: should be 'unimportant', 'low', 'medium', 'high' or 'critical'",
    ),
    "an exception without an owner": (
        changed("      owner: platform team\n", ""),
        "recipe-invalid",
        "14:7",
        "vulnerabilities.exceptions[1].owner: is missing",
    ),
    "an exception that never ends": (
        changed("2027-06-30", "never"),
        "recipe-invalid",
        "13:16",
        "vulnerabilities.exceptions[0].expires: should be a day, such as 2027-06-30, not 'never'",
    ),
    "an exception with no reason": (
        changed("The module is not loaded.", "later"),
        "recipe-invalid",
        "11:15",
        "vulnerabilities.exceptions[0].reason: should have at least 10 characters that are not blank",
    ),
    "an exception for everything": (
        changed("CVE-2026-12345", '"*"'),
        "recipe-invalid",
        "10:12",
        "vulnerabilities.exceptions[0].cve: should be the id of a vulnerability, such as CVE-2026-12345, not '*'",
    ),
    "a vulnerability twice": (
        changed("TEMP-0000000-1A2B3C", "CVE-2026-12345"),
        "recipe-invalid",
        "10:5",
        "vulnerabilities.exceptions: has two exceptions for CVE-2026-12345",
    ),
    "an exception for a rule": (
        changed("cve: TEMP", "rule: TEMP"),
        "recipe-invalid",
        "14:7",
        "vulnerabilities.exceptions[1].rule: unknown key",
    ),
    "an address alone": (
        f"{MINIMAL}vulnerabilities: {ADDRESS}\n",
        "recipe-invalid",
        "6:18",
        "vulnerabilities: should be a mapping",
    ),
}


@pytest.mark.parametrize(("text", "code", "place", "message"), BAD.values(), ids=BAD)
def test_bad_recipes(tmp_path: Path, text: str, code: str, place: str, message: str) -> None:
    path = write(tmp_path, text)
    error = refused(path)
    assert error.code == code
    said = (error.message, *error.lines)
    assert any(f"{path}:{place}: {message}" in each for each in said), said
    assert "hunter2" not in "".join(said)
