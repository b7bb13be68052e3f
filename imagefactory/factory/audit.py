"""Whether the audit log is the one that this factory's releases were signed into."""

from collections.abc import Iterator
from dataclasses import dataclass, field
from hashlib import sha256
from pathlib import Path

from imagefactory.errors import AuditCut
from imagefactory.factory.loop import Factory
from imagefactory.store.records import release_version
from imagefactory.tools.audit_log import AuditLog, Entry
from imagefactory.tools.tuf_files import TARGETS
from signing.digest import read_document
from signing.envelope import parse_bundle
from signing.manifest import MANIFEST_FILE, AuditHead, ReleaseManifest
from signing.strict_json import decode

OUT = {"signed", "given-again"}  # what tells that a manifest left the signer
DOCUMENTS = f"[!.]*/[!.]*/{MANIFEST_FILE}"  # of NAME/VERSION; what begins with a dot is not finished


@dataclass(frozen=True)
class Audited:
    """The head of a log that was verified, how many releases it was compared with, and how many bytes of an entry that
    was never finished come after it."""

    head: AuditHead
    releases: int
    torn: int


@dataclass
class _Left:
    """The manifests that left the signer, as the log tells: SHA-256 by NAME@VERSION."""

    manifests: dict[str, str] = field(default_factory=dict)

    def __call__(self, entry: Entry) -> None:
        if entry.event in OUT:
            about, manifest = entry.details.get("about", ""), entry.details.get("manifest", "")
            if self.manifests.setdefault(about, manifest) != manifest:
                raise AuditCut(f"entry {entry.head.entries} of the audit log signs another {about} than one before")


def audit(factory: Factory) -> Audited:
    """Check the chain; that the head in each release's manifest is in it; that the signature of each release that left
    the signer was recorded; and that no version was signed as two things.

    The releases are those of the records, of the signer's memory and of the built-in catalogue: losing one of them
    hides nothing. What the memory alone has may not have left the signer, which was killed before it could say so.

    Raises AuditDamaged, AuditCut, and errors of the room signing for a manifest that cannot be read.
    """
    settings = factory.settings
    out = dict(_recorded(factory))
    heads = dict(_read(factory.artifacts.require(digest)) for digest in out if factory.artifacts.has(digest))
    for path in (settings.catalogue / TARGETS).glob(DOCUMENTS):
        digest, heads[digest] = _read(path)
        out.setdefault(digest, f"{path.parent.parent.name}@{path.parent.name}")
    heads |= dict(_read(path) for path in settings.signed.glob(DOCUMENTS))
    # The log is read last: whatever is known of by now was signed before.
    log, left = AuditLog(settings.audit), _Left()
    torn = log.torn()
    head = log.verify(heads.values(), left)
    recorded = set(left.manifests.values())
    for digest, about in out.items():
        if digest not in recorded:
            raise AuditCut(f"the signature of {about} is not in the audit log")
    return Audited(head, len(out.keys() | heads.keys()), torn)


def _recorded(factory: Factory) -> Iterator[tuple[str, str]]:
    """The SHA-256 of each manifest in the records, and which release it is of."""
    for release in factory.records.releases():
        yield release.files[MANIFEST_FILE], f"{release.name}@{release_version(release)}"


def _read(path: Path) -> tuple[str, AuditHead]:
    """The SHA-256 of a manifest, and the head that it names. Its key may be revoked since; that it is ours is shown by
    its digest."""
    raw = read_document(path)
    return sha256(raw).hexdigest(), ReleaseManifest.from_statement(decode(parse_bundle(raw).envelope.payload)).audit
