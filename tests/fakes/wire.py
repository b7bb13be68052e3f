"""Just enough HTTP/1.1 to pass messages on: heads, and bodies piece by piece as they come."""

import re
import socket
from collections.abc import Iterator
from contextlib import suppress
from dataclasses import dataclass, field

PIECE = 1 << 16
LONGEST_LINE = 1 << 16
LONGEST_HEAD = 1 << 18


class Broken(Exception):
    """The other side went away, or speaks no HTTP."""


@dataclass(eq=False)
class Wire:
    """One connection, read by one thread."""

    sock: socket.socket
    _buffer: bytes = field(default=b"", init=False)

    @property
    def buffered(self) -> bool:
        return bool(self._buffer)

    def some(self, most: int = PIECE) -> bytes:
        """What is there, or comes next; nothing at the end."""
        if self._buffer:
            found, self._buffer = self._buffer[:most], self._buffer[most:]
            return found
        return self.sock.recv(min(most, PIECE))

    def line(self) -> bytes:
        """Up to and with the next line feed."""
        while b"\n" not in self._buffer:
            more = self.sock.recv(PIECE)
            if not more or len(self._buffer) > LONGEST_LINE:
                raise Broken
            self._buffer += more
        end = self._buffer.index(b"\n") + 1
        found, self._buffer = self._buffer[:end], self._buffer[end:]
        return found

    def send(self, data: bytes) -> None:
        self.sock.sendall(data)

    def shut(self) -> None:
        """Make every thread that waits for this connection go on."""
        with suppress(OSError):  # the other side was first
            self.sock.shutdown(socket.SHUT_RDWR)


@dataclass(frozen=True)
class Head:
    """The first line and the headers, and their bytes as they came."""

    raw: bytes
    first: str
    headers: dict[str, str]

    @property
    def method(self) -> str:
        return self.first.split(" ")[0]

    @property
    def target(self) -> str:
        return self.first.split(" ")[1]

    @property
    def status(self) -> int:
        return int(self.first.split(" ")[1])

    @property
    def chunked(self) -> bool:
        return "chunked" in self.headers.get("transfer-encoding", "").lower()

    @property
    def length(self) -> int | None:
        return int(self.headers["content-length"]) if "content-length" in self.headers else None

    @property
    def last(self) -> bool:
        """Whether its sender closes the connection after this message."""
        return "HTTP/1.1" not in self.first or "close" in self.headers.get("connection", "").lower()


@dataclass(frozen=True)
class Piece:
    """Some bytes of a message after its head: of the body itself, or of its framing."""

    data: bytes
    body: bool = True


def read_head(wire: Wire) -> Head:
    lines = [wire.line()]
    while lines[-1].strip():
        lines.append(wire.line())
        if sum(map(len, lines)) > LONGEST_HEAD:
            raise Broken
    first = lines[0].decode("latin-1").rstrip("\r\n")
    if not re.fullmatch(r"\S+ \S+( .*)?", first):
        raise Broken
    headers = {}
    for line in lines[1:-1]:
        name, _, value = line.decode("latin-1").partition(":")
        headers[name.strip().lower()] = value.strip()
    return Head(b"".join(lines), first, headers)


def request_body(wire: Wire, head: Head) -> Iterator[Piece]:
    return _chunks(wire) if head.chunked else _counted(wire, head.length or 0)


def response_body(wire: Wire, head: Head, method: str) -> Iterator[Piece]:
    if method == "HEAD" or head.status in (204, 304):
        return iter(())
    if head.chunked:
        return _chunks(wire)
    return _until_closed(wire) if head.length is None else _counted(wire, head.length)


def ends_by_closing(head: Head, method: str) -> bool:
    """Whether only the end of the connection is the end of this response."""
    return method != "HEAD" and head.status not in (204, 304) and not head.chunked and head.length is None


def _counted(wire: Wire, length: int) -> Iterator[Piece]:
    while length > 0:
        data = wire.some(length)
        if not data:
            raise Broken
        length -= len(data)
        yield Piece(data)


def _until_closed(wire: Wire) -> Iterator[Piece]:
    while data := wire.some():
        yield Piece(data)


def _chunks(wire: Wire) -> Iterator[Piece]:
    while True:
        line = wire.line()
        yield Piece(line, body=False)
        try:
            length = int(line.split(b";")[0], 16)
        except ValueError:
            raise Broken from None
        if length == 0:
            break
        yield from _counted(wire, length)
        yield Piece(wire.line(), body=False)
    while True:  # trailers
        line = wire.line()
        yield Piece(line, body=False)
        if not line.strip():
            return
