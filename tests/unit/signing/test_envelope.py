import base64
import json
from typing import Any

import pytest
from cryptography.hazmat.primitives.asymmetric import ec

from signing.envelope import open_envelope, parse_bundle, seal
from signing.errors import BundleInvalid, DocumentInvalid, KeyPurpose, KeyUntrusted, SignatureInvalid
from signing.keys import PURPOSES, Purpose
from signing.manifest import ReleaseManifest
from signing.strict_json import encode
from tests.unit.signing.builders import DELETE, Keys, changed, make_provenance, respelled

SIGNATURE = ("dsseEnvelope", "signatures", 0)
BAD: dict[str, tuple[tuple[str | int, ...], object, str]] = {
    "no media type": (("mediaType",), DELETE, "lacks the field 'mediaType'"),
    "v0.2": (("mediaType",), "application/vnd.dev.sigstore.bundle+json;version=0.2", "'mediaType' is not"),
    "unknown field": (("note",), "x", "unknown field 'note'"),
    "certificate": (("verificationMaterial", "certificate"), {"rawBytes": ""}, "unknown field 'certificate'"),
    "log entries": (("verificationMaterial", "tlogEntries"), [], "unknown field 'tlogEntries'"),
    "no hint": (("verificationMaterial", "publicKey"), {}, "lacks the field 'hint'"),
    "hint not a keyid": (("verificationMaterial", "publicKey", "hint"), "release", "'hint' is not acceptable"),
    "hint of another key": (("verificationMaterial", "publicKey", "hint"), "ab" * 32, "'keyid' is not"),
    "payload type": (("dsseEnvelope", "payloadType"), "text/plain", "'payloadType' is not"),
    "payload not text": (("dsseEnvelope", "payload"), 1, "'payload' is not a string"),
    "payload not base64": (("dsseEnvelope", "payload"), "e30", "not base64"),
    "payload with spaces": (("dsseEnvelope", "payload"), "e3 0=", "not base64"),
    "payload URL alphabet": (("dsseEnvelope", "payload"), "-_8=", "not base64"),
    "payload stray bits": (("dsseEnvelope", "payload"), "e31=", "not canonical base64"),
    "no signature": (("dsseEnvelope", "signatures"), [], "0 signatures instead of one"),
    "signature not an object": (SIGNATURE, "x", "is not an object"),
    "signature stray field": ((*SIGNATURE, "cert"), "x", "unknown field 'cert'"),
    "signature not base64": ((*SIGNATURE, "sig"), "!", "not base64"),
    "envelope a list": (("dsseEnvelope",), [], "is not an object"),
}


@pytest.mark.parametrize(("path", "value", "text"), BAD.values(), ids=BAD.keys())
def test_bad_bundles(bundle: bytes, keys: Keys, path: tuple[str | int, ...], value: object, text: str) -> None:
    raw = encode(changed(json.loads(bundle), path, value))
    with pytest.raises(BundleInvalid, match=text) as caught:
        open_envelope(raw, keys.trust.release)
    assert caught.value.code == "bundle-invalid"


def test_two_signatures(bundle: bytes, keys: Keys) -> None:
    document = json.loads(bundle)
    document["dsseEnvelope"]["signatures"] *= 2
    with pytest.raises(BundleInvalid, match="2 signatures instead of one"):
        open_envelope(encode(document), keys.trust.release)


@pytest.mark.parametrize("indent", [0, 2])
def test_reformatted(bundle: bytes, keys: Keys, indent: int) -> None:
    with pytest.raises(BundleInvalid, match="reformatted or altered"):
        open_envelope(json.dumps(json.loads(bundle), indent=indent).encode(), keys.trust.release)


@pytest.mark.parametrize("signature", [b"", b"\x30\x00", b"x" * 70, bytes(64)])
def test_no_signatures(bundle: bytes, keys: Keys, signature: bytes) -> None:
    raw = encode(changed(json.loads(bundle), (*SIGNATURE, "sig"), base64.b64encode(signature).decode()))
    with pytest.raises(SignatureInvalid, match="does not belong to this document") as caught:
        open_envelope(raw, keys.trust.release)
    assert caught.value.code == "signature-invalid"


def test_another_payload(bundle: bytes, keys: Keys) -> None:
    raw = encode(changed(json.loads(bundle), ("dsseEnvelope", "payload"), "e30="))
    with pytest.raises(SignatureInvalid):
        open_envelope(raw, keys.trust.release)


def test_untrusted(bundle: bytes, strangers: Keys) -> None:
    for trusted in (strangers.trust.release, {}):
        with pytest.raises(KeyUntrusted, match="not trusted for this") as caught:
            open_envelope(bundle, trusted)
        assert caught.value.code == "key-untrusted"


def test_hint_of_a_trusted_key_over_a_strangers_signature(
    manifest: ReleaseManifest, keys: Keys, strangers: Keys
) -> None:
    document: dict[str, Any] = json.loads(seal(manifest.to_statement(), strangers.signer("release")))
    ours = keys.signer("release").keyid
    document["verificationMaterial"]["publicKey"]["hint"] = ours
    document["dsseEnvelope"]["signatures"][0]["keyid"] = ours
    with pytest.raises(SignatureInvalid):
        open_envelope(encode(document), keys.trust.release)


def test_round_trip(bundle: bytes, keys: Keys, manifest: ReleaseManifest) -> None:
    assert open_envelope(bundle, keys.trust.release) == manifest.to_statement()
    assert parse_bundle(bundle).keyid == keys.signer("release").keyid


@pytest.mark.parametrize("purpose", PURPOSES)
def test_each_statement_has_its_purpose(keys: Keys, manifest: ReleaseManifest, purpose: Purpose) -> None:
    provenance = make_provenance(manifest.subjects)
    for statement, allowed in ((manifest.to_statement(), "release"), (provenance.to_statement(), "provenance")):
        if purpose == allowed:
            assert seal(statement, keys.signer(purpose))
        else:
            with pytest.raises(KeyPurpose, match=f"signed by the {allowed} key, not by the {purpose} key"):
                seal(statement, keys.signer(purpose))


@pytest.mark.parametrize("kind", ["https://example.org/other", None, 1])
def test_nobody_signs_other_statements(keys: Keys, kind: object) -> None:
    with pytest.raises(DocumentInvalid, match="nobody signs statements of this predicate type"):
        seal({"predicateType": kind}, keys.signer("release"))


def test_faulty_signer(keys: Keys, strangers: Keys, manifest: ReleaseManifest) -> None:
    """A signer whose signature is not by its public key is noticed before anything leaves."""
    signer = keys.signer("release")
    signer._key = strangers.ring.private_key("release")
    with pytest.raises(SignatureInvalid):
        seal(manifest.to_statement(), signer)


def test_a_signature_has_one_spelling(keys: Keys, manifest: ReleaseManifest) -> None:
    for _ in range(8):  # half of what ECDSA makes has the larger s
        raw = seal(manifest.to_statement(), keys.signer("release"))
        assert open_envelope(raw, keys.trust.release)
    document = json.loads(raw)
    signature = base64.b64decode(document["dsseEnvelope"]["signatures"][0]["sig"])
    other = base64.b64encode(respelled(signature, ec.SECP256R1())).decode()
    with pytest.raises(SignatureInvalid, match="not in its one spelling"):
        open_envelope(encode(changed(document, (*SIGNATURE, "sig"), other)), keys.trust.release)
