"""The only place that starts programs: how they start, what they see, and how they always end."""

import os
import re
import resource
import signal
import subprocess
import sys
import textwrap
import time
from collections.abc import Iterator
from functools import partial
from pathlib import Path

import pytest

from imagefactory.errors import DiskFull, ProgramFailed, ProgramMissing, ProgramTimeout
from imagefactory.tools.process import MAX_OUTPUT, PIPE, WIDTH, Limits, failure, find, last_bytes, run, start, tail
from tests.fakes import traces

ENV = {"PATH": "/usr/sbin:/usr/bin:/sbin:/bin", "LC_ALL": "C.UTF-8"}
QUICK = 20.0  # seconds that nothing here takes


@pytest.fixture(autouse=True)
def _nothing_is_left() -> Iterator[None]:
    with traces.adopting():
        yield
        assert not traces.gone(within=QUICK)


def python(code: str) -> list[str | Path]:
    return [sys.executable, "-I", "-c", textwrap.dedent(code)]


# -- how it starts -----------------------------------------------------------------------------------------------------


def test_arguments_never_see_a_shell() -> None:
    odd = ["$HOME", "a b", "*", "`id`", "; exit 3", "-n", "--", "'", "", "new\nline", "ü"]
    done = run(["printf", "%s|", *odd], env=ENV, timeout=QUICK)
    assert done.stdout.decode() == "|".join(odd) + "|"
    assert done.returncode == 0


def test_the_environment_is_the_whole_of_it(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("SECRET", "hunter2")
    done = run(["env"], env={**ENV, "X": "1"}, timeout=QUICK)
    assert sorted(done.stdout.decode().split()) == ["LC_ALL=C.UTF-8", f"PATH={ENV['PATH']}", "X=1"]


def test_the_path_is_that_of_the_environment(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    program = tmp_path / "hello"
    program.write_text("#!/bin/sh\necho hello\n")
    program.chmod(0o755)
    assert run(["hello"], env={"PATH": f"{tmp_path}:/usr/bin"}, timeout=QUICK).stdout == b"hello\n"
    monkeypatch.setenv("PATH", f"{tmp_path}:{os.environ['PATH']}")
    for env in (ENV, {}):
        with pytest.raises(ProgramMissing, match="hello is not installed"):
            run(["hello"], env=env, timeout=QUICK)


@pytest.mark.parametrize("name", ["no-such-program", "/no/such/program", "/proc/self/maps", "/"])
def test_a_missing_program(name: str) -> None:
    with pytest.raises(ProgramMissing, match="is not installed") as caught:
        run([name], env=ENV, timeout=QUICK)
    assert (caught.value.code, caught.value.exit_code) == ("program-missing", 3)


def test_find() -> None:
    assert find("sh", "/usr/bin") == "/usr/bin/sh"


def test_the_working_directory(tmp_path: Path) -> None:
    assert run(["pwd"], env=ENV, timeout=QUICK, cwd=tmp_path).stdout.decode().strip() == str(tmp_path)


def test_only_the_descriptors_that_are_passed(tmp_path: Path) -> None:
    secret, given = tmp_path / "secret", tmp_path / "given"
    secret.write_text("secret")
    given.write_text("given")
    with secret.open() as not_passed, given.open() as passed:
        os.set_inheritable(not_passed.fileno(), True)
        listed = run(["ls", "-l", "/proc/self/fd"], env=ENV, timeout=QUICK, pass_fds=[passed.fileno()])
        read = run(["cat", f"/dev/fd/{passed.fileno()}"], env=ENV, timeout=QUICK, pass_fds=[passed.fileno()])
    assert read.stdout == b"given"
    assert str(secret) not in listed.stdout.decode()


# -- input and output --------------------------------------------------------------------------------------------------


def test_input_and_output_of_any_size() -> None:
    data = os.urandom(1 << 20)
    assert run(["cat"], env=ENV, timeout=QUICK, input_=data).stdout == data
    assert run(["cat"], env=ENV, timeout=QUICK).stdout == b""


@pytest.mark.parametrize("stream", ["stdout", "stderr"])
def test_output_in_memory_is_bounded(stream: str) -> None:
    """Whoever says more is ended at once: neither its deadline nor our memory is used up."""
    exact = run(["head", "-c", str(MAX_OUTPUT), "/dev/zero"], env=ENV, timeout=QUICK)
    assert len(exact.stdout) == MAX_OUTPUT
    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    endless = "yes" if stream == "stdout" else "yes >&2"
    slow = partial(time.sleep, 0.2)  # whoever looks seldom must not lose count
    with pytest.raises(ProgramFailed, match="sh said more than 1048576 bytes") as caught:
        run(["sh", "-c", endless], env=ENV, timeout=600, limits=Limits(output=1 << 20), on_poll=slow)
    assert caught.value.lines[-1] in {"y", ""}
    assert resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before < 32 << 10, "KiB"


def test_both_streams_at_once_do_not_block_each_other() -> None:
    script = "head -c 1000000 /dev/zero >&2; head -c 2000000 /dev/zero; exit 7"
    done = run(["sh", "-c", script], env=ENV, timeout=QUICK, accept=(7,))
    assert (done.returncode, len(done.stdout)) == (7, 2_000_000)


def test_the_end_of_a_file_that_does_not_fit_in_memory(tmp_path: Path) -> None:
    huge = tmp_path / "huge"
    with huge.open("wb") as stream:
        stream.truncate(1 << 40)
        stream.seek(0, os.SEEK_END)
        stream.write(b"end")
    assert last_bytes(huge, 4) == b"\0end"
    (tmp_path / "short").write_bytes(b"end")
    assert last_bytes(tmp_path / "short", 4096) == b"end"


def test_a_log_takes_both_streams_and_is_continued(tmp_path: Path) -> None:
    log = tmp_path / "log"
    for word in ("one", "two"):
        done = run(["sh", "-c", f"echo {word}; echo {word} >&2"], env=ENV, timeout=QUICK, log=log)
        assert done.stdout == b""
    assert log.read_text() == "one\none\ntwo\ntwo\n"


def test_pipes_for_a_conversation() -> None:
    with start(["cat"], env=ENV, timeout=QUICK, stdin=PIPE, stdout=PIPE) as program:
        lines = program.lines()
        for word in (b"one", b"two"):
            program.send(word + b"\n")
            assert next(lines) == word


def test_the_last_line_may_lack_its_end() -> None:
    with start(["printf", "a\nb"], env=ENV, timeout=QUICK, stdout=PIPE) as program:
        assert list(program.lines()) == [b"a", b"b"]
        assert program.wait() == 0


def test_sending_to_one_that_is_gone_is_no_error() -> None:
    with start(["true"], env=ENV, timeout=QUICK, stdin=PIPE) as program:
        assert program.wait() == 0
        program.send(b"x" * (1 << 20))


def test_pipes_must_have_been_asked_for() -> None:
    with start(["true"], env=ENV, timeout=QUICK) as program:
        with pytest.raises(ValueError, match="true was started without a pipe"):
            program.send(b"")
        with pytest.raises(ValueError, match="true was started without a pipe"):
            next(program.lines())


def test_somebody_is_told_while_it_lasts() -> None:
    calls: list[None] = []
    run(["sleep", "1"], env=ENV, timeout=QUICK, on_poll=lambda: calls.append(None))
    assert len(calls) >= 2


# -- how it ends -------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("script", "text"),
    [
        ("exit 1", "sh ended with status 1"),
        ("exit 77", "sh ended with status 77"),
        ("kill -SEGV $$", "sh was ended by SIGSEGV"),
        ("kill -KILL $$", "sh was ended by SIGKILL"),
        ("kill -40 $$", "sh was ended by signal 40"),
    ],
)
def test_how_a_program_failed(script: str, text: str) -> None:
    with pytest.raises(ProgramFailed) as caught:
        run(["sh", "-c", f"echo words >&2; {script}"], env=ENV, timeout=QUICK)
    assert caught.value.message == text
    assert caught.value.lines == ("words",)
    assert caught.value.code == "program-failed"


def test_a_status_that_is_expected() -> None:
    assert run(["sh", "-c", "exit 3"], env=ENV, timeout=QUICK, accept=(0, 3)).returncode == 3


# Both are called by their parent's own word, so that only the group holds them together.
FAMILY = "sleep 600 & (trap '' TERM; sleep 600; sleep 600) & echo started; "


def test_a_deadline_ends_the_whole_family(tmp_path: Path) -> None:
    log = tmp_path / "log"
    with pytest.raises(ProgramTimeout, match="sh did not end before its deadline") as caught:
        run(["sh", "-c", FAMILY + "wait"], env=ENV, timeout=2, log=log)
    assert (caught.value.lines, caught.value.log) == (("started",), log)
    assert not traces.gone(within=QUICK)


def test_a_deadline_ends_a_conversation_too() -> None:
    with start(["sh", "-c", "echo one; sleep 600"], env=ENV, timeout=2, stdout=PIPE) as program:
        lines = program.lines()
        assert next(lines) == b"one"
        with pytest.raises(ProgramTimeout):
            next(lines)


def test_whom_a_program_leaves_behind_goes_with_it() -> None:
    run(["sh", "-c", FAMILY], env=ENV, timeout=QUICK)
    assert not traces.gone(within=QUICK)


def test_leaving_ends_it() -> None:
    with start(["sh", "-c", FAMILY + "wait"], env=ENV, timeout=QUICK) as program:
        assert program.poll() is None
    assert program.poll() == -signal.SIGTERM
    assert not traces.gone(within=QUICK)
    program.end()


def test_one_that_does_not_listen_is_killed(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("imagefactory.tools.process.GRACE", 0.3)
    deaf = "import signal, time; signal.signal(signal.SIGTERM, signal.SIG_IGN); print(1, flush=True); time.sleep(600)"
    with start(python(deaf), env=ENV, timeout=QUICK, stdout=PIPE) as program:
        assert next(program.lines()) == b"1"
    assert program.poll() == -signal.SIGKILL


def test_its_input_closes_when_it_shall_end() -> None:
    """That is how root's processes end, to whom we may send nothing."""
    polite = "import signal, sys; signal.signal(signal.SIGTERM, signal.SIG_IGN); print(1, flush=True); sys.stdin.read()"
    with start(python(polite), env=ENV, timeout=QUICK, stdin=PIPE, stdout=PIPE) as program:
        assert next(program.lines()) == b"1"
    assert program.poll() == 0


def test_an_error_in_between_ends_it() -> None:
    with pytest.raises(KeyError), start(["sleep", "600"], env=ENV, timeout=QUICK):
        raise KeyError
    assert not traces.gone(within=QUICK)


def test_it_dies_with_us() -> None:
    parent = """
        import os, sys
        from imagefactory.tools.process import run
        run(["sh", "-c", "echo $$; exec sleep 600"], env={"PATH": "/usr/bin:/bin"}, timeout=600, log=sys.argv[1])
    """
    log = Path(os.environ.get("PYTEST_TMPDIR", "/tmp")) / f"dies-with-us-{os.getpid()}"  # noqa: S108
    code = textwrap.dedent(parent).replace("log=sys.argv[1]", "log=__import__('pathlib').Path(sys.argv[1])")
    with subprocess.Popen([sys.executable, "-c", code, str(log)]) as doomed:
        deadline = time.monotonic() + QUICK
        while not (log.exists() and log.read_text().endswith("\n")):
            assert time.monotonic() < deadline
            time.sleep(0.02)
        doomed.kill()
    log.unlink()
    assert not traces.gone(within=QUICK)


def test_descriptors_are_let_go() -> None:
    before = len(os.listdir("/proc/self/fd"))  # noqa: PTH208
    for _ in range(20):
        run(["true"], env=ENV, timeout=QUICK)
    with pytest.raises(ProgramMissing):
        run(["no-such-program"], env=ENV, timeout=QUICK)
    assert len(os.listdir("/proc/self/fd")) == before  # noqa: PTH208


# -- limits ------------------------------------------------------------------------------------------------------------


def test_memory_is_limited() -> None:
    with pytest.raises(ProgramFailed) as caught:
        run(python("x = bytearray(1 << 30)"), env=ENV, timeout=QUICK, limits=Limits(memory=256 << 20))
    assert "MemoryError" in caught.value.lines[-1]


def test_time_on_the_processor_is_limited() -> None:
    with pytest.raises(ProgramFailed, match=r"was ended by SIG(XCPU|KILL)"):
        run(["sh", "-c", "while :; do :; done"], env=ENV, timeout=QUICK, limits=Limits(cpu=1))


def test_the_size_of_files_is_limited(tmp_path: Path) -> None:
    output = tmp_path / "output"
    with pytest.raises(ProgramFailed):
        run(["dd", "if=/dev/zero", f"of={output}", "bs=4k"], env=ENV, timeout=QUICK, limits=Limits(file_size=1 << 20))
    assert output.stat().st_size == 1 << 20


def test_without_limits_there_is_no_prlimit() -> None:
    assert Limits().argv() == []
    assert Limits(memory=1, cpu=2, file_size=3).argv() == ["prlimit", "--as=1", "--cpu=2", "--fsize=3", "--"]


# -- the lines that matter ---------------------------------------------------------------------------------------------


def test_a_tail_is_bounded_and_printable(tmp_path: Path) -> None:
    log = tmp_path / "log"
    huge = b"x" * 1_000_000
    log.write_bytes(
        b"first\n" * 100
        + huge
        + b"\n\n  \n\x1b[31mred\x1b[0m\x07\nnull\0\ttab\n\xff\xfe\x80\n10%\r20%\r"
        + "ü☃".encode()
    )
    lines = tail(log)
    assert lines == (
        "x" * WIDTH,
        "\ufffd[31mred\ufffd[0m\ufffd",
        "null\ufffd\ttab",
        "\ufffd\ufffd\ufffd",
        "10%",
        "20%",
        "ü☃",
    )
    assert all(re.fullmatch(r"[\t\x20-\x7e\u00a1-\uffff]*", line) for line in lines)
    assert tail(log, 2) == ("20%", "ü☃")


def test_a_log_that_is_not_there(tmp_path: Path) -> None:
    assert tail(None) == tail(tmp_path / "log") == tail(tmp_path) == ()


def test_what_a_program_says_without_a_log_is_bounded_too() -> None:
    with pytest.raises(ProgramFailed) as caught:
        run(python("print('x' * 5000 + chr(27)); raise SystemExit(1)"), env=ENV, timeout=QUICK)
    assert caught.value.lines == ("x" * WIDTH,)


def test_a_full_disk_has_its_own_error(tmp_path: Path) -> None:
    log = tmp_path / "log"
    script = "echo \"cp: error writing 'x': No space left on device\" >&2; exit 1"
    for where in (None, log):
        with pytest.raises(DiskFull, match="sh ran out of space") as caught:
            run(["sh", "-c", script], env=ENV, timeout=QUICK, log=where)
        assert (caught.value.code, caught.value.exit_code) == ("disk-full", 3)


def test_a_disk_so_full_that_nobody_could_write_why(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    log = tmp_path / "log"
    log.write_text("nothing that would tell\n")
    assert type(failure("x", 1, log)) is ProgramFailed
    monkeypatch.setattr("imagefactory.tools.process.NO_ROOM", 1 << 80)
    assert type(failure("x", 1, log)) is DiskFull
    assert type(failure("x", 1, None)) is ProgramFailed
