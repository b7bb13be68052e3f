"""Each rule for the Glance signature and its certificate, broken."""

import base64
from dataclasses import replace
from datetime import timedelta

from cryptography import x509
from cryptography.hazmat.primitives.asymmetric import ec, rsa
from cryptography.x509.oid import ExtendedKeyUsageOID, ObjectIdentifier

from imagefactory.factory.authority import issue_ca, issue_leaf
from tests.conformance.attacks.corpus import Corpus
from tests.conformance.attacks.spoil import P256, padded
from tests.conformance.attacks.workshop import (
    AGREEING,
    CERTIFYING,
    CODE,
    END,
    GOOD_LEAF,
    SIGNING,
    MemorySigner,
    glance,
)
from tests.unit.signing.builders import NOW, respelled


def certificates(c: Corpus) -> None:
    """Each rule for the Glance certificate, broken by somebody whom our CA believed, or who is no CA of ours."""
    shop = c.shop

    def leaf(
        name: str,
        code: str,
        attack: str,
        certificate: x509.Certificate,
        by: MemorySigner | None = None,
        trust: bytes | None = None,
    ) -> None:
        c.manifest(
            f"certificate-{name}", code, attack, shop.seal(shop.certified(certificate, by).to_statement()), trust=trust
        )

    def without(kind: type[x509.ExtensionType]) -> x509.Certificate:
        return shop.issue([each for each in GOOD_LEAF if not isinstance(each[0], kind)])

    def usages(*purposes: ObjectIdentifier) -> x509.Certificate:
        return shop.issue([(SIGNING, True), (x509.ExtendedKeyUsage(purposes), False), (END, True)])

    eku = ExtendedKeyUsageOID
    leaf("expired", "certificate-expired", "The leaf's time is over.", shop.issue(end=NOW - timedelta(seconds=1)))
    leaf(
        "not-yet-valid",
        "certificate-expired",
        "The leaf's time has not come.",
        shop.issue(start=NOW + timedelta(hours=1)),
    )
    leaf("usage-missing", "certificate-purpose", "No key usage.", without(x509.KeyUsage))
    leaf("extended-usage-missing", "certificate-purpose", "No extended key usage.", without(x509.ExtendedKeyUsage))
    leaf("constraints-missing", "certificate-purpose", "No basic constraints.", without(x509.BasicConstraints))
    leaf(
        "may-certify",
        "certificate-purpose",
        "keyCertSign: this leaf could make leaves.",
        shop.issue([(CERTIFYING, True), (CODE, False), (END, True)]),
    )
    leaf(
        "agreement",
        "certificate-purpose",
        "keyAgreement in place of digitalSignature.",
        shop.issue([(AGREEING, True), (CODE, False), (END, True)]),
    )
    leaf(
        "web-server",
        "certificate-purpose",
        "serverAuth: the key of some web server under the same CA.",
        usages(eku.SERVER_AUTH),
    )
    leaf(
        "two-purposes", "certificate-purpose", "codeSigning and serverAuth.", usages(eku.CODE_SIGNING, eku.SERVER_AUTH)
    )
    leaf("any-purpose", "certificate-purpose", "anyExtendedKeyUsage.", usages(eku.ANY_EXTENDED_KEY_USAGE))
    is_ca = x509.BasicConstraints(ca=True, path_length=None)
    leaf(
        "ca-as-leaf",
        "certificate-purpose",
        "A leaf that is a CA.",
        shop.issue([(SIGNING, True), (CODE, False), (is_ca, True)]),
    )
    authority = MemorySigner("glance", shop.ca_key)
    leaf("ca-itself", "certificate-purpose", "Signed with the CA itself.", shop.ca, authority)
    small = MemorySigner("glance", ec.generate_private_key(P256))
    leaf(
        "p256",
        "certificate-purpose",
        "A P-256 key labelled ECC_SECP384R1, as cursive accepts.",
        shop.issue(key=ec_key(small)),
        small,
    )
    large = MemorySigner("glance", ec.generate_private_key(ec.SECP384R1()))
    rsa_key = rsa.generate_private_key(65537, 2048).public_key()
    leaf("rsa", "certificate-purpose", "An RSA key labelled ECC_SECP384R1.", shop.issue(key=rsa_key))
    leaf(
        "other-key",
        "glance-signature-invalid",
        "A good leaf of ours, and a signature by another key.",
        shop.issue(),
        large,
    )
    leaf(
        "other-ca", "certificate-untrusted", "A leaf of a stranger's CA.", c.stranger.leaf, c.stranger.signer("glance")
    )
    forged = shop.issue(by=c.stranger.ca_key, key=ec_key(large))
    leaf(
        "same-subject-other-key", "certificate-untrusted", "A stranger's CA under the very name of ours.", forged, large
    )
    own = shop.issue(by=large.key, key=ec_key(large), issuer=x509.Name([]))
    leaf("self-signed", "certificate-untrusted", "A leaf that nobody else signed.", own, large)
    middle_key = ec.generate_private_key(ec.SECP384R1())
    middle = shop.issue([(CERTIFYING, True), (is_ca, True)], key=middle_key.public_key(), subject="intermediate")
    below = shop.issue(by=middle_key, issuer=middle.subject)
    leaf(
        "intermediate",
        "certificate-untrusted",
        "A leaf of an intermediate that our CA issued: our CA issues leaves only.",
        below,
    )
    under = shop.issue(by=shop.signer("glance").key, issuer=shop.leaf.subject, key=ec_key(large))
    leaf("of-a-leaf", "certificate-untrusted", "A leaf that our good leaf issued.", under, large)
    unknown = x509.UnrecognizedExtension(ObjectIdentifier("1.3.6.1.4.1.55555.1"), b"\x05\x00")
    leaf(
        "unknown-critical",
        "certificate-untrusted",
        "A critical extension that nobody knows: it may take back the rest (RFC 5280, 4.2).",
        shop.issue([*GOOD_LEAF, (unknown, True)]),
    )
    old_key = ec.generate_private_key(ec.SECP384R1())
    old = issue_ca(old_key, "old CA", NOW - timedelta(days=3660))
    late = issue_leaf(shop.signer("glance").public_key, "leaf", old, old_key, NOW - timedelta(days=10))
    leaf(
        "ca-expired",
        "certificate-expired",
        "The CA's time is over, the leaf's is not.",
        late,
        trust=replace(shop.trust, glance_ca=(old,)).encode(),
    )
    glance_labels(c)


def ec_key(signer: MemorySigner) -> ec.EllipticCurvePublicKey:
    return signer.public_key


def glance_labels(c: Corpus) -> None:
    shop = c.shop

    def field(name: str, code: str, attack: str, **changes: str) -> None:
        statement = shop.statement()
        statement["predicate"]["formats"]["raw"]["glance"].update(changes)
        c.manifest(f"glance-{name}", code, attack, shop.seal(statement))

    entry = shop.manifest().formats["raw"].glance
    der = base64.b64decode(entry.img_signature)
    curve = ec.SECP384R1()
    field("sha256", "glance-label-invalid", "Labelled SHA-256.", img_signature_hash_method="SHA-256")
    field("rsa", "glance-label-invalid", "Labelled RSA-PSS.", img_signature_key_type="RSA-PSS")
    field(
        "bytes-of-python",
        "glance-encoding-invalid",
        "b'...' around the signature, as a known client writes it.",
        img_signature=f"b'{entry.img_signature}'",
    )
    field(
        "stray-base64",
        "glance-encoding-invalid",
        "Garbage inside the base64, which cursive skips.",
        img_signature=f"{entry.img_signature[:8]}!{entry.img_signature[8:]}",
    )
    field(
        "padded-der",
        "glance-encoding-invalid",
        "A needless zero in front of r.",
        img_signature=base64.b64encode(padded(der)).decode(),
    )
    field(
        "malleable",
        "glance-encoding-invalid",
        "(r, n - s) for (r, s).",
        img_signature=base64.b64encode(respelled(der, curve)).decode(),
    )
    field(
        "fingerprint",
        "certificate-mismatch",
        "The fingerprint is of another certificate.",
        certificate_sha256="ab" * 32,
    )
    field(
        "two-certificates",
        "certificate-damaged",
        "Two certificates where one is meant.",
        certificate=entry.certificate * 2,
    )
    field(
        "certificate-with-text",
        "certificate-damaged",
        "A word before the certificate, which readers of PEM skip.",
        certificate="Trust\n" + entry.certificate,
    )
    field(
        "no-certificate",
        "certificate-damaged",
        "A certificate that is none.",
        certificate="-----BEGIN CERTIFICATE-----\nAAAA\n-----END CERTIFICATE-----\n",
    )
    other = glance(shop.signer("glance").sign_prehashed(bytes(64)), shop.leaf)
    field(
        "of-another-image",
        "glance-signature-invalid",
        "A signature over another image.",
        img_signature=other.img_signature,
    )
