"""The trust file: the administrator's own, so it is not signed, and what is in doubt is refused."""

import json
from collections.abc import Mapping
from typing import Any

from cryptography import x509
from cryptography.hazmat.primitives.asymmetric import ec, rsa
from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat

from signing.keys import public_pem
from tests.conformance.attacks.corpus import TRUST, Corpus
from tests.conformance.attacks.steps import step
from tests.unit.signing.builders import changed

INVALID = "trust-invalid"
RELEASE_KEYS, BUILDER_KEYS, CAS = ("keys", "release"), ("keys", "provenance"), ("glance_ca",)


def trust_files(c: Corpus) -> None:
    """The trust file is the administrator's own, so it is not signed: what is in doubt is refused, never skipped."""
    purposes(c)
    fields(c)
    key_names(c)
    key_kinds(c)
    key_texts(c)
    authorities(c)
    spellings(c)
    other_files(c)


def good_trust(c: Corpus) -> dict[str, Any]:
    """The good trust file's document."""
    return dict(json.loads(c.shop.trust.encode()))


def entry(pem: object, *names: object) -> dict[str, object]:
    """A key of a trust file; for every image name, unless some are given."""
    return {"key": pem, "names": list(names or "*")}


def trusted_keys(c: Corpus) -> tuple[dict[str, str], dict[str, str]]:
    """A release key of the good trust file, and its builder's key."""
    keys = good_trust(c)["keys"]
    return keys["release"][0], keys["provenance"][0]


def altered(c: Corpus, cases: Mapping[str, tuple[str, tuple[str | int, ...], object]]) -> None:
    """The good trust file but for the value at one path."""
    for name, (attack, path, value) in cases.items():
        c.trusted(f"trust-{name}", INVALID, attack, json.dumps(changed(good_trust(c), path, value)).encode())


def purposes(c: Corpus) -> None:
    """Each purpose has keys of its own, and has some."""
    release, builder = trusted_keys(c)
    altered(
        c,
        {
            "one-key-two-purposes": (
                "The builder's key is a release key, too: the builder could release.",
                RELEASE_KEYS,
                [release, builder],
            ),
            "key-twice": ("A key is listed twice, where keys are counted.", RELEASE_KEYS, [release, release]),
            "no-release-key": ("No release key: nobody is believed, and that must be said.", RELEASE_KEYS, []),
            "no-builder-key": ("No provenance key: any build could be told.", BUILDER_KEYS, []),
            "no-ca": ("No CA: the Glance signature could be by anybody.", CAS, []),
            "unknown-purpose": ("A purpose that nobody knows.", ("keys", "admin"), [release]),
        },
    )


def fields(c: Corpus) -> None:
    """Fields that are unknown, or of another type."""
    release, _ = trusted_keys(c)
    altered(
        c,
        {
            "unknown-field": ("A field that nobody knows, such as a switch.", ("insecure",), True),
            "version-1": ("The version before, whose keys sign for every name.", ("version",), 1),
            "version-3": ("A version that does not exist.", ("version",), 3),
            "version-text": ("The text 2 for version 2.", ("version",), "2"),
            "development-text": ('The text "false", which is true to Python.', ("development",), "false"),
            "key-null": ("null for a key.", RELEASE_KEYS, [None]),
            "key-alone": ("A key as in version 1, which says nothing of names.", RELEASE_KEYS, [release["key"]]),
            "key-until": ("A key with a field that nobody knows.", RELEASE_KEYS, [{**release, "until": "2030-01-01"}]),
        },
    )


def key_names(c: Corpus) -> None:
    """A key has the image names that it may sign for, in full."""
    lists: dict[str, tuple[str, object]] = {
        "none": ("No name: for some readers that is every name.", []),
        "null": ("null for the names.", None),
        "text": ('"*" without its list, in which Python finds "*", too.', "*"),
        "pattern": ("A pattern, which some match and some compare.", ["debian-*"]),
        "one-and-every": ("Every name, hidden behind one.", ["debian-13", "*"]),
        "twice": ("One name twice.", ["debian-12", "debian-12"]),
        "upper-case": ("A name as no release is called.", ["Debian-12"]),
        "path": ("A name with a path.", ["../debian-12"]),
        "newline": ("A line break behind the name.", ["debian-12\n"]),
    }
    for name, (attack, names) in lists.items():
        altered(c, {f"names-{name}": (attack, (*RELEASE_KEYS, 0, "names"), names)})


def key_kinds(c: Corpus) -> None:
    """A release key is on P-256 and nothing else."""
    for curve in (ec.SECP192R1(), ec.SECP224R1(), ec.SECP256K1(), ec.SECP384R1(), ec.SECP521R1()):
        pem = public_pem(ec.generate_private_key(curve).public_key())
        altered(c, {f"key-{curve.name}": (f"A release key on {curve.name}.", RELEASE_KEYS, [entry(pem)])})
    rsa_key = rsa.generate_private_key(65537, 2048).public_key()
    rsa_pem = rsa_key.public_bytes(Encoding.PEM, PublicFormat.SubjectPublicKeyInfo).decode()
    leaf_pem = c.shop.manifest().formats["raw"].glance.certificate
    altered(
        c,
        {
            "key-rsa": ("An RSA key.", RELEASE_KEYS, [entry(rsa_pem)]),
            "key-certificate": ("A certificate where a key is meant.", RELEASE_KEYS, [entry(leaf_pem)]),
        },
    )


def key_texts(c: Corpus) -> None:
    """A key is one PEM text in its one form."""
    release, builder = (each["key"] for each in trusted_keys(c))
    texts = {
        "windows": ("A key with carriage returns.", release.replace("\n", "\r\n")),
        "two": ("Two keys in one text, of which readers of PEM take the first.", release + builder),
        "with-text": ("A word before the key.", "ours\n" + release),
        "cut": ("A key of which a line is missing.", "".join(release.splitlines(keepends=True)[::2])),
    }
    altered(c, {f"key-{name}": (attack, RELEASE_KEYS, [entry(text)]) for name, (attack, text) in texts.items()})


def authorities(c: Corpus) -> None:
    """The CA is none, or was altered after it was signed."""
    leaf_pem = c.shop.manifest().formats["raw"].glance.certificate
    altered(c, {"leaf-as-ca": ("A leaf as a CA.", CAS, [leaf_pem])})
    der = c.shop.ca.public_bytes(Encoding.DER)
    longer = der.replace(c.shop.ca.not_valid_after_utc.strftime("%y%m%d").encode(), b"491231")
    for name, spoilt in {"signature": der[:-1] + bytes((der[-1] ^ 1,)), "end": longer}.items():
        pem = x509.load_der_x509_certificate(spoilt).public_bytes(Encoding.PEM).decode()
        attack = f"The {name} of the CA is altered: its own signature does not fit any more."
        altered(c, {f"ca-{name}": (attack, CAS, [pem])})


def spellings(c: Corpus) -> None:
    """JSON that two readers could read in two ways, or not at all."""
    raw = c.shop.trust.encode()
    spoilt = {
        "byte-order-mark": b"\xef\xbb\xbf" + raw,
        "duplicate-key": raw.replace(b"{", b'{"version":2,', 1),
        "trailing": raw + b"{}",
        "empty": b"",
        "cut": raw[:-10],
        "array": b"[" + raw + b"]",
    }
    for name, bad in spoilt.items():
        c.trusted(f"trust-{name}", INVALID, f"A trust file with what JSON must not have: {name}.", bad)


def other_files(c: Corpus) -> None:
    """The trust file is gone, no file, or too large."""
    raw, gone = c.shop.trust.encode(), step("remove", TRUST)
    large = step("append", TRUST, count=2 << 20)
    c.trusted("trust-gone", "unreadable", "The trust file is gone.", raw, before=(gone,))
    c.trusted("trust-large", "unreadable", "A trust file of two mebibytes.", raw, before=(large,))
    for kind in ("directory", "pipe"):
        attack = f"A {kind} in its place."
        c.trusted(f"trust-{kind}", "not-a-regular-file", attack, raw, before=(gone, step(kind, TRUST)))
