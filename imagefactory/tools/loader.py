"""Alter the boot loader of an image, in an overlay, to see whether Secure Boot notices.

The second stage (grub) is signed and checked by the first (shim). One byte of its code is changed where it lies on the
disk. Nothing is mounted and the file system is not written: the byte's place is found by reading.
"""

import struct
import uuid
from collections.abc import Mapping
from pathlib import Path

from imagefactory.errors import BootCheckFailed
from imagefactory.tools import overlay as overlays
from imagefactory.tools import process
from imagefactory.tools.overlay import Overlay

SECTOR = 512
LOADER = "grubx64.efi"
ESP_TYPE = uuid.UUID("c12a7328-f81f-11d2-ba4b-00a0c93ec93b")
MAX_ESP = 1 << 30  # bytes; a system partition is far smaller
CHUNK = 1 << 20
SECONDS = 60.0
LIMITS = process.Limits(memory=1 << 30, cpu=60, file_size=MAX_ESP)


def alter(overlay: Overlay, work: Path, *, environment: Mapping[str, str]) -> str:
    """Flip one bit of every copy of grubx64.efi, through `overlay`. Returns what was changed, for people.

    Raises BootCheckFailed when the image has no EFI system partition or no such file on it.
    """
    esp = work / "esp.img"
    table = work / "table.img"
    overlays.extract(overlay, table, offset=0, length=min(CHUNK, overlay.image_size), environment=environment)
    start, length = find_esp(table.read_bytes())
    overlays.extract(overlay, esp, offset=start, length=length, environment=environment)
    try:
        names = _loaders(esp, environment)
        if not names:
            raise BootCheckFailed(f"no {LOADER} on the EFI system partition: nothing to alter")
        places: set[int] = set()
        for name in names:
            copy = work / "loader.efi"
            _mtools(["mcopy", "-n", "-o", "-i", str(esp), name, str(copy)], environment)
            sector = telling_sector(copy.read_bytes())
            places |= _occurrences(esp, sector)
        if not places:
            raise BootCheckFailed(f"{LOADER} was not found where the file system says it is")
        for place in sorted(places):
            with esp.open("rb") as stream:
                stream.seek(place)
                value = stream.read(1)[0]
            overlays.poke(overlay, start + place, value ^ 1, environment=environment)
        return f"1 byte at {', '.join(str(start + place) for place in sorted(places))} ({', '.join(names)})"
    finally:
        esp.unlink(missing_ok=True)


def find_esp(head: bytes) -> tuple[int, int]:
    """Start and length in bytes of the EFI system partition in a GPT, given the first sectors of a disk.

    Raises BootCheckFailed when there is none.
    """
    header = head[SECTOR : 2 * SECTOR]
    if header[:8] != b"EFI PART" or len(header) < SECTOR:
        raise BootCheckFailed("the image has no GUID partition table")
    table, count, size = struct.unpack_from("<QII", header, 72)
    for index in range(min(count, 128)):
        entry = head[table * SECTOR + index * size :][:size]
        if len(entry) < 48:
            break
        if uuid.UUID(bytes_le=entry[:16]) == ESP_TYPE:
            first, last = struct.unpack_from("<QQ", entry, 32)
            length = (last - first + 1) * SECTOR
            if 0 < length <= MAX_ESP:
                return first * SECTOR, length
            raise BootCheckFailed(f"the EFI system partition claims {length} bytes")
    raise BootCheckFailed("the image has no EFI system partition")


def telling_sector(content: bytes) -> bytes:
    """The sector of a file that is least likely to occur anywhere else: of the middle half, the most varied one.

    Files begin at a cluster, so a sector of a file lies in one sector of the disk, fragmented or not.
    """
    quarter = len(content) // 4 // SECTOR * SECTOR
    sectors = [content[at : at + SECTOR] for at in range(quarter, len(content) - quarter - SECTOR, SECTOR)]
    if not sectors:
        raise BootCheckFailed(f"{LOADER} is too short to be one")
    return max(sectors, key=lambda sector: len(set(sector)))


def _occurrences(disk: Path, sector: bytes) -> set[int]:
    """Where in a file a sector occurs, as byte offsets of its middle."""
    found: set[int] = set()
    with disk.open("rb") as stream:
        base = 0
        while chunk := stream.read(CHUNK):
            at = chunk.find(sector)
            while at >= 0:
                if at % SECTOR == 0:
                    found.add(base + at + SECTOR // 2)
                at = chunk.find(sector, at + 1)
            base += len(chunk)
    return found


def _loaders(esp: Path, environment: Mapping[str, str]) -> list[str]:
    listing = _mtools(["mdir", "-/", "-b", "-a", "-i", str(esp), "::"], environment).decode(errors="replace")
    return sorted(line.strip() for line in listing.splitlines() if line.strip().lower().endswith(f"/{LOADER}"))


def _mtools(argv: list[str], environment: Mapping[str, str]) -> bytes:
    lenient = {**environment, "MTOOLS_SKIP_CHECK": "1"}
    return process.run(argv, env=lenient, timeout=SECONDS, limits=LIMITS).stdout
