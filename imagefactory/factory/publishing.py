"""Publication of a release: intended in the records first, done, read back from there, and recorded as verified."""

from datetime import UTC, datetime
from pathlib import Path

from imagefactory.errors import FactoryError
from imagefactory.model import plan
from imagefactory.model.build import PublicationState
from imagefactory.progress import Progress, StepAdvanced
from imagefactory.steps import publish
from imagefactory.store.artifacts import ArtifactStore
from imagefactory.store.records import Records, release_version
from imagefactory.store.tables import Release
from imagefactory.tools.catalogue import Catalogue
from signing.errors import SigningError
from signing.trust import Trust


def publish_release(
    release: Release,
    root: Path,
    *,
    records: Records,
    artifacts: ArtifactStore,
    trust: Trust,
    progress: Progress,
) -> Path:
    """Publish a release to the catalogue at `root`, verify it from there, and record both, or that it failed."""
    title = f"{plan.PUBLISH} {root}"
    publication = records.intend(release, f"catalogue:{root}")
    try:
        files = {name: artifacts.require(digest) for name, digest in release.files.items()}
        total = sum(path.stat().st_size for path in files.values())
        copied = 0

        def on_bytes(count: int) -> None:
            nonlocal copied
            copied += count
            progress(StepAdvanced(title, copied, total, "bytes"))

        now = datetime.now(UTC)
        version = release_version(release)
        folder = publish.publish(files, Catalogue(root), release.name, version, trust=trust, now=now, on_bytes=on_bytes)
        records.move_publication(publication, PublicationState.PUBLISHED)
        publish.check(folder, trust, now=now, name=release.name)
    except (FactoryError, SigningError):
        records.move_publication(publication, PublicationState.FAILED)
        raise
    records.move_publication(publication, PublicationState.VERIFIED)
    return folder
