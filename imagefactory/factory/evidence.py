"""The evidence of a release, as the records keep it, read back."""

from collections.abc import Callable, Mapping
from typing import Any, TypeVar

from imagefactory.errors import EvidenceMissing
from imagefactory.model.evidence import Evidence
from imagefactory.store.records import release_version
from imagefactory.store.tables import Release

Facts = TypeVar("Facts")


def found_of(release: Release, kind: str, read: Callable[[Mapping[str, Any]], Facts]) -> Facts | None:
    """What was found out about the root file system of a release, as `read` makes it of the facts; None when nobody
    looked. All its images hold that root file system, so one piece of evidence says it all. Raises EvidenceMissing."""
    pieces = release.evidence.get(kind)
    if not pieces:
        return None
    try:
        return read(Evidence.from_json(pieces[0]).facts)
    except (KeyError, TypeError, ValueError) as error:
        name = f"{release.name}@{release_version(release)}"
        raise EvidenceMissing(f"the evidence of {name} of its {kind} cannot be read") from error
