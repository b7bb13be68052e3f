"""The tree that every error hangs on."""

from collections.abc import Iterator
from pathlib import Path
from typing import ClassVar


class FactoryError(Exception):
    """Something went wrong in a way that has a name.

    `message` says what happened and where, `advice` what to do next, `lines` are the lines of a log that matter, `log`
    is the whole of it.
    """

    code: ClassVar[str] = ""
    exit_code: ClassVar[int] = 1
    default_advice: ClassVar[str] = ""

    def __init__(
        self,
        message: str,
        *,
        advice: str | None = None,
        log: Path | None = None,
        lines: tuple[str, ...] = (),
    ) -> None:
        super().__init__(message)
        self.message = message
        self.advice = self.default_advice if advice is None else advice
        self.log = log
        self.lines = lines

    def __str__(self) -> str:
        return f"{self.code}: {self.message}"


def catalogue(root: type[FactoryError] = FactoryError) -> Iterator[type[FactoryError]]:
    """Every error class that has a code, in the order of definition."""
    for child in root.__subclasses__():
        if child.code:
            yield child
        yield from catalogue(child)


class Refused(FactoryError):
    """What was asked for is not done, because something is wrong with it."""


class StepFailed(Refused):
    """A step ran and failed."""


class UsageError(FactoryError):
    """The request is wrong."""

    code = "usage"
    exit_code = 2
    default_advice = "see imagefactory VERB --help"


class HostError(FactoryError):
    """This machine lacks something."""

    exit_code = 3


class RemoteError(FactoryError):
    """A service elsewhere failed."""

    exit_code = 4


class Interrupted(FactoryError):
    """Somebody asked us to stop (SIGINT or SIGTERM)."""

    code = "interrupted"
    exit_code = 130
    default_advice = "run the same command again: finished steps are kept"
