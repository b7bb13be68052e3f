"""The recipe: everything that one image is made from, frozen and validated. It touches nothing.

    name, display_name, description     what it is called
    os                                  what it is
    base                                what it starts from (default: nothing)
    repositories, proxy                 where packages come from (default: as the host's apt)
    ca_certificates, elements, packages, environment        what goes into it
    disk, formats                       what it looks like
    tests, compliance, vulnerabilities  what it must prove
    properties, licensed, publish       how it appears elsewhere
    channels, requires_approval, lifecycle, in_use_cloud    how its releases come and go
    schedule                            when it is built again by itself

A key that is not here is refused. The paths in a `Recipe` are absolute if `imagefactory.tools.recipe_file` read it.
Attribute docstrings are the descriptions in the JSON schema.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from types import MappingProxyType
from typing import Annotated, Any, Literal

from pydantic import (
    AfterValidator,
    BeforeValidator,
    ConfigDict,
    Field,
    PlainSerializer,
    ValidationInfo,
    field_validator,
    model_validator,
)
from pydantic.json_schema import GenerateJsonSchema

from imagefactory.errors import Place
from imagefactory.model import mounts
from imagefactory.model.lifecycle import STABLE
from imagefactory.model.mounts import Layout
from imagefactory.model.quantity import (
    KIB,
    MIB,
    TIB,
    Between,
    Size,
    format_size,
    refusal,
    shown,
)
from imagefactory.model.recipe_base import Base
from imagefactory.model.recipe_compliance import Compliance
from imagefactory.model.recipe_fields import (
    Component,
    ElementName,
    FilePath,
    Items,
    KeyringPath,
    Line,
    PackageName,
    Part,
    Properties,
    Prose,
    ProxyUrl,
    RepositoryUrl,
    Slug,
    Suite,
    Unique,
    Variables,
    keys_at,
)
from imagefactory.model.recipe_lifecycle import Approvals, Channels, InUseCloud, LifecyclePolicy, RecipeLife
from imagefactory.model.recipe_schedule import Schedule
from imagefactory.model.recipe_targets import Target
from imagefactory.model.recipe_tests import BootTest, GuestCheck, Tests
from imagefactory.model.recipe_vulnerabilities import Vulnerabilities


def _supported(arch: object) -> object:
    if isinstance(arch, str) and arch != "amd64":
        raise refusal("arch-unsupported", f"{shown(arch)}: images are made for amd64 only")
    return arch


# Of each release of Debian that is built, by its version.
CODENAMES: Mapping[str, Literal["bookworm", "trixie"]] = MappingProxyType({"12": "bookworm", "13": "trixie"})


class OperatingSystem(Part):
    """The operating system of the image."""

    distro: Literal["debian"]
    """The distribution, as Glance's os_distro names it."""
    version: Literal["12", "13"]
    """The version, as text in quotes."""
    codename: Literal["bookworm", "trixie"] = Field(default_factory=lambda known: CODENAMES[known["version"]])
    """The codename that belongs to the version. Default: that one."""
    arch: Annotated[Literal["amd64"], BeforeValidator(_supported)] = "amd64"
    """The architecture, as Debian names it."""

    @field_validator("codename")
    @classmethod
    def _belongs_to_the_version(cls, value: str, info: ValidationInfo) -> str:
        version = info.data.get("version")
        if version is not None and value != CODENAMES[version]:
            raise refusal("recipe-invalid", f"should be {CODENAMES[version]}, which is Debian {version}")
        return value


class Repository(Part):
    """A repository of Debian packages."""

    uri: RepositoryUrl
    """Its address: http or https, without user name and password."""
    suite: Suite
    """The suite, such as bookworm or bookworm-security."""
    components: Annotated[Items[Component], Unique(at_least=1)]
    """The components, such as main."""
    signed_by: KeyringPath | None = None
    """The keys that may sign it: a .asc or .gpg file, absolute or from the folder of this file. Default: Debian's."""


def _with_file_systems(sizes: Mapping[str, int]) -> Mapping[str, int]:
    wrong = mounts.misnamed(sizes)
    if wrong is not None:
        raise refusal("recipe-invalid", wrong)
    return MappingProxyType(dict(sizes))


Sizes = Annotated[
    Mapping[str, Annotated[Size, Between(mounts.SMALLEST, 2 * TIB, format_size, multiple=MIB)]],
    Field(
        max_length=len(mounts.SEPARATE),
        json_schema_extra={"propertyNames": {"enum": [m.path for m in mounts.SEPARATE]}},
    ),
    AfterValidator(_with_file_systems),
    PlainSerializer(lambda sizes: {path: format_size(size) for path, size in sizes.items()}),
]


class Disk(Part):
    """The disk of the image."""

    size: Annotated[Size, Between(512 * MIB, 2 * TIB, format_size, multiple=MIB)]
    """The virtual size: 512 MiB to 2 TiB, in whole MiB. An instance may have more and grows into it."""
    firmware: Annotated[Items[Literal["bios", "uefi"]], Unique(at_least=1)] = ("bios", "uefi")
    """The firmware that it must boot under."""
    filesystem: Literal["ext4"] = "ext4"
    """The root file system, and any other."""
    layout: Layout = "single"
    """single: one file system. separate: /boot, /usr, /var, /tmp, /home and more have their own, as ANSSI wants it."""
    sizes: Sizes = Field(default_factory=lambda: MappingProxyType({}))
    """For separate: sizes of file systems by directory, such as /var. Default: the content and some free space."""

    @model_validator(mode="after")
    def _sizes_fit(self) -> "Disk":
        if self.sizes and self.layout != "separate":
            raise refusal("recipe-invalid", "has sizes, which only the layout separate has a use for")
        taken = sum(self.sizes.values())
        if taken >= self.size:
            raise refusal(
                "recipe-invalid", f"sizes are {format_size(taken)} in all, on a disk of {format_size(self.size)}"
            )
        return self


class RawOptions(Part):
    """A raw image has no options."""


class Qcow2Options(Part):
    """How a qcow2 is written."""

    compression: Literal["zstd", "zlib", "none"] = "zstd"
    """zstd needs qemu 5.1 to read; zlib is read by all and takes longer."""
    cluster_size: Annotated[Size, Between(4 * KIB, 2 * MIB, format_size, power_of_two=True)] = 64 * KIB
    """The unit of allocation: a power of two from 4 KiB to 2 MiB."""


class IsoOptions(Part):
    """An ISO image has no options."""


class Formats(Part):
    """The files to make. A format with nothing after it has its defaults."""

    model_config = ConfigDict(json_schema_extra={"minProperties": 1})

    raw: RawOptions | None = None
    """A raw disk image."""
    qcow2: Qcow2Options | None = None
    """A qcow2 disk image."""
    iso: IsoOptions | None = None
    """A bootable ISO image."""

    @model_validator(mode="before")
    @classmethod
    def _nothing_means_defaults(cls, value: object) -> object:
        if not isinstance(value, dict):
            return value
        return {key: {} if options is None else options for key, options in value.items()}

    @model_validator(mode="after")
    def _at_least_one(self) -> "Formats":
        if not self.names:
            raise refusal("recipe-invalid", "should have at least one of raw, qcow2, iso")
        return self

    @property
    def names(self) -> tuple[str, ...]:
        """The formats that are asked for, in the order raw, qcow2, iso."""
        return tuple(name for name in ("raw", "qcow2", "iso") if getattr(self, name) is not None)


class Recipe(Part):
    """One image."""

    name: Slug
    """The name of the image and of its releases, NAME@VERSION."""
    display_name: Annotated[Line, Field(max_length=239)] | None = None
    """The name that people see, at most 239 characters: Glance takes 255, and VERSION stands behind it. Default: the
    name."""
    description: Prose | None = None
    """What the image is for."""
    os: OperatingSystem
    """The operating system."""
    base: Base | None = None
    """The image that it starts from. Default: none, it is built from packages alone."""
    repositories: Items[Repository] = ()
    """Where packages come from. Default: the mirrors that the host's apt uses."""
    proxy: ProxyUrl | None = None
    """An http or https proxy for the packages, without user name and password. It does not stay in the image."""
    ca_certificates: Annotated[Items[FilePath], Unique()] = ()
    """PEM files of certificate authorities that the image trusts, absolute or from the folder of this file."""
    elements: Annotated[Items[ElementName], Unique(at_least=1)]
    """The diskimage-builder elements that make the root file system."""
    packages: Annotated[Items[PackageName], Unique()] = ()
    """Debian packages to install, besides those that the elements install."""
    environment: Variables = Field(default_factory=lambda: MappingProxyType({}))
    """Variables for the elements. Never secrets: the recipe is published."""
    disk: Disk
    """The disk."""
    formats: Formats
    """The files to make, at least one."""
    tests: Tests = Tests()
    """What the image must prove."""
    compliance: Compliance | None = None
    """The standard that it must keep. Default: it is not measured."""
    vulnerabilities: Vulnerabilities | None = None
    """The known vulnerabilities that it may have. Default: nobody looks for them."""
    properties: Properties = Field(default_factory=lambda: MappingProxyType({}))
    """Glance properties that no test can find out, at most 80. docs/reference/properties.md has them all."""
    licensed: Line | None = None
    """Why the image may not be given to everybody, such as a licence: it is never public or community."""
    publish: Items[Target] = ()
    """Where releases go. Default: the built-in catalogue."""
    channels: Channels = (STABLE,)
    """The channels that a release passes, the last of which is `stable`. A new one begins on the first."""
    requires_approval: Approvals = 0
    """How many accounts, besides the one that promotes, have to approve a release before it comes to `stable`."""
    lifecycle: LifecyclePolicy | None = None
    """When old releases leave. Default: they stay, hidden, as long as nobody says otherwise."""
    in_use_cloud: InUseCloud | None = None
    """The cloud of clouds.yaml whose credentials see all servers and volumes, or CLOUD: SEEN-WITH for several."""
    schedule: Schedule | None = None
    """When it is built again by itself, where the service runs. Default: when somebody asks for it."""

    @property
    def life(self) -> RecipeLife:
        """How its releases come and go."""
        return RecipeLife(
            channels=self.channels,
            requires_approval=self.requires_approval,
            lifecycle=self.lifecycle,
            in_use_cloud=self.in_use_cloud,
        )


@dataclass(frozen=True)
class LoadedRecipe:
    """A recipe as it was read.

    `files` is every file that was read, the recipe first, then what it extends, then the files that it names;
    `digests` has the SHA-256 (hex) of each. `digest` is the SHA-256 (hex) of the whole: the merged recipe as canonical
    JSON, with the contents of the files that it names in place of their paths; `document` is that JSON, which holds no
    path but those that somebody wrote. `places` says where each value is written.
    """

    recipe: Recipe
    files: tuple[Path, ...]
    digest: str
    digests: Mapping[Path, str] = field(repr=False, compare=False, default_factory=dict)
    places: Mapping[tuple[str | int, ...], Place] = field(repr=False, compare=False, default_factory=dict)
    document: Mapping[str, Any] = field(repr=False, compare=False, default_factory=dict)

    def where(self, *path: str | int) -> Place | None:
        """Where `path`, such as ("formats", "iso"), is written, or else the nearest mapping or list around it."""
        return next((self.places[path[:n]] for n in range(len(path), -1, -1) if path[:n] in self.places), None)


def effective(recipe: Recipe) -> dict[str, Any]:
    """The recipe with every default filled in, ready for JSON and for `Recipe.model_validate`."""
    return recipe.model_dump(mode="json", exclude_none=True)


def known_keys(path: Sequence[str | int]) -> tuple[str, ...]:
    """The keys that may stand in the mapping at `path`, such as ("disk",); () is the top."""
    keys = keys_at(Recipe, path)
    return keys if path else (*keys, "extends")


def recipe_schema() -> dict[str, Any]:
    """The JSON Schema (2020-12) of a recipe, for editors. Loading checks more than a schema can say."""
    schema = Recipe.model_json_schema()
    schema["properties"]["extends"] = {
        "type": "string",
        "minLength": 1,
        "description": "Another recipe, from the folder of this file. Mappings are merged and this file wins; lists "
        "are replaced; a null removes.",
    }
    for model in (
        BootTest(),
        GuestCheck(name="a", run="true"),
        Qcow2Options(),
        LifecyclePolicy(),
        Schedule(cron="0 2 * * *"),
    ):
        for key, value in model.model_dump(mode="json").items():
            field = schema["$defs"][type(model).__name__]["properties"][key]
            if "default" in field:
                field["default"] = value  # as people write it, with its unit
    # What a recipe that extends another leaves out comes from there.
    required = schema.pop("required")
    schema["anyOf"] = [{"required": ["extends"]}, {"required": required}]
    return {"$schema": GenerateJsonSchema.schema_dialect, **schema, "title": "imagefactory recipe"}
