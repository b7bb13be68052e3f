"""The feed of known vulnerabilities that a recipe's image is held against, and how bad they may be."""

from datetime import date
from operator import attrgetter
from typing import Annotated

from pydantic import AfterValidator, Field

from imagefactory.model.advisories import IDENTIFIER
from imagefactory.model.quantity import refusal, shown
from imagefactory.model.recipe_exceptions import MOST, LastDay, Owner, Reason, each_once
from imagefactory.model.recipe_fields import FilePath, Items, Matching, Part, is_url, no_secret, url
from imagefactory.model.vulnerabilities import CveException, Gate, Threshold

Identifier = Annotated[str, Matching(IDENTIFIER, "the id of a vulnerability, such as CVE-2026-12345")]


def _feed(value: str) -> str:
    no_secret(value)
    if not is_url(value):
        return value
    if not value.startswith("https://"):
        raise refusal("recipe-invalid", f"should be a path or an address that begins with https://, not {shown(value)}")
    return url(value)


class CveExceptionOf(Part):
    """A vulnerability that may stay, for a reason and a time."""

    cve: Identifier
    """Its id in the feed, such as CVE-2026-12345."""
    reason: Reason
    """Why it may stay: what a reviewer accepts."""
    owner: Owner
    """Who answers for that: a team or an address."""
    expires: LastDay
    """The last day on which it may be there, YYYY-MM-DD. A build after that day fails."""

    @property
    def value(self) -> CveException:
        return CveException(self.cve, self.reason, self.owner, date.fromisoformat(self.expires))


class Vulnerabilities(Part):
    """The image's packages are looked up in a feed of known vulnerabilities."""

    feed: Annotated[FilePath, AfterValidator(_feed)]
    """The feed: an https address, or a file, absolute or from the folder of this file."""
    max_severity: Threshold
    """The worst that needs no exception. What nobody has judged counts as high."""
    exceptions: Annotated[Items[CveExceptionOf], Field(max_length=MOST), each_once(attrgetter("cve"))] = ()
    """Vulnerabilities that may stay."""

    @property
    def gate(self) -> Gate:
        return Gate(self.max_severity, tuple(each.value for each in self.exceptions))

    @property
    def is_remote(self) -> bool:
        return is_url(self.feed)
