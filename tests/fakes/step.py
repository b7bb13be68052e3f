"""The process of one step with a fake boot test: `python -m tests.fakes.step`."""

import os
import sys
from functools import partial

from imagefactory.hands.protocol import serve
from imagefactory.service.step import run
from imagefactory.tools import hand
from imagefactory.tools.process import BASE_ENVIRONMENT
from tests.fakes.boots import boot_test

CLOCK = {name: value for name, value in os.environ.items() if name == "LD_PRELOAD" or "FAKE" in name}

if __name__ == "__main__":
    setattr(hand, "BASE_ENVIRONMENT", {**BASE_ENVIRONMENT, **CLOCK})  # noqa: B010 - hands are on the same host
    sys.exit(serve({"run": partial(run, boot_test=boot_test)}))
