"""The service after its database was lost: restored as docs/how-to/back-up-and-restore.md says, it goes on."""

import os
import subprocess
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest
from psycopg import sql

from imagefactory.model.broker import account_name
from imagefactory.model.job import JobState, Role
from imagefactory.store.grants import ACCOUNTS
from tests.doc_pages import ROOT, blocks, commands
from tests.fakes.host import FakeHost, folders
from tests.fakes.team import team
from tests.servers.directories import open_to_others
from tests.servers.postgres_fixtures import Place
from tests.servers.rabbitmq_fixtures import VirtualHost
from tests.servers.team import Team

PAGE = ROOT / "docs/how-to/back-up-and-restore.md"
BACK_UP, RESTORE = (
    [command.text for command in commands(block)] for block in blocks(PAGE) if block.language == "console-host"
)
PLENTY = 120.0  # seconds


@dataclass(frozen=True)
class Lost:
    """A service, and what an administrator does to its database."""

    team: Team
    place: Place
    directory: Path

    def say(self, script: list[str]) -> None:
        """What the page says, in the place of its server and its database."""
        server = self.place.server
        known = {"PGHOST": "127.0.0.1", "PGPORT": str(server.port), "PGUSER": "postgres", "PGDATABASE": self.place.name}
        lines = ["set -eu", *(line for line in script if not line.startswith("export PG"))]
        ran = subprocess.run(
            ["bash", "-c", "\n".join(lines).replace("--dbname=imagefactory", f"--dbname={self.place.name}")],
            env={"PATH": os.environ["PATH"], **known, "PGPASSFILE": str(server.passfile)},
            cwd=self.directory,
            capture_output=True,
            text=True,
            check=False,
        )
        assert ran.returncode == 0, ran.stderr

    def lose(self) -> None:
        """The database and its accounts are gone."""
        server = self.place.server
        server.drop(self.place.name)
        for account in ACCOUNTS:
            server.execute(sql.SQL("DROP ROLE {}").format(sql.Identifier(account_name(account))))

    def ask(self, host: FakeHost) -> str:
        """The id of a job."""
        done = self.team.run("builds", "request", str(host.recipe_file))
        assert done.returncode == 0, done.stderr
        with self.team.jobs() as jobs:
            return str(jobs.jobs(most=1)[0].id)


@pytest.fixture
def lost(host: FakeHost, service_database: Place, vhost: VirtualHost, tmp_path: Path) -> Iterator[Lost]:
    open_to_others(tmp_path)
    with team(host, service_database, vhost, tmp_path / "service") as made:
        yield Lost(made, service_database, tmp_path)


def test_what_went_on_goes_on(lost: Lost, host: FakeHost) -> None:
    host.say("pause-qemu-img.begin")
    lost.team.start()
    job_id = lost.ask(host)
    until = time.monotonic() + PLENTY
    while not (host.control / "reached").exists():
        assert time.monotonic() < until
        time.sleep(0.05)
    lost.say(BACK_UP)
    for role in (*Role, "beat"):
        lost.team.kill(role)
    host.unsay("pause-qemu-img.begin")
    lost.lose()
    lost.say(RESTORE)
    lost.team.start()
    job = lost.team.ended(job_id)
    assert (job.state, job.error_message) == (JobState.RELEASED, None)
    assert [folder.name for folder in folders(lost.team.catalogue)] == [str(job.release).partition("@")[2]]
    with lost.team.jobs() as jobs:
        rootfs = [task for task in jobs.tasks(job_id) if task.step == "rootfs"]
    assert [task.attempt for task in rootfs] == [1], "what was finished is not done again"


def test_a_dump_that_is_older_than_the_last_release(lost: Lost, host: FakeHost) -> None:
    lost.say(BACK_UP)
    lost.team.start()
    first = lost.team.ended(lost.ask(host))
    lost.team.stop()
    lost.lose()
    lost.say(RESTORE)
    lost.team.start()
    second = lost.team.ended(lost.ask(host))
    assert (second.state, second.error_message) == (JobState.RELEASED, None)
    assert first.release != second.release
    names = sorted(folder.name for folder in folders(lost.team.catalogue))
    assert names == sorted(str(job.release).partition("@")[2] for job in (first, second))
