"""The artifact store: a file is whole and read-only, or it is not there."""

import hashlib
import stat
from pathlib import Path

import pytest

from imagefactory.errors import ArtifactMissing
from imagefactory.store.artifacts import ArtifactStore

CONTENT = b"a disk"
DIGEST = hashlib.sha256(CONTENT).hexdigest()


@pytest.fixture
def store(tmp_path: Path) -> ArtifactStore:
    return ArtifactStore(tmp_path / "artifacts")


def make(tmp_path: Path, content: bytes = CONTENT) -> Path:
    path = tmp_path / "made"
    path.write_bytes(content)
    return path


def test_a_file_is_taken_over_whole_and_read_only(store: ArtifactStore, tmp_path: Path) -> None:
    made = make(tmp_path)
    inode = made.stat().st_ino
    path = store.adopt(made, DIGEST)
    assert path == store.path(DIGEST) == store.require(DIGEST)
    assert path.relative_to(tmp_path) == Path("artifacts/sha256") / DIGEST[:2] / DIGEST
    assert path.stat().st_ino == inode, "renamed, never copied"
    assert stat.S_IMODE(path.stat().st_mode) == 0o444
    assert not made.exists()
    assert list(store) == [DIGEST]


def test_the_same_again(store: ArtifactStore, tmp_path: Path) -> None:
    store.adopt(make(tmp_path), DIGEST)
    store.adopt(make(tmp_path), DIGEST)
    assert store.require(DIGEST).read_bytes() == CONTENT
    assert list(store) == [DIGEST]


def test_what_is_not_there(store: ArtifactStore) -> None:
    assert not store.has(DIGEST)
    assert store.remove(DIGEST) == 0
    assert list(store) == []
    with pytest.raises(ArtifactMissing, match=f"artifact {DIGEST[:12]} is not in the store") as caught:
        store.require(DIGEST)
    assert caught.value.code == "artifact-missing"


def test_removal_tells_what_it_gave_back(store: ArtifactStore, tmp_path: Path) -> None:
    store.adopt(make(tmp_path, bytes(range(256)) * 64), DIGEST)
    assert store.remove(DIGEST) >= 16384
    assert not store.has(DIGEST)


def test_a_sparse_file_takes_what_it_takes(store: ArtifactStore, tmp_path: Path) -> None:
    made = make(tmp_path)
    with made.open("r+b") as stream:
        stream.truncate(1 << 30)
    store.adopt(made, DIGEST)
    assert store.remove(DIGEST) < 1 << 20
