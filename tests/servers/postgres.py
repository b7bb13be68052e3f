"""A real PostgreSQL on loopback, as an ordinary user, without a service manager."""

import os
import pwd
import secrets
import shutil
import signal
import socket
import subprocess
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from urllib.parse import quote

import psycopg
from psycopg import sql

from tests.servers.debian import installed
from tests.servers.directories import open_to_others
from tests.servers.errors import ServerError, tail

PACKAGES = ("postgresql",)
HOST = "127.0.0.1"
PROGRAMS = Path("/usr/lib/postgresql")  # with a directory for each version
ADMIN = "postgres"
PASSFILE = "passwords"
START_TIMEOUT = 60.0  # seconds: 1 on a quiet machine
STOP_TIMEOUT = 30.0
# What was committed survives SIGKILL, and does not have to survive the machine. What SIGKILL leaves behind is in the
# directory, but for one segment of shared memory, which close() takes away.
OPTIONS = {
    "listen_addresses": HOST,
    "fsync": "off",
    "full_page_writes": "off",
    "shared_buffers": "16MB",
    "max_connections": "60",
    "dynamic_shared_memory_type": "mmap",
    "autovacuum": "off",
    "lc_messages": "C",
}


@dataclass
class Postgres:
    """A PostgreSQL and what a test may do to it. Its data are in `directory`, and survive stop() and kill()."""

    directory: Path
    port: int
    password: str = field(repr=False)  # of ADMIN, who may do everything
    _server: subprocess.Popen[bytes] | None = None

    def url(self, user: str = ADMIN, database: str = ADMIN) -> str:
        """As IMAGEFACTORY_DATABASE has it: the password is in a file."""
        return f"postgresql://{user}@{HOST}:{self.port}/{database}?passfile={quote(str(self.passfile))}"

    @property
    def passfile(self) -> Path:
        return self.directory / PASSFILE

    @property
    def log(self) -> Path:
        return self.directory / "server.log"

    @property
    def data(self) -> Path:
        return self.directory / "data"

    @property
    def running(self) -> bool:
        return self._server is not None and self._server.poll() is None

    def start(self) -> None:
        """It answers when this returns. Raises ServerError."""
        if self.running:
            return
        options = {**OPTIONS, "port": str(self.port), "unix_socket_directories": str(self.data)}
        settings = [word for name, value in options.items() for word in ("-c", f"{name}={value}")]
        # The kernel forgets who asked for a signal when a process changes its user: that comes first. QUIT is what lets
        # PostgreSQL take everything with it at once.
        guard = (*as_nobody(), "setpriv", "--pdeathsig", "QUIT", "--")
        with self.log.open("ab") as log:
            self._server = subprocess.Popen(
                [*guard, str(program("postgres")), "-D", str(self.data), *settings],
                env=environment(self.directory),
                cwd=self.directory,
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=log,
                start_new_session=True,
            )
        deadline = time.monotonic() + START_TIMEOUT
        while not self._answers():
            if not self.running or time.monotonic() > deadline:
                self.close()
                raise ServerError(f"PostgreSQL does not answer.\n{tail(self.log)}")
            time.sleep(0.02)

    def stop(self) -> None:
        """As an administrator stops it, who throws everybody out."""
        self._end(signal.SIGINT)

    def restart(self) -> None:
        self.stop()
        self.start()

    def kill(self) -> None:
        """As the kernel ends it that has no memory left: it repairs itself at the next start."""
        self._end(signal.SIGKILL)

    def close(self) -> None:
        """Nothing of it is left but its directory."""
        self._end(signal.SIGQUIT)
        for number in memory_segments(self.data):
            subprocess.run(["ipcrm", "-m", number], capture_output=True, check=False)

    def has(self, name: str) -> bool:
        """Whether there is such a database."""
        with psycopg.connect(self.url()) as connection:
            return connection.execute("SELECT FROM pg_database WHERE datname = %s", [name]).rowcount == 1

    def database(self, name: str, template: str = "template0") -> str:
        """Make a database; its URL for ADMIN. Nobody may be connected to the template."""
        self.execute(sql.SQL("CREATE DATABASE {} TEMPLATE {}").format(sql.Identifier(name), sql.Identifier(template)))
        return self.url(database=name)

    def drop(self, name: str) -> None:
        """Whoever is connected to it is thrown out."""
        self.execute(sql.SQL("DROP DATABASE IF EXISTS {} WITH (FORCE)").format(sql.Identifier(name)))

    def add_user(self, name: str) -> None:
        """Somebody who may log in, and whose password is where url() says; nothing else is granted."""
        password = secrets.token_hex(16)
        self.execute(sql.SQL("CREATE ROLE {} LOGIN PASSWORD {}").format(sql.Identifier(name), sql.Literal(password)))
        remember(self, name, password)

    def delete_user(self, name: str) -> None:
        """Who owns nothing, and was granted nothing."""
        self.execute(sql.SQL("DROP ROLE {}").format(sql.Identifier(name)))

    def execute(self, statement: sql.SQL | sql.Composed, database: str = ADMIN) -> None:
        """One statement of ADMIN's, outside of any transaction."""
        with psycopg.connect(self.url(database=database), autocommit=True) as connection:
            connection.execute(statement)

    def pids(self) -> list[int]:
        """Its processes, the first of which is the parent of the others."""
        if self._server is None or self._server.poll() is not None:
            return []
        pid = self._server.pid
        return [pid, *map(int, Path(f"/proc/{pid}/task/{pid}/children").read_text().split())]

    def _answers(self) -> bool:
        try:
            psycopg.connect(self.url(), connect_timeout=5).close()
        except psycopg.OperationalError:
            return False
        return True

    def _end(self, number: signal.Signals) -> None:
        family, server, self._server = self.pids(), self._server, None
        if server is None:
            return
        server.send_signal(number)
        try:
            server.wait(STOP_TIMEOUT)
        except subprocess.TimeoutExpired:
            server.kill()
            server.wait()
        # Those whose parent was killed see that by themselves, and nothing can start before they are gone.
        deadline = time.monotonic() + STOP_TIMEOUT
        while any(alive(pid) for pid in family):
            if time.monotonic() > deadline:
                raise ServerError(f"PostgreSQL cannot be stopped.\n{tail(self.log)}")
            time.sleep(0.01)


@contextmanager
def postgres(directory: Path) -> Iterator[Postgres]:
    """A PostgreSQL whose data are in `directory`, which may be new. Nothing of it runs afterwards. Raises
    ServerError."""
    missing = [package for package in PACKAGES if not installed(package)]
    if missing:
        raise ServerError(f"{', '.join(missing)} is not installed: python -m tests.servers prepare")
    directory.mkdir(parents=True, exist_ok=True)
    server = Postgres(directory, free_port(), _password(directory) or secrets.token_hex(16))
    if server.data.exists():
        remember(server, ADMIN, server.password)
    else:
        make(server)
    try:
        server.start()
        yield server
    finally:
        server.close()


def _password(directory: Path) -> str | None:
    """Of ADMIN, if somebody made a cluster there."""
    file = directory / PASSFILE
    lines = file.read_text().splitlines() if file.exists() else []
    return next((line.rpartition(":")[2] for line in lines if line.split(":")[3] == ADMIN), None)


def make(server: Postgres) -> None:
    """An empty cluster, to which nobody gets without a password. Raises ServerError."""
    server.passfile.touch(0o600)
    remember(server, ADMIN, server.password)
    password = server.directory / "password"
    password.touch(0o600)
    password.write_text(server.password)
    server.data.mkdir(0o700)
    if os.getuid() == 0:
        open_to_others(server.directory)
        for path in (server.data, password):
            shutil.chown(path, *account())
    argv = [str(program("initdb")), "-D", str(server.data), "-U", ADMIN, "-E", "UTF8", "--locale=C.UTF-8", "--no-sync"]
    argv += ["--auth=scram-sha-256", "--pwfile", str(password)]
    with server.log.open("ab") as log:
        status = subprocess.call(
            [*as_nobody(), *argv],
            env=environment(server.directory),
            cwd=server.directory,
            stdin=subprocess.DEVNULL,
            stdout=log,
            stderr=log,
        )
    password.unlink()
    if status != 0:
        raise ServerError(f"initdb failed with status {status}.\n{tail(server.log)}")


def remember(server: Postgres, user: str, password: str) -> None:
    """libpq takes the first line that fits: an earlier user of that name goes."""
    beginning = f"{HOST}:{server.port}:*:{user}:"
    others = [line for line in server.passfile.read_text().splitlines() if not line.startswith(beginning)]
    server.passfile.write_text("\n".join([*others, f"{beginning}{password}", ""]))


def program(name: str) -> Path:
    """The newest one: Debian puts none of them in PATH. Raises ServerError."""
    found = sorted(PROGRAMS.glob(f"*/bin/{name}"), key=lambda path: int(path.parts[-3]))
    if not found:
        raise ServerError(f"there is no {name} in {PROGRAMS}: python -m tests.servers prepare")
    return found[-1]


def environment(directory: Path) -> dict[str, str]:
    """All that its programs see."""
    return {"PATH": "/usr/sbin:/usr/bin:/sbin:/bin", "LANG": "C.UTF-8", "HOME": str(directory), "TZ": "UTC"}


def as_nobody() -> Sequence[str]:
    """The beginning of a command of root's that gives up everything: PostgreSQL refuses to run as root."""
    if os.getuid() != 0:
        return ()
    uid, gid = account()
    return ("setpriv", f"--reuid={uid}", f"--regid={gid}", "--clear-groups", "--no-new-privs", "--bounding-set=-all")


def account() -> tuple[int, int]:
    """The package's own user, who owns nothing in the directories of tests but the server's."""
    entry = pwd.getpwnam("postgres")
    return entry.pw_uid, entry.pw_gid


def free_port() -> int:
    """One that nobody listens on now."""
    with socket.socket() as listener:
        listener.bind((HOST, 0))
        port: int = listener.getsockname()[1]
        return port


def memory_segments(data: Path) -> list[str]:
    """The segment of shared memory of the server that runs in `data`, or was killed there."""
    pid_file = data / "postmaster.pid"
    lines = pid_file.read_text().splitlines() if pid_file.exists() else []
    return [line.split()[1] for line in lines[6:7]]  # the seventh line: key and number


def alive(pid: int) -> bool:
    """Whether it does anything; in a container without an init, nobody asks for the status of the dead."""
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] != "Z"
    except OSError:
        return False
