"""Retiring strays: images of ours that no record knows are hidden, and then deactivated.

Each is looked at again right before, since it was listed by another request. It keeps its name, its properties and its
data, so that whoever does know it takes this back with two requests.
"""

from collections.abc import Callable
from dataclasses import dataclass

from imagefactory.errors import (
    CloudUnreachable,
    FactoryError,
    GlanceRefused,
    ImageNotActive,
    ImageOfAnotherRelease,
    ImageProtected,
    ImageUnknown,
)
from imagefactory.model.glance import RELEASE_PROPERTY, GlanceImage
from imagefactory.model.strays import DEACTIVATED, HIDDEN, Retired, Retirement, StrayImage, kept_by
from imagefactory.model.survey import made_of_a_server
from imagefactory.tools.openstack.glance import Glance
from imagefactory.tools.openstack.session import Cloud


@dataclass(frozen=True)
class Retirer:
    """Retires strays in one cloud, telling `on_advance` what it does."""

    cloud: Cloud
    on_advance: Callable[[str], None]

    @property
    def glance(self) -> Glance:
        return Glance(self.cloud)

    def retire(self, order: Retirement) -> list[Retired]:
        """What became of each image, in order. What goes wrong with one stops no other, but a cloud that does not
        answer is not asked again. Raises NoImageService, and errors of the cloud if not even the log-in works."""
        self.glance.require()
        told: list[Retired] = []
        down: CloudUnreachable | None = None
        for wanted in order.images:
            done: list[str] = []
            try:
                if down is not None:
                    raise down
                self._retire(wanted, order.owner, done)
                told.append(Retired(wanted.image_id, tuple(done)))
            except FactoryError as error:
                down = error if isinstance(error, CloudUnreachable) else None
                told.append(Retired(wanted.image_id, tuple(done), error.code, error.message))
        return told

    def _retire(self, wanted: StrayImage, owner: str, done: list[str]) -> None:
        """Hide and deactivate an image, adding to `done` what Glance has done. Raises like `_found`, ImageNotActive,
        GlanceRefused."""
        image = self._found(wanted, owner)
        if image.status not in {"active", "deactivated"}:
            raise ImageNotActive(
                f"{self.cloud.name}: image {image.id} is {image.status}: it has no data that anybody could start"
            )
        if not image.hidden:
            self.on_advance(f"hiding image {image.id}, which no record knows")
            patch = [{"op": "replace", "path": "/os_hidden", "value": True}]
            if not self.glance.update(image.id, patch).hidden:
                raise GlanceRefused(f"{self.cloud.name} took the change of image {image.id} and did not make it")
            done.append(HIDDEN)
        if image.status == "active":
            self.on_advance(f"deactivating image {image.id}, which no record knows")
            self.glance.deactivate(image.id)
            done.append(DEACTIVATED)

    def _found(self, wanted: StrayImage, owner: str) -> GlanceImage:
        """The image as it is now. Raises ImageUnknown, ImageOfAnotherRelease, ImageProtected."""
        image = self.glance.show(wanted.image_id)
        if image is None:
            raise ImageUnknown(f"{self.cloud.name}: image {wanted.image_id} is gone")
        if image.owner != owner:
            raise ImageOfAnotherRelease(f"{self.cloud.name}: image {image.id} belongs to another project")
        if image.properties.get(RELEASE_PROPERTY) != wanted.release or made_of_a_server(image.properties):
            raise ImageOfAnotherRelease(f"{self.cloud.name}: image {image.id} is not what it was when it was listed")
        members = self.glance.members(image.id) if image.visibility == "shared" else ()
        why = kept_by(image.protected, members)
        if why is not None:
            raise ImageProtected(f"{self.cloud.name}: image {image.id}: {why}")
        return image
