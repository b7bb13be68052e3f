"""What the environment says."""

import sys
from pathlib import Path

import pytest

from imagefactory.errors import UsageError
from imagefactory.settings import SYSTEM_PATH, read_settings

OWN = str(Path(sys.executable).parent)


def path(**environ: str) -> list[str]:
    return read_settings({"HOME": "/home/me", **environ}).path.split(":")


def test_defaults() -> None:
    settings = read_settings({"HOME": "/home/me"})
    assert settings.home == Path("/home/me/.local/share/imagefactory")
    assert settings.keys == settings.home / "keys"
    assert settings.trust_files() == (settings.home / "trust.json", Path("/etc/imagefactory/trust.json"))
    assert settings.elements_path == ()
    assert settings.environment == {"LC_ALL": "C.UTF-8", "TZ": "UTC", "PATH": settings.path}


def test_a_trust_file_that_is_named_is_the_only_one() -> None:
    settings = read_settings({"HOME": "/h", "IMAGEFACTORY_TRUST": "/trust"})
    assert settings.trust_files() == (Path("/trust"),)
    assert settings.trust_files(Path("given")) == (Path("given"),)


def test_where_programs_come_from() -> None:
    assert path() == [OWN, *SYSTEM_PATH.split(":")]
    assert path(PATH="/a:/b", IMAGEFACTORY_PATH="/c:/d")[:5] == ["/c", "/d", OWN, "/a", "/b"]


@pytest.mark.parametrize("inherited", ["", ":", "::", ".", "bin", "/a:", ":/a", "/a::/b", "/a:.:../x", "~/bin"])
def test_the_current_directory_is_never_searched(inherited: str) -> None:
    assert all(part.startswith("/") for part in path(PATH=inherited))


def test_nothing_is_searched_twice() -> None:
    parts = path(PATH=f"/usr/bin:{OWN}:/usr/bin")
    assert len(set(parts)) == len(parts)


def test_only_what_programs_need_reaches_them() -> None:
    environ = {"HOME": "/h", "OS_PASSWORD": "hunter2", "LD_PRELOAD": "/x", "HTTP_PROXY": "http://p:1", "no_proxy": "a"}
    assert read_settings(environ).environment.keys() == {"LC_ALL", "TZ", "PATH", "http_proxy", "no_proxy"}
    assert "hunter2" not in repr(read_settings(environ))


def test_a_proxy_in_small_letters_wins() -> None:
    assert read_settings({"HOME": "/h", "http_proxy": "a", "HTTP_PROXY": "b"}).proxies == {"http_proxy": "a"}


@pytest.mark.parametrize(
    "environ",
    [
        {"IMAGEFACTORY_HOME": "home"},
        {"IMAGEFACTORY_TRUST": "./trust.json"},
        {"IMAGEFACTORY_ELEMENTS": "/a:elements"},
        {"IMAGEFACTORY_PATH": "bin"},
        {"HOME": "relative"},
    ],
)
def test_a_path_of_ours_is_absolute(environ: dict[str, str]) -> None:
    with pytest.raises(UsageError, match="is not an absolute path") as caught:
        read_settings({"HOME": "/h", **environ})
    assert caught.value.code == "usage"


def test_elements() -> None:
    settings = read_settings({"HOME": "/h", "IMAGEFACTORY_ELEMENTS": "/a::/b"})
    assert settings.elements_path == (Path("/a"), Path("/b"))
