"""The process of one step with a fake boot test: `python -m tests.fakes.step`."""

import sys
from functools import partial

from imagefactory.hands.protocol import serve
from imagefactory.service.step import run
from tests.fakes.boots import boot_test

if __name__ == "__main__":
    sys.exit(serve({"run": partial(run, boot_test=boot_test)}))
