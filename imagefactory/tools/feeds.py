"""Feeds of known vulnerabilities, as documents: what they say about the source packages of an image.

A feed is the Debian security tracker's JSON, or OSV records: a zip with a file for each (as osv.dev exports them), a
JSON array, or JSON lines. Whoever serves it is a stranger. It is read as a stream, one issue or record in memory at a
time; each of these, its depth, the number of files of a zip and what they unpack to are bounded, and of what is said
about packages that the image does not have nothing is kept.
"""

import errno
import json
import os
import struct
import zipfile
import zlib
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any, BinaryIO, Final

import ijson

from imagefactory.errors import FeedForeign, FeedInvalid, FeedTooLarge, InputsChanged
from imagefactory.model.advisories import Advisory, ecosystems, of_osv, of_tracker
from imagefactory.model.packages import SourcePackages
from imagefactory.model.vulnerabilities import Format
from imagefactory.tools.feed_source import FeedFile
from imagefactory.tools.inspect import opened
from imagefactory.tools.json_stream import MAX_DEPTH, ObjectTooLarge, events_of, object_of
from signing.digest import FileState, hash_stream, require_unchanged
from signing.errors import SigningError

MAX_RECORD: Final = 4 << 20  # bytes of an OSV record
MAX_RECORDS: Final = 1_000_000
MAX_UNPACKED: Final = 8 << 30  # bytes of a zip; OSV's of Debian has 1 GB
MAX_ADVISORIES: Final = 100_000  # about the packages of one image; a kernel has 10,000

_ZIP: Final = b"PK\x03\x04"
_ENCRYPTED: Final = 0x1
_METHODS: Final = frozenset({zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED})
_SHOWN: Final = 5  # names in a message


@dataclass
class _Seen:
    """Of which releases or ecosystems a feed speaks; a few are enough for a message."""

    wanted: frozenset[str]
    ours: bool = False
    others: set[str] = field(default_factory=set)

    def add(self, name: str) -> None:
        if name in self.wanted:
            self.ours = True
        elif len(self.others) < _SHOWN:
            self.others.add(name)


@dataclass(frozen=True)
class FeedReader:
    """Reads what a feed says about Debian `version` ("12"), called `codename`."""

    codename: str
    version: str

    def read(self, file: FeedFile, sources: SourcePackages) -> tuple[Format, list[Advisory]]:
        """What is said about the source packages in `sources`.

        Raises FeedInvalid, FeedTooLarge, FeedForeign, InputsChanged when the file holds other bytes than before.
        """
        with _same(file) as stream, _invalid(file.source):
            kind, advisories, seen = self._advisories(stream, sources)
            found: list[Advisory] = []
            for each in advisories:
                found.append(each)
                if len(found) > MAX_ADVISORIES:
                    raise FeedTooLarge(f"{file.source} has more than {MAX_ADVISORIES} issues of this image's packages")
        if not seen.ours:
            others = ", ".join(sorted(each[:40] for each in seen.others if each.isprintable())) or "nothing"
            raise FeedForeign(f"{file.source} is not about Debian {self.version} ({self.codename}) but {others}")
        return kind, found

    def _advisories(self, stream: BinaryIO, sources: SourcePackages) -> tuple[Format, Iterable[Advisory], _Seen]:
        beginning = stream.read(len(_ZIP))
        stream.seek(0)
        if beginning == _ZIP:
            return self._osv(_unzipped(stream), sources)
        if _begins_with(stream, ("start_array",)):
            return self._osv(_array(stream), sources)
        if _begins_with(stream, ("start_map", "map_key", "start_map")):
            seen = _Seen(frozenset({self.codename}))
            return "debian-tracker", self._tracker(stream, sources, seen), seen
        return self._osv(_lines(stream), sources)

    def _osv(
        self, records: Iterator[dict[str, Any]], sources: SourcePackages
    ) -> tuple[Format, Iterable[Advisory], _Seen]:
        seen = _Seen(frozenset({f"Debian:{self.version}", "Debian"}))

        def advisories() -> Iterator[Advisory]:
            for number, record in enumerate(records):
                if number >= MAX_RECORDS:
                    raise FeedTooLarge(f"the feed has more than {MAX_RECORDS} records")
                for each in ecosystems(record):
                    seen.add(each)
                yield from of_osv(record, self.version, sources)

        return "osv", advisories(), seen

    def _tracker(self, stream: BinaryIO, sources: SourcePackages, seen: _Seen) -> Iterator[Advisory]:
        """package -> issue -> key -> release: what is at which depth."""
        events = events_of(stream)
        package = issue = ""
        for depth, event, value in events:
            if event == "map_key":
                if depth == 1:
                    package = value
                elif depth == 2:
                    issue = value
                elif depth == 4:
                    seen.add(value)
            elif depth < 3 and event not in {"start_map", "end_map"}:
                raise ValueError("a package, and an issue of one, should be an object")
            elif depth == 2 and event == "start_map" and package in sources:
                found = object_of(events, event, depth, MAX_RECORD)
                advisory = of_tracker(package, issue, found, self.codename)
                for each in found["releases"]:
                    seen.add(each)
                if advisory is not None:
                    yield advisory


@contextmanager
def _same(file: FeedFile) -> Iterator[BinaryIO]:
    """A stream of the very bytes that were digested."""
    try:
        with opened(file.path) as descriptor:
            before = FileState.of(descriptor)
            if hash_stream(descriptor, algorithms=("sha256",)).sha256 != file.sha256:
                raise InputsChanged(f"{file.source} changed after the build began")
            with os.fdopen(os.dup(descriptor), "rb") as stream:
                yield stream
            require_unchanged(descriptor, before)
    except SigningError as error:
        raise InputsChanged(f"{file.source} is not what it was: {error.message}") from None


@contextmanager
def _invalid(source: str) -> Iterator[None]:
    """What can be wrong with a document of a stranger. The texts of libraries may hold parts of it, and stay here."""
    try:
        yield
    except (ijson.JSONError, json.JSONDecodeError, UnicodeDecodeError):
        raise FeedInvalid(f"{source} is not valid JSON, or ends too early") from None
    except (zipfile.BadZipFile, zlib.error, struct.error, NotImplementedError, EOFError):
        raise FeedInvalid(f"{source} is no zip that can be read") from None
    except ObjectTooLarge:
        raise FeedTooLarge("the feed has an issue that is larger than any should be") from None
    except RecursionError:
        raise FeedInvalid(f"{source} is nested deeper than {MAX_DEPTH} levels") from None
    except ValueError as why:
        raise FeedInvalid(f"{source} is no feed of vulnerabilities: {why}") from None
    except OSError as why:
        if why.errno != errno.EINVAL:  # zipfile goes where a damaged zip says, even before its beginning
            raise
        raise FeedInvalid(f"{source} is no zip that can be read") from None
    except SystemError:  # ijson's, over numbers that Python will not read
        raise FeedInvalid(f"{source} holds a number that is none") from None


def _begins_with(stream: BinaryIO, wanted: tuple[str, ...]) -> bool:
    """Whether a document begins with these events. The stream is at its beginning again afterwards."""
    events = ijson.basic_parse(stream, multiple_values=True)
    found = tuple(event for event, _ in (next(events, ("", None)) for _ in wanted))
    stream.seek(0)
    return found == wanted


# -- OSV records ------------------------------------------------------------------------------------------------------


def _array(stream: BinaryIO) -> Iterator[dict[str, Any]]:
    events = events_of(stream)
    for depth, event, _ in events:
        if depth == 1:
            yield object_of(events, event, depth, MAX_RECORD)


def _lines(stream: BinaryIO) -> Iterator[dict[str, Any]]:
    while line := stream.readline(MAX_RECORD + 1):
        if line.strip():
            yield _record(line)


def _unzipped(stream: BinaryIO) -> Iterator[dict[str, Any]]:
    with zipfile.ZipFile(stream) as archive:
        unpacked = 0
        for member in archive.infolist():
            if not member.filename.endswith(".json"):
                continue
            if member.flag_bits & _ENCRYPTED or member.compress_type not in _METHODS:
                raise NotImplementedError
            with archive.open(member) as file:
                record = file.read(MAX_RECORD + 1)
            unpacked += len(record)
            if unpacked > MAX_UNPACKED:
                raise FeedTooLarge(f"the feed unpacks to more than {MAX_UNPACKED} bytes")
            yield _record(record)


def _record(raw: bytes) -> dict[str, Any]:
    if len(raw) > MAX_RECORD:
        raise FeedTooLarge(f"the feed has a record of more than {MAX_RECORD} bytes")
    record = json.loads(raw)
    if not isinstance(record, dict):
        raise ValueError("a record should be an object")
    return record
