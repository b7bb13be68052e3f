"""The catalogue: a version is there as a whole or not at all, whoever publishes and whoever dies meanwhile."""

import errno
import json
import os
import signal
import subprocess
import sys
import threading
from collections.abc import Callable
from pathlib import Path

import pytest

from imagefactory.errors import (
    Busy,
    CatalogueConflict,
    CatalogueUnusable,
    DiskFull,
)
from imagefactory.model.release import Version
from imagefactory.steps.publish import publish
from imagefactory.steps.verify import Expectation, verify
from imagefactory.tools.catalogue import Catalogue, copy_into
from signing.errors import DigestMismatch, FolderMismatch
from signing.manifest import MANIFEST_FILE
from signing.trust import Trust
from tests.unit.signing.builders import NAME, NOW, VERSION, Keys, make_folder, make_keys

WHEN = Version.parse(str(VERSION))
MIB = 1 << 20


@pytest.fixture(scope="module")
def signers(tmp_path_factory: pytest.TempPathFactory) -> Keys:
    return make_keys(tmp_path_factory.mktemp("signers"))


@pytest.fixture(scope="module")
def release(tmp_path_factory: pytest.TempPathFactory, signers: Keys) -> dict[str, Path]:
    """The files of a signed release."""
    folder = tmp_path_factory.mktemp("release") / "files"
    make_folder(folder, signers)
    return {path.name: path for path in folder.iterdir()}


@pytest.fixture
def catalogue(tmp_path: Path) -> Catalogue:
    return Catalogue(tmp_path / "catalogue")


def put(
    catalogue: Catalogue, files: dict[str, Path], trust: Trust, on_bytes: Callable[[int], None] = lambda _: None
) -> Path:
    return publish(files, catalogue, NAME, WHEN, trust=trust, now=NOW, on_bytes=on_bytes)


def visible(catalogue: Catalogue) -> list[str]:
    return sorted(path.name for path in catalogue.root.glob("targets/*/*") if not path.name.startswith("."))


def hidden(catalogue: Catalogue) -> list[Path]:
    return list(catalogue.root.glob("targets/*/.*"))


# -- publishing --------------------------------------------------------------------------------------------------------


def test_a_release_is_published_as_a_whole(catalogue: Catalogue, release: dict[str, Path], signers: Keys) -> None:
    seen: list[list[str]] = []
    total: list[int] = []

    def watch(count: int) -> None:
        total.append(count)
        seen.append(visible(catalogue))

    folder = put(catalogue, release, signers.trust, watch)
    assert folder == catalogue.root / "targets" / NAME / str(VERSION)
    assert {path.name: path.read_bytes() for path in folder.iterdir()} == {
        name: path.read_bytes() for name, path in release.items()
    }
    assert all(path.is_file() and not path.is_symlink() for path in folder.iterdir())
    assert seen
    assert not any(seen), "nobody saw a part of it"
    assert sum(total) >= sum(path.stat().st_size for path in release.values())
    assert hidden(catalogue) == []
    assert visible(catalogue) == [str(VERSION)]


def test_the_same_again_is_left_alone(catalogue: Catalogue, release: dict[str, Path], signers: Keys) -> None:
    folder = put(catalogue, release, signers.trust)
    before = folder.stat().st_mtime_ns
    assert put(catalogue, release, signers.trust) == folder
    assert folder.stat().st_mtime_ns == before


def test_another_release_under_the_same_version_is_refused(
    catalogue: Catalogue, release: dict[str, Path], signers: Keys, tmp_path: Path
) -> None:
    folder = put(catalogue, release, signers.trust)
    other = tmp_path / "other"
    other.write_bytes(b"{}")
    with pytest.raises(CatalogueConflict, match="holds another release") as caught:
        put(catalogue, {**release, MANIFEST_FILE: other}, signers.trust)
    assert (caught.value.code, caught.value.exit_code) == ("catalogue-conflict", 1)
    assert (folder / MANIFEST_FILE).read_bytes() == release[MANIFEST_FILE].read_bytes()


def test_what_does_not_verify_is_never_seen(catalogue: Catalogue, release: dict[str, Path], signers: Keys) -> None:
    with pytest.raises(FolderMismatch):
        put(catalogue, {name: path for name, path in release.items() if name != "SHA256SUMS"}, signers.trust)
    with pytest.raises(DigestMismatch):
        put(catalogue, {**release, f"{NAME}-{VERSION}.raw": release[f"{NAME}-{VERSION}.iso"]}, signers.trust)
    assert visible(catalogue) == []
    assert hidden(catalogue) == []


PUBLISHER = """
import json, os, sys, time
from datetime import datetime
from pathlib import Path
from imagefactory.model.release import Version
from imagefactory.steps.publish import publish
from imagefactory.tools.catalogue import Catalogue
from signing.trust import load_trust
request = json.loads(sys.argv[1])
def on_bytes(count):
    if request["stop"]:
        print("copying", flush=True)
        time.sleep(600)
files = {name: Path(path) for name, path in request["files"].items()}
publish(files, Catalogue(Path(request["root"])), request["name"], Version.parse(request["version"]),
        trust=load_trust(Path(request["trust"])), now=datetime.fromisoformat(request["now"]), on_bytes=on_bytes)
"""


def publisher(
    catalogue: Catalogue, release: dict[str, Path], signers: Keys, *, stop: bool
) -> "subprocess.Popen[bytes]":
    """Another process that publishes; with `stop` it stays where it has copied something."""
    request = {
        "files": {name: str(path) for name, path in release.items()},
        "root": str(catalogue.root),
        "name": NAME,
        "version": str(VERSION),
        "trust": str(signers.trust_file),
        "now": NOW.isoformat(),
        "stop": stop,
    }
    return subprocess.Popen([sys.executable, "-c", PUBLISHER, json.dumps(request)], stdout=subprocess.PIPE)


def test_a_killed_publisher_leaves_nothing_to_see_and_the_next_cleans_up(
    catalogue: Catalogue, release: dict[str, Path], signers: Keys
) -> None:
    with publisher(catalogue, release, signers, stop=True) as other:
        assert other.stdout is not None
        assert other.stdout.readline() == b"copying\n"
        with pytest.raises(Busy, match=f"another process is publishing {NAME}"):
            put(catalogue, release, signers.trust)
        assert len(hidden(catalogue)) == 1, "whoever is busy keeps what he has"
        other.send_signal(signal.SIGKILL)
    assert visible(catalogue) == []
    assert len(hidden(catalogue)) == 1
    put(catalogue, release, signers.trust)
    assert visible(catalogue) == [str(VERSION)]
    assert hidden(catalogue) == []


def test_of_many_at_once_one_wins(catalogue: Catalogue, release: dict[str, Path], signers: Keys) -> None:
    """The others find it published, or say who is at it; what is published is whole."""
    start = threading.Barrier(6)
    outcomes: list[object] = []

    def one() -> None:
        start.wait()
        try:
            outcomes.append(put(catalogue, release, signers.trust))
        except (Busy, CatalogueConflict) as error:
            outcomes.append(error.code)

    threads = [threading.Thread(target=one) for _ in range(6)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert catalogue.folder(NAME, WHEN) in outcomes
    assert {each for each in outcomes if isinstance(each, str)} <= {"busy", "catalogue-conflict"}
    assert visible(catalogue) == [str(VERSION)]
    assert hidden(catalogue) == []
    verify(str(catalogue.folder(NAME, WHEN)), Expectation(signers.trust, NOW))


def test_somebody_who_does_not_ask_for_the_lock_is_not_overwritten(catalogue: Catalogue) -> None:
    with catalogue.staged(NAME, WHEN) as staged:
        (staged / "file").touch()
        foreign = catalogue.folder(NAME, WHEN)
        foreign.mkdir()
        (foreign / "theirs").touch()
        with pytest.raises(CatalogueConflict, match="exists"):
            catalogue.commit(staged, NAME, WHEN)
    assert [path.name for path in foreign.iterdir()] == ["theirs"]
    assert hidden(catalogue) == []
    with pytest.raises(CatalogueConflict), catalogue.staged(NAME, WHEN):
        pass


# -- bad luck ----------------------------------------------------------------------------------------------------------


def test_a_full_disk(
    catalogue: Catalogue, release: dict[str, Path], signers: Keys, monkeypatch: pytest.MonkeyPatch
) -> None:
    def full(*_: object) -> int:
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(os, "sendfile", full)
    with pytest.raises(DiskFull, match="no space for") as caught:
        put(catalogue, release, signers.trust)
    assert caught.value.exit_code == 3
    assert visible(catalogue) == []
    assert hidden(catalogue) == []


def test_a_file_system_that_is_too_small(release: dict[str, Path], signers: Keys, tmp_path: Path) -> None:
    """The same with a real one, in a mount namespace of its own."""
    root = tmp_path / "small"
    root.mkdir()
    request = {
        "files": {name: str(path) for name, path in release.items()},
        "root": str(root),
        "name": NAME,
        "version": str(VERSION),
        "trust": str(signers.trust_file),
        "now": NOW.isoformat(),
        "stop": False,
    }
    script = 'mount -t tmpfs -o size=64k none "$1"; shift; "$@"; ls -A "$0/targets/$1" >&2'
    become = [] if os.geteuid() == 0 else ["sudo", "-n"]
    argv = [*become, "unshare", "--mount", "sh", "-c", script, str(root), str(root)]
    done = subprocess.run(
        [*argv, sys.executable, "-c", PUBLISHER, json.dumps(request)], capture_output=True, text=True, check=False
    )
    assert "DiskFull: disk-full: no space" in done.stderr
    assert ".sigstore.json" not in done.stderr.splitlines()[-1]


def test_a_catalogue_that_cannot_be_written(release: dict[str, Path], signers: Keys, tmp_path: Path) -> None:
    file = tmp_path / "file"
    file.touch()
    with pytest.raises(CatalogueUnusable) as caught:
        put(Catalogue(file), release, signers.trust)
    assert (caught.value.code, caught.value.exit_code) == ("catalogue-unusable", 3)


def test_holes_stay_holes_and_bytes_stay_bytes(tmp_path: Path) -> None:
    source = tmp_path / "sparse"
    with source.open("wb") as stream:
        stream.write(b"begin")
        stream.seek(40 * MIB)
        stream.write(b"middle" * 100_000)
        stream.truncate(100 * MIB)
    hole, empty = tmp_path / "hole", tmp_path / "empty"
    with hole.open("wb") as stream:
        stream.truncate(10 * MIB)
    empty.touch()
    target = tmp_path / "target"
    target.mkdir()
    copied: list[int] = []
    copy_into(target, {"sparse": source, "hole": hole, "empty": empty}, copied.append)
    assert (target / "sparse").stat().st_blocks * 512 < 2 * MIB
    assert sum(copied) < 2 * MIB
    for name, path in (("sparse", source), ("hole", hole), ("empty", empty)):
        assert subprocess.run(["cmp", path, target / name], check=False).returncode == 0


def test_nothing_is_written_over(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("there")
    with pytest.raises(CatalogueUnusable, match="File exists"):
        copy_into(tmp_path, {"file": tmp_path / "file"}, lambda _: None)
    assert (tmp_path / "file").read_text() == "there"


def test_only_what_a_dead_publisher_left_is_removed(
    catalogue: Catalogue, release: dict[str, Path], signers: Keys
) -> None:
    there = catalogue.root / "targets" / NAME
    left = there / f".{VERSION}.{'0a' * 16}"
    foreign = [there / ".git", there / ".20251121.1.abc", there / ".snapshot.20251121.1"]
    for directory in (left, *foreign):
        directory.mkdir(parents=True)
    file, link = there / f".{VERSION}.{'0b' * 16}", there / f".{VERSION}.{'0c' * 16}"
    file.touch()
    link.symlink_to(foreign[0])
    put(catalogue, release, signers.trust)
    assert sorted(hidden(catalogue)) == sorted([*foreign, file, link])


def test_a_catalogue_that_may_not_be_read(
    catalogue: Catalogue, release: dict[str, Path], signers: Keys, monkeypatch: pytest.MonkeyPatch
) -> None:
    put(catalogue, release, signers.trust)
    real = os.lstat

    def denied(path: str | Path) -> os.stat_result:
        if str(path).startswith(str(catalogue.root)):
            raise PermissionError(errno.EACCES, "Permission denied")
        return real(path)

    monkeypatch.setattr(os, "lstat", denied)
    with pytest.raises(CatalogueUnusable, match="Permission denied"):
        put(catalogue, release, signers.trust)
