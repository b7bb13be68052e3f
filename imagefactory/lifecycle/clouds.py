"""Clouds as places, asked through the publisher, who has their credentials."""

from collections import defaultdict
from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from imagefactory.errors import FactoryError, HolderNotShown, ImageUnknown
from imagefactory.lifecycle.places import Left, Order, Settlement
from imagefactory.model.lifecycle import Stage
from imagefactory.model.quantity import counted
from imagefactory.model.release import ReleaseRef
from imagefactory.model.strays import Retired
from imagefactory.model.survey import Survey
from imagefactory.model.target import CloudPlace
from imagefactory.progress import Advance, Progress, advancer
from imagefactory.store.tables import Publication
from imagefactory.tools.hand import rebuild
from signing.manifest import MANIFEST_FILE


@dataclass(frozen=True)
class Clouds:
    """The clouds that the publisher has credentials for: `publish` asks it (factory.hands)."""

    publish: Callable[[str, Mapping[str, Any], Advance], dict[str, Any]]

    def settle(self, place: CloudPlace, orders: Sequence[Order], progress: Progress) -> Settlement:
        """Have images renamed, shown, hidden, deactivated and deleted, in this order, project by project; that of the
        holder is the first. Raises errors of the cloud."""
        settlement = Settlement()
        projects = defaultdict[str | None, list[Order]](list)
        for order in orders:
            projects[owner_of(order.publication)].append(order)
        unshown: ReleaseRef | None = None
        for owner, mine in projects.items():
            if unshown is not None:  # the name has to be somewhere before anything else is hidden
                why = HolderNotShown(f"{unshown} could not be shown in {place}, so that nothing else was done")
                settlement.left += [Left(each.ref, str(place), why) for each in mine]
                continue
            failures = self._settle(place, owner, mine, progress)
            for each in mine:
                if (failure := failures.get(str(each.publication.image_id))) is not None:
                    settlement.left.append(Left(each.ref, str(place), failure))
                    unshown = unshown if each.look.hidden else each.ref
                else:
                    settlement.done.append(each)
        return settlement

    def _settle(
        self, place: CloudPlace, owner: str | None, orders: Sequence[Order], progress: Progress
    ) -> dict[str, FactoryError]:
        """Why images of one project are not as they should be, by id. One that is gone is well, but for the holder."""
        answer = self._call(
            place,
            {
                "action": "settle",
                "owner": owner,
                "name": orders[0].release.name,
                "images": [_image(each) for each in orders],
            },
            progress,
        )
        failures: dict[str, FactoryError] = {each["image_id"]: _failure(each) for each in answer["left"]}
        for each in orders:
            if not each.look.hidden and each.publication.image_id in answer["gone"]:
                failures[str(each.publication.image_id)] = ImageUnknown(
                    f"image {each.publication.image_id} of {each.ref}, which is to have the name, is gone from {place}",
                    advice=f"imagefactory publish {each.ref} --to {place}",
                )
        return failures

    def survey(self, place: CloudPlace, owner: str | None, progress: Progress, names: Collection[str] = ()) -> Survey:
        """Every image of ours in a project, and those of others that have one of `names`. Raises errors of the cloud,
        ClockOff."""
        request = {"action": "survey", "owner": owner, "members": True, "names": sorted(names)}
        return Survey.from_document(self._call(place, request, progress))

    def usage(self, admin: str, image_ids: Sequence[str], progress: Progress) -> dict[str, str]:
        """What uses images, in words, as a credential that sees all projects is told: those that nothing uses are not
        there. Raises errors of the cloud."""
        answer = self._call(CloudPlace(admin), {"action": "usage", "image_ids": list(image_ids)}, progress)
        words = {
            image: ", ".join(counted(count, kind.removesuffix("s")) for kind, count in sorted(by.items()) if count)
            for image, by in answer["used"].items()
        }
        return {image: said for image, said in words.items() if said}

    def audit(self, place: CloudPlace, request: Mapping[str, Any], progress: Progress) -> dict[str, Any]:
        """Compare images with their manifests. Raises errors of the cloud."""
        return self._call(place, {"action": "audit", **request}, progress)

    def retire(
        self, place: CloudPlace, owner: str, images: Sequence[Mapping[str, str]], progress: Progress
    ) -> dict[str, Retired]:
        """Hide and deactivate images of a project that no record knows, each {"image_id", "release"}: what became of
        them, by id. Raises errors of the cloud."""
        answer = self._call(place, {"action": "retire", "owner": owner, "images": list(images)}, progress)
        told = (Retired(**{**each, "done": tuple(each["done"])}) for each in answer["images"])
        return {each.image_id: each for each in told}

    def _call(self, place: CloudPlace, request: Mapping[str, Any], progress: Progress) -> dict[str, Any]:
        whole = {**request, "cloud": place.cloud}
        return self.publish(place.cloud, whole, advancer(progress, f"{request['action']} {place}"))


def owner_of(publication: Publication) -> str | None:
    """The project that owns an image; None is that of the credentials."""
    owner = publication.details.get("wish", {}).get("owner")
    return None if owner is None else str(owner)


def _failure(left: Mapping[str, Any]) -> FactoryError:
    return rebuild({"code": left["code"], "message": left["message"], "advice": None, "log": None, "lines": ()})


def look_document(order: Order) -> dict[str, Any]:
    """How an image is to look, as a request has it."""
    return {
        "name": order.look.name,
        "hidden": order.look.hidden,
        "deactivated": order.look.deactivated,
        "replacement": str(order.instead) if order.instead else None,
    }


def _image(order: Order) -> dict[str, Any]:
    wish = order.publication.details.get("wish", {})
    return {
        "image_id": order.publication.image_id,
        "manifest_sha256": order.release.files[MANIFEST_FILE],
        "release": str(order.ref),
        "look": look_document(order),
        "visibility": wish.get("visibility", "private"),
        "protected": bool(wish.get("protected", False)),
        "delete": order.standing.stage is Stage.DELETED,
    }
