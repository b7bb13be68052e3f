"""What uses an image, asked of fakes that speak as Nova and Cinder do."""

from collections.abc import Callable, Iterator
from contextlib import suppress
from pathlib import Path
from typing import Any
from uuid import UUID

import pytest

from imagefactory.errors import (
    CloudAnswerInvalid,
    CloudAnswerTooLarge,
    CloudAuthFailed,
    CloudCannotSeeAll,
    CloudIncomplete,
    CloudUnreachable,
    FactoryError,
    NoCloudService,
)
from imagefactory.steps.cloud_usage import CloudUsage, Users, cloud_usage
from imagefactory.tools.hand import call_publisher
from imagefactory.tools.openstack import paging, session
from imagefactory.tools.openstack.session import Cloud, Patience
from imagefactory.tools.process import BASE_ENVIRONMENT
from tests.fakes.cinder import FakeVolume
from tests.fakes.keystone import PASSWORD, Endpoint
from tests.fakes.nova import FakeHost, FakeServer
from tests.fakes.region import OURS, THEIRS, FakeCloud, fake_cloud
from tests.fakes.service import Request
from tests.fakes.tuf_site import Talk, breaking_off, dripping_body, endless, not_http, saying, silence

IMAGE, OTHER, UNUSED = (str(UUID(int=number)) for number in (0xABC, 0xDEF, 0x123))
BULKY: dict[str, object] = {"metadata": {f"key{number}": "x" * 250 for number in range(16)}}  # 4 KiB
QUICK = Patience(attempts=2, longest=0.1, first=0.01)
numbers = iter(range(1 << 40, 1 << 41))


def uuid() -> str:
    return str(UUID(int=next(numbers)))


def server(image: str = IMAGE, project: str = THEIRS, **more: object) -> FakeServer:
    return FakeServer(uuid(), project, image, **more)  # type: ignore[arg-type] # as FakeServer has them


def volume(image: str | None = IMAGE, project: str = THEIRS, **more: object) -> FakeVolume:
    known = {"image_id": image, "image_name": "Fake", "min_disk": "10"} if image else None
    return FakeVolume(uuid(), project, known, **{"bootable": bool(image), **more})  # type: ignore[arg-type]


@pytest.fixture
def cloud(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[FakeCloud]:
    """With a server and a volume of somebody else."""
    with fake_cloud(tmp_path) as made:
        monkeypatch.setenv("OS_CLIENT_CONFIG_FILE", str(made.clouds_yaml))
        made.nova.servers.append(server(OTHER))
        made.cinder.volumes.append(volume(OTHER))
        yield made


@pytest.fixture
def impatient(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(session, "ANSWER", 0.3)
    monkeypatch.setattr(session, "WHOLE_ANSWER", 0.5)


def ask(name: str = "admin", *images: str) -> CloudUsage:
    return cloud_usage(Cloud(name, QUICK), images or (IMAGE, UNUSED), lambda _: None)


def users(name: str = "admin") -> Users:
    return ask(name).used[IMAGE]


# -- what counts -------------------------------------------------------------------------------------------------------


def test_servers_and_volumes_of_all_projects_count(cloud: FakeCloud) -> None:
    cloud.nova.servers += [server(), server(project=OURS), server("", volumes=("v1",)), server(OTHER)]
    cloud.cinder.volumes += [volume(), volume(None), volume(project=OURS), volume()]
    found = ask()
    assert found.used == {IMAGE: Users(2, 3), UNUSED: Users(0, 0)}
    assert (found.asked, found.facts) == (("compute", "volume"), ())


@pytest.mark.parametrize("status", ["SHELVED", "SHELVED_OFFLOADED", "SHUTOFF", "ERROR", "BUILD", "SOFT_DELETED"])
def test_a_server_in_any_state_counts_that_somebody_can_have_back(cloud: FakeCloud, status: str) -> None:
    cloud.nova.servers += [server(status=status), server(status="DELETED")]
    assert users() == Users(1, 0)


@pytest.mark.parametrize("written", [IMAGE.upper(), IMAGE.replace("-", ""), IMAGE.replace("-", "").upper()])
def test_an_id_counts_however_it_is_written(cloud: FakeCloud, written: str) -> None:
    cloud.nova.servers.append(server(written))
    cloud.cinder.volumes.append(volume(written))
    assert users() == Users(1, 1)
    assert ask("admin", written).used == {written: Users(1, 1)}


def test_ids_that_are_no_uuids_are_nothing_special(cloud: FakeCloud) -> None:
    cloud.nova.servers += [server("an-old-image"), server()]
    assert ask("admin", IMAGE, "an-old-image").used == {IMAGE: Users(1, 0), "an-old-image": Users(1, 0)}


@pytest.mark.parametrize("before", [" ", "+", "-", "\N{ARABIC-INDIC DIGIT ZERO}", "_"])
def test_what_python_reads_as_a_number_is_not_an_id(cloud: FakeCloud, before: str) -> None:
    nought = "00000000-0000-0000-0000-000000000001"
    cloud.nova.servers.append(server(before + nought[1:]))
    assert ask("admin", nought).used == {nought: Users(0, 0)}


def test_image_metadata_without_an_id_is_of_no_image(cloud: FakeCloud) -> None:
    cloud.cinder.volumes.append(FakeVolume(uuid(), THEIRS, {"hw_disk_bus": "scsi"}, bootable=True))
    assert users() == Users(0, 0)


@pytest.mark.parametrize("name", ["block-storage", "volumev3", "volume", "block-store"])
def test_cinder_is_found_by_all_of_its_names(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, name: str) -> None:
    with fake_cloud(tmp_path, volumes_are=name) as made:
        monkeypatch.setenv("OS_CLIENT_CONFIG_FILE", str(made.clouds_yaml))
        made.cinder.volumes.append(volume())
        assert users() == Users(0, 1)


# -- long lists --------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("most", [1, 2, 3, 7, 1000])
def test_pages_of_any_length_are_read_to_the_end(cloud: FakeCloud, most: int) -> None:
    cloud.nova.max_limit = cloud.cinder.max_limit = most
    cloud.nova.servers += [server() for _ in range(6)] + [server(status="SOFT_DELETED") for _ in range(3)]
    cloud.cinder.volumes += [volume() for _ in range(7)]
    assert users() == Users(9, 7)


def test_no_more_requests_are_made_than_there_are_pages(cloud: FakeCloud) -> None:
    cloud.nova.servers += [server() for _ in range(2500)]
    ask()
    assert [path for path in cloud.nova.asked if "detail" in path and "SOFT" not in path and "marker" in path] == [
        f"GET /v2.1/servers/detail?all_tenants=true&limit=1000&marker={cloud.nova.servers[at].id}"
        for at in (999, 1999, 2500)
    ]


def test_pages_that_are_too_large_are_asked_for_in_smaller_ones(
    cloud: FakeCloud, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(session, "MOST_JSON", 40_000)
    cloud.nova.servers += [server(more={"metadata": {"x": "y" * 1000}}) for _ in range(100)]
    cloud.nova.max_limit = 60
    assert users() == Users(100, 0)


def test_a_list_that_is_too_large_however_it_is_cut(cloud: FakeCloud, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(session, "MOST_JSON", 40_000)
    cloud.nova.servers.append(server(more={"metadata": {"x": "y" * 50_000}}))
    with pytest.raises(CloudAnswerTooLarge):
        ask()


def test_a_nova_that_refuses_pages_that_it_finds_too_long(cloud: FakeCloud) -> None:
    cloud.nova.refuses_large_limits, cloud.nova.max_limit = True, 100
    cloud.nova.servers += [server() for _ in range(150)]
    assert users() == Users(150, 0)


def test_a_list_that_takes_for_ever(cloud: FakeCloud, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(paging, "WHOLE_LIST", 0.0)
    cloud.nova.servers.append(server())
    with pytest.raises(CloudAnswerInvalid, match="has not ended"):
        ask()


def test_a_list_without_an_end(cloud: FakeCloud, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(paging, "MOST_RECORDS", 50)
    cloud.nova.servers += [server() for _ in range(50)]
    with pytest.raises(CloudAnswerInvalid, match="more than 50 servers"):
        ask()


def test_a_list_that_goes_in_circles(cloud: FakeCloud) -> None:
    cloud.nova.servers += [server() for _ in range(3)]
    first = [{"id": each.id, "image": "", "tenant_id": THEIRS} for each in cloud.nova.servers[:2]]
    cloud.nova.lie = lambda request, document: {"servers": first} if request.path.endswith("detail") else document
    with pytest.raises(CloudAnswerInvalid, match="again and again"):
        ask()


def test_a_link_that_leads_elsewhere_is_not_followed(cloud: FakeCloud) -> None:
    cloud.nova.max_limit = 2
    cloud.nova.servers += [server() for _ in range(5)]

    def astray(_: Request, document: dict[str, object]) -> dict[str, object]:
        if "servers_links" in document:
            document["servers_links"] = [{"rel": "next", "href": f"{cloud.keystone.url}/v3/servers/detail"}]
        return document

    cloud.nova.lie = astray
    assert users() == Users(5, 0)


def test_a_list_whose_links_are_missing_is_read_to_the_end_nevertheless(cloud: FakeCloud) -> None:
    cloud.cinder.max_limit = 2
    cloud.cinder.volumes += [volume() for _ in range(5)]
    cloud.cinder.lie = lambda _, document: {k: v for k, v in document.items() if k != "volumes_links"}
    assert users() == Users(0, 5)


def test_a_volume_that_is_deleted_while_the_list_is_read(cloud: FakeCloud) -> None:
    """Cinder does not find its place again: the list is read anew, and nothing counts twice."""
    cloud.cinder.max_limit = 2
    cloud.cinder.volumes += [volume() for _ in range(5)]
    lost = [cloud.cinder.volumes[1]]

    def delete(request: Request, document: dict[str, object]) -> dict[str, object]:
        if request.path.endswith("detail") and lost:
            cloud.cinder.volumes.remove(lost.pop())
        return document

    cloud.cinder.lie = delete
    assert users() == Users(0, 4)


# -- who may ask -------------------------------------------------------------------------------------------------------


@pytest.mark.usefixtures("cloud")
@pytest.mark.parametrize("name", ["member", "reader"])
def test_a_credential_that_sees_one_project_is_refused(name: str) -> None:
    with pytest.raises(CloudCannotSeeAll, match="all_tenants=true was refused") as refused:
        ask(name)
    assert "role admin" in refused.value.advice
    assert "os_compute_api:servers:index:get_all_tenants" in refused.value.advice


def test_every_refusal_says_which_call_takes_which_role(cloud: FakeCloud) -> None:
    said = []
    for knob in ("lists_all", "all_filters", "lists_services"):
        setattr(cloud.nova, knob, "auditor")
    for knob in ("lists_services", "is_admin", "shows_image_metadata"):
        setattr(cloud.cinder, knob, "auditor")
    cloud.nova.servers.append(server(volumes=("v1",)))

    def refusal() -> str:
        with pytest.raises(CloudCannotSeeAll) as refused:
            ask()
        return refused.value.advice

    for service, knob in (
        (cloud.nova, "lists_all"),
        (cloud.nova, "lists_services"),
        (cloud.cinder, "lists_services"),
        (cloud.cinder, "is_admin"),
    ):
        said.append(refusal())
        setattr(service, knob, "admin")
    assert [advice.split(" takes role admin")[0] for advice in said] == [
        "GET /servers?all_tenants=true",
        "GET /os-services (compute)",
        "GET /os-services (block-storage)",
        "GET /volumes/detail?all_tenants=true",
    ]


@pytest.mark.parametrize("at", [0, 1])
def test_cinder_gives_less_and_says_nothing(cloud: FakeCloud, at: int) -> None:
    """context_is_admin is another role there, and everything else is open to us: only what Nova shows gives it away."""
    cloud.cinder.is_admin = "storage-admin"
    cloud.nova.servers.insert(at, server("", volumes=("v1",)))
    cloud.cinder.volumes.append(volume())
    with pytest.raises(CloudCannotSeeAll, match="volumes of our own project only"):
        ask()


def test_an_auditor_whose_role_the_cloud_lets_see_everything(cloud: FakeCloud) -> None:
    """Keystone says nothing of it; that there are servers and volumes of others does."""
    open_to("auditor", cloud)
    cloud.nova.servers.append(server())
    assert users("auditor") == Users(1, 0)


@pytest.mark.parametrize(("servers", "volumes", "call"), [(0, 1, "GET /servers/detail"), (1, 0, "GET /volumes/detail")])
def test_an_auditor_who_sees_nothing_of_others(cloud: FakeCloud, servers: int, volumes: int, call: str) -> None:
    open_to("auditor", cloud)
    cloud.nova.servers[:] = [server()] * servers
    cloud.cinder.volumes[:] = [volume()] * volumes
    with pytest.raises(CloudCannotSeeAll, match="auditor, reader") as refused:
        ask("auditor")
    assert refused.value.advice.startswith(f"{call}?all_tenants=true takes role admin")


def test_an_auditor_to_whom_nova_shows_no_deleted_servers(cloud: FakeCloud) -> None:
    open_to("auditor", cloud)
    cloud.nova.is_admin = "admin"
    with pytest.raises(CloudCannotSeeAll, match="DELETED was refused"):
        ask("auditor")


def test_an_administrator_of_a_cloud_in_which_nobody_has_anything(cloud: FakeCloud) -> None:
    cloud.nova.servers.clear()
    cloud.cinder.volumes.clear()
    assert users() == Users(0, 0)


def test_a_token_for_the_system(cloud: FakeCloud) -> None:
    open_to("reader", cloud)
    cloud.keystone.catalogue[:] = [
        Endpoint(each.kind, each.url.removesuffix("/%(project_id)s")) for each in cloud.keystone.catalogue
    ]
    cloud.nova.servers.append(server())
    cloud.cinder.volumes.append(volume())
    assert users("system") == Users(1, 1)


def open_to(role: str, cloud: FakeCloud) -> None:
    """Let a role do in Nova and Cinder what is for administrators."""
    cloud.nova.lists_all = cloud.nova.lists_services = cloud.nova.all_filters = cloud.nova.is_admin = role
    cloud.cinder.lists_services = cloud.cinder.is_admin = cloud.cinder.shows_image_metadata = role


def test_a_password_that_is_wrong(cloud: FakeCloud) -> None:
    cloud.keystone.users.clear()
    with pytest.raises(CloudAuthFailed):
        ask()


def test_a_token_that_a_service_does_not_know(cloud: FakeCloud) -> None:
    cloud.cinder.identify = lambda _: None
    with pytest.raises(CloudAuthFailed):
        ask()


# -- what is not there -------------------------------------------------------------------------------------------------


def test_a_cell_that_is_down(cloud: FakeCloud) -> None:
    cloud.nova.servers.append(server(cell="cell2"))
    cloud.nova.hosts.append(FakeHost("compute2", "cell2"))
    cloud.nova.down = {"cell2"}
    with pytest.raises(CloudIncomplete):
        ask()


def test_a_cell_that_is_down_and_has_hosts_only(cloud: FakeCloud) -> None:
    """Its servers are on later pages, where nothing is said about them."""
    cloud.nova.max_limit = 1
    cloud.nova.servers.append(server(cell="cell2"))
    cloud.nova.hosts.append(FakeHost("compute2", "cell2"))
    cloud.nova.down = {"cell2"}
    with pytest.raises(CloudIncomplete, match="compute2"):
        ask()


def test_a_cell_that_goes_down_while_servers_are_listed(cloud: FakeCloud) -> None:
    cloud.nova.hosts.append(FakeHost("compute2", "cell2"))

    def fail(request: Request, document: dict[str, object]) -> dict[str, object]:
        if request.path.endswith("detail"):
            cloud.nova.down = {"cell2"}
        return document

    cloud.nova.lie = fail
    with pytest.raises(CloudIncomplete, match="compute2"):
        ask()


def test_a_cell_that_is_down_and_has_no_hosts(cloud: FakeCloud) -> None:
    cloud.nova.servers.append(server(cell="cell0"))
    cloud.nova.down = {"cell0"}
    with pytest.raises(CloudIncomplete, match="does not answer: 1"):
        ask()


def test_a_cell_that_comes_back_while_servers_are_listed(cloud: FakeCloud) -> None:
    cloud.nova.hosts.append(FakeHost("compute2", "cell2"))
    cloud.nova.down = {"cell2"}

    def come_back(request: Request, document: dict[str, object]) -> dict[str, object]:
        if request.path.endswith("detail"):
            cloud.nova.down = set()
        return document

    cloud.nova.lie = come_back
    with pytest.raises(CloudIncomplete, match="compute2"):
        ask()


def test_a_cell_that_is_down_where_nova_says_so_itself(cloud: FakeCloud) -> None:
    cloud.nova.skips_down_cells, cloud.nova.down = False, {"cell2"}
    with pytest.raises(CloudUnreachable):
        ask()


def test_a_nova_that_cannot_say_whether_a_cell_is_down(cloud: FakeCloud) -> None:
    cloud.nova.newest = (2, 68)
    with pytest.raises(NoCloudService, match=r"does not speak 2\.69"):
        ask()


def test_a_catalogue_without_cinder(cloud: FakeCloud) -> None:
    cloud.nova.servers.append(server())
    cloud.without("block-storage")
    found = ask()
    assert (found.used[IMAGE], found.asked) == (Users(1, 0), ("compute",))
    assert "no block storage service" in found.facts[0]


@pytest.mark.parametrize("at", [0, 1])
def test_a_catalogue_without_cinder_where_servers_have_volumes(cloud: FakeCloud, at: int) -> None:
    cloud.nova.servers.insert(at, server("", volumes=("v1",)))
    cloud.without("block-storage")
    with pytest.raises(CloudCannotSeeAll, match="servers have volumes"):
        ask()


def test_a_catalogue_without_nova(cloud: FakeCloud) -> None:
    cloud.without("compute")
    with pytest.raises(NoCloudService):
        ask()


@pytest.mark.parametrize("kind", ["compute", "block-storage"])
def test_a_service_at_another_interface_only(cloud: FakeCloud, kind: str) -> None:
    found = next(each for each in cloud.keystone.catalogue if each.kind == kind)
    cloud.without(kind)
    cloud.keystone.catalogue.append(Endpoint(kind, found.url, interface="admin"))
    with pytest.raises(NoCloudService):
        ask()


def test_every_region_of_the_catalogue_is_asked(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with fake_cloud(tmp_path, "RegionOne", "RegionTwo", "RegionThree", "RegionFour") as made:
        monkeypatch.setenv("OS_CLIENT_CONFIG_FILE", str(made.clouds_yaml))
        for region in made.regions.values():
            region.nova.servers.append(server())
            region.cinder.volumes.append(volume())
        made.without("block-storage", "RegionThree")
        made.without("compute", "RegionFour")
        found = ask()
        assert found.used[IMAGE] == Users(3, 3)
        assert [fact.split(" has ")[0] for fact in found.facts] == ["admin in RegionThree"]
        made.regions["RegionTwo"].nova.instead["/servers/detail"] = saying(500)
        with pytest.raises(CloudUnreachable, match="RegionTwo"):
            ask()


# -- servers that are not kind -----------------------------------------------------------------------------------------

UNKIND: list[tuple[Talk, type[FactoryError]]] = [
    (silence, CloudUnreachable),
    (dripping_body, CloudAnswerInvalid),
    (endless, CloudAnswerTooLarge),
    (breaking_off, CloudUnreachable),
    (not_http, CloudUnreachable),
    (saying(500), CloudUnreachable),
    (saying(503), CloudUnreachable),
    (saying(302, Location="http://127.0.0.1:1/"), CloudAnswerInvalid),
    (saying(200), CloudAnswerInvalid),
    (saying(200, b"[" * 100_000), CloudAnswerInvalid),
    (saying(204), CloudAnswerInvalid),
    (saying(404), CloudAnswerInvalid),
]


@pytest.mark.parametrize(("talk", "error"), UNKIND)
@pytest.mark.parametrize("path", ["/servers/detail", "/volumes/detail"])
@pytest.mark.usefixtures("impatient")
def test_a_service_that_is_not_kind(cloud: FakeCloud, path: str, talk: Talk, error: type[FactoryError]) -> None:
    (cloud.nova if "servers" in path else cloud.cinder).instead[path] = talk
    with pytest.raises(error):
        ask()


LIES: list[Callable[[dict[str, object]], object]] = [
    lambda record: record.pop("image"),
    lambda record: record.update(image=None),
    lambda record: record.update(image=IMAGE),
    lambda record: record.update(image={}),
    lambda record: record.update(image={"id": 7}),
    lambda record: record.update(image={"id": "x" * 300}),
    lambda record: record.update(id=None),
    lambda record: record.update(id="../../secrets"),
    lambda record: record.update(status="UNKNOWN"),
]


@pytest.mark.parametrize("lie", LIES)
def test_a_server_that_is_none(cloud: FakeCloud, lie: Callable[[dict[str, object]], object]) -> None:
    def lying(request: Request, document: dict[str, list[dict[str, object]]]) -> object:
        if request.path.endswith("detail") and document["servers"]:
            lie(document["servers"][0])
        return document

    cloud.nova.lie = lying
    with pytest.raises((CloudAnswerInvalid, CloudIncomplete)):
        ask()


@pytest.mark.parametrize("metadata", [None, [], "image", {"image_id": None}, {"image_id": ""}, {"image_id": ["a"]}])
def test_image_metadata_that_is_none(cloud: FakeCloud, metadata: object) -> None:
    cloud.cinder.volumes.append(volume(None, more={"volume_image_metadata": metadata}))
    with pytest.raises(CloudAnswerInvalid):
        ask()


@pytest.mark.parametrize("document", [None, [], {}, {"servers": None}, {"servers": {}}, {"servers": [1]}])
def test_a_list_that_is_none(cloud: FakeCloud, document: object) -> None:
    cloud.nova.lie = lambda request, found: document if request.path.endswith("detail") else found
    with pytest.raises(CloudAnswerInvalid):
        ask()


def test_cinder_leaves_out_the_images_of_volumes(cloud: FakeCloud) -> None:
    cloud.cinder.volumes.append(volume())
    cloud.cinder.loses_image_metadata = True
    with pytest.raises(CloudIncomplete, match="lacks the image metadata"):
        ask()


def test_cinder_does_not_show_us_the_images_of_volumes(cloud: FakeCloud) -> None:
    cloud.cinder.volumes.append(volume())
    cloud.cinder.shows_image_metadata = "storage-admin"
    with pytest.raises(CloudIncomplete, match="lacks the image metadata"):
        ask()


def test_a_volume_that_boots_and_is_of_no_image(cloud: FakeCloud) -> None:
    cloud.cinder.volumes[:] = [FakeVolume(uuid(), THEIRS, None, bootable=True)]
    assert users() == Users(0, 0)


# -- the publisher's hand ----------------------------------------------------------------------------------------------


def call_hand(cloud: FakeCloud, tmp_path: Path, name: str, *images: str) -> tuple[dict[str, Any], list[str]]:
    """What the publisher answers, and what it says on the way."""
    said: list[str] = []
    request = {"action": "usage", "cloud": name, "image_ids": images}
    environment = {**BASE_ENVIRONMENT, "OS_CLIENT_CONFIG_FILE": str(cloud.clouds_yaml), "HOME": str(tmp_path)}
    result = call_publisher(
        request, environment=environment, log=tmp_path / "log", on_advance=lambda text, *_: said.append(text)
    )
    return result, said


def test_the_publisher_is_asked(cloud: FakeCloud, tmp_path: Path) -> None:
    cloud.nova.servers.append(server())
    result, said = call_hand(cloud, tmp_path, "admin", IMAGE, UNUSED)
    assert result == {
        "used": {IMAGE: {"servers": 1, "volumes": 0}, UNUSED: {"servers": 0, "volumes": 0}},
        "asked": ["compute", "volume"],
        "facts": [],
    }
    assert said == ["asking admin in RegionOne for servers", "asking admin in RegionOne for volumes"]


def test_what_the_publisher_is_refused_comes_back_with_its_code(cloud: FakeCloud, tmp_path: Path) -> None:
    with pytest.raises(CloudCannotSeeAll) as refused:
        call_hand(cloud, tmp_path, "member", IMAGE)
    assert PASSWORD not in refused.value.message + (tmp_path / "log").read_text()


def test_long_lists_take_no_more_memory_than_a_page(cloud: FakeCloud, tmp_path: Path) -> None:
    """A hand that kept all of these would need far more than 200 MiB."""
    cloud.nova.servers += [server() for _ in range(5)]
    cloud.nova.servers += [server(OTHER, more=BULKY) for _ in range(20_000)]
    cloud.cinder.volumes += [volume() for _ in range(20_000)]
    peaks = list[int]()

    def measured(_: Request, answer: object) -> object:
        peaks.extend(peaks_of_children("imagefactory.hands.publisher"))
        return answer

    cloud.nova.lie = cloud.cinder.lie = measured
    assert call_hand(cloud, tmp_path, "admin", IMAGE)[0]["used"] == {IMAGE: {"servers": 5, "volumes": 20_000}}
    assert len(peaks) >= 40, "one for each page"
    assert max(peaks) <= 200 << 10


def peaks_of_children(module: str) -> Iterator[int]:
    """The most memory (KiB) that each child which runs `module` has had since its exec: nothing of ours."""
    for thread in Path("/proc/self/task").iterdir():
        with suppress(FileNotFoundError, ProcessLookupError):  # threads come and go
            for child in (Path("/proc", pid) for pid in (thread / "children").read_text().split()):
                if module in (child / "cmdline").read_text():
                    facts = dict(line.split(":", 1) for line in (child / "status").read_text().splitlines())
                    yield int(facts["VmHWM"].removesuffix("kB"))
