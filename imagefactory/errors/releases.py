"""Releases, what is remembered of them, and where they are published."""

from collections.abc import Mapping
from typing import Any, TypeAlias

from imagefactory.errors.base import FactoryError, HostError, Refused, UsageError
from signing.errors import SigningError

Outcome: TypeAlias = Mapping[str, Any] | FactoryError | SigningError
"""What came of a publication: facts about it, as JSON has them, or the error that ended it."""


class ReleaseNameInvalid(UsageError):
    """A release is written NAME or NAME@VERSION."""

    code = "release-name-invalid"
    default_advice = "NAME is a-z, 0-9 and '-', VERSION is YYYYMMDD.N"


class ReleaseUnknown(Refused):
    """There is no such release here."""

    code = "release-unknown"
    default_advice = "imagefactory releases list shows what there is"


class ReleaseRevoked(Refused):
    """A release was withdrawn by its makers."""

    code = "release-revoked"
    default_advice = "do not use it; the catalogue lists what there is instead"


class ArtifactMissing(Refused):
    """A file that the records name is not in the artifact store any more."""

    code = "artifact-missing"
    default_advice = "build again; unchanged inputs give the same bytes"


class StateConflict(Refused):
    """The records are in another state than this change expects."""

    code = "state-conflict"
    default_advice = "look at imagefactory releases list, then run the command again"


class EvidenceMissing(Refused):
    """A release needs evidence about its images that is not there, or that speaks of other bytes."""

    code = "evidence-missing"
    default_advice = "build with --fresh, so that every image is tested again"


class SbomInvalid(Refused):
    """A bill of materials is missing, is not valid CycloneDX, or is about another release."""

    code = "sbom-invalid"
    default_advice = "do not sign this; build again"


class VersionMismatch(Refused):
    """The provenance speaks of another image name or version than the one to be signed."""

    code = "version-mismatch"
    default_advice = "do not sign this; build again"


class TargetUnsupported(UsageError):
    """A publication or verification target cannot be understood."""

    code = "target-unsupported"
    default_advice = "a target is a file, or catalogue:PATH/NAME[@VERSION]"


class CatalogueConflict(Refused):
    """The catalogue holds something else under this name and version."""

    code = "catalogue-conflict"
    default_advice = "never replace a published version; look who else publishes there"


class CatalogueUnusable(HostError):
    """The catalogue directory cannot be read or written."""

    code = "catalogue-unusable"
    default_advice = "look at the owner and the rights of that directory"


class CatalogueFull(Refused):
    """The metadata of a catalogue would grow beyond what clients read."""

    code = "catalogue-full"
    default_advice = "publish under another image name, or begin another catalogue"


class ListingInvalid(UsageError):
    """What a catalogue is to say of a release does not follow the format."""

    code = "listing-invalid"
    default_advice = "a revoked release has a reason; a replacement is NAME@VERSION, of a deprecated or revoked one"


class RootRefused(Refused):
    """A root cannot be published: it does not follow the current one, is not signed by enough keys, or is unfit."""

    code = "root-refused"
    default_advice = "sign it with enough keys of the current root and enough of its own, then publish it again"


class PlacesFailed(FactoryError):
    """A release did not get to every place where it should. Code and advice are those of the first that failed."""

    def __init__(self, ref: str, places: Mapping[str, Outcome]) -> None:
        """`places` says what came of each, in order; at least one of them failed."""
        failed = {place: each for place, each in places.items() if not isinstance(each, Mapping)}
        place, first = next(iter(failed.items()))
        alone = len(places) == 1
        why = first.message if alone else f"{place}: {first.message}"
        counted = "" if alone else f"{ref}: {len(failed)} of {len(places)} places failed; "
        told = tuple(f"{where}: {_told(each)}" for where, each in places.items())
        lines: tuple[str, ...] = getattr(first, "lines", ())
        super().__init__(
            f"{counted}{why}",
            advice=first.advice,
            log=getattr(first, "log", None),
            lines=lines if alone else told,
        )
        self.places = places
        self.code = first.code  # type: ignore[misc]  # as SignerRefused: it stands for another
        self.exit_code = first.exit_code  # type: ignore[misc]


def _told(outcome: Outcome) -> str:
    if isinstance(outcome, Mapping):
        return "verified" if outcome.get("verified") else "nothing is wrong"
    return f"{outcome.message} [{outcome.code}]"
