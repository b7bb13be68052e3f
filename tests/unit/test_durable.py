"""Files in directories that others may write to."""

import os
from pathlib import Path

import pytest

from imagefactory.tools.durable import make_public, put_file, write_new


def modes(*paths: Path) -> list[int]:
    return [path.stat().st_mode & 0o777 for path in paths]


@pytest.mark.parametrize("umask", [0, 0o022, 0o077, 0o777])
def test_modes_do_not_depend_on_umask(tmp_path: Path, umask: int) -> None:
    before = os.umask(umask)
    try:
        put_file(tmp_path / "public", b"x")
        write_new(tmp_path / "private", b"x")
        make_public(tmp_path / "folder")
    finally:
        os.umask(before)
    assert modes(tmp_path / "public", tmp_path / "private", tmp_path / "folder") == [0o644, 0o600, 0o755]


def test_a_link_in_the_place_of_what_is_being_written(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Somebody is quick: the file that he means keeps its mode and its bytes."""
    secret = tmp_path / "secret"
    write_new(secret, b"key")
    real = os.fsync

    def swapped(descriptor: int) -> None:
        real(descriptor)
        if (scratch := tmp_path / ".x.new").is_file():
            scratch.unlink()
            scratch.symlink_to(secret)

    monkeypatch.setattr(os, "fsync", swapped)
    put_file(tmp_path / "x", b"public")
    assert (modes(secret), secret.read_bytes()) == ([0o600], b"key")


def test_a_link_in_the_place_of_a_folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    private = tmp_path / "private"
    private.mkdir(mode=0o700)
    monkeypatch.setattr(Path, "mkdir", lambda self: self.symlink_to(private))
    with pytest.raises(OSError, match="Not a directory"):
        make_public(tmp_path / "folder")
    assert modes(private) == [0o700]
