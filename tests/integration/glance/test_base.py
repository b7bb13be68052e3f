"""The image that a recipe starts from, in a real cloud: one that verifies comes out, and no other gets any further."""

import shutil
import tarfile
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from uuid import uuid4

import pytest

from imagefactory.errors import (
    BaseChanged,
    CatalogueUnreachable,
    FactoryError,
    ImageOfAnotherRelease,
    ImagePropertyChanged,
    ImageReplaced,
    ImageUnknown,
    ManifestNotFound,
)
from imagefactory.factory.base import BaseImage, base_of, fetch, take_apart
from imagefactory.model.glance import MANIFEST_PROPERTY, RELEASE_PROPERTY, creation
from imagefactory.model.recipe import LoadedRecipe
from imagefactory.progress import silent
from imagefactory.settings import Settings, read_settings
from imagefactory.steps.glance_publish import CloudImage
from imagefactory.tools.openstack.glance import Glance
from imagefactory.tools.openstack.session import Cloud
from imagefactory.tools.recipe_file import load_recipe
from signing.errors import KeyUntrusted, NoTrustRoot, SigningError
from signing.manifest import MANIFEST_FILE
from tests.conformance.attacks.workshop import Workshop
from tests.fakes.host import RECIPE, make_keys
from tests.fakes.shelf import Shelf, listing_of
from tests.integration.glance.conftest import IMAGE_NAME, QUICK, Shop


@dataclass(frozen=True)
class Customer:
    """Somebody with a home of their own, who starts from what the shop published."""

    root: Path

    @property
    def home(self) -> Path:
        return self.root / "home"

    @property
    def settings(self) -> Settings:
        return read_settings({"HOME": str(self.root), "IMAGEFACTORY_HOME": str(self.home)})

    def recipe(self, ref: str, pinned: str | None = None) -> LoadedRecipe:
        digest = f", sha256: '{pinned}'" if pinned else ""
        path = self.root / "recipe.yaml"
        path.write_text(f"{RECIPE}base: {{image: 'glance:demo/{ref}'{digest}}}\n")
        return load_recipe(path)

    def base(self, ref: str, pinned: str | None = None) -> BaseImage:
        found = base_of(self.recipe(ref, pinned), self.settings)
        assert found is not None
        return found

    def fetch(self, base: BaseImage) -> Path:
        return fetch(base, self.settings, self.work, self.settings.environment, silent)

    @property
    def work(self) -> Path:
        work = self.root / "work"
        work.mkdir(exist_ok=True)
        return work


@pytest.fixture
def image(shop: Shop) -> CloudImage:
    return shop.publish(shop.order())


@pytest.fixture
def customer(shop: Shop, tmp_path: Path) -> Customer:
    """With a built-in catalogue that lists what the shop signed, and its root."""
    made = Customer(tmp_path)
    made.home.mkdir()
    shelve(made, shop, (shop.host.home / "trust.json").read_bytes(), shop.manifest.read_bytes())
    return made


def shelve(customer: Customer, shop: Shop, policy: bytes | None, manifest: bytes) -> None:
    """Have a catalogue that lists the shop's release with this manifest."""
    shutil.rmtree(customer.settings.catalogue, ignore_errors=True)
    shelf = Shelf(customer.settings.catalogue, policy)
    shelf.list(listing_of(shop.manifest, shop.expectation().keys), manifest)
    shelf.root_file.rename(customer.home / "root.json")


@pytest.mark.parametrize("by_name", [False, True])
def test_an_image_that_verifies_is_taken_apart(
    shop: Shop, image: CloudImage, customer: Customer, by_name: bool
) -> None:
    manifest = shop.signed.manifest
    base = customer.base(IMAGE_NAME if by_name else image.id)
    assert (base.source, base.sha256) == (f"glance:demo/{image.id}", manifest.formats["qcow2"].sha256)
    assert base.release == f"{manifest.name}@{manifest.version}"
    fetched = customer.fetch(base)
    assert fetched.read_bytes() == shop.file.read_bytes()
    logs = (customer.root / "log", customer.root / "clerk.log")
    environment = customer.settings.environment
    made = take_apart(
        base,
        fetched,
        customer.recipe(image.id).recipe,
        customer.work,
        logs=logs,
        environment=environment,
        on_advance=lambda *_: None,
    )
    with tarfile.open(made) as tar:
        content = tar.extractfile("etc/content")
        assert content is not None
        assert b"dpkg 1.21.22" in content.read()


def test_what_is_pinned_must_be_what_was_signed(shop: Shop, image: CloudImage, customer: Customer) -> None:
    signed = shop.signed.manifest.formats["qcow2"].sha256
    assert customer.base(image.id, signed).sha256 == signed
    with pytest.raises(BaseChanged, match="pinned is 0000"):
        customer.base(image.id, "0" * 64)


def test_changed_bytes_are_never_used(shop: Shop, image: CloudImage, customer: Customer) -> None:
    """Glance says what it said before, and so it comes out when the data is read."""
    base, stored = customer.base(image.id), shop.cloud.store / image.id
    content = bytearray(stored.read_bytes())
    content[5000] ^= 1
    stored.write_bytes(content)
    with pytest.raises(ImageReplaced) as refused:
        customer.fetch(base)
    assert refused.value.code == "image-replaced"
    assert list(customer.work.iterdir()) == []


def test_another_image_of_that_id_since_the_build_began(image: CloudImage, customer: Customer) -> None:
    base = customer.base(image.id)
    change(image, RELEASE_PROPERTY, "other@20250101.1")
    with pytest.raises(ManifestNotFound):
        customer.fetch(base)
    assert list(customer.work.iterdir()) == []


def change(image: CloudImage, key: str, value: str | int) -> None:
    Glance(Cloud("demo", QUICK)).update(image.id, [{"op": "replace", "path": f"/{key}", "value": value}])


def without_catalogue(_shop: Shop, _image: CloudImage, customer: Customer) -> None:
    shutil.rmtree(customer.settings.catalogue)


def of_an_unlisted_release(_shop: Shop, image: CloudImage, _customer: Customer) -> None:
    change(image, RELEASE_PROPERTY, "other@20250101.1")


def of_another_release(_shop: Shop, image: CloudImage, _customer: Customer) -> None:
    change(image, MANIFEST_PROPERTY, "0" * 64)


def booting_otherwise(_shop: Shop, image: CloudImage, _customer: Customer) -> None:
    change(image, "min_ram", 1)


def of_strangers(shop: Shop, _image: CloudImage, customer: Customer) -> None:
    theirs = Workshop().release_files()[MANIFEST_FILE]
    shelve(customer, shop, (shop.host.home / "trust.json").read_bytes(), theirs)


def trusted_by_nobody(shop: Shop, _image: CloudImage, customer: Customer) -> None:
    theirs = make_keys(customer.root / "theirs") / "trust.json"
    shelve(customer, shop, theirs.read_bytes(), shop.manifest.read_bytes())


def without_trust(shop: Shop, _image: CloudImage, customer: Customer) -> None:
    """The customer's own trust file is for files: a catalogue has a policy or none."""
    shutil.copy(shop.host.home / "trust.json", customer.home / "trust.json")
    shelve(customer, shop, None, shop.manifest.read_bytes())


@pytest.mark.parametrize(
    ("alter", "error", "code"),
    [
        (without_catalogue, CatalogueUnreachable, "catalogue-unreachable"),
        (of_an_unlisted_release, ManifestNotFound, "manifest-not-found"),
        (of_another_release, ImageOfAnotherRelease, "image-of-another-release"),
        (booting_otherwise, ImagePropertyChanged, "image-property-changed"),
        (of_strangers, KeyUntrusted, "key-untrusted"),
        (trusted_by_nobody, KeyUntrusted, "key-untrusted"),
        (without_trust, NoTrustRoot, "no-trust-root"),
    ],
)
def test_an_image_that_does_not_verify_is_no_base(
    shop: Shop,
    image: CloudImage,
    customer: Customer,
    alter: Callable[[Shop, CloudImage, Customer], None],
    error: type[FactoryError | SigningError],
    code: str,
) -> None:
    alter(shop, image, customer)
    with pytest.raises(error) as refused:
        customer.base(image.id)
    assert getattr(refused.value, "code", None) == code


@pytest.mark.usefixtures("shop")
def test_an_image_of_which_nothing_is_signed(customer: Customer) -> None:
    glance = Glance(Cloud("demo", QUICK))
    foreign = glance.create(creation(str(uuid4()), IMAGE_NAME, "raw", {}, ()))
    glance.upload(foreign.id, iter([b"a disk"]))
    with pytest.raises(ManifestNotFound, match="does not say which release it is"):
        customer.base(foreign.id)


@pytest.mark.usefixtures("shop")
def test_no_such_image(customer: Customer) -> None:
    with pytest.raises(ImageUnknown):
        customer.base("nothing")
