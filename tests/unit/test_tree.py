"""What is done to an unpacked root file system: never outside it, and nothing that shows when and where it was done."""

import os
import stat
from collections.abc import Iterator
from pathlib import Path

import pytest

from imagefactory.errors import RootfsUnfit
from imagefactory.tools import tree

EPOCH = 1_700_000_000
OLD = 1_600_000_000


@pytest.fixture
def root(tmp_path: Path) -> Iterator[Path]:
    """A tree with a directory and a file, all of them old; umask is strict."""
    made = tmp_path / "rootfs"
    (made / "var/log").mkdir(parents=True)
    (made / "etc").mkdir()
    (made / "var/log/syslog").write_text("line\n")
    for path in (*made.rglob("*"), made):
        os.utime(path, (OLD, OLD))
    before = os.umask(0o077)
    yield made
    os.umask(before)


def times(path: Path) -> int:
    return int(path.lstat().st_mtime)


def test_a_missing_directory_is_made_with_its_parents(root: Path) -> None:
    made = tree.directory(root, "/var/log/audit", epoch=EPOCH, mode=0o750)
    deep = tree.directory(root, "/srv/a/b", epoch=EPOCH, mode=0o1777)
    assert (made, deep) == (root / "var/log/audit", root / "srv/a/b")
    modes = {path: stat.S_IMODE(path.stat().st_mode) for path in (made, root / "srv", root / "srv/a", deep)}
    assert list(modes.values()) == [0o750, 0o755, 0o755, 0o1777]
    assert times(made) == times(deep) == times(root / "srv/a") == EPOCH
    assert times(root / "var/log") == times(root) == OLD


def test_a_directory_that_is_there_stays_as_it_is(root: Path) -> None:
    (root / "var/log").chmod(0o2771)
    assert tree.directory(root, "/var/log", epoch=EPOCH) == root / "var/log"
    assert stat.S_IMODE((root / "var/log").stat().st_mode) == 0o2771
    assert times(root / "var/log") == OLD


@pytest.mark.parametrize("link", ["var", "var/log", "var/log/audit"])
@pytest.mark.parametrize("to", ["/tmp", "../../../outside", "nowhere"])  # noqa: S108
def test_a_link_is_no_directory_wherever_it_leads(link: str, to: str, root: Path) -> None:
    (root.parent / "outside").mkdir()
    if os.path.lexists(root / link):
        (root / link).rename(root / "moved")
    (root / link).symlink_to(to)
    with pytest.raises(RootfsUnfit, match=f"/{link} is no directory, and /var/log/audit has to be one"):
        tree.directory(root, "/var/log/audit", epoch=EPOCH)
    assert list((root.parent / "outside").iterdir()) == []


def test_a_file_is_no_directory(root: Path) -> None:
    with pytest.raises(RootfsUnfit, match="/var/log/syslog is no directory"):
        tree.directory(root, "/var/log/syslog/x", epoch=EPOCH)


def test_fstab_is_written_anew(root: Path) -> None:
    assert tree.read_fstab(root, epoch=EPOCH) == ""
    tree.write(root, tree.FSTAB, "one / ext4\n", epoch=EPOCH)
    assert tree.read_fstab(root, epoch=EPOCH) == "one / ext4\n"
    facts = (root / "etc/fstab").stat()
    assert (stat.S_IMODE(facts.st_mode), int(facts.st_mtime)) == (0o644, EPOCH)
    assert times(root / "etc") == OLD


def test_another_name_of_fstab_keeps_its_content(root: Path) -> None:
    other = root.parent / "other"
    other.write_text("mine\n")
    os.link(other, root / "etc/fstab")
    tree.write(root, tree.FSTAB, "new\n", epoch=EPOCH)
    assert other.read_text() == "mine\n"


def test_bytes_that_are_no_text_survive(root: Path) -> None:
    (root / "etc/fstab").write_bytes(b"/dev/\xff /x ext4\n")
    tree.write(root, tree.FSTAB, tree.read_fstab(root, epoch=EPOCH), epoch=EPOCH)
    assert (root / "etc/fstab").read_bytes() == b"/dev/\xff /x ext4\n"


@pytest.mark.parametrize("kind", ["link", "directory", "fifo", "large"])
def test_an_fstab_that_is_no_plain_file_is_refused(kind: str, root: Path) -> None:
    path = root / "etc/fstab"
    if kind == "link":
        path.symlink_to("/etc/passwd")
    elif kind == "directory":
        path.mkdir()
    elif kind == "fifo":
        os.mkfifo(path)
    else:
        path.write_bytes(bytes(tree.MAX_FSTAB + 1))
    with pytest.raises(RootfsUnfit, match="/etc/fstab is no regular file"):
        tree.read_fstab(root, epoch=EPOCH)


def test_an_etc_that_leads_elsewhere_is_refused(root: Path) -> None:
    (root / "etc").rmdir()
    (root / "etc").symlink_to(root.parent)
    with pytest.raises(RootfsUnfit):
        tree.write(root, tree.FSTAB, "new\n", epoch=EPOCH)
    assert not (root.parent / "fstab").exists()


def test_set_aside_leaves_an_empty_one_like_it(root: Path) -> None:
    folder = root / "var/log"
    folder.chmod(0o2771)
    os.utime(folder, (OLD + 5, OLD + 7))
    tree.set_aside(folder, root.parent / "done")
    assert (root.parent / "done/syslog").read_text() == "line\n"
    assert list(folder.iterdir()) == []
    facts = folder.stat()
    assert (stat.S_IMODE(facts.st_mode), int(facts.st_mtime)) == (0o2771, OLD + 7)
    assert times(root / "var") == OLD
