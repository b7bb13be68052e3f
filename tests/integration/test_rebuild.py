"""The same recipe built again: by another user, elsewhere, later, after a predecessor was killed. The same bytes."""

import signal
import subprocess
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from tempfile import TemporaryDirectory

import pytest

from tests.database import records_at
from tests.integration.homes import BIN, RECIPE, Built

AS_USER = Path(__file__).with_name("as_user.sh")
STEP_TIMEOUT = 900.0  # seconds
UID = "4242"


class Builder:
    """An ordinary user's builds in `home`, in the background; output in `log`."""

    def __init__(self, home: Path) -> None:
        self.home = home
        self.log = home.with_name("build.log")

    @contextmanager
    def running(self, *argv: str | Path) -> Iterator["subprocess.Popen[bytes]"]:
        command = ["unshare", "--mount", "--propagation", "private", AS_USER, self.home, BIN / "imagefactory", *argv]
        with self.log.open("ab") as output:
            process = subprocess.Popen(
                [str(part) for part in command], stdin=subprocess.DEVNULL, stdout=output, stderr=subprocess.STDOUT
            )
        try:
            yield process
        finally:
            if process.poll() is None:
                process.kill()
            process.wait()

    def run(self, *argv: str | Path) -> None:
        with self.running(*argv) as process:
            assert process.wait(timeout=STEP_TIMEOUT) == 0, self.log.read_text()

    def outputs(self, step: str) -> dict[str, str]:
        """What the records say that a step made, by key."""
        with records_at(self.home / "factory/imagefactory.db") as records:
            rows = records.execute("select key, outputs from step_results where step = ?", (step,)).fetchall()
        return dict(rows)


def wait_until(what: Callable[[], bool], process: "subprocess.Popen[bytes]", log: Path) -> None:
    deadline = time.monotonic() + STEP_TIMEOUT
    while not what():
        assert process.poll() is None, log.read_text()
        assert time.monotonic() < deadline, log.read_text()
        time.sleep(0.1)


def own_processes() -> str:
    """The processes of the builder, and those of root that work for him."""
    return subprocess.run(["pgrep", "--uid", UID, "--list-full"], check=False, capture_output=True, text=True).stdout


def traces(home: Path) -> list[str]:
    """What a build must not leave behind: processes, mounts, loop devices."""
    ps = subprocess.run(["ps", "-eo", "args"], check=True, capture_output=True, text=True).stdout
    found = [line for line in ps.splitlines() if str(home) in line or "imagefactory.hands.builder" in line]
    found += [line for line in Path("/proc/self/mounts").read_text().splitlines() if str(home) in line]
    losetup = subprocess.run(["losetup", "--all"], check=True, capture_output=True, text=True).stdout
    return found + losetup.splitlines() + own_processes().splitlines()


def wait_for_no_traces(home: Path, before: list[str]) -> None:
    deadline = time.monotonic() + 60
    while (left := [trace for trace in traces(home) if trace not in before]) and time.monotonic() < deadline:
        time.sleep(0.2)
    assert left == []


@pytest.fixture
def builder() -> Iterator[Builder]:
    # Not below pytest's own directory, which every other pytest of this user closes again.
    with TemporaryDirectory(prefix="imagefactory-rebuild-") as directory:
        Path(directory).chmod(0o755)
        yield Builder(Path(directory) / "user")


def test_killed_in_the_real_thing_then_built_to_the_same_bytes(built: Built, builder: Builder) -> None:
    before = traces(builder.home)
    builder.run("keys", "init", "--development")
    factory = builder.home / "factory"

    with builder.running("build", RECIPE) as process:
        wait_until(lambda: any(factory.glob("logs/*/*/rootfs.log")), process, builder.log)
        log = next(factory.glob("logs/*/*/rootfs.log"))
        wait_until(lambda: "installing remaining packages" in log.read_text(errors="replace"), process, builder.log)
        process.send_signal(signal.SIGKILL)
    wait_for_no_traces(builder.home, before)
    assert not (factory / "catalogue").exists()

    with builder.running("build", RECIPE) as process:
        # Both formats are made, and the boot test has begun: what it proves does not depend on who built.
        wait_until(lambda: any(factory.glob("logs/*/*.2/bios-console.log")), process, builder.log)
        process.send_signal(signal.SIGINT)
        assert process.wait(timeout=60) == 130, builder.log.read_text()
    wait_for_no_traces(builder.home, before)
    assert list((factory / "work").iterdir()) == []

    with records_at(built.home / "imagefactory.db") as records:
        for step in ("rootfs", "disk", "convert"):
            rows = records.execute("select key, outputs from step_results where step = ?", (step,)).fetchall()
            assert builder.outputs(step) == dict(rows), step
    assert "no-separation" not in builder.log.read_text()
