"""Which images are in use in a cloud: asked of Nova and Cinder in every region, once for all images of a sweep.

In use is an image of which there is a server, also one that is shelved, stopped or deleted and can be restored (Nova
names the image that it was made from), or a volume, whoever has it. A server that was booted from a volume counts by
that volume. Where something is left open the answer is an error, never a smaller number.
"""

from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from typing import Final
from uuid import UUID

from imagefactory.errors import CloudAnswerInvalid, CloudIncomplete, NoCloudService
from imagefactory.tools.openstack.cinder import Cinder
from imagefactory.tools.openstack.everybody import (
    ALL_VOLUMES,
    Witness,
    judge_no_volumes,
    judge_servers,
    judge_volumes,
    require_all_cells,
    require_all_servers,
    require_all_volumes,
    takes,
    witness_of,
)
from imagefactory.tools.openstack.nova import UNKNOWN, Nova
from imagefactory.tools.openstack.paging import Record
from imagefactory.tools.openstack.session import Cloud

Say = Callable[[str], None]
MOST_ID: Final = 255
SHOW_METADATA: Final = "POST /volumes/ID/action (os-show_image_metadata)"


@dataclass(frozen=True)
class Users:
    """How many servers and volumes are made of an image."""

    servers: int
    volumes: int


@dataclass(frozen=True)
class CloudUsage:
    """What uses each image that was asked about, which services were asked ("compute", "volume"), and what is worth
    knowing about that."""

    used: dict[str, Users]
    asked: tuple[str, ...]
    facts: tuple[str, ...]


def cloud_usage(cloud: Cloud, image_ids: Sequence[str], say: Say) -> CloudUsage:
    """Count what uses images in all regions of a cloud, in all projects.

    Raises CloudCannotSeeAll, CloudIncomplete, NoCloudService, and what `Cloud.request` raises.
    """
    wanted = frozenset(map(_canonical, image_ids))
    regions = cloud.regions("compute")
    if not regions:
        raise NoCloudService(f"{cloud.name}: Keystone's catalogue shows us no compute service")
    with_volumes = cloud.regions("block-storage")
    servers: Counter[str] = Counter()
    volumes: Counter[str] = Counter()
    facts: list[str] = []
    for region in sorted({*regions, *with_volumes}):
        place, witness = cloud.in_region(region), witness_of(cloud)
        if region in regions:
            say(f"asking {place.name} for servers")
            servers += _servers(place, wanted, witness)
        if region in with_volumes:
            say(f"asking {place.name} for volumes")
            volumes += _volumes(place, wanted, witness)
        else:
            judge_no_volumes(place, witness)
            facts.append(f"{place.name} has no block storage service: no volume there is made of an image")
    used = {each: Users(servers[_canonical(each)], volumes[_canonical(each)]) for each in image_ids}
    return CloudUsage(used, ("compute", "volume") if with_volumes else ("compute",), tuple(facts))


def _servers(place: Cloud, wanted: frozenset[str], witness: Witness) -> Counter[str]:
    """The servers of each image in one region. Whether all of Nova is there is asked before and afterwards."""
    nova = Nova(place)
    require_all_servers(nova)
    found = place.patiently(lambda: _count(_images_of_servers(place, nova.servers(), witness), wanted))
    found += place.patiently(lambda: _count(_images_of_servers(place, nova.soft_deleted(), witness), wanted))
    require_all_cells(nova)
    judge_servers(place, witness)
    return found


def _volumes(place: Cloud, wanted: frozenset[str], witness: Witness) -> Counter[str]:
    """The volumes of each image in one region."""
    cinder = Cinder(place)
    require_all_volumes(cinder)
    found = place.patiently(lambda: _count(_images_of_volumes(cinder, witness), wanted))
    judge_volumes(place, witness)
    return found


def _count(images: Iterable[str], wanted: frozenset[str]) -> Counter[str]:
    """How often each of `wanted` is there: nothing else is kept."""
    return Counter(image for image in images if image in wanted)


def _images_of_servers(place: Cloud, pages: Iterable[list[Record]], witness: Witness) -> Iterator[str]:
    for page in pages:
        for server in page:
            if server.get("status") == UNKNOWN or "image" not in server:
                raise CloudIncomplete(f"{place.name}: of server {server['id']} Nova knows no image now")
            witness.saw_server(server)
            if server["image"] != "":  # booted from a volume
                yield _id_in(server["image"], "id", f"{place.name}: the image of server {server['id']}")


def _images_of_volumes(cinder: Cinder, witness: Witness) -> Iterator[str]:
    for page in cinder.volumes():
        known = [volume for volume in page if "volume_image_metadata" in volume]
        if not known:
            _require_without_image(cinder, page)
        for volume in page:
            witness.saw_volume(volume)
        for volume in known:
            metadata, what = volume["volume_image_metadata"], f"{cinder.cloud.name}: the image of volume {volume['id']}"
            # Somebody may have given such metadata to a volume of no image.
            if not isinstance(metadata, dict) or "image_id" in metadata:
                yield _id_in(metadata, "image_id", what)


def _require_without_image(cinder: Cinder, page: list[Record]) -> None:
    """See that a page without any image metadata has volumes that have none: Cinder leaves them out when it may not, or
    cannot, look them up. One that can be booted is asked about. Raises CloudIncomplete."""
    bootable = next((volume for volume in page if str(volume.get("bootable")).lower() == "true"), None)
    if bootable is None:
        return
    with takes(SHOW_METADATA, "volume_extension:volume_image_metadata:show"):
        found = cinder.image_metadata(bootable["id"])
    if found:
        raise CloudIncomplete(
            f"{cinder.cloud.name}: the list of volumes lacks the image metadata, which volume {bootable['id']} has",
            advice=f"{ALL_VOLUMES} takes role admin, or what this cloud's policy has for "
            "volume_extension:volume_image_metadata:show; if it is allowed, ask for the log of cinder-api",
        )


def _id_in(document: object, key: str, what: str) -> str:
    found = document.get(key) if isinstance(document, dict) else None
    if not isinstance(found, str) or not 0 < len(found) <= MOST_ID:
        raise CloudAnswerInvalid(f"{what} is none")
    return _canonical(found)


def _canonical(image_id: str) -> str:
    """A UUID as Glance writes it: some write it in capitals, or without hyphens."""
    try:
        found = UUID(image_id)
    except ValueError:
        return image_id.lower()
    # Python reads numbers there: blanks, signs and digits of other scripts would be one, too.
    return str(found) if found.hex in image_id.lower().replace("-", "") else image_id.lower()
