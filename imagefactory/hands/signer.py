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
from imagefactory.steps.sign import Signers
from imagefactory.steps.signing_order import SigningOrder
from imagefactory.tools.audit_log import AuditLog, refusals
from imagefactory.tools.key_directory import open_keys
from imagefactory.tools.passphrase import received
from imagefactory.tools.policy_file import load_policy
from imagefactory.tools.signed import SignedStore
from signing.trust import load_trust


def sign_release(request: Document, advance: Advance) -> Document:
    order = SigningOrder(
        name=request["name"],
        version=request["version"],
        images={name: Path(path) for name, path in request["images"].items()},
        documents={name: Path(path) for name, path in request["documents"].items()},
        provenance=Path(request["provenance"]),
        evidence=[Evidence.from_json(piece) for piece in request["evidence"]],
        expires=datetime.fromtimestamp(request["expires"], UTC) if request["expires"] else None,
    )
    output, environment = Path(request["output"]), request["environment"]
    own = _own(request, f"{order.name}@{order.version}")
    return {"files": sign_step.sign(order, own, output, environment=environment, on_advance=advance)}


def check_order(request: Document, advance: Advance) -> Document:
    del advance
    newest = sign_step.check(
        _own(request, request["name"]),
        request["name"],
        request["builder"],
        request["recipe"],
        request["elements"],
        request["properties"],
        now=datetime.now(UTC),
    )
    return {"newest": newest and str(newest)}


def _own(request: Document, about: str) -> Signers:
    log = AuditLog(Path(request["audit"]))
    with refusals(log, about):
        return Signers(
            ring=open_keys(Path(request["keys"]), received(request["passphrase"])),
            trust=load_trust(Path(request["trust"])),
            policy=load_policy([Path(path) for path in request["policy"]]),
            memory=SignedStore(Path(request["signed"])),
            log=log,
        )


if __name__ == "__main__":
    sys.exit(serve({"check": check_order, "sign": sign_release}))
