"""Ways to spoil bytes and files, and names that many cases use."""

from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

from cryptography.hazmat.primitives.asymmetric import ec

from tests.unit.signing.builders import STEM

P256 = ec.SECP256R1()
RAW, QCOW2 = f"{STEM}.raw", f"{STEM}.qcow2"
Steps = tuple[Mapping[str, Any], ...]


def rewritten(folder: Path, name: str, change: Callable[[bytes], bytes]) -> None:
    (folder / name).write_bytes(change((folder / name).read_bytes()))


def put(folder: Path, name: str, content: bytes) -> None:
    (folder / name).write_bytes(content)


def flipped(raw: bytes) -> bytes:
    middle = len(raw) // 2
    return raw[:middle] + bytes((raw[middle] ^ 1,)) + raw[middle + 1 :]


def swapped(folder: Path, one: str, other: str) -> None:
    first, second = (folder / one).read_bytes(), (folder / other).read_bytes()
    (folder / one).write_bytes(second)
    (folder / other).write_bytes(first)


def padded(der: bytes) -> bytes:
    return bytes((0x30, der[1] + 1, 2, der[3] + 1, 0)) + der[4:]
