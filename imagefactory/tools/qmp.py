"""QEMU's two JSON channels, its monitor (QMP) and the guest agent, seen synchronously.

qemu.qmp is asyncio. Here is the one small island of it: each channel has an event loop of its own, which runs only
while one of the methods below is called, in the thread of the caller. Do not share a channel between threads.
"""

import asyncio
import base64
import socket
import time
from collections.abc import Coroutine, Mapping
from typing import TypeVar

from qemu.qmp import ExecuteError, QMPClient, QMPError

T = TypeVar("T")


class ChannelLost(Exception):
    """The other side of a channel went away or spoke nonsense."""


class ChannelSilent(Exception):
    """No answer came before the deadline."""


class CommandRefused(Exception):
    """The other side answered a command with an error."""


class Channel:
    """One JSON channel over a connected unix `socket`, which it takes over. `deadline`s are monotonic times.

    The monitor of QEMU greets; the guest agent does not (`greets=False`). Raises ChannelLost or ChannelSilent.
    """

    def __init__(self, name: str, peer: socket.socket, *, deadline: float, greets: bool = True) -> None:
        self._loop = asyncio.new_event_loop()
        self._client = QMPClient(name)
        self._client.await_greeting = self._client.negotiate = greets
        self._client.logger.disabled = True  # every failure shows as an exception of ours
        try:
            self._run(self._client.connect(peer), deadline)
        except BaseException:
            peer.close()
            self._close_loop()
            raise

    def execute(self, command: str, arguments: Mapping[str, object] | None = None, *, deadline: float) -> object:
        """The answer to a command. Raises ChannelLost, ChannelSilent or CommandRefused."""
        return self._run(self._client.execute(command, arguments), deadline)

    def events(self, wait: float = 0.0) -> list[Mapping[str, object]]:
        """The events that came since the last call, after letting up to `wait` seconds pass for more of them."""
        self._loop.run_until_complete(asyncio.sleep(wait))
        return [dict(event) for event in self._client.events.clear()]

    def close(self) -> None:
        """Let go of the channel, whatever its state. Safe to call twice."""
        if self._loop.is_closed():
            return
        try:
            self._loop.run_until_complete(self._client.disconnect())
        except (QMPError, OSError, EOFError):
            pass  # the other side went first
        finally:
            self._close_loop()

    def _run(self, work: Coroutine[object, object, T], deadline: float) -> T:
        try:
            return self._loop.run_until_complete(asyncio.wait_for(work, max(0.0, deadline - time.monotonic())))
        except TimeoutError as error:
            raise ChannelSilent("no answer before the deadline") from error
        except ExecuteError as error:
            raise CommandRefused(str(error)) from error
        except (QMPError, OSError, EOFError) as error:
            raise ChannelLost(f"{type(error).__name__}: {error}") from error

    def _close_loop(self) -> None:
        for task in asyncio.all_tasks(self._loop):
            task.cancel()
        self._loop.run_until_complete(asyncio.sleep(0))
        self._loop.close()


class Agent:
    """The agent in a guest, over its channel. It belongs to the guest: no answer of it is an error of ours."""

    def __init__(self, channel: Channel) -> None:
        self._channel = channel

    def ask(self, command: str, arguments: Mapping[str, object] | None = None, *, deadline: float) -> object | None:
        """Its answer to a command, or None when it gives none before the deadline."""
        try:
            return self._channel.execute(command, arguments, deadline=deadline)
        except (ChannelLost, ChannelSilent, CommandRefused):
            return None

    def file(self, path: str, *, deadline: float) -> bytes:
        """The first 4 KiB of a file in the guest; nothing when that is not to be had."""
        handle = self.ask("guest-file-open", {"path": path, "mode": "r"}, deadline=deadline)
        if not isinstance(handle, int):
            return b""
        answer = self.ask("guest-file-read", {"handle": handle, "count": 4096}, deadline=deadline)
        self.ask("guest-file-close", {"handle": handle}, deadline=deadline)
        content = answer.get("buf-b64") if isinstance(answer, Mapping) else None
        try:
            return base64.b64decode(str(content), validate=True) if content is not None else b""
        except ValueError:
            return b""
