"""Telling people what happened, by webhook and by mail, as the configuration says.

At least once: whoever is not sure that somebody was told tells him again, and the event has the same id. What one
receiver does is nothing to the others.
"""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Final, Protocol

from tenacity import Retrying, retry_if_exception_type, stop_after_attempt, wait_exponential_jitter
from tenacity.wait import wait_base

from imagefactory.errors.service import NotifyInvalid, NotifyRefused, NotifyUnreachable
from imagefactory.model.event import Due, Event
from imagefactory.model.notify import Channel, MailChannel, Notify, WebhookChannel
from imagefactory.tools import mail, webhook

ATTEMPTS: Final = 4
WAIT: Final = wait_exponential_jitter(initial=1, max=20)
SENT: Final = "sent"

Failure = NotifyInvalid | NotifyRefused | NotifyUnreachable
Told = Callable[[str, str], None]
"""Learns whom one tried to tell, and the outcome: sent, unreachable, refused or invalid."""


class Outbox(Protocol):
    """Where events wait that the beat tells of: rows, written in the transaction in which something happened."""

    def due(self, most: int) -> list[Due]:
        """Those whose time has come; others do not get them meanwhile."""
        ...

    def sent(self, due: Due) -> None:
        """Forget one."""
        ...

    def failed(self, due: Due, why: Failure) -> None:
        """Keep one for later if `why` is NotifyUnreachable; else it stays as failed."""
        ...


@dataclass
class Notifier:
    """Tells those whom `config` names. `wait` is what it does between attempts."""

    config: Notify
    told: Told | None = None
    attempts: int = ATTEMPTS
    wait: wait_base = WAIT

    def receivers(self, event: Event) -> tuple[str, ...]:
        """The names of those who want to know."""
        return tuple(channel.name for channel in self.config.wanting(event.kind))

    def tell_all(self, event: Event) -> Mapping[str, Failure | None]:
        """Tell everybody who wants to know: by name, what went wrong, or None."""
        return {channel.name: self._outcome(channel, event) for channel in self.config.wanting(event.kind)}

    def flush(self, outbox: Outbox, most: int = 100) -> int:
        """Tell of what waits; how many were told. A receiver that has left the configuration is refused."""
        channels = {channel.name: channel for channel in self.config.channels}
        count = 0
        for due in outbox.due(most):
            channel = channels.get(due.receiver)
            why = self._outcome(channel, due.event) if channel else NotifyRefused(f"nobody is called {due.receiver}")
            if why is None:
                outbox.sent(due)
                count += 1
            else:
                outbox.failed(due, why)
        return count

    def _outcome(self, channel: Channel, event: Event) -> Failure | None:
        try:
            self._patiently(channel, event)
        except (NotifyInvalid, NotifyRefused, NotifyUnreachable) as why:
            self._say(channel, why.code.removeprefix("notify-"))
            return why
        self._say(channel, SENT)
        return None

    def _say(self, channel: Channel, outcome: str) -> None:
        if self.told is not None:
            self.told(channel.name, outcome)

    def _patiently(self, channel: Channel, event: Event) -> None:
        patient = Retrying(
            stop=stop_after_attempt(self.attempts),
            wait=self.wait,
            retry=retry_if_exception_type(NotifyUnreachable),
            reraise=True,
        )
        patient(self._once, channel, event)

    def _once(self, channel: Channel, event: Event) -> None:
        if isinstance(channel, WebhookChannel):
            webhook.post(channel, event, self.config.source)
        elif isinstance(channel, MailChannel):
            mail.send(channel, event)
