"""A cloud of fakes: Keystone, and Nova and Cinder in each of its regions."""

from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from pathlib import Path

from tests.fakes.cinder import FakeCinder
from tests.fakes.keystone import Endpoint, FakeKeystone
from tests.fakes.nova import FakeNova
from tests.fakes.service import Caller

OURS, THEIRS = "0" * 31 + "1", "0" * 31 + "2"
USERS = {
    "admin": Caller("admin", frozenset({"admin", "member", "reader"}), OURS),
    "member": Caller("member", frozenset({"member", "reader"}), OURS),
    "reader": Caller("reader", frozenset({"reader"}), OURS),
    "system": Caller("system", frozenset({"reader"}), None),
    "auditor": Caller("auditor", frozenset({"auditor", "reader"}), OURS),
}


@dataclass(frozen=True)
class FakeRegion:
    nova: FakeNova
    cinder: FakeCinder


@dataclass(frozen=True)
class FakeCloud:
    """clouds.yaml has an entry for each of USERS."""

    keystone: FakeKeystone
    regions: dict[str, FakeRegion]
    clouds_yaml: Path

    @property
    def nova(self) -> FakeNova:
        return self.regions["RegionOne"].nova

    @property
    def cinder(self) -> FakeCinder:
        return self.regions["RegionOne"].cinder

    def without(self, kind: str, region: str = "RegionOne") -> None:
        """Take a service out of the catalogue."""
        kept = [each for each in self.keystone.catalogue if (each.kind, each.region) != (kind, region)]
        self.keystone.catalogue[:] = kept


@contextmanager
def fake_cloud(directory: Path, *regions: str, volumes_are: str = "block-storage") -> Iterator[FakeCloud]:
    """A cloud with these regions (RegionOne), whose services clouds.yaml in `directory` names."""
    with ExitStack() as stack:
        keystone = stack.enter_context(FakeKeystone(USERS))
        made = {}
        for region in regions or ("RegionOne",):
            nova = stack.enter_context(FakeNova(keystone.identify))
            cinder = stack.enter_context(FakeCinder(keystone.identify))
            made[region] = FakeRegion(nova, cinder)
            keystone.catalogue += [
                Endpoint("identity", f"{keystone.url}/v3", region),
                Endpoint("compute", nova.endpoint, region),
                Endpoint(volumes_are, cinder.endpoint, region),
            ]
        yield FakeCloud(keystone, made, keystone.clouds_yaml(directory / "clouds.yaml"))
