"""Steps of those who publish: they have credentials of clouds, and no key."""

import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any, Final

from pydantic import TypeAdapter, ValidationError

from imagefactory.errors import RequestInvalid
from imagefactory.factory import places
from imagefactory.factory.loop import Factory
from imagefactory.factory.publishing import Published
from imagefactory.model.job import JobState
from imagefactory.model.recipe_targets import CatalogueTarget, CloudTarget, Target
from imagefactory.model.release import ReleaseRef
from imagefactory.progress import advancer
from imagefactory.service.outcome import Errand, Order, Outcome

CLOUD_ACTIONS: Final = frozenset({"settle", "withdraw", "usage", "survey", "audit", "retire"})
"""What the publisher does in a cloud for whoever may ask it (hands/publisher.py)."""
DIGEST: Final = re.compile(r"[0-9a-f]{64}", re.ASCII)

_TARGETS: TypeAdapter[list[CatalogueTarget | CloudTarget]] = TypeAdapter(list[Target])


def publish(errand: Errand, order: Order, factory: Factory) -> Outcome:
    """Publish a release to all places of its recipe where it is missing. What failed in one of them is told when all
    others are done. Raises RequestInvalid, ReleaseUnknown, and what publishing raises; PlacesFailed for several."""
    ref = ReleaseRef.parse(errand.payload["release"])
    if ref.name != order.name:
        raise RequestInvalid(f"a job of {order.name} is not to publish {ref}")
    release = factory.records.release(ref)
    errands = [places.Errand(target, "its recipe names it") for target in _targets(errand.payload["targets"])]
    outcomes = factory.publish_all(release, errands)
    for each in outcomes.values() if len(outcomes) == 1 else ():
        if not isinstance(each, Published):
            raise each
    failed = places.failure(release, outcomes)
    if failed is not None:
        raise failed
    there = [each.text for each in outcomes.values() if isinstance(each, Published)]
    return Outcome({"said": ", ".join(there)}, end=JobState(errand.payload["end"]), release=str(ref))


def _audit(errand: Errand, factory: Factory) -> dict[str, Any]:
    """The files of whoever asks lie on his host: manifests are in the store under their digests, which they are called,
    too."""
    images = [{**image, "manifest": str(_manifest(image, factory))} for image in errand.payload["images"]]
    return {"trust": str(factory.trust_file), "images": images}


def _manifest(image: Mapping[str, Any], factory: Factory) -> Path:
    digest = Path(image["manifest"]).name
    if DIGEST.fullmatch(digest) is None:
        raise RequestInvalid("an image that is to be audited has no manifest")
    artifacts = factory.artifacts
    return artifacts.require(digest) if artifacts.has(digest) else artifacts.path(digest)


def _targets(documents: object) -> list[CatalogueTarget | CloudTarget]:
    try:
        return _TARGETS.validate_python(documents)
    except ValidationError:
        raise RequestInvalid("the targets of a release are none") from None


def in_cloud(errand: Errand, factory: Factory) -> Outcome:
    """Do something in a cloud for somebody who waits for it. Raises errors of the cloud."""
    cloud = str(errand.subject)
    own = _audit(errand, factory) if errand.step == "audit" else {}
    request = {**errand.payload, "action": errand.step, "cloud": cloud, **own}
    return Outcome(factory.hands.publish(cloud, request, advancer(factory.progress, errand.title)))
