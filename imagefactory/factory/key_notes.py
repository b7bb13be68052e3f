"""What is done with keys is in the audit log, and the policy follows it."""

import os
import tempfile
from pathlib import Path

from imagefactory.factory import approvals
from imagefactory.factory.rotation import Replaced, Rotated, authority
from imagefactory.settings import Settings
from imagefactory.tools.audit_log import AuditLog
from signing.certificates import fingerprint
from signing.errors import Unwritable
from signing.keys import AUTHORITY, KeyRing


def note_made(settings: Settings, ring: KeyRing) -> None:
    """New keys go into the audit log, each once, and the first policy is begun, if there is none. Done again, it adds
    what was missing. Raises AuditDamaged, Unwritable, OutputExists."""
    log, ca = AuditLog(settings.audit), fingerprint(authority(ring))
    said = {(entry.event, entry.details.get("keyid")) for entry in log.entries()}
    for purpose, keyid in {**ring.metadata.keyids, AUTHORITY: ca}.items():
        if ("key-made", keyid) not in said:
            log.append("key-made", purpose=purpose, keyid=keyid)
    if ("key-used", ca) not in said:
        note_issued(settings, ca, ring.keyid("glance"))
    if not any(map(os.path.lexists, settings.policy_files())):
        approvals.begin(settings, ring)


def note_issued(settings: Settings, ca: str, subject: str) -> None:
    """The CA, by the SHA-256 of its certificate, issues a certificate for the Glance key `subject`."""
    AuditLog(settings.audit).append("key-used", purpose=AUTHORITY, keyid=ca, about=f"certificate of {subject}")


def note_rotated(settings: Settings, each: Replaced) -> None:
    """A rotation goes into the audit log; what the builder's old key may make, its new one may make, too."""
    AuditLog(settings.audit).append("key-rotated", purpose=each.name, old=each.old, new=each.new)
    if each.name == "provenance" and any(map(os.path.lexists, settings.policy_files())):
        approvals.change(settings, lambda policy: approvals.succeed(policy, each.old, each.new))


def require_policy(settings: Settings, name: Rotated) -> None:
    """See, before a rotation is decided, that the policy can follow it. Raises PolicyInvalid, Unwritable."""
    if name != "provenance" or not any(map(os.path.lexists, settings.policy_files())):
        return
    approvals.current(settings)
    path = approvals.where(settings)
    try:
        with tempfile.TemporaryFile(dir=Path(os.path.realpath(path)).parent):
            pass
    except OSError as why:
        raise Unwritable(f"the policy {str(path)!r} cannot be replaced: {why.strerror}") from None
