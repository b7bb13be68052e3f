"""Who is told of what: the file that IMAGEFACTORY_NOTIFY names. Secrets are in files of their own."""

import ipaddress
from collections.abc import Sequence
from typing import Annotated, Final, Literal, get_args
from urllib.parse import urlsplit

from pydantic import AfterValidator, Field, model_validator

from imagefactory.model.event import EventKind
from imagefactory.model.quantity import refusal
from imagefactory.model.recipe_fields import Items, Line, Matching, Part, Slug, Unique

_PORTS: Final = {"starttls": 587, "tls": 465, "none": 25}

Kind = Literal["job.failed", "release.published", "schedule.paused", "expiry.soon"]
_KINDS: Final[tuple[Kind, ...]] = get_args(Kind)
Host = Annotated[str, Matching(r"[0-9A-Za-z._:-]{1,253}", "the name or the address of a host")]
Address = Annotated[
    str,
    Matching(
        r"[A-Za-z0-9._%+-]{1,64}@[A-Za-z0-9.-]{1,190}", "an address such as team@example.org, with no name before it"
    ),
]
Absolute = Annotated[str, Matching(r"/[^\x00-\x1f\x7f]{1,4095}", "an absolute path")]


def is_loopback(host: str) -> bool:
    """Whether what is sent to `host` stays on this machine."""
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return host == "localhost"


def _url(value: str) -> str:
    try:
        parts = urlsplit(value)
        host, port = parts.hostname or "", parts.port
    except ValueError:
        raise refusal("recipe-invalid", "should be an address that begins with https://") from None
    if not (value.isascii() and value.isprintable()) or " " in value or not host or port == 0 or parts.fragment:
        raise refusal("recipe-invalid", "should be an address that begins with https://, without # and blanks")
    if parts.scheme != "https" and not (parts.scheme == "http" and is_loopback(host)):
        raise refusal("recipe-invalid", "should begin with https://; http:// is for this machine only")
    return value


class _Channel(Part):
    name: Slug
    """What this is called in logs and metrics."""
    events: Annotated[Items[Kind], Unique(at_least=1)] = _KINDS
    """What is told: job.failed, release.published, schedule.paused, expiry.soon. All of them, if nothing is said."""
    ca: Absolute | None = None
    """A file with the certificate authorities of the receiver, in place of those of this host."""


class WebhookChannel(_Channel):
    """A receiver of CloudEvents that are signed by the rules of Standard Webhooks."""

    url: Annotated[Line, AfterValidator(_url)]
    """Where to POST to: https, or http on loopback."""
    secrets: Annotated[Items[Absolute], Field(max_length=4), Unique(at_least=1)]
    """Files of mode 0600 with a secret each, as whsec_BASE64. While one replaces another both are here."""


class MailChannel(_Channel):
    """Somebody's mail."""

    server: Host
    """The server that takes mail."""
    port: int | None = Field(None, ge=1, le=65535)
    """Its port: 587 with starttls, 465 with tls."""
    tls: Literal["starttls", "tls", "none"] = "starttls"
    """How it is encrypted; none is for this machine only."""
    user: Line | None = None
    """Who we are there, if it wants to know."""
    password_file: Absolute | None = None
    """A file of mode 0600 with the password."""
    sender: Address
    """Whom mail is from."""
    to: Annotated[Items[Address], Field(max_length=50), Unique(at_least=1)]
    """Whom it goes to."""

    @model_validator(mode="after")
    def _private(self) -> "MailChannel":
        if self.tls == "none" and not is_loopback(self.server):
            raise refusal("recipe-invalid", "tls should be starttls or tls: the server is another machine")
        if (self.user is None) != (self.password_file is None):
            raise refusal("recipe-invalid", "should have both user and password_file, or neither")
        return self

    @property
    def at(self) -> int:
        """The port."""
        return self.port or _PORTS[self.tls]


Channel = WebhookChannel | MailChannel


class Notify(Part):
    """The whole file."""

    source: Annotated[str, Matching(r"[A-Za-z0-9._~/:-]{1,200}", "a URI such as imagefactory or urn:team:images")] = (
        "imagefactory"
    )
    """What CloudEvents say they come from."""
    webhooks: Annotated[Items[WebhookChannel], Field(max_length=50)] = ()
    """Receivers on the web."""
    mail: Annotated[Items[MailChannel], Field(max_length=50)] = ()
    """Receivers of mail."""

    @model_validator(mode="after")
    def _named(self) -> "Notify":
        names = [channel.name for channel in self.channels]
        twice = next((name for name in names if names.count(name) > 1), None)
        if twice is not None:
            raise refusal("recipe-invalid", f"two receivers are called {twice}")
        return self

    @property
    def channels(self) -> tuple[Channel, ...]:
        """Every receiver."""
        return (*self.webhooks, *self.mail)

    def wanting(self, kind: EventKind) -> Sequence[Channel]:
        """Who is told of such an event; of a test, everybody."""
        return [each for each in self.channels if kind is EventKind.TEST or kind.value in each.events]
