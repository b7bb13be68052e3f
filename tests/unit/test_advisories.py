"""What feeds say of a vulnerability in a package: which versions have it, and how bad it is."""

from typing import Any, get_args

import pytest
from debian.debian_support import Version
from hypothesis import given
from hypothesis import strategies as st

from imagefactory.model.advisories import (
    RANK,
    Advisory,
    Event,
    EventKind,
    Severity,
    ecosystems,
    of_osv,
    of_tracker,
    of_vector,
)
from imagefactory.model.packages import SourcePackages

CVE = "CVE-2026-12345"
SOURCES: SourcePackages = {"openssl": {"3.0.17-1": frozenset({"libssl3"})}}
CRITICAL = "CVSS:3.1/AV:N/AC:L/PR:N/UI:N/S:U/C:H/I:H/A:H"
LOW = "CVSS:3.1/AV:P/AC:H/PR:H/UI:R/S:U/C:L/I:N/A:N"


def advisory(*events: tuple[EventKind, str], versions: tuple[str, ...] = ()) -> Advisory:
    return Advisory(CVE, "openssl", "high", (tuple(Event(*each) for each in events),), frozenset(versions))


# -- versions ---------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("events", "affected", "not_affected"),
    [
        ([("introduced", "0")], ["0~1", "0", "1:9"], []),
        ([("introduced", "0"), ("fixed", "3.0.17-1~deb12u2")], ["3.0.17-1~deb12u1", "2"], ["3.0.17-1", "1:0"]),
        ([("introduced", "2"), ("fixed", "3")], ["2", "2.9", "3~rc1"], ["1", "2~rc1", "3", "1:2.5"]),
        ([("fixed", "3"), ("introduced", "0")], ["2"], ["3"]),
        ([("introduced", "1"), ("fixed", "2"), ("introduced", "4"), ("fixed", "5")], ["1", "4.9"], ["0", "3", "5"]),
        ([("introduced", "0"), ("last_affected", "2.1")], ["2.1", "2.1~"], ["2.1-1", "2.2"]),
        ([("introduced", "0"), ("limit", "2")], ["1"], ["2", "3"]),
        ([("introduced", "0"), ("limit", "2"), ("limit", "*")], ["1", "3"], []),
        ([("introduced", "2"), ("fixed", "2")], [], ["1", "2", "3"]),
        ([("fixed", "2"), ("introduced", "2")], ["2", "3"], ["1"]),
        ([], [], ["1"]),
    ],
)
def test_the_history_of_a_package(
    events: list[tuple[EventKind, str]], affected: list[str], not_affected: list[str]
) -> None:
    said = advisory(*events)
    assert [each for each in (*affected, *not_affected) if said.affects(each)] == affected


def test_a_version_that_is_listed() -> None:
    said = advisory(("introduced", "0"), ("fixed", "1"), versions=("3.0.17-1",))
    assert said.affects("3.0.17-1")
    assert not said.affects("3.0.17-2")


def test_the_first_version_with_a_fix() -> None:
    said = advisory(("introduced", "0"), ("fixed", "2"), ("introduced", "3"), ("fixed", "3.10"), ("fixed", "3.9"))
    assert [said.fixed_after(each) for each in ("1", "2", "3", "3.10")] == ["2", "3.9", "3.9", None]


versions = st.from_regex(
    r"([0-9]:)?[0-9]{1,2}(\.[0-9]{1,2}){0,2}(~rc[0-9])?(-[0-9]{1,2}(\+deb12u[0-9])?)?", fullmatch=True
)


@given(versions, versions)
def test_what_is_fixed_is_not_affected_and_what_comes_before_is(version: str, fixed: str) -> None:
    said = advisory(("introduced", "0"), ("fixed", fixed))
    assert said.affects(version) is (Version(version) < Version(fixed))
    assert said.fixed_after(version) == (fixed if Version(version) < Version(fixed) else None)


def test_the_beginning_is_before_every_version() -> None:
    """OSV's "0" is no version: Debian's own order has 0~rc0 before it."""
    assert advisory(("introduced", "0")).affects("0~rc0")
    assert not advisory(("fixed", "0"), ("introduced", "0")).affects("0")


EVENTS = st.tuples(st.sampled_from(["introduced", "fixed"]), versions).filter(lambda each: each != ("introduced", "0"))


@given(versions, st.lists(EVENTS, max_size=6))
def test_the_last_event_before_a_version_decides(version: str, events: Any) -> None:  # noqa: ANN401
    past = sorted((each for each in events if Version(each[1]) <= Version(version)), key=lambda each: Version(each[1]))
    assert advisory(*events).affects(version) is bool(past and past[-1][0] == "introduced")


# -- the Debian security tracker --------------------------------------------------------------------------------------


def tracked(**release: object) -> Advisory | None:
    return of_tracker(
        "openssl", CVE, {"description": "A bug", "releases": {"bookworm": release, "sid": {}}}, "bookworm"
    )


def test_an_open_issue() -> None:
    assert tracked(status="open", urgency="medium", repositories={"bookworm": "3.0.17-1"}) == Advisory(
        CVE, "openssl", "medium", ((Event("introduced", "0"),),)
    )


def test_a_resolved_issue() -> None:
    said = tracked(status="resolved", fixed_version="3.0.18-1~deb12u1", urgency="low")
    assert said == Advisory(CVE, "openssl", "low", ((Event("introduced", "0"), Event("fixed", "3.0.18-1~deb12u1")),))


def test_what_was_never_affected() -> None:
    assert tracked(status="resolved", fixed_version="0", urgency="high") is None


def test_another_release() -> None:
    issue = {"releases": {"trixie": {"status": "open", "urgency": "high"}}}
    assert of_tracker("openssl", CVE, issue, "bookworm") is None


def test_nobody_says_that_it_is_not_affected() -> None:
    said = tracked(status="undetermined", urgency="not yet assigned")
    assert said is not None
    assert said.affects("3.0.17-1")


@pytest.mark.parametrize(
    ("more", "severity"),
    [
        ({"urgency": "unimportant"}, "unimportant"),
        ({"urgency": "low"}, "low"),
        ({"urgency": "low**"}, "low"),
        ({"urgency": "medium*"}, "medium"),
        ({"urgency": "high"}, "high"),
        ({"urgency": "high", "nodsa": "Minor issue"}, "high"),
        ({"urgency": "not yet assigned"}, "unknown"),
        ({"urgency": "not yet assigned", "nodsa": "Minor issue", "nodsa_reason": "postponed"}, "low"),
        ({"urgency": "end-of-life"}, "unknown"),
        ({}, "unknown"),
        ({"urgency": ["high"]}, "unknown"),
    ],
)
def test_the_urgency_of_debian(more: dict[str, object], severity: Severity) -> None:
    said = tracked(status="open", **more)
    assert said is not None
    assert said.severity == severity


BAD_ISSUES: dict[str, object] = {
    "text": "open",
    "no releases": {},
    "releases as a list": {"releases": []},
    "a release as text": {"releases": {"bookworm": "open"}},
    "no status": {"releases": {"bookworm": {"urgency": "low"}}},
    "another status": {"releases": {"bookworm": {"status": "fixed"}}},
    "resolved without a version": {"releases": {"bookworm": {"status": "resolved"}}},
    "a version that is none": {"releases": {"bookworm": {"status": "resolved", "fixed_version": "<unfixed>"}}},
    "an empty epoch": {"releases": {"bookworm": {"status": "resolved", "fixed_version": "1:"}}},
    "a long version": {"releases": {"bookworm": {"status": "resolved", "fixed_version": "1" * 300}}},
}


@pytest.mark.parametrize("issue", BAD_ISSUES.values(), ids=BAD_ISSUES)
def test_issues_that_are_none(issue: object) -> None:
    with pytest.raises(ValueError, match=r"should be|status|none of Debian's|Invalid version"):
        of_tracker("openssl", CVE, issue, "bookworm")


@pytest.mark.parametrize(
    "identifier", ["", "cve-2026-1", "CVE", "CVE-2026-1\n", "CVE-2026-12 34", "\x1b[31m", "A-" * 99]
)
def test_identifiers_that_are_none(identifier: str) -> None:
    with pytest.raises(ValueError, match="identifier"):
        of_tracker("openssl", identifier, {"releases": {"bookworm": {"status": "open"}}}, "bookworm")


@pytest.mark.parametrize("identifier", ["CVE-2026-1234567", "TEMP-0000000-1A2B3C", "DSA-5764-1", "GHSA-jf85-cpcp-j695"])
def test_identifiers(identifier: str) -> None:
    said = of_tracker("openssl", identifier, {"releases": {"bookworm": {"status": "open"}}}, "bookworm")
    assert said is not None
    assert said.id == identifier


# -- OSV --------------------------------------------------------------------------------------------------------------


def affected(**changes: object) -> dict[str, Any]:
    events = [{"introduced": "0"}, {"fixed": "3.0.18-1"}]
    return {
        "package": {"ecosystem": "Debian:12", "name": "openssl", "purl": "pkg:deb/debian/openssl?arch=source"},
        "ranges": [{"type": "ECOSYSTEM", "events": events}],
        "ecosystem_specific": {"urgency": "not yet assigned"},
        **changes,
    }


def record(*parts: dict[str, Any], **changes: object) -> dict[str, Any]:
    return {
        "schema_version": "1.7.3",
        "id": f"DEBIAN-{CVE}",
        "modified": "2026-11-20T00:00:00Z",
        "upstream": [CVE],
        "affected": list(parts or (affected(),)),
        **changes,
    }


def read(document: dict[str, Any]) -> list[Advisory]:
    return list(of_osv(document, "12", SOURCES))


def test_a_record() -> None:
    (said,) = read(record(severity=[{"type": "CVSS_V3", "score": CRITICAL}]))
    assert said == Advisory(CVE, "openssl", "critical", ((Event("introduced", "0"), Event("fixed", "3.0.18-1")),))
    assert list(ecosystems(record())) == ["Debian:12"]


def test_an_advisory_of_several_cves_is_one_of_each() -> None:
    other = "CVE-2026-54321"
    said = read(record(id="DSA-5764-1", upstream=[other], aliases=[CVE, "GHSA-jf85-cpcp-j695"]))
    assert [each.id for each in said] == [CVE, other]


def test_an_advisory_of_no_cve_keeps_its_name() -> None:
    assert [each.id for each in read(record(id="DSA-5764-1", upstream=[]))] == ["DSA-5764-1"]


def test_a_record_of_debian_without_a_release_is_of_every_release() -> None:
    assert read(record(affected(package={"ecosystem": "Debian", "name": "openssl"})))


@pytest.mark.parametrize(
    "package",
    [
        {"ecosystem": "Debian:11", "name": "openssl"},
        {"ecosystem": "Debian:1", "name": "openssl"},
        {"ecosystem": "Ubuntu:12", "name": "openssl"},
        {"ecosystem": "PyPI", "name": "openssl"},
        {"ecosystem": "Debian:12", "name": "zlib"},
        {"ecosystem": "Debian:12", "name": ["openssl"]},
        {"ecosystem": "Debian:12"},
        None,
    ],
)
def test_packages_of_somebody_else(package: object) -> None:
    assert read(record(affected(package=package))) == []


def test_a_record_that_was_withdrawn() -> None:
    assert read(record(withdrawn="2026-11-21T00:00:00Z")) == []


def test_commits_are_no_versions() -> None:
    git = {"type": "GIT", "repo": "https://example.org", "events": [{"introduced": "0"}]}
    (said,) = read(record(affected(ranges=[git])))
    assert not said.affects("3.0.17-1")


def test_versions_that_are_listed() -> None:
    (said,) = read(record(affected(ranges=[], versions=["3.0.16-1", "3.0.17-1"])))
    assert said.versions == {"3.0.17-1"}
    assert said.affects("3.0.17-1")


@pytest.mark.parametrize(
    ("urgency", "own", "whole", "severity"),
    [
        ("low", [], [CRITICAL], "low"),
        ("unimportant", [], [CRITICAL], "unimportant"),
        ("not yet assigned", [LOW], [CRITICAL], "low"),
        ("not yet assigned", [], [LOW, CRITICAL, LOW], "critical"),
        ("end-of-life", [], [LOW], "low"),
        ("not yet assigned", [], [], "unknown"),
        (None, [], [], "unknown"),
    ],
)
def test_debians_own_word_comes_before_scores(
    urgency: str | None, own: list[str], whole: list[str], severity: Severity
) -> None:
    scores = [[{"type": "CVSS_V3", "score": each} for each in vectors] for vectors in (own, whole)]
    part = affected(ecosystem_specific={"urgency": urgency}, severity=scores[0])
    (said,) = read(record(part, severity=scores[1]))
    assert said.severity == severity


def test_a_score_of_another_kind_is_no_score() -> None:
    assert read(record(severity=[{"type": "Ubuntu", "score": "high"}]))[0].severity == "unknown"


@pytest.mark.parametrize(
    ("kind", "vector", "severity"),
    [
        ("CVSS_V2", "AV:N/AC:L/Au:N/C:P/I:P/A:P", "high"),
        ("CVSS_V3", CRITICAL, "critical"),
        ("CVSS_V3", LOW, "low"),
        ("CVSS_V3", "CVSS:3.1/AV:N/AC:L/PR:N/UI:N/S:U/C:N/I:N/A:N", "unimportant"),
        ("CVSS_V3", "CVSS:3.0/AV:N/AC:L/PR:N/UI:N/S:U/C:L/I:N/A:N", "medium"),
        ("CVSS_V4", "CVSS:4.0/AV:N/AC:L/AT:N/PR:N/UI:N/VC:H/VI:H/VA:H/SC:H/SI:H/SA:H", "critical"),
    ],
)
def test_scores(kind: str, vector: str, severity: Severity) -> None:
    assert of_vector(kind, vector) == severity


@pytest.mark.parametrize("kind", ["CVSS_V2", "CVSS_V3", "CVSS_V4"])
@pytest.mark.parametrize("vector", ["", "9.8", "CVSS:3.1/AV:N", "/" * 500, "AV:N/" * 200, "CVSS:4.0/AV:\x1b"])
def test_scores_that_are_none(kind: str, vector: str) -> None:
    with pytest.raises(ValueError, match="CVSS vector"):
        of_vector(kind, vector)


BAD_RECORDS: dict[str, dict[str, Any]] = {
    "no id": record(id=None),
    "an id with an escape": record(id="CVE-2026-1\x1b[31m"),
    "affected as an object": record(affected={}),
    "affected of texts": record(affected=["openssl"]),
    "a package as text": record(affected(package="openssl")),
    "aliases of numbers": record(aliases=[1]),
    "upstream as text": record(upstream=CVE),
    "ranges as an object": record(affected(ranges={})),
    "no events that are events": record(affected(ranges=[{"type": "ECOSYSTEM", "events": ["0"]}])),
    "two events at once": record(
        affected(ranges=[{"type": "ECOSYSTEM", "events": [{"introduced": "0", "fixed": "1"}]}])
    ),
    "an unknown event": record(affected(ranges=[{"type": "ECOSYSTEM", "events": [{"broken": "0"}]}])),
    "a version that is none": record(affected(ranges=[{"type": "ECOSYSTEM", "events": [{"fixed": "1 2"}]}])),
    "a version that is a number": record(affected(ranges=[{"type": "ECOSYSTEM", "events": [{"fixed": 1}]}])),
    "fixed nowhere": record(affected(ranges=[{"type": "ECOSYSTEM", "events": [{"fixed": "*"}]}])),
    "a score that is none": record(severity=[{"type": "CVSS_V3", "score": "critical"}]),
    "scores of texts": record(severity=["critical"]),
    "versions of numbers": record(affected(versions=[1])),
}


@pytest.mark.parametrize("document", BAD_RECORDS.values(), ids=BAD_RECORDS)
def test_records_that_are_none(document: dict[str, Any]) -> None:
    with pytest.raises(ValueError, match=r"should be|identifier|none|one of|something else"):
        read(document)


ANY_JSON = st.recursive(
    st.none()
    | st.booleans()
    | st.integers()
    | st.text(max_size=5)
    | st.sampled_from(["0", "ECOSYSTEM", "openssl", CVE]),
    lambda inner: (
        st.lists(inner, max_size=3)
        | st.dictionaries(st.sampled_from(["package", "type", "events", "introduced", "score"]), inner, max_size=3)
    ),
    max_leaves=8,
)


@given(st.sampled_from(sorted(record(withdrawn=None, severity=[], aliases=[]))), ANY_JSON)
def test_any_record_is_read_or_refused(key: str, value: object) -> None:
    try:
        said = read(record(**{key: value}))
    except ValueError:
        return
    assert all(each.severity in get_args(Severity) for each in said)


@given(st.sampled_from(sorted(affected(versions=[], severity=[]))), ANY_JSON)
def test_any_affected_package_is_read_or_refused(key: str, value: object) -> None:
    try:
        said = read(record(affected(**{key: value})))
    except ValueError:
        return
    for each in said:
        each.affects("3.0.17-1")


@given(ANY_JSON)
def test_any_release_is_read_or_refused(value: object) -> None:
    try:
        said = of_tracker("openssl", CVE, {"releases": {"bookworm": value}}, "bookworm")
    except ValueError:
        return
    assert said is None or said.source == "openssl"


def test_every_severity_has_a_rank() -> None:
    assert set(RANK) == set(get_args(Severity))
    assert RANK["medium"] < RANK["unknown"] == RANK["high"] < RANK["critical"]
