"""The production line of one build: it does one step and records what came of it. It decides nothing."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass, field, replace
from functools import partial
from pathlib import Path
from typing import Any, Protocol

from imagefactory.errors import AcceleratorBroken
from imagefactory.factory.base import fetch, take_apart
from imagefactory.factory.guest_checks import guest_checks
from imagefactory.factory.inputs import Inputs, Measuring
from imagefactory.factory.keep import keep
from imagefactory.model import plan
from imagefactory.model.disk import Firmware
from imagefactory.model.evidence import Evidence
from imagefactory.model.release import Version
from imagefactory.progress import Advance, Note, Progress, StepAdvanced, advancer
from imagefactory.settings import Settings
from imagefactory.steps import convert
from imagefactory.steps.compliance import guest_scan, profile_id
from imagefactory.steps.convert import Converted
from imagefactory.store.artifacts import ArtifactStore
from imagefactory.store.records import Records, build_version
from imagefactory.store.tables import Build, StepResult
from imagefactory.tools import guest_upgrade, qemu_img, scap
from imagefactory.tools.apt import through
from imagefactory.tools.feed_source import FeedFile
from imagefactory.tools.firmware import Accelerator, probe_kvm
from imagefactory.tools.guest_checks import GuestCheck
from imagefactory.tools.guest_scan import GuestScan, make_disk
from imagefactory.tools.guest_upgrade import GuestUpgrade
from imagefactory.tools.hand import call_builder, call_clerk
from imagefactory.tools.inspect import opened
from imagefactory.tools.inventory import MAX_STATUS, read_status
from imagefactory.tools.oscap import MAX_CONTENT
from imagefactory.tools.package_lists import archives, in_releases
from imagefactory.tools.recipe_file import copy_reference
from imagefactory.tools.scap import Kit
from signing.digest import Digests, read_document
from signing.trust import Trust


class BootTest(Protocol):
    """Boots an image under each firmware and returns what that proved: steps.boot_test.boot_test, or a fake."""

    def __call__(
        self,
        image: Path,
        image_format: str,
        *,
        about: str,
        firmware: Sequence[Firmware],
        memory: int,
        timeout: float,
        expect: Sequence[str],
        work: Path,
        logs: Path,
        accelerator: Accelerator,
        environment: Mapping[str, str],
        on_advance: Callable[[str], None],
        own: Sequence[GuestCheck],
        upgrade: GuestUpgrade | None,
        scan: GuestScan | None,
    ) -> Evidence: ...


# tmpfs beside the root file system: package archives, and DIB's own files. It takes memory only as it fills.
SCRATCH_ROOM = 4 << 30


@dataclass(frozen=True)
class Line:
    """One build's tools and papers. `work` is private to it and thrown away after it."""

    inputs: Inputs
    build: Build
    settings: Settings
    records: Records
    artifacts: ArtifactStore
    trust: Trust
    trust_file: Path
    progress: Progress
    boot_test: BootTest
    logged: Mapping[str, str] = field(default_factory=dict)  # SHA-256 of logs that lie elsewhere

    @property
    def work(self) -> Path:
        return self.settings.work / self.build.id

    @property
    def version(self) -> Version:
        return build_version(self.build)

    def log(self, title: str) -> Path:
        """Where a step's output goes, on this host."""
        directory = self.settings.build_logs(self.build.name, str(self.version))
        directory.mkdir(parents=True, exist_ok=True)
        return directory / f"{title.replace(' ', '-')}.log"

    # -- building ------------------------------------------------------------------------------------------------------

    def rootfs(self, in_release: str) -> StepResult:
        """Build the root file system and keep it with the list of its packages. Raises InputsChanged, too."""
        recipe = self.inputs.recipe
        keyrings = self.inputs.copy_keyrings(self.work / "keyrings")
        certificates = self.inputs.copy_certificates(self.work / "ca-certificates")
        unpacked = self._base()
        request = {
            "action": "rootfs",
            "output": str(self.work),
            "log": str(self.log(plan.ROOTFS)),
            **self._isolation(recipe.disk.size + SCRATCH_ROOM),
            "rootfs": {
                "codename": recipe.os.codename,
                "arch": recipe.os.arch,
                "elements": list(self.inputs.asked),
                "elements_path": [str(path) for path in self.inputs.elements_path],
                "packages": list(recipe.packages),
                "environment": dict(recipe.environment),
                "sources": [asdict(source) for source in self.inputs.sources],
                "image_sources": [asdict(source) for source in self.inputs.image_sources],
                "keyrings": {name: str(path) for name, path in keyrings.items()},
                "ca_certificates": [str(path) for path in certificates],
                "proxy": recipe.proxy,
                "standard": self._standard(),
                "base": str(unpacked) if unpacked else None,
            },
        }
        made = self._build(request, plan.ROOTFS)
        self.inputs.check_elements()
        status = Path(made["dpkg_status"])
        packages = read_status(read_document(status, most=MAX_STATUS))
        lists = Path(made["lists"])
        known = archives(lists, packages)
        self._tell_unknown([package.name for package in packages if package not in known])
        outputs = {
            "rootfs": self.keep(Path(made["tar"]), "rootfs").sha256,
            "dpkg_status": self.keep(status, "status").sha256,
        }
        facts = {
            "inputs": self.inputs.rootfs(),
            "packages": [{**asdict(package), "sha256": known.get(package)} for package in packages],
            "in_releases": in_releases(lists, self.inputs.sources),
            "epoch": made["epoch"],
            "in_release": in_release,
            "base": self.inputs.base.facts() if self.inputs.base else None,
        }
        return self.records.remember(self.inputs.rootfs_key(), plan.ROOTFS, recipe.name, outputs, facts)

    def sbom(self, rootfs: StepResult) -> StepResult:
        """List what is in the root file system."""
        recipe = self.inputs.recipe
        digest, epoch = rootfs.outputs["rootfs"], rootfs.facts["epoch"]
        made = self.work / "sbom.cdx.json"
        request = {
            "action": "list",
            "name": recipe.name,
            "os": recipe.os.model_dump(mode="json"),
            "rootfs": str(self.artifacts.require(digest)),
            "digest": digest,
            "epoch": epoch,
            "output": str(made),
        }
        environment, log = self.settings.environment, self.log(plan.SBOM)
        facts = call_clerk(request, environment=environment, log=log, on_advance=self.advancer(plan.SBOM))
        outputs = {"sbom": self.keep(made, "sbom").sha256}
        return self.records.remember(self.inputs.sbom_key(digest, epoch), plan.SBOM, recipe.name, outputs, facts)

    def compliance(self, rootfs: StepResult, measuring: Measuring) -> StepResult:
        """Measure the root file system by the standard that the recipe wants kept."""
        recipe, digest = self.inputs.recipe, rootfs.outputs["rootfs"]
        tailoring = self._tailoring(measuring)
        request = {
            "action": "compliance",
            "rootfs": str(self.artifacts.require(digest)),
            "kit": self._kit(rootfs, measuring).to_json(),
            "profile": measuring.wanted.profile,
            "tailoring": str(tailoring) if tailoring else None,
            "output": str(self.work),
            "log": str(self.log(plan.COMPLIANCE)),
            **self._isolation(recipe.disk.size + SCRATCH_ROOM),
        }
        made = self._build(request, plan.COMPLIANCE)
        outputs = {"report": self.keep(Path(made["report"]), "report").sha256}
        facts = {"scan": made["scan"], "rootfs": digest}
        key = self.inputs.compliance_key(measuring, digest)
        return self.records.remember(key, plan.COMPLIANCE, recipe.name, outputs, facts)

    def vulnerabilities(self, rootfs: StepResult, feed: FeedFile) -> StepResult:
        """Look the packages of the root file system up in the feed that the recipe names."""
        recipe, digest = self.inputs.recipe, rootfs.outputs["rootfs"]
        request = {
            "action": "look-up",
            "status": str(self.artifacts.require(rootfs.outputs["dpkg_status"])),
            "os": recipe.os.model_dump(mode="json"),
            "feed": {**asdict(feed), "path": str(feed.path), "dated": feed.dated.isoformat()},
        }
        environment, log = self.settings.environment, self.log(plan.VULNERABILITIES)
        on_advance = self.advancer(plan.VULNERABILITIES)
        made = call_clerk(request, environment=environment, log=log, on_advance=on_advance)
        facts = {"scan": made["scan"], "rootfs": digest}
        key = self.inputs.vulnerabilities_key(feed, digest)
        return self.records.remember(key, plan.VULNERABILITIES, recipe.name, {}, facts)

    def disk(self, rootfs: StepResult) -> StepResult:
        """Assemble the raw disk."""
        recipe = self.inputs.recipe
        source, epoch = rootfs.outputs["rootfs"], rootfs.facts["epoch"]
        disk_key = self.inputs.disk_key(source, epoch)
        request = {
            "action": "disk",
            "rootfs": str(self.artifacts.require(source)),
            "output": str(self.work / "disk.raw"),
            "log": str(self.log(plan.DISK)),
            # The same root file system gives the same disk, whenever and wherever it is assembled.
            "seed": disk_key,
            "epoch": epoch,
            "layout": {
                "size": recipe.disk.size,
                "firmware": list(recipe.disk.firmware),
                "filesystem": recipe.disk.filesystem,
                "sizes": dict(recipe.disk.sizes) if recipe.disk.layout == "separate" else None,
            },
            **self._isolation(recipe.disk.size + SCRATCH_ROOM),
        }
        made = self._build(request, plan.DISK)
        digests = self.keep(Path(made["disk"]), "disk")
        return self.records.remember(disk_key, plan.DISK, recipe.name, {"disk": digests.sha256}, {"size": digests.size})

    def convert(self, disk: StepResult, image_format: str) -> StepResult:
        """Make one format of the disk."""
        source = self.artifacts.require(disk.outputs["disk"])
        title = f"{plan.CONVERT} {image_format}"
        if image_format == "raw":
            made = convert.examine(source, "raw", environment=self.settings.environment)
        else:
            made = self._convert(source, image_format, title)
            self.keep(made.path, "image", made.digests)
        facts = {
            "format": image_format,
            "sha512": made.digests.sha512,
            "size": made.digests.size,
            "virtual_size": made.virtual_size,
        }
        key = self.inputs.convert_key(disk.outputs["disk"], image_format)
        return self.records.remember(key, plan.CONVERT, self.inputs.recipe.name, {"image": made.digests.sha256}, facts)

    def boot(self, images: Mapping[str, StepResult], rootfs: StepResult) -> StepResult:
        """Boot one format under every firmware, and prove that the others are the same disk."""
        recipe = self.inputs.recipe
        booted = "qcow2" if "qcow2" in images else next(iter(images))
        digest = images[booted].outputs["image"]
        boot = recipe.tests.boot
        prove = partial(
            self.boot_test,
            self.artifacts.require(digest),
            booted,
            about=f"sha256:{digest}",
            firmware=recipe.disk.firmware,
            memory=boot.memory >> 20,
            timeout=float(boot.timeout),
            expect=boot.expect,
            work=self.directory("boot"),
            logs=self.log(plan.BOOT).parent,
            environment=self.settings.environment,
            on_advance=self.advancer(plan.BOOT),
            own=guest_checks(self.inputs.loaded, self.directory("guest-checks")),
            upgrade=self._guest_upgrade(rootfs),
            scan=self._guest_scan(rootfs),
        )
        accelerator = probe_kvm(self.settings.environment)
        try:
            proof = prove(accelerator=accelerator)
        except AcceleratorBroken as broken:
            if accelerator.kind == "tcg":
                raise
            self.progress(Note("warning", f"{broken.message}; booting in software emulation, which takes longer"))
            proof = prove(accelerator=Accelerator("tcg", broken.message))
        evidence = [proof]
        evidence += [self._same_disk(images, booted, other) for other in images if other != booted]
        digests = {name: image.outputs["image"] for name, image in images.items()}
        facts = {"evidence": [piece.to_json() for piece in evidence], "measured": self._measured(rootfs)}
        return self.records.remember(self.inputs.boot_key(digests), plan.BOOT, recipe.name, {}, facts)

    def _base(self) -> Path | None:
        """The image that the recipe starts from, as a tar."""
        base, recipe, scratch = self.inputs.base, self.inputs.recipe, self.directory("base")
        if base is None:
            return None
        environment, logs = self.settings.environment, (self.log("base"), self.log("base clerk"))
        image = fetch(base, self.settings, scratch, through(recipe.proxy, environment), self.progress)
        on_advance = self.advancer(plan.ROOTFS)
        return take_apart(base, image, recipe, scratch, logs=logs, environment=environment, on_advance=on_advance)

    # -- helpers -------------------------------------------------------------------------------------------------------

    def _standard(self) -> tuple[str, str] | None:
        """The SCAP content, and the id of its profile, that an element applies."""
        applied = self.inputs.applied
        if applied is None:
            return None
        # A copy, which nobody changes between here and the element: profile_id sees whether it is what was digested.
        copy = self.work / "content.xml"
        copy.write_bytes(read_document(applied.content.path, most=MAX_CONTENT))
        content = replace(applied.content, path=copy)
        return str(copy), profile_id(content, applied.wanted.profile, self._tailoring(applied))

    def _kit(self, rootfs: StepResult, measuring: Measuring) -> Kit:
        """What measures this system."""
        status = self.artifacts.require(rootfs.outputs["dpkg_status"])
        return scap.fetch(self.settings.scap, measuring.content, status, self.inputs.index(self.settings.environment))

    def _tailoring(self, measuring: Measuring) -> Path | None:
        """A copy of the tailoring file: the bytes that were digested."""
        if measuring.wanted.tailoring is None:
            return None
        copy = self.work / "tailoring.xml"
        copy_reference(self.inputs.loaded, Path(measuring.wanted.tailoring), copy)
        return copy

    def _measured(self, rootfs: StepResult) -> str | None:
        """The key of the measurement that what the guest says belongs to."""
        by = self.inputs.measuring
        return None if by is None else self.inputs.compliance_key(by, rootfs.outputs["rootfs"])

    def _guest_scan(self, rootfs: StepResult) -> GuestScan | None:
        """What the guest is to measure of itself, if a standard is wanted."""
        measuring = self.inputs.measuring
        if measuring is None:
            return None
        kit, tailoring = self._kit(rootfs, measuring), self._tailoring(measuring)
        disk = self.directory("guest-scan") / "scanner.iso"
        scan = guest_scan(disk, kit, measuring.wanted.profile, tailoring)
        if scan is not None:
            make_disk(disk, kit, tailoring, environment=self.settings.environment)
        return scan

    def _guest_upgrade(self, rootfs: StepResult) -> GuestUpgrade | None:
        """What the guest is to install anew, if the recipe wants that."""
        if not self.inputs.recipe.tests.boot.upgrade:
            return None
        status = self.artifacts.require(rootfs.outputs["dpkg_status"])
        index = self.inputs.index(self.settings.environment)
        return guest_upgrade.prepare(self.settings.packages, status, index, self.directory("guest-upgrade"))

    def _tell_unknown(self, names: Sequence[str]) -> None:
        if names:
            text = f"no package list says which archives these came from: {', '.join(names[:5])}"
            rest = f" and {len(names) - 5} more" if len(names) > 5 else ""
            self.progress(Note("warning", f"{text}{rest}; the provenance has no digest of them"))

    def _isolation(self, scratch_size: int) -> dict[str, Any]:
        scratch = self.work / "scratch"
        scratch.mkdir(exist_ok=True)
        return {"scratch": str(scratch), "scratch_size": scratch_size, "hide": [str(self.settings.keys)]}

    def _build(self, request: dict[str, Any], step: str) -> dict[str, Any]:
        return call_builder(
            request,
            environment=self.settings.root_environment,
            log=self.log(f"{step} builder"),
            on_advance=self.advancer(step),
        )

    def _convert(self, source: Path, image_format: str, title: str) -> Converted:
        options = getattr(self.inputs.recipe.formats, image_format)
        return convert.convert(
            source,
            self.work / f"image.{image_format}",
            image_format,
            declared="raw",
            options=qemu_img.Qcow2Options(options.compression, options.cluster_size),
            largest=self.inputs.recipe.disk.size,
            foreign=False,
            environment=self.settings.environment,
            log=self.log(title),
            on_bytes=lambda done, total: self.progress(StepAdvanced(title, done, total, "bytes")),
        )

    def _same_disk(self, images: Mapping[str, StepResult], booted: str, other: str) -> Evidence:
        first, second = (images[name].outputs["image"] for name in (booted, other))
        with opened(self.artifacts.require(first)) as one, opened(self.artifacts.require(second)) as two:
            qemu_img.same_content(one, booted, two, other, self.settings.environment)
        return Evidence("same-disk", f"sha256:{second}", "pass", {"booted": f"sha256:{first}"})

    def keep(self, made: Path, kind: str, digests: Digests | None = None) -> Digests:
        """Keep a file that this build made."""
        return keep(made, kind, self.artifacts, self.records, digests)

    def advancer(self, step: str) -> Advance:
        """Tells the progress what a step is doing."""
        return advancer(self.progress, step)

    def directory(self, name: str) -> Path:
        directory = self.work / name
        directory.mkdir(parents=True, exist_ok=True)
        return directory
