"""What a catalogue lists is verified through its metadata: in a directory, and at a web server that is not kind."""

import os
import shutil
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import pytest

from imagefactory import errors
from imagefactory.errors import FactoryError
from imagefactory.model.glance import RELEASE_PROPERTY, GlanceImage
from imagefactory.model.listing import ListingState
from imagefactory.model.release import ReleaseRef, Version
from imagefactory.steps.glance_manifest import listed_as, manifest_in
from imagefactory.steps.glance_verify import glance_account
from imagefactory.steps.listed import listed_account, listed_image, verify_listed
from imagefactory.steps.verify import Expectation
from imagefactory.tools import catalogue_files
from imagefactory.tools.known_catalogue import KnownCatalogue
from signing.errors import (
    DigestMismatch,
    FolderMismatch,
    KeyUntrusted,
    NameMismatch,
    NoTrustRoot,
    SigningError,
    VersionTooOld,
)
from signing.manifest import MANIFEST_FILE
from tests.fakes.shelf import Shelf
from tests.fakes.tuf_site import Site, Talk, breaking_off, dripping_body, endless, saying, silence
from tests.unit.signing.builders import IMAGES, NAME, NOW, STEM, VERSION, Keys, make_folder, make_keys

REF = ReleaseRef.parse(f"{NAME}@{VERSION}")
NEWEST = ReleaseRef(NAME)
# Without a trust file of one's own: the catalogue says whom to believe.
EXPECTED = Expectation(None, NOW)
HTML = b"<!doctype html><title>It works!</title>"
pytestmark = pytest.mark.usefixtures("unsynced")


def image(catalogue: KnownCatalogue, work: Path, ref: ReleaseRef = NEWEST) -> bytes:
    """What would be booted."""
    with listed_image(catalogue, ref, EXPECTED, work=work) as found:
        return os.pread(found.descriptor, 1 << 20, 0)


# -- what is good ------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("ref", [NEWEST, REF], ids=str)
def test_every_byte_and_every_rule(known: KnownCatalogue, ref: ReleaseRef) -> None:
    account, count = listed_account(), list[int]()
    proof = verify_listed(known, ref, EXPECTED, account=account, on_bytes=count.append)
    assert (proof.release, proof.signed.name_pinned) == (str(REF), True)
    assert len(proof.files) == len(IMAGES) + 3
    assert sum(count) >= sum(map(len, IMAGES.values()))
    assert [each.number for each in account.outcomes if each.state not in {"passed", "does not apply"}] == []
    (seen,) = [fact for fact in proof.facts if fact.startswith("listed by")]
    assert seen.startswith(f"listed by {known.address}, version ")
    assert "fresh until 20" in seen
    assert proof.warnings == ()


def test_the_root_is_wanted_once(known: KnownCatalogue) -> None:
    with pytest.raises(errors.CatalogueUntrusted, match="there is no root in"):
        verify_listed(replace(known, roots=()), NEWEST, EXPECTED)
    assert not known.store.exists()
    verify_listed(known, NEWEST, EXPECTED)
    assert (known.store / "address").read_text() == f"{known.address}\n"
    assert verify_listed(replace(known, roots=()), NEWEST, EXPECTED).release == str(REF)


def test_another_root(known: KnownCatalogue, signers: Keys, tmp_path: Path) -> None:
    other = Shelf(tmp_path / "other", signers.trust_file.read_bytes()).root_file
    with pytest.raises(errors.CatalogueUnsigned):
        verify_listed(replace(known, given=other), NEWEST, EXPECTED)
    verify_listed(known, NEWEST, EXPECTED)
    # Who is known needs no root, so none is looked for.
    assert verify_listed(replace(known, roots=(other,)), NEWEST, EXPECTED).release == str(REF)
    with pytest.raises(errors.CatalogueUntrusted):
        verify_listed(replace(known, given=other), NEWEST, EXPECTED)
    with pytest.raises(errors.CatalogueUntrusted, match="cannot be read"):
        verify_listed(replace(known, given=tmp_path / "missing"), NEWEST, EXPECTED)


def test_the_image_alone(known: KnownCatalogue, tmp_path: Path) -> None:
    assert image(known, tmp_path) == IMAGES["qcow2"]
    (tmp_path / "catalogue/targets" / NAME / str(VERSION) / f"{STEM}.iso").write_bytes(b"of no matter")
    assert image(known, tmp_path) == IMAGES["qcow2"]


def test_a_trust_file_of_ones_own_comes_before_that_of_the_catalogue(
    known: KnownCatalogue, signers: Keys, tmp_path: Path
) -> None:
    assert verify_listed(known, NEWEST, replace(EXPECTED, trust=signers.trust)).release == str(REF)
    others = make_keys(tmp_path / "others").trust
    with pytest.raises(KeyUntrusted):
        verify_listed(known, NEWEST, replace(EXPECTED, trust=others))


def test_pins(known: KnownCatalogue) -> None:
    with pytest.raises(NameMismatch):
        verify_listed(known, NEWEST, replace(EXPECTED, name="another"))
    with pytest.raises(VersionTooOld):
        verify_listed(known, NEWEST, replace(EXPECTED, min_version=Version.parse("20991231.1")))
    for unknown in ("another", f"{NAME}@20991231.1"):
        with pytest.raises(errors.ReleaseUnknown):
            verify_listed(known, ReleaseRef.parse(unknown), EXPECTED)


# -- what became of a release ------------------------------------------------------------------------------------------


def test_a_revoked_release(known: KnownCatalogue, shelf: Shelf, tmp_path: Path) -> None:
    verify_listed(known, NEWEST, EXPECTED)
    shelf.say(REF, ListingState.REVOKED, f"{NAME}@20991231.1", "its openssl leaks keys")
    account = listed_account()
    for ref in (NEWEST, REF):
        with pytest.raises(errors.ReleaseRevoked, match="its openssl leaks keys") as told:
            verify_listed(known, ref, EXPECTED, account=account if ref == REF else None)
        assert told.value.advice == f"use {NAME}@20991231.1 instead"
        with pytest.raises(errors.ReleaseRevoked):
            image(known, tmp_path, ref)
    account.ended(told.value)
    assert next(each.number for each in account.outcomes if each.state == "refused") == 20


def test_a_deprecated_release(known: KnownCatalogue, shelf: Shelf, tmp_path: Path) -> None:
    shelf.say(REF, ListingState.DEPRECATED, f"{NAME}@20991231.1")
    told = f"{REF} is deprecated; use {NAME}@20991231.1 instead"
    proof = verify_listed(known, REF, EXPECTED)
    assert proof.warnings == (told,)
    assert told in proof.facts
    with listed_image(known, REF, EXPECTED, work=tmp_path) as found:
        assert found.proof.warnings == (told,)


# -- images in clouds --------------------------------------------------------------------------------------------------


def in_cloud(said: str | None) -> GlanceImage:
    """An image that says to be of this release."""
    properties = {} if said is None else {RELEASE_PROPERTY: said}
    return GlanceImage.from_json({"id": "0f2a1a5e-8a3c-4a55-9b1e-3f1c0d6f7a11", **properties})


def test_the_manifest_of_an_image_in_a_cloud(known: KnownCatalogue, shelf: Shelf, signers: Keys) -> None:
    """What became of its release, its catalogue tells; a file that is named does not."""
    account = glance_account()
    account.passed(2)
    found = listed_as(in_cloud(str(REF)), known, EXPECTED, account)
    assert found.verified(account).manifest.name == NAME
    reported = {each.number: each.state for each in account.outcomes if each.state != "not reached"}
    unasked = dict.fromkeys((7, 8), "does not apply")
    assert reported == {**dict.fromkeys([2, 19, 1, 20, 21, *range(3, 12), 22], "passed"), **unasked}
    for said in (None, "x", "../x", NAME, "another@20251121.1", f"{NAME}@20991231.1"):
        with pytest.raises(errors.ManifestNotFound):
            listed_as(in_cloud(said), known, EXPECTED, listed_account())
    shelf.say(REF, ListingState.REVOKED, None, "its openssl leaks keys")
    with pytest.raises(errors.ReleaseRevoked):
        listed_as(in_cloud(str(REF)), known, EXPECTED, listed_account())
    account = glance_account()
    account.passed(2)
    signed = manifest_in(shelf.folder(REF) / MANIFEST_FILE, replace(EXPECTED, trust=signers.trust), account)
    assert signed.manifest.name == NAME
    skipped = [each.number for each in account.outcomes if each.state == "does not apply"]
    assert skipped == [19, 20, 21, 7, 8, 22]
    with pytest.raises(NoTrustRoot):
        manifest_in(shelf.folder(REF) / MANIFEST_FILE, EXPECTED, listed_account())


# -- what somebody else made of it -------------------------------------------------------------------------------------


def damaged(known: KnownCatalogue, ref: ReleaseRef = REF) -> str:
    return refused(lambda: verify_listed(known, ref, EXPECTED))


def refused(call: Callable[[], object]) -> str:
    """The code of the error."""
    try:
        call()
    except (FactoryError, SigningError) as error:
        return str(error.code)
    raise AssertionError("nobody refused that")


def test_a_folder_that_is_not_listed_is_nothing(known: KnownCatalogue, shelf: Shelf) -> None:
    """Whoever can write there cannot make an old release the newest, or another name's."""
    for ref in (f"{NAME}@20991231.1", f"another@{VERSION}"):
        shutil.copytree(shelf.folder(REF), shelf.folder(ReleaseRef.parse(ref)))
        assert damaged(known, ReleaseRef.parse(ref)) == "release-unknown"
    assert verify_listed(known, NEWEST, EXPECTED).release == str(REF)


def test_without_its_metadata_a_catalogue_is_none(known: KnownCatalogue, shelf: Shelf) -> None:
    verify_listed(known, REF, EXPECTED)
    shutil.rmtree(shelf.root / "metadata")
    assert damaged(known) == "catalogue-unreachable"


def test_other_bytes(known: KnownCatalogue, shelf: Shelf, tmp_path: Path) -> None:
    folder = shelf.folder(REF)
    file = folder / f"{STEM}.qcow2"
    file.write_bytes(file.read_bytes()[::-1])
    assert damaged(known) == "digest-mismatch"
    with pytest.raises(DigestMismatch):
        image(known, tmp_path)
    file.write_bytes(IMAGES["qcow2"] + b"x")
    assert damaged(known) == ("catalogue-mixed" if known.is_web else "digest-mismatch")
    file.unlink()
    assert damaged(known) == ("catalogue-unreachable" if known.is_web else "folder-mismatch")


def test_a_manifest_that_is_not_the_listed_one(
    known: KnownCatalogue, shelf: Shelf, signers: Keys, tmp_path: Path
) -> None:
    """Signed by the same key for the same release, and still another."""
    make_folder(tmp_path / "again", signers)
    assert (tmp_path / "again" / MANIFEST_FILE).read_bytes() != (shelf.folder(REF) / MANIFEST_FILE).read_bytes()
    shutil.rmtree(shelf.folder(REF))
    shutil.copytree(tmp_path / "again", shelf.folder(REF))
    assert damaged(known) == "catalogue-mixed"


def test_a_manifest_that_is_listed_as_another_release(tmp_path: Path, release: Path, signers: Keys) -> None:
    """Whoever has the `targets` key cannot make an old release a new one."""
    shelf = Shelf(tmp_path / "catalogue", signers.trust_file.read_bytes())
    shelf.add(release, signers.trust, "20991231.1")
    known = shelf.known(tmp_path / "trusted")
    assert damaged(known, NEWEST) == "version-mismatch"
    with pytest.raises(errors.VersionMismatch):
        image(known, tmp_path)


def test_no_trust_policy(tmp_path: Path, release: Path, signers: Keys) -> None:
    shelf = Shelf(tmp_path / "catalogue", None)
    shelf.add(release, signers.trust)
    known = shelf.known(tmp_path / "trusted")
    with pytest.raises(NoTrustRoot, match="the catalogue has no trust policy"):
        verify_listed(known, NEWEST, EXPECTED)
    assert verify_listed(known, NEWEST, replace(EXPECTED, trust=signers.trust)).release == str(REF)


def test_something_more_in_a_directory(shelf: Shelf, tmp_path: Path) -> None:
    (shelf.folder(REF) / "more").touch()
    with pytest.raises(FolderMismatch, match="which was not signed"):
        verify_listed(shelf.known(tmp_path / "trusted"), NEWEST, EXPECTED)


def test_a_folder_that_is_gone(shelf: Shelf, tmp_path: Path) -> None:
    shutil.rmtree(shelf.folder(REF))
    with pytest.raises(errors.CatalogueUnreachable, match="is not there, and the catalogue lists it"):
        verify_listed(shelf.known(tmp_path / "trusted"), NEWEST, EXPECTED)


# -- web servers that are not kind -------------------------------------------------------------------------------------


SIZE = len(IMAGES["qcow2"])
UNKIND: dict[str, tuple[str, Talk]] = {
    "HTML": ("catalogue-mixed", saying(200, HTML, Content_Type="text/html")),
    "404": ("catalogue-unreachable", saying(404, HTML)),
    "500": ("catalogue-unreachable", saying(500)),
    "more": ("catalogue-mixed", saying(200, b"x" * (SIZE + 1))),
    "less": ("catalogue-mixed", saying(200, b"x" * (SIZE - 1))),
    "another": ("digest-mismatch", saying(200, b"x" * SIZE)),
    "endless": ("catalogue-endless", endless),
    "half": ("catalogue-mixed", breaking_off),
    "silence": ("catalogue-unreachable", silence),
    "dripping": ("catalogue-mixed", dripping_body),
    "elsewhere": ("catalogue-unreachable", saying(302, Location="file:///etc/passwd")),
    "in circles": ("catalogue-unreachable", saying(302, Location=f"/catalogue/targets/{NAME}/{VERSION}/{STEM}.qcow2")),
    "parts that nobody wanted": ("catalogue-unreachable", saying(206, b"x", Content_Range="bytes 0-0/1")),
}


@pytest.mark.parametrize("talk", UNKIND)
def test_an_image_from_a_web_server(
    shelf: Shelf, site: Site, tmp_path: Path, talk: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(catalogue_files, "PATIENCE", 1.0)
    code, said = UNKIND[talk]
    site.instead[f"/catalogue/targets/{NAME}/{VERSION}/{STEM}.qcow2"] = said
    known = shelf.known(tmp_path / "trusted", site.url)
    assert refused(lambda: verify_listed(known, NEWEST, EXPECTED)) == code
    assert refused(lambda: image(known, tmp_path)) == code
    site.instead.clear()
    assert image(known, tmp_path) == IMAGES["qcow2"]


@pytest.mark.parametrize("name", [MANIFEST_FILE, "SHA256SUMS", f"{STEM}.sbom.cdx.json"])
@pytest.mark.parametrize("talk", ["404", "endless", "silence"])
def test_other_files_from_a_web_server(
    shelf: Shelf, site: Site, tmp_path: Path, name: str, talk: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(catalogue_files, "PATIENCE", 1.0)
    monkeypatch.setattr(catalogue_files, "SLOWEST", 1 << 30)
    code, site.instead[f"/catalogue/targets/{NAME}/{VERSION}/{name}"] = UNKIND[talk]
    assert damaged(shelf.known(tmp_path / "trusted", site.url)) == code


def test_a_redirection_within_the_web(shelf: Shelf, site: Site, tmp_path: Path) -> None:
    (shelf.root / "moved").write_bytes(IMAGES["qcow2"])
    site.instead[f"/catalogue/targets/{NAME}/{VERSION}/{STEM}.qcow2"] = saying(302, Location="/catalogue/moved")
    assert verify_listed(shelf.known(tmp_path / "trusted", site.url), NEWEST, EXPECTED).release == str(REF)


def test_an_address_is_one_however_it_is_spelt(shelf: Shelf, site: Site, tmp_path: Path) -> None:
    one, other = shelf.known(tmp_path / "trusted", site.url), shelf.known(tmp_path / "trusted", f"{site.url}//")
    assert one == other
    assert shelf.known(tmp_path, f"{shelf.root}/../{shelf.root.name}/") == shelf.known(tmp_path)
