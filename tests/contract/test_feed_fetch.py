"""Fetching a feed with apt's own helper from a web server on loopback, which is not always kind."""

import os
import ssl
import threading
import time
from collections.abc import Iterator
from dataclasses import dataclass, field
from datetime import UTC, date, datetime, timedelta
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import pytest

from imagefactory.errors import FeedTooLarge, FeedUnreachable
from imagefactory.tools import feed_source
from imagefactory.tools.feed_source import FeedFile, get_feed
from tests.fakes.certificate import certificate

CONTENT = b'{"openssl":{}}'
MODIFIED = datetime(2026, 11, 20, 12, tzinfo=UTC)


@dataclass
class Site:
    """A web server, and what it answers."""

    home: Path
    port: int = 0
    status: int = 200
    content: bytes = CONTENT
    headers: dict[str, str] = field(default_factory=dict)
    pause: float = 0.0
    asked: list[str] = field(default_factory=list)
    environment: dict[str, str] = field(default_factory=dict)

    @property
    def url(self) -> str:
        return f"https://localhost:{self.port}/tracker/data/json"

    def get(self) -> FeedFile:
        return get_feed(self.home / "feeds", self.url, self.url, self.environment, lambda: None)


@pytest.fixture
def site(tmp_path: Path) -> Iterator[Site]:
    certificate(tmp_path)
    (tmp_path / "apt.conf").write_text(
        f'Acquire::https::CAInfo "{tmp_path}/ca.pem";\nAcquire::Retries::Delay "false";\n'
    )
    made = Site(tmp_path)
    made.environment = {"PATH": os.environ["PATH"], "LC_ALL": "C.UTF-8", "APT_CONFIG": str(tmp_path / "apt.conf")}

    class Answer(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            made.asked.append(self.path)
            self.send_response(made.status)
            for key, value in {"Content-Length": str(len(made.content)), **made.headers}.items():
                if value:  # an empty one is left out
                    self.send_header(key, value)
            self.end_headers()
            half = len(made.content) // 2
            self.wfile.write(made.content[:half])
            self.wfile.flush()
            time.sleep(made.pause)
            self.wfile.write(made.content[half:])

        def log_message(self, *_: object) -> None:
            pass

    class Server(ThreadingHTTPServer):
        def handle_error(self, *_: object) -> None:
            pass  # who is asked to stop half-way sees a closed connection

    server = Server(("127.0.0.1", 0), Answer)
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(tmp_path / "ca.pem", tmp_path / "key.pem")
    server.socket = context.wrap_socket(server.socket, server_side=True)
    made.port = server.server_port
    thread = threading.Thread(target=server.serve_forever, daemon=True)
    thread.start()
    try:
        yield made
    finally:
        server.shutdown()
        server.server_close()
        thread.join()


def test_a_feed_is_fetched_and_is_of_the_day_that_the_server_says(site: Site) -> None:
    site.headers["Last-Modified"] = MODIFIED.strftime("%a, %d %b %Y %H:%M:%S GMT")
    found = site.get()
    assert (found.path.read_bytes(), found.dated, found.source) == (CONTENT, date(2026, 11, 20), site.url)
    assert site.get() == found
    assert len(site.asked) == 1


def test_a_server_that_says_no_day(site: Site) -> None:
    assert site.get().dated in {datetime.now(UTC).date(), (datetime.now(UTC) - timedelta(minutes=5)).date()}


@pytest.mark.parametrize("status", [403, 404, 500, 503])
def test_a_server_that_has_none(site: Site, status: int) -> None:
    site.status = status
    with pytest.raises(FeedUnreachable) as refused:
        site.get()
    assert site.url in refused.value.message
    assert refused.value.lines


def test_nobody_is_there(site: Site) -> None:
    with pytest.raises(FeedUnreachable):
        get_feed(site.home / "feeds", "https://localhost:1/feed", "x", site.environment, lambda: None)


def test_a_certificate_of_nobody(site: Site) -> None:
    (site.home / "apt.conf").write_text("")
    with pytest.raises(FeedUnreachable):
        site.get()
    assert site.asked == []


def test_a_redirection_to_what_anybody_can_read(site: Site) -> None:
    site.status, site.headers["Location"] = 302, f"http://localhost:{site.port}/feed"
    with pytest.raises(FeedUnreachable):
        site.get()


def test_a_redirection_to_a_file_of_this_host(site: Site) -> None:
    site.status, site.headers["Location"] = 302, "file:///etc/hostname"
    with pytest.raises(FeedUnreachable):
        site.get()


def test_an_answer_that_ends_too_early(site: Site) -> None:
    site.headers["Content-Length"] = str(len(CONTENT) + 10)
    with pytest.raises(FeedUnreachable):
        site.get()


def test_a_server_that_stalls(site: Site, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(feed_source, "FETCH_TIMEOUT", 3.0)
    site.pause = 30.0
    with pytest.raises(FeedUnreachable, match="did not come within 3 s"):
        site.get()


def test_a_feed_without_end(site: Site, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(feed_source, "MAX_FEED", 100_000)
    site.content = bytes(10_000_000)
    with pytest.raises(FeedTooLarge):
        site.get()
    assert list((site.home / "feeds").glob("*/*")) == []


@pytest.mark.parametrize("content", [b"", CONTENT])
def test_an_answer_that_does_not_say_its_length(site: Site, content: bytes) -> None:
    site.content = content
    site.headers |= {"Content-Length": "", "Connection": "close"}
    with pytest.raises(FeedUnreachable, match="gave nothing"):
        site.get()
    assert list((site.home / "feeds").glob("*/*")) == []
