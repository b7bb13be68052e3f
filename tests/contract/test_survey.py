"""A survey of a cloud whose image service answers what it likes: everything that is there, or an error."""

import json
from collections.abc import Callable, Iterator
from datetime import UTC, datetime, timedelta
from email.utils import format_datetime
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from threading import Thread
from typing import Any, TypeAlias
from urllib.parse import parse_qs, urlsplit
from uuid import UUID

import pytest

from imagefactory.errors import ClockOff, CloudAnswerInvalid, CloudForbidden, CloudUnreachable, GlanceRefused
from imagefactory.model.glance import RELEASE_PROPERTY
from imagefactory.model.survey import Survey
from imagefactory.steps.glance_survey import survey
from imagefactory.tools.openstack import listing
from imagefactory.tools.openstack.session import Cloud, Patience

OWNER = "abc"
QUICK = Patience(attempts=2, longest=0.1, first=0.01)
Query: TypeAlias = dict[str, str]
Script: TypeAlias = Callable[[Query], "bytes | int"]


class ImageService(ThreadingHTTPServer):
    """An image service of version 2 that lists what `script` says: a body, or an error's status."""

    daemon_threads = True

    def __init__(self) -> None:
        super().__init__(("127.0.0.1", 0), _Handler)
        self.script: Script = once()
        self.date: str | None = format_datetime(datetime.now(UTC), usegmt=True)
        self.asked: list[Query] = []

    def handle_error(self, request: Any, client_address: Any) -> None:  # noqa: ANN401
        """A client that has seen enough hangs up."""

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.server_port}/v2"


class _Handler(BaseHTTPRequestHandler):
    server: ImageService

    def do_GET(self) -> None:
        parts = urlsplit(self.path)
        if parts.path != "/v2/images":
            versions = [{"id": "v2.9", "status": "CURRENT", "links": [{"rel": "self", "href": f"{self.server.url}/"}]}]
            self._answer(300, json.dumps({"versions": versions}).encode())
            return
        query = {key: value for key, (value,) in parse_qs(parts.query).items()}
        self.server.asked.append(query)
        said = self.server.script(query)
        if isinstance(said, int):
            self._answer(said, b"no")
        else:
            self._answer(200, said)

    def _answer(self, status: int, body: bytes) -> None:
        self.send_response_only(status)
        if self.server.date is not None:
            self.send_header("Date", self.server.date)
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, format: str, *args: Any) -> None:  # noqa: ANN401
        """Nobody reads it."""


@pytest.fixture
def service() -> Iterator[ImageService]:
    with ImageService() as server:
        thread = Thread(target=server.serve_forever, args=(0.05,))
        thread.start()
        yield server
        server.shutdown()
        thread.join()


@pytest.fixture
def cloud(service: ImageService, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Cloud:
    """A cloud that is nothing but that service."""
    entry = {"auth_type": "none", "auth": {"endpoint": service.url}, "image_endpoint_override": service.url}
    clouds_yaml = tmp_path / "clouds.yaml"
    clouds_yaml.write_text(json.dumps({"clouds": {"hostile": entry}}))
    monkeypatch.setenv("OS_CLIENT_CONFIG_FILE", str(clouds_yaml))
    monkeypatch.setenv("NO_PROXY", "127.0.0.1")
    monkeypatch.setattr(Cloud, "project", OWNER)
    monkeypatch.setattr(Cloud, "roles", ("member",))
    return Cloud("hostile", QUICK)


def image(number: int, **changes: Any) -> dict[str, Any]:  # noqa: ANN401
    described = {"id": str(UUID(int=number)), "name": f"x {number}", "status": "active", "owner": OWNER}
    return {**described, "visibility": "private", RELEASE_PROPERTY: f"x@20260101.{number + 1}", **changes}


def page(images: list[Any]) -> bytes:
    return json.dumps({"images": images, "next": "http://169.254.169.254/v2/images"}).encode()


def once(*images: Any) -> Script:  # noqa: ANN401
    """These on the first page of what is not hidden, and nothing else."""
    return lambda query: page([] if "marker" in query or query["os_hidden"] == "true" else list(images))


def ids(found: Survey) -> list[int]:
    return [UUID(each.id).int for each in found.images]


def test_pages_of_any_length(service: ImageService, cloud: Cloud) -> None:
    """A service gives fewer than it was asked for; it goes on after the last of them, and links are not followed."""

    def script(query: Query) -> bytes:
        everything = range(5) if query["os_hidden"] == "false" else range(5, 7)
        after = UUID(query["marker"]).int + 1 if "marker" in query else everything[0]
        return page([image(number) for number in everything if number >= after][:2])

    service.script = script
    assert ids(survey(cloud)) == list(range(7))
    assert all(query["owner"] == OWNER and query["limit"] == "1000" for query in service.asked)


def test_filters_are_a_wish(service: ImageService, cloud: Cloud) -> None:
    named = {"name": "Debian", RELEASE_PROPERTY: None}
    theirs = {key: value for key, value in image(3, **named).items() if value is not None}
    hidden = {**theirs, "id": str(UUID(int=4)), "os_hidden": True}
    service.script = once(image(1), image(2, owner="somebody"), theirs, hidden)
    found = survey(cloud, names=("Debian",))
    assert (ids(found), [UUID(each.id).int for each in found.others]) == ([1], [3])


@pytest.mark.parametrize(
    "body",
    [
        b"",
        b"{}",
        b'{"images": null}',
        b'{"images": {}}',
        b"<html>busy</html>",
        page([image(1)])[:-1],
        page([image(1)])[:40],
        page([image(1), image(1)]),
        page([image(1), []]),
        page([image(1, id="../../x")]),
        page([image(1, status="a b")]),
        page([image(1, tags="x")]),
        page([image(1, name="x" * 300)]),
        page([image(1, **{RELEASE_PROPERTY: "x" * 5000})]),
        page([image(1, **{f"p{number}": "x" for number in range(600)})]),
        page([image(1, p="x" * (3 << 20))]),
        b'{"images": [{"id": ' + b"[" * 100_000,
        b'{"images": [' + b"[" * (4 << 20),
    ],
    ids=lambda body: f"{body[:30]!r}, {len(body)} bytes",
)
def test_an_answer_that_is_none(service: ImageService, cloud: Cloud, body: bytes) -> None:
    """Never a shorter list: what is not on it would count as gone."""
    service.script = lambda query: body if "marker" not in query else page([])
    with pytest.raises(CloudAnswerInvalid):
        survey(cloud)


def test_a_list_without_end(service: ImageService, cloud: Cloud, monkeypatch: pytest.MonkeyPatch) -> None:
    service.script = lambda _: page([image(1)])
    with pytest.raises(CloudAnswerInvalid, match="twice"):
        survey(cloud)
    service.script = lambda query: page([image(UUID(query["marker"]).int + 1 if "marker" in query else 0)])
    monkeypatch.setattr(listing, "MOST_IMAGES", 20)
    with pytest.raises(CloudAnswerInvalid, match="more than 20"):
        survey(cloud)


@pytest.mark.parametrize(
    ("status", "error"),
    [(400, GlanceRefused), (403, CloudForbidden), (404, GlanceRefused), (302, CloudAnswerInvalid),
     (500, CloudUnreachable), (503, CloudUnreachable)],
)  # fmt: skip
def test_an_error_on_a_later_page(service: ImageService, cloud: Cloud, status: int, error: type[Exception]) -> None:
    service.script = lambda query: status if "marker" in query else page([image(1)])
    with pytest.raises(error):
        survey(cloud)


@pytest.mark.parametrize("minutes", [-6, 6, -600_000])
def test_a_clock_that_is_off(service: ImageService, cloud: Cloud, minutes: int) -> None:
    service.date = format_datetime(datetime.now(UTC) + timedelta(minutes=minutes), usegmt=True)
    with pytest.raises(ClockOff):
        survey(cloud)
    assert len(service.asked) == 1


@pytest.mark.parametrize("date", [None, "", "yesterday", "Sun, 99 Nov 2026 99:00:00 GMT", "x" * 9000])
def test_a_service_that_does_not_say_when_it_is(service: ImageService, cloud: Cloud, date: str | None) -> None:
    service.date = date
    assert survey(cloud).server_time is None


def test_of_another_project_an_ordinary_account_sees_a_part(service: ImageService, cloud: Cloud) -> None:
    with pytest.raises(CloudForbidden):
        survey(cloud, "another")
    assert service.asked == []
