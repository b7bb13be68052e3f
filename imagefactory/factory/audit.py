"""Whether the audit log is the one that this factory's releases were signed into."""

from dataclasses import dataclass

from imagefactory.errors import AuditCut
from imagefactory.factory.loop import Factory
from imagefactory.store.records import release_version
from imagefactory.store.tables import Release
from imagefactory.tools.audit_log import AuditLog
from signing.digest import read_document
from signing.envelope import parse_bundle
from signing.manifest import MANIFEST_FILE, AuditHead, ReleaseManifest
from signing.strict_json import decode

OUT = {"signed", "given-again"}  # what tells that a manifest left the signer


@dataclass(frozen=True)
class Audited:
    """The head of a log that was verified, and how many releases it was compared with."""

    head: AuditHead
    releases: int


def audit(factory: Factory) -> Audited:
    """Check the chain; that the head in each release's manifest is in it; and that its signature was recorded.

    Raises AuditDamaged, AuditCut.
    """
    log = AuditLog(factory.settings.audit)
    releases = factory.records.releases()
    head = log.verify(_head(factory, release) for release in releases if _is_kept(factory, release))
    signed = {entry.details.get("manifest") for entry in log.entries() if entry.event in OUT}
    for release in releases:
        if release.files[MANIFEST_FILE] not in signed:
            raise AuditCut(f"the signature of {release.name}@{release_version(release)} is not in the audit log")
    return Audited(head, len(releases))


def _is_kept(factory: Factory, release: Release) -> bool:
    return factory.artifacts.has(release.files[MANIFEST_FILE])


def _head(factory: Factory, release: Release) -> AuditHead:
    """What the manifest says. Its key may be revoked since; that it is ours is shown by its digest, its name in the
    store."""
    raw = read_document(factory.artifacts.path(release.files[MANIFEST_FILE]))
    return ReleaseManifest.from_statement(decode(parse_bundle(raw).envelope.payload)).audit
