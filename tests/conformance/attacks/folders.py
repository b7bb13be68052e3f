"""The files of a release's folder: one in another's place, by somebody else, one more or one fewer."""

from signing.checksums import CHECKSUMS_FILE, SIGNATURE_FILE
from signing.manifest import MANIFEST_FILE, PROVENANCE_FILE
from tests.conformance.attacks.corpus import TRUST, Corpus
from tests.conformance.attacks.spoil import RAW, all_put, put, removed
from tests.conformance.attacks.steps import in_release, step
from tests.conformance.attacks.workshop import payload_of
from tests.unit.signing.builders import SBOM_FILE

MISMATCH = "folder-mismatch"


def folders(c: Corpus) -> None:
    """The files of a release's folder: one in another's place, by somebody else, one more or one fewer."""
    documents_exchanged(c)
    strangers(c)
    files_more(c)
    files_fewer(c)
    misleading_names(c)


def documents_exchanged(c: Corpus) -> None:
    """The manifest and the provenance: each is for its own key."""
    manifest, provenance = c.files[MANIFEST_FILE], c.files[PROVENANCE_FILE]
    c.folders(
        "wrong-purpose",
        {
            "provenance-by-the-release-key": (
                "The provenance signed by a release key: only the builder saw the build.",
                put(PROVENANCE_FILE, c.shop.seal_bytes(payload_of(provenance), "release")),
            ),
            "manifest-as-provenance": (
                "The manifest in the provenance's place.",
                put(PROVENANCE_FILE, manifest),
            ),
            "provenance-as-manifest": (
                "The provenance in the manifest's place.",
                put(MANIFEST_FILE, provenance),
            ),
        },
        signed_again=True,
    )


def strangers(c: Corpus) -> None:
    """All in order, by somebody whom nobody trusts."""
    c.folder(
        "provenance-by-a-stranger",
        "key-untrusted",
        "A provenance by a builder whom nobody trusts.",
        put(PROVENANCE_FILE, c.stranger.provenance()),
        signed_again=True,
    )
    files = c.stranger.release_files()
    c.folders(
        "key-untrusted",
        {
            "release-of-a-stranger": (
                "A whole release, all in order, by a stranger.",
                all_put(files),
            ),
            "trust-beside-the-image": (
                "A stranger's release with the stranger's trust file beside it.",
                all_put({**files, TRUST: c.stranger.trust.encode()}),
            ),
        },
    )


def files_more(c: Corpus) -> None:
    """A file that the manifest does not name."""
    for name, file in {"extra": "x", "hidden": ".x", "case": MANIFEST_FILE.title(), "backup": f"{RAW}~"}.items():
        attack = f"A file {file!r} lies in the folder, unsigned."
        c.folder(f"folder-{name}-file", MISMATCH, attack, put(file, b"x"))
    c.folder(
        "folder-extra-file-signed",
        MISMATCH,
        "A file more, and SHA256SUMS names it: the manifest does not.",
        put("x", b"x"),
        signed_again=True,
    )


def files_fewer(c: Corpus) -> None:
    """A file that every release has is not there."""
    for name in (MANIFEST_FILE, PROVENANCE_FILE, CHECKSUMS_FILE, SIGNATURE_FILE, RAW, SBOM_FILE):
        c.folder(f"folder-without-{name.lower()}", MISMATCH, f"{name} is taken away.", removed(name))


def misleading_names(c: Corpus) -> None:
    """A file more, with a name that a repository cannot hold or that hides it."""
    names = {
        "folder-look-alike": (
            "Beside the raw image lies one whose name looks the same.",
            RAW.replace("a", "\u0430"),
        ),
        "folder-name-not-text": ("A file whose name is no UTF-8.", "\udcff\udcfe"),
        "folder-name-for-terminals": ("A file whose name clears a terminal.", "\x1b[2J\n"),
    }
    c.prepared(
        MISMATCH,
        {name: (attack, (step("write", in_release(file), text="x"),)) for name, (attack, file) in names.items()},
    )
