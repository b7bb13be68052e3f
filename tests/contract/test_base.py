"""An image to start from, taken apart: real file systems of e2fsprogs in real images of qemu-img. Wants root, by which
a file system has owners of all kinds."""

import os
import shutil
import stat
import struct
import subprocess
import tarfile
from collections.abc import Callable
from dataclasses import dataclass
from hashlib import sha256
from pathlib import Path
from typing import Any
from zlib import crc32

import pytest

from imagefactory.errors import (
    BaseChanged,
    BaseDamaged,
    BaseForeign,
    BaseMissing,
    BaseNotAnImage,
    BaseTooLarge,
    BaseUnsupported,
    BaseWithoutPackages,
    FactoryError,
    ImageUnsafe,
)
from imagefactory.hands import clerk
from imagefactory.model.disk import MIB
from imagefactory.model.recipe import OperatingSystem
from imagefactory.steps import base
from imagefactory.steps.base import Unpacked, unpack
from imagefactory.tools import archive, ext4_tree

ENVIRONMENT = {"PATH": "/usr/sbin:/usr/bin:/sbin:/bin", "LC_ALL": "C.UTF-8", "TZ": "UTC"}
SYSTEM = OperatingSystem(distro="debian", version="12")
STATUS = """\
Package: dpkg
Status: install ok installed
Architecture: amd64
Version: 1.21.22

"""
OS_RELEASE = 'PRETTY_NAME="Debian GNU/Linux 12 (bookworm)"\nVERSION_ID="12"\nID=debian\n'
SHADOW = (
    "root:$y$j9T$abc:19000:0:99999:7:::\nbin:*:19000::::::\nme:!$6$x:19000::::::\nopen::19000::::::\nno:!:1::::::\n"
)
ODD_NAMES = [b"a b", b"new\nline", b"latin-\xe9", "ünïcode-☃".encode(), b"n" * 255, b"-rf", b"%41"]
CAPABILITY = bytes.fromhex("0100000200040000000000000000000000000000")
# A user and a group of their own, in the order in which the kernel wants them (posix_acl_xattr.h).
ACL = struct.pack("<I", 2) + b"".join(
    struct.pack("<HHI", *entry)
    for entry in (
        (1, 7, 0xFFFFFFFF),
        (2, 5, 70001),
        (4, 5, 0xFFFFFFFF),
        (8, 4, 1000),
        (16, 7, 0xFFFFFFFF),
        (32, 0, 0xFFFFFFFF),
    )
)
TIME = 1_700_000_000  # mke2fs knows no parts of a second
GPT = "label: gpt\nstart=2048, size=2048, type=uefi\nstart=4096, type=linux\n"
START = 4096 * 512


def write(path: Path, content: str | bytes) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(content.encode() if isinstance(content, str) else content)
    return path


def make_tree(tree: Path) -> Path:
    """The least that is a Debian."""
    write(tree / "usr/lib/os-release", OS_RELEASE)
    (tree / "etc").mkdir()
    (tree / "etc/os-release").symlink_to("../usr/lib/os-release")
    (tree / "bin").symlink_to("usr/bin")
    write(tree / "var/lib/dpkg/status", STATUS)
    write(tree / "etc/fstab", "LABEL=cloudimg-rootfs / ext4 defaults 0 1\nLABEL=UEFI /boot/efi vfat nofail 0 0\n")
    return tree


def call(*argv: str | Path, stdin: str = "") -> None:
    subprocess.run([str(part) for part in argv], input=stdin.encode(), check=True, capture_output=True, timeout=120)


def make_disk(
    tree: Path, disk: Path, *options: str, kind: str = "ext4", table: str = GPT, size: int = 16 * MIB
) -> Path:
    """A raw disk whose second partition has the tree."""
    with disk.open("wb") as stream:
        stream.truncate(size)
    call("sfdisk", "--quiet", disk, stdin=table)
    blocks = f"{(size - START - 2 * MIB) // 1024}k"
    call(
        "mke2fs",
        "-q",
        "-F",
        "-t",
        kind,
        "-b",
        "4096",
        *options,
        "-E",
        f"offset={START},root_owner=0:0",
        "-d",
        tree,
        disk,
        blocks,
    )
    return disk


def debugfs(disk: Path, *commands: str, at: int = START) -> None:
    call("debugfs", "-w", "-f", "-", f"{disk}?offset={at}", stdin="".join(f"{command}\n" for command in commands))


def digest(path: Path) -> str:
    return sha256(path.read_bytes()).hexdigest()


@dataclass(frozen=True)
class Bench:
    """Where a test works."""

    root: Path

    @property
    def tree(self) -> Path:
        return self.root / "tree"

    def disk(self, *options: str, **more: Any) -> Path:  # noqa: ANN401
        return make_disk(self.tree, self.root / "disk.raw", *options, **more)

    def unpack(self, image: Path, *, pinned: str | None = None, most: int = 64 * MIB, log: str = "log") -> Unpacked:
        scratch = self.root / "scratch"
        scratch.mkdir(exist_ok=True)
        return unpack(
            image,
            pinned or digest(image),
            SYSTEM,
            self.root / "base.tar",
            most=most,
            scratch=scratch,
            log=self.root / log,
            environment=ENVIRONMENT,
        )

    def names(self) -> set[str]:
        with tarfile.open(self.root / "base.tar") as tar:
            return set(tar.getnames())

    def content(self, name: str) -> bytes:
        with tarfile.open(self.root / "base.tar") as tar:
            stream = tar.extractfile(name)
            assert stream is not None
            return stream.read()


@pytest.fixture
def bench(tmp_path: Path) -> Bench:
    make_tree(tmp_path / "tree")
    return Bench(tmp_path)


# -- everything survives ----------------------------------------------------------------------------------------------


def make_odd(tree: Path) -> None:
    """One of everything that a file system can hold."""
    odd = tree / "srv/odd"
    odd.mkdir(parents=True)
    for name in ODD_NAMES:
        Path(os.fsdecode(bytes(odd) + b"/" + name)).write_bytes(name)
    owned = write(odd / "owned", b"x" * 5000)
    os.chown(owned, 70000, 4_000_000_000)
    owned.chmod(0o6750)
    os.setxattr(owned, "security.capability", CAPABILITY)
    described = write(odd / "described", b"x")
    os.setxattr(described, "user.binary", bytes(range(256)) * 3)  # does not fit into an inode
    os.setxattr(described, "system.posix_acl_access", ACL)
    os.setxattr(odd, "system.posix_acl_default", ACL)
    (odd / "hard").hardlink_to(owned)
    (odd / "empty").touch()
    (odd / "short").symlink_to("owned")
    (odd / "borderline").symlink_to("b" * 59)
    (odd / "long").symlink_to("d/" * 60 + "end")
    (odd / "longest").symlink_to("e/" * 400 + "end")
    (odd / "nowhere").symlink_to("/etc/shadow")
    os.mkfifo(odd / "fifo")
    with (odd / "holes").open("wb") as stream:  # more extents than fit into an inode
        for place in range(0, 600, 2):
            stream.seek(place * 4096)
            stream.write(b"%d" % place)
        stream.truncate(700 * 4096 + 1)
    many = tree / "srv/many"
    many.mkdir()
    for number in range(800):  # an index of hashes
        (many / f"{'file' * 8}-{number * 7919 % 800}").write_bytes(b"%d" % number)
    for path in (*tree.rglob("*"), tree):
        os.utime(path, (TIME, TIME), follow_symlinks=False)
    os.utime(odd / "empty", (-5, -5))


def facts(path: Path) -> dict[str, Any]:
    """What a tree is, in all that a build goes by."""
    status = path.lstat()
    kind = stat.S_IFMT(status.st_mode)
    content = path.read_bytes() if stat.S_ISREG(kind) else str(path.readlink()) if stat.S_ISLNK(kind) else None
    names = () if stat.S_ISLNK(kind) else os.listxattr(path)
    return {
        "mode": status.st_mode,
        "owner": (status.st_uid, status.st_gid),
        "time": status.st_mtime_ns,
        "links": status.st_nlink if stat.S_ISREG(kind) else 0,
        "content": content,
        "attributes": {name: os.getxattr(path, name) for name in names},
    }


@pytest.mark.parametrize(
    "options",
    [(), ("-b", "1024"), ("-I", "256", "-O", "^metadata_csum,^64bit"), ("-O", "metadata_csum_seed")],
    ids=["debian's", "1k blocks", "older", "seed"],
)
def test_what_is_in_the_image_comes_out_as_it_was(bench: Bench, options: tuple[str, ...]) -> None:
    make_odd(bench.tree)
    disk = bench.disk(*options, size=64 * MIB)
    debugfs(disk, f"sif /srv/odd/fifo mtime_extra {123_456_789 << 2 | 1}")  # 30 bits of nanoseconds, 2 of seconds
    call("qemu-img", "convert", "-f", "raw", "-O", "qcow2", "-c", disk, bench.root / "base.qcow2")
    made = bench.unpack(bench.root / "base.qcow2")
    assert (made.format, made.left_out) == ("qcow2", 1)  # lost+found
    archive.extract(made.tar, bench.root / "out", env=ENVIRONMENT, log=bench.root / "tar.log")
    wanted = {str(path.relative_to(bench.tree)): facts(path) for path in (bench.tree, *bench.tree.rglob("*"))}
    found = {str(path.relative_to(bench.root / "out")): facts(path) for path in _all(bench.root / "out")}
    del wanted["."]["time"], found["."]["time"]  # mke2fs gives the root its own
    wanted["srv/odd/fifo"]["time"] += (1 << 32) * 1_000_000_000 + 123_456_789
    assert {
        name: (found.get(name), wanted.get(name)) for name in found | wanted if found.get(name) != wanted.get(name)
    } == {}
    assert (bench.root / "out/srv/odd/hard").samefile(bench.root / "out/srv/odd/owned")
    assert not (bench.root / "scratch/base.raw").exists()


def _all(tree: Path) -> list[Path]:
    return [tree, *tree.rglob("*")]


def test_a_raw_image_without_a_partition_table(bench: Bench) -> None:
    image = bench.root / "plain.raw"
    call("mke2fs", "-q", "-F", "-t", "ext4", "-d", bench.tree, image, "8M")
    assert bench.unpack(image).format == "raw"
    assert "var/lib/dpkg/status" in bench.names()


def test_a_file_in_many_pieces(bench: Bench) -> None:
    """Its extents lie out of order on the disk, in a tree of two levels."""
    content = os.urandom(3 * MIB)
    write(bench.root / "large", content)
    disk = bench.disk("-b", "1024")
    fill = [f"write {write(bench.root / f'f{n}', bytes(1024))} f{n}" for n in range(400)]
    debugfs(disk, *fill, *(f"rm f{n}" for n in range(0, 400, 2)), f"write {bench.root / 'large'} large")
    bench.unpack(disk)
    assert bench.content("large") == content


def test_what_the_journal_has_yet_to_write_is_written(bench: Bench) -> None:
    disk = bench.disk()
    call("e2fsck", "-f", "-p", f"{disk}?offset={START}")
    before = digest(disk)
    debugfs(disk, "set_super_value state 0")  # as a machine leaves it that was switched off
    assert digest(disk) != before
    pinned = digest(disk)
    bench.unpack(disk)
    assert digest(disk) == pinned  # a copy was put right


# -- what one machine was ---------------------------------------------------------------------------------------------

LEFT_OUT = {
    "etc/ssh/ssh_host_ed25519_key": "secret",
    "root/.ssh/authorized_keys": "ssh-ed25519 AAAA",
    "home/me/.ssh/id_ed25519": "secret",
    "root/.bash_history": "mysql -psecret",
    "etc/shadow-": SHADOW,
    "var/lib/cloud/instance/user-data.txt": "password: secret",
    "etc/sudoers.d/90-cloud-init-users": "me ALL=(ALL) NOPASSWD:ALL",
    "etc/systemd/network/10-cloud-init-ens3.network": "[Match]\nMACAddress=fa:16:3e:00:00:01\n",
    "var/lib/dbus/machine-id": "0123",
    "var/lib/systemd/random-seed": "seed",
    "var/log/journal/0123/system.journal": "log",
    "tmp/x": "x",
    "run/x": "x",
    "etc/apt/auth.conf": "machine example.org login me password secret",
    "etc/apt/auth.conf.d/ours.conf": "machine example.org login me password secret",
    "etc/resolv.conf": "nameserver 10.0.0.1",
    "etc/resolv.conf.ORIG": "nameserver 10.0.0.1",
}


REWRITTEN = {
    "etc/machine-id": "0123456789abcdef\n",
    "etc/security/opasswd": "me:1000:1:$6$old\n",
    "etc/shadow": SHADOW,
}


def test_no_identity_gets_out(bench: Bench) -> None:
    for name, content in {**LEFT_OUT, **REWRITTEN}.items():
        write(bench.tree / name, content)
    write(bench.tree / "etc/passwd", "root:x:0:0::/root:/bin/sh\nold:ab01FAX.bQRSU:5:5::/:/bin/sh\n")
    (bench.tree / "etc/shadow").chmod(0o640)
    (bench.tree / "etc/alias").hardlink_to(bench.tree / "etc/shadow")
    os.mknod(bench.tree / "device", 0o600 | stat.S_IFCHR, os.makedev(1, 3))
    bench.unpack(bench.disk())
    assert bench.names().isdisjoint({*LEFT_OUT, "device", "lost+found"})
    assert (bench.content("etc/machine-id"), bench.content("etc/security/opasswd")) == (b"", b"")
    assert bench.content("etc/shadow").decode().splitlines() == [
        "root:!:19000:0:99999:7:::",
        "bin:*:19000::::::",
        "me:!:19000::::::",
        "open:!:19000::::::",
        "no:!:1::::::",
    ]
    assert bench.content("etc/passwd") == b"root:x:0:0::/root:/bin/sh\nold:x:5:5::/:/bin/sh\n"
    with tarfile.open(bench.root / "base.tar") as tar:
        assert (tar.getmember("etc/shadow").mode, tar.getmember("etc/shadow").isreg()) == (0o640, True)


# -- bad input --------------------------------------------------------------------------------------------------------


def refused(bench: Bench, image: Path, error: type[FactoryError], text: str, **options: Any) -> None:  # noqa: ANN401
    with pytest.raises(error, match=text):
        bench.unpack(image, **options)


def test_another_image_than_the_pinned_one(bench: Bench) -> None:
    refused(bench, bench.disk(), BaseChanged, "has sha256 [0-9a-f]{64}, pinned is 0000", pinned="0" * 64)


def test_no_image_at_all(bench: Bench) -> None:
    refused(bench, bench.root / "none", BaseMissing, "cannot be opened", pinned="0" * 64)
    (bench.root / "link.raw").symlink_to(bench.disk())
    refused(bench, bench.root / "link.raw", BaseMissing, "symbolic link", pinned="0" * 64)


@pytest.mark.parametrize("content", [b"hello\n" * 1000, bytes(1 << 20), b"\x7fELF" + bytes(4096)])
def test_a_file_that_is_no_image(bench: Bench, content: bytes) -> None:
    refused(bench, write(bench.root / "base.qcow2", content), BaseNotAnImage, "no file system that is known")


def test_an_image_of_another_format(bench: Bench) -> None:
    call("qemu-img", "convert", "-f", "raw", "-O", "vmdk", bench.disk(), bench.root / "base.vmdk")
    refused(bench, bench.root / "base.vmdk", BaseNotAnImage, "is vmdk, and a base is raw or qcow2")


def test_an_image_that_refers_to_a_file_of_the_host(bench: Bench) -> None:
    bench.disk()
    image = bench.root / "base.qcow2"
    call("qemu-img", "create", "-f", "qcow2", "-F", "raw", "-b", bench.root / "disk.raw", image)
    refused(bench, image, ImageUnsafe, "backing_file")


def test_an_image_that_is_cut_short(bench: Bench) -> None:
    call("qemu-img", "convert", "-f", "raw", "-O", "qcow2", bench.disk(), bench.root / "base.qcow2")
    cut = write(bench.root / "cut.qcow2", (bench.root / "base.qcow2").read_bytes()[:200_000])
    with pytest.raises(FactoryError) as caught:
        bench.unpack(cut)
    assert caught.value.code in {"image-damaged", "base-damaged"}


def test_a_disk_that_is_too_large(bench: Bench, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(base, "MOST_DISK", 8 * MIB)
    refused(bench, bench.disk(), BaseTooLarge, "bytes, more than the limit")


def test_more_content_than_the_disk_of_the_recipe_has(bench: Bench) -> None:
    with (bench.tree / "large").open("wb") as stream:
        stream.truncate(65 * MIB)  # a hole: nothing on the disk, much in a tar
    refused(bench, bench.disk(), BaseTooLarge, "more bytes than disk.size")


@pytest.mark.parametrize("kind", ["ext2", "ext3"])
def test_older_file_systems(bench: Bench, kind: str) -> None:
    refused(bench, bench.disk(kind=kind), BaseUnsupported, "without extents")


@pytest.mark.parametrize("features", ["inline_data", "encrypt", "casefold", "meta_bg,^resize_inode"])
def test_features_that_would_be_read_wrong(bench: Bench, features: str) -> None:
    refused(bench, bench.disk("-O", features), BaseUnsupported, "features that are not known here")


@pytest.mark.parametrize(
    ("at", "magic", "name"), [(0, b"XFSB", "XFS"), (0x10040, b"_BHRfS_M", "Btrfs"), (0x218, b"LVM2 001", "LVM")]
)
def test_other_file_systems_are_named(bench: Bench, at: int, magic: bytes, name: str) -> None:
    disk = bench.root / "disk.raw"
    with disk.open("wb") as stream:
        stream.truncate(16 * MIB)
    call("sfdisk", "--quiet", disk, stdin=GPT)
    with disk.open("r+b") as stream:
        stream.seek(START + at)
        stream.write(magic)
    refused(bench, disk, BaseUnsupported, f"the base has {name} and no ext4")


def alter_partition(disk: Path, at: int, value: bytes) -> None:
    """Write into the first entry of a GPT, with checksums that agree (UEFI 2.10, 5.3)."""
    raw = bytearray(disk.read_bytes())
    raw[1024 + at : 1024 + at + len(value)] = value
    entries = crc32(raw[1024 : 1024 + 128 * 128])
    header = raw[512:604]
    header[16:20], header[88:92] = bytes(4), struct.pack("<I", entries)
    header[16:20] = struct.pack("<I", crc32(header))
    raw[512:604] = header
    disk.write_bytes(raw)


@pytest.mark.parametrize(
    ("at", "value"),
    [
        (56, b"\x00\xd8a\x00"),  # half of a surrogate pair
        (56, 'q"\n\x1b\\'.encode("utf-16-le")),
        (32, struct.pack("<QQ", 1 << 62, (1 << 62) + 9)),  # beyond what a file can hold
        (32, struct.pack("<QQ", (1 << 63) + 5, (1 << 63) + 9)),
    ],
    ids=["a name that is no text", "a name with control characters", "far beyond", "farther"],
)
def test_a_partition_table_of_somebody_s_own(bench: Bench, at: int, value: bytes) -> None:
    disk = bench.disk()
    alter_partition(disk, at, value)
    bench.unpack(disk)
    assert "var/lib/dpkg/status" in bench.names()


def test_two_file_systems(bench: Bench) -> None:
    disk = bench.disk(table="label: gpt\nstart=2048, size=2048, type=linux\nstart=4096, type=linux\n")
    call("mke2fs", "-q", "-F", "-t", "ext4", "-E", "offset=1048576", disk, "1024k")
    refused(bench, disk, BaseUnsupported, "2 ext4 file systems")


@pytest.mark.parametrize("line", ["UUID=1-2 /var ext4 defaults 0 2", "/dev/vdb1\t/srv\text4 nofail 0 2"])
def test_a_system_on_several_file_systems(bench: Bench, line: str) -> None:
    write(bench.tree / "etc/fstab", f"# a comment\nUUID=1 / ext4 defaults 0 1\n{line}\n/dev/vda2 none swap sw 0 0\n")
    refused(bench, bench.disk(), BaseUnsupported, "is a file system of its own")


def test_no_package_manager(bench: Bench) -> None:
    shutil.rmtree(bench.tree / "var")
    write(bench.tree / "usr/lib/os-release", 'ID="rocky"\nVERSION_ID="9.6"\n')
    (bench.tree / "usr/lib/sysimage/rpm").mkdir(parents=True)
    refused(
        bench, bench.disk(), BaseWithoutPackages, "rocky 9.6, has no known package manager: it has a database of RPM"
    )


@pytest.mark.parametrize("status", ["", "hello", "Package: /etc\nStatus: install ok installed\n\n", STATUS[14:]])
def test_a_package_database_that_is_none(bench: Bench, status: str) -> None:
    write(bench.tree / "var/lib/dpkg/status", status)
    refused(bench, bench.disk(), BaseWithoutPackages, "base")


@pytest.mark.parametrize(
    ("name", "content", "text"),
    [
        ("usr/lib/os-release", "ID=debian\nVERSION_ID='13'\n", "is debian 13, the recipe says debian 12"),
        ("usr/lib/os-release", 'ID=ubuntu\nVERSION_ID="12"\n', "is ubuntu 12, the recipe says debian 12"),
        ("usr/lib/os-release", "nothing\n", "is of an unknown operating system"),
        ("var/lib/dpkg/status", STATUS.replace("amd64", "arm64"), "is for arm64, the recipe says amd64"),
    ],
)
def test_another_operating_system(bench: Bench, name: str, content: str, text: str) -> None:
    write(bench.tree / name, content)
    refused(bench, bench.disk(), BaseForeign, text)


@pytest.mark.parametrize(
    "name",
    [
        *("etc/apt", "etc/apt/apt.conf.d/95x", "etc/apt/apt.conf.d/9\nx", "etc/machine-id", "etc/passwd", "usr/sbin"),
        *("usr/lib/diskimage-builder", "usr/lib/diskimage-builder/elements-functions"),
        *("var/lib/dpkg", "var/log", "var/log/apt"),
    ],
)
def test_links_that_would_lead_the_build_astray(bench: Bench, name: str) -> None:
    path = bench.tree / name
    shutil.rmtree(path, ignore_errors=True)
    path.parent.mkdir(parents=True, exist_ok=True)
    path.symlink_to("/etc")
    refused(bench, bench.disk(), BaseUnsupported, f"/{name} of the base is no")


def test_a_merged_usr_that_leads_out(bench: Bench) -> None:
    (bench.tree / "sbin").symlink_to("/usr/sbin")
    refused(bench, bench.disk(), BaseUnsupported, "/sbin of the base is neither")


# -- file systems that somebody altered -------------------------------------------------------------------------------


def test_a_damaged_file_system(bench: Bench) -> None:
    disk = bench.disk()
    debugfs(disk, "clri <2>")  # the root directory
    refused(bench, disk, BaseDamaged, "e2fsck finds")


Attack = Callable[[Path], None]


def _link_up(disk: Path) -> None:
    debugfs(disk, "mkdir a", "mkdir a/b", "ln <2> a/b/c", at=0)


def _slash(disk: Path) -> None:
    debugfs(disk, "symlink Xetc /etc", at=0)
    raw = disk.read_bytes()
    assert raw.count(b"Xetc") == 1
    disk.write_bytes(raw.replace(b"Xetc", b"/etc"))


def _twice(disk: Path) -> None:
    debugfs(disk, "symlink XX1 /etc", "symlink XX2 /etc", at=0)
    disk.write_bytes(disk.read_bytes().replace(b"XX2", b"XX1"))


def _beyond(disk: Path) -> None:
    debugfs(disk, "sif /usr/lib/os-release block[2] 0x0", "sif /usr/lib/os-release block[5] 0x7fffffff", at=0)


def _endless(disk: Path) -> None:
    debugfs(disk, "symlink endless x", "sif endless size 0x7fffffffffff", at=0)


@pytest.mark.parametrize("attack", [_link_up, _slash, _twice, _beyond, _endless])
def test_nothing_leaves_the_tree_even_where_e2fsck_sees_nothing(bench: Bench, attack: Attack) -> None:
    """The reading itself, without e2fsck before it."""
    disk = bench.root / "plain.raw"
    call("mke2fs", "-q", "-F", "-t", "ext4", "-O", "^metadata_csum", "-d", bench.tree, disk, "8M")
    attack(disk)
    with pytest.raises((BaseDamaged, BaseUnsupported)):
        read_all(disk)


def read_all(disk: Path) -> None:
    with ext4_tree.opened(disk, 0) as tree:
        for node in tree.walk():
            assert not node.path.startswith("/")
            if stat.S_ISREG(node.mode):
                assert sum(map(len, tree.content(node))) == node.size


def test_bytes_that_are_no_file_system(tmp_path: Path) -> None:
    disk = write(tmp_path / "disk", b"\xff" * (1 << 20))
    with pytest.raises((BaseDamaged, BaseUnsupported)):
        read_all(disk)


# -- by the clerk -----------------------------------------------------------------------------------------------------


def test_the_clerk_takes_it_apart(bench: Bench) -> None:
    image = bench.disk()
    (bench.root / "scratch").mkdir()
    request = {
        "action": "unpack",
        "image": str(image),
        "sha256": digest(image),
        "os": SYSTEM.model_dump(mode="json"),
        "most": 64 * MIB,
        "output": str(bench.root / "base.tar"),
        "scratch": str(bench.root / "scratch"),
        "log": str(bench.root / "log"),
        "environment": ENVIRONMENT,
    }
    from imagefactory.tools.hand import call_clerk  # noqa: PLC0415

    answer = call_clerk(request, environment=ENVIRONMENT, log=bench.root / "clerk.log", on_advance=lambda *_: None)
    assert answer["format"] == "raw"
    assert clerk.BASE_MEMORY >= 4 << 30
    with pytest.raises(BaseChanged):
        call_clerk(
            {**request, "sha256": "0" * 64},
            environment=ENVIRONMENT,
            log=bench.root / "clerk.log",
            on_advance=lambda *_: None,
        )
