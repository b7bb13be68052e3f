"""Connections that end in time, whatever the other side does: a deadline for single reads is none for all of them."""

import socket
import ssl
import threading
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from typing import Final

from imagefactory.errors.service import NotifyInvalid

CONNECT_TIMEOUT: Final = 10.0  # seconds, for each address of a host


@contextmanager
def connected(host: str, port: int, seconds: float) -> Iterator[socket.socket]:
    """A TCP connection that is shut down after so many seconds, also when somebody wrapped it in TLS. Raises OSError.

    The connection is whoever's who takes it; a socket of our own to the same is what the clock pulls at.
    """
    plain = socket.create_connection((host, port), timeout=min(CONNECT_TIMEOUT, seconds))
    with plain.dup() as handle:
        clock = threading.Timer(seconds, _shut, (handle,))
        clock.daemon = True
        clock.start()
        try:
            yield plain
        finally:
            clock.cancel()
            clock.join()
            _shut(handle)
            plain.close()


def trust_in(authorities: str | None) -> ssl.SSLContext:
    """Checks names and certificates: by the authorities in a file, or those of this host. Raises NotifyInvalid."""
    try:
        context = ssl.create_default_context(cafile=authorities)
    except OSError as error:  # SSLError is one
        raise NotifyInvalid(f"{authorities} holds no certificates: {error.strerror}") from None
    context.minimum_version = ssl.TLSVersion.TLSv1_2
    return context


def _shut(handle: socket.socket) -> None:
    with suppress(OSError):  # it has ended by itself
        handle.shutdown(socket.SHUT_RDWR)
