"""A signed statement in a file: sigstore bundle v0.3 around one DSSE envelope.

Formats: the bundle (sigstore protobuf-specs, `sigstore_bundle.proto`, mediaType below, as JSON) with a bare key named
by `publicKey.hint`, no certificate and no log entry; DSSE v1.0 (secure-systems-lab/dsse); the payload is an in-toto
statement. The signature is ECDSA P-256 with SHA-256 over DSSE's pre-authentication encoding.

Rules for opening, in order:

1. The bytes are strict JSON in canonical form: whatever is changed, even white space, makes another file than the one
   that SHA256SUMS and `imagefactory_manifest_sha256` name, so it is refused here already.
2. Exactly the fields of the one form that we write; exactly one signature; its keyid is the hint.
3. Payload and signature are canonical base64.
4. The key that the hint names is among those given (the hint chooses among trusted keys, it adds none).
5. The signature verifies, and is in its one spelling (`signing.signer`).
6. Only then is the payload looked at: strict JSON again.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from securesystemslib.dsse import Envelope
from securesystemslib.exceptions import UnverifiedSignatureError, VerificationError
from securesystemslib.signer import Signature, SSlibKey  # type: ignore[attr-defined]  # public, but not in its __all__

from signing.errors import BundleInvalid, KeyPurpose, KeyUntrusted, SignatureInvalid
from signing.fields import SHA256_HEX, Fields, parse_base64
from signing.foreign import DocumentSigner
from signing.keys import PublicKey
from signing.signer import Signer, one_spelling
from signing.statement import purpose_for
from signing.strict_json import decode, encode

MEDIA_TYPE = "application/vnd.dev.sigstore.bundle.v0.3+json"
PAYLOAD_TYPE = "application/vnd.in-toto+json"
_WHAT = "bundle"


@dataclass(frozen=True)
class Bundle:
    """A bundle whose form was checked and whose signature was not: believe nothing in it before `open`."""

    keyid: str
    envelope: Envelope

    def open(self, keys: Mapping[str, PublicKey]) -> dict[str, Any]:
        """Return the statement, if one of `keys` (by keyid) signed it.

        Raises: KeyUntrusted, SignatureInvalid, BundleInvalid (the payload is not strict JSON).
        """
        if self.keyid not in keys:
            raise KeyUntrusted(f"signed by key {self.keyid[:16]}, which is not trusted for this")
        key = SSlibKey.from_crypto(keys[self.keyid], keyid=self.keyid)
        try:
            self.envelope.verify([key], threshold=1)
        except (VerificationError, UnverifiedSignatureError):
            raise SignatureInvalid(f"the signature by key {self.keyid[:16]} does not belong to this document") from None
        signature = bytes.fromhex(self.envelope.signatures[self.keyid].signature)
        if one_spelling(signature, keys[self.keyid].curve) != signature:
            raise SignatureInvalid(f"the signature by key {self.keyid[:16]} is not in its one spelling")
        return decode(self.envelope.payload, "statement", BundleInvalid)


def seal(statement: Mapping[str, Any], signer: Signer) -> bytes:
    """Return the bundle file of a statement, signed by `signer`.

    Raises: KeyPurpose (the key is not for this type of statement), DocumentInvalid (not JSON, or too large).
    """
    purpose = purpose_for(statement)
    if signer.purpose != purpose:
        raise KeyPurpose(f"this statement is signed by the {purpose} key, not by the {signer.purpose} key")
    envelope = Envelope(encode(statement, "statement"), PAYLOAD_TYPE, {})
    envelope.sign(DocumentSigner(signer))
    raw = encode(
        {
            "mediaType": MEDIA_TYPE,
            "verificationMaterial": {"publicKey": {"hint": signer.keyid}},
            "dsseEnvelope": envelope.to_dict(),
        },
        _WHAT,
        BundleInvalid,
    )
    # What cannot be opened must not leave the house: a faulty signer is noticed here, not by the users.
    open_envelope(raw, {signer.keyid: signer.public_key})
    return raw


def parse_bundle(raw: bytes) -> Bundle:
    """Return the bundle in `raw` after rules 1 to 3; nothing in it is verified yet. Raises: BundleInvalid."""
    document = decode(raw, _WHAT, BundleInvalid)
    if encode(document, _WHAT, BundleInvalid) != raw:
        raise BundleInvalid("the bundle is not in its canonical form: it was reformatted or altered")
    with Fields(document, _WHAT, BundleInvalid) as fields:
        fields.exactly("mediaType", MEDIA_TYPE)
        with fields.inner("verificationMaterial") as material, material.inner("publicKey") as key:
            hint = key.text("hint", SHA256_HEX)
        with fields.inner("dsseEnvelope") as dsse:
            dsse.exactly("payloadType", PAYLOAD_TYPE)
            payload = dsse.converted("payload", parse_base64)
            signatures = dsse.array("signatures")
    if len(signatures) != 1:
        raise BundleInvalid(f"the bundle has {len(signatures)} signatures instead of one")
    with Fields(signatures[0], "bundle.dsseEnvelope.signatures", BundleInvalid) as fields:
        fields.exactly("keyid", hint)
        signature = fields.converted("sig", parse_base64)
    return Bundle(hint, Envelope(payload, PAYLOAD_TYPE, {hint: Signature(hint, signature.hex())}))


def open_envelope(raw: bytes, keys: Mapping[str, PublicKey]) -> dict[str, Any]:
    """Return the statement in a bundle file, if one of `keys` (by keyid) signed it.

    Raises: BundleInvalid, KeyUntrusted, SignatureInvalid.
    """
    return parse_bundle(raw).open(keys)
