"""The hand's side of the conversation with its caller (tools/hand.py is the other side)."""

import errno
import json
import os
import resource
import signal
import sys
import threading
from collections.abc import Callable
from pathlib import Path
from types import FrameType
from typing import Any, TypeAlias

from imagefactory.errors import DiskFull, FactoryError, RequestInvalid
from imagefactory.progress import Advance
from signing.errors import SigningError

Document: TypeAlias = dict[str, Any]
MAX_REQUEST = 8 << 20  # characters; evidence of thousands of vulnerabilities has 3 MB


def serve(actions: dict[str, Callable[[Document, Advance], Document]]) -> int:
    """Read one request, do its "action", answer. Returns the exit status."""
    signal.signal(signal.SIGTERM, _leave)
    # Keys, passphrases and tokens are in the memory of hands: none of it is to get into a core file.
    resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
    line = sys.stdin.readline(MAX_REQUEST)
    threading.Thread(target=_watch_lifeline, daemon=True).start()
    try:
        request = json.loads(line)
        if request.get("action") not in actions:
            raise RequestInvalid(f"a hand that does {' and '.join(actions)} was asked for something else")
        result = actions[request["action"]](request, _advance)
    except FactoryError as error:
        say({"error": _document(error, error.log, error.lines)})
        return error.exit_code
    except SigningError as error:
        say({"error": _document(error, None, ())})
        return error.exit_code
    except OSError as error:
        if error.errno not in (errno.ENOSPC, errno.EDQUOT):
            raise
        full = DiskFull(f"no space for {error.filename or 'what is being made'}")
        say({"error": _document(full, None, ())})
        return full.exit_code
    say({"result": result})
    return 0


def _document(error: FactoryError | SigningError, log: Path | None, lines: tuple[str, ...]) -> Document:
    return {
        "code": error.code,
        "message": error.message,
        "advice": error.advice,
        "log": str(log) if log else None,
        "lines": list(lines),
    }


def _advance(text: str, done: int = 0, total: int = 0) -> None:
    say({"advance": text, "done": done, "total": total})


def say(document: Document) -> None:
    """Tell the caller something on the way; `result` and `error` are the last words."""
    sys.stdout.write(json.dumps(document) + "\n")
    sys.stdout.flush()


def _watch_lifeline() -> None:
    """The caller holds the other end of our standard input for as long as it lives."""
    while os.read(0, 4096):
        pass
    os._exit(130)


def _leave(number: int, frame: FrameType | None) -> None:
    del frame
    os._exit(128 + number)
