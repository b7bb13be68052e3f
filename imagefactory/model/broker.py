"""Where the broker is, and what is called how in it."""

import re
from dataclasses import dataclass
from urllib.parse import unquote, urlsplit

from imagefactory.errors import UsageError

ROLES = ("build", "test", "sign", "publish", "lifecycle")
PORTS = {"amqp": 5672, "amqps": 5671}

# The name of a user or of a virtual host: nothing that a pattern of RabbitMQ's, a log or a terminal would obey.
_NAME = re.compile(r"[\w./@+-]{1,128}", re.ASCII)
_HOST = re.compile(r"[0-9A-Za-z._:-]{1,253}")
_FORM = "write it as amqp://USER@HOST:PORT/VHOST, or amqps:// with TLS"


@dataclass(frozen=True)
class BrokerAddress:
    """A virtual host of a RabbitMQ, and who we are there. The password is elsewhere."""

    user: str
    host: str
    port: int
    vhost: str
    tls: bool

    def __str__(self) -> str:
        """For people: enough to know which one is meant."""
        host = f"[{self.host}]" if ":" in self.host else self.host
        return (
            f"amqp{'s' if self.tls else ''}://{self.user}@{host}:{self.port}/{'' if self.vhost == '/' else self.vhost}"
        )


def parse_broker(url: str) -> BrokerAddress:
    """`amqp[s]://USER@HOST[:PORT][/VHOST]`, as IMAGEFACTORY_BROKER has it; without VHOST it is `/`.

    Raises UsageError, which does not repeat what may be a password.
    """
    try:
        parts = urlsplit(url)
        port = parts.port
    except ValueError:
        raise UsageError("the address of the broker is none", advice=_FORM) from None
    if parts.password is not None:
        raise UsageError(
            "the address of the broker has a password in it, which others can see",
            advice="put it into a file that only you can read, and name that in IMAGEFACTORY_BROKER_PASSWORD_FILE",
        )
    if parts.scheme not in PORTS or parts.query or parts.fragment or port == 0:
        raise UsageError("the address of the broker is none", advice=_FORM)
    user, host, vhost = unquote(parts.username or ""), parts.hostname or "", unquote(parts.path[1:]) or "/"
    if not (_NAME.fullmatch(user) and _HOST.fullmatch(host) and _NAME.fullmatch(vhost)):
        raise UsageError("the address of the broker lacks a user or a host, or has strange characters", advice=_FORM)
    return BrokerAddress(user, host, port or PORTS[parts.scheme], vhost, parts.scheme == "amqps")


def queue_name(role: str) -> str:
    """Of the queue of a role, and of the exchange that leads there and nowhere else."""
    return f"imagefactory.{role}"


def account_name(role: str) -> str:
    """Of the account of a role, of `beat` or of `operator`, in the broker and in the database."""
    return f"imagefactory-{role}"
