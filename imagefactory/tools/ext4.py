"""ext4 file systems inside a disk file, by mke2fs and debugfs: filled from a directory, no mount.

Equal trees give equal bytes: everything that mke2fs 1.47 takes from the clock, from chance, from this host's kernel
or from its mke2fs.conf is given; what it copies of the source's access and change times is overwritten afterwards. The
order of directories is no input: mke2fs sorts names, by the locale, which is why that is given too.
"""

import os
import re
import stat
from collections.abc import Collection, Iterator, Mapping
from pathlib import Path
from uuid import UUID

from imagefactory.errors import ProgramFailed, RootfsUnfit
from imagefactory.model.disk import MIB, too_small
from imagefactory.tools.process import run

MAKE_TIMEOUT = 3600.0  # seconds
DEBUGFS_TIMEOUT = 600.0

BLOCK = 4096  # bytes
INODE = 256  # bytes
INODE_RATIO = 16384  # bytes of file system for each inode
ROOT_INODE = 2
RESERVED = 1  # percent kept for root
_ATTRIBUTE = re.compile(r"[A-Za-z0-9_.-]+")

# Debian 12's ext4. Spelled out because newer releases add features (orphan_file, metadata_csum_seed) that older
# GRUBs and kernels refuse, and because small file systems would get other block sizes.
CONFIG = """\
[defaults]
base_features = sparse_super,large_file,filetype,resize_inode,dir_index,ext_attr
default_mntopts = acl,user_xattr
enable_periodic_fsck = 0
[fs_types]
ext4 = {
features = has_journal,extent,huge_file,flex_bg,metadata_csum,64bit,dir_nlink,extra_isize
}
"""

# How the messages of mke2fs end when the content does not fit.
FULL = re.compile(r"Could not allocate (block|inode)|No free space in|not enough space", re.IGNORECASE)


def make(
    disk: Path,
    offset: int,
    size: int,
    tree: Path,
    *,
    uuid: UUID,
    hash_seed: UUID,
    label: str,
    epoch: int,
    scratch: Path,
    log: Path,
    env: Mapping[str, str],
) -> None:
    """Make an ext4 of `size` bytes at `offset` in `disk`, filled with the content of `tree`.

    The bytes there must be zero already. Raises ProgramMissing, ProgramFailed, ProgramTimeout, DiskFull, and
    DiskTooSmall where the tree does not fit.
    """
    config = scratch / "mke2fs.conf"
    config.write_text(CONFIG)
    # A new sparse file reads as zeros: no discard, nothing to zero, and nothing left for the guest to zero later. It
    # also keeps mke2fs from asking the kernel here whether the guest could do that.
    extended = f"offset={offset},root_owner=0:0,hash_seed={hash_seed},nodiscard,assume_storage_prezeroed=1"
    kind = ["-q", "-F", "-t", "ext4"]
    geometry = ["-b", str(BLOCK), "-I", str(INODE), "-i", str(INODE_RATIO), "-m", str(RESERVED)]
    identity = ["-U", str(uuid), "-L", label]
    try:
        run(
            ["mke2fs", *kind, *geometry, *identity, "-E", extended, "-d", tree, disk, f"{size // 1024}k"],
            env={**_fixed(env, epoch), "MKE2FS_CONFIG": str(config)},
            timeout=MAKE_TIMEOUT,
            log=log,
        )
    except ProgramFailed as error:
        if not any(FULL.search(line) for line in error.lines):
            raise
        spare = disk.stat().st_size - size
        raise too_small(disk.stat().st_size, spare + needed(tree)) from error


def adopt_root(disk: Path, offset: int, tree: Path, *, scratch: Path, epoch: int, env: Mapping[str, str]) -> None:
    """Give the file system's root directory the owner, mode, modification time and extended attributes of `tree`.

    mke2fs 1.47.0 takes from there what is in it, but not these. Raises RootfsUnfit for an attribute whose name debugfs
    would take for something else, ProgramMissing, ProgramFailed.
    """
    facts = tree.stat(follow_symlinks=False)
    fields = {
        "mode": f"0{facts.st_mode:o}",
        "uid": facts.st_uid,
        "gid": facts.st_gid,
        "mtime": f"@{int(facts.st_mtime)}",
    }
    script = "".join(f"sif <{ROOT_INODE}> {field} {value}\n" for field, value in fields.items())
    for number, name in enumerate(sorted(os.listxattr(tree, follow_symlinks=False))):
        # The tar chose the name, and debugfs runs as root: a line break in it would begin another command.
        if not _ATTRIBUTE.fullmatch(name):
            raise RootfsUnfit(f"the directory {tree.name} has an extended attribute with a strange name: {name[:80]!a}")
        value = scratch / f"attribute-{number}"
        value.write_bytes(os.getxattr(tree, name, follow_symlinks=False))
        script += f"ea_set -f {value} <{ROOT_INODE}> {name}\n"
    _debugfs(disk, offset, script, _fixed(env, epoch))


def settle_times(disk: Path, offset: int, *, epoch: int, env: Mapping[str, str]) -> None:
    """Set access and change time of every inode in use to `epoch`; modification times stay.

    mke2fs copies them from the source, where they say when it was extracted. Raises ProgramMissing, ProgramFailed.
    """
    filesystem, environment = f"{disk}?offset={offset}", _fixed(env, epoch)
    listing = run(["dumpe2fs", filesystem], env=environment, timeout=DEBUGFS_TIMEOUT).stdout.decode()
    script = "".join(f"sif <{inode}> atime @{epoch}\nsif <{inode}> ctime @{epoch}\n" for inode in used_inodes(listing))
    _debugfs(disk, offset, script, environment)


def used_inodes(listing: str) -> Iterator[int]:
    """The numbers of the inodes in use, from what dumpe2fs prints: it lists the free ones by group."""
    total = re.search(r"^Inode count: +(\d+)$", listing, re.MULTILINE)
    if total is None:
        raise ProgramFailed("dumpe2fs printed no inode count")
    following = 1
    for line in re.findall(r"^  Free inodes: (.*)$", listing, re.MULTILINE):
        for first, last in re.findall(r"(\d+)(?:-(\d+))?", line):
            yield from range(following, int(first))
            following = int(last or first) + 1
    yield from range(following, int(total[1]) + 1)


def needed(tree: Path, *, free: int = 0, without: Collection[Path] = ()) -> int:
    """About how many bytes of file system `tree` wants: enough that it fits, and little more.

    `free` bytes are to stay free. What is in the directories `without` lies elsewhere.
    """
    blocks, inodes = 0, 16
    seen: set[int] = set()
    for folder, folders, files in os.walk(tree):
        inodes += 1
        # A directory entry is 8 bytes and the name, rounded up to 4; blocks are never quite full.
        blocks += 1 + sum(12 + len(os.fsencode(name)) for name in (*folders, *files)) // (BLOCK * 3 // 4)
        for facts in (Path(folder, name).lstat() for name in files):
            if facts.st_ino not in seen:
                seen.add(facts.st_ino)
                inodes += 1
                blocks += -(-facts.st_size // BLOCK) if stat.S_ISREG(facts.st_mode) else 1
        apart = [name for name in folders if Path(folder, name) in without]
        inodes, blocks = inodes + len(apart), blocks + len(apart)
        folders[:] = [name for name in folders if name not in apart]
    content = max((blocks * BLOCK + free) * 101 // 100, inodes * (INODE_RATIO - INODE))
    size = content
    # The overhead depends on the size and the size on the overhead.
    while size - _overhead(size) < content:
        size += MIB
    return size


def _overhead(size: int) -> int:
    """What an ext4 of `size` bytes keeps for itself: inode tables, journal (as mke2fs chooses it), descriptors, the
    blocks reserved for growing."""
    journal = next(
        (mebibytes for below, mebibytes in ((128, 4), (1024, 16), (2048, 32), (16384, 64)) if size < below * MIB), 1024
    )
    groups = -(-size // (128 * MIB))
    return size // INODE_RATIO * INODE + journal * MIB + groups * 4 * BLOCK + 2 * MIB * min(groups, 10)


def _debugfs(disk: Path, offset: int, script: str, env: Mapping[str, str]) -> None:
    argv: list[str | Path] = ["debugfs", "-w", "-f", "-", f"{disk}?offset={offset}"]
    run(argv, env=env, timeout=DEBUGFS_TIMEOUT, input_=script.encode())


def _fixed(env: Mapping[str, str], epoch: int) -> dict[str, str]:
    return {**env, "E2FSPROGS_FAKE_TIME": str(epoch), "LC_ALL": "C.UTF-8"}
