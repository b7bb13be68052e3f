"""Three servers: started, found again, stopped."""

import http.client
import os
import signal
import subprocess
import time
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path

from tests.openstack.config import environment
from tests.openstack.errors import CloudError, tail
from tests.openstack.install import HERE, VENV
from tests.openstack.state import HOST, State, is_free

START_TIMEOUT = 180.0  # seconds: 4 on a quiet machine
STOP_TIMEOUT = 15.0

APPLICATIONS = {
    "keystone": "keystone_app:application",
    "barbican": "barbican_app:application",
    "glance": "glance.wsgi.api:application",
}
# A page that needs no token.
HOME_PAGES = {"keystone": "/v3", "barbican": "/", "glance": "/"}


@dataclass(frozen=True)
class Server:
    """A server that was started here, or was running already."""

    name: str
    port: int
    process: subprocess.Popen[bytes] | None


def start(state: State, name: str, *, die_with_us: bool) -> Server:
    """Start a server unless it runs; it answers later. It needs no terminal, and no parent unless `die_with_us`."""
    port = state.ports[name]
    if running(state, name) is not None:
        return Server(name, port, None)
    if not is_free(port):
        raise CloudError(f"Port {port}, which was free when this cloud was made, is taken: {name} cannot start.")
    pid_file(state, name).unlink(missing_ok=True)
    guard = ("setpriv", "--pdeathsig", "TERM", "--") if die_with_us else ()
    with state.log(name).open("ab") as log:
        process = subprocess.Popen(
            [*guard, *gunicorn(state, name)],
            env={**environment(state), "PYTHONPATH": str(HERE / "wsgi")},
            cwd=state.directory,
            stdin=subprocess.DEVNULL,
            stdout=log,
            stderr=log,
            start_new_session=True,
        )
    return Server(name, port, process)


def gunicorn(state: State, name: str) -> list[str]:
    options = {
        "bind": f"{HOST}:{state.ports[name]}",
        "name": title(state, name),
        "pid": pid_file(state, name),
        "worker-class": "gthread",
        "workers": 1,
        "threads": 16,
        "timeout": 0,
        "graceful-timeout": 1,
        "keep-alive": 30,
        "worker-tmp-dir": state.file("run"),
        "access-logfile": state.log(f"{name}-access"),
    }
    return [
        str(VENV / "bin" / "gunicorn"),
        *(f"--{option}={value}" for option, value in options.items()),
        "--no-control-socket",
        APPLICATIONS[name],
    ]


def title(state: State, name: str) -> str:
    """What tells our processes from others: gunicorn writes it over its command line."""
    return f"imagefactory-cloud-{name}:{state.directory}"


def pid_file(state: State, name: str) -> Path:
    return state.file("run", f"{name}.pid")


def running(state: State, name: str) -> int | None:
    """The process of a server. A process that merely got its number is not it, nor is one that ended."""
    try:
        pid = int(pid_file(state, name).read_text())
        command_line = Path(f"/proc/{pid}/cmdline").read_text()
    except (OSError, ValueError):
        return None
    return pid if title(state, name) in command_line else None


def wait(state: State, server: Server) -> None:
    """Until a server answers. Raises CloudError if it died or never does."""
    deadline = time.monotonic() + START_TIMEOUT
    while not answers(state, server.name):
        if server.process is not None and server.process.poll() is not None:
            raise CloudError(f"{server.name} did not start.\n{tail(state.log(server.name))}")
        if time.monotonic() > deadline:
            raise CloudError(f"{server.name} does not answer.\n{tail(state.log(server.name))}")
        time.sleep(0.1)


def answers(state: State, name: str) -> bool:
    connection = http.client.HTTPConnection(HOST, state.ports[name], timeout=5)
    try:
        connection.request("GET", HOME_PAGES[name])
        return connection.getresponse().status < 400
    except (OSError, http.client.HTTPException):
        return False
    finally:
        connection.close()


def stop(state: State, name: str) -> bool:
    """Stop a server by its pid file; False if it was not running."""
    pid = running(state, name)
    if pid is None:
        return False
    for number in (signal.SIGQUIT, signal.SIGKILL):
        # A server leads a session of its own, so its workers go with it.
        os.killpg(pid, number)
        deadline = time.monotonic() + STOP_TIMEOUT
        while running(state, name) is not None and time.monotonic() < deadline:
            time.sleep(0.05)
        if running(state, name) is None:
            pid_file(state, name).unlink(missing_ok=True)
            wait_until_free(state.ports[name])
            return True
    raise CloudError(f"{name} (process {pid}) cannot be stopped.")


def stop_ours(servers: Iterable[Server]) -> None:
    """Stop those that were started here, whether or not they have written their pid files yet."""
    ours = [(server.port, server.process) for server in servers if server.process is not None]
    alive = [(port, process) for port, process in ours if process.poll() is None]
    for _, process in alive:
        os.killpg(process.pid, signal.SIGQUIT)
    for port, process in alive:
        try:
            process.wait(STOP_TIMEOUT)
        except subprocess.TimeoutExpired:
            os.killpg(process.pid, signal.SIGKILL)
            process.wait()
        wait_until_free(port)


def wait_until_free(port: int) -> None:
    """A worker, killed by its master or with it, still listens for a moment."""
    deadline = time.monotonic() + STOP_TIMEOUT
    while not is_free(port):
        if time.monotonic() > deadline:
            raise CloudError(f"Something still listens on port {port}.")
        time.sleep(0.02)
