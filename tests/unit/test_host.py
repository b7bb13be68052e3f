"""What a machine must have is said in two places: for `doctor`, and for the installation."""

from imagefactory.tools.elements import shipped_elements
from imagefactory.tools.host import FIRMWARE, PROGRAMS

PACKAGES = (shipped_elements().parent / ".ci" / "packages").read_text().split()
# Needed by what we start, and by the tests.
FOR_OTHERS = {"ca-certificates", "debian-archive-keyring", "gdisk", "libcap2-bin", "python3", "python3-venv"}
FOR_TESTS = {"dosfstools", "grub-pc-bin", "openssl", "procps"}


def test_what_is_installed_is_what_doctor_looks_for() -> None:
    assert set(PACKAGES) == {*PROGRAMS.values(), *FIRMWARE.values()} | FOR_OTHERS | FOR_TESTS


def test_the_list_is_sorted_and_has_nothing_twice() -> None:
    assert sorted(set(PACKAGES)) == PACKAGES
