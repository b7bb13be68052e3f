"""What a machine must have is said in two places: for `doctor`, and for the installation."""

import os
from dataclasses import replace
from pathlib import Path

from imagefactory.settings import read_settings
from imagefactory.tools.elements import shipped_elements
from imagefactory.tools.host import FIRMWARE, FOR_ROOT, PROGRAMS, _home, _program, _space

PACKAGES = (shipped_elements().parent / ".ci" / "packages").read_text().split()
# Needed by what we start, by the tests, and by the peers of the bench.
FOR_OTHERS = {"ca-certificates", "debian-archive-keyring", "gdisk", "libcap2-bin", "python3", "python3-venv"}
FOR_TESTS = {"debootstrap", "dosfstools", "grub-pc-bin", "openssl", "procps", "rsync", "softhsm2"}


def test_what_is_installed_is_what_doctor_looks_for() -> None:
    assert set(PACKAGES) == {*PROGRAMS.values(), *FIRMWARE.values()} | FOR_OTHERS | FOR_TESTS


def test_the_list_is_sorted_and_has_nothing_twice() -> None:
    assert sorted(set(PACKAGES)) == PACKAGES


def test_a_program_for_root_that_only_the_caller_finds_is_missing(tmp_path: Path) -> None:
    assert PROGRAMS.keys() > FOR_ROOT
    (tmp_path / "mmdebstrap").touch(mode=0o755)
    settings = replace(read_settings({"HOME": "/h", "PATH": str(tmp_path)}), root_path="/nowhere")
    assert not _program("mmdebstrap", "mmdebstrap", settings).ok


def test_a_home_that_cannot_be_made_is_a_failed_check() -> None:
    settings = read_settings({"HOME": "/root", "IMAGEFACTORY_HOME": "/proc/nowhere"})
    check = _home(settings)
    assert (check.name, check.ok, check.required) == ("home", False, True)
    assert "/proc/nowhere" in check.found
    assert check.fix
    assert "/proc" in _space(settings).found


def test_a_home_is_for_its_owner_only(tmp_path: Path) -> None:
    home = tmp_path / "some" / "home"
    before = os.umask(0)
    try:
        assert _home(read_settings({"HOME": "/h", "IMAGEFACTORY_HOME": str(home)})).ok
    finally:
        os.umask(before)
    assert home.stat().st_mode & 0o777 == 0o700


def test_a_home_that_the_shell_would_split_is_a_failed_check(tmp_path: Path) -> None:
    check = _home(read_settings({"HOME": "/h", "IMAGEFACTORY_HOME": str(tmp_path / "a b")}))
    assert not check.ok
    assert not (tmp_path / "a b").exists()
