"""The images are not what was signed."""

from signing.manifest import MANIFEST_FILE
from tests.conformance.attacks.corpus import Corpus
from tests.conformance.attacks.spoil import QCOW2, RAW, Change, flipped, rewritten, swapped
from tests.conformance.attacks.steps import Steps, in_release, step
from tests.conformance.attacks.workshop import IMAGES
from tests.unit.signing.builders import SBOM_FILE

MISMATCH = "digest-mismatch"
WHY = "A guest would boot what nobody signed."
HOLE = "A hole of a tebibyte is appended: it takes no space, and hours to read."


def images(c: Corpus) -> None:
    """The images are not what was signed."""
    spoilt_images(c)
    spoilt_folders(c)
    other_files(c)
    holes(c)


def spoilt_images(c: Corpus) -> None:
    """One image of a release is altered."""
    spoils: dict[str, tuple[str, Change]] = {
        "flipped": ("One bit of the image is flipped", flipped),
        "cut": ("The last byte of the image is cut off", lambda raw: raw[:-1]),
        "appended": ("A zero byte is appended to the image", lambda raw: raw + b"\0"),
        "emptied": ("The image is empty", lambda _: b""),
        "doubled": ("The image is there twice in a row", lambda raw: raw + raw),
        "polyglot": ("An ISO 9660 descriptor is written into the qcow2", lambda raw: raw[:100] + b"CD001" + raw[105:]),
        "shifted": ("The first byte is moved to the end", lambda raw: raw[1:] + raw[:1]),
    }
    for name, (attack, change) in spoils.items():
        c.folder(f"image-{name}", MISMATCH, f"{attack}. {WHY}", rewritten(QCOW2, change))


def spoilt_folders(c: Corpus) -> None:
    """Something in the folder is altered, and SHA256SUMS may even agree."""
    c.folder(
        "image-flipped-sums-signed",
        MISMATCH,
        "One bit is flipped, and a release key signed SHA256SUMS of that. The manifest counts, too.",
        rewritten(QCOW2, flipped),
        signed_again=True,
    )
    c.folders(
        MISMATCH,
        {
            "images-exchanged": (
                f"Two images have each other's name. {WHY}",
                swapped(RAW, QCOW2),
            ),
            "sbom-flipped": (
                "One bit of the SBOM: a vulnerable package disappears.",
                rewritten(SBOM_FILE, flipped),
            ),
        },
    )


def other_files(c: Corpus) -> None:
    """An image alone, and not the one of the manifest."""
    files = {
        "file-same-size": (f"Another file of the same size. {WHY}", flipped(IMAGES["raw"])),
        "file-other-size": (f"A longer file. {WHY}", IMAGES["raw"] + b"\0"),
        "file-empty": (f"An empty file. {WHY}", b""),
        "file-is-the-manifest": ("The manifest itself as the image: signed, but not an image.", c.files[MANIFEST_FILE]),
    }
    for name, (attack, raw) in files.items():
        c.image(name, MISMATCH, attack, raw)


def holes(c: Corpus) -> None:
    """A file that takes no space and hours to read."""
    c.image("file-sparse", MISMATCH, HOLE, IMAGES["raw"], before=hole("image"))
    c.folder("image-sparse", MISMATCH, HOLE, before=hole(in_release(RAW)))


def hole(path: str) -> Steps:
    return (step("extend", path, size=1 << 40),)
