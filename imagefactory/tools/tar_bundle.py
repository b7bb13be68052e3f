"""A part of a catalogue in one file, to be carried: a plain tar (POSIX.1-2001) of regular files, with the paths that
they have below a catalogue. What is unpacked is hostile:

1. Every member is a regular file, without holes, at a path that a catalogue can have, and comes once.
2. Documents are as long as clients read them at most; images have the room that the file system has.
3. No more than MOST_MEMBERS of them, and no header that would fill the memory.
"""

import errno
import io
import os
import re
import tarfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import IO, Final

from imagefactory.errors import CatalogueDamaged, DiskFull, OutputUnusable
from imagefactory.model.listing import SUFFIX, TRUST_POLICY
from imagefactory.model.release import NAME
from imagefactory.tools.durable import PUBLIC, PUBLIC_FOLDER
from imagefactory.tools.tuf_fetch import CHUNK, LARGEST
from imagefactory.tools.tuf_files import METADATA, TARGETS
from signing.digest import open_regular
from signing.fields import PLAIN_FILE
from signing.strict_json import MAX_BYTES

MOST_MEMBERS: Final = 100_000
_LONGEST_READ: Final = 1 << 20  # bytes; whole headers are read at once
_VERSION: Final = r"[0-9]{8}\.[1-9][0-9]{0,5}"
_METADATA: Final = re.compile(rf"{METADATA}/(timestamp|[1-9][0-9]{{0,8}}\.{NAME.pattern})\.json")
_DOCUMENT: Final = re.compile(
    rf"{TARGETS}/([0-9a-f]{{64}}\.{re.escape(TRUST_POLICY)}|{NAME.pattern}/[0-9a-f]{{64}}\.{_VERSION}{re.escape(SUFFIX)})"
)
_FILE: Final = re.compile(rf"{TARGETS}/{NAME.pattern}/{_VERSION}/{PLAIN_FILE.pattern}")
_NO_SPACE: Final = (errno.ENOSPC, errno.EDQUOT)


class Packer:
    """Packs files into an open tar. Raises DiskFull, OutputUnusable."""

    def __init__(self, tar: tarfile.TarFile) -> None:
        self._tar = tar

    def add(self, path: str, content: bytes) -> None:
        """One file with these bytes."""
        self.add_stream(path, len(content), io.BytesIO(content))

    def add_stream(self, path: str, size: int, stream: IO[bytes]) -> None:
        """One file of `size` bytes. What the stream raises is passed on."""
        member = tarfile.TarInfo(path)
        member.size, member.mode = size, 0o644
        self._tar.addfile(member, stream)


@contextmanager
def packing(file: Path) -> Iterator[Packer]:
    """Pack into a new file. Raises OSError."""
    with tarfile.open(file, "x:", format=tarfile.PAX_FORMAT) as tar:
        yield Packer(tar)


def unpack(file: Path, directory: Path) -> None:
    """Unpack into a directory that is ours alone, by the rules above.

    Raises CatalogueDamaged, NotARegularFile, Unreadable, DiskFull, OutputUnusable.
    """
    with _Bounded(open_regular(file)) as source:
        try:
            with tarfile.open(fileobj=source, mode="r:") as tar:
                _extract(tar, directory)
        except (tarfile.TarError, EOFError, ValueError, OverflowError) as error:
            raise CatalogueDamaged(f"{file} is no bundle of a catalogue, or not whole", advice=_AGAIN) from error
        except OSError as error:
            if error.errno in _NO_SPACE:
                raise DiskFull(f"no space in {directory}") from error
            raise OutputUnusable(f"{directory}: {error.strerror}") from error


_AGAIN: Final = "export it again, and carry it over whole"


class _Bounded(io.FileIO):
    """A file of which nobody reads very much at once."""

    def read(self, size: int | None = -1, /) -> bytes:
        if size is None or not 0 <= size <= _LONGEST_READ:
            raise tarfile.ReadError("a header is too long")
        return super().read(size) or b""


def _extract(tar: tarfile.TarFile, directory: Path) -> None:
    seen: set[str] = set()
    for member in tar:
        if len(seen) == MOST_MEMBERS:
            raise CatalogueDamaged(f"there are more than {MOST_MEMBERS} files in the bundle", advice=_AGAIN)
        if member.type not in {tarfile.REGTYPE, tarfile.AREGTYPE} or member.sparse is not None:
            raise CatalogueDamaged("the bundle has something that is no file", advice=_AGAIN)
        if member.name in seen or member.size > _most(member.name):
            raise CatalogueDamaged(f"the bundle has {member.name[:100]!r} twice, or too long", advice=_AGAIN)
        seen.add(member.name)
        content = tar.extractfile(member)
        if content is None:
            raise CatalogueDamaged("the bundle has something that is no file", advice=_AGAIN)
        _write(directory / member.name, content, member.size)


def _most(path: str) -> int:
    """How long a file of a catalogue may be. Raises CatalogueDamaged for what is no path of one."""
    if _METADATA.fullmatch(path):
        return LARGEST
    if _DOCUMENT.fullmatch(path):
        return MAX_BYTES
    if _FILE.fullmatch(path):
        return 1 << 62
    raise CatalogueDamaged(f"the bundle has {path[:100]!r}, which is no file of a catalogue", advice=_AGAIN)


def _write(path: Path, content: IO[bytes], size: int) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.parent.chmod(PUBLIC_FOLDER)
    with path.open("xb") as file:
        os.fchmod(file.fileno(), PUBLIC)  # of the catalogue that it comes to, whatever our umask is
        while piece := content.read(CHUNK):
            file.write(piece)
        if file.tell() != size:
            raise tarfile.ReadError("the bundle ends in the middle of a file")
