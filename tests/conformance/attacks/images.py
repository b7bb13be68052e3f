"""The images are not what was signed."""

from collections.abc import Callable
from functools import partial

from signing.manifest import MANIFEST_FILE
from tests.conformance.attacks.corpus import Corpus
from tests.conformance.attacks.spoil import QCOW2, RAW, flipped, rewritten, swapped
from tests.conformance.attacks.workshop import (
    IMAGES,
)
from tests.unit.signing.builders import SBOM_FILE


def image_bytes(c: Corpus) -> None:
    """The images are not what was signed."""
    why = "A guest would boot what nobody signed."
    spoils: dict[str, tuple[str, Callable[[bytes], bytes]]] = {
        "flipped": ("One bit of the image is flipped", flipped),
        "cut": ("The last byte of the image is cut off", lambda raw: raw[:-1]),
        "appended": ("A zero byte is appended to the image", lambda raw: raw + b"\0"),
        "emptied": ("The image is empty", lambda _: b""),
        "doubled": ("The image is there twice in a row", lambda raw: raw + raw),
        "polyglot": ("An ISO 9660 descriptor is written into the qcow2", lambda raw: raw[:100] + b"CD001" + raw[105:]),
        "shifted": ("The first byte is moved to the end", lambda raw: raw[1:] + raw[:1]),
    }
    for name, (attack, spoil) in spoils.items():
        c.folder(
            f"image-{name}",
            "digest-mismatch",
            f"{attack}. {why}",
            partial(rewritten, name=QCOW2, change=spoil),
        )
    c.folder(
        "image-flipped-sums-signed",
        "digest-mismatch",
        "One bit is flipped, and a release key signed SHA256SUMS of that. The manifest counts, too.",
        lambda f: rewritten(f, QCOW2, flipped),
        signed_again=True,
    )
    c.folder(
        "images-exchanged",
        "digest-mismatch",
        f"Two images have each other's name. {why}",
        lambda f: swapped(f, RAW, QCOW2),
    )
    c.image("file-same-size", "digest-mismatch", f"Another file of the same size. {why}", flipped(IMAGES["raw"]))
    c.image("file-other-size", "digest-mismatch", f"A longer file. {why}", IMAGES["raw"] + b"\0")
    c.image("file-empty", "digest-mismatch", f"An empty file. {why}", b"")
    c.image(
        "file-is-the-manifest",
        "digest-mismatch",
        "The manifest itself as the image: signed, but not an image.",
        c.files[MANIFEST_FILE],
    )
    hole = ({"do": "extend", "path": "image", "size": 1 << 40},)
    c.image(
        "file-sparse",
        "digest-mismatch",
        "A hole of a tebibyte is appended: it takes no space, and hours to read.",
        IMAGES["raw"],
        before=hole,
    )
    c.folder(
        "sbom-flipped",
        "digest-mismatch",
        "One bit of the SBOM: a vulnerable package disappears.",
        lambda f: rewritten(f, SBOM_FILE, flipped),
    )


def holes(c: Corpus) -> None:
    """A file that takes no space and years to read."""
    hole = ({"do": "extend", "path": f"release/{RAW}", "size": 1 << 40},)
    c.folder(
        "image-sparse",
        "digest-mismatch",
        "A hole of a tebibyte is appended: it takes no space, and hours to read.",
        before=hole,
    )
