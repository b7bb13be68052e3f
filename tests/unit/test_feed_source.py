"""Where feeds come from: files as they lie there, and addresses at most once a day."""

import os
import time
from collections.abc import Callable
from datetime import UTC, date, datetime
from hashlib import sha256
from pathlib import Path

import pytest

from imagefactory.errors import FeedMissing, FeedTooLarge, FeedUnreachable
from imagefactory.tools import feed_source
from imagefactory.tools.feed_source import FeedFile, get_feed

URL = "https://security-tracker.debian.org/tracker/data/json"
DAY = datetime(2026, 11, 20, 12, tzinfo=UTC)


def nobody() -> None:
    pass


def get(folder: Path, feed: str = URL, written: str = URL, on_fetch: Callable[[], None] = nobody) -> FeedFile:
    return get_feed(folder, feed, written, {}, on_fetch)


def dated(path: Path, when: datetime = DAY) -> None:
    os.utime(path, (when.timestamp(), when.timestamp()))


# -- files ------------------------------------------------------------------------------------------------------------


def test_a_file_is_of_the_day_on_which_it_was_modified(tmp_path: Path) -> None:
    path = tmp_path / "feed.json"
    path.write_bytes(b"{}")
    dated(path)
    found = get(tmp_path / "feeds", str(path), "feed.json")
    assert (found.path, found.sha256, found.dated, found.source) == (
        path,
        sha256(b"{}").hexdigest(),
        date(2026, 11, 20),
        "feed.json",
    )
    assert not (tmp_path / "feeds").exists()


def test_a_link_to_todays_file(tmp_path: Path) -> None:
    (tmp_path / "2026-11-20.json").write_bytes(b"{}")
    (tmp_path / "latest.json").symlink_to("2026-11-20.json")
    found = get(tmp_path / "feeds", str(tmp_path / "latest.json"), "latest.json")
    assert found.path == tmp_path / "2026-11-20.json"


def nothing(path: Path) -> None:
    del path


@pytest.mark.parametrize("make", [nothing, Path.mkdir, os.mkfifo, lambda path: path.symlink_to("/dev/zero")])
def test_files_that_are_none(tmp_path: Path, make: Callable[[Path], None]) -> None:
    make(tmp_path / "feed")
    with pytest.raises(FeedMissing):
        get(tmp_path / "feeds", str(tmp_path / "feed"), "feed")


def test_a_file_that_has_no_end(tmp_path: Path) -> None:
    with (tmp_path / "feed").open("wb") as file:
        file.truncate(feed_source.MAX_FEED + 1)
    with pytest.raises(FeedTooLarge):
        get(tmp_path / "feeds", str(tmp_path / "feed"), "feed")


# -- addresses --------------------------------------------------------------------------------------------------------


class Web:
    """What is behind the address."""

    def __init__(self) -> None:
        self.content: bytes | None = b"first"
        self.asked = 0

    def fetch(self, url: str, target: Path, environment: object) -> None:
        del environment
        assert url.startswith("https://")
        self.asked += 1
        if self.content is None:
            raise FeedUnreachable("it is not there")
        target.write_bytes(self.content)
        dated(target)


@pytest.fixture
def web(monkeypatch: pytest.MonkeyPatch) -> Web:
    made = Web()
    monkeypatch.setattr(feed_source, "_fetch", made.fetch)
    return made


def grown_old(folder: Path, seconds: float) -> None:
    (current,) = folder.glob("*/current")
    os.utime(current, (time.time() - seconds,) * 2)


def test_an_address_is_asked_once_a_day(tmp_path: Path, web: Web) -> None:
    first = get(tmp_path)
    assert (first.path.read_bytes(), first.dated, first.source) == (b"first", date(2026, 11, 20), URL)
    web.content = b"second"
    assert get(tmp_path) == first
    grown_old(tmp_path, feed_source.REFRESH - 60)
    assert get(tmp_path) == first
    assert web.asked == 1
    grown_old(tmp_path, feed_source.REFRESH + 1)
    second = get(tmp_path)
    assert (second.path.read_bytes(), second.sha256) == (b"second", sha256(b"second").hexdigest())
    assert first.path.read_bytes() == b"first", "somebody may be reading it"
    assert web.asked == 2


def test_whoever_waits_is_told(tmp_path: Path, web: Web) -> None:
    told: list[int] = []
    for _ in range(2):
        get(tmp_path, on_fetch=lambda: told.append(web.asked))
    assert told == [0]


def test_a_clock_that_was_ahead(tmp_path: Path, web: Web) -> None:
    get(tmp_path)
    grown_old(tmp_path, -3600)
    get(tmp_path)
    assert web.asked == 2


def test_what_is_old_goes(tmp_path: Path, web: Web, monkeypatch: pytest.MonkeyPatch) -> None:
    first = get(tmp_path)
    web.content = b"second"
    grown_old(tmp_path, feed_source.REFRESH + 1)
    monkeypatch.setattr(feed_source, "KEPT", -1.0)
    second = get(tmp_path)
    assert not first.path.exists()
    assert second.path.exists()


def test_what_a_killed_fetch_left_goes(tmp_path: Path, web: Web) -> None:
    left = get(tmp_path).path.with_name(".new-dead")
    left.mkdir()
    (left / "feed").write_bytes(b"half of")
    os.utime(left, (0, 0))
    grown_old(tmp_path, feed_source.REFRESH + 1)
    assert get(tmp_path).path.read_bytes() == b"first"
    assert (web.asked, left.exists()) == (2, False)


def test_two_addresses_are_two_feeds(tmp_path: Path, web: Web) -> None:
    first = get(tmp_path)
    web.content = b"second"
    assert get(tmp_path, f"{URL}/2").sha256 != first.sha256


def test_an_address_that_does_not_answer(tmp_path: Path, web: Web) -> None:
    get(tmp_path)
    grown_old(tmp_path, feed_source.REFRESH + 1)
    web.content = None
    with pytest.raises(FeedUnreachable):
        get(tmp_path)
    assert [each.name for each in tmp_path.glob("*/.new-*")] == []


def test_a_cache_that_was_emptied(tmp_path: Path, web: Web) -> None:
    get(tmp_path).path.unlink()
    assert get(tmp_path).path.read_bytes() == b"first"
    assert web.asked == 2
