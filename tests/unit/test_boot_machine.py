"""Command lines, boot sectors, partition tables, accelerators: the parts of a boot test that need no machine."""

import json
import os
import socket
import struct
import tempfile
import time
from dataclasses import replace
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from imagefactory.errors import BootCheckFailed, BootNoLoader, FirmwareMissing, ProgramFailed, ProgramMissing
from imagefactory.tools import boot_sector, firmware, loader, ssh
from imagefactory.tools.firmware import TCG, Accelerator, firmware_argv, probe_kvm
from imagefactory.tools.machine import DEVICES, Machine, Wires
from imagefactory.tools.overlay import Overlay
from imagefactory.tools.qmp import Channel, ChannelLost, ChannelSilent
from imagefactory.tools.runstate import Runstate, WrongState, changed
from imagefactory.tools.vm import VM

ED25519 = "ssh-ed25519 AAAAC3NzaC1lZDI1NTE5AAAAI" + "A" * 43
WIRES = Wires(monitor=5, agent=6, port=2222, console=Path("/logs/a,b"), firmware=Path("/work/debug"))


def machine() -> Machine:
    disk = Overlay(Path("/w/disk.qcow2"), Path('/images/a",b.raw'), "raw", 1 << 30, 2 << 30)
    return Machine("bios", TCG, 512, 2, disk, Path("/w/seed.iso"))


def fake(directory: Path, name: str, script: str) -> dict[str, str]:
    program = directory / name
    program.write_text(f"#!/bin/sh\n{script}\n")
    program.chmod(0o755)
    return {"PATH": f"{directory}:/usr/bin:/bin"}


# -- the command line -------------------------------------------------------------------------------------------------


def test_a_machine_has_no_way_out(tmp_path: Path) -> None:
    argv = machine().argv("bios", WIRES, tmp_path)
    assert "user,id=net,restrict=on,hostfwd=tcp:127.0.0.1:2222-:22" in argv
    assert {"-nodefaults", "-no-user-config", "-no-reboot", "-no-shutdown"} <= set(argv)
    assert argv[argv.index("-sandbox") + 1].startswith("on,")
    assert argv[argv.index("-display") + 1] == "none"


def test_another_disk_changes_no_device_before_it(tmp_path: Path) -> None:
    """A guest names its network card by its place on the bus, and the first boot's configuration has that name."""
    argv = machine().argv("bios", WIRES, tmp_path)
    more = replace(machine(), extra=Path("/w/scanner.iso")).argv("bios", WIRES, tmp_path)
    assert more[: len(argv)] == argv
    assert more[len(argv) :] == [
        "-drive",
        "if=none,id=extra,format=raw,readonly=on,file=/w/scanner.iso",
        "-device",
        "virtio-blk-pci,drive=extra",
    ]


def test_the_machine_has_the_devices_that_it_is_recorded_with(tmp_path: Path) -> None:
    argv = machine().argv("bios", WIRES, tmp_path)
    devices = {argv[at + 1].partition(",")[0] for at, word in enumerate(argv) if word == "-device"}
    assert argv[0] == f"{DEVICES.hypervisor}-system-{DEVICES.architecture}"
    assert argv[argv.index("-machine") + 1] == DEVICES.machine
    assert f"{DEVICES.disk_bus}-blk-pci" in devices
    assert f"{DEVICES.vif_model}-net-pci" in devices
    assert f"{DEVICES.rng_model}-rng-pci" in devices


def test_names_cannot_smuggle_options(tmp_path: Path) -> None:
    argv = machine().argv("bios", WIRES, tmp_path)
    assert "file,id=console,path=/logs/a,,b" in argv
    disk = json.loads(argv[argv.index("-blockdev") + 1])
    assert disk["backing"]["file"]["filename"] == '/images/a",b.raw'


@pytest.mark.parametrize("image_format", ["raw", "qcow2"])
def test_the_image_is_only_read_and_its_own_backing_file_never(image_format: str) -> None:
    overlay = Overlay(Path("/w/disk.qcow2"), Path("/i"), image_format, 1, 2)
    backing = json.loads(overlay.blockdev("disk"))["backing"]
    assert backing["read-only"] is True
    assert backing["file"]["read-only"] is True
    assert backing["driver"] == image_format
    assert ("backing" in backing) == (image_format == "qcow2")
    assert backing.get("backing") is None


def test_qemu_is_bounded() -> None:
    limits = machine().limits()
    assert limits.memory is not None
    assert limits.memory < 6 << 30
    assert limits.file_size == 3 << 30


def test_each_uefi_boot_gets_fresh_variables(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    code, variables = tmp_path / "code.fd", tmp_path / "vars.fd"
    monkeypatch.setattr(firmware, "OVMF_CODE", code)
    monkeypatch.setattr(firmware, "OVMF_VARS", variables)
    with pytest.raises(FirmwareMissing, match=r"firmware-missing: .*code\.fd is not installed") as raised:
        firmware_argv("uefi", tmp_path)
    assert raised.value.exit_code == 3
    assert "apt install ovmf" in raised.value.advice
    code.write_bytes(b"code")
    variables.write_bytes(b"fresh")
    (tmp_path / "uefi-variables.fd").write_bytes(b"stale")
    argv = firmware_argv("uefi", tmp_path)
    assert (tmp_path / "uefi-variables.fd").read_bytes() == b"fresh"
    assert "driver=cfi.pflash01,property=secure,value=on" in argv


# -- the accelerator --------------------------------------------------------------------------------------------------


def test_no_kvm(tmp_path: Path) -> None:
    env = fake(tmp_path, firmware.QEMU, "exit 0")
    assert probe_kvm(env, device=tmp_path / "none") == Accelerator("tcg", f"{tmp_path / 'none'} does not exist")


def test_kvm_that_boots_a_disk(tmp_path: Path) -> None:
    env = fake(
        tmp_path,
        firmware.QEMU,
        'for word in "$@"; do case $word in file:*) printf "it boots\\n" > "${word#file:}";; esac; done\nsleep 60',
    )
    (tmp_path / "kvm").touch()
    assert probe_kvm(env, device=tmp_path / "kvm") == Accelerator("kvm", "a disk boots in it")


def test_kvm_that_dies(tmp_path: Path) -> None:
    env = fake(tmp_path, firmware.QEMU, "echo 'KVM internal error. Suberror: 1' >&2; exit 1")
    (tmp_path / "kvm").touch()
    found = probe_kvm(env, device=tmp_path / "kvm")
    assert found.kind == "tcg"
    assert "Suberror: 1" in found.reason


def test_kvm_that_hangs(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(firmware, "PROBE_SECONDS", 0.5)
    env = fake(tmp_path, firmware.QEMU, "exec sleep 600")
    (tmp_path / "kvm").touch()
    assert probe_kvm(env, device=tmp_path / "kvm").reason.endswith("it hangs")


def test_no_qemu(tmp_path: Path) -> None:
    with pytest.raises(ProgramMissing, match="qemu-system-x86_64 is not installed"):
        probe_kvm({"PATH": str(tmp_path)})


# -- states and channels ----------------------------------------------------------------------------------------------


def test_a_machine_that_does_not_run_answers_nothing(tmp_path: Path) -> None:
    vm = VM(machine(), "bios", work=tmp_path, logs=tmp_path, environment={})
    assert vm.state is Runstate.IDLE
    with pytest.raises(WrongState, match="bios is not started yet, not running"):
        vm.check()
    with pytest.raises(WrongState):
        vm.power_off(deadline=0)
    with pytest.raises(WrongState):
        _ = vm.agent


def test_what_firmware_says_without_end_is_not_read_whole(tmp_path: Path) -> None:
    vm = VM(machine(), "bios", work=tmp_path, logs=tmp_path, environment={})
    assert vm._firmware_fault() is None
    with (tmp_path / "bios-firmware.log").open("wb") as log:
        log.truncate(1 << 40)  # more than fits in any memory
        log.seek(0, os.SEEK_END)
        log.write(b"\nNo bootable device.\n")
    fault = vm._firmware_fault()
    assert fault is not None
    assert fault.error is BootNoLoader


@pytest.mark.parametrize("script", ["yes 'root_size=1'", "yes 'noise' >&2"])
def test_a_guest_that_never_stops_talking(tmp_path: Path, script: str) -> None:
    guest = ssh.Guest("debian", tmp_path / "key", tmp_path / "known_hosts", fake(tmp_path, "ssh", script))
    with pytest.raises(ProgramFailed, match="ssh said more than 1048576 bytes"):
        guest.ask(22, "true", deadline=time.monotonic() + 600, watch=lambda: None)


def test_the_last_words_of_a_script_are_printable(tmp_path: Path) -> None:
    env = fake(tmp_path, "ssh", r"printf 'a\033[2Jb\n'; head -c 100000 /dev/zero; exit 3")
    guest = ssh.Guest("debian", tmp_path / "key", tmp_path / "known_hosts", env)
    with pytest.raises(ProgramFailed) as caught:
        guest.ask(22, "true", deadline=time.monotonic() + 600, watch=lambda: None)
    assert caught.value.lines
    assert all(line.isprintable() and len(line) <= 300 for line in caught.value.lines)


def test_the_probe_leaves_nothing_behind(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Not even when it is killed: it has no files."""
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path / "no-such-directory"))
    env = fake(tmp_path, firmware.QEMU, "exit 1")
    (tmp_path / "kvm").touch()
    before = len(list(Path("/proc/self/fd").iterdir()))
    assert probe_kvm(env, device=tmp_path / "kvm").kind == "tcg"
    assert len(list(Path("/proc/self/fd").iterdir())) == before


def test_a_machine_lives_once() -> None:
    legal = {
        (Runstate.IDLE, Runstate.RUNNING),
        (Runstate.RUNNING, Runstate.OFF),
        (Runstate.RUNNING, Runstate.DEAD),
        (Runstate.OFF, Runstate.DEAD),
    }
    for old in Runstate:
        for new in Runstate:
            if (old, new) in legal:
                assert changed("bios", old, new) is new
            else:
                with pytest.raises(WrongState, match=f"bios is {old.value} and cannot become {new.value}"):
                    changed("bios", old, new)


def test_a_channel_whose_other_side_is_gone() -> None:
    ours, theirs = socket.socketpair()
    theirs.close()
    with pytest.raises(ChannelLost):
        Channel("monitor", ours, deadline=time.monotonic() + 5)


def test_a_channel_whose_other_side_is_silent() -> None:
    ours, theirs = socket.socketpair()
    with theirs, pytest.raises(ChannelSilent):
        Channel("monitor", ours, deadline=time.monotonic() + 0.1)


def test_a_channel_whose_other_side_speaks_nonsense() -> None:
    ours, theirs = socket.socketpair()
    with theirs:
        theirs.sendall(b"\xff\xfe not json\n")
        with pytest.raises(ChannelLost):
            Channel("monitor", ours, deadline=time.monotonic() + 5)


# -- the boot sector --------------------------------------------------------------------------------------------------


def test_boot_sector() -> None:
    disk = boot_sector.disk(b"hello")
    assert len(disk) == 1 << 20
    assert disk[510:512] == b"\x55\xaa"
    assert disk[32:38] == b"hello\0"


@pytest.mark.parametrize("text", [b"x" * 478, b"a\0b"])
def test_boot_sector_text_that_does_not_fit(text: bytes) -> None:
    with pytest.raises(ValueError, match="at most 477 bytes"):
        boot_sector.disk(text)


# -- the partition table ----------------------------------------------------------------------------------------------


def gpt(first: int, last: int, count: int = 128, size: int = 128) -> bytes:
    header = bytearray(512)
    header[:8] = b"EFI PART"
    struct.pack_into("<QII", header, 72, 2, count, size)
    entry = loader.ESP_TYPE.bytes_le + bytes(16) + struct.pack("<QQ", first, last)
    return bytes(512) + bytes(header) + bytes(128) + entry.ljust(128, b"\0") + bytes(16384)


def test_the_system_partition_is_found() -> None:
    assert loader.find_esp(gpt(4096, 135167)) == (4096 * 512, 64 << 20)


@pytest.mark.parametrize(
    ("head", "message"),
    [
        (b"", "no GUID partition table"),
        (bytes(4096), "no GUID partition table"),
        (gpt(1, 2, count=1), "no EFI system partition"),
        (gpt(1, 2, size=0), "no EFI system partition"),
        (gpt(2, 1), "claims 0 bytes"),
        (gpt(0, (1 << 64) - 1), "claims"),
    ],
)
def test_partition_tables_of_no_use(head: bytes, message: str) -> None:
    with pytest.raises(BootCheckFailed, match=message):
        loader.find_esp(head)


@given(st.binary(max_size=1024), st.binary(max_size=64))
def test_hostile_partition_tables(table: bytes, header: bytes) -> None:
    try:
        loader.find_esp(bytes(512) + (b"EFI PART" + bytes(64) + header).ljust(512, b"\xff") + table)
    except BootCheckFailed:
        return


def test_the_telling_sector_is_varied() -> None:
    varied = bytes(range(256)) * 2
    content = bytes(8192) + varied + bytes(8192)
    assert loader.telling_sector(content) == varied
    with pytest.raises(BootCheckFailed, match="too short"):
        loader.telling_sector(b"MZ")


# -- ssh --------------------------------------------------------------------------------------------------------------


def test_host_keys_and_user_as_cloud_init_prints_them() -> None:
    console = (
        "[ 20.1] cloud-init[9]: ci-info: ++Authorized keys from /home/debian/.ssh/authorized_keys for user debian++\n"
        f"-----BEGIN SSH HOST KEY KEYS-----\n{ED25519} root@x\n-----END SSH HOST KEY KEYS-----\n"
        "ssh-dss AAAA\n"
    )
    assert ssh.host_keys(console) == (ED25519,)
    assert ssh.default_user(console) == "debian"


@pytest.mark.parametrize("name", ["root", "-oProxyCommand=x", "Ünsafe", "$(x)", "@host", "x" * 33])
def test_users_that_are_not_taken_from_a_console(name: str) -> None:
    assert ssh.default_user(f"Authorized keys from /x for user {name}+++") is None


def guest(tmp_path: Path, script: str) -> ssh.Guest:
    env = fake(tmp_path, "ssh", f'log=$4; printf "%s\\n" "$@" > {tmp_path}/args\n{script}')
    return ssh.Guest("debian", tmp_path / "key", tmp_path / "known_hosts", env)


def nothing() -> None: ...


def test_ssh_uses_nothing_of_the_user(tmp_path: Path) -> None:
    login = guest(tmp_path, "cat")
    login.know([ED25519])
    assert login.ask(1234, "echo $1", deadline=time.monotonic() + 9, watch=nothing, arguments=["a b"]) == "echo $1"
    arguments = (tmp_path / "args").read_text().splitlines()
    assert arguments[:2] == ["-F", "/dev/null"]
    expected = {"StrictHostKeyChecking=yes", "BatchMode=yes", "GlobalKnownHostsFile=/dev/null", "IdentityAgent=none"}
    assert expected <= set(arguments)
    assert arguments[-2:] == ["debian@127.0.0.1", "sh -s -- 'a b'"]
    assert login.known_hosts.read_text() == f"guest {ED25519}\n"


def test_ssh_tries_again_until_it_gets_in(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(ssh, "PAUSE", 0.1)
    login = guest(tmp_path, f"cat >/dev/null; test -e {tmp_path}/up && echo in && exit; touch {tmp_path}/up; exit 255")
    assert login.ask(1, "true", deadline=time.monotonic() + 9, watch=nothing) == "in\n"


def test_ssh_that_is_never_let_in(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(ssh, "PAUSE", 0.1)
    login = guest(tmp_path, 'cat >/dev/null; echo "Permission denied (publickey)." > "$log"; exit 255')
    with pytest.raises(ProgramFailed, match="ended with status 255") as raised:
        login.ask(1, "true", deadline=time.monotonic() + 0.5, watch=nothing)
    assert raised.value.lines == ("Permission denied (publickey).",)


def test_a_fault_seen_meanwhile_ends_ssh_at_once(tmp_path: Path) -> None:
    class Seen(Exception): ...

    def watch() -> None:
        raise Seen

    with pytest.raises(Seen):
        guest(tmp_path, "exec sleep 600").ask(1, "true", deadline=time.monotonic() + 600, watch=watch)


@pytest.mark.parametrize(
    ("script", "methods"),
    [
        ('echo "x@y: Permission denied (publickey,password)." > "$log"; exit 255', {"publickey", "password"}),
        ("exit 0", {"none"}),
    ],
)
def test_ways_to_log_in(tmp_path: Path, script: str, methods: set[str]) -> None:
    assert guest(tmp_path, script).methods(1, deadline=time.monotonic() + 9, watch=nothing) == methods


def test_a_server_that_does_not_say_how_to_log_in(tmp_path: Path) -> None:
    with pytest.raises(ProgramFailed):
        guest(tmp_path, "exit 255").methods(1, deadline=time.monotonic() + 9, watch=nothing)
