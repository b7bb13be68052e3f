"""FaultProxy: nobody notices it, until it is asked for a fault."""

import http.client
import os
import socket
import threading
import time
import tracemalloc
from collections.abc import Callable, Iterable, Iterator
from contextlib import ExitStack, closing
from dataclasses import replace
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tests.fakes.faults import (
    Action,
    CutDownload,
    CutUpload,
    DeadKeepAlive,
    Exchange,
    Fault,
    Flip,
    LoseAnswer,
    Slow,
    Status,
)
from tests.fakes.proxy import FaultProxy

BODY = os.urandom(200_000)
LOST = (http.client.HTTPException, OSError)


class Handler(BaseHTTPRequestHandler):
    """Echoes, in all the ways in which a server may frame its answer."""

    protocol_version = "HTTP/1.1"
    disable_nagle_algorithm = True
    served: list[tuple[str, int]]  # path, and bytes of the body that came whole

    def do_POST(self) -> None:
        if self.path == "/early":
            self.answer(413, b"too much")
            self.close_connection = True  # unsaid, and with the body unread
            return
        if self.path == "/hasty":
            self.answer(200, b"as you say")
            self.served.append((self.path, 0))
        try:
            body = [part if self.path != "/count" else b"." * (len(part) >> 16) for part in self.parts()]
        except ValueError:  # cut off
            self.close_connection = True
            return
        whole = b"".join(body)
        self.served.append((self.path, len(whole)))
        if self.path == "/chunked":
            self.chunked(whole)
        elif self.path == "/until-closed":
            self.head(200)
            self.wfile.write(whole)
            self.close_connection = True
        elif self.path == "/nothing":
            self.head(204)
        elif self.path == "/much":
            self.head(200, "Content-Length", str(64 << 20))
            for _ in range(64 << 4):
                self.wfile.write(bytes(1 << 16))
        else:
            self.answer(200, whole)
            self.close_connection = self.close_connection or self.path == "/leave"

    do_GET = do_PUT = do_HEAD = do_POST  # noqa: N815

    def parts(self) -> Iterator[bytes]:
        if self.headers["Transfer-Encoding"] == "chunked":
            while length := int(self.rfile.readline(), 16):
                yield self.rfile.read(length)
                self.rfile.readline()
            self.rfile.readline()
            return
        left = int(self.headers["Content-Length"] or 0)
        while left:
            part = self.rfile.read(min(left, 1 << 16))
            if not part:
                raise ValueError
            left -= len(part)
            yield part

    def answer(self, status: int, body: bytes) -> None:
        self.head(status, "Content-Length", str(len(body)))
        if self.command != "HEAD":
            self.wfile.write(body)

    def chunked(self, body: bytes) -> None:
        self.head(200, "Transfer-Encoding", "chunked")
        for start in range(0, len(body), 50_000):
            part = body[start : start + 50_000]
            self.wfile.write(b"%x;note=1\r\n%s\r\n" % (len(part), part))
        self.wfile.write(b"0\r\nX-Trailer: yes\r\n\r\n")

    def head(self, status: int, *header: str) -> None:
        self.send_response_only(status)
        if header:
            self.send_header(*header)
        self.end_headers()

    def log_message(self, *_: object) -> None:
        """No log."""


class Upstream(ThreadingHTTPServer):
    """Serves, and remembers what it served and how often somebody connected."""

    def __init__(self) -> None:
        self.served: list[tuple[str, int]] = []
        self.connections = 0
        super().__init__(("127.0.0.1", 0), type("Recording", (Handler,), {"served": self.served}))

    def get_request(self) -> tuple[socket.socket, object]:
        self.connections += 1
        return super().get_request()

    def handle_error(self, *_: object) -> None:
        """Clients that leave are what this is about."""

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.server_port}"


@pytest.fixture(scope="module")
def upstream() -> Iterator[Upstream]:
    with Upstream() as server:
        thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.02})
        thread.start()
        yield server
        server.shutdown()
        thread.join()


@pytest.fixture
def proxy(upstream: Upstream) -> Iterator[FaultProxy]:
    upstream.served.clear()
    upstream.connections = 0
    with FaultProxy(upstream.url) as proxy:
        yield proxy


@pytest.fixture(scope="module")
def plain(upstream: Upstream) -> Iterator[FaultProxy]:
    """One without faults."""
    with FaultProxy(upstream.url) as proxy:
        yield proxy


def connect(url: str) -> closing[http.client.HTTPConnection]:
    return closing(http.client.HTTPConnection(url.removeprefix("http://"), timeout=10))


Answer = tuple[int, list[tuple[str, str]], bytes]


def ask(connection: http.client.HTTPConnection, path: str, body: bytes | Iterable[bytes] = b"") -> Answer:
    connection.request("PUT", path, body=body)
    answer = connection.getresponse()
    return answer.status, answer.getheaders(), answer.read()


def in_chunks(body: bytes, size: int) -> Callable[[], Iterator[bytes]]:
    return lambda: (body[start : start + size] for start in range(0, len(body), size))


@settings(max_examples=60)
@given(
    path=st.sampled_from(("/echo", "/chunked", "/until-closed", "/nothing")),
    size=st.one_of(st.integers(0, 10), st.integers(65_530, 65_540), st.integers(0, len(BODY))),
    chunk=st.one_of(st.none(), st.integers(1_000, 100_000)),
)
def test_answers_are_those_of_the_server(
    upstream: Upstream, plain: FaultProxy, path: str, size: int, chunk: int | None
) -> None:
    answers = []
    for url in (upstream.url, plain.url):
        with connect(url) as connection:
            body = BODY[:size] if chunk is None else in_chunks(BODY[:size], chunk)()
            answers.append(ask(connection, path, body))
    assert answers[0] == answers[1]
    down = 0 if path == "/nothing" else size
    assert plain.exchanges[-1] == Exchange("PUT", path, status=answers[0][0], up=size, down=down)


def test_bytes_go_through_as_they_came(upstream: Upstream, proxy: FaultProxy) -> None:
    """Chunk extensions, trailers, the case of headers, an answer to HEAD that names a length."""
    requests = (
        b"PUT /chunked HTTP/1.1\r\nhOsT: x\r\nTransfer-Encoding: chunked\r\n\r\n3\r\nabc\r\n0\r\n\r\n"
        b"HEAD /echo HTTP/1.1\r\nHost: x\r\nContent-Length: 3\r\n\r\nabc"
        b"GET /echo HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n"
    )
    answers = []
    for url in (upstream.url, proxy.url):
        host, port = url.removeprefix("http://").split(":")
        with socket.create_connection((host, int(port)), timeout=10) as client:
            client.sendall(requests)
            answers.append(b"".join(iter(lambda: client.recv(1 << 16), b"")))
    assert answers[0] == answers[1]
    assert b"X-Trailer: yes" in answers[1]
    assert [exchange.method for exchange in proxy.exchanges] == ["PUT", "HEAD", "GET"]


def test_a_kept_connection_is_one_connection(upstream: Upstream, proxy: FaultProxy) -> None:
    with connect(proxy.url) as connection:
        for _ in range(3):
            assert ask(connection, "/echo", b"abc")[2] == b"abc"
    assert upstream.connections == 1


def test_a_connection_that_the_server_closes_is_closed_for_the_client(proxy: FaultProxy) -> None:
    with connect(proxy.url) as connection:
        assert ask(connection, "/leave", b"abc")[2] == b"abc"
        assert connection.sock is not None
        assert connection.sock.recv(1) == b""


def test_an_early_answer_arrives(proxy: FaultProxy) -> None:
    with connect(proxy.url) as connection:
        assert ask(connection, "/early", b"abc")[0] == 413
    (exchange,) = proxy.exchanges
    assert replace(exchange, up=0) == Exchange("PUT", "/early", status=413, down=8)
    assert exchange.up in {0, 3}  # how much of the body had come by then


def test_a_client_that_asks_first_may_continue(proxy: FaultProxy) -> None:
    with connect(proxy.url) as connection:
        connection.connect()
        assert connection.sock is not None
        connection.sock.sendall(b"PUT /echo HTTP/1.1\r\nHost: x\r\nExpect: 100-continue\r\nContent-Length: 3\r\n\r\n")
        assert connection.sock.recv(1 << 16) == b"HTTP/1.1 100 Continue\r\n\r\n"
        connection.sock.sendall(b"abc")
        assert connection.sock.recv(1 << 16).startswith(b"HTTP/1.1 200 ")


def test_a_server_that_is_away_is_a_connection_that_closes() -> None:
    with socket.create_server(("127.0.0.1", 0)) as listener:
        port = listener.getsockname()[1]
    with FaultProxy(f"http://127.0.0.1:{port}") as proxy, connect(proxy.url) as connection:
        with pytest.raises(http.client.RemoteDisconnected):
            ask(connection, "/echo")
        assert proxy.exchanges == [Exchange("PUT", "/echo")]


def test_much_goes_through_in_little_memory(upstream: Upstream, proxy: FaultProxy) -> None:
    tracemalloc.start()
    try:
        with connect(proxy.url) as connection:
            assert len(ask(connection, "/count", (bytes(1 << 16) for _ in range(64 << 4)))[2]) == 64 << 4
            connection.request("GET", "/much")
            answer = connection.getresponse()
            while answer.read(1 << 16):
                pass
        peak = tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()
    assert peak < 4 << 20
    assert [(exchange.up, exchange.down) for exchange in proxy.exchanges] == [(64 << 20, 1024), (0, 64 << 20)]
    assert upstream.served == [("/count", 1024), ("/much", 0)]


def test_clients_do_not_wait_for_each_other(proxy: FaultProxy) -> None:
    proxy.add(Fault("PUT", "slowly", Slow(1, "upload")))
    with connect(proxy.url) as slow, connect(proxy.url) as other:
        slow.request("PUT", "/echo?slowly", body=BODY[:10_000])  # takes hours
        assert ask(other, "/echo", b"abc")[0] == 200


def test_it_ends_at_once_whoever_is_connected(upstream: Upstream) -> None:
    with ExitStack() as clients, FaultProxy(upstream.url, [Fault("PUT", "slowly", Slow(10, "download"))]) as proxy:
        idle, slow = (clients.enter_context(connect(proxy.url)) for _ in range(2))
        assert ask(idle, "/echo")[0] == 200
        slow.request("PUT", "/echo?slowly", body=BODY)
        assert slow.getresponse().status == 200  # and its body takes hours


@pytest.mark.parametrize("url", ["https://127.0.0.1:1", "http://127.0.0.1:1/v2", "127.0.0.1:1"])
def test_what_it_cannot_stand_before(url: str) -> None:
    with pytest.raises(ValueError, match="is not http://HOST:PORT"):
        FaultProxy(url)


# Faults


def struck(proxy: FaultProxy, action: Action, path: str = "/echo", body: bytes = BODY) -> Answer | None:
    """What a PUT gets that meets `action`; None if it gets no whole answer."""
    proxy.add(Fault("PUT", path, action))
    with connect(proxy.url) as connection:
        try:
            answer = ask(connection, path, body)
        except LOST:
            answer = None
    assert proxy.exchanges[-1].fault == action
    assert proxy.unused == []
    return answer


def works(proxy: FaultProxy) -> bool:
    with connect(proxy.url) as connection:
        return ask(connection, "/echo", b"abc")[2] == b"abc"


def test_status(upstream: Upstream, proxy: FaultProxy) -> None:
    action = Status(503, {"Retry-After": "1"}, b"busy")
    assert struck(proxy, action) == (503, [("Content-Length", "4"), ("Retry-After", "1")], b"busy")
    assert proxy.exchanges == [Exchange("PUT", "/echo", action, 503, len(BODY), 4)]
    assert upstream.served == []


def test_status_leaves_the_connection_usable(proxy: FaultProxy) -> None:
    proxy.add(Fault("PUT", "/echo", Status(503)))
    with connect(proxy.url) as connection:
        assert ask(connection, "/echo", in_chunks(BODY, 30_000)())[0] == 503
        assert ask(connection, "/echo", b"abc")[2] == b"abc"


def test_status_before_the_body_is_read(upstream: Upstream, proxy: FaultProxy) -> None:
    action = Status(413, after_body=False)
    answer = struck(proxy, action, body=b"abc")
    assert answer == (413, [("Content-Length", "0"), ("Connection", "close")], b"")
    assert proxy.exchanges == [Exchange("PUT", "/echo", action, 413)]
    assert upstream.served == []


@pytest.mark.parametrize("after", [0, 1, 65_536, 100_000, len(BODY)])
def test_cut_upload(upstream: Upstream, proxy: FaultProxy, after: int) -> None:
    assert struck(proxy, CutUpload(after)) is None
    assert proxy.exchanges[-1].up == after
    assert works(proxy)
    if after < len(BODY):
        assert upstream.served == [("/echo", 3)]


def test_cut_upload_although_the_answer_is_there_already(upstream: Upstream, proxy: FaultProxy) -> None:
    def body() -> Iterator[bytes]:
        yield BODY[:1000]
        deadline = time.monotonic() + 60
        while not upstream.served:
            assert time.monotonic() < deadline
            time.sleep(0.01)
        time.sleep(0.1)  # the answer is on its way
        yield BODY[1000:]

    proxy.add(Fault("PUT", "/hasty", CutUpload(100_000)))
    with connect(proxy.url) as connection, pytest.raises(LOST):
        ask(connection, "/hasty", body())


def test_cut_upload_lets_a_shorter_body_through(proxy: FaultProxy) -> None:
    answer = struck(proxy, CutUpload(len(BODY) + 1))
    assert answer is not None
    assert answer[2] == BODY


@pytest.mark.parametrize("path", ["/echo", "/chunked"])
@pytest.mark.parametrize("after", [0, 1, 65_536, 100_000])
def test_cut_download(upstream: Upstream, proxy: FaultProxy, after: int, path: str) -> None:
    assert struck(proxy, CutDownload(after), path) is None
    assert proxy.exchanges[-1] == Exchange("PUT", path, CutDownload(after), 200, len(BODY), after)
    assert works(proxy)
    assert upstream.served[0] == (path, len(BODY))


def test_lose_answer(upstream: Upstream, proxy: FaultProxy) -> None:
    assert struck(proxy, LoseAnswer()) is None
    assert upstream.served == [("/echo", len(BODY))]
    assert proxy.exchanges == [Exchange("PUT", "/echo", LoseAnswer(), None, len(BODY), 0)]
    assert works(proxy)


def test_dead_keep_alive(upstream: Upstream, proxy: FaultProxy) -> None:
    proxy.add(Fault("PUT", "/echo", DeadKeepAlive()))
    with connect(proxy.url) as connection:
        assert ask(connection, "/echo", b"abc")[2] == b"abc"
        assert connection.sock is not None
        connection.sock.setblocking(False)
        with pytest.raises(BlockingIOError):  # it looks alive
            connection.sock.recv(1)
        connection.sock.settimeout(10)
        with pytest.raises(LOST):
            ask(connection, "/echo", b"abc")
    assert [exchange.status for exchange in proxy.exchanges] == [200, None]
    assert proxy.exchanges[1].fault == DeadKeepAlive()
    assert upstream.served == [("/echo", 3)]
    assert works(proxy)


@pytest.mark.parametrize("action", [Slow(100_000, "upload"), Slow(100_000, "download")])
def test_slow(proxy: FaultProxy, action: Slow) -> None:
    began = time.monotonic()
    answer = struck(proxy, action, body=BODY[:30_000])
    assert answer is not None
    assert answer[2] == BODY[:30_000]
    assert time.monotonic() - began > 0.3


@pytest.mark.parametrize("action", [Flip(0), Flip(65_536), Flip(70_000, "download"), Flip(len(BODY) - 1, "download")])
def test_flip(proxy: FaultProxy, action: Flip) -> None:
    answer = struck(proxy, action)
    assert answer is not None
    assert [at for at, (sent, came) in enumerate(zip(BODY, answer[2], strict=True)) if sent != came] == [action.at]


def test_which_requests_a_fault_strikes(proxy: FaultProxy) -> None:
    first, second = Fault("PUT", "^/echo[?]", Status(500), skip=1), Fault("PUT", "b$", Status(502), times=2)
    proxy.add(first, second, Fault("GET", "", Status(504)))
    assert proxy.unused[:2] == [first, second]
    with connect(proxy.url) as connection:
        statuses = [ask(connection, path)[0] for path in ("/echo", "/echo?a", "/echo?b", "/b", "/b", "/echo?b")]
    assert statuses == [200, 200, 500, 502, 502, 200]
    assert [fault.method for fault in proxy.unused] == ["GET"]
