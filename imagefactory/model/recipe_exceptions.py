"""What exceptions of a recipe have in common: a reason, an owner, a last day, and one for each subject."""

from collections.abc import Callable
from typing import Annotated, Final, TypeVar

from pydantic import AfterValidator, Field

from imagefactory.model.property_forms import day_of
from imagefactory.model.quantity import refusal, shown
from imagefactory.model.recipe_fields import Line, Prose

T = TypeVar("T")

MIN_REASON: Final = 10  # characters
MOST: Final = 500  # exceptions of one kind: more than that nobody reviews


def _day(value: str) -> str:
    if day_of(value) is None:
        raise refusal("recipe-invalid", f"should be a day, such as 2027-06-30, not {shown(value)}")
    return value


def not_blank(value: str) -> str:
    """Validator: not only blanks."""
    if not value.strip():
        raise refusal("recipe-invalid", "should not be blank")
    return value


def _a_reason(value: str) -> str:
    if len(" ".join(value.split())) < MIN_REASON:
        raise refusal("recipe-invalid", f"should have at least {MIN_REASON} characters that are not blank")
    return value


Reason = Annotated[Prose, AfterValidator(_a_reason), Field(json_schema_extra={"minLength": MIN_REASON})]
Owner = Annotated[Line, AfterValidator(not_blank)]
LastDay = Annotated[str, AfterValidator(_day), Field(json_schema_extra={"format": "date"})]


def each_once(subject: Callable[[T], str], what: str = "exceptions for") -> AfterValidator:
    """For an annotation: no two exceptions, or `what` they are, have the same `subject`."""

    def check(value: tuple[T, ...]) -> tuple[T, ...]:
        seen = set[str]()
        for each in value:
            if subject(each) in seen:
                raise refusal("recipe-invalid", f"has two {what} {subject(each)}")
            seen.add(subject(each))
        return value

    return AfterValidator(check)
