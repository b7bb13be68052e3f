"""A whole cloud in a directory: up, down, status."""

import shutil
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from pathlib import Path

from tests.openstack.clouds import entries, write_clouds
from tests.openstack.config import write_configuration
from tests.openstack.databases import copy_template, make_template
from tests.openstack.identity import bootstrap, fill
from tests.openstack.install import Say, alone, install
from tests.openstack.servers import Server, running, start, stop, stop_ours, wait
from tests.openstack.state import SERVERS, State, is_state, make_state, read_state


def prepare(say: Say) -> None:
    """The slow things, of which every later cloud has the use."""
    install(say)
    make_template(say)


def up(
    directory: Path, say: Say, *, name: str = "demo", beside: State | None = None, die_with_us: bool = False
) -> tuple[State, list[Server]]:
    """Have a cloud running in `directory`, called `name` if it is new. Does only what is not done yet.

    Its clouds.yaml has the entries of the cloud `beside` it, too, with which it shares nothing.
    """
    prepare(say)
    with alone(directory, 0o700):
        state = make_state(directory, name)
        write_configuration(state)
        write_clouds(state.clouds_yaml, {**(entries(beside) if beside else {}), **entries(state)})
        copy_template(state)
        servers: list[Server] = []
        with ExitStack() as half_way:
            half_way.callback(stop_ours, servers)
            for server in start_all(state, say, die_with_us=die_with_us):
                servers.append(server)
            for server in servers:
                wait(state, server)
            once(state, "filled", fill)
            half_way.pop_all()
    return state, servers


def start_all(state: State, say: Say, *, die_with_us: bool) -> Iterator[Server]:
    # Keystone last: the others begin to work while it is given its administrator.
    for name in ("glance", "barbican", "keystone"):
        if name == "keystone":
            once(state, "bootstrapped", bootstrap)
        if running(state, name) is None:
            say(f"Starting {name} on {state.url(name)}")
        yield start(state, name, die_with_us=die_with_us)


def once(state: State, name: str, step: Callable[[State], None]) -> None:
    """Do `step` unless it was done to the end."""
    done = state.file("run", f"{name}.done")
    if not done.exists():
        step(state)
        done.touch()


def down(directory: Path, say: Say, *, purge: bool = False) -> None:
    """Stop the cloud in `directory`; with `purge`, forget it."""
    if not is_state(directory):
        say(f"There is no cloud in {directory}.")
        return
    with alone(directory, 0o700):
        state = read_state(directory)
        for name in reversed(SERVERS):
            if stop(state, name):
                say(f"Stopped {name}")
        if purge:
            shutil.rmtree(directory)
            say(f"Removed {directory}")


def status(directory: Path, say: Say) -> bool:
    """Say which servers run. Whether all do."""
    state = read_state(directory)
    found = {name: running(state, name) for name in SERVERS}
    for name, pid in found.items():
        say(f"{name:8}  {state.url(name)}  {'stopped' if pid is None else f'process {pid}'}")
    return None not in found.values()
