"""Copies of homes that take neither the space nor the time of their images."""

import os
import shutil
import subprocess
from pathlib import Path

from tests.database import records_at

DATABASE = "imagefactory.db"


def share(source: Path, target: Path) -> None:
    """Copy a tree by hard links, or whole where another file system begins. Nothing in it is written in place.

    Locks are copied: whoever held one of them would hold that of every copy."""
    try:
        shutil.copytree(source, target, copy_function=_link)
    except shutil.Error:
        shutil.rmtree(target)
        subprocess.run(["cp", "-a", "--sparse=always", str(source), str(target)], check=True, timeout=300)


def _link(source: str, target: str) -> None:
    if source.endswith(".lock"):
        shutil.copy2(source, target)
    else:
        os.link(source, target)


def copy_records(source: Path, home: Path) -> None:
    """Copy the records of a home, whoever has them open."""
    with records_at(source / DATABASE) as old, records_at(home / DATABASE) as new:
        old.backup(new)


def copy_home(source: Path, home: Path) -> None:
    """Copy all of a home but its catalogue."""
    shutil.copytree(source, home, ignore=shutil.ignore_patterns("catalogue", "artifacts", f"{DATABASE}*"))
    share(source / "artifacts", home / "artifacts")
    copy_records(source, home)
