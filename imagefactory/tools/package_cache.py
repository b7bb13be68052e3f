"""Debian packages that apt has fetched and checked, kept by their digests under a directory of ours."""

import os
import tempfile
from collections.abc import Callable, Sequence
from hashlib import sha256
from pathlib import Path

from imagefactory.errors import MirrorUnreachable
from imagefactory.tools.apt import Archive, Index
from signing.digest import read_document


def kept(directory: Path, kind: str, archives: Sequence[Archive], index: Index) -> tuple[Path, ...]:
    """The files of `archives`, in their order, in a directory of this `kind` below `directory`, which the caller holds.

    What is there is not fetched again. Raises MirrorUnreachable, DiskFull.
    """
    key = sha256("".join(f"{each.file} {each.sha256}\n" for each in archives).encode()).hexdigest()
    folder = once(directory / f"{kind}-{key}", lambda scratch: download(index, archives, scratch))
    return tuple(folder / each.file for each in archives)


def download(index: Index, archives: Sequence[Archive], directory: Path) -> None:
    """Fetch `archives` into `directory`. Raises MirrorUnreachable unless they are what the package lists say."""
    index.download(archives, directory)
    for each in archives:
        if sha256(read_document(directory / each.file, most=each.size)).hexdigest() != each.sha256:
            raise MirrorUnreachable(f"{each.file} is not what the package lists say")


def once(folder: Path, make: Callable[[Path], None]) -> Path:
    """The directory `folder`, which `make` fills when it is not there; whoever is killed meanwhile leaves none. Its
    time is that of its last use."""
    if folder.is_dir():
        os.utime(folder)
    else:
        with tempfile.TemporaryDirectory(prefix=".new-", dir=folder.parent) as scratch:
            made = Path(scratch) / "made"
            made.mkdir()
            make(made)
            made.rename(folder)
    return folder
