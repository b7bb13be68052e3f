"""The fakes of Nova and Cinder, held against what is written about the services.

Compute: docs.openstack.org/api-ref/compute ("List Servers Detailed", "List Compute Services"), the API guide's pages
"Paginated collections", "Microversions" and "Handling Down Cells". Block storage: docs.openstack.org/api-ref/
block-storage/v3 ("List accessible volumes with details", "Show image metadata for a volume", "List All Cinder
Services") and Cinder's policy reference. What these leave open is as Nova 34.0.0 and Cinder 29.0.0 do it.
"""

import json
from collections.abc import Iterator
from dataclasses import dataclass
from http.client import HTTPConnection
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import pytest
from openstack.config import OpenStackConfig
from openstack.connection import Connection

from tests.fakes.cinder import FakeVolume
from tests.fakes.nova import FakeHost, FakeServer
from tests.fakes.region import OURS, THEIRS, FakeCloud, fake_cloud

SERVERS, DETAIL, SERVICES = "/v2.1/servers", "/v2.1/servers/detail", "/v2.1/os-services"
VOLUMES, METADATA = f"/v3/{OURS}/volumes/detail", {"image_id": "one", "image_name": "Fake"}
MINIMAL = {"id", "status", "links"}


@dataclass(frozen=True)
class Heard:
    status: int
    document: Any
    headers: dict[str, str]


@pytest.fixture
def cloud(tmp_path: Path) -> Iterator[FakeCloud]:
    with fake_cloud(tmp_path) as made:
        for number, project in enumerate((OURS, THEIRS, OURS, THEIRS, THEIRS)):
            made.nova.servers.append(FakeServer(f"s{number}", project, "one" if number else ""))
            made.cinder.volumes.append(FakeVolume(f"v{number}", project, METADATA if number else None, bool(number)))
        for name, caller in made.keystone.users.items():
            made.keystone.tokens[name] = caller  # each user's token is the user's name
        yield made


def say(url: str, path: str, who: str = "admin", *, version: str = "", document: object = None) -> Heard:
    connection = HTTPConnection(urlsplit(url).netloc, timeout=10)
    headers = {"X-Auth-Token": who, **({"OpenStack-API-Version": version} if version else {})}
    body = None if document is None else json.dumps(document)
    connection.request("POST" if body else "GET", path, body, headers)
    response = connection.getresponse()
    heard = Heard(response.status, json.loads(response.read()), dict(response.getheaders()))
    connection.close()
    return heard


def ids(heard: Heard) -> list[str]:
    assert heard.status == 200, heard
    (key,) = {"servers", "volumes"} & heard.document.keys()
    return [record["id"] for record in heard.document[key]]


# -- both --------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(("path", "key"), [(DETAIL, "servers"), (VOLUMES, "volumes")])
def test_pages_follow_the_marker_and_the_last_has_no_link(cloud: FakeCloud, path: str, key: str) -> None:
    url = cloud.nova.url if key == "servers" else cloud.cinder.url
    first = say(url, f"{path}?all_tenants=true&limit=2")
    (link,) = first.document[f"{key}_links"]
    assert link["rel"] == "next"
    second = say(url, urlsplit(link["href"]).path + "?" + urlsplit(link["href"]).query)
    third = say(url, f"{path}?all_tenants=1&limit=2&marker={ids(second)[-1]}")
    assert [len(ids(each)) for each in (first, second, third)] == [2, 2, 1]
    assert len({*ids(first), *ids(second), *ids(third)}) == 5
    assert f"{key}_links" not in third.document
    assert ids(say(url, f"{path}?all_tenants=true&marker={ids(third)[-1]}")) == []


@pytest.mark.parametrize(("path", "key"), [(DETAIL, "servers"), (VOLUMES, "volumes")])
def test_no_page_is_longer_than_the_deployment_allows(cloud: FakeCloud, path: str, key: str) -> None:
    cloud.nova.max_limit = cloud.cinder.max_limit = 3
    url = cloud.nova.url if key == "servers" else cloud.cinder.url
    for query in ("all_tenants", "all_tenants=true&limit=1000"):
        heard = say(url, f"{path}?{query}")
        assert (len(ids(heard)), len(heard.document[f"{key}_links"])) == (3, 1)


@pytest.mark.parametrize(("query", "nova", "cinder"), [("marker=nowhere", 400, 404), ("limit=-1", 400, 400)])
def test_bad_pages(cloud: FakeCloud, query: str, nova: int, cinder: int) -> None:
    assert say(cloud.nova.url, f"{DETAIL}?{query}").status == nova
    assert say(cloud.cinder.url, f"{VOLUMES}?{query}").status == cinder


def test_who_has_no_token_is_not_known(cloud: FakeCloud) -> None:
    assert say(cloud.nova.url, DETAIL, "nobody").status == 401
    assert say(cloud.cinder.url, VOLUMES, "nobody").status == 401


def test_the_versions_are_open_to_everybody(cloud: FakeCloud) -> None:
    version = say(cloud.nova.url, "/v2.1/", "nobody").document["version"]
    assert (version["id"], version["min_version"], version["version"]) == ("v2.1", "2.1", "2.104")
    (version,) = say(cloud.cinder.url, "/v3/", "nobody").document["versions"]
    assert (version["id"], version["min_version"], version["version"]) == ("v3.0", "3.0", "3.71")
    assert say(cloud.cinder.url, "/", "nobody").status == 300


# -- Nova --------------------------------------------------------------------------------------------------------------


def test_servers_have_the_fields_that_are_documented(cloud: FakeCloud) -> None:
    of_volume, of_image = say(cloud.nova.url, f"{DETAIL}?all_tenants=true&limit=2").document["servers"]
    assert of_volume["image"] == ""
    assert of_image["image"]["id"] == "one"
    assert {"id", "name", "links", "status", "tenant_id", "os-extended-volumes:volumes_attached"} <= of_image.keys()
    (brief,) = say(cloud.nova.url, f"{SERVERS}?all_tenants=true&limit=1").document["servers"]
    assert brief.keys() == {"id", "name", "links"}


@pytest.mark.parametrize("query", ["", "?all_tenants=false", "?all_tenants=0"])
def test_without_all_tenants_nova_lists_the_own_project(cloud: FakeCloud, query: str) -> None:
    assert ids(say(cloud.nova.url, f"{DETAIL}{query}", "member")) == ["s0", "s2"]


@pytest.mark.parametrize(
    ("path", "rule"),
    [
        (f"{SERVERS}?all_tenants=true", "os_compute_api:servers:index:get_all_tenants"),
        (f"{DETAIL}?all_tenants", "os_compute_api:servers:detail:get_all_tenants"),
        (SERVICES, "os_compute_api:os-services:list"),
    ],
)
def test_nova_refuses_what_is_for_administrators(cloud: FakeCloud, path: str, rule: str) -> None:
    heard = say(cloud.nova.url, path, "reader")
    message = f"Policy doesn't allow {rule} to be performed."
    assert (heard.status, heard.document["forbidden"]) == (403, {"code": 403, "message": message})


def test_deleted_servers_are_for_who_asks_for_them(cloud: FakeCloud) -> None:
    cloud.nova.servers += [FakeServer("soft", OURS, "one", "SOFT_DELETED"), FakeServer("gone", OURS, "one", "DELETED")]
    asked = {
        "": ["s0", "s2"],
        "status=ACTIVE": ["s0", "s2"],
        "status=SOFT_DELETED": [],
        "deleted=true": ["soft", "gone"],
        "deleted=true&status=SOFT_DELETED": ["soft"],
        "status=DELETED": ["gone"],
    }
    found = {query: ids(say(cloud.nova.url, f"{DETAIL}?{query}")) for query in asked}
    assert found == asked
    assert say(cloud.nova.url, f"{DETAIL}?status=DELETED", "member").status == 403


def test_a_filter_that_somebody_may_not_use_is_dropped_in_silence(cloud: FakeCloud) -> None:
    cloud.nova.servers.append(FakeServer("soft", OURS, "one", "SOFT_DELETED"))
    assert ids(say(cloud.nova.url, f"{DETAIL}?deleted=true", "member")) == ["s0", "s2"]


def test_microversions_are_named_in_the_answer(cloud: FakeCloud) -> None:
    heard = say(cloud.nova.url, DETAIL, version="compute 2.69")
    assert heard.headers["OpenStack-API-Version"] == "compute 2.69"
    assert heard.headers["X-OpenStack-Nova-API-Version"] == "2.69"
    assert say(cloud.nova.url, DETAIL).headers["OpenStack-API-Version"] == "compute 2.1"
    assert say(cloud.nova.url, DETAIL, version="volume 3.50").headers["OpenStack-API-Version"] == "compute 2.1"
    assert say(cloud.nova.url, DETAIL, version="compute 2.999").status == 406
    assert say(cloud.nova.url, DETAIL, version="compute x").status == 400


def test_user_data_come_from_2_3_on(cloud: FakeCloud) -> None:
    said = [
        "OS-EXT-SRV-ATTR:user_data" in say(cloud.nova.url, DETAIL, version=f"compute 2.{minor}").document["servers"][0]
        for minor in (1, 2, 3, 69)
    ]
    assert said == [False, False, True, True]


@pytest.mark.parametrize(
    ("version", "query", "told"),
    [
        ("2.69", "all_tenants=true", True),
        ("2.104", "all_tenants=true", True),
        ("2.68", "all_tenants=true", False),
        ("2.1", "all_tenants=true", False),
        ("2.69", "all_tenants=true&limit=1000", False),
        ("2.69", "all_tenants=true&marker=s0", False),
        ("2.69", "all_tenants=true&sort_key=uuid", False),
        ("2.69", "all_tenants=true&status=ACTIVE", False),
        ("2.69", "all_tenants=true&deleted=false", False),
    ],
)
def test_servers_of_a_cell_that_is_down(cloud: FakeCloud, version: str, query: str, told: bool) -> None:
    cloud.nova.servers.append(FakeServer("lost", THEIRS, "one", cell="cell2"))
    cloud.nova.down = {"cell2"}
    for path, more in ((SERVERS, set()), (DETAIL, {"tenant_id", "created"})):
        listed = say(cloud.nova.url, f"{path}?{query}", version=f"compute {version}").document["servers"]
        lost = [each for each in listed if each["id"] == "lost"]
        assert [each.keys() for each in lost] == ([MINIMAL | more] if told else [])
        assert all(each["status"] == "UNKNOWN" for each in lost)


def test_a_page_that_is_full_has_nothing_of_a_cell_that_is_down(cloud: FakeCloud) -> None:
    cloud.nova.servers.append(FakeServer("lost", THEIRS, "one", cell="cell2"))
    cloud.nova.down, cloud.nova.max_limit = {"cell2"}, 5
    assert "lost" not in ids(say(cloud.nova.url, f"{SERVERS}?all_tenants=true", version="compute 2.69"))


def test_a_cell_that_is_down_may_be_an_error_instead(cloud: FakeCloud) -> None:
    cloud.nova.down, cloud.nova.skips_down_cells = {"cell2"}, False
    assert say(cloud.nova.url, f"{DETAIL}?limit=10").status == 500


def test_services_of_a_cell_that_is_down(cloud: FakeCloud) -> None:
    cloud.nova.hosts.append(FakeHost("compute2", "cell2"))
    cloud.nova.down = {"cell2"}
    before = say(cloud.nova.url, SERVICES, version="compute 2.68").document["services"]
    assert [each["host"] for each in before] == ["compute1"]
    after = say(cloud.nova.url, SERVICES, version="compute 2.69").document["services"]
    assert after[1] == {"binary": "nova-compute", "host": "compute2", "status": "UNKNOWN"}


# -- Cinder ------------------------------------------------------------------------------------------------------------


def test_volumes_have_the_fields_that_are_documented(cloud: FakeCloud) -> None:
    blank, bootable = say(cloud.cinder.url, f"{VOLUMES}?all_tenants=true&limit=2").document["volumes"]
    assert {"id", "name", "status", "size", "bootable", "os-vol-tenant-attr:tenant_id"} <= blank.keys()
    assert (blank["bootable"], "volume_image_metadata" in blank) == ("false", False)
    assert (bootable["bootable"], bootable["volume_image_metadata"]) == ("true", METADATA)


def test_cinder_ignores_all_tenants_of_who_is_no_administrator(cloud: FakeCloud) -> None:
    assert ids(say(cloud.cinder.url, f"{VOLUMES}?all_tenants=true", "member")) == ["v0", "v2"]
    assert len(ids(say(cloud.cinder.url, f"{VOLUMES}?all_tenants=true"))) == 5
    assert ids(say(cloud.cinder.url, VOLUMES)) == ["v0", "v2"]


def test_the_project_may_be_left_out_of_the_path(cloud: FakeCloud) -> None:
    assert len(ids(say(cloud.cinder.url, "/v3/volumes/detail?all_tenants=true"))) == 5
    assert say(cloud.cinder.url, f"/v3/{THEIRS}/volumes/detail").status == 404


def test_the_services_of_cinder_are_for_administrators(cloud: FakeCloud) -> None:
    assert say(cloud.cinder.url, f"/v3/{OURS}/os-services").document["services"][0]["binary"] == "cinder-volume"
    heard = say(cloud.cinder.url, f"/v3/{OURS}/os-services", "member")
    assert (heard.status, "volume_extension:services:index" in heard.document["forbidden"]["message"]) == (403, True)


def test_image_metadata_of_one_volume(cloud: FakeCloud) -> None:
    asked = {"os-show_image_metadata": None}
    cloud.cinder.loses_image_metadata = True
    listed = say(cloud.cinder.url, f"{VOLUMES}?all_tenants=true").document["volumes"]
    assert not any("volume_image_metadata" in each for each in listed)
    found = [say(cloud.cinder.url, f"/v3/{OURS}/volumes/{each}/action", document=asked) for each in ("v0", "v1", "no")]
    assert [(each.status, each.document.get("metadata")) for each in found] == [(200, {}), (200, METADATA), (404, None)]


# -- an independent client ---------------------------------------------------------------------------------------------


def test_openstacksdk_reads_what_the_fakes_say(cloud: FakeCloud) -> None:
    cloud.nova.max_limit = cloud.cinder.max_limit = 2
    config = OpenStackConfig(
        config_files=[str(cloud.clouds_yaml)], vendor_files=[], secure_files=[], load_envvars=False
    )
    with Connection(config=config.get_one(cloud="admin")) as sdk:
        servers = list(sdk.compute.servers(all_projects=True, limit=2))
        volumes = list(sdk.block_storage.volumes(all_projects=True, limit=2))
        services = list(sdk.compute.services())
    assert [(each.id, each.project_id) for each in servers] == [(each.id, each.project) for each in cloud.nova.servers]
    assert [each.volume_image_metadata for each in volumes] == [None, *[METADATA] * 4]
    assert [each.host for each in services] == ["compute1"]
