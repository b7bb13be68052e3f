"""The command line with a fake boot test: `python -m tests.fakes.command build ...`.

Stops for longer than any test lasts where FAKE_CONTROL/pause-EVENT.STEP says so, such as pause-StepFinished.rootfs.
"""

import os
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from imagefactory import wiring
from imagefactory.cli import session
from imagefactory.cli.app import run
from imagefactory.factory.loop import Factory
from imagefactory.progress import Event, Note, Progress
from imagefactory.settings import Settings
from tests.fakes.boots import boot_test

CONTROL = Path(os.environ["FAKE_CONTROL"])


@contextmanager
def factory(settings: Settings, progress: Progress) -> Iterator[Factory]:
    """wiring.factory, as the verbs call it."""

    def stopping(event: Event) -> None:
        progress(event)
        if not isinstance(event, Note):
            stop(f"{type(event).__name__}.{event.step.split()[0]}")

    with wiring.factory(settings, stopping, boot_test) as made:
        yield made


def stop(point: str) -> None:
    with (CONTROL / "visited").open("a") as visited:
        visited.write(f"{point}\n")
    if (CONTROL / f"pause-{point}").exists():
        (CONTROL / "reached").touch()
        time.sleep(600)


if __name__ == "__main__":
    setattr(session, "factory", factory)  # noqa: B010 - not exported, and of one argument less
    sys.exit(run(sys.argv[1:]))
