"""How each rule of a verification came out.

The rules are the numbered prose of a module: `read_rules` takes them from its docstring, the first sentence of each.
The code reports to an `Account` after each rule, in the same order: what raises in between is the refusal of the next
rule. So prose, code and report cannot drift apart. The account proves nothing: proof is what the functions return.
"""

import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any, ClassVar, Literal, Protocol

State = Literal["passed", "refused", "does not apply", "not reached"]

_RULE = re.compile(r"^(\d+)\. (.+?)(?:\.\s|\.?\Z)", re.DOTALL | re.MULTILINE)


class Refusal(Protocol):
    """An error of any family."""

    code: ClassVar[str]
    message: str


@dataclass(frozen=True)
class Outcome:
    """A rule's number and text, how it came out, what was found, and the code of the error that refused."""

    number: int
    rule: str
    state: State = "not reached"
    found: str = ""
    code: str | None = None


def read_rules(prose: str | None) -> dict[int, str]:
    """Return the numbered rules of a docstring by number, one sentence each (none where Python drops docstrings)."""
    return {int(number): " ".join(text.split()) for number, text in _RULE.findall(prose or "")}


class Account:
    """The outcomes of the rules in `plan`, in its order. A rule that is reported out of turn is a ValueError."""

    def __init__(self, rules: Mapping[int, str], plan: Iterable[int]) -> None:
        self.outcomes = [Outcome(number, rules.get(number, "")) for number in plan]
        self._turn = 0

    def passed(self, number: int, found: str = "") -> None:
        """Rule `number`, whose turn it is, holds."""
        self._set(number, "passed", found)

    def skipped(self, number: int, why: str) -> None:
        """Rule `number`, whose turn it is, does not apply."""
        self._set(number, "does not apply", why)

    def refused(self, number: int, error: Refusal) -> None:
        """Rule `number`, whose turn it is, does not hold. The error is raised, now or after other rules."""
        self._set(number, "refused", error.message, error.code)

    def ended(self, error: Refusal) -> None:
        """The verification ended with this error: unless a rule was refused before, that whose turn it is refuses."""
        if self._turn < len(self.outcomes) and all(each.state != "refused" for each in self.outcomes):
            self.refused(self.outcomes[self._turn].number, error)

    def lines(self) -> list[str]:
        """The outcomes for people, two lines each."""
        lines = []
        for each in self.outcomes:
            state = f"{each.state} [{each.code}]" if each.code else each.state
            lines += [f"{each.number:>3}. {each.rule}", f"     {state}{each.found and ': '}{each.found}"]
        return lines

    def to_json(self) -> list[dict[str, Any]]:
        """The outcomes for programs."""
        return [vars(each).copy() for each in self.outcomes]

    def _set(self, number: int, state: State, found: str, code: str | None = None) -> None:
        due = self.outcomes[self._turn]
        if due.number != number:
            raise ValueError(f"rule {number} is reported out of turn")
        self.outcomes[self._turn] = Outcome(number, due.rule, state, found, code)
        self._turn += 1
