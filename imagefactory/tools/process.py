"""The only place that starts programs.

A program is an argument list, never a shell line. It gets its whole environment from the caller, an absolute deadline,
its own process group, a log file for its output, and limits on memory and CPU where its input is hostile. It dies when
we die: setpriv asks the kernel to kill it when its parent ends, even by SIGKILL.
"""

import os
import shutil
import signal
import subprocess
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import IO

from imagefactory.errors import DiskFull, ProgramFailed, ProgramMissing, ProgramTimeout

# What a program sees unless its caller says more: no locale surprises, no secret of ours.
BASE_ENVIRONMENT: Mapping[str, str] = {"LC_ALL": "C.UTF-8", "TZ": "UTC"}

MAX_OUTPUT = 16 << 20  # bytes of stdout that are kept in memory when no log file takes them
TAIL = 8  # lines of a log that an error shows
GRACE = 5.0  # seconds between SIGTERM and SIGKILL
PIPE = subprocess.PIPE
POLL = 0.05  # seconds between two looks at a running program


@dataclass(frozen=True)
class Limits:
    """Bounds for a program that reads hostile input: `memory` in bytes of address space, `cpu` in seconds,
    `file_size` in bytes of any file it writes."""

    memory: int | None = None
    cpu: int | None = None
    file_size: int | None = None

    def argv(self) -> list[str]:
        flags = {"--as": self.memory, "--cpu": self.cpu, "--fsize": self.file_size}
        chosen = [f"{flag}={value}" for flag, value in flags.items() if value is not None]
        return ["prlimit", *chosen, "--"] if chosen else []


@dataclass(frozen=True)
class Completed:
    """A program that ended: its status (never negative for success), and its stdout when no log file took it."""

    returncode: int
    stdout: bytes


class Program:
    """A running program. Use as a context manager: leaving it ends the whole process group."""

    def __init__(self, popen: "subprocess.Popen[bytes]", name: str, deadline: float, log: Path | None) -> None:
        self._popen = popen
        self._deadline = deadline
        self._log = log
        self.name = name

    @property
    def pid(self) -> int:
        return self._popen.pid

    def send(self, data: bytes) -> None:
        """Write to a program that was started with `stdin=PIPE`. One that is gone already is found by wait()."""
        stdin = self._popen.stdin
        if stdin is None:
            raise ValueError(f"{self.name} was started without a pipe")
        with suppress(BrokenPipeError):
            stdin.write(data)
            stdin.flush()

    def lines(self) -> Iterator[bytes]:
        """The lines of a program that was started with `stdout=PIPE`, as they come."""
        if self._popen.stdout is None:
            raise ValueError(f"{self.name} was started without a pipe")
        yield from self._popen.stdout

    def poll(self) -> int | None:
        return self._popen.poll()

    def wait(self, on_poll: Callable[[], None] | None = None) -> int:
        """Wait for the end and return the status. `on_poll` is called about twenty times a second.

        Raises ProgramTimeout after the deadline, with the whole group ended.
        """
        while True:
            try:
                return self._popen.wait(timeout=POLL)
            except subprocess.TimeoutExpired:
                pass
            if on_poll is not None:
                on_poll()
            if time.monotonic() > self._deadline:
                self.end()
                raise ProgramTimeout(
                    f"{self.name} did not end before its deadline", log=self._log, lines=tail(self._log)
                )

    def end(self) -> None:
        """End the process group: its input closes, then SIGTERM, then SIGKILL. Safe to call twice."""
        if self._popen.stdin is not None:
            with suppress(BrokenPipeError):
                self._popen.stdin.close()
        self._signal(signal.SIGTERM)
        with suppress(subprocess.TimeoutExpired):
            self._popen.wait(timeout=GRACE)
        self._signal(signal.SIGKILL)
        self._popen.wait()

    def _signal(self, number: signal.Signals) -> None:
        # PermissionError: under sudo the group is root's; it ends by the closing of its input.
        with suppress(ProcessLookupError, PermissionError):
            os.killpg(self._popen.pid, number)


def find(name: str, path: str | None = None) -> str:
    """The absolute path of a program. Raises ProgramMissing."""
    found = shutil.which(name, path=path)
    if found is None:
        raise ProgramMissing(f"{name} is not installed")
    return found


@contextmanager
def start(
    argv: Sequence[str | Path],
    *,
    env: Mapping[str, str],
    timeout: float,
    log: Path | None = None,
    stdin: int | None = None,
    stdout: int | None = None,
    stderr: int | None = None,
    cwd: Path | None = None,
    limits: Limits | None = None,
    pass_fds: Sequence[int] = (),
) -> Iterator[Program]:
    """Start a program, hand it out, and end its process group on leaving. `timeout` is in seconds.

    Raises ProgramMissing.
    """
    name = Path(argv[0]).name
    program = find(str(argv[0]), env.get("PATH"))
    command = ["setpriv", "--pdeathsig", "KILL", "--", *(limits or Limits()).argv(), program, *map(str, argv[1:])]
    output = log.open("ab") if log is not None else None
    try:
        popen = subprocess.Popen(
            command,
            env=dict(env),
            stdin=subprocess.DEVNULL if stdin is None else stdin,
            stdout=output if output is not None else stdout,
            stderr=subprocess.STDOUT if output is not None else stderr,
            cwd=cwd,
            pass_fds=tuple(pass_fds),
            process_group=0,
        )
    except FileNotFoundError as error:
        raise ProgramMissing(f"{error.filename} is not installed") from error
    finally:
        if output is not None:
            output.close()
    running = Program(popen, name, time.monotonic() + timeout, log)
    try:
        yield running
    finally:
        if popen.poll() is None:
            running.end()
        for stream in (popen.stdin, popen.stdout):
            if stream is not None:
                stream.close()


def run(
    argv: Sequence[str | Path],
    *,
    env: Mapping[str, str],
    timeout: float,
    log: Path | None = None,
    input_: bytes = b"",
    cwd: Path | None = None,
    limits: Limits | None = None,
    pass_fds: Sequence[int] = (),
    accept: Sequence[int] = (0,),
    on_poll: Callable[[], None] | None = None,
) -> Completed:
    """Run a program to its end. Output goes to `log` when there is one; else stdout is returned (bounded) and stderr
    shows in the error.

    Raises ProgramMissing, ProgramTimeout, DiskFull, or ProgramFailed when the status is not in `accept`.
    """
    with ExitStack() as stack:
        # Anonymous files: no pipe that can fill, no thread that must read it.
        stdin, stdout, stderr = (stack.enter_context(_memory_file(name)) for name in ("stdin", "stdout", "stderr"))
        stdin.write(input_)
        stdin.seek(0)
        program = stack.enter_context(
            start(
                argv,
                env=env,
                timeout=timeout,
                log=log,
                stdin=stdin.fileno(),
                stdout=stdout.fileno(),
                stderr=stderr.fileno(),
                cwd=cwd,
                limits=limits,
                pass_fds=pass_fds,
            )
        )
        status = program.wait(on_poll)
        output, complaint = _content(stdout), _content(stderr)
    if status not in accept:
        raise failure(program.name, status, log, complaint or output)
    return Completed(status, output)


def failure(name: str, status: int, log: Path | None, output: bytes = b"") -> ProgramFailed | DiskFull:
    """The error for a program that ended with `status`, with the lines that matter."""
    lines = tail(log) or tuple(output.decode(errors="replace").splitlines()[-TAIL:])
    if any("No space left on device" in line for line in lines):
        return DiskFull(f"{name} ran out of space", log=log, lines=lines)
    how = f"was ended by {signal.Signals(-status).name}" if status < 0 else f"ended with status {status}"
    return ProgramFailed(f"{name} {how}", log=log, lines=lines)


def tail(log: Path | None, count: int = TAIL) -> tuple[str, ...]:
    """The last lines of a log, bounded, printable."""
    if log is None or not log.is_file():
        return ()
    with log.open("rb") as stream:
        stream.seek(max(0, log.stat().st_size - (64 << 10)))
        text = stream.read().decode(errors="replace")
    printable = ("".join(c if c.isprintable() or c == "\t" else "�" for c in line) for line in text.splitlines())
    return tuple(line[:300] for line in printable if line.strip())[-count:]


def _memory_file(name: str) -> IO[bytes]:
    return os.fdopen(os.memfd_create(name), "w+b")


def _content(stream: IO[bytes]) -> bytes:
    stream.seek(0)
    return stream.read(MAX_OUTPUT)
