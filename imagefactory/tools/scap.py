"""What measures an image: SCAP content, and the scanner that reads it. Both are Debian packages, fetched and checked by
apt, kept by their digests under a directory of ours, and never installed on this host.
"""

import shutil
import time
from collections.abc import Mapping
from dataclasses import dataclass
from hashlib import sha256
from pathlib import Path
from typing import Any

from imagefactory.errors import ContentInvalid, ContentMissing, ScanFailed
from imagefactory.tools.apt import Index, host_sources
from imagefactory.tools.durable import held
from imagefactory.tools.inventory import MAX_STATUS, read_status
from imagefactory.tools.oscap import MAX_CONTENT
from imagefactory.tools.package_cache import download, kept, once
from imagefactory.tools.process import Limits, run
from signing.digest import read_document
from signing.errors import SigningError

# The SCAP Security Guide of bookworm (0.1.65) has no content for Debian 12.
CONTENT_RELEASE = "trixie"
CONTENT_PACKAGE = "ssg-debian"
CONTENT_FOLDER = Path("usr/share/xml/scap/ssg/content")
# The data stream for each release of Debian.
CONTENT: Mapping[str, str] = {"bookworm": "ssg-debian12-ds.xml", "trixie": "ssg-debian13-ds.xml"}
SCANNER_PACKAGE = "openscap-scanner"
OWN = "own"  # the version of content that the recipe brings

REFRESH = 86400.0  # seconds; the content changes a few times a year
UNPACK_TIMEOUT = 120.0
MAX_FILE = 256 << 20  # bytes of any file in a package


@dataclass(frozen=True)
class DataStream:
    """SCAP content: a file with its SHA-256 (hex), and the version of the package that it came in, or OWN."""

    path: Path
    sha256: str
    version: str


@dataclass(frozen=True)
class Kit:
    """What measures: SCAP content as a DataStream has it, and the packages, in apt's order, that make a scanner of a
    system (none: it has one), with the scanner's version."""

    content: Path
    sha256: str
    version: str
    scanner: tuple[Path, ...]
    scanner_version: str

    def to_json(self) -> dict[str, Any]:
        """The same for `from_json`."""
        return {**vars(self), "content": str(self.content), "scanner": [str(each) for each in self.scanner]}

    @classmethod
    def from_json(cls, document: Mapping[str, Any]) -> "Kit":
        """Read what `to_json` wrote."""
        paths = {"content": Path(document["content"]), "scanner": tuple(map(Path, document["scanner"]))}
        return cls(**{**document, **paths})


def fetch(directory: Path, content: DataStream, status: Path, index: Index) -> Kit:
    """Get a scanner for a system whose dpkg status file is `status`, to measure it by `content`.

    `directory` is disposable, and shared by everybody who asks; `index` has the sources of the system, refreshed. What
    is there is not fetched again.

    Raises MirrorUnreachable, PackageMissing, ScanFailed, DiskFull.
    """
    with held(directory):
        scanner, scanner_version = _scanner(directory, status, index)
    return Kit(content.path, content.sha256, content.version, scanner, scanner_version)


def data_stream(directory: Path, codename: str, own_content: Path | None, environment: Mapping[str, str]) -> DataStream:
    """Get the content for the release `codename` into `directory`, unless the recipe has a file of its own.

    Raises ContentMissing, ContentInvalid, NoMirror, MirrorUnreachable, DiskFull.
    """
    path, version = own_content, OWN
    if path is None:
        with held(directory):
            path, version = _debian_content(directory, codename, environment)
    try:
        return DataStream(path, sha256(read_document(path, most=MAX_CONTENT)).hexdigest(), version)
    except SigningError as error:
        raise ContentInvalid(f"the SCAP content cannot be read: {error.message}") from None


def unpack(archive: Path, tree: Path, *, environment: Mapping[str, str]) -> None:
    """Unpack a package into a directory, which is made if it is not there. Raises ProgramFailed, DiskFull."""
    limits = Limits(file_size=MAX_FILE)
    run(["dpkg-deb", "-x", archive, tree], env=environment, timeout=UNPACK_TIMEOUT, limits=limits)


def _debian_content(directory: Path, codename: str, environment: Mapping[str, str]) -> tuple[Path, str]:
    name = CONTENT.get(codename)
    if name is None:
        raise ContentMissing(f"the SCAP Security Guide has no content for {codename}")
    index = Index(directory / "apt", host_sources(CONTENT_RELEASE, environment), environment)
    _refresh(index)
    (archive,) = index.archives([CONTENT_PACKAGE])

    def make(scratch: Path) -> None:
        download(index, (archive,), scratch)
        unpack(scratch / archive.file, scratch / "tree", environment=environment)
        for each in (scratch / "tree" / CONTENT_FOLDER).glob("*-ds.xml"):
            each.rename(scratch / each.name)
        shutil.rmtree(scratch / "tree")

    content = once(directory / f"content-{archive.sha256}", make) / name
    if not content.is_file():
        raise ContentMissing(f"{CONTENT_PACKAGE} {archive.package.version} has no {name}")
    return content, archive.package.version


def _scanner(directory: Path, status: Path, index: Index) -> tuple[tuple[Path, ...], str]:
    archives = index.archives([SCANNER_PACKAGE], status)
    packages = [each.package for each in archives] or read_status(read_document(status, most=MAX_STATUS))
    version = next((each.version for each in packages if each.name == SCANNER_PACKAGE), None)
    if version is None:
        raise ScanFailed(f"apt would fetch {len(archives)} packages for {SCANNER_PACKAGE}, and not that one")
    if not archives:
        return (), version
    return kept(directory, "scanner", archives, index), version


def _refresh(index: Index) -> None:
    """Fetch the package lists unless that was done within a day."""
    stamp = index.directory / "refreshed"
    if not stamp.is_file() or not 0 <= time.time() - stamp.stat().st_mtime < REFRESH:
        stamp.unlink(missing_ok=True)
        index.refresh()
        stamp.touch()
