"""What is done to an unpacked root file system before file systems are made of it.

It comes from a tar that nobody vouches for, and this is done as root: no symbolic link in it is followed, because it
may lead anywhere on this host.
"""

import os
import stat
from pathlib import Path

from imagefactory.errors import RootfsUnfit

FSTAB = "/etc/fstab"
MAX_FSTAB = 1 << 16  # bytes


def directory(tree: Path, path: str, *, epoch: int, mode: int = 0o755) -> Path:
    """The directory `path` below `tree`, which is made where there is none, its parents too.

    What is made belongs to root, and its times are `epoch`. Raises RootfsUnfit.
    """
    found = tree
    parts = path.strip("/").split("/")
    for number, part in enumerate(parts, start=1):
        parent, found = found, found / part
        if not os.path.lexists(found):
            before = parent.stat()
            found.mkdir()
            found.chmod(mode if number == len(parts) else 0o755)  # whatever our umask is
            os.utime(found, (epoch, epoch))
            _restore_times(parent, before)
        elif not stat.S_ISDIR(found.lstat().st_mode):
            raise RootfsUnfit(f"/{found.relative_to(tree)} is no directory, and {path} has to be one")
    return found


def read_fstab(tree: Path, *, epoch: int) -> str:
    """What /etc/fstab says; nothing if there is none. Raises RootfsUnfit."""
    path = directory(tree, "/etc", epoch=epoch) / "fstab"
    if not os.path.lexists(path):
        return ""
    facts = path.lstat()
    if not stat.S_ISREG(facts.st_mode) or facts.st_size > MAX_FSTAB:
        raise RootfsUnfit(f"{FSTAB} is no regular file of at most {MAX_FSTAB} bytes")
    return path.read_text(encoding="utf-8", errors="surrogateescape")


def write(tree: Path, name: str, text: str, *, epoch: int) -> None:
    """Write the file `name` (absolute) below `tree` anew, with times `epoch`. Raises RootfsUnfit."""
    parent, _, base = name.rpartition("/")
    folder = directory(tree, parent, epoch=epoch)
    before = folder.stat()
    path = folder / base
    path.unlink(missing_ok=True)  # it may have another name outside the tree, or other attributes
    descriptor = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW, 0o644)
    with os.fdopen(descriptor, "w", encoding="utf-8", errors="surrogateescape") as stream:
        os.fchmod(descriptor, 0o644)
        stream.write(text)
    os.utime(path, (epoch, epoch))
    _restore_times(folder, before)


def set_aside(folder: Path, aside: Path) -> None:
    """Move `folder` to the new path `aside`, on the same file system, and leave an empty one like it in its place."""
    parent, before, facts = folder.parent, folder.parent.stat(), folder.stat()
    folder.rename(aside)
    folder.mkdir()
    os.chown(folder, facts.st_uid, facts.st_gid)
    folder.chmod(stat.S_IMODE(facts.st_mode))
    _restore_times(folder, facts)
    _restore_times(parent, before)


def _restore_times(path: Path, facts: os.stat_result) -> None:
    os.utime(path, ns=(facts.st_atime_ns, facts.st_mtime_ns))
