"""FAT32 file systems inside a disk file, by mtools: no mount, no vfat in the kernel, no image of its own to copy.

mtools takes `FILE@@OFFSET` wherever it takes a drive, so only the clusters that are used are ever written.
"""

from collections.abc import Mapping, Sequence
from pathlib import Path, PurePosixPath

from imagefactory.model.disk import SECTOR
from imagefactory.tools.process import run

TIMEOUT = 120.0  # seconds
BACKUP_SECTOR = 6  # of the boot sector, where FAT32 keeps it
TABLE = range(0x1BE, 0x1FE)  # where an MBR has its partition table
EARLIEST = 315532800  # 1980-01-01, the first second that FAT can write down


def make(disk: Path, offset: int, size: int, *, serial: int, label: str, env: Mapping[str, str], epoch: int) -> None:
    """Make an empty FAT32 of `size` bytes at `offset` in `disk`. `serial` is its 32-bit volume id.

    The bytes there must be zero already. Raises ProgramMissing, ProgramFailed, DiskFull.
    """
    sectors = ["-T", str(size // SECTOR), "-h", "64", "-s", "32", "-H", str(offset // SECTOR)]
    fixed = ["-c", "1", "-N", f"{serial:08x}", "-v", label]
    run(["mformat", "-i", _drive(disk, offset), "-F", *sectors, *fixed, "::"], env=_fixed(env, epoch), timeout=TIMEOUT)
    _clear_partition_table(disk, offset)


def copy(
    disk: Path,
    offset: int,
    files: Sequence[tuple[Path, PurePosixPath]],
    *,
    env: Mapping[str, str],
    epoch: int,
) -> None:
    """Copy `files`, pairs of a file here and its absolute path there, in that order; missing directories are made.

    All times are `epoch`. Raises ProgramMissing, ProgramFailed, DiskFull.
    """
    drive, environment = _drive(disk, offset), _fixed(env, epoch)
    wanted = {parent for _, there in files for parent in there.parents if parent.name}
    # Parents come before their children when sorted by path.
    directories = [f"::{directory}" for directory in sorted(wanted)]
    run(["mmd", "-i", drive, *directories], env=environment, timeout=TIMEOUT)
    for here, there in files:
        run(["mcopy", "-i", drive, here, f"::{there}"], env=environment, timeout=TIMEOUT)


def _clear_partition_table(disk: Path, offset: int) -> None:
    """Clear the MBR partition table that mformat writes into both boot sectors, as if each were the start of a disk.

    Its one entry covers the whole disk file; GRUB's tools in the guest take it for a nested partition and complain.
    """
    with disk.open("r+b") as stream:
        for sector in (0, BACKUP_SECTOR):
            stream.seek(offset + sector * SECTOR + TABLE.start)
            stream.write(bytes(len(TABLE)))


def _drive(disk: Path, offset: int) -> str:
    return f"{disk}@@{offset}"


def _fixed(env: Mapping[str, str], epoch: int) -> dict[str, str]:
    # FAT holds local time, and mtools reads ~/.mtoolsrc: neither may depend on who builds.
    return {**env, "SOURCE_DATE_EPOCH": str(max(epoch, EARLIEST)), "TZ": "UTC", "HOME": "/nonexistent"}
