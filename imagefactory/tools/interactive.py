"""A verified image on the user's own terminal: what was opened and verified is what boots."""

import os
import signal
import termios
from collections.abc import Iterator, Mapping
from contextlib import ExitStack, contextmanager
from pathlib import Path
from tempfile import TemporaryDirectory

from imagefactory.model.disk import Firmware
from imagefactory.tools import process
from imagefactory.tools.firmware import QEMU, Accelerator, escaped, firmware_argv
from imagefactory.tools.machine import SANDBOX

FDSET = 1


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
    has no way out. Ctrl-A X ends the machine. Returns QEMU's status.

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
        program = stack.enter_context(
            process.start(
                argv,
                env={"TMPDIR": str(work), **environment},
                timeout=float("inf"),
                stdin=terminal[0],
                stdout=terminal[1],
                pass_fds=(image_fd,),
            )
        )
        stack.enter_context(_foreground(terminal[0], program.pid))
        return program.wait()


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
