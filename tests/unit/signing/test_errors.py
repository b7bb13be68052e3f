import re

import pytest

from signing import errors
from signing.errors import SigningError


def family(root: type[SigningError]) -> list[type[SigningError]]:
    return [root, *(each for child in root.__subclasses__() for each in family(child))]


ALL = family(SigningError)


def test_codes_are_unique() -> None:
    assert len({each.code for each in ALL}) == len(ALL)


@pytest.mark.parametrize("error", ALL, ids=lambda each: each.code)
def test_every_error_can_be_shown(error: type[SigningError]) -> None:
    assert re.fullmatch(r"[a-z0-9]+(-[a-z0-9]+)*", error.code)
    assert error.__doc__ is not None
    assert error.__doc__.endswith(".")
    assert "\n" not in error.__doc__
    assert error.advice.endswith(".")
    assert error.exit_code == 1
    assert error.__name__ in (errors.__doc__ or "")


def test_message_and_advice() -> None:
    plain = errors.NameMismatch("it is another")
    assert (str(plain), plain.message, plain.advice) == ("it is another", "it is another", errors.NameMismatch.advice)
    assert errors.NameMismatch("it is another", advice="Look.").advice == "Look."
    assert errors.NameMismatch.advice != "Look."
