"""SPDX expressions for what Debian's copyright files call licences; the ids are those of the CycloneDX library."""

import re
from collections.abc import Mapping

from cyclonedx.spdx import fixup_id

# Short names of DEP-5 that SPDX spells in another way; what is the same in both needs no line.
_SPDX: Mapping[str, str] = {
    "expat": "MIT",
    "artistic": "Artistic-1.0",
    "cc0": "CC0-1.0",
    "apache-2": "Apache-2.0",
    "mpl-2": "MPL-2.0",
}
_GNU = re.compile(r"(?P<family>AGPL|GFDL|LGPL|GPL)-(?P<niv>NIV-)?(?P<version>[0-9](?:\.[0-9])?)(?P<later>\+?)", re.I)
_COMMA = re.compile(r",\s+(and|or)\s+")
_WORD = re.compile(r"\s+(and|or)\s+")


def spdx(name: str) -> str | None:
    """The SPDX expression for a licence as DEP-5 writes it, or None: not everything has one."""
    parts = _COMMA.split(name)
    if len(parts) == 1:
        return _joined(_WORD.split(name))
    # A comma binds what stands before and after it: "A or B, and C" is "(A or B) and C".
    groups = [_joined(_WORD.split(part)) for part in parts[::2]]
    known = [f"({group})" if " " in group else group for group in groups if group is not None]
    return _interleaved(known, parts[1::2]) if len(known) == len(groups) else None


def _joined(parts: list[str]) -> str | None:
    ids = [identifier for part in parts[::2] if (identifier := _identifier(part)) is not None]
    return _interleaved(ids, parts[1::2]) if len(ids) == len(parts[::2]) else None


def _interleaved(operands: list[str], operators: list[str]) -> str:
    rest = (f" {operator.upper()} {operand}" for operator, operand in zip(operators, operands[1:], strict=True))
    return operands[0] + "".join(rest)


def _identifier(name: str) -> str | None:
    """The SPDX id of one licence."""
    gnu = _GNU.fullmatch(name)
    if gnu is None:
        return fixup_id(_SPDX.get(name.lower(), name))
    version = gnu["version"] if "." in gnu["version"] else f"{gnu['version']}.0"
    invariants = "-no-invariants" if gnu["niv"] else ""
    return fixup_id(f"{gnu['family']}-{version}{invariants}-{'or-later' if gnu['later'] else 'only'}")
