"""SCAP content and scanner packages: what apt offers is fetched once, checked, and kept. apt is a fake, dpkg-deb is
real."""

import os
import stat
from collections.abc import Mapping
from hashlib import sha256
from pathlib import Path

import pytest

from imagefactory.errors import ContentInvalid, ContentMissing, MirrorUnreachable, PackageMissing, ScanFailed
from imagefactory.model.packages import Source
from imagefactory.tools import scap
from imagefactory.tools.apt import Index
from imagefactory.tools.scap import CONTENT_FOLDER, OWN, DataStream, Kit, data_stream, fetch
from tests.fakes.scanner import make_package, make_scanner

# `download` copies the archives that are offered; --print-uris lists those of the file that is named for the verb.
APT_GET = """\
#!/bin/sh
set -eu
printf '%s\\n' "$*" >> {root}/calls
print='' verb=''
for word in "$@"; do
    case "$word" in
        --print-uris) print=yes ;;
        download | install | update | indextargets) verb=$word ;;
        Dir::State::lists=*) lists=${{word#*=}} ;;
    esac
done
case "$print$verb" in
    indextargets) echo "http://mirror.invalid/debian/|bookworm|main|" ;;
    update)
        echo x > "$lists/mirror.invalid_debian_dists_bookworm_InRelease"
        echo x > "$lists/mirror.invalid_debian_dists_trixie_InRelease"
        ;;
    yesdownload | yesinstall)
        [ -e "{root}/${{verb}}.list" ] || exit 100
        cat "{root}/${{verb}}.list"
        ;;
    download) cp {root}/pool/*.deb . ;;
esac
"""
STATUS = "Package: bash\nStatus: install ok installed\nVersion: 5\nArchitecture: amd64\n"


class Mirror:
    """What the fake apt offers, and where things are kept."""

    def __init__(self, root: Path) -> None:
        self.root = root
        self.home = root / "home" / "scap"
        self.home.parent.mkdir()
        self.pool = root / "pool"
        self.pool.mkdir()
        self.status = root / "status"
        self.status.write_text(STATUS)
        programs = root / "bin"
        programs.mkdir()
        (programs / "apt-get").write_text(APT_GET.format(root=root))
        (programs / "apt-get").chmod(0o755)
        self.environment = {"PATH": f"{programs}:/usr/sbin:/usr/bin:/sbin:/bin", "LC_ALL": "C.UTF-8"}

    def offer(self, verb: str, *archives: Path, digest: str | None = None) -> None:
        lines = []
        for archive in archives:
            archive.rename(self.pool / archive.name)
            raw = (self.pool / archive.name).read_bytes()
            lines.append(f"'http://h/{archive.name}' {archive.name} {len(raw)} SHA256:{digest or _digest(raw)}\n")
        (self.root / f"{verb}.list").write_text("".join(lines))

    def calls(self, verb: str) -> int:
        """How often apt was called to do that, and not only to say what it would do."""
        lines = (self.root / "calls").read_text().splitlines()
        return sum(verb in line.split() and "--print-uris" not in line for line in lines)

    def content(self, codename: str = "bookworm", own: Path | None = None) -> DataStream:
        return data_stream(self.home, codename, own, self.environment)

    def index(self) -> Index:
        index = Index(self.root / "index", (Source("http://h", "bookworm", ("main",), None),), self.environment)
        index.directory.mkdir(exist_ok=True)
        return index

    def kit(self) -> Kit:
        return fetch(self.home, DataStream(self.root / "c.xml", "ab" * 32, OWN), self.status, self.index())


def _digest(raw: bytes) -> str:
    return sha256(raw).hexdigest()


@pytest.fixture
def mirror(tmp_path: Path) -> Mirror:
    return Mirror(tmp_path)


def guide(mirror: Mirror, files: Mapping[str, str], version: str = "0.1.76-1") -> Path:
    return make_package(mirror.root, "ssg-debian", {f"{CONTENT_FOLDER}/{n}": c for n, c in files.items()}, version)


def test_content_is_fetched_once(mirror: Mirror) -> None:
    mirror.offer("download", guide(mirror, {"ssg-debian12-ds.xml": "<a/>", "ssg-debian12-oval.xml": "<b/>"}))
    found = mirror.content()
    assert (found.path.read_text(), found.version, found.sha256) == ("<a/>", "0.1.76-1", _digest(b"<a/>"))
    assert mirror.content() == found
    assert (mirror.calls("download"), mirror.calls("update")) == (1, 1)
    assert stat.S_IMODE(mirror.home.stat().st_mode) == 0o700
    assert not list(mirror.home.glob(".new-*"))


def test_what_is_used_again_is_not_old(mirror: Mirror) -> None:
    mirror.offer("download", guide(mirror, {"ssg-debian12-ds.xml": "<a/>"}))
    kept = mirror.content().path.parent
    os.utime(kept, (0, 0))
    mirror.content()
    assert kept.stat().st_mtime > 0


def test_a_new_version_of_the_content_is_taken_within_a_day(mirror: Mirror, monkeypatch: pytest.MonkeyPatch) -> None:
    mirror.offer("download", guide(mirror, {"ssg-debian12-ds.xml": "<a/>"}))
    mirror.content()
    for old in mirror.pool.iterdir():
        old.unlink()
    (mirror.root / "ssg-debian.build").rename(mirror.root / "older")
    mirror.offer("download", guide(mirror, {"ssg-debian12-ds.xml": "<newer/>"}, "0.1.78-1"))
    monkeypatch.setattr(scap, "REFRESH", 0.0)
    assert mirror.content().version == "0.1.78-1"
    assert mirror.calls("update") == 2


def test_no_content_for_a_release(mirror: Mirror) -> None:
    with pytest.raises(ContentMissing, match="no content for bullseye"):
        mirror.content("bullseye")
    mirror.offer("download", guide(mirror, {"ssg-debian12-ds.xml": "<a/>"}))
    with pytest.raises(ContentMissing, match=r"0\.1\.76-1 has no ssg-debian13-ds\.xml"):
        mirror.content("trixie")


def test_content_of_the_recipe_needs_no_mirror(mirror: Mirror) -> None:
    own = mirror.root / "own.xml"
    own.write_text("<a/>")
    assert mirror.content("bullseye", own) == DataStream(own, _digest(b"<a/>"), OWN)
    assert not (mirror.root / "calls").exists()
    for hostile in ("/dev/zero", "/nonexistent", "/etc"):
        with pytest.raises(ContentInvalid):
            mirror.content(own=Path(hostile))


def test_a_download_that_is_not_what_was_promised(mirror: Mirror) -> None:
    mirror.offer("download", guide(mirror, {"ssg-debian12-ds.xml": "<a/>"}), digest="ab" * 32)
    with pytest.raises(MirrorUnreachable, match="not what the package lists say"):
        mirror.content()
    assert {path.name for path in mirror.home.iterdir()} == {"apt"}


def test_a_scanner_for_a_system(mirror: Mirror) -> None:
    mirror.offer("install", *make_scanner(mirror.root))
    kit = mirror.kit()
    assert [path.name for path in kit.scanner] == ["libopenscap_1.3.7_amd64.deb", "openscap-scanner_1.3.7_amd64.deb"]
    assert kit.scanner_version == "1.3.7"
    assert Kit.from_json(kit.to_json()) == kit
    assert mirror.kit() == kit
    assert mirror.calls("download") == 1
    said = (mirror.root / "calls").read_text()
    assert f"Dir::State::status={mirror.status}" in said
    assert "--no-install-recommends" in said


def test_a_system_that_has_a_scanner(mirror: Mirror) -> None:
    mirror.offer("install")
    mirror.status.write_text(STATUS + "\n" + STATUS.replace("bash", "openscap-scanner").replace("5", "1.3.6"))
    assert (mirror.kit().scanner, mirror.kit().scanner_version) == ((), "1.3.6")


def test_packages_without_a_scanner(mirror: Mirror) -> None:
    mirror.offer("install", make_scanner(mirror.root)[0])
    with pytest.raises(ScanFailed, match="and not that one"):
        mirror.kit()


def test_nobody_offers_a_scanner(mirror: Mirror) -> None:
    with pytest.raises(PackageMissing):
        mirror.kit()


@pytest.mark.parametrize(
    "line",
    [
        "'http://h/a.deb' a_1_amd64.deb 12 MD5Sum:d182e0360ede1954c3e44b89ba928da9",
        f"'http://h/a.deb' ../a_1_amd64.deb 12 SHA256:{'a' * 64}",
        f"'http://h/a.deb' a_1_amd64.deb -1 SHA256:{'a' * 64}",
        "E: something",
    ],
)
def test_what_apt_would_fetch_has_a_name_and_a_digest(mirror: Mirror, line: str) -> None:
    (mirror.root / "install.list").write_text(f"{line}\n")
    with pytest.raises(MirrorUnreachable, match="without a SHA-256"):
        mirror.kit()


def test_an_epoch_in_a_name(mirror: Mirror) -> None:
    name = "openscap-scanner_2%3a8.39-15_amd64.deb"
    made = make_package(mirror.root, "openscap-scanner", {"usr/bin/oscap": "x"})
    mirror.offer("install", made.rename(mirror.root / name))
    assert mirror.kit().scanner_version == "2:8.39-15"
    assert "openscap-scanner:amd64=2:8.39-15" in (mirror.root / "calls").read_text()


def test_more_than_one_would_ever_need(mirror: Mirror) -> None:
    line = f"'http://h/a.deb' openscap-scanner_1_amd64.deb {1 << 40} SHA256:{'a' * 64}\n"
    (mirror.root / "install.list").write_text(line)
    with pytest.raises(MirrorUnreachable, match="more than"):
        mirror.kit()
    assert mirror.calls("download") == 0
