"""What a root file system says of itself: read from its tar, and believed as far as it can be true."""

import io
import tarfile
from collections.abc import Mapping
from contextlib import suppress
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from imagefactory.errors import RootfsUnreadable
from imagefactory.model.packages import Installed, Package
from imagefactory.tools import inventory
from imagefactory.tools.inventory import read_inventory, read_sources, read_status
from imagefactory.tools.licences import MAX_LICENCES, licences
from imagefactory.tools.spdx import spdx

DEP5 = "Format: https://www.debian.org/doc/packaging-manuals/copyright-format/1.0/\n\n"
EXPAT = f"{DEP5}Files: *\nCopyright: me\nLicense: Expat\n Words of it.\n .\n More words.\n"
STATUS = "./var/lib/dpkg/status"


def paragraph(name: str, **fields: str) -> str:
    whole = {"Package": name, "Status": "install ok installed", "Version": "1.0-1", "Architecture": "amd64", **fields}
    return "".join(f"{key}: {value}\n" for key, value in whole.items()) + "\n"


def make_tar(path: Path, files: Mapping[str, str | bytes | tuple[bytes, str]]) -> Path:
    """A tar of files by content, and of links by (kind, target)."""
    with tarfile.open(path, "w", format=tarfile.PAX_FORMAT) as archive:
        for name, content in files.items():
            member = tarfile.TarInfo(name)
            if isinstance(content, tuple):
                member.type, member.linkname = content
                archive.addfile(member)
                continue
            raw = content.encode() if isinstance(content, str) else content
            member.size = len(raw)
            archive.addfile(member, io.BytesIO(raw))
    return path


def read(tmp_path: Path, files: Mapping[str, str | bytes | tuple[bytes, str]]) -> tuple[Installed, ...]:
    return read_inventory(make_tar(tmp_path / "rootfs.tar", files))


def licences_of(tmp_path: Path, files: Mapping[str, str | bytes | tuple[bytes, str]]) -> tuple[str, ...]:
    (found,) = read(tmp_path, {**files, STATUS: paragraph("bash")})
    return found.licences


def test_the_source_packages_whose_code_is_installed() -> None:
    status = paragraph("libssl3", Source="openssl (3.0.17-1)", Version="3.0.17-1+b1") + paragraph("openssl")
    signed = {"Source": "linux-signed-amd64 (6.1.192+2)", "Version": "6.1.192-2", "Built-Using": "linux (= 6.1.192-2)"}
    status += paragraph("linux-image-6.1.0-56-cloud-amd64", **signed) + paragraph("linux-image-cloud-amd64", **signed)
    linked = "golang-1.19 (= 1.19.8-2), golang-golang-x-net (= 1:0.7.0+dfsg-1)"
    status += paragraph("tool", **{"Static-Built-Using": linked}) + paragraph(
        "gone", Status="deinstall ok config-files"
    )
    both = frozenset({"linux-image-6.1.0-56-cloud-amd64", "linux-image-cloud-amd64"})
    assert read_sources(status.encode()) == {
        "openssl": {"3.0.17-1": frozenset({"libssl3"}), "1.0-1": frozenset({"openssl"})},
        "linux-signed-amd64": {"6.1.192+2": both},
        "linux": {"6.1.192-2": both},
        "tool": {"1.0-1": frozenset({"tool"})},
        "golang-1.19": {"1.19.8-2": frozenset({"tool"})},
        "golang-golang-x-net": {"1:0.7.0+dfsg-1": frozenset({"tool"})},
    }


@pytest.mark.parametrize("field", ["Source", "Built-Using", "Static-Built-Using"])
@pytest.mark.parametrize(
    "value", ["linux (>= 6.1)", "../x (= 1)", "linux (= 6 1)", "x" * 300, "linux (= 6.1) | x (= 1)"]
)
def test_source_packages_that_are_none(field: str, value: str) -> None:
    with pytest.raises(RootfsUnreadable, match=field):
        read_sources(paragraph("linux-image", **{field: value}).encode())


def test_a_package_with_all_that_is_known_of_it(tmp_path: Path) -> None:
    status = paragraph("libssl3", Source="openssl (3.0.17-1)", Maintainer="A <a@example.org>", Version="3.0.17-1+b1")
    status += paragraph("bash", Architecture="all") + paragraph("gone", Status="deinstall ok config-files")
    found = read(tmp_path, {"./usr/share/doc/libssl3/copyright": EXPAT, STATUS: status})
    assert found == (
        Installed(Package("bash", "1.0-1", "all"), Package("bash", "1.0-1", "source"), "", ()),
        Installed(
            Package("libssl3", "3.0.17-1+b1", "amd64"),
            Package("openssl", "3.0.17-1", "source"),
            "A <a@example.org>",
            ("Expat",),
        ),
    )


def test_a_package_url_is_that_of_the_specification() -> None:
    package = Package("g++-12", "2:12.2+b1~deb12u1", "amd64")
    url = "pkg:deb/debian/g%2B%2B-12@2:12.2%2Bb1~deb12u1?arch=amd64&distro=bookworm"
    assert package.purl("debian", "bookworm").to_string() == url


DOC = "./usr/share/doc"
LINK, HARD = tarfile.SYMTYPE, tarfile.LNKTYPE


@pytest.mark.parametrize(
    "files",
    [
        {f"{DOC}/bash/copyright": EXPAT},
        {f"{DOC}/common/copyright": EXPAT, f"{DOC}/bash": (LINK, "common")},
        {f"{DOC}/common/copyright": EXPAT, f"{DOC}/bash/copyright": (LINK, "../common/copyright")},
        {f"{DOC}/common/copyright": EXPAT, f"{DOC}/bash/copyright": (LINK, "/usr/share/doc/common/copyright")},
        {f"{DOC}/common/copyright": EXPAT, f"{DOC}/bash/copyright": (HARD, f"{DOC}/common/copyright")},
        {f"{DOC}/a/copyright": EXPAT, f"{DOC}/b": (LINK, "a"), f"{DOC}/bash": (LINK, "b")},
    ],
)
def test_licences_by_every_way_that_debian_has(
    tmp_path: Path, files: Mapping[str, str | bytes | tuple[bytes, str]]
) -> None:
    assert licences_of(tmp_path, files) == ("Expat",)


@pytest.mark.parametrize("target", ["../../../../../etc/copyright", "/etc/copyright", "bash", ".", "nowhere"])
def test_a_link_leads_nowhere_but_to_copyright_files(tmp_path: Path, target: str) -> None:
    outside = tmp_path / "etc"
    outside.mkdir()
    (outside / "copyright").write_text(EXPAT)
    files: dict[str, str | bytes | tuple[bytes, str]] = {"./etc/copyright": EXPAT}
    assert licences_of(tmp_path, {**files, f"{DOC}/bash": (LINK, target)}) == ()
    assert licences_of(tmp_path, {**files, f"{DOC}/bash/copyright": (LINK, target)}) == ()
    assert licences_of(tmp_path, {**files, f"{DOC}/bash/copyright": (HARD, target)}) == ()


@pytest.mark.parametrize(
    "status",
    [
        "",
        paragraph("bash", Status="install ok half-installed"),
        paragraph("Bash"),
        paragraph("../x"),
        paragraph("a" * 300),
        paragraph("bash", Version="1 2"),
        paragraph("bash", Version=""),
        paragraph("bash", Architecture="amd64/x"),
        paragraph("bash", Source="bash (1.0"),
        "Package: bash\nStatus: install ok installed\n\n",
    ],
)
def test_a_status_that_cannot_be_true_is_refused(tmp_path: Path, status: str) -> None:
    with pytest.raises(RootfsUnreadable):
        read(tmp_path, {STATUS: status})


def test_bounds(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    whole = {f"{DOC}/bash/copyright": EXPAT, STATUS: paragraph("bash") + paragraph("dash")}
    assert [each.licences for each in read(tmp_path, whole)] == [("Expat",), ()]
    monkeypatch.setattr(inventory, "MAX_COPYRIGHT", len(EXPAT) - 1)
    assert [each.licences for each in read(tmp_path, whole)] == [(), ()], "a long copyright file is not read"
    monkeypatch.setattr(inventory, "MAX_PACKAGES", 1)
    with pytest.raises(RootfsUnreadable, match="more than 1 packages"):
        read(tmp_path, whole)
    with pytest.raises(RootfsUnreadable, match="documentation of more than 1 packages"):
        read(tmp_path, {**{f"{DOC}/{name}": (LINK, "x") for name in "abcd"}, **whole})
    monkeypatch.setattr(inventory, "MAX_STATUS", 10)
    with pytest.raises(RootfsUnreadable, match="no regular file of at most 10 bytes"):
        read(tmp_path, {STATUS: paragraph("bash")})


def test_a_status_that_is_a_link_is_refused(tmp_path: Path) -> None:
    with pytest.raises(RootfsUnreadable, match="no regular file"):
        read(tmp_path, {STATUS: (LINK, "/var/lib/dpkg/status-old")})


def test_one_long_line_is_no_file_name() -> None:
    """python-debian takes a text of one line for a path, if there is such a file; a long one is none."""
    line = b"a" * 5000
    assert licences(line) == ()
    assert read_status(line) == []


@pytest.mark.parametrize("break_", ["\r", "\x0b", "\x0c", "\x1c", "\x85", "\u2028"])
def test_every_line_break_of_unicode_ends_a_line(break_: str) -> None:
    """So that python-debian sees no value that it would refuse to have been written."""
    text = f"Format: x{break_}y\n\nFiles: *\nLicense: GPL-3+{break_}Expat\n text\n".encode()
    assert licences(text) == ("GPL-3+",)
    with pytest.raises(RootfsUnreadable, match="Package that is none: 'a'"):
        read_status(f"Package: a{break_}b\nStatus: x installed\nMaintainer: x{break_}y\n z\n".encode())


@pytest.mark.parametrize("content", [b"", b"\0" * 512, b"x" * 2000, b"\x1f\x8b\x08" + bytes(600)])
def test_what_is_no_tar_is_refused(tmp_path: Path, content: bytes) -> None:
    (tmp_path / "rootfs.tar").write_bytes(content)
    with pytest.raises(RootfsUnreadable):
        read_inventory(tmp_path / "rootfs.tar")


@settings(max_examples=100)
@given(data=st.data())
def test_a_damaged_tar_is_read_or_refused(tmp_path_factory: pytest.TempPathFactory, data: st.DataObject) -> None:
    path = make_tar(
        tmp_path_factory.getbasetemp() / "damaged.tar",
        {f"{DOC}/bash/copyright": EXPAT, "./" + "long/" * 30 + "name": b"x", STATUS: paragraph("bash")},
    )
    raw = bytearray(path.read_bytes())
    for _ in range(data.draw(st.integers(1, 8))):
        raw[data.draw(st.integers(0, len(raw) - 1))] = data.draw(st.integers(0, 255))
    path.write_bytes(raw[: data.draw(st.integers(0, len(raw)))])
    with suppress(RootfsUnreadable):
        read_inventory(path)


# -- licences ----------------------------------------------------------------------------------------------------------


def test_licences_are_those_of_files() -> None:
    text = f"{EXPAT}\nFiles: x y\nLicense: GPL-2+ or Artistic\n\nFiles: z\n\nLicense: BSD\n Words.\n"
    assert licences(text.encode()) == ("Expat", "GPL-2+ or Artistic")


@pytest.mark.parametrize(
    "text",
    [
        "",
        "This package was debianized by somebody.\n",
        EXPAT.removeprefix(DEP5),
        f"{DEP5}Files: *\nLicense: a\x1b[31mb\n",
        f"{DEP5}Files: *\nLicense: {'a' * 201}\n",
        DEP5 + "".join(f"Files: {n}\nLicense: L{n}\n\n" for n in range(MAX_LICENCES + 1)),
    ],
)
def test_what_does_not_say_so_for_machines_has_no_licence(text: str) -> None:
    assert licences(text.encode()) == ()


@pytest.mark.parametrize(
    ("name", "expression"),
    [
        ("Expat", "MIT"),
        ("GPL-2", "GPL-2.0-only"),
        ("GPL-2+", "GPL-2.0-or-later"),
        ("gpl-3.0+", "GPL-3.0-or-later"),
        ("LGPL-2.1", "LGPL-2.1-only"),
        ("GFDL-NIV-1.3+", "GFDL-1.3-no-invariants-or-later"),
        ("BSD-3-clause", "BSD-3-Clause"),
        ("Apache-2.0", "Apache-2.0"),
        ("GPL-1+ or Artistic", "GPL-1.0-or-later OR Artistic-1.0"),
        ("GPL-1+ or Artistic, and Expat", "(GPL-1.0-or-later OR Artistic-1.0) AND MIT"),
        ("ISC and BSD-2-clause", "ISC AND BSD-2-Clause"),
        ("GPL", None),
        ("GPL-9", None),
        ("public-domain", None),
        ("GPL-2+ with OpenSSL exception", None),
        ("Expat and public-domain", None),
        ("Expat, or public-domain", None),
        ("ISC and/or LGPL-2.1+", None),
        ("", None),
    ],
)
def test_a_name_of_debian_in_the_words_of_spdx(name: str, expression: str | None) -> None:
    assert spdx(name) == expression


@given(st.one_of(st.binary(), st.text().map(str.encode), st.text().map(lambda text: (DEP5 + text).encode())))
def test_any_copyright_file_is_read(content: bytes) -> None:
    for name in licences(content):
        assert name.isprintable()
        spdx(name)


@given(
    st.one_of(st.binary(), st.text().map(str.encode), st.text().map(lambda text: (paragraph("bash") + text).encode()))
)
def test_any_status_is_read_or_refused(content: bytes) -> None:
    with suppress(RootfsUnreadable):
        read_status(content)
