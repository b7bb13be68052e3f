"""The files of a release in a catalogue, out of a directory or by http and https, each from any byte on.

How long a file may be is known before: from the manifest, or from what a file of its kind may have. So

1. an answer that says another length is not read, and none is read beyond it;
2. an answer has to come with at least SLOWEST bytes a second on average, after PATIENCE, and is never silent for long;
3. a server that cannot begin in the middle is read from the beginning.

What is read is hostile until somebody has hashed it.
"""

import io
import os
import sys
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from typing import BinaryIO, Final, cast
from urllib.request import getproxies, proxy_bypass

import urllib3
from tuf.api.exceptions import DownloadError, DownloadHTTPError
from tuf.ngclient import FetcherInterface  # type: ignore[attr-defined]  # its __all__ is computed

from imagefactory.errors import CatalogueEndless, CatalogueMixed, CatalogueUnreachable, FactoryError
from imagefactory.tools.known_catalogue import is_web
from imagefactory.tools.tuf_errors import translate
from imagefactory.tools.tuf_fetch import AGENT, CHUNK, SILENCE, Helper
from signing.digest import Digests, FileState, OnBytes, hash_stream, open_regular
from signing.strict_json import MAX_BYTES
from signing.verify import MAX_OTHER_BYTES, Files

SLOWEST: Final = 64 << 10  # bytes a second
PATIENCE: Final = 60.0  # seconds
_OK, _PARTIAL = 200, 206
_NONE: Final = (403, 404, 410)
_RETRIES: Final = urllib3.Retry(
    total=4, redirect=4, backoff_factor=0.5, status_forcelist=(502, 503, 504), respect_retry_after_header=False
)


class WebFolder(Files):
    """The files of a release at an address, as `signing.verify` wants them: streamed, and nothing of them is kept.

    Its methods raise CatalogueUnreachable, CatalogueMixed, CatalogueEndless.
    """

    def __init__(self, address: str) -> None:
        self._address = address

    def names(self) -> None:
        """A web server does not tell."""

    def document(self, name: str) -> bytes:
        """A file of at most 1 MiB."""
        with reading(f"{self._address}/{name}", None, most=MAX_BYTES) as (_, stream):
            return stream.read()

    def digests(self, name: str, size: int | None, on_bytes: OnBytes | None) -> Digests:
        """What is there, read once."""
        with reading(f"{self._address}/{name}", size, most=MAX_OTHER_BYTES) as (_, stream):
            return hash_stream(stream, algorithms=("sha256",), on_bytes=on_bytes)


@contextmanager
def reading(where: str, size: int | None, *, most: int = 0, begin: int = 0) -> Iterator[tuple[int, BinaryIO]]:
    """Read a file, at a path or an address, from byte `begin` on: from which byte it does come, and what comes.

    It has `size` bytes, or where that is None at most `most`. Raises, now and while it is read, CatalogueUnreachable,
    CatalogueMixed (another length or part), CatalogueEndless; of a path, NotARegularFile, Unreadable.
    """
    if not is_web(where):
        descriptor = open_regular(where)
        with os.fdopen(descriptor, "rb") as file:
            found = FileState.of(descriptor).size
            if size is not None and found != size:
                raise CatalogueMixed(f"{where} has {found} bytes, and {size} were signed")
            if size is None and found > most:
                raise CatalogueEndless(f"{where} has {found} bytes, and a file of its kind may have {most}")
            file.seek(begin)
            yield begin, file
        return
    part = _Part(where, begin, size, most if size is None else size)
    helper = Helper(part, where)
    try:
        stream = _Stream(helper, part)
        yield part.begins, cast(BinaryIO, stream)
    finally:
        helper.dismiss()


def length(where: str) -> int | None:
    """How many bytes a server says that a file has; None where it does not say. Raises CatalogueUnreachable."""
    part = _Part(where, 0, None, sys.maxsize, method="HEAD")
    helper = Helper(part, where)
    try:
        _Stream(helper, part)
    finally:
        helper.dismiss()
    return part.length


def is_there(where: str) -> bool:
    """Whether a server has a file; it says 404, or 403, or 410 where it has not. Raises CatalogueUnreachable."""
    try:
        length(where)
    except CatalogueUnreachable as error:
        if isinstance(error.__cause__, DownloadHTTPError) and error.__cause__.status_code in _NONE:
            return False
        raise
    return True


class _Part(FetcherInterface):
    """Asks for a file, which may have `most` bytes, from byte `begin` on. The answer says from which byte on it
    `begins`, and its `length` from there; `refusal` is why it is not read."""

    def __init__(self, where: str, begin: int, size: int | None, most: int, method: str = "GET") -> None:
        self.where, self.size, self.most = where, size, most
        self.begins = 0
        self.length: int | None = None
        self.refusal: FactoryError | None = None
        self._begin = begin
        self._method = method

    @property
    def longest(self) -> int:
        """How many bytes may come at most."""
        return 0 if self._method == "HEAD" else self.most

    def _fetch(self, url: str) -> Iterator[bytes]:
        headers = {"User-Agent": AGENT, "Accept-Encoding": "identity"}
        if self._begin:
            headers["Range"] = f"bytes={self._begin}-"
        return self._pieces(url, headers)

    def _examine(self, response: urllib3.BaseHTTPResponse) -> None:
        """Raises DownloadError."""
        if response.status == _PARTIAL and self._begin:
            self.begins = self._begin
            wanted = f"bytes {self._begin}-{self.most - 1}/{self.most}"
            if response.headers.get("Content-Range") != wanted:
                raise self._refused(CatalogueMixed(f"{self.where}: another part comes than was asked for"))
        elif response.status != _OK:
            raise DownloadHTTPError(f"HTTP error occurred with status {response.status}", response.status)
        said = response.headers.get("Content-Length", "")
        self.length = int(said) if said.isdecimal() else None
        if self.length is None:
            return
        found = self.begins + self.length
        if self.size not in {None, found}:
            raise self._refused(CatalogueMixed(f"{self.where} has {found} bytes, and {self.size} were signed"))
        if found > self.most:
            what = f"{self.where} has {found} bytes, and a file of its kind may have {self.most}"
            raise self._refused(CatalogueEndless(what))

    def _refused(self, refusal: FactoryError) -> DownloadError:
        self.refusal = refusal
        return DownloadError("refused")

    def _answer(self, manager: urllib3.PoolManager, url: str, headers: Mapping[str, str]) -> urllib3.BaseHTTPResponse:
        """Raises DownloadError."""
        try:
            return manager.request(
                self._method,
                url,
                headers=headers,
                preload_content=False,
                decode_content=False,
                timeout=urllib3.Timeout(SILENCE),
                retries=_RETRIES,
            )
        except urllib3.exceptions.HTTPError as error:
            raise DownloadError("no answer") from error

    def _pieces(self, url: str, headers: Mapping[str, str]) -> Iterator[bytes]:
        """Whatever comes, when it comes: of an answer that breaks off nothing is lost."""
        with _manager(url) as manager:
            response = self._answer(manager, url, headers)
            try:
                self._examine(response)
                while piece := response.read1(CHUNK, decode_content=False):
                    yield piece
            finally:
                response.close()


def _manager(url: str) -> urllib3.PoolManager:
    """With the proxy that the environment names."""
    parts = urllib3.util.parse_url(url)
    proxies = getproxies()
    proxy = proxies.get(parts.scheme or "", proxies.get("all"))
    if proxy is None or proxy_bypass(parts.host or ""):
        return urllib3.PoolManager(num_pools=1)
    return urllib3.ProxyManager(proxy, num_pools=1)


class _Stream(io.RawIOBase):
    """What comes, as a stream that ends where it should or raises. The first piece is here when it is made."""

    def __init__(self, helper: Helper, part: _Part) -> None:
        self._helper, self._part = helper, part
        self._deadline = time.monotonic() + PATIENCE + part.longest / SLOWEST
        self._piece = memoryview(self._next())
        self._left = part.most - part.begins

    def readable(self) -> bool:
        """It is."""
        return True

    def readinto(self, buffer: memoryview) -> int:  # type: ignore[override]  # nobody gives another buffer
        """The next bytes, never more than one piece of them. Raises CatalogueUnreachable, CatalogueEndless."""
        if not self._piece:
            self._piece = memoryview(self._next())
        if len(self._piece) > self._left:
            raise CatalogueEndless(f"{self._part.where}: more comes than a file of its kind may have")
        if not self._piece and self._left and self._part.size is not None:
            raise CatalogueUnreachable(f"{self._part.where}: the answer ended {self._left} bytes too early")
        count = min(len(buffer), len(self._piece))
        buffer[:count], self._piece = self._piece[:count], self._piece[count:]
        self._left -= count
        return count

    def _next(self) -> bytes:
        """Raises what was wrong with the answer, or CatalogueUnreachable."""
        try:
            return self._helper.next(self._deadline - time.monotonic())
        except DownloadError as error:
            raise self._part.refusal or translate(error, self._part.where) from error
