"""What a FaultProxy can do to a request, and what it tells about one."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Literal

Direction = Literal["upload", "download"]


@dataclass(frozen=True)
class Status:
    """Answer this; the server hears nothing of the request.

    `after_body` false is a server that refuses without reading and closes the connection: a client that still sends
    may meet a reset before it has read the answer.
    """

    code: int
    headers: Mapping[str, str] = field(default_factory=dict)
    body: bytes = b""
    after_body: bool = True


@dataclass(frozen=True)
class CutUpload:
    """Close both sides when this many bytes of the request's body are through. A shorter body goes through whole."""

    after: int


@dataclass(frozen=True)
class CutDownload:
    """Close both sides when this many bytes of the response's body are through."""

    after: int


@dataclass(frozen=True)
class LoseAnswer:
    """The server does what it is asked; its answer never comes: the connection is closed instead."""


@dataclass(frozen=True)
class DeadKeepAlive:
    """Answer as ever. The connection is dead then, which the client learns by using it again."""


@dataclass(frozen=True)
class Slow:
    """A narrow line."""

    bytes_per_second: int
    direction: Direction


@dataclass(frozen=True)
class Flip:
    """One bit of the body arrives wrong: in the byte at this offset."""

    at: int
    direction: Direction = "upload"


Action = Status | CutUpload | CutDownload | LoseAnswer | DeadKeepAlive | Slow | Flip


@dataclass(frozen=True)
class Fault:
    """What happens to requests of `method` whose target, query included, `path` is found in.

    The first `skip` of them pass, then it strikes `times` times. One request meets one fault, the first that strikes;
    those further down the list do not count it.
    """

    method: str
    path: str
    action: Action
    times: int = 1
    skip: int = 0


@dataclass
class Exchange:
    """One request. `up` and `down` are the bytes of bodies that were passed on; `status` is what the client saw."""

    method: str
    path: str
    fault: Action | None = None
    status: int | None = None
    up: int = 0
    down: int = 0
