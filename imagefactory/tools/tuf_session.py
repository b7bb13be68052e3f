"""One reading of a TUF repository: python-tuf's Updater, over a trust store that is held meanwhile.

What a catalogue of ours may list, and how its roles are called, is no business of this module.
"""

from collections.abc import Iterator
from contextlib import contextmanager
from datetime import datetime
from pathlib import Path

from tuf.api.exceptions import RepositoryError
from tuf.ngclient import TargetFile, Updater, UpdaterConfig  # type: ignore[attr-defined]  # its __all__ is computed

from imagefactory.errors import CatalogueUntrusted, TrustStoreUnusable
from imagefactory.tools.trust_store import TrustStore, usable
from imagefactory.tools.tuf_errors import said, translated
from imagefactory.tools.tuf_fetch import Source, source_of
from signing.digest import read_document


class Session:
    """A repository as it was when it was refreshed."""

    def __init__(self, store: TrustStore, updater: Updater, source: Source) -> None:
        self.store = store
        self._updater = updater
        self._source = source

    def target(self, path: str) -> TargetFile | None:
        """What the repository says of a target, by the order in which its roles delegate; None if it has none.

        Raises what `refreshed` raises.
        """
        with self._asking():
            return self._updater.get_targetinfo(path)

    def download(self, target: TargetFile) -> bytes:
        """A target that is a document. What was verified is what is returned: the bytes, and not a file that had them.

        Raises what `refreshed` raises.
        """
        file = self.store.download
        with self._asking():
            self._updater.download_target(target, str(file))
        with usable(self.store.directory):
            raw = read_document(file)
            file.unlink()
        with translated(lambda: target.path, self.store.directory):
            target.verify_length_and_hashes(raw)
        return raw

    @contextmanager
    def _asking(self) -> Iterator[None]:
        self._source.begin()
        with translated(lambda: self._source.asked, self.store.directory):
            yield


def refreshed(
    store: TrustStore, where: str | Path, now: datetime, root: bytes | None, patience: float, config: UpdaterConfig
) -> Session:
    """See what the repository in the directory or at the http(s) address `where` says `now`.

    `root` is the root.json to trust it by, wanted once; the repository has `patience` seconds for each call.

    Raises TargetUnsupported, CatalogueUntrusted, CatalogueRollback, CatalogueFrozen, CatalogueMixed, CatalogueUnsigned,
    CatalogueDamaged, CatalogueEndless, CatalogueUnreachable, ClockBehind, TrustStoreUnusable.
    """
    source = source_of(where, patience)
    trusted = store.begin(root, now)
    with translated(lambda: source.asked, store.directory):
        updater = _updater(store, source, trusted, config)
        updater.refresh()
    store.settle(trusted, now, str(where))
    return Session(store, updater, source)


def _updater(store: TrustStore, source: Source, root: bytes, config: UpdaterConfig) -> Updater:
    try:
        return Updater(
            str(store.metadata),
            f"{source.base}metadata",
            target_base_url=f"{source.base}targets",
            fetcher=source,
            config=config,
            bootstrap=root,
        )
    except RepositoryError as why:
        if store.pinned is None:
            raise CatalogueUntrusted(f"what was given is no root: {said(why)}") from why
        raise TrustStoreUnusable(f"the root in {store.directory} is damaged: {said(why)}") from why
