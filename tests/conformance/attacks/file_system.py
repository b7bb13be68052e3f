"""What lies there is no file of the release."""

from signing.checksums import CHECKSUMS_FILE, SIGNATURE_FILE
from signing.manifest import MANIFEST_FILE, PROVENANCE_FILE
from tests.conformance.attacks.corpus import Corpus
from tests.conformance.attacks.spoil import RAW
from tests.conformance.attacks.steps import in_release, linked_away, replaced, step
from tests.conformance.attacks.workshop import IMAGES
from tests.unit.signing.builders import SBOM_FILE

NO_FILE = "not-a-regular-file"


def file_system(c: Corpus) -> None:
    """What lies there is no file of the release."""
    symbolic_links(c)
    hard_links(c)
    special_files(c)
    images_alone(c)
    missing_folders(c)


def symbolic_links(c: Corpus) -> None:
    """A file of the release is a symbolic link."""
    c.prepared(
        NO_FILE,
        {
            "link-to-the-image": (
                "A symbolic link to the very image: it can point elsewhere a moment later.",
                linked_away(in_release(RAW)),
            ),
            "link-to-itself": ("A symbolic link to itself.", replaced(RAW, "symlink", to=RAW)),
            "link-to-endless-zeros": (
                "A link to /dev/zero, which never ends.",
                replaced(RAW, "symlink", to="/dev/zero"),
            ),
        },
    )
    for name in (MANIFEST_FILE, PROVENANCE_FILE, CHECKSUMS_FILE, SIGNATURE_FILE, SBOM_FILE):
        attack = f"{name} is a symbolic link."
        c.folder(f"link-to-{name.lower()}", NO_FILE, attack, before=linked_away(in_release(name)))


def hard_links(c: Corpus) -> None:
    """A file of the release is another file, by a hard link."""
    evil = step("write", "evil", text="evil" * 115)
    c.folder(
        "hard-link-swapped",
        "digest-mismatch",
        "The image's name is a hard link to another file of the same size.",
        before=(evil, *replaced(RAW, "hardlink", to="evil")),
    )


def special_files(c: Corpus) -> None:
    """Where a file of the release lay is a pipe, a socket, a directory."""
    for kind in ("pipe", "socket", "directory"):
        c.prepared(
            NO_FILE,
            {
                f"{kind}-for-the-image": (
                    f"A {kind} in the image's place: opening it may wait for ever.",
                    replaced(RAW, kind),
                ),
                f"{kind}-for-the-manifest": (f"A {kind} in the manifest's place.", replaced(MANIFEST_FILE, kind)),
            },
        )


def images_alone(c: Corpus) -> None:
    """The image is verified alone, and is no file."""
    image = IMAGES["raw"]
    c.image("device-for-the-image", NO_FILE, "A device in the image's place.", image, path="/dev/zero")
    c.image("link-for-the-file", NO_FILE, "A symbolic link to the image.", image, before=linked_away("image"))


def missing_folders(c: Corpus) -> None:
    """The release's folder is gone, or no folder."""
    moved = step("move", "release", to="old")
    c.prepared(
        "unreadable",
        {
            "folder-is-a-file": (
                "A file where the folder is meant.",
                (moved, step("write", "release", text="x")),
            ),
            "folder-is-gone": ("The folder is gone.", (moved,)),
        },
    )
