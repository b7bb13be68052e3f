"""Both families of errors: stable codes, words for people, and the way from one process to another."""

import re
from collections.abc import Iterator
from pathlib import Path

import pytest

from imagefactory import errors
from imagefactory.errors import (
    FactoryError,
    HostError,
    Interrupted,
    Place,
    RecipeError,
    RecipeInvalid,
    Refused,
    RemoteError,
    SignerRefused,
    UsageError,
)
from imagefactory.hands.protocol import _document
from imagefactory.tools.hand import rebuild
from signing.errors import SigningError

OURS = list(errors.catalogue())


def family(root: type[SigningError]) -> Iterator[type[SigningError]]:
    yield root
    for child in root.__subclasses__():
        yield from family(child)


THEIRS = list(family(SigningError))
EXIT_CODES: list[tuple[type[FactoryError], int]] = [
    (Refused, 1),
    (UsageError, 2),
    (HostError, 3),
    (RemoteError, 4),
    (Interrupted, 130),
]


def test_codes_are_unique_over_both_families() -> None:
    codes = [*(kind.code for kind in OURS), *(kind.code for kind in THEIRS)]
    assert len(set(codes)) == len(codes)


@pytest.mark.parametrize("kind", OURS, ids=lambda kind: kind.code)
def test_every_error_has_what_people_need(kind: type[FactoryError]) -> None:
    assert re.fullmatch(r"[a-z]+(-[a-z]+)*", kind.code)
    assert kind.__doc__, "the reference is made from it"
    assert kind.__doc__.splitlines()[0].endswith(".")
    assert kind.default_advice or kind in SAID_ON_THE_SPOT
    assert [code for root, code in EXIT_CODES if issubclass(kind, root)] == [kind.exit_code]


# What to do depends on the case, so whoever raises them says it.
SAID_ON_THE_SPOT = {errors.ExtraMissing, errors.HomeUnusable, errors.RecipeUnknownKey, errors.CatalogueUnusable}


def test_every_class_that_is_raised_is_in_the_catalogue() -> None:
    abstract: set[type[FactoryError]] = {FactoryError, Refused, HostError, RemoteError, RecipeError, SignerRefused}
    abstract |= {errors.StepFailed, errors.BootFailed, errors.ImageRefused, errors.PlacesFailed}
    named = (*vars(errors).values(), *vars(errors.service).values())
    defined = {kind for kind in named if isinstance(kind, type) and issubclass(kind, FactoryError)}
    assert defined - abstract == set(OURS)


def test_an_error_as_text() -> None:
    error = errors.DiskFull("no space")
    assert str(error) == "disk-full: no space"
    assert error.advice == errors.DiskFull.default_advice
    assert errors.DiskFull("no space", advice="buy a disk").advice == "buy a disk"


def test_a_recipe_error_says_where() -> None:
    error = RecipeInvalid("wrong", at=Place(Path("r.yaml"), 3, 7))
    assert (error.message, error.line, error.column) == ("r.yaml:3:7: wrong", 3, 7)


@pytest.mark.parametrize("kind", OURS, ids=lambda kind: kind.code)
def test_an_error_of_ours_crosses_processes(kind: type[FactoryError]) -> None:
    sent = kind("what happened", advice="do this", lines=("a", "b"))
    log = None if issubclass(kind, RecipeError) else Path("/var/log/x")
    found = rebuild(_document(sent, log, sent.lines))
    assert type(found) is kind
    assert (found.message, found.advice, found.log, found.lines) == ("what happened", "do this", log, ("a", "b"))
    assert found.exit_code == kind.exit_code


@pytest.mark.parametrize("kind", THEIRS, ids=lambda kind: kind.code)
def test_an_error_of_the_signing_room_keeps_its_code(kind: type[SigningError]) -> None:
    found = rebuild(_document(kind("what happened"), None, ()))
    assert isinstance(found, SignerRefused)
    assert (found.code, found.message, found.advice) == (kind.code, "what happened", kind.advice)
    assert found.exit_code == kind.exit_code
    assert str(found) == f"{kind.code}: what happened"


def test_one_refusal_does_not_change_the_code_of_another() -> None:
    first, second = (SignerRefused("x", code=code, advice="") for code in ("key-damaged", "keys-missing"))
    assert (first.code, second.code, SignerRefused.code) == ("key-damaged", "keys-missing", "")
