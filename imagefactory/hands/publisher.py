"""The publisher's hand: cloud credentials and no key.

It verifies the whole release, manifest and provenance, before a byte of it goes anywhere.
"""

import sys
from dataclasses import asdict
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from imagefactory.errors import ImageOfAnotherRelease, VisibilityRefused
from imagefactory.hands.protocol import Document, serve
from imagefactory.model.glance import MANIFEST_PROPERTY, Audience
from imagefactory.model.recipe_targets import CloudTarget, visibility_refusal
from imagefactory.progress import Advance
from imagefactory.steps.glance_publish import CloudOrder, Publisher
from imagefactory.tools.openstack.glance import Glance
from imagefactory.tools.openstack.session import Cloud
from signing.digest import read_document
from signing.trust import load_trust
from signing.verify import VerifiedManifest, verify_manifest, verify_provenance

STEP = 4 << 20  # bytes between two reports of progress


def publish_image(request: Document, advance: Advance) -> Document:
    """Publish one image of a release to a cloud's Glance."""
    trust = load_trust(Path(request["trust"]))
    raw = read_document(Path(request["manifest"]))
    signed = verify_manifest(raw, trust, now=datetime.now(UTC), name=request["name"])
    _, provenance = verify_provenance(read_document(Path(request["provenance"])), signed, trust)
    said = provenance.external_parameters.get("recipe")
    recipe = said if isinstance(said, dict) else {}
    target = CloudTarget.model_validate(request["target"])
    _check_visibility(target, recipe, signed)
    order = CloudOrder(
        image_id=request["image_id"],
        name=str(recipe.get("display_name") or signed.manifest.name),
        signed=signed,
        format=request["format"],
        file=Path(request["file"]),
        audience=Audience.of(target),
        bandwidth=target.bandwidth,
        deep=request["deep"],
    )
    meter = _Meter(advance, order.entry.size)
    publisher = Publisher(Cloud(target.cloud), meter.say, meter.count)
    return asdict(publisher.publish(order))


def withdraw_image(request: Document, advance: Advance) -> Document:
    """Deactivate an image that we published; one that is gone or deactivated stays so."""
    glance = Glance(Cloud(request["cloud"]))
    advance(f"withdrawing image {request['image_id']}")
    image = glance.show(request["image_id"])
    if image is not None and image.properties.get(MANIFEST_PROPERTY) != request["manifest_sha256"]:
        raise ImageOfAnotherRelease(f"image {image.id} of {request['cloud']} is not of the release to be withdrawn")
    if image is not None and image.status in {"active", "deactivated"}:
        glance.deactivate(image.id)
    return {"there": image is not None}


class _Meter:
    """Reports what is being done, with how much of it is done now and then."""

    def __init__(self, advance: Advance, total: int) -> None:
        self._advance = advance
        self._total = total
        self._text = ""
        self._done = self._told = 0

    def say(self, text: str) -> None:
        """Something new begins."""
        self._text, self._done, self._told = text, 0, 0
        self._advance(text)

    def count(self, count: int) -> None:
        """So many bytes more went by."""
        self._done += count
        if self._done - self._told >= STEP or self._done == self._total:
            self._told = self._done
            self._advance(self._text, self._done, self._total)


def _check_visibility(target: CloudTarget, recipe: dict[str, Any], signed: VerifiedManifest) -> None:
    licensed = recipe.get("licensed")
    why = visibility_refusal(target, licensed if isinstance(licensed, str) else None, development=signed.development)
    if why is not None:
        raise VisibilityRefused(f"{signed.manifest.name}@{signed.manifest.version}: {why}")


if __name__ == "__main__":
    sys.exit(serve({"publish": publish_image, "withdraw": withdraw_image}))
