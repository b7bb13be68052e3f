"""What the fakes of OpenStack's services share: a web server on loopback that answers in JSON, and is told what to
answer instead where a test wants that.

    with FakeNova(...) as nova:
        nova.instead["/servers/detail"] = silence
"""

import json
import threading
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any, ClassVar, Self
from urllib.parse import parse_qs, urlsplit

from tests.fakes.tuf_site import Talk


@dataclass(frozen=True)
class Caller:
    """Whom a token is for. `project` is None when it is for the system."""

    user: str
    roles: frozenset[str]
    project: str | None


Identify = Callable[[str], Caller | None]


@dataclass(frozen=True)
class Request:
    """A request; of its query the last value of each key counts, and headers have their names in lower case."""

    method: str
    path: str
    query: Mapping[str, str]
    headers: Mapping[str, str]
    body: bytes
    caller: Caller | None

    def flag(self, key: str) -> bool:
        """A value that means yes. OpenStack takes a parameter without a value for one."""
        return self.query.get(key, "no").lower() in {"", "1", "t", "true", "on", "y", "yes"}


@dataclass(frozen=True)
class Reply:
    status: int
    document: object
    headers: Mapping[str, str] = field(default_factory=dict)


class Refusal(Exception):
    """An answer that is no success, in the form of the service."""

    def __init__(self, status: int, message: str) -> None:
        super().__init__(message)
        self.status = status
        self.message = message


class FakeService:
    """Listens on a free port of loopback while it is entered. Subclasses say what is answered."""

    kinds: ClassVar[Mapping[int, str]] = {
        400: "badRequest",
        403: "forbidden",
        404: "itemNotFound",
        406: "notAcceptable",
        500: "computeFault",
    }

    def __init__(self, identify: Identify | None = None) -> None:
        self.identify = identify or (lambda _: None)
        self.asked: list[str] = []
        self.instead: dict[str, Talk] = {}
        self.lie: Callable[[Request, Any], Any] = lambda _, document: document
        self._gone = threading.Event()
        self._server = self._make_server()
        self._thread = threading.Thread(target=self._server.serve_forever, args=(0.02,), daemon=True)

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self._server.server_port}"

    def __enter__(self) -> Self:
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._gone.set()
        self._server.shutdown()
        self._server.server_close()
        self._thread.join()

    def reply(self, request: Request) -> Reply:
        """What the service answers. Raises Refusal."""
        raise NotImplementedError

    def open_to_all(self, request: Request) -> bool:
        """Whether this is answered without a token."""
        raise NotImplementedError

    def _answer(self, request: Request) -> Reply:
        if request.caller is None and not self.open_to_all(request):
            return Reply(401, {"error": {"code": 401, "message": "The request you have made requires authentication."}})
        try:
            reply = self.reply(request)
        except Refusal as error:
            kind = self.kinds.get(error.status, "fault")
            return Reply(error.status, {kind: {"code": error.status, "message": error.message}})
        return Reply(reply.status, self.lie(request, reply.document), reply.headers)

    def _make_server(self) -> ThreadingHTTPServer:
        service = self

        class Handler(BaseHTTPRequestHandler):
            protocol_version = "HTTP/1.1"

            def do_GET(self) -> None:
                service.asked.append(f"{self.command} {self.path}")
                parts = urlsplit(self.path)
                for end, talk in service.instead.items():
                    if parts.path.endswith(end):
                        self.close_connection = True
                        talk(self, service._gone)
                        return
                query = {key: values[-1] for key, values in parse_qs(parts.query, keep_blank_values=True).items()}
                body = self.rfile.read(int(self.headers.get("Content-Length", "0")))
                caller = service.identify(self.headers.get("X-Auth-Token", ""))
                headers = {key.lower(): value for key, value in self.headers.items()}
                request = Request(self.command, parts.path.rstrip("/"), query, headers, body, caller)
                self._send(service._answer(request))

            def do_POST(self) -> None:
                self.do_GET()

            def _send(self, reply: Reply) -> None:
                content = json.dumps(reply.document).encode()
                self.send_response(reply.status)
                for key, value in {"Content-Type": "application/json", **reply.headers}.items():
                    self.send_header(key, value)
                self.send_header("Content-Length", str(len(content)))
                self.end_headers()
                self.wfile.write(content)

            def log_message(self, *_: object) -> None:
                pass

        class Server(ThreadingHTTPServer):
            daemon_threads = True

            def handle_error(self, *_: object) -> None:
                pass  # who has heard enough closes the connection

        return Server(("127.0.0.1", 0), Handler)


def number(request: Request, key: str, default: int) -> int:
    """A parameter that is a number from 0 on. Raises Refusal."""
    text = request.query.get(key, str(default))
    if not (text.isascii() and text.isdigit()):
        raise Refusal(400, f"{key} param must be an integer")
    return int(text)
