"""What uses an image, with credentials, roles and tokens of a real Keystone; Nova and Cinder are fakes that ask it."""

from collections.abc import Iterator
from pathlib import Path
from uuid import uuid4

import pytest
from ruamel.yaml import YAML

from imagefactory.errors import CloudCannotSeeAll, NoCloudService
from imagefactory.hands.publisher import usage_of_images
from tests.fakes.cinder import FakeCinder, FakeVolume
from tests.fakes.nova import FakeNova, FakeServer
from tests.integration.glance.conftest import keystone_of
from tests.openstack.clouds import write_clouds
from tests.openstack.fixtures import Cloud

IMAGE = str(uuid4())


@pytest.fixture
def services(cloud: Cloud, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[tuple[FakeNova, FakeCinder]]:
    """A Nova and a Cinder of this cloud, where clouds.yaml says."""

    identify = keystone_of(cloud)
    with FakeNova(identify) as nova, FakeCinder(identify) as cinder:
        clouds = YAML(typ="safe").load(cloud.clouds_yaml)["clouds"]
        overrides = {"compute_endpoint_override": nova.endpoint, "block_storage_endpoint_override": cinder.endpoint}
        write_clouds(tmp_path / "clouds.yaml", {name: entry | overrides for name, entry in clouds.items()})
        monkeypatch.setenv("OS_CLIENT_CONFIG_FILE", str(tmp_path / "clouds.yaml"))
        tenant = cloud.project_id("tenant")
        nova.servers.append(FakeServer(str(uuid4()), tenant, IMAGE))
        cinder.volumes.append(FakeVolume(str(uuid4()), tenant, {"image_id": IMAGE}, bootable=True))
        yield nova, cinder


def ask(name: str) -> dict[str, object]:
    found: dict[str, object] = usage_of_images({"cloud": name, "image_ids": [IMAGE]}, lambda *_: None)
    return found


@pytest.mark.usefixtures("services")
def test_an_administrator_sees_what_all_projects_have() -> None:
    assert ask("demo-admin")["used"] == {IMAGE: {"servers": 1, "volumes": 1}}


@pytest.mark.usefixtures("services")
@pytest.mark.parametrize("name", ["demo", "demo-member", "demo-reader", "demo-tenant"])
def test_nobody_else_does(name: str) -> None:
    with pytest.raises(CloudCannotSeeAll) as refused:
        ask(name)
    assert "takes role admin" in refused.value.advice


def test_an_application_credential_does_as_its_user(
    cloud: Cloud, services: tuple[FakeNova, FakeCinder], monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    nova, cinder = services
    name = cloud.application_credential("demo-admin")
    entry = YAML(typ="safe").load(cloud.clouds_yaml)["clouds"][name]
    overrides = {"compute_endpoint_override": nova.endpoint, "block_storage_endpoint_override": cinder.endpoint}
    write_clouds(tmp_path / "credential.yaml", {name: entry | overrides})
    monkeypatch.setenv("OS_CLIENT_CONFIG_FILE", str(tmp_path / "credential.yaml"))
    assert ask(name)["used"] == {IMAGE: {"servers": 1, "volumes": 1}}


def test_a_cloud_without_nova_cannot_be_asked(cloud: Cloud, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("OS_CLIENT_CONFIG_FILE", str(cloud.clouds_yaml))
    with pytest.raises(NoCloudService):
        ask("demo-admin")
