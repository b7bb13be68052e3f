"""diskimage-builder: elements become a root file system."""

import re
from collections.abc import Callable, Mapping, Sequence
from importlib.metadata import version
from importlib.resources import files
from pathlib import Path

from imagefactory.errors import DiskFull, FactoryError, MirrorUnreachable, PackageMissing, ProgramFailed, RootfsFailed
from imagefactory.tools.process import run

_SCRIPT = re.compile(r"dib-run-parts Running \S*/hooks/(?P<phase>[a-z-]+)\.d/(?P<script>\S+)")
_SCRIPT_IN_TARGET = re.compile(r"dib-run-parts Running /tmp/in_target\.d/(?P<phase>[a-z-]+)\.d/(?P<script>\S+)")
_BOOTSTRAP = re.compile(r"\| I: (?P<what>[a-z][a-z .]+)\.\.\.$")

# What the log says, and what it means. The first match wins.
_MEANINGS: tuple[tuple[re.Pattern[str], type[FactoryError], str], ...] = (
    (re.compile(r"No space left on device"), DiskFull, "the build ran out of space"),
    (re.compile(r"E: Unable to locate package (?P<what>\S+)"), PackageMissing, "no source offers {what}"),
    (re.compile(r"E: Package '(?P<what>[^'\s]+)' has no installation"), PackageMissing, "no source offers {what}"),
    (re.compile(r"Failed to fetch (?P<what>\S+)"), MirrorUnreachable, "could not fetch {what}"),
    (re.compile(r"Could not (?:resolve|connect to) '?(?P<what>[^'\s]+)"), MirrorUnreachable, "could not reach {what}"),
)


def dib_version() -> str:
    """The version of diskimage-builder that would run."""
    return version("diskimage-builder")


def own_elements() -> Path:
    """The directory of the elements that come with diskimage-builder."""
    return Path(str(files("diskimage_builder"))) / "elements"


def disk_image_create(
    elements: Sequence[str],
    stem: Path,
    *,
    env: Mapping[str, str],
    log: Path,
    timeout: float,
    on_advance: Callable[[str], None],
) -> None:
    """Run disk-image-create without its element "base". The element rootfs-tar writes what we want, named after `stem`;
    no-final-image keeps diskimage-builder from writing an image of its own. `timeout` is in seconds.

    Must be called as root in namespaces of our own. Raises RootfsFailed, PackageMissing, MirrorUnreachable, DiskFull,
    ProgramTimeout.
    """
    follower = LogFollower(log, on_advance)
    argv: list[str | Path] = ["disk-image-create", "-n", "-t", "raw", "-o", stem, *elements]
    try:
        run(argv, env=env, timeout=timeout, log=log, on_poll=follower)
    except ProgramFailed as error:
        raise _explain(log, error) from error


class LogFollower:
    """Reads what is new in diskimage-builder's log and tells what it is doing."""

    def __init__(self, log: Path, on_advance: Callable[[str], None]) -> None:
        self._log = log
        self._position = 0
        self._on_advance = on_advance

    def __call__(self) -> None:
        try:
            with self._log.open("rb") as stream:
                stream.seek(self._position)
                new = stream.read(1 << 20)
                self._position = stream.tell()
        except FileNotFoundError:
            return
        doing = [text for line in new.decode(errors="replace").splitlines() if (text := describe(line))]
        if doing:
            self._on_advance(doing[-1])


def describe(line: str) -> str | None:
    """What a line of the log says about progress, or None."""
    if match := _SCRIPT.search(line) or _SCRIPT_IN_TARGET.search(line):
        return f"{match['phase']}: {match['script']}"
    if match := _BOOTSTRAP.search(line):
        return f"bootstrap: {match['what']}"
    return None


def _explain(log: Path, error: ProgramFailed) -> FactoryError:
    text = log.read_text(errors="replace")[-(1 << 20) :]
    for pattern, kind, message in _MEANINGS:
        if match := pattern.search(text):
            line = text[text.rfind("\n", 0, match.start()) + 1 : text.find("\n", match.end())]
            return kind(message.format(**match.groupdict()), log=log, lines=(line[-300:],))
    script = next((what for line in reversed(text.splitlines()) if (what := describe(line))), "its start")
    lines = tuple(line for line in error.lines if "| +" not in line) or error.lines
    return RootfsFailed(f"diskimage-builder failed in {script}", log=log, lines=lines)
