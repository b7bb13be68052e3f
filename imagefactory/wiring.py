"""The only place that constructs tools and stores."""

from collections.abc import Callable, Iterator
from contextlib import contextmanager

from imagefactory.errors import HomeUnusable
from imagefactory.factory.hands import Hands
from imagefactory.factory.line import BootTest
from imagefactory.factory.loop import Factory
from imagefactory.model.database_url import DatabaseUrl
from imagefactory.progress import Progress, silent
from imagefactory.settings import Settings
from imagefactory.steps.boot_test import boot_test
from imagefactory.store.artifacts import ArtifactStore
from imagefactory.store.leases import LeaseLocks, Leases
from imagefactory.store.lock import FileLocks, Locks
from imagefactory.store.records import Records
from imagefactory.store.shared import shared_store


@contextmanager
def factory(
    settings: Settings,
    progress: Progress = silent,
    boot_test: BootTest = boot_test,
    others: Callable[[Records], Hands] | None = None,
) -> Iterator[Factory]:
    """A factory at `settings.home`, which is made if it is not there; `others` has done what this host may not do.
    Raises HomeUnusable, ExtraMissing."""
    shared = shared_store(settings.storage) if settings.storage else None
    with records_of(settings) as records:
        artifacts = ArtifactStore(settings.home / "artifacts", shared, records.artifact_size, progress)
        hands = others(records) if others else None
        yield Factory(settings, records, artifacts, progress, boot_test, _locks(settings, records), hands)


@contextmanager
def records_of(settings: Settings) -> Iterator[Records]:
    """The records of a factory, whose home is made if it is not there. Raises as factory()."""
    settings.check_home()
    try:
        settings.home.mkdir(parents=True, exist_ok=True, mode=0o700)
        for directory in ("artifacts", "work", "logs"):
            (settings.home / directory).mkdir(exist_ok=True)
    except OSError as error:
        raise HomeUnusable(f"{settings.home}: {error.strerror}", advice="set IMAGEFACTORY_HOME") from error
    records = Records(settings.database)
    try:
        yield records
    finally:
        records.close()


def _locks(settings: Settings, records: Records) -> Locks:
    files = FileLocks(settings.home / "locks")
    return LeaseLocks(files, Leases(records)) if isinstance(settings.database, DatabaseUrl) else files
