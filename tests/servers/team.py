"""Workers of all roles as processes of their own, on one host, and a beat: each with an account of its own in the
system, the database and the broker, and with a home of its own; and whoever asks them for something."""

import json
import os
import shlex
import subprocess
import sys
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from pathlib import Path
from types import MappingProxyType

from imagefactory.factory.catalogues import Catalogues
from imagefactory.factory.provision import provision
from imagefactory.model.broker import parse_broker
from imagefactory.model.job import ENDS, JobState, Role
from imagefactory.service.secrets_folder import BROKER_PASSWORD, DEFINITIONS, ENVIRONMENT
from imagefactory.settings import Settings
from imagefactory.store.grants import OPERATOR
from imagefactory.store.jobs import Jobs
from imagefactory.store.records import Records
from imagefactory.store.tables import Job
from imagefactory.worker.broker import Broker
from tests.openstack.install import ROOT
from tests.servers.directories import open_to_others
from tests.servers.postgres_fixtures import Place
from tests.servers.rabbitmq_fixtures import VirtualHost

SYSUSERS = ROOT / "deploy/systemd/sysusers.conf"
BEAT = "beat"
GROUP = 64100
WORKERS = (*map(str, Role), BEAT)
ACCOUNTS: Mapping[str, int] = {each: GROUP + number for number, each in enumerate((*WORKERS, OPERATOR), 1)} | {
    Role.BUILD: 0
}
"""The number of each account, as SYSUSERS has it: ssh works for nobody without a name. Who builds is root."""
COMMAND = (str(Path(sys.executable).with_name("imagefactory")),)
PATIENCE = 120.0  # seconds until a process is ready


@dataclass
class Team:
    """Everybody's home is in `base`. Keys come from the home of `settings`; `environment` is everybody's, `recipes` a
    folder, `more` what some roles have besides; `command` is the command line that workers are started with."""

    settings: Settings
    database: Place
    vhost: VirtualHost
    base: Path
    environment: Mapping[str, str]
    recipes: Path
    command: Sequence[str] = COMMAND
    more: Mapping[str, Mapping[str, str]] = field(default_factory=dict)
    running: dict[str, list["subprocess.Popen[bytes]"]] = field(default_factory=dict)

    @property
    def catalogue(self) -> Path:
        return self.base / "catalogue"

    @property
    def secrets(self) -> Path:
        return self.base / "secrets"

    def environ(self, who: str) -> dict[str, str]:
        """The environment of somebody in ACCOUNTS."""
        home = self.base / who
        return {
            **self.environment,
            "HOME": str(home),
            "IMAGEFACTORY_HOME": str(home),
            "IMAGEFACTORY_CATALOGUE": str(self.catalogue),
            "IMAGEFACTORY_RECIPES": str(self.recipes),
            "IMAGEFACTORY_STORE": str(self.base / "store"),
            **dict(line.split("=", 1) for line in shlex.split((self.secrets / who / ENVIRONMENT).read_text())),
            **self.more.get(who, {}),
        }

    def make(self) -> None:
        """Accounts, and homes and what all share unless they are there already."""
        open_to_others(ROOT)
        begun = self.base.exists()
        self.base.mkdir(mode=0o755, exist_ok=True)
        self._accounts()
        if not begun:
            self._directories()
        for who, account in ACCOUNTS.items():
            for path in (self.secrets / who).iterdir():
                os.chown(path, account, GROUP)

    def _directories(self) -> None:
        """Homes, and what all share: artifacts by those who make them, the catalogue by who publishes and who signs."""
        settings = replace(self.settings, own_catalogue=self.catalogue)
        Catalogues(settings, settings.home / "trust.json").begin(self.catalogue)
        for folder, role in (("metadata", Role.SIGN), ("targets", Role.PUBLISH)):
            (self.catalogue / folder).mkdir(exist_ok=True)
            for path in (self.catalogue / folder, *(self.catalogue / folder).rglob("*")):
                os.chown(path, ACCOUNTS[role], GROUP)
        (self.catalogue / "targets").chmod(0o2775)
        self._shared(self.base / "store")
        for who, account in ACCOUNTS.items():
            if who != BEAT:  # people know whom to trust as those do who look after releases
                role = Role.LIFECYCLE if who == OPERATOR else Role(who)
                provision(settings, role, self.base / who, (account, GROUP))
        (self.base / BEAT).mkdir(mode=0o700)
        os.chown(self.base / BEAT, ACCOUNTS[BEAT], GROUP)

    def _accounts(self) -> None:
        addresses = {"IMAGEFACTORY_DATABASE": self.database.url(), "IMAGEFACTORY_BROKER": self.vhost.url()}
        done = subprocess.run(
            [*self.command, "service", "init", "--secrets", str(self.secrets), "--no-rabbitmq"],
            env={**self.environment, **addresses},
            cwd="/",
            capture_output=True,
            text=True,
            check=False,
        )
        assert done.returncode == 0, done.stderr
        document = json.loads((self.secrets / DEFINITIONS).read_text())
        self.vhost.broker.api("POST", "definitions", body=document)  # as rabbitmqctl does, but in no time

    def _shared(self, directory: Path) -> None:
        directory.mkdir()
        os.chown(directory, 0, GROUP)
        directory.chmod(0o2775)

    # -- processes -----------------------------------------------------------------------------------------------------

    def start(self, *roles: str, jobs: int = 1, more: Sequence[str] = ()) -> None:
        """Start a worker of each role, or a beat, and wait until they are ready."""
        begun = []
        for role in roles or WORKERS:
            argv = ["beat"] if role == BEAT else ["worker", "--role", role, "--jobs", str(jobs), "--grace", "5"]
            argv += more
            log = self.log(role)
            before = log.stat().st_size if log.exists() else 0
            with log.open("ab") as stream:
                process = subprocess.Popen(
                    [*self.command, *argv],
                    env=self.environ(role),
                    user=ACCOUNTS[role],
                    group=GROUP,
                    extra_groups=[],
                    stdin=subprocess.DEVNULL,
                    stdout=subprocess.DEVNULL,
                    stderr=stream,
                    cwd="/",
                )
            self.running.setdefault(role, []).append(process)
            begun.append((process, log, before))
        until = time.monotonic() + PATIENCE
        for process, log, before in begun:
            while b'"event": "ready"' not in log.read_bytes()[before:]:
                assert process.poll() is None, log.read_text()
                assert time.monotonic() < until, log.read_text()
                time.sleep(0.05)

    def log(self, role: str) -> Path:
        return self.base / f"{role}.log"

    def stop(self, *roles: str) -> dict[str, list[int]]:
        """Stop these, or all, as an administrator would. Returns their statuses."""
        chosen = {role: self.running.pop(role, []) for role in roles or tuple(self.running)}
        for processes in chosen.values():
            for process in processes:
                process.terminate()
        return {role: [process.wait(60) for process in processes] for role, processes in chosen.items()}

    def kill(self, role: str) -> None:
        """End one without a word."""
        for process in self.running.pop(role, []):
            process.kill()
            process.wait()

    def send(self, messages: Sequence[tuple[str, str]]) -> None:
        """Send messages, each to a role about a task."""
        address = parse_broker(self.environ(BEAT)["IMAGEFACTORY_BROKER"])
        with Broker(address, self.secrets / BEAT / BROKER_PASSWORD) as broker:
            for role, task_id in messages:
                broker.send(role, [task_id])

    # -- asking --------------------------------------------------------------------------------------------------------

    @contextmanager
    def records(self) -> Iterator[Records]:
        """The records, as somebody sees them who may do anything."""
        made = Records(self.database.parsed())
        try:
            yield made
        finally:
            made.close()

    @contextmanager
    def jobs(self) -> Iterator[Jobs]:
        """The jobs in them."""
        with self.records() as records:
            yield Jobs(records)

    def run(
        self, *argv: str, who: str = OPERATOR, environ: Mapping[str, str] = MappingProxyType({})
    ) -> "subprocess.CompletedProcess[str]":
        """A command line, of people or of somebody here; what is empty in `environ` is not set for it."""
        whole = {key: value for key, value in {**self.environ(who), **environ}.items() if value}
        return subprocess.run(
            [*self.command, *argv],
            env=whole,
            user=ACCOUNTS[who],
            group=GROUP,
            extra_groups=[],
            cwd="/",
            capture_output=True,
            text=True,
            timeout=120,
            check=False,
        )

    def newest(self, name: str, seconds: float, after: str = "") -> str:
        """The id of the newest job of a name, as soon as it is another one than `after`."""
        until = time.monotonic() + seconds
        with self.jobs() as jobs:
            while not (found := jobs.jobs(name, most=1)) or found[0].id == after:
                assert time.monotonic() < until, self.log(BEAT).read_text()
                time.sleep(0.2)
        return found[0].id

    def ended(self, job_id: str, seconds: float = 400.0) -> Job:
        """A job, when it has ended."""
        until = time.monotonic() + seconds
        with self.jobs() as jobs:
            while JobState((job := jobs.job(job_id)).state) not in ENDS:
                assert time.monotonic() < until, [(each.step, each.state, each.progress) for each in jobs.tasks(job.id)]
                time.sleep(0.2)
        return job


@contextmanager
def working(team: Team) -> Iterator[Team]:
    """A team that is made, of which nobody has started yet; nobody works in the end."""
    team.make()
    try:
        yield team
    finally:
        team.stop()
