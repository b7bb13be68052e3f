"""The service to play with: PostgreSQL, RabbitMQ, a worker of each role and a beat, on loopback.

A process of its own keeps all of them, and takes them with it when it ends. What they have done is found again at the
next start; only messages are not, because a beat tells of everything anew.
"""

import os
import shlex
import shutil
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from types import MappingProxyType

from imagefactory.settings import read_settings
from imagefactory.store.grants import OPERATOR
from tests.openstack.install import ROOT
from tests.servers import debian, postgres, rabbitmq
from tests.servers.errors import ServerError, tail
from tests.servers.postgres_fixtures import Place
from tests.servers.rabbitmq_fixtures import VirtualHost
from tests.servers.team import ACCOUNTS, COMMAND, GROUP, SYSUSERS, Team, working

Say = Callable[[str], None]

START_TIMEOUT = 180.0  # seconds: 25 on a quiet machine
STOP_TIMEOUT = 120.0
NAME = "imagefactory"  # of the database, and of the virtual host
SHOWN = ("IMAGEFACTORY_", "PGPASSFILE")


def up(directory: Path, say: Say) -> None:
    """Have the service running in `directory`. Does only what is not done yet. Raises ServerError."""
    if os.getuid() != 0:
        raise ServerError("Only root can start workers under accounts of their own: sudo make service")
    _require_reachable()
    debian.install((*postgres.PACKAGES, *rabbitmq.PACKAGES), say)
    debian.make_accounts(SYSUSERS, say)
    directory.mkdir(mode=0o755, exist_ok=True)
    if running(directory) is None:
        say("Starting PostgreSQL, RabbitMQ, a worker of each role and a beat")
        _start(directory)
    say(f"The service is up. To use it: {wrapper(directory)}")


def down(directory: Path, say: Say, *, purge: bool = False) -> None:
    """Stop it; with `purge`, forget it. Raises ServerError."""
    pid = running(directory)
    if pid is not None:
        os.kill(pid, signal.SIGTERM)
        _wait(lambda: running(directory) is None, STOP_TIMEOUT, f"The service (process {pid}) does not stop.")
        say("Stopped the service")
    if purge:
        shutil.rmtree(directory, ignore_errors=True)
        say(f"Removed {directory}")


def keep(directory: Path) -> None:
    """Be the process that keeps it, until SIGTERM."""
    stop = threading.Event()
    signal.signal(signal.SIGTERM, lambda *_: stop.set())
    with everybody(directory, ROOT / "recipes") as team:
        team.start()
        _write_wrapper(directory, team.environ(OPERATOR))
        _pid_file(directory).write_text(str(os.getpid()))
        stop.wait()
    _pid_file(directory).unlink()


def running(directory: Path) -> int | None:
    """The process that keeps it, if there is one. A process that merely got its number is not it."""
    try:
        pid = int(_pid_file(directory).read_text())
        argv = Path(f"/proc/{pid}/cmdline").read_bytes().split(b"\0")
    except (OSError, ValueError):
        return None
    return pid if str(directory).encode() in argv and b"keep" in argv else None


def wrapper(directory: Path) -> Path:
    """The command line of whoever asks the service for something."""
    return directory / "imagefactory"


@contextmanager
def everybody(
    directory: Path, recipes: Path, more: Mapping[str, Mapping[str, str]] = MappingProxyType({})
) -> Iterator[Team]:
    """Servers, and a team of which nobody has started yet, with keys for development; `more` is what some roles have
    in their environment. Who publishes has the clouds of OS_CLIENT_CONFIG_FILE. Raises ServerError."""
    environment = {key: value for key, value in os.environ.items() if not key.startswith(("OS_", "IMAGEFACTORY_"))}
    home, clouds = directory / "home", os.environ.get("OS_CLIENT_CONFIG_FILE")
    settings = read_settings({**environment, "IMAGEFACTORY_HOME": str(home)})
    shutil.rmtree(directory / "rabbitmq", ignore_errors=True)
    if clouds:
        publishing = {**more.get("publish", {}), "OS_CLIENT_CONFIG_FILE": _of_publisher(directory, Path(clouds))}
        more = {**more, "publish": publishing}
    with (
        postgres.postgres(directory / "postgres") as database,
        rabbitmq.rabbitmq(directory / "rabbitmq") as broker,
    ):
        if not database.has(NAME):
            database.database(NAME)
            subprocess.run([*COMMAND, "keys", "init", "--development"], env=settings.environ, check=True)
        place, vhost = Place(database, NAME), VirtualHost(broker, NAME)
        with working(Team(settings, place, vhost, directory / "service", environment, recipes, more=more)) as team:
            yield team


def _of_publisher(directory: Path, clouds: Path) -> str:
    """The credentials of clouds, for who publishes alone."""
    copy = directory / "clouds.yaml"
    copy.touch(0o600)
    copy.write_bytes(clouds.read_bytes())
    os.chown(copy, ACCOUNTS["publish"], GROUP)
    return str(copy)


def _write_wrapper(directory: Path, environ: Mapping[str, str]) -> None:
    """For whoever has started it, who has the passwords of people from then on."""
    caller = int(os.environ.get("SUDO_UID", "0"))
    mine = Path(environ["IMAGEFACTORY_HOME"])
    for path in (mine, *mine.iterdir(), Path(environ["PGPASSFILE"])):
        os.chown(path, caller, -1)
    lines = [f"export {name}={shlex.quote(value)}" for name, value in environ.items() if name.startswith(SHOWN)]
    made = wrapper(directory)
    made.write_text("\n".join(["#!/bin/sh", *lines, f'exec {shlex.join(COMMAND)} "$@"', ""]))
    made.chmod(0o755)


def _start(directory: Path) -> None:
    log = directory / "log"
    _pid_file(directory).unlink(missing_ok=True)
    with log.open("ab") as stream:
        process = subprocess.Popen(
            [sys.executable, "-m", "tests.servers", "keep", "--state", str(directory)],
            cwd=ROOT,
            stdin=subprocess.DEVNULL,
            stdout=stream,
            stderr=stream,
            start_new_session=True,
        )

    def begun() -> bool:
        if process.poll() is not None:
            raise ServerError(f"The service did not start.\n{tail(log)}")
        return running(directory) is not None

    try:
        _wait(begun, START_TIMEOUT, f"The service does not start.\n{tail(log)}")
    except BaseException:
        process.terminate()
        raise


def _require_reachable() -> None:
    """Raises ServerError where accounts of workers cannot read what they are to run."""
    account = ACCOUNTS["test"]
    argv = ["setpriv", f"--reuid={account}", f"--regid={GROUP}", "--clear-groups", "--", *COMMAND, "--version"]
    if subprocess.run(argv, cwd="/", env={"PATH": "/usr/bin:/bin"}, capture_output=True, check=False).returncode:
        raise ServerError(
            f"Workers have accounts of their own, and cannot run what is in {ROOT}: clone it to a place that everybody "
            "may read, such as /srv/imagefactory"
        )


def _pid_file(directory: Path) -> Path:
    return directory / "pid"


def _wait(what: Callable[[], bool], seconds: float, otherwise: str) -> None:
    until = time.monotonic() + seconds
    while not what():
        if time.monotonic() > until:
            raise ServerError(otherwise)
        time.sleep(0.1)
