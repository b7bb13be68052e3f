"""Whether a process lives, whether it can work, and what it measures: over HTTP, for whoever watches it.

`/healthz` says that the main loop ticked lately, `/readyz` that everything answers which the role needs, `/metrics` is
for Prometheus. There are no secrets in the answers, of errors only codes. Whoever asks cannot keep anything of ours:
connections have a deadline, the newest takes the place of the oldest, and checks run once for all who ask together.
"""

import http.client
import json
import socket
import tempfile
import threading
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any, Final

from imagefactory.errors import FactoryError
from imagefactory.errors.service import StoreUnusable, WatchUnusable
from imagefactory.service.metrics import CONTENT_TYPE, Metrics
from signing.errors import SigningError

LOOPBACK: Final = "127.0.0.1"
STALE: Final = 60.0  # seconds without a tick after which the main loop counts as dead
DEADLINE: Final = 10.0  # seconds of a connection, an answer that waits for the database among them
MOST_CONNECTIONS: Final = 16
MOST_THREADS: Final = 32  # those of connections that are gone and still wait for a check among them
MOST_REQUEST: Final = 8192  # bytes
FRESH: Final = 2.0  # seconds that what was found is told again
PATIENCE: Final = 5.0  # seconds that one waits for somebody else's checks


@dataclass(frozen=True)
class Check:
    """Something that has to be so; `ask` raises a FactoryError or SigningError if it is not."""

    name: str
    ask: Callable[[], None]


@dataclass
class Pulse:
    """Of the main loop."""

    stale: float = STALE
    _last: float = field(default_factory=time.monotonic)

    def beat(self) -> None:
        """The main loop goes round."""
        self._last = time.monotonic()

    @property
    def alive(self) -> bool:
        return time.monotonic() - self._last < self.stale


Answer = tuple[int, str, bytes]
"""Status, type and content."""


class Watch:
    """What a process says of itself."""

    def __init__(self, pulse: Pulse, checks: Sequence[Check], metrics: Metrics) -> None:
        self._pulse = pulse
        self._checks = checks
        self._metrics = metrics
        self._ready = _Shared(self._ask)
        self._page = _Shared(lambda: (200, CONTENT_TYPE, metrics.page()))

    def answer(self, path: str) -> Answer:
        """To a GET of a path."""
        if path == "/healthz":
            alive = self._pulse.alive
            return _document(200 if alive else 503, {"alive": alive})
        shared = {"/readyz": self._ready, "/metrics": self._page}.get(path)
        if shared is None:
            return _document(404, {"error": "there are /healthz, /readyz and /metrics"})
        return shared.get() or _document(503, {"error": "this takes too long"})

    def _ask(self) -> Answer:
        found = {check.name: _outcome(check) for check in self._checks}
        ready = all(each["ok"] for each in found.values())
        return _document(200 if ready else 503, {"ready": ready, "checks": found})


def writable(directory: Path) -> Check:
    """That files can be made in a directory."""

    def ask() -> None:
        try:
            with tempfile.TemporaryFile(dir=directory) as file:
                file.write(b"ready")
                file.flush()
        except OSError as error:
            raise StoreUnusable(f"{directory} cannot be written to: {error.strerror}") from None

    return Check("store", ask)


@contextmanager
def serving(watch: Watch, host: str = LOOPBACK, port: int = 0, deadline: float = DEADLINE) -> Iterator[int]:
    """Answer at an address, in threads of its own, until the end; gives the port. Raises WatchUnusable."""
    try:
        server = _Server(host, port, watch, deadline)
    except (OSError, OverflowError) as error:
        raise WatchUnusable(f"cannot listen at {host}:{port}: {error}") from None
    thread = threading.Thread(target=server.serve_forever, args=(0.1,), name="health", daemon=True)
    thread.start()
    try:
        yield server.server_address[1]
    finally:
        server.shutdown()
        thread.join()
        server.server_close()
        server.end_all()


class _Shared:
    """An answer that is found once for all who ask at the same time."""

    def __init__(self, find: Callable[[], Answer]) -> None:
        self._find = find
        self._one = threading.Lock()
        self._found: tuple[float, Answer] | None = None

    def get(self) -> Answer | None:
        """None when it cannot be had in time."""
        if not self._one.acquire(timeout=PATIENCE):
            return None
        try:
            if self._found is None or time.monotonic() - self._found[0] > FRESH:
                answer = self._find()
                self._found = (time.monotonic(), answer)
            return self._found[1]
        finally:
            self._one.release()


def _outcome(check: Check) -> dict[str, Any]:
    try:
        check.ask()
    except (FactoryError, SigningError) as error:
        return {"ok": False, "code": error.code}
    return {"ok": True}


def _document(status: int, document: Mapping[str, Any]) -> Answer:
    return status, "application/json", json.dumps(document).encode() + b"\n"


class _Server(ThreadingHTTPServer):
    daemon_threads = True
    block_on_close = False  # a check that hangs does not keep the process
    request_queue_size = 64

    def __init__(self, host: str, port: int, watch: Watch, deadline: float) -> None:
        self.address_family = socket.AF_INET6 if ":" in host else socket.AF_INET
        self.watch = watch
        self._deadline = deadline
        self._slots = threading.BoundedSemaphore(MOST_THREADS)
        self._open: dict[socket.socket, float] = {}  # the oldest first, with when it ends
        self._change = threading.Lock()
        super().__init__((host, port), _Handler)

    def server_bind(self) -> None:
        """Without asking the DNS what this machine is called, as HTTPServer does."""
        self.socket.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        self.socket.bind(self.server_address)
        self.server_address = self.socket.getsockname()
        self.server_name, self.server_port = str(self.server_address[0]), int(self.server_address[1])

    def process_request(self, request: Any, client_address: Any) -> None:  # noqa: ANN401 - as the base has it
        if not self._slots.acquire(blocking=False):
            self.shutdown_request(request)
            return
        with self._change:
            while len(self._open) >= MOST_CONNECTIONS:
                self._end(next(iter(self._open)))
            self._open[request] = time.monotonic() + self._deadline
        super().process_request(request, client_address)

    def process_request_thread(self, request: Any, client_address: Any) -> None:  # noqa: ANN401 - as the base has it
        try:
            super().process_request_thread(request, client_address)
        finally:
            self._slots.release()

    def shutdown_request(self, request: Any) -> None:  # noqa: ANN401 - as the base has it
        with self._change:
            self._open.pop(request, None)
        super().shutdown_request(request)

    def service_actions(self) -> None:
        """Now and then: end what is over its time."""
        with self._change:
            for request in [each for each, end in self._open.items() if end < time.monotonic()]:
                self._end(request)

    def end_all(self) -> None:
        """End every connection."""
        with self._change:
            for request in list(self._open):
                self._end(request)

    def handle_error(self, request: object, client_address: object) -> None:
        """Who has heard enough closes the connection; nobody is told."""

    def _end(self, request: socket.socket) -> None:
        del self._open[request]
        with suppress(OSError):  # it ended itself
            request.shutdown(socket.SHUT_RDWR)


class _Short:
    """Reads a request, but not more than MOST_REQUEST bytes of it."""

    def __init__(self, stream: Any) -> None:  # noqa: ANN401 - a file of bytes
        self._stream = stream
        self._left = MOST_REQUEST

    def readline(self, most: int = -1) -> bytes:
        if self._left <= 0:
            raise http.client.HTTPException("too long")
        line: bytes = self._stream.readline(self._left if most < 0 else min(most, self._left))
        self._left -= len(line)
        return line

    def close(self) -> None:
        self._stream.close()


class _Handler(BaseHTTPRequestHandler):
    server: _Server
    server_version, sys_version = "imagefactory", ""
    error_message_format, error_content_type = "%(code)d\n", "text/plain"
    timeout = DEADLINE

    def setup(self) -> None:
        super().setup()
        self.rfile = _Short(self.rfile)  # type: ignore[assignment]

    def do_GET(self) -> None:
        status, kind, content = self.server.watch.answer(self.path.partition("?")[0])
        self.send_response(status)
        self.send_header("Content-Type", kind)
        self.send_header("Content-Length", str(len(content)))
        self.send_header("Cache-Control", "no-store")
        self.send_header("X-Content-Type-Options", "nosniff")
        self.end_headers()
        self.wfile.write(content)

    def refuse(self) -> None:
        """Whatever is no GET."""
        self.send_response(405)
        self.send_header("Allow", "GET")
        self.send_header("Content-Length", "0")
        self.end_headers()

    do_HEAD = do_POST = do_PUT = do_DELETE = do_PATCH = do_OPTIONS = do_TRACE = do_CONNECT = refuse  # noqa: N815

    def log_message(self, *_: object) -> None:
        """Who asks is not written down."""
