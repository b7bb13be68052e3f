"""Conversion with the real qemu-img: what comes out, and every kind of file that must not get that far."""

import hashlib
import json
import os
import random
import shutil
import signal
import subprocess
import sys
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any

import pytest

from imagefactory.cli.app import run
from imagefactory.errors import ConversionUnsupported, FormatMismatch, ImageTooLarge, OutputExists
from imagefactory.steps.convert import Converted, convert, examine
from imagefactory.tools.inspect import inspect, opened
from imagefactory.tools.qemu_img import Qcow2Options, _Percentages
from tests.passable import let_others_pass

ENV = {"PATH": "/usr/sbin:/usr/bin:/sbin:/bin", "LC_ALL": "C.UTF-8", "TZ": "UTC"}
MIB = 1 << 20
SIZE = 8 * MIB
DATA = random.Random(0).randbytes(MIB)  # noqa: S311 - does not compress, and is the same every time
ROOT = os.geteuid() == 0


def qemu_img(*argv: str | Path) -> str:
    return subprocess.run(["qemu-img", *argv], check=True, capture_output=True, text=True, env=ENV).stdout


@pytest.fixture(scope="module")
def images(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A directory with one of everything."""
    folder = tmp_path_factory.mktemp("images")
    raw, qcow2 = folder / "disk.raw", folder / "disk.qcow2"
    with raw.open("wb") as stream:
        stream.truncate(SIZE)
        stream.seek(MIB)
        stream.write(DATA)
        stream.seek(5 * MIB)
        stream.write(b"text" * 100_000)
    qemu_img("convert", "-f", "raw", "-O", "qcow2", raw, qcow2)
    packed = folder / "packed.qcow2"
    qemu_img("convert", "-c", "-f", "raw", "-O", "qcow2", raw, packed)
    whole = qcow2.read_bytes()
    (folder / "cut-100.qcow2").write_bytes(whole[:100])
    (folder / "cut-600.qcow2").write_bytes(whole[:600])
    (folder / "cut-middle.qcow2").write_bytes(whole[: len(whole) // 2])
    (folder / "cut-packed.qcow2").write_bytes(packed.read_bytes()[: packed.stat().st_size // 2])
    qemu_img("create", "-f", "qcow2", "-F", "raw", "-b", raw, folder / "backing.qcow2")
    qemu_img("create", "-f", "qcow2", "-o", f"data_file={folder}/data.bin", folder / "data-file.qcow2", "8M")
    qemu_img("create", "-f", "qcow2", "-o", "extended_l2=on", folder / "extended-l2.qcow2", "8M")
    qemu_img("create", "-f", "qcow2", folder / "huge.qcow2", "1T")
    qemu_img("convert", "-f", "raw", "-O", "vmdk", raw, folder / "disk.vmdk")
    qemu_img("convert", "-f", "raw", "-O", "qed", raw, folder / "disk.qed")
    polyglot = bytearray(whole)
    polyglot[32769:32774] = b"CD001"
    (folder / "polyglot.qcow2").write_bytes(polyglot)
    nested = folder / "nested.raw"
    shutil.copyfile(folder / "backing.qcow2", nested)
    qemu_img("convert", "-f", "raw", "-O", "qcow2", nested, folder / "nested.qcow2")
    (folder / "empty.raw").touch()
    with (folder / "large.raw").open("wb") as stream:
        stream.truncate(1 << 40)
    make_iso(folder)
    os.mkfifo(folder / "fifo")
    (folder / "link").symlink_to(raw)
    (folder / "directory").mkdir()
    return folder


def make_iso(folder: Path) -> None:
    tree, partition = folder / "tree", folder / "partition"
    tree.mkdir()
    (tree / "hello").write_text("hello\n")
    partition.write_bytes(bytes(MIB))
    burn = ["xorriso", "-as", "mkisofs", "-quiet", "-o"]
    hybrid: list[str | Path] = ["-append_partition", "2", "0xef", partition, "-partition_offset", "16"]
    with_gpt: list[str | Path] = [
        "-append_partition",
        "2",
        "C12A7328-F81F-11D2-BA4B-00A0C93EC93B",
        partition,
        "-appended_part_as_gpt",
    ]
    kinds: dict[str, list[str | Path]] = {"plain": [], "hybrid": hybrid, "gpt": with_gpt}
    for name, options in kinds.items():
        argv: Sequence[str | Path] = [*burn, folder / f"{name}.iso", *options, tree]
        subprocess.run(argv, check=True, capture_output=True, env=ENV)


def digest(path: Path) -> str:
    with path.open("rb") as stream:
        return hashlib.file_digest(stream, "sha256").hexdigest()


def converted(source: Path, output: Path, kind: str, options: Qcow2Options | None = None) -> Converted:
    return convert(
        source,
        output,
        kind,
        declared=None,
        options=options or Qcow2Options(),
        largest=16 * MIB,
        foreign=True,
        environment=ENV,
        log=output.with_suffix(".log"),
        on_bytes=lambda _done, _total: None,
    )


# -- what comes out ----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("cluster_size", [4 << 10, 64 << 10, 2 << 20])
@pytest.mark.parametrize("compression", ["zstd", "zlib", "none"])
def test_there_and_back(images: Path, tmp_path: Path, compression: str, cluster_size: int) -> None:
    options = Qcow2Options(compression, cluster_size)
    there = converted(images / "disk.raw", tmp_path / "a.qcow2", "qcow2", options)
    again = converted(images / "disk.raw", tmp_path / "b.qcow2", "qcow2", options)
    back = converted(there.path, tmp_path / "c.raw", "raw")
    assert there.digests == again.digests, "the same input gives the same bytes"
    assert there.digests.sha256 == digest(there.path)
    assert there.digests.sha512 == hashlib.sha512(there.path.read_bytes()).hexdigest()
    assert (there.format, there.virtual_size, back.virtual_size) == ("qcow2", SIZE, SIZE)
    assert back.digests.sha256 == digest(images / "disk.raw")
    assert back.path.stat().st_blocks * 512 < SIZE // 2, "holes stay holes"
    info = json.loads(qemu_img("info", "--output=json", there.path))
    assert info["cluster-size"] == cluster_size
    assert info["format-specific"]["data"]["compression-type"] == ("zstd" if compression == "zstd" else "zlib")
    if cluster_size < 2 << 20:
        assert there.path.stat().st_size < SIZE // 2


def test_from_one_qcow2_to_another(images: Path, tmp_path: Path) -> None:
    """However a disk was written, what we write of it is the same."""
    one = converted(images / "disk.qcow2", tmp_path / "a.qcow2", "qcow2")
    other = converted(images / "packed.qcow2", tmp_path / "b.qcow2", "qcow2")
    assert one.digests == other.digests


def test_progress_is_told_in_bytes(images: Path, tmp_path: Path) -> None:
    told: list[tuple[int, int]] = []
    convert(
        images / "disk.raw",
        tmp_path / "a.qcow2",
        "qcow2",
        declared="raw",
        options=Qcow2Options(),
        largest=SIZE,
        foreign=False,
        environment=ENV,
        log=tmp_path / "log",
        on_bytes=lambda done, total: told.append((done, total)),
    )
    # How often it is asked depends on how fast it is.
    assert all(0 <= done <= total == SIZE for done, total in told)
    assert told == sorted(told)


def test_percentages_become_bytes(tmp_path: Path) -> None:
    told: list[tuple[int, int]] = []
    log = tmp_path / "log"
    log.touch()
    follow = _Percentages(log, SIZE, lambda done, total: told.append((done, total)))
    follow()
    assert told == [], "nothing is known yet"
    for said in ("some words\n", "    (0.00/100%)\r", "    (12.50/100%)\r", "    (2", "5.00/100%)\r    (50.00/100%)\r"):
        with log.open("a") as stream:
            stream.write(said)
        follow()
    with log.open("a") as stream:
        stream.write("    (100.00/100%)\r" * 1000 + "\n")
    follow()
    assert told == [(0, SIZE), (MIB, SIZE), (MIB, SIZE), (4 * MIB, SIZE), (SIZE, SIZE)]


def test_what_qemu_img_writes_is_understood(images: Path, tmp_path: Path) -> None:
    """The log of a real conversion ends with a percentage that means all of it."""
    told: list[tuple[int, int]] = []
    converted(images / "disk.raw", tmp_path / "a.qcow2", "qcow2")
    _Percentages(tmp_path / "a.log", SIZE, lambda done, total: told.append((done, total)))()
    assert told == [(SIZE, SIZE)]


def test_its_own_output_is_left_alone(images: Path, tmp_path: Path) -> None:
    output = tmp_path / "a.qcow2"
    output.write_text("mine")
    with pytest.raises(OutputExists):
        converted(images / "disk.raw", output, "qcow2")
    assert output.read_text() == "mine"


def test_ours_must_be_what_it_is_called(images: Path) -> None:
    with pytest.raises(FormatMismatch):
        examine(images / "disk.qcow2", "raw", environment=ENV)


def test_a_size_at_the_limit(images: Path, tmp_path: Path) -> None:
    source = images / "disk.raw"
    with opened(source) as descriptor:
        assert inspect(descriptor, "it", largest=SIZE).virtual_size == SIZE
        with pytest.raises(ImageTooLarge, match="it has 8388608 bytes, more than the limit of 8388607"):
            inspect(descriptor, "it", largest=SIZE - 1)
    with pytest.raises(ConversionUnsupported, match="nothing converts to vmdk"):
        converted(source, tmp_path / "x", "vmdk")


# -- what is refused ---------------------------------------------------------------------------------------------------


@pytest.fixture
def command(capsys: pytest.CaptureFixture[str]) -> Iterator[Callable[..., tuple[int, dict[str, Any]]]]:
    """A command line, to its exit code and its JSON."""
    before = signal.getsignal(signal.SIGTERM)

    def called(*argv: str | Path) -> tuple[int, dict[str, Any]]:
        status = run([str(argument) for argument in argv])
        said = capsys.readouterr()
        assert "Traceback" not in said.err
        document = json.loads(said.out)
        return status, document.get("error", document)

    yield called
    signal.signal(signal.SIGTERM, before)


Command = Callable[..., tuple[int, dict[str, Any]]]
REFUSED: list[tuple[str, list[str], int, str, str]] = [
    ("cut-100.qcow2", [], 1, "image-unsafe", "is not a whole qcow2 image: its header is cut short"),
    ("cut-600.qcow2", [], 1, "image-damaged", "is inconsistent or cut short"),
    ("cut-middle.qcow2", [], 1, "image-damaged", "is inconsistent or cut short"),
    ("cut-packed.qcow2", [], 1, "image-damaged", "is inconsistent or cut short"),
    ("backing.qcow2", [], 1, "image-unsafe", "backing file"),
    ("data-file.qcow2", [], 1, "image-unsafe", "data_file"),
    ("extended-l2.qcow2", [], 1, "image-unsafe", "Unknown QCOW2 features"),
    ("polyglot.qcow2", [], 1, "format-unknown", "is several formats at once: iso, qcow2"),
    ("disk.qed", [], 1, "image-unsafe", "not allowed"),
    ("empty.raw", [], 1, "image-unsafe", "is empty"),
    ("disk.qcow2", ["--from", "raw"], 1, "format-mismatch", "is qcow2, not raw"),
    ("disk.raw", ["--from", "qcow2"], 1, "format-mismatch", "is raw, not qcow2"),
    ("disk.raw", ["--from", "nonsense"], 1, "format-mismatch", "is raw, not nonsense"),
    ("large.raw", [], 1, "image-too-large", "1099511627776 bytes, more than the limit of 107374182400"),
    ("huge.qcow2", [], 1, "image-too-large", "describes a disk of 1099511627776 bytes"),
    ("disk.raw", ["--max-size", "1 MiB"], 1, "image-too-large", "more than the limit of 1048576"),
    ("fifo", [], 1, "not-a-regular-file", "a pipe"),
    ("link", [], 1, "not-a-regular-file", "a symbolic link"),
    ("directory", [], 1, "not-a-regular-file", "a directory"),
    ("/dev/zero", [], 1, "not-a-regular-file", "a character device"),
    ("missing", [], 1, "unreadable", "No such file"),
]
# Who copies a file as it is does not look into the disk.
REFUSED_INSIDE: list[tuple[str, list[str], int, str, str]] = [
    ("nested.qcow2", ["--to", "raw"], 1, "image-unsafe", "backing file"),
]
ONLY_CONVERTED: list[tuple[str, list[str], int, str, str]] = [
    ("disk.vmdk", [], 2, "conversion-unsupported", "is vmdk, which converts to nothing"),
    ("plain.iso", [], 2, "conversion-unsupported", "is iso, which converts to nothing"),
    ("disk.raw", ["--to", "vmdk"], 2, "conversion-unsupported", "nothing converts to vmdk"),
    ("disk.raw", ["--to", "qcow2", "--compression", "lz4"], 2, "usage", "--compression lz4"),
    ("disk.raw", ["--max-size", "1"], 2, "usage", "--max-size"),
    ("disk.raw", ["--cluster-size", "much"], 2, "usage", "--cluster-size"),
]


@pytest.mark.parametrize(
    ("name", "options", "status", "code", "text", "as_is"),
    [
        *((*case, False) for case in [*REFUSED, *REFUSED_INSIDE]),
        *((*case, True) for case in REFUSED),
    ],
)
def test_what_is_refused(
    images: Path,
    tmp_path: Path,
    command: Command,
    name: str,
    options: list[str],
    status: int,
    code: str,
    text: str,
    as_is: bool,
) -> None:
    """With the same code whether it is converted or copied, and with nothing left behind."""
    output = tmp_path / "out"
    output.mkdir()
    flags = ["--as-is"] if as_is else []
    found = command("convert", "--json", *options, *flags, images / name, output / "made.qcow2")
    assert (found[0], found[1]["code"]) == (status, code)
    assert text in found[1]["message"]
    assert found[1]["advice"]
    assert list(output.iterdir()) == []


@pytest.mark.parametrize(("name", "options", "status", "code", "text"), ONLY_CONVERTED)
def test_what_does_not_convert(
    images: Path, tmp_path: Path, command: Command, name: str, options: list[str], status: int, code: str, text: str
) -> None:
    output = tmp_path / "out"
    output.mkdir()
    found = command("convert", "--json", *options, images / name, output / "made.qcow2")
    assert (found[0], found[1]["code"]) == (status, code)
    assert text in found[1]["message"]
    assert list(output.iterdir()) == []


def test_a_file_of_somebody_else(images: Path, tmp_path: Path) -> None:
    source = tmp_path / "private.raw"
    shutil.copyfile(images / "disk.raw", source)
    source.chmod(0)
    tmp_path.chmod(0o777)
    let_others_pass(tmp_path)
    become = ["setpriv", "--reuid=65534", "--regid=65534", "--clear-groups", "--"] if ROOT else []
    code = "import sys; from imagefactory.cli.app import run; sys.exit(run(sys.argv[1:]))"
    done = subprocess.run(
        [*become, sys.executable, "-c", code, "convert", "--json", source, tmp_path / "made.qcow2"],
        capture_output=True,
        env={**ENV, "HOME": str(tmp_path), "PYTHONDONTWRITEBYTECODE": "1"},
        check=False,
    )
    assert (done.returncode, json.loads(done.stdout)["error"]["code"]) == (1, "unreadable"), done.stderr
    assert [path.name for path in tmp_path.iterdir()] == ["private.raw"]


@pytest.mark.parametrize("name", ["plain.iso", "hybrid.iso", "gpt.iso"])
def test_an_iso_is_copied_byte_for_byte(images: Path, tmp_path: Path, command: Command, name: str) -> None:
    output = tmp_path / "made.iso"
    status, document = command("convert", "--json", "--as-is", "--from", "iso", images / name, output)
    assert (status, document["format"]) == (0, "iso")
    assert document["sha256"] == digest(output) == digest(images / name)
    assert [path.name for path in tmp_path.iterdir()] == ["made.iso"]


def test_a_qcow2_copied_as_it_is(images: Path, tmp_path: Path, command: Command) -> None:
    status, document = command("convert", "--json", "--as-is", images / "disk.qcow2", tmp_path / "x")
    assert (status, document["format"], document["virtual_size"]) == (0, "qcow2", SIZE)
    assert digest(tmp_path / "x") == digest(images / "disk.qcow2")


@pytest.mark.parametrize("flags", [[], ["--as-is"]], ids=["convert", "as-is"])
def test_a_full_disk(images: Path, tmp_path: Path, flags: list[str]) -> None:
    """A mount namespace of its own for a file system that is too small."""
    small = tmp_path / "small"
    small.mkdir()
    # The exit code and what is left are said last.
    script = 'mount -t tmpfs -o size=1m none "$1" || exit 99; shift; "$@"; echo "$?" >&2; ls -A "$small" >&2'
    code = "import sys; from imagefactory.cli.app import run; sys.exit(run(sys.argv[1:]))"
    become = [] if ROOT else ["sudo", "-n", "-E"]
    argv = ["convert", "--json", *flags, str(images / "disk.raw"), str(small / "made.qcow2")]
    done = subprocess.run(
        [*become, "unshare", "--mount", "sh", "-c", script, "sh", small, sys.executable, "-c", code, *argv],
        capture_output=True,
        env={**ENV, "HOME": str(tmp_path), "small": str(small)},
        text=True,
        check=False,
    )
    error = json.loads(done.stdout)["error"]
    assert error["code"] == "disk-full", done.stderr
    assert "Traceback" not in done.stderr
    assert done.stderr.endswith("\n3\n"), "the exit code, and nothing in the directory"


@pytest.mark.parametrize(
    ("output", "code"),
    [
        ("there.qcow2", "output-exists"),
        ("dangling.qcow2", "output-exists"),
        ("no/such/folder/x.qcow2", "output-unusable"),
        ("n" * 300 + ".qcow2", "output-unusable"),
        ("there.qcow2/x.qcow2", "output-unusable"),
        ("no-ending", "usage"),
    ],
)
def test_an_output_that_cannot_be(images: Path, tmp_path: Path, command: Command, output: str, code: str) -> None:
    (tmp_path / "there.qcow2").write_text("mine")
    (tmp_path / "dangling.qcow2").symlink_to("nowhere")
    status, error = command("convert", "--json", images / "disk.raw", tmp_path / output)
    assert error["code"] == code
    assert status in {2, 3}
    assert (tmp_path / "there.qcow2").read_text() == "mine"
    assert sorted(path.name for path in tmp_path.iterdir()) == ["dangling.qcow2", "there.qcow2"]
