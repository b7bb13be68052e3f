"""GRUB: which files of a root file system start a machine, and where they go on a disk.

For BIOS this does what grub-bios-setup does, which itself wants a real device. The offsets are those of GRUB 2.06,
include/grub/i386/pc/boot.h and include/grub/offsets.h.
"""

import struct
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path, PurePosixPath
from uuid import UUID

from imagefactory.errors import BootloaderMissing, ProgramFailed
from imagefactory.model.disk import SECTOR, Partition
from imagefactory.tools.process import run

TIMEOUT = 120.0  # seconds

# In boot.img, the first 440 bytes of the disk.
BOOT_CODE = 440  # what follows in the sector is the protective MBR's
KERNEL_SECTOR = 0x5C  # 8 bytes: the sector of the core image
DRIVE_CHECK = 0x66  # 2 bytes: a jump, put out of action for hard disks because some BIOSes pass a wrong drive number
NOP_NOP = b"\x90\x90"

# In the core image's first sector (diskboot.img): its last block list entry, which says where the rest is.
BLOCK_LIST = 0x1F4
REST_SEGMENT = 0x0820  # where the rest is loaded to: GRUB_BOOT_MACHINE_KERNEL_SEG + 0x20

# What the core image needs to find GRUB's folder; everything else is loaded from there.
CORE_MODULES = ("biosdisk", "part_gpt", "ext2", "search_fs_uuid")

MODULES = PurePosixPath("usr/lib/grub/i386-pc")
CONFIG = PurePosixPath("boot/grub/grub.cfg")
NORMAL = PurePosixPath("boot/grub/i386-pc/normal.mod")
SHIM = PurePosixPath("usr/lib/shim/shimx64.efi.signed")
MOK_MANAGER = PurePosixPath("usr/lib/shim/mmx64.efi.signed")
GRUB = PurePosixPath("usr/lib/grub/x86_64-efi-signed/grubx64.efi.signed")
# With this file there grub-cloud-amd64 runs grub-install whenever a part of it is upgraded (its postinst, 0.0.5).
RENEWAL = "/etc/grub.d/enable_cloud"


@dataclass(frozen=True)
class BiosParts:
    """What BIOS needs of a root file system: the folder of GRUB's modules and images."""

    modules: Path


@dataclass(frozen=True)
class EfiParts:
    """What UEFI needs of a root file system: the signed programs."""

    shim: Path
    mok_manager: Path
    grub: Path


def bios_parts(tree: Path) -> BiosParts:
    """Find what BIOS needs below `tree`. Raises BootloaderMissing."""
    _inside(tree, CONFIG)
    # Beyond the core image GRUB loads its modules from its folder.
    _inside(tree, NORMAL)
    for name in ("boot.img", "diskboot.img", "kernel.img", "moddep.lst"):
        _inside(tree, MODULES / name)
    modules = tree / MODULES
    if any(module.is_symlink() for module in modules.iterdir()):
        raise BootloaderMissing(f"/{MODULES} holds symbolic links, which may lead anywhere on this host")
    return BiosParts(modules)


def efi_parts(tree: Path) -> EfiParts:
    """Find what UEFI with Secure Boot needs below `tree`. Raises BootloaderMissing."""
    _inside(tree, CONFIG)
    return EfiParts(_inside(tree, SHIM), _inside(tree, MOK_MANAGER), _inside(tree, GRUB))


def search(filesystem: UUID, folder: str) -> str:
    """The configuration that finds the file system with GRUB's `folder` and sets GRUB's root and prefix to it."""
    return f"search.fs_uuid {filesystem} root\nset prefix=($root){folder}\n"


def efi_files(parts: EfiParts, config: Path) -> list[tuple[Path, PurePosixPath]]:
    """What goes where on the EFI system partition; `config` is a file with `search` and a configfile line.

    EFI/BOOT/BOOTX64.EFI is the path for removable media (UEFI 2.10, 3.5.1.1), which a fresh machine starts by. shim
    looks for its companions beside itself; Debian's signed grub looks for /EFI/debian/grub.cfg wherever it lies.
    fbx64.efi is left out: it would write boot entries and reset the machine at the first start.
    """
    boot, debian = PurePosixPath("/EFI/BOOT"), PurePosixPath("/EFI/debian")
    return [
        (parts.shim, boot / "BOOTX64.EFI"),
        (parts.grub, boot / "grubx64.efi"),
        (parts.mok_manager, boot / "mmx64.efi"),
        (parts.shim, debian / "shimx64.efi"),
        (parts.grub, debian / "grubx64.efi"),
        (parts.mok_manager, debian / "mmx64.efi"),
        (config, debian / "grub.cfg"),
    ]


def core_image(parts: BiosParts, config: Path, output: Path, *, env: Mapping[str, str]) -> None:
    """Make the core image for BIOS, with `config` (a file with `search`) run first.

    Raises ProgramMissing, ProgramFailed.
    """
    fixed: list[str | Path] = ["--format=i386-pc", "--prefix=/boot/grub", "--compression=auto"]
    run(
        ["grub-mkimage", "-d", parts.modules, *fixed, "--config", config, "--output", output, *CORE_MODULES],
        env=env,
        timeout=TIMEOUT,
    )


def install_bios(disk: Path, partition: Partition, boot: bytes, core: bytes) -> None:
    """Write boot.img (`boot`) to the first sector of `disk` and the core image to `partition`.

    Raises ProgramFailed when the core image is too big, OSError.
    """
    if len(core) > partition.size:
        raise ProgramFailed(f"grub-mkimage made a core image of {len(core)} bytes, more than {partition.size}")
    with disk.open("r+b") as stream:
        stream.write(boot_sector(boot, partition.start // SECTOR))
        stream.seek(partition.start)
        stream.write(core_sectors(core, partition.start // SECTOR))


def boot_sector(boot: bytes, first: int) -> bytes:
    """The first 440 bytes of a disk whose core image starts at sector `first`."""
    patched = bytearray(boot[:BOOT_CODE])
    struct.pack_into("<Q", patched, KERNEL_SECTOR, first)
    patched[DRIVE_CHECK : DRIVE_CHECK + 2] = NOP_NOP
    return bytes(patched)


def core_sectors(core: bytes, first: int) -> bytes:
    """The core image as it lies on the disk from sector `first` on: whole sectors, with its block list set."""
    sectors = -(-len(core) // SECTOR)
    patched = bytearray(core.ljust(sectors * SECTOR, b"\0"))
    struct.pack_into("<QHH", patched, BLOCK_LIST, first + 1, sectors - 1, REST_SEGMENT)
    return bytes(patched)


def _inside(tree: Path, name: PurePosixPath) -> Path:
    """The regular file `name` below `tree`. A symbolic link that leads out of the tree would read this host's files."""
    root = tree.resolve()
    path = (root / name).resolve()
    if not path.is_relative_to(root) or not path.is_file():
        raise BootloaderMissing(f"the root file system has no /{name}")
    return path
