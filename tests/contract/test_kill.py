"""A build may be stopped or killed anywhere: nothing is left but what the next run ignores or finishes.

"Anywhere" is a list of points, one after the other on the same host, so that every run but the first is the next run of
one that died; then random moments, for `make soak`.
"""

import hashlib
import json
import random
import signal
import subprocess
import time
from collections.abc import Iterator
from datetime import UTC, datetime
from pathlib import Path
from tempfile import TemporaryDirectory

import pytest

from imagefactory.tools.trusted_roots import TrustedRoots
from imagefactory.tools.tuf_client import CatalogueClient
from imagefactory.tools.tuf_files import CatalogueFiles
from signing.trust import load_trust
from signing.verify import verify_folder
from tests.fakes import traces
from tests.fakes.host import FakeHost, folders

NAME = "fake-debian-12"
# Programs and events of each step, in the order of a build; what is before the dot is what stops.
POINTS = [
    "apt-get.begin",
    "StepStarted.rootfs",
    "disk-image-create.begin",
    "disk-image-create.end",
    "StepFinished.rootfs",
    "sfdisk.begin",
    "mke2fs.begin",
    "mke2fs.end",
    "StepStarted.convert",
    "qemu-img.begin",
    "qemu-img.end",
    "StepStarted.boot-test",
    "qemu-system-x86_64.begin",
    "qemu-system-x86_64.end",
    "StepStarted.sign",
    "StepAdvanced.sign",
    "StepFinished.sign",
    "StepStarted.publish",
    "StepAdvanced.publish",
    "StepAdvanced.list",
    "StepFinished.publish",
]
PLENTY = 30.0  # seconds to reach a point on a busy machine


@pytest.fixture(autouse=True)
def _adopting() -> Iterator[None]:
    with traces.adopting():
        yield


def kill_at(host: FakeHost, point: str, number: signal.Signals) -> "subprocess.CompletedProcess[bytes]":
    """Start a build, and send it a signal when it has come to `point`."""
    host.say(f"pause-{point}")
    build = host.start("build", "--json", str(host.recipe_file))
    deadline = time.monotonic() + PLENTY
    while not (host.control / "reached").exists():
        assert build.poll() is None, f"{point} was never reached: {build.communicate()}"
        assert time.monotonic() < deadline, f"{point} was not reached in time"
        time.sleep(0.01)
    build.send_signal(number)
    stdout, stderr = build.communicate(timeout=PLENTY)
    host.unsay(f"pause-{point}")
    host.unsay("reached")
    return subprocess.CompletedProcess([], build.returncode, stdout, stderr)


def finish(host: FakeHost) -> dict[str, object]:
    """A build that nobody disturbs."""
    build = host.start("build", "--json", str(host.recipe_file))
    stdout, stderr = build.communicate(timeout=60)
    assert build.returncode == 0, stderr.decode()
    document = json.loads(stdout)
    assert isinstance(document, dict)
    return document


def check_home(host: FakeHost) -> None:
    """Whatever is there is whole; nothing is there that does not belong."""
    known = {
        *("apt", "artifacts", "audit.log", "catalogue", "keys", "locks", "logs", "policy.json", "signed", "trust.json"),
        *("trusted", "work"),
    }
    database = {"imagefactory.db", "imagefactory.db-shm", "imagefactory.db-wal"}
    assert {path.name for path in host.home.iterdir()} <= known | database
    for path in host.home.glob("artifacts/sha256/*/*"):
        with path.open("rb") as stream:
            assert hashlib.file_digest(stream, "sha256").hexdigest() == path.name
    with host.factory() as factory:
        for result in factory.records.results():
            assert all(map(factory.artifacts.has, result.outputs.values())), result.step
        for release in factory.records.releases():
            assert all(map(factory.artifacts.has, release.files.values()))
        versions = [(build.version_day, build.version_number) for build in factory.records.builds(NAME)]
    assert len(set(versions)) == len(versions)


def check_catalogue(host: FakeHost) -> None:
    """Nothing is published, or all of it; and whoever comes for the first time finds what is listed."""
    for folder in visible(host):
        verify_folder(folder, load_trust(host.home / "trust.json"), now=datetime.now(UTC), name=NAME)
    if CatalogueFiles(host.settings.catalogue).has_begun:
        assert listed(host) <= {folder.name for folder in visible(host)}


def listed(host: FakeHost) -> set[str]:
    """The versions that a new client sees."""
    root = TrustedRoots(host.settings.signed).of(host.settings.catalogue)
    with TemporaryDirectory() as store, CatalogueClient(host.settings.catalogue, Path(store), root=root) as seen:
        return {str(each.version) for name in seen.names() for each in seen.releases(name)}


def visible(host: FakeHost) -> list[Path]:
    return folders(host.home / "catalogue", NAME)


def check_finished(host: FakeHost, document: dict[str, object]) -> None:
    """The end of a story of kills: one release, published, and no leftovers."""
    (folder,) = visible(host)
    assert listed(host) == {folder.name}
    assert list(host.home.glob("catalogue/targets/*/.*")) == []
    assert list((host.home / "work").iterdir()) == []
    assert document["verified"]
    with host.factory() as factory:
        states = [build.state for build in factory.records.builds(NAME)]
        (release,) = factory.records.releases()
    assert set(states) <= {"interrupted", "released", "reproduced"}
    assert states.count("released") == 1
    assert document["release"] == f"{NAME}@{release.version_day}.{release.version_number}"


@pytest.mark.parametrize(
    ("number", "points"),
    [(signal.SIGKILL, POINTS), (signal.SIGINT, POINTS[::2]), (signal.SIGTERM, POINTS[2:20:4])],
    ids=["SIGKILL", "SIGINT", "SIGTERM"],
)
def test_a_build_that_is_stopped_at_every_point(host: FakeHost, number: signal.Signals, points: list[str]) -> None:
    before = traces.Host.now()
    for point in points:
        stopped = kill_at(host, point, number)
        assert not traces.gone(within=PLENTY), point
        assert traces.Host.now() == before, point
        check_home(host)
        check_catalogue(host)
        if number == signal.SIGKILL:
            assert stopped.returncode == -signal.SIGKILL
        else:
            assert stopped.returncode == 130, (point, stopped.stderr.decode())
            assert json.loads(stopped.stdout)["error"]["code"] == "interrupted", point
            assert b"Traceback" not in stopped.stderr
            # Who is asked to stop cleans up behind himself.
            assert list((host.home / "work").iterdir()) == [], point
            assert [path for path in host.home.glob("catalogue/targets/*/.*") if path.is_dir()] == [], point
    check_finished(host, finish(host))


@pytest.mark.soak
def test_builds_that_are_killed_at_random_moments(host: FakeHost, dice: random.Random) -> None:
    before = traces.Host.now()
    for _ in range(100):
        build = host.start("build", *dice.choice([[], ["--fresh"]]), str(host.recipe_file))
        time.sleep(dice.uniform(0, 6))
        build.send_signal(dice.choice([signal.SIGKILL, signal.SIGINT, signal.SIGTERM]))
        build.communicate(timeout=PLENTY)
        assert not traces.gone(within=PLENTY)
        assert traces.Host.now() == before
        check_home(host)
        check_catalogue(host)
    document = finish(host)
    assert len(visible(host)) == 1
    assert document["verified"]
