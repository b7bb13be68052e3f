"""A small read-only disk that a guest finds by its label."""

from collections.abc import Mapping
from pathlib import Path

from imagefactory.tools.process import run

SECONDS = 60.0


def make(disk: Path, label: str, tree: Path, *, environment: Mapping[str, str]) -> Path:
    """Make `disk` of what is in the directory `tree`, for everybody in the guest to read, and return it.

    Raises ProgramMissing, ProgramFailed, DiskFull.
    """
    argv = ["xorriso", "-as", "mkisofs", "-quiet", "-o", str(disk), "-V", label, "-J", "-r", str(tree)]
    run(argv, env=environment, timeout=SECONDS)
    return disk
