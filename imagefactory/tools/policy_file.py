"""The policy where it lies."""

import os
from collections.abc import Sequence
from pathlib import Path

from imagefactory.errors import PolicyInvalid, PolicyMissing
from imagefactory.model.policy import Policy, decode_policy
from signing.digest import others_may_write, read_document


def load_policy(candidates: Sequence[Path]) -> Policy:
    """Return the content of the first of `candidates` that is there; one that is unusable is not skipped.

    What others may change is nobody's word: they may write to neither the file nor its directory (but a sticky one).

    Raises PolicyMissing, PolicyInvalid, Unreadable, NotARegularFile.
    """
    for path in candidates:
        if os.path.lexists(path):
            real = Path(os.path.realpath(path))
            raw = read_document(real)
            for each in (real, real.parent):
                if others_may_write(each):
                    raise PolicyInvalid(f"{each} may be written to by others", advice=f"Review it; chmod go-w {each}")
            return decode_policy(raw)
    raise PolicyMissing(f"there is no policy; looked for {', '.join(map(str, candidates))}")
