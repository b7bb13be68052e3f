"""The only place that starts programs.

A program is an argument list, never a shell line. It gets its whole environment from the caller, an absolute deadline,
its own process group, a log file for its output, and limits on memory and CPU where its input is hostile. It dies when
we die: setpriv asks the kernel to kill it when its parent ends, even by SIGKILL.
"""

import os
import select
import shutil
import signal
import subprocess
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager, suppress
from contextvars import ContextVar
from dataclasses import dataclass
from pathlib import Path

from imagefactory.errors import DiskFull, ProgramFailed, ProgramMissing, ProgramTimeout

# What a program sees unless its caller says more: no locale surprises, no secret of ours.
BASE_ENVIRONMENT: Mapping[str, str] = {"LC_ALL": "C.UTF-8", "TZ": "UTC"}

MAX_OUTPUT = 16 << 20  # bytes that a program may say on either stream when no log file takes them
LOOK = 64 << 10  # bytes at the end of a log that its last lines are looked for in
TAIL = 8  # lines of a log that an error shows
WIDTH = 300  # characters of each
NO_ROOM = 64 << 10  # bytes: a file system with less than that is full
GRACE = 5.0  # seconds between SIGTERM and SIGKILL
PIPE = subprocess.PIPE
POLL = 0.05  # seconds between two looks at a running program

# A descriptor that can be read when somebody wants the programs of this context to end. Ctrl-C interrupts the main
# thread alone: a program that another thread waits for would go on.
_stop: ContextVar[int | None] = ContextVar("stop", default=None)


@dataclass(frozen=True)
class Limits:
    """Bounds for a program that reads hostile input: `memory` in bytes of address space, `cpu` in seconds,
    `file_size` in bytes of any file it writes, `output` in bytes of what run() keeps of either stream in memory."""

    memory: int | None = None
    cpu: int | None = None
    file_size: int | None = None
    output: int = MAX_OUTPUT

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
        self._stop = _stop.get()
        self._pidfd = os.pidfd_open(popen.pid)
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
        """The lines of a program that was started with `stdout=PIPE`, as they come.

        Raises ProgramTimeout after the deadline, with the whole group ended.
        """
        if self._popen.stdout is None:
            raise ValueError(f"{self.name} was started without a pipe")
        stdout, begun = self._popen.stdout.fileno(), list[bytes]()
        while True:
            # A deadline may be infinite, a poll may not.
            if not self._waited(stdout, min(self._deadline - time.monotonic(), 3600.0)):
                if time.monotonic() > self._deadline:
                    raise self._timeout()
                continue
            piece = os.read(stdout, 1 << 16)
            end, *more = piece.split(b"\n")
            begun.append(end)
            for beginning in more:
                yield b"".join(begun)
                begun = [beginning]
            if not piece:
                yield from [rest] if (rest := b"".join(begun)) else []
                return

    def poll(self) -> int | None:
        """The status of a program that has ended, None of one that runs."""
        return self._reap() if _ready(self._pidfd, 0) else None

    def wait(self, on_poll: Callable[[], None] | None = None) -> int:
        """Wait for the end and return the status. `on_poll` is called about twenty times a second.

        Raises ProgramTimeout after the deadline, with the whole group ended.
        """
        while not self._waited(self._pidfd, POLL):
            if on_poll is not None:
                on_poll()
            if time.monotonic() > self._deadline:
                raise self._timeout()
        return self._reap()

    def collect(self, limit: int, on_poll: Callable[[], None] | None = None) -> tuple[int, bytes, bytes]:
        """Like wait(), for a program that was started with PIPE twice: the status, and what it said on each stream.

        A program that says more than `limit` bytes on either raises ProgramFailed, with the whole group ended.
        """
        streams = [stream.fileno() for stream in (self._popen.stdout, self._popen.stderr) if stream is not None]
        said = {descriptor: bytearray() for descriptor in streams}
        look = select.poll()
        for descriptor in (self._pidfd, *streams, *([] if self._stop is None else [self._stop])):
            look.register(descriptor, select.POLLIN)
        due = time.monotonic() + POLL
        ended = False
        while not ended:
            ready = {descriptor for descriptor, _ in look.poll(max(0.0, due - time.monotonic()) * 1000)}
            if self._stop in ready:
                raise KeyboardInterrupt
            for descriptor in ready & said.keys():
                if not self._take(descriptor, said, limit):
                    look.unregister(descriptor)
            ended = self._pidfd in ready
            if time.monotonic() >= due and not ended:
                due = time.monotonic() + POLL
                if on_poll is not None:
                    on_poll()
                if time.monotonic() > self._deadline:
                    raise self._timeout()
        status = self._reap()
        for descriptor in streams:
            while _ready(descriptor, 0) and self._take(descriptor, said, limit):
                pass
        output, complaint = (bytes(said[descriptor]) for descriptor in streams)
        return status, output, complaint

    def _take(self, descriptor: int, said: dict[int, bytearray], limit: int) -> bool:
        """Read what is there. False at the end of the stream."""
        piece = os.read(descriptor, 1 << 16)
        said[descriptor] += piece
        if len(said[descriptor]) > limit:
            for stream in (self._popen.stdout, self._popen.stderr):
                if stream is not None:
                    stream.close()  # root's processes, to whom we may send nothing, end by that
            self.end()
            raise ProgramFailed(f"{self.name} said more than {limit} bytes", lines=printable(bytes(piece)))
        return bool(piece)

    def end(self) -> None:
        """End the process group: its input closes, then SIGTERM, then SIGKILL. Safe to call twice."""
        if self._popen.stdin is not None:
            with suppress(BrokenPipeError):
                self._popen.stdin.close()
        if self._popen.returncode is None:
            self._signal(signal.SIGTERM)
            _ready(self._pidfd, GRACE)
            self._reap()

    def close(self) -> None:
        """End it and let go of its descriptors."""
        self.end()
        os.close(self._pidfd)
        for stream in (self._popen.stdin, self._popen.stdout, self._popen.stderr):
            if stream is not None:
                stream.close()

    def _waited(self, descriptor: int, seconds: float) -> bool:
        """As _ready(). Raises KeyboardInterrupt when somebody wants the programs of this context to end."""
        ready = _ready_ones([descriptor] if self._stop is None else [descriptor, self._stop], seconds)
        if self._stop in ready:
            raise KeyboardInterrupt
        return descriptor in ready

    def _timeout(self) -> ProgramTimeout:
        self.end()
        return ProgramTimeout(f"{self.name} did not end before its deadline", log=self._log, lines=tail(self._log))

    def _reap(self) -> int:
        """The status of a program that has ended or shall end now, with whatever is left in its group.

        As long as nobody has asked for the status, the number of the group can be nobody else's.
        """
        if self._popen.returncode is None:
            self._signal(signal.SIGKILL)
        return self._popen.wait()

    def _signal(self, number: signal.Signals) -> None:
        # PermissionError: under sudo the group is root's; it ends by the closing of its input.
        with suppress(ProcessLookupError, PermissionError):
            os.killpg(self._popen.pid, number)


@contextmanager
def ended_by(descriptor: int) -> Iterator[None]:
    """Whatever waits in here for a program gets KeyboardInterrupt, and so ends it, once `descriptor` can be read."""
    token = _stop.set(descriptor)
    try:
        yield
    finally:
        _stop.reset(token)


def go_on() -> None:
    """Raises KeyboardInterrupt when somebody wants what this context does to end."""
    stop = _stop.get()
    if stop is not None and _ready(stop, 0):
        raise KeyboardInterrupt


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
    program = find(str(argv[0]), env.get("PATH", os.defpath))
    command = [*_dies_with_us(), *(limits or Limits()).argv(), program, *map(str, argv[1:])]
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
        running.close()


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
    """Run a program to its end. Output goes to `log` when there is one; else stdout is returned and stderr shows in the
    error.

    Raises ProgramMissing, ProgramTimeout, DiskFull, or ProgramFailed when the status is not in `accept` or there
    is more output than the limits let it say.
    """
    with ExitStack() as stack:
        # An anonymous file: no pipe that can fill while we wait for the end.
        stdin = stack.enter_context(os.fdopen(os.memfd_create("stdin"), "w+b"))
        stdin.write(input_)
        stdin.seek(0)
        program = stack.enter_context(
            start(
                argv,
                env=env,
                timeout=timeout,
                log=log,
                stdin=stdin.fileno(),
                stdout=PIPE if log is None else None,
                stderr=PIPE if log is None else None,
                cwd=cwd,
                limits=limits,
                pass_fds=pass_fds,
            )
        )
        if log is None:
            status, output, complaint = program.collect((limits or Limits()).output, on_poll)
        else:
            status, output, complaint = program.wait(on_poll), b"", b""
    if status not in accept:
        raise failure(program.name, status, log, complaint or output)
    return Completed(status, output)


def failure(name: str, status: int, log: Path | None, output: bytes = b"") -> ProgramFailed | DiskFull:
    """The error for a program that ended with `status`, with the lines that matter."""
    lines = tail(log) or printable(output)
    if any("No space left on device" in line for line in lines) or _is_full(log):
        return DiskFull(f"{name} ran out of space", log=log, lines=lines)
    how = f"was ended by {_signal_name(-status)}" if status < 0 else f"ended with status {status}"
    return ProgramFailed(f"{name} {how}", log=log, lines=lines)


def tail(log: Path | None, count: int = TAIL) -> tuple[str, ...]:
    """The last lines of a log, bounded, printable."""
    if log is None or not log.is_file():
        return ()
    return printable(last_bytes(log, LOOK), count)


def last_bytes(path: Path, count: int) -> bytes:
    """The last `count` bytes of a file, however long it is or grows meanwhile."""
    with path.open("rb") as stream:
        stream.seek(max(0, os.fstat(stream.fileno()).st_size - count))
        return stream.read(count)


def printable(output: bytes, count: int = TAIL) -> tuple[str, ...]:
    """The last lines of what a program said, none empty, short, without anything that a terminal would obey."""
    lines = output[-LOOK:].decode(errors="replace").splitlines()
    clean = ("".join(c if c.isprintable() or c == "\t" else "\ufffd" for c in line) for line in lines if line.strip())
    return tuple(line[:WIDTH] for line in clean)[-count:]


def _is_full(log: Path | None) -> bool:
    """Where there is no space, there is none either for the line of the log that would say so."""
    if log is None:
        return False
    there = os.statvfs(log.parent)
    return there.f_bavail * there.f_frsize < NO_ROOM


def _signal_name(number: int) -> str:
    try:
        return signal.Signals(number).name
    except ValueError:  # most real-time signals have no name
        return f"signal {number}"


def _ready(descriptor: int, seconds: float) -> bool:
    """Whether there is something to read, or a process has ended, within `seconds`."""
    return bool(_ready_ones([descriptor], seconds))


def _ready_ones(descriptors: Sequence[int], seconds: float) -> set[int]:
    poll = select.poll()
    for descriptor in descriptors:
        poll.register(descriptor, select.POLLIN)
    return {descriptor for descriptor, _ in poll.poll(max(0, int(seconds * 1000)))}


def _dies_with_us() -> list[str]:
    """The prefix of a command that the kernel kills when its parent ends, by whatever means.

    Whoever loses its parent before it has asked the kernel would never be told: so it looks, afterwards, whether the
    parent is still there. (PWD: sh puts it into every environment, and what a program sees is the caller's choice.)
    """
    still_ours = 'unset PWD; test "$PPID" = "$0" && exec "$@"'
    return ["setpriv", "--pdeathsig", "KILL", "--", "/bin/sh", "-c", still_ours, str(os.getpid())]
