"""What a publication would do in a place, as far as the records tell: nothing is asked, nothing is written."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any, Literal, TypeAlias

from imagefactory.errors import VisibilityRefused
from imagefactory.factory.places import Errand
from imagefactory.factory.publishing import require_format, require_publishable
from imagefactory.factory.recipes import recipe_of
from imagefactory.model.build import PublicationState
from imagefactory.model.recipe_targets import CloudTarget, visibility_refusal
from imagefactory.store.artifacts import ArtifactStore
from imagefactory.store.records import release_version
from imagefactory.store.tables import Release
from imagefactory.tools.side_by_side import FAILURES, Failure
from signing.digest import read_document
from signing.manifest import MANIFEST_FILE, PROVENANCE_FILE
from signing.trust import Trust
from signing.verify import VerifiedManifest, verify_manifest

Action: TypeAlias = Literal["publish", "finish", "check"]


@dataclass(frozen=True)
class Forecast:
    """What would be done in a place: publish anew, finish what was begun, or check what is there already. `format` is
    None in a catalogue, which gets every file; `size` is in bytes. Where it would be refused, `refusal` says why."""

    place: str
    action: Action
    format: str | None
    size: int
    refusal: Failure | None = None

    def to_json(self) -> dict[str, Any]:
        return {"would": self.action, "format": self.format, "size": self.size}


def forecast(
    release: Release, errands: Sequence[Errand], artifacts: ArtifactStore, trust: Trust
) -> tuple[Forecast, ...]:
    """What publishing a release would do in each place. Raises what verifying the release raises."""
    manifest, provenance = (artifacts.require(release.files[name]) for name in (MANIFEST_FILE, PROVENANCE_FILE))
    signed = verify_manifest(read_document(manifest), trust, now=datetime.now(UTC), name=release.name)
    licensed = recipe_of(provenance, trust).get("licensed")
    reason = licensed if isinstance(licensed, str) else None
    return tuple(_forecasts(release, errands, artifacts, signed, reason))


def _forecasts(
    release: Release,
    errands: Sequence[Errand],
    artifacts: ArtifactStore,
    signed: VerifiedManifest,
    licensed: str | None,
) -> Iterator[Forecast]:
    states = {each.target: PublicationState(each.state) for each in release.publications}
    whole = sum(artifacts.size(digest) for digest in release.files.values())
    for errand in errands:
        action = _action(states.get(errand.place))
        try:
            require_publishable(release, errand.place)
            if not isinstance(errand.target, CloudTarget):
                yield Forecast(errand.place, action, None, whole)
                continue
            chosen = require_format(release, errand.target)
            why = visibility_refusal(errand.target, licensed, development=signed.development)
            if why is not None:
                raise VisibilityRefused(f"{release.name}@{release_version(release)}: {why}")
        except FAILURES as refusal:
            yield Forecast(errand.place, action, None, 0, refusal)
        else:
            yield Forecast(errand.place, action, chosen, int(release.images[chosen]["size"]))


def _action(state: PublicationState | None) -> Action:
    """What an earlier publication, if there was one, has left to do."""
    if state in {PublicationState.PUBLISHED, PublicationState.VERIFIED}:
        return "check"
    return "publish" if state in {None, PublicationState.WITHDRAWN} else "finish"
