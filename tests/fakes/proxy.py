"""A proxy that stands before a real server and, where a test asks for it, is the network on a bad day.

    with FaultProxy(cloud.image_url) as proxy:
        proxy.add(Fault("PUT", "/file$", LoseAnswer()))
        ...
        assert proxy.exchanges[-1].fault == LoseAnswer()

Without faults nobody can tell that it is there: bytes go through as they came, and a connection that the server closes
is closed for the client too. The Host header is the client's, so that links which a server makes lead here again.
"""

import re
import select
import socket
import threading
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass, replace
from types import TracebackType
from typing import Self
from urllib.parse import urlsplit

from tests.fakes.faults import (
    Action,
    CutDownload,
    CutUpload,
    DeadKeepAlive,
    Direction,
    Exchange,
    Fault,
    Flip,
    LoseAnswer,
    Slow,
    Status,
)
from tests.fakes.wire import Broken, Head, Piece, Wire, ends_by_closing, read_head, request_body, response_body

TIMEOUT = 60.0  # seconds without a byte: something hangs, and the test should not


@dataclass
class _Rule:
    fault: Fault
    seen: int = 0
    struck: int = 0

    def strikes(self, method: str, path: str) -> bool:
        if self.struck == self.fault.times or method != self.fault.method or not re.search(self.fault.path, path):
            return False
        self.seen += 1
        if self.seen <= self.fault.skip:
            return False
        self.struck += 1
        return True


class FaultProxy:
    """Listens on a free port of loopback while it is entered."""

    def __init__(self, upstream: str, faults: Iterable[Fault] = ()) -> None:
        parts = urlsplit(upstream)
        if parts.scheme != "http" or parts.hostname is None or parts.path not in {"", "/"}:
            raise ValueError(f"{upstream} is not http://HOST:PORT")
        self._upstream = (parts.hostname, parts.port or 80)
        self._rules = [_Rule(fault) for fault in faults]
        self._exchanges: list[Exchange] = []
        self._lock = threading.Lock()
        self._wires: list[Wire] = []
        self._threads: list[threading.Thread] = []
        self._closing = threading.Event()
        self._listener = socket.create_server(("127.0.0.1", 0), backlog=64)

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self._listener.getsockname()[1]}"

    @property
    def exchanges(self) -> list[Exchange]:
        """Every request so far, in the order of their arrival."""
        with self._lock:
            return [replace(exchange) for exchange in self._exchanges]

    @property
    def unused(self) -> list[Fault]:
        """Faults that have not struck as often as they should."""
        with self._lock:
            return [rule.fault for rule in self._rules if rule.struck < rule.fault.times]

    def add(self, *faults: Fault) -> None:
        with self._lock:
            self._rules.extend(_Rule(fault) for fault in faults)

    def __enter__(self) -> Self:
        self._spawn(self._accept)
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._closing.set()
        self._listener.shutdown(socket.SHUT_RDWR)
        with self._lock:
            wires = list(self._wires)
        for wire in wires:
            wire.shut()
        while self._threads:
            self._threads.pop().join()
        self._listener.close()

    def _accept(self) -> None:
        while not self._closing.is_set():
            try:
                sock, _ = self._listener.accept()
            except OSError:
                return  # closing
            try:
                connection = _Connection(self, self._wire(sock))
            except Broken:
                return
            self._spawn(connection.run)

    def _spawn(self, work: Callable[[], None]) -> None:
        thread = threading.Thread(target=work, daemon=True)
        self._threads.append(thread)
        thread.start()

    def _connect(self) -> Wire:
        return self._wire(socket.create_connection(self._upstream))

    def _wire(self, sock: socket.socket) -> Wire:
        sock.settimeout(TIMEOUT)
        sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        wire = Wire(sock)
        with self._lock:
            if self._closing.is_set():
                sock.close()
                raise Broken
            self._wires.append(wire)
        return wire

    def _close(self, wire: Wire) -> None:
        with self._lock:
            self._wires.remove(wire)
        wire.sock.close()

    def _record(self, head: Head, *, dead: bool) -> Exchange:
        """The request arrived: which fault does it meet?"""
        exchange = Exchange(head.method, head.target)
        with self._lock:
            if dead:
                exchange.fault = DeadKeepAlive()
            else:
                rule = next((rule for rule in self._rules if rule.strikes(head.method, head.target)), None)
                exchange.fault = None if rule is None else rule.fault.action
            self._exchanges.append(exchange)
        return exchange

    def _pause(self, seconds: float) -> None:
        if self._closing.wait(seconds):
            raise Broken


class _Gone(Broken):
    """The side that should have received something is gone."""


class _Connection:
    """A client's connection, and the one to the server that belongs to it."""

    def __init__(self, proxy: FaultProxy, client: Wire) -> None:
        self._proxy = proxy
        self._client = client
        self._server: Wire | None = None
        self._lasts = True  # after this exchange
        self._dead = False  # as DeadKeepAlive has it

    def run(self) -> None:
        try:
            while self._exchange():
                pass
        except (OSError, Broken):
            pass  # the client learns it when both are closed
        finally:
            self._proxy._close(self._client)
            if self._server is not None:
                self._proxy._close(self._server)

    def _exchange(self) -> bool:
        """One request and its answer. Whether there may be another on this connection."""
        if self._server_left():
            return False
        head = read_head(self._client)
        exchange = self._proxy._record(head, dead=self._dead)
        if self._dead:
            return False
        if isinstance(exchange.fault, Status):
            return self._answer(exchange.fault, head, exchange)
        if self._server is None:
            self._server = self._proxy._connect()
        server = self._server
        self._lasts = False
        server.send(head.raw)
        # A server may answer before it has read all, so both directions run at a time.
        uploaded = threading.Event()
        download = threading.Thread(target=self._download, args=(server, head, exchange, uploaded), daemon=True)
        download.start()
        try:
            self._pass_on(request_body(self._client, head), server, exchange, "upload")
        except _Gone:
            return False  # why it went is perhaps in its answer
        except (OSError, Broken):
            self._cut(server)
            return False
        finally:
            uploaded.set()
            download.join()
        self._dead = isinstance(exchange.fault, DeadKeepAlive)
        return self._lasts

    def _server_left(self) -> bool:
        """Wait for the next request: does the server close the connection first?"""
        if self._server is None or self._client.buffered:
            return False
        return self._server.sock in select.select([self._client.sock, self._server.sock], [], [])[0]

    def _answer(self, status: Status, head: Head, exchange: Exchange) -> bool:
        if status.after_body:
            if "100-continue" in head.headers.get("expect", "").lower():
                self._client.send(b"HTTP/1.1 100 Continue\r\n\r\n")
            for piece in request_body(self._client, head):
                exchange.up += len(piece.data) if piece.body else 0
        exchange.status = status.code
        headers = {"Content-Length": str(len(status.body)), **status.headers}
        if not status.after_body:
            headers["Connection"] = "close"
        lines = [f"HTTP/1.1 {status.code} Fault", *(f"{name}: {value}" for name, value in headers.items()), "", ""]
        body = b"" if head.method == "HEAD" else status.body
        exchange.down += len(body)
        self._client.send("\r\n".join(lines).encode("latin-1") + body)
        return status.after_body and not head.last

    def _download(self, server: Wire, request: Head, exchange: Exchange, uploaded: threading.Event) -> None:
        try:
            head = read_head(server)
            while head.status < 200:
                self._client.send(head.raw)
                head = read_head(server)
            if isinstance(exchange.fault, CutUpload):
                uploaded.wait()  # an answer that overtakes the cut would hide it
            body = response_body(server, head, request.method)
            if isinstance(exchange.fault, LoseAnswer):
                for _ in body:
                    pass
                return
            exchange.status = head.status
            self._client.send(head.raw)
            self._pass_on(body, self._client, exchange, "download")
            self._lasts = not (request.last or head.last or ends_by_closing(head, request.method))
        except (OSError, Broken):
            self._cut(server)

    def _cut(self, server: Wire) -> None:
        server.shut()
        self._client.shut()

    def _pass_on(self, pieces: Iterator[Piece], to: Wire, exchange: Exchange, direction: Direction) -> None:
        """Raises _Gone if `to` takes no more, Broken where it is to be cut."""
        fault, done = exchange.fault, 0
        limit = _limit(fault, direction)
        if limit == 0:
            raise Broken
        for piece in pieces:
            data = piece.data
            if piece.body:
                data = _flipped(data, done, fault, direction)[: None if limit is None else limit - done]
                done += len(data)
                if direction == "upload":
                    exchange.up = done
                else:
                    exchange.down = done
            for part in self._paced(data, fault, direction):
                try:
                    to.send(part)
                except OSError:
                    raise _Gone from None
            if done == limit:
                raise Broken

    def _paced(self, data: bytes, fault: Action | None, direction: Direction) -> Iterator[bytes]:
        if not isinstance(fault, Slow) or fault.direction != direction:
            yield data
            return
        step = max(1, fault.bytes_per_second // 20)
        for start in range(0, len(data), step):
            part = data[start : start + step]
            self._proxy._pause(len(part) / fault.bytes_per_second)
            yield part


def _limit(fault: Action | None, direction: Direction) -> int | None:
    if isinstance(fault, CutUpload) and direction == "upload":
        return fault.after
    if isinstance(fault, CutDownload) and direction == "download":
        return fault.after
    return None


def _flipped(data: bytes, start: int, fault: Action | None, direction: Direction) -> bytes:
    if not isinstance(fault, Flip) or fault.direction != direction or not 0 <= fault.at - start < len(data):
        return data
    changed = bytearray(data)
    changed[fault.at - start] ^= 1
    return bytes(changed)
