"""Which of the formats of a release goes to a cloud. Pure."""

from collections.abc import Mapping
from typing import Final

from imagefactory.model.recipe_targets import CloudTarget

PREFERRED: Final = ("qcow2", "raw")
OF_STORE: Final[Mapping[str, str]] = {"rbd": "raw"}
"""The one format that a store wants: Ceph copies any other before it can boot it."""


def choose(target: CloudTarget, sizes: Mapping[str, int], there: str | None = None) -> str | None:
    """The format to upload, of those that are made; `sizes` are their bytes. None if none of them fits.

    What the target names goes there, or what its store wants; then what is `there` already, if anything is. Over a link
    whose bandwidth is bounded the smaller one goes; else qcow2, if it is made, or raw.
    """
    named = wanted(target)
    if named is not None:
        return named if named in sizes else None
    if there in sizes:
        return there
    made = [each for each in PREFERRED if each in sizes]
    if target.bandwidth is not None:
        return min(made, key=sizes.__getitem__, default=None)
    return next(iter(made), None)


def wanted(target: CloudTarget) -> str | None:
    """The one format that the target asks for, if it does."""
    return target.format or OF_STORE.get(target.store)
