"""The signer's hand: the release and Glance keys, and neither root nor a cloud.

It takes the reference of a build, never a digest: what it signs it has opened, hashed and inspected itself.
"""

import sys
from datetime import UTC, datetime
from pathlib import Path

from imagefactory.hands.protocol import Document, serve
from imagefactory.model.evidence import Evidence
from imagefactory.progress import Advance
from imagefactory.steps import sign as sign_step
from imagefactory.steps.sign import SigningOrder
from signing.keys import KeyRing
from signing.trust import load_trust


def sign_release(request: Document, advance: Advance) -> Document:
    order = SigningOrder(
        name=request["name"],
        version=request["version"],
        os=request["os"],
        arch=request["arch"],
        images={name: Path(path) for name, path in request["images"].items()},
        provenance=Path(request["provenance"]),
        evidence=[Evidence.from_json(piece) for piece in request["evidence"]],
        properties=request["properties"],
        keys=f"file:{request['keys']}",
        created=datetime.fromtimestamp(request["created"], UTC),
        expires=datetime.fromtimestamp(request["expires"], UTC) if request["expires"] else None,
    )
    return {
        "files": sign_step.sign(
            order,
            load_trust(Path(request["trust"])),
            KeyRing(Path(request["keys"])),
            Path(request["output"]),
            environment=request["environment"],
            on_advance=advance,
        )
    }


def check_keys(request: Document, advance: Advance) -> Document:
    del advance
    directory = Path(request["keys"])
    sign_step.check_keys(
        f"file:{directory}",
        KeyRing(directory),
        load_trust(Path(request["trust"])),
        request["properties"],
        now=datetime.now(UTC),
    )
    return {}


if __name__ == "__main__":
    sys.exit(serve({"check": check_keys, "sign": sign_release}))
