"""Settling a place: the images of one name in a cloud are made to look as the records say.

Whoever is to have the display name gets it first, in one request that shows the image too. Only then the others give
it up, in the order in which they come: each is renamed, hidden and told what to use instead. Deactivations follow, and
deletions are the last. So the name is never without a visible image, and a run that was cut off anywhere is finished by
the next. Where the first step fails, what is to be deactivated is, and keeps its name. What looks as it should is only
looked at.
"""

from collections.abc import Callable, Iterable
from dataclasses import dataclass, field

from imagefactory.errors import (
    CloudUnreachable,
    FactoryError,
    GlanceRefused,
    HolderNotShown,
    ImageNotActive,
    ImageOfAnotherRelease,
    ImageProtected,
)
from imagefactory.model.glance import MANIFEST_PROPERTY, GlanceImage, appearing
from imagefactory.model.settlement import SettledImage, Settlement
from imagefactory.steps.glance_reveal import require_name
from imagefactory.tools.openstack.glance import Glance
from imagefactory.tools.openstack.session import Cloud

MOST_UNREACHABLE = 3  # images in a row at which a cloud did not answer; then it is not asked about the rest


@dataclass(frozen=True)
class Left:
    """An image that is not as it should be, and why: a stable code and a message for people."""

    image_id: str
    code: str
    message: str


@dataclass(frozen=True)
class Settled:
    """What became of the images, each once, by id: those that are as they should be now (deleted ones, too), those
    that were gone before, and those that were left as they are."""

    done: tuple[str, ...]
    gone: tuple[str, ...]
    left: tuple[Left, ...]


@dataclass(frozen=True)
class Settler:
    """Settles places in one cloud, telling `on_advance` what it does."""

    cloud: Cloud
    on_advance: Callable[[str], None]

    @property
    def glance(self) -> Glance:
        return Glance(self.cloud)

    def settle(self, order: Settlement) -> Settled:
        """Settle the images of `order`. What goes wrong with one of them is told of that one, and the others go on:
        unless it is the one to be shown, without which nobody gives up the name.

        Raises NoImageService, and errors of the cloud if not even the log-in works.
        """
        self.glance.require()
        owner = order.owner or self.cloud.project
        round_ = _Round(self.cloud, order.name, owner, self.on_advance)
        holder = order.holder
        if holder is not None:
            round_.each([holder], round_.show)
            if not round_.is_well(holder):
                round_.each(order.others, round_.close)
                why = f"image {holder.image_id} of {self.cloud.name} could not be shown as {holder.look.name}"
                for image in filter(round_.is_well, order.others):
                    round_.left[image.image_id] = HolderNotShown(f"{why}: {image.release} is listed as before")
        for work in (round_.retire, round_.deactivate, round_.delete):
            round_.each(order.others, work)
        return round_.result(order.images)


@dataclass
class _Round:
    """One go at the images of a name. `seen` is what Glance last said of them."""

    cloud: Cloud
    name: str
    owner: str
    on_advance: Callable[[str], None]
    seen: dict[str, GlanceImage] = field(default_factory=dict)
    gone: set[str] = field(default_factory=set)
    left: dict[str, FactoryError] = field(default_factory=dict)
    unreachable: int = 0

    @property
    def glance(self) -> Glance:
        return Glance(self.cloud)

    def is_well(self, wanted: SettledImage) -> bool:
        """Whether the image is there and nothing went wrong with it."""
        return wanted.image_id not in self.gone and wanted.image_id not in self.left

    def each(self, images: Iterable[SettledImage], work: Callable[[SettledImage], None]) -> None:
        """Do `work` to every image with which all is well."""
        for wanted in filter(self.is_well, images):
            if self.unreachable >= MOST_UNREACHABLE:
                self.left[wanted.image_id] = CloudUnreachable(f"{self.cloud.name} was not asked any more")
                continue
            try:
                work(wanted)
                self.unreachable = 0
            except FactoryError as error:
                self.left[wanted.image_id] = error
                self.unreachable = self.unreachable + 1 if isinstance(error, CloudUnreachable) else 0

    def result(self, images: Iterable[SettledImage]) -> Settled:
        """What became of all of them, in their order."""
        ids = [each.image_id for each in images]
        return Settled(
            done=tuple(each for each in ids if each not in self.gone and each not in self.left),
            gone=tuple(each for each in ids if each in self.gone),
            left=tuple(Left(each, self.left[each].code, self.left[each].message) for each in ids if each in self.left),
        )

    # -- what is done to one image -------------------------------------------------------------------------------------

    def show(self, wanted: SettledImage) -> None:
        """Give the display name to an image and show it. Raises DuplicateName, ImageNotActive, GlanceRefused, and like
        `_found`."""
        image = self._found(wanted)
        if image is None:
            return
        if image.hidden or image.name != wanted.look.name:
            require_name(self.glance, wanted.look.name, self.owner, self.name)
        image = self._reactivated(image)
        if image.status != "active":
            raise ImageNotActive(f"{self.cloud.name}: image {image.id} is {image.status} and cannot be shown")
        self._look(image, wanted)

    def close(self, wanted: SettledImage) -> None:
        """Let nobody boot an image any more, if that is wanted, and list it as before. Raises GlanceRefused, and like
        `_found`."""
        image = self._found(wanted) if wanted.look.deactivated else None
        if image is not None:
            self.seen[image.id] = image
            self.deactivate(wanted)

    def retire(self, wanted: SettledImage) -> None:
        """Have an image give up the display name and be hidden. Raises GlanceRefused, and like `_found`."""
        image = self._found(wanted)
        if image is None:
            return
        if not wanted.look.deactivated:
            image = self._reactivated(image)
        self.seen[image.id] = self._look(image, wanted)

    def deactivate(self, wanted: SettledImage) -> None:
        """Let nobody boot an image any more, if that is wanted. Raises GlanceRefused."""
        if wanted.look.deactivated and self.seen[wanted.image_id].status == "active":
            self.on_advance(f"deactivating {wanted.release}, image {wanted.image_id}")
            self.glance.deactivate(wanted.image_id)

    def delete(self, wanted: SettledImage) -> None:
        """Delete an image, if that is wanted. Raises ImageInUse, ImageProtected, GlanceRefused."""
        if not wanted.delete:
            return
        if self.seen[wanted.image_id].protected:
            if not wanted.protected:
                raise ImageProtected(f"{self.cloud.name}: image {wanted.image_id} is protected, and not by its recipe")
            self.glance.update(wanted.image_id, [{"op": "replace", "path": "/protected", "value": False}])
        self.on_advance(f"deleting {wanted.release}, image {wanted.image_id}")
        self.glance.delete(wanted.image_id)

    def _found(self, wanted: SettledImage) -> GlanceImage | None:
        """The image as it is now; when there is none, that is noted. Raises ImageOfAnotherRelease."""
        image = self.glance.show(wanted.image_id)
        if image is None:
            self.gone.add(wanted.image_id)
        elif image.owner != self.owner:
            raise ImageOfAnotherRelease(f"{self.cloud.name}: image {image.id} belongs to another project")
        elif image.properties.get(MANIFEST_PROPERTY) != wanted.manifest_sha256:
            raise ImageOfAnotherRelease(f"{self.cloud.name}: image {image.id} is not of {wanted.release}")
        return image

    def _reactivated(self, image: GlanceImage) -> GlanceImage:
        """An image that was deactivated, as it is after its data is to be had again."""
        if image.status != "deactivated":
            return image
        self.on_advance(f"reactivating image {image.id}")
        self.glance.reactivate(image.id)
        again = self.glance.show(image.id)
        if again is None or again.status != "active":
            raise ImageNotActive(f"{self.cloud.name}: image {image.id} cannot be reactivated")
        return again

    def _look(self, image: GlanceImage, wanted: SettledImage) -> GlanceImage:
        """The image as it is after the one request, if it takes one, that gives it its look."""
        patch = self._patch(image, wanted)
        if not patch:
            return image
        self.on_advance(f"{'hiding' if wanted.look.hidden else 'showing'} {wanted.release}, as {wanted.look.name}")
        changed = self.glance.update(image.id, patch)
        if self._patch(changed, wanted):
            raise GlanceRefused(f"{self.cloud.name} took the change of image {image.id} and did not make it")
        return changed

    def _patch(self, image: GlanceImage, wanted: SettledImage) -> list[dict[str, object]]:
        # Who is hidden keeps the audience that it has: whoever may not change that could not hide it either.
        visible = not wanted.look.hidden and image.visibility != wanted.visibility
        shown = [{"op": "replace", "path": "/visibility", "value": wanted.visibility}] if visible else []
        return [*shown, *appearing(image, wanted.look.appearance)]
