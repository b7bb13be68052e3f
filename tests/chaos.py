"""What happens to a service while it works, and what holds nevertheless: each release exists once, is signed once, and
is published once for each place."""

import random
import sys
import time
from collections import Counter
from collections.abc import Callable, Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime

from imagefactory.model.job import ENDS, JobState, Role, TaskState
from imagefactory.store.tables import Task
from imagefactory.tools.audit_log import AuditLog
from signing.trust import load_trust
from signing.verify import verify_folder
from tests.fakes import traces
from tests.fakes.host import folders
from tests.servers.clocks import Clock
from tests.servers.team import WORKERS, Team

MOST_OFF = 6 * 3600.0  # seconds that a clock is wrong


@dataclass(frozen=True)
class Chaos:
    """Strikes against everybody in `team`, as `dice` have it. Whoever has begun a step as often as `attempts` is left
    alone with it, for then what is hit has failed. `clocks` are theirs. What is done goes to stdout."""

    team: Team
    clocks: Mapping[str, Clock]
    dice: random.Random
    attempts: int

    def rounds(self, count: int, pause: float) -> None:
        """So many strikes, with at most `pause` seconds before each."""
        for _ in range(count):
            self._strike(pause)

    def until_ended(self, jobs: Collection[str], pause: float, within: float) -> None:
        """Strikes until all of these jobs have ended. Fails after `within` seconds."""
        until = time.monotonic() + within
        while not self._ended(jobs):
            assert time.monotonic() < until
            self._strike(pause)

    def _ended(self, ids: Collection[str]) -> bool:
        with self.team.jobs() as jobs:
            return all(JobState(jobs.job(each).state) in ENDS for each in ids)

    def _strike(self, pause: float) -> None:
        time.sleep(self.dice.uniform(0, pause))
        strikes = AGAINST_ONE if self._spared(self._running()) else STRIKES
        what = self.dice.choice(strikes)(self)
        sys.stdout.write(f"{datetime.now(UTC):%H:%M:%S} {what}\n")

    def _running(self) -> list[Task]:
        return [task for task in self._tasks() if task.state == TaskState.RUNNING]

    def _spared(self, running: Iterable[Task]) -> set[str]:
        """Who has begun something for the last time."""
        return {task.role for task in running if task.attempt >= self.attempts}

    def _somebody(self) -> str:
        """Every other time at least one who has something to do."""
        running = self._running()
        spared = self._spared(running)
        busy = sorted({task.role for task in running} - spared)
        return self.dice.choice([*(who for who in WORKERS if who not in spared), *busy * len(WORKERS)])

    def _tasks(self) -> list[Task]:
        with self.team.jobs() as jobs:
            return [task for job in jobs.jobs() for task in jobs.tasks(job.id)]

    # -- strikes -------------------------------------------------------------------------------------------------------

    def kill(self) -> str:
        """A worker, or the beat, and another one takes its place."""
        who = self._somebody()
        self.team.kill(who)
        self.team.start(who, jobs=2)
        return f"killed {who}"

    def stop(self) -> str:
        """As an administrator does, for an upgrade."""
        who = self._somebody()
        self.team.stop(who)
        self.team.start(who, jobs=2)
        return f"stopped {who}"

    def restart_database(self) -> str:
        self.team.database.server.restart()
        return "restarted PostgreSQL"

    def restart_broker(self) -> str:
        broker = self.team.vhost.broker
        self.dice.choice((broker.kill, broker.stop))()
        time.sleep(self.dice.uniform(0, 2))
        broker.start()
        return "restarted RabbitMQ"

    def empty_broker(self) -> str:
        self.team.vhost.empty()
        return "emptied RabbitMQ"

    def repeat(self) -> str:
        """Every message once more, to whoever has its queue, in another order."""
        tasks = self._tasks()
        self.dice.shuffle(tasks)
        self.team.send([(task.role, task.id) for task in tasks])
        return f"sent {len(tasks)} messages again"

    def jump(self) -> str:
        """The wall clock of a worker's host, or of the beat's, is wrong for a while."""
        who, off = self.dice.choice(WORKERS), self.dice.uniform(-MOST_OFF, MOST_OFF)
        with self.clocks[who].wrong(off):
            time.sleep(self.dice.uniform(1, 4))
        return f"the clock of {who} was {off:+.0f} s off"


Strike = Callable[[Chaos], str]
AGAINST_ONE: tuple[Strike, ...] = (
    *(Chaos.kill, Chaos.kill, Chaos.kill, Chaos.stop),
    *(Chaos.restart_broker, Chaos.empty_broker, Chaos.repeat, Chaos.jump, Chaos.jump),
)
STRIKES: tuple[Strike, ...] = (*AGAINST_ONE, Chaos.restart_database)  # which costs everybody's step


def require_once(team: Team, jobs: Collection[str], names: Sequence[str], *, times: int = 1, places: int = 1) -> None:
    """All `jobs` have released; each of `names`, of which builds of other inputs were asked for so many `times`, is
    signed as often, and published to so many `places`, one of them the catalogue."""
    expected = dict.fromkeys(names, times)
    _require_done(team, jobs)
    with team.records() as records:
        releases = records.releases()
        builds = Counter(build.state for name in names for build in records.builds(name))
    assert Counter(release.name for release in releases) == expected
    assert {len(release.publications) for release in releases} == {places}
    assert (builds["released"], builds["running"]) == (len(names) * times, 0)
    signed = {
        (entry.details["about"], entry.details["manifest"])
        for entry in AuditLog(team.base / Role.SIGN / "audit.log").entries()
        if entry.event == "signed"
    }
    assert Counter(about.partition("@")[0] for about, _ in signed) == expected
    trust = load_trust(team.settings.home / "trust.json")
    for name in names:
        found = folders(team.catalogue, name)
        assert len(found) == times
        for folder in found:
            verify_folder(folder, trust, now=datetime.now(UTC), name=name)
    assert list(team.catalogue.glob("targets/*/.*")) == []


def _require_done(team: Team, ids: Collection[str]) -> None:
    with team.jobs() as jobs:
        ended = [jobs.job(each) for each in ids]
        tasks = [task for each in ids for task in jobs.tasks(each)]
    assert [(job.name, job.state, job.error_code, job.error_message) for job in ended] == [
        (job.name, JobState.RELEASED, None, None) for job in ended
    ]
    assert {task.state for task in tasks} == {TaskState.DONE}


def require_nothing_left(team: Team, before: traces.Host) -> None:
    """Everybody is gone: no process, no mount and no half image is there any more. In `traces.adopting`."""
    assert traces.gone(30.0) == {}
    assert traces.Host.now() == before
    assert [path for role in Role for path in (team.base / role / "work").glob("*")] == []
