"""Who signed the manifest, and how that is written."""

import base64
from typing import Any

from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.asymmetric.utils import decode_dss_signature, encode_dss_signature

from signing.keys import public_pem
from signing.manifest import MANIFEST_FILE, PROVENANCE_FILE
from signing.signer import CHECKSUMS_PREFIX
from tests.conformance.attacks.corpus import Corpus
from tests.conformance.attacks.spoil import P256, long_form, padded
from tests.conformance.attacks.workshop import (
    MemorySigner,
    bundle,
    pae,
    payload_of,
    reopened,
    signature_of,
)
from tests.unit.signing.builders import respelled, sha256

INVALID, UNTRUSTED, PURPOSE, BUNDLE = "signature-invalid", "key-untrusted", "wrong-purpose", "bundle-invalid"


class GoodManifest:
    """The good manifest taken apart: its bundle, payload and signature, and the key that made it."""

    def __init__(self, c: Corpus) -> None:
        self.bundle = c.files[MANIFEST_FILE]
        self.payload, self.signature = payload_of(self.bundle), signature_of(self.bundle)
        self.release = c.shop.signer("release")

    def bearing(self, *signatures: bytes) -> bytes:
        """Its payload with these signatures, all in the name of its key."""
        return bundle(self.payload, self.release.keyid, *signatures)

    def ascribed(self, signer: MemorySigner) -> bytes:
        """Its payload and signature in the name of another key."""
        return bundle(self.payload, signer.keyid, self.signature)

    def with_material(self, **changes: object) -> bytes:
        """Its bundle with more, or other, verification material."""
        return reopened(self.bundle, lambda d: d["verificationMaterial"].update(changes))

    def with_envelope(self, **changes: object) -> bytes:
        """Its bundle with other fields in the DSSE envelope."""
        return reopened(self.bundle, lambda d: d["dsseEnvelope"].update(changes))

    def with_text(self, sig: str) -> bytes:
        """Its bundle with another text for the signature."""

        def change(document: dict[str, Any]) -> None:
            document["dsseEnvelope"]["signatures"][0]["sig"] = sig

        return reopened(self.bundle, change)


def signatures(c: Corpus) -> None:
    """Who signed, and how that is written."""
    good, stranger = GoodManifest(c), c.stranger.signer("release")
    borrowed_signatures(c, good)
    other_signers(c, good, stranger)
    other_messages(c, good)
    encodings(c, good)
    forgeries(c, good)
    counts(c, good, stranger)
    verification_material(c, good, stranger)
    envelope_encodings(c, good)


def borrowed_signatures(c: Corpus, good: GoodManifest) -> None:
    """A genuine signature over something else, or in another's name."""
    elsewhere = signature_of(c.files[PROVENANCE_FILE])
    other_content = signature_of(c.shop.seal(c.shop.statement(arch="aarch64")))
    c.manifests(
        INVALID,
        {
            "signature-of-another-document": (
                "The provenance's signature over the manifest.",
                good.bearing(elsewhere),
            ),
            "signature-of-other-content": (
                "A genuine signature by the same key over another manifest.",
                good.bearing(other_content),
            ),
            "signature-relabelled-older-key": (
                "The keyid of the other trusted release key.",
                good.ascribed(c.shop.older),
            ),
        },
    )
    relabelled = good.ascribed(c.shop.signer("provenance"))
    c.manifest("signature-relabelled-builder", PURPOSE, "The keyid of the builder's key.", relabelled)


def other_signers(c: Corpus, good: GoodManifest, stranger: MemorySigner) -> None:
    """Truly signed, by a key that must not release."""
    seal, payload = c.shop.seal_bytes, good.payload
    c.manifest(
        "signature-by-the-builder",
        PURPOSE,
        "Truly signed by the builder's key: a builder must not release.",
        seal(payload, "provenance"),
    )
    c.manifest(
        "signature-by-a-stranger-in-our-name",
        INVALID,
        "A stranger's signature under our keyid.",
        good.bearing(stranger.sign(pae(payload))),
    )
    small = MemorySigner("release", ec.generate_private_key(ec.SECP192R1()))
    c.manifests(
        UNTRUSTED,
        {
            "signature-by-a-stranger": (
                "Truly signed by somebody whom nobody trusts.",
                seal(payload, stranger),
            ),
            "signature-by-the-glance-key": (
                "Truly signed by the Glance key, which anybody can make sign any image.",
                seal(payload, "glance"),
            ),
            "signature-by-the-root-key": (
                "Truly signed by the root key, which signs TUF metadata only.",
                seal(payload, "root"),
            ),
            "signature-by-a-weak-key": (
                "Signed by a key on P-192.",
                seal(payload, small),
            ),
        },
    )


def other_messages(c: Corpus, good: GoodManifest) -> None:
    """The release key signed something, and not DSSE's encoding of this payload and its type."""
    sign = good.release.sign
    sums = CHECKSUMS_PREFIX + f"{sha256(b'')}  x\n".encode()
    c.manifests(
        INVALID,
        {
            "signature-without-dsse": (
                "The payload alone is signed, not DSSE's encoding of it with its type.",
                good.bearing(sign(good.payload)),
            ),
            "signature-of-another-type": (
                "Signed as text/plain: a document of another kind becomes a manifest.",
                good.bearing(sign(pae(good.payload, "text/plain"))),
            ),
            "signature-of-checksums": (
                "The signature of a SHA256SUMS, and its text as the payload.",
                bundle(sums, good.release.keyid, sign(sums)),
            ),
        },
    )


def encodings(c: Corpus, good: GoodManifest) -> None:
    """The good signature, spelled in another way."""
    der = good.signature
    side_by_side = b"".join(number.to_bytes(32, "big") for number in decode_dss_signature(der))
    spellings = {
        "malleable": (
            "(r, n - s) for (r, s): as valid, so one manifest would have two digests.",
            respelled(der, P256),
        ),
        "long-der": ("The DER has a length in the long form.", long_form(der)),
        "padded-der": ("r has a needless zero in front.", padded(der)),
        "trailing-der": ("A byte follows the DER.", der + b"\0"),
        "p1363": ("r and s side by side, as PKCS#11 and JOSE write them.", side_by_side),
    }
    for name, (attack, signature) in spellings.items():
        c.manifest(f"signature-{name}", INVALID, attack, good.bearing(signature))


def forgeries(c: Corpus, good: GoodManifest) -> None:
    """Signatures that nobody needs a key for."""
    order = P256.group_order
    c.manifests(
        INVALID,
        {
            "signature-zero": (
                "r = s = 0: careless arithmetic accepts it for every document (CVE-2022-21449).",
                good.bearing(encode_dss_signature(0, 0)),
            ),
            "signature-order": (
                "r = s = n, which is 0 to careless arithmetic.",
                good.bearing(encode_dss_signature(order, order)),
            ),
            "signature-empty": ("An empty signature.", good.bearing(b"")),
        },
    )


def counts(c: Corpus, good: GoodManifest, stranger: MemorySigner) -> None:
    """A bundle has one signature, no more and no fewer."""
    strange = stranger.sign(pae(good.payload))
    c.manifests(
        BUNDLE,
        {
            "signature-none": (
                "No signature: a loop over signatures finds nothing wrong.",
                good.bearing(),
            ),
            "signature-two": (
                "Two signatures, a stranger's first.",
                good.bearing(strange, good.signature),
            ),
            "signature-twice": (
                "The same signature twice, where a threshold is counted.",
                good.bearing(good.signature, good.signature),
            ),
        },
    )


def verification_material(c: Corpus, good: GoodManifest, stranger: MemorySigner) -> None:
    """The bundle says by which key it wants to be verified."""
    own_key = {"hint": good.release.keyid, "rawBytes": public_pem(stranger.public_key)}
    c.manifests(
        BUNDLE,
        {
            "signature-other-hint": (
                "The hint names another key than the signature.",
                good.with_material(publicKey={"hint": stranger.keyid}),
            ),
            "signature-own-certificate": (
                "The bundle brings a certificate to be believed.",
                good.with_material(certificate={"rawBytes": "AAAA"}),
            ),
            "signature-own-key": (
                "The bundle brings the key to be believed.",
                good.with_material(publicKey=own_key),
            ),
        },
    )


def envelope_encodings(c: Corpus, good: GoodManifest) -> None:
    """The DSSE envelope, written so that two readers could read it in two ways."""
    payload, sig = base64.b64encode(good.payload).decode(), base64.b64encode(good.signature).decode()
    c.manifests(
        BUNDLE,
        {
            "signature-base64-stray-bits": (
                "The last character of the payload has bits that base64 ignores.",
                good.with_envelope(payload=stray_bits(good.payload)),
            ),
            "signature-base64-url": (
                "The signature in the alphabet for URLs.",
                good.with_text("-_" + sig[2:]),
            ),
            "signature-base64-newline": (
                "A line break in the payload.",
                good.with_envelope(payload=payload[:76] + "\n" + payload[76:]),
            ),
            "signature-hex": (
                "The signature in hexadecimal.",
                good.with_text(good.signature.hex() + "-"),
            ),
            "signature-payload-type": (
                "Another payload type, which DSSE's encoding covers.",
                good.with_envelope(payloadType="text/plain"),
            ),
        },
    )


def stray_bits(payload: bytes) -> str:
    """Base64, of which the last character's ignored bits are set; spaces behind the payload make it have such bits."""
    alphabet = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/"
    text = base64.b64encode(payload + b"  "[: 2 - len(payload) % 3]).decode()
    body = text.rstrip("=")
    return body[:-1] + alphabet[alphabet.index(body[-1]) | 1] + text[len(body) :]
