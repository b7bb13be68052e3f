"""File systems of their own: which there are, how big they get, what fstab says of them."""

from collections.abc import Mapping
from pathlib import Path, PurePosixPath
from uuid import UUID

import pytest
from hypothesis import given
from hypothesis import strategies as st

from imagefactory.errors import DiskTooSmall, RootfsUnfit
from imagefactory.model.disk import ALIGNMENT, MIB, TYPES, DiskLayout, Firmware, identities, separate
from imagefactory.model.fstab import fstab
from imagefactory.model.mounts import (
    EXECUTABLE,
    LINUX_DATA,
    SEPARATE,
    SMALLEST,
    Need,
    misnamed,
)
from imagefactory.tools.ext4 import adopt_root, needed

WHO = identities("5e" * 32)
PATHS = [mount.path for mount in SEPARATE]
GIB = 1 << 30

needs = st.fixed_dictionaries(
    dict.fromkeys(
        PATHS,
        st.tuples(st.integers(1, 2 * GIB), st.integers(0, GIB)).map(lambda pair: Need(pair[0], pair[0] + pair[1])),
    )
)
# What ANSSI BP-028 (enhanced) wants of each, by the rules mount_option_* of the SCAP Security Guide; nodev is wanted of
# every partition that is not root (mount_option_nodev_nonroot_local_partitions).
WANTED = {
    "/boot": {"nodev", "nosuid", "noexec"},
    "/usr": {"nodev"},
    "/var": {"nodev", "nosuid", "noexec"},
    "/var/log": {"nodev", "nosuid", "noexec"},
    "/var/log/audit": {"nodev"},
    "/var/tmp": {"nodev", "nosuid", "noexec"},  # noqa: S108
    "/tmp": {"nodev", "nosuid", "noexec"},  # noqa: S108
    "/home": {"nodev", "nosuid", "noexec"},
    "/srv": {"nodev", "nosuid"},
    "/opt": {"nodev", "nosuid"},
}


def laid_out(firmware: tuple[Firmware, ...] = ("bios", "uefi")) -> DiskLayout:
    """A disk with all of them."""
    return separate(DiskLayout(16 * GIB, firmware), {path: Need(MIB, 64 * MIB) for path in PATHS}, {}, 64 * MIB)


def lines(text: str) -> dict[str, list[str]]:
    """The fields of each line of an fstab, by mount point."""
    found = {line.split()[1]: line.split() for line in text.splitlines()}
    assert len(found) == len(text.splitlines())
    return found


def test_every_directory_that_the_standard_names_has_one_with_its_options() -> None:
    assert {mount.path: set(mount.options) >= WANTED[mount.path] for mount in SEPARATE} == dict.fromkeys(WANTED, True)


def test_names_fit_into_a_label_and_are_used_once() -> None:
    roles = [mount.role for mount in SEPARATE]
    assert len({*roles, "bios", "efi", "root"}) == len(roles) + 3
    assert all(len(role.encode()) <= 16 for role in roles)


def test_what_lies_inside_another_comes_after_it() -> None:
    for number, mount in enumerate(SEPARATE):
        assert not any(PurePosixPath(path) in PurePosixPath(mount.path).parents for path in PATHS[number:])


def test_types_are_those_that_can_be_discovered() -> None:
    # The Discoverable Partitions Specification; x86-64 for /usr.
    assert TYPES["boot"] == UUID("bc13c2ff-59e6-4262-a352-b275fd6f7172")
    assert TYPES["usr"] == UUID("8484680c-9521-48c6-9c11-b0720656f69e")
    assert TYPES["var"] == UUID("4d21b016-b534-45c2-a9fb-5c16e091fd2d")
    assert TYPES["var-tmp"] == UUID("7ec6f557-3bc5-4aca-b293-16ef5df639d1")
    assert TYPES["home"] == UUID("933ac7e1-2eb4-4f13-b844-0e14e2aef915")
    assert TYPES["srv"] == UUID("3b8f8425-20e0-4f3b-907f-1a25a76f98e8")
    assert {TYPES[role] for role in ("var-log", "var-log-audit", "tmp", "opt")} == {LINUX_DATA}


@given(needs, st.integers(MIB, GIB))
def test_each_gets_its_room_or_the_error_names_a_disk_that_does(wants: Mapping[str, Need], root: int) -> None:
    with pytest.raises(DiskTooSmall, match=r"at least (\d+) MiB") as caught:
        separate(DiskLayout(512 * MIB), wants, {"/usr": 4 * GIB}, root)
    assert all(f"{path} " in caught.value.message for path in [*PATHS, "/"])
    size = int(caught.value.message.split("at least ")[1].split()[0]) * MIB
    layout = separate(DiskLayout(size), wants, {"/usr": 4 * GIB}, root)
    assert list(layout.mounts) == list(SEPARATE)
    assert all(got % ALIGNMENT == 0 for got in layout.mounts.values())
    for mount, got in layout.mounts.items():
        assert got == 4 * GIB if mount.path == "/usr" else 0 <= got - wants[mount.path].roomy < MIB or got == SMALLEST
    assert layout.root.size >= root
    assert layout.partitions[-1].role == "root"
    with pytest.raises(DiskTooSmall):
        separate(DiskLayout(size - MIB), wants, {"/usr": 4 * GIB}, root)


def test_a_size_that_does_not_hold_the_content_is_named() -> None:
    wants = {path: Need(100 * MIB + 1, GIB) for path in PATHS}
    with pytest.raises(DiskTooSmall) as caught:
        separate(DiskLayout(64 * GIB), wants, {"/var": 100 * MIB, "/usr": 20 * MIB, "/opt": 101 * MIB}, MIB)
    assert "/var needs at least 101 MiB and has 100 MiB, /usr needs at least 101 MiB and has 20 MiB" in str(
        caught.value.message
    )
    assert "/opt" not in caught.value.message


def test_a_partition_smaller_than_a_file_system_is_none() -> None:
    for size in (SMALLEST - MIB, SMALLEST + 1):
        with pytest.raises(ValueError, match="partition"):
            DiskLayout(GIB, mounts={SEPARATE[0]: size})


@pytest.mark.parametrize(
    ("path", "hint"),
    [("/vra", "did you mean /var?"), ("/", "/ takes what the others leave"), ("/etc", "these have: /boot, ")],
)
def test_a_directory_without_one_is_refused(path: str, hint: str) -> None:
    assert misnamed(PATHS) is None
    assert hint in str(misnamed([*PATHS, path]))


# -- fstab ------------------------------------------------------------------------------------------------------------


def test_fstab_of_a_single_file_system() -> None:
    root = "LABEL=cloudimg-rootfs / ext4 defaults,discard,errors=remount-ro 0 1\n"
    assert fstab(DiskLayout(GIB, ("bios",)), WHO) == root
    assert fstab(DiskLayout(GIB), WHO) == root + "LABEL=UEFI /boot/efi vfat umask=0077,nofail 0 0\n"


def test_fstab_has_each_file_system_by_its_uuid_and_with_its_options() -> None:
    found = lines(fstab(laid_out(), WHO, executable=EXECUTABLE))
    assert set(found) == {"/", "/boot/efi", *PATHS, *EXECUTABLE}
    for mount in SEPARATE:
        device, _, kind, options, dump, check = found[mount.path]
        assert device == f"UUID={WHO.filesystem(mount.role)}"
        assert (kind, dump, check) == ("ext4", "0", "2")
        assert set(options.split(",")) >= WANTED[mount.path]
    assert set(found["/boot/efi"][3].split(",")) >= {"nodev", "nosuid", "noexec", "nofail"}
    for path in EXECUTABLE:
        assert found[path] == [path, path, "none", "bind,exec,nosuid,nodev", "0", "0"]


@pytest.mark.parametrize("firmware", [("bios",), ("uefi",), ("bios", "uefi")])
def test_what_is_mounted_inside_another_is_mounted_after_it(firmware: tuple[Firmware, ...]) -> None:
    order = list(lines(fstab(laid_out(firmware), WHO, executable=EXECUTABLE)))
    assert order[0] == "/"
    assert ("/boot/efi" in order) == ("uefi" in firmware)
    for number, path in enumerate(order):
        assert not set(map(str, PurePosixPath(path).parents)) & set(order[number + 1 :])


def test_other_entries_stay_and_ours_come_once() -> None:
    before = (
        "# UNCONFIGURED FSTAB\n\n"
        "UUID=0 / ext4 defaults 0 1\n"
        "/dev/sda1 /var/ ext4 defaults 0 2\n"
        "/dev/sda2 //home ext4 defaults 0 2\n"
        "tmpfs /dev/shm tmpfs nodev,nosuid,noexec 0 0\n"
        "nothing\n"
        "/swapfile none swap sw 0 0\n"
    )
    text = fstab(laid_out(), WHO, before=before)
    assert text.endswith("\ntmpfs /dev/shm tmpfs nodev,nosuid,noexec 0 0\n/swapfile none swap sw 0 0\n")
    assert set(lines(text)) == {"/", "/boot/efi", *PATHS, "/dev/shm", "none"}  # noqa: S108
    single = fstab(DiskLayout(GIB), WHO, before=before)
    assert set(lines(single)) == {"/", "/boot/efi", "/var/", "//home", "/dev/shm", "none"}  # noqa: S108


@given(st.text(max_size=300))
def test_written_again_it_stays_as_it_is(before: str) -> None:
    layout = laid_out()
    once = fstab(layout, WHO, executable=EXECUTABLE, before=before)
    assert fstab(layout, WHO, executable=EXECUTABLE, before=once) == once
    assert once.startswith(fstab(layout, WHO, executable=EXECUTABLE))


# -- what a directory needs -------------------------------------------------------------------------------------------


def test_what_lies_elsewhere_does_not_count(tmp_path: Path) -> None:
    (tmp_path / "log/audit").mkdir(parents=True)
    (tmp_path / "tmp").mkdir()
    (tmp_path / "log/syslog").write_bytes(bytes(40 * MIB))
    (tmp_path / "log/audit/audit.log").write_bytes(bytes(60 * MIB))
    everything = needed(tmp_path)
    assert everything > 100 * MIB
    assert needed(tmp_path, without={tmp_path / "log"}) < 20 * MIB
    assert 40 * MIB < needed(tmp_path / "log", without={tmp_path / "log", tmp_path / "log/audit"}) < 60 * MIB
    assert needed(tmp_path, without={tmp_path / "elsewhere"}) == everything


def test_free_space_is_beside_what_a_file_system_keeps_for_itself(tmp_path: Path) -> None:
    for free in (0, 100 * MIB, GIB, 10 * GIB):
        assert needed(tmp_path, free=free) >= free * 101 // 100
    assert needed(tmp_path, free=GIB) > needed(tmp_path, free=GIB - 100 * MIB)


@pytest.mark.parametrize("name", ["user.x\nwrite /etc/shadow shadow", "user.a b", "user.\udcff", ""])
def test_the_name_of_an_attribute_is_no_command(name: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A tar that nobody vouches for has chosen it, and debugfs reads it line by line, as root."""
    monkeypatch.setattr("os.listxattr", lambda *_, **__: [name])
    monkeypatch.setattr("os.getxattr", lambda *_, **__: b"")
    with pytest.raises(RootfsUnfit, match="a strange name"):
        adopt_root(tmp_path / "disk", 0, tmp_path, scratch=tmp_path, epoch=0, env={"PATH": "/nowhere"})
