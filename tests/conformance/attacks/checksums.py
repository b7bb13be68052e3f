"""SHA256SUMS: who signed it, how that is written, and what it says."""

import base64
from functools import partial

from signing.checksums import CHECKSUMS_FILE, SIGNATURE_FILE
from signing.manifest import MANIFEST_FILE
from signing.signer import CHECKSUMS_PREFIX
from tests.conformance.attacks.corpus import Corpus
from tests.conformance.attacks.spoil import P256, Change, flipped, long_form, padded, put, rewritten
from tests.conformance.attacks.workshop import signature_of
from tests.unit.signing.builders import respelled, sha256

INVALID = "signature-invalid"
ANY_DIGEST = "ab" * 32


def checksums(c: Corpus) -> None:
    """SHA256SUMS: who signed it, how that is written, and what it says."""
    signature_encodings(c)
    signers(c)
    ambiguous_lines(c)


def signature_encodings(c: Corpus) -> None:
    """The good SHA256SUMS.sig, written in another way."""
    spoils: dict[str, tuple[str, Change]] = {
        "flipped": ("A bit of SHA256SUMS.sig.", flipped),
        "malleable": ("(r, n - s) in SHA256SUMS.sig.", lambda der: respelled(der, P256)),
        "long-der": ("A length in the long form.", long_form),
        "padded-der": ("A needless zero in front of r.", padded),
        "trailing": ("A byte after SHA256SUMS.sig.", lambda der: der + b"\n"),
        "base64": ("SHA256SUMS.sig in base64.", base64.b64encode),
        "empty": ("An empty SHA256SUMS.sig.", lambda _: b""),
    }
    for name, (attack, change) in spoils.items():
        c.folder(f"sums-signature-{name}", INVALID, attack, rewritten(SIGNATURE_FILE, change))


def signers(c: Corpus) -> None:
    """Signed by another key, or the signature of another text."""
    c.folders(
        INVALID,
        {
            "sums-by-a-stranger": (
                "SHA256SUMS signed by a stranger.",
                partial(c.shop.checksums, by=c.stranger.signer("release")),
            ),
            "sums-by-the-builder": (
                "SHA256SUMS signed by the builder.",
                partial(c.shop.checksums, by="provenance"),
            ),
            "sums-signature-of-the-manifest": (
                "The manifest's signature as SHA256SUMS.sig: same key, other document.",
                put(SIGNATURE_FILE, signature_of(c.files[MANIFEST_FILE])),
            ),
            "sums-altered": (
                "A digest in SHA256SUMS is altered.",
                rewritten(CHECKSUMS_FILE, lambda raw: raw[:29] + b"0" * 64 + raw[93:]),
            ),
        },
    )


def ambiguous_lines(c: Corpus) -> None:
    """Truly signed, and not the one way in which we write SHA256SUMS."""
    good = "".join(f"{sha256(raw)}  {name}\n" for name, raw in sorted(c.files.items()))
    texts = {
        "parent": f"{ANY_DIGEST}  ../../etc/passwd\n{good}",
        "absolute": f"{ANY_DIGEST}  /etc/passwd\n{good}",
        "twice": good + good,
        "unsorted": "".join(reversed(good.splitlines(keepends=True))),
        "windows": good.replace("\n", "\r\n"),
        "binary-mark": good.replace("  ", " *"),
        "escaped": f"\\{ANY_DIGEST}  a\\nb\n{good}",
        "upper-case": good.upper(),
        "comment": good + "# nothing\n",
        "open-end": good[:-1],
        "empty": "",
        "md5": "".join(f"{'ab' * 16}  {name}\n" for name in sorted(c.files)),
    }
    for name, text in texts.items():
        c.folder(
            f"sums-{name}",
            "checksums-invalid",
            f"Truly signed SHA256SUMS that sha256sum and we could read in two ways: {name}.",
            partial(c.shop.checksums, raw=CHECKSUMS_PREFIX + text.encode()),
        )
    c.folder(
        "sums-no-first-line",
        "checksums-invalid",
        "Truly signed without its first line, which keeps it apart from other documents.",
        partial(c.shop.checksums, raw=good.encode()),
    )
