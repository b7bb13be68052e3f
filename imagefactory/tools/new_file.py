"""A file that is there as a whole or not at all, and that replaces nothing."""

import errno
import os
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

from imagefactory.errors import DiskFull, OutputExists, OutputUnusable
from imagefactory.tools.scratch import scratch, sweep

# What may lie in the directory of a file to be.
NEW, LOG = "new", "convert.log"
_NO_LINKS = {errno.EPERM, errno.EOPNOTSUPP, errno.EMLINK}
_NO_SPACE = {errno.ENOSPC, errno.EDQUOT}


@contextmanager
def new_file(output: Path) -> Iterator[Path]:
    """A path beside `output` to write to; leaving without an error gives the file its name.

    The directory of the path is private and goes away. Raises OutputExists, OutputUnusable, DiskFull.
    """
    if os.path.lexists(output):
        raise OutputExists(f"{output} exists")
    try:
        with scratch(output.parent, _prefix(output)) as work:
            sweep(output.parent, _prefix(output), _remove)
            made = work / NEW
            yield made
            give_name(made, output)
    except FileExistsError as error:
        raise OutputExists(f"{output} exists") from error
    except OSError as error:
        if error.errno in _NO_SPACE:
            raise DiskFull(f"no space for {output}") from error
        raise OutputUnusable(f"{output}: {error.strerror}") from error


def _prefix(output: Path) -> str:
    return f".{output.name}.imagefactory-"


def _remove(directory: Path, descriptor: int) -> None:
    """Our files, and the directory if nothing else is in it."""
    for file in (NEW, LOG):
        with suppress(FileNotFoundError):
            os.unlink(file, dir_fd=descriptor)
    directory.rmdir()


def give_name(made: Path, output: Path) -> None:
    """Give a file its name if nothing has it; it may keep the one that it had. Raises OSError."""
    try:
        # link(2) refuses an existing name; rename(2) would replace it.
        os.link(made, output)
    except OSError as error:
        if error.errno not in _NO_LINKS:
            raise
        made.rename(output)
