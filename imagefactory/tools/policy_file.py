"""The policy where it lies."""

import os
from collections.abc import Sequence
from pathlib import Path

from imagefactory.errors import PolicyMissing
from imagefactory.model.policy import Policy, decode_policy
from signing.digest import read_document


def load_policy(candidates: Sequence[Path]) -> Policy:
    """Return the content of the first of `candidates` that is there; one that is unusable is not skipped.

    Raises PolicyMissing, PolicyInvalid, Unreadable, NotARegularFile.
    """
    for path in candidates:
        if os.path.lexists(path):
            return decode_policy(read_document(os.path.realpath(path)))
    raise PolicyMissing(f"there is no policy; looked for {', '.join(map(str, candidates))}")
