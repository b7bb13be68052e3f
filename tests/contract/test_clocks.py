"""Hosts whose clocks are wrong, or jump while they work: the service goes by the clock of its database."""

import time
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path

import pytest
from sqlalchemy import update

from imagefactory.model.job import JobState, Role
from imagefactory.store.clock import from_now
from imagefactory.store.tables import ScheduleRow
from imagefactory.tools.audit_log import AuditLog
from tests.contract.test_service import answer, refused, wait
from tests.fakes.host import FakeHost, folders
from tests.fakes.team import team
from tests.servers.clocks import Clock, clocks
from tests.servers.directories import open_to_others
from tests.servers.postgres import free_port
from tests.servers.postgres_fixtures import Place
from tests.servers.rabbitmq_fixtures import VirtualHost
from tests.servers.team import BEAT, WORKERS, Team

LOOK = 3.0  # seconds: longer than a beat waits between two looks
SIX_HOURS = 6 * 3600.0
NAME = "fake-debian-12"


@dataclass(frozen=True)
class World:
    """A team, and the clock of each one's host."""

    host: FakeHost
    team: Team
    clocks: Mapping[str, Clock]

    def request(self) -> str:
        """Ask for a build. The id of its job."""
        asked = self.team.run("builds", "request", str(self.host.recipe_file), "--json")
        assert asked.returncode == 0, asked.stderr
        with self.team.jobs() as jobs:
            return jobs.jobs(NAME, most=1)[0].id

    def tasks(self, job: str) -> list[tuple[str, int]]:
        """The state of each task of a job, and how often it was begun."""
        with self.team.jobs() as jobs:
            return [(task.state, task.attempt) for task in jobs.tasks(job)]

    def signed(self) -> int:
        entries = AuditLog(self.team.base / Role.SIGN / "audit.log").entries()
        return [entry.event for entry in entries].count("signed")

    def says(self, who: str, what: str) -> Callable[[], bool]:
        """Whether somebody's log has this."""
        return lambda: what in self.team.log(who).read_text()


@pytest.fixture
def world(host: FakeHost, service_database: Place, vhost: VirtualHost, tmp_path: Path) -> Iterator[World]:
    open_to_others(tmp_path)
    with (
        clocks(tmp_path / "clocks", WORKERS) as wrong,
        team(host, service_database, vhost, tmp_path / "service", wrong) as made,
    ):
        yield World(host, made, wrong)


@pytest.mark.parametrize("who", [Role.SIGN, BEAT])
@pytest.mark.parametrize("off", [SIX_HOURS, -SIX_HOURS])
def test_whose_clock_is_wrong_does_not_start(world: World, who: str, off: float) -> None:
    with world.clocks[who].wrong(off):
        assert refused(world.team, who) == (4, "host-clock-off")


def test_a_worker_whose_clock_jumps_is_not_ready_and_does_nothing(world: World) -> None:
    port = free_port()
    world.team.start(Role.BUILD, more=["--listen", f"127.0.0.1:{port}"])
    world.team.start(BEAT)
    with world.clocks[Role.BUILD].wrong(-SIX_HOURS):
        wait(lambda: answer(port, "readyz")[0] == 503)
        assert answer(port, "readyz")[1]["checks"]["clock"] == {"ok": False, "code": "host-clock-off"}
        job = world.request()
        wait(world.says(Role.BUILD, '"code": "host-clock-off"'))
        wait(lambda: world.tasks(job) == [("queued", 0)])
        assert not world.says(Role.BUILD, "a step begins")()
        assert answer(port, "healthz")[0] == 200
    wait(lambda: answer(port, "readyz")[0] == 200)


def test_two_beats_of_which_one_has_another_time_ask_once(world: World) -> None:
    recipe = world.host.recipe_file
    recipe.write_text(recipe.read_text() + 'schedule: {cron: "0 0 1 1 *"}\n')
    added = world.team.run("schedule", "add", str(recipe))
    assert added.returncode == 0, added.stderr
    world.team.start(BEAT)
    world.team.more = {}  # the other one is on a host whose clock is right
    world.team.start(BEAT)
    with world.clocks[BEAT].wrong(SIX_HOURS):
        make_due(world, 3.0)
        wait(lambda: runs(world) == 1)
        time.sleep(LOOK)
    time.sleep(LOOK)
    assert runs(world) == 1
    assert world.team.log(BEAT).read_text().count("a schedule is due") == 1


def runs(world: World) -> int:
    with world.team.jobs() as jobs:
        return len(jobs.jobs(NAME))


def make_due(world: World, seconds: float) -> None:
    with world.team.records() as records, records.session() as session:
        session.execute(update(ScheduleRow).values(begins=from_now(seconds)))


@pytest.mark.parametrize("off", [SIX_HOURS, -SIX_HOURS])
def test_a_builder_whose_clock_jumps_while_it_works(world: World, off: float) -> None:
    world.team.start()
    world.host.say("hold-disk-image-create.begin")
    job = world.request()
    visited = world.host.control / "visited"
    wait(lambda: "disk-image-create.begin" in visited.read_text())
    with world.clocks[Role.BUILD].wrong(off):
        wait(world.says(Role.BUILD, "the clock of this host is wrong"))
        world.host.unsay("hold-disk-image-create.begin")
        wait(world.says(Role.BUILD, "a task is left to others"))
    ended = world.team.ended(job)
    assert ended.state == JobState.RELEASED, (ended.error_code, ended.error_message)
    assert len(folders(world.team.catalogue)) == 1
    assert world.signed() == 1


@pytest.mark.parametrize("off", [SIX_HOURS, -SIX_HOURS])
def test_a_signer_whose_clock_jumps_signs_when_it_is_right_again(world: World, off: float) -> None:
    world.team.start()
    world.clocks[Role.SIGN].set(off)
    job = world.request()
    wait(world.says(Role.SIGN, '"code": "host-clock-off"'))
    assert world.signed() == 0
    world.clocks[Role.SIGN].set(0)
    ended = world.team.ended(job)
    assert ended.state == JobState.RELEASED, (ended.error_code, ended.error_message)
    assert world.signed() == 1
