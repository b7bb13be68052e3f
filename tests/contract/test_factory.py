"""Whole builds with fake programs: what is done, what is kept, and what is recorded, whatever goes wrong."""

import errno
import json
import os
import re
import shutil
import subprocess
import sys
from collections.abc import Callable
from datetime import UTC, datetime, timedelta, tzinfo
from pathlib import Path

import pytest

from imagefactory.errors import (
    BootPanic,
    Busy,
    CatalogueConflict,
    CatalogueUnusable,
    DiskTooSmall,
    FactoryError,
    FormatUnsupported,
    HandDied,
    HomeUnusable,
    ImageDamaged,
    MirrorUnreachable,
    PackageMissing,
    PlacesFailed,
    ProgramFailed,
    PropertyContradicted,
    ReleaseUnknown,
    RootfsFailed,
    SignerRefused,
    StateConflict,
    VisibilityRefused,
)
from imagefactory.factory import release as releasing
from imagefactory.factory import view
from imagefactory.factory.view import Lookout
from imagefactory.model.build import BuildState, PublicationState
from imagefactory.model.recipe_targets import CatalogueTarget
from imagefactory.model.release import ReleaseRef
from imagefactory.progress import StepFailed, StepFinished, StepStarted
from imagefactory.store.lock import FileLocks
from imagefactory.store.records import release_version
from imagefactory.store.tables import Build, Release
from signing.errors import (
    DigestMismatch,
    FolderMismatch,
    KeyDamaged,
    KeyPermissions,
    KeysMissing,
    KeyUntrusted,
    NotARegularFile,
    NoTrustRoot,
    SigningError,
    TrustInvalid,
)
from signing.manifest import MANIFEST_FILE, ReleaseManifest
from signing.trust import load_trust
from signing.verify import verify_manifest
from tests.contract.conftest import FirstBuild
from tests.fakes.host import FakeHost, folders, make_keys
from tests.passable import let_others_pass

STEPS = ["rootfs", "sbom", "disk", "convert qcow2", "boot-test", "sign", "publish"]
UNTOUCHED = ["rootfs", "sign", "publish"]
NAME = "fake-debian-12"


def done(host: FakeHost) -> list[str]:
    """The steps that ran, in order; "publish" without its place."""
    ran = [event.step for event in host.events if isinstance(event, StepFinished) and not event.reused]
    return [step.split(" catalogue:")[0] for step in ran]


def kept(host: FakeHost) -> list[str]:
    reused = [event.step for event in host.events if isinstance(event, StepFinished) and event.reused]
    return [step.split(" catalogue:")[0] for step in reused]


def reason(host: FakeHost, step: str) -> str:
    """Why a step ran."""
    return next(event.reason for event in host.events if isinstance(event, StepStarted) and event.step == step)


def builds(host: FakeHost) -> list[Build]:
    with host.factory() as factory:
        return list(factory.records.builds(NAME))


def states(host: FakeHost) -> list[tuple[str, str | None]]:
    return [(build.state, build.error_code) for build in builds(host)]


def releases(host: FakeHost) -> list[Release]:
    """Newest first."""
    with host.factory() as factory:
        return list(factory.records.releases(NAME))


def folder(host: FakeHost) -> Path:
    """The one published version."""
    (version,) = folders(host.home / "catalogue", NAME)
    return version


def rewrite(host: FakeHost, old: str, new: str) -> None:
    text = host.recipe_file.read_text()
    assert old in text
    host.recipe_file.write_text(text.replace(old, new))


# -- what is done ------------------------------------------------------------------------------------------------------


def test_a_first_build_does_every_step_in_order(first_build: FirstBuild, built: FakeHost) -> None:
    finished = [event for event in first_build.events if isinstance(event, StepFinished)]
    assert [event.step.split(" catalogue:")[0] for event in finished] == STEPS
    assert not any(event.reused for event in finished)
    started = {event.step: event.reason for event in first_build.events if isinstance(event, StepStarted)}
    assert started["rootfs"] == "it was never built"
    (release,) = releases(built)
    version = release_version(release)
    assert states(built) == [(BuildState.RELEASED, None)]
    assert set(release.files) == {
        f"{NAME}-{version}.qcow2",
        f"{NAME}-{version}.sbom.cdx.json",
        "SHA256SUMS",
        "SHA256SUMS.sig",
        "provenance.sigstore.json",
        "release.sigstore.json",
    }
    assert sorted(path.name for path in folder(built).iterdir()) == sorted(release.files)
    assert [(each.target, each.state) for each in release.publications] == [
        (f"catalogue:{built.home}/catalogue", PublicationState.VERIFIED)
    ]
    assert [piece["kind"] for piece in release.evidence["boot"]] == ["boot"]
    assert list((built.home / "work").iterdir()) == []


def manifest_of(host: FakeHost) -> ReleaseManifest:
    """The signed manifest of the one published version."""
    raw = (folder(host) / MANIFEST_FILE).read_bytes()
    return verify_manifest(raw, load_trust(host.home / "trust.json"), now=datetime.now(UTC)).manifest


def test_the_properties_of_a_release_are_signed(built: FakeHost) -> None:
    assert manifest_of(built).properties == {
        "architecture": "x86_64",
        "cpu_arch": "x86_64",
        "hw_disk_bus": "virtio",
        "hw_firmware_type": "uefi",
        "hw_qemu_guest_agent": "yes",
        "hw_rng_model": "virtio",
        "hw_vif_model": "virtio",
        "hypervisor_type": "qemu",
        "image_build_date": str(builds(built)[0].started.date()),
        "image_original_user": "debian",
        "image_source": "private",
        "min_disk": "1",
        "min_ram": "1024",
        "os_admin_user": "debian",
        "os_distro": "debian",
        "os_secure_boot": "optional",
        "os_type": "linux",
        "os_version": "12",
    }


def test_what_the_recipe_says_is_signed_too(host: FakeHost) -> None:
    rewrite(host, "formats:", "description: Words\nproperties: {os_purpose: gpu, min_ram: 2048}\nformats:")
    host.build()
    properties = manifest_of(host).properties
    assert (properties["os_purpose"], properties["min_ram"]) == ("gpu", "2048")
    assert properties["image_description"] == "Words"


def test_what_only_the_boot_test_contradicts_is_refused_before_it_is_signed(host: FakeHost) -> None:
    rewrite(host, "formats:", "properties:\n  os_admin_user: root\nformats:")
    with pytest.raises(PropertyContradicted) as refused:
        host.build()
    assert refused.value.message.startswith(f"{host.recipe_file}:7:18: os_admin_user: 'root' is claimed")
    assert states(host) == [(BuildState.FAILED, "property-contradicted")]
    assert releases(host) == []


def test_a_claim_that_the_recipe_contradicts_is_refused_at_its_place(host: FakeHost) -> None:
    rewrite(host, "formats:", "properties:\n  min_disk: 0\nformats:")
    with host.factory() as factory, pytest.raises(PropertyContradicted) as refused:
        factory.plan(host.load())
    assert refused.value.message.startswith(f"{host.recipe_file}:7:13: min_disk: '0' is claimed, and '1' is proved")


def test_a_second_build_is_unchanged_and_reserves_no_version(built: FakeHost) -> None:
    outcome = built.build()
    assert (outcome.worked, outcome.reproduced, outcome.build) == (False, False, None)
    assert (done(built), kept(built)) == ([], STEPS)
    assert len(builds(built)) == 1


def test_a_plan_says_what_a_build_would_do_and_does_none_of_it(host: FakeHost) -> None:
    with host.factory() as factory:
        actions = factory.plan(host.load())
    assert [action.step for action in actions if action.run] == [
        "rootfs",
        "sbom",
        "disk",
        "convert",
        "boot-test",
        "sign",
        "publish",
    ]
    assert builds(host) == []
    assert not (host.home / "catalogue").exists()


def test_a_newer_candidate_rebuilds_and_says_which(built: FakeHost) -> None:
    built.offer({"openssl": "3.0.18-1", "bash": "5.2.15-2"}, in_release="second")
    outcome = built.build()
    assert outcome.worked
    assert done(built) == STEPS
    assert reason(built, "rootfs") == "newer packages: openssl 3.0.17-1 -> 3.0.18-1"
    assert len(releases(built)) == 2
    assert outcome.release.version_number == 2
    assert not built.build().worked


def test_a_new_in_release_without_a_newer_candidate_is_no_work(built: FakeHost) -> None:
    built.say("in-release", "second")
    assert not built.build().worked
    with built.factory() as factory:
        (rootfs,) = [result for result in factory.records.results() if result.step == "rootfs"]
    (first,) = releases(built)
    assert first.created < rootfs.created, "the new lists are remembered, so that nobody looks again"


@pytest.mark.parametrize(
    ("old", "new", "why", "steps"),
    [
        ("packages: [openssl]", "packages: [openssl, bash]", "changed since the last build: packages", STEPS),
        # The root file system comes out as before, so the rest is kept: only the recipe that is signed for is new.
        ("formats:", "environment: {DIB_X: y}\nformats:", "changed since the last build: environment", UNTOUCHED),
        ("512 MiB", "513 MiB", None, ["disk", "convert qcow2", "boot-test", "sign", "publish"]),
        ("qcow2: {}", "qcow2: {compression: zlib}", None, ["convert qcow2", "boot-test", "sign", "publish"]),
        ("qcow2: {}", "qcow2: {}, raw: {}", None, ["convert raw", "boot-test", "sign", "publish"]),
        ("formats:", "tests: {boot: {memory: 2 GiB}}\nformats:", None, ["boot-test", "sign", "publish"]),
        ("formats:", "description: other words\nformats:", None, ["sign", "publish"]),
    ],
)
def test_a_changed_recipe_does_what_depends_on_the_change(
    built: FakeHost, old: str, new: str, why: str | None, steps: list[str]
) -> None:
    rewrite(built, old, new)
    outcome = built.build()
    assert done(built) == steps
    if why is not None:
        assert reason(built, "rootfs") == why
    assert outcome.release.version_number == 2
    assert states(built) == [(BuildState.RELEASED, None)] * 2
    assert not built.build().worked


def test_a_changed_element_rebuilds(built: FakeHost) -> None:
    script = built.recipe_file.parent / "elements/plain/install.d/50-more"
    script.parent.mkdir()
    script.write_text("#!/bin/sh\n")
    built.build()
    assert reason(built, "rootfs") == "changed since the last build: element plain"


def test_fresh_with_equal_bytes_is_reproduced_and_no_new_release(built: FakeHost) -> None:
    outcome = built.build(fresh=True)
    assert (outcome.worked, outcome.reproduced) == (True, True)
    assert done(built) == ["rootfs", "sbom", "disk", "convert qcow2", "boot-test"]
    assert states(built) == [(BuildState.RELEASED, None), (BuildState.REPRODUCED, None)]
    assert len(releases(built)) == 1


def test_fresh_with_other_bytes_is_a_new_release(built: FakeHost) -> None:
    built.say("salt", "anything")
    outcome = built.build(fresh=True)
    assert (outcome.reproduced, outcome.release.version_number) == (False, 2)
    assert done(built) == STEPS


def test_without_publishing(host: FakeHost) -> None:
    outcome = host.build(publish=False)
    assert done(host) == STEPS[:-1]
    assert dict(outcome.published) == {}
    assert not (host.home / "catalogue").exists()
    assert done_by_publishing(host) == ["publish"]


def done_by_publishing(host: FakeHost) -> list[str]:
    host.build()
    return done(host)


def test_to_several_targets(host: FakeHost) -> None:
    rewrite(host, "formats:", "publish: [{catalogue: one}, {catalogue: two}]\nformats:")
    outcome = host.build()
    assert done(host) == [*STEPS, "publish"]
    roots = [host.recipe_file.parent / name for name in ("one", "two")]
    assert sorted(outcome.published) == [
        f"catalogue:{root}/{NAME}@{release_version(outcome.release)}" for root in roots
    ]
    assert not (host.home / "catalogue").exists()


def test_a_target_that_fails_holds_back_no_other_and_is_made_up_for(host: FakeHost) -> None:
    rewrite(host, "formats:", "publish: [{catalogue: one}, {catalogue: two}, {catalogue: three}]\nformats:")
    one, two, three = (host.recipe_file.parent / name for name in ("one", "two", "three"))
    for blocked in (one, three):
        blocked.write_text("no directory")
    with pytest.raises(PlacesFailed) as caught:
        host.build()
    failed = [place for place, each in caught.value.places.items() if isinstance(each, FactoryError | SigningError)]
    assert failed == [f"catalogue:{one}", f"catalogue:{three}"]
    first = caught.value.places[f"catalogue:{one}"]
    assert isinstance(first, FactoryError | SigningError)
    assert (caught.value.code, caught.value.exit_code) == (first.code, first.exit_code)
    told = {event.step for event in host.events if isinstance(event, StepFailed)}
    assert told == {f"publish {place}" for place in failed}
    (release,) = releases(host)
    states = {each.target: each.state for each in release.publications}
    assert states[f"catalogue:{two}"] == PublicationState.VERIFIED
    one.unlink()
    three.unlink()
    before = {path: path.stat().st_mtime_ns for path in two.rglob("*")}
    outcome = host.build()
    assert done(host) == ["publish", "publish"]
    assert len(outcome.published) == 3
    assert {path: path.stat().st_mtime_ns for path in two.rglob("*")} == before


def test_published_elsewhere_too_and_gone_from_there_is_no_concern_of_a_build(built: FakeHost) -> None:
    with built.factory() as factory:
        factory.publish(factory.records.releases(NAME)[0], CatalogueTarget(catalogue=str(built.root / "stick")))
    shutil.rmtree(built.root / "stick")
    outcome = built.build()
    assert not outcome.worked
    assert len(outcome.published) == 1


def test_with_new_keys_the_same_content_is_signed_anew(built: FakeHost) -> None:
    remove_keys(built.home)
    remove_trust(built.home)
    make_keys(built.home)
    with built.factory() as factory:
        planned = [action.step for action in factory.plan(built.load()) if action.run]
    assert planned == ["sign", "publish"]
    with pytest.raises(FactoryError) as caught:
        built.build()
    assert caught.value.code == "keys-missing", (
        "the keys of the old catalogue are gone, and its clients trust no others"
    )
    shutil.rmtree(built.settings.catalogue)
    outcome = built.build()
    assert done(built) == ["publish"]
    assert (outcome.release.version_number, outcome.reproduced) == (2, False)
    assert not built.build().worked


class Later(datetime):
    """The clock of somebody who comes when what was signed for an hour has just expired."""

    VALIDITY = timedelta(hours=1)

    @classmethod
    def now(cls, tz: tzinfo | None = None) -> datetime:  # type: ignore[override]
        return datetime.now(tz) + cls.VALIDITY


def test_after_it_expired_the_same_content_is_signed_anew(built: FakeHost, monkeypatch: pytest.MonkeyPatch) -> None:
    rewrite(built, "formats:", "description: other words\nformats:")
    with monkeypatch.context() as short:
        short.setattr(releasing, "EXPIRY", Later.VALIDITY)
        assert built.build(publish=False).release.version_number == 2
    assert not built.build(publish=False).worked
    monkeypatch.setattr(view, "datetime", Later)
    outcome = built.build()
    assert done(built) == ["sign", "publish"]
    assert (outcome.release.version_number, outcome.reproduced) == (3, False)
    assert not built.build().worked


def test_a_step_without_effect_is_not_done_for_ever(built: FakeHost, monkeypatch: pytest.MonkeyPatch) -> None:
    rewrite(built, "formats:", "description: other words\nformats:")
    monkeypatch.setattr(Lookout, "_why_not", lambda *_: "it never does")
    with pytest.raises(StateConflict, match="sign is done and has no effect"):
        built.build()


def test_a_plan_before_there_are_keys(host: FakeHost) -> None:
    remove_keys(host.home)
    remove_trust(host.home)
    with host.factory() as factory:
        assert all(action.run for action in factory.plan(host.load()))


# -- what is kept ------------------------------------------------------------------------------------------------------


def test_a_deleted_publication_is_published_again(built: FakeHost) -> None:
    shutil.rmtree(built.home / "catalogue")
    outcome = built.build()
    assert done(built) == ["publish"]
    assert outcome.build is None
    assert len(builds(built)) == 1
    assert folder(built).is_dir()


def test_a_published_folder_without_its_manifest_is_refused(built: FakeHost) -> None:
    """Nobody repairs a published version in place."""
    (folder(built) / "release.sigstore.json").unlink()
    with pytest.raises(CatalogueConflict, match="holds another release"):
        built.build()
    (release,) = releases(built)
    assert [each.state for each in release.publications] == [PublicationState.FAILED]


def test_a_damaged_publication_fails_to_publish_again(built: FakeHost) -> None:
    (folder(built) / "SHA256SUMS").unlink()
    with built.factory() as factory, pytest.raises(FolderMismatch):
        factory.publish(factory.records.releases(NAME)[0], CatalogueTarget(catalogue=str(built.home / "catalogue")))
    (release,) = releases(built)
    assert [each.state for each in release.publications] == [PublicationState.FAILED]
    shutil.rmtree(folder(built))
    built.build()
    assert done(built) == ["publish"]


def test_an_image_that_was_cut_short_after_publication_is_noticed(built: FakeHost) -> None:
    (image,) = folder(built).glob("*.qcow2")
    os.truncate(image, image.stat().st_size - 1)
    with pytest.raises(DigestMismatch):
        built.build()
    (release,) = releases(built)
    assert [each.state for each in release.publications] == [PublicationState.FAILED]


def test_a_published_link_is_not_the_file(built: FakeHost) -> None:
    (image,) = folder(built).glob("*.qcow2")
    image.rename(built.root / "away.qcow2")
    image.symlink_to(built.root / "away.qcow2")
    with pytest.raises(NotARegularFile):
        built.build()


def test_a_catalogue_that_may_not_be_read(built: FakeHost, monkeypatch: pytest.MonkeyPatch) -> None:
    catalogue, stat, lstat = str(built.home / "catalogue"), os.stat, os.lstat

    def denying(real: Callable[..., os.stat_result]) -> Callable[..., os.stat_result]:
        def called(path: object, **options: object) -> os.stat_result:
            if str(path).startswith(catalogue):
                raise PermissionError(errno.EACCES, "Permission denied", str(path))
            return real(path, **options)

        return called

    monkeypatch.setattr(os, "stat", denying(stat))
    monkeypatch.setattr(os, "lstat", denying(lstat))
    with built.factory() as factory:
        assert [action.step for action in factory.plan(built.load()) if action.run] == ["publish"]
    with pytest.raises(CatalogueUnusable, match="Permission denied"):
        built.build()


@pytest.mark.parametrize(
    ("step", "output", "steps"),
    [
        ("rootfs", "rootfs", ["rootfs"]),
        ("sbom", "sbom", ["sbom"]),
        ("disk", "disk", ["disk"]),
        ("convert", "image", ["convert qcow2"]),
    ],
)
def test_a_deleted_artifact_is_made_again_with_the_same_bytes(
    built: FakeHost, step: str, output: str, steps: list[str]
) -> None:
    with built.factory() as factory:
        (result,) = [one for one in factory.records.results() if one.step == step]
        factory.artifacts.remove(result.outputs[output])
    outcome = built.build()
    assert done(built) == steps
    assert outcome.reproduced
    assert len(releases(built)) == 1
    if step == "rootfs":
        assert reason(built, "rootfs") == "its artifact is not kept any more"


def test_a_damaged_artifact_is_never_signed(built: FakeHost) -> None:
    """The signer hashes for itself what the records believe to know."""
    with built.factory() as factory:
        (result,) = [one for one in factory.records.results() if one.step == "convert"]
        image = factory.artifacts.path(result.outputs["image"])
    image.chmod(0o644)
    with image.open("ab") as stream:
        stream.write(b"x")
    rewrite(built, "formats:", "description: other words\nformats:")
    with pytest.raises(SignerRefused) as caught:
        built.build()
    assert caught.value.code == "provenance-mismatch"
    assert states(built)[-1] == (BuildState.FAILED, "provenance-mismatch")


# -- failing steps -----------------------------------------------------------------------------------------------------

NO_OPENSSL = "E: Unable to locate package openssl\n"
FAILURES: list[tuple[str, str, type[FactoryError], str, list[str]]] = [
    ("disk-image-create", "something broke\n", RootfsFailed, "diskimage-builder failed in root: 08-fake", []),
    ("disk-image-create", NO_OPENSSL, PackageMissing, "no source offers openssl", []),
    ("mke2fs", "mke2fs: bad luck\n", ProgramFailed, "mke2fs ended with status 1", ["rootfs", "sbom"]),
    ("mke2fs", "mke2fs: Could not allocate block in ext2 filesystem\n", DiskTooSmall, "", ["rootfs", "sbom"]),
    ("qemu-img", "qemu-img: no\n", ImageDamaged, "", ["rootfs", "sbom", "disk"]),
    (
        "qemu-system-x86_64",
        "Kernel panic\n",
        BootPanic,
        "uefi: Kernel panic",
        ["rootfs", "sbom", "disk", "convert qcow2"],
    ),
]


@pytest.mark.parametrize(("program", "words", "kind", "text", "before"), FAILURES)
def test_a_failing_step_is_recorded_and_the_next_run_goes_on_from_there(
    host: FakeHost, program: str, words: str, kind: type[FactoryError], text: str, before: list[str]
) -> None:
    host.say(f"fail-{program}", words)
    with pytest.raises(kind) as caught:
        host.build()
    assert text in caught.value.message
    assert caught.value.advice
    assert done(host) == before
    assert states(host) == [(BuildState.FAILED, kind.code)]
    assert releases(host) == []
    assert not (host.home / "catalogue").exists()
    assert list((host.home / "work").iterdir()) == []

    host.unsay(f"fail-{program}")
    outcome = host.build()
    assert (kept(host), done(host)) == (before, STEPS[len(before) :])
    assert states(host) == [(BuildState.FAILED, kind.code), (BuildState.RELEASED, None)]
    assert outcome.release.version_number == 2, "the version of the failed build is not used again"


def test_an_error_shows_the_lines_of_the_log_that_matter(host: FakeHost) -> None:
    host.say("fail-disk-image-create", "first\n\x1b[31mthe last words\x07\n")
    with pytest.raises(RootfsFailed) as caught:
        host.build()
    assert caught.value.lines[-1] == "\ufffd[31mthe last words\ufffd"
    assert caught.value.log is not None
    assert caught.value.log.is_file()


def test_a_mirror_that_is_down_is_found_before_any_version_is_reserved(host: FakeHost) -> None:
    host.say("fail-apt-get", "E: Failed to fetch http://mirror.invalid/InRelease\n")
    with pytest.raises(MirrorUnreachable) as caught:
        host.build()
    assert caught.value.exit_code == 4
    assert builds(host) == []


def test_a_package_that_nobody_offers_is_found_before_any_version_is_reserved(host: FakeHost) -> None:
    rewrite(host, "[openssl]", "[openssl, no-such-package, nor-this]")
    with pytest.raises(PackageMissing, match="no-such-package, nor-this"):
        host.build()
    assert builds(host) == []


@pytest.mark.parametrize(
    ("old", "new", "kind"),
    [
        ("qcow2: {}", "iso: {}", FormatUnsupported),
        ("formats:", "publish: [{cloud: mine, visibility: public}]\nformats:", VisibilityRefused),
        ("formats:", "licensed: BYOL\npublish: [{cloud: a, visibility: community}]\nformats:", VisibilityRefused),
        ("formats:", "properties: {min_ram: 512}\nformats:", PropertyContradicted),
        ("formats:", "properties: {hw_firmware_type: bios}\nformats:", PropertyContradicted),
        ("formats:", "properties: {provided_until: 2999-01-01}\nformats:", SignerRefused),
    ],
)
def test_what_cannot_be_built_is_refused_first(host: FakeHost, old: str, new: str, kind: type[FactoryError]) -> None:
    rewrite(host, old, new)
    with pytest.raises(kind):
        host.build()
    assert builds(host) == []


def test_another_process_works_on_the_same_image(built: FakeHost) -> None:
    with FileLocks(built.home / "locks").name(NAME), pytest.raises(Busy, match=f"another process is working on {NAME}"):
        built.build()


def test_nobody_plans_while_somebody_builds(built: FakeHost) -> None:
    with (
        built.factory() as factory,
        FileLocks(built.home / "locks").name(NAME),
        pytest.raises(Busy, match="is working on"),
    ):
        factory.plan(built.load())


def test_nobody_publishes_while_somebody_cleans_up(built: FakeHost) -> None:
    with (
        built.factory() as factory,
        FileLocks(built.home / "locks").whole(),
        pytest.raises(Busy, match="another process is cleaning up"),
    ):
        factory.publish(factory.records.releases(NAME)[0], CatalogueTarget(catalogue=str(built.root / "stick")))
    assert not (built.root / "stick").exists()


def test_a_lock_of_somebody_else(built: FakeHost) -> None:
    path = built.home / "locks" / f"{NAME}.lock"
    path.unlink()
    path.mkdir()
    with pytest.raises(HomeUnusable, match=f"{NAME}.lock: Is a directory") as caught:
        built.build()
    assert caught.value.advice


def test_a_build_that_died_is_buried(built: FakeHost) -> None:
    with built.factory() as factory:
        dead = factory.records.reserve(NAME, built.recipe_file, "0" * 64, factory.settings.logs)
        factory.records.move_build(dead, BuildState.RUNNING)
        leftover = factory.settings.work / dead.id
        leftover.mkdir()
    assert not built.build().worked
    assert states(built)[-1] == (BuildState.INTERRUPTED, "interrupted")
    assert not leftover.exists()


def test_a_hand_that_dies_without_a_word(host: FakeHost) -> None:
    # SIGTERM: the first process of a namespace hears nothing from inside that it has no handler for.
    (host.root / "bin/mount").write_text("#!/bin/sh\nkill -TERM $PPID\nsleep 5\n")
    (host.root / "bin/mount").chmod(0o755)
    with pytest.raises(HandDied, match="ended with status 143 and without an answer"):
        host.build()
    assert states(host) == [(BuildState.FAILED, HandDied.code)]


@pytest.mark.parametrize(
    ("size", "before"),
    [("1m", []), ("6m", ["rootfs", "sbom"]), ("10m", ["rootfs", "sbom", "disk"]), ("14m", STEPS[:-1])],
    ids=["rootfs", "disk", "convert", "publish"],
)
def test_a_full_disk_and_then_room_again(host: FakeHost, size: str, before: list[str]) -> None:
    """A home that has no room for what a step makes; then the same home with more."""
    host.say("salt", os.urandom(2 << 20).hex())
    small = host.root / "small"
    small.mkdir()
    script = """
        mount -t tmpfs -o size=$1,mode=0700 none "$2" && cp -a "$3/." "$2" || exit 99
        shift 3
        "$@"; echo "status $?" >&2
        mount -o remount,size=512m none "$IMAGEFACTORY_HOME"
        "$@" > /dev/null; echo "status $?" >&2
    """
    become = [] if os.geteuid() == 0 else ["sudo", "-n", "-E"]
    done = subprocess.run(
        [
            *(*become, "unshare", "--mount", "sh", "-c", script, "sh", size, str(small), str(host.home)),
            *(sys.executable, "-m", "tests.fakes.command", "build", "--json", str(host.recipe_file)),
        ],
        env={**host.environ, "IMAGEFACTORY_HOME": str(small)},
        capture_output=True,
        text=True,
        check=False,
    )
    assert "Traceback" not in done.stderr
    assert re.findall("^status [0-9]+$", done.stderr, re.MULTILINE) == ["status 3", "status 0"], done.stderr
    assert json.loads(done.stdout)["error"]["code"] == "disk-full"
    first, second = done.stderr.split("status 3\n")
    assert re.findall(r"^\+ (.+?):", first, re.MULTILINE) == before
    assert re.findall(r"^= (.+?):", second, re.MULTILINE) == before


def test_without_root_and_sudo(host: FakeHost) -> None:
    """Somebody whom sudo asks for a password is told so at once, and nothing is left of it."""
    sudo = host.root / "bin/sudo"
    sudo.write_text("#!/bin/sh\necho 'sudo: a password is required' >&2\nexit 1\n")
    sudo.chmod(0o755)
    become = []
    if os.geteuid() == 0:
        become = ["setpriv", "--reuid=65534", "--regid=65534", "--clear-groups", "--"]
        subprocess.run(["chown", "-R", "65534:65534", "--", host.root], check=True)
        let_others_pass(host.root)
    done = subprocess.run(
        [*become, sys.executable, "-m", "tests.fakes.command", "build", "--json", str(host.recipe_file)],
        env={**host.environ, "PYTHONDONTWRITEBYTECODE": "1"},
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 3, done.stderr
    error = json.loads(done.stdout)["error"]
    assert (error["code"], error["lines"]) == ("no-rights", ["sudo: a password is required"])
    assert "disk-image-create" not in visited(host)
    assert list((host.home / "work").iterdir()) == []


# -- keys and trust ----------------------------------------------------------------------------------------------------


def remove_keys(home: Path) -> None:
    shutil.rmtree(home / "keys")


def open_keys(home: Path) -> None:
    (home / "keys").chmod(0o755)


def open_release_key(home: Path) -> None:
    (home / "keys/release.pem").chmod(0o644)


def damage_metadata(home: Path) -> None:
    (home / "keys/keys.json").write_text("{}")


def damage(name: str) -> Callable[[Path], None]:
    def damaged(home: Path) -> None:
        (home / "keys" / name).write_text("-----BEGIN PRIVATE KEY-----\nnonsense\n")

    return damaged


def remove_release_key(home: Path) -> None:
    (home / "keys/release.pem").unlink()


def swap_keys(home: Path) -> None:
    shutil.copyfile(home / "keys/provenance.pem", home / "keys/release.pem")


def remove_trust(home: Path) -> None:
    (home / "trust.json").unlink()


def damage_trust(home: Path) -> None:
    (home / "trust.json").write_text("{}")


def trust_strangers(home: Path) -> None:
    make_keys(home / "strangers")
    (home / "strangers/trust.json").replace(home / "trust.json")


CASES: list[tuple[Callable[[Path], None], str]] = [
    (remove_keys, KeysMissing.code),
    (open_keys, KeyPermissions.code),
    (damage_metadata, KeyDamaged.code),
    (open_release_key, KeyPermissions.code),
    (remove_release_key, KeysMissing.code),
    (swap_keys, "key-purpose"),
    (damage("release.pem"), KeyDamaged.code),
    (damage("provenance.pem"), KeyDamaged.code),
    (damage("glance.pem"), KeyDamaged.code),
    (damage("glance.crt"), KeyDamaged.code),
    (remove_trust, NoTrustRoot.code),
    (damage_trust, TrustInvalid.code),
    (trust_strangers, KeyUntrusted.code),
]


@pytest.mark.parametrize(("spoil", "code"), CASES, ids=lambda value: getattr(value, "__name__", value))
def test_keys_and_trust_are_looked_at_before_any_work(host: FakeHost, spoil: Callable[[Path], None], code: str) -> None:
    spoil(host.home)
    with pytest.raises((SigningError, SignerRefused)) as caught:
        host.build()
    assert isinstance(caught.value, SigningError | SignerRefused)
    assert caught.value.code == code
    assert caught.value.advice
    assert builds(host) == []
    assert "disk-image-create" not in visited(host)


def visited(host: FakeHost) -> str:
    path = host.control / "visited"
    return path.read_text() if path.exists() else ""


# -- releases ----------------------------------------------------------------------------------------------------------


def test_an_unknown_release(built: FakeHost) -> None:
    with built.factory() as factory, pytest.raises(ReleaseUnknown, match=f"there is no release {NAME}@20200101.1"):
        factory.records.release(ReleaseRef.parse(f"{NAME}@20200101.1"))
