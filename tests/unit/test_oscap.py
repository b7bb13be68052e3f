"""SCAP content, tailoring and results: read as XCCDF says, and hostile ones refused."""

import contextlib
from collections.abc import Callable, Mapping
from functools import partial
from typing import Any
from xml.sax.saxutils import quoteattr

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from imagefactory.errors import (
    ContentInvalid,
    FactoryError,
    ProfileUnknown,
    RuleUnknown,
    ScanFailed,
    TailoringInvalid,
)
from imagefactory.model.compliance import RuleResult, Scan, Standard
from imagefactory.tools import oscap
from imagefactory.tools.oscap import Content, read_content, read_results, scan_of, tailor
from tests.fakes.standard import BENCHMARK, NAMESPACE, PROFILE, data_stream, group, profile, results, rule, tailoring

STANDARD = Standard(PROFILE, "A profile", BENCHMARK, "ab" * 32, "1.0", "1.3.7")
# Two rules in a group, one of them selected by itself; the profile selects the other one, too.
RULES = group("outer", group("inner", rule("one", severity="high", title="The <b>first</b>") + rule("two", "true")))
PROFILES = profile(PROFILE, {"rule_one": True}, title="A profile")
CONTENT = data_stream(RULES, PROFILES)

Read = Callable[[bytes], Any]
READERS: Mapping[str, tuple[Read, type[FactoryError], bytes]] = {
    "content": (read_content, ContentInvalid, CONTENT),
    "tailoring": (partial(tailor, read_content(CONTENT)), TailoringInvalid, tailoring(profile("ours", {}, PROFILE))),
    "results": (read_results, ScanFailed, results({"one": "pass", "two": "fail"})),
}
each_reader = pytest.mark.parametrize("name", READERS)


def selected(content: Content, name: str = PROFILE) -> list[str]:
    return list(content.selection(content.profile(name)))


# -- content -----------------------------------------------------------------------------------------------------------


def test_what_a_data_stream_says() -> None:
    content = read_content(CONTENT)
    assert content.benchmark == f"xccdf_{NAMESPACE}_benchmark_{BENCHMARK}"
    assert content.platforms == ("cpe:/o:debian:debian_linux:12",)
    found = content.profile(PROFILE)
    assert (found.name, found.title) == (PROFILE, "A profile")
    assert content.profile(found.id) is found
    one = content.selection(found)["one"]
    assert (one.severity, one.title) == ("high", "The first")
    assert selected(content) == ["one", "two"]


@pytest.mark.parametrize(
    ("choices", "expected"),
    [
        ({}, ["two"]),
        ({"rule_two": False}, []),
        ({"rule_one": True, "group_inner": False}, []),
        ({"rule_one": True, "group_outer": False}, []),
        ({"group_outer": True}, ["two"]),
        ({"rule_of_nobody": True}, ["two"]),
    ],
)
def test_a_rule_is_selected_with_all_groups_around_it(choices: dict[str, bool], expected: list[str]) -> None:
    assert selected(read_content(data_stream(RULES, profile(PROFILE, choices)))) == expected


def test_a_group_that_is_not_selected_can_be() -> None:
    rules = group("closed", rule("one", "true"), selected="0")
    assert selected(read_content(data_stream(rules, profile(PROFILE, {})))) == []
    assert selected(read_content(data_stream(rules, profile(PROFILE, {"group_closed": True})))) == ["one"]


def test_the_last_word_counts() -> None:
    """A profile speaks after the one that it extends."""
    both = profile("base", {"rule_one": True, "rule_two": False}) + profile(PROFILE, {"rule_one": False}, "base")
    assert selected(read_content(data_stream(RULES, both))) == []
    assert selected(read_content(data_stream(RULES, both)), "base") == ["one"]


def test_a_cluster_is_selected_as_one() -> None:
    rules = "".join(rule(name, cluster="c") for name in ("one", "two")) + rule("three")
    content = read_content(data_stream(rules, profile(PROFILE, {"c": True}, bare=True)))
    assert selected(content) == ["one", "two"]


def test_a_profile_can_say_how_severe_a_rule_is() -> None:
    content = read_content(data_stream(RULES, profile(PROFILE, {}, severities={"rule_two": "high"})))
    assert content.selection(content.profile(PROFILE))["two"].severity == "high"
    assert content.rules[f"xccdf_{NAMESPACE}_rule_two"].severity == "medium"


def test_content_for_another_release_is_refused() -> None:
    content = read_content(CONTENT)
    content.require_platform("debian", "12")
    with pytest.raises(ContentInvalid, match="debian_linux:12, and the image is debian 13"):
        content.require_platform("debian", "13")


def test_an_unknown_profile_names_the_nearest() -> None:
    with pytest.raises(ProfileUnknown, match=f"did you mean {PROFILE}\\?"):
        read_content(CONTENT).profile(PROFILE[:-1])
    with pytest.raises(ProfileUnknown) as caught:
        read_content(CONTENT).profile("zzzzzzzz")
    assert "mean" not in caught.value.message


def test_an_unknown_rule_names_the_nearest() -> None:
    rules = group("g", rule("sshd_disable_root_login") + rule("umask"))
    content = read_content(data_stream(rules, profile(PROFILE, {"rule_sshd_disable_root_login": True})))
    found = content.profile(PROFILE)
    content.require_rules(found, ["sshd_disable_root_login"])
    with pytest.raises(RuleUnknown, match="did you mean sshd_disable_root_login"):
        content.require_rules(found, ["sshd_disable_root_logins"])
    with pytest.raises(RuleUnknown, match="selects no rule umask"):
        content.require_rules(found, ["umask"])


@pytest.mark.parametrize(
    ("damaged", "why"),
    [
        (CONTENT.replace(b"scap/source/1.2", b"scap/source/9"), "begins with"),
        (CONTENT.replace(b"xccdf/1.2", b"xccdf/1.1"), "0 benchmarks"),
        (data_stream("", "", count=2), "2 benchmarks"),
        (data_stream(RULES + rule("one"), PROFILES), "two rules of the id"),
        (data_stream(RULES + rule("one", namespace="org.example"), PROFILES), "one short name"),
        (CONTENT.replace(b"_rule_one", b"_one"), "no id of a rule"),
        (CONTENT.replace(b"_rule_one", b"_group_one"), "no id of a rule"),
        (CONTENT.replace(b"_rule_one", b"_rule_\x1b[2J"), "no XML"),
        (CONTENT.replace(b'"high"', b'"critical"'), "no severity"),
        (b"", "no XML"),
        (CONTENT[:-30], "no XML"),
    ],
)
def test_content_that_is_none(damaged: bytes, why: str) -> None:
    with pytest.raises(ContentInvalid, match=why):
        read_content(damaged)


@pytest.mark.parametrize(
    "profiles",
    [
        profile(PROFILE, {}, "gone"),
        profile(PROFILE, {}, "b") + profile("b", {}, PROFILE),
        profile(PROFILE, {}, PROFILE),
        "".join(profile(f"p{n}", {}, f"p{n + 1}") for n in range(40)) + profile("p40", {}) + profile(PROFILE, {}, "p0"),
    ],
    ids=["nobody", "circle", "itself", "too many"],
)
def test_a_profile_that_extends_what_it_cannot(profiles: str) -> None:
    content = read_content(data_stream(RULES, profiles))
    with pytest.raises(ContentInvalid, match="extends"):
        content.selection(content.profile(PROFILE))


# -- tailoring ---------------------------------------------------------------------------------------------------------


def test_a_tailored_profile() -> None:
    ours = profile("ours", {"rule_two": False}, PROFILE, title="Ours", severities={"rule_one": "low"})
    content = tailor(read_content(CONTENT), tailoring(ours))
    found = content.profile("ours")
    assert found.title == "Ours"
    assert [(name, each.severity) for name, each in content.selection(found).items()] == [("one", "low")]
    assert selected(content, PROFILE) == ["one", "two"]


def test_what_a_profile_is_tailored_from() -> None:
    """Of two profiles of the content, one extending the other, it is the nearer."""
    content = read_content(data_stream(RULES, PROFILES + profile("more", {}, PROFILE)))
    tailored = tailor(content, tailoring(profile("ours", {}, "more")))
    assert tailored.base(tailored.profile("ours")).name == "more"
    assert tailored.base(tailored.profile("more")).name == "more"
    assert tailored.base(tailored.profile(PROFILE)).name == PROFILE


def test_a_tailored_profile_may_have_the_id_of_the_one_that_it_extends() -> None:
    content = tailor(read_content(CONTENT), tailoring(profile(PROFILE, {"rule_two": False}, PROFILE)))
    assert selected(content, PROFILE) == ["one"]


@pytest.mark.parametrize(
    ("document", "why"),
    [
        (tailoring(""), "no profile"),
        (CONTENT, "begins with"),
        (tailoring(profile("ours", {}, "gone")), "extends"),
        (tailoring(profile("a", {}, "b") + profile("b", {}, "a")), "extends"),
        (tailoring(profile("ours", {"rule_ones": True})), "did you mean one"),
        (tailoring(profile("ours", {"group_inne": True})), "does not exist"),
        (tailoring(profile("ours", {}).replace("_profile_", "_p_")), "no id of a profile"),
    ],
)
def test_tailoring_that_is_none(document: bytes, why: str) -> None:
    with pytest.raises(TailoringInvalid, match=why):
        tailor(read_content(CONTENT), document)


# -- results -----------------------------------------------------------------------------------------------------------


def measured(outcomes: Mapping[str, str], **more: Any) -> Scan:  # noqa: ANN401 - what results() takes
    content = read_content(CONTENT)
    return scan_of(content, content.profile(PROFILE), read_results(results(outcomes, **more)), STANDARD)


def test_results_become_a_measurement() -> None:
    scan = measured({"two": "notapplicable", "one": "fail", "three": "notselected"})
    assert scan == Scan(
        STANDARD,
        (RuleResult("one", "fail", "high", "The first"), RuleResult("two", "notapplicable", "medium", "Rule two")),
    )


def test_titles_and_severities_of_results_are_not_believed() -> None:
    inside = rule("one", severity="low", title="Nothing to see")
    scan = measured({"one": "fail", "two": "pass"}, inside=inside, severity="info")
    assert [(each.severity, each.title) for each in scan.rules] == [("high", "The first"), ("medium", "Rule two")]


@pytest.mark.parametrize(
    ("said", "expected"),
    [(("pass", "fail"), "fail"), (("fail", "pass"), "fail"), (("pass", "pass"), "pass"), (("error", "pass"), "error")],
)
def test_of_several_results_of_a_rule_the_worst_counts(said: tuple[str, str], expected: str) -> None:
    raw = results({"one": said[0], "two": "pass"}, more={"one": said[1]})
    assert read_results(raw).outcomes[f"xccdf_{NAMESPACE}_rule_one"] == expected


@pytest.mark.parametrize("condition", ["requires", "conflicts"])
@pytest.mark.parametrize("whose", ["rule", "group"])
def test_only_a_rule_that_depends_on_others_may_be_left_out(whose: str, condition: str) -> None:
    depends = f'<x:{condition} idref="xccdf_{NAMESPACE}_rule_two"/>'
    one = rule("one", "true", more=depends) if whose == "rule" else group("g", depends + rule("one", "true"))
    content = read_content(data_stream(one + rule("two", "true"), profile(PROFILE, {})))
    read = partial(scan_of, content, content.profile(PROFILE), standard=STANDARD)
    assert [each.rule for each in read(results=read_results(results({"two": "pass"}))).rules] == ["two"]
    assert len(read(results=read_results(results({"one": "pass", "two": "pass"}))).rules) == 2
    with pytest.raises(ScanFailed, match="too few"):
        read(results=read_results(results({"one": "pass"})))


@pytest.mark.parametrize(
    ("raw", "why"),
    [
        (results({"one": "pass"}), "too few"),
        (results({"one": "pass", "two": "notselected"}), "too few"),
        (results({"one": "pass", "two": "pass", "three": "pass"}), "too many"),
        (results({"one": "pass", "two": "great"}), "'great' of .* no outcome"),
        (results({"one": "pass", "two": ""}), "no outcome"),
        (results({"one": "pass", "two": "pass"}, profile_name="other"), "not those of the profile"),
        (results({"one": "pass", "two": "pass"}).replace(b"TestResult", b"TestResults"), "0 evaluations"),
        (results({"one": "pass", "two": "pass"}, count=2), "2 evaluations"),
        (results({"one": "pass", "two": "pass"}).replace(b"xccdf/1.2", b"xccdf/1.1"), "begins with"),
        (results({"one": "pass", "two": "pass"}).replace(b"<profile ", b"<profil "), "not those of the profile"),
        (b"\0" * 100, "no XML"),
        (b"<", "no XML"),
    ],
)
def test_results_that_cannot_be_believed(raw: bytes, why: str) -> None:
    content = read_content(CONTENT)
    with pytest.raises(ScanFailed, match=why):
        scan_of(content, content.profile(PROFILE), read_results(raw), STANDARD)


# -- hostile XML -------------------------------------------------------------------------------------------------------

LAUGHS = b"<!DOCTYPE r [<!ENTITY a 'ha'>" + b"".join(
    b"<!ENTITY %c '%s'>" % (98 + n, b"&%c;" % (97 + n) * 10) for n in range(9)
)


def with_prolog(document: bytes, prolog: bytes) -> bytes:
    return document.replace(b"?>", b"?>" + prolog, 1)


@each_reader
@pytest.mark.parametrize(
    "prolog",
    [
        LAUGHS + b"]>",
        b"<!DOCTYPE r SYSTEM 'file:///etc/passwd'>",
        b"<!DOCTYPE r [<!ENTITY % x SYSTEM 'http://192.0.2.1/'> %x;]>",
        b"<!DOCTYPE r>",
    ],
    ids=["laughs", "file", "network", "empty"],
)
def test_a_document_type_is_refused(name: str, prolog: bytes) -> None:
    read, error, honest = READERS[name]
    read(honest)
    with pytest.raises(error, match="document type"):
        read(with_prolog(honest, prolog))


@each_reader
@pytest.mark.parametrize(
    "filling",
    [b"<a>" * 200_000 + b"</a>" * 200_000, b"<a/>" * 1000],
    ids=["deep", "many"],
)
def test_depth_and_number_are_bounded(name: str, filling: bytes, monkeypatch: pytest.MonkeyPatch) -> None:
    read, error, honest = READERS[name]
    monkeypatch.setattr(oscap, "MAX_ELEMENTS", 1000)
    read(honest)
    end = honest.rindex(b"</")
    with pytest.raises(error, match=r"elements or .* levels"):
        read(honest[:end] + filling + honest[end:])


@each_reader
def test_a_tag_without_end_takes_no_time_to_speak_of(name: str) -> None:
    """CVE-2023-52425: expat would read it anew for each piece."""
    read, _, honest = READERS[name]
    end = honest.rindex(b"</")
    read(honest[:end] + b"<a x='" + b"y" * (24 << 20) + b"'/>" + honest[end:])


@each_reader
@pytest.mark.parametrize("encoding", ["utf-7", "idna", "nonsense", "utf-16"])
def test_odd_encodings(name: str, encoding: str) -> None:
    read, error, honest = READERS[name]
    with pytest.raises(error, match="no XML"):
        read(honest.replace(b"utf-8", encoding.encode(), 1))


@each_reader
@settings(max_examples=100, deadline=None)
@given(data=st.data())
def test_nothing_else_comes_of_damage(name: str, data: st.DataObject) -> None:
    read, error, honest = READERS[name]
    start = data.draw(st.integers(0, len(honest)))
    end = data.draw(st.integers(start, min(len(honest), start + 60)))
    raw = honest[:start] + data.draw(st.binary(max_size=60)) + honest[end:]
    with contextlib.suppress(error):
        read(raw)


@settings(max_examples=50, deadline=None)
@given(title=st.text(st.characters(codec="utf-8", exclude_categories=("Cs", "Cc")), max_size=400))
def test_a_title_is_one_printable_line(title: str) -> None:
    escaped = quoteattr(title)[1:-1]
    content = read_content(data_stream(rule("one", "true", title=escaped), PROFILES))
    found = content.selection(content.profile(PROFILE))["one"].title
    assert found.isprintable()
    assert 0 < len(found) <= oscap.MAX_TITLE


@settings(max_examples=50, deadline=None)
@given(said=st.dictionaries(st.sampled_from(["one", "two"]), st.sampled_from(sorted(oscap.OUTCOMES)), min_size=2))
def test_a_measurement_says_what_was_said(said: dict[str, str]) -> None:
    scan = measured(said)
    assert {each.rule: each.outcome for each in scan.rules} == said
    assert Scan.from_json(scan.to_json()) == scan
