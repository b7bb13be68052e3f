"""A real RabbitMQ on loopback, as an ordinary user, without a service manager.

It has a mapper of names (epmd) of its own, which is started here and not by Erlang: nothing outlives whoever asked.
"""

import http.client
import json
import os
import pwd
import shutil
import signal
import socket
import subprocess
import time
from base64 import b64encode
from collections.abc import Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from urllib.parse import quote

from tests.servers.debian import installed
from tests.servers.errors import ServerError, tail

PACKAGES = ("rabbitmq-server",)
HOST = "127.0.0.1"
PROGRAMS = Path("/usr/lib/rabbitmq/bin")  # those in /usr/sbin refuse whoever is neither root nor their own user
ADMIN = "guest"
START_TIMEOUT = 120.0  # seconds: 8 on a quiet machine
STOP_TIMEOUT = 30.0
CTL_TIMEOUT = 60.0
PORTS = ("amqp", "management", "distribution", "epmd")


@dataclass
class Broker:
    """A RabbitMQ and what a test may do to it. Its data are in `directory`, and survive stop() and kill()."""

    directory: Path
    ports: Mapping[str, int]
    password: str = field(repr=False, default="guest")  # of ADMIN, who may do everything in every virtual host
    _epmd: subprocess.Popen[bytes] | None = None
    _server: subprocess.Popen[bytes] | None = None

    def url(self, vhost: str = "/", user: str = ADMIN) -> str:
        """Without a password, as IMAGEFACTORY_BROKER has it."""
        return f"amqp://{user}@{HOST}:{self.ports['amqp']}/{quote(vhost, safe='')}"

    @property
    def running(self) -> bool:
        return self._server is not None and self._server.poll() is None

    @property
    def log(self) -> Path:
        return self.directory / "server.log"

    def start(self) -> None:
        """It answers when this returns. Raises ServerError."""
        if self._epmd is None or self._epmd.poll() is not None:
            self._epmd = self._spawn(["epmd", "-address", HOST, "-port", str(self.ports["epmd"])])
            self._wait("epmd", self._epmd)
        if not self.running:
            self._server = self._spawn([str(PROGRAMS / "rabbitmq-server"), "-noinput"])
            self._wait("management", self._server)
            self._wait("amqp", self._server)

    def stop(self) -> None:
        """As an administrator stops it: messages that were confirmed are there again after start()."""
        self._end(signal.SIGTERM)

    def kill(self) -> None:
        """As a power failure stops it."""
        self._end(signal.SIGKILL)

    def close(self) -> None:
        """Nothing of it is left but its directory."""
        self.kill()
        if self._epmd is not None:
            self._epmd.kill()
            self._epmd.wait()
            self._epmd = None

    def empty(self, vhost: str = "/") -> None:
        """Delete every message that no consumer holds."""
        for queue in self.queues(vhost):
            self.api("DELETE", "queues", vhost, queue, "contents")

    def queues(self, vhost: str = "/") -> dict[str, int]:
        """How many messages each queue has: counted now, unlike in the management's statistics."""
        said = self.ctl("list_queues", "--vhost", vhost, "--formatter", "json", "name", "messages")
        return {queue["name"]: queue["messages"] for queue in json.loads(said)}

    def add_vhost(self, name: str) -> None:
        self.api("PUT", "vhosts", name)
        self.allow(name, ADMIN)

    def delete_vhost(self, name: str) -> None:
        self.api("DELETE", "vhosts", name)

    def add_user(self, name: str, password: str) -> None:
        self.api("PUT", "users", name, body={"password": password, "tags": ""})

    def delete_user(self, name: str) -> None:
        self.api("DELETE", "users", name)

    def allow(self, vhost: str, user: str, configure: str = ".*", write: str = ".*", read: str = ".*") -> None:
        """Regular expressions of names, as RabbitMQ has them."""
        body = {"configure": configure, "write": write, "read": read}
        self.api("PUT", "permissions", vhost, user, body=body)

    def api(self, method: str, *path: str, body: object = None) -> bytes:
        """Ask the management's HTTP interface. Raises ServerError when it does not do it."""
        connection = http.client.HTTPConnection(HOST, self.ports["management"], timeout=30)
        try:
            token = b64encode(f"{ADMIN}:{self.password}".encode()).decode()
            headers = {"Authorization": f"Basic {token}", "Content-Type": "application/json"}
            where = "/api/" + "/".join(quote(part, safe="") for part in path)
            connection.request(method, where, None if body is None else json.dumps(body), headers)
            answer = connection.getresponse()
            said = answer.read()
        finally:
            connection.close()
        if answer.status >= 300:
            raise ServerError(f"{method} {where}: {answer.status} {said.decode(errors='replace')[:500]}")
        return said

    def ctl(self, *arguments: str, input_: bytes = b"") -> str:
        """What rabbitmqctl says. Raises ServerError."""
        done = subprocess.run(
            [*as_nobody(), str(PROGRAMS / "rabbitmqctl"), "--quiet", *arguments],
            env=environment(self.directory, self.ports),
            input=input_,
            capture_output=True,
            timeout=CTL_TIMEOUT,
            check=False,
        )
        if done.returncode != 0:
            said = (done.stdout + done.stderr).decode(errors="replace")
            raise ServerError(f"rabbitmqctl {arguments[0]} failed with status {done.returncode}.\n{said[-2000:]}")
        return done.stdout.decode()

    def pids(self) -> list[int]:
        """Its two processes, as far as they run."""
        return [process.pid for process in (self._epmd, self._server) if process is not None and process.poll() is None]

    def _spawn(self, argv: Sequence[str]) -> subprocess.Popen[bytes]:
        # The kernel forgets who asked for a signal when a process changes its user: that comes first.
        with self.log.open("ab") as log:
            return subprocess.Popen(
                [*as_nobody(), "setpriv", "--pdeathsig", "KILL", "--", *argv],
                env=environment(self.directory, self.ports),
                cwd=self.directory,
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=log,
                start_new_session=True,
            )

    def _wait(self, port: str, process: subprocess.Popen[bytes]) -> None:
        deadline = time.monotonic() + START_TIMEOUT
        while not listens(self.ports[port]):
            if process.poll() is not None or time.monotonic() > deadline:
                self.close()
                raise ServerError(f"RabbitMQ's {port} does not answer.\n{tail(self.log)}")
            time.sleep(0.05)

    def _end(self, number: signal.Signals) -> None:
        server, self._server = self._server, None
        if server is None:
            return
        server.send_signal(number)
        try:
            server.wait(STOP_TIMEOUT)
        except subprocess.TimeoutExpired:
            server.kill()
            server.wait()


@contextmanager
def rabbitmq(directory: Path) -> Iterator[Broker]:
    """A RabbitMQ whose data are in `directory`, which may be new. Nothing of it runs afterwards. Raises ServerError."""
    missing = [package for package in PACKAGES if not installed(package)]
    if missing:
        raise ServerError(f"{', '.join(missing)} is not installed: python -m tests.servers prepare")
    directory.mkdir(parents=True, exist_ok=True)
    broker = Broker(directory, free_ports())
    write_configuration(broker)
    with ExitStack() as stack:
        stack.callback(broker.close)
        broker.start()
        yield broker


def write_configuration(broker: Broker) -> None:
    directory = broker.directory
    for name in ("data", "logs"):
        (directory / name).mkdir(exist_ok=True)
    (directory / "rabbitmq.conf").write_text(
        f"listeners.tcp.1 = {HOST}:{broker.ports['amqp']}\n"
        f"management.tcp.ip = {HOST}\n"
        f"management.tcp.port = {broker.ports['management']}\n"
        "log.file.level = info\n"
        "disk_free_limit.absolute = 50MB\n"
        "collect_statistics_interval = 60000\n"
    )
    (directory / "enabled_plugins").write_text("[rabbitmq_management].\n")
    (directory / "rabbitmq-env.conf").touch()
    for path in (directory, *directory.rglob("*")) if os.getuid() == 0 else ():
        shutil.chown(path, *account())


def environment(directory: Path, ports: Mapping[str, int]) -> dict[str, str]:
    """All that its programs see: nothing of the system's own RabbitMQ, and no name is looked up anywhere."""
    return {
        "PATH": "/usr/sbin:/usr/bin:/sbin:/bin",
        "LANG": "C.UTF-8",
        "HOME": str(directory),  # where the cookie is that lets rabbitmqctl in
        "ERL_EPMD_ADDRESS": HOST,
        "ERL_EPMD_PORT": str(ports["epmd"]),
        "RABBITMQ_NODENAME": f"test{ports['amqp']}@localhost",
        "RABBITMQ_DIST_PORT": str(ports["distribution"]),
        "RABBITMQ_MNESIA_BASE": str(directory / "data"),
        "RABBITMQ_LOG_BASE": str(directory / "logs"),
        "RABBITMQ_PID_FILE": str(directory / "pid"),
        "RABBITMQ_ENABLED_PLUGINS_FILE": str(directory / "enabled_plugins"),
        "RABBITMQ_CONFIG_FILE": str(directory / "rabbitmq.conf"),
        "RABBITMQ_CONF_ENV_FILE": str(directory / "rabbitmq-env.conf"),
        "RABBITMQ_FEATURE_FLAGS_FILE": str(directory / "feature_flags"),
        "RABBITMQ_ALLOW_INPUT": "1",  # then Erlang takes the place of the shell that starts it, and is our child
        # One that waits for work shall not burn a core; the port for other nodes is nobody's business.
        "RABBITMQ_SERVER_ADDITIONAL_ERL_ARGS": (
            "-start_epmd false +S 2:2 +sbwt none -kernel inet_dist_use_interface {127,0,0,1}"
        ),
        "RABBITMQ_CTL_ERL_ARGS": "-start_epmd false +sbwt none -kernel inet_dist_use_interface {127,0,0,1}",
    }


def as_nobody() -> list[str]:
    """The beginning of a command of root's that gives up everything."""
    if os.getuid() != 0:
        return []
    uid, gid = account()
    return ["setpriv", f"--reuid={uid}", f"--regid={gid}", "--clear-groups", "--no-new-privs", "--bounding-set=-all"]


def account() -> tuple[int, int]:
    """The package's own user, who owns nothing in the directories of tests but the broker's."""
    entry = pwd.getpwnam("rabbitmq")
    return entry.pw_uid, entry.pw_gid


def free_ports() -> dict[str, int]:
    """Ports that nobody listens on now, all different."""
    with ExitStack() as stack:
        sockets = [stack.enter_context(socket.socket()) for _ in PORTS]
        for listener in sockets:
            listener.bind((HOST, 0))
        return {name: listener.getsockname()[1] for name, listener in zip(PORTS, sockets, strict=True)}


def listens(port: int) -> bool:
    with socket.socket() as client:
        client.settimeout(5)
        return client.connect_ex((HOST, port)) == 0
