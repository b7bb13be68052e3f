"""The signer finds out for itself what it signs, and believes nobody."""

import json
import shutil
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime, timedelta
from hashlib import sha256
from pathlib import Path
from typing import Any
from uuid import UUID

import pytest

from imagefactory.errors import (
    BuilderNotApproved,
    ElementNotApproved,
    EvidenceMissing,
    FactoryError,
    FormatMismatch,
    MemoryDamaged,
    NameNotApproved,
    PolicyInvalid,
    PropertyContradicted,
    PropertyInvalid,
    RecipeNotApproved,
    ReleaseNameInvalid,
    RequestInvalid,
    SbomInvalid,
    SignerRefused,
    VersionAhead,
    VersionMismatch,
    VersionUsed,
)
from imagefactory.errors.service import HostClockOff
from imagefactory.model.evidence import Evidence
from imagefactory.model.packages import Installed, Package
from imagefactory.model.policy import EVERY_NAME, Approval, Policy
from imagefactory.model.recipe import OperatingSystem
from imagefactory.model.release import Version, sbom_file
from imagefactory.model.sbom import MAX_SBOM, of_release
from imagefactory.steps import attest as attest_step
from imagefactory.steps import sign as sign_step
from imagefactory.steps.attest import BuildAccount, attest
from imagefactory.steps.convert import Converted, examine
from imagefactory.steps.sign import Signers, check, sign
from imagefactory.steps.signing_order import SigningOrder
from imagefactory.tools import cyclonedx
from imagefactory.tools.audit_log import AuditLog
from imagefactory.tools.hand import call_signer
from imagefactory.tools.inspect import inspect
from imagefactory.tools.process import run
from imagefactory.tools.signed import SignedStore
from signing.errors import (
    CertificateExpired,
    FileChanged,
    KeyName,
    KeyUntrusted,
    ManifestInvalid,
    NotARegularFile,
    ProvenanceInvalid,
    ProvenanceMismatch,
    SignatureInvalid,
    SigningError,
    Unreadable,
)
from signing.keys import KeyRing, Purpose
from signing.manifest import MANIFEST_FILE, PROVENANCE_FILE
from signing.provenance import Provenance
from signing.signer import signer_for
from signing.trust import load_trust
from signing.verify import verify_manifest
from tests.fakes.boots import facts
from tests.fakes.host import make_keys

ENVIRONMENT = {"PATH": "/usr/sbin:/usr/bin:/sbin:/bin", "LC_ALL": "C.UTF-8", "TZ": "UTC"}
NOW = datetime.now(UTC).replace(microsecond=0)
DOCUMENTS = ["SHA256SUMS", "SHA256SUMS.sig", PROVENANCE_FILE, MANIFEST_FILE]
NAME, VERSION = "fake-debian-12", "20251121.1"
SBOM = f"{NAME}-{VERSION}.sbom.cdx.json"
RECIPE: dict[str, Any] = {
    "name": NAME,
    "os": {"distro": "debian", "version": "12", "codename": "bookworm", "arch": "amd64"},
    "elements": ["plain"],
    "properties": {"os_purpose": "gpu"},
}


def digest_of(recipe: Mapping[str, Any]) -> str:
    return sha256(json.dumps(recipe, sort_keys=True, separators=(",", ":")).encode()).hexdigest()


RECIPE_DIGEST = digest_of(RECIPE)
SIZE = 1 << 20
PROPERTIES = {"min_ram": "512", "min_disk": "1", "hw_firmware_type": "uefi", "os_distro": "debian", "os_purpose": "gpu"}


@dataclass(frozen=True)
class Desk:
    """What lies before the signer: two images of one disk, keys, and evidence about the images."""

    home: Path
    work: Path
    images: Mapping[str, Converted]
    sbom: Path
    evidence: tuple[Evidence, ...]
    approved: set[str] = field(default_factory=lambda: {RECIPE_DIGEST})

    def account(self, **changes: object) -> BuildAccount:
        account = BuildAccount(
            name=NAME,
            version=VERSION,
            build_id="b" * 32,
            recipe=RECIPE,
            recipe_digest=RECIPE_DIGEST,
            elements={"plain": "1" * 64},
            distro="debian",
            codename="bookworm",
            packages={Package("bash", "5.2", "amd64"): "8" * 64, Package("own", "1:1.0+x", "all"): None},
            in_releases={"http://deb.debian.org/debian/dists/bookworm/InRelease": "2" * 64},
            tools={"qemu-utils": "7.2"},
            separated=True,
            rootfs="3" * 64,
            disk="4" * 64,
            documents={path.name: sha256(path.read_bytes()).hexdigest() for path in self.documents(changes)},
            logs={"rootfs.log": "5" * 64},
            started=NOW - timedelta(hours=1),
            finished=NOW,
        )
        return replace(account, **changes)  # type: ignore[arg-type]

    def order(self, provenance: bytes, **changes: object) -> SigningOrder:
        path = self.work / PROVENANCE_FILE
        path.write_bytes(provenance)
        order = SigningOrder(
            name=NAME,
            version=VERSION,
            images={name: image.path for name, image in self.images.items()},
            documents={path.name: path for path in self.documents(changes)},
            provenance=path,
            evidence=self.evidence,
            asked=datetime.now(UTC),
            expires=datetime.now(UTC) + timedelta(days=1),
        )
        return replace(order, **changes)  # type: ignore[arg-type]

    def documents(self, changes: Mapping[str, object]) -> list[Path]:
        version = str(changes.get("version", VERSION))
        path = self.work / sbom_file(NAME, version)
        if not path.exists():
            path.write_bytes(make_sbom(version))
        return [path]

    def attest(
        self, evidence: tuple[Evidence, ...] | None = None, keys: Path | None = None, **changes: object
    ) -> bytes:
        """The builder's provenance."""
        signer = signer_for(f"file:{keys or self.home / 'keys'}", "provenance")
        return attest(self.account(**changes), self.images, self.evidence if evidence is None else evidence, signer)

    def saying(self, **changes: object) -> SigningOrder:
        """The order for a build of another recipe, which is approved, too."""
        recipe = {**RECIPE, **changes}
        self.approved.add(digest_of(recipe))
        return self.order(self.attest(recipe=recipe, recipe_digest=digest_of(recipe)))

    def sign(self, order: SigningOrder) -> Path:
        """Where the signer wrote what it signed."""
        output = self.work / "signed"
        output.mkdir()
        sign(order, self.own(), output, environment=ENVIRONMENT, on_advance=lambda _: None)
        return output

    def own(self, policy: Policy | None = None) -> Signers:
        """The signer's own things; its policy approves the one recipe and element of these tests."""
        return Signers(
            ring=KeyRing(self.home / "keys"),
            trust=load_trust(self.home / "trust.json"),
            policy=policy or Policy(False, {NAME: self.approval()}),
            memory=SignedStore(self.work / "memory"),
            log=AuditLog(self.work / "audit.log"),
        )

    def approval(self) -> Approval:
        builder = KeyRing(self.home / "keys").keyid("provenance")
        elements = {"plain": frozenset({"1" * 64})}
        return Approval(frozenset({builder}), frozenset(self.approved), elements, frozenset({"boot"}))


@pytest.fixture
def desk(tmp_path: Path, keys: Path) -> Desk:
    raw, qcow2 = tmp_path / "disk.raw", tmp_path / "disk.qcow2"
    raw.write_bytes(b"\xeb" + bytes(SIZE - 1))
    run(["qemu-img", "convert", "-f", "raw", "-O", "qcow2", raw, qcow2], env=ENVIRONMENT, timeout=20)
    images = {path.suffix[1:]: examine(path, path.suffix[1:], environment=ENVIRONMENT) for path in (qcow2, raw)}
    first, second = (f"sha256:{image.digests.sha256}" for image in images.values())
    evidence = (
        Evidence("boot", first, "pass", facts(["uefi"], 512)),
        Evidence("same-disk", second, "pass", {"booted": first}),
    )
    (tmp_path / SBOM).write_bytes(make_sbom())
    return Desk(keys, tmp_path, images, tmp_path / SBOM, evidence)


def make_sbom(version: str = VERSION) -> bytes:
    """The bill of materials of a release with one package."""
    bash = Package("bash", "5.2.15-2", "amd64")
    installed = Installed(bash, replace(bash, architecture="source"), "", ("GPL-3+",))
    document = cyclonedx.write(NAME, OperatingSystem(distro="debian", version="12"), [installed], UUID(int=0), NOW)
    return of_release(document, Version.parse(version))


def test_what_is_true_is_signed(desk: Desk) -> None:
    output = desk.sign(desk.order(desk.attest()))
    assert sorted(path.name for path in output.iterdir()) == DOCUMENTS
    proof = verify_manifest(
        (output / MANIFEST_FILE).read_bytes(), load_trust(desk.home / "trust.json"), now=datetime.now(UTC)
    )
    formats = proof.manifest.formats
    assert {name: entry.sha256 for name, entry in formats.items()} == {
        name: image.digests.sha256 for name, image in desk.images.items()
    }
    assert {entry.virtual_size for entry in formats.values()} == {SIZE}
    assert [piece.sha256 for piece in proof.manifest.evidence] == [piece.digest for piece in desk.evidence]
    assert PROPERTIES.items() <= proof.manifest.properties.items()
    assert vars(proof.manifest.os) == {"distro": "debian", "version": "12", "codename": "bookworm"}
    assert proof.manifest.arch == "amd64"
    assert abs(proof.manifest.created - datetime.now(UTC)) < timedelta(minutes=1)


def other_bytes(desk: Desk) -> SigningOrder:
    order = desk.order(desk.attest())
    with desk.images["raw"].path.open("r+b") as stream:
        stream.write(b"\xec")
    return order


def other_images(desk: Desk) -> SigningOrder:
    order = desk.order(desk.attest())
    return replace(order, images={"qcow2": order.images["qcow2"]})


def other_version(desk: Desk) -> SigningOrder:
    return desk.order(desk.attest(version="20251121.2"))


def other_name(desk: Desk) -> SigningOrder:
    return desk.order(desk.attest(), name="another-debian-12")


def other_format(desk: Desk) -> SigningOrder:
    order = desk.order(desk.attest())
    return replace(order, images={"qcow2": order.images["raw"], "raw": order.images["qcow2"]})


def a_link(desk: Desk) -> SigningOrder:
    order = desk.order(desk.attest())
    link = desk.work / "link"
    link.symlink_to(order.images["raw"])
    return replace(order, images={**order.images, "raw": link})


def strange_builder(desk: Desk) -> SigningOrder:
    return desk.order(desk.attest(keys=make_keys(desk.work / "strangers") / "keys"))


def altered_provenance(desk: Desk) -> SigningOrder:
    bundle = json.loads(desk.attest())
    signature = bundle["dsseEnvelope"]["signatures"][0]
    other = json.loads(desk.attest(version="20251121.2"))["dsseEnvelope"]["signatures"][0]["sig"]
    signature["sig"] = other
    return desk.order(json.dumps(bundle, separators=(",", ":"), sort_keys=True).encode())


def no_evidence(desk: Desk) -> SigningOrder:
    return desk.order(desk.attest(evidence=()), evidence=())


def no_boot(desk: Desk) -> SigningOrder:
    return desk.order(desk.attest(evidence=desk.evidence[1:]), evidence=desk.evidence[1:])


def one_image_unproved(desk: Desk) -> SigningOrder:
    return desk.order(desk.attest(evidence=desk.evidence[:1]), evidence=desk.evidence[:1])


def tampered_evidence(desk: Desk) -> SigningOrder:
    tampered = replace(desk.evidence[0], facts=facts(["uefi", "bios"], 512))
    return desk.order(desk.attest(), evidence=(tampered, *desk.evidence[1:]))


def failed_boot(desk: Desk) -> SigningOrder:
    failed = (replace(desk.evidence[0], outcome="fail"), *desk.evidence[1:])
    return desk.order(desk.attest(evidence=failed), evidence=failed)


def another_image_booted(desk: Desk) -> SigningOrder:
    """Even the builder's own word: the boot is of other bytes, and both images are only "the same disk"."""
    first, second = (f"sha256:{image.digests.sha256}" for image in desk.images.values())
    elsewhere = Evidence("boot", f"sha256:{'5' * 64}", "pass", {})
    same = (Evidence("same-disk", first, "pass", {}), Evidence("same-disk", second, "pass", {}))
    return desk.order(desk.attest(evidence=(elsewhere, *same)), evidence=(elsewhere, *same))


def claiming(**claims: str) -> Callable[[Desk], SigningOrder]:
    """An order that claims something else."""

    def make(desk: Desk) -> SigningOrder:
        return desk.saying(properties={**RECIPE["properties"], **claims})

    make.__name__ = ",".join(f"{key}={text}" for key, text in claims.items())
    return make


def another_system(desk: Desk) -> SigningOrder:
    return desk.saying(os={**RECIPE["os"], "version": "13"})


def no_system(desk: Desk) -> SigningOrder:
    return desk.saying(os={"distro": "debian"})


def no_properties(desk: Desk) -> SigningOrder:
    return desk.saying(properties=["os_purpose"])


def a_version_of_a_day_to_come(desk: Desk) -> SigningOrder:
    """It would keep every version before it from being signed."""
    return desk.order(desk.attest(version="99991231.1"), version="99991231.1")


def another_time(by: timedelta) -> Callable[[Desk], SigningOrder]:
    """By the clock of the records it is earlier or later, so the signer's is wrong."""

    def make(desk: Desk) -> SigningOrder:
        return desk.order(desk.attest(), asked=datetime.now(UTC) + by)

    make.__name__ = f"asked {by.total_seconds() / 3600:+.0f} h"
    return make


def same_disk_as_nobody_knows(desk: Desk) -> SigningOrder:
    other = (desk.evidence[0], replace(desk.evidence[1], facts={"booted": f"sha256:{'0' * 64}"}))
    return desk.order(desk.attest(evidence=other), evidence=other)


def evidence_of_old(desk: Desk) -> SigningOrder:
    """A boot test that did not yet record what properties are made from."""
    old = (replace(desk.evidence[0], facts={"firmware": ["uefi"]}), desk.evidence[1])
    return desk.order(desk.attest(evidence=old), evidence=old)


def two_boot_tests(desk: Desk) -> SigningOrder:
    second = replace(desk.evidence[0], facts=facts(["bios"], 256))
    both = (*desk.evidence, second)
    return desk.order(desk.attest(evidence=both), evidence=both)


def another_recipe(desk: Desk) -> SigningOrder:
    recipe = {**RECIPE, "packages": ["backdoor"]}
    digest = sha256(json.dumps(recipe, sort_keys=True, separators=(",", ":")).encode()).hexdigest()
    return desk.order(desk.attest(recipe=recipe, recipe_digest=digest))


def a_recipe_under_the_digest_of_another(desk: Desk) -> SigningOrder:
    return desk.order(desk.attest(recipe={**RECIPE, "packages": ["backdoor"]}))


def another_element(desk: Desk) -> SigningOrder:
    return desk.order(desk.attest(elements={"plain": "1" * 64, "backdoor": "6" * 64}))


def a_changed_element(desk: Desk) -> SigningOrder:
    return desk.order(desk.attest(elements={"plain": "7" * 64}))


def no_element(desk: Desk) -> SigningOrder:
    return desk.order(desk.attest(elements={}))


def another_sbom(desk: Desk) -> SigningOrder:
    order = desk.order(desk.attest())
    desk.sbom.write_bytes(make_sbom() + b"\n")
    return order


def linked_sbom(desk: Desk) -> SigningOrder:
    order = desk.order(desk.attest())
    desk.sbom.symlink_to(desk.sbom.rename(desk.work / "elsewhere"))
    return order


def no_sbom(desk: Desk) -> SigningOrder:
    return desk.order(desk.attest(), documents={})


def more_documents(desk: Desk) -> SigningOrder:
    return desk.order(desk.attest(), documents={SBOM: desk.sbom, "notes.txt": desk.sbom})


def sbom_under_another_name(desk: Desk) -> SigningOrder:
    digest = sha256(desk.sbom.read_bytes()).hexdigest()
    return desk.order(desk.attest(documents={"rootfs": digest}))


def sbom_of(content: bytes | Callable[[], bytes]) -> Callable[[Desk], SigningOrder]:
    """One that the builder signed for."""

    def make(desk: Desk) -> SigningOrder:
        desk.sbom.write_bytes(content if isinstance(content, bytes) else content())
        return desk.order(desk.attest())

    return make


def edited_sbom(**changes: object) -> Callable[[Desk], SigningOrder]:
    return sbom_of(lambda: json.dumps({**json.loads(make_sbom()), **changes}).encode())


LICENSED = {"type": "library", "name": "x", "licenses": [{"license": {"id": "GPL-2+"}}]}
BUILT = (NOW - timedelta(hours=1)).date()
REFUSED: list[tuple[Callable[[Desk], SigningOrder], type[FactoryError] | type[SigningError], str]] = [
    (other_bytes, ProvenanceMismatch, "other bytes than those to be signed: fake-debian-12-20251121.1.raw"),
    (other_images, ProvenanceMismatch, "fake-debian-12-20251121.1.raw"),
    (other_version, VersionMismatch, "about fake-debian-12@20251121.2, not fake-debian-12@20251121.1"),
    (other_name, VersionMismatch, "not another-debian-12@20251121.1"),
    (other_format, FormatMismatch, "fake-debian-12-20251121.1.qcow2 is raw, not qcow2"),
    (a_link, NotARegularFile, "symbolic link"),
    (strange_builder, KeyUntrusted, ""),
    (altered_provenance, SignatureInvalid, ""),
    (no_evidence, EvidenceMissing, "no evidence that this release boots"),
    (no_boot, EvidenceMissing, "no evidence that this release boots"),
    (one_image_unproved, EvidenceMissing, "no evidence of kind boot about fake-debian-12-20251121.1.raw"),
    (tampered_evidence, EvidenceMissing, "does not name this evidence of kind boot"),
    (failed_boot, EvidenceMissing, "evidence of kind boot says fail"),
    (another_image_booted, EvidenceMissing, "evidence of kind boot is about other bytes"),
    (claiming(min_ram="256"), PropertyContradicted, "min_ram: '256' is claimed, and '512' is proved"),
    (claiming(min_disk="0"), PropertyContradicted, "min_disk: '0' is claimed, and '1' is proved"),
    (claiming(hw_firmware_type="bios"), PropertyContradicted, "hw_firmware_type: 'bios'"),
    (claiming(architecture="aarch64"), PropertyContradicted, "architecture: 'aarch64'"),
    (claiming(os_admin_user="root"), PropertyContradicted, "os_admin_user: 'root'"),
    (claiming(image_build_date=f"{BUILT + timedelta(days=1)}"), PropertyContradicted, f"'{BUILT}' is proved"),
    (claiming(min_ram="lots"), PropertyInvalid, "min_ram: should be a whole number of MiB, not 'lots'"),
    (claiming(hw_video_model="a\nb"), ManifestInvalid, "'hw_video_model' is no text"),
    (claiming(owner="me"), ManifestInvalid, "'owner' is no property of a release"),
    (claiming(provided_until="2999-01-01"), CertificateExpired, "provided_until is 2999-01-01"),
    (claiming(uuid_validity="2999-01-01"), CertificateExpired, "uuid_validity is 2999-01-01"),
    (no_system, ProvenanceInvalid, "does not say for which operating system it is"),
    (no_properties, ProvenanceInvalid, "properties or a description that are none"),
    (a_version_of_a_day_to_come, VersionAhead, "of a day that has not come yet"),
    (another_time(timedelta(hours=-6)), HostClockOff, "ahead of that of the database"),
    (another_time(timedelta(hours=6)), HostClockOff, "behind that of the database"),
    (same_disk_as_nobody_knows, EvidenceMissing, "no evidence of kind boot about fake-debian-12-20251121.1.raw"),
    (another_system, PropertyContradicted, "os_version: '13' is claimed, and '12' is proved"),
    (evidence_of_old, EvidenceMissing, "the boot test does not say how it boots under uefi"),
    (another_recipe, RecipeNotApproved, "is not approved"),
    (a_recipe_under_the_digest_of_another, ProvenanceInvalid, "another recipe than the one whose digest"),
    (another_element, ElementNotApproved, "element backdoor"),
    (a_changed_element, ElementNotApproved, "element plain as sha256:7777777777777777"),
    (no_element, ProvenanceInvalid, "does not name every element of its recipe"),
    (another_sbom, ProvenanceMismatch, f"the provenance does not name this {SBOM}"),
    (sbom_under_another_name, ProvenanceMismatch, f"the provenance does not name this {SBOM}"),
    (linked_sbom, NotARegularFile, "symbolic link"),
    (no_sbom, SbomInvalid, f"{SBOM} is what is released beside images, not nothing"),
    (more_documents, SbomInvalid, "notes.txt"),
    (sbom_of(lambda: make_sbom("20251121.2")), SbomInvalid, "is not about fake-debian-12@20251121.1"),
    (sbom_of(lambda: make_sbom().replace(b"fake-debian-12", b"fake-debian-13")), SbomInvalid, "is not about"),
    (sbom_of(lambda: make_sbom().replace(b"{", b'{"bomFormat": "CycloneDX",', 1)), SbomInvalid, "twice"),
    (sbom_of(b"[]"), SbomInvalid, "not a JSON object"),
    (sbom_of(b"\xff"), SbomInvalid, "not UTF-8"),
    (sbom_of(bytes(MAX_SBOM + 1)), Unreadable, f"longer than {MAX_SBOM} bytes"),
    (edited_sbom(specVersion="1.5"), SbomInvalid, "is not CycloneDX 1.6"),
    (edited_sbom(extra=1), SbomInvalid, "not valid CycloneDX"),
    (edited_sbom(components=[{"type": "library"}]), SbomInvalid, "'name' is a required property"),
    (edited_sbom(metadata={}), SbomInvalid, "is not about"),
    (edited_sbom(components=[{"type": "library", "name": "x"}] * 2), SbomInvalid, "an array has an item twice"),
    (edited_sbom(serialNumber="1"), SbomInvalid, "not valid CycloneDX"),
    (edited_sbom(components=[LICENSED]), SbomInvalid, "not valid CycloneDX"),
    (two_boot_tests, EvidenceMissing, "proved by one boot test, and there are 2"),
]


@pytest.mark.parametrize(("make", "kind", "text"), REFUSED, ids=lambda value: getattr(value, "__name__", ""))
def test_anything_else_is_refused_and_nothing_written(
    desk: Desk, make: Callable[[Desk], SigningOrder], kind: type[FactoryError], text: str
) -> None:
    order = make(desk)
    with pytest.raises(kind) as caught:
        desk.sign(order)
    assert text in caught.value.message
    assert list((desk.work / "signed").iterdir()) == []
    (refused,) = AuditLog(desk.work / "audit.log").entries()
    assert (refused.event, refused.details["code"]) == ("refused", caught.value.code)


# -- what the signer knows of its own ----------------------------------------------------------------------------------


def signed_by(desk: Desk, order: SigningOrder, own: Signers | None = None) -> dict[str, str]:
    output = desk.work / "again"
    output.mkdir(exist_ok=True)
    return sign(order, own or desk.own(), output, environment=ENVIRONMENT, on_advance=lambda _: None)


POLICIES: list[tuple[Callable[[Approval], Policy], type[FactoryError]]] = [
    (lambda _: Policy(False, {}), NameNotApproved),
    (lambda approval: Policy(False, {"another-debian-12": approval}), NameNotApproved),
    (lambda approval: Policy(False, {NAME: replace(approval, builders=frozenset({"9" * 64}))}), BuilderNotApproved),
    (lambda approval: Policy(False, {NAME: replace(approval, recipes=frozenset())}), RecipeNotApproved),
    (lambda approval: Policy(False, {NAME: replace(approval, elements={})}), ElementNotApproved),
]


@pytest.mark.parametrize(("make", "kind"), POLICIES)
def test_what_the_policy_does_not_approve_is_not_signed(
    desk: Desk, make: Callable[[Approval], Policy], kind: type[FactoryError]
) -> None:
    own = desk.own(make(desk.approval()))
    with pytest.raises(kind):
        signed_by(desk, desk.order(desk.attest()), own)
    assert [entry.event for entry in own.log.entries()] == ["refused"]


def test_every_image_needs_every_kind_of_evidence(desk: Desk) -> None:
    first, second = (f"sha256:{image.digests.sha256}" for image in desk.images.values())
    approval = replace(desk.approval(), evidence=frozenset({"boot", "compliance"}))
    own = desk.own(Policy(False, {NAME: approval}))
    apart = (desk.evidence[0], Evidence("compliance", second, "pass", {}))
    with pytest.raises(EvidenceMissing, match=r"of kind compliance about .*qcow2"):
        signed_by(desk, desk.order(desk.attest(evidence=apart), evidence=apart), own)
    both = (*desk.evidence, Evidence("compliance", first, "pass", {}))
    assert signed_by(desk, desk.order(desk.attest(evidence=both), evidence=both), own)


def test_what_is_inspected_is_what_was_hashed(desk: Desk, monkeypatch: pytest.MonkeyPatch) -> None:
    """Somebody writes to the image between the two."""

    def racing(descriptor: int, name: str, *, declared: str) -> None:
        path = desk.images["raw"].path
        path.write_bytes(path.read_bytes())
        inspect(descriptor, name, declared=declared)

    monkeypatch.setattr(sign_step, "inspect", racing)
    with pytest.raises(FileChanged):
        signed_by(desk, desk.order(desk.attest()))


@pytest.mark.parametrize("purpose", ["release", "provenance"])
def test_keys_of_other_names_make_no_release(desk: Desk, purpose: Purpose, monkeypatch: pytest.MonkeyPatch) -> None:
    own = desk.own()
    key = own.ring.keyid(purpose)
    limited = replace(own.trust, names={**own.trust.names, key: ("soe-debian-12",)})
    monkeypatch.setattr(Desk, "own", lambda _: replace(own, trust=limited))
    order = desk.order(desk.attest())
    with pytest.raises(KeyName, match=f"{purpose} key {key[:16]} may not sign for '{NAME}'"):
        desk.sign(order)
    assert list((desk.work / "signed").iterdir()) == []
    (refused,) = [entry for entry in own.log.entries() if entry.event == "refused"]
    assert refused.details["code"] == "key-name"
    assert not [entry for entry in own.log.entries() if entry.event == "key-used"]


def test_no_release_is_believed_for_longer_than_a_year(desk: Desk) -> None:
    output = desk.sign(replace(desk.order(desk.attest()), expires=None))
    trust = load_trust(desk.home / "trust.json")
    manifest = verify_manifest((output / MANIFEST_FILE).read_bytes(), trust, now=datetime.now(UTC)).manifest
    assert manifest.expires == manifest.created + timedelta(days=365)


def test_before_the_work_it_is_seen_that_the_certificate_lasts(desk: Desk) -> None:
    own = desk.own()
    late = own.ring.certificate().not_valid_after_utc - timedelta(days=30)
    builder = own.ring.keyid("provenance")
    with pytest.raises(CertificateExpired, match="less than 90 days from now"):
        check(own, NAME, builder, RECIPE_DIGEST, {"plain": "1" * 64}, {}, now=late)
    (refused,) = [entry for entry in own.log.entries() if entry.event == "refused"]
    assert refused.details["code"] == "certificate-expired"


def test_before_the_work_it_is_told_which_version_has_to_follow(desk: Desk) -> None:
    own = desk.own()

    def newest(name: str = NAME) -> Version | None:
        return check(own, name, own.ring.keyid("provenance"), RECIPE_DIGEST, {"plain": "1" * 64}, {}, now=NOW)

    assert newest() is None
    signed_by(desk, desk.order(desk.attest()))
    assert str(newest()) == VERSION
    with pytest.raises(ReleaseNameInvalid):
        newest("../elsewhere")
    (desk.work / "memory" / NAME / "99990101.1").mkdir()
    with pytest.raises(VersionAhead, match=r"99990101\.1 is of a day"):
        newest()


def test_a_byproduct_without_a_digest_is_no_traceback(desk: Desk, monkeypatch: pytest.MonkeyPatch) -> None:
    def lying(**said: Any) -> Provenance:  # noqa: ANN401 - its own arguments
        return Provenance(**{**said, "byproducts": [*said["byproducts"], {"name": "x", "digest": "text"}]})

    monkeypatch.setattr(attest_step, "Provenance", lying)
    assert signed_by(desk, desk.order(desk.attest()))


def test_a_memory_that_somebody_wrote_to(desk: Desk) -> None:
    folder = desk.work / "memory" / NAME
    (folder / VERSION).mkdir(parents=True)
    with pytest.raises(MemoryDamaged, match="lacks"):
        signed_by(desk, desk.order(desk.attest()))
    (folder / VERSION).rmdir()
    (folder / "README").touch()
    with pytest.raises(MemoryDamaged, match="no version"):
        signed_by(desk, desk.order(desk.attest()))


def test_the_log_remembers_what_a_lost_memory_does_not(desk: Desk) -> None:
    signed_by(desk, desk.order(desk.attest()))
    shutil.rmtree(desk.work / "memory")
    with pytest.raises(VersionUsed, match="says the log"):
        signed_by(desk, desk.order(desk.attest()))
    with pytest.raises(VersionUsed, match="which is newer"):
        signed_by(desk, desk.order(desk.attest(version="20251120.1"), version="20251120.1"))


def test_a_policy_for_development_is_for_development_keys_only(desk: Desk) -> None:
    anything = Policy(True, {EVERY_NAME: replace(desk.approval(), recipes=None, elements=None)})
    order = desk.order(another_recipe(desk).provenance.read_bytes())
    assert signed_by(desk, order, desk.own(anything))
    metadata = desk.home / "keys" / "keys.json"
    document = json.loads(metadata.read_text())
    try:
        metadata.write_text(json.dumps({**document, "development": False}))
        with pytest.raises(PolicyInvalid):
            signed_by(desk, order, desk.own(anything))
    finally:
        metadata.write_text(json.dumps(document))


def test_the_same_images_get_the_old_signature(desk: Desk) -> None:
    first = signed_by(desk, desk.order(desk.attest()))
    later = desk.attest(finished=NOW + timedelta(minutes=1))
    assert signed_by(desk, desk.order(later)) == first
    assert sha256(later).hexdigest() not in first.values()
    events = [entry.event for entry in desk.own().log.entries()]
    assert events == ["key-used", "key-used", "signing", "key-used", "key-used", "signed", "given-again"]


def test_other_images_under_a_used_version_are_refused(desk: Desk) -> None:
    signed_by(desk, desk.order(desk.attest()))
    with desk.images["raw"].path.open("r+b") as stream:
        stream.write(b"\xec")
    raw = examine(desk.images["raw"].path, "raw", environment=ENVIRONMENT)
    other = replace(desk, images={**desk.images, "raw": raw})
    with pytest.raises(VersionUsed, match="for other images"):
        signed_by(other, other.order(other.attest()))


def test_another_sbom_under_a_used_version_is_refused(desk: Desk) -> None:
    signed_by(desk, desk.order(desk.attest()))
    desk.sbom.write_bytes(make_sbom().replace(b"5.2.15-2", b"5.2.15-3"))
    with pytest.raises(VersionUsed, match="with another bill of materials"):
        signed_by(desk, desk.order(desk.attest()))


def test_versions_only_grow(desk: Desk) -> None:
    newer = desk.attest(version="20251121.10")
    signed_by(desk, desk.order(newer, version="20251121.10"))
    with pytest.raises(VersionUsed, match=r"20251121\.10 was signed already"):
        signed_by(desk, desk.order(desk.attest(version="20251121.9"), version="20251121.9"))
    assert signed_by(desk, desk.order(desk.attest(version="20251122.1"), version="20251122.1"))


def test_the_head_of_the_log_is_in_the_manifest(desk: Desk) -> None:
    output = desk.sign(desk.order(desk.attest()))
    trust = load_trust(desk.home / "trust.json")
    manifest = verify_manifest((output / MANIFEST_FILE).read_bytes(), trust, now=datetime.now(UTC)).manifest
    log = desk.own().log
    head = log.verify([manifest.audit])
    signing = list(log.entries())[manifest.audit.entries - 1]
    assert signing.event == "signing"
    assert set(signing.details["images"].split()) == {image.digests.sha256 for image in desk.images.values()}
    assert head.entries > manifest.audit.entries


# -- as a process of its own -------------------------------------------------------------------------------------------


def ask(desk: Desk, **request: object) -> dict[str, Any]:
    said: list[str] = []
    whole = {"keys": str(desk.home / "keys"), "passphrase": None, "trust": str(desk.home / "trust.json")}
    own = {
        "policy": [str(desk.home / "policy.json")],
        "signed": str(desk.work / "memory"),
        "audit": str(desk.work / "audit.log"),
    }
    return call_signer(
        {**whole, **own, **request},
        environment=ENVIRONMENT,
        log=desk.work / "signer.log",
        on_advance=lambda text, *_: said.append(text),
    )


def sign_request(order: SigningOrder, output: Path) -> dict[str, Any]:
    return {
        "action": "sign",
        "name": order.name,
        "version": order.version,
        "images": {name: str(path) for name, path in order.images.items()},
        "documents": {name: str(path) for name, path in order.documents.items()},
        "provenance": str(order.provenance),
        "evidence": [piece.to_json() for piece in order.evidence],
        "output": str(output),
        "asked": order.asked.timestamp(),
        "expires": None,
        "environment": ENVIRONMENT,
    }


def check_request(desk: Desk, claims: Mapping[str, str]) -> dict[str, Any]:
    return {
        "action": "check",
        "name": NAME,
        "builder": KeyRing(desk.home / "keys").keyid("provenance"),
        "recipe": RECIPE_DIGEST,
        "elements": {"plain": "1" * 64},
        "properties": claims,
    }


def test_what_would_not_be_signed_is_refused_before_the_work(desk: Desk) -> None:
    (desk.work / "policy.json").write_bytes(Policy(False, {NAME: desk.approval()}).encode())
    own = {"policy": [str(desk.work / "policy.json")]}
    ask(desk, **check_request(desk, {}), **own)
    changes: list[tuple[dict[str, Any], str]] = [
        ({"name": "another-debian-12"}, "name-not-approved"),
        ({"builder": "9" * 64}, "builder-not-approved"),
        ({"recipe": "9" * 64}, "recipe-not-approved"),
        ({"elements": {"plain": "9" * 64}}, "element-not-approved"),
        ({"policy": [str(desk.work / "none.json")]}, "policy-missing"),
    ]
    for change, code in changes:
        with pytest.raises(FactoryError) as refused:
            ask(desk, **{**check_request(desk, {}), **own, **change})
        assert refused.value.code == code


def test_the_hand_signs(desk: Desk) -> None:
    answer = ask(desk, **sign_request(desk.order(desk.attest()), desk.work))
    assert sorted(answer["files"]) == DOCUMENTS


def test_a_refusal_of_either_family_comes_through_with_its_code(desk: Desk) -> None:
    with pytest.raises(EvidenceMissing) as missing:
        ask(desk, **sign_request(no_evidence(desk), desk.work))
    assert missing.value.code == "evidence-missing"
    with pytest.raises(SignerRefused, match="other bytes") as refused:
        ask(desk, **sign_request(other_bytes(desk), desk.work))
    assert refused.value.code == "provenance-mismatch"


def test_a_lie_is_refused_by_the_hand_too(desk: Desk) -> None:
    with pytest.raises(PropertyContradicted, match="min_ram: '1' is claimed") as refused:
        ask(desk, **sign_request(claiming(min_ram="1")(desk), desk.work))
    assert refused.value.exit_code == 1


@pytest.mark.parametrize(("days", "kept"), [(-1, True), (0, True), (1, False)])
def test_an_image_is_promised_for_as_long_as_its_certificate_serves(desk: Desk, days: int, kept: bool) -> None:
    """Ninety days less than it is valid; asked before the work and at its end."""
    last = KeyRing(desk.home / "keys").certificate().not_valid_after_utc.date() - timedelta(days=90)
    claims = {"provided_until": str(last + timedelta(days=days))}
    order = desk.saying(properties=claims)
    (desk.work / "policy.json").write_bytes(Policy(False, {NAME: desk.approval()}).encode())
    requests = [check_request(desk, claims), sign_request(order, desk.work)]
    for request in requests:
        if kept:
            ask(desk, **request)
            continue
        with pytest.raises(SignerRefused, match=f"the Glance certificate serves until {last}") as refused:
            ask(desk, **request)
        assert refused.value.code == "certificate-expired"


def test_a_request_that_it_does_not_know(desk: Desk) -> None:
    """There is no "sign this digest"."""
    with pytest.raises(RequestInvalid):
        ask(desk, action="sign-digest", digest="0" * 64)
