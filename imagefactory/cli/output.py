"""What a command says: one JSON document or text on stdout, everything else on stderr."""

import errno
import functools
import json
import os
import sys
from collections.abc import Callable, Mapping
from contextlib import suppress
from contextvars import ContextVar
from types import MappingProxyType
from typing import Annotated, Any, ParamSpec, TypeVar

import typer

from imagefactory.errors import DiskFull, FactoryError, Interrupted, PlacesFailed, SystemFailure, UsageError
from signing.errors import SigningError

P = ParamSpec("P")
R = TypeVar("R")
INTERRUPTED = 130
# Whether the command has given its answer: there is never a second document on stdout.
_answered: ContextVar[bool] = ContextVar("answered", default=False)

Json = Annotated[bool, typer.Option("--json", help="One JSON document on stdout; progress and logs on stderr.")]


def say(text: str = "") -> None:
    """A line of the answer."""
    sys.stdout.write(f"{printable(text)}\n")


def answer(document: dict[str, Any], text: str, as_json: bool) -> None:
    """The answer of a command, as JSON or as text."""
    _answered.set(True)
    say(json.dumps(document, indent=2, sort_keys=True) if as_json else text.rstrip("\n"))


def printable(text: str) -> str:
    """Without characters that a terminal would obey: words of images and of servers get this far."""
    return "".join(c if c.isprintable() or c in "\n\t" else "\N{REPLACEMENT CHARACTER}" for c in text)


def verb(command: Callable[P, R]) -> Callable[P, R]:
    """Turn the errors that have names into an exit code, a message on stderr, and with --json a document on stdout."""

    @functools.wraps(command)
    def wrapped(*args: P.args, **kwargs: P.kwargs) -> R:
        _answered.set(False)
        try:
            return command(*args, **kwargs)
        except (FactoryError, SigningError) as error:
            raise leave(error, kwargs.get("as_json")) from error
        except KeyboardInterrupt as error:
            raise leave(Interrupted("stopped"), kwargs.get("as_json")) from error
        except BrokenPipeError:  # nobody reads stdout any more
            raise
        except OSError as error:
            raise leave(_coded(error), kwargs.get("as_json")) from error

    return wrapped


def _coded(error: OSError) -> FactoryError:
    """The last line: what nobody foresaw has a code too."""
    where = f"{os.fsdecode(error.filename)}: " if isinstance(error.filename, str | bytes | os.PathLike) else ""
    if error.errno in (errno.ENOSPC, errno.EDQUOT):
        return DiskFull(f"{where}{error.strerror}")
    return SystemFailure(f"{where}{error.strerror or error}")


def leave(
    error: FactoryError | SigningError, as_json: object, more: Mapping[str, object] = MappingProxyType({})
) -> typer.Exit:
    """Say what is wrong; with --json in a document, which has `more`, too. What is returned is to be raised."""
    _explain(error)
    if as_json and not _answered.get():
        several = {"places": _places(error)} if isinstance(error, PlacesFailed) else {}
        answer({"error": describe(error), **several, **more}, "", as_json=True)
    return typer.Exit(error.exit_code)


def hang_up() -> None:
    """Write what is left to stdout. Whoever reads it may have seen enough (`| head`), and that is no error."""
    try:
        sys.stdout.flush()
    except BrokenPipeError:
        # What cannot be written would be tried again at the end of the program.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())


def usage(error: typer.TyperException, as_json: bool) -> int:
    """Say what is wrong with a command line, and return the exit code for it."""
    found = UsageError(error.format_message())
    _explain(found)
    if as_json:
        answer({"error": describe(found)}, "", as_json=True)
    return found.exit_code


def _places(error: PlacesFailed) -> list[dict[str, Any]]:
    """What came of each place."""
    return [
        {"place": place, **(each if isinstance(each, Mapping) else {"verified": False, "error": describe(each)})}
        for place, each in error.places.items()
    ]


def describe(error: FactoryError | SigningError) -> dict[str, Any]:
    """An error as JSON."""
    log = getattr(error, "log", None)
    return {
        "code": error.code,
        "message": error.message,
        "advice": error.advice,
        "log": str(log) if log else None,
        "lines": list(getattr(error, "lines", ())),
    }


def _explain(error: FactoryError | SigningError) -> None:
    about = describe(error)
    lines = [f"error: {about['message']} [{about['code']}]"]
    lines += [f"  | {line}" for line in about["lines"]]
    if about["log"]:
        lines.append(f"  log: {about['log']}")
    if about["advice"]:
        lines.append(f"  to do: {about['advice']}")
    text = printable("\n".join(lines))
    hang_up()  # who has both in one stream reads the answer first
    with suppress(BrokenPipeError):
        sys.stderr.write(text + "\n")
