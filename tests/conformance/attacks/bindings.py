"""Everything is genuine, and something belongs to something else."""

from dataclasses import replace
from typing import Any

from signing.manifest import MANIFEST_FILE, PROVENANCE_FILE, Version
from tests.conformance.attacks.corpus import Corpus
from tests.conformance.attacks.spoil import flipped
from tests.conformance.attacks.workshop import (
    IMAGES,
    bundle,
    canonical,
    signature_of,
)
from tests.unit.signing.builders import NAME, VERSION, changed


def binding(c: Corpus) -> None:
    """Everything is genuine, and something belongs to something else."""
    signed = c.files[MANIFEST_FILE]
    c.manifest(
        "name-of-another-image",
        "name-mismatch",
        "A genuine release of another image: a test image for production.",
        signed,
        expected="debian-13",
    )
    c.manifest(
        "name-look-alike",
        "name-mismatch",
        "The name that is expected has a Cyrillic letter in it.",
        signed,
        expected="debi\u0430n-12",
    )
    c.manifest(
        "version-rolled-back",
        "version-too-old",
        "A genuine older release, with the holes that were fixed since.",
        signed,
        min_version="20251121.2",
    )
    c.manifest(
        "version-compared-as-text",
        "version-too-old",
        "Version .1 where .10 is the oldest: as texts they compare the other way.",
        signed,
        min_version="20251121.10",
    )
    values: dict[str, tuple[tuple[str, ...], object]] = {
        "name": (("predicate", "name"), "debian-13"),
        "version": (("predicate", "version"), "20991231.1"),
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
        raw = bundle(payload, c.shop.signer("release").keyid, signature_of(signed))
        c.manifest(
            f"payload-{name}", "signature-invalid", f"The {name} in the manifest is altered, the signature kept.", raw
        )
    formats = c.shop.statement()["predicate"]["formats"]
    relabelled = {**formats, "raw": formats["qcow2"], "qcow2": formats["raw"]}
    c.manifest(
        "format-relabelled",
        "manifest-invalid",
        "Signed with raw and qcow2 relabelled: a guest could write a qcow2 header that names a file of the host.",
        c.shop.seal(changed(c.shop.statement(), ("predicate", "formats"), relabelled)),
    )
    c.manifest(
        "glance-signatures-exchanged",
        "glance-signature-invalid",
        "Signed with the Glance signatures of two formats exchanged: Nova would refuse both images.",
        c.shop.seal(exchanged_glance(c.shop.statement())),
    )
    other = {**IMAGES, "raw": flipped(IMAGES["raw"])}
    foreign = c.shop.provenance(other)
    c.folder(
        "provenance-of-another-build",
        "provenance-mismatch",
        "A genuine provenance of a build with other bytes: this image would seem to be of that recipe.",
        lambda f: (f / PROVENANCE_FILE).write_bytes(foreign),
        signed_again=True,
    )
    again = c.shop.provenance()
    c.folder(
        "provenance-of-another-run",
        "digest-mismatch",
        "A genuine provenance of the same images that the manifest does not name: another account of them.",
        lambda f: (f / PROVENANCE_FILE).write_bytes(again),
        signed_again=True,
    )
    yesterday = c.shop.release_files(version=Version(20251120, 9), formats={
        kind: replace(entry, file=f"{NAME}-20251120.9.{kind}") for kind, entry in c.shop.manifest().formats.items()
    })[MANIFEST_FILE]  # fmt: skip
    c.folder(
        "manifest-of-yesterday",
        "folder-mismatch",
        "Yesterday's genuine manifest over today's files.",
        lambda f: (f / MANIFEST_FILE).write_bytes(yesterday),
    )
    c.catalogue(
        "catalogue-renamed",
        "version-mismatch",
        "An old release under a newer version's name: a rollback that looks new.",
        "20991231.1",
        "20991231.1",
    )
    c.catalogue(
        "catalogue-newest-is-old",
        "version-mismatch",
        "The same, found as the newest of its name.",
        "20991231.1",
        None,
    )
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
        "20991231.1",
    )
    for name, ref in {
        "parent": "..",
        "nul": "debian\0",
        "upper-case": "Debian-12",
        "version": f"{NAME}@1",
    }.items():
        c.catalogue(
            f"catalogue-ref-{name}",
            "release-name-invalid",
            f"A reference that is no name: {ref!r}.",
            str(VERSION),
            None,
            ref=ref,
        )


def exchanged_glance(statement: dict[str, Any]) -> dict[str, Any]:
    formats = statement["predicate"]["formats"]
    formats["raw"]["glance"], formats["qcow2"]["glance"] = formats["qcow2"]["glance"], formats["raw"]["glance"]
    return statement
