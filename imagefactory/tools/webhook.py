"""Webhooks: an event as a CloudEvent 1.0 in structured JSON, signed by the rules of Standard Webhooks.

The receiver checks `webhook-signature`, and may be told the same twice: `webhook-id` is that of the event.
"""

import http.client
import ssl
from collections.abc import Mapping, Sequence
from datetime import UTC, datetime
from pathlib import Path
from typing import Final
from urllib.parse import urlsplit

from cloudevents.core.bindings.http import to_structured_event
from cloudevents.core.v1.event import CloudEvent
from standardwebhooks import Webhook

from imagefactory.errors.service import NotifyRefused, NotifyUnreachable
from imagefactory.model.event import Event
from imagefactory.model.notify import WebhookChannel
from imagefactory.tools.notify_file import webhook_secret
from imagefactory.tools.short_talk import connected, trust_in

DEADLINE: Final = 20.0  # seconds for all of it; nothing of the answer is read but its head
_LATER: Final = frozenset({408, 425, 429})  # and 500 and above


def encode(event: Event, source: str) -> tuple[dict[str, str], bytes]:
    """The headers and the body of a CloudEvent."""
    attributes = {
        "id": event.id,
        "source": source,
        "type": event.kind.type,
        "subject": event.subject,
        "time": event.at,
        "datacontenttype": "application/json",
    }
    data = {"title": event.title, "what": event.what, "where": event.where, "advice": event.advice}
    message = to_structured_event(CloudEvent(attributes, {**data, **event.facts}))
    return dict(message.headers), bytes(message.body)


def sign(secrets: Sequence[str], event_id: str, at: datetime, body: bytes) -> dict[str, str]:
    """The headers that prove a body, by each of the secrets (base64)."""
    text = body.decode()
    signatures = [Webhook(secret).sign(event_id, at, text) for secret in secrets]
    return {
        "webhook-id": event_id,
        "webhook-timestamp": str(int(at.timestamp())),
        "webhook-signature": " ".join(signatures),
    }


def post(channel: WebhookChannel, event: Event, source: str, deadline: float = DEADLINE) -> None:
    """Tell a receiver, once. Raises NotifyInvalid, NotifyUnreachable, NotifyRefused (a redirect is one)."""
    secrets = [webhook_secret(Path(each)) for each in channel.secrets]
    headers, body = encode(event, source)
    headers |= {**sign(secrets, event.id, datetime.now(UTC), body), "user-agent": "imagefactory", "connection": "close"}
    context = trust_in(channel.ca)
    try:
        status = _exchange(channel.url, headers, body, context, deadline)
    except ssl.SSLCertVerificationError as error:
        raise NotifyRefused(f"{channel.name}: its certificate is not believed: {error.verify_message}") from None
    except (OSError, http.client.HTTPException) as error:
        raise NotifyUnreachable(f"{channel.name} does not answer: {type(error).__name__}") from None
    if status in _LATER or status >= 500:
        raise NotifyUnreachable(f"{channel.name} answers {status}")
    if not 200 <= status < 300:
        raise NotifyRefused(f"{channel.name} answers {status}")


def _exchange(url: str, headers: Mapping[str, str], body: bytes, context: ssl.SSLContext, deadline: float) -> int:
    """POST, and return the status of the answer. Goes where the address says and nowhere else: neither a redirect nor a
    proxy is followed. Raises OSError, HTTPException."""
    parts = urlsplit(url)
    host, secure = parts.hostname or "", parts.scheme == "https"
    port = parts.port or (443 if secure else 80)
    with connected(host, port, deadline) as plain:
        talk = http.client.HTTPConnection(host, parts.port or port)
        if secure:
            talk.default_port = http.client.HTTPS_PORT
            talk.sock = context.wrap_socket(plain, server_hostname=host)
        else:
            talk.sock = plain
        try:
            talk.request("POST", f"{parts.path or '/'}{f'?{parts.query}' if parts.query else ''}", body, dict(headers))
            return talk.getresponse().status
        finally:
            talk.close()
