"""Where a process of the service answers for its health, and the extra that such a process needs."""

from types import ModuleType
from typing import Annotated

import typer

from imagefactory.errors import ExtraMissing, UsageError

ListenAt = Annotated[
    str | None,
    typer.Option(
        "--listen", metavar="HOST:PORT", help="Answer /healthz, /readyz and /metrics there.", show_default=False
    ),
]


def parse_listen(text: str | None) -> tuple[str, int] | None:
    """HOST:PORT, or [ADDRESS]:PORT. Raises UsageError."""
    if text is None:
        return None
    host, _, port = text.rpartition(":")
    if not host or not (port.isascii() and port.isdigit()) or int(port) > 65535:
        raise UsageError(f"{text!r} is no HOST:PORT", advice="for instance 127.0.0.1:9101")
    return host.removeprefix("[").removesuffix("]"), int(port)


def processes() -> ModuleType:
    """The processes of the service (worker.run). Raises ExtraMissing."""
    try:
        from imagefactory.worker import run  # noqa: PLC0415 - an extra, which takes a while to load
    except ModuleNotFoundError as missing:
        advice = "install imagefactory with the extra service: pip install 'imagefactory[service]'"
        raise ExtraMissing(f"a process of the service needs {missing.name}", advice=advice) from missing
    return run
