import hashlib
import io
import os
import socket
import tracemalloc
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import BinaryIO, cast

import pytest

from signing.digest import BUFFER_BYTES, hash_stream, open_regular, read_document
from signing.errors import FileChanged, NotARegularFile, SigningError, Unreadable
from signing.strict_json import MAX_BYTES


@contextmanager
def opened(path: Path) -> Iterator[int]:
    fd = open_regular(path)
    try:
        yield fd
    finally:
        os.close(fd)


@pytest.mark.parametrize("size", [0, 1, BUFFER_BYTES - 1, BUFFER_BYTES, BUFFER_BYTES + 1, 3 * BUFFER_BYTES + 7])
def test_digests_and_progress(tmp_path: Path, size: int) -> None:
    content = os.urandom(size)
    (tmp_path / "file").write_bytes(content)
    seen: list[int] = []
    with opened(tmp_path / "file") as fd:
        os.lseek(fd, size // 2, os.SEEK_SET)
        found = hash_stream(fd, on_bytes=seen.append)
        assert os.lseek(fd, 0, os.SEEK_CUR) == size // 2
        assert hash_stream(fd, algorithms=("sha256",)).sha512 is None
    assert (found.size, sum(seen)) == (size, size)
    assert found.sha256 == hashlib.sha256(content).hexdigest()
    assert found.sha512 == hashlib.sha512(content).hexdigest()
    assert hash_stream(io.BytesIO(content)) == found


def test_stream_with_short_reads() -> None:
    read_end, write_end = os.pipe()
    with os.fdopen(read_end, "rb", buffering=0) as source, os.fdopen(write_end, "wb") as sink:
        sink.write(b"some bytes")
        sink.close()
        assert hash_stream(cast(BinaryIO, source)).sha256 == hashlib.sha256(b"some bytes").hexdigest()


def test_memory_is_flat(tmp_path: Path) -> None:
    path = tmp_path / "sparse"
    path.touch()
    os.truncate(path, 64 * BUFFER_BYTES)
    tracemalloc.start()
    try:
        with opened(path) as fd:
            hash_stream(fd)
        _, peak = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()
    assert peak < 4 * BUFFER_BYTES


@pytest.mark.parametrize("algorithms", [(), ("sha512",), ("sha256", "md5")])
def test_other_algorithms(algorithms: tuple[str, ...]) -> None:
    with pytest.raises(ValueError, match="algorithms are sha256"):
        hash_stream(io.BytesIO(), algorithms=algorithms)  # type: ignore[arg-type]  # that is the point


def grow(path: Path) -> None:
    with path.open("ab") as stream:
        stream.write(b"more")


def shrink(path: Path) -> None:
    os.truncate(path, 10)


def touch(path: Path) -> None:
    os.utime(path, ns=(1, 1))


@pytest.mark.parametrize("alter", [grow, shrink, touch])
def test_changed_while_read(tmp_path: Path, alter: object) -> None:
    path = tmp_path / "file"
    path.write_bytes(bytes(2 * BUFFER_BYTES))
    assert callable(alter)
    with opened(path) as fd, pytest.raises(FileChanged, match="was changed while it was being read") as caught:
        hash_stream(fd, on_bytes=lambda _: alter(path))
    assert caught.value.code == "file-changed"


def test_progress_may_abort(tmp_path: Path) -> None:
    (tmp_path / "file").write_bytes(b"x")

    def stop(_count: int) -> None:
        raise KeyboardInterrupt

    with opened(tmp_path / "file") as fd, pytest.raises(KeyboardInterrupt):
        hash_stream(fd, on_bytes=stop)


def make_fifo(path: Path) -> None:
    os.mkfifo(path)


def make_link(path: Path) -> None:
    (path.parent / "real").write_bytes(b"x")
    path.symlink_to("real")


def make_socket(path: Path) -> None:
    with socket.socket(socket.AF_UNIX) as server:
        server.bind(str(path))


IRREGULAR = {
    "directory": (Path.mkdir, "a directory"),
    "fifo": (make_fifo, "a pipe"),
    "link": (make_link, "a symbolic link"),
    "dangling link": (lambda path: path.symlink_to("nowhere"), "a symbolic link"),
    "socket": (make_socket, "a socket"),
}


@pytest.mark.parametrize(("make", "text"), IRREGULAR.values(), ids=IRREGULAR.keys())
def test_not_a_regular_file(tmp_path: Path, make: object, text: str) -> None:
    assert callable(make)
    make(tmp_path / "thing")
    for opener in (open_regular, read_document):
        with pytest.raises(NotARegularFile, match=text) as caught:
            opener(tmp_path / "thing")
        assert caught.value.code == "not-a-regular-file"


def test_device() -> None:
    with pytest.raises(NotARegularFile, match="a character device"):
        open_regular("/dev/null")


@pytest.mark.parametrize(("name", "text"), [("absent", "No such file"), ("nul\0byte", "not a file name")])
def test_unreadable(tmp_path: Path, name: str, text: str) -> None:
    with pytest.raises(Unreadable, match=text) as caught:
        open_regular(tmp_path / name)
    assert caught.value.code == "unreadable"


def test_descriptor_of_something_else() -> None:
    read_end, write_end = os.pipe()
    try:
        with pytest.raises(NotARegularFile, match="a pipe"):
            hash_stream(read_end)
    finally:
        os.close(read_end)
        os.close(write_end)
    with pytest.raises(Unreadable, match="Bad file descriptor"):
        hash_stream(read_end)


def test_long_document(tmp_path: Path) -> None:
    path = tmp_path / "long"
    path.write_bytes(bytes(MAX_BYTES))
    assert len(read_document(path)) == MAX_BYTES
    path.write_bytes(bytes(MAX_BYTES + 1))
    with pytest.raises(Unreadable, match="longer than 1048576 bytes"):
        read_document(path)


def test_nothing_stays_open(tmp_path: Path) -> None:
    before = len(list(Path("/proc/self/fd").iterdir()))
    for path in (tmp_path, tmp_path / "absent", Path("/dev/null")):
        with pytest.raises(SigningError):
            read_document(path)
    assert len(list(Path("/proc/self/fd").iterdir())) == before
