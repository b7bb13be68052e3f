"""Whatever dies, at whatever moment: each release exists once, is signed once, and is published once."""

import json
import random
import time
from collections import Counter
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path

import pytest

from imagefactory.model.job import JobState, Role, TaskState
from imagefactory.store.records import Records
from imagefactory.tools.audit_log import AuditLog, Entry
from signing.trust import load_trust
from signing.verify import verify_folder
from tests.fakes import traces
from tests.fakes.host import FakeHost, folders
from tests.fakes.team import clocks, team
from tests.servers.clocks import Clock
from tests.servers.directories import open_to_others
from tests.servers.postgres_fixtures import Place
from tests.servers.rabbitmq_fixtures import VirtualHost
from tests.servers.team import BEAT, Team

NAMES = ("chaos-a", "chaos-b", "chaos-c")
WITHIN = 900.0  # seconds until all jobs have ended
ROUNDS = 10
MOST_OFF = 6 * 3600.0  # seconds that a clock is wrong


@dataclass(frozen=True)
class World:
    """Everybody at work, and what they work with."""

    host: FakeHost
    team: Team
    place: Place
    vhost: VirtualHost
    clocks: Mapping[str, Clock]


@pytest.fixture
def world(host: FakeHost, service_database: Place, vhost: VirtualHost, tmp_path: Path) -> Iterator[World]:
    open_to_others(tmp_path)
    with (
        traces.adopting(),
        clocks(tmp_path / "clocks") as wrong,
        team(host, service_database, vhost, tmp_path / "service", wrong) as made,
    ):
        yield World(host, made, service_database, vhost, wrong)


def kill(world: World, dice: random.Random) -> str:
    """A worker, or the beat, and another one takes its place."""
    who = dice.choice([*Role, BEAT])
    world.team.kill(who)
    world.team.start(who)
    return f"killed {who}"


def stop(world: World, dice: random.Random) -> str:
    """As an administrator does, for an upgrade."""
    who = dice.choice([*Role, BEAT])
    world.team.stop(who)
    world.team.start(who)
    return f"stopped {who}"


def restart_database(world: World, dice: random.Random) -> str:
    del dice
    world.place.server.restart()
    return "restarted PostgreSQL"


def restart_broker(world: World, dice: random.Random) -> str:
    if dice.random() < 0.5:
        world.vhost.broker.kill()
    else:
        world.vhost.broker.stop()
    time.sleep(dice.uniform(0, 2))
    world.vhost.broker.start()
    return "restarted RabbitMQ"


def empty_broker(world: World, dice: random.Random) -> str:
    del dice
    world.vhost.empty()
    return "emptied RabbitMQ"


def repeat(world: World, dice: random.Random) -> str:
    """Every message once more, to whoever has its queue, in another order."""
    with world.team.jobs() as jobs:
        tasks = [task for job in jobs.jobs() for task in jobs.tasks(job.id)]
    dice.shuffle(tasks)
    world.team.send([(task.role, task.id) for task in tasks])
    return f"sent {len(tasks)} messages again"


def jump(world: World, dice: random.Random) -> str:
    """The wall clock of a worker's host, or of the beat's, is wrong for a while."""
    who, off = dice.choice([*Role, BEAT]), dice.uniform(-MOST_OFF, MOST_OFF)
    with world.clocks[who].wrong(off):
        time.sleep(dice.uniform(1, 4))
    return f"the clock of {who} was {off:+.0f} s off"


EVENTS: tuple[Callable[[World, random.Random], str], ...] = (
    *(kill, kill, kill, stop, restart_database, restart_broker, empty_broker, repeat, jump, jump),
)


def ask(world: World) -> list[str]:
    """A build of each name. Returns the ids of the jobs."""
    asked = []
    for name in NAMES:
        recipe = world.host.recipe_file.with_name(f"{name}.yaml")
        recipe.write_text(world.host.recipe_file.read_text().replace("fake-debian-12", name))
        done = world.team.run("builds", "request", str(recipe), "--json")
        assert done.returncode == 0, done.stderr
        asked.append(str(json.loads(done.stdout)["job"]))
    return asked


def disturb(world: World, dice: random.Random, rounds: int, pause: float) -> list[str]:
    done = []
    for _ in range(rounds):
        time.sleep(dice.uniform(0, pause))
        done.append(dice.choice(EVENTS)(world, dice))
    return done


def check(world: World, asked: list[str], story: list[str], times: int = 1) -> None:
    """After builds of other inputs were asked for so many times."""
    for job_id in asked:
        job = world.team.ended(job_id, WITHIN)
        assert job.state == JobState.RELEASED, (job.name, job.error_code, job.error_message, story)
    records = Records(world.place.parsed())
    try:
        releases = records.releases()
        builds = Counter(build.state for name in NAMES for build in records.builds(name))
    finally:
        records.close()
    assert Counter(release.name for release in releases) == dict.fromkeys(NAMES, times), story
    assert all(len(release.publications) == 1 for release in releases), story
    assert builds["released"] == len(NAMES) * times, (builds, story)
    assert builds["running"] == 0, (builds, story)
    signed = {(entry.details["about"], entry.details["manifest"]) for entry in log(world, "signed")}
    assert Counter(about.partition("@")[0] for about, _ in signed) == dict.fromkeys(NAMES, times), story
    trust = load_trust(world.host.home / "trust.json")
    for name in NAMES:
        found = folders(world.team.catalogue, name)
        assert len(found) == times, story
        for folder in found:
            verify_folder(folder, trust, now=datetime.now(UTC), name=name)
    assert list(world.team.catalogue.glob("targets/*/.*")) == [], story
    with world.team.jobs() as jobs:
        tasks = [task for job_id in asked for task in jobs.tasks(job_id)]
    assert {task.state for task in tasks} == {TaskState.DONE}, story


def log(world: World, event: str) -> list[Entry]:
    return [entry for entry in AuditLog(world.team.base / Role.SIGN / "audit.log").entries() if entry.event == event]


def test_what_dies_costs_at_most_the_step_that_it_hit(world: World, dice: random.Random) -> None:
    before = traces.Host.now()
    world.team.start(jobs=2)
    asked = ask(world)
    story = disturb(world, dice, ROUNDS, pause=4.0)
    check(world, asked, story)
    leave(world, before, story)


@pytest.mark.soak
def test_fifty_rounds(world: World, dice: random.Random) -> None:
    before = traces.Host.now()
    world.team.start(jobs=2)
    story = []
    for number in range(1, 6):
        world.host.offer({"openssl": f"3.0.17-{number}", "bash": "5.2.15-2"}, in_release=f"number {number}")
        asked = ask(world)
        story += disturb(world, dice, ROUNDS, pause=6.0)
        check(world, asked, story, number)
    leave(world, before, story)


def leave(world: World, before: traces.Host, story: list[str]) -> None:
    """Have everybody go, and look at what is left behind."""
    world.team.stop()
    world.vhost.broker.stop()
    world.place.server.stop()
    assert traces.gone(30.0) == {}
    assert traces.Host.now() == before
    assert [path for role in Role for path in (world.team.base / role / "work").glob("*")] == [], story
