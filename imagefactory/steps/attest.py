"""The builder's account of what it did (SLSA provenance v1), signed with its only key."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any

from imagefactory import __version__
from imagefactory.model.evidence import Evidence
from imagefactory.model.packages import Package
from imagefactory.steps.convert import Converted
from signing.envelope import seal
from signing.provenance import Provenance
from signing.signer import Signer
from signing.statement import Subject


@dataclass(frozen=True)
class BuildAccount:
    """What the builder knows of one build. `recipe` is the whole recipe as JSON, of which `recipe_digest` is the
    digest, with the contents of keys and certificates in place of their paths. `elements` maps each element to its
    digest, `packages` each installed package to that of its archive and `in_releases` the URL of each InRelease file
    to its own (None: not known), `tools` programs to versions, `documents` the files that are released beside the
    images to their digests, `logs` the same for what the steps wrote, `base` what is known of the image that it starts
    from, if any; digests are SHA-256 in hex, times aware UTC."""

    name: str
    version: str
    build_id: str
    recipe: Mapping[str, Any]
    recipe_digest: str
    elements: Mapping[str, str]
    distro: str
    codename: str
    packages: Mapping[Package, str | None]
    in_releases: Mapping[str, str | None]
    tools: Mapping[str, str]
    separated: bool
    rootfs: str
    disk: str
    documents: Mapping[str, str]
    logs: Mapping[str, str]
    started: datetime
    finished: datetime
    base: Mapping[str, str] | None = None


def attest(
    account: BuildAccount, images: Mapping[str, Converted], evidence: Sequence[Evidence], signer: Signer
) -> bytes:
    """The signed provenance bundle of a build. Raises errors of the room signing."""
    stem = f"{account.name}-{account.version}"
    subjects = tuple(
        sorted(
            Subject(f"{stem}.{image_format}", image.digests.sha256, image.digests.sha512 or "")
            for image_format, image in images.items()
        )
    )
    provenance = Provenance(
        subjects=subjects,
        external_parameters={
            "name": account.name,
            "version": account.version,
            "recipe": dict(account.recipe),
            "recipeDigest": {"sha256": account.recipe_digest},
            "formats": sorted(images),
        },
        internal_parameters={"tools": dict(account.tools), "separation": account.separated},
        resolved_dependencies=_dependencies(account),
        builder_id=f"urn:imagefactory:builder:{__version__}",
        invocation_id=account.build_id,
        started=account.started,
        finished=account.finished,
        byproducts=[
            {"name": "rootfs", "digest": {"sha256": account.rootfs}},
            {"name": "disk", "digest": {"sha256": account.disk}},
            *({"name": name, "digest": {"sha256": digest}} for name, digest in account.documents.items()),
            *({"name": f"evidence/{piece.kind}", "digest": {"sha256": piece.digest}} for piece in evidence),
            *({"name": f"log/{name}", "digest": {"sha256": digest}} for name, digest in account.logs.items()),
        ],
    )
    return seal(provenance.to_statement(), signer)


def _dependencies(account: BuildAccount) -> list[dict[str, Any]]:
    purls = {package.purl(account.distro, account.codename): digest for package, digest in account.packages.items()}
    return [
        *([_base(account.base)] if account.base else []),
        *({"name": f"element/{name}", "digest": {"sha256": digest}} for name, digest in account.elements.items()),
        *(_fetched(url, digest) for url, digest in account.in_releases.items()),
        *(_fetched(purl.to_string(), digest) for purl, digest in purls.items()),
    ]


def _base(base: Mapping[str, str]) -> dict[str, Any]:
    """A file has a name; what was fetched has an address, and an image in a cloud the release that it is, too."""
    where = {"uri": base["source"]} if base["kind"] != "file" else {}
    release = {"annotations": {"release": base["release"]}} if "release" in base else {}
    return {"name": f"base/{base['name']}", **where, "digest": {"sha256": base["sha256"]}, **release}


def _fetched(uri: str, digest: str | None) -> dict[str, Any]:
    if digest is None:
        return {"uri": uri, "annotations": {"digest": "unknown"}}
    return {"uri": uri, "digest": {"sha256": digest}}
