"""A file that is there as a whole or not at all, and that replaces nothing."""

import errno
import os
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from imagefactory.errors import DiskFull, OutputExists, OutputUnusable

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
        with tempfile.TemporaryDirectory(prefix=f".{output.name}.", dir=output.parent) as work:
            made = Path(work) / "new"
            yield made
            _name(made, output)
    except FileExistsError as error:
        raise OutputExists(f"{output} exists") from error
    except OSError as error:
        if error.errno in _NO_SPACE:
            raise DiskFull(f"no space for {output}") from error
        raise OutputUnusable(f"{output}: {error.strerror}") from error


def _name(made: Path, output: Path) -> None:
    try:
        # link(2) refuses an existing name; rename(2) would replace it.
        os.link(made, output)
    except OSError as error:
        if error.errno not in _NO_LINKS:
            raise
        made.rename(output)
