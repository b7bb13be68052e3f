"""What lies there is no file, or does not stay the same."""

from collections.abc import Mapping
from typing import Any

from signing.checksums import CHECKSUMS_FILE, SIGNATURE_FILE
from signing.manifest import MANIFEST_FILE, PROVENANCE_FILE
from tests.conformance.attacks.corpus import Corpus
from tests.conformance.attacks.spoil import RAW
from tests.conformance.attacks.workshop import (
    IMAGES,
)
from tests.unit.signing.builders import SBOM_FILE, STEM


def file_system(c: Corpus) -> None:
    """What lies there is no file, or does not stay the same."""
    outside = (
        {"do": "move", "path": f"release/{RAW}", "to": "outside"},
        {"do": "symlink", "path": f"release/{RAW}", "to": "../outside"},
    )
    c.folder(
        "link-to-the-image",
        "not-a-regular-file",
        "A symbolic link to the very image: it can point elsewhere a moment later.",
        before=outside,
    )
    for name in (MANIFEST_FILE, PROVENANCE_FILE, CHECKSUMS_FILE, SIGNATURE_FILE, SBOM_FILE):
        steps = (
            {"do": "move", "path": f"release/{name}", "to": "outside"},
            {"do": "symlink", "path": f"release/{name}", "to": "../outside"},
        )
        c.folder(f"link-to-{name.lower()}", "not-a-regular-file", f"{name} is a symbolic link.", before=steps)
    c.folder(
        "link-to-itself",
        "not-a-regular-file",
        "A symbolic link to itself.",
        before=(remove(RAW), {"do": "symlink", "path": f"release/{RAW}", "to": RAW}),
    )
    c.folder(
        "link-to-endless-zeros",
        "not-a-regular-file",
        "A link to /dev/zero, which never ends.",
        before=(remove(RAW), {"do": "symlink", "path": f"release/{RAW}", "to": "/dev/zero"}),
    )
    for kind in ("pipe", "socket", "directory"):
        c.folder(
            f"{kind}-for-the-image",
            "not-a-regular-file",
            f"A {kind} in the image's place: opening it may wait for ever.",
            before=(remove(RAW), {"do": kind, "path": f"release/{RAW}"}),
        )
        c.folder(
            f"{kind}-for-the-manifest",
            "not-a-regular-file",
            f"A {kind} in the manifest's place.",
            before=(remove(MANIFEST_FILE), {"do": kind, "path": f"release/{MANIFEST_FILE}"}),
        )
    c.image(
        "device-for-the-image",
        "not-a-regular-file",
        "A device in the image's place.",
        IMAGES["raw"],
        path="/dev/zero",
    )
    c.image(
        "link-for-the-file",
        "not-a-regular-file",
        "A symbolic link to the image.",
        IMAGES["raw"],
        before=({"do": "move", "path": "image", "to": "outside"}, {"do": "symlink", "path": "image", "to": "outside"}),
    )
    hard = (
        {"do": "write", "path": "evil", "text": "evil" * 115},
        {"do": "remove", "path": f"release/{RAW}"},
        {"do": "hardlink", "path": f"release/{RAW}", "to": "evil"},
    )
    c.folder(
        "hard-link-swapped",
        "digest-mismatch",
        "The image's name is a hard link to another file of the same size.",
        before=hard,
    )
    c.folder(
        "folder-is-a-file",
        "unreadable",
        "A file where the folder is meant.",
        before=({"do": "move", "path": "release", "to": "old"}, {"do": "write", "path": "release", "text": "x"}),
    )
    c.folder(
        "folder-is-gone", "unreadable", "The folder is gone.", before=({"do": "move", "path": "release", "to": "old"},)
    )
    races(c)


def remove(name: str) -> Mapping[str, Any]:
    return {"do": "remove", "path": f"release/{name}"}


def races(c: Corpus) -> None:
    for name, step in {
        "written": {"do": "overwrite", "path": "image", "text": "evil"},
        "grown": {"do": "append", "path": "image", "count": 10},
        "cut": {"do": "extend", "path": "image", "size": 10},
        "touched": {"do": "touch", "path": "image"},
    }.items():
        c.image(
            f"race-{name}",
            "file-changed",
            f"The image is {name} while it is read: what was hashed is not what is there.",
            IMAGES["raw"],
            during=(step,),
        )
    c.image(
        "race-replaced",
        None,
        "The name points to another file by the end. What was verified is the open file, which stays good.",
        IMAGES["raw"],
        during=({"do": "write", "path": "evil", "text": "evil"}, {"do": "move", "path": "evil", "to": "image"}),
    )
    first = min(f"{STEM}.{kind}" for kind in IMAGES)
    later = max(f"{STEM}.{kind}" for kind in IMAGES)
    replaced = (
        {"do": "write", "path": "evil", "text": "evil"},
        {"do": "move", "path": "evil", "to": f"release/{later}"},
    )
    c.folder(
        "race-later-file-replaced", "digest-mismatch", f"{later} is replaced while {first} is read.", during=replaced
    )
    linked = (
        {"do": "move", "path": f"release/{later}", "to": "outside"},
        {"do": "symlink", "path": f"release/{later}", "to": "../outside"},
    )
    c.folder(
        "race-later-file-linked", "not-a-regular-file", f"{later} becomes a link while {first} is read.", during=linked
    )
    gone = ({"do": "remove", "path": f"release/{later}"},)
    c.folder("race-later-file-gone", "unreadable", f"{later} disappears while {first} is read.", during=gone)
    c.folder(
        "race-manifest-replaced",
        None,
        "The manifest's name gets other bytes after it was read: what was read counts, and was read once.",
        during=({"do": "overwrite", "path": f"release/{MANIFEST_FILE}", "text": "evil"},),
    )
