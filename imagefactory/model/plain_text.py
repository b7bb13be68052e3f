"""Text from outside for a terminal, a log or a message: nothing in it that they would obey, and not without end."""

from typing import Final

REPLACED: Final = "\N{REPLACEMENT CHARACTER}"


def printable(text: str, most: int, *, lines: bool = False) -> str:
    """At most `most` characters of `text`, those that cannot be printed replaced; newlines are kept with `lines`."""
    kept = text if len(text) <= most else f"{text[: most - 1]}…"
    return "".join(c if c.isprintable() or (lines and c == "\n") else REPLACED for c in kept)
