"""What a console says and what that means."""

from pathlib import Path

import pytest

from imagefactory.cli.output import _explain
from imagefactory.errors import BootEmergency, BootFailed, BootNoLoader, BootPanic, BootRefused
from imagefactory.tools.console import (
    LOGIN,
    Console,
    around,
    clean,
    diagnose,
    kernel_faults,
    last_lines,
    printable,
    screen_text,
)

FAULTS: list[tuple[str, type[BootFailed]]] = [
    ("[    1.9] Kernel panic - not syncing: VFS: Unable to mount root fs on unknown-block(0,0)", BootPanic),
    ("[    2.0] ---[ end Kernel panic - not syncing: No working init found.", BootPanic),
    ("Verification failed: (0x1A) Security Violation", BootRefused),
    ("error: bad shim signature.", BootRefused),
    ('BdsDxe: failed to load Boot0001 "UEFI Misc Device" from PciRoot(0x0): Access Denied', BootRefused),
    ("BdsDxe: No bootable option or device was found.", BootNoLoader),
    ("No bootable device.  Retrying in 60 seconds.", BootNoLoader),
    ("error: no such partition.\nEntering rescue mode...\ngrub rescue> ", BootNoLoader),
    ("   Minimal BASH-like line editing is supported.", BootNoLoader),
    ("ALERT!  LABEL=cloudimg-rootfs does not exist.  Dropping to a shell!", BootEmergency),
    ("(initramfs) ", BootEmergency),
    ("dracut:/# ", BootEmergency),
    ("You are in emergency mode. After logging in, type", BootEmergency),
    ("Cannot open access to console, the root account is locked.", BootEmergency),
]

HARMLESS = [
    "",
    "[    0.5] Trying to unpack rootfs image as initramfs...",
    "[    9.0] PKCS#7 signature verification failed",
    "[    7.1] platform regulatory.0: firmware: failed to load regulatory.db (-2)",
    "mount: /mnt: Access Denied by policy",
    "[    3.1] panic_on_oops is off",
    "debian login: ",
    "systemd[1]: Reached target rescue.target - Rescue Mode.",
]


@pytest.mark.parametrize(("text", "error"), FAULTS)
def test_what_ends_a_boot_is_named(text: str, error: type[BootFailed]) -> None:
    fault = diagnose(f"SeaBIOS\nBooting\n{text}\nand on")
    assert fault is not None
    assert fault.error is error
    assert any(line.strip() in text for line in fault.lines)


@pytest.mark.parametrize("text", HARMLESS)
def test_what_does_not_end_a_boot(text: str) -> None:
    assert diagnose(text) is None


def test_a_panic_is_named_before_the_shell_that_follows_it() -> None:
    fault = diagnose("(initramfs) \nKernel panic - not syncing: Attempted to kill init!")
    assert fault is not None
    assert fault.error is BootPanic


@pytest.mark.parametrize("prompt", ["debian login: ", "boot-test-1a2b login:", "a.example.org login: "])
def test_login_prompts(prompt: str) -> None:
    assert LOGIN.search(f"Debian GNU/Linux 12 ttyS0\n\n{prompt}")


@pytest.mark.parametrize("text", ["Last login: today", "systemd: started the login: thing", " login:", "  x login:"])
def test_no_login_prompts(text: str) -> None:
    assert not LOGIN.search(text)


def test_control_sequences_do_not_hide_words() -> None:
    assert clean(b"\x1b[2J\x1b[01;01HKernel\x1b[0m pa\x1b[0;31mnic\x1b[K\r\n\x1bcok\x1b(B") == "Kernel panic\nok"


def test_kernel_faults() -> None:
    text = "fine\n[1.0] BUG: unable to handle page fault\n[1.0] Oops: 0002 [#1]\n[1.0] Call Trace:\nfine\n"
    assert len(kernel_faults(text, stalls=True)) == 3
    assert kernel_faults("fine\nDEBUG: no\n", stalls=True) == ()


def test_stalls_are_the_fault_of_a_slow_host_only_in_software() -> None:
    stall = "[9.0] watchdog: BUG: soft lockup - CPU#0 stuck for 22s!\n[9.0] Call Trace:\n"
    assert kernel_faults(stall, stalls=False) == ()
    assert kernel_faults(stall, stalls=True)
    later = stall + "x\n" * 200 + "[99.0] BUG: kernel NULL pointer dereference\n"
    assert kernel_faults(later, stalls=False) == ("[99.0] BUG: kernel NULL pointer dereference",)


def test_lines_for_people_are_few_short_and_printable() -> None:
    text = "\n".join(["one", "two\x1b\x07", "", "three", "x" * 1000])
    assert last_lines(text, 2) == ("three", "x" * 300)
    assert printable("a\x07b") == "a\N{REPLACEMENT CHARACTER}b"
    assert around("a\nb\nc\nd\n", 4, before=1, after=1) == ("b", "c", "d")
    assert around("only", 0) == ("only",)


def test_errors_send_nothing_that_a_terminal_would_obey(capsys: pytest.CaptureFixture[str]) -> None:
    _explain(BootPanic("bios: \x1b]0;mine\x07", lines=("\x1b[2J\x9b31m red\tü\u202e",), log=Path("/a\x1bb")))
    said = capsys.readouterr().err
    assert all(c.isprintable() or c in "\n\t" for c in said)
    assert "red\tü" in said


def test_a_screen_in_text_mode() -> None:
    rows = ["GRUB loading.", "", "grub rescue>"]
    cells = "".join(row.ljust(80, "\0") for row in rows).encode("cp437")
    assert screen_text(bytes(byte for cell in cells for byte in (cell, 7))) == "\n".join(rows)


def test_a_console_is_read_as_it_grows(tmp_path: Path) -> None:
    console = Console(tmp_path / "console")
    assert console.silent
    with console.path.open("ab", buffering=0) as stream:
        stream.write(b"\x1b[2J \r\n")
        assert console.silent
        stream.write(b"hel")
        assert console.text() == " \nhel"
        stream.write("lo ☃".encode()[:-1])
        stream.write("☃".encode()[-1:])
        assert console.text() == " \nhello ☃"
    assert not console.silent


def test_a_console_is_bounded(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("imagefactory.tools.console.MAX_CONSOLE", 10)
    console = Console(tmp_path / "console")
    console.path.write_bytes(b"0123456789abc")
    assert console.text() == "0123456789"
    assert console.text() == "0123456789"
