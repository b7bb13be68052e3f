import re
from pathlib import Path

import pytest

from signing import verify
from signing.account import Account, read_rules
from signing.errors import NameMismatch
from signing.verify import BEGINNING, FILE_RULES, FOLDER_RULES, MANIFEST_RULES, RULES

THREE = {1: "One holds", 2: "Two holds", 3: "Three holds"}


def states(account: Account) -> list[tuple[int, str, str, str | None]]:
    return [(each.number, each.state, each.found, each.code) for each in account.outcomes]


def test_rules_are_the_first_sentences_of_numbered_paragraphs() -> None:
    prose = """About.

    1. One holds, and
       this. More about it. 2. is not one.
    2. Two (`a.b`).
    10. Ten
    """
    assert read_rules("\n".join(line.strip() for line in prose.splitlines())) == {
        1: "One holds, and this",
        2: "Two (`a.b`)",
        10: "Ten",
    }
    assert read_rules(None) == {}


def test_how_rules_come_out() -> None:
    account = Account(THREE, THREE)
    assert [state for _, state, _, _ in states(account)] == ["not reached"] * 3
    account.passed(1, "yes")
    account.skipped(2, "no")
    assert account.to_json()[2] == {
        "number": 3,
        "rule": "Three holds",
        "state": "not reached",
        "found": "",
        "code": None,
    }
    account.ended(NameMismatch("it is another"))
    assert states(account) == [
        (1, "passed", "yes", None),
        (2, "does not apply", "no", None),
        (3, "refused", "it is another", "name-mismatch"),
    ]
    assert account.lines() == [
        "  1. One holds",
        "     passed: yes",
        "  2. Two holds",
        "     does not apply: no",
        "  3. Three holds",
        "     refused [name-mismatch]: it is another",
    ]


def test_an_error_that_was_reported_is_not_that_of_the_next_rule() -> None:
    account = Account(THREE, THREE)
    error = NameMismatch("it is another")
    account.refused(1, error)
    account.passed(2)
    account.ended(error)
    assert [state for _, state, _, _ in states(account)] == ["refused", "passed", "not reached"]


def test_an_error_after_the_last_rule_is_that_of_none() -> None:
    account = Account(THREE, [1])
    account.passed(1)
    account.ended(NameMismatch("it is another"))
    assert [state for _, state, _, _ in states(account)] == ["passed"]


@pytest.mark.parametrize("number", [2, 3, 4])
def test_out_of_turn(number: int) -> None:
    with pytest.raises(ValueError, match=f"rule {number} is reported out of turn"):
        Account(THREE, THREE).passed(number)


def test_prose_and_code_have_the_same_rules() -> None:
    """The plans are the prose from first to last; what the code reports are these numbers. That it reports them in this
    order is seen at each verification: see tests/unit/signing/test_verify.py."""
    assert [*BEGINNING, *MANIFEST_RULES, *FILE_RULES, *FOLDER_RULES] == list(RULES) == list(range(1, len(RULES) + 1))
    assert all(0 < len(text) <= 112 for text in RULES.values())
    source = Path(verify.__file__).read_text()
    reported = {int(number) for number in re.findall(r"account\.(?:passed|skipped|refused)\((\d+)", source)}
    assert reported == set(RULES) - {1}, "the trust file is read before"
