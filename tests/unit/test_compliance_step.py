"""The scanner is asked again when it does not end."""

import pytest

from imagefactory.errors import ProgramFailed, ProgramTimeout
from imagefactory.steps.compliance import until_it_ends
from imagefactory.tools.guest_scan import ATTEMPTS


class Scanner:
    """Does what it is told, one word for each time."""

    def __init__(self, *outcomes: Exception | None) -> None:
        self.outcomes = list(outcomes)

    def __call__(self) -> None:
        outcome = self.outcomes.pop(0)
        if outcome is not None:
            raise outcome


HANGS = ProgramTimeout("bwrap did not end before its deadline")


@pytest.mark.parametrize("hangs", range(ATTEMPTS))
def test_one_that_hangs_now_and_then(hangs: int) -> None:
    scanner = Scanner(*[HANGS] * hangs, None, None)
    told: list[str] = []
    until_it_ends(scanner, told.append)
    assert scanner.outcomes == [None]
    assert told == ["the scanner did not end within 300 s and is asked again"] * hangs


def test_one_that_always_hangs() -> None:
    scanner = Scanner(*[HANGS] * ATTEMPTS, None)
    with pytest.raises(ProgramTimeout):
        until_it_ends(scanner, print)
    assert scanner.outcomes == [None]


def test_one_that_fails_is_not_asked_again() -> None:
    scanner = Scanner(ProgramFailed("bwrap ended with status 1"), None)
    with pytest.raises(ProgramFailed):
        until_it_ends(scanner, print)
    assert scanner.outcomes == [None]
