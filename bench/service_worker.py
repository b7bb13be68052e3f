"""Workers whose tasks do nothing: python -m bench.service_worker KIND DATABASE BROKER PASSWORD_FILE COUNTED.

`ours` claims them and records what came of them, `told` is told of them only, `bare` is Celery's own."""

import sys
from collections.abc import Callable, Sequence
from pathlib import Path

from celery import Celery

from bench.service import BARE, ROLE
from imagefactory.model.broker import parse_broker
from imagefactory.model.database_url import parse_database_url
from imagefactory.service.desk import Desk, Watched
from imagefactory.service.logs import Redactor, set_up
from imagefactory.service.outcome import Outcome
from imagefactory.store.job_rows import Call, Held
from imagefactory.store.jobs import Jobs
from imagefactory.store.records import Records
from imagefactory.worker.broker import Broker
from signing.keys import read_secret

THREADS = 2


class Idle(Desk):
    """Claims, renews and records as any other, and does nothing in between."""

    def _step(self, held: Held, watched: Watched) -> Outcome:
        del held, watched
        return Outcome()


def ours(database: str, broker: str, password: str, _: str) -> None:
    set_up(sys.stderr, Redactor(), role=ROLE, host="bench")  # a worker's log is a part of what it costs
    records = Records(parse_database_url(database))
    with Broker(parse_broker(broker), Path(password)) as served:
        desk = Idle(Jobs(records), ROLE, _nobody, {}, Path("/dev/null"))
        served.check()
        _ready()
        served.serve(ROLE, desk.run, jobs=THREADS, stop_within=10.0)


def told(_: str, broker: str, password: str, counted: str) -> None:
    done = _counting(counted)
    with Broker(parse_broker(broker), Path(password)) as served:
        served.check()
        _ready()
        served.serve(ROLE, done, jobs=THREADS, stop_within=10.0)


def bare(_: str, broker: str, password: str, counted: str) -> None:
    secret = read_secret(Path(password)).decode()
    app = Celery("bench", broker=broker.replace("@", f":{secret}@", 1), set_as_current=True)
    app.conf.update(task_ignore_result=True, result_backend=None, task_default_queue=BARE)
    done = _counting(counted)

    @app.task(name=BARE)  # type: ignore[untyped-decorator]
    def nothing() -> None:
        done(BARE)

    _ready()
    app.worker_main(["worker", "--pool=threads", f"--concurrency={THREADS}", "--queues", BARE, "--loglevel=ERROR",
                     "--without-mingle", "--without-gossip", "--without-heartbeat"])  # fmt: skip


def _counting(counted: str) -> Callable[[str], None]:
    done = Path(counted).open("ab", buffering=0)  # noqa: SIM115 - as long as this process lives

    def count(_: str) -> None:
        done.write(b".")

    return count


def _nobody(calls: Sequence[Call]) -> None:
    del calls


def _ready() -> None:
    sys.stdout.write("ready\n")
    sys.stdout.flush()


if __name__ == "__main__":
    {"ours": ours, "told": told, "bare": bare}[sys.argv[1]](*sys.argv[2:])
