"""Where a recipe publishes to, and what has to hold there."""

from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Annotated, Literal, TypeAlias

from pydantic import Discriminator, Field, Tag, model_validator

from imagefactory.model.quantity import GIB, KIB, Between, Rate, format_rate, refusal
from imagefactory.model.recipe_fields import CloudName, FilePath, ImageTag, Items, KeystoneId, Part, Unique
from imagefactory.model.target import CataloguePlace, CloudPlace

Visibility: TypeAlias = Literal["private", "shared", "community", "public"]
CloudFormat: TypeAlias = Literal["qcow2", "raw"]


class CatalogueTarget(Part):
    """Publish to a catalogue."""

    catalogue: FilePath
    """Its folder, absolute or from the folder of this file."""

    @property
    def place(self) -> CataloguePlace:
        return CataloguePlace(Path(self.catalogue))


class CloudTarget(Part):
    """Publish to a cloud's Glance."""

    cloud: CloudName
    """The cloud, as clouds.yaml names it. Each may be named once."""
    format: CloudFormat | None = None
    """Which of the formats goes there. Default: raw for rbd; otherwise qcow2, if it is made, or else raw."""
    store: Literal["rbd", "other"] = "other"
    """Where the Glance there keeps its images. Machines start from rbd at once, without a copy, if the image is raw."""
    visibility: Visibility = "private"
    """Who sees the image there."""
    allow_public: bool = False
    """Has to be true for an image that everybody sees."""
    members: Annotated[Items[KeystoneId], Unique(), Field(max_length=100)] = ()
    """Ids of the projects that the image is shared with, if visibility is shared."""
    owner: KeystoneId | None = None
    """Id of the project that owns the image, which takes an administrator. Default: the project of the credentials."""
    tags: Annotated[Items[ImageTag], Unique(), Field(max_length=50)] = ()
    """Tags of the image there."""
    protected: bool = False
    """Whether Glance refuses to delete the image."""
    certificate_readers: Annotated[Items[KeystoneId], Unique(), Field(max_length=100)] = ()
    """Ids of the users, besides those of the project, who may read the certificate of the signature in Barbican."""
    bandwidth: Annotated[Rate, Between(KIB, 100 * GIB, format_rate)] | None = None
    """How fast to upload at most, such as 20 MiB/s. Default: as fast as it goes."""

    @property
    def place(self) -> CloudPlace:
        return CloudPlace(self.cloud)

    @model_validator(mode="after")
    def _members_share(self) -> "CloudTarget":
        if self.members and self.visibility != "shared":
            raise refusal("recipe-invalid", f"members mean nothing where visibility is {self.visibility}, not shared")
        return self


def _target(value: object) -> str | None:
    if isinstance(value, CatalogueTarget):
        return "a catalogue"
    if isinstance(value, CloudTarget):
        return "a cloud"
    if not isinstance(value, dict) or ("catalogue" in value) == ("cloud" in value):
        return None
    return "a catalogue" if "catalogue" in value else "a cloud"


Target = Annotated[
    Annotated[CatalogueTarget, Tag("a catalogue")] | Annotated[CloudTarget, Tag("a cloud")],
    Discriminator(
        _target,
        custom_error_type="recipe-invalid",
        custom_error_message="should have either catalogue: PATH or cloud: NAME",
    ),
]


def format_for(target: CloudTarget, formats: Sequence[str]) -> str | None:
    """Which of the `formats` that are made goes to the cloud, or None if none can."""
    wanted = ("raw",) if target.store == "rbd" else ("qcow2", "raw")
    return next((each for each in wanted if each in formats and target.format in {None, each}), None)


def visibility_refusal(target: CloudTarget, licensed: str | None, *, development: bool = False) -> str | None:
    """Why the image may not be seen by whom `target` says, or None if it may. `licensed` is the recipe's reason,
    `development` whether a release is signed with development keys."""
    everybody = target.visibility in ("public", "community")
    if everybody and licensed is not None:
        return f"visibility {target.visibility} is not for licensed images: {licensed}"
    if everybody and development:
        return f"visibility {target.visibility} is not for releases that are signed with development keys"
    if target.visibility == "public" and not target.allow_public:
        return "visibility public wants allow_public: true beside it"
    return None


def misfits(targets: Sequence[CatalogueTarget | CloudTarget], formats: Sequence[str]) -> Iterator[tuple[int, str, str]]:
    """What does not fit together: the index of the target, the key, and what is wrong, for people."""
    seen = set[str]()
    for index, target in enumerate(targets):
        if not isinstance(target, CloudTarget):
            continue
        if target.cloud in seen:
            yield index, "cloud", f"{target.cloud} is a target already"
        seen.add(target.cloud)
        if target.store == "rbd" and target.format == "qcow2":
            yield index, "format", "should be raw, as store rbd wants it"
        elif target.store == "rbd" and "raw" not in formats:
            yield index, "store", f"rbd wants raw, which is not among the formats that are made: {', '.join(formats)}"
        elif format_for(target, formats) is None:
            yield index, "format", f"should be one of the formats that are made: {', '.join(formats)}"
