"""Everything that decides what a build gives, and the digests under which results are kept."""

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from hashlib import sha256
from importlib.metadata import version
from pathlib import Path
from typing import Any

from imagefactory.errors import ElementsUnsafe, FormatUnsupported, InputsChanged, NotMeasured
from imagefactory.factory import standard, vulnerabilities
from imagefactory.factory.base import BaseImage, asked, base_of
from imagefactory.factory.claims import refuse_false_claims, refuse_wrong_audience
from imagefactory.model import identity, sbom
from imagefactory.model.packages import Source
from imagefactory.model.recipe import LoadedRecipe, Recipe
from imagefactory.model.recipe_compliance import Compliance
from imagefactory.model.recipe_targets import CatalogueTarget, CloudTarget
from imagefactory.model.recipe_tests import GuestCheck
from imagefactory.progress import Progress, silent
from imagefactory.settings import PLAIN_PATH, Settings
from imagefactory.steps import boot_test, compliance, convert, disk, rootfs
from imagefactory.steps import vulnerabilities as lookup
from imagefactory.tools import elements as element_tools
from imagefactory.tools.apt import ARCHIVE_KEYRING, Index, host_sources, through
from imagefactory.tools.dib import dib_version
from imagefactory.tools.feed_source import FeedFile
from imagefactory.tools.host_packages import versions
from imagefactory.tools.recipe_file import copy_reference
from imagefactory.tools.scap import DataStream, data_stream

BUILD_TOOLS = ("mmdebstrap",)
DISK_TOOLS = ("e2fsprogs", "fdisk", "mtools", "grub-common", "tar")
CONVERT_TOOLS = ("qemu-utils",)
BOOT_TOOLS = ("qemu-system-x86", "ovmf", "seabios")
BUILDABLE = ("raw", "qcow2")
KEYRINGS = "keyrings"
APPLIES_STANDARD = "soe-compliance"  # an element that makes the image keep what it is measured by


@dataclass(frozen=True)
class Measuring:
    """What an image is measured by: what the recipe wants, the content, and the SHA-256 (hex) of its tailoring file."""

    wanted: Compliance
    content: DataStream
    tailoring: str | None

    def inputs(self) -> dict[str, str | None]:
        """What decides how a rule is judged."""
        return {"content": self.content.sha256, "profile": self.wanted.profile, "tailoring": self.tailoring}


@dataclass(frozen=True)
class Inputs:
    """What goes into one build.

    `elements` has every element with its directory. `sources` are used inside the build, `image_sources` stay in the
    image (empty: the distribution's own), `index_sources` are for this host's apt, with its keyrings below
    `index_directory`. `keyrings` has the file of each repository key under the name that its copies have; no path of a
    recipe gets into a source line. `tools` has the versions of the host's programs, `targets` says where releases
    go, by place: catalogue:PATH or glance:CLOUD. `measuring` is what the image is measured by, if a standard is wanted,
    `feed` what its packages are looked up in, if somebody wants that, `base` the image that it starts from, if any.
    """

    loaded: LoadedRecipe
    elements: Mapping[str, Path]
    element_digests: Mapping[str, str]
    elements_path: tuple[Path, ...]
    sources: tuple[Source, ...]
    image_sources: tuple[Source, ...]
    index_sources: tuple[Source, ...]
    index_directory: Path
    keyrings: Mapping[str, Path]
    tools: Mapping[str, str]
    targets: Mapping[str, CatalogueTarget | CloudTarget]
    measuring: Measuring | None
    feed: FeedFile | None
    base: BaseImage | None

    @property
    def recipe(self) -> Recipe:
        return self.loaded.recipe

    @property
    def asked(self) -> tuple[str, ...]:
        """The elements that make the root file system, without those that they depend on."""
        return asked(self.recipe)

    @property
    def applied(self) -> Measuring | None:
        """What the image is measured by, where an element makes it keep that."""
        return self.measuring if APPLIES_STANDARD in self.element_digests else None

    def rootfs(self) -> dict[str, Any]:
        """The inputs of the root file system, each under the name that a plan shows when it changes."""
        recipe = self.recipe
        own = {f"element {name}": digest for name, digest in self.element_digests.items()}
        return {
            **own,
            "os": recipe.os.model_dump(mode="json"),
            **({"base": self.base.sha256, "imagefactory's base step": identity.REVISION} if self.base else {}),
            "elements": list(recipe.elements),
            "packages": list(recipe.packages),
            "environment": dict(recipe.environment),
            "repositories": [source.apt_line() for source in self.image_sources],
            "repository keys": [self.loaded.digests[path] for path in self.keyrings.values()],
            "ca_certificates": [self.loaded.digests[Path(path)] for path in recipe.ca_certificates],
            **({"compliance": self.applied.inputs()} if self.applied else {}),
            "imagefactory's rootfs step": rootfs.REVISION,
            **self._tools(BUILD_TOOLS),
            "diskimage-builder": self.tools["diskimage-builder"],
        }

    def rootfs_key(self) -> str:
        return key("rootfs", {"name": self.recipe.name, **self.rootfs()})

    def sbom_key(self, rootfs_digest: str, epoch: int) -> str:
        own = {"rootfs": rootfs_digest, "epoch": epoch, "os": self.recipe.os.model_dump(mode="json")}
        library = {"cyclonedx-python-lib": version("cyclonedx-python-lib")}
        return key("sbom", {"name": self.recipe.name, **own, **library, "revision": sbom.REVISION})

    def compliance_key(self, measuring: Measuring, rootfs_digest: str) -> str:
        own = {"rootfs": rootfs_digest, "revision": compliance.REVISION}
        return key("compliance", {"name": self.recipe.name, **measuring.inputs(), **own})

    def vulnerabilities_key(self, feed: FeedFile, rootfs_digest: str) -> str:
        said = {"feed": feed.source, "content": feed.sha256, "dated": feed.dated.isoformat()}
        own = {"rootfs": rootfs_digest, "os": self.recipe.os.model_dump(mode="json")}
        return key("vulnerabilities", {"name": self.recipe.name, **own, **said, "revision": lookup.REVISION})

    def disk_key(self, rootfs_digest: str, epoch: int) -> str:
        layout = self.recipe.disk.model_dump(mode="json")
        own = {"rootfs": rootfs_digest, "epoch": epoch, "layout": layout, "revision": disk.REVISION}
        return key("disk", {"name": self.recipe.name, **own, **self._tools(DISK_TOOLS)})

    def convert_key(self, disk_digest: str, image_format: str) -> str:
        options = getattr(self.recipe.formats, image_format).model_dump(mode="json")
        own = {"disk": disk_digest, "format": image_format, "options": options, "revision": convert.REVISION}
        return key("convert", {**own, **self._tools(CONVERT_TOOLS)})

    def boot_key(self, images: Mapping[str, str]) -> str:
        boot = self.recipe.tests.boot
        own = {"images": dict(images), "memory": boot.memory, "expect": list(boot.expect)}
        firmware = list(self.recipe.disk.firmware)
        measured = {"measured": self.measuring.inputs()} if self.measuring else {}
        guest = {"upgrade": boot.upgrade, "guest": [self._own_check(each) for each in self.recipe.tests.guest]}
        revision = {"revision": boot_test.REVISION, **self._tools(BOOT_TOOLS)}
        return key("boot", {**own, "firmware": firmware, **guest, **measured, **revision})

    def _own_check(self, check: GuestCheck) -> dict[str, str | bool | None]:
        script = self.loaded.digests[Path(check.script)] if check.script else None
        return {"name": check.name, "run": check.run, "script": script, "sudo": check.sudo}

    def content_digest(self, images: Mapping[str, str]) -> str:
        return key("content", {"name": self.recipe.name, "recipe": self.loaded.digest, "images": dict(images)})

    def index(self, environment: Mapping[str, str]) -> Index:
        """This host's apt with the sources, the keys and the proxy of the recipe. Raises InputsChanged."""
        self.copy_keyrings(self.index_directory / KEYRINGS)
        return Index(self.index_directory, self.index_sources, through(self.recipe.proxy, environment))

    def copy_keyrings(self, directory: Path) -> dict[str, Path]:
        """Copy the repository keys that were digested to `directory`; returns the copies. Raises InputsChanged."""
        return self._copied({name: (path, name) for name, path in self.keyrings.items()}, directory)

    def copy_certificates(self, directory: Path) -> tuple[Path, ...]:
        """Copy the certificates that were digested to `directory`, in their order. Raises InputsChanged."""
        paths = map(Path, self.recipe.ca_certificates)
        return tuple(self._copied({str(path): (path, path.name) for path in paths}, directory).values())

    def check_elements(self) -> None:
        """Raises InputsChanged unless the elements are still those that were digested."""
        now = element_tools.digests(element_tools.expand(self.asked, self.elements_path))
        if now != self.element_digests:
            differing = {name for name, _ in now.items() ^ self.element_digests.items()}
            raise InputsChanged(f"an element changed while it was built: {', '.join(sorted(differing))}")

    def _copied(self, files: Mapping[str, tuple[Path, str]], directory: Path) -> dict[str, Path]:
        directory.mkdir(parents=True, exist_ok=True)
        for source, name in files.values():
            copy_reference(self.loaded, source, directory / name)
        return {key: directory / name for key, (_, name) in files.items()}

    def _tools(self, names: Sequence[str]) -> dict[str, str]:
        return {name: self.tools.get(name, "not installed") for name in names}


def gather(loaded: LoadedRecipe, settings: Settings, progress: Progress = silent) -> Inputs:
    """Look at the recipe, its elements and this host; change nothing. `progress` is told of what takes long.

    Raises PropertyContradicted, VisibilityRefused, FormatUnsupported, ExceptionExpired, ElementsConflict,
    ElementsUnsafe, NotMeasured, NoMirror, MirrorUnreachable, ContentMissing, ContentInvalid, FeedMissing, FeedTooLarge,
    FeedStale, FeedUnreachable, BaseMissing, BaseChanged, ProgramMissing, and for a base in a cloud what verifying it
    raises.
    """
    recipe = loaded.recipe
    standard.refuse_expired(recipe)
    refuse_false_claims(loaded)
    refuse_wrong_audience(loaded)
    _refuse_what_cannot_be_built(recipe)
    path = element_tools.search_path(loaded.files[0], settings.elements_path)
    for directory in path:
        if PLAIN_PATH.fullmatch(str(directory)) is None:
            raise ElementsUnsafe(
                f"{str(directory)!r} has white space, ':' or characters of the shell in it",
                advice="move the elements to a path of letters, digits and . _ @ + ~ -",
            )
    found = element_tools.expand(asked(recipe), path)
    element_tools.require_safe(found, path)
    if APPLIES_STANDARD in found and recipe.compliance is None:
        raise NotMeasured(f"{recipe.name} has the element {APPLIES_STANDARD}, and wants no standard to be applied")
    index_directory = settings.home / "apt" / recipe.name
    named = _repositories(loaded, rootfs.KEYRINGS)
    indexed = _repositories(loaded, index_directory / KEYRINGS)
    environment = settings.environment
    installed = versions([*BUILD_TOOLS, *DISK_TOOLS, *CONVERT_TOOLS, *BOOT_TOOLS], environment)
    targets = recipe.publish or (CatalogueTarget(catalogue=str(settings.catalogue)),)
    mirrors = () if named else host_sources(recipe.os.codename, environment)
    return Inputs(
        loaded=loaded,
        elements=found,
        element_digests=element_tools.digests(found),
        elements_path=path,
        sources=named or mirrors,
        image_sources=named,
        index_sources=indexed or mirrors,
        index_directory=index_directory,
        keyrings=_keyrings(loaded),
        tools={**installed, "diskimage-builder": dib_version()},
        targets={str(target.place): target for target in targets},
        measuring=_measuring(loaded, settings),
        feed=vulnerabilities.feed_of(loaded, settings, progress),
        base=base_of(loaded, settings),
    )


def _measuring(loaded: LoadedRecipe, settings: Settings) -> Measuring | None:
    wanted = loaded.recipe.compliance
    if wanted is None:
        return None
    own = Path(wanted.content) if wanted.content else None
    content = data_stream(settings.scap, loaded.recipe.os.codename, own, settings.environment)
    if own is not None and content.sha256 != loaded.digests[own]:
        raise InputsChanged(f"{own} changed after the recipe was read")
    return Measuring(wanted, content, loaded.digests[Path(wanted.tailoring)] if wanted.tailoring else None)


def key(step: str, inputs: Mapping[str, Any]) -> str:
    """SHA-256 of canonical JSON: the name under which a step's result is kept."""
    canonical = json.dumps({"step": step, **inputs}, sort_keys=True, separators=(",", ":"))
    return sha256(canonical.encode()).hexdigest()


def _refuse_what_cannot_be_built(recipe: Recipe) -> None:
    for image_format in recipe.formats.names:
        if image_format not in BUILDABLE:
            raise FormatUnsupported(f"{recipe.name} wants {image_format}")


def _keyrings(loaded: LoadedRecipe) -> dict[str, Path]:
    """Each repository key of the recipe under the name that its copies get."""
    paths = {
        Path(repository.signed_by)
        for repository in loaded.recipe.repositories
        if repository.signed_by is not None and repository.signed_by != ARCHIVE_KEYRING
    }
    return {_keyring_name(loaded, path): path for path in sorted(paths)}


def _keyring_name(loaded: LoadedRecipe, path: Path) -> str:
    return f"{loaded.digests[path][:16]}{path.suffix}"


def _repositories(loaded: LoadedRecipe, keyrings: Path) -> tuple[Source, ...]:
    """The repositories of the recipe, with the copies of their keys in the directory `keyrings`."""

    def signed_by(path: str | None) -> str:
        if path is None or path == ARCHIVE_KEYRING:
            return ARCHIVE_KEYRING
        return str(keyrings / _keyring_name(loaded, Path(path)))

    return tuple(
        Source(each.uri, each.suite, tuple(each.components), signed_by(each.signed_by))
        for each in loaded.recipe.repositories
    )
