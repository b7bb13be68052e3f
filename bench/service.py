"""What the service costs beside what it stands on: a real RabbitMQ and a real PostgreSQL on loopback."""

import re
import shutil
import subprocess
import sys
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from datetime import datetime, timedelta
from pathlib import Path

from celery import Celery
from sqlalchemy import func, insert, select

from bench.measure import Comparison, compare
from bench.memory import Peaks
from imagefactory.model.broker import parse_broker
from imagefactory.model.database_url import parse_database_url
from imagefactory.model.job import NewTask, Role
from imagefactory.model.notify import Notify
from imagefactory.service.beat import Beat
from imagefactory.service.notify import Notifier
from imagefactory.store.database import ServiceDatabase
from imagefactory.store.job_rows import UNENDED, Call, add
from imagefactory.store.records import Records
from imagefactory.store.tables import ScheduleRow, Task
from imagefactory.worker.broker import Broker
from tests.servers.postgres import postgres
from tests.servers.rabbitmq import rabbitmq

TASKS = 2000
SCHEDULES = 10_000
RATE = 0.5  # of bare Celery's
STEPS = 100  # a second
TICK = 1.0  # seconds
MEMORY_GOAL = 150 << 20  # bytes
ROLE = Role.TEST
BARE = "bare"


@dataclass(frozen=True)
class Site:
    """Servers, and the addresses that workers get."""

    records: Records
    database: str
    broker: Broker
    broker_url: str
    password_file: Path
    celery: Celery
    counted: Path


def messages(work: Path, runs: int) -> Comparison:
    """From the look of a beat, which finds so many steps in PostgreSQL, until a worker was told of the last one and has
    done nothing, against as many tasks of Celery's that do nothing. Each has one worker, two threads."""
    with site(work) as here:

        def ours() -> None:
            here.counted.write_text("")
            _look(here)
            _until(lambda: here.counted.stat().st_size >= TASKS, 600.0)

        def bare() -> None:
            here.counted.write_text("")
            with here.celery.producer_or_acquire() as producer:
                for _ in range(TASKS):
                    here.celery.send_task(BARE, producer=producer, queue=BARE)
            _until(lambda: here.counted.stat().st_size >= TASKS, 600.0)

        with worker("told", here), worker("bare", here):
            candidates = {"beat, PostgreSQL, RabbitMQ, worker": ours, "bare Celery, RabbitMQ": bare}
            return compare(f"{TASKS} messages of steps", 1 / RATE, runs, candidates, lambda: _wait(here))


def steps(work: Path, runs: int) -> Comparison:
    """The same until each step was claimed, has done nothing, and is recorded as done. That is what a worker can do
    apart from its steps, of which each begins with a process that takes longer than all of this."""
    with site(work) as here:

        def ours() -> None:
            _look(here)
            _until(lambda: not _unended(here.records), 600.0)

        with worker("ours", here):
            name = f"{TASKS} steps that do nothing, claimed and recorded"
            return compare(name, TASKS / STEPS, runs, {"one worker": ours}, lambda: _wait(here), in_seconds=True)


def tick(work: Path, runs: int) -> Comparison:
    """One look of a beat at 10,000 schedules of which none is due."""
    with site(work) as here:
        beat = Beat(here.records, lambda _: None, Notifier(Notify()), "bench")
        _schedules(here.records)

        def quiet() -> None:
            beat.tick()

        return compare(f"a beat looks at {SCHEDULES} schedules", TICK, runs, {"nothing is due": quiet}, in_seconds=True)


def memory(work: Path) -> Peaks:
    """What an idle worker takes: its proportional share of memory."""
    with site(work) as here, worker("ours", here) as pid:
        time.sleep(5.0)
        rollup = Path(f"/proc/{pid}/smaps_rollup").read_text()
        found = re.search(r"^Pss: +(\d+) kB", rollup, re.MULTILINE)
        assert found is not None
        return Peaks("an idle worker (PSS)", MEMORY_GOAL, {"imagefactory worker": int(found[1]) << 10})


@contextmanager
def site(work: Path) -> Iterator[Site]:
    """Servers of their own, in a directory that goes away."""
    directory = work / "service"
    shutil.rmtree(directory, ignore_errors=True)
    directory.mkdir()
    directory.chmod(0o755)
    with ExitStack() as stack:
        database = stack.enter_context(postgres(directory / "postgres"))
        server = stack.enter_context(rabbitmq(directory / "rabbitmq"))
        password = directory / "password"
        password.write_text(server.password)
        password.chmod(0o600)
        url = database.database("bench")
        ServiceDatabase(parse_database_url(url)).migrate()
        records = Records(parse_database_url(url))
        stack.callback(records.close)
        broker = stack.enter_context(Broker(parse_broker(server.url()), password))
        address = server.url().replace("guest@", f"guest:{server.password}@")
        celery = Celery("bench", broker=address, set_as_current=False)
        celery.conf.update(task_ignore_result=True, result_backend=None)
        yield Site(records, url, broker, server.url(), password, celery, directory / "counted")


@contextmanager
def worker(kind: str, here: Site) -> Iterator[int]:
    """A worker with two threads, in a process of its own; it is ready when we are told its number."""
    module = [sys.executable, "-m", "bench.service_worker", kind]
    arguments = [here.database, here.broker_url, here.password_file, here.counted]
    command = [*module, *map(str, arguments)]
    log = here.counted.with_name(f"{kind}.log")
    with log.open("w") as said, subprocess.Popen(command, stdout=subprocess.PIPE, stderr=said, text=True) as process:
        assert process.stdout is not None
        assert process.stdout.readline() == "ready\n"
        time.sleep(2.0)  # it begins to consume
        try:
            yield process.pid
        finally:
            process.terminate()


def tell(broker: Broker, calls: Sequence[Call]) -> None:
    """Send the messages of a beat."""
    if calls:
        broker.send(ROLE, [call.task_id for call in calls])


def _wait(here: Site) -> None:
    """Have so many steps wait, and nothing else."""
    with here.records.session() as session:
        session.query(Task).delete()
        add(session, None, [NewTask(ROLE, "nothing") for _ in range(TASKS)], told=False)


def _look(here: Site) -> None:
    Beat(here.records, lambda calls: tell(here.broker, calls), Notifier(Notify()), "bench").tick()


def _unended(records: Records) -> int:
    with records.session() as session:
        return session.scalar(select(func.count()).select_from(Task).where(Task.state.in_(UNENDED))) or 0


def _until(what: Callable[[], bool], seconds: float) -> None:
    deadline = time.monotonic() + seconds
    while not what() and time.monotonic() < deadline:
        time.sleep(0.02)


def _schedules(records: Records) -> None:
    later = datetime(2100, 1, 1)
    spec = {"cron": "30 2 * * *", "timezone": "UTC", "pause_after": 3, "only_if_changed": True}
    rows = [
        {
            "name": f"image-{number}",
            "kind": "rebuild",
            "recipe_file": f"/recipes/{number}.yaml",
            "spec": spec,
            "next_run": later + timedelta(minutes=number),
            "begins": later + timedelta(minutes=number),
        }
        for number in range(SCHEDULES)
    ]
    with records.session() as session:
        session.execute(insert(ScheduleRow), rows)
