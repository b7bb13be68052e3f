"""Notifications to real servers on loopback: good ones, slow ones, and those that mean harm."""

import base64
import hashlib
import hmac
import json
import re
import ssl
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from datetime import UTC, datetime
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import pytest
from tenacity import wait_none

from imagefactory.errors.service import NotifyInvalid, NotifyRefused, NotifyUnreachable
from imagefactory.model.event import job_failed
from imagefactory.model.notify import MailChannel, Notify, WebhookChannel
from imagefactory.service.notify import Notifier
from imagefactory.tools.mail import send
from imagefactory.tools.webhook import post
from tests.fakes.certificate import certificate
from tests.fakes.smtp import FakeSmtp

EVENT = job_failed(
    "j1", "söe", "disk-full", "no space\n.\nleft", "free some", "builder", datetime(2026, 11, 1, tzinfo=UTC)
)
OLD, NEW = base64.b64encode(b"o" * 32).decode(), base64.b64encode(b"n" * 32).decode()
SHORT = 1.0  # seconds that all of it may take

Talk = Callable[[BaseHTTPRequestHandler], None]


@dataclass
class Receiver:
    """Answers each request by the next of `talks`, and the last of them from then on."""

    talks: Sequence[Talk]
    port: int = 0
    got: list[tuple[str, dict[str, str], bytes]] = field(default_factory=list)

    def next(self) -> Talk:
        return self.talks[min(len(self.got) - 1, len(self.talks) - 1)]


def status(code: int, **headers: str) -> Talk:
    def talk(handler: BaseHTTPRequestHandler) -> None:
        handler.send_response(code)
        for key, value in headers.items():
            handler.send_header(key, value)
        handler.end_headers()

    return talk


def drip(handler: BaseHTTPRequestHandler) -> None:
    """A head without end, slowly."""
    while True:
        handler.wfile.write(b"HTTP/1.1 100 Continue\r\n\r\n")
        handler.wfile.flush()
        time.sleep(0.05)


def endless_body(handler: BaseHTTPRequestHandler) -> None:
    handler.send_response(200)
    handler.end_headers()
    while True:
        handler.wfile.write(b"x" * 65536)


def many_headers(handler: BaseHTTPRequestHandler) -> None:
    handler.wfile.write(b"HTTP/1.1 200 OK\r\n" + b"X: y\r\n" * 100_000)


def silence(handler: BaseHTTPRequestHandler) -> None:
    handler.rfile.read()


def nonsense(handler: BaseHTTPRequestHandler) -> None:
    handler.wfile.write(b"\x00\xff not HTTP\r\n\r\n")


@contextmanager
def receiving(*talks: Talk, certificates: Path | None = None) -> Iterator[Receiver]:
    receiver = Receiver(talks)

    class Handler(BaseHTTPRequestHandler):
        def do_POST(self) -> None:
            body = self.rfile.read(int(self.headers["Content-Length"]))
            receiver.got.append((self.path, {key.lower(): value for key, value in self.headers.items()}, body))
            receiver.next()(self)

        def log_message(self, *_: object) -> None:
            pass

    class Server(ThreadingHTTPServer):
        daemon_threads = True

        def handle_error(self, *_: object) -> None:
            pass

    server = Server(("127.0.0.1", 0), Handler)
    if certificates is not None:
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        context.load_cert_chain(certificates / "ca.pem", certificates / "key.pem")
        server.socket = context.wrap_socket(server.socket, server_side=True, do_handshake_on_connect=False)
    receiver.port = server.server_port
    thread = threading.Thread(target=server.serve_forever, args=(0.02,), daemon=True)
    thread.start()
    try:
        yield receiver
    finally:
        server.shutdown()
        server.server_close()
        thread.join()


@pytest.fixture
def secrets(tmp_path: Path) -> tuple[str, ...]:
    found = []
    for name, text in (("old", OLD), ("new", f"whsec_{NEW}\n")):
        path = tmp_path / name
        path.write_text(text)
        path.chmod(0o600)
        found.append(str(path))
    return tuple(found)


@pytest.fixture(scope="module")
def certificates(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("certificates")
    certificate(folder)
    return folder


def hook(port: int, secrets: tuple[str, ...], path: str = "/x?y=z", **more: str) -> WebhookChannel:
    return WebhookChannel(name="chat", url=f"http://127.0.0.1:{port}{path}", secrets=secrets, **more)  # type: ignore[arg-type]


def is_signed(headers: dict[str, str], body: bytes, secret: str) -> bool:
    """By the text of the Standard Webhooks specification, with nothing of the library."""
    named = f"{headers['webhook-id']}.{headers['webhook-timestamp']}.".encode()
    proof = base64.b64encode(hmac.digest(base64.b64decode(secret), named + body, hashlib.sha256)).decode()
    late = abs(time.time() - int(headers["webhook-timestamp"]))
    return late < 300 and any(
        hmac.compare_digest(each, f"v1,{proof}") for each in headers["webhook-signature"].split(" ")
    )


# -- webhooks ---------------------------------------------------------------------------------------------------------


def test_a_webhook_is_a_cloud_event_and_signed_by_each_secret(secrets: tuple[str, ...]) -> None:
    with receiving(status(204)) as receiver:
        post(hook(receiver.port, secrets), EVENT, "urn:images")
    ((path, headers, body),) = receiver.got
    assert path == "/x?y=z"
    assert headers["host"] == f"127.0.0.1:{receiver.port}"
    assert headers["content-type"].partition(";")[0] == "application/cloudevents+json"
    assert is_signed(headers, body, OLD)
    assert is_signed(headers, body, NEW)
    assert not is_signed(headers, body, base64.b64encode(b"x" * 32).decode())
    assert not is_signed(headers, body + b" ", NEW)
    assert headers["webhook-id"] == json.loads(body)["id"] == EVENT.id
    cloud_event(json.loads(body))


def cloud_event(document: dict[str, object]) -> None:
    """The rules of CloudEvents 1.0 for attributes and the JSON format."""
    for name in ("id", "source", "specversion", "type"):
        assert isinstance(document[name], str)
        assert document[name]
    assert document["specversion"] == "1.0"
    assert all(re.fullmatch(r"[a-z0-9]{1,20}", name) for name in document)
    assert re.fullmatch(r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d(\.\d+)?(Z|[+-]\d\d:\d\d)", str(document["time"]))
    assert isinstance(document["data"], dict)
    assert "data_base64" not in document


def told(port: int, secrets: tuple[str, ...]) -> list[tuple[str, str]]:
    said: list[tuple[str, str]] = []
    config = Notify(webhooks=(hook(port, secrets),))
    Notifier(config, lambda *each: said.append(each), wait=wait_none()).tell_all(EVENT)
    return said


def test_one_that_fails_is_told_again_with_the_same_id(secrets: tuple[str, ...]) -> None:
    with receiving(status(500), status(429), status(200)) as receiver:
        assert told(receiver.port, secrets) == [("chat", "sent")]
    assert len(receiver.got) == 3
    assert {headers["webhook-id"] for _, headers, _ in receiver.got} == {EVENT.id}
    assert len({body for *_, body in receiver.got}) == 1


def test_one_that_fails_for_good_is_not_asked_without_end(secrets: tuple[str, ...]) -> None:
    with receiving(status(503)) as receiver:
        assert told(receiver.port, secrets) == [("chat", "unreachable")]
    assert len(receiver.got) == 4


@pytest.mark.parametrize("code", [301, 302, 307, 308, 400, 401, 404, 410, 413])
def test_redirects_and_refusals_are_final(secrets: tuple[str, ...], code: int) -> None:
    with receiving(status(200)) as elsewhere:
        with receiving(status(code, Location=f"http://127.0.0.1:{elsewhere.port}/")) as receiver:
            assert told(receiver.port, secrets) == [("chat", "refused")]
        assert len(receiver.got) == 1
        assert not elsewhere.got


def test_a_proxy_of_the_environment_is_not_used(secrets: tuple[str, ...], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("http_proxy", "http://127.0.0.1:1")
    with receiving(status(200)) as receiver:
        post(hook(receiver.port, secrets), EVENT, "x")


@pytest.mark.parametrize("talk", [drip, silence, many_headers, nonsense], ids=lambda talk: talk.__name__)
def test_those_who_do_not_answer_cost_no_more_than_the_deadline(secrets: tuple[str, ...], talk: Talk) -> None:
    with receiving(talk) as receiver:
        begun = time.monotonic()
        with pytest.raises(NotifyUnreachable):
            post(hook(receiver.port, secrets), EVENT, "x", deadline=SHORT)
        assert time.monotonic() - begun < SHORT + 5


def test_a_body_without_end_is_not_read(secrets: tuple[str, ...]) -> None:
    with receiving(endless_body) as receiver:
        begun = time.monotonic()
        post(hook(receiver.port, secrets), EVENT, "x", deadline=60)
        assert time.monotonic() - begun < 20


def test_nobody_there(secrets: tuple[str, ...]) -> None:
    with receiving(status(200)) as receiver:
        port = receiver.port
    with pytest.raises(NotifyUnreachable):
        post(hook(port, secrets), EVENT, "x")


def secure(port: int, secrets: tuple[str, ...], ca: Path | None, host: str = "localhost") -> WebhookChannel:
    url = f"https://{host}:{port}/"
    return WebhookChannel(name="chat", url=url, secrets=secrets, ca=str(ca) if ca else None)


def test_tls_is_believed_by_the_authority_that_is_named(secrets: tuple[str, ...], certificates: Path) -> None:
    with receiving(status(200), certificates=certificates) as receiver:
        post(secure(receiver.port, secrets, certificates / "ca.pem"), EVENT, "x")
        assert len(receiver.got) == 1
        with pytest.raises(NotifyRefused):
            post(secure(receiver.port, secrets, None), EVENT, "x")
        with pytest.raises(NotifyRefused):  # it is another's certificate
            post(secure(receiver.port, secrets, certificates / "ca.pem", "127.0.0.1"), EVENT, "x")
        assert len(receiver.got) == 1


def test_a_handshake_without_end(secrets: tuple[str, ...], certificates: Path) -> None:
    with FakeSmtp(greeting=b"") as mute:  # says nothing, and waits
        begun = time.monotonic()
        with pytest.raises(NotifyUnreachable):
            post(secure(mute.port, secrets, certificates / "ca.pem"), EVENT, "x", deadline=SHORT)
        assert time.monotonic() - begun < SHORT + 5


def test_authorities_that_are_none(secrets: tuple[str, ...], tmp_path: Path) -> None:
    (tmp_path / "ca.pem").write_text("no certificate")
    for ca in (tmp_path / "ca.pem", tmp_path / "nothing"):
        with pytest.raises(NotifyInvalid):
            post(secure(1, secrets, ca), EVENT, "x")


# -- mail -------------------------------------------------------------------------------------------------------------


@pytest.fixture
def password(tmp_path: Path) -> Path:
    path = tmp_path / "password"
    path.write_text("pass word\n")
    path.chmod(0o600)
    return path


def box(port: int, certificates: Path | None, tls: str = "starttls", password: Path | None = None) -> MailChannel:
    login = {"user": "anne", "password_file": str(password)} if password else {}
    return MailChannel(
        name="team",
        server="localhost",
        port=port,
        tls=tls,  # type: ignore[arg-type]
        ca=str(certificates / "ca.pem") if certificates else None,
        sender="factory@example.org",
        to=("one@example.org", "two@example.org"),
        **login,  # type: ignore[arg-type]
    )


@pytest.mark.parametrize("tls", ["starttls", "tls"])
def test_mail_goes_encrypted_and_with_a_password(certificates: Path, password: Path, tls: str) -> None:
    with FakeSmtp(certificates, tls=tls == "tls") as server:
        send(box(server.port, certificates, tls, password), EVENT)
    (mail,) = server.mails
    assert mail.encrypted
    assert mail.login == "\0anne\0pass word"
    assert mail.sender.lower().startswith("mail from:<factory@example.org>")
    assert [each.upper() for each in mail.recipients] == ["RCPT TO:<ONE@EXAMPLE.ORG>", "RCPT TO:<TWO@EXAMPLE.ORG>"]
    assert f"Message-ID: <{EVENT.id}@example.org>".encode() in mail.text
    assert b"\r\n..\r\n" in mail.text  # a point alone on a line does not end it


def test_without_starttls_nothing_is_sent(password: Path) -> None:
    with FakeSmtp() as server, pytest.raises(NotifyRefused):
        send(box(server.port, None, "starttls", password), EVENT)
    assert not server.mails
    assert not any(command.startswith(("AUTH", "MAIL")) for command in server.commands)


def test_a_server_with_a_wrong_certificate_gets_no_password(certificates: Path, password: Path) -> None:
    with FakeSmtp(certificates) as server, pytest.raises(NotifyRefused):
        send(box(server.port, None, "starttls", password), EVENT)
    assert not any(command.startswith("AUTH") for command in server.commands)


def test_plain_on_this_machine() -> None:
    with FakeSmtp() as server:
        send(box(server.port, None, "none"), EVENT)
    assert not server.mails[0].encrypted


@pytest.mark.parametrize(
    ("word", "answer", "kind"),
    [
        ("EHLO", b"421 busy\r\n", NotifyUnreachable),
        ("AUTH", b"535 no\r\n", NotifyRefused),
        ("AUTH", b"454 later\r\n", NotifyUnreachable),
        ("MAIL", b"550 no\r\n", NotifyRefused),
        ("RCPT", b"550 unknown\r\n", NotifyRefused),
        ("RCPT", b"450 later\r\n", NotifyUnreachable),
        ("DATA", b"552 full\r\n", NotifyRefused),
        ("DATA", b"nonsense\r\n", NotifyUnreachable),
    ],
)
def test_what_a_server_answers(
    certificates: Path, password: Path, word: str, answer: bytes, kind: type[Exception]
) -> None:
    with FakeSmtp(certificates) as server:
        server.instead[word] = [answer] * 2
        with pytest.raises(kind):
            send(box(server.port, certificates, "starttls", password), EVENT)
    assert not server.mails


def test_one_of_two_recipients_is_unknown(certificates: Path) -> None:
    with FakeSmtp(certificates) as server:
        server.instead["RCPT"] = [b"550 unknown\r\n"]
        with pytest.raises(NotifyRefused):
            send(box(server.port, certificates), EVENT)
    assert len(server.mails) == 1


def test_what_was_taken_is_not_sent_again_because_of_a_rude_goodbye() -> None:
    with FakeSmtp() as server:
        server.instead["QUIT"] = [b"-\x00\r\n"]
        send(box(server.port, None, "none"), EVENT)
    assert len(server.mails) == 1


@pytest.mark.parametrize("greeting", [b"", b"220-more\r\n" * 100_000, b"2" * 10**6, b"\xff\xfe\r\n"], ids=list("abcd"))
def test_a_server_that_is_none(greeting: bytes) -> None:
    with FakeSmtp(greeting=greeting) as server:
        begun = time.monotonic()
        with pytest.raises((NotifyUnreachable, NotifyRefused)):
            send(box(server.port, None, "none"), EVENT, deadline=SHORT)
        assert time.monotonic() - begun < SHORT + 5


def test_no_thread_is_left(secrets: tuple[str, ...]) -> None:
    before = threading.active_count()
    with receiving(status(200)) as receiver:
        for _ in range(5):
            post(hook(receiver.port, secrets), EVENT, "x")
    deadline = time.monotonic() + 10
    while threading.active_count() > before and time.monotonic() < deadline:
        time.sleep(0.02)
    assert threading.active_count() <= before
