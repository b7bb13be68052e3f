"""Whatever dies, at whatever moment: each release exists once, is signed once, and is published once."""

import json
import random
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path

import pytest

from tests.chaos import Chaos, require_nothing_left, require_once
from tests.fakes import traces
from tests.fakes.host import FakeHost
from tests.fakes.processes import ATTEMPTS
from tests.fakes.team import team
from tests.servers.clocks import Clock, clocks
from tests.servers.directories import open_to_others
from tests.servers.postgres_fixtures import Place
from tests.servers.rabbitmq_fixtures import VirtualHost
from tests.servers.team import WORKERS, Team

NAMES = ("chaos-a", "chaos-b", "chaos-c")
WITHIN = 900.0  # seconds until all jobs have ended
ROUNDS = 10


@dataclass(frozen=True)
class World:
    """Everybody at work, and what they work with."""

    host: FakeHost
    team: Team
    clocks: Mapping[str, Clock]

    def ask(self) -> list[str]:
        """A build of each name. Returns the ids of the jobs."""
        asked = []
        for name in NAMES:
            recipe = self.host.recipe_file.with_name(f"{name}.yaml")
            recipe.write_text(self.host.recipe_file.read_text().replace("fake-debian-12", name))
            done = self.team.run("builds", "request", str(recipe), "--json")
            assert done.returncode == 0, done.stderr
            asked.append(str(json.loads(done.stdout)["job"]))
        return asked

    def check(self, asked: list[str], times: int = 1) -> None:
        """When what was `asked` for so many times has ended, everything is there once."""
        for job_id in asked:
            self.team.ended(job_id, WITHIN)
        require_once(self.team, asked, NAMES, times=times)

    def end(self) -> None:
        """Everybody goes home."""
        self.team.stop()
        self.team.vhost.broker.stop()
        self.team.database.server.stop()


@pytest.fixture
def world(host: FakeHost, service_database: Place, vhost: VirtualHost, tmp_path: Path) -> Iterator[World]:
    open_to_others(tmp_path)
    with (
        traces.adopting(),
        clocks(tmp_path / "clocks", WORKERS) as wrong,
        team(host, service_database, vhost, tmp_path / "service", wrong) as made,
    ):
        yield World(host, made, wrong)


def test_what_dies_costs_at_most_the_step_that_it_hit(world: World, dice: random.Random) -> None:
    before = traces.Host.now()
    world.team.start(jobs=2)
    asked = world.ask()
    Chaos(world.team, world.clocks, dice, ATTEMPTS).rounds(ROUNDS, pause=4.0)
    world.check(asked)
    world.end()
    require_nothing_left(world.team, before)


@pytest.mark.soak
def test_fifty_rounds(world: World, dice: random.Random) -> None:
    before = traces.Host.now()
    world.team.start(jobs=2)
    chaos = Chaos(world.team, world.clocks, dice, ATTEMPTS)
    for number in range(1, 6):
        world.host.offer({"openssl": f"3.0.17-{number}", "bash": "5.2.15-2"}, in_release=f"number {number}")
        asked = world.ask()
        chaos.rounds(ROUNDS, pause=6.0)
        world.check(asked, number)
    world.end()
    require_nothing_left(world.team, before)
