"""The disk step with the real programs, on a root file system of a few files. Wants root, as the step does."""

import hashlib
import json
import os
import re
import shutil
import subprocess
import time
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path

import pytest

from imagefactory.errors import BootloaderMissing, DiskFull, DiskTooSmall, ProgramFailed, RootfsUnfit
from imagefactory.model.disk import MIB, TYPES, DiskLayout, Firmware, identities
from imagefactory.model.mounts import EXECUTABLE, SEPARATE
from imagefactory.steps.disk import assemble

HOST_MODULES = Path("/usr/lib/grub/i386-pc")
SEED = "0123456789abcdef" * 4
EPOCH = 1_700_000_000
OLD = 1_600_000_000
LAYOUT = DiskLayout(256 * MIB)
ENVIRONMENT = {"PATH": "/usr/sbin:/usr/bin:/sbin:/bin", "LC_ALL": "C.UTF-8", "TZ": "UTC"}
BOOT_FILES = {
    "usr/lib/shim/shimx64.efi.signed": b"shim" * 1000,
    "usr/lib/shim/mmx64.efi.signed": b"mok manager" * 1000,
    "usr/lib/grub/x86_64-efi-signed/grubx64.efi.signed": b"grub" * 1000,
    "boot/grub/grub.cfg": b"echo hello\n",
}
ODD_NAMES = [
    b"a b",
    b"quo\"te'",
    b"back\\slash",
    b"new\nline",
    b"latin-\xe9",
    "ünïcode-☃".encode(),
    b"n" * 255,
    b"-rf",
    b"<12>",
]

Make = Callable[..., Path]


def make_tree(tree: Path) -> Path:
    """A root file system with one of everything that a tar can hold."""
    for part, content in BOOT_FILES.items():
        path = tree / part
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(content)
    shutil.copytree(HOST_MODULES, tree / "usr/lib/grub/i386-pc")
    (tree / "boot/grub/i386-pc").mkdir()
    shutil.copy(HOST_MODULES / "normal.mod", tree / "boot/grub/i386-pc/normal.mod")
    odd = tree / "odd"
    odd.mkdir()
    for name in ODD_NAMES:
        Path(os.fsdecode(bytes(odd) + b"/" + name)).write_bytes(name)
    (odd / "owned").write_bytes(b"x" * 5000)
    os.chown(odd / "owned", 70000, 1234)
    (odd / "owned").chmod(0o4750)
    os.setxattr(odd / "owned", "security.capability", bytes.fromhex("0100000200040000000000000000000000000000"))
    os.link(odd / "owned", odd / "linked")
    (odd / "short").symlink_to("owned")
    (odd / "long").symlink_to("d/" * 60 + "end")
    os.mknod(odd / "device", 0o600 | 0o020000, os.makedev(1, 3))
    os.mkfifo(odd / "fifo")
    with (odd / "sparse").open("wb") as stream:
        stream.seek(3 * MIB)
        stream.write(b"end")
    many = tree / "many"
    many.mkdir()
    for number in range(300):
        (many / f"file-{number * 7919 % 300}").write_bytes(b"%d" % number)
    for path in (tree, *tree.rglob("*")):
        os.utime(path, (OLD, OLD), follow_symlinks=False)
    return tree


def pack(tree: Path, tar: Path) -> Path:
    call("tar", "--xattrs", "--xattrs-include=*", "--numeric-owner", "--sort=name", "-C", tree, "-cf", tar, ".")
    return tar


def call(*argv: str | Path, ok: bool = True) -> str:
    done = subprocess.run(argv, capture_output=True, check=False, env=ENVIRONMENT)
    assert not ok or done.returncode == 0, done.stderr.decode()
    return done.stdout.decode(errors="surrogateescape") + done.stderr.decode(errors="surrogateescape")


def digest(path: Path) -> str:
    with path.open("rb") as stream:
        return hashlib.file_digest(stream, "sha256").hexdigest()


def root_of(disk: Path, layout: DiskLayout = LAYOUT) -> str:
    """The root file system of `disk`, as e2fsprogs takes it."""
    return f"{disk}?offset={layout.root.start}"


def debugfs(request: str, disk: Path, layout: DiskLayout = LAYOUT) -> str:
    return call("debugfs", "-R", request, root_of(disk, layout))


@pytest.fixture(scope="module")
def rootfs(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A tar of one of everything."""
    folder = tmp_path_factory.mktemp("rootfs")
    return pack(make_tree(folder / "tree"), folder / "rootfs.tar")


@pytest.fixture
def tree(tmp_path: Path) -> Path:
    return make_tree(tmp_path / "tree")


def build(
    rootfs: Path,
    folder: Path,
    layout: DiskLayout = LAYOUT,
    *,
    seed: str = SEED,
    epoch: int = EPOCH,
    sizes: Mapping[str, int] | None = None,
    scratch: Path | None = None,
    environment: Mapping[str, str] = ENVIRONMENT,
) -> Path:
    """Assemble a disk in the new directory `folder`."""
    folder.mkdir()
    scratch = scratch or folder / "scratch"
    scratch.mkdir(exist_ok=True)
    disk = folder / "disk.raw"
    said: list[str] = []
    assemble(
        rootfs,
        disk,
        layout,
        sizes=sizes,
        seed=seed,
        epoch=epoch,
        scratch=scratch,
        log=folder / "log",
        environment=environment,
        on_advance=said.append,
    )
    assert said == ["root file system unpacked", "disk assembled"]
    return disk


@pytest.fixture(scope="module")
def disk(rootfs: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """One disk that the tests only look at."""
    return build(rootfs, tmp_path_factory.mktemp("disk") / "one")


@pytest.fixture
def shared_memory() -> Iterator[Path]:
    """A directory on a tmpfs, whose readdir has another order than the disk's."""
    folder = Path(f"/dev/shm/imagefactory-test-{os.getpid()}")  # noqa: S108 - its own name
    folder.mkdir()
    yield folder
    shutil.rmtree(folder)


@pytest.fixture
def tiny(tmp_path: Path) -> Iterator[Path]:
    """A file system with room for 4 MiB."""
    folder = tmp_path / "tiny"
    folder.mkdir()
    call("mount", "-t", "tmpfs", "-o", "size=4m", "tmpfs", folder)
    yield folder
    call("umount", folder)


def test_the_file_systems_and_the_table_are_clean(disk: Path, tmp_path: Path) -> None:
    assert "No errors detected" in call("sfdisk", "--verify", disk)
    call("e2fsck", "-fn", root_of(disk))
    efi = LAYOUT.find("efi")
    assert efi is not None
    esp = tmp_path / "esp"
    call("dd", f"if={disk}", f"of={esp}", "bs=1M", f"skip={efi.start // MIB}", f"count={efi.size // MIB}")
    call("fsck.fat", "-n", esp)


def test_the_table_has_the_identities_of_the_seed(disk: Path) -> None:
    who = identities(SEED)
    dump = call("sfdisk", "--dump", disk).lower()
    for uuid in (who.disk, *map(who.partition, ("bios", "efi", "root"))):
        assert str(uuid) in dump
    facts = call("dumpe2fs", "-h", root_of(disk))
    assert re.search(rf"UUID: +{who.filesystem()}", facts)
    assert re.search(rf"Hash Seed: +{who.hash_seed()}", facts)
    assert re.search(r"volume name: +cloudimg-rootfs", facts)


def test_the_disk_is_sparse(disk: Path) -> None:
    facts = disk.stat()
    assert facts.st_size == LAYOUT.size
    assert facts.st_blocks * 512 < 32 * MIB


def test_content_owners_modes_links_and_attributes_arrive(disk: Path, rootfs: Path, tmp_path: Path) -> None:
    out = tmp_path / "out"
    out.mkdir()
    debugfs(f"rdump /odd {out}", disk)
    for name in ODD_NAMES:
        assert Path(os.fsdecode(bytes(out) + b"/odd/" + name)).read_bytes() == name
    assert (out / "odd/sparse").stat().st_size == 3 * MIB + 3
    owned, linked = debugfs("stat /odd/owned", disk), debugfs("stat /odd/linked", disk)
    assert re.search(r"Mode:  04750", owned)
    assert re.search(r"User: +70000 +Group: +1234", owned)
    assert re.search(r"Links: 2", owned)
    assert re.findall(r"Inode: \d+", owned) == re.findall(r"Inode: \d+", linked)
    assert "security.capability (20)" in owned
    assert "character special" in debugfs("stat /odd/device", disk)
    assert 'Fast link dest: "owned"' in debugfs("stat /odd/short", disk)
    assert rootfs.exists()


def test_mount_points_are_there_even_if_the_tar_has_none(disk: Path) -> None:
    for name in ("proc", "sys", "dev", "run"):
        facts = debugfs(f"stat /{name}", disk)
        assert "Type: directory    Mode:  0755" in facts
        assert set(re.findall(r"[cam]time: 0x([0-9a-f]+)", facts)) == {f"{EPOCH:08x}"}


def test_only_modification_times_come_from_the_tar(disk: Path) -> None:
    for name in ("/odd/owned", "/odd/short", "/odd", "/many/file-299", "/odd/device"):
        facts = debugfs(f"stat {name}", disk)
        assert re.findall(r"([acmr]+time): 0x([0-9a-f]+:[0-9a-f]+)", facts) == [
            ("ctime", f"{EPOCH:08x}:00000000"),
            ("atime", f"{EPOCH:08x}:00000000"),
            ("mtime", f"{OLD:08x}:00000000"),
            ("crtime", f"{EPOCH:08x}:00000000"),
        ]


def test_the_efi_system_partition_has_the_signed_programs(disk: Path, tmp_path: Path) -> None:
    efi = LAYOUT.find("efi")
    assert efi is not None
    shim, mok, grub = (BOOT_FILES[name] for name in list(BOOT_FILES)[:3])
    wanted = {
        "EFI/BOOT/BOOTX64.EFI": shim,
        "EFI/BOOT/grubx64.efi": grub,
        "EFI/BOOT/mmx64.efi": mok,
        "EFI/debian/shimx64.efi": shim,
        "EFI/debian/grubx64.efi": grub,
        "EFI/debian/mmx64.efi": mok,
    }
    for name, content in wanted.items():
        call("mcopy", "-n", "-i", f"{disk}@@{efi.start}", f"::/{name}", tmp_path / "got")
        assert (tmp_path / "got").read_bytes() == content
        (tmp_path / "got").unlink()
    config = call("mtype", "-i", f"{disk}@@{efi.start}", "::/EFI/debian/grub.cfg")
    assert f"search.fs_uuid {identities(SEED).filesystem()} root" in config
    assert "UEFI" in call("mlabel", "-s", "-i", f"{disk}@@{efi.start}", "::")


def test_the_efi_system_partition_does_not_look_like_a_partitioned_disk(disk: Path) -> None:
    efi = LAYOUT.find("efi")
    assert efi is not None
    with disk.open("rb") as stream:
        for sector in (0, 6):
            stream.seek(efi.start + sector * 512)
            content = stream.read(512)
            assert content[82:90] == b"FAT32   "
            assert not any(content[0x1BE:0x1FE])


def test_bios_finds_the_core_image(disk: Path) -> None:
    bios = LAYOUT.find("bios")
    assert bios is not None
    with disk.open("rb") as stream:
        sector = stream.read(512)
        stream.seek(bios.start)
        core = stream.read(bios.size)
    assert int.from_bytes(sector[0x5C:0x64], "little") * 512 == bios.start
    assert sector[510:] == b"\x55\xaa"
    assert sector[450] == 0xEE  # the protective MBR is still there
    rest, count = int.from_bytes(core[0x1F4:0x1FC], "little"), int.from_bytes(core[0x1FC:0x1FE], "little")
    assert rest * 512 == bios.start + 512
    assert any(core[count * 512 : (count + 1) * 512])
    assert not any(core[(count + 1) * 512 :])


def test_equal_inputs_give_equal_bytes(rootfs: Path, disk: Path, tmp_path: Path, shared_memory: Path) -> None:
    time.sleep(1.1)  # every clock in the disk counts whole seconds, but FAT's, which counts two
    before = os.umask(0o077)
    try:
        other = build(
            rootfs,
            tmp_path / "a longer name, with spaces",
            scratch=shared_memory,
            environment={**ENVIRONMENT, "TZ": "Asia/Tokyo", "LC_ALL": "C", "HOME": str(tmp_path)},
        )
    finally:
        os.umask(before)
    assert digest(disk) == digest(other)
    assert digest(disk) == digest(build(rootfs, tmp_path / "again"))


def test_an_older_output_makes_no_difference(rootfs: Path, disk: Path, tmp_path: Path) -> None:
    folder = tmp_path / "used"
    folder.mkdir()
    (folder / "disk.raw").write_bytes(b"\xff" * MIB)
    (folder / "scratch").mkdir()
    assemble(
        rootfs,
        folder / "disk.raw",
        LAYOUT,
        seed=SEED,
        epoch=EPOCH,
        scratch=folder / "scratch",
        log=folder / "log",
        environment=ENVIRONMENT,
        on_advance=lambda _: None,
    )
    assert digest(disk) == digest(folder / "disk.raw")


def test_another_seed_or_epoch_gives_other_bytes(rootfs: Path, disk: Path, tmp_path: Path) -> None:
    assert digest(disk) != digest(build(rootfs, tmp_path / "seed", seed=SEED[::-1]))
    assert digest(disk) != digest(build(rootfs, tmp_path / "epoch", epoch=EPOCH + 2))


@pytest.mark.parametrize("firmware", [("bios", "uefi"), ("bios",), ("uefi",)], ids=" ".join)
def test_upgrades_renew_the_boot_loader_of_a_disk_for_both(
    firmware: tuple[Firmware, ...], tree: Path, tmp_path: Path
) -> None:
    """grub-cloud-amd64 asks for the file; on a disk for one firmware it would fail."""
    (tree / "etc/grub.d").mkdir(parents=True)
    layout = DiskLayout(256 * MIB, firmware)
    disk = build(pack(tree, tmp_path / "rootfs.tar"), tmp_path / "made", layout)
    found = debugfs("stat /etc/grub.d/enable_cloud", disk, layout)
    assert ("Type: regular    Mode:  0644" in found) == (len(firmware) == 2)
    assert ("File not found" in found) == (len(firmware) == 1)


def test_what_an_image_says_of_its_boot_loader_stays(tree: Path, tmp_path: Path) -> None:
    (tree / "etc/grub.d").mkdir(parents=True)
    (tree / "etc/grub.d/enable_cloud").symlink_to("/etc/passwd")
    disk = build(pack(tree, tmp_path / "rootfs.tar"), tmp_path / "made")
    assert "Type: symlink" in debugfs("stat /etc/grub.d/enable_cloud", disk)


@pytest.mark.parametrize("firmware", [("bios",), ("uefi",)])
def test_one_firmware_alone_needs_no_other_parts(firmware: tuple[Firmware, ...], tree: Path, tmp_path: Path) -> None:
    gone = "usr/lib/shim" if firmware == ("bios",) else "usr/lib/grub/i386-pc"
    shutil.rmtree(tree / gone)
    layout = DiskLayout(128 * MIB, firmware)
    made = build(pack(tree, tmp_path / "rootfs.tar"), tmp_path / "made", layout)
    call("e2fsck", "-fn", root_of(made, layout))
    with made.open("rb") as stream:
        assert any(stream.read(440)) == (firmware == ("bios",))


@pytest.mark.parametrize(
    "name",
    [
        *BOOT_FILES,
        "usr/lib/grub/i386-pc/boot.img",
        "usr/lib/grub/i386-pc/kernel.img",
        "boot/grub/i386-pc/normal.mod",
    ],
)
def test_each_missing_part_is_named(name: str, tree: Path, tmp_path: Path) -> None:
    (tree / name).unlink()
    with pytest.raises(BootloaderMissing, match=re.escape(name)):
        build(pack(tree, tmp_path / "rootfs.tar"), tmp_path / "made")


@pytest.mark.parametrize("name", ["usr/lib/shim/shimx64.efi.signed", "usr/lib/grub/i386-pc/ext2.mod", "usr/lib/grub"])
def test_a_link_that_leads_to_the_host_is_not_followed(name: str, tree: Path, tmp_path: Path) -> None:
    path = tree / name
    path.rename(tree / "moved")
    host = tmp_path / "host"
    shutil.copytree(tree / "moved", host) if (tree / "moved").is_dir() else shutil.copy(tree / "moved", host)
    path.symlink_to(host)
    with pytest.raises(BootloaderMissing):
        build(pack(tree, tmp_path / "rootfs.tar"), tmp_path / "made")


@pytest.mark.parametrize("kind", ["bytes", "files"])
def test_a_disk_that_is_too_small_says_which_size_does(kind: str, tree: Path, tmp_path: Path) -> None:
    big = tree / "big"
    big.mkdir()
    if kind == "bytes":
        for number in range(40):
            (big / str(number)).write_bytes(os.urandom(MIB))
    else:
        for number in range(6000):
            (big / f"a-name-of-some-length-{number}").touch()
    tar = pack(tree, tmp_path / "rootfs.tar")
    with pytest.raises(DiskTooSmall) as caught:
        build(tar, tmp_path / "small", DiskLayout(96 * MIB))
    found = re.search(r"at least (\d+) MiB", caught.value.message)
    assert found is not None
    enough = int(found[1])
    assert 96 < enough < 200
    layout = DiskLayout(enough * MIB)
    call("e2fsck", "-fn", root_of(build(tar, tmp_path / "enough", layout), layout))


def test_a_full_disk_is_called_so(rootfs: Path, tiny: Path, tmp_path: Path) -> None:
    scratch = tmp_path / "scratch"
    scratch.mkdir()
    with pytest.raises(DiskFull):
        build(rootfs, tiny / "made", scratch=scratch)


def test_a_full_scratch_is_called_so(rootfs: Path, tiny: Path, tmp_path: Path) -> None:
    with pytest.raises(DiskFull):
        build(rootfs, tmp_path / "made", scratch=tiny)


def test_a_broken_tar_is_an_error_with_the_lines_that_matter(tmp_path: Path) -> None:
    broken = tmp_path / "broken.tar"
    broken.write_bytes(b"no tar at all" * 1000)
    with pytest.raises(ProgramFailed, match="tar") as caught:
        build(broken, tmp_path / "made")
    assert any("tar archive" in line for line in caught.value.lines)


# -- file systems of their own -----------------------------------------------------------------------------------------

BIG = DiskLayout(8192 * MIB)
SIZES = {"/srv": 64 * MIB, "/var/log": 128 * MIB}


def make_system(tree: Path) -> Path:
    """A root file system with something in each directory that gets a file system of its own."""
    make_tree(tree)
    for part, mode in (("var/log", 0o2775), ("var/tmp", 0o1777), ("var/lib/dpkg/info", 0o755), ("home/user", 0o700)):
        (tree / part).mkdir(parents=True)
        (tree / part).chmod(mode)
    for mount in SEPARATE[:-2]:  # /srv and /opt are made
        folder = tree / mount.path[1:]
        folder.mkdir(parents=True, exist_ok=True)
        (folder / "note").write_text(f"{mount.path}\n")
    os.chown(tree / "var/log", 0, 4)
    os.setxattr(tree / "var/log", "trusted.kept", b"a value of its own")
    os.setxattr(tree / "usr/note", "security.capability", bytes.fromhex("0100000200040000000000000000000000000000"))
    os.link(tree / "var/note", tree / "home/linked")
    (tree / "usr/big").write_bytes(bytes(24 * MIB))
    (tree / "etc").mkdir()
    (tree / "etc/fstab").write_text("LABEL=old / ext4 defaults 0 1\ntmpfs /dev/shm tmpfs nodev,nosuid,noexec 0 0\n")
    for path in (tree, *tree.rglob("*")):
        os.utime(path, (OLD, OLD), follow_symlinks=False)
    return tree


class Separate:
    """A disk with file systems of their own, and where they lie on it, by sfdisk."""

    def __init__(self, disk: Path) -> None:
        self.disk = disk
        table = json.loads(call("sfdisk", "--json", disk))["partitiontable"]
        self.partitions = {partition["name"]: partition for partition in table["partitions"]}

    def where(self, role: str) -> str:
        return f"{self.disk}?offset={self.partitions[role]['start'] * 512}"

    def debugfs(self, request: str, role: str) -> str:
        return call("debugfs", "-R", request, self.where(role))


@pytest.fixture(scope="module")
def system(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("system")
    return pack(make_system(folder / "tree"), folder / "rootfs.tar")


@pytest.fixture(scope="module")
def separate(system: Path, tmp_path_factory: pytest.TempPathFactory) -> Separate:
    return Separate(build(system, tmp_path_factory.mktemp("separate") / "one", BIG, sizes=SIZES))


def test_each_file_system_is_clean_and_has_its_partition(separate: Separate) -> None:
    who = identities(SEED)
    assert "No errors detected" in call("sfdisk", "--verify", separate.disk)
    assert list(separate.partitions) == ["bios", "efi", *(mount.role for mount in SEPARATE), "root"]
    for role, partition in separate.partitions.items():
        assert (partition["type"].lower(), partition["uuid"].lower()) == (str(TYPES[role]), str(who.partition(role)))
    for role in (*(mount.role for mount in SEPARATE), "root"):
        call("e2fsck", "-fn", separate.where(role))
        facts = call("dumpe2fs", "-h", separate.where(role))
        assert re.search(rf"UUID: +{who.filesystem(role)}", facts)
        assert re.search(rf"Hash Seed: +{who.hash_seed(role)}", facts)
        assert re.search(rf"volume name: +{'cloudimg-rootfs' if role == 'root' else role}\n", facts)
    assert separate.disk.stat().st_blocks * 512 < 400 * MIB


def test_each_has_its_own_content_and_an_empty_directory_remains(separate: Separate) -> None:
    for mount in SEPARATE[:-2]:
        assert separate.debugfs("cat /note", mount.role).splitlines()[0] == mount.path
    for path, role in (("/usr", "root"), ("/boot", "root"), ("/var", "root"), ("/log", "var"), ("/audit", "var-log")):
        entries = separate.debugfs(f"ls -p {path}", role)
        assert re.findall(r"/\d+/\d+/\d+/\d+/([^/]+)/", entries) == [".", ".."]
    assert "/note" not in separate.debugfs("ls -p /", "root")


def test_the_top_of_each_is_like_the_directory_was(separate: Separate) -> None:
    wanted = {"var-log": (0o2775, 4), "var-tmp": (0o1777, 0), "boot": (0o755, 0), "srv": (0o755, 0), "opt": (0o755, 0)}
    for role, (mode, group) in wanted.items():
        facts = separate.debugfs("stat /", role)
        assert f"Mode:  0{mode:o}" in facts
        assert re.search(rf"User: +0 +Group: +{group} ", facts)
        times = dict(re.findall(r" (\w+time): 0x([0-9a-f]+)", facts))
        assert (times["ctime"], times["atime"]) == (f"{EPOCH:08x}", f"{EPOCH:08x}")
        assert times["mtime"] == f"{EPOCH if role in ('srv', 'opt') else OLD:08x}"
    assert "a value of its own" in separate.debugfs("ea_get / trusted.kept", "var-log")
    assert "security.capability (20)" in separate.debugfs("stat /note", "usr")
    # The mount points below them, which show while nothing is mounted, and the directories that they lie in.
    assert "Mode:  02775" in separate.debugfs("stat /log", "var")
    for path, role in (("/", "var"), ("/log", "var"), ("/usr", "root")):
        assert f" mtime: 0x{OLD:08x}" in separate.debugfs(f"stat {path}", role)


def test_sizes_are_those_that_were_wanted_or_leave_the_free_space(separate: Separate) -> None:
    for mount in SEPARATE:
        size = separate.partitions[mount.role]["size"] * 512
        if mount.path in SIZES:
            assert size == SIZES[mount.path]
            continue
        facts = call("dumpe2fs", "-h", separate.where(mount.role))
        blocks = {
            key: int(count) for key, count in re.findall(r"^(\w+ blocks|Free blocks|Block count): +(\d+)", facts, re.M)
        }
        assert mount.free <= blocks["Free blocks"] * 4096 <= mount.free * 11 // 10 + 64 * MIB
    root = separate.partitions["root"]
    assert (root["start"] + root["size"]) * 512 == BIG.size - MIB


def test_fstab_names_every_file_system(separate: Separate) -> None:
    who = identities(SEED)
    text = separate.debugfs("cat /etc/fstab", "root")
    for mount in SEPARATE:
        assert (
            f"UUID={who.filesystem(mount.role)} {mount.path} ext4 defaults,discard,{','.join(mount.options)} 0 2\n"
            in text
        )
    assert "LABEL=cloudimg-rootfs / ext4 " in text
    assert "LABEL=old" not in text
    assert "tmpfs /dev/shm tmpfs nodev,nosuid,noexec 0 0\n" in text
    for path in EXECUTABLE:  # the tree has only one of them
        assert f"{path} {path} none bind,exec,nosuid,nodev 0 0\n" in text
        assert "Type: directory    Mode:  0755" in separate.debugfs(f"stat {path.removeprefix('/var')}", "var")
    assert f" mtime: 0x{EPOCH:08x}" in separate.debugfs("stat /etc/fstab", "root")


def test_both_boot_loaders_look_for_the_file_system_of_boot(separate: Separate) -> None:
    start = separate.partitions["efi"]["start"] * 512
    config = call("mtype", "-i", f"{separate.disk}@@{start}", "::/EFI/debian/grub.cfg")
    assert f"search.fs_uuid {identities(SEED).filesystem('boot')} root\nset prefix=($root)/grub\n" in config
    assert separate.debugfs("cat /grub/grub.cfg", "boot").startswith("echo hello")
    assert "Type: directory" in separate.debugfs("stat /efi", "boot")
    with separate.disk.open("rb") as stream:
        sector = stream.read(512)
    assert int.from_bytes(sector[0x5C:0x64], "little") == separate.partitions["bios"]["start"]


def test_equal_inputs_give_equal_file_systems(
    system: Path, separate: Separate, tmp_path: Path, shared_memory: Path
) -> None:
    time.sleep(1.1)
    before = os.umask(0o077)
    try:
        other = build(
            system,
            tmp_path / "a longer name, with spaces",
            BIG,
            sizes=SIZES,
            scratch=shared_memory,
            environment={**ENVIRONMENT, "TZ": "Asia/Tokyo", "LC_ALL": "C", "HOME": str(tmp_path)},
        )
    finally:
        os.umask(before)
    assert digest(separate.disk) == digest(other)


def test_too_small_a_disk_names_every_file_system_and_the_size_that_does(system: Path, tmp_path: Path) -> None:
    with pytest.raises(DiskTooSmall) as caught:
        build(system, tmp_path / "small", DiskLayout(2048 * MIB), sizes={})
    assert all(f"{mount.path} " in caught.value.message for mount in SEPARATE)
    found = re.search(r"at least (\d+) MiB", caught.value.message)
    assert found is not None
    made = Separate(build(system, tmp_path / "enough", DiskLayout(int(found[1]) * MIB), sizes={}))
    call("e2fsck", "-fn", made.where("root"))
    with pytest.raises(DiskTooSmall, match="/usr needs at least"):
        build(system, tmp_path / "cramped", BIG, sizes={"/usr": 16 * MIB})


@pytest.mark.parametrize("link", ["srv", "var/log", "etc"])
def test_a_mount_point_that_is_a_link_is_refused(link: str, tmp_path: Path) -> None:
    tree = make_system(tmp_path / "tree")
    if (tree / link).exists():
        shutil.rmtree(tree / link)
    (tree / link).symlink_to(tmp_path)
    with pytest.raises(RootfsUnfit, match=f"/{link} is no directory"):
        build(pack(tree, tmp_path / "rootfs.tar"), tmp_path / "made", BIG, sizes={})
