"""A worker of each role on a host with fake programs, all in this process; their steps have processes of their own.

There is no broker: messages lie in a list until somebody takes them, in an order of his choice.
"""

import sys
import threading
import time
from collections.abc import Collection, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any

from sqlalchemy import update

from imagefactory.model.job import ENDS, JobOrder, JobState, Role
from imagefactory.model.notify import Notify
from imagefactory.service.asking import PLAN
from imagefactory.service.beat import Beat
from imagefactory.service.desk import LEASE, Desk
from imagefactory.service.notify import Notifier
from imagefactory.store.job_rows import Call
from imagefactory.store.jobs import Jobs
from imagefactory.store.records import Records
from imagefactory.store.tables import Job, Task
from tests.fakes.host import FakeHost

STEP = (sys.executable, "-m", "tests.fakes.step")


@dataclass
class Crew:
    """The workers, and the messages that nobody has taken."""

    host: FakeHost
    records: Records
    calls: list[Call] = field(default_factory=list)

    @property
    def jobs(self) -> Jobs:
        return Jobs(self.records)

    def desk(self, role: Role, lease: float = LEASE) -> Desk:
        log = self.host.root / f"{role}.log"
        environ = {**self.host.environ, "IMAGEFACTORY_RECIPES": str(self.host.recipe_file.parent)}
        return Desk(self.jobs, role, self.calls.extend, environ, log, STEP, lease)

    def ask(self, *, fresh: bool = False, publish: bool = True) -> Job:
        """Ask for a build of the host's recipe."""
        loaded = self.host.load()
        order = JobOrder(
            loaded.recipe.name, str(self.host.recipe_file), loaded.digest, "somebody asks", "ana", fresh, publish
        )
        job, call = self.jobs.request(order, PLAN)
        self.calls += [call] if call else []
        return job

    def work(self, job: Job) -> Job:
        """Everybody does what he is told of, until the job has ended."""
        with self.working():
            while JobState(self.jobs.job(job.id).state) not in ENDS:
                threading.Event().wait(0.05)
        return self.jobs.job(job.id)

    @contextmanager
    def working(self, lease: float = LEASE, but: Collection[Role] = ()) -> Iterator[list[Desk]]:
        """Desks of all roles but these, each told of what there is for its role, and a beat."""
        over = threading.Event()
        desks = [self.desk(role, lease) for role in Role if role not in but]
        threads = [threading.Thread(target=self._serve, args=(desk, over)) for desk in desks]
        threads.append(threading.Thread(target=self._beat, args=(over,)))
        for thread in threads:
            thread.start()
        try:
            yield desks
        finally:
            over.set()
            for desk in desks:
                desk.hand_back()
            for thread in threads:
                thread.join()

    def _serve(self, desk: Desk, over: threading.Event) -> None:
        while not over.wait(0.02):
            for call in self.take(desk.role):
                desk.run(call.task_id)

    def _beat(self, over: threading.Event) -> None:
        while not over.wait(0.5):
            self.tick()

    def take(self, role: Role) -> list[Call]:
        """The messages for a role, which nobody else gets."""
        mine = [call for call in list(self.calls) if call.role is role]
        for call in mine:
            self.calls.remove(call)
        return mine

    def taken(self, role: Role, seconds: float) -> list[Call]:
        """The same, as soon as there are any."""
        until = time.monotonic() + seconds
        while not (mine := self.take(role)):
            assert time.monotonic() < until
            time.sleep(0.02)
        return mine

    def digests(self) -> set[str]:
        """Of all artifacts."""
        return {each.digest for each in self.records.artifacts()}

    def forge(self, task_id: str, payload: Mapping[str, Any]) -> None:
        """Have a task say something else, as somebody can who may write into the database."""
        with self.records.session() as session:
            session.execute(update(Task).where(Task.id == task_id).values(payload=dict(payload)))

    def tick(self) -> None:
        """What a beat does when it looks."""
        Beat(self.records, self.calls.extend, Notifier(Notify()), "here").tick()


@contextmanager
def crew(host: FakeHost) -> Iterator[Crew]:
    """The workers of a host."""
    records = Records(host.settings.database)
    try:
        yield Crew(host, records)
    finally:
        records.close()
