"""A signed release made by fakes, a real cloud to publish it to, and a network that can be bad."""

from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from datetime import UTC, datetime
from pathlib import Path
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
