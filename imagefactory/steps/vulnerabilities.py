"""Looking up the packages of an image in a feed of known vulnerabilities."""

import json
from pathlib import Path
from typing import Final

from imagefactory.errors import FeedTooLarge
from imagefactory.model.recipe import OperatingSystem
from imagefactory.model.vulnerabilities import Feed, VulnerabilityScan, match
from imagefactory.tools.feed_source import FeedFile
from imagefactory.tools.feeds import FeedReader
from imagefactory.tools.inventory import MAX_STATUS, read_sources
from signing.digest import read_document

REVISION: Final = 1
"""Of what a feed is understood to say: a new one has images looked up anew."""
MAX_FOUND: Final = 6 << 20
"""Characters as JSON: the rest of what the signer is asked goes with it (hands/protocol.py)."""


def scan(status: Path, file: FeedFile, system: OperatingSystem) -> VulnerabilityScan:
    """What the feed knows about the packages that the dpkg status file `status` lists.

    Raises RootfsUnreadable, FeedInvalid, FeedTooLarge, FeedForeign, InputsChanged.
    """
    sources = read_sources(read_document(status, most=MAX_STATUS))
    kind, advisories = FeedReader(system.codename, system.version).read(file, sources)
    found = match(sources, advisories, Feed(file.source, kind, file.sha256, file.dated))
    if len(json.dumps(found.to_json())) > MAX_FOUND:
        raise FeedTooLarge(f"{file.source} says more of this image than {MAX_FOUND} characters")
    return found
