"""The rules of verification beyond those of signing: one list, in one order, which every target's account follows."""

import re
from collections.abc import Mapping
from pathlib import Path
from types import ModuleType

import pytest

from imagefactory.steps import glance_verify
from imagefactory.steps import verify as steps
from imagefactory.steps.glance_verify import GLANCE_RULES, glance_account
from imagefactory.steps.verify import CATALOGUE_RULES, account_of
from signing.verify import RULES


def test_one_list() -> None:
    numbers = [*RULES, *CATALOGUE_RULES, *GLANCE_RULES]
    assert numbers == list(range(1, len(numbers) + 1))


@pytest.mark.parametrize(
    ("module", "rules", "before"),
    [(steps, CATALOGUE_RULES, {1, 2}), (glance_verify, GLANCE_RULES, {2})],
    ids=["catalogue", "glance"],
)
def test_prose_and_code_have_the_same_rules(module: ModuleType, rules: Mapping[int, str], before: set[int]) -> None:
    source = Path(module.__file__ or "").read_text()
    reported = re.findall(r"(?:account\.(?:passed|skipped|refused)\(|_note\(account, )(\d+)", source)
    assert {int(number) for number in reported} == set(rules) | before


def test_the_plan_of_each_target(tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    manifest = list(range(1, 12))
    plans = {
        str(tmp_path / "file"): [*manifest, 12, 13],
        str(tmp_path / "absent"): [*manifest, 12, 13],
        "x" * 5000: [*manifest, 12, 13],
        str(tmp_path): [*manifest, *range(14, 19)],
        "catalogue:/srv/name": [*manifest, *range(14, 20)],
    }
    for target, numbers in plans.items():
        assert [each.number for each in account_of(target).outcomes] == numbers
    outcomes = glance_account().outcomes
    assert [each.number for each in outcomes] == [*manifest, *range(20, 26)]
    assert all(each.rule for each in outcomes)
