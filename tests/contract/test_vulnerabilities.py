"""Whole builds of a recipe that names a feed of known vulnerabilities, and what is shown of them. The feed is a small
one; who reads it, who judges and who signs are real."""

import json
import os
import time
from collections.abc import Callable, Mapping
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest

from imagefactory.errors import (
    ExceptionExpired,
    FactoryError,
    FeedForeign,
    FeedInvalid,
    FeedMissing,
    FeedStale,
    InputsChanged,
    NotScanned,
    VulnerabilitiesFound,
)
from imagefactory.factory import vulnerabilities
from imagefactory.store.records import release_version
from tests.contract.shell import Shell
from tests.contract.test_factory import NAME, STEPS, done, releases
from tests.fakes.feeds import issue, record, tracker, zipped
from tests.fakes.host import FakeHost

On = Callable[[FakeHost], FakeHost]

TODAY = datetime.now(UTC).date()
LAST_DAY = str(TODAY + timedelta(days=30))
WHY = "Nobody reaches\nthat code."
HIGH, LOW, UNIMPORTANT, FIXED = (f"CVE-2026-000{number}" for number in range(1, 5))
ISSUES: Mapping[str, Mapping[str, object]] = {
    "bash": {LOW: issue(nodsa="Minor issue"), UNIMPORTANT: issue(urgency="unimportant")},
    "openssl": {
        HIGH: issue(urgency="high", status="resolved", fixed_version="3.0.18-1"),
        FIXED: issue(urgency="high", status="resolved", fixed_version="3.0.16-1"),
    },
    "zlib": {"CVE-2026-0009": issue(urgency="high")},
}


@pytest.fixture
def fed(host: FakeHost) -> FakeHost:
    """A host whose recipe names a feed."""
    publish(host, tracker(ISSUES))
    wants(host)
    return host


def publish(host: FakeHost, content: bytes, days_ago: float = 0.0) -> None:
    """Put a feed where the recipe says."""
    path = host.recipe_file.parent / "feed.json"
    path.write_bytes(content)
    when = time.time() - days_ago * 86400
    os.utime(path, (when, when))


def wants(host: FakeHost, *exceptions: str, **changes: object) -> None:
    """The recipe wants its image looked up."""
    before = host.recipe_file.read_text().partition("vulnerabilities:")[0]
    wanted = {"feed": "feed.json", "max_severity": "high", **changes}
    day = wanted.pop("expires", LAST_DAY)
    if exceptions:
        wanted["exceptions"] = [
            {"cve": each, "reason": WHY, "owner": "SOE team", "expires": day} for each in exceptions
        ]
    host.recipe_file.write_text(f"{before}vulnerabilities: {json.dumps(wanted)}\n")


def evidence(host: FakeHost) -> dict[str, Any]:
    (piece,) = releases(host)[0].evidence["vulnerabilities"]
    assert isinstance(piece, dict)
    return piece


def name_of(host: FakeHost) -> str:
    return f"{NAME}@{release_version(releases(host)[0])}"


# -- building ---------------------------------------------------------------------------------------------------------


def test_what_is_known_is_signed_with_the_release(fed: FakeHost) -> None:
    wants(fed, HIGH, "CVE-2020-0001", max_severity="low")
    assert fed.build().worked
    assert done(fed) == [*STEPS[:2], "vulnerabilities", *STEPS[2:]]
    piece = evidence(fed)
    assert (piece["kind"], piece["outcome"]) == ("vulnerabilities", "pass")
    assert piece["about"] == releases(fed)[0].evidence["boot"][0]["about"]
    facts = piece["facts"]
    assert facts["scan"]["feed"]["source"] == "feed.json"
    assert facts["scan"]["feed"]["dated"] == str(TODAY)
    assert facts["counts"] == {"high": 1, "low": 1, "unimportant": 1}
    assert [each["id"] for each in facts["scan"]["findings"]] == [LOW, UNIMPORTANT, HIGH]
    assert [[each["cve"] for each in facts[key]] for key in ("exceptions", "needless")] == [[HIGH], ["CVE-2020-0001"]]
    assert not fed.build().worked


def test_osv_says_the_same(fed: FakeHost) -> None:
    records = [record(HIGH, "openssl", fixed="3.0.18-1"), record(LOW, "bash", urgency="low")]
    publish(fed, zipped(records))
    assert fed.build().worked
    scan = evidence(fed)["facts"]["scan"]
    assert scan["feed"]["format"] == "osv"
    assert [(each["id"], each["severity"]) for each in scan["findings"]] == [(LOW, "low"), (HIGH, "unknown")]


def test_what_is_worse_makes_no_disk(fed: FakeHost) -> None:
    wants(fed, max_severity="medium")
    with pytest.raises(VulnerabilitiesFound, match=f"{HIGH} in openssl 3.0.17-1, severity high, fixed in 3.0.18-1"):
        fed.build()
    assert not {"disk", "convert qcow2", "boot-test", "sign"} & set(done(fed))
    wants(fed, HIGH, max_severity="medium")
    assert fed.build().worked
    assert "vulnerabilities" not in done(fed), "it was looked up already"


def test_newer_packages_with_the_fix_pass(fed: FakeHost) -> None:
    wants(fed, max_severity="medium")
    with pytest.raises(VulnerabilitiesFound):
        fed.build()
    fed.offer({"openssl": "3.0.18-1", "bash": "5.2.15-2"}, in_release="second")
    assert fed.build().worked


def test_a_newer_feed_is_looked_up_and_nothing_is_signed_again(fed: FakeHost) -> None:
    first = fed.build().release
    publish(fed, tracker({**ISSUES, "bash": {LOW: issue(urgency="low")}}))
    second = fed.build()
    assert done(fed) == ["vulnerabilities"]
    assert (second.release.id, second.reproduced) == (first.id, True)
    assert evidence(fed)["facts"]["counts"]["unimportant"] == 1, "the release says what was known when it was made"


def test_what_becomes_known_later_is_not_passed_over_in_silence(fed: FakeHost) -> None:
    wants(fed, max_severity="high")
    fed.build()
    scores = [{"type": "CVSS_V3", "score": "CVSS:3.1/AV:N/AC:L/PR:N/UI:N/S:U/C:H/I:H/A:H"}]
    publish(fed, zipped([{**record("CVE-2026-0008", "bash"), "severity": scores}]))
    for _ in range(2):
        with pytest.raises(VulnerabilitiesFound, match=r"CVE-2026-0008 in bash 5\.2\.15-2, severity critical"):
            fed.build()
    assert len(releases(fed)) == 1


# -- what cannot be ---------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("change", "error"),
    [
        (lambda host: wants(host, feed="other.json"), FeedMissing),
        (lambda host: publish(host, tracker(ISSUES), days_ago=8.5), FeedStale),
        (lambda host: publish(host, tracker(ISSUES), days_ago=-3), FeedStale),
        (lambda host: wants(host, HIGH, expires=str(TODAY - timedelta(days=1))), ExceptionExpired),
    ],
)
def test_what_cannot_be_is_refused_before_the_work(
    fed: FakeHost, change: Callable[[FakeHost], None], error: type[FactoryError]
) -> None:
    change(fed)
    with pytest.raises(error):
        fed.build()
    assert done(fed) == []


@pytest.mark.parametrize(
    ("content", "error"),
    [
        (b"<html>404</html>", FeedInvalid),
        (tracker(ISSUES)[:-9], FeedInvalid),
        (b"[" * 100_000, FeedInvalid),
        (tracker({"openssl": {HIGH: issue(codename="trixie")}}), FeedForeign),
        (zipped([record(HIGH, "openssl", ecosystem="Debian:13")]), FeedForeign),
    ],
)
def test_feeds_that_say_nothing(fed: FakeHost, content: bytes, error: type[FactoryError]) -> None:
    publish(fed, content)
    with pytest.raises(error):
        fed.build()
    assert not {"disk", "sign"} & set(done(fed))


def test_a_feed_that_changes_during_a_build(fed: FakeHost, monkeypatch: pytest.MonkeyPatch) -> None:
    gather = vulnerabilities.feed_of

    def and_then(*arguments: Any) -> Any:  # noqa: ANN401 - passed on
        found = gather(*arguments)
        publish(fed, tracker({"openssl": {}}))
        return found

    monkeypatch.setattr(vulnerabilities, "feed_of", and_then)
    with pytest.raises(InputsChanged, match=r"feed\.json"):
        fed.build()


# -- showing ----------------------------------------------------------------------------------------------------------


def rows(text: str) -> list[str]:
    return [" ".join(line.split()) for line in text.splitlines()]


def test_what_was_known(fed: FakeHost, shell: Shell, on: On) -> None:
    wants(fed, HIGH, "CVE-2020-0001", max_severity="low")
    fed.build()
    digest = evidence(fed)["facts"]["scan"]["feed"]["sha256"]
    on(fed)
    status, text = shell.text("vulnerabilities", "show", NAME)
    said = f"until {LAST_DAY}, SOE team: Nobody reaches that code."
    assert (status, rows(text)) == (
        0,
        [
            name_of(fed),
            "feed feed.json",
            f"of {TODAY}, sha256:{digest}",
            "packages 2 source packages were looked up",
            "found 1 high, 1 low, 1 unimportant; up to low was let pass",
            "",
            "VULNERABILITY SEVERITY SOURCE VERSION FIXED IN PACKAGES EXCEPTION",
            f"{HIGH} high openssl 3.0.17-1 3.0.18-1 openssl {said}",
            f"{LOW} low bash 5.2.15-2 bash",
            f"needless exception for CVE-2020-0001: {said}",
        ],
    )
    assert f"{UNIMPORTANT} unimportant bash 5.2.15-2 bash" in rows(
        shell.text("vulnerabilities", "show", NAME, "--all")[1]
    )
    assert "not scanned" not in shell.text("releases", "show", NAME)[1]


def test_for_programs(fed: FakeHost, shell: Shell, on: On) -> None:
    wants(fed, HIGH, max_severity="low")
    fed.build()
    scan = evidence(fed)["facts"]["scan"]
    on(fed)
    status, document = shell.json("vulnerabilities", "show", name_of(fed))
    exception = {"cve": HIGH, "reason": WHY, "owner": "SOE team", "expires": LAST_DAY}
    openssl = {"id": HIGH, "source": "openssl", "version": "3.0.17-1", "severity": "high", "fixed": "3.0.18-1"}
    bash = {"id": LOW, "source": "bash", "version": "5.2.15-2", "severity": "low", "fixed": None}
    assert (status, document) == (
        0,
        {
            "release": name_of(fed),
            "feed": scan["feed"],
            "sources": 2,
            "counts": {"high": 1, "low": 1, "unimportant": 1},
            "max_severity": "low",
            "findings": [
                {**openssl, "packages": ["openssl"], "exception": exception},
                {**bash, "packages": ["bash"], "exception": None},
            ],
            "needless": [],
            "rootfs": evidence(fed)["facts"]["rootfs"],
        },
    )
    assert shell.json("releases", "show", NAME)[1]["scanned"] is True
    assert len(shell.json("vulnerabilities", "show", NAME, "--all")[1]["findings"]) == 3


def test_without_a_feed_nobody_looked(built: FakeHost, shell: Shell, on: On) -> None:
    on(built)
    assert "evidence vulnerabilities: not scanned" in rows(shell.text("releases", "show", NAME)[1])
    assert shell.json("releases", "show", NAME)[1]["scanned"] is False
    assert shell.refused("vulnerabilities", "show", NAME) == (1, "not-scanned")
    assert "was not scanned" in shell.stderr
    assert f"to do: {NotScanned.default_advice}" in shell.stderr
    assert shell.refused("vulnerabilities", "show", "other") == (1, "release-unknown")


def test_approving_the_recipe_asks_for_the_evidence(fed: FakeHost, shell: Shell, on: On) -> None:
    on(fed)
    changes = shell.json("policy", "approve", Path(fed.recipe_file))[1]["changes"]
    assert "+ evidence vulnerabilities" in changes
