"""The signer's half of a release: its hand examines and signs what a builder attested, and the records keep it."""

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

from imagefactory.factory import standard
from imagefactory.factory.attested import Attested, builder
from imagefactory.factory.hands import Hands
from imagefactory.factory.inputs import Inputs
from imagefactory.factory.keep import keep
from imagefactory.model import plan, properties
from imagefactory.model.release import Version
from imagefactory.progress import Progress, advancer, silent
from imagefactory.settings import Settings
from imagefactory.store.artifacts import ArtifactStore
from imagefactory.store.records import Records
from imagefactory.store.tables import Build, Release
from signing.errors import KeyUntrusted
from signing.trust import Trust

# How long a release may be trusted without being renewed.
EXPIRY = timedelta(days=365)


@dataclass(frozen=True)
class SigningDesk:
    """What a signed release goes through: the signer's papers, the artifacts that it names, and the records."""

    settings: Settings
    records: Records
    artifacts: ArtifactStore
    trust_file: Path
    progress: Progress
    hands: Hands

    def check(self, order: Mapping[str, Any]) -> Version | None:
        """Have the signer see, before any work, that it has its keys, that the trust file believes them, that the
        policy approves what is to be built, and that the certificate lasts as long as the recipe promises. Returns the
        greatest version that it ever signed for this name: it outlives the records.

        Raises SignerRefused with a code of the room signing.
        """
        answer = self.hands.sign(order, self.trust_file, None, advancer(silent, plan.SIGN))
        return Version.parse(answer["newest"]) if answer["newest"] else None

    def sign(self, attested: Attested, build: Build, work: Path, log: Path) -> Release:
        """Have the signer sign, with its files below `work`, and record the release, which ends its build. Raises what
        the signer raises, ArtifactMissing, StateConflict, HostClockOff when its clock is another one than that of the
        records."""
        images = {name: image["sha256"] for name, image in attested.images.items()}
        answer = self.hands.sign(
            {
                "action": "sign",
                "name": attested.name,
                "version": attested.version,
                "images": {name: str(self.artifacts.require(digest)) for name, digest in images.items()},
                "documents": {name: str(self.artifacts.require(digest)) for name, digest in attested.documents.items()},
                "provenance": str(self.artifacts.require(attested.provenance)),
                "evidence": [piece for pieces in attested.evidence.values() for piece in pieces],
                "output": str(work),
                "asked": self.records.now().timestamp(),
                "expires": int((datetime.now(UTC) + EXPIRY).timestamp()),
                "environment": self.settings.environment,
            },
            self.trust_file,
            log,
            advancer(self.progress, plan.SIGN),
        )
        signed = {name: keep(work / name, "document", self.artifacts, self.records).sha256 for name in answer["files"]}
        files = {f"{attested.name}-{attested.version}.{name}": digest for name, digest in images.items()}
        return self.records.add_release(
            build,
            content_digest=attested.content_digest,
            files={**files, **attested.documents, **signed},
            channel=attested.channel,
            images=attested.images,
            evidence=attested.evidence,
        )


def order(inputs: Inputs, settings: Settings, trust: Trust, trust_file: Path) -> dict[str, Any]:
    """What the signer is to see to before any work (SigningDesk.check). Its builder sees first that the standard is
    there, that it has its own key, and that the trust file believes it.

    Raises ContentInvalid, TailoringInvalid, ProfileUnknown, RuleUnknown, errors of the room signing.
    """
    if (by := inputs.measuring) is not None:
        standard.check(by.wanted, by.content, inputs.recipe.os.distro, inputs.recipe.os.version)
    provenance = builder(settings)
    if provenance.keyid not in trust.provenance:
        raise KeyUntrusted(f"{trust_file} does not know the provenance key {provenance.keyid[:16]}")
    trust.require_name(provenance.keyid, inputs.recipe.name)
    return {
        "action": "check",
        "name": inputs.recipe.name,
        "builder": provenance.keyid,
        "recipe": inputs.loaded.digest,
        "elements": dict(inputs.element_digests),
        "properties": properties.typed_in(inputs.recipe),
    }
