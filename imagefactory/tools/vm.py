"""A virtual machine under test: QEMU, its monitor, its serial console, its guest agent.

It lives as long as the `with` that starts it, dies with this process, and has no way out: its network is QEMU's own
stack with one port forwarded from 127.0.0.1, its disk is a throwaway overlay. Deadlines are absolute monotonic times.
"""

import socket
import time
from collections.abc import Callable, Mapping
from contextlib import ExitStack, suppress
from pathlib import Path
from threading import Event
from types import TracebackType
from typing import Self, TypeVar

from imagefactory.errors import (
    AcceleratorBroken,
    BootFailed,
    BootNoConsole,
    BootReset,
    BootTimeout,
    Interrupted,
    ProgramFailed,
)
from imagefactory.tools import process
from imagefactory.tools.console import SCREEN_AT, SCREEN_SIZE, Console, Fault, clean, diagnose, last_lines, screen_text
from imagefactory.tools.firmware import QEMU
from imagefactory.tools.machine import Machine, Wires
from imagefactory.tools.qmp import Agent, Channel, ChannelLost, ChannelSilent, CommandRefused
from imagefactory.tools.runstate import Runstate, WrongState, changed

T = TypeVar("T")

POLL = 0.1  # seconds between two looks at a machine
GREETING = 30.0  # seconds until the monitor must answer
ANSWER = 10.0  # seconds for one command to the monitor
SCREEN = 2.0  # seconds between two looks at the screen
PORT_ATTEMPTS = 5
PORT_TAKEN = "Could not set up host forwarding"


_POWERED_OFF = "guest-shutdown"  # QMP's reason for a guest that powers off


class VM:
    """One run of a machine. Use as a context manager; leaving it ends QEMU.

    `work` takes what is thrown away, `logs` takes NAME-console.log, NAME-qemu.log and, when a boot fails, a picture of
    the screen as NAME-screen.png. Whoever waits for it gets Interrupted soon after `stop` is
    set. Belongs to the thread that starts it: QEMU dies with that thread.
    """

    _program: process.Program
    _monitor: Channel
    _agent: Agent

    def __init__(
        self,
        machine: Machine,
        name: str,
        *,
        work: Path,
        logs: Path,
        environment: Mapping[str, str],
        stop: Event | None = None,
    ) -> None:
        self.machine = machine
        self.name = name
        self.port = 0
        self.console = Console(logs / f"{name}-console.log")
        self.screen = logs / f"{name}-screen.png"
        self._log = logs / f"{name}-qemu.log"
        self._firmware = work / f"{name}-firmware.log"
        self._work = work
        self._environment = environment
        self._stop = stop
        self._stack = ExitStack()
        self._state = Runstate.IDLE
        self._reason = ""
        self._looked_at = ""
        self._screen_text = ""
        self._next_screen = 0.0
        self._started = 0.0

    @property
    def state(self) -> Runstate:
        return self._state

    def _set_state(self, state: Runstate) -> None:
        self._state = changed(self.name, self._state, state)

    def _require(self, state: Runstate) -> None:
        if self._state is not state:
            raise WrongState(f"{self.name} is {self._state.value}, not {state.value}")

    def __enter__(self) -> Self:
        """Start it. Raises ProgramMissing, FirmwareMissing, or ProgramFailed with QEMU's own words in its lines."""
        self._require(Runstate.IDLE)
        for attempt in range(PORT_ATTEMPTS):
            try:
                with ExitStack() as stack:
                    self._launch(stack)
                    self._stack = stack.pop_all()
                break
            except ProgramFailed as error:
                if attempt + 1 == PORT_ATTEMPTS or not any(PORT_TAKEN in line for line in error.lines):
                    raise
        self._set_state(Runstate.RUNNING)
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        try:
            if isinstance(error, BootFailed):
                error.log = error.log or self.console.path
                self._picture()
        finally:
            self._set_state(Runstate.DEAD)
            self._stack.close()

    def _launch(self, stack: ExitStack) -> None:
        """Start QEMU and connect its two channels: socket pairs, so there is no path that anybody else could open."""
        for stale in (self.console.path, self.screen, self._firmware, self._log):
            stale.unlink(missing_ok=True)
        monitor, its_monitor = socket.socketpair()
        agent, its_agent = socket.socketpair()
        for end in (monitor, agent):
            stack.callback(end.close)
        self.port = _free_port()
        with its_monitor, its_agent:
            fds = (its_monitor.fileno(), its_agent.fileno())
            wires = Wires(*fds, port=self.port, console=self.console.path, firmware=self._firmware)
            started = process.start(
                self.machine.argv(self.name, wires, self._work),
                env=self._environment,
                timeout=float("inf"),
                log=self._log,
                limits=self.machine.limits(),
                pass_fds=fds,
            )
            self._program = stack.enter_context(started)
        self._started = time.monotonic()
        deadline = self._started + GREETING
        try:
            self._monitor = Channel("monitor", monitor, deadline=deadline)
            stack.callback(self._monitor.close)
            channel = Channel("agent", agent, deadline=deadline, greets=False)
            stack.callback(channel.close)
            self._agent = Agent(channel)
        except (ChannelLost, ChannelSilent) as error:
            self._program.end()
            raise self._died() from error

    def seconds(self) -> float:
        """Since QEMU was started."""
        return time.monotonic() - self._started

    def check(self) -> None:
        """Look at the machine once.

        Raises a BootFailed when it will not get any further, AcceleratorBroken, ProgramFailed when QEMU died.
        """
        self._require(Runstate.RUNNING)
        self._look(0.0)
        if self._state is Runstate.OFF:
            raise self._ended()

    def wait_for(self, what: str, seen: Callable[[str], T | None], *, deadline: float) -> T:
        """Wait until `seen`, given all of the console's text, returns something other than None.

        Raises like check(), and after the deadline BootTimeout (`what` was waited for) or BootNoConsole.
        """
        while True:
            self.check()
            found = seen(self.console.text())
            if found is not None:
                return found
            if time.monotonic() > deadline:
                raise self._late(what)
            time.sleep(POLL)

    def power_off(self, *, deadline: float) -> None:
        """Press the power button, as a cloud does, and wait for the guest to power off.

        Raises like check(), BootTimeout when it does not, BootReset when it resets instead.
        """
        self._require(Runstate.RUNNING)
        self._ask("system_powerdown")
        self.wait_off(deadline=deadline)

    def wait_off(self, *, deadline: float) -> None:
        """Wait for the guest to power off by itself. Raises as power_off() does."""
        while self._state is Runstate.RUNNING:
            if time.monotonic() > deadline:
                raise self._late("power-off")
            self._look(POLL)
        if self._reason != _POWERED_OFF:
            raise self._ended()

    def _look(self, wait: float) -> None:
        """Take in events for `wait` seconds, then the console, then QEMU itself."""
        if self._stop is not None and self._stop.is_set():
            raise Interrupted(f"{self.name} was told to stop")
        for event in self._monitor.events(wait):
            data = event.get("data")
            if event["event"] == "SHUTDOWN" and self._state is Runstate.RUNNING:
                self._reason = str(data.get("reason")) if isinstance(data, Mapping) else ""
                self._set_state(Runstate.OFF)
            elif event["event"] == "STOP" and self._state is Runstate.RUNNING:
                self._why_stopped()
        text = self.console.text()
        if text is not self._looked_at:  # a look costs milliseconds, which a machine in software wants for itself
            self._blame(diagnose(text))
            self._looked_at = text
        self._blame(self._firmware_fault())
        if self._state is Runstate.RUNNING:
            self._blame(self._screen_fault())
        if self._program.poll() is not None:
            raise self._died()

    def _blame(self, fault: Fault | None) -> None:
        if fault is not None:
            raise fault.error(f"{self.name}: {fault.message}", lines=fault.lines)

    def _why_stopped(self) -> None:
        answer = self._ask("query-status")
        if isinstance(answer, Mapping) and answer.get("status") == "internal-error":
            said = process.tail(self._log)
            raise AcceleratorBroken(f"{self.name}: {self.machine.accelerator.kind} failed", lines=said)

    def _firmware_fault(self) -> Fault | None:
        """SeaBIOS says on its debug port, not on the serial console, that it finds nothing to boot."""
        return diagnose(clean(process.last_bytes(self._firmware, 4096))) if self._firmware.is_file() else None

    def _screen_fault(self) -> Fault | None:
        """A boot loader without a configuration knows no serial console: look at the screen while that is silent."""
        if not self.console.silent or time.monotonic() < self._next_screen:
            return None
        self._next_screen = time.monotonic() + SCREEN
        self._screen_text = self._read_screen()
        return diagnose(self._screen_text)

    def _read_screen(self) -> str:
        """The text on a screen in text mode; anything on one in graphics mode."""
        if self.machine.firmware != "bios":
            return ""
        cells = self._work / f"{self.name}-screen.bin"
        self._ask("pmemsave", {"val": SCREEN_AT, "size": SCREEN_SIZE, "filename": str(cells)})
        return screen_text(process.last_bytes(cells, SCREEN_SIZE))

    def _late(self, what: str) -> BootFailed:
        after = f"after {self.seconds():.0f} s"
        if self.console.silent:
            lines = last_lines(self._screen_text)
            return BootNoConsole(f"{self.name}: nothing on the serial console {after}", lines=lines)
        return BootTimeout(f"{self.name}: no {what} {after}", lines=last_lines(self.console.text()))

    def _ended(self) -> BootReset:
        how = {_POWERED_OFF: "powered off", "guest-reset": "was reset"}.get(self._reason, self._reason)
        return BootReset(
            f"{self.name}: the machine {how} after {self.seconds():.0f} s", lines=last_lines(self.console.text())
        )

    def _died(self) -> Exception:
        return process.failure(QEMU, self._program.poll() or 0, self._log)

    def qemu_version(self) -> str:
        """Such as "7.2.22"."""
        answer = self._ask("query-version")
        numbers = answer.get("qemu") if isinstance(answer, Mapping) else None
        if not isinstance(numbers, Mapping):
            return "unknown"
        return ".".join(str(numbers.get(part)) for part in ("major", "minor", "micro"))

    @property
    def agent(self) -> Agent:
        """The guest's agent, which may or may not answer."""
        self._require(Runstate.RUNNING)
        return self._agent

    def _ask(self, command: str, arguments: Mapping[str, object] | None = None) -> object:
        try:
            return self._monitor.execute(command, arguments, deadline=time.monotonic() + ANSWER)
        except ChannelLost as error:
            self._program.end()
            raise self._died() from error
        except (ChannelSilent, CommandRefused) as error:
            raise ProgramFailed(f"QEMU does not answer {command}: {error}", log=self._log) from error

    def _picture(self) -> None:
        """Save what is on the screen, where that is still possible."""
        with suppress(ProgramFailed):
            self._ask("screendump", {"filename": str(self.screen), "format": "png"})


def _free_port() -> int:
    """A TCP port of 127.0.0.1 that nobody listens on now. Somebody may a moment later: QEMU then says so."""
    with socket.create_server(("127.0.0.1", 0)) as listener:
        return int(listener.getsockname()[1])
