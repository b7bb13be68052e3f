"""Everything is genuine, and something belongs to something else."""

from dataclasses import replace
from pathlib import Path
from typing import Any

from signing.checksums import CHECKSUMS_FILE, SIGNATURE_FILE
from signing.manifest import MANIFEST_FILE, PROVENANCE_FILE, Version
from tests.conformance.attacks.corpus import Corpus
from tests.conformance.attacks.spoil import flipped, put
from tests.conformance.attacks.workshop import (
    IMAGES,
    MemorySigner,
    bundle,
    canonical,
    signature_of,
)
from tests.unit.signing.builders import NAME, changed

NEWER = "20991231.1"


def bindings(c: Corpus) -> None:
    """Everything is genuine, and something belongs to something else."""
    other_names(c)
    names_of_other_keys(c)
    older_versions(c)
    altered_manifests(c)
    formats_exchanged(c)
    other_documents(c)


def other_names(c: Corpus) -> None:
    """Another image than the one that is expected."""
    names = {
        "name-of-another-image": ("A genuine release of another image: a test image for production.", "debian-13"),
        "name-look-alike": ("The name that is expected has a Cyrillic letter in it.", "debi\u0430n-12"),
    }
    for name, (attack, expected) in names.items():
        c.manifest(name, "name-mismatch", attack, c.files[MANIFEST_FILE], expected=expected)


def names_of_other_keys(c: Corpus) -> None:
    """The trust file believes the key, and for other names than this one."""
    release, older, builder = c.shop.signer("release"), c.shop.older, c.shop.signer("provenance")
    manifest = c.files[MANIFEST_FILE]
    here, elsewhere = limited(c, release, NAME, "debian-13"), limited(c, release, "debian-13", f"{NAME}-separate")
    c.manifest("key-of-this-name", None, "None: its key may sign for this name.", manifest, trust=here)
    c.folder("key-of-this-name-folder", None, "None: its keys may sign for this name.", trust=here)
    refused = {
        "key-of-other-names": ("A key of another team, trusted for its own images.", elsewhere),
        "key-of-a-longer-name": (
            "A key for a name that begins with this one.",
            limited(c, release, f"{NAME}-separate"),
        ),
        "key-of-a-shorter-name": ("A key for the beginning of this name.", limited(c, release, "debian")),
    }
    for name, (attack, trust) in refused.items():
        c.manifest(name, "key-name", attack, manifest, trust=trust)
    c.manifest(
        "key-of-other-names-unpinned", "key-name", "No name is expected.", manifest, trust=elsewhere, expected=None
    )
    c.folder(
        "provenance-key-of-other-names",
        "key-name",
        "Built by another team, whose builder is trusted for its own images.",
        trust=limited(c, builder, "debian-13"),
    )

    def sums_by_the_older_key(folder: Path) -> None:
        raw = (folder / CHECKSUMS_FILE).read_bytes()
        (folder / SIGNATURE_FILE).write_bytes(older.sign(raw))

    c.folder(
        "checksums-key-of-other-names",
        "key-name",
        "SHA256SUMS by a release key that is trusted for other images.",
        sums_by_the_older_key,
        trust=limited(c, older, "debian-13"),
    )


def limited(c: Corpus, signer: MemorySigner, *names: str) -> bytes:
    """The good trust file, which believes one key for these names alone."""
    trust = c.shop.trust
    return replace(trust, names={**trust.names, signer.keyid: names}).encode()


def older_versions(c: Corpus) -> None:
    """An older version than the oldest that is accepted."""
    versions = {
        "version-rolled-back": (
            "A genuine older release, with the holes that were fixed since.",
            "20251121.2",
        ),
        "version-compared-as-text": (
            "Version .1 where .10 is the oldest: as texts they compare the other way.",
            "20251121.10",
        ),
    }
    for name, (attack, oldest) in versions.items():
        c.manifest(name, "version-too-old", attack, c.files[MANIFEST_FILE], min_version=oldest)


def altered_manifests(c: Corpus) -> None:
    """The signature of the good manifest, over another one."""
    values: dict[str, tuple[tuple[str, ...], object]] = {
        "name": (("predicate", "name"), "debian-13"),
        "version": (("predicate", "version"), NEWER),
        "os": (("predicate", "os", "version"), "13"),
        "arch": (("predicate", "arch"), "aarch64"),
        "expiry": (("predicate", "expires"), None),
        "property": (("predicate", "properties", "os_distro"), "windows"),
        "development": (("predicate", "development"), False),
        "evidence": (("predicate", "evidence"), []),
        "virtual-size": (("predicate", "formats", "raw", "virtual_size"), 1),
    }
    for name, (path, value) in values.items():
        payload = canonical(changed(c.shop.statement(), path, value))
        raw = bundle(payload, c.shop.signer("release").keyid, signature_of(c.files[MANIFEST_FILE]))
        attack = f"The {name} in the manifest is altered, the signature kept."
        c.manifest(f"payload-{name}", "signature-invalid", attack, raw)


def formats_exchanged(c: Corpus) -> None:
    """Truly signed, and what is said of one format is true of the other."""
    formats = c.shop.statement()["predicate"]["formats"]
    relabelled = {**formats, "raw": formats["qcow2"], "qcow2": formats["raw"]}
    c.manifest(
        "format-relabelled",
        "manifest-invalid",
        "Signed with raw and qcow2 relabelled: a guest could write a qcow2 header that names a file of the host.",
        c.shop.seal_changed(("predicate", "formats"), relabelled),
    )
    c.manifest(
        "glance-signatures-exchanged",
        "glance-signature-invalid",
        "Signed with the Glance signatures of two formats exchanged: Nova would refuse both images.",
        c.shop.seal(exchanged_glance(c.shop.statement())),
    )


def exchanged_glance(statement: dict[str, Any]) -> dict[str, Any]:
    formats = statement["predicate"]["formats"]
    formats["raw"]["glance"], formats["qcow2"]["glance"] = formats["qcow2"]["glance"], formats["raw"]["glance"]
    return statement


def other_documents(c: Corpus) -> None:
    """A genuine document of another build, run or day in the release's folder."""
    c.folder(
        "provenance-of-another-build",
        "provenance-mismatch",
        "A genuine provenance of a build with other bytes: this image would seem to be of that recipe.",
        put(PROVENANCE_FILE, c.shop.provenance({**IMAGES, "raw": flipped(IMAGES["raw"])})),
        signed_again=True,
    )
    c.folder(
        "provenance-of-another-run",
        "digest-mismatch",
        "A genuine provenance of the same images that the manifest does not name: another account of them.",
        put(PROVENANCE_FILE, c.shop.provenance()),
        signed_again=True,
    )
    c.folder(
        "manifest-of-yesterday",
        "folder-mismatch",
        "Yesterday's genuine manifest over today's files.",
        put(MANIFEST_FILE, manifest_of(c, Version(20251120, 9))),
    )


def manifest_of(c: Corpus, version: Version) -> bytes:
    """The genuine manifest of another version of the release."""
    good = c.shop.manifest().formats
    formats = {kind: replace(entry, file=f"{NAME}-{version}.{kind}") for kind, entry in good.items()}
    return c.shop.release_files(version=version, formats=formats)[MANIFEST_FILE]
