"""What the hardened recipe promises: its score, that all that fails has a reason, and that it boots and lets one in."""

import re
from typing import Any

import pytest

from tests.integration.homes import Built
from tests.integration.test_boot import FIRST, SECURE, SETTLED, checks_of

# Left to soe-debian-12-separate.
OF_LAYOUT = re.compile(r"partition_.*|mount_option_.*")
LIVE = re.compile(r"(sysctl|service|mount_option|partition_for)_.*")
WANTED = 95  # percent


@pytest.fixture(scope="module")
def measured(hardened: Built) -> dict[str, Any]:
    return hardened.run("compliance", "show", hardened.release, "--all", "--json").document


@pytest.fixture(scope="module")
def booted(hardened: Built) -> dict[str, Any]:
    shown = hardened.run("releases", "show", hardened.release, "--json").document
    facts = next(piece["facts"] for piece in shown["evidence"] if piece["kind"] == "boot")
    assert isinstance(facts, dict)
    return facts


def test_the_score(measured: dict[str, Any]) -> None:
    by = {each["rule"]: each["outcome"] for each in measured["rules"] if not OF_LAYOUT.fullmatch(each["rule"])}
    applicable = [rule for rule, outcome in by.items() if outcome in {"pass", "fixed", "fail", "error", "unknown"}]
    passed = [rule for rule in applicable if by[rule] in {"pass", "fixed"}]
    assert len(applicable) > 200
    assert 100 * len(passed) >= WANTED * len(applicable), sorted(set(applicable) - set(passed))


def test_all_that_fails_has_a_reason_and_nothing_else_has(measured: dict[str, Any]) -> None:
    failing = {each["rule"] for each in measured["rules"] if each["outcome"] in {"fail", "error", "unknown"}}
    assert failing == {each["rule"] for each in measured["rules"] if each["exception"]}
    assert measured["needless"] == []


def test_the_running_guest_answered_for_its_kernel_and_its_mounts(measured: dict[str, Any]) -> None:
    live = [each for each in measured["rules"] if LIVE.fullmatch(each["rule"])]
    assert len(live) > 50
    assert {each["judge"] for each in live} == {"guest"}
    assert "unknown" not in {each["outcome"] for each in live}
    assert {each["rule"]: each["outcome"] for each in live}["sysctl_kernel_randomize_va_space"] == "pass"


def test_it_boots_under_each_firmware_and_lets_the_right_one_in(booted: dict[str, Any]) -> None:
    assert checks_of(booted) == {
        "bios": FIRST,
        "bios-again": SETTLED | {"measured"},
        "uefi": FIRST | SECURE,
        "uefi-again": SETTLED | SECURE,
        "uefi-altered": {"altered-refused"},
    }
