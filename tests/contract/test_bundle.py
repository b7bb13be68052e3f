"""Releases carried to where no network goes, and catalogues that do not have what they list."""

import os
import shutil
import subprocess
import tarfile
from collections.abc import Callable
from dataclasses import replace
from datetime import timedelta
from pathlib import Path

import pytest

from imagefactory import errors
from imagefactory.errors import FactoryError
from imagefactory.model.listing import Listing, ListingState
from imagefactory.model.release import ReleaseRef, Version
from imagefactory.steps.bundle import export, import_
from imagefactory.steps.catalogue_check import Checked, check
from imagefactory.steps.listed import Listed, client_of, verify_bytes, verify_listed
from imagefactory.steps.verify import Expectation, Proof
from imagefactory.tools.known_catalogue import KnownCatalogue, known_catalogue
from imagefactory.tools.tuf_repository import TufRepository
from signing.digest import OnBytes
from signing.errors import SigningError
from signing.manifest import MANIFEST_FILE
from tests.fakes.shelf import Shelf
from tests.fakes.tuf_repository import Repository
from tests.fakes.tuf_site import Site, saying
from tests.unit.signing.builders import IMAGES, NAME, NOW, STEM, VERSION
from tests.unit.tuf_world import Ring, moment

REF = ReleaseRef.parse(f"{NAME}@{VERSION}")
OTHER = ReleaseRef.parse("another@20251121.7")
EXPECTED = Expectation(None, NOW)
LISTING = Listing(NAME, Version.parse(str(VERSION)), "debian", "12", "x86_64")
pytestmark = pytest.mark.usefixtures("unsynced")


@pytest.fixture
def there(shelf: Shelf, tmp_path: Path) -> KnownCatalogue:
    """The catalogue on the other side, where nothing is yet but a root on a stick."""
    return known_catalogue(tmp_path / "there", tmp_path / "trusted there", [shelf.root_file])


def files_in(folder: Path) -> dict[str, bytes]:
    found = {str(path.relative_to(folder)): path.read_bytes() for path in folder.rglob("*") if path.is_file()}
    return {name: raw for name, raw in found.items() if not name.endswith(".lock")}


def refused(call: Callable[[], object]) -> str:
    try:
        call()
    except (FactoryError, SigningError) as error:
        return str(error.code)
    raise AssertionError("nobody refused that")


# -- carrying ----------------------------------------------------------------------------------------------------------


def test_there_and_back(known: KnownCatalogue, there: KnownCatalogue, shelf: Shelf, tmp_path: Path) -> None:
    """By plain tar; and what comes out can be verified, served, and carried further."""
    bundle, read = tmp_path / "bundle.tar", list[int]()
    assert export(known, [ReleaseRef(NAME)], bundle, EXPECTED, on_bytes=read.append) == [str(REF)]
    with tarfile.open(bundle) as tar:
        carried = {each.name for each in tar}
    assert sum(read) >= sum(map(len, IMAGES.values()))
    assert import_(bundle, there, EXPECTED) == [str(REF)]
    # Without metadata that nobody refers to any more.
    assert files_in(Path(there.address)) == {name: files_in(shelf.root)[name] for name in carried}
    settled = replace(there, roots=())
    assert verify_listed(settled, ReleaseRef(NAME), EXPECTED).release == str(REF)
    assert import_(bundle, settled, EXPECTED) == [str(REF)], "a second time changes nothing"
    assert export(settled, [REF], tmp_path / "further.tar", EXPECTED) == [str(REF)]
    assert check(settled, EXPECTED, deep=True, on_release=lambda _: None) == Checked(1, 0, ())
    assert sorted(path.name for path in Path(there.address).iterdir()) == ["metadata", "targets"]


def test_what_comes_later(shelf: Shelf, there: KnownCatalogue, tmp_path: Path) -> None:
    """Another word on a release, a new root, and the end of the release."""
    known = shelf.known(tmp_path / "trusted")
    export(known, [REF], tmp_path / "first.tar", EXPECTED)
    shelf.say(REF, ListingState.DEPRECATED, "another@20251121.7")
    export(known, [REF], tmp_path / "second.tar", EXPECTED)
    import_(tmp_path / "first.tar", there, EXPECTED)
    assert not verify_listed(there, REF, EXPECTED).warnings
    import_(tmp_path / "second.tar", there, EXPECTED)
    assert verify_listed(there, REF, EXPECTED).warnings
    assert refused(lambda: import_(tmp_path / "first.tar", there, EXPECTED)) == "catalogue-rollback"
    assert verify_listed(there, REF, EXPECTED).warnings

    new = Ring()
    root = shelf.ring.followed_by(new, shelf.root_file.read_bytes(), moment())
    signers = (*shelf.ring.online, *new.online)
    TufRepository(shelf.root, shelf.root_file.read_bytes(), signers).publish_root(root, moment())
    shelf.ring = new
    # Somebody who began with the second root exports for somebody who began with the first.
    (tmp_path / "2.root.json").write_bytes(root)
    late = known_catalogue(shelf.root, tmp_path / "trusted late", [tmp_path / "2.root.json"])
    export(late, [REF], tmp_path / "third.tar", EXPECTED)
    import_(tmp_path / "third.tar", there, EXPECTED)
    assert refused(lambda: import_(tmp_path / "second.tar", there, EXPECTED)) == "catalogue-unsigned"
    assert verify_listed(there, REF, EXPECTED).warnings
    shelf.say(REF, ListingState.REVOKED, None, "its openssl leaks keys")
    assert refused(lambda: export(late, [REF], tmp_path / "fourth.tar", EXPECTED)) == "release-revoked"
    assert not (tmp_path / "fourth.tar").exists()


def test_something_newer_came_meanwhile(
    shelf: Shelf, there: KnownCatalogue, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Of two at once the older one is refused, and takes nothing back."""
    known = shelf.known(tmp_path / "trusted")
    export(known, [REF], tmp_path / "first.tar", EXPECTED)
    shelf.say(REF, ListingState.DEPRECATED, "another@20251121.7")
    export(known, [REF], tmp_path / "second.tar", EXPECTED)
    once = [True]

    def slowly(listed: Listed, on_bytes: OnBytes | None) -> Proof:
        if once:
            once.clear()
            import_(tmp_path / "second.tar", there, EXPECTED)
        return verify_bytes(listed, on_bytes=on_bytes)

    monkeypatch.setattr("imagefactory.steps.bundle.verify_bytes", slowly)
    assert refused(lambda: import_(tmp_path / "first.tar", there, EXPECTED)) == "catalogue-rollback"
    assert verify_listed(there, REF, EXPECTED).warnings


def test_somebody_else_is_publishing_there(shelf: Shelf, there: KnownCatalogue, tmp_path: Path) -> None:
    bundle = tmp_path / "bundle.tar"
    export(shelf.known(tmp_path / "trusted"), [REF], bundle, EXPECTED)
    other = Path(there.address) / "targets" / NAME / str(VERSION)
    other.mkdir(parents=True)
    (other / MANIFEST_FILE).write_bytes(b"{}")
    assert refused(lambda: import_(bundle, there, EXPECTED)) == "catalogue-conflict"
    assert not (Path(there.address) / "metadata/timestamp.json").exists()


def test_metadata_alone(shelf: Shelf, there: KnownCatalogue, tmp_path: Path) -> None:
    """What keeps an island fresh is small, and carries every word on what is there already."""
    known = shelf.known(tmp_path / "trusted")
    export(known, [REF], tmp_path / "first.tar", EXPECTED)
    import_(tmp_path / "first.tar", there, EXPECTED)
    shelf.say(REF, ListingState.DEPRECATED, "another@20251121.7")
    assert export(known, [], tmp_path / "daily.tar", EXPECTED) == []
    assert (tmp_path / "daily.tar").stat().st_size < 100_000
    assert import_(tmp_path / "daily.tar", there, EXPECTED) == []
    assert verify_listed(there, REF, EXPECTED).warnings
    assert check(there, EXPECTED, deep=True, present=True, on_release=lambda _: None) == Checked(1, 0, ())
    fresh = known_catalogue(tmp_path / "another", tmp_path / "trusted there", [shelf.root_file])
    assert import_(tmp_path / "daily.tar", fresh, EXPECTED) == []
    checked = check(fresh, EXPECTED, deep=False, present=True, on_release=lambda _: None)
    assert checked == Checked(0, 0, (), (str(REF),))


def test_no_root(shelf: Shelf, there: KnownCatalogue, tmp_path: Path) -> None:
    export(shelf.known(tmp_path / "trusted"), [REF], tmp_path / "bundle.tar", EXPECTED)
    assert (
        refused(lambda: import_(tmp_path / "bundle.tar", replace(there, roots=()), EXPECTED)) == "catalogue-untrusted"
    )
    assert not Path(there.address).exists()


def unpacked(bundle: Path, folder: Path) -> Path:
    folder.mkdir()
    subprocess.run(["tar", "-xf", bundle, "-C", folder], check=True)
    return folder


def packed(folder: Path, bundle: Path) -> Path:
    with tarfile.open(bundle, "w") as tar:
        for path in sorted(folder.rglob("*")):
            if path.is_file() and not path.name.startswith("."):
                tar.add(path, str(path.relative_to(folder)))
    return bundle


def flip(path: Path) -> None:
    raw = bytearray(path.read_bytes())
    raw[len(raw) // 2] ^= 1
    path.write_bytes(raw)


HURTS: dict[str, tuple[str, Callable[[Path], object]]] = {
    "an image": ("digest-mismatch", lambda root: flip(root / f"targets/{NAME}/{VERSION}/{STEM}.iso")),
    "a manifest": ("catalogue-mixed", lambda root: flip(next(root.glob(f"targets/{NAME}/*.sigstore.json")))),
    "its copy": ("catalogue-mixed", lambda root: flip(root / f"targets/{NAME}/{VERSION}/{MANIFEST_FILE}")),
    "the trust policy": ("catalogue-mixed", lambda root: flip(next(root.glob("targets/*.trust.json")))),
    "a role": ("catalogue-mixed", lambda root: flip(next(root.glob(f"metadata/*.{NAME}.json")))),
    "no timestamp": ("catalogue-unreachable", lambda root: (root / "metadata/timestamp.json").unlink()),
    "no image": ("folder-mismatch", lambda root: (root / f"targets/{NAME}/{VERSION}/{STEM}.iso").unlink()),
    "no release": ("catalogue-damaged", lambda root: shutil.rmtree(root / f"targets/{NAME}/{VERSION}")),
    "one more file": ("folder-mismatch", lambda root: (root / f"targets/{NAME}/{VERSION}/more").touch()),
    "a release that is not listed": (
        "release-unknown",
        lambda root: shutil.copytree(root / f"targets/{NAME}/{VERSION}", root / "targets/other/20990101.1"),
    ),
}


@pytest.mark.parametrize("hurt", HURTS)
def test_a_bundle_that_somebody_changed(shelf: Shelf, there: KnownCatalogue, tmp_path: Path, hurt: str) -> None:
    """Nothing of it appears, and this machine trusts what it trusted before."""
    export(shelf.known(tmp_path / "trusted"), [REF], tmp_path / "good.tar", EXPECTED)
    folder = unpacked(tmp_path / "good.tar", tmp_path / "unpacked")
    code, change = HURTS[hurt]
    change(folder)
    assert refused(lambda: import_(packed(folder, tmp_path / "bad.tar"), there, EXPECTED)) == code
    assert not Path(there.address).exists()
    assert not there.store.exists()
    assert [path.name for path in tmp_path.iterdir() if path.name.startswith(".")] == []
    import_(tmp_path / "good.tar", there, EXPECTED)
    before = files_in(Path(there.address))
    assert refused(lambda: import_(tmp_path / "bad.tar", there, EXPECTED)) == code
    assert files_in(Path(there.address)) == before


def test_old_metadata(shelf: Shelf, there: KnownCatalogue, tmp_path: Path) -> None:
    """A bundle is good for as long as its timestamp."""
    shelf.repository.refresh(moment() - timedelta(days=3))
    assert refused(lambda: import_(packed(shelf.root, tmp_path / "old.tar"), there, EXPECTED)) == "catalogue-frozen"


# -- what a catalogue has ----------------------------------------------------------------------------------------------


def found(known: KnownCatalogue, *, deep: bool = False) -> list[str]:
    seen = list[str]()
    checked = check(known, EXPECTED, deep=deep, on_release=seen.append)
    assert len(seen) == checked.releases
    return [f"{each.release} {each.code}" for each in checked.findings]


@pytest.mark.parametrize("deep", [False, True], ids=["sizes", "bytes"])
def test_a_catalogue_that_has_what_it_lists(known: KnownCatalogue, deep: bool) -> None:
    assert check(known, EXPECTED, deep=deep, on_release=lambda _: None) == Checked(1, 0, ())


def test_a_revoked_release_may_be_gone(known: KnownCatalogue, shelf: Shelf) -> None:
    shelf.say(REF, ListingState.REVOKED, None, "its openssl leaks keys")
    shutil.rmtree(shelf.folder(REF))
    assert check(known, EXPECTED, deep=True, on_release=lambda _: None) == Checked(0, 1, ())


WRONG: dict[str, tuple[set[str], Callable[[Path], object]]] = {
    "no image": ({"folder-mismatch", "catalogue-unreachable"}, lambda root: (root / f"{STEM}.raw").unlink()),
    "no SBOM": ({"folder-mismatch", "catalogue-unreachable"}, lambda root: (root / f"{STEM}.sbom.cdx.json").unlink()),
    "a short image": ({"digest-mismatch", "catalogue-mixed"}, lambda root: os.truncate(root / f"{STEM}.raw", 5)),
    "another manifest": (
        {"digest-mismatch", "catalogue-mixed"},
        lambda root: (root / MANIFEST_FILE).write_bytes(b"{}"),
    ),
    "nothing": ({"catalogue-unreachable"}, shutil.rmtree),
}


@pytest.mark.parametrize("deep", [False, True], ids=["sizes", "bytes"])
@pytest.mark.parametrize("wrong", WRONG)
def test_a_catalogue_that_lacks_something(known: KnownCatalogue, shelf: Shelf, wrong: str, deep: bool) -> None:
    codes, change = WRONG[wrong]
    change(shelf.folder(REF))
    (said,) = found(known, deep=deep)
    assert said in {f"{REF} {code}" for code in codes}


def test_bytes_are_read_when_they_are_wanted(known: KnownCatalogue, shelf: Shelf) -> None:
    flip(shelf.folder(REF) / f"{STEM}.raw")
    assert found(known) == []
    assert found(known, deep=True) == [f"{REF} digest-mismatch"]


def test_a_manifest_that_is_gone(known: KnownCatalogue, shelf: Shelf) -> None:
    next((shelf.root / "targets" / NAME).glob("*.sigstore.json")).unlink()
    assert found(known) == [f"{REF} catalogue-unreachable"]


@pytest.mark.parametrize("deep", [False, True], ids=["sizes", "bytes"])
def test_a_catalogue_that_has_only_some_of_what_it_lists(known: KnownCatalogue, shelf: Shelf, deep: bool) -> None:
    """A release whose folder is not here is told; one that is here in part is wrong."""
    manifest = (shelf.folder(REF) / MANIFEST_FILE).read_bytes()
    shelf.list(replace(LISTING, version=Version(20251121, 2)), manifest)
    gone = f"{NAME}@20251121.2"
    checked = check(known, EXPECTED, deep=deep, present=True, on_release=lambda _: None)
    assert checked == Checked(1, 0, (), (gone,))
    assert len(found(known, deep=deep)) == 1, "whoever publishes has what he lists"
    for path in shelf.folder(REF).glob("*.raw"):
        path.unlink()
    (wrong,) = check(known, EXPECTED, deep=deep, present=True, on_release=lambda _: None).findings
    assert (wrong.release, wrong.code in WRONG["no image"][0]) == (str(REF), True)
    shutil.rmtree(shelf.folder(REF))
    checked = check(known, EXPECTED, deep=deep, present=True, on_release=lambda _: None)
    assert checked == Checked(0, 0, (), (str(REF), gone))


def test_a_server_that_fails_does_not_say_that_a_release_is_not_there(shelf: Shelf, site: Site, tmp_path: Path) -> None:
    path = f"/catalogue/targets/{NAME}/{VERSION}/{MANIFEST_FILE}"
    site.instead[path] = saying(400)
    checked = check(
        shelf.known(tmp_path / "trusted", site.url), EXPECTED, deep=False, present=True, on_release=lambda _: None
    )
    assert [each.code for each in checked.findings] == ["catalogue-unreachable"]
    assert checked.absent == ()


def test_names(known: KnownCatalogue) -> None:
    with client_of(known) as client:
        assert client.names() == [NAME]
        assert [role.name for role in client.roles()] == ["root", "timestamp", "snapshot", "targets"]
        assert all(role.expires > moment() for role in client.roles())


def test_a_role_that_no_image_can_have(tmp_path: Path) -> None:
    repository = Repository(tmp_path / "hostile")
    repository.delegate("../x", ["a/*"])
    repository.publish("targets", "../x")
    (tmp_path / "hostile.root.json").write_bytes(repository.first_root)
    known = known_catalogue(tmp_path / "hostile", tmp_path / "trusted", [tmp_path / "hostile.root.json"])
    with pytest.raises(errors.CatalogueDamaged, match="a role that is no image"), client_of(known) as client:
        client.names()
