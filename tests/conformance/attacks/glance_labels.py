"""The Glance properties of an image in a truly signed manifest: labels, signature and certificate, spoilt."""

import base64
from collections.abc import Mapping

from cryptography.hazmat.primitives.asymmetric import ec

from tests.conformance.attacks.corpus import Corpus
from tests.conformance.attacks.spoil import padded
from tests.conformance.attacks.workshop import glance
from tests.unit.signing.builders import respelled

Changes = Mapping[str, str]


def glance_labels(c: Corpus) -> None:
    """The Glance properties of an image in a truly signed manifest: labels, signature and certificate, spoilt."""
    algorithms(c)
    signature_encodings(c)
    other_certificates(c)
    other_images(c)


def relabelled(c: Corpus, code: str, cases: Mapping[str, tuple[str, Changes]]) -> None:
    """Manifests with changes to what the raw image's Glance properties say."""
    for name, (attack, changes) in cases.items():
        statement = c.shop.statement()
        statement["predicate"]["formats"]["raw"]["glance"].update(changes)
        c.manifest(f"glance-{name}", code, attack, c.shop.seal(statement))


def algorithms(c: Corpus) -> None:
    """The label says that the signature is of another kind."""
    relabelled(
        c,
        "glance-label-invalid",
        {
            "sha256": ("Labelled SHA-256.", {"img_signature_hash_method": "SHA-256"}),
            "rsa": ("Labelled RSA-PSS.", {"img_signature_key_type": "RSA-PSS"}),
        },
    )


def signature_encodings(c: Corpus) -> None:
    """The good signature, written in another way."""
    text = c.shop.manifest().formats["raw"].glance.img_signature
    der = base64.b64decode(text)
    spellings = {
        "bytes-of-python": ("b'...' around the signature, as a known client writes it.", f"b'{text}'"),
        "stray-base64": ("Garbage inside the base64, which cursive skips.", f"{text[:8]}!{text[8:]}"),
        "padded-der": ("A needless zero in front of r.", base64.b64encode(padded(der)).decode()),
        "malleable": ("(r, n - s) for (r, s).", base64.b64encode(respelled(der, ec.SECP384R1())).decode()),
    }
    relabelled(
        c,
        "glance-encoding-invalid",
        {name: (attack, {"img_signature": signature}) for name, (attack, signature) in spellings.items()},
    )


def other_certificates(c: Corpus) -> None:
    """The certificate is not the one PEM text that its fingerprint names."""
    fingerprint = {"certificate_sha256": "ab" * 32}
    relabelled(c, "certificate-mismatch", {"fingerprint": ("The fingerprint is of another certificate.", fingerprint)})
    good = c.shop.manifest().formats["raw"].glance.certificate
    nothing = "-----BEGIN CERTIFICATE-----\nAAAA\n-----END CERTIFICATE-----\n"
    relabelled(
        c,
        "certificate-damaged",
        {
            "two-certificates": ("Two certificates where one is meant.", {"certificate": good * 2}),
            "certificate-with-text": (
                "A word before the certificate, which readers of PEM skip.",
                {"certificate": "Trust\n" + good},
            ),
            "no-certificate": ("A certificate that is none.", {"certificate": nothing}),
        },
    )


def other_images(c: Corpus) -> None:
    """A genuine signature, of something else."""
    other = glance(c.shop.signer("glance").sign_prehashed(bytes(64)), c.shop.leaf)
    changes = {"img_signature": other.img_signature}
    relabelled(c, "glance-signature-invalid", {"of-another-image": ("A signature over another image.", changes)})
