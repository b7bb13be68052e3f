"""Partition tables, by sfdisk on a plain file."""

import json
from collections.abc import Mapping
from pathlib import Path

from imagefactory.errors import ProgramFailed
from imagefactory.model.disk import SECTOR, TYPES, DiskLayout, Identities
from imagefactory.tools.process import Limits, run

TIMEOUT = 60.0  # seconds; it takes a hundredth of one
LIMITS = Limits(memory=256 << 20, cpu=30, output=1 << 20)


def script(layout: DiskLayout, who: Identities) -> str:
    """sfdisk's input for `layout`: sizes and starts in sectors, every GUID given, so that sfdisk invents nothing."""
    header = ["label: gpt", f"label-id: {who.disk}", "unit: sectors", f"sector-size: {SECTOR}"]
    lines = [
        f"start={partition.start // SECTOR}, size={partition.size // SECTOR}, "
        f"type={TYPES[partition.role]}, uuid={who.partition(partition.role)}, name={partition.role}"
        for partition in layout.partitions
    ]
    return "\n".join([*header, "", *lines, ""])


def write(disk: Path, layout: DiskLayout, who: Identities, *, env: Mapping[str, str]) -> None:
    """Write the GPT of `layout` to `disk`, a file of the right size already.

    Raises ProgramMissing, ProgramFailed.
    """
    # No re-reading by the kernel and no signature search: it is a file, and a new one.
    argv: list[str | Path] = ["sfdisk", "--quiet", "--no-reread", "--no-tell-kernel", "--wipe", "never", disk]
    run(argv, env=env, timeout=TIMEOUT, input_=script(layout, who).encode())


def starts(disk: Path, *, env: Mapping[str, str]) -> tuple[int, ...]:
    """Where the partitions of `disk`, a file of anybody's, begin, in bytes. None where there is no partition table;
    those that would begin beyond its end are not there.

    Raises ProgramMissing, ProgramTimeout.
    """
    try:
        told = run(["sfdisk", "--json", disk], env=env, timeout=TIMEOUT, limits=LIMITS).stdout
    except ProgramFailed:
        return ()
    table = json.loads(told)["partitiontable"]
    sector = int(table.get("sectorsize", SECTOR))
    found = (int(each["start"]) * sector for each in table.get("partitions", ()))
    return tuple(start for start in found if start < disk.stat().st_size)
