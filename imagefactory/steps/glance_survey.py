"""A survey of a project in a cloud: every image of ours that is there, hidden ones too.

Glance cannot be asked for images that have a property, so all images of the project are listed, and what is not ours
is forgotten at once.
"""

from collections.abc import Callable, Collection, Iterable, Iterator
from dataclasses import replace
from datetime import UTC, datetime
from typing import Any, Final

from imagefactory.errors import ClockOff, CloudAnswerInvalid, CloudForbidden, GlanceRefused
from imagefactory.model.glance import RELEASE_PROPERTY, GlanceImage
from imagefactory.model.survey import OtherImage, Survey, SurveyedImage, clock_is_off, made_of_a_server
from imagefactory.tools.openstack.glance import Glance
from imagefactory.tools.openstack.listing import pages
from imagefactory.tools.openstack.session import Cloud

MOST_KEPT: Final = 64 << 20  # characters of all images of ours
OnImages = Callable[[int], None]


def survey(
    cloud: Cloud,
    owner: str | None = None,
    names: Collection[str] = (),
    *,
    members: bool = False,
    on_images: OnImages | None = None,
    clock: Callable[[], datetime] = lambda: datetime.now(UTC),
) -> Survey:
    """List every image of ours in the project `owner` (None: that of the credentials), and the visible images of others
    there that have one of `names`. With `members`, those of shared images are asked for, one request each.

    Raises ClockOff, CloudForbidden (of another project an ordinary account sees only a part), CloudAnswerInvalid, and
    errors of the cloud. What is returned is everything there is.
    """
    Glance(cloud).require()
    owner = _project(cloud, owner)
    look = _Look(cloud.name, owner, frozenset(names))
    ours, others, server_time = dict[str, SurveyedImage](), dict[str, OtherImage](), None
    seen = weight = 0
    # What is hidden meanwhile is listed twice, what is shown meanwhile not at all: hiding is what happens more often.
    for hidden in ("false", "true"):
        filters = {"owner": owner, "visibility": "all", "os_hidden": hidden}
        for page in pages(cloud, filters, look):
            if server_time is None:
                server_time = page.date
                _check_clock(cloud, server_time, clock())
            ours.update((each.id, each) for each in page.kept if isinstance(each, SurveyedImage))
            others.update((each.id, each) for each in page.kept if isinstance(each, OtherImage))
            weight += sum(each.weight for each in page.kept if isinstance(each, SurveyedImage))
            _require_light(cloud, weight)
            seen += len(page.ids)
            if on_images is not None:
                on_images(seen)
    images = _with_members(cloud, ours.values()) if members else ours.values()
    return Survey(owner, tuple(images), tuple(others.values()), server_time)


def _project(cloud: Cloud, owner: str | None) -> str:
    """The project to look into. Of one that is not ours, Glance would show what is public, and that looks like all."""
    if owner is None or owner == cloud.project:
        return cloud.project
    if "admin" not in cloud.roles:
        raise CloudForbidden(
            f"{cloud.name}: listing the images of project {owner} takes role admin, and this account has "
            f"{', '.join(cloud.roles) or 'none'}",
            advice="use credentials of that project, or of an administrator",
        )
    return owner


class _Look:
    """Tells what of an image is kept."""

    def __init__(self, cloud: str, owner: str, names: frozenset[str]) -> None:
        self._cloud = cloud
        self._owner = owner
        self._names = names

    def __call__(self, document: dict[str, Any]) -> SurveyedImage | OtherImage | None:
        # Filters are a wish: what decides is what the images say.
        if document.get("owner") != self._owner:
            return None
        try:
            if RELEASE_PROPERTY in document and not made_of_a_server(document):
                return SurveyedImage.of(GlanceImage.from_json(document))
            if str(document.get("name")) in self._names and document.get("os_hidden") is not True:
                image = GlanceImage.from_json(document)
                return OtherImage(image.id, image.name, image.visibility)
        except ValueError as error:
            raise CloudAnswerInvalid(f"{self._cloud}: image {document['id']} is none: {error}") from error
        return None


def _check_clock(cloud: Cloud, server: datetime | None, here: datetime) -> None:
    if server is not None and clock_is_off(server, here):
        said, known = (f"{moment:%Y-%m-%d %H:%M:%S} UTC" for moment in (server, here))
        raise ClockOff(f"the image service of {cloud.name} says that it is {said}; here it is {known}")


def _require_light(cloud: Cloud, weight: int) -> None:
    if weight > MOST_KEPT:
        raise CloudAnswerInvalid(f"{cloud.name}: the images of ours say more than any should")


def _with_members(cloud: Cloud, images: Iterable[SurveyedImage]) -> Iterator[SurveyedImage]:
    """The images with whom they are shared, without those that are gone meanwhile."""
    weight = 0
    for image in images:
        found = _shared_with(cloud, image) if image.visibility == "shared" else image
        if found is not None:
            weight += found.weight
            _require_light(cloud, weight)
            yield found


def _shared_with(cloud: Cloud, image: SurveyedImage) -> SurveyedImage | None:
    """With the projects that a shared image is shared with; None when it is gone meanwhile."""
    glance = Glance(cloud)
    try:
        return replace(image, members=tuple(sorted(glance.members(image.id))))
    except (GlanceRefused, CloudForbidden):
        if glance.show(image.id) is None:
            return None
        raise
