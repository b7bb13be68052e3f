"""What python-tuf's own client takes for the same look-up: python -m bench.tuf_peer CATALOGUE ROOT MEMORY TARGET."""

import sys
from collections.abc import Iterator
from pathlib import Path

from tuf.api.exceptions import DownloadHTTPError
from tuf.ngclient import FetcherInterface, Updater  # type: ignore[attr-defined]  # its __all__ is computed


class Files(FetcherInterface):
    """A catalogue in a directory."""

    def __init__(self, root: Path) -> None:
        self._root = root

    def _fetch(self, url: str) -> Iterator[bytes]:
        try:
            return iter([(self._root / url).read_bytes()])
        except FileNotFoundError:
            raise DownloadHTTPError(f"{url} is not there", 404) from None


def main() -> None:
    """Refresh, and look the target up."""
    catalogue, root, memory, target = sys.argv[1:]
    look_up(Path(catalogue), Path(root), memory, target)


def look_up(catalogue: Path, root: Path, memory: str, target: str) -> None:
    updater = Updater(memory, "metadata", memory, "targets", Files(catalogue), bootstrap=root.read_bytes())
    updater.refresh()
    if updater.get_targetinfo(target) is None:
        raise LookupError(target)


if __name__ == "__main__":
    main()
