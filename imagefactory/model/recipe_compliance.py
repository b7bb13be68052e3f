"""The standard that a recipe's image must keep, and how well."""

from datetime import date
from operator import attrgetter
from typing import Annotated

from pydantic import Field

from imagefactory.model.compliance import Gate, RuleException
from imagefactory.model.recipe_exceptions import MOST, LastDay, Owner, Reason, each_once
from imagefactory.model.recipe_fields import FilePath, Items, Matching, Part

Name = Annotated[str, Matching(r"[A-Za-z0-9][A-Za-z0-9_.-]{0,199}", "the short name that the SCAP Security Guide uses")]


class ExceptionOf(Part):
    """A rule that may fail, for a reason and a time."""

    rule: Name
    """The rule, such as partition_for_boot."""
    reason: Reason
    """Why it may fail: what a reviewer accepts."""
    owner: Owner
    """Who answers for that: a team or an address."""
    expires: LastDay
    """The last day on which it may fail, YYYY-MM-DD. A build after that day fails."""

    @property
    def value(self) -> RuleException:
        return RuleException(self.rule, self.reason, self.owner, date.fromisoformat(self.expires))


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
    exceptions: Annotated[Items[ExceptionOf], Field(max_length=MOST), each_once(attrgetter("rule"))] = ()
    """Rules that may fail."""

    @property
    def gate(self) -> Gate:
        return Gate(self.min_score, tuple(each.value for each in self.exceptions))
