"""What a machine says on its serial console, and what that means.

The console is a file that QEMU writes and we read while it grows. Its text comes from the image under test: it is
matched, bounded and made printable, never trusted.
"""

import re
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from imagefactory.errors import BootEmergency, BootFailed, BootNoLoader, BootPanic, BootRefused

MAX_CONSOLE = 8 << 20  # bytes of a console that are looked at; a Debian boot says 50 KiB
MAX_LINE = 300  # characters of a line in an error
CONTEXT = 6  # lines before the one that gave a fault away

LOGIN = re.compile(r"(?m)^(?!Last )[A-Za-z0-9][\w.-]* login:")

# Control sequences of terminals: colours, cursor movements, resets.
_CONTROL = re.compile(r"\x1b\[[0-9;?=]*[A-Za-z]|\x1b[()][A-Z0-9]|\x1b[c78=>MDEH]|\r")

# The first that matches names the fault. Each is something that a machine says when it will not get any further.
_FAULTS: Sequence[tuple[type[BootFailed], str, re.Pattern[str]]] = (
    (BootPanic, "the kernel panicked", re.compile(r"Kernel panic - not syncing")),
    (
        BootRefused,
        "Secure Boot refused to run it",
        re.compile(r"Security Violation|bad shim signature|failed to (?:load|start) .*: Access Denied"),
    ),
    (
        BootNoLoader,
        "the firmware found nothing to boot",
        re.compile(r"No bootable (?:device|option or device)"),
    ),
    (
        BootNoLoader,
        "the boot loader found no system",
        re.compile(r"grub rescue>|Minimal BASH-like line editing"),
    ),
    (
        BootEmergency,
        "it fell into a rescue shell",
        re.compile(
            r"(?m:^\(initramfs\))|dracut:/#|Dropping to a shell!|You are in (?:emergency|rescue) mode"
            r"|Entering emergency mode|Cannot open access to console, the root account is locked"
        ),
    ),
)

# The VGA screen in text mode, in the memory of the machine: two bytes a cell, character and colour.
SCREEN_AT, COLUMNS, ROWS = 0xB8000, 80, 25
SCREEN_SIZE = 2 * COLUMNS * ROWS

_KERNEL_FAULT = re.compile(r"\bBUG: |\bOops: |\bCall Trace:|general protection fault|Unable to handle kernel")
# A slow host, not the image: a virtual processor that was not scheduled in time.
_STALL = re.compile(r"soft lockup|rcu.*(?:detected stall|stall on CPU|self-detected)|blocked for more than \d+ seconds")
_WORD = re.compile(r"\w")
_STRANGE = re.compile("\N{REPLACEMENT CHARACTER}+")  # the frames that firmware draws around its messages
_STALL_LINES = 80  # lines of registers and stack that follow a stall


@dataclass(frozen=True)
class Fault:
    """Why a boot will not get any further: the class of the error, one line of prose, the console lines that matter."""

    error: type[BootFailed]
    message: str
    lines: tuple[str, ...]


class Console:
    """The console of one boot: `path` is the file, complete and unaltered."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self._raw = b""
        self._text = ""

    def text(self) -> str:
        """All that was said so far, without control sequences; at most the first MAX_CONSOLE bytes."""
        if self.path.is_file() and len(self._raw) < MAX_CONSOLE:
            with self.path.open("rb") as stream:
                stream.seek(len(self._raw))
                more = stream.read(MAX_CONSOLE - len(self._raw))
            if more:
                self._raw += more
                self._text = clean(self._raw)
        return self._text

    @property
    def silent(self) -> bool:
        """Whether nothing printable was ever said."""
        return not self.text().strip()


def clean(raw: bytes) -> str:
    """Console bytes as text without control sequences."""
    return _CONTROL.sub("", raw.decode(errors="replace"))


def screen_text(cells: bytes) -> str:
    """The cells of a VGA screen as lines of text."""
    text = cells[::2].decode("cp437").replace("\0", " ")
    return "\n".join(text[at : at + COLUMNS].rstrip() for at in range(0, len(text), COLUMNS))


def diagnose(text: str) -> Fault | None:
    """The fault that ends a boot, or None while there is hope."""
    for error, message, pattern in _FAULTS:
        found = pattern.search(text)
        if found is not None:
            return Fault(error, message, around(text, found.start()))
    return None


def kernel_faults(text: str, *, stalls: bool) -> tuple[str, ...]:
    """The lines where a kernel complains about itself. `stalls` says whether those of a host too slow count."""
    faults: list[str] = []
    quiet_until = -1
    for number, line in enumerate(text.splitlines()):
        if _STALL.search(line) and not stalls:
            quiet_until = number + _STALL_LINES
        elif _KERNEL_FAULT.search(line) and number > quiet_until:
            faults.append(printable(line))
    return tuple(faults)


def around(text: str, position: int, *, before: int = CONTEXT, after: int = 2) -> tuple[str, ...]:
    """The lines around a position of a text, printable, none without a word."""
    start = text.rfind("\n", 0, position) + 1
    head = text[:start].splitlines()[-before:]
    rest = text[start:].splitlines()[: after + 1]
    return tuple(line for line in map(printable, [*head, *rest]) if _WORD.search(line))


def last_lines(text: str, count: int = 8) -> tuple[str, ...]:
    """The last lines of a text, printable, none without a word."""
    return tuple(line for line in map(printable, text.splitlines()) if _WORD.search(line))[-count:]


def printable(line: str, longest: int = MAX_LINE) -> str:
    """A line that is safe on a terminal and has at most `longest` characters."""
    safe = "".join(c if c.isprintable() or c == "\t" else "\N{REPLACEMENT CHARACTER}" for c in line)
    return _STRANGE.sub("\N{REPLACEMENT CHARACTER}", safe).rstrip()[:longest]
