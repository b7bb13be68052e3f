"""The standard that a recipe's image must keep, and how well."""

from datetime import date
from typing import Annotated, Final

from pydantic import AfterValidator, Field

from imagefactory.model.compliance import Gate, RuleException
from imagefactory.model.property_forms import day_of
from imagefactory.model.quantity import refusal, shown
from imagefactory.model.recipe_fields import FilePath, Items, Line, Matching, Part, Prose

Name = Annotated[str, Matching(r"[A-Za-z0-9][A-Za-z0-9_.-]{0,199}", "the short name that the SCAP Security Guide uses")]

MIN_REASON: Final = 10  # characters


def _day(value: str) -> str:
    if day_of(value) is None:
        raise refusal("recipe-invalid", f"should be a day, such as 2027-06-30, not {shown(value)}")
    return value


def _not_blank(value: str) -> str:
    if not value.strip():
        raise refusal("recipe-invalid", "should not be blank")
    return value


def _a_reason(value: str) -> str:
    if len(" ".join(value.split())) < MIN_REASON:
        raise refusal("recipe-invalid", f"should have at least {MIN_REASON} characters that are not blank")
    return value


class ExceptionOf(Part):
    """A rule that may fail, for a reason and a time."""

    rule: Name
    """The rule, such as partition_for_boot."""
    reason: Annotated[Prose, AfterValidator(_a_reason), Field(json_schema_extra={"minLength": MIN_REASON})]
    """Why it may fail: what a reviewer accepts."""
    owner: Annotated[Line, AfterValidator(_not_blank)]
    """Who answers for that: a team or an address."""
    expires: Annotated[str, AfterValidator(_day), Field(json_schema_extra={"format": "date"})]
    """The last day on which it may fail, YYYY-MM-DD. A build after that day fails."""

    @property
    def value(self) -> RuleException:
        return RuleException(self.rule, self.reason, self.owner, date.fromisoformat(self.expires))


def _each_once(value: tuple[ExceptionOf, ...]) -> tuple[ExceptionOf, ...]:
    seen = set[str]()
    for each in value:
        if each.rule in seen:
            raise refusal("recipe-invalid", f"has two exceptions for {each.rule}")
        seen.add(each.rule)
    return value


class Compliance(Part):
    """The image is measured by OpenSCAP, and must reach a score."""

    profile: Name
    """The profile of the SCAP Security Guide, such as anssi_bp28_enhanced."""
    content: FilePath | None = None
    """The SCAP data stream, absolute or from the folder of this file. Default: the one that Debian packages."""
    tailoring: FilePath | None = None
    """An XCCDF tailoring file, absolute or from the folder of this file, that has the profile."""
    min_score: Annotated[int, Field(ge=0, le=100)] = 0
    """The score that it must reach: the percentage of the applicable rules that pass, exceptions or not."""
    exceptions: Annotated[Items[ExceptionOf], Field(max_length=500), AfterValidator(_each_once)] = ()
    """Rules that may fail."""

    @property
    def gate(self) -> Gate:
        return Gate(self.min_score, tuple(each.value for each in self.exceptions))
