"""Files for targets that read paths, where no disk is waited for."""

import os
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

MEMORY = Path("/dev/shm") if os.access("/dev/shm", os.W_OK) else Path(tempfile.gettempdir())  # noqa: S108


@contextmanager
def directory() -> Iterator[Path]:
    """An empty one."""
    with tempfile.TemporaryDirectory(dir=MEMORY) as folder:
        yield Path(folder)


@contextmanager
def in_memory(raw: bytes, name: str) -> Iterator[Path]:
    """A file with these bytes."""
    with directory() as folder:
        path = folder / name
        path.write_bytes(raw)
        yield path
