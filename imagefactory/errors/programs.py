"""Programs that are not there, fail, take too long or do not answer."""

from pathlib import Path

from imagefactory.errors.base import HostError, Refused, StepFailed


class ProgramMissing(HostError):
    """A program that is needed is not installed."""

    code = "program-missing"
    default_advice = "imagefactory doctor names the package"


class ProgramFailed(StepFailed):
    """A program ended with an error."""

    code = "program-failed"
    default_advice = "the log has the whole story"


class ProgramTimeout(StepFailed):
    """A program did not end before its deadline and was ended with all its children."""

    code = "program-timeout"
    default_advice = "the log has the whole story; a slower machine may want a longer timeout"


class HandDied(StepFailed):
    """The builder's or the signer's process ended without an answer."""

    code = "hand-died"
    default_advice = "its last words are in the log; run the same command again"


class RequestInvalid(Refused):
    """A process of ours was asked for something that it does not do."""

    code = "request-invalid"
    default_advice = "use one version of imagefactory for all of its processes"


class SignerRefused(Refused):
    """The signer's process refused, with a code of the room `signing`."""

    def __init__(
        self, message: str, *, code: str, advice: str, log: Path | None = None, lines: tuple[str, ...] = ()
    ) -> None:
        super().__init__(message, advice=advice, log=log, lines=lines)
        self.code = code  # type: ignore[misc]  # the one class whose code is not its own
