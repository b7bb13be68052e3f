"""A builder that lies: its provenance and evidence are in order, and the images are not what they are called."""

import subprocess
import tempfile
from pathlib import Path

from tests.conformance.attacks.corpus import Corpus

SMALL = "cluster_size=512"
UNSAFE, MISMATCH = "image-unsafe", "format-mismatch"
DESCRIPTOR = b"""\
# Disk DescriptorFile
version=1
CID=12345678
parentCID=ffffffff
createType="monolithicFlat"
RW 128 FLAT "/etc/shadow" 0
"""


def created(kind: str, *options: str) -> bytes:
    """A disk image of 64 KiB, as qemu-img makes it."""
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "image"
        subprocess.run(["qemu-img", "create", "-q", "-f", kind, *options, path, "64K"], check=True)
        return path.read_bytes()


def lies(c: Corpus) -> None:
    plain = created("qcow2", "-o", SMALL)
    disk = b"\xeb\x63\x90" + bytes(600)

    def signed(name: str, code: str | None, attack: str, **images: bytes) -> None:
        files = {f"images/disk.{kind}": content for kind, content in images.items()}
        c.add(f"builder-{name}", code, attack, files, verify="sign", path="images")

    signed("honest", None, "None: the signer signs what a builder made and vouches for.", qcow2=plain, raw=disk)
    backed = created("qcow2", "-o", SMALL, "-F", "raw", "-b", "/etc/passwd")
    signed(
        "backing-file",
        UNSAFE,
        "A qcow2 over a file of the host: every guest would read the host's files.",
        qcow2=backed,
    )
    with tempfile.TemporaryDirectory() as folder:
        outside = created("qcow2", "-o", f"{SMALL},data_file={folder}/data")
    signed("data-file", UNSAFE, "A qcow2 whose data lie in a file of the host.", qcow2=outside)
    unknown = plain[:79] + b"\x80" + plain[80:]
    signed(
        "unknown-feature",
        UNSAFE,
        "A qcow2 with a feature that nobody knows: what it means is up to the reader.",
        qcow2=unknown,
    )
    signed(
        "raw-is-a-qcow2", MISMATCH, "A qcow2 called raw: whoever probes the format follows its references.", raw=plain
    )
    signed("raw-is-a-qcow2-with-a-backing-file", UNSAFE, "The same, over a file of the host.", raw=backed)
    signed("qcow2-is-raw", MISMATCH, "A raw disk called qcow2.", qcow2=disk)
    signed("iso-is-raw", MISMATCH, "A raw disk called iso.", iso=disk)
    polyglot = plain + bytes(32769 - len(plain)) + b"CD001\x01\x00" + bytes(2048)
    signed("polyglot", "format-unknown", "A qcow2 that is an ISO, too: two readers see two systems.", qcow2=polyglot)
    signed("polyglot-as-iso", "format-unknown", "The same, called iso.", iso=polyglot)
    signed(
        "cut-header",
        UNSAFE,
        "The first 60 bytes of a qcow2, called raw: to inspectors too short to be one.",
        raw=plain[:60],
    )
    signed("cut-header-qcow2", UNSAFE, "The first 60 bytes of a qcow2.", qcow2=plain[:60])
    signed("empty", UNSAFE, "An image of no bytes.", raw=b"")
    signed(
        "vmdk-descriptor",
        UNSAFE,
        "A text that tells VMDK readers to open a file of the host.",
        raw=DESCRIPTOR + bytes(600),
    )
    signed(
        "luks",
        MISMATCH,
        "An encrypted volume called raw: nobody could inspect it.",
        raw=b"LUKS\xba\xbe\x00\x01" + bytes(600),
    )
