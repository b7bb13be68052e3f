"""Digests of what was installed, as the package lists of the build say, and none that they do not say."""

from hashlib import sha256
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from imagefactory.model.packages import Package, Source
from imagefactory.tools.package_lists import archives, in_releases

BASH = Package("bash", "5.2.15-2", "amd64")
ONE, TWO = "1" * 64, "2" * 64


def entry(package: Package, digest: str) -> str:
    return (
        f"Package: {package.name}\nVersion: {package.version}\nInstalled-Size: 1\nDescription: words\n Package: no\n"
        f"Architecture: {package.architecture}\nSHA256: {digest}\n\n"
    )


def lists(tmp_path: Path, *contents: str) -> Path:
    for number, content in enumerate(contents):
        (tmp_path / f"mirror_dists_{number}_main_binary-amd64_Packages").write_text(content)
    return tmp_path


def test_the_digest_of_an_archive(tmp_path: Path) -> None:
    older, other = Package("bash", "5.2.15-1", "amd64"), Package("bash", "5.2.15-2", "i386")
    where = lists(
        tmp_path, entry(older, TWO) + entry(other, TWO) + entry(BASH, ONE), entry(Package("no", "1", "all"), TWO)
    )
    assert archives(where, [BASH]) == {BASH: ONE}


def test_the_last_paragraph_may_end_with_the_file(tmp_path: Path) -> None:
    assert archives(lists(tmp_path, entry(BASH, ONE).rstrip("\n")), [BASH]) == {BASH: ONE}


def test_lists_that_agree(tmp_path: Path) -> None:
    assert archives(lists(tmp_path, entry(BASH, ONE), entry(BASH, ONE)), [BASH]) == {BASH: ONE}


@pytest.mark.parametrize(
    "contents",
    [
        [],
        [""],
        [entry(Package("bash", "5.2.15-1", "amd64"), ONE)],
        [entry(BASH, ONE), entry(BASH, TWO)],
        [entry(BASH, "")],
        [entry(BASH, "1" * 63)],
        [entry(BASH, ONE), entry(BASH, "")],
    ],
)
def test_nothing_is_guessed(tmp_path: Path, contents: list[str]) -> None:
    assert archives(lists(tmp_path, *contents), [BASH]) == {}


@given(
    st.one_of(st.binary(), st.text().map(str.encode), st.text().map(lambda text: (entry(BASH, ONE) + text).encode()))
)
def test_any_list_is_read(tmp_path_factory: pytest.TempPathFactory, content: bytes) -> None:
    where = tmp_path_factory.getbasetemp()
    (where / "any_Packages").write_bytes(content)
    assert set(archives(where, [BASH]).values()) <= {ONE}


def source(uri: str, suite: str = "bookworm") -> Source:
    return Source(uri, suite, ("main",), None)


@pytest.mark.parametrize(
    ("uri", "name", "url"),
    [
        ("http://deb.debian.org/debian", "deb.debian.org_debian", "http://deb.debian.org/debian"),
        ("https://a.example:8080/x_y/", "a.example:8080_x%5fy", "https://a.example:8080/x_y"),
        ("http://user:secret@a.example/d", "a.example_d", "http://a.example/d"),
        ("file:/srv/mirror", "_srv_mirror", "file:/srv/mirror"),
    ],
)
@pytest.mark.parametrize("kind", ["InRelease", "Release"])
def test_the_inrelease_file_of_each_suite(tmp_path: Path, uri: str, name: str, url: str, kind: str) -> None:
    (tmp_path / f"{name}_dists_bookworm_{kind}").write_text("signed")
    found = in_releases(tmp_path, [source(uri), source(uri, "other")])
    assert found == {
        f"{url}/dists/bookworm/{kind}": sha256(b"signed").hexdigest(),
        f"{url}/dists/other/InRelease": None,
    }
