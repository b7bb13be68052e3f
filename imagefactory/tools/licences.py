"""Licences of Debian packages, as their copyright files name them, and the SPDX expressions for them.

Format of the files: https://www.debian.org/doc/packaging-manuals/copyright-format/1.0/ (DEP-5). They come from inside
an image, so nothing about them is believed. python-debian's deb822 reads the three fields that matter; its `copyright`
module finds the same, and takes seven times as long and more memory.
"""

import re
from collections.abc import Mapping

from cyclonedx.spdx import fixup_id
from debian.deb822 import Deb822

MAX_LICENCES = 100  # a package with more is a collection, whose list would help nobody
MAX_NAME = 200  # characters

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


def licences(copyright_file: bytes) -> tuple[str, ...]:
    """The licences of the files that a copyright file speaks of, as it names them, sorted.

    None of them, when the file is not machine-readable, names a licence that is no name, or more than 100.
    """
    text = copyright_file.decode(errors="replace")
    wanted = ["Format", "Files", "License"]
    paragraphs = Deb822.iter_paragraphs(text, use_apt_pkg=False, fields=wanted)
    if "Format" not in next(paragraphs, {}):
        return ()
    names = {each["License"].partition("\n")[0].strip() for each in paragraphs if "Files" in each and "License" in each}
    names.discard("")
    usable = len(names) <= MAX_LICENCES and all(name.isprintable() and len(name) <= MAX_NAME for name in names)
    return tuple(sorted(names)) if usable else ()


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
