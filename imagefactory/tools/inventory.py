"""What is installed in a root file system, read from its tar without unpacking it.

The tar is gone through once, header by header; of the contents only dpkg's status file and the copyright files are
read, each up to a bound. What they say is the image's own word, and hostile: names have the characters that Debian
Policy allows, or the whole is refused. A link is followed by its name among the copyright files of the same tar,
nowhere else.
"""

import posixpath
import re
import tarfile
from collections.abc import Iterator
from dataclasses import dataclass, field
from hashlib import sha256
from pathlib import Path

from debian.deb822 import Deb822

from imagefactory.errors import RootfsUnreadable
from imagefactory.model.packages import Installed, Package, SourcePackages
from imagefactory.tools.licences import licences

STATUS = "var/lib/dpkg/status"
MAX_STATUS = 64 << 20  # bytes; 2,000 packages take 2 MiB
MAX_COPYRIGHT = 4 << 20  # bytes of one file; Boost's has 2 MiB
MAX_COPYRIGHTS = 256 << 20  # bytes of all of them that are parsed
MAX_PACKAGES = 20_000
MAX_HOPS = 4  # links, one after the other
MAX_TEXT = 255  # characters of a maintainer

_DOCUMENTATION = re.compile(r"usr/share/doc/[^/]+(/copyright)?")
# Debian Policy 5.6.1, 5.6.8, 5.6.12.
_NAME = re.compile(r"[a-z0-9][a-z0-9+.-]{1,254}")
_ARCHITECTURE = re.compile(r"[a-z0-9][a-z0-9-]{0,63}")
_VERSION = re.compile(r"[0-9A-Za-z.+:~-]{1,255}")
_SOURCE = re.compile(rf"(?P<name>{_NAME.pattern})(?: \((?P<version>{_VERSION.pattern})\))?")
# deb-control(5). Static-Built-Using is for what Go and Rust link statically.
_BUILT_USING = ("Built-Using", "Static-Built-Using")
_EXACTLY = re.compile(rf"(?P<name>{_NAME.pattern})\s*\(\s*=\s*(?P<version>{_VERSION.pattern})\s*\)")


def read_inventory(tar: Path) -> tuple[Installed, ...]:
    """The installed packages of a root file system, sorted. Raises RootfsUnreadable."""
    status = b""
    documents = _Documents()
    try:
        with tarfile.open(tar, "r:") as archive:
            for member in _members(archive):
                path = member.name.removeprefix("./")
                if path == STATUS:
                    status = _content(archive, member, MAX_STATUS)
                elif _DOCUMENTATION.fullmatch(path):
                    documents.add(path, member, archive)
    except (tarfile.TarError, ValueError, OverflowError, EOFError) as error:
        raise RootfsUnreadable(f"the root file system is no tar: {error}") from error
    packages = [_installed(each, documents) for each in _paragraphs(status)]
    if not packages:
        raise RootfsUnreadable("no package is installed in the root file system")
    return tuple(sorted(packages))


def read_status(status: bytes) -> list[Package]:
    """The installed packages of a dpkg status file, sorted. Raises RootfsUnreadable."""
    return sorted(_package(each) for each in _paragraphs(status))


def read_sources(status: bytes) -> SourcePackages:
    """The source packages whose code is installed, by a dpkg status file: those that packages were built from, and
    those that they were built with and carry (Debian Policy 7.8, Built-Using). Raises RootfsUnreadable."""
    found: dict[str, dict[str, set[str]]] = {}
    for each in _paragraphs(status):
        package = _package(each)
        for source in (_source(each, package), *_built_using(each)):
            found.setdefault(source.name, {}).setdefault(source.version, set()).add(package.name)
    return {
        name: {version: frozenset(packages) for version, packages in versions.items()}
        for name, versions in found.items()
    }


@dataclass
class _Documents:
    """Licences by the path of the copyright file, and links by their paths."""

    licences: dict[str, tuple[str, ...]] = field(default_factory=dict)
    links: dict[str, str] = field(default_factory=dict)
    _known: dict[bytes, tuple[str, ...]] = field(default_factory=dict)
    _parsed: int = 0

    def add(self, path: str, member: tarfile.TarInfo, archive: tarfile.TarFile) -> None:
        if len(self.licences) + len(self.links) > 2 * MAX_PACKAGES:
            raise RootfsUnreadable(f"the root file system has documentation of more than {MAX_PACKAGES} packages")
        if member.issym():
            self.links[path] = _place(posixpath.join(f"/{posixpath.dirname(path)}", member.linkname))
        elif member.islnk():
            self.links[path] = _place(member.linkname)
        elif member.isreg() and path.endswith("/copyright") and member.size <= MAX_COPYRIGHT:
            self.licences[path] = self._licences(_content(archive, member, MAX_COPYRIGHT))

    def of(self, package: str) -> tuple[str, ...]:
        path = f"usr/share/doc/{package}/copyright"
        for _ in range(MAX_HOPS):
            if path in self.licences:
                return self.licences[path]
            folder = posixpath.dirname(path)
            if path in self.links:
                path = self.links[path]
            elif folder in self.links:
                path = f"{self.links[folder]}/copyright"
        return ()

    def _licences(self, content: bytes) -> tuple[str, ...]:
        """Packages of one source have one text: it is parsed once."""
        digest = sha256(content).digest()
        if digest not in self._known:
            self._parsed += len(content)
            self._known[digest] = licences(content) if self._parsed <= MAX_COPYRIGHTS else ()
        return self._known[digest]


def _place(path: str) -> str:
    """Where a link leads, from the root of the tar."""
    return posixpath.normpath(path).lstrip("/")


def _members(archive: tarfile.TarFile) -> Iterator[tarfile.TarInfo]:
    while (member := archive.next()) is not None:
        yield member
        # tarfile remembers every member, for which nobody asks here; an image has a hundred thousand.
        archive.members.clear()  # type: ignore[attr-defined]


def _content(archive: tarfile.TarFile, member: tarfile.TarInfo, most: int) -> bytes:
    stream = archive.extractfile(member) if member.isreg() else None
    content = stream.read(most + 1) if stream else b""
    if stream is None or len(content) > most:
        raise RootfsUnreadable(f"{member.name[:MAX_TEXT]!r} is no regular file of at most {most} bytes")
    return content


def _paragraphs(status: bytes) -> Iterator[Deb822]:
    """The paragraphs of installed packages."""
    fields = ["Package", "Status", "Version", "Architecture", "Source", "Maintainer", *_BUILT_USING]
    # Lines: python-debian would take a text of one line for the name of a file.
    text = status.decode(errors="replace").splitlines()
    count = 0
    for each in Deb822.iter_paragraphs(text, use_apt_pkg=False, fields=fields):
        if each.get("Status", "").endswith(" installed"):
            count += 1
            if count > MAX_PACKAGES:
                raise RootfsUnreadable(f"more than {MAX_PACKAGES} packages are installed in the root file system")
            yield each


def _package(paragraph: Deb822) -> Package:
    patterns = {"Package": _NAME, "Version": _VERSION, "Architecture": _ARCHITECTURE}
    values = [paragraph.get(key, "") for key in patterns]
    for (key, pattern), value in zip(patterns.items(), values, strict=True):
        if not pattern.fullmatch(value):
            raise RootfsUnreadable(f"dpkg's status file has a {key} that is none: {value[:80]!r}")
    return Package(*values)


def _installed(paragraph: Deb822, documents: _Documents) -> Installed:
    package = _package(paragraph)
    maintainer = paragraph.get("Maintainer", "")[:MAX_TEXT]
    return Installed(
        package=package,
        source=_source(paragraph, package),
        maintainer=maintainer if maintainer.isprintable() else "",
        licences=documents.of(package.name),
    )


def _source(paragraph: Deb822, package: Package) -> Package:
    source = _SOURCE.fullmatch(paragraph.get("Source", package.name))
    if source is None:
        raise RootfsUnreadable(f"dpkg's status file has a Source that is none: {paragraph['Source'][:80]!r}")
    return Package(source["name"], source["version"] or package.version, "source")


def _built_using(paragraph: Deb822) -> Iterator[Package]:
    for field_name in _BUILT_USING:
        value = paragraph.get(field_name, "").strip()
        for each in filter(None, (part.strip() for part in value.split(","))):
            built = _EXACTLY.fullmatch(each)
            if built is None:
                raise RootfsUnreadable(f"dpkg's status file has a {field_name} that is none: {each[:80]!r}")
            yield Package(built["name"], built["version"], "source")
