"""Calls a hand: a process of ours with other rights (hands/ has their side)."""

import json
import os
import sys
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

from imagefactory.errors import FactoryError, HandDied, NoRights, ProgramFailed, RecipeError, SignerRefused, catalogue
from imagefactory.progress import Advance
from imagefactory.tools.process import BASE_ENVIRONMENT, PIPE, run, start, tail

PUBLISHER_TIMEOUT = 86400.0  # seconds: a large image over a thin line
HAND_TIMEOUT = 7200.0  # seconds; each program that a hand starts has a shorter deadline of its own
NAMESPACES = ["unshare", "--mount", "--pid", "--fork", "--kill-child=KILL", "--mount-proc"]


def call_builder(
    request: Mapping[str, Any], *, environment: Mapping[str, str], log: Path, on_advance: Advance
) -> dict[str, Any]:
    """Have the builder do `request`, as root in its own namespaces, and return its result.

    Raises whatever the builder raised, HandDied when it ended without a word, NoRights without root or sudo.
    """
    become_root = [] if os.geteuid() == 0 else ["sudo", "-n", "--"]
    if become_root:
        _check_sudo(environment)
    # setpriv again: sudo is a process between us and the namespaces.
    argv = [*become_root, "setpriv", "--pdeathsig", "KILL", "--", *NAMESPACES]
    whole = {**request, "uid": os.getuid(), "gid": os.getgid(), "environment": dict(environment)}
    return _call([*argv, *_python("builder")], whole, environment=environment, log=log, on_advance=on_advance)


def call_signer(
    request: Mapping[str, Any], *, environment: Mapping[str, str], log: Path, on_advance: Advance
) -> dict[str, Any]:
    """Have the signer do `request` in a process of its own.

    Raises whatever the signer raised, HandDied when it ended without a word.
    """
    return _call(_python("signer"), request, environment=environment, log=log, on_advance=on_advance)


def call_clerk(
    request: Mapping[str, Any], *, environment: Mapping[str, str], log: Path, on_advance: Advance
) -> dict[str, Any]:
    """Have the clerk do `request` in a process of its own.

    Raises whatever the clerk raised, HandDied when it ended without a word.
    """
    return _call(_python("clerk"), request, environment=environment, log=log, on_advance=on_advance)


def call_publisher(
    request: Mapping[str, Any], *, environment: Mapping[str, str], log: Path, on_advance: Advance
) -> dict[str, Any]:
    """Have the publisher do `request` in a process of its own; `environment` says where its credentials are.

    Raises whatever the publisher raised, HandDied when it ended without a word.
    """
    return _call(
        _python("publisher"),
        request,
        environment=environment,
        log=log,
        on_advance=on_advance,
        timeout=PUBLISHER_TIMEOUT,
    )


def converse(
    argv: Sequence[str],
    request: Mapping[str, Any],
    *,
    environment: Mapping[str, str],
    log: Path,
    hear: Callable[[Mapping[str, Any]], None],
    timeout: float = HAND_TIMEOUT,
) -> dict[str, Any]:
    """Start a process that speaks as hands do, have it do `request`, and return its result; `hear` is told what else it
    says. Raises whatever it raised, HandDied when it ended without a word."""
    with (
        log.open("ab") as complaints,
        start(
            argv,
            env={**BASE_ENVIRONMENT, **environment},
            timeout=timeout,
            stdin=PIPE,
            stdout=PIPE,
            stderr=complaints.fileno(),
        ) as hand,
    ):
        hand.send((json.dumps(dict(request)) + "\n").encode())
        for line in hand.lines():
            try:
                message = json.loads(line)
            except ValueError:  # not its language
                hand.end()
                break
            if "error" in message:
                raise rebuild(message["error"])
            if "result" in message:
                return dict(message["result"])
            hear(message)
        status = hand.wait()
    raise HandDied(f"{argv[-1]} ended with status {status} and without an answer", log=log, lines=tail(log))


def advances(on_advance: Advance) -> Callable[[Mapping[str, Any]], None]:
    """Hears how far a hand is."""
    return lambda message: on_advance(message["advance"], message.get("done", 0), message.get("total", 0))


def _python(hand: str) -> list[str]:
    return [sys.executable, "-I", "-m", f"imagefactory.hands.{hand}"]


def _check_sudo(environment: Mapping[str, str]) -> None:
    try:
        run(["sudo", "-n", "--", "true"], env=environment, timeout=30.0)
    except ProgramFailed as error:
        raise NoRights("a root file system needs root, and sudo wants a password", lines=error.lines) from error


def _call(
    argv: list[str],
    request: Mapping[str, Any],
    *,
    environment: Mapping[str, str],
    log: Path,
    on_advance: Advance,
    timeout: float = HAND_TIMEOUT,
) -> dict[str, Any]:
    hear = advances(on_advance)
    return converse(argv, request, environment=environment, log=log, hear=hear, timeout=timeout)


def rebuild(document: Mapping[str, Any]) -> FactoryError:
    """The error that a hand sent, as the class that has its code."""
    kinds = {kind.code: kind for kind in catalogue()}
    kind = kinds.get(document["code"])
    details: dict[str, Any] = {
        "advice": document["advice"],
        "log": Path(document["log"]) if document["log"] else None,
        "lines": tuple(document["lines"]),
    }
    if kind is None:
        return SignerRefused(document["message"], code=document["code"], **details)
    if issubclass(kind, RecipeError):
        del details["log"]  # it has a place in a file instead, which is in the message
    return kind(document["message"], **details)
