"""Copies of homes share files, and nothing that somebody holds."""

import fcntl
from pathlib import Path

from tests.homes import share


def test_a_lock_held_in_one_copy_is_free_in_the_other(tmp_path: Path) -> None:
    source, copy = tmp_path / "source", tmp_path / "copy"
    (source / "targets").mkdir(parents=True)
    for name in ("image", ".name.lock", ".lock"):
        (source / "targets" / name).write_text("")
    share(source, copy)
    assert (copy / "targets/image").samefile(source / "targets/image")
    for name in (".name.lock", ".lock"):
        with (source / "targets" / name).open("w") as held, (copy / "targets" / name).open("w") as other:
            fcntl.flock(held, fcntl.LOCK_EX)
            fcntl.flock(other, fcntl.LOCK_EX | fcntl.LOCK_NB)
