"""A machine on the user's terminal that does not end although it said so."""

import os
import sys
from pathlib import Path

import pytest

from imagefactory.tools import interactive, process
from imagefactory.tools.firmware import TCG
from imagefactory.tools.interactive import run_interactive

# Speaks as much of QMP as is needed, says what it is told to, and goes on as it is told to.
QEMU = """#!{python}
import json, re, signal, socket, sys, time
signal.signal(signal.SIGTERM, signal.SIG_IGN)
said, ends, status = {said!r}, {ends!r}, {status!r}
(fd,) = (int(found[1]) for word in sys.argv if (found := re.fullmatch("socket,id=monitor,fd=([0-9]+)", word)))
peer = socket.socket(fileno=fd)
def tell(message):
    peer.sendall(json.dumps(message).encode() + b"\\r\\n")
tell({{"QMP": {{"version": {{"qemu": {{"major": 7, "minor": 2, "micro": 0}}, "package": ""}}, "capabilities": []}}}})
peer.recv(1 << 16)  # qmp_capabilities
tell({{"return": {{}}}})
for event in said:
    tell({{"event": event, "data": {{}}, "timestamp": {{"seconds": 1, "microseconds": 0}}}})
time.sleep(0.3 if ends else 20)
sys.exit(status)
"""


@pytest.fixture(autouse=True)
def impatient(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(interactive, "LEAVING", 0.2)
    monkeypatch.setattr(process, "GRACE", 0.2)


def boot(directory: Path, said: list[str], *, ends: bool, status: int = 0) -> int:
    """What becomes of a machine of which QEMU says these events."""
    fake = directory / "qemu-system-x86_64"
    fake.write_text(QEMU.format(python=sys.executable, said=said, ends=ends, status=status))
    fake.chmod(0o755)
    with Path(os.devnull).open("rb") as nothing, (directory / "said").open("wb") as sink:
        return run_interactive(
            nothing.fileno(),
            "raw",
            firmware="bios",
            memory=64,
            accelerator=TCG,
            environment={"PATH": f"{directory}:/usr/bin:/bin"},
            terminal=(nothing.fileno(), sink.fileno()),
        )


def test_one_that_says_that_it_ends_and_does_not_is_ended(tmp_path: Path) -> None:
    assert boot(tmp_path, ["RESUME", "SHUTDOWN"], ends=False) == 0


@pytest.mark.parametrize("said", [[], ["SHUTDOWN"]])
@pytest.mark.parametrize("status", [0, 3])
def test_one_that_ends_says_how(tmp_path: Path, said: list[str], status: int) -> None:
    assert boot(tmp_path, said, ends=True, status=status) == status
