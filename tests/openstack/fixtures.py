"""The session's cloud. It starts when the first test asks for it, and dies with the session however that ends."""

import itertools
import os
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from datetime import UTC, datetime
from pathlib import Path

import pytest
from openstack.connection import Connection
from openstack.identity.v3._proxy import Proxy

from tests.openstack.cloud import prepare, up
from tests.openstack.clouds import Entry, connect, entries, write_clouds
from tests.openstack.servers import Server, start, stop_ours, wait
from tests.openstack.state import HOST, State

_numbers = itertools.count(1)


@dataclass(frozen=True)
class Cloud:
    """Keystone, Glance and Barbican, and what a test may do to them. Others use them too: leave them running."""

    clouds_yaml: Path
    identity_url: str
    image_url: str
    key_manager_url: str
    store: Path  # Glance's images, each a file named by its id
    _state: State
    _servers: dict[str, Server] = field(repr=False)
    _clouds: dict[str, Entry] = field(repr=False)

    def connect(self, name: str | None = None) -> Connection:
        """As one of the entries of clouds.yaml. Use it in a `with`."""
        return connect(self.clouds_yaml, name or self._state.name)

    def log(self, name: str) -> str:
        """What `keystone`, `glance` or `barbican` wrote; with `-access`, its requests."""
        return self._state.log(name).read_text(errors="replace")

    def stop(self, name: str) -> None:
        """Nothing listens there any more."""
        stop_ours([self._servers[name]])

    def start(self, name: str) -> None:
        """Where it was before; it answers when this returns."""
        self._servers[name] = start(self._state, name, die_with_us=True)
        wait(self._state, self._servers[name])

    def user_id(self, name: str) -> str:
        """Of the user `publisher` (who is `demo`), `member`, `reader`, `tenant` or `admin`."""
        with self.connect(f"{self._state.name}-admin") as cloud:
            return str(_keystone(cloud).find_user(name, ignore_missing=False).id)

    def project_id(self, name: str) -> str:
        """Of the project `soe`, `tenant` or `admin`."""
        with self.connect(f"{self._state.name}-admin") as cloud:
            return str(_keystone(cloud).find_project(name, ignore_missing=False).id)

    def application_credential(self, cloud: str = "demo", expires_at: datetime | None = None) -> str:
        """Give the user of `cloud` an application credential. The name of its entry, which is new in clouds.yaml."""
        name = f"{cloud}-credential-{next(_numbers)}"
        with self.connect(cloud) as connection:
            expiry = {} if expires_at is None else {"expires_at": _keystone_time(expires_at)}
            user_id = connection.current_user_id or ""
            made = _keystone(connection).create_application_credential(user_id, name, **expiry)
        self._clouds[name] = {
            "auth_type": "v3applicationcredential",
            "auth": {
                "auth_url": self.identity_url,
                "application_credential_id": made.id,
                "application_credential_secret": made.secret,
            },
            "region_name": self._clouds[cloud]["region_name"],
        }
        write_clouds(self.clouds_yaml, self._clouds)
        return name

    def with_image_endpoint(self, url: str | None, cloud: str = "demo", *, key_manager: str | None = None) -> Path:
        """Another clouds.yaml, in which `cloud` finds Glance at `url`, and Barbican at `key_manager`.

        None is where it is. The other entries are as they are.
        """
        overrides = {"image_endpoint_override": url, "key_manager_endpoint_override": key_manager}
        changed = self._clouds[cloud] | {key: value for key, value in overrides.items() if value is not None}
        path = self._state.file("derived", f"clouds-{next(_numbers)}.yaml")
        write_clouds(path, self._clouds | {cloud: changed})
        return path

    def with_image_endpoints(self, urls: Mapping[str, str]) -> Path:
        """Another clouds.yaml, in which each of the clouds finds Glance at its URL."""
        changed = {cloud: self._clouds[cloud] | {"image_endpoint_override": url} for cloud, url in urls.items()}
        path = self._state.file("derived", f"clouds-{next(_numbers)}.yaml")
        write_clouds(path, self._clouds | changed)
        return path


@pytest.fixture(scope="session")
def cloud(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Cloud]:
    """A real cloud on loopback. The first ever takes a minute or two to install."""
    writer = request.config.get_terminal_writer()
    with pytest.MonkeyPatch.context() as patch:
        # A proxy for the world outside is none for loopback.
        for variable in ("no_proxy", "NO_PROXY"):
            patch.setenv(variable, ",".join(filter(None, (os.environ.get(variable), HOST))))
        prepare(lambda line: writer.line(f"\n{line}"))
        with _running(tmp_path_factory.mktemp("cloud"), "demo", None) as made:
            yield made


@pytest.fixture(scope="session")
def second_cloud(cloud: Cloud, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Cloud]:
    """Another one, `second`, that shares nothing with the first. Its clouds.yaml has the entries of both."""
    with _running(tmp_path_factory.mktemp("second"), "second", cloud._state) as made:
        yield made


@contextmanager
def _running(directory: Path, name: str, beside: State | None) -> Iterator[Cloud]:
    state, servers = up(directory, lambda _: None, name=name, beside=beside, die_with_us=True)
    made = Cloud(
        clouds_yaml=state.clouds_yaml,
        identity_url=state.auth_url,
        image_url=state.url("glance"),
        key_manager_url=state.url("barbican"),
        store=state.file("glance", "images"),
        _state=state,
        _servers={server.name: server for server in servers},
        _clouds={**(entries(beside) if beside else {}), **entries(state)},
    )
    try:
        yield made
    finally:
        stop_ours(made._servers.values())


def _keystone(connection: Connection) -> Proxy:
    assert isinstance(connection.identity, Proxy)
    return connection.identity


def _keystone_time(moment: datetime) -> str:
    return moment.astimezone(UTC).strftime("%Y-%m-%dT%H:%M:%S.%f")
