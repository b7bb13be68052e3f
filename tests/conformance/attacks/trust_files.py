"""The trust file: the administrator's own, so it is not signed, and what is in doubt is refused."""

import json

from cryptography import x509
from cryptography.hazmat.primitives.asymmetric import ec, rsa
from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat

from signing.keys import public_pem
from tests.conformance.attacks.corpus import TRUST, Corpus
from tests.unit.signing.builders import changed


def trust_files(c: Corpus) -> None:
    """The trust file is the administrator's own, so it is not signed: what is in doubt is refused, never skipped."""
    shop = c.shop
    good_one = json.loads(shop.trust.encode())
    release, builder = good_one["keys"]["release"][0], good_one["keys"]["provenance"][0]
    leaf_pem = shop.manifest().formats["raw"].glance.certificate

    def changes(name: str, attack: str, path: tuple[str | int, ...], value: object) -> None:
        c.trusted(f"trust-{name}", "trust-invalid", attack, json.dumps(changed(good_one, path, value)).encode())

    changes(
        "one-key-two-purposes",
        "The builder's key is a release key, too: the builder could release.",
        ("keys", "release"),
        [release, builder],
    )
    changes("key-twice", "A key is listed twice, where keys are counted.", ("keys", "release"), [release, release])
    changes("no-release-key", "No release key: nobody is believed, and that must be said.", ("keys", "release"), [])
    changes("no-builder-key", "No provenance key: any build could be told.", ("keys", "provenance"), [])
    changes("no-ca", "No CA: the Glance signature could be by anybody.", ("glance_ca",), [])
    changes("unknown-purpose", "A purpose that nobody knows.", ("keys", "admin"), [release])
    changes("unknown-field", "A field that nobody knows, such as a switch.", ("insecure",), True)
    changes("version-2", "A version that does not exist.", ("version",), 2)
    changes("version-true", "true for version 1.", ("version",), True)
    changes("development-text", 'The text "false", which is true to Python.', ("development",), "false")
    changes("key-null", "null for a key.", ("keys", "release"), [None])
    changes("leaf-as-ca", "A leaf as a CA.", ("glance_ca",), [leaf_pem])
    changes("key-certificate", "A certificate where a key is meant.", ("keys", "release"), [leaf_pem])
    for curve in (ec.SECP192R1(), ec.SECP224R1(), ec.SECP256K1(), ec.SECP384R1(), ec.SECP521R1()):
        pem = public_pem(ec.generate_private_key(curve).public_key())
        changes(f"key-{curve.name}", f"A release key on {curve.name}.", ("keys", "release"), [pem])
    rsa_pem = (
        rsa.generate_private_key(65537, 2048).public_key().public_bytes(Encoding.PEM, PublicFormat.SubjectPublicKeyInfo)
    )
    changes("key-rsa", "An RSA key.", ("keys", "release"), [rsa_pem.decode()])
    changes("key-windows", "A key with carriage returns.", ("keys", "release"), [release.replace("\n", "\r\n")])
    changes(
        "key-two",
        "Two keys in one text, of which readers of PEM take the first.",
        ("keys", "release"),
        [release + builder],
    )
    changes("key-with-text", "A word before the key.", ("keys", "release"), ["ours\n" + release])
    changes(
        "key-cut",
        "A key of which a line is missing.",
        ("keys", "release"),
        ["".join(release.splitlines(keepends=True)[::2])],
    )
    raw = shop.trust.encode()
    for name, bad in {
        "byte-order-mark": b"\xef\xbb\xbf" + raw,
        "duplicate-key": raw.replace(b"{", b'{"version":1,', 1),
        "trailing": raw + b"{}",
        "empty": b"",
        "cut": raw[:-10],
        "array": b"[" + raw + b"]",
    }.items():
        c.trusted(f"trust-{name}", "trust-invalid", f"A trust file with what JSON must not have: {name}.", bad)
    der = shop.ca.public_bytes(Encoding.DER)
    longer = der.replace(shop.ca.not_valid_after_utc.strftime("%y%m%d").encode(), b"491231")
    for name, spoilt in {"signature": der[:-1] + bytes((der[-1] ^ 1,)), "end": longer}.items():
        pem = x509.load_der_x509_certificate(spoilt).public_bytes(Encoding.PEM).decode()
        attack = f"The {name} of the CA is altered: its own signature does not fit any more."
        changes(f"ca-{name}", attack, ("glance_ca",), [pem])
    steps = ({"do": "remove", "path": TRUST},)
    c.trusted("trust-gone", "unreadable", "The trust file is gone.", raw, before=steps)
    c.trusted(
        "trust-directory",
        "not-a-regular-file",
        "A directory in its place.",
        raw,
        before=(*steps, {"do": "directory", "path": TRUST}),
    )
    c.trusted(
        "trust-pipe", "not-a-regular-file", "A pipe in its place.", raw, before=(*steps, {"do": "pipe", "path": TRUST})
    )
    c.trusted(
        "trust-large",
        "unreadable",
        "A trust file of two mebibytes.",
        raw,
        before=({"do": "append", "path": TRUST, "count": 2 << 20},),
    )
