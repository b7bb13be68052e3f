"""A web server on loopback that serves a directory, and is not always kind."""

import ssl
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

Talk = Callable[[BaseHTTPRequestHandler, threading.Event], object]


@dataclass
class Site:
    """What is served, and what is said instead at some paths. `gone` is set when the server ends.

    With `ranges` the parts of files that are asked for are sent; `parts` are all that were asked for.
    """

    root: Path
    port: int = 0
    ranges: bool = True
    parts: list[str] = field(default_factory=list)
    instead: dict[str, Talk] = field(default_factory=dict)
    asked: list[str] = field(default_factory=list)
    gone: threading.Event = field(default_factory=threading.Event)

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.port}/catalogue"


@contextmanager
def serving(root: Path, tls: ssl.SSLContext | None = None) -> Iterator[Site]:
    """Serve `root` below /catalogue/, by https with `tls`."""
    site = Site(root)

    class Answer(BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"

        def do_GET(self) -> None:
            site.asked.append(self.path)
            if self.path in site.instead:
                self.close_connection = True
                site.instead[self.path](self, site.gone)
                return
            file = root / self.path.removeprefix("/catalogue/")
            wanted = self.headers.get("Range", "")
            site.parts += [wanted] * bool(wanted)
            if not file.is_file():
                answer(self, 404, b"<html>Not found</html>")
            elif wanted and site.ranges:
                part(self, file.read_bytes(), int(wanted.removeprefix("bytes=").removesuffix("-")))
            else:
                answer(self, 200, file.read_bytes())

        def do_HEAD(self) -> None:
            self.do_GET()

        def log_message(self, *_: object) -> None:
            pass

    class Server(ThreadingHTTPServer):
        daemon_threads = True

        def handle_error(self, *_: object) -> None:
            pass  # who has heard enough closes the connection

    server = Server(("127.0.0.1", 0), Answer)
    if tls is not None:
        server.socket = tls.wrap_socket(server.socket, server_side=True)
    site.port = server.server_port
    thread = threading.Thread(target=server.serve_forever, args=(0.02,), daemon=True)
    thread.start()
    try:
        yield site
    finally:
        site.gone.set()
        server.shutdown()
        server.server_close()
        thread.join()


# -- what may be said --------------------------------------------------------------------------------------------------


def answer(handler: BaseHTTPRequestHandler, status: int, content: bytes, **headers: str) -> None:
    handler.send_response(status)
    for key, value in {"Content-Length": str(len(content)), **headers}.items():
        handler.send_header(key.replace("_", "-"), value)
    handler.end_headers()
    if handler.command != "HEAD":
        handler.wfile.write(content)


def part(handler: BaseHTTPRequestHandler, content: bytes, begin: int) -> None:
    """A file from a byte on (RFC 9110, section 14)."""
    if begin >= len(content):
        answer(handler, 416, b"")
    else:
        answer(handler, 206, content[begin:], Content_Range=f"bytes {begin}-{len(content) - 1}/{len(content)}")


def saying(status: int, content: bytes = b"", **headers: str) -> Talk:
    return lambda handler, _: answer(handler, status, content, **headers)


def silence(handler: BaseHTTPRequestHandler, gone: threading.Event) -> None:
    """No answer at all."""
    del handler
    gone.wait()


def dripping_headers(handler: BaseHTTPRequestHandler, gone: threading.Event) -> None:
    """A header that has no end, a byte at a time."""
    handler.wfile.write(b"HTTP/1.1 200 OK\r\nX-Long: ")
    while not gone.wait(0.02):
        handler.wfile.write(b"x")


def dripping_body(handler: BaseHTTPRequestHandler, gone: threading.Event) -> None:
    """A body of a length that would be all right, which never comes to its end."""
    handler.send_response(200)
    handler.send_header("Content-Length", "10000")
    handler.end_headers()
    while not gone.wait(0.02):
        handler.wfile.write(b" ")


def endless(handler: BaseHTTPRequestHandler, gone: threading.Event) -> None:
    """A body that has no end, as fast as it can."""
    handler.send_response(200)
    handler.send_header("Connection", "close")
    handler.end_headers()
    while not gone.is_set():
        handler.wfile.write(b" " * 65536)


def breaking_off(handler: BaseHTTPRequestHandler, gone: threading.Event) -> None:
    """Half of what was promised."""
    del gone
    handler.send_response(200)
    handler.send_header("Content-Length", "1000")
    handler.end_headers()
    handler.wfile.write(b"{" * 500)


def not_http(handler: BaseHTTPRequestHandler, gone: threading.Event) -> None:
    del gone
    handler.wfile.write(b"SSH-2.0-OpenSSH_9.2\r\n" * 10)
