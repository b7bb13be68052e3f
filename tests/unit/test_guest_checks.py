"""A recipe's own checks: what is run in the guest, here by the shell of this host, and what is believed of it."""

import re
import subprocess

import pytest
from hypothesis import given
from hypothesis import strategies as st

from imagefactory.tools.guest_checks import INLINE, MOST_LINES, MOST_SAID, WIDTH, Ended, GuestCheck, shebang


def check(program: str, seconds: int = 60, interpreter: tuple[str, ...] = INLINE) -> GuestCheck:
    return GuestCheck("own", program.encode(), interpreter, False, seconds)


def run(checked: GuestCheck) -> Ended:
    ran = subprocess.run(["sh", "-s"], input=checked.script, text=True, check=False, capture_output=True, timeout=60)
    assert ran.stderr == ""
    assert len(ran.stdout) < MOST_SAID + 100
    return checked.ended(ran.stdout)


def test_a_check_that_passes() -> None:
    ended = run(check("echo one; echo two >&2"))
    assert (ended.passed, ended.lines) == (True, ("one", "two"))
    assert re.fullmatch("status 0 after [0-9]+ s", ended.detail)


@pytest.mark.parametrize(
    ("program", "status"),
    [("exit 3", 3), ("false\ntrue", 1), ("exit 124", 124), ("kill -9 $$", 137), ("no-such-program", 127)],
)
def test_a_check_that_fails(program: str, status: int) -> None:
    ended = run(check(program))
    assert (ended.passed, ended.detail.partition(" after")[0]) == (False, f"status {status}")


@pytest.mark.parametrize(
    "program", ["sleep 1000", "trap '' TERM; while :; do sleep 1; done", "echo on; while :; do :; done", "yes"]
)
def test_a_check_that_hangs_is_ended(program: str) -> None:
    """Also one that does not let itself be told, and one that says the same for ever."""
    ended = run(check(program, seconds=2))
    assert (ended.passed, ended.detail) == (False, "did not end within 2 s, and was ended")
    if program == "yes":
        assert ended.lines == ("y",) * MOST_LINES


def test_what_it_says_is_short_and_fit_for_a_terminal() -> None:
    ended = run(
        check("printf '\\033]0;title\\007%0999d\\n\\n' 7; i=0; while [ $i -lt 9 ]; do echo $i; i=$((i + 1)); done")
    )
    assert ended.lines == ("4", "5", "6", "7", "8")
    shown = run(check("printf '\\033[2J\\r%0999d\\n' 7"))
    assert all(line.isprintable() and len(line) <= WIDTH for line in shown.lines)


def test_it_reads_nothing_of_ours() -> None:
    """What follows in the script that brings it is not its input."""
    ended = run(check("cat"))
    assert (ended.passed, ended.lines) == (True, ())


def test_any_interpreter() -> None:
    program = "#!/usr/bin/env  python3\nimport sys\nprint(sys.argv[0].rpartition('/')[2])\n"
    words = shebang(program.encode())
    assert words == ("/usr/bin/env", "python3")
    assert run(check(program, interpreter=words)).lines == ("own",)


@pytest.mark.parametrize(
    ("program", "words"),
    [
        (b"#!/bin/sh", ("/bin/sh",)),
        (b"#! /bin/sh -eu \necho\n", ("/bin/sh", "-eu")),
        (b"#!/usr/bin/awk -f one two\r\n", ("/usr/bin/awk", "-f one two")),
        (b"#!\n", None),
        (b"#!\xff\n", None),
        (b"echo\n", None),
        (b"\x7fELF", None),
        (b"", None),
    ],
)
def test_the_first_line_names_the_interpreter(program: bytes, words: tuple[str, ...] | None) -> None:
    assert shebang(program) == words


def test_as_root() -> None:
    assert "sudo -n timeout -k 5 60 /bin/sh -e" in GuestCheck("own", b"", INLINE, True, 60).script


@pytest.mark.parametrize(
    "said", ["", "status=0", "status= seconds=3\n", "x\nstatus=0 seconds=0\n", "status=1000 seconds=1\n"]
)
def test_a_guest_that_says_something_else(said: str) -> None:
    ended = check("").ended(said)
    assert (ended.passed, ended.detail) == (False, "the guest does not tell how it ended")


@given(st.text())
def test_any_answer_is_bounded(said: str) -> None:
    for ended in (check("").ended(said), check("").ended(f"status=0 seconds=1\n{said}")):
        assert len(ended.lines) <= MOST_LINES
        assert all(len(line) <= WIDTH for line in ended.lines)
