"""Logs of workers: one JSON object a line, and nothing in it that must not be there."""

import io
import json
import logging
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import structlog
from hypothesis import given
from hypothesis import strategies as st

from imagefactory.service import logs
from imagefactory.service.logs import Redactor, about, also_about, logger, set_up

SECRET = 'correct horse "battery" stäple\\'


@pytest.fixture(autouse=True)
def as_before() -> Iterator[None]:
    root = logging.getLogger()
    handlers, level = root.handlers[:], root.level
    yield
    root.handlers[:], root.level = handlers, level
    logging.captureWarnings(False)
    structlog.reset_defaults()
    structlog.contextvars.clear_contextvars()


def begun(*secrets: str) -> io.StringIO:
    stream = io.StringIO()
    set_up(stream, Redactor(secrets), role="sign", host="one")
    return stream


def said(stream: io.StringIO) -> list[dict[str, Any]]:
    return [json.loads(line) for line in stream.getvalue().splitlines()]


def test_a_line_says_when_what_where_and_for_whom() -> None:
    stream = begun()
    with about("j1", "t1"):
        logger().info("signed", release="soe@20260101.1", seconds=1.5, again=False)
    (line,) = said(stream)
    assert line.pop("time").endswith("Z")
    assert line == {
        "level": "info",
        "event": "signed",
        "job": "j1",
        "task": "t1",
        "role": "sign",
        "host": "one",
        "release": "soe@20260101.1",
        "seconds": "1.5",
        "again": False,
    }


def test_what_libraries_say_takes_the_same_way() -> None:
    stream = begun()
    with about(None, "t2"):
        logging.getLogger("library").warning("%s of %d", "one", 2)
        logging.getLogger("library").debug("too much")
    (line,) = said(stream)
    assert (line["event"], line["task"], line["level"]) == ("one of 2", "t2", "warning")
    assert "job" not in line


def test_outside_of_a_task_a_line_is_of_none() -> None:
    stream = begun()
    with about("j", "t"):
        pass
    logger().info("idle")
    assert not {"job", "task"} & said(stream)[0].keys()


def test_a_thread_says_so_itself() -> None:
    stream = begun()

    def work() -> None:
        also_about("j", "t")
        logger().info("working")

    thread = threading.Thread(target=work)
    thread.start()
    thread.join()
    logger().info("idle")
    assert [line.get("task") for line in said(stream)] == ["t", None]


DEEP = {SECRET: [SECRET, {"deep": {"er": {"still": {"more": SECRET}}}}]}


@pytest.mark.parametrize(
    "value", [SECRET, DEEP, {SECRET}, SECRET.encode(), Path(SECRET)], ids=["text", "inside", "set", "bytes", "other"]
)
def test_no_secret_comes_out(value: object) -> None:
    stream = begun(SECRET)
    logger().info(f"it is {SECRET}", value=value, shown=repr(value), json=json.dumps({"a": SECRET}))
    logging.getLogger("library").warning("it is %s", value)
    text = stream.getvalue()
    for spelling in logs._spellings(SECRET):
        assert spelling not in text
        assert all(spelling not in str(line) for line in said(stream))
    assert len(said(stream)) == 2


def test_neither_in_a_traceback() -> None:
    stream = begun(SECRET)
    try:
        raise ValueError(SECRET)
    except ValueError:
        logger().exception("failed")
    (line,) = said(stream)
    assert "ValueError" in line["exception"]
    assert SECRET not in line["exception"]


def test_a_passphrase_of_the_length_at_which_texts_are_cut() -> None:
    stream = begun(SECRET)
    logger().info("x" * (logs.MOST_TEXT - 10) + SECRET)
    assert SECRET[:9] not in said(stream)[0]["event"]


SECRETS = st.text(min_size=1, max_size=30).filter(lambda text: "\N{FULL BLOCK}" not in text)


@given(secret=SECRETS, before=st.text(max_size=30), after=st.text(max_size=30))
def test_whatever_a_secret_is_it_is_not_in_a_value(secret: str, before: str, after: str) -> None:
    redactor = Redactor([secret])
    event = redactor(None, "info", {"event": [{secret: before + secret + after}, {before + secret: 1}]})
    assert all(secret not in str(key) for each in event["event"] for key in each)
    assert secret not in next(iter(event["event"][0].values()))


@given(
    st.recursive(st.text() | st.floats() | st.integers() | st.binary(), lambda each: st.lists(each) | st.tuples(each))
)
def test_whatever_is_logged_is_one_line_of_printable_ascii(value: object) -> None:
    redactor = Redactor()
    text = logs._rendered(None, "info", redactor(None, "info", {"event": "x", "value": value}))
    assert text.isascii()
    assert text.isprintable()
    assert len(text) <= logs.MOST_LINE
    json.loads(text)


def test_nothing_that_a_terminal_obeys() -> None:
    stream = begun()
    logger().info("\x1b]0;mine\x07\x9b2J\u202e", other="\r\x08")
    (line,) = said(stream)
    assert line["event"].replace("\N{REPLACEMENT CHARACTER}", "?") == "?]0;mine??2J?"
    assert line["other"] == "\N{REPLACEMENT CHARACTER}" * 2


def test_a_long_line_is_cut_and_says_how_long_it_was() -> None:
    stream = begun()
    with about("j", "t"):
        logger().info("ö" * 10**6, **{f"k{n}": "x" * 10**5 for n in range(100)})
    (line,) = said(stream)
    assert len(stream.getvalue()) <= logs.MOST_LINE
    assert (line["job"], line["task"], line["role"]) == ("j", "t", "sign")
    assert line["cut"] > logs.MOST_LINE


def test_arguments_that_do_not_fit_are_not_written_anywhere(capsys: pytest.CaptureFixture[str]) -> None:
    stream = begun()
    logging.getLogger("library").warning("%d", SECRET)
    assert stream.getvalue() == logs.UNSAYABLE
    assert capsys.readouterr() == ("", "")


def test_a_secret_that_is_learned_later() -> None:
    stream = io.StringIO()
    redactor = Redactor()
    set_up(stream, redactor, role="sign", host="one")
    redactor.add(SECRET)
    redactor.add("")
    logger().info(SECRET)
    assert said(stream)[0]["event"] == logs.HIDDEN
