"""Logs of workers: one JSON object a line, with the job and the task that it is about.

structlog is set up here and nowhere else, and what libraries say through `logging` takes the same way. No line holds a
secret that is known, a character that a terminal obeys, or more than MOST_LINE bytes, whatever somebody had logged.
"""

import json
import logging
from base64 import b64encode
from collections.abc import Iterable, Mapping
from contextlib import AbstractContextManager
from typing import Any, Final, TextIO
from urllib.parse import quote

import structlog
from structlog.contextvars import bind_contextvars, bound_contextvars, merge_contextvars
from structlog.typing import EventDict, Processor

from imagefactory.model.plain_text import printable

MOST_LINE: Final = 16_384  # bytes
MOST_TEXT: Final = 4_000  # characters of one value
MOST_ITEMS: Final = 40  # of a mapping or a list
MOST_LEVELS: Final = 4
HIDDEN: Final = "\N{FULL BLOCK}" * 5
UNSAYABLE: Final = '{"level": "error", "event": "a line of the log could not be written"}\n'
_ALWAYS: Final = ("time", "level", "event", "job", "task", "role", "host")


class Redactor:
    """Knows secrets, and takes them out of whatever is said, as they are and as others write them."""

    def __init__(self, secrets: Iterable[str] = ()) -> None:
        self._forms: tuple[str, ...] = ()
        for secret in secrets:
            self.add(secret)

    def add(self, secret: str) -> None:
        """From now on this is a secret; an empty one is none. The longest are looked for first."""
        if secret:
            self._forms = tuple(sorted({*self._forms, *_spellings(secret)}, key=len, reverse=True))

    def hide(self, text: str) -> str:
        """`text` without them."""
        for form in self._forms:
            text = text.replace(form, HIDDEN)
        return text

    def __call__(self, logger: object, method: str, event: EventDict) -> EventDict:
        """As a processor of structlog: texts, and what is in them after they were cut and cleaned."""
        del logger, method
        pairs = list(event.items())[:MOST_ITEMS]
        names = ((key if key in _ALWAYS else self._plain(str(key)), value) for key, value in pairs)
        return {name: self._value(value, MOST_LEVELS) for name, value in names}

    def _value(self, value: object, levels: int) -> object:
        if value is None or isinstance(value, bool):
            return value
        if isinstance(value, int | float) and self._plain(repr(value)) == repr(value):
            return value if isinstance(value, int) and abs(value) < 1 << 63 else self._plain(repr(value))
        if levels and isinstance(value, Mapping):
            pairs = list(value.items())[:MOST_ITEMS]
            return {self._plain(str(key)): self._value(inner, levels - 1) for key, inner in pairs}
        if levels and isinstance(value, list | tuple | set | frozenset):
            return [self._value(inner, levels - 1) for inner in list(value)[:MOST_ITEMS]]
        return self._plain(value if isinstance(value, str) else str(value))

    def _plain(self, text: str) -> str:
        # What is cut off may leave half of a secret, so they go first; cleaning may make one, so they go again.
        return self.hide(printable(self.hide(text), MOST_TEXT, lines=True))


def set_up(stream: TextIO, redactor: Redactor, *, role: str, host: str, level: int = logging.INFO) -> None:
    """Have this process log to `stream`, and nowhere else, from now on."""
    shared: list[Processor] = [
        merge_contextvars,
        structlog.stdlib.add_log_level,
        structlog.stdlib.PositionalArgumentsFormatter(),
        structlog.processors.TimeStamper(fmt="iso", utc=True, key="time"),
    ]
    last: list[Processor] = [
        structlog.stdlib.ProcessorFormatter.remove_processors_meta,
        structlog.processors.format_exc_info,
        _placed(role, host),
        redactor,
        _rendered,
    ]
    structlog.configure(
        processors=[*shared, structlog.stdlib.ProcessorFormatter.wrap_for_formatter],
        logger_factory=structlog.stdlib.LoggerFactory(),
        wrapper_class=structlog.stdlib.BoundLogger,
        cache_logger_on_first_use=False,
    )
    handler = _Lines(stream)
    handler.setFormatter(structlog.stdlib.ProcessorFormatter(processors=last, foreign_pre_chain=shared))
    root = logging.getLogger()
    root.handlers[:] = [handler]
    root.setLevel(level)
    logging.captureWarnings(True)


def logger() -> structlog.stdlib.BoundLogger:
    """What one logs with: an event, and names with values."""
    bound: structlog.stdlib.BoundLogger = structlog.stdlib.get_logger("imagefactory")
    return bound


def about(job: str | None, task: str) -> AbstractContextManager[None]:
    """Within it each line of this thread says of which job and task it is; a thread that is started in it says so with
    `also_about`."""
    return bound_contextvars(**({"job": job} if job else {}), task=task)


def also_about(job: str | None, task: str) -> None:
    """At the beginning of a thread that works on a task, for as long as it lives."""
    bind_contextvars(**({"job": job} if job else {}), task=task)


class _Lines(logging.StreamHandler[TextIO]):
    """Says a fixed sentence where `logging` would write a traceback with the arguments in it."""

    def handleError(self, record: logging.LogRecord) -> None:  # noqa: N802 - the name is logging's
        del record
        try:
            self.stream.write(UNSAYABLE)
            self.flush()
        except (OSError, ValueError):
            return  # nobody listens any more


def _placed(role: str, host: str) -> Processor:
    def place(logger: object, method: str, event: EventDict) -> EventDict:
        del logger, method
        first = {key: event.pop(key) for key in _ALWAYS if key in event}
        return {**first, "role": role, "host": host, **event}

    return place


def _rendered(logger: object, method: str, event: EventDict) -> str:
    """JSON in ASCII on one line."""
    del logger, method
    line = json.dumps(event, allow_nan=False)
    if len(line) > MOST_LINE:
        kept = {key: _cut(event[key]) for key in _ALWAYS if key in event}
        line = json.dumps({**kept, "cut": len(line)})
    return line


def _cut(value: Any) -> str:  # noqa: ANN401 - whatever was logged
    return printable(value if isinstance(value, str) else json.dumps(value), 300, lines=True)


def _spellings(secret: str) -> Iterable[str]:
    """A secret, and as JSON, Python, an address and HTTP write it."""
    yield secret
    yield from (json.dumps(secret)[1:-1], json.dumps(secret, ensure_ascii=False)[1:-1], repr(secret)[1:-1])
    raw = secret.encode("utf-8", "surrogatepass")
    yield from (repr(raw)[2:-1], quote(raw, safe=""), b64encode(raw).decode())
