"""Feeds of known vulnerabilities, as files: where they lie, which bytes they are, and of which day.

A feed with an https address is fetched by apt's own helper, which knows this host's proxies and certificate
authorities, goes from https to nothing else, and dates a file as the server does. It is kept below a directory of ours
and fetched again after a day. A file is read where it lies.
"""

import os
import shutil
import tempfile
import time
from collections.abc import Callable, Mapping, Set
from dataclasses import dataclass
from datetime import UTC, date, datetime
from hashlib import sha256
from pathlib import Path

from imagefactory.errors import FeedMissing, FeedTooLarge, FeedUnreachable, ProgramFailed, ProgramTimeout
from imagefactory.model.recipe_fields import is_url
from imagefactory.tools.apt import sandbox_user
from imagefactory.tools.durable import held, replace_file
from imagefactory.tools.inspect import opened
from imagefactory.tools.process import Limits, run
from signing.digest import FileState, hash_stream
from signing.errors import SigningError

HELPER = "/usr/lib/apt/apt-helper"
MAX_FEED = 512 << 20  # bytes; the security tracker's has 90 MB, OSV's zip of Debian 100 MB
REFRESH = 86400.0  # seconds
KEPT = 3 * 86400.0  # seconds that a build may still need a feed that was fetched again meanwhile
FETCH_TIMEOUT = 900.0
STALLED = 60  # seconds without a byte

_CURRENT = "current"  # the file that names the newest, made when that was fetched


@dataclass(frozen=True)
class FeedFile:
    """A feed: its file, the SHA-256 (hex) of that, the day (UTC) that it is of, and what the recipe writes of it."""

    path: Path
    sha256: str
    dated: date
    source: str


def get_feed(
    directory: Path, feed: str, written: str, environment: Mapping[str, str], on_fetch: Callable[[], None]
) -> FeedFile:
    """The feed at the https address or in the file `feed`; the recipe writes `written`. Fetched ones are kept below
    `directory`, which is disposable and shared by everybody who asks. `on_fetch` is called before one is fetched.

    Raises FeedMissing, FeedTooLarge, FeedUnreachable, ProgramMissing, DiskFull.
    """
    if not is_url(feed):
        return _file(Path(os.path.realpath(feed)), written)
    folder = directory / sha256(feed.encode()).hexdigest()[:32]
    with held(folder):
        newest = _newest(folder)
        if newest is None:
            on_fetch()
            newest = _fetched(folder, feed, environment)
        return _file(newest, written)


def _file(path: Path, written: str) -> FeedFile:
    try:
        with opened(path) as descriptor:
            if FileState.of(descriptor).size > MAX_FEED:
                raise FeedTooLarge(f"{path} has more than {MAX_FEED} bytes")
            digest = hash_stream(descriptor, algorithms=("sha256",)).sha256
            modified = os.fstat(descriptor).st_mtime
    except SigningError as why:
        raise FeedMissing(f"the feed cannot be read: {why.message}") from None
    return FeedFile(path, digest, datetime.fromtimestamp(modified, UTC).date(), written)


def _newest(folder: Path) -> Path | None:
    """The feed that was fetched within a day."""
    current = folder / _CURRENT
    if not current.is_file() or not 0 <= time.time() - current.stat().st_mtime < REFRESH:
        return None
    newest = folder / current.read_text().strip()
    return newest if newest.is_file() else None


def _fetched(folder: Path, url: str, environment: Mapping[str, str]) -> Path:
    with tempfile.TemporaryDirectory(prefix=".new-", dir=folder) as scratch:
        made = Path(scratch) / "feed"
        _fetch(url, made, environment)
        with opened(made) as descriptor:
            digest = hash_stream(descriptor, algorithms=("sha256",)).sha256
        made.rename(folder / digest)
    replace_file(folder / _CURRENT, f"{digest}\n".encode())
    _tidy(folder, {digest, _CURRENT})
    return folder / digest


def _tidy(folder: Path, wanted: Set[str]) -> None:
    for old in folder.iterdir():
        if old.is_dir():  # of somebody who was killed while fetching: nobody else is at it now
            shutil.rmtree(old, ignore_errors=True)
        elif old.name not in wanted and time.time() - old.stat().st_ctime > KEPT:
            old.unlink()


def _fetch(url: str, target: Path, environment: Mapping[str, str]) -> None:
    settings = {
        "APT::Sandbox::User": sandbox_user(),
        "Acquire::Retries": 2,
        "Acquire::https::Timeout": STALLED,
    }
    options = [part for key, value in settings.items() for part in ("-o", f"{key}={value}")]
    try:
        run(
            [HELPER, *options, "download-file", url, target],
            env=environment,
            timeout=FETCH_TIMEOUT,
            limits=Limits(file_size=MAX_FEED),
        )
    except ProgramTimeout as error:
        raise FeedUnreachable(f"{url} did not come within {FETCH_TIMEOUT:.0f} s") from error
    except ProgramFailed as error:
        _require_room(url, target)
        raise FeedUnreachable(f"{url} could not be fetched", lines=error.lines) from error
    _require_room(url, target)
    if not target.is_file() or target.stat().st_size == 0:  # apt's word for an answer that does not say its length
        raise FeedUnreachable(f"{url} gave nothing")


def _require_room(url: str, target: Path) -> None:
    """What fills all the room that it had was cut off there, whatever the helper says."""
    if target.is_file() and target.stat().st_size >= MAX_FEED:
        raise FeedTooLarge(f"{url} has {MAX_FEED} bytes or more")
