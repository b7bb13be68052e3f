"""A builder that lies: its provenance and evidence are in order, and the images are not what they are called."""

import subprocess
import tempfile
from pathlib import Path

from tests.conformance.attacks.corpus import Corpus

SMALL = "cluster_size=512"
UNSAFE, MISMATCH = "image-unsafe", "format-mismatch"
DISK = b"\xeb\x63\x90" + bytes(600)
"""A raw disk, as far as inspectors look: the jump at the start of a boot sector."""
DESCRIPTOR = b"""\
# Disk DescriptorFile
version=1
CID=12345678
parentCID=ffffffff
createType="monolithicFlat"
RW 128 FLAT "/etc/shadow" 0
"""


def lies(c: Corpus) -> None:
    """A builder that lies: its provenance and evidence are in order, and the images are not what they are called."""
    plain = created("qcow2", "-o", SMALL)
    honest = "None: the signer signs what a builder made and vouches for."
    asked(c, "honest", None, honest, qcow2=plain, raw=DISK)
    outside_references(c)
    other_formats(c, plain)
    polyglots(c, plain)
    unreadable_images(c, plain)


def asked(c: Corpus, name: str, code: str | None, attack: str, **images: bytes) -> None:
    """The signer is asked to sign these images, by their formats."""
    files = {f"images/disk.{kind}": content for kind, content in images.items()}
    c.add(f"builder-{name}", code, attack, files, verify="sign", path="images")


def created(kind: str, *options: str) -> bytes:
    """A disk image of 64 KiB, as qemu-img makes it."""
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "image"
        subprocess.run(["qemu-img", "create", "-q", "-f", kind, *options, path, "64K"], check=True)
        return path.read_bytes()


def outside_references(c: Corpus) -> None:
    """An image that makes whoever opens it open a file of the host."""
    backed = created("qcow2", "-o", SMALL, "-F", "raw", "-b", "/etc/passwd")
    attack = "A qcow2 over a file of the host: every guest would read the host's files."
    asked(c, "backing-file", UNSAFE, attack, qcow2=backed)
    asked(c, "raw-is-a-qcow2-with-a-backing-file", UNSAFE, "The same, over a file of the host.", raw=backed)
    with tempfile.TemporaryDirectory() as folder:
        outside = created("qcow2", "-o", f"{SMALL},data_file={folder}/data")
    asked(c, "data-file", UNSAFE, "A qcow2 whose data lie in a file of the host.", qcow2=outside)
    descriptor = DESCRIPTOR + bytes(600)
    asked(c, "vmdk-descriptor", UNSAFE, "A text that tells VMDK readers to open a file of the host.", raw=descriptor)


def other_formats(c: Corpus, plain: bytes) -> None:
    """An image of another format than it is called."""
    attack = "A qcow2 called raw: whoever probes the format follows its references."
    asked(c, "raw-is-a-qcow2", MISMATCH, attack, raw=plain)
    asked(c, "qcow2-is-raw", MISMATCH, "A raw disk called qcow2.", qcow2=DISK)
    asked(c, "iso-is-raw", MISMATCH, "A raw disk called iso.", iso=DISK)
    encrypted = b"LUKS\xba\xbe\x00\x01" + bytes(600)
    asked(c, "luks", MISMATCH, "An encrypted volume called raw: nobody could inspect it.", raw=encrypted)


def polyglots(c: Corpus, plain: bytes) -> None:
    """An image of two formats."""
    polyglot = plain + bytes(32769 - len(plain)) + b"CD001\x01\x00" + bytes(2048)
    attack = "A qcow2 that is an ISO, too: two readers see two systems."
    asked(c, "polyglot", "format-unknown", attack, qcow2=polyglot)
    asked(c, "polyglot-as-iso", "format-unknown", "The same, called iso.", iso=polyglot)


def unreadable_images(c: Corpus, plain: bytes) -> None:
    """An image that nobody can inspect."""
    unknown = plain[:79] + b"\x80" + plain[80:]
    attack = "A qcow2 with a feature that nobody knows: what it means is up to the reader."
    asked(c, "unknown-feature", UNSAFE, attack, qcow2=unknown)
    attack = "The first 60 bytes of a qcow2, called raw: to inspectors too short to be one."
    asked(c, "cut-header", UNSAFE, attack, raw=plain[:60])
    asked(c, "cut-header-qcow2", UNSAFE, "The first 60 bytes of a qcow2.", qcow2=plain[:60])
    asked(c, "empty", UNSAFE, "An image of no bytes.", raw=b"")
