"""The shape of a disk: sizes, partitions and identities. Arithmetic only; nothing here touches a file.

A disk is GPT (UEFI specification 2.10, chapter 5.3) with 512-byte sectors: for BIOS a 1 MiB partition that holds
GRUB's core image, for UEFI a 64 MiB EFI system partition, then the file systems of their own that some layouts have
(`imagefactory.model.mounts`), and the root file system last, so that it can grow when a cloud gives the machine a
bigger disk. All identities come from one seed: equal inputs give equal disks.
"""

from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from hashlib import sha256
from typing import Literal, get_args
from uuid import UUID

from imagefactory.errors import DiskTooSmall
from imagefactory.model.mounts import SEPARATE, SMALLEST, Mount, Need, allot, cramped

Firmware = Literal["bios", "uefi"]
Filesystem = Literal["ext4"]
Role = str  # "bios", "efi", "root", or that of a Mount

SECTOR = 512  # bytes; GPT counts in these
MIB = 1 << 20
# Partitions start at multiples of this, which suits every SSD and RAID there is. The first one keeps room for the
# protective MBR and the primary GPT (34 sectors), the last one, at the end, for the backup GPT (33 sectors).
ALIGNMENT = MIB
BIOS_SIZE = MIB
EFI_SIZE = 64 * MIB  # the smallest round size at which FAT32 with 512-byte clusters is FAT32 by its cluster count
ROOT_MINIMUM = SMALLEST

# Partition type GUIDs. EFI system: UEFI 2.10, table 5.7. BIOS boot: GRUB manual, "BIOS installation". Root: the
# Discoverable Partitions Specification, root of x86-64.
TYPES: dict[Role, UUID] = {
    "bios": UUID("21686148-6449-6e6f-744e-656564454649"),
    "efi": UUID("c12a7328-f81f-11d2-ba4b-00a0c93ec93b"),
    "root": UUID("4f68bce3-e8cd-4db1-96e7-fbcaf984b709"),
    **{mount.role: mount.kind for mount in SEPARATE},
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
    """What a disk should be: `size` in bytes (a multiple of 1 MiB), the kinds of `firmware` that can start it, the kind
    of its file systems, and those that it has besides root, each with the size in bytes of its partition.

    Raises ValueError for what no disk can be, DiskTooSmall where the partitions do not fit.
    """

    size: int
    firmware: tuple[Firmware, ...] = ("bios", "uefi")
    filesystem: Filesystem = "ext4"
    mounts: Mapping[Mount, int] = field(default_factory=dict)

    def __post_init__(self) -> None:
        if self.size % ALIGNMENT:
            raise ValueError(f"disk size {self.size} is not a multiple of 1 MiB")
        if not self.firmware or len(set(self.firmware)) != len(self.firmware):
            raise ValueError("firmware wants one or two different kinds")
        if not set(self.firmware) <= set(get_args(Firmware)):
            raise ValueError(f"unknown firmware in {self.firmware}")
        if self.filesystem not in get_args(Filesystem):
            raise ValueError(f"unknown file system {self.filesystem}")
        if any(size % ALIGNMENT or size < SMALLEST for size in self.mounts.values()):
            raise ValueError("a partition is not a multiple of 1 MiB, or smaller than a file system can be")
        smallest = self.overhead + ROOT_MINIMUM
        if self.size < smallest:
            raise too_small(self.size, smallest)

    @property
    def overhead(self) -> int:
        """Bytes of the disk that are not the root file system: both GPTs and the other partitions."""
        return 2 * ALIGNMENT + sum(size for _, size in self._before_root())

    @property
    def partitions(self) -> tuple[Partition, ...]:
        """The partitions in the order of the disk; root is the last and takes what is left."""
        made: list[Partition] = []
        start = ALIGNMENT
        for role, size in (*self._before_root(), ("root", self.size - self.overhead)):
            made.append(Partition(role, len(made) + 1, start, size))
            start += size
        return tuple(made)

    def find(self, role: Role) -> Partition | None:
        """The partition with this role, if the layout has one."""
        return next((partition for partition in self.partitions if partition.role == role), None)

    @property
    def root(self) -> Partition:
        return self.partitions[-1]

    @property
    def boot(self) -> Role:
        """Whose file system /boot lies on: its own, or root's."""
        return "boot" if self.find("boot") is not None else "root"

    def _before_root(self) -> tuple[tuple[Role, int], ...]:
        bios: tuple[tuple[Role, int], ...] = (("bios", BIOS_SIZE),) if "bios" in self.firmware else ()
        efi: tuple[tuple[Role, int], ...] = (("efi", EFI_SIZE),) if "uefi" in self.firmware else ()
        return bios + efi + tuple((mount.role, size) for mount, size in self.mounts.items())


@dataclass(frozen=True)
class Identities:
    """Every identity that a disk carries; two disks with the same `seed` carry the same."""

    seed: bytes

    @property
    def disk(self) -> UUID:
        """The GUID of the disk."""
        return _uuid(self.seed, "disk")

    @property
    def fat_serial(self) -> int:
        """The volume id of the EFI system partition: 32 bits."""
        return int.from_bytes(_digest(self.seed, "fat-serial")[:4], "big")

    def partition(self, role: Role) -> UUID:
        """The unique GUID of the partition with this role."""
        return _uuid(self.seed, role)

    def filesystem(self, role: Role = "root") -> UUID:
        """The UUID of its ext4."""
        return _uuid(self.seed, "filesystem" if role == "root" else f"filesystem {role}")

    def hash_seed(self, role: Role = "root") -> UUID:
        """The seed of its ext4's directory hashes."""
        return _uuid(self.seed, "hash-seed" if role == "root" else f"hash-seed {role}")


def identities(seed: str) -> Identities:
    """The identities that come from `seed`, at least 16 bytes written in hex. Raises ValueError."""
    secret = bytes.fromhex(seed)
    if len(secret) < 16:
        raise ValueError("a disk's seed wants at least 16 bytes")
    return Identities(secret)


def separate(layout: DiskLayout, needs: Mapping[str, Need], sizes: Mapping[str, int], root: int) -> DiskLayout:
    """`layout` with a file system for each directory that wants one, all of its content and free space in it.

    `needs` has the bytes that each wants by path, `root` is what root wants, `sizes` what somebody decided instead.
    Raises DiskTooSmall, which names every size that would do.
    """
    tight = cramped(needs, sizes)
    if tight:
        raise DiskTooSmall(f"file systems are too small for their content: {', '.join(tight)}")
    mounts, root = allot(needs, sizes), max(root, ROOT_MINIMUM)
    wanted = layout.overhead + sum(mounts.values()) + root
    if wanted > layout.size:
        parts = [(mount.path, size) for mount, size in mounts.items()] + [("/", root)]
        listed = ", ".join(f"{path} {-(-size // MIB)} MiB" for path, size in parts)
        raise DiskTooSmall(f"{too_small(layout.size, wanted).message} ({listed})")
    return replace(layout, mounts=mounts)


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
