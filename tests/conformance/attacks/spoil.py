"""Ways to spoil bytes and folders, and names that many cases use."""

from collections.abc import Callable, Mapping
from pathlib import Path

from cryptography.hazmat.primitives.asymmetric import ec

from tests.unit.signing.builders import STEM

P256 = ec.SECP256R1()
RAW, QCOW2 = f"{STEM}.raw", f"{STEM}.qcow2"
Change = Callable[[bytes], bytes]
"""What is done to the bytes of a file."""
Spoil = Callable[[Path], object]
"""What is done to the folder of a release."""


def rewritten(name: str, change: Change) -> Spoil:
    return lambda folder: (folder / name).write_bytes(change((folder / name).read_bytes()))


def removed(name: str) -> Spoil:
    return lambda folder: (folder / name).unlink()


def swapped(one: str, other: str) -> Spoil:
    def spoil(folder: Path) -> None:
        first, second = (folder / one).read_bytes(), (folder / other).read_bytes()
        (folder / one).write_bytes(second)
        (folder / other).write_bytes(first)

    return spoil


def put(name: str, content: bytes) -> Spoil:
    return all_put({name: content})


def all_put(files: Mapping[str, bytes]) -> Spoil:
    return lambda folder: [(folder / name).write_bytes(content) for name, content in files.items()]


def flipped(raw: bytes) -> bytes:
    middle = len(raw) // 2
    return raw[:middle] + bytes((raw[middle] ^ 1,)) + raw[middle + 1 :]


def padded(der: bytes) -> bytes:
    return bytes((0x30, der[1] + 1, 2, der[3] + 1, 0)) + der[4:]


def long_form(der: bytes) -> bytes:
    """The same DER with the length of the whole in the long form (X.690, 8.1.3.5)."""
    return der[:1] + b"\x81" + der[1:]
