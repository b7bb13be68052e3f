"""What a cloud remembers between `up` and `up`: its ports and its secrets, in a directory that only its user reads."""

import base64
import errno
import json
import os
import secrets
import socket
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from pathlib import Path

from tests.openstack.errors import CloudError

HOST = "127.0.0.1"
SERVERS = ("keystone", "barbican", "glance")
USERS = ("admin", "publisher", "member", "reader", "tenant")
SERVICE_USERS = ("barbican", "glance")
# Below what the kernel hands out to connections, so that a server that was stopped finds its port free again.
PORTS = range(20000, 32000)
FOLDERS = ("db", "etc", "home/.barbican", "keys/fernet", "keys/credential", "lock", "log", "run", "derived")
GLANCE_FOLDERS = ("glance/images", "glance/staging", "glance/tasks")


@dataclass(frozen=True)
class State:
    """One cloud."""

    directory: Path
    ports: Mapping[str, int]
    passwords: Mapping[str, str] = field(repr=False)
    key_encryption_key: str = field(repr=False)
    name: str = "demo"  # which its entries of clouds.yaml begin with

    def url(self, server: str) -> str:
        return f"http://{HOST}:{self.ports[server]}"

    @property
    def auth_url(self) -> str:
        return self.url("keystone") + "/v3"

    def file(self, *names: str) -> Path:
        return self.directory.joinpath(*names)

    def log(self, name: str) -> Path:
        return self.file("log", f"{name}.log")

    @property
    def clouds_yaml(self) -> Path:
        return self.file("clouds.yaml")


def is_state(directory: Path) -> bool:
    return (directory / "state.json").is_file()


def read_state(directory: Path) -> State:
    """Raises CloudError where no cloud was made."""
    if not is_state(directory):
        raise CloudError(f"There is no cloud in {directory}.")
    return State(directory, **json.loads((directory / "state.json").read_text()))


def make_state(directory: Path, name: str = "demo") -> State:
    """What is in `directory`, or new ports and secrets there for a cloud called `name`."""
    directory = directory.absolute()
    for folder in ("", *FOLDERS, *GLANCE_FOLDERS):
        (directory / folder).mkdir(mode=0o700, parents=True, exist_ok=True)
    if is_state(directory):
        return read_state(directory)
    for folder in ("fernet", "credential"):
        # What `keystone-manage fernet_setup` would make: the next key is 0, the one in use is the highest.
        for number in ("0", "1"):
            write(directory / "keys" / folder / number, base64.urlsafe_b64encode(secrets.token_bytes(32)).decode())
    state = State(
        directory,
        dict(zip(SERVERS, free_ports(len(SERVERS)), strict=True)),
        {user: secrets.token_hex(16) for user in (*USERS, *SERVICE_USERS)},
        base64.b64encode(secrets.token_bytes(32)).decode(),
        name,
    )
    known = asdict(state)
    del known["directory"]
    write(directory / "state.json", json.dumps(known, indent=2))
    return state


def free_ports(count: int) -> list[int]:
    ports: list[int] = []
    while len(ports) < count:
        port = secrets.choice(PORTS)
        if port not in ports and is_free(port):
            ports.append(port)
    return ports


def is_free(port: int) -> bool:
    with socket.socket() as listener:
        listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            listener.bind((HOST, port))
        except OSError as error:
            if error.errno != errno.EADDRINUSE:
                raise
            return False
    return True


def write(path: Path, text: str) -> None:
    """Whole or not at all, and for this user only."""
    new = path.with_name(f"{path.name}.new")
    new.unlink(missing_ok=True)
    with os.fdopen(os.open(new, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600), "w") as file:
        file.write(text)
    new.rename(path)
