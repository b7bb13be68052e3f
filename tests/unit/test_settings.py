"""What the environment says."""

import os
import pwd
import sys
from pathlib import Path

import pytest

from imagefactory.errors import HomeUnusable, UsageError
from imagefactory.settings import SYSTEM_PATH, account_of, read_settings

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


def test_root_does_not_follow_the_path_of_the_caller() -> None:
    settings = read_settings({"HOME": "/h", "PATH": "/a:/b", "IMAGEFACTORY_PATH": "/c", "http_proxy": "http://p:1"})
    assert settings.root_environment["PATH"].split(":") == ["/c", OWN, *SYSTEM_PATH.split(":")]
    assert {**settings.root_environment, "PATH": settings.path} == settings.environment


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


def test_the_password_of_a_proxy_is_not_shown() -> None:
    settings = read_settings({"HOME": "/h", "https_proxy": "http://me:hunter2@proxy.example:3128"})
    assert settings.environment["https_proxy"].endswith("@proxy.example:3128")
    assert "hunter2" not in repr(settings)


@pytest.mark.parametrize(
    "home", ["/a b", "/a:b", "/a;b", "/a$b", "/a'b", '/a"b', "/a*b", "/a\nb", "/a,b", "/a[b]", "/a%b"]
)
def test_a_home_that_others_misread_is_refused(home: str) -> None:
    with pytest.raises(HomeUnusable, match="white space") as caught:
        read_settings({"HOME": "/h", "IMAGEFACTORY_HOME": home}).check_home()
    assert caught.value.advice


@pytest.mark.parametrize("home", ["/home/me/.local/share/imagefactory", "/srv/a-b_c.d+e@f~g", "/home/jürgen/x"])
def test_an_ordinary_home(home: str) -> None:
    read_settings({"HOME": "/h", "IMAGEFACTORY_HOME": home}).check_home()


NOBODY = pwd.getpwnam("nobody").pw_uid
UNKNOWN = 4_000_000_123


@pytest.mark.parametrize(
    ("uid", "environ", "account"),
    [
        (0, {}, "root"),
        (0, {"SUDO_USER": "ana"}, "ana"),
        (0, {"SUDO_USER": "CORP\\ana.b@corp.example"}, "CORP\\ana.b@corp.example"),
        (0, {"SUDO_USER": ""}, "root"),
        (0, {"SUDO_USER": "ana\n"}, "root"),
        (0, {"SUDO_USER": "\x1b[2Jana"}, "root"),
        (0, {"SUDO_USER": "a" * 256}, "root"),
        (NOBODY, {"SUDO_USER": "ana", "USER": "ana", "LOGNAME": "ana"}, "nobody"),
        (UNKNOWN, {"SUDO_USER": "ana", "USER": "ana"}, str(UNKNOWN)),
    ],
)
def test_who_works_is_told_by_the_uid(uid: int, environ: dict[str, str], account: str) -> None:
    assert account_of(uid, environ) == account


def test_the_account_is_that_of_the_real_uid(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(os, "getuid", lambda: NOBODY)
    monkeypatch.setattr(os, "geteuid", lambda: 0)
    assert read_settings({"HOME": "/h", "SUDO_USER": "ana"}).account == "nobody"
