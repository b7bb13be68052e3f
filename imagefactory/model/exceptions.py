"""What may be wrong with an image for a time, because somebody answers for it. Pure.

Each room that judges images has exceptions of its own kind: a rule of a standard, a known vulnerability. What they have
in common is here: a reason, an owner, a last day, and what becomes of them when something is judged.
"""

from collections.abc import Container, Mapping, Sequence
from dataclasses import asdict, dataclass
from datetime import date
from typing import Any, Generic, Self, TypeVar

from imagefactory.model.evidence import JSON


class Accepted:
    """The base of a frozen dataclass that has these fields, after the one that names its `subject`: why, who answers
    for that, and the last day."""

    reason: str
    owner: str
    expires: date

    @property
    def subject(self) -> str:
        """What it is an exception for."""
        raise NotImplementedError

    def to_json(self) -> dict[str, JSON]:
        """The same for `from_json`, and for evidence."""
        return {**vars(self), "expires": self.expires.isoformat()}

    @classmethod
    def from_json(cls, document: Mapping[str, Any]) -> Self:
        """Read what `to_json` wrote. Raises KeyError, TypeError, ValueError."""
        found = cls(**{**document, "expires": date.fromisoformat(document["expires"])})
        check_texts(found)
        return found


Kind = TypeVar("Kind", bound=Accepted)


@dataclass(frozen=True)
class Weighed(Generic[Kind]):
    """Exceptions as they are on one day: `expired` ones, `excepted` ones that hold and are for something that was
    found, and `needless` ones, for something that was not. `holding` are the subjects of those that have not
    expired."""

    expired: tuple[Kind, ...]
    excepted: tuple[Kind, ...]
    needless: tuple[Kind, ...]
    holding: frozenset[str]

    @property
    def refused(self) -> list[str]:
        """The reasons, for people, why the expired ones refuse what is judged."""
        return [f"the exception for {each.subject} expired on {each.expires}" for each in self.expired]


def weigh(exceptions: Sequence[Kind], found: Container[str], today: date) -> Weighed[Kind]:
    """Hold exceptions against the subjects that were `found`."""
    holding = [each for each in exceptions if each.expires >= today]
    return Weighed(
        expired(exceptions, today),
        tuple(each for each in holding if each.subject in found),
        tuple(each for each in exceptions if each.subject not in found),
        frozenset(each.subject for each in holding),
    )


def expired(exceptions: Sequence[Kind], today: date) -> tuple[Kind, ...]:
    """Those whose last day is over."""
    return tuple(each for each in exceptions if each.expires < today)


def check_texts(*records: Any) -> None:  # noqa: ANN401 - dataclasses of any kind
    """Raises TypeError where a field of these dataclasses is neither text nor a day."""
    for name, value in (pair for record in records for pair in asdict(record).items()):
        if not isinstance(value, str | date):
            raise TypeError(f"{name} should be text, not {type(value).__name__}")
