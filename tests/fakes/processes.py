"""The command line, with workers of short leases and a fake boot test: `python -m tests.fakes.processes worker ...`."""

import sys
from functools import partial

from imagefactory.cli.app import run
from imagefactory.service import desk
from imagefactory.store import jobs
from imagefactory.worker import run as processes
from tests.fakes.crew import STEP

LEASE = 6.0  # seconds: whoever waits for the dead waits less
WAIT = 3.0
ATTEMPTS = 12  # more than anybody is disturbed

if __name__ == "__main__":
    setattr(jobs, "MOST_ATTEMPTS", ATTEMPTS)  # noqa: B010 - a constant
    setattr(desk, "WAIT_FOR_OTHERS", WAIT)  # noqa: B010 - a constant
    setattr(processes, "work", partial(processes.work, step=STEP, lease=LEASE))  # noqa: B010 - as the verb calls it
    sys.exit(run(sys.argv[1:]))
