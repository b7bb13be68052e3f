"""A worker whose tasks only take time: python -m tests.fakes.worker ADDRESS PASSWORD_FILE ROLE DONE SECONDS JOBS STOP.

Each task's id is a line of the file DONE when it begins. STOP is how many seconds it has to end when the worker is
told to; on its standard output the worker says `stopping`, and how many tasks did not make it.
"""

import logging
import os
import sys
import threading
from pathlib import Path

from imagefactory.errors import FactoryError
from imagefactory.model.broker import parse_broker
from imagefactory.worker.broker import Broker


def main(address: str, password: str, role: str, done: str, seconds: str, jobs: str, stop: str) -> int:
    logging.basicConfig(level=logging.INFO, stream=sys.stderr, format="%(levelname)s %(name)s %(message)s")
    stopping = threading.Event()

    def handle(task_id: str) -> None:
        with Path(done).open("a") as stream:
            stream.write(f"{task_id}\n")
        if float(seconds) < 0:
            threading.Event().wait(-float(seconds))  # deaf to being told
        stopping.wait(max(0.0, float(seconds)))

    def on_stop() -> None:
        say("stopping")
        stopping.set()

    try:
        with Broker(parse_broker(address), Path(password)) as broker:
            left = broker.serve(role, handle, jobs=int(jobs), stop_within=float(stop), on_stop=on_stop)
    except FactoryError as error:
        say(str(error))
        return error.exit_code
    say(f"left {left}")
    if left:
        os._exit(0)
    return 0


def say(line: str) -> None:
    sys.stdout.write(f"{line}\n")
    sys.stdout.flush()


if __name__ == "__main__":
    sys.exit(main(*sys.argv[1:]))
