"""What is measured of a release is shown and compared: in tables, in JSON, and as the report that was kept."""

import json
import re
from collections.abc import Callable, Sequence
from dataclasses import replace
from datetime import UTC, date, datetime, timedelta
from hashlib import sha256
from html import unescape
from pathlib import Path
from typing import Any

import pytest

from imagefactory.errors import NotMeasured
from imagefactory.model.compliance import Measurement, Outcome, RuleException, RuleResult, Scan, Standard
from imagefactory.model.evidence import Evidence
from imagefactory.store.records import release_version
from tests.contract.shell import Shell
from tests.contract.test_factory import NAME, releases
from tests.database import records_at
from tests.fakes.host import FakeHost

On = Callable[[FakeHost], FakeHost]

STANDARD = Standard("anssi_bp28_enhanced", "ANSSI-BP-028 (enhanced)", "DEBIAN-12", "c" * 64, "0.1.76-1", "1.3.7")
ROOTFS = "sha256:" + "a" * 64
REPORT = b"<html><title>OpenSCAP Evaluation Report</title></html>\n"
LAST_DAY = datetime.now(UTC).date() + timedelta(days=365)
WHY = "One file system,\nso that a cloud can grow it."
BOOT = RuleException("partition_for_boot", WHY, "platform team", LAST_DAY)
OVER = RuleException("grub2_password", "Nobody has a console.", "platform team", date(2025, 1, 31))
NEEDLESS = RuleException("partition_for_opt", "Nothing lies in /opt.", "platform team", LAST_DAY)
RULES = (
    RuleResult("audit_rules_login_events", "pass", "medium", "Record logins"),
    RuleResult("grub2_password", "fail", "high", "A password for grub"),
    RuleResult("partition_for_boot", "fail", "medium", "/boot is a partition"),
    RuleResult("partition_for_opt", "notapplicable", "medium", "/opt is a partition"),
    RuleResult("sshd_disable_root_login", "pass", "medium", "No root by ssh"),
    RuleResult("sysctl_kernel_kptr_restrict", "error", "medium", "Kernel pointers are hidden", "guest"),
)
MEASURED = Measurement(Scan(STANDARD, RULES), 40, (BOOT, OVER), (NEEDLESS,), ROOTFS)


def keep(host: FakeHost, measured: Measurement | None, release: int = 0, **changes: Any) -> None:  # noqa: ANN401
    """Put evidence into the records of a release, the newest first, as a build that measured it would have done."""
    facts: dict[str, Any] = {**measured.facts(), **changes} if measured else {}
    pieces = [Evidence("compliance", ROOTFS, "pass", facts).to_json()] if measured else []
    chosen = releases(host)[release]
    with records_at(host.home / "imagefactory.db") as records:
        evidence = json.dumps({**chosen.evidence, "compliance": pieces})
        records.execute("update releases set evidence = ? where id = ?", (evidence, chosen.id))


def keep_report(host: FakeHost, content: bytes = REPORT) -> str:
    """Keep a report as an artifact; returns its digest as evidence names it."""
    digest = sha256(content).hexdigest()
    made = host.root / "report.html"
    made.write_bytes(content)
    with host.factory() as factory:
        factory.artifacts.adopt(made, digest)
    return f"sha256:{digest}"


def name_of(host: FakeHost, release: int = 0) -> str:
    chosen = releases(host)[release]
    return f"{chosen.name}@{release_version(chosen)}"


def rows(text: str) -> Sequence[str]:
    return [" ".join(line.split()) for line in text.splitlines()]


# -- show -------------------------------------------------------------------------------------------------------------


def test_the_score_and_what_fails(built: FakeHost, shell: Shell, on: On) -> None:
    keep(built, MEASURED)
    on(built)
    status, text = shell.text("compliance", "show", NAME)
    assert status == 0
    assert rows(text) == [
        name_of(built),
        "profile anssi_bp28_enhanced, ANSSI-BP-028 (enhanced)",
        f"content 0.1.76-1, sha256:{'c' * 64}",
        "scanner 1.3.7",
        "score 40.0 %, 40.0 % was wanted",
        "50.0 % apart from partition_* and mount_option_*",
        "rules 2 of 5 applicable ones pass: 1 error, 2 fail, 1 notapplicable, 2 pass",
        "",
        "RULE SEVERITY OUTCOME BY EXCEPTION",
        "grub2_password high fail files expired 2025-01-31, platform team: Nobody has a console.",
        "partition_for_boot medium fail files "
        f"until {LAST_DAY}, platform team: One file system, so that a cloud can grow it.",
        "sysctl_kernel_kptr_restrict medium error guest",
        f"needless exception for partition_for_opt: until {LAST_DAY}, platform team: Nothing lies in /opt.",
    ]


def test_every_rule(built: FakeHost, shell: Shell, on: On) -> None:
    keep(built, MEASURED)
    on(built)
    _, text = shell.text("compliance", "show", name_of(built), "--all")
    table = rows(text)[rows(text).index("RULE SEVERITY OUTCOME BY EXCEPTION") + 1 : -1]
    assert [line.split()[0] for line in table] == [
        "grub2_password",
        *sorted(each.rule for each in RULES if each.severity == "medium"),
    ]


def test_nothing_fails(built: FakeHost, shell: Shell, on: On) -> None:
    rules = tuple(each for each in RULES if each.outcome == "pass")
    keep(built, Measurement(Scan(STANDARD, rules), 100, (), (), ROOTFS))
    on(built)
    status, text = shell.text("compliance", "show", NAME)
    assert (status, rows(text)[-3:]) == (
        0,
        [
            "score 100.0 %, 100.0 % was wanted",
            "100.0 % apart from partition_* and mount_option_*",
            "rules 2 of 2 applicable ones pass: 2 pass",
        ],
    )


def test_for_programs(built: FakeHost, shell: Shell, on: On) -> None:
    keep(built, MEASURED)
    on(built)
    status, document = shell.json("compliance", "show", NAME)
    rules = document.pop("rules")
    assert (status, document) == (
        0,
        {
            "release": name_of(built),
            "standard": {
                "profile": "anssi_bp28_enhanced",
                "title": "ANSSI-BP-028 (enhanced)",
                "benchmark": "DEBIAN-12",
                "content": "c" * 64,
                "version": "0.1.76-1",
                "scanner": "1.3.7",
            },
            "score": "40.0",
            "score_apart_from_layout": "50.0",
            "min_score": 40,
            "passed": 2,
            "applicable": 5,
            "counts": {"pass": 2, "fail": 2, "error": 1, "notapplicable": 1},
            "needless": [
                {
                    "rule": "partition_for_opt",
                    "reason": "Nothing lies in /opt.",
                    "owner": "platform team",
                    "expires": str(LAST_DAY),
                }
            ],
            "rootfs": ROOTFS,
            "report": None,
        },
    )
    assert [each["rule"] for each in rules] == [
        "grub2_password",
        "partition_for_boot",
        "sysctl_kernel_kptr_restrict",
    ]
    assert rules[1] == {
        "rule": "partition_for_boot",
        "outcome": "fail",
        "severity": "medium",
        "title": "/boot is a partition",
        "judge": "files",
        "exception": {
            "rule": "partition_for_boot",
            "reason": WHY,
            "owner": "platform team",
            "expires": str(LAST_DAY),
        },
    }
    assert rules[2]["exception"] is None
    assert len(shell.json("compliance", "show", NAME, "--all")[1]["rules"]) == len(RULES)


def test_words_of_an_image_do_not_reach_the_terminal_as_orders(built: FakeHost, shell: Shell, on: On) -> None:
    rule = RuleResult("rule\x1b[2J", "fail", "low", "[bold]x")
    keep(built, Measurement(Scan(STANDARD, (rule,)), 0, (), (), ROOTFS))
    on(built)
    _, text = shell.text("compliance", "show", NAME)
    assert "\x1b" not in text
    assert "rule\N{REPLACEMENT CHARACTER}[2J" in text


# -- the report -------------------------------------------------------------------------------------------------------


def test_the_report_that_was_kept(built: FakeHost, shell: Shell, on: On, tmp_path: Path) -> None:
    keep(built, replace(MEASURED, report=keep_report(built)))
    on(built)
    file = tmp_path / "report.html"
    status, text = shell.text("compliance", "show", NAME, "--html", file)
    assert (status, file.read_bytes()) == (0, REPORT)
    assert text.startswith(name_of(built))
    assert shell.refused("compliance", "show", NAME, "--html", file) == (2, "output-exists")
    status, document = shell.json("compliance", "show", NAME, "--html", tmp_path / "again.html")
    assert document["report"] == f"sha256:{sha256(REPORT).hexdigest()}"
    assert (tmp_path / "again.html").read_bytes() == REPORT


def test_another_report_is_not_given_out(built: FakeHost, shell: Shell, on: On, tmp_path: Path) -> None:
    keep(built, replace(MEASURED, report=keep_report(built)))
    with built.factory() as factory:
        path = factory.artifacts.path(sha256(REPORT).hexdigest())
    path.chmod(0o644)
    path.write_bytes(REPORT + b"<script>")
    on(built)
    file = tmp_path / "report.html"
    assert shell.refused("compliance", "show", NAME, "--html", file) == (1, "evidence-missing")
    path.unlink()
    assert shell.refused("compliance", "show", NAME, "--html", file) == (1, "artifact-missing")
    keep(built, MEASURED)
    assert shell.refused("compliance", "show", NAME, "--html", file) == (1, "artifact-missing")
    assert list(tmp_path.glob("*.html")) == []


# -- diff -------------------------------------------------------------------------------------------------------------


@pytest.fixture
def twice(built: FakeHost, on: On) -> FakeHost:
    """Two releases, both measured."""
    built.offer({"openssl": "3.0.18-1"}, in_release="second")
    built.build()
    keep(built, MEASURED, 1)
    changed: dict[str, Outcome] = {
        "grub2_password": "pass",
        "audit_rules_login_events": "fail",
        "partition_for_opt": "pass",
    }
    rules = [replace(each, outcome=changed.get(each.rule, each.outcome)) for each in RULES[:-1]]
    rules.append(RuleResult("zzz", "fail", "low", "The last rule"))
    standard = replace(STANDARD, version="0.1.77-1", content="d" * 64)
    keep(built, Measurement(Scan(standard, tuple(rules)), 40, (), (), ROOTFS))
    return on(built)


def test_two_releases_are_compared(twice: FakeHost, shell: Shell) -> None:
    new, old = name_of(twice, 0), name_of(twice, 1)
    status, text = shell.text("compliance", "diff", old, NAME)
    assert (status, rows(text)) == (
        0,
        [
            f"{old} -> {new}",
            "score 40.0 % -> 50.0 %",
            f"content {'c' * 64} -> {'d' * 64}",
            "version 0.1.76-1 -> 0.1.77-1",
            "",
            "RULE SEVERITY OLD NEW",
            "audit_rules_login_events medium pass fail",
            "grub2_password high fail pass",
            "partition_for_opt medium notapplicable pass",
            "sysctl_kernel_kptr_restrict medium error not selected",
            "zzz low not selected fail",
        ],
    )


def test_two_releases_are_compared_for_programs(twice: FakeHost, shell: Shell) -> None:
    new, old = name_of(twice, 0), name_of(twice, 1)
    status, document = shell.json("compliance", "diff", old, new)
    assert status == 0
    assert (document["old"]["release"], document["old"]["score"]) == (old, "40.0")
    assert (document["new"]["release"], document["new"]["score"]) == (new, "50.0")
    assert document["new"]["standard"]["version"] == "0.1.77-1"
    assert document["changed"][1] == {"rule": "grub2_password", "severity": "high", "old": "fail", "new": "pass"}
    assert document["changed"][-1] == {"rule": "zzz", "severity": "low", "old": None, "new": "fail"}
    assert len(document["changed"]) == 5


def test_two_releases_are_compared_on_a_page(twice: FakeHost, shell: Shell, tmp_path: Path) -> None:
    """The page says what the terminal says, and a second one replaces nothing."""
    new, old = name_of(twice, 0), name_of(twice, 1)
    status, text = shell.text("compliance", "diff", old, new, "--html", tmp_path / "diff.html")
    assert status == 0
    page = (tmp_path / "diff.html").read_text("utf-8")
    assert page.startswith("<!DOCTYPE html>")
    assert re.findall(r"<(?:script|link|img|iframe)|(?:src|href)=", page) == []
    (said,) = re.findall(r"<pre[^>]*><code[^>]*>(.*?)</code></pre>", page, re.DOTALL)
    assert rows(unescape(re.sub(r"<[^>]+>", "", said)).rstrip("\n")) == rows(text)
    assert shell.refused("compliance", "diff", old, new, "--html", tmp_path / "diff.html")[1] == "output-exists"


def test_a_release_is_like_itself(twice: FakeHost, shell: Shell) -> None:
    name = name_of(twice)
    status, text = shell.text("compliance", "diff", name, NAME)
    assert (status, rows(text)) == (
        0,
        [f"{name} -> {name}", "score 50.0 % -> 50.0 %", "every rule has the same outcome"],
    )
    assert shell.json("compliance", "diff", name, name)[1]["changed"] == []


# -- what cannot be shown ---------------------------------------------------------------------------------------------


def test_a_release_that_nobody_measured(built: FakeHost, shell: Shell, on: On) -> None:
    on(built)
    assert shell.refused("compliance", "show", NAME) == (1, "not-measured")
    assert f"to do: {NotMeasured.default_advice}" in shell.stderr
    assert shell.refused("compliance", "diff", NAME, NAME) == (1, "not-measured")
    keep(built, None)  # by a factory that knew how to
    assert shell.refused("compliance", "show", NAME) == (1, "not-measured")


@pytest.mark.parametrize("changes", [{"scan": None}, {"min_score": "40"}, {"exceptions": [{}]}, {"report": "../x"}])
def test_evidence_that_means_nothing(built: FakeHost, shell: Shell, on: On, changes: dict[str, Any]) -> None:
    keep(built, MEASURED, **changes)
    on(built)
    assert shell.refused("compliance", "show", NAME) == (1, "evidence-missing")


def test_a_release_that_does_not_exist(built: FakeHost, shell: Shell, on: On) -> None:
    keep(built, MEASURED)
    on(built)
    assert shell.refused("compliance", "show", "other") == (1, "release-unknown")
    assert shell.refused("compliance", "show", f"{NAME}@20200101.1") == (1, "release-unknown")
    assert shell.refused("compliance", "show", "../x") == (2, "release-name-invalid")
    assert shell.refused("compliance", "diff", NAME, "other") == (1, "release-unknown")
