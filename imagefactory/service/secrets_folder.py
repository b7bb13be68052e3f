"""What each account of the service is given: a folder with its passwords, and where the database and the broker are.

Below one folder: ROLE/{pgpass, broker-password, env} for each role and for `beat`; operator/{pgpass, env} for people;
and rabbitmq.json, what the broker is to have, in RabbitMQ's own format and with no password in it. `env` is read by
systemd (EnvironmentFile=) and by a shell.
"""

import json
import os
import secrets
import shlex
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Final

from imagefactory.errors import UsageError
from imagefactory.model.broker import BrokerAddress, account_name
from imagefactory.model.database_url import DatabaseUrl
from imagefactory.service.broker_setup import SENDS, definitions
from imagefactory.store.grants import ACCOUNTS
from imagefactory.tools.durable import sync_directory, translated, write_new

BROKER_PASSWORD, PGPASS, ENVIRONMENT, DEFINITIONS = "broker-password", "pgpass", "env", "rabbitmq.json"
ENTROPY: Final = 32  # bytes of a password
MOST_BYTES: Final = 1 << 20  # of a file that was written before


@dataclass(frozen=True)
class Secrets:
    """What is to be in `folder`: the content of each file by its path. Passwords are those that are there already."""

    folder: Path
    database: Mapping[str, str] = field(repr=False)
    broker: Mapping[str, str] = field(repr=False)
    files: Mapping[Path, bytes] = field(repr=False)

    @property
    def definitions(self) -> bytes:
        """What the broker is to have."""
        return self.files[self.folder / DEFINITIONS]

    def missing(self) -> list[Path]:
        """The files that are not there, or not so."""
        return [path for path, content in self.files.items() if _read(path) != content]

    def write(self) -> list[Path]:
        """Write those, each for its owner alone. Whose a file is, it stays. Raises Unwritable."""
        written = self.missing()
        for path in written:
            with translated(path):
                path.parent.mkdir(mode=0o755, parents=True, exist_ok=True)
                _replace(path, self.files[path])
        return written


def planned(folder: Path, database: DatabaseUrl, broker: BrokerAddress) -> Secrets:
    """What is to be in `folder` for servers at these addresses, whoever these name.

    Raises UsageError, for a file that something else has written.
    """
    folder = folder.absolute()
    database = replace(database, options=tuple(each for each in database.options if each[0] != "passfile"))
    passwords = {who: _known(folder / who / PGPASS, ":") for who in ACCOUNTS}
    broker_passwords = {who: _known(folder / who / BROKER_PASSWORD) for who in SENDS}
    files: dict[Path, bytes] = {}
    for who in ACCOUNTS:
        address = replace(database, user=account_name(who))
        environment = {"IMAGEFACTORY_DATABASE": str(address), "PGPASSFILE": str(folder / who / PGPASS)}
        files[folder / who / PGPASS] = _pgpass(address, passwords[who]).encode()
        if who in SENDS:
            files[folder / who / BROKER_PASSWORD] = f"{broker_passwords[who]}\n".encode()
            environment["IMAGEFACTORY_BROKER"] = str(replace(broker, user=account_name(who)))
            environment["IMAGEFACTORY_BROKER_PASSWORD_FILE"] = str(folder / who / BROKER_PASSWORD)
        lines = [f"{name}={shlex.quote(value)}\n" for name, value in environment.items()]
        files[folder / who / ENVIRONMENT] = "".join(lines).encode()
    document = definitions(broker.vhost, broker_passwords)
    files[folder / DEFINITIONS] = json.dumps(document, indent=2).encode() + b"\n"
    return Secrets(folder, passwords, broker_passwords, files)


def _known(path: Path, before: str = "") -> str:
    """The password in a file, which is one line, or a new one. Raises UsageError."""
    found = _read(path)
    if found is None:
        return secrets.token_urlsafe(ENTROPY)
    lines = found.decode("utf-8", "replace").splitlines()
    password = lines[0].rpartition(before)[2] if before and lines else "".join(lines[:1])
    if len(lines) != 1 or not password or not set(password) <= _LETTERS:
        raise UsageError(
            f"{str(path)!r} is not as `service init` has written it", advice="move it away: a new one is made then"
        )
    return password


_LETTERS: Final = frozenset("ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789-_")


def _pgpass(address: DatabaseUrl, password: str) -> str:
    """A line of libpq's password file (PostgreSQL 15, 34.16). A socket's directory may have another name there."""
    host = "*" if address.host.startswith("/") else address.host
    fields = (host, str(address.port), address.name, address.user)
    escaped = [each.replace("\\", "\\\\").replace(":", "\\:") for each in fields]
    return ":".join([*escaped, password]) + "\n"


def _read(path: Path) -> bytes | None:
    """Raises UsageError."""
    try:
        with path.open("rb") as stream:
            return stream.read(MOST_BYTES)
    except FileNotFoundError:
        return None
    except OSError as why:
        advice = "let somebody do this who may read what is there: root, say"
        raise UsageError(f"{str(path)!r} cannot be read: {why.strerror}", advice=advice) from None


def _replace(path: Path, content: bytes) -> None:
    scratch = path.with_name(f".{path.name}.new")
    scratch.unlink(missing_ok=True)
    write_new(scratch, content)
    if path.exists():
        before = path.stat()
        os.chown(scratch, before.st_uid, before.st_gid)
    scratch.rename(path)
    sync_directory(path.parent)
