"""What diskimage-builder's log says, in words of ours."""

from pathlib import Path

import pytest

from imagefactory.errors import DiskFull, FactoryError, MirrorUnreachable, PackageMissing, ProgramFailed, RootfsFailed
from imagefactory.tools.dib import LogFollower, _explain, describe

STAMP = "2025-11-21 19:00:00.123 |"


@pytest.mark.parametrize(
    ("line", "expected"),
    [
        (f"{STAMP} dib-run-parts Running /tmp/s/dib_build.x/hooks/root.d/08-debootstrap", "root: 08-debootstrap"),
        (f"{STAMP} dib-run-parts Running /tmp/in_target.d/install.d/50-soe-base", "install: 50-soe-base"),
        (f"{STAMP} dib-run-parts Running /tmp/in_target.d/pre-install.d/02-apt", "pre-install: 02-apt"),
        (f"{STAMP} I: installing packages...", "bootstrap: installing packages"),
        (f"{STAMP} I: Retrieving InRelease", None),
        (f"{STAMP} dib-run-parts 08-debootstrap completed", None),
        (f"{STAMP} + echo dib-run-parts", None),
        ("", None),
    ],
)
def test_what_a_line_says_about_progress(line: str, expected: str | None) -> None:
    assert describe(line) == expected


@pytest.mark.parametrize(
    ("text", "kind", "message"),
    [
        ("tar: x: Cannot write: No space left on device", DiskFull, "the build ran out of space"),
        ("E: Unable to locate package nonsense", PackageMissing, "no source offers nonsense"),
        ("E: Package 'old' has no installation candidate", PackageMissing, "no source offers old"),
        ("E: Failed to fetch http://m/x.deb  404", MirrorUnreachable, "could not fetch http://m/x.deb"),
        ("  Could not resolve 'deb.debian.org'", MirrorUnreachable, "could not reach deb.debian.org"),
        ("  Could not connect to 10.0.0.1:80", MirrorUnreachable, "could not reach 10.0.0.1:80"),
        ("something else", RootfsFailed, "diskimage-builder failed in install: 50-x"),
    ],
)
def test_what_a_failure_means(tmp_path: Path, text: str, kind: type[FactoryError], message: str) -> None:
    log = tmp_path / "rootfs.log"
    before = f"{STAMP} dib-run-parts Running /tmp/in_target.d/install.d/50-x\n"
    log.write_text(f"{before}{STAMP} {text}\n{STAMP} + exit 1\n")
    error = _explain(log, ProgramFailed("no", lines=(f"{STAMP} {text}", f"{STAMP} + exit 1")))
    assert type(error) is kind
    assert error.message == message
    assert error.log == log
    assert error.lines
    assert all(text in line for line in error.lines), "lines of the shell's trace are left out"


def test_it_failed_before_it_began(tmp_path: Path) -> None:
    log = tmp_path / "rootfs.log"
    log.write_bytes(b"\xff\xfe\n")
    assert _explain(log, ProgramFailed("no")).message == "diskimage-builder failed in its start"


def test_a_follower_tells_the_last_thing_that_is_new(tmp_path: Path) -> None:
    said: list[str] = []
    log = tmp_path / "log"
    follow = LogFollower(log, said.append)
    follow()
    with log.open("a") as stream:
        stream.write(f"{STAMP} dib-run-parts Running /tmp/in_target.d/install.d/1\n")
        stream.write(f"{STAMP} dib-run-parts Running /tmp/in_target.d/install.d/2\nnoise\n")
        stream.flush()
        follow()
        follow()
        stream.write(f"{STAMP} dib-run-parts Running /tmp/in_target.d/install.d/3\n")
    follow()
    assert said == ["install: 2", "install: 3"]
