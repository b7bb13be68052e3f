"""Statements that are truly signed by the right key, and say what no manifest and no provenance of ours may say."""

import json
from collections.abc import Mapping

from signing.manifest import PROVENANCE_FILE
from tests.conformance.attacks.corpus import Corpus
from tests.conformance.attacks.spoil import put
from tests.conformance.attacks.workshop import payload_of
from tests.unit.signing.builders import changed

Changes = Mapping[str, tuple[tuple[str | int, ...], object]]
"""By the name of a case: the path into the statement, and the value that stands there."""


def statements(c: Corpus) -> None:
    """Statements that are truly signed by the right key, and say what no manifest and no provenance of ours may say."""
    subjects(c)
    formats_and_files(c)
    versions(c)
    properties(c)
    provenances(c)


def manifests(c: Corpus, changes: Changes) -> None:
    """Manifests, truly signed, each with one value changed."""
    for name, (path, value) in changes.items():
        attack = f"Truly signed with what no manifest may say: {name}."
        c.manifest(f"payload-{name}", "manifest-invalid", attack, c.shop.seal_changed(path, value))


def subjects(c: Corpus) -> None:
    """The subjects are not the images, one each, with the two digests."""
    good = c.shop.statement()["subject"]
    digest = ("subject", 0, "digest")
    manifests(
        c,
        {
            "no-subject": (("subject",), []),
            "subject-twice": (("subject",), [good[0], *good]),
            "subject-more": (("subject",), [*good, {**good[0], "name": "more"}]),
            "subject-without-sha512": (digest, {"sha256": "ab" * 32}),
            "subject-sha1": ((*digest, "sha1"), "ab" * 20),
            "digest-upper-case": ((*digest, "sha256"), "AB" * 32),
        },
    )


def formats_and_files(c: Corpus) -> None:
    """What belongs to the release is missing, or of no kind that we know."""
    manifests(
        c,
        {
            "no-format": (("predicate", "formats"), {}),
            "unknown-format": (("predicate", "formats", "vmdk"), {}),
            "no-provenance": (("predicate", "files"), {}),
        },
    )


def versions(c: Corpus) -> None:
    """Versions that are none."""
    values = {
        "no-such-day": "20250230.1",
        "version-zero": "20251121.0",
        "version-arabic-digits": "2025112\u0661.1",
    }
    manifests(c, {name: (("predicate", "version"), value) for name, value in values.items()})


def properties(c: Corpus) -> None:
    """Properties that are Glance's own or the signature's, and values that no property has."""
    values = {
        "property-of-glance": ("owner", "me"),
        "property-reserved": ("IMG_SIGNATURE", "AAAA"),
        "property-control": ("os_distro", "a\x1b[2Jb"),
        "property-number": ("min_ram", "0512"),
    }
    manifests(c, {name: (("predicate", "properties", key), value) for name, (key, value) in values.items()})


def provenances(c: Corpus) -> None:
    """Truly signed by the builder, and no provenance of ours."""
    statement = json.loads(payload_of(c.files[PROVENANCE_FILE]))
    definition, run = ("predicate", "buildDefinition"), ("predicate", "runDetails")
    changes: Changes = {
        "build-type": ((*definition, "buildType"), "https://example.org/other"),
        "finished-before-started": ((*run, "metadata", "startedOn"), "2025-11-21T19:00:01Z"),
        "builder-number": ((*run, "builder", "id"), 1),
        "builder-more": ((*run, "builder", "version"), {}),
        "dependency-text": ((*definition, "resolvedDependencies"), ["openssl"]),
        "parameters-list": ((*definition, "externalParameters"), []),
        "predicate-v0": (("predicateType",), "https://slsa.dev/provenance/v0.2"),
        "no-subject": (("subject",), []),
    }
    for name, (path, value) in changes.items():
        c.folder(
            f"provenance-{name}",
            "provenance-invalid",
            f"A builder's truly signed statement with what no provenance of ours may say: {name}.",
            put(PROVENANCE_FILE, c.shop.seal(changed(statement, path, value), "provenance")),
            signed_again=True,
        )
