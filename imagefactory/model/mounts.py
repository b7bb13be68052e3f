"""The file systems that a disk of the layout `separate` has besides root. Facts and arithmetic only.

Which directories have one, and how it is mounted, is what ANSSI's BP-028 (R28, level enhanced) asks for, as the rules
partition_for_* and mount_option_* of the SCAP Security Guide check it.
"""

from collections.abc import Collection, Mapping
from dataclasses import dataclass
from difflib import get_close_matches
from typing import Literal
from uuid import UUID

from imagefactory.model.quantity import MIB

Layout = Literal["single", "separate"]

SMALLEST = 16 * MIB  # bytes of a file system; below this mke2fs makes no journal

# For partitions that the Discoverable Partitions Specification has no type for.
LINUX_DATA = UUID("0fc63daf-8483-4772-8e79-3d69d8477de4")

NO_DEVICES = ("nodev",)
NO_SETUID = ("nodev", "nosuid")
NOTHING_RUNS = ("nodev", "nosuid", "noexec")


@dataclass(frozen=True)
class Mount:
    """A directory with a file system of its own.

    `options` are its mount options besides the defaults, `free` the bytes that the content leaves free unless a recipe
    says otherwise, `kind` the type of its partition, `mode` the directory's if the root file system has none.
    """

    path: str
    options: tuple[str, ...]
    free: int
    kind: UUID = LINUX_DATA
    mode: int = 0o755

    @property
    def role(self) -> str:
        """What the partition and the file system are called: at most 16 bytes, as ext4's labels are."""
        return self.path[1:].replace("/", "-")


# In the order of the disk; what is mounted inside another comes after it. Types: the Discoverable Partitions
# Specification; /boot has that of XBOOTLDR.
SEPARATE: tuple[Mount, ...] = (
    # Two more kernels with their initramfs.
    Mount("/boot", NOTHING_RUNS, 256 * MIB, UUID("bc13c2ff-59e6-4262-a352-b275fd6f7172")),
    # One more kernel's modules, and packages.
    Mount("/usr", NO_DEVICES, 1024 * MIB, UUID("8484680c-9521-48c6-9c11-b0720656f69e")),
    # apt's lists and archives.
    Mount("/var", NOTHING_RUNS, 1024 * MIB, UUID("4d21b016-b534-45c2-a9fb-5c16e091fd2d")),
    Mount("/var/log", NOTHING_RUNS, 512 * MIB),
    # Several times what auditd keeps, and more than the 75 MB below which it raises an alarm.
    Mount("/var/log/audit", NOTHING_RUNS, 256 * MIB, mode=0o750),
    # mkinitramfs puts the initramfs together here.
    Mount("/var/tmp", NOTHING_RUNS, 768 * MIB, UUID("7ec6f557-3bc5-4aca-b293-16ef5df639d1"), 0o1777),  # noqa: S108
    Mount("/tmp", NOTHING_RUNS, 512 * MIB, mode=0o1777),  # noqa: S108 - the image's
    Mount("/home", NOTHING_RUNS, 512 * MIB, UUID("933ac7e1-2eb4-4f13-b844-0e14e2aef915")),
    Mount("/srv", NO_SETUID, 256 * MIB, UUID("3b8f8425-20e0-4f3b-907f-1a25a76f98e8")),
    Mount("/opt", NO_SETUID, 256 * MIB),
)
ROOT_FREE = 128 * MIB  # bytes that root keeps free in this layout; it has no more than /etc and /root to hold

# Directories below a noexec file system out of which root runs programs: dpkg its maintainer scripts, cloud-init the
# scripts of user data. They are mounted over themselves without noexec, or no package could be upgraded.
EXECUTABLE = ("/var/lib/cloud", "/var/lib/dpkg")


@dataclass(frozen=True)
class Need:
    """The bytes of file system that a directory's content wants: `least` just fits, `roomy` leaves its free space."""

    least: int
    roomy: int


def misnamed(paths: Collection[str]) -> str | None:
    """What is wrong with `paths` as directories with file systems of their own, for people; None if nothing is."""
    mounts = [mount.path for mount in SEPARATE]
    for path in paths:
        if path == "/":
            return "/ takes what the others leave, and has no size of its own"
        if path not in mounts:
            near = get_close_matches(path[:100], mounts, n=1)
            hint = f"; did you mean {near[0]}?" if near else f"; these have: {', '.join(mounts)}"
            return f"{path[:40]!r} has no file system of its own{hint}"
    return None


def allot(needs: Mapping[str, Need], sizes: Mapping[str, int]) -> dict[Mount, int]:
    """The size in bytes of each partition, in whole MiB: that of `sizes`, or else one with room.

    Both are by path; `needs` has every one. Whether a given size suffices is for `cramped` to say.
    """
    return {mount: sizes.get(mount.path, _rounded(needs[mount.path].roomy)) for mount in SEPARATE}


def cramped(needs: Mapping[str, Need], sizes: Mapping[str, int]) -> list[str]:
    """The file systems whose size in `sizes` is less than their content needs, for people."""
    return [
        f"{path} needs at least {_rounded(needs[path].least) // MIB} MiB and has {size // MIB} MiB"
        for path, size in sizes.items()
        if size < needs[path].least
    ]


def _rounded(size: int) -> int:
    """`size` in whole MiB, and not less than a file system may have."""
    return max(SMALLEST, -(-size // MIB) * MIB)
