"""Events, what is said of them, and the file that says who is told."""

import email
import email.policy
import json
import re
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st
from pydantic import TypeAdapter

from imagefactory.errors.service import NotifyInvalid, NotifyRefused, NotifyUnreachable
from imagefactory.model.event import Due, EventKind, expiry_soon, job_failed, release_published, schedule_paused, trial
from imagefactory.model.notify import MailChannel, Notify, WebhookChannel
from imagefactory.service.notify import Failure, Notifier
from imagefactory.settings import read_settings
from imagefactory.tools.mail import compose
from imagefactory.tools.notify_file import load_notify, mail_password, webhook_secret
from imagefactory.tools.webhook import encode

AT = datetime(2026, 11, 1, 2, 3, 4, tzinfo=UTC)
FAILED = job_failed("j1", "soe", "disk-full", "no space", "free some", "builder", AT)
TEAM = MailChannel(
    name="team", server="mail.example.org", sender="a@example.org", to=("b@example.org", "c@example.org")
)
GOOD = """\
webhooks:
  - name: chat
    url: https://hooks.example.org/x?y=z
    secrets: [/etc/one, /etc/two]
    events: [job.failed]
mail:
  - name: team
    server: mail.example.org
    sender: a@example.org
    to: [b@example.org]
"""


def loaded(folder: Path, text: str) -> Notify:
    path = folder / "notify.yaml"
    path.write_text(text)
    path.chmod(0o600)
    return load_notify(path)


# -- events -----------------------------------------------------------------------------------------------------------


def test_the_same_event_has_the_same_id() -> None:
    again = job_failed("j1", "soe", "busy", "another sentence", "", "elsewhere", AT + timedelta(days=1))
    assert again.id == FAILED.id
    assert job_failed("j2", "soe", "disk-full", "no space", "", "builder", AT).id != FAILED.id
    assert release_published("soe", "1", "a", AT).id != release_published("soe", "1", "b", AT).id
    assert (
        schedule_paused("soe", "three failures", "h", AT).id != schedule_paused("soe", "x", "h", AT + timedelta(1)).id
    )


@pytest.mark.parametrize(
    ("days", "stage"), [(31, None), (30, 30), (8, 30), (7, 7), (1.5, 7), (1, 1), (0.1, 1), (-3, 0)]
)
def test_what_expires_is_told_of_at_each_threshold_once(days: float, stage: int | None) -> None:
    expires = AT + timedelta(days=90)
    told = expiry_soon("glance", "ab" * 32, expires, expires - timedelta(days=days), "h")
    if stage is None:
        assert told is None
        return
    same = expiry_soon("glance", "ab" * 32, expires, expires - timedelta(days=stage), "elsewhere")
    assert told is not None
    assert same is not None
    assert told.id == same.id
    assert told.facts["expires"] == expires.isoformat()


def test_a_cloud_event_has_what_the_specification_wants() -> None:
    headers, body = encode(FAILED, "urn:images")
    document = json.loads(body)
    assert headers["content-type"].startswith("application/cloudevents+json")
    assert document.pop("data") == {
        "title": "soe: build failed (disk-full)",
        "what": "no space",
        "where": "builder",
        "advice": "free some",
        "job": "j1",
        "name": "soe",
        "code": "disk-full",
        "host": "builder",
    }
    assert TypeAdapter(datetime).validate_python(document.pop("time")) == AT
    assert document == {
        "specversion": "1.0",
        "id": FAILED.id,
        "source": "urn:images",
        "subject": "soe",
        "type": "imagefactory.job.failed.v1",
        "datacontenttype": "application/json",
    }


HOSTILE = st.text(max_size=60) | st.sampled_from(
    ["\r\nBcc: x@example.org", "a\n\n.\r\nQUIT\r\n", "\x1b[2J\u202e", "\ud800"]
)


@given(HOSTILE, HOSTILE, HOSTILE, HOSTILE)
def test_no_text_becomes_a_header_or_obeys(name: str, code: str, message: str, host: str) -> None:
    event = job_failed("j", name, code, message, message, host, AT)
    raw = compose(TEAM, event).as_bytes()
    mail = email.message_from_bytes(raw, policy=email.policy.SMTP)
    assert sorted(mail.keys()) == sorted(compose(TEAM, FAILED).keys())
    assert mail["To"] == "b@example.org, c@example.org"
    assert "\n" not in mail["Subject"]
    text = mail.get_content().replace("\r\n", "")
    assert all(character.isprintable() for character in text)
    assert raw.isascii()
    json.loads(encode(event, "x")[1])


def test_mail_says_what_where_and_what_to_do() -> None:
    mail = compose(TEAM, FAILED)
    assert mail["Message-ID"] == f"<{FAILED.id}@example.org>"
    assert mail["Subject"] == "soe: build failed (disk-full)"
    text = mail.get_content()
    for part in ("no space", "Where: builder", "2026-11-01 02:03:04 UTC", "What to do: free some", "job: j1"):
        assert part in text


def test_a_message_without_end_is_cut() -> None:
    event = job_failed("j", "soe", "c", "x" * 10**6, "y" * 10**6, "z" * 10**6, AT)
    assert len(compose(TEAM, event).as_bytes()) < 10_000


# -- the file ---------------------------------------------------------------------------------------------------------


def test_reads_who_is_told(tmp_path: Path) -> None:
    config = loaded(tmp_path, GOOD)
    assert [each.name for each in config.wanting(EventKind.JOB_FAILED)] == ["chat", "team"]
    assert [each.name for each in config.wanting(EventKind.EXPIRY_SOON)] == ["team"]
    assert [each.name for each in config.wanting(EventKind.TEST)] == ["chat", "team"]
    assert config.mail[0].at == 587
    assert loaded(tmp_path, "{}").channels == ()


@pytest.mark.parametrize(
    ("old", "new", "line", "said"),
    [
        ("    secrets", "    secret", 4, "did you mean secrets?"),
        ("mail:", "mails:", 6, "did you mean mail?"),
        ("    sender", "    from", 9, "unknown key; known are"),
        ("job.failed", "job.fails", 5, "events"),
        ("https://hooks", "http://hooks", 3, "should begin with https://"),
        ("https://hooks", "ftp://hooks", 3, "should begin with https://"),
        ("https://hooks", "https://anne:pw@hooks", 3, "user name or password"),
        ("https://hooks.example.org/x", '"https://a b/"', 3, ""),
        ("https://hooks.example.org/x?y=z", "https://h:99999/", 3, "should be an address"),
        ("/etc/one", "one", 4, "an absolute path"),
        ("[/etc/one, /etc/two]", "[]", 4, "at least 1"),
        ("name: team", "name: chat", 1, "two receivers are called chat"),
        ("b@example.org", "Bob <b@example.org>", 10, "with no name before it"),
        ("b@example.org", '"b@example.org\\r\\nBcc: c@example.org"', 10, ""),
        ("    sender", "    tls: none\n    sender", 7, "the server is another machine"),
        ("    sender", "    user: anne\n    sender", 7, "both user and password_file"),
        ("    sender", "    port: 70000\n    sender", 9, "65535"),
    ],
)
def test_says_where_it_is_wrong(tmp_path: Path, old: str, new: str, line: int, said: str) -> None:
    with pytest.raises(NotifyInvalid) as caught:
        loaded(tmp_path, GOOD.replace(old, new, 1))
    lines = "\n".join((caught.value.message, *caught.value.lines))
    assert said in lines
    assert f"notify.yaml:{line}:" in lines
    assert "pw@" not in lines


@pytest.mark.parametrize(
    "text", ["", "- a", "a: [", "a: &b [*b]", "x: !!python/object:os.system 1", "\x00", "a: 1\n---\nb: 2"]
)
def test_refuses_what_is_no_such_file(tmp_path: Path, text: str) -> None:
    with pytest.raises(NotifyInvalid):
        loaded(tmp_path, text)


def test_refuses_one_that_others_may_change_or_that_is_none(tmp_path: Path) -> None:
    path = tmp_path / "notify.yaml"
    with pytest.raises(NotifyInvalid):
        load_notify(path)
    path.write_text(GOOD)
    path.chmod(0o666)
    with pytest.raises(NotifyInvalid, match="by others"):
        load_notify(path)
    path.chmod(0o600)
    path.write_bytes(b"\xff")
    with pytest.raises(NotifyInvalid, match="UTF-8"):
        load_notify(path)
    path.write_text("#" * 10**6)
    with pytest.raises(NotifyInvalid, match="longer"):
        load_notify(path)


def secret_file(folder: Path, content: bytes, mode: int = 0o600) -> Path:
    path = folder / "secret"
    path.write_bytes(content)
    path.chmod(mode)
    return path


def test_reads_secrets(tmp_path: Path) -> None:
    text = "MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw"
    assert webhook_secret(secret_file(tmp_path, f"whsec_{text}\n".encode())) == text
    assert webhook_secret(secret_file(tmp_path, text.encode())) == text
    assert mail_password(secret_file(tmp_path, b"p w\n")) == "p w"


@pytest.mark.parametrize(
    "content", [b"", b"c2hvcnQ=", b"whsec_" + b"A" * 200, b"not base64 at all, is it? but long", b"\xff" * 40]
)
def test_refuses_secrets_that_are_none_and_does_not_repeat_them(tmp_path: Path, content: bytes) -> None:
    with pytest.raises(NotifyInvalid) as caught:
        webhook_secret(secret_file(tmp_path, content))
    assert not content or content.decode("latin-1") not in str(caught.value) + caught.value.advice


def test_refuses_secrets_that_others_may_read(tmp_path: Path) -> None:
    with pytest.raises(NotifyInvalid, match="secret"):
        webhook_secret(secret_file(tmp_path, b"MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw", 0o644))
    with pytest.raises(NotifyInvalid):
        mail_password(secret_file(tmp_path, "pä".encode()))
    with pytest.raises(NotifyInvalid):
        mail_password(secret_file(tmp_path, b"one\ntwo"))


def test_the_environment_names_the_file() -> None:
    assert read_settings({"HOME": "/h", "IMAGEFACTORY_NOTIFY": "/etc/n.yaml"}).notify == Path("/etc/n.yaml")
    assert read_settings({"HOME": "/h"}).notify is None


# -- what waits -------------------------------------------------------------------------------------------------------


class Rows:
    """An outbox in memory."""

    def __init__(self, *due: Due) -> None:
        self.waiting = list(due)
        self.gone: list[str] = []
        self.why: dict[str, Failure] = {}

    def due(self, most: int) -> list[Due]:
        return self.waiting[:most]

    def sent(self, due: Due) -> None:
        self.gone.append(due.receiver)

    def failed(self, due: Due, why: Failure) -> None:
        self.why[due.receiver] = why


def test_what_one_receiver_does_is_nothing_to_the_others(monkeypatch: pytest.MonkeyPatch) -> None:
    def post(channel: WebhookChannel, *_: object) -> None:
        raise NotifyUnreachable(channel.name)

    mailed: list[str] = []
    monkeypatch.setattr("imagefactory.tools.webhook.post", post)
    monkeypatch.setattr("imagefactory.tools.mail.send", lambda channel, _: mailed.append(channel.name))
    chat = WebhookChannel(name="chat", url="https://h/", secrets=("/s",))
    outcomes: list[tuple[str, str]] = []
    notifier = Notifier(Notify(webhooks=(chat,), mail=(TEAM,)), lambda *said: outcomes.append(said), attempts=1)
    rows = Rows(*(Due(FAILED, name) for name in ("chat", "team", "left")))
    assert notifier.flush(rows) == 1
    assert rows.gone == mailed == ["team"]
    assert isinstance(rows.why["chat"], NotifyUnreachable)
    assert isinstance(rows.why["left"], NotifyRefused)
    assert outcomes == [("chat", "unreachable"), ("team", "sent")]
    assert notifier.receivers(trial("h", AT)) == ("chat", "team")


def test_types_have_a_version_and_no_more_than_dots() -> None:
    assert all(re.fullmatch(r"imagefactory(\.[a-z]+)+\.v1", kind.type) for kind in EventKind)
