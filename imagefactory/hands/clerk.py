"""The clerk's hand: it lists what is in a root file system.

It has no keys and no root, and a process of its own: what it reads comes from inside an image, and the library that
writes bills of materials takes more memory than all the rest of a build.
"""

import sys
from pathlib import Path

from imagefactory.hands.protocol import Document, serve
from imagefactory.model import sbom as bill
from imagefactory.model.recipe import OperatingSystem
from imagefactory.progress import Advance
from imagefactory.steps import sbom


def list_packages(request: Document, advance: Advance) -> Document:
    del advance
    system = OperatingSystem.model_validate(request["os"])
    document = sbom.make(request["name"], system, Path(request["rootfs"]), request["digest"], request["epoch"])
    Path(request["output"]).write_bytes(bill.encode(document))
    return {"components": len(document["components"])}


if __name__ == "__main__":
    sys.exit(serve({"list": list_packages}))
