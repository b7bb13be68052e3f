"""A process that stops in the middle of a transfer, says so and waits to be killed.

Arguments: `upload` or `fetch`, the storage, the home's artifacts, a digest, its size, and for `upload` the file.
"""

import sys
import time
from pathlib import Path

from imagefactory.model.storage import parse_storage
from imagefactory.progress import Event, StepAdvanced
from imagefactory.store.artifacts import ArtifactStore
from imagefactory.store.shared import shared_store


def main(verb: str, storage: str, root: str, digest: str, size: str, made: str = "") -> None:
    def stop(event: Event) -> None:
        if isinstance(event, StepAdvanced) and event.done * 2 > event.total:
            sys.stdout.write("half\n")
            sys.stdout.flush()
            time.sleep(600)

    store = ArtifactStore(Path(root), shared_store(parse_storage(storage)), {digest: int(size)}.get, stop)
    if verb == "upload":
        store.adopt(Path(made), digest)
    else:
        store.require(digest)


if __name__ == "__main__":
    main(*sys.argv[1:])
