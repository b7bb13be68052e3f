"""What goes wrong with the test cloud."""

from pathlib import Path

TAIL = 20  # lines


class CloudError(Exception):
    """Something could not be started, installed or found; the message says what and shows the end of its log."""


def tail(log: Path) -> str:
    """The last lines of `log`, which may be missing."""
    if not log.exists():
        return f"({log} was not written)"
    lines = log.read_text(errors="replace").splitlines()[-TAIL:]
    return "\n".join([f"The end of {log}:", *(f"  {line}" for line in lines)])
