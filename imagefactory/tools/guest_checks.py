"""Checks that a recipe brings: programs that run in the booted guest, each with a time that it may take.

Nothing that a check does can hold up a boot test: in the guest timeout(1) ends it and tail(1) keeps the end of what it
says; whoever gets around both is left when its deadline is over. What is said of a check is the guest's own word.
"""

import base64
import re
import shlex
from dataclasses import dataclass

from imagefactory.tools.console import printable

MOST_SAID = 4096  # bytes at the end of a check's output that come back
MOST_LINES = 5  # of them that are shown
WIDTH = 200  # characters of each
KILL_SECONDS = 5  # between SIGTERM and SIGKILL
PATIENCE = 90.0  # seconds that getting in and out may take besides; a guest in software emulation is slow
TIMED_OUT = frozenset({124, 137})  # statuses of timeout(1), which are also those of programs
INLINE: tuple[str, ...] = ("/bin/sh", "-e")

_HEAD = re.compile(r"status=(\d{1,3}) seconds=(\d{1,9})\n")


@dataclass(frozen=True)
class Ended:
    """How a check ended: whether it is as it should be, what to tell of it, the last lines that it said."""

    passed: bool
    detail: str
    lines: tuple[str, ...] = ()


@dataclass(frozen=True)
class GuestCheck:
    """A check: its `name`, the text of its `program`, `interpreter` the words that run it, whether it runs as root
    (`sudo`) or as the default user, the `seconds` that it may take."""

    name: str
    program: bytes
    interpreter: tuple[str, ...]
    sudo: bool
    seconds: int

    @property
    def script(self) -> str:
        """For POSIX sh, as the default user. Its output is for `ended`.

        The program is given to its interpreter, as execve(2) would: a directory for temporary files is often mounted
        noexec.
        """
        words = ["timeout", "-k", str(KILL_SECONDS), str(self.seconds), *self.interpreter]
        return _SCRIPT.format(
            command=shlex.join(["sudo", "-n", *words] if self.sudo else words),
            name=shlex.quote(self.name),
            program=base64.encodebytes(self.program).decode(),
            most=MOST_SAID,
        )

    def ended(self, said: str) -> Ended:
        """How the check ended, by what the script said."""
        head = _HEAD.match(said)
        if head is None:
            return Ended(False, "the guest does not tell how it ended", _last(said))
        status, seconds = int(head[1]), int(head[2])
        if status in TIMED_OUT and seconds >= self.seconds:
            return self.hanging(said[head.end() :])
        detail = f"status {status} after {seconds} s"
        return Ended(status == 0, detail, _last(said[head.end() :]))

    def hanging(self, said: str = "") -> Ended:
        """What to tell of a check that does not end."""
        return Ended(False, f"did not end within {self.seconds} s, and was ended", _last(said))


def shebang(program: bytes) -> tuple[str, ...] | None:
    """The interpreter and its argument, if it has one, that a script's first line names (execve(2)), or None."""
    line = program.partition(b"\n")[0]
    try:
        words = line.decode().removeprefix("#!").split(maxsplit=1)
    except UnicodeDecodeError:
        return None
    return tuple(word.strip() for word in words) if line.startswith(b"#!") and words else None


def _last(said: str) -> tuple[str, ...]:
    lines = [line for line in said.splitlines() if line.strip()]
    return tuple(printable(line, WIDTH) for line in lines[-MOST_LINES:])


_SCRIPT = """\
set -u
export LC_ALL=C PATH=/usr/sbin:/usr/bin:/sbin:/bin
uptime() {{ read -r now rest < /proc/uptime; echo "${{now%.*}}"; }}
directory=$(mktemp -d) || exit
trap 'rm -rf "$directory"' EXIT
base64 -d > "$directory/"{name} << 'END OF PROGRAM'
{program}END OF PROGRAM
began=$(uptime)
{{
    {command} "$directory/"{name} < /dev/null
    echo "$?" > "$directory/.status"
}} 2>&1 | tail -c {most} > "$directory/.said"
echo "status=$(cat "$directory/.status") seconds=$(($(uptime) - began))"
cat "$directory/.said"
"""
