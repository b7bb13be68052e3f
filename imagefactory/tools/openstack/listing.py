"""All images of a project, however many: page by page, each image looked at and let go of before the next is read.

Where the next page begins is taken from what was listed, never from a link: a link may lead elsewhere.
"""

import re
import time
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from datetime import UTC, datetime
from email.utils import parsedate_to_datetime
from functools import partial
from typing import Any, Final, Generic, Protocol, TypeVar
from urllib.parse import urlencode

import ijson

from imagefactory.errors import CloudAnswerInvalid, GlanceRefused
from imagefactory.tools.json_stream import Event, ObjectTooLarge, events_of, object_of
from imagefactory.tools.openstack.session import WHOLE_ANSWER, Cloud, read_answer

T = TypeVar("T")
PAGE: Final = 1000  # images; a Glance that gives fewer at a time is asked more often
MOST_IMAGE: Final = 1 << 20  # characters of one image's description
MOST_PAGE: Final = 128 << 20  # bytes
MOST_IMAGES: Final = 100_000
_ID: Final = re.compile(r"[0-9A-Fa-f]{8}(-[0-9A-Fa-f]{4}){3}-[0-9A-Fa-f]{12}")
_HEADERS: Final = {"Accept": "application/json", "Accept-Encoding": "identity"}


class Source(Protocol):
    """The body of an answer."""

    def read1(self, size: int, /) -> bytes:
        """What has come, `size` bytes at most; nothing at the end."""


@dataclass(frozen=True)
class Page(Generic[T]):
    """What is kept of one page. `ids` are those of all its images, `date` is when the service says that it answered."""

    kept: tuple[T, ...]
    ids: tuple[str, ...]
    date: datetime | None


@dataclass
class _Body:
    """A body as ijson reads it: limited as a whole, in time, and in what it takes to describe one image."""

    source: Source
    deadline: float
    total: int = 0
    pending: int = 0

    def read(self, size: int, /) -> bytes:
        """The next piece, or nothing at the end. ijson first asks for nothing, to see of which type that is."""
        piece = self.source.read1(size) if size else b""
        self.total += len(piece)
        self.pending += len(piece)
        if self.total > MOST_PAGE or self.pending > 2 * MOST_IMAGE or time.monotonic() > self.deadline:
            raise CloudAnswerInvalid("a list of images is longer than any should be, or never ends")
        return piece


def images_in(source: Source) -> Iterator[dict[str, Any]]:
    """The images of one page (a JSON object with a list `images`), one at a time. Raises CloudAnswerInvalid when it is
    none, which may be after some of them."""
    body = _Body(source, time.monotonic() + WHOLE_ANSWER)
    try:
        for image in _objects(events_of(body)):
            if _ID.fullmatch(str(image.get("id"))) is None:
                raise ValueError("an image has a UUID")
            body.pending = 0
            yield image
    # SystemError is ijson's, over numbers that Python will not read.
    except (ijson.JSONError, ObjectTooLarge, ValueError, SystemError, RecursionError) as error:
        raise CloudAnswerInvalid("a list of images that is none") from error


def _objects(events: Iterator[Event]) -> Iterator[dict[str, Any]]:
    """The objects of the one list `images`. Without it nothing is said: that is not the same as none."""
    key, lists = "", 0
    for depth, event, value in events:
        if depth == 1 and event == "map_key":
            key = value
        elif depth == 1 and key == "images" and event != "end_array":
            lists += 1
            if event != "start_array" or lists > 1:
                raise ValueError("images are one list")
        elif depth == 2 and key == "images":
            yield object_of(events, event, depth, MOST_IMAGE)
    if lists != 1:
        raise ValueError("there is no list of images")


def pages(cloud: Cloud, filters: Mapping[str, str], keep: Callable[[dict[str, Any]], T | None]) -> Iterator[Page[T]]:
    """Every page of the images that Glance lists for these filters, the last one empty. Of each image stays what `keep`
    makes of it, unless that is None.

    Raises CloudAnswerInvalid, GlanceRefused, what `Cloud.request` raises, and what `keep` raises.
    """
    seen = set[str]()
    query = {**filters, "limit": str(PAGE)}
    while True:
        page = cloud.patiently(partial(_page, cloud, query, keep))
        if len(set(page.ids)) < len(page.ids) or not seen.isdisjoint(page.ids):
            raise CloudAnswerInvalid(f"{cloud.name} lists an image twice: its list may have no end")
        seen.update(page.ids)
        if len(seen) > MOST_IMAGES:
            raise CloudAnswerInvalid(f"{cloud.name}: more than {MOST_IMAGES} images in one project")
        yield page
        if not page.ids:
            return
        query["marker"] = page.ids[-1]


def _page(cloud: Cloud, query: Mapping[str, str], keep: Callable[[dict[str, Any]], T | None]) -> Page[T]:
    with cloud.opened("image", "GET", f"/images?{urlencode(query)}", headers=_HEADERS) as response:
        if response.status_code != 200:
            answer = cloud.judged("image", read_answer(response), response)
            raise GlanceRefused(f"{cloud.name}: {answer.words} ({answer.status})")
        kept, ids = list[T](), list[str]()
        for image in images_in(response.raw):
            ids.append(image["id"])
            found = keep(image)
            if found is not None:
                kept.append(found)
        return Page(tuple(kept), tuple(ids), _date(response.headers.get("Date")))


def _date(text: str | None) -> datetime | None:
    """The header Date (RFC 9110, section 6.6.1) as an aware time; None where there is none that can be read."""
    try:
        found = parsedate_to_datetime(text or "")
        return found.astimezone(UTC) if found.tzinfo else found.replace(tzinfo=UTC)
    except (ValueError, TypeError, OverflowError):
        return None
