"""Showing an image to those who should see it, under a name that no stranger's image of the project has."""

from collections.abc import Callable, Sequence
from dataclasses import replace

from imagefactory.errors import CloudForbidden, DuplicateName, GlanceRefused, Refused
from imagefactory.model.glance import RELEASE_PROPERTY, Appearance, Audience, GlanceImage, appearing, revealing
from imagefactory.steps.glance_verify import require
from imagefactory.tools.openstack.glance import Glance
from signing.verify import VerifiedManifest


def require_name(glance: Glance, display_name: str, owner: str, release_name: str) -> None:
    """See that no image of the project `owner` that is no release of `release_name` is shown under the display name:
    whoever asks for the name could get it. Raises DuplicateName."""
    for image in glance.listed_as(display_name, owner):
        said = image.properties.get(RELEASE_PROPERTY)
        if said is None or said.partition("@")[0] != release_name:
            raise DuplicateName(
                f"{glance.cloud.name}: image {image.id} is called {display_name}, too, and is no release of "
                f"{release_name}"
            )


def reveal(
    glance: Glance,
    image: GlanceImage,
    audience: Audience,
    appearance: Appearance,
    retired: Appearance,
    signed: VerifiedManifest,
    on_advance: Callable[[str], None],
) -> GlanceImage:
    """Give a complete image its audience and its appearance, in one request after its members. Should it not be what
    was signed any more, it is listed as `retired` instead.

    An image that is shown stays so, and one that says what to use instead goes on saying it: only settling a place,
    which shows the successor first, changes that.

    Raises CloudForbidden (the image is complete and as it was), GlanceRefused, and what `require` raises.
    """
    cloud = glance.cloud
    now = Appearance.of(image)
    if appearance.hidden:
        appearance = replace(appearance, replacement=now.replacement) if now.hidden else now
    if audience.visibility == "shared":
        if image.visibility != "shared":  # Glance wants it before there can be members; hidden it stays
            image = glance.update(image.id, [{"op": "replace", "path": "/visibility", "value": "shared"}])
        share(glance, image.id, audience.members)
    patch = revealing(image, audience, appearance)
    if not patch:
        return image
    on_advance(f"making the image {'hidden and ' if appearance.hidden else ''}{audience.visibility}")
    try:
        shown = glance.update(image.id, patch)
    except CloudForbidden as error:
        raise CloudForbidden(
            f"{error.message}; image {image.id} is complete and stays {'hidden' if image.hidden else 'as it is'}",
            advice=f"an account that may make images {audience.visibility} finishes it: publish again",
        ) from error
    if revealing(shown, audience, appearance):
        raise GlanceRefused(f"{cloud.name} took the change of image {image.id} and did not make it")
    try:
        # Somebody may have changed it since it was compared.
        require(cloud, shown, signed)
    except Refused:
        glance.update(image.id, appearing(shown, retired))
        raise
    return shown


def share(glance: Glance, image_id: str, members: Sequence[str]) -> None:
    """Have a shared image be shared with these projects and no other. Raises GlanceRefused."""
    there = glance.members(image_id)
    for member in (each for each in members if each not in there):
        glance.share(image_id, member)
    for member in (each for each in there if each not in members):
        glance.unshare(image_id, member)
