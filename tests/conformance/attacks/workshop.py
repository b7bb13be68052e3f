"""What an attacker, or a maker whose hand slips, has at hand: every key, only in memory, and no rule to bind them."""

import base64
import json
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from datetime import datetime, timedelta
from pathlib import Path
from typing import Any, cast

from cryptography import x509
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec, rsa
from cryptography.hazmat.primitives.asymmetric.utils import Prehashed
from cryptography.x509.oid import ExtendedKeyUsageOID, NameOID

from imagefactory.factory.authority import issue_ca, issue_leaf
from signing.certificates import certificate_pem, fingerprint
from signing.checksums import CHECKSUMS_FILE, SIGNATURE_FILE
from signing.glance import HASH_METHOD, KEY_TYPE, GlanceSignature
from signing.keys import PURPOSES, PublicKey, Purpose, curve_of, keyid_of
from signing.manifest import MANIFEST_FILE, PROVENANCE_FILE, FormatEntry, ReleaseManifest
from signing.signer import CHECKSUMS_PREFIX, one_spelling
from signing.trust import EVERY_NAME, Trust
from tests.unit.signing.builders import (
    NOW,
    SBOM,
    SBOM_FILE,
    STEM,
    Keys,
    changed,
    make_entry,
    make_manifest,
    make_provenance,
    sha256,
)

IMAGES: Mapping[str, bytes] = {
    "qcow2": b"QFI\xfb" + b"disk" * 60,
    "raw": bytes(300) + b"raw disk" * 20,
}
"""Images as the verifier sees them: bytes."""

SIGNING = x509.KeyUsage(True, False, False, False, False, False, False, False, False)
CERTIFYING = x509.KeyUsage(True, False, False, False, False, True, False, False, False)
AGREEING = x509.KeyUsage(False, False, False, False, True, False, False, False, False)
CODE = x509.ExtendedKeyUsage([ExtendedKeyUsageOID.CODE_SIGNING])
END = x509.BasicConstraints(ca=False, path_length=None)
Extensions = Sequence[tuple[x509.ExtensionType, bool]]
"""The extensions of a certificate, and whether each is critical."""


def leaf_extensions(
    usage: x509.KeyUsage = SIGNING, purposes: x509.ExtendedKeyUsage = CODE, constraints: x509.BasicConstraints = END
) -> Extensions:
    """The extensions of a good leaf but for what is given."""
    return (usage, True), (purposes, False), (constraints, True)


GOOD_LEAF = leaf_extensions()


@dataclass(frozen=True)
class MemorySigner:
    """A key that signs whatever it is given."""

    purpose: Purpose
    key: ec.EllipticCurvePrivateKey = field(repr=False)

    @property
    def public_key(self) -> PublicKey:
        return self.key.public_key()

    @property
    def keyid(self) -> str:
        return keyid_of(self.public_key)

    def sign(self, payload: bytes) -> bytes:
        return one_spelling(self.key.sign(payload, ec.ECDSA(hashes.SHA256())), self.key.curve)

    def sign_prehashed(self, digest: bytes) -> bytes:
        return one_spelling(self.key.sign(digest, ec.ECDSA(Prehashed(hashes.SHA512()))), self.key.curve)


class Workshop:
    """One maker: a key for each purpose, an older release key, and a CA. `keys` is what the builders want."""

    def __init__(self, now: datetime = NOW) -> None:
        self._signers = {each: MemorySigner(each, ec.generate_private_key(curve_of(each))) for each in PURPOSES}
        self.older = MemorySigner("release", ec.generate_private_key(ec.SECP256R1()))
        self.ca_key = ec.generate_private_key(ec.SECP384R1())
        self.ca = issue_ca(self.ca_key, "imagefactory Glance CA", now)
        self.leaf = issue_leaf(self.signer("glance").public_key, "Glance signer", self.ca, self.ca_key, now)
        release = {each.keyid: each.public_key for each in (self.signer("release"), self.older)}
        builder = self.signer("provenance")
        names = dict.fromkeys((*release, builder.keyid), (EVERY_NAME,))
        self.trust = Trust(True, release, {builder.keyid: builder.public_key}, (self.ca,), names)

    @property
    def keys(self) -> Keys:
        """This workshop as the builders of the unit tests know keys: they ask for signers, certificate and trust."""
        return cast("Keys", self)

    @property
    def ring(self) -> "Workshop":
        return self

    def signer(self, purpose: Purpose) -> MemorySigner:
        return self._signers[purpose]

    def certificate(self) -> x509.Certificate:
        return self.leaf

    # -- documents ----------------------------------------------------------------------------------------------------

    def manifest(self, provenance: bytes = b"", **changes: Any) -> ReleaseManifest:  # noqa: ANN401
        """A good manifest but for `changes`."""
        return replace(make_manifest(self.keys, provenance, IMAGES), **changes)

    def statement(self, **changes: Any) -> dict[str, Any]:  # noqa: ANN401
        """A good manifest's statement."""
        return self.manifest(**changes).to_statement()

    def release_files(self, **changes: Any) -> dict[str, bytes]:  # noqa: ANN401
        """The files of a good release but for SHA256SUMS and its signature; `changes` are those of the manifest."""
        provenance = self.provenance()
        return {
            **{f"{STEM}.{kind}": image for kind, image in IMAGES.items()},
            SBOM_FILE: SBOM,
            PROVENANCE_FILE: provenance,
            MANIFEST_FILE: self.seal(self.statement(provenance=provenance, **changes)),
        }

    def provenance(self, images: Mapping[str, bytes] = IMAGES) -> bytes:
        """A genuine provenance of these images."""
        subjects = replace(
            self.manifest(), formats={kind: make_entry(self.keys, kind, image) for kind, image in images.items()}
        ).subjects
        return self.seal(make_provenance(subjects).to_statement(), "provenance")

    def seal(self, statement: object, by: Purpose | MemorySigner = "release") -> bytes:
        """A bundle of any statement at all, truly signed."""
        return self.seal_bytes(json.dumps(statement, sort_keys=True, separators=(",", ":")).encode(), by)

    def seal_changed(self, path: tuple[str | int, ...], value: object) -> bytes:
        """A manifest, good but for the value at `path` of its statement, and truly signed."""
        return self.seal(changed(self.statement(), path, value))

    def seal_bytes(self, payload: bytes, by: Purpose | MemorySigner = "release") -> bytes:
        """A bundle around any bytes, truly signed over DSSE's pre-authentication encoding."""
        signer = by if isinstance(by, MemorySigner) else self.signer(by)
        return bundle(payload, signer.keyid, signer.sign(pae(payload)))

    def checksums(self, folder: Path, by: Purpose | MemorySigner = "release", raw: bytes | None = None) -> None:
        """Write and sign SHA256SUMS of a folder as it is, or of any text."""
        if raw is None:
            names = sorted({each.name for each in folder.iterdir()} - {CHECKSUMS_FILE, SIGNATURE_FILE})
            lines = "".join(f"{sha256((folder / name).read_bytes())}  {name}\n" for name in names)
            raw = CHECKSUMS_PREFIX + lines.encode()
        (folder / CHECKSUMS_FILE).write_bytes(raw)
        signer = by if isinstance(by, MemorySigner) else self.signer(by)
        (folder / SIGNATURE_FILE).write_bytes(signer.sign(raw))

    # -- certificates -------------------------------------------------------------------------------------------------

    def issue(
        self,
        extensions: Extensions = GOOD_LEAF,
        *,
        key: ec.EllipticCurvePublicKey | rsa.RSAPublicKey | None = None,
        issuer: x509.Name | None = None,
        by: ec.EllipticCurvePrivateKey | None = None,
        start: datetime = NOW - timedelta(days=1),
        end: datetime = NOW + timedelta(days=3000),
        subject: str = "leaf",
    ) -> x509.Certificate:
        """A certificate with these extensions, by our CA unless another key is given."""
        signed_by = by or self.ca_key
        builder = (
            x509.CertificateBuilder()
            .subject_name(x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, subject)]))
            .issuer_name(issuer or self.ca.subject)
            .public_key(key or self.signer("glance").public_key)
            .serial_number(x509.random_serial_number())
            .not_valid_before(start)
            .not_valid_after(end)
            .add_extension(x509.AuthorityKeyIdentifier.from_issuer_public_key(signed_by.public_key()), critical=False)
        )
        for extension, critical in extensions:
            builder = builder.add_extension(extension, critical)
        return builder.sign(signed_by, hashes.SHA384())

    def certified(self, leaf: x509.Certificate, by: MemorySigner | None = None) -> bytes:
        """A manifest, truly signed, whose formats are all signed for Glance under another certificate."""
        signer = by or self.signer("glance")

        def again(entry: FormatEntry) -> FormatEntry:
            return replace(entry, glance=glance(signer.sign_prehashed(bytes.fromhex(entry.sha512)), leaf))

        formats = {kind: again(entry) for kind, entry in self.manifest().formats.items()}
        return self.seal(self.statement(formats=formats))


def glance(signature: bytes, leaf: x509.Certificate) -> GlanceSignature:
    return GlanceSignature(
        base64.b64encode(signature).decode(), HASH_METHOD, KEY_TYPE, fingerprint(leaf), certificate_pem(leaf)
    )


def pae(payload: bytes, kind: str = "application/vnd.in-toto+json") -> bytes:
    """DSSE's pre-authentication encoding, from its specification and not from the library that verifies."""
    return b"DSSEv1 %d %s %d %s" % (len(kind), kind.encode(), len(payload), payload)


def bundle(payload: bytes, keyid: str, *signatures: bytes) -> bytes:
    """A bundle with any number of signatures."""
    return canonical(
        {
            "mediaType": "application/vnd.dev.sigstore.bundle.v0.3+json",
            "verificationMaterial": {"publicKey": {"hint": keyid}},
            "dsseEnvelope": {
                "payload": base64.b64encode(payload).decode(),
                "payloadType": "application/vnd.in-toto+json",
                "signatures": [{"keyid": keyid, "sig": base64.b64encode(each).decode()} for each in signatures],
            },
        }
    )


def canonical(document: object) -> bytes:
    return json.dumps(document, sort_keys=True, separators=(",", ":")).encode("ascii")


def reopened(raw: bytes, change: Callable[[dict[str, Any]], object]) -> bytes:
    """A bundle with something in it changed, canonical again, and nothing signed again."""
    document = json.loads(raw)
    change(document)
    return canonical(document)


def payload_of(raw: bytes) -> bytes:
    return base64.b64decode(json.loads(raw)["dsseEnvelope"]["payload"])


def signature_of(raw: bytes) -> bytes:
    return base64.b64decode(json.loads(raw)["dsseEnvelope"]["signatures"][0]["sig"])
