"""One process at a time works on one image name. The kernel lets go of the lock when its holder dies."""

import fcntl
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from imagefactory.errors import Busy

# No image name begins with a dot.
WHOLE = ".factory"


@contextmanager
def lock(directory: Path, name: str) -> Iterator[None]:
    """Hold the lock on `name`, beside others who hold other names. Raises Busy when another process holds it."""
    with (
        _held(directory, WHOLE, fcntl.LOCK_SH, "another process is cleaning up"),
        _held(directory, name, fcntl.LOCK_EX, f"another process is working on {name}"),
    ):
        yield


@contextmanager
def lock_all(directory: Path) -> Iterator[None]:
    """Hold the whole factory: nobody builds meanwhile. Raises Busy when somebody does."""
    with _held(directory, WHOLE, fcntl.LOCK_EX, "another process is building"):
        yield


@contextmanager
def _held(directory: Path, name: str, how: int, taken: str) -> Iterator[None]:
    directory.mkdir(parents=True, exist_ok=True)
    with (directory / f"{name}.lock").open("w") as held:
        try:
            fcntl.flock(held, how | fcntl.LOCK_NB)
        except BlockingIOError as error:
            raise Busy(taken) from error
        yield
