"""A verified image on the user's own terminal: what was opened and verified is what boots."""

import os
import signal
import socket
import termios
import time
from collections.abc import Iterator, Mapping
from contextlib import ExitStack, contextmanager
from pathlib import Path
from tempfile import TemporaryDirectory

from imagefactory.model.disk import Firmware
from imagefactory.tools import process
from imagefactory.tools.firmware import QEMU, Accelerator, escaped, firmware_argv
from imagefactory.tools.machine import SANDBOX
from imagefactory.tools.qmp import Channel, ChannelLost, ChannelSilent

FDSET = 1
GREETING = 10.0  # seconds until QEMU's monitor has to answer
LEAVING = 10.0  # seconds that QEMU may take to end


def run_interactive(
    image_fd: int,
    image_format: str,
    *,
    firmware: Firmware,
    memory: int,
    accelerator: Accelerator,
    environment: Mapping[str, str],
    cpus: int = 2,
    seed: Path | None = None,
    terminal: tuple[int, int] = (0, 1),
) -> int:
    """Boot the image that `image_fd` is open on, its serial console on the user's `terminal` (input, output).

    QEMU inherits the descriptor and never opens a path, so nobody can put another image in its place. What the guest
    writes goes to an unnamed temporary file. `memory` is in MiB; `seed` is a read-only raw disk. The guest's network
    has no way out. Ctrl-A X ends the machine. Returns QEMU's status, 0 for one that had to be ended.

    Raises ProgramMissing, FirmwareMissing.
    """
    with ExitStack() as stack:
        work = Path(stack.enter_context(TemporaryDirectory(prefix="imagefactory-boot-")))
        argv = [QEMU, "-name", "imagefactory", "-no-user-config", "-nodefaults", "-display", "none"]
        argv += ["-sandbox", SANDBOX, *firmware_argv(firmware, work), *accelerator.argv()]
        argv += ["-m", str(memory), "-smp", str(cpus), "-boot", "strict=on,menu=off", "-device", "VGA"]
        argv += ["-chardev", "stdio,id=console,mux=on,signal=off", "-serial", "chardev:console"]
        argv += ["-mon", "chardev=console,mode=readline"]
        argv += ["-add-fd", f"fd={image_fd},set={FDSET},opaque=image"]
        argv += ["-drive", f"if=none,id=disk,snapshot=on,format={image_format},file=/dev/fdset/{FDSET}"]
        argv += ["-device", "virtio-blk-pci,drive=disk,bootindex=0"]
        if seed is not None:
            argv += ["-drive", f"if=none,id=seed,format=raw,readonly=on,file={escaped(seed)}"]
            argv += ["-device", "virtio-blk-pci,drive=seed"]
        argv += ["-object", "rng-random,id=random,filename=/dev/urandom", "-device", "virtio-rng-pci,rng=random"]
        argv += ["-netdev", "user,id=net,restrict=on", "-device", "virtio-net-pci,netdev=net,romfile="]
        monitor, its_monitor = map(stack.enter_context, socket.socketpair())
        with its_monitor:
            argv += ["-chardev", f"socket,id=monitor,fd={its_monitor.fileno()}", "-mon", "chardev=monitor,mode=control"]
            program = stack.enter_context(
                process.start(
                    argv,
                    env={"TMPDIR": str(work), **environment},
                    timeout=float("inf"),
                    stdin=terminal[0],
                    stdout=terminal[1],
                    pass_fds=(image_fd, its_monitor.fileno()),
                )
            )
        stack.enter_context(_foreground(terminal[0], program.pid))
        return _wait(program, monitor)


def _wait(program: process.Program, monitor: socket.socket) -> int:
    """Wait until QEMU has ended. One that says that it is about to end may never get there: where firmware writes its
    variables just then, the two wait for each other (seen with QEMU 7.2)."""
    try:
        channel = Channel("monitor", monitor, deadline=time.monotonic() + GREETING)
    except (ChannelLost, ChannelSilent):
        return program.wait()  # it has said why it did not start
    left: float | None = None

    def look() -> None:
        nonlocal left
        if left is None and any(event.get("event") == "SHUTDOWN" for event in channel.events()):
            left = time.monotonic()
        if left is not None and time.monotonic() > left + LEAVING:
            program.end()

    try:
        status = program.wait(look)
    finally:
        channel.close()
    return 0 if left is not None and status < 0 else status


@contextmanager
def _foreground(terminal: int, group: int) -> Iterator[None]:
    """Lend the terminal to another process group, and take it back as it was. Nothing to do when it is no terminal."""
    if not os.isatty(terminal) or os.tcgetpgrp(terminal) != os.getpgrp():
        yield
        return
    settings = termios.tcgetattr(terminal)
    # Whoever changes the terminal from the background gets SIGTTOU: we, at the end; the program, before it is lent.
    before = signal.signal(signal.SIGTTOU, signal.SIG_IGN)
    try:
        os.tcsetpgrp(terminal, group)
        os.killpg(group, signal.SIGCONT)
        yield
    finally:
        os.tcsetpgrp(terminal, os.getpgrp())
        termios.tcsetattr(terminal, termios.TCSADRAIN, settings)
        signal.signal(signal.SIGTTOU, before)
