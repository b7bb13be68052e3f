"""What must be accepted: a verifier that refuses everything passes every other case."""

import json
from datetime import timedelta

from signing.manifest import MANIFEST_FILE
from tests.conformance.attacks.corpus import Corpus
from tests.conformance.attacks.workshop import IMAGES
from tests.unit.signing.builders import NOW, VERSION


def good(c: Corpus) -> None:
    """What must be accepted: a verifier that refuses everything passes every other case here."""
    c.folder("release", None, "None: this release is good.")
    c.folder("release-unpinned", None, "None: good, and no name is expected.", expected=None)
    c.folder("release-min-version", None, "None: exactly the oldest version.", min_version=str(VERSION))
    c.manifest("manifest", None, "None: this manifest is good.", c.files[MANIFEST_FILE])
    last = NOW + timedelta(days=180, seconds=-1)
    c.manifest("manifest-last-second", None, "None: one second before it expires.", c.files[MANIFEST_FILE], now=last)
    forever = c.shop.seal(c.shop.statement(expires=None))
    c.manifest("manifest-forever", None, "None: it never expires.", forever, now=NOW + timedelta(days=900))
    older = c.shop.seal(c.shop.statement(), c.shop.older)
    c.manifest("manifest-older-key", None, "None: by the other release key of the trust file.", older)
    c.manifest(
        "manifest-own-leaf",
        None,
        "None: another good leaf.",
        c.shop.certified(c.shop.issue()),
    )
    for kind, image in IMAGES.items():
        c.image(f"image-{kind}", None, f"None: the {kind} image as it was signed.", image)
    c.trusted("trust", None, "None: this trust file is good.", c.shop.trust.encode())
    spaced = json.dumps(json.loads(c.shop.trust.encode()), indent=2).encode()
    c.trusted("trust-spaced", None, "None: administrators may write white space into their own trust file.", spaced)
