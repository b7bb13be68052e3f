"""The shape of a disk: sizes, partitions and identities. Arithmetic only; nothing here touches a file.

A disk is GPT (UEFI specification 2.10, chapter 5.3) with 512-byte sectors: for BIOS a 1 MiB partition that holds
GRUB's core image, for UEFI a 64 MiB EFI system partition, and the root file system last, so that it can grow when a
cloud gives the machine a bigger disk. All identities come from one seed: equal inputs give equal disks.
"""

from dataclasses import dataclass
from hashlib import sha256
from typing import Literal, get_args
from uuid import UUID

from imagefactory.errors import DiskTooSmall

Firmware = Literal["bios", "uefi"]
Filesystem = Literal["ext4"]
Role = Literal["bios", "efi", "root"]

SECTOR = 512  # bytes; GPT counts in these
MIB = 1 << 20
# Partitions start at multiples of this, which suits every SSD and RAID there is. The first one keeps room for the
# protective MBR and the primary GPT (34 sectors), the last one, at the end, for the backup GPT (33 sectors).
ALIGNMENT = MIB
BIOS_SIZE = MIB
EFI_SIZE = 64 * MIB  # the smallest round size at which FAT32 with 512-byte clusters is FAT32 by its cluster count
ROOT_MINIMUM = 16 * MIB  # below this mke2fs makes no journal

# Partition type GUIDs. EFI system: UEFI 2.10, table 5.7. BIOS boot: GRUB manual, "BIOS installation". Root: the
# Discoverable Partitions Specification, root of x86-64.
TYPES: dict[Role, UUID] = {
    "bios": UUID("21686148-6449-6e6f-744e-656564454649"),
    "efi": UUID("c12a7328-f81f-11d2-ba4b-00a0c93ec93b"),
    "root": UUID("4f68bce3-e8cd-4db1-96e7-fbcaf984b709"),
}

# What the root file system's fstab calls them.
ROOT_LABEL = "cloudimg-rootfs"
EFI_LABEL = "UEFI"


@dataclass(frozen=True)
class Partition:
    """One partition: `number` counts from 1, `start` and `size` are in bytes, both multiples of ALIGNMENT."""

    role: Role
    number: int
    start: int
    size: int

    @property
    def end(self) -> int:
        """The first byte after it."""
        return self.start + self.size


@dataclass(frozen=True)
class DiskLayout:
    """What a disk should be: `size` in bytes (a multiple of 1 MiB), the kinds of `firmware` that can start it, and the
    root file system's kind.

    Raises ValueError for what no disk can be, DiskTooSmall where the partitions do not fit.
    """

    size: int
    firmware: tuple[Firmware, ...] = ("bios", "uefi")
    filesystem: Filesystem = "ext4"

    def __post_init__(self) -> None:
        if self.size % ALIGNMENT:
            raise ValueError(f"disk size {self.size} is not a multiple of 1 MiB")
        if not self.firmware or len(set(self.firmware)) != len(self.firmware):
            raise ValueError("firmware wants one or two different kinds")
        if not set(self.firmware) <= set(get_args(Firmware)):
            raise ValueError(f"unknown firmware in {self.firmware}")
        if self.filesystem not in get_args(Filesystem):
            raise ValueError(f"unknown file system {self.filesystem}")
        smallest = self.overhead + ROOT_MINIMUM
        if self.size < smallest:
            raise too_small(self.size, smallest)

    @property
    def overhead(self) -> int:
        """Bytes of the disk that are not the root file system: both GPTs and the small partitions."""
        return 2 * ALIGNMENT + sum(size for _, size in self._small())

    @property
    def partitions(self) -> tuple[Partition, ...]:
        """The partitions in the order of the disk; root is the last and takes what is left."""
        made: list[Partition] = []
        start = ALIGNMENT
        for role, size in (*self._small(), ("root", self.size - self.overhead)):
            made.append(Partition(role, len(made) + 1, start, size))
            start += size
        return tuple(made)

    def find(self, role: Role) -> Partition | None:
        """The partition with this role, if the layout has one."""
        return next((partition for partition in self.partitions if partition.role == role), None)

    @property
    def root(self) -> Partition:
        return self.partitions[-1]

    def _small(self) -> tuple[tuple[Role, int], ...]:
        bios: tuple[tuple[Role, int], ...] = (("bios", BIOS_SIZE),) if "bios" in self.firmware else ()
        efi: tuple[tuple[Role, int], ...] = (("efi", EFI_SIZE),) if "uefi" in self.firmware else ()
        return bios + efi


@dataclass(frozen=True)
class Identities:
    """Every identity that a disk carries; two disks with the same seed carry the same."""

    disk: UUID
    bios: UUID
    efi: UUID
    root: UUID
    filesystem: UUID
    hash_seed: UUID  # of ext4's directory hashes
    fat_serial: int  # 32 bits

    def partition(self, role: Role) -> UUID:
        """The unique GUID of the partition with this role."""
        return {"bios": self.bios, "efi": self.efi, "root": self.root}[role]


def identities(seed: str) -> Identities:
    """The identities that come from `seed`, at least 16 bytes written in hex. Raises ValueError."""
    secret = bytes.fromhex(seed)
    if len(secret) < 16:
        raise ValueError("a disk's seed wants at least 16 bytes")
    return Identities(
        disk=_uuid(secret, "disk"),
        bios=_uuid(secret, "bios"),
        efi=_uuid(secret, "efi"),
        root=_uuid(secret, "root"),
        filesystem=_uuid(secret, "filesystem"),
        hash_seed=_uuid(secret, "hash-seed"),
        fat_serial=int.from_bytes(_digest(secret, "fat-serial")[:4], "big"),
    )


def too_small(size: int, needed: int) -> DiskTooSmall:
    """The error for a disk of `size` bytes whose content wants `needed` bytes."""
    wanted = -(-needed // MIB)
    return DiskTooSmall(f"a disk of {size // MIB} MiB is too small: this one needs at least {wanted} MiB")


def _digest(seed: bytes, purpose: str) -> bytes:
    # The purpose comes first and ends with a zero byte, so that no seed can pass for another purpose.
    return sha256(f"imagefactory disk {purpose}\0".encode() + seed).digest()


def _uuid(seed: bytes, purpose: str) -> UUID:
    # As RFC 9562's version 5 is made from SHA-1: the first 16 bytes, with the version and variant bits set.
    return UUID(bytes=_digest(seed, purpose)[:16], version=5)
