"""Keeping what a step made: first the file, then the record of it."""

from pathlib import Path

from imagefactory.store.artifacts import ArtifactStore
from imagefactory.store.records import Records
from imagefactory.tools.inspect import opened
from signing.digest import Digests, hash_stream


def keep(made: Path, kind: str, artifacts: ArtifactStore, records: Records, digests: Digests | None = None) -> Digests:
    """Take a finished file over as an artifact. It is hashed unless its `digests` are known already."""
    if digests is None:
        with opened(made) as descriptor:
            digests = hash_stream(descriptor, algorithms=("sha256",))
    artifacts.adopt(made, digests.sha256)
    records.add_artifact(digests.sha256, kind, digests.size)
    return digests
