"""Programs of a foreign root file system, run inside it by bubblewrap.

They are root there, with one capability: to read every file. They have namespaces of their own for mounts (with the
root file system as the root, so that leaving a chroot leads nowhere), processes, network (none but loopback), IPC and
host name; a /dev without devices of the host, a /proc without settings and command line of its kernel, and no /sys.
"""

import os
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path, PurePosixPath

from imagefactory.errors import RootfsUnreadable
from imagefactory.tools.process import Completed, Limits, run

FOLDER = PurePosixPath("/run/imagefactory")
OUTPUT = FOLDER / "output"
HOST_NAME = "image"
# The whole environment of what runs inside.
ENVIRONMENT: Mapping[str, str] = {"PATH": "/usr/sbin:/usr/bin:/sbin:/bin", "LC_ALL": "C"}
# Where bubblewrap mounts something.
MOUNT_POINTS = ("proc", "dev", "run")

_ISOLATION = (
    *("--unshare-net", "--unshare-pid", "--unshare-ipc", "--unshare-uts", "--hostname", HOST_NAME),
    *("--die-with-parent", "--new-session", "--clearenv"),
    *("--cap-drop", "ALL", "--cap-add", "CAP_DAC_READ_SEARCH"),
    *("--proc", "/proc", "--dev", "/dev", "--tmpfs", "/run"),
)


def run_inside(
    root: Path,
    argv: Sequence[str | PurePosixPath],
    *,
    files: Mapping[PurePosixPath, Path],
    output: Path,
    env: Mapping[str, str],
    timeout: float,
    log: Path,
    limits: Limits,
    accept: Sequence[int] = (0,),
    on_poll: Callable[[], None] | None = None,
) -> Completed:
    """Run a program of the root file system `root`, as root. It sees `files` by the paths below FOLDER that they have
    there, and may write to `output`, which is OUTPUT there; what it leaves there is anything but trustworthy.

    Raises RootfsUnreadable when a mount point is no directory, and what process.run raises.
    """
    for name in MOUNT_POINTS:
        if (root / name).is_symlink() or not (root / name).is_dir():
            raise RootfsUnreadable(f"/{name} of the root file system is no directory")
    seen: list[str | Path] = ["--bind", root, "/"]
    shared: list[str | Path] = ["--bind", output, str(OUTPUT)]
    for inside, outside in files.items():
        shared += ["--ro-bind", outside, str(inside)]
    environment = [part for name, value in ENVIRONMENT.items() for part in ("--setenv", name, value)]
    with _memory(b"") as empty, _memory(os.uname().machine.encode() + b"\n") as machine:
        # What this host's kernel is like says nothing about the image; only the machine is the same. And bubblewrap 0.8
        # would let root change the settings.
        kernel = ["--ro-bind-data", str(empty), "/proc/cmdline", "--tmpfs", "/proc/sys"]
        kernel += ["--ro-bind-data", str(machine), "/proc/sys/kernel/arch", "--remount-ro", "/proc/sys"]
        return run(
            ["bwrap", *seen, *_ISOLATION, *kernel, *environment, *shared, "--chdir", "/", "--", *map(str, argv)],
            env=env,
            timeout=timeout,
            log=log,
            limits=limits,
            pass_fds=(empty, machine),
            accept=accept,
            on_poll=on_poll,
        )


@contextmanager
def _memory(content: bytes) -> Iterator[int]:
    """A descriptor to read `content` from."""
    with os.fdopen(os.memfd_create("shown"), "w+b") as stream:
        stream.write(content)
        stream.seek(0)
        yield stream.fileno()
