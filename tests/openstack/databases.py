"""Databases with every table and no content. Migrations take half a minute, so they run once and are copied."""

import os
import shutil
import tempfile
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

from tests.openstack.config import environment, write_configuration
from tests.openstack.install import VENV, Say, alone, lock_digest, run
from tests.openstack.state import SERVERS, State, make_state

BIN = VENV / "bin"
TEMPLATE = VENV / f"databases-{lock_digest()[:12]}"


def make_template(say: Say) -> None:
    """Migrate empty databases, if that was not done with these packages."""
    with alone(VENV, 0o755):
        if TEMPLATE.exists():
            return
        say("Migrating empty databases, once")
        with tempfile.TemporaryDirectory(dir=VENV) as directory:
            state = make_state(Path(directory))
            write_configuration(state)
            with ThreadPoolExecutor(os.cpu_count()) as pool:
                for done in [pool.submit(migrate, state) for migrate in MIGRATIONS]:
                    done.result()
            # Its secrets go with the directory: these databases hold none.
            state.file("db").rename(TEMPLATE)


def copy_template(state: State) -> None:
    for server in SERVERS:
        database = state.file("db", f"{server}.db")
        if not database.exists():
            new = database.with_suffix(".new")
            shutil.copyfile(TEMPLATE / database.name, new)
            new.rename(database)


def keystone(state: State) -> None:
    manage(state, "keystone-manage", "--config-file", state.file("etc", "keystone.conf"), "db_sync")


def barbican(state: State) -> None:
    manage(state, "barbican-db-manage", "upgrade")


def glance(state: State) -> None:
    command = ("glance-manage", "--config-file", state.file("etc", "glance-api.conf"), "db")
    manage(state, *command, "sync")
    manage(state, *command, "load_metadefs", "--path", VENV / "etc" / "glance" / "metadefs")


MIGRATIONS: tuple[Callable[[State], None], ...] = (keystone, glance, barbican)


def manage(state: State, program: str, *arguments: str | Path, **secrets: str) -> None:
    """Run one of the services' own tools. What must stay out of the process list goes by its environment."""
    run((BIN / program, *arguments), state.log(program), {**environment(state), **secrets})
