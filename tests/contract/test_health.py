"""Health over HTTP, for those who ask and for those who only want to keep it busy."""

import http.client
import json
import socket
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import pytest
from prometheus_client.parser import text_string_to_metric_families

from imagefactory.errors.service import BrokerUnreachable, WatchUnusable
from imagefactory.service import health
from imagefactory.service.health import Check, Pulse, Watch, serving, writable
from imagefactory.service.metrics import Metrics
from signing.errors import KeysMissing

SHORT = 0.5  # seconds of a connection


class Broker:
    """Is asked, and is there or not."""

    def __init__(self) -> None:
        self.error: Exception | None = None
        self.asked = 0
        self.wait = threading.Event()
        self.wait.set()

    def __call__(self) -> None:
        self.asked += 1
        self.wait.wait(20)
        if self.error is not None:
            raise self.error


@pytest.fixture
def broker() -> Broker:
    return Broker()


@pytest.fixture
def pulse() -> Pulse:
    return Pulse()


@pytest.fixture
def port(broker: Broker, pulse: Pulse, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[int]:
    monkeypatch.setattr(health, "FRESH", -1.0)
    monkeypatch.setattr(health, "PATIENCE", 0.2)
    watch = Watch(pulse, [Check("broker", broker), writable(tmp_path)], Metrics(["sign"]))
    with serving(watch, deadline=SHORT * 4) as port:
        yield port
    broker.wait.set()


@pytest.fixture
def hurried(pulse: Pulse) -> Iterator[int]:
    """One whose connections end soon."""
    with serving(Watch(pulse, [], Metrics([])), deadline=SHORT) as port:
        yield port


def ask(port: int, path: str, method: str = "GET", body: bytes | None = None) -> tuple[int, dict[str, str], bytes]:
    talk = http.client.HTTPConnection("127.0.0.1", port, timeout=10)
    try:
        talk.request(method, path, body)
        answer = talk.getresponse()
        return answer.status, {key.lower(): value for key, value in answer.headers.items()}, answer.read()
    finally:
        talk.close()


def document(port: int, path: str) -> tuple[int, Any]:
    status, _, content = ask(port, path)
    return status, json.loads(content)


def test_alive_while_the_main_loop_ticks(port: int, pulse: Pulse) -> None:
    assert document(port, "/healthz") == (200, {"alive": True})
    pulse.stale = 0.0
    assert document(port, "/healthz") == (503, {"alive": False})
    pulse.stale = 60.0
    pulse.beat()
    assert document(port, "/healthz?verbose=1") == (200, {"alive": True})


def test_ready_when_every_check_says_so(port: int, broker: Broker, tmp_path: Path) -> None:
    assert document(port, "/readyz") == (
        200,
        {"ready": True, "checks": {"broker": {"ok": True}, "store": {"ok": True}}},
    )
    broker.error = BrokerUnreachable("amqp://anne@secret-host is gone")
    status, found = document(port, "/readyz")
    assert (status, found["ready"]) == (503, False)
    assert found["checks"] == {"broker": {"ok": False, "code": "broker-unreachable"}, "store": {"ok": True}}
    broker.error = KeysMissing("no keys in /root/keys")
    assert document(port, "/readyz")[1]["checks"]["broker"] == {"ok": False, "code": KeysMissing.code}
    assert not list(tmp_path.iterdir()), "nothing is left in the store"


def test_a_store_that_is_gone(tmp_path: Path, pulse: Pulse) -> None:
    watch = Watch(pulse, [writable(tmp_path / "gone")], Metrics([]))
    status, _, content = watch.answer("/readyz")
    assert status == 503
    assert json.loads(content)["checks"]["store"]["code"] == "store-unusable"


def test_metrics_are_what_prometheus_reads(port: int) -> None:
    status, headers, content = ask(port, "/metrics")
    assert status == 200
    assert headers["content-type"].startswith("text/plain; version=0.0.4")
    assert "imagefactory_facts_readable" in {each.name for each in text_string_to_metric_families(content.decode())}


@pytest.mark.parametrize("path", ["/", "/healthz/", "/../etc/passwd", "/metrics%00", "/" + "x" * 4000])
def test_nothing_else_is_there(port: int, path: str) -> None:
    assert ask(port, path)[0] == 404


@pytest.mark.parametrize("method", ["POST", "PUT", "DELETE", "HEAD", "PATCH", "OPTIONS", "TRACE"])
def test_get_and_nothing_else(port: int, method: str) -> None:
    status, headers, content = ask(port, "/healthz", method, b"x" * 100 if method == "POST" else None)
    assert (status, headers["allow"], content) == (405, "GET", b"")


def test_what_it_is_made_with_is_not_told(port: int) -> None:
    assert "python" not in str(ask(port, "/healthz")[1]).lower()


def test_an_address_that_is_not_to_be_had(port: int, pulse: Pulse) -> None:
    watch = Watch(pulse, [], Metrics([]))
    for host, at in (("127.0.0.1", port), ("192.0.2.1", 0), ("127.0.0.1", 70_000)):
        with pytest.raises(WatchUnusable), serving(watch, host, at):
            pass


def test_on_loopback_unless_somebody_says_otherwise() -> None:
    assert health.LOOPBACK == "127.0.0.1"


# -- hostile ----------------------------------------------------------------------------------------------------------


def raw(port: int, *parts: bytes) -> bytes:
    """What comes back to bytes, until the end."""
    with socket.create_connection(("127.0.0.1", port), timeout=10) as connection:
        answer = b""
        try:
            for part in parts:
                connection.sendall(part)
            while piece := connection.recv(65536):
                answer += piece
        except OSError:
            pass
        return answer


@pytest.mark.parametrize(
    "request_",
    [
        b"GET /" + b"x" * 10**6,
        b"GET /healthz HTTP/1.1\r\n" + b"X: y\r\n" * 50_000 + b"\r\n",
        b"GET /healthz HTTP/1.1\r\nX: " + b"y" * 10**6,
        b"\x00" * 10**5,
        b"\x16\x03\x01\x02\x00\x01" * 100,
        b"GET\r\n\r\n",
        b"GET /healthz HTTP/9.9\r\n\r\n",
        b"\r\n" * 10_000,
    ],
    ids=["line", "headers", "header", "zeros", "tls", "short", "version", "empty"],
)
def test_a_strange_request_is_refused_and_forgotten(hurried: int, request_: bytes) -> None:
    begun = time.monotonic()
    answer = raw(hurried, request_)
    assert b" 200 " not in answer
    assert len(answer) < 1000
    assert time.monotonic() - begun < SHORT + 8
    assert document(hurried, "/healthz")[0] == 200


def test_one_who_writes_slowly_is_ended(hurried: int) -> None:
    begun = time.monotonic()
    with socket.create_connection(("127.0.0.1", hurried), timeout=10) as slow:
        slow.sendall(b"GET /healthz HTTP/1.1\r\n")
        ended = False
        while not ended and time.monotonic() - begun < 20:
            try:
                slow.sendall(b"X: y\r\n")
                slow.settimeout(0.05)
                ended = slow.recv(1) == b""
            except TimeoutError:
                continue
            except OSError:
                ended = True
    assert ended
    assert time.monotonic() - begun < SHORT + 8


def test_many_who_wait_do_not_keep_others_out(port: int) -> None:
    with ExitStack() as open_:
        for _ in range(200):
            waiting = open_.enter_context(socket.create_connection(("127.0.0.1", port), timeout=10))
            waiting.sendall(b"GET /healthz HTTP/1.1\r\n")
        assert eventually(lambda: ask(port, "/healthz")[0] == 200)
        assert len(health_threads()) <= health.MOST_THREADS + 1


def test_a_check_that_hangs_is_asked_once_and_the_process_still_says_that_it_lives(port: int, broker: Broker) -> None:
    broker.wait.clear()
    threads = [threading.Thread(target=raw, args=(port, b"GET /readyz HTTP/1.0\r\n\r\n")) for _ in range(10)]
    for thread in threads:
        thread.start()
    assert eventually(lambda: broker.asked == 1)
    assert document(port, "/readyz") == (503, {"error": "this takes too long"})
    assert document(port, "/healthz")[0] == 200
    assert broker.asked == 1
    broker.wait.set()
    for thread in threads:
        thread.join(20)
    assert eventually(lambda: document(port, "/readyz")[0] == 200)


def test_what_was_found_is_told_again_for_a_while(pulse: Pulse, broker: Broker) -> None:
    watch = Watch(pulse, [Check("broker", broker)], Metrics([]))
    assert [watch.answer("/readyz")[0] for _ in range(20)] == [200] * 20
    assert broker.asked == 1


def test_nothing_is_left_when_it_ends(pulse: Pulse) -> None:
    before = set(threading.enumerate())
    with serving(Watch(pulse, [], Metrics([]))) as port:
        waiting = socket.create_connection(("127.0.0.1", port), timeout=10)
        assert ask(port, "/healthz")[0] == 200
    with waiting:
        assert waiting.recv(1) == b""
    assert eventually(lambda: set(threading.enumerate()) <= before)
    with pytest.raises(ConnectionRefusedError):
        socket.create_connection(("127.0.0.1", port), timeout=1)


def health_threads() -> list[threading.Thread]:
    return [each for each in threading.enumerate() if "process_request" in each.name or each.name == "health"]


def eventually(holds: Callable[[], bool]) -> bool:
    deadline = time.monotonic() + 15
    while time.monotonic() < deadline:
        try:
            if holds():
                return True
        except OSError:
            pass
        time.sleep(0.05)
    return False
