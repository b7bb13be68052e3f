"""Who signed, and how that is written."""

import base64
from collections.abc import Callable
from pathlib import Path

from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.asymmetric.utils import decode_dss_signature, encode_dss_signature

from signing.checksums import CHECKSUMS_FILE, SIGNATURE_FILE
from signing.keys import public_pem
from signing.manifest import MANIFEST_FILE, PROVENANCE_FILE
from signing.signer import CHECKSUMS_PREFIX
from tests.conformance.attacks.corpus import TRUST, Corpus
from tests.conformance.attacks.spoil import P256, flipped, padded, rewritten
from tests.conformance.attacks.workshop import (
    MemorySigner,
    bundle,
    pae,
    payload_of,
    reopened,
    signature_of,
)
from tests.unit.signing.builders import respelled, sha256


def signatures(c: Corpus) -> None:
    """Who signed, and how that is written."""
    shop, signed = c.shop, c.files[MANIFEST_FILE]
    payload, release = payload_of(signed), shop.signer("release")
    good_one = signature_of(signed)
    stranger = c.stranger.signer("release")

    def manifest(name: str, code: str, attack: str, raw: bytes) -> None:
        c.manifest(f"signature-{name}", code, attack, raw)

    other = signature_of(c.files[PROVENANCE_FILE])
    manifest(
        "of-another-document",
        "signature-invalid",
        "The provenance's signature over the manifest.",
        bundle(payload, release.keyid, other),
    )
    manifest(
        "of-other-content",
        "signature-invalid",
        "A genuine signature by the same key over another manifest.",
        bundle(payload, release.keyid, signature_of(shop.seal(shop.statement(arch="aarch64")))),
    )
    manifest(
        "relabelled-older-key",
        "signature-invalid",
        "The keyid of the other trusted release key.",
        bundle(payload, shop.older.keyid, good_one),
    )
    manifest(
        "relabelled-builder",
        "wrong-purpose",
        "The keyid of the builder's key.",
        bundle(payload, shop.signer("provenance").keyid, good_one),
    )
    manifest(
        "by-the-builder",
        "wrong-purpose",
        "Truly signed by the builder's key: a builder must not release.",
        shop.seal_bytes(payload, "provenance"),
    )
    manifest(
        "by-a-stranger",
        "key-untrusted",
        "Truly signed by somebody whom nobody trusts.",
        shop.seal_bytes(payload, stranger),
    )
    manifest(
        "by-a-stranger-in-our-name",
        "signature-invalid",
        "A stranger's signature under our keyid.",
        bundle(payload, release.keyid, stranger.sign(pae(payload))),
    )
    manifest(
        "by-the-glance-key",
        "key-untrusted",
        "Truly signed by the Glance key, which anybody can make sign any image.",
        shop.seal_bytes(payload, "glance"),
    )
    manifest(
        "by-the-root-key",
        "key-untrusted",
        "Truly signed by the root key, which signs TUF metadata only.",
        shop.seal_bytes(payload, "root"),
    )
    small = MemorySigner("release", ec.generate_private_key(ec.SECP192R1()))
    manifest(
        "by-a-weak-key",
        "key-untrusted",
        "Signed by a key on P-192.",
        bundle(payload, small.keyid, small.sign(pae(payload))),
    )
    raw_payload = bundle(payload, release.keyid, release.sign(payload))
    manifest(
        "without-dsse",
        "signature-invalid",
        "The payload alone is signed, not DSSE's encoding of it with its type.",
        raw_payload,
    )
    typed = bundle(payload, release.keyid, release.sign(pae(payload, "text/plain")))
    manifest(
        "of-another-type",
        "signature-invalid",
        "Signed as text/plain: a document of another kind becomes a manifest.",
        typed,
    )
    sums = CHECKSUMS_PREFIX + f"{sha256(b'')}  x\n".encode()
    manifest(
        "of-checksums",
        "signature-invalid",
        "The signature of a SHA256SUMS, and its text as the payload.",
        bundle(sums, release.keyid, release.sign(sums)),
    )
    manifest(
        "malleable",
        "signature-invalid",
        "(r, n - s) for (r, s): as valid, so one manifest would have two digests.",
        bundle(payload, release.keyid, respelled(good_one, P256)),
    )
    manifest(
        "long-der",
        "signature-invalid",
        "The DER has a length in the long form.",
        bundle(payload, release.keyid, good_one[:1] + b"\x81" + good_one[1:]),
    )
    manifest(
        "padded-der",
        "signature-invalid",
        "r has a needless zero in front.",
        bundle(payload, release.keyid, padded(good_one)),
    )
    manifest(
        "trailing-der", "signature-invalid", "A byte follows the DER.", bundle(payload, release.keyid, good_one + b"\0")
    )
    raw_form = b"".join(number.to_bytes(32, "big") for number in decode_dss_signature(good_one))
    manifest(
        "p1363",
        "signature-invalid",
        "r and s side by side, as PKCS#11 and JOSE write them.",
        bundle(payload, release.keyid, raw_form),
    )
    manifest(
        "zero",
        "signature-invalid",
        "r = s = 0: careless arithmetic accepts it for every document (CVE-2022-21449).",
        bundle(payload, release.keyid, encode_dss_signature(0, 0)),
    )
    order = P256.group_order
    manifest(
        "order",
        "signature-invalid",
        "r = s = n, which is 0 to careless arithmetic.",
        bundle(payload, release.keyid, encode_dss_signature(order, order)),
    )
    manifest("empty", "signature-invalid", "An empty signature.", bundle(payload, release.keyid, b""))
    manifest(
        "none",
        "bundle-invalid",
        "No signature: a loop over signatures finds nothing wrong.",
        bundle(payload, release.keyid),
    )
    manifest(
        "two",
        "bundle-invalid",
        "Two signatures, a stranger's first.",
        bundle(payload, release.keyid, stranger.sign(pae(payload)), good_one),
    )
    manifest(
        "twice",
        "bundle-invalid",
        "The same signature twice, where a threshold is counted.",
        bundle(payload, release.keyid, good_one, good_one),
    )
    manifest(
        "other-hint",
        "bundle-invalid",
        "The hint names another key than the signature.",
        reopened(signed, lambda d: d["verificationMaterial"]["publicKey"].update(hint=stranger.keyid)),
    )
    manifest(
        "own-certificate",
        "bundle-invalid",
        "The bundle brings a certificate to be believed.",
        reopened(signed, lambda d: d["verificationMaterial"].update(certificate={"rawBytes": "AAAA"})),
    )
    manifest(
        "own-key",
        "bundle-invalid",
        "The bundle brings the key to be believed.",
        reopened(
            signed, lambda d: d["verificationMaterial"]["publicKey"].update(rawBytes=public_pem(stranger.public_key))
        ),
    )
    manifest(
        "base64-stray-bits",
        "bundle-invalid",
        "The last character of the payload has bits that base64 ignores.",
        reopened(
            signed,
            lambda d: d["dsseEnvelope"].update(
                payload=stray_bits(base64.b64encode(payload + b"  "[: 2 - len(payload) % 3]).decode())
            ),
        ),
    )
    manifest(
        "base64-url",
        "bundle-invalid",
        "The signature in the alphabet for URLs.",
        reopened(
            signed,
            lambda d: d["dsseEnvelope"]["signatures"][0].update(
                sig="-_" + d["dsseEnvelope"]["signatures"][0]["sig"][2:]
            ),
        ),
    )
    manifest(
        "base64-newline",
        "bundle-invalid",
        "A line break in the payload.",
        reopened(
            signed,
            lambda d: d["dsseEnvelope"].update(
                payload=d["dsseEnvelope"]["payload"][:76] + "\n" + d["dsseEnvelope"]["payload"][76:]
            ),
        ),
    )
    manifest(
        "hex",
        "bundle-invalid",
        "The signature in hexadecimal.",
        reopened(signed, lambda d: d["dsseEnvelope"]["signatures"][0].update(sig=good_one.hex() + "-")),
    )
    manifest(
        "payload-type",
        "bundle-invalid",
        "Another payload type, which DSSE's encoding covers.",
        reopened(signed, lambda d: d["dsseEnvelope"].update(payloadType="text/plain")),
    )
    checksums_signatures(c, stranger)


def stray_bits(text: str) -> str:
    """Base64 with padding, of which the last character's ignored bits are set."""
    alphabet = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/"
    body = text.rstrip("=")
    return body[:-1] + alphabet[alphabet.index(body[-1]) | 1] + text[len(body) :]


def checksums_signatures(c: Corpus, stranger: MemorySigner) -> None:
    def folder(name: str, code: str, attack: str, spoil: Callable[[Path], object]) -> None:
        c.folder(f"sums-{name}", code, attack, spoil)

    def signature(change: Callable[[bytes], bytes]) -> Callable[[Path], None]:
        return lambda f: rewritten(f, SIGNATURE_FILE, change)

    folder("signature-flipped", "signature-invalid", "A bit of SHA256SUMS.sig.", signature(flipped))
    folder(
        "signature-malleable",
        "signature-invalid",
        "(r, n - s) in SHA256SUMS.sig.",
        signature(lambda der: respelled(der, P256)),
    )
    folder(
        "signature-long-der",
        "signature-invalid",
        "A length in the long form.",
        signature(lambda der: der[:1] + b"\x81" + der[1:]),
    )
    folder("signature-padded-der", "signature-invalid", "A needless zero in front of r.", signature(padded))
    folder(
        "signature-trailing", "signature-invalid", "A byte after SHA256SUMS.sig.", signature(lambda der: der + b"\n")
    )
    folder("signature-base64", "signature-invalid", "SHA256SUMS.sig in base64.", signature(base64.b64encode))
    folder("signature-empty", "signature-invalid", "An empty SHA256SUMS.sig.", signature(lambda _: b""))
    folder(
        "by-a-stranger",
        "signature-invalid",
        "SHA256SUMS signed by a stranger.",
        lambda f: c.shop.checksums(f, stranger),
    )
    folder(
        "by-the-builder",
        "signature-invalid",
        "SHA256SUMS signed by the builder.",
        lambda f: c.shop.checksums(f, "provenance"),
    )
    folder(
        "signature-of-the-manifest",
        "signature-invalid",
        "The manifest's signature as SHA256SUMS.sig: same key, other document.",
        signature(lambda _: signature_of(c.files[MANIFEST_FILE])),
    )
    folder(
        "altered",
        "signature-invalid",
        "A digest in SHA256SUMS is altered.",
        lambda f: rewritten(f, CHECKSUMS_FILE, lambda raw: raw[:29] + b"0" * 64 + raw[93:]),
    )
    by_release = c.shop.seal_bytes(payload_of(c.files[PROVENANCE_FILE]), "release")
    c.folder(
        "provenance-by-the-release-key",
        "wrong-purpose",
        "The provenance signed by a release key: only the builder saw the build.",
        lambda f: (f / PROVENANCE_FILE).write_bytes(by_release),
        signed_again=True,
    )
    strange = c.stranger.provenance()
    c.folder(
        "provenance-by-a-stranger",
        "key-untrusted",
        "A provenance by a builder whom nobody trusts.",
        lambda f: (f / PROVENANCE_FILE).write_bytes(strange),
        signed_again=True,
    )
    c.folder(
        "manifest-as-provenance",
        "wrong-purpose",
        "The manifest in the provenance's place.",
        lambda f: (f / PROVENANCE_FILE).write_bytes(c.files[MANIFEST_FILE]),
        signed_again=True,
    )
    c.folder(
        "provenance-as-manifest",
        "wrong-purpose",
        "The provenance in the manifest's place.",
        lambda f: (f / MANIFEST_FILE).write_bytes(c.files[PROVENANCE_FILE]),
        signed_again=True,
    )
    c.folder(
        "release-of-a-stranger",
        "key-untrusted",
        "A whole release, all in order, by a stranger.",
        lambda f: [(f / name).write_bytes(raw) for name, raw in c.stranger.release_files().items()],
    )
    c.folder(
        "trust-beside-the-image",
        "key-untrusted",
        "A stranger's release with the stranger's trust file beside it.",
        lambda f: [
            (f / name).write_bytes(raw)
            for name, raw in {**c.stranger.release_files(), TRUST: c.stranger.trust.encode()}.items()
        ],
    )
