"""What states a build and a publication go through. The store changes them by this table and by nothing else."""

from collections.abc import Mapping
from enum import StrEnum


class BuildState(StrEnum):
    """RESERVED has a version and nothing else; the last four are final."""

    RESERVED = "reserved"
    RUNNING = "running"
    RELEASED = "released"
    REPRODUCED = "reproduced"
    FAILED = "failed"
    INTERRUPTED = "interrupted"


class PublicationState(StrEnum):
    """INTENDED is recorded before anything is written; VERIFIED was read back from where it was published; WITHDRAWN
    was taken back by its makers; DELETED is gone for good."""

    INTENDED = "intended"
    PUBLISHED = "published"
    VERIFIED = "verified"
    FAILED = "failed"
    WITHDRAWN = "withdrawn"
    DELETED = "deleted"


BUILD_TRANSITIONS: Mapping[BuildState, frozenset[BuildState]] = {
    BuildState.RESERVED: frozenset({BuildState.RUNNING, BuildState.INTERRUPTED}),
    BuildState.RUNNING: frozenset(
        {BuildState.RELEASED, BuildState.REPRODUCED, BuildState.FAILED, BuildState.INTERRUPTED}
    ),
    BuildState.RELEASED: frozenset(),
    BuildState.REPRODUCED: frozenset(),
    BuildState.FAILED: frozenset(),
    BuildState.INTERRUPTED: frozenset(),
}

PUBLICATION_TRANSITIONS: Mapping[PublicationState, frozenset[PublicationState]] = {
    # Whoever died between an intent and its end may have left something there: that can be withdrawn, too.
    PublicationState.INTENDED: frozenset(
        {PublicationState.PUBLISHED, PublicationState.FAILED, PublicationState.WITHDRAWN, PublicationState.DELETED}
    ),
    # A published release whose files are gone, or that must be read again, is intended anew.
    PublicationState.PUBLISHED: frozenset(
        {
            PublicationState.VERIFIED,
            PublicationState.FAILED,
            PublicationState.INTENDED,
            PublicationState.WITHDRAWN,
            PublicationState.DELETED,
        }
    ),
    PublicationState.VERIFIED: frozenset(
        {
            PublicationState.VERIFIED,
            PublicationState.FAILED,
            PublicationState.INTENDED,
            PublicationState.WITHDRAWN,
            PublicationState.DELETED,
        }
    ),
    PublicationState.FAILED: frozenset(
        {PublicationState.INTENDED, PublicationState.WITHDRAWN, PublicationState.DELETED}
    ),
    PublicationState.WITHDRAWN: frozenset({PublicationState.INTENDED, PublicationState.DELETED}),
    PublicationState.DELETED: frozenset(),
}
