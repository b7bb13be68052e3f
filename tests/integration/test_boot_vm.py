"""Real machines with tiny disks: a boot sector that says a few words proves in a fraction of a second what a system
would in minutes."""

import os
import pty
import select
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Literal

import pytest

from imagefactory.errors import (
    BootCheckFailed,
    BootEmergency,
    BootFailed,
    BootNoConsole,
    BootNoLoader,
    BootPanic,
    BootRefused,
    BootReset,
    BootTimeout,
    ProgramFailed,
)
from imagefactory.steps.boot_test import boot_test
from imagefactory.tools import boot_sector, loader, overlay, seed, vm
from imagefactory.tools.firmware import TCG, probe_kvm
from imagefactory.tools.interactive import run_interactive
from imagefactory.tools.machine import Machine
from imagefactory.tools.runstate import Runstate
from imagefactory.tools.vm import VM

ENVIRONMENT = {"PATH": "/usr/sbin:/usr/bin:/sbin:/bin", "LC_ALL": "C.UTF-8", "TZ": "UTC"}
MIB = 1 << 20
PNG = b"\x89PNG\r\n"
Then = Literal["halt", "reset", "off"]


def image_of(directory: Path, text: bytes | None, then: Then = "halt") -> Path:
    image = directory / "image.raw"
    image.write_bytes(boot_sector.disk(text, then) if text is not None else bytes(MIB))
    return image


def machine_of(directory: Path, text: bytes | None, then: Then = "halt") -> VM:
    image = image_of(directory, text, then)
    disk = overlay.create(directory / "disk.qcow2", image, "raw", grow=MIB, environment=ENVIRONMENT)
    return VM(Machine("bios", TCG, 64, 1, disk), "bios", work=directory, logs=directory, environment=ENVIRONMENT)


def state(machine: VM) -> Runstate:
    return machine.state


def login(text: str) -> str | None:
    return "login" if "login:" in text else None


def test_a_life(tmp_path: Path) -> None:
    with machine_of(tmp_path, b"hello\r\nhost login: ") as machine:
        assert state(machine) is Runstate.RUNNING
        assert machine.wait_for("login prompt", login, deadline=time.monotonic() + 300) == "login"
        assert machine.qemu_version().split(".")[0].isdecimal()
        assert machine.agent.ask("guest-ping", deadline=time.monotonic() + 0.2) is None
        assert machine.agent.file("/etc/hostname", deadline=time.monotonic() + 0.2) == b""
    assert state(machine) is Runstate.DEAD
    assert not machine.screen.exists()


def test_a_guest_that_powers_off(tmp_path: Path) -> None:
    with machine_of(tmp_path, b"bye\r\n", "off") as machine:
        machine.wait_off(deadline=time.monotonic() + 300)
        assert state(machine) is Runstate.OFF
    assert state(machine) is Runstate.DEAD


FAULTS: list[tuple[bytes | None, Then, type[BootFailed], str]] = [
    (b"x\r\nKernel panic - not syncing: VFS: Unable to mount root fs\r\n", "halt", BootPanic, "not syncing: VFS"),
    (b"ALERT!  LABEL=x does not exist.  Dropping to a shell!\r\n(initramfs) ", "halt", BootEmergency, "LABEL=x"),
    (b"error: unknown filesystem.\r\ngrub rescue> ", "halt", BootNoLoader, "unknown filesystem"),
    (b"Verification failed: (0x1A) Security Violation\r\n", "halt", BootRefused, "Security Violation"),
    (b"oh no\r\n", "reset", BootReset, "oh no"),
    (b"oh no\r\n", "off", BootReset, "oh no"),
    (None, "halt", BootNoLoader, "No bootable device"),
]


@pytest.mark.parametrize(("text", "then", "error", "line"), FAULTS)
def test_faults_are_seen_at_once(
    tmp_path: Path, text: bytes | None, then: Then, error: type[BootFailed], line: str
) -> None:
    with pytest.raises(error) as raised, machine_of(tmp_path, text, then) as machine:
        machine.wait_for("login prompt", login, deadline=time.monotonic() + 600)
    assert any(line in found for found in raised.value.lines)
    assert raised.value.log == tmp_path / "bios-console.log"
    assert raised.value.log.is_file()
    assert (tmp_path / "bios-screen.png").read_bytes().startswith(PNG)


@pytest.mark.parametrize(
    ("text", "error", "message"),
    [(b"", BootNoConsole, "nothing on the serial console"), (b"hm\r\n", BootTimeout, "no login prompt after")],
)
def test_a_hang_ends_by_the_deadline(tmp_path: Path, text: bytes, error: type[BootFailed], message: str) -> None:
    with pytest.raises(error, match=message), machine_of(tmp_path, text) as machine:
        machine.wait_for("login prompt", login, deadline=time.monotonic() + 3)
    assert (tmp_path / "bios-screen.png").read_bytes().startswith(PNG)


def test_a_guest_that_ignores_the_power_button(tmp_path: Path) -> None:
    with machine_of(tmp_path, b"no\r\n") as machine:
        machine.wait_for("word", lambda text: "no" in text or None, deadline=time.monotonic() + 300)
        with pytest.raises(BootTimeout, match="no power-off after"):
            machine.power_off(deadline=time.monotonic() + 1)


def test_qemu_that_dies_under_us(tmp_path: Path) -> None:
    with machine_of(tmp_path, b"x\r\n") as machine:
        machine.wait_for("word", lambda text: "x" in text or None, deadline=time.monotonic() + 300)
        os.kill(machine._program.pid, 9)
        with pytest.raises(ProgramFailed, match="ended by SIGKILL"):
            machine.wait_for("login prompt", login, deadline=time.monotonic() + 300)


def test_qemu_that_does_not_start_says_why(tmp_path: Path) -> None:
    machine = machine_of(tmp_path, b"x")
    (tmp_path / "disk.qcow2").unlink()
    with pytest.raises(ProgramFailed, match="qemu-system-x86_64") as raised, machine:
        pass
    assert any("disk.qcow2" in line for line in raised.value.lines)
    assert state(machine) is Runstate.IDLE


def test_a_port_that_somebody_took(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        free = vm._free_port
        ports = iter([taken.getsockname()[1], free()])
        monkeypatch.setattr(vm, "_free_port", lambda: next(ports))
        with machine_of(tmp_path, b"x") as machine:
            assert machine.port != taken.getsockname()[1]


def test_the_image_stays_as_it_is(tmp_path: Path) -> None:
    image = image_of(tmp_path, b"before")
    disk = overlay.create(tmp_path / "disk.qcow2", image, "raw", grow=MIB, environment=ENVIRONMENT)
    assert (disk.image_size, disk.size) == (MIB, 2 * MIB)
    content = image.read_bytes()
    overlay.poke(disk, boot_sector.TEXT_AT, ord("B"), environment=ENVIRONMENT)
    with VM(Machine("bios", TCG, 64, 1, disk), "b", work=tmp_path, logs=tmp_path, environment=ENVIRONMENT) as machine:
        machine.wait_for("word", lambda text: "Before" in text or None, deadline=time.monotonic() + 300)
    assert image.read_bytes() == content


def test_an_image_that_is_not_of_its_format(tmp_path: Path) -> None:
    with pytest.raises(ProgramFailed):
        overlay.create(tmp_path / "o", image_of(tmp_path, b"x"), "qcow2", environment=ENVIRONMENT)


def test_extracting_a_piece(tmp_path: Path) -> None:
    image = image_of(tmp_path, b"x")
    image.write_bytes(bytes(range(256)) * (MIB // 256))
    disk = overlay.create(tmp_path / "o", image, "raw", environment=ENVIRONMENT)
    for offset, length in ((0, MIB), (512, 512), (1024, 4096), (4096, 512)):
        overlay.extract(disk, tmp_path / "piece", offset=offset, length=length, environment=ENVIRONMENT)
        assert (tmp_path / "piece").read_bytes() == image.read_bytes()[offset : offset + length]
        (tmp_path / "piece").unlink()


def test_the_probe_for_kvm_says_what_it_found() -> None:
    assert probe_kvm(ENVIRONMENT).reason


def test_a_machine_dies_with_us(tmp_path: Path) -> None:
    image_of(tmp_path, b"hello\r\n")
    with subprocess.Popen(
        [sys.executable, "-c", KILLED, str(tmp_path)], cwd=Path(__file__).parents[2], stdout=subprocess.PIPE
    ) as child:
        assert child.stdout is not None
        machine = os.pidfd_open(int(child.stdout.readline()))
        child.kill()
        # A process that has ended makes its descriptor readable.
        assert select.select([machine], [], [], 30)[0]
        os.close(machine)


KILLED = """
import sys, time
from pathlib import Path
from imagefactory.tools import overlay
from imagefactory.tools.firmware import TCG
from imagefactory.tools.machine import Machine
from imagefactory.tools.vm import VM
work, env = Path(sys.argv[1]), {"PATH": "/usr/sbin:/usr/bin:/sbin:/bin"}
disk = overlay.create(work / "disk.qcow2", work / "image.raw", "raw", environment=env)
with VM(Machine("bios", TCG, 64, 1, disk), "bios", work=work, logs=work, environment=env) as vm:
    print(vm._program.pid, flush=True)
    time.sleep(60)
"""


def test_two_machines_in_two_threads(tmp_path: Path) -> None:
    seen: list[str] = []

    def boot(name: str) -> None:
        (tmp_path / name).mkdir()
        with machine_of(tmp_path / name, f"{name} login: ".encode()) as machine:
            seen.append(machine.wait_for("login prompt", login, deadline=time.monotonic() + 60))

    threads = [threading.Thread(target=boot, args=(name,)) for name in ("a", "b")]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert seen == ["login", "login"]


def test_the_step_reports_a_panic(tmp_path: Path) -> None:
    said: list[str] = []
    with pytest.raises(BootPanic, match="boot-panic: bios: the kernel panicked") as raised:
        boot_test(
            image_of(tmp_path, b"Kernel panic - not syncing: no init\r\n"),
            "raw",
            about="sha256:" + "0" * 64,
            firmware=["bios", "uefi"],
            memory=64,
            timeout=600,  # to which it would hang under UEFI
            expect=[],
            work=tmp_path,
            logs=tmp_path / "logs",
            accelerator=TCG,
            environment=ENVIRONMENT,
            on_advance=said.append,
        )
    assert "bios: waiting for a login prompt" in said
    assert raised.value.log == tmp_path / "logs" / "bios-console.log"
    assert (tmp_path / "logs" / "bios-screen.png").is_file()
    assert sorted(path.name for path in tmp_path.iterdir()) == ["image.raw", "logs"]


def test_the_step_wants_a_firmware(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="a firmware"):
        boot_test(
            tmp_path / "image",
            "raw",
            about="sha256:" + "0" * 64,
            firmware=[],
            memory=64,
            timeout=1,
            expect=[],
            work=tmp_path,
            logs=tmp_path,
            accelerator=TCG,
            environment=ENVIRONMENT,
            on_advance=print,
        )


# -- the altered loader -----------------------------------------------------------------------------------------------


def system_partition(directory: Path, content: bytes, names: list[str]) -> Path:
    """A GPT disk of 8 MiB whose system partition has a loader under each of the names."""
    image, grub = directory / "image.raw", directory / "grub"
    grub.write_bytes(content)
    with image.open("wb") as stream:
        stream.truncate(8 * MIB)
    table = "label: gpt\nstart=2048, size=8192, type=C12A7328-F81F-11D2-BA4B-00A0C93EC93B\n"
    run("sfdisk", "-q", str(image), input_=table)
    partition = f"{image}@@1M"
    run("mformat", "-i", partition, "-T", "8192", "-h", "2", "-s", "32", "::")
    run("mmd", "-i", partition, "::/EFI", "::/EFI/BOOT", "::/EFI/debian")
    for name in names:
        run("mcopy", "-i", partition, str(grub), f"::/EFI/{name}")
    return image


def run(*argv: str, input_: str = "") -> None:
    subprocess.run(argv, input=input_, text=True, check=True, capture_output=True, env=ENVIRONMENT)


@pytest.mark.parametrize("image_format", ["raw", "qcow2"])
def test_one_bit_of_each_loader_is_flipped(tmp_path: Path, image_format: str) -> None:
    content = os.urandom(100_000)
    raw = system_partition(tmp_path, content, ["BOOT/grubx64.efi", "debian/GRUBX64.EFI", "BOOT/BOOTX64.EFI"])
    image = tmp_path / f"image.{image_format}"
    if image_format == "qcow2":
        run("qemu-img", "convert", "-c", "-O", "qcow2", str(raw), str(image))
    before = image.read_bytes()
    disk = overlay.create(tmp_path / "disk.qcow2", image, image_format, environment=ENVIRONMENT)
    what = loader.alter(disk, tmp_path, environment=ENVIRONMENT)
    assert "EFI/BOOT/grubx64.efi" in what
    assert image.read_bytes() == before
    run("qemu-img", "convert", "-O", "raw", str(disk.path), str(tmp_path / "after.raw"))
    pairs = zip(raw.read_bytes(), (tmp_path / "after.raw").read_bytes(), strict=True)
    changed = [one ^ other for one, other in pairs if one != other]
    assert changed == [1, 1, 1]  # BOOTX64.EFI has the same content here


def test_no_loader_to_alter(tmp_path: Path) -> None:
    image = system_partition(tmp_path, b"x" * 5000, ["BOOT/BOOTX64.EFI"])
    disk = overlay.create(tmp_path / "disk.qcow2", image, "raw", environment=ENVIRONMENT)
    with pytest.raises(BootCheckFailed, match=r"no grubx64\.efi"):
        loader.alter(disk, tmp_path, environment=ENVIRONMENT)


@pytest.mark.parametrize(
    ("source", "label", "metadata"),
    [("nocloud", b"cidata", "/meta-data"), ("config-drive", b"config-2", "/openstack/latest/meta_data.json")],
)
def test_the_seed(tmp_path: Path, source: seed.Source, label: bytes, metadata: str) -> None:
    made = seed.create(tmp_path, source, environment=ENVIRONMENT)
    assert made.key.stat().st_mode & 0o777 == 0o600
    run("ssh-keygen", "-y", "-P", "", "-f", str(made.key))
    run("xorriso", "-osirrox", "on", "-indev", str(made.disk), "-extract", metadata, str(tmp_path / "meta"))
    assert "ssh-ed25519 " in (tmp_path / "meta").read_text()
    assert made.hostname in (tmp_path / "meta").read_text()
    assert made.disk.read_bytes()[0x8028:0x8048].rstrip() == label


# -- on the user's terminal -------------------------------------------------------------------------------------------


@contextmanager
def null_terminal(output: Path) -> Iterator[tuple[int, int]]:
    with Path(os.devnull).open("rb") as nothing, output.open("wb") as sink:
        yield nothing.fileno(), sink.fileno()


@pytest.mark.parametrize("image_format", ["raw", "qcow2"])
def test_what_was_opened_is_what_boots(tmp_path: Path, image_format: str) -> None:
    image, other = tmp_path / f"image.{image_format}", tmp_path / "other.raw"
    good, evil = image_of(tmp_path, b"good\r\n", "off").rename(tmp_path / "good.raw"), other
    evil.write_bytes(boot_sector.disk(b"evil\r\n", "off"))
    run("qemu-img", "convert", "-f", "raw", "-O", image_format, str(good), str(image))
    content = image.read_bytes()
    with image.open("rb") as opened, null_terminal(tmp_path / "said") as terminal:
        run("qemu-img", "convert", "-f", "raw", "-O", image_format, str(evil), str(tmp_path / "new"))
        (tmp_path / "new").replace(image)
        status = run_interactive(
            opened.fileno(),
            image_format,
            firmware="bios",
            memory=64,
            accelerator=TCG,
            environment=ENVIRONMENT,
            cpus=1,
            terminal=terminal,
        )
        opened.seek(0)
        assert opened.read() == content
    assert status == 0
    assert "good" in (tmp_path / "said").read_text()


ON_A_TERMINAL = """
import sys
from imagefactory.tools.firmware import TCG
from imagefactory.tools.interactive import run_interactive
with open(sys.argv[1], "rb") as image:
    status = run_interactive(image.fileno(), "raw", firmware="bios", memory=64, accelerator=TCG,
                             environment={"PATH": "/usr/bin:/bin:/usr/sbin"}, cpus=1)
print("status", status, "typed", input())
"""


def test_a_terminal_is_lent_and_given_back(tmp_path: Path) -> None:
    image = image_of(tmp_path, b"hello\r\n")
    ours, theirs = pty.openpty()
    # Make it the controlling terminal of the new session, as a login does.
    prologue = "import fcntl, termios\nfcntl.ioctl(0, termios.TIOCSCTTY, 0)\n"
    command = [sys.executable, "-c", prologue + ON_A_TERMINAL, str(image)]
    with subprocess.Popen(
        command,
        stdin=theirs,
        stdout=theirs,
        stderr=theirs,
        start_new_session=True,
        cwd=Path(__file__).parents[2],
    ) as child:
        os.close(theirs)
        assert b"hello" in read_until(ours, b"hello")
        os.write(ours, b"\x01x")  # Ctrl-A X
        read_until(ours, b"Terminated")
        os.write(ours, b"word\n")
        assert b"status 0 typed word" in read_until(ours, b"typed word")
        assert child.wait(10) == 0
    os.close(ours)


def read_until(terminal: int, word: bytes) -> bytes:
    said, deadline = b"", time.monotonic() + 30
    while word not in said and time.monotonic() < deadline:
        if select.select([terminal], [], [], 0.2)[0]:
            try:
                said += os.read(terminal, 4096)
            except OSError:  # the other side is closed
                break
    return said
