"""What a place is told about the releases in it, and what became of that."""

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Protocol

from imagefactory.model.lifecycle import Look, Standing
from imagefactory.model.release import ReleaseRef
from imagefactory.progress import Progress
from imagefactory.store.records import release_version
from imagefactory.store.tables import Publication, Release
from imagefactory.tools.side_by_side import Failure


@dataclass(frozen=True)
class Order:
    """A release in a place, and how it is to stand and to look there."""

    release: Release
    publication: Publication
    standing: Standing
    look: Look

    @property
    def ref(self) -> ReleaseRef:
        """NAME@VERSION."""
        return ReleaseRef(self.release.name, release_version(self.release))

    @property
    def instead(self) -> ReleaseRef | None:
        """The release to use instead."""
        return ReleaseRef(self.release.name, self.look.replacement) if self.look.replacement else None


@dataclass(frozen=True)
class Left:
    """What a place did not take yet, and why. The next run tries it again."""

    ref: ReleaseRef
    target: str
    failure: Failure


@dataclass
class Settlement:
    """What was asked of a place: what it did, and what is left to do."""

    done: list[Order] = field(default_factory=list)
    left: list[Left] = field(default_factory=list)


class Places(Protocol):
    """Something that brings releases in a place to how they are to stand."""

    def settle(self, target: str, orders: Sequence[Order], progress: Progress) -> Settlement:
        """Carry out orders about releases of one name, the holder first. A second time changes nothing.

        Raises what makes the place as a whole impossible to reach.
        """
