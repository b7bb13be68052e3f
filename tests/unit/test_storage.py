"""Where workers share artifacts: how it is written, and how bytes get there and back."""

import hashlib
import os
import tempfile
from collections.abc import Iterator
from io import BytesIO
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from imagefactory.errors import UsageError
from imagefactory.model.storage import Bucket, parse_storage
from imagefactory.settings import read_settings
from imagefactory.store.copying import CHUNK, OtherBytes, checked, write_sparse

FOLDERS = st.lists(st.from_regex(r"[a-z0-9][a-z0-9_.=+-]{0,9}", fullmatch=True), max_size=4)


def settings(store: str) -> object:
    return read_settings({"HOME": "/home/somebody", "IMAGEFACTORY_STORE": store}).storage


def test_what_can_be_written() -> None:
    assert settings("") is None
    assert settings("/srv/store") == Path("/srv/store")
    assert settings("s3://images") == settings("s3://images/") == Bucket("images")
    assert settings("s3://my.images-1/soe/two/") == Bucket("my.images-1", "soe/two")


@given(st.from_regex("[a-z0-9]{3,20}", fullmatch=True), FOLDERS)
def test_a_bucket_is_written_as_it_is_read(name: str, folders: list[str]) -> None:
    bucket = Bucket(name, "/".join(folders))
    assert parse_storage(str(bucket)) == bucket
    assert bucket.key("x") == "/".join([*folders, "x"])


@pytest.mark.parametrize(
    "value",
    [
        "store",
        "./store",
        "s3://",
        "s3://a",
        "s3:///soe",
        "s3://images//soe",
        "s3://images/../soe",
        "s3://images/.hidden",
        "s3://images/soe?versionId=1",
        "s3://images/soe\n",
        "s3://key:hunter2@images/soe",
        "https://key:hunter2@images/soe",
    ],
)
def test_what_cannot_be_written_is_not_repeated(value: str) -> None:
    with pytest.raises(UsageError) as caught:
        settings(value)
    assert "hunter2" not in f"{caught.value} {caught.value.advice}"


def pieces_of(content: bytes, digest: str | None = None, size: int | None = None) -> Iterator[bytes]:
    digest = hashlib.sha256(content).hexdigest() if digest is None else digest
    return checked(BytesIO(content).read, digest, len(content) if size is None else size, lambda _: None)


@given(st.binary(max_size=200))
def test_bytes_go_by_whole(content: bytes) -> None:
    assert b"".join(pieces_of(content)) == content


@given(st.binary(max_size=50), st.binary(max_size=50), st.integers(0, 60))
def test_other_bytes_are_noticed(content: bytes, other: bytes, size: int) -> None:
    """Whatever is there, and whatever the records say of its size: what goes by is right, or it is an error."""
    seen = bytearray()
    try:
        for piece in pieces_of(other, hashlib.sha256(content).hexdigest(), size):
            seen += piece
    except OtherBytes:
        assert content != other or size != len(other)
        assert len(seen) <= size, "never more than the records know of"
    else:
        assert bytes(seen) == content


def test_a_store_that_gives_little_at_a_time() -> None:
    content = os.urandom(1000)
    stream = BytesIO(content)
    pieces = checked(lambda most: stream.read(min(most, 7)), hashlib.sha256(content).hexdigest(), 1000, lambda _: None)
    assert b"".join(pieces) == content


@given(st.lists(st.tuples(st.booleans(), st.integers(1, 3)), max_size=6), st.integers(0, 5000))
def test_holes_come_back_as_zeros(parts: list[tuple[bool, int]], tail: int) -> None:
    content = b"".join((b"\1" if data else b"\0") * (CHUNK * count // 2) for data, count in parts) + bytes(tail)
    with tempfile.TemporaryFile() as stream:
        write_sparse(stream.fileno(), pieces_of(content))
        assert stream.read() == content
        whole = sum(b"\1" in content[at : at + CHUNK] for at in range(0, len(content), CHUNK))
        assert os.fstat(stream.fileno()).st_blocks * 512 <= whole * CHUNK


def test_a_disk_that_takes_a_part(monkeypatch: pytest.MonkeyPatch) -> None:
    content, real = os.urandom(3000), os.pwrite
    monkeypatch.setattr(os, "pwrite", lambda fd, data, at: real(fd, data[:999], at))
    with tempfile.TemporaryFile() as stream:
        write_sparse(stream.fileno(), pieces_of(content))
        assert stream.read() == content
