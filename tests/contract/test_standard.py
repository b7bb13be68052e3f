"""Whole builds of a recipe that wants a standard kept; what the scanner would say is decided here."""

import json
from collections.abc import Callable, Mapping
from datetime import UTC, datetime, timedelta
from hashlib import sha256
from pathlib import Path
from typing import Any

import pytest

from imagefactory.errors import (
    ComplianceFailed,
    ExceptionExpired,
    InputsChanged,
    NotMeasured,
    ProfileUnknown,
    RuleUnknown,
)
from imagefactory.factory import standard
from imagefactory.factory.inputs import Measuring, gather
from imagefactory.factory.line import Line
from imagefactory.model import plan
from imagefactory.model.compliance import RuleResult, Scan, Standard, is_live
from imagefactory.progress import Note
from imagefactory.store.tables import StepResult
from imagefactory.tools.guest_scan import GuestScan
from tests.contract.shell import Shell
from tests.contract.test_factory import NAME, done, releases, rewrite
from tests.fakes.host import FakeHost
from tests.fakes.standard import BENCHMARK, PROFILE, data_stream, group, identity, profile, rule

RULES = ("one", "sysctl_three", "two")
CONTENT = data_stream(
    group("g", rule("one", "true", severity="high") + rule("two", "true") + rule("sysctl_three", "true")),
    profile(PROFILE, {"rule_one": True}, title="Strict"),
)
TODAY = datetime.now(UTC).date()


@pytest.fixture
def said(host: FakeHost, monkeypatch: pytest.MonkeyPatch) -> dict[str, str]:
    """What the scanner says of each rule, which a test may change."""
    outcomes = dict.fromkeys(RULES, "pass")
    (host.recipe_file.parent / "content.xml").write_bytes(CONTENT)
    wants(host)

    def compliance(line: Line, rootfs: StepResult, measuring: Measuring) -> StepResult:
        own = Standard(PROFILE, "Strict", BENCHMARK, measuring.content.sha256, "own", "1.3.7")
        severities: Mapping[str, Any] = {"one": "high"}
        rules = tuple(RuleResult(name, outcome, severities.get(name, "medium"), f"Rule {name}")  # type: ignore[arg-type]
                      for name, outcome in outcomes.items())  # fmt: skip
        made = line.directory("compliance") / "report.html"
        made.write_text(json.dumps(outcomes))
        digest, name = rootfs.outputs["rootfs"], line.inputs.recipe.name
        facts = {"scan": Scan(own, rules).to_json(), "rootfs": digest}
        outputs = {"report": line.keep(made, "report").sha256}
        return line.records.remember(
            line.inputs.compliance_key(measuring, digest), plan.COMPLIANCE, name, outputs, facts
        )

    monkeypatch.setattr(Line, "compliance", compliance)
    live = {identity("rule", name): name for name in RULES if is_live(name)}
    monkeypatch.setattr(Line, "_guest_scan", lambda _line, _rootfs: GuestScan(host.root, PROFILE, False, live))
    return outcomes


def wants(host: FakeHost, *exceptions: str, **changes: object) -> None:
    """The recipe wants the standard kept."""
    before = host.recipe_file.read_text().partition("compliance:")[0]
    wanted = {"profile": PROFILE, "content": "content.xml", "min_score": 60, **changes}
    if exceptions:
        day = str(changes.pop("expires", TODAY + timedelta(days=30)))
        wanted.pop("expires", None)
        wanted["exceptions"] = [
            {"rule": each, "reason": "nobody needs it here", "owner": "SOE team", "expires": day} for each in exceptions
        ]
    host.recipe_file.write_text(f"{before}compliance: {json.dumps(wanted)}\n")


def evidence(host: FakeHost) -> dict[str, Any]:
    (piece,) = releases(host)[0].evidence["compliance"]
    assert isinstance(piece, dict)
    return piece


def test_what_was_measured_is_signed_with_the_release(host: FakeHost, said: dict[str, str]) -> None:
    said["two"] = "fail"
    wants(host, "two", "sysctl_three")
    assert host.build().worked
    piece = evidence(host)
    assert (piece["kind"], piece["outcome"]) == ("compliance", "pass")
    assert piece["about"] == releases(host)[0].evidence["boot"][0]["about"]
    facts = piece["facts"]
    assert (facts["score"], facts["min_score"]) == ("66.6", 60)
    assert [[each["rule"] for each in facts[key]] for key in ("exceptions", "needless")] == [["two"], ["sysctl_three"]]
    (told,) = [event.text for event in host.events if isinstance(event, Note) and "exception" in event.text]
    assert "for sysctl_three is needless" in told
    assert not host.build().worked


def test_what_fails_makes_no_disk(host: FakeHost, said: dict[str, str]) -> None:
    said["one"] = "fail"
    with pytest.raises(ComplianceFailed, match="one fails, is of severity high") as failed:
        host.build()
    assert "high: one (Rule one)" in failed.value.lines
    assert not {"disk", "convert qcow2", "boot-test", "sign"} & set(done(host))
    wants(host, "one")
    assert host.build().worked
    assert "compliance" not in done(host), "it was measured already"


def test_what_fails_can_be_read(
    host: FakeHost, said: dict[str, str], shell: Shell, on: Callable[..., FakeHost]
) -> None:
    on(host)
    assert shell.refused("compliance", "last", NAME) == (1, "not-measured")
    said["one"] = "fail"
    with pytest.raises(ComplianceFailed) as failed:
        host.build()
    report = json.dumps(said).encode()
    digest = f"sha256:{sha256(report).hexdigest()}"
    assert failed.value.lines[-1] == f"report: {digest}"
    assert failed.value.advice.startswith(f"imagefactory compliance last {NAME} --html FILE writes the report; ")
    assert failed.value.advice.endswith(ComplianceFailed.default_advice)

    status, text = shell.text("compliance", "last", NAME, "--html", "report.html")
    assert (status, Path("report.html").read_bytes()) == (0, report)
    lines = [" ".join(line.split()) for line in text.splitlines()]
    assert lines[0] == f"{NAME}, measured last"
    assert "score 50.0 %" in lines, "of the rules that files answer"
    assert "guest no rule was answered by a running system" in lines
    assert lines[-2:] == ["RULE SEVERITY OUTCOME BY", "one high fail files"]
    assert shell.refused("compliance", "last", NAME, "--html", "report.html") == (2, "output-exists")
    status, document = shell.json("compliance", "last", NAME, "--all")
    assert (status, document["name"], document["score"], document["report"]) == (0, NAME, "50.0", digest)
    assert [each["rule"] for each in document["rules"]] == ["one", "two"]
    assert shell.refused("compliance", "show", NAME) == (1, "release-unknown")
    assert shell.refused("compliance", "last", f"{NAME}@20260101.1") == (2, "usage")
    assert shell.refused("compliance", "last", "../x") == (2, "release-name-invalid")


def test_what_is_refused_is_the_last_one_though_it_was_measured_before(
    host: FakeHost, said: dict[str, str], shell: Shell, on: Callable[..., FakeHost]
) -> None:
    on(host)
    said["one"] = "fail"
    with pytest.raises(ComplianceFailed):
        host.build()
    _, before = shell.json("compliance", "last", NAME)
    said.update(one="pass", two="fail")
    rewrite(host, "packages: [openssl]", "packages: [openssl, bash]")
    assert host.build().worked
    assert [each["rule"] for each in shell.json("compliance", "last", NAME)[1]["rules"]] == ["two"]
    rewrite(host, "packages: [openssl, bash]", "packages: [openssl]")
    with pytest.raises(ComplianceFailed):
        host.build()
    assert "compliance" not in done(host)
    assert shell.json("compliance", "last", NAME) == (0, before)


def test_what_the_guest_said_can_be_read_too(
    host: FakeHost, said: dict[str, str], shell: Shell, on: Callable[..., FakeHost]
) -> None:
    """A score is known when an image was booted; what it refuses is the last one, though it was measured before."""
    on(host)
    said.update(two="fail", sysctl_three="fail")
    wants(host, min_score=70)
    with pytest.raises(ComplianceFailed, match="score"):
        host.build()
    _, before = shell.json("compliance", "last", NAME, "--all")
    assert {each["rule"]: (each["outcome"], each["judge"]) for each in before["rules"]} == {
        "one": ("pass", "files"),
        "sysctl_three": ("pass", "guest"),
        "two": ("fail", "files"),
    }
    said.update(two="pass")
    rewrite(host, "packages: [openssl]", "packages: [openssl, bash]")
    assert host.build().worked
    assert shell.json("compliance", "last", NAME)[1]["score"] == "100.0"
    rewrite(host, "packages: [openssl, bash]", "packages: [openssl]")
    with pytest.raises(ComplianceFailed, match="score"):
        host.build()
    assert done(host) == []
    assert shell.json("compliance", "last", NAME, "--all") == (0, before)


def test_a_measurement_that_means_nothing(
    host: FakeHost, said: dict[str, str], shell: Shell, on: Callable[..., FakeHost]
) -> None:
    del said
    on(host)
    with host.factory() as factory:
        factory.records.remember("a" * 64, plan.COMPLIANCE, NAME, {}, {"scan": {}})
    assert shell.refused("compliance", "last", NAME) == (1, "evidence-missing")


def test_a_score_that_is_too_low(host: FakeHost, said: dict[str, str]) -> None:
    said.update(two="fail")
    wants(host, "two", min_score=70)
    with pytest.raises(ComplianceFailed, match=r"the score is 66\.6 %, and 70\.0 % is wanted"):
        host.build()


def test_the_guest_answers_what_files_cannot(host: FakeHost, said: dict[str, str]) -> None:
    """Its file says no, and the running system says yes."""
    said.update(sysctl_three="fail")
    assert host.build().worked
    rules = {each["rule"]: (each["outcome"], each["judge"]) for each in evidence(host)["facts"]["scan"]["rules"]}
    assert rules == {"one": ("pass", "files"), "sysctl_three": ("pass", "guest"), "two": ("pass", "files")}


def test_a_measurement_that_failed_does_not_keep_newer_packages_away(host: FakeHost, said: dict[str, str]) -> None:
    said["one"] = "fail"
    with pytest.raises(ComplianceFailed):
        host.build()
    said["one"] = "pass"
    host.offer({"openssl": "3.0.18-1", "bash": "5.2.15-2"}, in_release="second")
    assert host.build().worked


@pytest.mark.parametrize(
    ("change", "error"),
    [
        (lambda host: wants(host, "one", expires=TODAY - timedelta(days=1)), ExceptionExpired),
        (lambda host: wants(host, "ona"), RuleUnknown),
        (lambda host: wants(host, profile="strict_profil"), ProfileUnknown),
    ],
)
def test_what_cannot_be_is_refused_before_the_work(
    host: FakeHost, said: dict[str, str], change: Callable[[FakeHost], None], error: type[Exception]
) -> None:
    del said
    change(host)
    with pytest.raises(error):
        host.build()
    assert done(host) == []


def applies(host: FakeHost) -> None:
    """An element of the recipe applies the standard."""
    (host.recipe_file.parent / "elements/soe-compliance").mkdir()
    rewrite(host, "elements: [plain]", "elements: [plain, soe-compliance]")


def test_an_element_that_applies_a_standard_wants_one(host: FakeHost) -> None:
    applies(host)
    with pytest.raises(NotMeasured, match="wants no standard"):
        host.build()
    assert done(host) == []


def test_what_an_element_applies_are_the_bytes_that_were_looked_at(
    host: FakeHost, said: dict[str, str], monkeypatch: pytest.MonkeyPatch
) -> None:
    del said
    applies(host)
    seen: list[bytes] = []
    ask = Line._build

    def meddle(line: Line, request: dict[str, Any], step: str) -> dict[str, Any]:
        if step == plan.ROOTFS:
            (host.recipe_file.parent / "content.xml").write_bytes(b"<other/>")
            seen.append(Path(request["rootfs"]["standard"][0]).read_bytes())
        return ask(line, request, step)

    monkeypatch.setattr(Line, "_build", meddle)
    assert host.build().worked
    assert seen == [CONTENT]


def test_content_that_changes_is_noticed(host: FakeHost, said: dict[str, str]) -> None:
    del said
    loaded = host.load()
    (host.recipe_file.parent / "content.xml").write_bytes(CONTENT.replace(b"Strict", b"Lenient"))
    with pytest.raises(InputsChanged, match=r"content\.xml"):
        gather(loaded, host.settings)


def test_an_exception_serves_until_its_last_day(
    host: FakeHost, said: dict[str, str], monkeypatch: pytest.MonkeyPatch, shell: Shell, on: Callable[..., FakeHost]
) -> None:
    said["one"] = "fail"
    wants(host, "one", expires=TODAY)
    assert host.build().worked
    on(host)
    status, shown = shell.json("compliance", "show", NAME)
    assert (status, shown["score"]) == (0, "66.6")
    monkeypatch.setattr(standard, "_today", lambda: TODAY + timedelta(days=1))
    with pytest.raises(ExceptionExpired, match="one: until"):
        host.build()


def test_approving_the_recipe_asks_for_the_measurement(
    host: FakeHost, said: dict[str, str], shell: Shell, on: Callable[..., FakeHost]
) -> None:
    del said
    on(host)
    changes = shell.json("policy", "approve", Path(host.recipe_file))[1]["changes"]
    assert "+ evidence compliance" in changes
