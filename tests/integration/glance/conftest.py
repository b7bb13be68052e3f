"""A signed release made by fakes, a real cloud to publish it to, and a network that can be bad."""

import json
import os
import shutil
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from datetime import UTC, datetime
from http.client import HTTPConnection
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit
from uuid import uuid4

import pytest

from imagefactory.factory import approvals
from imagefactory.factory.keys import Custody, init_keys
from imagefactory.model.glance import MANIFEST_PROPERTY, Audience, GlanceImage
from imagefactory.model.policy import Policy
from imagefactory.steps.glance_publish import CloudImage, CloudOrder, Publisher
from imagefactory.steps.verify import Expectation
from imagefactory.store.tables import Release
from imagefactory.tools.openstack.glance import Glance
from imagefactory.tools.openstack.session import Cloud, Patience
from signing.digest import read_document
from signing.keys import KeyRing
from signing.manifest import MANIFEST_FILE
from signing.trust import load_trust
from signing.verify import VerifiedManifest, verify_manifest
from tests.fakes.faults import Fault
from tests.fakes.host import FakeHost, begin_catalogue
from tests.fakes.proxy import FaultProxy
from tests.fakes.service import Caller, Identify
from tests.openstack.fixtures import Cloud as RealCloud

IMAGE_NAME = "Fake"
# Five attempts, without the waiting that is right outside of tests.
QUICK = Patience(attempts=5, longest=2.0, first=0.01)


@dataclass(frozen=True)
class Shop:
    """A host with one signed release of one small qcow2, and the cloud `demo`, where it may be published."""

    host: FakeHost
    release: Release
    cloud: RealCloud
    said: list[str] = field(default_factory=list)

    @property
    def manifest(self) -> Path:
        return self.host.home / "artifacts/sha256" / self._digest[:2] / self._digest

    @property
    def _digest(self) -> str:
        return str(self.release.files[MANIFEST_FILE])

    @property
    def signed(self) -> VerifiedManifest:
        return verify_manifest(read_document(self.manifest), self.expectation().keys, now=datetime.now(UTC))

    @property
    def file(self) -> Path:
        digest = str(self.release.images["qcow2"]["sha256"])
        return self.host.home / "artifacts/sha256" / digest[:2] / digest

    def expectation(self) -> Expectation:
        return Expectation(load_trust(self.host.home / "trust.json"), datetime.now(UTC))

    def order(self, image_id: str | None = None, *, file: Path | None = None, audience: Audience | None = None,
              deep: bool = False, bandwidth: int | None = None) -> CloudOrder:  # fmt: skip
        return CloudOrder(
            image_id=image_id or str(uuid4()),
            name=IMAGE_NAME,
            signed=self.signed,
            format="qcow2",
            file=file or self.file,
            audience=audience or Audience(),
            bandwidth=bandwidth,
            deep=deep,
        )

    def publish(self, order: CloudOrder, cloud: str = "demo") -> CloudImage:
        return Publisher(Cloud(cloud, QUICK), self.said.append, lambda _: None).publish(order)

    def images(self) -> list[GlanceImage]:
        """Every image of this release in the cloud, hidden or not."""
        return Glance(Cloud("demo-admin", QUICK)).search(**{MANIFEST_PROPERTY: self.signed.sha256, "visibility": "all"})

    def only_image(self) -> GlanceImage:
        (image,) = self.images()
        return image


@pytest.fixture(scope="session")
def released(tmp_path_factory: pytest.TempPathFactory) -> tuple[FakeHost, Release]:
    """A release that is signed with keys that are not marked as for development, and published nowhere."""
    root = tmp_path_factory.mktemp("released")
    keys = root / "keys"
    secret = b"a passphrase for tests"
    init_keys(keys / "keys", keys / "trust.json", Custody(secret), development=False, now=datetime.now(UTC))
    host = FakeHost.make(root / "host", keys)
    host.passphrase_file.touch(0o600)
    host.passphrase_file.write_bytes(secret)
    host.offer({"bash": "5.2.15-2", "dpkg": "1.21.22", "openssl": "3.0.17-1"}, in_release="first")
    loaded, builder = host.load(), KeyRing(host.settings.keys).keyid("provenance")
    found = approvals.element_digests(loaded, host.settings)
    policy = approvals.approve(Policy(False, {}), loaded, found, [builder], False)
    (host.home / "policy.json").write_bytes(policy.encode())
    begin_catalogue(host.settings, root / "stick", secret)
    return host, host.build(publish=False).release


@pytest.fixture
def shop(released: tuple[FakeHost, Release], cloud: RealCloud, monkeypatch: pytest.MonkeyPatch) -> Iterator[Shop]:
    """Whatever a test publishes is gone again after it."""
    monkeypatch.setenv("OS_CLIENT_CONFIG_FILE", str(cloud.clouds_yaml))
    made = Shop(*released, cloud)
    yield made
    monkeypatch.setenv("OS_CLIENT_CONFIG_FILE", str(cloud.clouds_yaml))
    admin = Glance(Cloud("demo-admin", QUICK))
    # By name, too: tests change the property by which they are found.
    left = [*made.images(), *admin.search(name=IMAGE_NAME, visibility="all")]
    for image in {each.id: each for each in left}.values():
        if image.protected:
            admin.update(image.id, [{"op": "replace", "path": "/protected", "value": False}])
        admin.delete(image.id)


@pytest.fixture
def network(shop: Shop, monkeypatch: pytest.MonkeyPatch) -> Iterator[Callable[..., FaultProxy]]:
    """A function that puts a network with faults between us and Glance, and returns it."""
    with FaultProxy(shop.cloud.image_url) as proxy:

        def bad(*faults: Fault) -> FaultProxy:
            proxy.add(*faults)
            monkeypatch.setenv("OS_CLIENT_CONFIG_FILE", str(shop.cloud.with_image_endpoint(proxy.url)))
            return proxy

        yield bad


@dataclass(frozen=True)
class Desk:
    """A user of the host on which the release was made."""

    shop: Shop

    @property
    def environment(self) -> dict[str, str]:
        proxies = {name: os.environ[name] for name in ("no_proxy", "NO_PROXY") if name in os.environ}
        clouds = os.environ["OS_CLIENT_CONFIG_FILE"]
        return {**self.shop.host.environ, **proxies, "OS_CLIENT_CONFIG_FILE": clouds}

    def start(self, *argv: str) -> "subprocess.Popen[str]":
        # The same verbs; only the boot test of a build is a fake.
        return subprocess.Popen(
            [sys.executable, "-m", "tests.fakes.command", *argv],
            env=self.environment,
            text=True,
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
        )

    def run(self, *argv: str) -> tuple[int, str, str]:
        with self.start(*argv) as process:
            out, err = process.communicate(timeout=120)
        return process.returncode, out, err

    def json(self, *argv: str, status: int = 0) -> dict[str, Any]:
        code, out, err = self.run(*argv, "--json")
        assert code == status, err
        document = json.loads(out)
        assert isinstance(document, dict)
        return document

    @property
    def release(self) -> str:
        return f"{self.shop.release.name}@{self.shop.signed.manifest.version}"


@pytest.fixture
def desk(shop: Shop, tmp_path: Path) -> Iterator[Desk]:
    """The records of the host, its catalogue, and what is remembered of that, are as before afterwards."""
    home, database = shop.host.home, shop.host.home / "imagefactory.db"
    before = database.read_bytes()
    kept = [name for name in ("catalogue", "signed", "trusted") if (home / name).is_dir()]
    for name in kept:
        shutil.copytree(home / name, tmp_path / "before" / name, symlinks=True)
    yield Desk(shop)
    for file in home.glob("imagefactory.db*"):
        file.unlink()
    database.write_bytes(before)
    for name in kept:
        shutil.rmtree(home / name)
        shutil.copytree(tmp_path / "before" / name, home / name, symlinks=True)


def until(look: Callable[[], Any]) -> Any:  # noqa: ANN401
    for _ in range(600):
        if found := look():
            return found
        time.sleep(0.05)
    return None


def keystone_of(cloud: RealCloud) -> Identify:
    """What a fake service of this cloud asks its Keystone about a token."""

    def identify(token: str) -> Caller | None:
        parts = urlsplit(cloud.identity_url)
        connection = HTTPConnection(parts.netloc, timeout=30)
        headers = {"X-Auth-Token": token, "X-Subject-Token": token}
        connection.request("GET", f"{parts.path.rstrip('/').removesuffix('/v3')}/v3/auth/tokens", headers=headers)
        response = connection.getresponse()
        body = response.read()
        connection.close()
        if response.status != 200:
            return None
        said = json.loads(body)["token"]
        return Caller(said["user"]["id"], frozenset(each["name"] for each in said["roles"]), said["project"]["id"])

    return identify
