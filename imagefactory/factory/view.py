"""Looking: what the mirrors have, and what is there already of one recipe."""

import stat
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from imagefactory.factory.inputs import Inputs
from imagefactory.model import plan
from imagefactory.model.build import PublicationState
from imagefactory.model.packages import Change
from imagefactory.model.plan import Situation
from imagefactory.model.release import sbom_file
from imagefactory.model.target import CloudPlace, parse_place
from imagefactory.store.artifacts import ArtifactStore
from imagefactory.store.records import Records, release_version
from imagefactory.store.tables import Release, StepResult
from imagefactory.tools.catalogue import Catalogue
from signing.digest import read_document
from signing.envelope import parse_bundle
from signing.errors import SigningError
from signing.manifest import MANIFEST_FILE, PROVENANCE_FILE
from signing.trust import Trust
from signing.verify import verify_manifest


@dataclass(frozen=True)
class Packages:
    """What the mirrors say now: the digest of their InRelease files, and what would change in the kept root file
    system."""

    in_release: str
    changes: tuple[Change, ...]


@dataclass(frozen=True)
class View:
    """What is there for one recipe. `situation` is the same, as the plan sees it."""

    rootfs: StepResult | None
    sbom: StepResult | None
    compliance: StepResult | None
    vulnerabilities: StepResult | None
    disk: StepResult | None
    images: Mapping[str, StepResult]
    boot: StepResult | None
    release: Release | None
    situation: Situation


@dataclass(frozen=True)
class Lookout:
    """Looks at the records, the artifacts and the catalogues."""

    records: Records
    artifacts: ArtifactStore
    near: bool = True  # the catalogues are on this host

    def packages(self, inputs: Inputs, environment: Mapping[str, str]) -> Packages:
        """Ask the mirrors. Raises MirrorUnreachable, PackageMissing."""
        index = inputs.index(environment)
        in_release = index.refresh()
        known = self._known_rootfs(inputs)
        if known is None:
            index.require(inputs.recipe.packages)
            return Packages(in_release, ())
        if known.facts["in_release"] == in_release:
            return Packages(in_release, ())
        changes = index.changes(self.artifacts.require(known.outputs["dpkg_status"]))
        if not changes:
            facts = {**known.facts, "in_release": in_release}
            self.records.remember(known.key, known.step, known.name, known.outputs, facts)
        return Packages(in_release, changes)

    def _known_rootfs(self, inputs: Inputs) -> StepResult | None:
        return self._kept(self.records.result(inputs.rootfs_key()))

    def _kept(self, result: StepResult | None) -> StepResult | None:
        """A result whose artifacts are still in the store."""
        if result is None or not all(map(self.artifacts.has, result.outputs.values())):
            return None
        return result

    def view(
        self,
        inputs: Inputs,
        packages: Packages,
        trust: Trust | None,
        fresh: bool,
        done: frozenset[str],
        publish: bool,
    ) -> View:
        """Look at everything that a plan wants to know. Changes nothing."""
        rootfs = self._known_rootfs(inputs)
        changes = () if plan.ROOTFS in done else packages.changes
        why = plan.why_rootfs(
            inputs.rootfs(), rootfs.facts if rootfs else None, self._last_inputs(inputs.recipe.name), changes
        )
        content = (rootfs.outputs["rootfs"], rootfs.facts["epoch"]) if rootfs else None
        sbom = self._kept(self.records.result(inputs.sbom_key(*content)) if content else None)
        by, feed = inputs.measuring, inputs.feed
        compliance = self._kept(self.records.result(inputs.compliance_key(by, content[0])) if content and by else None)
        scanned = self.records.result(inputs.vulnerabilities_key(feed, content[0])) if content and feed else None
        disk = self._kept(self.records.result(inputs.disk_key(*content)) if content else None)
        formats = {
            name: self._kept(self.records.result(inputs.convert_key(disk.outputs["disk"], name))) if disk else None
            for name in inputs.recipe.formats.names
        }
        images = {name: result for name, result in formats.items() if result is not None}
        digests = {name: result.outputs["image"] for name, result in images.items()}
        whole = len(images) == len(formats)
        boot = self.records.result(inputs.boot_key(digests)) if whole else None
        release, unsigned = self._release(inputs, digests, trust) if whole and trust is not None else (None, None)
        return View(
            rootfs,
            sbom,
            compliance,
            scanned,
            disk,
            images,
            boot,
            release,
            Situation(
                rootfs=why,
                rootfs_kept="inputs unchanged, and no package has a newer version",
                sbom=sbom is not None,
                compliance=compliance is not None if by else None,
                vulnerabilities=scanned is not None if feed else None,
                disk=disk is not None,
                formats={name: result is not None for name, result in formats.items()},
                boot=boot is not None,
                released=f"{release.name}@{release_version(release)}" if release else None,
                targets={place: self._is_published(release, place) for place in inputs.targets} if publish else {},
                fresh=fresh,
                done=done,
                unsigned=unsigned,
                base=inputs.base.text if inputs.base else None,
            ),
        )

    def _last_inputs(self, name: str) -> Mapping[str, Any] | None:
        """What went into the last root file system of `name`, whether it is kept or not."""
        mine = (one for one in self.records.results() if one.step == plan.ROOTFS and one.name == name)
        newest = next(mine, None)
        return newest.facts["inputs"] if newest else None

    def _release(self, inputs: Inputs, digests: Mapping[str, str], trust: Trust) -> tuple[Release | None, str | None]:
        """The newest release of this content that is whole and would verify now, or why the newest one does not."""
        content = inputs.content_digest(digests)
        newest: str | None = None
        for one in self.records.releases(inputs.recipe.name):
            if one.content_digest == content:
                why = self._why_not(one, trust)
                if why is None:
                    return one, None
                newest = newest or why
        return None, newest

    def _why_not(self, release: Release, trust: Trust) -> str | None:
        """Why a release does not count, so that the same content is to be signed anew, as another version."""
        ref = f"{release.name}@{release_version(release)}"
        if sbom_file(release.name, release_version(release)) not in release.files:
            return f"{ref} is of a time without bills of materials"
        if not all(map(self.artifacts.has, release.files.values())):
            return f"files of {ref} are gone"
        manifest, provenance = (
            self.artifacts.require(release.files[name]) for name in (MANIFEST_FILE, PROVENANCE_FILE)
        )
        try:
            for path, purpose in ((manifest, "release"), (provenance, "provenance")):
                keyid = parse_bundle(read_document(path)).keyid
                if trust.purpose_of(keyid) != purpose:
                    return f"the {purpose} key of {ref}, {keyid[:16]}, is no longer trusted"
                trust.require_name(keyid, release.name)
            verify_manifest(read_document(manifest), trust, now=datetime.now(UTC), name=release.name)
            parse_bundle(read_document(provenance)).open(trust.provenance)
        except SigningError as error:
            return f"{ref} does not verify any more: {error.message}"
        return None

    def _is_published(self, release: Release | None, target: str) -> bool:
        """Recorded as verified there. In a catalogue every file still has its size, too; to read them all, or to ask a
        cloud, takes too long here."""
        if release is None or not any(
            each.target == target and each.state == PublicationState.VERIFIED for each in release.publications
        ):
            return False
        place = parse_place(target)
        if isinstance(place, CloudPlace) or not self.near:
            return True
        folder = Catalogue(place.root).folder(release.name, release_version(release))
        try:
            return all(
                _regular_size(folder / name) == self.artifacts.size(digest) for name, digest in release.files.items()
            )
        except OSError:  # whoever publishes says why, with a code
            return False


def _regular_size(path: Path) -> int | None:
    status = path.lstat()
    return status.st_size if stat.S_ISREG(status.st_mode) else None
