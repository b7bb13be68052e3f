"""The package lists that apt had during a build: which archives were installed, and which files signed for them.

apt installs no archive whose SHA-256 is not the one in its lists, and believes no list that no signed InRelease file
names (apt-secure(8)); so these are the digests of what was installed. What no list names, such as a package that an
element installed by dpkg itself, has no digest here: none is guessed. Format: https://wiki.debian.org/DebianRepository/Format
"""

import re
from collections.abc import Iterable, Iterator, Mapping, Sequence
from hashlib import file_digest
from itertools import groupby
from pathlib import Path
from urllib.parse import unquote

from debian.deb822 import Deb822

from imagefactory.model.packages import Package, Source

_SHA256 = re.compile(r"[0-9a-f]{64}")
_URL = re.compile(r"(?P<scheme>[a-z0-9+]+:/*)(?:[^/@]*@)?(?P<place>.*)")


def archives(lists: Path, packages: Iterable[Package]) -> dict[Package, str]:
    """SHA-256, in hex, of the archive of each package, as the Packages files in the directory `lists` say. A package is
    left out when none of them names it, or when they differ."""
    found: dict[Package, set[str]] = {package: set() for package in packages}
    names = {package.name.encode() for package in found}
    for path in sorted(lists.glob("*_Packages")):
        for paragraph in _paragraphs(path, names):
            package = Package(*(paragraph.get(key, "") for key in ("Package", "Version", "Architecture")))
            if package in found:
                found[package].add(paragraph.get("SHA256", ""))
    digests = {package: next(iter(said)) for package, said in found.items() if len(said) == 1}
    return {package: digest for package, digest in digests.items() if _SHA256.fullmatch(digest)}


def in_releases(lists: Path, sources: Sequence[Source]) -> dict[str, str | None]:
    """SHA-256, in hex, of the InRelease (or Release) file of each suite, by its URL; None where there is neither."""
    # apt names a file by its URL without scheme and user: "/" is "_", and what is special is percent-encoded.
    files = {unquote(path.name.replace("_", "/")).lstrip("/"): path for path in sorted(lists.glob("*Release"))}
    return dict(_in_release(source, files) for source in sources)


def _in_release(source: Source, files: Mapping[str, Path]) -> tuple[str, str | None]:
    url = _URL.fullmatch(source.uri)
    if url is None:
        raise AssertionError("a source has a URL")
    suite = f"{url['place'].rstrip('/')}/dists/{source.suite}"
    for kind in ("InRelease", "Release"):
        path = files.get(f"{suite}/{kind}")
        if path is not None:
            with path.open("rb") as stream:
                return f"{url['scheme']}{suite}/{kind}", file_digest(stream, "sha256").hexdigest()
    return f"{url['scheme']}{suite}/InRelease", None


def _paragraphs(path: Path, names: set[bytes]) -> Iterator[Deb822]:
    """The paragraphs about packages with these names. Debian's main has sixty thousand others, which are not parsed."""
    with path.open("rb") as stream:
        for filled, lines in groupby(stream, key=lambda line: line != b"\n"):
            paragraph = list(lines)
            name = next((line[8:].strip() for line in paragraph if line.startswith(b"Package:")), b"")
            if filled and name in names:
                yield Deb822(paragraph)
