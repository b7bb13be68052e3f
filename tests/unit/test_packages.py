"""Package sources and changes, as people and apt see them."""

import pytest

from imagefactory.model.packages import Change, Package, Source, summary
from imagefactory.tools.inventory import read_status


def test_a_source_as_apt_reads_it() -> None:
    source = Source("http://deb.debian.org/debian", "bookworm", ("main", "contrib"), "/etc/apt/keyrings/a.gpg")
    assert (
        source.apt_line()
        == "deb [signed-by=/etc/apt/keyrings/a.gpg] http://deb.debian.org/debian bookworm main contrib"
    )
    assert Source("http://h/", "./", (), None).apt_line().split() == ["deb", "http://h/", "./"]


@pytest.mark.parametrize(
    ("count", "expected"),
    [
        (0, ""),
        (1, "p0 1 -> 2"),
        (3, "p0 1 -> 2, p1 1 -> 2, p2 1 -> 2"),
        (4, "p0 1 -> 2, p1 1 -> 2, p2 1 -> 2 and 1 more"),
        (90, "p0 1 -> 2, p1 1 -> 2, p2 1 -> 2 and 87 more"),
    ],
)
def test_a_summary_is_one_line(count: int, expected: str) -> None:
    assert summary(Change(f"p{number}", "1", "2") for number in range(count)) == expected


def test_a_new_package() -> None:
    assert str(Change("zlib1g", None, "1.3")) == "zlib1g 1.3 is new"


def test_the_installed_packages_of_a_status_file() -> None:
    status = (
        "Package: zlib1g\nStatus: install ok installed\nArchitecture: amd64\nVersion: 1:1.2.13\n"
        "Description: compression\n several lines\n .\n Package: not-me\n\n"
        "Package: gone\nStatus: deinstall ok config-files\nArchitecture: amd64\nVersion: 1\n\n"
        "Package: half\nStatus: install ok half-installed\nArchitecture: amd64\nVersion: 1\n\n"
        "Package: adduser\nStatus: install ok installed\nArchitecture: all\nVersion: 3.134\n\n"
    )
    assert read_status(status.encode()) == [Package("adduser", "3.134", "all"), Package("zlib1g", "1:1.2.13", "amd64")]
