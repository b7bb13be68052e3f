"""The publisher's hand: cloud credentials and no key.

It verifies the whole release, manifest and provenance, before a byte of it goes anywhere.
"""

import sys
from dataclasses import asdict
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, TypeVar

from pydantic import BaseModel, ValidationError

from imagefactory.errors import ImageOfAnotherRelease, RequestInvalid, VisibilityRefused
from imagefactory.hands.protocol import Document, serve
from imagefactory.model.drift import Audit
from imagefactory.model.glance import MANIFEST_PROPERTY, Audience
from imagefactory.model.recipe_targets import CloudTarget, visibility_refusal
from imagefactory.model.settlement import DisplayLook, Settlement
from imagefactory.model.strays import Retirement
from imagefactory.progress import Advance
from imagefactory.steps.cloud_usage import cloud_usage
from imagefactory.steps.glance_audit import Auditor
from imagefactory.steps.glance_publish import CloudOrder, Publisher
from imagefactory.steps.glance_retire import Retirer
from imagefactory.steps.glance_settle import Settler
from imagefactory.steps.glance_survey import survey
from imagefactory.tools.openstack.glance import Glance
from imagefactory.tools.openstack.session import Cloud
from signing.digest import read_document
from signing.trust import load_trust
from signing.verify import VerifiedManifest, verify_manifest, verify_provenance

Model = TypeVar("Model", bound=BaseModel)
STEP = 4 << 20  # bytes between two reports of progress


def publish_image(request: Document, advance: Advance) -> Document:
    """Publish one image of a release to a cloud's Glance."""
    look = _read(DisplayLook, request["look"])
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
        name=look.name,
        signed=signed,
        format=request["format"],
        file=Path(request["file"]),
        audience=Audience.of(target),
        bandwidth=target.bandwidth,
        deep=request["deep"],
        hidden=look.hidden,
        coming=look.coming,
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


def settle_images(request: Document, advance: Advance) -> Document:
    """Make the images of a name in a cloud look as the records say. What could not be done is in the answer."""
    order = _read(Settlement, {key: value for key, value in request.items() if key != "action"})
    return asdict(Settler(Cloud(order.cloud), advance).settle(order))


def retire_strays(request: Document, advance: Advance) -> Document:
    """Hide and deactivate images that no record knows. What could not be done is in the answer."""
    order = _read(Retirement, {key: value for key, value in request.items() if key != "action"})
    return {"images": [asdict(each) for each in Retirer(Cloud(order.cloud), advance).retire(order)]}


def usage_of_images(request: Document, advance: Advance) -> Document:
    """Ask a cloud what uses images, in all projects."""
    return asdict(cloud_usage(Cloud(request["cloud"]), request["image_ids"], advance))


def survey_project(request: Document, advance: Advance) -> Document:
    """List the images of ours in a project of a cloud, and the visible ones of others that have one of `names`."""
    cloud = Cloud(request["cloud"])
    found = survey(
        cloud,
        request["owner"],
        request.get("names", ()),
        members=request.get("members", False),
        on_images=lambda count: advance(f"listing the images of {cloud.name}", count),
    )
    return found.to_document()


def _read(model: type[Model], document: object) -> Model:
    """A part of a request. Raises RequestInvalid."""
    try:
        return model.model_validate(document)
    except ValidationError as error:
        first = error.errors(include_url=False, include_context=False)[0]
        where = ".".join(map(str, first["loc"]))
        raise RequestInvalid(f"the publisher was asked for what makes no sense: {where}: {first['msg']}") from error


def audit_images(request: Document, advance: Advance) -> Document:
    """Hold images of ours in a cloud against their manifests, and put right what can be."""
    order = _read(Audit, {key: value for key, value in request.items() if key != "action"})
    auditor = Auditor(Cloud(order.cloud), load_trust(Path(order.trust)), advance)
    return {"images": [asdict(each) for each in auditor.audit(order)]}


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
    sys.exit(
        serve(
            {
                "audit": audit_images,
                "publish": publish_image,
                "retire": retire_strays,
                "settle": settle_images,
                "survey": survey_project,
                "usage": usage_of_images,
                "withdraw": withdraw_image,
            }
        )
    )
