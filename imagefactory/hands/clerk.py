"""The clerk's hand: it lists what is in a root file system, looks it up in a feed of known vulnerabilities, and takes
apart the image that a recipe starts from.

It has no keys and no root, and a process of its own: what it reads comes from inside an image or from the network, and
the library that writes bills of materials takes more memory than all the rest of a build.
"""

import resource
import sys
from datetime import date
from pathlib import Path

from imagefactory.errors import BaseTooLarge, FeedTooLarge
from imagefactory.hands.protocol import Document, serve
from imagefactory.model import sbom as bill
from imagefactory.model.recipe import OperatingSystem
from imagefactory.progress import Advance
from imagefactory.steps import base, sbom, vulnerabilities
from imagefactory.tools.feed_source import FeedFile

FEED_MEMORY = 2 << 30  # bytes of address space; a feed takes 200 MB, the interpreter included
FEED_SECONDS = 900  # of CPU time; OSV's zip of Debian takes a minute
BASE_MEMORY = 4 << 30  # as much as qemu-img and e2fsck may have; the tree of an image takes 300 MB
BASE_SECONDS = 7200


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


def unpack(request: Document, advance: Advance) -> Document:
    """Make a tar of what is in a base."""
    resource.setrlimit(resource.RLIMIT_AS, (BASE_MEMORY, BASE_MEMORY))
    resource.setrlimit(resource.RLIMIT_CPU, (BASE_SECONDS, BASE_SECONDS))
    advance("taking the base apart")
    try:
        made = base.unpack(
            Path(request["image"]),
            request["sha256"],
            OperatingSystem.model_validate(request["os"]),
            Path(request["output"]),
            most=request["most"],
            scratch=Path(request["scratch"]),
            log=Path(request["log"]),
            environment=request["environment"],
        )
    except MemoryError:
        raise BaseTooLarge(f"the base takes more than {BASE_MEMORY} bytes to read") from None
    return {"format": made.format, "files": made.files, "left_out": made.left_out}


if __name__ == "__main__":
    sys.exit(serve({"list": list_packages, "look-up": look_up, "unpack": unpack}))
