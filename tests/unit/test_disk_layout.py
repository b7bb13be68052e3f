"""The geometry and the identities of a disk, and the pure halves of the tools that write them."""

import struct
from dataclasses import replace
from itertools import pairwise
from uuid import UUID

import pytest
from hypothesis import given
from hypothesis import strategies as st

from imagefactory.errors import DiskTooSmall, ProgramFailed
from imagefactory.model.disk import (
    ALIGNMENT,
    BIOS_SIZE,
    EFI_SIZE,
    MIB,
    ROOT_MINIMUM,
    SECTOR,
    DiskLayout,
    Firmware,
    identities,
    too_small,
)
from imagefactory.model.mounts import SEPARATE
from imagefactory.tools.ext4 import used_inodes
from imagefactory.tools.grub import boot_sector, core_sectors
from imagefactory.tools.sfdisk import script

FIRMWARE: list[tuple[Firmware, ...]] = [("bios",), ("uefi",), ("bios", "uefi"), ("uefi", "bios")]
SEED = "5e" * 32

mebibytes = st.integers(min_value=16, max_value=4 << 10).map(lambda number: number * MIB)
firmware_kinds = st.sampled_from(FIRMWARE)
singles = st.builds(
    DiskLayout,
    size=st.integers(min_value=128, max_value=64 << 20).map(lambda number: number * MIB),
    firmware=firmware_kinds,
)
separates = st.builds(
    DiskLayout,
    size=st.integers(min_value=64 << 10, max_value=64 << 20).map(lambda number: number * MIB),
    firmware=firmware_kinds,
    mounts=st.fixed_dictionaries(dict.fromkeys(SEPARATE, mebibytes)),
)
layouts = singles | separates
seeds = st.binary(min_size=16, max_size=64).map(bytes.hex)


@given(layouts)
def test_partitions_are_aligned_in_order_apart_and_between_the_two_tables(layout: DiskLayout) -> None:
    partitions = layout.partitions
    assert [partition.number for partition in partitions] == list(range(1, len(partitions) + 1))
    assert partitions[0].start >= 34 * SECTOR
    assert partitions[-1].end <= layout.size - 33 * SECTOR
    for partition in partitions:
        assert partition.start % ALIGNMENT == 0
        assert partition.size % ALIGNMENT == 0
        assert partition.size > 0
    for left, right in pairwise(partitions):
        assert left.end <= right.start


@given(layouts)
def test_root_is_last_and_takes_all_that_is_left(layout: DiskLayout) -> None:
    assert layout.partitions[-1].role == "root"
    assert layout.root.end == layout.size - ALIGNMENT
    assert layout.root.size == layout.size - layout.overhead


@given(layouts)
def test_each_firmware_has_its_partition_and_no_other(layout: DiskLayout) -> None:
    bios, efi = layout.find("bios"), layout.find("efi")
    assert (bios is not None) == ("bios" in layout.firmware)
    assert (efi is not None) == ("uefi" in layout.firmware)
    assert bios is None or bios.size == BIOS_SIZE
    assert efi is None or efi.size == EFI_SIZE


@given(layouts)
def test_a_bigger_disk_moves_nothing(layout: DiskLayout) -> None:
    bigger = replace(layout, size=layout.size + 1024 * MIB)
    assert bigger.partitions[:-1] == layout.partitions[:-1]
    assert bigger.root.start == layout.root.start


@pytest.mark.parametrize("firmware", FIRMWARE)
def test_the_smallest_disk_that_is_named_is_accepted(firmware: tuple[Firmware, ...]) -> None:
    with pytest.raises(DiskTooSmall, match=r"at least (\d+) MiB") as caught:
        DiskLayout(MIB, firmware)
    needed = int(caught.value.message.split("at least ")[1].split()[0])
    assert DiskLayout(needed * MIB, firmware).root.size == ROOT_MINIMUM
    with pytest.raises(DiskTooSmall):
        DiskLayout((needed - 1) * MIB, firmware)


@pytest.mark.parametrize(
    ("size", "firmware", "filesystem"),
    [
        (1024 * MIB + 1, ("bios",), "ext4"),
        (1024 * MIB, (), "ext4"),
        (1024 * MIB, ("bios", "bios"), "ext4"),
        (1024 * MIB, ("openfirmware",), "ext4"),
        (1024 * MIB, ("bios",), "xfs"),
    ],
)
def test_what_no_disk_can_be_is_refused(size: int, firmware: tuple[Firmware, ...], filesystem: str) -> None:
    with pytest.raises(ValueError, match=r"disk size|firmware|file system"):
        DiskLayout(size, firmware, filesystem)  # type: ignore[arg-type]


def test_the_needed_size_is_rounded_up() -> None:
    assert "at least 3 MiB" in too_small(MIB, 2 * MIB + 1).message


@given(seeds, seeds)
def test_identities_depend_on_the_seed_alone(one: str, other: str) -> None:
    assert identities(one) == identities(one.upper())
    assert (identities(one) == identities(other)) == (one == other)


@given(seeds)
def test_no_identity_is_used_twice(seed: str) -> None:
    who = identities(seed)
    roles = [mount.role for mount in SEPARATE]
    uuids = [who.disk, *(who.partition(role) for role in ("bios", "efi", "root", *roles))]
    uuids += [make(role) for role in ("root", *roles) for make in (who.filesystem, who.hash_seed)]
    assert len(set(uuids)) == len(uuids)
    assert all(uuid.variant == "specified in RFC 4122" and uuid.version == 5 for uuid in uuids)
    assert 0 <= who.fat_serial < 1 << 32


def test_identities_stay_what_they_are() -> None:
    # A change here changes every disk that is built again from the same inputs.
    assert identities(SEED).filesystem() == UUID("d574f4da-7cf9-55fa-827f-1e90b2d5043b")
    assert identities(SEED).fat_serial == 0x6F0ED39E


@pytest.mark.parametrize("seed", ["", "ab" * 15, "not hex" * 8])
def test_a_poor_seed_is_refused(seed: str) -> None:
    with pytest.raises(ValueError, match=r"seed|hexadecimal"):
        identities(seed)


@given(layouts)
def test_sfdisk_is_told_everything(layout: DiskLayout) -> None:
    who = identities(SEED)
    text = script(layout, who)
    assert f"label-id: {who.disk}" in text
    lines = [line for line in text.splitlines() if line.startswith("start=")]
    assert len(lines) == len(layout.partitions)
    for line, partition in zip(lines, layout.partitions, strict=True):
        facts = dict(item.split("=") for item in line.split(", "))
        assert int(facts["start"]) * SECTOR == partition.start
        assert int(facts["size"]) * SECTOR == partition.size
        assert UUID(facts["uuid"]) == who.partition(partition.role)


@given(st.binary(min_size=512, max_size=512), st.integers(min_value=34, max_value=1 << 40))
def test_the_boot_sector_points_at_the_core_image(boot: bytes, first: int) -> None:
    sector = boot_sector(boot, first)
    assert len(sector) == 440
    assert struct.unpack_from("<Q", sector, 0x5C) == (first,)
    assert sector[0x66:0x68] == b"\x90\x90"
    assert sector[:0x5C] == boot[:0x5C]
    assert sector[0x68:] == boot[0x68:440]


@given(st.integers(min_value=1025, max_value=BIOS_SIZE), st.integers(min_value=34, max_value=1 << 40))
def test_the_core_image_says_where_its_rest_is(length: int, first: int) -> None:
    core = bytes([0xA5]) * length
    sectors = core_sectors(core, first)
    count = -(-length // SECTOR)
    assert len(sectors) == count * SECTOR
    assert struct.unpack_from("<QHH", sectors, 0x1F4) == (first + 1, count - 1, 0x0820)
    assert sectors[512:length] == core[512:]
    assert not any(sectors[length:])


@given(st.integers(min_value=1, max_value=5), st.data())
def test_used_inodes_are_those_that_dumpe2fs_does_not_call_free(groups: int, data: st.DataObject) -> None:
    per_group = 40
    free = data.draw(st.sets(st.integers(min_value=1, max_value=groups * per_group)))
    listing = [f"Inode count:              {groups * per_group}", f"Free inodes:              {len(free)}"]
    for group in range(groups):
        numbers = range(group * per_group + 1, (group + 1) * per_group + 1)
        listing.append(f"  Free inodes: {', '.join(_ranges([n for n in numbers if n in free]))}")
    assert set(used_inodes("\n".join(listing))) == set(range(1, groups * per_group + 1)) - free


def test_a_listing_without_a_count_is_an_error() -> None:
    with pytest.raises(ProgramFailed):
        list(used_inodes("dumpe2fs: Bad magic number"))


def _ranges(numbers: list[int]) -> list[str]:
    """Numbers as dumpe2fs writes them: 1-4, 7, 9-10."""
    groups: list[list[int]] = []
    for number in numbers:
        if groups and groups[-1][-1] == number - 1:
            groups[-1].append(number)
        else:
            groups.append([number])
    return [str(group[0]) if len(group) == 1 else f"{group[0]}-{group[-1]}" for group in groups]
