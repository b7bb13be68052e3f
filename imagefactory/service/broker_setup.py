"""Users, queues and permissions in RabbitMQ: each role consumes from its own queue and sends to those after it.

They are written as RabbitMQ's own document of definitions. In it are salted hashes and no passwords; `rabbitmqctl
import_definitions` takes it from its standard input, the management's HTTP interface takes it in one request, and
`load_definitions` in rabbitmq.conf takes it at the start of a container: one document for all of them, and done twice
it changes nothing.
"""

import re
from base64 import b64encode
from collections.abc import Mapping
from hashlib import sha256

from imagefactory.model.broker import ROLES, account_name, queue_name
from imagefactory.model.job import TELLS, Role
from imagefactory.tools.process import run

# Who adds a task tells its role; everybody may put a task of its own back. Messages are hints: one too many does no
# harm. Reading is another matter, and nobody reads what is for others.
SENDS: Mapping[str, tuple[str, ...]] = {
    **{str(role): tuple(str(other) for other in Role if other is role or other in TELLS[role]) for role in Role},
    "beat": ROLES,
}

# A queue that nobody reads does not fill the broker: the oldest go, and the beat sends anew for tasks that wait.
MAX_MESSAGES = 100_000
MAX_BYTES = 64 << 20

PROGRAM = "rabbitmqctl"
_KNOWN = frozenset({"PATH", "HOME", "LANG", "LC_ALL"})
_OF_ERLANG = ("RABBITMQ_", "ERL_")
IMPORT_TIMEOUT = 120.0  # seconds; rabbitmqctl starts a virtual machine of its own
SALT = 4  # bytes: RabbitMQ's form


def definitions(vhost: str, passwords: Mapping[str, str]) -> dict[str, object]:
    """What RabbitMQ is to have, as a document of JSON; `passwords` has one for each role, and for `beat`."""
    names = [queue_name(role) for role in ROLES]
    return {
        "vhosts": [{"name": vhost}],
        "users": [_user(role, passwords[role]) for role in SENDS],
        "permissions": [{"user": account_name(role), "vhost": vhost, **permissions(role)} for role in SENDS],
        "exchanges": [{"name": name, "vhost": vhost, "type": "direct", **_KEPT, "internal": False} for name in names],
        "queues": [{"name": name, "vhost": vhost, **_KEPT} for name in names],
        "bindings": [
            {
                "source": name,
                "vhost": vhost,
                "destination": name,
                "destination_type": "queue",
                "routing_key": name,
                "arguments": {},
            }
            for name in names
        ],
        "policies": [
            {
                "name": "imagefactory",
                "vhost": vhost,
                "pattern": r"^imagefactory\.",
                "apply-to": "queues",
                "definition": {"max-length": MAX_MESSAGES, "max-length-bytes": MAX_BYTES, "overflow": "drop-head"},
                "priority": 0,
            }
        ],
    }


def permissions(role: str) -> dict[str, str]:
    """What the user of a role may do: names of exchanges and queues, as RabbitMQ's regular expressions."""
    own = [queue_name(role)] if role in ROLES else []
    return {
        "configure": _any_of(own),
        "write": _any_of([queue_name(other) for other in SENDS[role]]),
        "read": _any_of(own),
    }


def import_definitions(document: bytes, environ: Mapping[str, str]) -> None:
    """Have the RabbitMQ of this host make what is missing, and its users as they are to be; as its administrator, by
    what `environ` says of it.

    Raises ProgramMissing, ProgramFailed, ProgramTimeout.
    """
    run(
        [PROGRAM, "--quiet", "import_definitions"],
        env={name: value for name, value in environ.items() if name in _KNOWN or name.startswith(_OF_ERLANG)},
        timeout=IMPORT_TIMEOUT,
        input_=document,
    )


_KEPT: Mapping[str, object] = {"durable": True, "auto_delete": False, "arguments": {}}


def _user(role: str, password: str) -> dict[str, object]:
    # Passwords are random and no two are the same. A salt of its own for each time would make each document another.
    salt = sha256(f"{account_name(role)} {password}".encode()).digest()[:SALT]
    return {
        "name": account_name(role),
        "password_hash": b64encode(salt + sha256(salt + password.encode()).digest()).decode(),
        "hashing_algorithm": "rabbit_password_hashing_sha256",
        "tags": [],
        "limits": {},
    }


def _any_of(names: list[str]) -> str:
    """Matches these names and no other; nothing at all where there are none."""
    return f"^({'|'.join(map(re.escape, names))})$" if names else "^$"
