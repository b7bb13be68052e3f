"""How files of a catalogue come here: out of a directory, or by http and https. All that comes is hostile.

How much of a file is read is python-tuf's business first (`FetcherInterface.download_file`); how long that may take,
and which files of this machine can be meant, is ours.
"""

import os
import queue
import threading
import time
from collections.abc import Iterator
from contextlib import ExitStack, closing, contextmanager
from pathlib import Path
from typing import IO, Any

from tuf.api.exceptions import DownloadError, DownloadHTTPError, SlowRetrievalError
from tuf.ngclient import FetcherInterface, Urllib3Fetcher  # type: ignore[attr-defined]  # its __all__ is computed

from imagefactory.tools.known_catalogue import is_web, web_address
from signing.digest import open_regular
from signing.errors import SigningError

LARGEST = 5_000_000  # bytes of any file
SILENCE = 20  # seconds without a byte, after which a server is asked once more
CHUNK = 64 << 10
AGENT = "imagefactory"
_FOLDER = os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC
_NOT_FOUND = 404


class Source(FetcherInterface):
    """A catalogue to read from, for python-tuf: addresses begin with `base`; `asked` is what was asked for last."""

    base = ""
    asked = ""

    def begin(self) -> None:
        """From now on counts the time that the catalogue has to answer."""

    @contextmanager
    def download_file(self, url: str, max_length: int) -> Iterator[IO[bytes]]:
        """Python-tuf's, which takes the length that a snapshot promises for any file, however large."""
        with super().download_file(url, min(max_length, LARGEST)) as file:
            yield file


def source_of(where: str | Path, patience: float) -> Source:
    """The catalogue in a directory, or at an http or https address, which has `patience` seconds to answer.

    Raises TargetUnsupported.
    """
    if not is_web(str(where)):
        return DirectorySource(Path(where))
    return WebSource(f"{web_address(str(where))}/", patience)


class DirectorySource(Source):
    """A catalogue in a directory of this machine: its regular files, and no link below the directory is followed."""

    def __init__(self, root: Path) -> None:
        self._root = root

    def _fetch(self, url: str) -> Iterator[bytes]:
        self.asked = url
        try:
            descriptor = self._open(url)
        except SigningError as why:
            raise DownloadError(why.message) from None
        return _pieces(descriptor)

    def _open(self, url: str) -> int:
        *folders, name = url.split("/")
        if not all(part.strip(".") for part in (*folders, name)):
            raise DownloadError("not a name in a catalogue")
        with ExitStack() as stack:
            at = os.open(self._root, _FOLDER)
            stack.callback(os.close, at)
            try:
                for folder in folders:
                    at = os.open(folder, _FOLDER | os.O_NOFOLLOW, dir_fd=at)
                    stack.callback(os.close, at)
                os.stat(name, dir_fd=at, follow_symlinks=False)
            except FileNotFoundError:
                raise DownloadHTTPError("there is no such file", _NOT_FOUND) from None
            return open_regular(name, dir_fd=at)


def _pieces(descriptor: int) -> Iterator[bytes]:
    with os.fdopen(descriptor, "rb", buffering=0) as stream:
        try:
            while piece := stream.read(CHUNK):
                yield piece
        except OSError as why:
            raise DownloadError("cannot be read") from why


class WebSource(Source):
    """A catalogue at an address, which has `patience` seconds for what is asked between two calls of `begin`.

    What asks is python-tuf's own fetcher, with its proxies, certificate authorities and redirections (to http and
    https alone). It limits the silence between two bytes; a server that sends one now and then, and a name server,
    could hold it for ever. So it works in a thread, which is left behind when the time is over.
    """

    def __init__(self, base: str, patience: float) -> None:
        self.base = base
        self._patience = patience
        self.begin()
        self._library = _Library(socket_timeout=SILENCE, chunk_size=CHUNK, app_user_agent=AGENT)

    def begin(self) -> None:
        """From now on counts the time."""
        self._deadline = time.monotonic() + self._patience

    def _fetch(self, url: str) -> Iterator[bytes]:
        self.asked = url
        helper = Helper(self._library, url)
        try:
            while piece := helper.next(self._deadline - time.monotonic()):
                yield piece
        finally:
            helper.dismiss()


class _Library(Urllib3Fetcher):
    """Python-tuf's fetcher. It keeps a connection open in the middle of an answer that nobody wants to the end: that
    is closed here."""

    def _chunks(self, response: Any) -> Iterator[bytes]:  # noqa: ANN401 - urllib3's
        pieces = super()._chunks(response)
        with closing(response):  # before `pieces` ends and gives it back, which is why this is no `yield from`
            for piece in pieces:  # noqa: UP028
                yield piece


class Helper:
    """Asks for one file in a thread of its own: a piece whenever it is told to, so that nothing piles up."""

    def __init__(self, library: FetcherInterface, url: str) -> None:
        self._orders = queue.SimpleQueue[bool]()
        self._brought = queue.SimpleQueue[bytes | DownloadError]()
        # A daemon: nobody waits for it when the program ends.
        threading.Thread(target=self._work, args=(library, url), name="catalogue", daemon=True).start()

    def next(self, seconds: float) -> bytes:
        """The next piece; none is the end. Raises DownloadError, SlowRetrievalError."""
        self._orders.put(True)
        try:
            brought = self._brought.get(timeout=max(seconds, 0.0))
        except queue.Empty:
            raise SlowRetrievalError("no answer in time") from None
        if isinstance(brought, DownloadError):
            raise brought
        return brought

    def dismiss(self) -> None:
        """Nobody wants more."""
        self._orders.put(False)

    def _work(self, library: FetcherInterface, url: str) -> None:
        try:
            pieces: Iterator[bytes] | None = None
            while self._orders.get():
                pieces = library.fetch(url) if pieces is None else pieces
                self._brought.put(next(filter(None, pieces), b""))
        except DownloadError as why:
            self._brought.put(_handed_over(why, why))
        except Exception as why:  # of urllib3, in the middle of an answer; somebody waits, so none may end the thread
            self._brought.put(_handed_over(DownloadError("the answer broke off"), why))


def _handed_over(error: DownloadError, of: Exception) -> DownloadError:
    """For another thread: with the system's own word for a cause, and without the frames, which hold sockets open."""
    error.__cause__ = _of_the_system(of)
    for each in (error, error.__cause__):
        if each is not None:
            each.__traceback__ = each.__context__ = None
    return error


def _of_the_system(error: BaseException | None) -> OSError | None:
    """What urllib3 wraps, and does not always name as the cause."""
    while error is not None and not (isinstance(error, OSError) and error.strerror):
        error = error.__cause__ or error.__context__
    return error
