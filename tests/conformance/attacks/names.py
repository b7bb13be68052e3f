"""Truly signed names that mean another file, or another release."""

from signing.checksums import CHECKSUMS_FILE, SIGNATURE_FILE
from signing.manifest import MANIFEST_FILE
from tests.conformance.attacks.corpus import Corpus
from tests.conformance.attacks.spoil import QCOW2, RAW

INVALID = "manifest-invalid"


def names(c: Corpus) -> None:
    """Truly signed names that mean another file, or another release."""
    file_names(c)
    reserved_names(c)
    image_names(c)
    release_names(c)


def with_file(c: Corpus, name: str) -> bytes:
    """A manifest, truly signed, that names one more file."""
    files = {**c.shop.manifest().files, name: "ab" * 32}
    return c.shop.seal_changed(("predicate", "files"), files)


def file_names(c: Corpus) -> None:
    """Names of other files that lead out of the folder, or that two readers take for two files."""
    evil = {
        "parent": "../../etc/passwd",
        "absolute": "/etc/passwd",
        "dot-dot": "..",
        "nul": f"{RAW}\0",
        "newline": f"{RAW}\n",
        "backslash": f"..\\{RAW}",
        "look-alike": RAW.replace("a", "\u0430"),
        "bidi": f"\u202e{RAW}",
        "hidden": f".{RAW}",
        "option": f"-{RAW}",
        "long": "x" * 256,
        "empty": "",
    }
    for name, file in evil.items():
        attack = f"Truly signed, and one of its files is called {file[:40]!r}."
        c.manifest(f"name-{name}", INVALID, attack, with_file(c, file))


def reserved_names(c: Corpus) -> None:
    """Names that are for one file of a release only."""
    for name in (CHECKSUMS_FILE, SIGNATURE_FILE, MANIFEST_FILE, RAW):
        attack = f"Truly signed, and {name} is one of its other files."
        c.manifest(f"name-reserved-{name.lower()}", INVALID, attack, with_file(c, name))


def image_names(c: Corpus) -> None:
    """An image has the one name that follows from its release and format."""
    for name, file in {"parent": "../image.raw", "other-format": QCOW2, "upper-case": RAW.upper()}.items():
        raw = c.shop.seal_changed(("predicate", "formats", "raw", "file"), file)
        attack = f"Truly signed, and its raw image is called {file!r}."
        c.manifest(f"name-of-a-format-{name}", INVALID, attack, raw)


def release_names(c: Corpus) -> None:
    """Names of releases that no release may have."""
    slugs = {
        "upper-case": "Debian-12",
        "look-alike": "debi\u0430n-12",
        "slash": "a/b",
        "newline": "debian-12\n",
        "long": "x" * 64,
    }
    for name, slug in slugs.items():
        raw = c.shop.seal_changed(("predicate", "name"), slug)
        attack = f"Truly signed as a release of {slug[:20]!r}."
        c.manifest(f"name-of-a-release-{name}", INVALID, attack, raw, expected=None)
