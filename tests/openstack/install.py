"""The servers' Python packages, in a virtual environment of their own: they want other versions than the project."""

import fcntl
import os
import subprocess
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from hashlib import sha256
from pathlib import Path

from tests.openstack.errors import CloudError, tail

HERE = Path(__file__).parent
ROOT = HERE.parents[1]
VENV = ROOT / ".venv-openstack"
LOCK = HERE / "requirements.lock"

Say = Callable[[str], None]


def install(say: Say, venv: Path = VENV, lock: Path = LOCK) -> None:
    """Make `venv` what `lock` says. Done twice, it does nothing the second time.

    The stamp is written last. An install that was interrupted is begun anew: pip takes a package for installed whose
    files are half there.
    """
    with alone(venv, 0o755):
        stamp = venv / "installed"
        if stamp.exists() and stamp.read_text() == lock_digest(lock):
            return
        say(f"Installing Python packages in {venv.name}: {lock.read_text().count('==')}, as {lock.name} has them")
        log = venv / "install.log"
        run((sys.executable, "-m", "venv", "--clear", "--without-pip", venv), log)
        pip = (sys.executable, "-m", "pip", "--python", venv, "install", "-qq", "--disable-pip-version-check")
        run((*pip, "--no-deps", "--require-hashes", "--requirement", lock), log)
        stamp.write_text(lock_digest(lock))


def lock_digest(lock: Path = LOCK) -> str:
    return sha256(lock.read_bytes()).hexdigest()


@contextmanager
def alone(directory: Path, mode: int) -> Iterator[None]:
    """Make `directory` if it is missing, and keep other processes that come here waiting."""
    directory.mkdir(mode, parents=True, exist_ok=True)
    descriptor = os.open(directory, os.O_RDONLY)
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX)
        yield
    finally:
        os.close(descriptor)


def run(argv: tuple[str | Path, ...], log: Path, environment: dict[str, str] | None = None) -> None:
    """Run a program, its output at the end of `log`. Raises CloudError if it fails."""
    with log.open("ab") as output:
        status = subprocess.call(
            [str(part) for part in argv], env=environment, stdin=subprocess.DEVNULL, stdout=output, stderr=output
        )
    if status != 0:
        raise CloudError(f"{Path(argv[0]).name} failed with status {status}.\n{tail(log)}")
