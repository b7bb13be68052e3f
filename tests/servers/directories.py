"""Directories of tests, for others than who runs them."""

from pathlib import Path


def open_to_others(directory: Path) -> None:
    """Somebody else has to get there, and pytest, or whoever cloned this, keeps the way to itself."""
    for path in (directory, *directory.parents):
        mode = path.stat().st_mode
        if not mode & 0o001:
            path.chmod(mode | 0o011)
