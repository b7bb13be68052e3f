"""The signer's hand: the keys of releases, of Glance and of catalogues, and neither root nor a cloud.

It takes the reference of a build, never a digest: what it signs it has opened, hashed and inspected itself, and what it
lists in a catalogue it has signed.
"""

import sys
from datetime import UTC, datetime
from pathlib import Path

from imagefactory.hands.protocol import Document, serve
from imagefactory.model.evidence import Evidence
from imagefactory.model.listing import Relisting
from imagefactory.model.release import ReleaseRef
from imagefactory.progress import Advance
from imagefactory.steps import registrar
from imagefactory.steps import sign as sign_step
from imagefactory.steps.registrar import Registrar
from imagefactory.steps.sign import Signers
from imagefactory.steps.signing_order import SigningOrder
from imagefactory.tools.audit_log import AuditLog, refusals
from imagefactory.tools.key_directory import open_keys, open_waiting
from imagefactory.tools.passphrase import received
from imagefactory.tools.policy_file import load_policy
from imagefactory.tools.signed import SignedStore
from imagefactory.tools.trusted_roots import TrustedRoots
from signing.trust import load_trust


def sign_release(request: Document, advance: Advance) -> Document:
    order = SigningOrder(
        name=request["name"],
        version=request["version"],
        images={name: Path(path) for name, path in request["images"].items()},
        documents={name: Path(path) for name, path in request["documents"].items()},
        provenance=Path(request["provenance"]),
        evidence=[Evidence.from_json(piece) for piece in request["evidence"]],
        asked=datetime.fromtimestamp(request["asked"], UTC),
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


def begin_catalogue(request: Document, advance: Advance) -> Document:
    """Begin a catalogue with development keys."""
    del advance
    return _told(registrar.begin(*_catalogue(request), now=datetime.now(UTC)))


def list_release(request: Document, advance: Advance) -> Document:
    """List a release in a catalogue, by its name and version, on a channel."""
    advance(f"listing {request['release']}")
    ref, channel = ReleaseRef.parse(request["release"]), request["channel"]
    return _told(registrar.list_release(*_catalogue(request), ref, now=datetime.now(UTC), channel=channel))


def relist_releases(request: Document, advance: Advance) -> Document:
    """Deprecate, revoke or reinstate releases in a catalogue, or bring them to another channel."""
    del advance
    changes = [Relisting.from_json(each) for each in request["changes"]]
    return _told(registrar.relist(*_catalogue(request), changes, now=datetime.now(UTC)))


def refresh_catalogue(request: Document, advance: Advance) -> Document:
    """Sign anew what a catalogue wants fresh."""
    del advance
    return _told(registrar.refresh(*_catalogue(request), now=datetime.now(UTC)))


def publish_root(request: Document, advance: Advance) -> Document:
    """Publish a root, which root keys elsewhere have signed, unless all is for development."""
    del advance
    root, sign = request["root"].encode(), bool(request["sign"])
    return _told(registrar.publish_root(*_catalogue(request), root, now=datetime.now(UTC), sign=sign))


def _told(done: registrar.Done) -> Document:
    return {"written": list(done.written), "overdue": list(done.overdue), "begun": done.begun}


def _catalogue(request: Document) -> tuple[Registrar, Path]:
    log, catalogue = AuditLog(Path(request["audit"])), Path(request["catalogue"])
    with refusals(log, f"catalogue {catalogue}"):
        directory, passphrase = Path(request["keys"]), received(request["passphrase"])
        own = Registrar(
            ring=open_keys(directory, passphrase),
            waiting=open_waiting(directory, passphrase),
            trust=load_trust(Path(request["trust"])),
            memory=SignedStore(Path(request["signed"])),
            roots=TrustedRoots(Path(request["signed"])),
            log=log,
        )
    return own, catalogue


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
    sys.exit(
        serve(
            {
                "check": check_order,
                "sign": sign_release,
                "begin": begin_catalogue,
                "list": list_release,
                "relist": relist_releases,
                "refresh": refresh_catalogue,
                "publish-root": publish_root,
            }
        )
    )
