"""What would be done, and why: a table of situations, and what holds for every situation there is."""

from collections.abc import Mapping
from dataclasses import replace
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from imagefactory.model.packages import Change
from imagefactory.model.plan import (
    BOOT,
    COMPLIANCE,
    CONVERT,
    DISK,
    FOUND_OUT,
    PUBLISH,
    ROOTFS,
    SBOM,
    SIGN,
    VULNERABILITIES,
    Action,
    Situation,
    coming,
    plan,
    why_rootfs,
)

KEPT = "inputs unchanged"
DONE = Situation(
    rootfs=None,
    rootfs_kept=KEPT,
    sbom=True,
    compliance=None,
    vulnerabilities=None,
    disk=True,
    formats={"raw": True, "qcow2": True},
    boot=True,
    released="soe@20251121.1",
    targets={"/srv": True},
)
NOTHING = Situation(
    rootfs="it was never built",
    rootfs_kept=KEPT,
    sbom=False,
    compliance=None,
    vulnerabilities=None,
    disk=False,
    formats={"raw": False, "qcow2": False},
    boot=False,
    released=None,
    targets={"/srv": False},
)
TITLES = ["rootfs", "sbom", "disk", "convert raw", "convert qcow2", "boot-test", "sign", "publish /srv"]


def runs(situation: Situation) -> list[str]:
    return [action.title for action in plan(situation) if action.run]


def reasons(situation: Situation) -> list[str]:
    return [action.reason for action in plan(situation)]


@pytest.mark.parametrize(
    ("situation", "expected"),
    [
        (DONE, []),
        (NOTHING, TITLES),
        (replace(DONE, rootfs="newer packages: openssl 1 -> 2"), TITLES),
        # The images do not depend on the bill of materials.
        (replace(DONE, sbom=False), ["sbom"]),
        (replace(DONE, disk=False), TITLES[2:]),
        (replace(DONE, formats={"raw": True, "qcow2": False}), TITLES[4:]),
        (replace(DONE, boot=False), TITLES[5:]),
        (replace(DONE, released=None), TITLES[6:]),
        (replace(DONE, targets={"/srv": False}), TITLES[7:]),
        (replace(DONE, targets={"/srv": True, "/mnt": False}), ["publish /mnt"]),
        (replace(DONE, targets={}), []),
        (replace(NOTHING, targets={}), TITLES[:-1]),
        (replace(DONE, fresh=True), TITLES),
        (replace(DONE, fresh=True, done=frozenset({"rootfs"})), TITLES[1:]),
        (replace(DONE, fresh=True, done=frozenset(TITLES[:5])), TITLES[5:]),
        # --fresh never signs or publishes again what is signed and published.
        (replace(DONE, fresh=True, done=frozenset(TITLES[:6])), []),
    ],
)
def test_what_runs(situation: Situation, expected: list[str]) -> None:
    assert [action.title for action in plan(situation)][: len(TITLES)] == [
        title for title in TITLES if title != "publish /srv" or "/srv" in situation.targets
    ]
    assert runs(situation) == expected


def test_a_standard_is_measured_where_it_is_wanted() -> None:
    wanted = replace(DONE, compliance=False)
    assert runs(wanted) == ["compliance"]
    assert [action.title for action in plan(wanted)][:4] == ["rootfs", "sbom", "compliance", "disk"]
    assert runs(replace(DONE, compliance=True)) == []
    assert runs(replace(DONE, compliance=False, disk=False)) == ["compliance", *TITLES[2:]]


def test_vulnerabilities_are_looked_up_where_a_feed_is_named() -> None:
    wanted = replace(DONE, vulnerabilities=False)
    assert runs(wanted) == ["vulnerabilities"]
    both = plan(replace(wanted, compliance=True))
    assert [action.title for action in both][:5] == ["rootfs", "sbom", "compliance", "vulnerabilities", "disk"]
    assert runs(replace(DONE, vulnerabilities=True)) == []
    assert runs(replace(wanted, disk=False)) == ["vulnerabilities", *TITLES[2:]]


def test_every_action_has_its_reason() -> None:
    assert reasons(DONE) == [
        KEPT,
        "the root file system is the same",
        "the root file system is the same",
        "the disk is the same",
        "the disk is the same",
        "these very images have been booted",
        "this content is soe@20251121.1",
        "published and verified there",
    ]
    assert reasons(NOTHING) == [
        "it was never built",
        "nobody listed what is in this root file system",
        "there is no disk of this root file system",
        "there is no raw of this disk",
        "there is no qcow2 of this disk",
        "these images have not been booted",
        "this content is not signed",
        "it is not published there",
    ]


def test_what_follows_is_a_forecast() -> None:
    forecast = reasons(replace(DONE, disk=False))[3:]
    assert set(forecast) == {"after disk, unless that gives what it gave before"}


def test_fresh_says_so() -> None:
    actions = plan(replace(DONE, fresh=True))
    assert actions[0].reason == "--fresh builds everything again"
    assert actions[-1].reason == "after rootfs, unless that gives what it gave before"
    assert plan(replace(NOTHING, fresh=True))[0].reason == "it was never built"


def test_an_action_as_json() -> None:
    assert Action(CONVERT, run=True, reason="why", subject="raw").to_json() == {
        "step": "convert",
        "subject": "raw",
        "run": True,
        "reason": "why",
    }


# -- whatever the situation --------------------------------------------------------------------------------------------

situations = st.builds(
    Situation,
    rootfs=st.sampled_from([None, "it was never built"]),
    rootfs_kept=st.just(KEPT),
    sbom=st.booleans(),
    compliance=st.sampled_from([None, False, True]),
    vulnerabilities=st.sampled_from([None, False, True]),
    disk=st.booleans(),
    formats=st.dictionaries(st.sampled_from(["raw", "qcow2", "iso"]), st.booleans(), min_size=1),
    boot=st.booleans(),
    released=st.sampled_from([None, "soe@20251121.1"]),
    targets=st.dictionaries(st.sampled_from(["/srv", "/mnt", "/a b"]), st.booleans()),
    fresh=st.booleans(),
    done=st.just(frozenset[str]()),
)


def perform(situation: Situation, action: Action) -> Situation:
    """The situation after an action that gave something new: what was made of the old is there no more."""
    done = situation.done | {action.title}
    none: Mapping[str, bool] = dict.fromkeys(situation.formats, False)
    match action.step:
        case "rootfs":
            measured, known = (
                None if wanted is None else False for wanted in (situation.compliance, situation.vulnerabilities)
            )
            made = replace(situation, rootfs=None, sbom=False, compliance=measured, disk=False, done=done)
            return replace(made, vulnerabilities=known, formats=none, boot=False, released=None)
        case "disk":
            return replace(situation, disk=True, formats=none, boot=False, released=None, done=done)
        case "convert":
            formats = {**situation.formats, str(action.subject): True}
            return replace(situation, formats=formats, boot=False, released=None, done=done)
        case "sbom" | "compliance" | "vulnerabilities" | "boot-test" as found_out:
            now: dict[str, Any] = {found_out.removesuffix("-test"): True}
            return replace(situation, **now, done=done)
        case "sign":
            unpublished = dict.fromkeys(situation.targets, False)
            return replace(situation, released="soe@20251121.2", targets=unpublished, done=done)
        case _:
            return replace(situation, targets={**situation.targets, str(action.subject): True}, done=done)


def story(situation: Situation) -> list[str]:
    """Look, plan, do the first thing, look again, until nothing is left to do."""
    titles: list[str] = []
    while True:
        coming = next((action for action in plan(situation) if action.run), None)
        if coming is None:
            return titles
        assert can_run(situation, coming), coming
        titles.append(coming.title)
        assert len(titles) < 50, "it never ends"
        situation = perform(situation, coming)


def can_run(situation: Situation, action: Action) -> bool:
    """Whether everything is there that the step works on."""
    needs = {
        ROOTFS: True,
        SBOM: situation.rootfs is None,
        COMPLIANCE: situation.rootfs is None and situation.compliance is not None,
        VULNERABILITIES: situation.rootfs is None and situation.vulnerabilities is not None,
        DISK: situation.rootfs is None,
        CONVERT: situation.rootfs is None and situation.disk,
        BOOT: situation.disk and all(situation.formats.values()),
        SIGN: situation.sbom
        and situation.compliance is not False
        and situation.vulnerabilities is not False
        and all(situation.formats.values())
        and situation.boot,
        PUBLISH: situation.released is not None,
    }
    return needs[action.step]


@given(situations)
def test_a_story_ends_and_the_first_action_never_lacks_what_it_needs(situation: Situation) -> None:
    titles = story(situation)
    assert len(set(titles)) == len(titles), "no step runs twice"


@given(situations)
def test_fresh_runs_every_building_step_exactly_once(situation: Situation) -> None:
    titles = story(replace(situation, fresh=True))
    building = [action.title for action in plan(situation) if action.step not in {SIGN, PUBLISH}]
    assert [title for title in titles if title.split()[0] not in {SIGN, PUBLISH}] == building


@given(situations)
def test_it_is_pure(situation: Situation) -> None:
    before = repr(situation)
    assert plan(situation) == plan(situation)
    assert repr(situation) == before


@given(situations)
def test_after_the_first_that_runs_everything_is_expected_to_run(situation: Situation) -> None:
    # Nothing before the signature waits for what is found out about the content.
    flags = [action.run for action in plan(situation) if action.step not in FOUND_OUT | {PUBLISH}]
    assert flags == sorted(flags)


# -- why a root file system is built -----------------------------------------------------------------------------------

NEWER = [Change("openssl", "3.0.17", "3.0.18"), Change("zlib1g", None, "1.3")]


@pytest.mark.parametrize(
    ("inputs", "known", "newest", "changes", "expected"),
    [
        ({"a": 1}, {}, {"a": 1}, [], None),
        ({"a": 1}, {}, {"a": 1}, NEWER, "newer packages: openssl 3.0.17 -> 3.0.18, zlib1g 1.3 is new"),
        ({"a": 1}, None, None, [], "it was never built"),
        ({"a": 2, "b": 1}, None, {"a": 1, "b": 1}, [], "changed since the last build: a"),
        ({"a": 1, "element new": "x"}, None, {"a": 1}, [], "changed since the last build: element new"),
        ({"a": 1}, None, {"a": 1, "element old": "x"}, [], "changed since the last build: element old"),
        ({"a": 1}, None, {"a": 1}, [], "its artifact is not kept any more"),
    ],
)
def test_why_a_root_file_system_is_built(
    inputs: dict[str, object],
    known: dict[str, object] | None,
    newest: dict[str, object] | None,
    changes: list[Change],
    expected: str | None,
) -> None:
    assert why_rootfs(inputs, known, newest, changes) == expected


@pytest.mark.parametrize(
    ("runs", "expected"),
    [
        ({}, []),
        ({"disk": True, "publish a": True, "publish b": True}, ["disk"]),
        ({"sign": True, "publish a": True, "publish b": True}, ["sign"]),
        ({"publish a": True, "publish b": True}, ["publish a", "publish b"]),
        ({"publish b": True}, ["publish b"]),
    ],
)
def test_publications_wait_for_nothing_but_the_rest(runs: Mapping[str, bool], expected: list[str]) -> None:
    steps = [(DISK, None), (SIGN, None), (PUBLISH, "a"), (PUBLISH, "b"), (PUBLISH, "c")]
    actions = [Action(step, False, "", subject) for step, subject in steps]
    found = coming([replace(action, run=runs.get(action.title, False)) for action in actions])
    assert [action.title for action in found] == expected


def test_a_publication_is_no_reason_for_another() -> None:
    """What is published and verified in one place stays so, whatever is to be done in the others."""
    situation = replace(DONE, targets={"a": False, "b": True, "c": False})
    assert runs(situation) == ["publish a", "publish c"]
