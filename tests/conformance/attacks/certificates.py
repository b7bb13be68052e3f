"""Each rule for the Glance certificate, broken by somebody whom our CA believed, or who is no CA of ours."""

from dataclasses import replace
from datetime import timedelta

from cryptography import x509
from cryptography.hazmat.primitives.asymmetric import ec, rsa
from cryptography.x509.oid import ExtendedKeyUsageOID, ObjectIdentifier

from imagefactory.factory.authority import issue_ca, issue_leaf
from tests.conformance.attacks.corpus import Corpus
from tests.conformance.attacks.spoil import P256
from tests.conformance.attacks.workshop import (
    AGREEING,
    CERTIFYING,
    GOOD_LEAF,
    MemorySigner,
    Workshop,
    leaf_extensions,
)
from tests.unit.signing.builders import NOW

PURPOSE, UNTRUSTED, EXPIRED = "certificate-purpose", "certificate-untrusted", "certificate-expired"
CA = x509.BasicConstraints(ca=True, path_length=None)


def certificates(c: Corpus) -> None:
    """Each rule for the Glance certificate, broken by somebody whom our CA believed, or who is no CA of ours."""
    another = MemorySigner("glance", ec.generate_private_key(ec.SECP384R1()))
    validity(c)
    missing_extensions(c)
    key_usages(c)
    extended_key_usages(c)
    authorities_as_leaves(c)
    keys(c, another)
    issuers(c, another)
    intermediates(c, another)
    unknown_extensions(c)
    expired_authority(c)


def validity(c: Corpus) -> None:
    """The leaf is not of this time."""
    issue, certified = c.shop.issue, c.shop.certified
    c.manifests(
        EXPIRED,
        {
            "certificate-expired": (
                "The leaf's time is over.",
                certified(issue(end=NOW - timedelta(seconds=1))),
            ),
            "certificate-not-yet-valid": (
                "The leaf's time has not come.",
                certified(issue(start=NOW + timedelta(hours=1))),
            ),
        },
    )


def missing_extensions(c: Corpus) -> None:
    """The leaf does not say what it is for."""
    missing: dict[str, tuple[str, type[x509.ExtensionType]]] = {
        "usage": ("No key usage.", x509.KeyUsage),
        "extended-usage": ("No extended key usage.", x509.ExtendedKeyUsage),
        "constraints": ("No basic constraints.", x509.BasicConstraints),
    }
    for name, (attack, kind) in missing.items():
        leaf = c.shop.issue([each for each in GOOD_LEAF if not isinstance(each[0], kind)])
        c.manifest(f"certificate-{name}-missing", PURPOSE, attack, c.shop.certified(leaf))


def key_usages(c: Corpus) -> None:
    """The leaf is for something else than signatures."""
    usages = {
        "may-certify": ("keyCertSign: this leaf could make leaves.", CERTIFYING),
        "agreement": ("keyAgreement in place of digitalSignature.", AGREEING),
    }
    for name, (attack, usage) in usages.items():
        leaf = c.shop.issue(leaf_extensions(usage=usage))
        c.manifest(f"certificate-{name}", PURPOSE, attack, c.shop.certified(leaf))


def extended_key_usages(c: Corpus) -> None:
    """The leaf is for signing something else than code, or something else, too."""
    eku = ExtendedKeyUsageOID
    purposes = {
        "web-server": ("serverAuth: the key of some web server under the same CA.", [eku.SERVER_AUTH]),
        "two-purposes": ("codeSigning and serverAuth.", [eku.CODE_SIGNING, eku.SERVER_AUTH]),
        "any-purpose": ("anyExtendedKeyUsage.", [eku.ANY_EXTENDED_KEY_USAGE]),
    }
    for name, (attack, each) in purposes.items():
        leaf = c.shop.issue(leaf_extensions(purposes=x509.ExtendedKeyUsage(each)))
        c.manifest(f"certificate-{name}", PURPOSE, attack, c.shop.certified(leaf))


def authorities_as_leaves(c: Corpus) -> None:
    """A CA signs images."""
    shop, authority = c.shop, MemorySigner("glance", c.shop.ca_key)
    c.manifests(
        PURPOSE,
        {
            "certificate-ca-as-leaf": (
                "A leaf that is a CA.",
                shop.certified(shop.issue(leaf_extensions(constraints=CA))),
            ),
            "certificate-ca-itself": (
                "Signed with the CA itself.",
                shop.certified(shop.ca, authority),
            ),
        },
    )


def keys(c: Corpus, another: MemorySigner) -> None:
    """The leaf's key is of another kind than its label says, or not the one that signed."""
    shop, small = c.shop, MemorySigner("glance", ec.generate_private_key(P256))
    rsa_key = rsa.generate_private_key(65537, 2048).public_key()
    c.manifests(
        PURPOSE,
        {
            "certificate-p256": (
                "A P-256 key labelled ECC_SECP384R1, as cursive accepts.",
                shop.certified(shop.issue(key=small.public_key), small),
            ),
            "certificate-rsa": (
                "An RSA key labelled ECC_SECP384R1.",
                shop.certified(shop.issue(key=rsa_key)),
            ),
        },
    )
    c.manifest(
        "certificate-other-key",
        "glance-signature-invalid",
        "A good leaf of ours, and a signature by another key.",
        shop.certified(shop.issue(), another),
    )


def issuers(c: Corpus, another: MemorySigner) -> None:
    """The leaf is of no CA of ours."""
    shop, stranger = c.shop, c.stranger
    forged = shop.issue(by=stranger.ca_key, key=another.public_key)
    own = shop.issue(by=another.key, key=another.public_key, issuer=x509.Name([]))
    c.manifests(
        UNTRUSTED,
        {
            "certificate-other-ca": (
                "A leaf of a stranger's CA.",
                shop.certified(stranger.leaf, stranger.signer("glance")),
            ),
            "certificate-same-subject-other-key": (
                "A stranger's CA under the very name of ours.",
                shop.certified(forged, another),
            ),
            "certificate-self-signed": (
                "A leaf that nobody else signed.",
                shop.certified(own, another),
            ),
        },
    )


def intermediates(c: Corpus, another: MemorySigner) -> None:
    """Between the leaf and our CA there is one more certificate."""
    shop = c.shop
    under = shop.issue(by=shop.signer("glance").key, issuer=shop.leaf.subject, key=another.public_key)
    c.manifests(
        UNTRUSTED,
        {
            "certificate-intermediate": (
                "A leaf of an intermediate that our CA issued: our CA issues leaves only.",
                shop.certified(below_an_intermediate(shop)),
            ),
            "certificate-of-a-leaf": (
                "A leaf that our good leaf issued.",
                shop.certified(under, another),
            ),
        },
    )


def below_an_intermediate(shop: Workshop) -> x509.Certificate:
    """A leaf of an intermediate CA, which the CA of the workshop issued."""
    key = ec.generate_private_key(ec.SECP384R1())
    intermediate = shop.issue([(CERTIFYING, True), (CA, True)], key=key.public_key(), subject="intermediate")
    return shop.issue(by=key, issuer=intermediate.subject)


def unknown_extensions(c: Corpus) -> None:
    """The leaf says more than anybody understands."""
    unknown = x509.UnrecognizedExtension(ObjectIdentifier("1.3.6.1.4.1.55555.1"), b"\x05\x00")
    c.manifest(
        "certificate-unknown-critical",
        UNTRUSTED,
        "A critical extension that nobody knows: it may take back the rest (RFC 5280, 4.2).",
        c.shop.certified(c.shop.issue([*GOOD_LEAF, (unknown, True)])),
    )


def expired_authority(c: Corpus) -> None:
    """The CA is not of this time."""
    key = ec.generate_private_key(ec.SECP384R1())
    ca = issue_ca(key, "old CA", NOW - timedelta(days=3660))
    leaf = issue_leaf(c.shop.signer("glance").public_key, "leaf", ca, key, NOW - timedelta(days=10))
    c.manifest(
        "certificate-ca-expired",
        EXPIRED,
        "The CA's time is over, the leaf's is not.",
        c.shop.certified(leaf),
        trust=replace(c.shop.trust, glance_ca=(ca,)).encode(),
    )
