"""Feeds as strangers write them: each form is read, and whatever else is in the file is refused, within bounds."""

import io
import json
import tracemalloc
import zipfile
from collections.abc import Callable
from datetime import date
from hashlib import sha256
from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from imagefactory.errors import FeedForeign, FeedInvalid, FeedTooLarge, InputsChanged
from imagefactory.model.advisories import Advisory
from imagefactory.model.packages import SourcePackages
from imagefactory.model.vulnerabilities import Format
from imagefactory.tools import feeds, json_stream
from imagefactory.tools.feed_source import FeedFile
from imagefactory.tools.feeds import FeedReader
from tests.fakes.feeds import array, issue, lines, record, release, tracker, zipped

SOURCES: SourcePackages = {
    "openssl": {"3.0.17-1": frozenset({"libssl3", "openssl"})},
    "python3.11": {"3.11.2-6": frozenset({"python3.11"})},
}
READER = FeedReader("bookworm", "12")
CRITICAL = "CVSS:3.1/AV:N/AC:L/PR:N/UI:N/S:U/C:H/I:H/A:H"


def write(folder: Path, content: bytes) -> FeedFile:
    path = folder / "feed"
    path.write_bytes(content)
    return FeedFile(path, sha256(content).hexdigest(), date(2026, 11, 22), "feeds/debian.json")


def read(folder: Path, content: bytes) -> tuple[Format, list[Advisory]]:
    return READER.read(write(folder, content), SOURCES)


def ids(folder: Path, content: bytes) -> list[str]:
    return [each.id for each in read(folder, content)[1]]


# -- the forms --------------------------------------------------------------------------------------------------------

ISSUES = {
    "389-ds-base": {"CVE-2026-0001": issue()},
    "openssl": {
        "CVE-2026-0002": issue(urgency="high"),
        "CVE-2026-0003": issue(status="resolved", fixed_version="0"),
        "CVE-2026-0004": issue(codename="trixie"),
        "CVE-2026-0005": issue(status="resolved", fixed_version="3.0.18-1"),
    },
    "python3.11": {"CVE-2026-0006": issue(nodsa="Minor issue", nodsa_reason="")},
}


def test_the_security_tracker(tmp_path: Path) -> None:
    kind, found = read(tmp_path, tracker(ISSUES))
    assert kind == "debian-tracker"
    assert [(each.id, each.source, each.severity) for each in found] == [
        ("CVE-2026-0002", "openssl", "high"),
        ("CVE-2026-0005", "openssl", "unknown"),
        ("CVE-2026-0006", "python3.11", "low"),
    ]


RECORDS = [
    record("CVE-2026-0001", "389-ds-base"),
    record("CVE-2026-0002", "openssl", score=CRITICAL),
    record("CVE-2026-0003", "openssl", ecosystem="Debian:13"),
    record("CVE-2026-0004", "python3.11", fixed="3.11.2-6+deb12u1", urgency="low"),
]
FORMS: dict[str, Callable[[list[dict[str, object]]], bytes]] = {
    "array": array,
    "pretty array": lambda records: json.dumps(records, indent=2).encode(),
    "lines": lines,
    "lines with gaps": lambda records: lines(records).replace(b"\n", b"\n \n"),
    "lines without an end": lambda records: lines(records).rstrip(),
    "zip": zipped,
    "zip, stored": lambda records: zipped(records, zipfile.ZIP_STORED),
}


@pytest.mark.parametrize("form", FORMS.values(), ids=FORMS)
def test_osv(tmp_path: Path, form: Callable[[list[dict[str, object]]], bytes]) -> None:
    kind, found = read(tmp_path, form(RECORDS))
    assert kind == "osv"
    assert [(each.id, each.severity) for each in found] == [("CVE-2026-0002", "critical"), ("CVE-2026-0004", "low")]


def test_a_feed_that_knows_nothing_of_these_packages(tmp_path: Path) -> None:
    assert ids(tmp_path, tracker({"389-ds-base": {"CVE-2026-0001": issue()}})) == []
    assert ids(tmp_path, zipped([record("CVE-2026-0001", "389-ds-base")])) == []


def test_other_files_of_a_zip_are_none_of_ours(tmp_path: Path) -> None:
    made = io.BytesIO(zipped(RECORDS))
    with zipfile.ZipFile(made, "a") as archive:
        archive.writestr("README", "no JSON")
        archive.writestr("../../../etc/passwd", "no JSON")
    assert len(ids(tmp_path, made.getvalue())) == 2


# -- about somebody else ----------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("content", "others"),
    [
        (tracker({"openssl": {"CVE-2026-0001": issue(codename="trixie")}}), "trixie"),
        (tracker({"zlib": {"CVE-2026-0001": issue(codename="trixie")}}), "trixie"),
        (tracker({"openssl": {}}), "nothing"),
        (tracker({"openssl": {"CVE-2026-0001": {"releases": {}}}}), "nothing"),
        (array([record("CVE-2026-0001", "openssl", ecosystem="Debian:11")]), "Debian:11"),
        (lines([record("CVE-2026-0001", "openssl", ecosystem="PyPI")]), "PyPI"),
        (zipped([record("CVE-2026-0001", "openssl", ecosystem="Alpine:v3.20")]), "Alpine:v3.20"),
        (array([]), "nothing"),
        (array([record("CVE-2026-0001", "openssl", ecosystem="\x1b[31m")]), "nothing"),
    ],
)
def test_a_feed_of_another_system(tmp_path: Path, content: bytes, others: str) -> None:
    with pytest.raises(FeedForeign) as refused:
        read(tmp_path, content)
    assert refused.value.message == f"feeds/debian.json is not about Debian 12 (bookworm) but {others}"


# -- no feeds ---------------------------------------------------------------------------------------------------------


def damaged(where: int) -> bytes:
    content = bytearray(zipped([record("CVE-2026-0002", "openssl")]))
    content[where] ^= 0xFF
    return bytes(content)


def encrypted() -> bytes:
    content = bytearray(zipped([record("CVE-2026-0002", "openssl")]))
    for signature, offset in ((b"PK\x03\x04", 6), (b"PK\x01\x02", 8)):
        content[content.index(signature) + offset] |= 1
    return bytes(content)


BAD: dict[str, bytes] = {
    "nothing": b"",
    "white space": b" \n ",
    "text": b"<html>404</html>",
    "an empty object": b"{}",
    "a text": b'"CVE-2026-0001"',
    "a number": b"1",
    "not UTF-8": b'{"openssl": {"CVE-2026-0001": "\xff"}}',
    "a byte order mark": b"\xef\xbb\xbf[]",
    "UTF-16": tracker(ISSUES).decode().encode("utf-16"),
    "cut short": tracker(ISSUES)[:-10],
    "an array that is cut short": array(RECORDS)[:-10],
    "lines that are cut short": lines(RECORDS)[:-10],
    "a zip of nothing": zipped([]),
    "a zip that is cut short": zipped(RECORDS)[:-10],
    "a zip that is damaged": damaged(70),
    "a zip that leads to before its beginning": zipped(RECORDS)[:4] + zipped(RECORDS)[5:],
    "a zip that is encrypted": encrypted(),
    "a zip packed in another way": zipped(RECORDS, zipfile.ZIP_BZIP2),
    "two documents": tracker(ISSUES) * 2,
    "something after it": tracker(ISSUES) + b"x",
    "comments": b"/* */" + tracker(ISSUES),
    "NaN": b'{"openssl": {"CVE-2026-0001": {"releases": NaN}}}',
    "a number of 10,000 digits": b'{"openssl": {"CVE-2026-0001": {"debianbug": ' + b"9" * 10000 + b"}}}",
    "a package that is a list": b'{"zlib": {}, "openssl": []}',
    "a package that is text": b'{"zlib": {}, "openssl": "CVE-2026-0001"}',
    "an issue that is a list": b'{"openssl": {"CVE-2026-0001": []}}',
    "an issue that is a number": b'{"zlib": {"CVE-2026-0001": 1}}',
    "an issue without releases": b'{"openssl": {"CVE-2026-0001": {}}}',
    "releases that are a number": b'{"openssl": {"CVE-2026-0001": {"releases": 1}}}',
    "releases that are a list of lists": b'{"openssl": {"CVE-2026-0001": {"releases": [[]]}}}',
    "another status": tracker({"openssl": {"CVE-2026-0001": issue(status="fixed")}}),
    "an issue with another name": tracker({"openssl": {"\x1b[31mred": issue()}}),
    "an array of texts": b'["CVE-2026-0001"]',
    "an array of arrays": b'[[{"id": "CVE-2026-0001"}]]',
    "records and something else": b'[1, {"id": "CVE-2026-0001"}]',
    "lines of texts": b'{"id": "CVE-2026-0001", "affected": []}\n"CVE-2026-0001"\n',
    "lines and something else": lines(RECORDS) + b"and so on\n",
    "a record without an id": array([{"affected": []}]),
    "a zip of something else": zipped([{"id": "x"}]),
}


@pytest.mark.parametrize("content", BAD.values(), ids=BAD)
def test_no_feed(tmp_path: Path, content: bytes) -> None:
    with pytest.raises((FeedInvalid, FeedForeign)) as refused:
        read(tmp_path, content)
    assert refused.value.message.startswith("feeds/debian.json ")
    assert refused.value.message.isprintable()


@pytest.mark.parametrize("beginning", [b"[", b'{"a":', b'{"openssl":{"CVE-2026-0001":{"releases":[', b'[{"id":'])
def test_what_is_nested_without_end(tmp_path: Path, beginning: bytes) -> None:
    with pytest.raises(FeedInvalid, match=r"levels|object"):
        read(tmp_path, beginning + b"[" * 200_000)
    with pytest.raises(FeedInvalid, match=r"levels|object|not valid JSON"):
        read(tmp_path, beginning * 50_000)


def test_a_line_that_is_nested_without_end(tmp_path: Path) -> None:
    with pytest.raises(FeedInvalid, match="levels"):
        read(tmp_path, b'{"id": "CVE-2026-0001", "affected": ' + b"[" * 200_000 + b"]" * 200_000 + b"}")


def test_bytes_that_changed_after_they_were_digested(tmp_path: Path) -> None:
    file = write(tmp_path, tracker(ISSUES))
    file.path.write_bytes(tracker({"openssl": {"CVE-2026-0001": issue(status="resolved", fixed_version="0")}}))
    with pytest.raises(InputsChanged):
        READER.read(file, SOURCES)
    file.path.unlink()
    with pytest.raises(InputsChanged):
        READER.read(file, SOURCES)


# -- bounds -----------------------------------------------------------------------------------------------------------


def test_a_record_that_is_too_large(tmp_path: Path) -> None:
    large = {**record("CVE-2026-0002", "openssl"), "details": "x" * feeds.MAX_RECORD}
    for form in (array, lines, zipped):
        with pytest.raises(FeedTooLarge):
            read(tmp_path, form([large]))


def test_an_issue_that_is_too_large(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(json_stream, "MAX_PARTS", 1000)
    with pytest.raises(FeedTooLarge):
        read(tmp_path, tracker({"openssl": {"CVE-2026-0001": {**issue(), "x": [0] * 1000}}}))


def test_more_records_than_there_are(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(feeds, "MAX_RECORDS", 3)
    with pytest.raises(FeedTooLarge, match="more than 3 records"):
        read(tmp_path, array(RECORDS))


def test_more_issues_than_an_image_has(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(feeds, "MAX_ADVISORIES", 2)
    with pytest.raises(FeedTooLarge, match="more than 2 issues"):
        read(tmp_path, tracker(ISSUES))


def test_a_zip_that_unpacks_to_more_than_it_should(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(feeds, "MAX_UNPACKED", 1 << 20)
    records = [{**record(f"CVE-2026-{number:04}", "openssl"), "details": " " * 300_000} for number in range(5)]
    content = zipped(records)
    assert len(content) < 20_000
    with pytest.raises(FeedTooLarge, match="unpacks"):
        read(tmp_path, content)


@pytest.mark.parametrize("source", ["linux", "openssl"])
def test_memory_stays_flat(tmp_path: Path, source: str) -> None:
    """Whether it is about packages of the image or not: one issue is in memory at a time."""
    said = {"description": "word " * 200, "releases": {"bookworm": release("resolved", fixed_version="0")}}
    content = tracker({source: {f"CVE-2026-{number:05}": said for number in range(10_000)}})
    file = write(tmp_path, content)
    del said
    tracemalloc.start()
    try:
        before = tracemalloc.get_traced_memory()[0]
        assert READER.read(file, SOURCES)[1] == []
        peak = tracemalloc.get_traced_memory()[1] - before
    finally:
        tracemalloc.stop()
    assert len(content) > 10 << 20
    assert peak < 4 << 20


# -- anything ---------------------------------------------------------------------------------------------------------

SEEDS = [tracker(ISSUES), array(RECORDS), lines(RECORDS), zipped(RECORDS)]


@settings(suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(st.sampled_from(SEEDS), st.lists(st.tuples(st.integers(0, 4000), st.binary(max_size=4)), max_size=5), st.data())
def test_any_change_is_read_or_refused(
    tmp_path: Path, seed: bytes, changes: list[tuple[int, bytes]], data: st.DataObject
) -> None:
    content = bytearray(seed)
    for where, what in changes:
        content[where % len(content) : where % len(content) + data.draw(st.integers(0, 4))] = what
    try:
        _, found = read(tmp_path, bytes(content))
    except (FeedInvalid, FeedForeign, FeedTooLarge):
        return
    assert all(each.source in SOURCES for each in found)
