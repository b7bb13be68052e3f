"""Everything is genuine, and something belongs to something else."""

from dataclasses import replace
from typing import Any

from signing.manifest import MANIFEST_FILE, PROVENANCE_FILE, Version
from tests.conformance.attacks.corpus import Corpus
from tests.conformance.attacks.spoil import flipped, put
from tests.conformance.attacks.workshop import (
    IMAGES,
    bundle,
    canonical,
    signature_of,
)
from tests.unit.signing.builders import NAME, VERSION, changed

NEWER = "20991231.1"


def bindings(c: Corpus) -> None:
    """Everything is genuine, and something belongs to something else."""
    other_names(c)
    older_versions(c)
    altered_manifests(c)
    formats_exchanged(c)
    other_documents(c)
    catalogue_places(c)
    catalogue_references(c)


def other_names(c: Corpus) -> None:
    """Another image than the one that is expected."""
    names = {
        "name-of-another-image": ("A genuine release of another image: a test image for production.", "debian-13"),
        "name-look-alike": ("The name that is expected has a Cyrillic letter in it.", "debi\u0430n-12"),
    }
    for name, (attack, expected) in names.items():
        c.manifest(name, "name-mismatch", attack, c.files[MANIFEST_FILE], expected=expected)


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


def catalogue_places(c: Corpus) -> None:
    """A genuine release in another one's place in the catalogue."""
    mismatch = "version-mismatch"
    renamed = "An old release under a newer version's name: a rollback that looks new."
    c.catalogue("catalogue-renamed", mismatch, renamed, NEWER, NEWER)
    c.catalogue("catalogue-newest-is-old", mismatch, "The same, found as the newest of its name.", NEWER, None)
    c.catalogue(
        "catalogue-other-name",
        "name-mismatch",
        "A genuine release of another image in the folder of this one.",
        str(VERSION),
        None,
        folder="debian-13",
    )
    c.catalogue(
        "catalogue-version-gone",
        "release-unknown",
        "The version that was asked for is not there any more.",
        str(VERSION),
        NEWER,
    )


def catalogue_references(c: Corpus) -> None:
    """References that are no NAME or NAME@VERSION."""
    for name, ref in {"parent": "..", "nul": "debian\0", "upper-case": "Debian-12", "version": f"{NAME}@1"}.items():
        attack = f"A reference that is no name: {ref!r}."
        c.catalogue(f"catalogue-ref-{name}", "release-name-invalid", attack, str(VERSION), None, ref=ref)
