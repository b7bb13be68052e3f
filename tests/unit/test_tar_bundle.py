"""What is carried from one catalogue to another: only files that a catalogue can have come out, or nothing."""

import io
import os
import tarfile
from collections.abc import Callable
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from imagefactory.errors import CatalogueDamaged, DiskFull
from imagefactory.tools import tar_bundle
from imagefactory.tools.tar_bundle import packing, unpack
from signing.errors import SigningError

DIGEST = "0a" * 32
GOOD = {
    "metadata/1.root.json": b"{}",
    "metadata/12.soe-debian-12.json": b"{}",
    "metadata/timestamp.json": b"{}",
    f"targets/{DIGEST}.trust.json": b"{}",
    f"targets/soe-debian-12/{DIGEST}.20251121.1.sigstore.json": b"{}",
    "targets/soe-debian-12/20251121.1/SHA256SUMS": b"",
    "targets/soe-debian-12/20251121.1/soe-debian-12-20251121.1.qcow2": b"QFI\xfb" * 50_000,
}
BAD = [
    "",
    "/etc/passwd",
    "../x",
    "metadata/../../x",
    "metadata/timestamp.json/x",
    "metadata/root.json",
    "metadata/01.root.json",
    "metadata/1.ROOT.json",
    "metadata/1...json",
    "metadata/.lock",
    "targets/trust.json",
    "targets/soe/20251121.1",
    "targets/soe/20251121.1/",
    "targets/soe/20251121.1/.hidden",
    "targets/soe/20251121.1/..",
    "targets/soe/20251121.1/a/b",
    "targets/../20251121.1/x",
    "targets/soe/latest/x",
    "targets/soe/20251121.1/a\nb",
    "./metadata/timestamp.json",
]


def files_in(folder: Path) -> dict[str, bytes]:
    return {str(path.relative_to(folder)): path.read_bytes() for path in folder.rglob("*") if path.is_file()}


def written(path: Path, write: Callable[[tarfile.TarFile], object]) -> Path:
    with tarfile.open(path, "w:") as tar:
        write(tar)
    return path


def member(name: str, content: bytes = b"", **fields: object) -> Callable[[tarfile.TarFile], None]:
    def write(tar: tarfile.TarFile) -> None:
        info = tarfile.TarInfo(name)
        info.size = len(content)
        for key, value in fields.items():
            setattr(info, key, value)
        tar.addfile(info, io.BytesIO(content) if info.isreg() else None)

    return write


def refused(bundle: Path, into: Path) -> str:
    into.mkdir(exist_ok=True)
    try:
        unpack(bundle, into)
    except (CatalogueDamaged, SigningError) as error:
        return str(error.code)
    return "nothing was wrong"


def test_what_is_packed_is_unpacked(tmp_path: Path) -> None:
    with packing(tmp_path / "bundle.tar") as packer:
        for path, content in GOOD.items():
            packer.add(path, content)
    unpack(tmp_path / "bundle.tar", tmp_path / "out")
    assert files_in(tmp_path / "out") == GOOD
    with tarfile.open(tmp_path / "bundle.tar") as tar:
        assert {(each.uid, each.gid, each.uname, each.mode) for each in tar} == {(0, 0, "", 0o644)}


@pytest.mark.parametrize("name", BAD)
def test_a_path_that_no_catalogue_has(tmp_path: Path, name: str) -> None:
    bundle = written(tmp_path / "bundle.tar", member(name, b"x"))
    assert refused(bundle, tmp_path / "out") == "catalogue-damaged"
    assert sorted(path.name for path in tmp_path.iterdir()) == ["bundle.tar", "out"]


@pytest.mark.parametrize(
    "kind", [tarfile.SYMTYPE, tarfile.LNKTYPE, tarfile.DIRTYPE, tarfile.FIFOTYPE, tarfile.CHRTYPE, tarfile.CONTTYPE]
)
def test_what_is_no_file(tmp_path: Path, kind: bytes) -> None:
    write = member("metadata/timestamp.json", type=kind, linkname="/etc/passwd")
    assert refused(written(tmp_path / "bundle.tar", write), tmp_path / "out") == "catalogue-damaged"
    assert files_in(tmp_path / "out") == {}


def test_a_file_with_holes(tmp_path: Path) -> None:
    """A few bytes that would be petabytes."""
    headers = {"GNU.sparse.major": "1", "GNU.sparse.minor": "0", "GNU.sparse.realsize": str(1 << 50)}
    write = member("targets/soe/20251121.1/x", b"1\n0\n1\n".ljust(512, b"\0"), pax_headers=headers)
    assert refused(written(tmp_path / "bundle.tar", write), tmp_path / "out") == "catalogue-damaged"
    assert files_in(tmp_path / "out") == {}


def test_twice(tmp_path: Path) -> None:
    def write(tar: tarfile.TarFile) -> None:
        for content in (b"one", b"other"):
            member("metadata/timestamp.json", content)(tar)

    assert refused(written(tmp_path / "bundle.tar", write), tmp_path / "out") == "catalogue-damaged"


@pytest.mark.parametrize(
    ("path", "most"),
    [("metadata/timestamp.json", 5_000_000), (f"targets/{DIGEST}.trust.json", 1 << 20)],
)
def test_a_document_that_is_too_long(tmp_path: Path, path: str, most: int) -> None:
    assert refused(written(tmp_path / "good.tar", member(path, bytes(most))), tmp_path / "a") == "nothing was wrong"
    assert refused(written(tmp_path / "bad.tar", member(path, bytes(most + 1))), tmp_path / "b") == "catalogue-damaged"
    assert files_in(tmp_path / "b") == {}


def test_too_many(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(tar_bundle, "MOST_MEMBERS", 3)

    def write(tar: tarfile.TarFile) -> None:
        for number in range(1, 5):
            member(f"metadata/{number}.root.json")(tar)

    assert refused(written(tmp_path / "bundle.tar", write), tmp_path / "out") == "catalogue-damaged"


def test_a_header_that_would_fill_the_memory(tmp_path: Path) -> None:
    write = member("metadata/timestamp.json", pax_headers={"comment": "x" * (2 << 20)})
    assert refused(written(tmp_path / "bundle.tar", write), tmp_path / "out") == "catalogue-damaged"


@pytest.mark.parametrize("how", ["gz", "xz"])
def test_compressed(tmp_path: Path, how: str) -> None:
    """A small file may become a large one."""
    with tarfile.open(tmp_path / "bundle.tar", f"w:{how}") as tar:  # type: ignore[call-overload]
        member("metadata/timestamp.json", b"{}")(tar)
    assert refused(tmp_path / "bundle.tar", tmp_path / "out") == "catalogue-damaged"


def test_no_bundle(tmp_path: Path) -> None:
    (tmp_path / "text").write_text("nothing of the kind")
    assert refused(tmp_path / "text", tmp_path / "out") == "catalogue-damaged"
    (tmp_path / "empty").touch()
    assert refused(tmp_path / "empty", tmp_path / "out") == "catalogue-damaged"
    assert refused(tmp_path / "missing", tmp_path / "out") == "unreadable"
    assert refused(Path("/dev/zero"), tmp_path / "out") == "not-a-regular-file"


def test_a_bundle_that_was_cut_off(tmp_path: Path) -> None:
    with packing(tmp_path / "bundle.tar") as packer:
        packer.add("targets/soe/20251121.1/x", b"x" * 5000)
    whole = (tmp_path / "bundle.tar").read_bytes()
    for at in (100, 511, 513, 1024, 4000, 5511):
        (tmp_path / "cut.tar").write_bytes(whole[:at])
        assert refused(tmp_path / "cut.tar", tmp_path / str(at)) == "catalogue-damaged", at


def test_a_full_disk(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    bundle = written(tmp_path / "bundle.tar", member("metadata/timestamp.json", b"{}"))

    def full(*_: object, **__: object) -> None:
        raise OSError(28, os.strerror(28))

    monkeypatch.setattr(Path, "mkdir", full)
    with pytest.raises(DiskFull):
        unpack(bundle, tmp_path)


@given(raw=st.binary(max_size=2000), at=st.integers(0, 3000))
def test_anything_at_all(tmp_path_factory: pytest.TempPathFactory, raw: bytes, at: int) -> None:
    """Somebody writes over a part of a good one: what comes out lies where it may, or nothing does."""
    folder = tmp_path_factory.mktemp("any")
    with packing(folder / "bundle.tar") as packer:
        for path, content in list(GOOD.items())[:5]:
            packer.add(path, content)
    whole = bytearray((folder / "bundle.tar").read_bytes())
    whole[at : at + len(raw)] = raw
    (folder / "bundle.tar").write_bytes(whole)
    refused(folder / "bundle.tar", folder / "out")
    assert {path.name for path in folder.iterdir()} == {"bundle.tar", "out"}
    assert {path.parts[0] for path in map(Path, files_in(folder / "out"))} <= {"metadata", "targets"}
