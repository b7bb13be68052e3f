"""The rules of verification beyond those of signing: one list, in one order, which every target's account follows."""

import re
from pathlib import Path
from types import ModuleType

import pytest

from imagefactory.steps import glance_manifest, glance_verify, listed
from imagefactory.steps.glance_verify import GLANCE_RULES, glance_account
from imagefactory.steps.listed import CATALOGUE_RULES, listed_account
from imagefactory.steps.verify import account_of
from signing.verify import RULES


def test_one_list() -> None:
    numbers = [*RULES, *CATALOGUE_RULES, *GLANCE_RULES]
    assert numbers == list(range(1, len(numbers) + 1))


@pytest.mark.parametrize(
    ("module", "rules"),
    [
        (listed, set(CATALOGUE_RULES)),
        (glance_verify, set(GLANCE_RULES) | {2}),
        (glance_manifest, {min(CATALOGUE_RULES), max(CATALOGUE_RULES)}),
    ],
    ids=["catalogue", "glance", "glance's manifest"],
)
def test_prose_and_code_have_the_same_rules(module: ModuleType, rules: set[int]) -> None:
    source = Path(module.__file__ or "").read_text()
    reported = re.findall(r"(?:account\.(?:passed|skipped|refused)\(|_note\(account, )(\d+)", source)
    assert {int(number) for number in reported} == rules


def test_the_plan_of_each_target(tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    manifest = list(range(1, 12))
    plans = {
        str(tmp_path / "file"): [*manifest, 12, 13],
        str(tmp_path / "absent"): [*manifest, 12, 13],
        "x" * 5000: [*manifest, 12, 13],
        str(tmp_path): [*manifest, *range(14, 19)],
    }
    for target, numbers in plans.items():
        assert [each.number for each in account_of(target).outcomes] == numbers
    outcomes = listed_account().outcomes
    # A catalogue says whom to believe, and lists a release, before anything of it is looked at.
    assert [each.number for each in outcomes] == [19, 1, 20, 21, *range(2, 12), *range(14, 19), 22]
    assert all(each.rule for each in outcomes)
    outcomes = glance_account().outcomes
    assert [each.number for each in outcomes] == [2, 19, 1, 20, 21, *range(3, 12), 22, *range(23, 29)]
    assert all(each.rule for each in outcomes)
