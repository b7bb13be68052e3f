"""Compliance: scores, the gate, what evidence says and is read back from, and what a recipe writes of it."""

import json
from dataclasses import asdict, replace
from datetime import date, timedelta
from fractions import Fraction
from pathlib import Path
from typing import Any, get_args

import pytest
from hypothesis import assume, given
from hypothesis import strategies as st

from imagefactory.errors import InputsChanged
from imagefactory.model.compliance import (
    FAILED,
    PASSED,
    Difference,
    Gate,
    Judge,
    Measurement,
    Outcome,
    RuleException,
    RuleResult,
    Scan,
    Severity,
    Standard,
    decimal,
    differences,
    is_live,
    judge,
    percent,
)
from imagefactory.model.evidence import Evidence
from imagefactory.model.recipe import Recipe, effective
from imagefactory.tools.recipe_file import MAX_BYTES, MAX_CONTENT, copy_reference, load_recipe
from tests.unit.test_recipe_file import MINIMAL, refused, write

TODAY = date(2026, 11, 22)
STANDARD = Standard(
    "anssi_bp28_enhanced", "ANSSI-BP-028 (enhanced)", "xccdf_org.ssgproject.content_benchmark", "c" * 64, "0.1", "1.3"
)
ROOTFS, REPORT = "sha256:" + "a" * 64, "sha256:" + "b" * 64


def result(rule: str, outcome: Outcome, severity: Severity = "medium") -> RuleResult:
    return RuleResult(rule, outcome, severity, f"The rule {rule}")


def scan(**outcomes: Outcome) -> Scan:
    return Scan(STANDARD, tuple(result(rule, outcome) for rule, outcome in outcomes.items()))


def exception(rule: str, expires: date = TODAY) -> RuleException:
    return RuleException(rule, "The platform does that.", "platform team", expires)


NAMES = st.text(st.sampled_from("abcdefghij_0"), min_size=1, max_size=6)
RESULTS = st.builds(
    RuleResult,
    NAMES,
    st.sampled_from(get_args(Outcome)),
    st.sampled_from(get_args(Severity)),
    st.text(max_size=20),
    st.sampled_from(get_args(Judge)),
)
SCANS = st.lists(RESULTS, max_size=12, unique_by=lambda each: each.rule).map(
    lambda rules: Scan(STANDARD, tuple(sorted(rules, key=lambda each: each.rule)))
)
DAYS = st.integers(-3, 3).map(lambda days: TODAY + timedelta(days))
EXCEPTIONS = st.lists(
    st.builds(RuleException, NAMES, st.text(max_size=20), st.text(max_size=20), DAYS),
    max_size=6,
    unique_by=lambda each: each.rule,
).map(tuple)
GATES = st.builds(Gate, st.integers(0, 100), EXCEPTIONS)


# -- scores -----------------------------------------------------------------------------------------------------------


def test_the_score_is_the_share_of_the_applicable_rules_that_pass() -> None:
    measured = scan(a="pass", b="fixed", c="fail", d="notapplicable", e="notchecked", f="informational")
    assert (measured.passed, measured.applicable, measured.score) == (2, 3, Fraction(200, 3))
    assert measured.counts["pass"] == 1
    assert measured.counts["error"] == 0


@pytest.mark.parametrize("outcome", sorted(FAILED))
def test_what_could_not_be_judged_is_no_pass(outcome: Outcome) -> None:
    measured = scan(a="pass", b=outcome)
    assert measured.score == 50
    assert [each.rule for each in measured.failing()] == ["b"]


def test_nothing_applicable_proves_nothing() -> None:
    assert scan().score == scan(a="notapplicable", b="notchecked").score == 0


def test_the_score_apart_from_some_rules() -> None:
    measured = scan(a="pass", b="fail", c="fail")
    assert measured.score_apart_from(["b"]) == 50
    assert measured.score_apart_from(["b", "c"]) == 100
    assert measured.score_apart_from(["no such rule"]) == measured.score


def test_the_score_apart_from_the_layout_of_the_disk() -> None:
    rules: dict[str, Outcome] = {"a": "pass", "b": "pass", "c": "fail", "no_partition_": "pass"}
    layout: dict[str, Outcome] = {"partition_for_tmp": "fail", "partition_x": "pass", "mount_option_tmp_nodev": "error"}
    assert scan(**rules, **layout).score_apart_from_layout == scan(**rules).score == 75
    assert scan(**layout).score_apart_from_layout == 0, "nothing is left that would prove anything"


@given(SCANS)
def test_scores_and_counts_add_up(measured: Scan) -> None:
    assert 0 <= measured.score <= 100
    assert sum(measured.counts.values()) == len(measured.rules)
    assert measured.passed + len(measured.failing()) == measured.applicable
    assert measured.applicable == sum(measured.counts[each] for each in PASSED | FAILED)
    assert measured.score_apart_from(()) == measured.score
    failing = [each.rule for each in measured.failing()]
    assert measured.score_apart_from(failing) == (100 if measured.passed else 0)


@pytest.mark.parametrize(
    ("score", "text"),
    [
        (Fraction(0), "0.0 %"),
        (Fraction(100), "100.0 %"),
        (95, "95.0 %"),
        (Fraction(9596, 100), "95.9 %"),
        (Fraction(99999, 1000), "99.9 %"),
        (Fraction(200, 3), "66.6 %"),
        (Fraction(1, 100), "0.0 %"),
    ],
)
def test_a_score_for_people_never_flatters(score: Fraction | int, text: str) -> None:
    assert percent(score) == text


@given(st.fractions(0, 100))
def test_a_score_is_rounded_down_by_less_than_a_tenth(score: Fraction) -> None:
    assert Fraction(decimal(score)) <= score < Fraction(decimal(score)) + Fraction(1, 10)


# -- a guest's word ---------------------------------------------------------------------------------------------------


def test_the_guest_answers_what_no_file_can() -> None:
    files = scan(a="fail", mount_option_tmp_nosuid="fail", sysctl_kernel_sysrq="pass", timer_x_enabled="pass")
    said: dict[str, Outcome] = {"a": "pass", "mount_option_tmp_nosuid": "pass", "sysctl_kernel_sysrq": "fail"}
    merged = files.with_guest(said)
    assert {each.rule: (each.outcome, each.judge) for each in merged.rules} == {
        "a": ("fail", "files"),
        "mount_option_tmp_nosuid": ("pass", "guest"),
        "sysctl_kernel_sysrq": ("fail", "guest"),
        "timer_x_enabled": ("unknown", "guest"),
    }
    assert [each.rule for each in files.without_guest().rules] == ["a"]


@pytest.mark.parametrize(
    ("rule", "live"),
    [
        ("sysctl_net_ipv4_ip_forward", True),
        ("partition_for_boot", True),
        ("service_auditd_enabled", True),
        ("prefer_64bit_os", True),
        ("package_audit_installed", False),
        ("sshd_disable_root_login", False),
        ("no_sysctl_at_all", False),
    ],
)
def test_rules_that_only_a_running_system_answers(rule: str, live: bool) -> None:
    assert is_live(rule) is live


# -- the gate ---------------------------------------------------------------------------------------------------------


def test_a_score_that_is_just_reached() -> None:
    measured = scan(a="pass", b="fail")
    assert judge(measured, Gate(50), TODAY).refused == ()
    assert judge(measured, Gate(51), TODAY).refused == ("the score is 50.0 %, and 51.0 % is wanted",)


def test_a_score_that_only_looks_as_if_it_were_reached() -> None:
    rules = tuple(result(f"r{number:04}", "pass" if number < 1899 else "fail") for number in range(2000))
    assert judge(Scan(STANDARD, rules), Gate(95), TODAY).refused == ("the score is 94.9 %, and 95.0 % is wanted",)


def test_an_exception_does_not_lift_the_score() -> None:
    verdict = judge(scan(a="pass", b="fail"), Gate(60, (exception("b"),)), TODAY)
    assert verdict.refused == ("the score is 50.0 %, and 60.0 % is wanted",)
    assert verdict.excepted == (exception("b"),)


@pytest.mark.parametrize("outcome", sorted(FAILED))
def test_a_rule_of_severity_high_needs_an_exception(outcome: Outcome) -> None:
    measured = Scan(STANDARD, (result("a", outcome, "high"), result("b", "fail", "low")))
    (refused,) = judge(measured, Gate(0), TODAY).refused
    assert refused == "a fails, is of severity high, and has no exception: The rule a"
    verdict = judge(measured, Gate(0, (exception("a"),)), TODAY)
    assert (verdict.refused, verdict.excepted) == ((), (exception("a"),))


def test_an_exception_holds_on_its_last_day_and_not_on_the_next() -> None:
    measured = Scan(STANDARD, (result("a", "fail", "high"),))
    gate = Gate(0, (exception("a", TODAY),))
    assert judge(measured, gate, TODAY).refused == ()
    assert gate.expired(TODAY) == ()
    verdict = judge(measured, gate, TODAY + timedelta(1))
    assert verdict.refused == (
        "the exception for a expired on 2026-11-22",
        "a fails, is of severity high, and has no exception: The rule a",
    )
    assert verdict.excepted == verdict.needless == ()


def test_a_needless_exception_is_told_and_refuses_nothing() -> None:
    measured = scan(a="pass", b="fail", c="notapplicable")
    gate = Gate(0, tuple(map(exception, ("a", "b", "c", "gone"))))
    verdict = judge(measured, gate, TODAY)
    assert verdict.refused == ()
    assert [each.rule for each in verdict.needless] == ["a", "c", "gone"]


def test_a_needless_exception_expires_as_well() -> None:
    gate = Gate(0, (exception("a", TODAY - timedelta(1)),))
    assert judge(scan(a="pass"), gate, TODAY).refused == ("the exception for a expired on 2026-11-21",)


@given(SCANS, GATES)
def test_the_gate(measured: Scan, gate: Gate) -> None:
    verdict = judge(measured, gate, TODAY)
    holding = {each.rule for each in gate.exceptions if each.expires >= TODAY}
    failing = {each.rule for each in measured.failing()}
    serious = {each.rule for each in measured.failing() if each.severity == "high"}
    good = len(holding) == len(gate.exceptions) and serious <= holding and measured.score >= gate.min_score
    assert (verdict.refused == ()) is good
    assert {each.rule for each in verdict.excepted} == failing & holding
    assert {each.rule for each in verdict.needless} == {each.rule for each in gate.exceptions} - failing


@given(SCANS, GATES)
def test_what_passes_passes_a_gate_that_wants_less(measured: Scan, gate: Gate) -> None:
    assume(not judge(measured, gate, TODAY).refused)
    assert not judge(measured, replace(gate, min_score=gate.min_score // 2), TODAY).refused
    assert not judge(measured, gate, TODAY - timedelta(30)).refused


# -- differences ------------------------------------------------------------------------------------------------------


def test_differences() -> None:
    found = differences(scan(a="pass", b="fail", c="pass", d="fail"), scan(b="pass", c="pass", d="error", e="fail"))
    assert list(found) == [
        Difference("a", "pass", None),
        Difference("b", "fail", "pass"),
        Difference("d", "fail", "error"),
        Difference("e", None, "fail"),
    ]


@given(SCANS, SCANS)
def test_differences_lead_from_one_to_the_other(old: Scan, new: Scan) -> None:
    outcomes: dict[str, Outcome | None] = {each.rule: each.outcome for each in old.rules}
    for each in differences(old, new):
        assert outcomes.get(each.rule) == each.old != each.new
        outcomes[each.rule] = each.new
    assert {k: v for k, v in outcomes.items() if v} == {each.rule: each.outcome for each in new.rules}
    assert differences(old, old) == []
    assert list(differences(new, old)) == [Difference(d.rule, d.new, d.old) for d in differences(old, new)]


# -- what evidence says -----------------------------------------------------------------------------------------------


@given(SCANS, st.integers(0, 100), EXCEPTIONS, EXCEPTIONS, st.none() | st.just(REPORT))
def test_evidence_keeps_all_of_it(
    measured: Scan,
    wanted: int,
    exceptions: tuple[RuleException, ...],
    needless: tuple[RuleException, ...],
    report: str | None,
) -> None:
    said = Measurement(measured, wanted, exceptions, needless, ROOTFS, report)
    written = Evidence("compliance", ROOTFS, "pass", said.facts()).to_json()
    read = Evidence.from_json(json.loads(json.dumps(written)))
    assert Measurement.from_facts(read.facts) == said
    assert read.to_json() == written


def test_the_facts_of_evidence() -> None:
    measured = scan(a="pass", b="fail", c="pass")
    needless = exception("a", date(2027, 6, 30))
    facts = Measurement(measured, 60, (exception("b"),), (needless,), ROOTFS, REPORT).facts()
    said = {"reason": "The platform does that.", "owner": "platform team"}
    assert {key: value for key, value in facts.items() if key != "scan"} == {
        "score": "66.6",
        "min_score": 60,
        "exceptions": [{"rule": "b", **said, "expires": "2026-11-22"}],
        "needless": [{"rule": "a", **said, "expires": "2027-06-30"}],
        "rootfs": ROOTFS,
        "report": REPORT,
    }


@given(GATES)
def test_a_gate_is_read_as_the_recipe_writes_it(gate: Gate) -> None:
    document = {"min_score": gate.min_score, "exceptions": [each.to_json() for each in gate.exceptions]}
    assert Gate.from_json(json.loads(json.dumps(document))) == gate
    assert Gate.from_json({"profile": "standard"}) == Gate(0)


@pytest.mark.parametrize("score", ["95", 95.0, True, None, [95]])
def test_a_gate_wants_a_whole_number(score: object) -> None:
    with pytest.raises(TypeError):
        Gate.from_json({"min_score": score})


def facts_with(**changes: object) -> dict[str, Any]:
    facts = Measurement(scan(a="fail"), 0, (exception("a"),), (), ROOTFS, REPORT).facts()
    return {**json.loads(json.dumps(facts)), **changes}


def rules_with(*changes: dict[str, object]) -> dict[str, Any]:
    rules = [{**asdict(result("a", "fail")), **change} for change in changes]
    return facts_with(scan={"standard": asdict(STANDARD), "rules": rules})


BAD_FACTS: dict[str, dict[str, Any]] = {
    "no scan": facts_with(scan=None),
    "no rules": facts_with(scan={"standard": asdict(STANDARD)}),
    "no standard": facts_with(scan={"rules": []}),
    "a standard of numbers": facts_with(scan={"standard": {**asdict(STANDARD), "version": 1}, "rules": []}),
    "an unknown outcome": rules_with({"outcome": "passed"}),
    "an unknown severity": rules_with({"severity": "critical"}),
    "an unknown judge": rules_with({"judge": "me"}),
    "an outcome that is a list": rules_with({"outcome": ["pass"]}),
    "a title that is none": rules_with({"title": None}),
    "another field": rules_with({"colour": "red"}),
    "a rule twice": rules_with({}, {"outcome": "pass"}),
    "half a point": facts_with(min_score=0.5),
    "a score as text": facts_with(min_score="0"),
    "a score that is true": facts_with(min_score=True),
    "an exception without a day": facts_with(exceptions=[{"rule": "a", "reason": "r", "owner": "o"}]),
    "an exception until soon": facts_with(exceptions=[{**exception("a").to_json(), "expires": "soon"}]),
    "an exception of nobody": facts_with(exceptions=[{**exception("a").to_json(), "owner": None}]),
    "an exception that is text": facts_with(exceptions=["a"]),
    "an exception with more": facts_with(needless=[{**exception("a").to_json(), "why": "?"}]),
    "no root file system": facts_with(rootfs=None),
    "a report that is a path": facts_with(report="../../etc/passwd"),
    "a report with no name": facts_with(report=""),
}


@pytest.mark.parametrize("facts", BAD_FACTS.values(), ids=BAD_FACTS)
def test_facts_that_mean_nothing(facts: dict[str, Any]) -> None:
    with pytest.raises((KeyError, TypeError, ValueError)):
        Measurement.from_facts(facts)


ANY_JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.text(max_size=5) | st.sampled_from(["a", "fail", "high", ROOTFS]),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=5), inner, max_size=3),
    max_leaves=6,
)


@given(st.sampled_from(sorted(facts_with())), ANY_JSON)
def test_any_facts_are_read_or_refused(key: str, value: object) -> None:
    try:
        said = Measurement.from_facts(facts_with(**{key: value}))
    except (KeyError, TypeError, ValueError):
        return
    assert Measurement.from_facts(said.facts()) == said


# -- recipes ----------------------------------------------------------------------------------------------------------

WHOLE = """\
compliance:
  profile: anssi_bp28_enhanced
  min_score: 95
  exceptions:
    - rule: partition_for_boot
      reason: One file system, so that a cloud can grow it.
      owner: platform team <platform@example.org>
      expires: 2027-06-30
    - rule: grub2_password
      reason: >
        Whoever sees the console of an instance
        may change its disk as well.
      owner: platform team
      expires: "2027-12-31"
"""


def test_a_recipe_says_what_is_wanted(tmp_path: Path) -> None:
    recipe = load_recipe(write(tmp_path, MINIMAL + WHOLE)).recipe
    assert recipe.compliance is not None
    assert (recipe.compliance.profile, recipe.compliance.content, recipe.compliance.tailoring) == (
        "anssi_bp28_enhanced",
        None,
        None,
    )
    gate = recipe.compliance.gate
    assert (gate.min_score, [each.rule for each in gate.exceptions]) == (95, ["partition_for_boot", "grub2_password"])
    assert gate.exceptions[0].expires == date(2027, 6, 30)
    assert Recipe.model_validate(json.loads(json.dumps(effective(recipe)))) == recipe


def test_a_recipe_that_says_nothing_is_not_measured(tmp_path: Path) -> None:
    assert load_recipe(write(tmp_path, MINIMAL)).recipe.compliance is None


def test_the_least_that_a_recipe_can_want(tmp_path: Path) -> None:
    compliance = load_recipe(write(tmp_path, MINIMAL + "compliance: {profile: standard}\n")).recipe.compliance
    assert compliance is not None
    assert compliance.gate == Gate(0)


def test_what_extends_may_ask_for_more(tmp_path: Path) -> None:
    write(tmp_path, MINIMAL + WHOLE, "base.yaml")
    path = write(tmp_path, "extends: base.yaml\ncompliance: {min_score: 99}\n")
    compliance = load_recipe(path).recipe.compliance
    assert compliance is not None
    assert (compliance.min_score, len(compliance.exceptions)) == (99, 2)
    path.write_text("extends: base.yaml\ncompliance:\n")
    assert load_recipe(path).recipe.compliance is None


def changed(old: str, new: str) -> str:
    assert old in WHOLE
    return MINIMAL + WHOLE.replace(old, new)


# name -> the text, the code, line:column, the message (its beginning)
BAD: dict[str, tuple[str, str, str, str]] = {
    "no profile": (
        changed("  profile: anssi_bp28_enhanced\n", ""),
        "recipe-invalid",
        "6:1",
        "compliance.profile: is missing",
    ),
    "the long name of a profile": (
        changed("anssi_bp28_enhanced", "content profile"),
        "recipe-invalid",
        "7:12",
        "compliance.profile: should be the short name that the SCAP Security Guide uses, not 'content profile'",
    ),
    "no owner": (
        changed("      owner: platform team\n", ""),
        "recipe-invalid",
        "14:7",
        "compliance.exceptions[1].owner: is missing",
    ),
    "an empty owner": (
        changed("owner: platform team\n", 'owner: ""\n'),
        "recipe-invalid",
        "18:14",
        "compliance.exceptions[1].owner: should have at least 1 character",
    ),
    "a blank owner": (
        changed("owner: platform team\n", 'owner: "  "\n'),
        "recipe-invalid",
        "18:14",
        "compliance.exceptions[1].owner: should not be blank",
    ),
    "an owner of two lines": (
        changed("owner: platform team\n", 'owner: "a\\nb"\n'),
        "recipe-invalid",
        "18:14",
        "compliance.exceptions[1].owner: should be one line without control characters",
    ),
    "no reason": (
        changed("      reason: One file system, so that a cloud can grow it.\n", ""),
        "recipe-invalid",
        "10:7",
        "compliance.exceptions[0].reason: is missing",
    ),
    "a reason that is none": (
        changed("One file system, so that a cloud can grow it.", "todo"),
        "recipe-invalid",
        "11:15",
        "compliance.exceptions[0].reason: should have at least 10 characters that are not blank",
    ),
    "a blank reason": (
        changed("One file system, so that a cloud can grow it.", '"   todo      "'),
        "recipe-invalid",
        "11:15",
        "compliance.exceptions[0].reason: should have at least 10 characters that are not blank",
    ),
    "a secret in a reason": (
        changed("One file system, so that", "See https://joe:hunter2@wiki/ why"),
        "secret-in-recipe",
        "11:15",
        "compliance.exceptions[0].reason: has a URL with a user name or password in it",
    ),
    "no day": (
        changed("      expires: 2027-06-30\n", ""),
        "recipe-invalid",
        "10:7",
        "compliance.exceptions[0].expires: is missing",
    ),
    "no such day": (
        changed("2027-06-30", "2027-06-31"),
        "recipe-invalid",
        "13:16",
        "compliance.exceptions[0].expires: should be a day, such as 2027-06-30, not '2027-06-31'",
    ),
    "a day in another form": (
        changed("2027-06-30", "30.6.2027"),
        "recipe-invalid",
        "13:16",
        "compliance.exceptions[0].expires: should be a day, such as 2027-06-30, not '30.6.2027'",
    ),
    "a week": (
        changed("2027-06-30", "2027-W26-3"),
        "recipe-invalid",
        "13:16",
        "compliance.exceptions[0].expires: should be a day, such as 2027-06-30, not '2027-W26-3'",
    ),
    "never": (
        changed("2027-06-30", "never"),
        "recipe-invalid",
        "13:16",
        "compliance.exceptions[0].expires: should be a day, such as 2027-06-30, not 'never'",
    ),
    "a year": (
        changed("2027-06-30", "2027"),
        "recipe-invalid",
        "13:16",
        "compliance.exceptions[0].expires: should be text: put it in quotes if it looks like something else",
    ),
    "a rule twice": (
        changed("grub2_password", "partition_for_boot"),
        "recipe-invalid",
        "10:5",
        "compliance.exceptions: has two exceptions for partition_for_boot",
    ),
    "a rule that is a path": (
        changed("grub2_password", "../x"),
        "recipe-invalid",
        "14:13",
        "compliance.exceptions[1].rule: should be the short name that the SCAP Security Guide uses, not '../x'",
    ),
    "more than everything": (
        changed("95", "101"),
        "recipe-invalid",
        "8:14",
        "compliance.min_score: should be less than or equal to 100",
    ),
    "less than nothing": (
        changed("95", "-1"),
        "recipe-invalid",
        "8:14",
        "compliance.min_score: should be greater than or equal to 0",
    ),
    "a fraction": (
        changed("95", "95.5"),
        "recipe-invalid",
        "8:14",
        "compliance.min_score: should be a whole number",
    ),
    "a whole fraction": (
        changed("95", "95.0"),
        "recipe-invalid",
        "8:14",
        "compliance.min_score: should be a whole number",
    ),
    "percent": (
        changed("95", "95 %"),
        "recipe-invalid",
        "8:14",
        "compliance.min_score: should be a whole number",
    ),
    "an unknown key": (
        changed("min_score", "minscore"),
        "recipe-unknown-key",
        "8:3",
        "compliance.minscore: unknown key; did you mean min_score?",
    ),
    "an unknown key of an exception": (
        changed("owner: platform team\n", "owner: platform team\n      ownr: platform team\n"),
        "recipe-unknown-key",
        "19:7",
        "compliance.exceptions[1].ownr: unknown key; did you mean owner?",
    ),
    "exceptions as a mapping": (
        MINIMAL + "compliance: {profile: standard, exceptions: {rule: a}}\n",
        "recipe-invalid",
        "6:45",
        "compliance.exceptions: should be a list",
    ),
    "a profile alone": (
        MINIMAL + "compliance: standard\n",
        "recipe-invalid",
        "6:13",
        "compliance: should be a mapping",
    ),
    "a list": (MINIMAL + "compliance: [standard]\n", "recipe-invalid", "6:13", "compliance: should be a mapping"),
}


@pytest.mark.parametrize(("text", "code", "place", "message"), BAD.values(), ids=BAD)
def test_bad_recipes(tmp_path: Path, text: str, code: str, place: str, message: str) -> None:
    path = write(tmp_path, text)
    error = refused(path)
    assert (error.code, error.lines) == (code, ())
    assert error.message.startswith(f"{path}:{place}: {message}")
    assert "hunter2" not in error.message


def test_not_more_exceptions_than_a_reviewer_reads(tmp_path: Path) -> None:
    one = "{rule: r%d, reason: The platform does that., owner: a team, expires: 2027-01-01}"
    many = ", ".join(one % number for number in range(501))
    error = refused(write(tmp_path, f"{MINIMAL}compliance: {{profile: standard, exceptions: [{many}]}}\n"))
    assert error.message.endswith("compliance.exceptions: should have at most 500 items, not 501")


# -- the files of a standard ------------------------------------------------------------------------------------------

OWN = "compliance: {profile: standard, content: scap/ds.xml, tailoring: scap/tailoring.xml}\n"


def own(folder: Path, content: bytes = b"<data-stream-collection/>", tailoring: str = "<Tailoring/>") -> Path:
    """A recipe that extends one elsewhere, whose SCAP files lie beside that."""
    (folder / "shared/scap").mkdir(parents=True)
    write(folder / "shared", OWN, "base.yaml")
    write(folder / "shared/scap", content, "ds.xml")
    write(folder / "shared/scap", tailoring, "tailoring.xml")
    return write(folder, "extends: shared/base.yaml\n" + MINIMAL)


def test_paths_count_from_the_file_that_writes_them(tmp_path: Path) -> None:
    loaded = load_recipe(own(tmp_path))
    content, tailoring = tmp_path / "shared/scap/ds.xml", tmp_path / "shared/scap/tailoring.xml"
    assert loaded.recipe.compliance is not None
    assert (loaded.recipe.compliance.content, loaded.recipe.compliance.tailoring) == (str(content), str(tailoring))
    assert set(loaded.files) >= {content, tailoring}


def test_the_digest_has_their_content_and_not_their_path(tmp_path: Path) -> None:
    for name in ("a", "b", "c", "d"):
        (tmp_path / name).mkdir()
    digests = {
        load_recipe(own(tmp_path / "a")).digest,
        load_recipe(own(tmp_path / "b", content=b"<other/>")).digest,
        load_recipe(own(tmp_path / "c", tailoring="<other/>")).digest,
    }
    assert len(digests) == 3
    (tmp_path / "e").mkdir()
    assert load_recipe(own(tmp_path / "e")).digest == load_recipe(tmp_path / "a/r.yaml").digest
    loaded = load_recipe(own(tmp_path / "d"))
    assert str(tmp_path) not in json.dumps(loaded.document)
    assert (
        set(loaded.document["compliance"]["content"]) == set(loaded.document["compliance"]["tailoring"]) == {"sha256"}
    )


def test_content_is_larger_than_any_other_file(tmp_path: Path) -> None:
    content = b"<x/>" * (3 * MAX_BYTES // 4 + 1)
    loaded = load_recipe(own(tmp_path, content))
    copy_reference(loaded, tmp_path / "shared/scap/ds.xml", tmp_path / "copy")
    assert (tmp_path / "copy").read_bytes() == content
    write(tmp_path / "shared/scap", content + b"\n", "ds.xml")
    with pytest.raises(InputsChanged):
        copy_reference(loaded, tmp_path / "shared/scap/ds.xml", tmp_path / "copy")


def test_content_that_has_no_end(tmp_path: Path) -> None:
    path = own(tmp_path)
    with (tmp_path / "shared/scap/ds.xml").open("r+b") as file:
        file.truncate(MAX_CONTENT)
    load_recipe(path)
    with (tmp_path / "shared/scap/ds.xml").open("r+b") as file:
        file.truncate(MAX_CONTENT + 1)
    error = refused(path)
    assert error.code == "recipe-reference"
    assert error.message.endswith("base.yaml:1:42: " + f"{tmp_path}/shared/scap/ds.xml has more than 64 MiB")


@pytest.mark.parametrize(
    ("name", "make", "message"),
    [
        ("ds.xml", "nothing", "there is no file "),
        ("ds.xml", "folder", " cannot be read: a folder"),
        ("ds.xml", "device", " is no regular file"),
        ("tailoring.xml", "nothing", "there is no file "),
        ("tailoring.xml", "folder", " cannot be read: a folder"),
        ("tailoring.xml", "device", " is no regular file"),
        ("tailoring.xml", "large", " has more than 1 MiB"),
    ],
)
def test_files_that_are_none(tmp_path: Path, name: str, make: str, message: str) -> None:
    path = own(tmp_path)
    file = tmp_path / "shared/scap" / name
    file.unlink()
    if make == "folder":
        file.mkdir()
    elif make == "device":
        file.symlink_to("/dev/zero")
    elif make == "large":
        file.write_bytes(b" " * (MAX_BYTES + 1))
    error = refused(path)
    assert error.code == "recipe-reference"
    assert error.file == tmp_path / "shared/base.yaml"
    assert message in error.message


def test_a_private_key_is_no_tailoring(tmp_path: Path) -> None:
    error = refused(own(tmp_path, tailoring="<!-- -----BEGIN PRIVATE KEY----- -->"))
    assert error.code == "secret-in-recipe"
