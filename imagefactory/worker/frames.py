"""What comes from the broker, before anybody reads it."""

from collections.abc import Callable
from struct import pack, unpack_from

import amqp
from amqp.method_framing import frame_handler

# Ours are 120 and 600 bytes.
MAX_BODY = 1 << 10
MAX_HEADERS = 4 << 10

REFUSED = "refused"  # the name of the header that says why
_BASIC = 60  # AMQP's number of the class of messages
_HEADER, _BODY = 2, 3  # its numbers of kinds of frames


def bounded_frames(
    connection: amqp.Connection, callback: Callable[..., object]
) -> Callable[[tuple[int, int, bytes]], bool]:
    """What py-amqp does with frames, but for messages that are too large, that it cannot read (and that would be sent
    again after each new connection), or that kombu would unpack.

    These lose all that they have, before anything is kept of it, and get a header that says why.
    """
    inner = frame_handler(connection, callback)
    dropping: dict[int, tuple[int, tuple[int, int, bytes]]] = {}  # by channel: bytes to come, and then what

    def on_frame(frame: tuple[int, int, bytes]) -> bool:
        kind, channel, payload = frame
        if kind == _HEADER:
            reason = _unfit(payload)
            if reason is not None:
                frame = (_HEADER, channel, _refused_header(reason))
                (size,) = unpack_from(">Q", payload, 4)
                if size:
                    dropping[channel] = size, frame
                    connection.bytes_recv += 1
                    return False
        elif kind == _BODY and channel in dropping:
            size, frame = dropping.pop(channel)
            if size > len(payload):
                dropping[channel] = size - len(payload), frame
                connection.bytes_recv += 1
                return False
        return bool(inner(frame))

    return on_frame


def _unfit(header: bytes) -> str | None:
    """Why the message behind a header is not to be read."""
    (size,) = unpack_from(">Q", header, 4)
    if size > MAX_BODY:
        return f"it has {size} bytes"
    if len(header) > MAX_HEADERS:
        return f"its headers have {len(header)} bytes"
    message = amqp.Message()
    try:
        message.inbound_header(header)
    except Exception:  # a parser of what strangers write raises anything, RecursionError, too
        return "its headers cannot be read"
    headers = message.headers or {}
    if REFUSED in headers:
        return "it has a header that only we write"
    return "it is compressed" if "compression" in headers else None


def _refused_header(reason: str) -> bytes:
    properties = amqp.Message(application_headers={REFUSED: reason})._serialize_properties()
    return pack(">HHQ", _BASIC, 0, 0) + bytes(properties)
