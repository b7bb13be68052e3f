"""Reading our Markdown pages: their links, and the commands and files in their fenced blocks.

- ```console: lines that begin with `$ ` are commands, which may go on after a backslash at the end of a line; the other
  lines are the output that is expected. `...` in a line stands for any text, alone for any number of lines.
- ```console-host: commands that no test runs. A comment `<!-- not run here: REASON -->` stands right above.
- Any block with a comment `<!-- file: PATH -->` right above is a file that the reader writes.
"""

import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

ROOT = Path(__file__).parents[1]

_FENCE = re.compile(r"^```(?P<language>[\w-]*)$")
_REASON = re.compile(r"^<!-- not run here: \S.* -->$")
_FILE = re.compile(r"^<!-- file: (?P<path>\S+) -->$")
_LINK = re.compile(r"\[[^\]]*\]\((?P<target>[^)\s]+)\)")


@dataclass(frozen=True)
class Block:
    """One fenced block: its language, its lines, the line of the page where it begins, and the line above it."""

    language: str
    lines: tuple[str, ...]
    number: int
    above: str

    @property
    def file(self) -> str | None:
        """The path of the file that this block is."""
        match = _FILE.match(self.above)
        return match["path"] if match else None

    @property
    def has_reason(self) -> bool:
        return _REASON.match(self.above) is not None


@dataclass(frozen=True)
class Command:
    """One command and the lines that it is expected to print. No lines: whatever it prints is fine."""

    text: str
    expected: tuple[str, ...]
    number: int
    host: bool = False


def pages() -> list[Path]:
    """Every page, the top ones first."""
    return [*sorted(ROOT.glob("*.md")), *sorted((ROOT / "docs").rglob("*.md"))]


def blocks(page: Path) -> Iterator[Block]:
    language: str | None = None
    inside: list[str] = []
    above, start = "", 0
    for number, line in enumerate(page.read_text().splitlines(), 1):
        fence = _FENCE.match(line)
        if language is None and fence:
            language, inside, start = fence["language"], [], number
        elif language is not None and line == "```":
            yield Block(language, tuple(inside), start, above)
            language, above = None, ""
        elif language is not None:
            inside.append(line)
        else:
            above = line
    assert language is None, f"{page}:{start}: this block does not end"


def commands(block: Block) -> Iterator[Command]:
    """The commands of a console block."""
    host = block.language == "console-host"
    text: list[str] = []
    expected: list[str] = []
    start = block.number
    for number, line in enumerate(block.lines, block.number + 1):
        if text and text[-1].endswith("\\") and not expected:
            text.append(line)
        elif line.startswith("$ "):
            if text:
                yield Command("\n".join(text), tuple(expected), start, host)
            text, expected, start = [line[2:]], [], number
        else:
            assert text, f"line {number}: output without a command"
            expected.append(line)
    assert text, f"line {block.number}: a console block without a command"
    yield Command("\n".join(text), tuple(expected), start, host)


def steps(page: Path, *, host: str | None = None) -> Iterator[Command | tuple[str, str]]:
    """What a reader does, in order: commands, and files as (path, content). Host commands only if they begin with
    `host`."""
    for block in blocks(page):
        if block.file is not None:
            yield block.file, "".join(f"{line}\n" for line in block.lines)
        elif block.language in {"console", "console-host"}:
            for command in commands(block):
                if not command.host or (host is not None and command.text.startswith(host)):
                    yield command


def links(page: Path) -> Iterator[str]:
    """The targets of links that lead to a file of ours, with their #fragment."""
    fenced = {number for block in blocks(page) for number in range(block.number, block.number + len(block.lines) + 2)}
    for number, line in enumerate(page.read_text().splitlines(), 1):
        if number not in fenced:
            for match in _LINK.finditer(line):
                if "://" not in match["target"] and not match["target"].startswith("mailto:"):
                    yield match["target"]


def anchors(page: Path) -> set[str]:
    """The fragments that a link to this page may have: GitHub's for headings, and explicit ones."""
    text = page.read_text()
    headings = re.findall(r"^#+ (.+)$", text, re.MULTILINE)
    made = {re.sub(r"[^\w\- ]", "", heading.lower()).strip().replace(" ", "-") for heading in headings}
    return made | set(re.findall(r'<a id="([^"]+)">', text))


def matches(expected: Sequence[str], output: str) -> bool:
    """Whether `output` is what a page promises; runs of blanks and empty lines do not count."""
    pattern = ""
    for line in map(_plain, expected):
        if line == "...":
            pattern += r"(?:[^\n]*\n)*"
        elif line:
            pattern += ".*".join(map(re.escape, line.split("..."))) + r"\n"
    lines = filter(None, map(_plain, output.splitlines()))
    return re.fullmatch(pattern, "".join(f"{line}\n" for line in lines)) is not None


def _plain(line: str) -> str:
    return " ".join(line.split())
