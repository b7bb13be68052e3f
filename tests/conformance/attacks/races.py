"""What is verified does not stay the same while it is read."""

from signing.manifest import MANIFEST_FILE
from tests.conformance.attacks.corpus import Corpus
from tests.conformance.attacks.steps import Step, Steps, in_release, linked_away, step
from tests.conformance.attacks.workshop import IMAGES
from tests.unit.signing.builders import STEM

FIRST, *_, LATER = sorted(f"{STEM}.{kind}" for kind in IMAGES)
"""The images that are read first and last."""


def races(c: Corpus) -> None:
    """What is verified does not stay the same while it is read."""
    open_image(c)
    later_files(c)
    replaced_names(c)


def open_image(c: Corpus) -> None:
    """The very file that is being read becomes another."""
    steps: dict[str, Step] = {
        "written": step("overwrite", "image", text="evil"),
        "grown": step("append", "image", count=10),
        "cut": step("extend", "image", size=10),
        "touched": step("touch", "image"),
    }
    for name, each in steps.items():
        attack = f"The image is {name} while it is read: what was hashed is not what is there."
        c.image(f"race-{name}", "file-changed", attack, IMAGES["raw"], during=(each,))


def later_files(c: Corpus) -> None:
    """A file that is still to be read becomes another."""
    path = in_release(LATER)
    cases: dict[str, tuple[str, str, Steps]] = {
        "replaced": (f"{LATER} is replaced while {FIRST} is read.", "digest-mismatch", replaced_by_evil(path)),
        "linked": (f"{LATER} becomes a link while {FIRST} is read.", "not-a-regular-file", linked_away(path)),
        "gone": (f"{LATER} disappears while {FIRST} is read.", "unreadable", (step("remove", path),)),
    }
    for name, (attack, code, steps) in cases.items():
        c.folder(f"race-later-file-{name}", code, attack, during=steps)


def replaced_names(c: Corpus) -> None:
    """The name of what was opened leads to something else: what was read is what counts, so this is good."""
    c.image(
        "race-replaced",
        None,
        "The name points to another file by the end. What was verified is the open file, which stays good.",
        IMAGES["raw"],
        during=replaced_by_evil("image"),
    )
    c.folder(
        "race-manifest-replaced",
        None,
        "The manifest's name gets other bytes after it was read: what was read counts, and was read once.",
        during=(step("overwrite", in_release(MANIFEST_FILE), text="evil"),),
    )


def replaced_by_evil(path: str) -> Steps:
    return step("write", "evil", text="evil"), step("move", "evil", to=path)
