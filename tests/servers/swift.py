"""A real S3 on loopback: OpenStack Swift with its S3 interface, users of its own, one replica on one disk."""

import os
import pwd
import secrets
import socket
import subprocess
import time
from collections.abc import Iterator, Mapping
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import botocore.session
from botocore.config import Config

from tests.openstack.install import ROOT, Say, install
from tests.servers.errors import ServerError, tail

HOST = "127.0.0.1"
HERE = Path(__file__).parent
VENV = ROOT / ".venv-swift"
LOCK = HERE / "swift.lock"
REGION = "us-east-1"
OWNER, STRANGER = "test:owner", "test:stranger"  # who may do everything, and who may do nothing
START_TIMEOUT = 60.0  # seconds: 2 on a quiet machine
STOP_TIMEOUT = 15.0
SERVERS = ("account", "container", "object", "proxy")


@dataclass
class S3:
    """A Swift and what a test may do to it. Its data are in `directory`, and survive stop()."""

    directory: Path
    ports: Mapping[str, int]
    secrets: Mapping[str, str] = field(repr=False)  # by user
    _processes: dict[str, subprocess.Popen[bytes]] = field(default_factory=dict, repr=False)

    @property
    def endpoint(self) -> str:
        return f"http://{HOST}:{self.ports['proxy']}"

    def environ(self, user: str = OWNER, secret: str | None = None) -> dict[str, str]:
        """What an S3 client wants to read in its environment."""
        return {
            "AWS_ENDPOINT_URL_S3": self.endpoint,
            "AWS_ACCESS_KEY_ID": user,
            "AWS_SECRET_ACCESS_KEY": self.secrets[user] if secret is None else secret,
            "AWS_DEFAULT_REGION": REGION,
            "AWS_EC2_METADATA_DISABLED": "true",
            "NO_PROXY": HOST,
        }

    def client(self) -> Any:  # noqa: ANN401 - botocore has no types
        """OWNER's."""
        return botocore.session.Session().create_client(
            "s3",
            region_name=REGION,
            endpoint_url=self.endpoint,
            aws_access_key_id=OWNER,
            aws_secret_access_key=self.secrets[OWNER],
            config=Config(
                proxies={},
                request_checksum_calculation="when_required",
                response_checksum_validation="when_required",
            ),
        )

    def start(self) -> None:
        """It answers when this returns. Raises ServerError."""
        for name in SERVERS:
            if name not in self._processes:
                self._processes[name] = self._spawn(name)
        for name in SERVERS:
            self._wait(name)

    def stop(self) -> None:
        """Nothing of it runs any more."""
        for process in self._processes.values():
            process.terminate()
        for process in self._processes.values():
            try:
                process.wait(STOP_TIMEOUT)
            except subprocess.TimeoutExpired:
                process.kill()
                process.wait()
        self._processes.clear()

    def log(self, name: str) -> Path:
        return self.directory / f"{name}.log"

    def _spawn(self, name: str) -> subprocess.Popen[bytes]:
        program, configuration = VENV / "bin" / f"swift-{name}-server", self.directory / f"{name}-server.conf"
        with self.log(name).open("ab") as log:
            return subprocess.Popen(
                ["setpriv", "--pdeathsig", "TERM", "--", str(program), str(configuration), "--verbose"],
                env={"PATH": "/usr/bin:/bin", "LANG": "C.UTF-8", "HOME": str(self.directory)},
                cwd=self.directory,
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=log,
            )

    def _wait(self, name: str) -> None:
        deadline = time.monotonic() + START_TIMEOUT
        while not _listens(self.ports[name]):
            if self._processes[name].poll() is not None or time.monotonic() > deadline:
                self.stop()
                raise ServerError(f"Swift's {name} server does not answer.\n{tail(self.log(name))}")
            time.sleep(0.05)


def prepare(say: Say) -> None:
    """Install what it needs. Raises CloudError."""
    install(say, VENV, LOCK)


@contextmanager
def swift(directory: Path) -> Iterator[S3]:
    """An S3 whose data are in `directory`, which may be new. Nothing of it runs afterwards. Raises ServerError."""
    if not (VENV / "installed").exists():
        raise ServerError("Swift is not installed: python -m tests.servers prepare")
    made = S3(directory, _free_ports(), {user: secrets.token_hex(16) for user in (OWNER, STRANGER)})
    (directory / "devices" / "disk").mkdir(parents=True, exist_ok=True)
    for name, text in _configuration(made).items():
        path = directory / name
        path.touch(0o600)
        path.write_text(text)
    _make_rings(made)
    try:
        made.start()
        yield made
    finally:
        made.stop()


def _configuration(made: S3) -> dict[str, str]:
    """The files of `made.directory`, by name. A server with no workers is one process, and dies when we do."""
    user = pwd.getpwuid(os.getuid()).pw_name

    def default(name: str) -> str:
        return (
            f"[DEFAULT]\nbind_ip = {HOST}\nbind_port = {made.ports[name]}\nworkers = 0\nuser = {user}\n"
            f"swift_dir = {made.directory}\ndevices = {made.directory}/devices\nmount_check = false\n"
            "fallocate_reserve = 0\n"
        )

    files = {
        f"{name}-server.conf": (
            f"{default(name)}[pipeline:main]\npipeline = {name}-server\n[app:{name}-server]\nuse = egg:swift#{name}\n"
        )
        for name in SERVERS
        if name != "proxy"
    }
    files["swift.conf"] = f"[swift-hash]\nswift_hash_path_suffix = {secrets.token_hex(8)}\n"
    files["proxy-server.conf"] = (
        f"{default('proxy')}[pipeline:main]\npipeline = catch_errors gatekeeper s3api tempauth bulk slo proxy-server\n"
        "[app:proxy-server]\nuse = egg:swift#proxy\naccount_autocreate = true\n"
        "[filter:tempauth]\nuse = egg:swift#tempauth\n"
        f"user_{OWNER.replace(':', '_')} = {made.secrets[OWNER]} .admin\n"
        f"user_{STRANGER.replace(':', '_')} = {made.secrets[STRANGER]}\n"
        f"[filter:s3api]\nuse = egg:swift#s3api\nlocation = {REGION}\n"
        + "".join(
            f"[filter:{each}]\nuse = egg:swift#{each}\n" for each in ("catch_errors", "gatekeeper", "bulk", "slo")
        )
    )
    return files


def _make_rings(made: S3) -> None:
    rings = [f"{name}={made.ports[name]}" for name in SERVERS if name != "proxy"]
    log = made.log("rings")
    with log.open("ab") as output:
        argv = [str(VENV / "bin" / "python"), "-P", str(HERE / "swift_rings.py"), str(made.directory), *rings]
        status = subprocess.call(argv, stdin=subprocess.DEVNULL, stdout=output, stderr=output)
    if status != 0:
        raise ServerError(f"Swift's rings cannot be made.\n{tail(log)}")


def _free_ports() -> dict[str, int]:
    """Ports that nobody listens on now, all different."""
    with ExitStack() as stack:
        sockets = [stack.enter_context(socket.socket()) for _ in SERVERS]
        for listener in sockets:
            listener.bind((HOST, 0))
        return {name: listener.getsockname()[1] for name, listener in zip(SERVERS, sockets, strict=True)}


def _listens(port: int) -> bool:
    with socket.socket() as client:
        client.settimeout(5)
        return client.connect_ex((HOST, port)) == 0
