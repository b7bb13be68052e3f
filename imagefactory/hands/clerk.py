"""The clerk's hand: it lists what is in a root file system, and looks it up in a feed of known vulnerabilities.

It has no keys and no root, and a process of its own: what it reads comes from inside an image or from the network, and
the library that writes bills of materials takes more memory than all the rest of a build.
"""

import resource
import sys
from datetime import date
from pathlib import Path

from imagefactory.errors import FeedTooLarge
from imagefactory.hands.protocol import Document, serve
from imagefactory.model import sbom as bill
from imagefactory.model.recipe import OperatingSystem
from imagefactory.progress import Advance
from imagefactory.steps import sbom, vulnerabilities
from imagefactory.tools.feed_source import FeedFile

FEED_MEMORY = 2 << 30  # bytes of address space; a feed takes 200 MB, the interpreter included
FEED_SECONDS = 900  # of CPU time; OSV's zip of Debian takes a minute


def list_packages(request: Document, advance: Advance) -> Document:
    del advance
    system = OperatingSystem.model_validate(request["os"])
    document = sbom.make(request["name"], system, Path(request["rootfs"]), request["digest"], request["epoch"])
    Path(request["output"]).write_bytes(bill.encode(document))
    return {"components": len(document["components"])}


def look_up(request: Document, advance: Advance) -> Document:
    """A stranger's document must not take this host's memory."""
    del advance
    resource.setrlimit(resource.RLIMIT_AS, (FEED_MEMORY, FEED_MEMORY))
    resource.setrlimit(resource.RLIMIT_CPU, (FEED_SECONDS, FEED_SECONDS))
    said = request["feed"]
    feed = FeedFile(Path(said["path"]), said["sha256"], date.fromisoformat(said["dated"]), said["source"])
    try:
        found = vulnerabilities.scan(Path(request["status"]), feed, OperatingSystem.model_validate(request["os"]))
    except MemoryError:
        raise FeedTooLarge(f"{feed.source} takes more than {FEED_MEMORY} bytes to read") from None
    return {"scan": found.to_json()}


if __name__ == "__main__":
    sys.exit(serve({"list": list_packages, "look-up": look_up}))
