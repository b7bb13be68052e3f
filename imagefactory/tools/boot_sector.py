"""A boot sector that says a few words on the first serial port and then halts, resets or powers off.

The smallest disk that proves that firmware reads a disk and runs what it finds there. Sixteen-bit code, at 0x7C00:

    31 C0           xor  ax, ax
    8E D8           mov  ds, ax
    BE 20 7C        mov  si, 0x7C20         ; the text, 32 bytes into the sector
    FC              cld
    BA F8 03        mov  dx, 0x3F8          ; COM1
    AC              next: lodsb
    84 C0           test al, al
    74 03           jz   done
    EE              out  dx, al
    EB F8           jmp  next
                    done:                   ; then one of:
    F4 EB FD        halt:  hlt / jmp halt
    B0 FE E6 64     reset: mov al, 0xFE / out 0x64, al          ; keyboard controller, pulse the reset line
    BA 04 06        off:   mov dx, 0x604                        ; ACPI PM1 control register of QEMU's q35
    B8 00 20 EF            mov ax, 0x2000 / out dx, ax          ; sleep enable, type 0: S5
"""

from typing import Literal

_PRINT = bytes.fromhex("31C0 8ED8 BE207C FC BAF803 AC 84C0 7403 EE EBF8")
_HALT = bytes.fromhex("F4 EBFD")
_END = {"halt": b"", "reset": bytes.fromhex("B0FE E664"), "off": bytes.fromhex("BA0406 B80020 EF")}

TEXT_AT = 32
SIGNATURE_AT = 510
DISK_SIZE = 1 << 20  # bytes; SeaBIOS reads no disk of a single sector


def disk(text: bytes, then: Literal["halt", "reset", "off"] = "halt") -> bytes:
    """A raw disk of 1 MiB whose boot sector prints `text` (at most 477 bytes, no zero byte) on COM1.

    Raises ValueError when the text does not fit.
    """
    if len(text) >= SIGNATURE_AT - TEXT_AT or 0 in text:
        raise ValueError("the text of a boot sector has at most 477 bytes, none of them zero")
    code = (_PRINT + _END[then] + _HALT).ljust(TEXT_AT, b"\0")
    sector = (code + text).ljust(SIGNATURE_AT, b"\0") + b"\x55\xaa"
    return sector.ljust(DISK_SIZE, b"\0")
