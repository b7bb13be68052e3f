"""What is fuzzed of clouds: the lists of images, servers and volumes, as a service answers that likes nobody.

Each line of an input is the body of one answer, in turn; afterwards every list is empty.
"""

import json
from contextlib import suppress
from datetime import UTC, datetime
from typing import Final

from imagefactory.errors import FactoryError
from imagefactory.model.glance import MANIFEST_PROPERTY, RELEASE_PROPERTY
from imagefactory.model.survey import Survey
from imagefactory.steps.cloud_usage import Users, cloud_usage
from imagefactory.steps.glance_survey import survey
from imagefactory.tools.openstack.glance import Glance
from tests.fakes.hostile import DATE, EMPTY, OWNER, Hostile

NOW: Final = datetime(2026, 11, 22, 12, tzinfo=UTC)
NAME: Final = "Debian 12"
IMAGE, OTHER = (f"00000000-0000-0000-0000-00000000000{number}" for number in (1, 2))


def image_list(raw: bytes) -> None:
    """A survey, which comes back from JSON as it was, and images that are looked for by name. The first line is the
    header Date."""
    date, *bodies = raw.split(b"\n")
    with suppress(FactoryError):
        found = survey(Hostile(bodies, date).cloud, names=(NAME,), members=True, clock=lambda: NOW)
        assert Survey.from_document(json.loads(json.dumps(found.to_document()))) == found
        assert {each.owner for each in found.images} <= {OWNER}
        assert {each.name for each in found.others} <= {NAME}
        assert len({each.id for each in found.images}) == len(found.images)
    with suppress(FactoryError):
        assert {each.name for each in Glance(Hostile(bodies).cloud).named(NAME)} <= {NAME}
    with suppress(FactoryError):
        assert all(isinstance(each, str) for each in Glance(Hostile(bodies).cloud).formats())


def usage_list(raw: bytes) -> None:
    """Servers and volumes: as many as somebody counts who reads every list with a light heart, or an error."""
    made = Hostile(raw.split(b"\n"))
    with suppress(FactoryError):
        found = cloud_usage(made.cloud, [IMAGE, OTHER], lambda _: None)
        servers = [str(each["image"]["id"]) for each in made.listed("servers") if each["image"] != ""]
        volumes = [str(each.get("volume_image_metadata", {}).get("image_id")) for each in made.listed("volumes")]
        assert found.used == {each: Users(_count(servers, each), _count(volumes, each)) for each in (IMAGE, OTHER)}


def _count(found: list[str], image_id: str) -> int:
    """Some write ids in capitals or without hyphens, and more than that is none that we know."""
    return sum(1 for each in found if _plain(each) == _plain(image_id))


def _plain(image_id: str) -> str:
    return image_id.lower().replace("urn:", "").replace("uuid:", "").strip("{}").replace("-", "")


def _page(**lists: object) -> bytes:
    return json.dumps(lists).encode()


def _image(image_id: str, **said: object) -> dict[str, object]:
    common = {"name": NAME, "status": "active", "owner": OWNER, "visibility": "shared", "tags": ["b", "a"], "size": 7}
    return {"id": image_id, **common, **said}


OURS = _image(
    IMAGE, **{RELEASE_PROPERTY: "debian-12@20261122.1", MANIFEST_PROPERTY: "ab" * 32, "img_signature": "AA=="}
)
THEIRS = _image(OTHER)
MEMBERS = _page(members=[{"member_id": "def", "status": "pending"}])
SERVERS: list[dict[str, object]] = [
    {"id": "s1", "status": "ACTIVE", "tenant_id": "def", "image": {"id": IMAGE}},
    {"id": "s2", "status": "SHUTOFF", "tenant_id": OWNER, "image": "", "os-extended-volumes:volumes_attached": ["v"]},
]
VOLUMES: list[dict[str, object]] = [
    {"id": "v1", "os-vol-tenant-attr:tenant_id": "def", "volume_image_metadata": {"image_id": IMAGE}},
    {"id": "v2", "os-vol-tenant-attr:tenant_id": OWNER, "bootable": "true"},
]
SERVICES = _page(services=[{"host": "compute1", "status": "enabled"}])
NO_SERVERS = _page(servers=[])

IMAGE_LISTS = (
    b"\n".join([DATE, _page(images=[OURS, THEIRS]), EMPTY, EMPTY, EMPTY, MEMBERS]),
    b"\n".join([DATE, _page(images=[THEIRS], next="/v2/images?marker=x"), _page(images=[OURS])]),
    b"\n".join([b"Fri, 31 Dec 9999 23:59:59 -2300", _page(images=[_image(OTHER, name=[NAME], tags=None, size="7")])]),
    b"\n".join([DATE, b'{"properties": {"disk_format": {"enum": [null, "qcow2", "raw"]}}}']),
)
USAGE_LISTS = (
    b"\n".join(
        [
            _page(servers=[{"id": "s1", "status": "ACTIVE"}]),
            NO_SERVERS,
            SERVICES,
            _page(servers=SERVERS),
            NO_SERVERS,
            _page(servers=[{**SERVERS[0], "id": "s3"}]),
            NO_SERVERS,
            SERVICES,
            SERVICES,
            _page(volumes=VOLUMES),
        ]
    ),
    b"\n".join([NO_SERVERS, NO_SERVERS, SERVICES, NO_SERVERS, NO_SERVERS, SERVICES, SERVICES, _page(volumes=VOLUMES)]),
)
