"""The image that a recipe starts from: which one it is, where it lies, and what is in it."""

import os
import tempfile
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Literal

from imagefactory.errors import BaseChanged, BaseMissing, BaseTooLarge, BaseUnreachable
from imagefactory.model.recipe import LoadedRecipe, Recipe
from imagefactory.model.recipe_base import MOST_FILE, Base, is_in_cloud
from imagefactory.progress import Advance, Meter, Note, Progress
from imagefactory.settings import Settings
from imagefactory.steps.verify import Expectation
from imagefactory.tools.download import Refusals, download
from imagefactory.tools.durable import held
from imagefactory.tools.hand import call_clerk
from imagefactory.tools.inspect import opened
from signing.digest import hash_stream
from signing.errors import SigningError
from signing.trust import load_trust

FROM_IMAGE = "soe-from-image"  # the element that unpacks it
FETCH_TIMEOUT = 4 * 3600.0  # seconds
_REFUSALS = Refusals(BaseTooLarge, BaseUnreachable)


@dataclass(frozen=True)
class BaseImage:
    """An image to start from: `source` is what the recipe writes of it, or glance:CLOUD/ID, `where` is where to find
    it, `sha256` (hex) is pinned, and `release` (NAME@VERSION) is what an image in a cloud was verified to be."""

    kind: Literal["file", "address", "cloud"]
    source: str
    where: str
    sha256: str
    release: str | None = None

    @property
    def text(self) -> str:
        """For people."""
        also = f", which is {self.release}," if self.release else ""
        return f"{self.source}{also} sha256:{self.sha256[:12]}"

    def facts(self) -> dict[str, str]:
        """For the records, and for the provenance: `name` is the last part of where it lay."""
        name = self.source.rstrip("/").rpartition("/")[2] or self.source
        release = {"release": self.release} if self.release else {}
        return {"kind": self.kind, "name": name, "source": self.source, "sha256": self.sha256, **release}


def asked(recipe: Recipe) -> tuple[str, ...]:
    """The elements that a recipe names, and the one that its base wants."""
    return recipe.elements if recipe.base is None else tuple(dict.fromkeys((*recipe.elements, FROM_IMAGE)))


def base_of(loaded: LoadedRecipe, settings: Settings) -> BaseImage | None:
    """The image that the recipe starts from, if any. One in a cloud is verified, all but its data.

    Raises BaseMissing, BaseChanged, and what verifying raises.
    """
    wanted = loaded.recipe.base
    if wanted is None:
        return None
    if is_in_cloud(wanted.image):
        return _in_cloud(wanted, settings)
    assert wanted.sha256 is not None  # noqa: S101 - or else no recipe has it
    if not wanted.is_file:
        return BaseImage("address", wanted.image, wanted.image, wanted.sha256)
    path = Path(os.path.realpath(wanted.image))
    try:
        with opened(path):
            pass
    except SigningError as why:
        raise BaseMissing(f"the base cannot be read: {why.message}") from None
    return BaseImage("file", loaded.document["base"]["image"], str(path), wanted.sha256)


def fetch(base: BaseImage, settings: Settings, work: Path, environment: Mapping[str, str], progress: Progress) -> Path:
    """The file of a base, which nobody has looked into yet; one from a cloud lies below `work` then.

    Raises BaseChanged, BaseTooLarge, BaseUnreachable, ProgramMissing, DiskFull, and for a cloud what verifying raises.
    """
    if base.kind == "address":
        return _fetched(base, settings.bases, environment, progress)
    if base.kind == "cloud":
        return _downloaded(base, settings, work / "base.image", progress)
    return Path(base.where)


def take_apart(
    base: BaseImage,
    image: Path,
    recipe: Recipe,
    work: Path,
    *,
    logs: tuple[Path, Path],
    environment: Mapping[str, str],
    on_advance: Advance,
) -> Path:
    """Have the clerk make a tar below `work` of what is in `image`; `logs` are for the programs and for the clerk.

    Raises what steps.base.unpack raises, and HandDied.
    """
    output = work / "base.tar"
    request = {
        "action": "unpack",
        "image": str(image),
        "sha256": base.sha256,
        "os": recipe.os.model_dump(mode="json"),
        "most": recipe.disk.size,
        "output": str(output),
        "scratch": str(work),
        "log": str(logs[0]),
        "environment": dict(environment),
    }
    call_clerk(request, environment=environment, log=logs[1], on_advance=on_advance)
    return output


def _fetched(base: BaseImage, folder: Path, environment: Mapping[str, str], progress: Progress) -> Path:
    """Kept in a directory of its digest, so that it is fetched once; the directory's time is that of its last use."""
    place = folder / base.sha256
    kept = place / "image"
    with held(folder):
        if not kept.is_file():
            progress(Note("info", f"fetching {base.where}"))
            with tempfile.TemporaryDirectory(prefix=".new-", dir=folder) as scratch:
                made = Path(scratch) / kept.name
                download(
                    base.where, made, most=MOST_FILE, timeout=FETCH_TIMEOUT, refusals=_REFUSALS, environment=environment
                )
                with opened(made) as descriptor:
                    digest = hash_stream(descriptor, algorithms=("sha256",)).sha256
                if digest != base.sha256:
                    raise BaseChanged(f"{base.where} has sha256 {digest}, pinned is {base.sha256}")
                place.mkdir(exist_ok=True)
                made.rename(kept)
        os.utime(place)
    return kept


def _in_cloud(wanted: Base, settings: Settings) -> BaseImage:
    from imagefactory.steps.glance_verify import find, require  # noqa: PLC0415 - loaded when a cloud is named

    found = find(wanted.image, _expectation(settings), catalogue=settings.known_catalogue(settings.catalogue))
    require(found.cloud, found.image, found.signed)
    sha256, manifest = found.entry.sha256, found.signed.manifest
    if wanted.sha256 not in {None, sha256}:
        raise BaseChanged(f"{wanted.image} was signed with sha256 {sha256}, pinned is {wanted.sha256}")
    source = f"glance:{found.cloud.name}/{found.image.id}"
    return BaseImage("cloud", source, source, sha256, f"{manifest.name}@{manifest.version}")


def _downloaded(base: BaseImage, settings: Settings, target: Path, progress: Progress) -> Path:
    """What was verified may be another image's tomorrow: it is verified again, now with its data."""
    from imagefactory.steps.glance_verify import check_data, find, require  # noqa: PLC0415

    found = find(base.where, _expectation(settings), catalogue=settings.known_catalogue(settings.catalogue))
    require(found.cloud, found.image, found.signed)
    if found.entry.sha256 != base.sha256:
        raise BaseChanged(f"{base.where} is another image than when this build began")
    # Nobody takes half of it, or another one, for what was verified.
    with tempfile.TemporaryDirectory(prefix=".new-", dir=target.parent) as scratch:
        made = Path(scratch) / target.name
        with made.open("w+b") as file:
            check_data(found.cloud, found.image, found.entry, on_bytes=Meter(progress, "rootfs"), file=file)
        return made.rename(target)


def _expectation(settings: Settings) -> Expectation:
    """The trust file that is named, or else the trust policy of the catalogue."""
    return Expectation(load_trust(settings.trust) if settings.trust else None, datetime.now(UTC))
