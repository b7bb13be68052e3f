"""JSON that two readers could read in two ways, or that costs more than it says."""

import json

from signing.manifest import MANIFEST_FILE
from signing.statement import RELEASE_TYPE
from tests.conformance.attacks.corpus import Corpus
from tests.conformance.attacks.steps import step
from tests.conformance.attacks.workshop import payload_of

BUNDLE, MANIFEST = "bundle-invalid", "manifest-invalid"


def documents(c: Corpus) -> None:
    """JSON that two readers could read in two ways, or that costs more than it says."""
    other_spellings(c)
    trailing_bytes(c)
    incomplete_bundles(c)
    costly_bundles(c)
    ambiguous_payloads(c)
    other_payloads(c)
    other_numbers(c)
    other_texts(c)
    other_types(c)


# -- the bundle --------------------------------------------------------------------------------------------------------


def bundles(c: Corpus, cases: dict[str, tuple[str, bytes]]) -> None:
    """Bundles that no reader may take for the good one."""
    c.manifests(BUNDLE, {f"document-{name}": case for name, case in cases.items()})


def other_spellings(c: Corpus) -> None:
    """The good bundle, written in another way."""
    signed = c.files[MANIFEST_FILE]
    text = signed.decode()
    document = json.loads(text)
    unsorted = json.dumps(dict(reversed(document.items())), separators=(",", ":"))
    bundles(
        c,
        {
            "duplicate-key": (
                "A second mediaType: one reader takes the first, another the last.",
                text.replace("{", '{"mediaType":"x",', 1).encode(),
            ),
            "spaced": ("White space: the same content under another digest.", json.dumps(document).encode()),
            "keys-unsorted": ("Keys in another order.", unsorted.encode()),
            "escaped": ("A letter written as an escape.", text.replace("publicKey", "\\u0070ublicKey").encode()),
            "byte-order-mark": ("A byte order mark in front.", b"\xef\xbb\xbf" + signed),
            "utf-16": ("UTF-16 in place of UTF-8.", text.encode("utf-16")),
            "leading-space": ("A space in front.", b" " + signed),
            "comment": ("A comment, which JSON does not have.", b"/* */" + signed),
        },
    )


def trailing_bytes(c: Corpus) -> None:
    """Something follows the good bundle."""
    signed = c.files[MANIFEST_FILE]
    bundles(
        c,
        {
            "trailing-newline": ("A newline at the end.", signed + b"\n"),
            "trailing-document": ("A second document after the first.", signed + b"{}"),
            "trailing-nul": ("A NUL at the end.", signed + b"\0"),
        },
    )
    c.manifest(
        "document-large",
        "unreadable",
        "A mebibyte of spaces follows: whoever reads it whole fills his memory.",
        signed,
        before=(step("append", MANIFEST_FILE, count=1 << 20),),
    )


def incomplete_bundles(c: Corpus) -> None:
    """What is there is no object, or not all of one."""
    signed = c.files[MANIFEST_FILE]
    bundles(
        c,
        {
            "empty": ("Nothing at all.", b""),
            "cut": ("Half of it is there.", signed[: len(signed) // 2]),
            "array": ("An array around it.", b"[" + signed + b"]"),
            "null": ("The document is null.", b"null"),
        },
    )


def costly_bundles(c: Corpus) -> None:
    """Few bytes that take much stack or time to read."""
    bundles(
        c,
        {
            "deep": ("Nested ten thousand deep, to overflow a stack.", b'{"a":' * 10_000 + b"1" + b"}" * 10_000),
            "deep-arrays": ("Ten thousand open brackets.", b"[" * 10_000),
            "long-number": ("A number of ten thousand digits.", b'{"a":' + b"9" * 10_000 + b"}"),
        },
    )


# -- the payload, truly signed -----------------------------------------------------------------------------------------


def reworded(c: Corpus, code: str, cases: dict[str, tuple[str, str, str]]) -> None:
    """Manifests, truly signed: by their names, the attack, a text of the good payload and what stands in its place."""
    payload = payload_of(c.files[MANIFEST_FILE]).decode()
    for name, (attack, old, new) in cases.items():
        if payload.count(old) != 1:
            raise ValueError(f"{old!r} is there {payload.count(old)} times")
        raw = payload.replace(old, new).encode("utf-8", "surrogatepass")
        c.manifest(f"payload-{name}", code, attack, c.shop.seal_bytes(raw))


def ambiguous_payloads(c: Corpus) -> None:
    """JSON that the signer could read in another way than the user."""
    reworded(
        c,
        BUNDLE,
        {
            "duplicate-key": (
                "Truly signed with two names: the signer saw one, the user sees the other.",
                '"name":"debian-12"',
                '"name":"debian-13","name":"debian-12"',
            ),
            "nan": ("Truly signed with NaN as a size.", '"size":244', '"size":NaN'),
            "infinity": ("Truly signed with a number that overflows.", '"size":244', '"size":1e999'),
            "lone-surrogate": (
                "Truly signed with half a character.",
                '"codename":"bookworm"',
                '"codename":"\\ud800"',
            ),
            "not-utf8": (
                "Truly signed with bytes that are no UTF-8.",
                '"codename":"bookworm"',
                '"codename":"\ud800"',
            ),
        },
    )


def other_payloads(c: Corpus) -> None:
    """Truly signed, and no object of a statement's depth."""
    deep = b'{"a":' * 40 + b"1" + b"}" * 40
    c.manifests(
        BUNDLE,
        {
            "payload-deep": ("Truly signed, nested forty deep.", c.shop.seal_bytes(deep)),
            "payload-array": ("Truly signed, an array.", c.shop.seal_bytes(b"[]")),
            "payload-empty": ("Truly signed, nothing at all.", c.shop.seal_bytes(b"")),
        },
    )


def other_numbers(c: Corpus) -> None:
    """A size that is no count of bytes."""
    sizes = {
        "true-as-1": ("true where a number is meant, which Python takes for 1.", "true"),
        "fraction": ("A size with a fraction.", "244.0"),
        "size-as-text": ("A size as text.", '"244"'),
        "negative-size": ("A negative size.", "-244"),
        "huge-size": ("A size that no integer of other readers holds.", str(2**64 + 244)),
    }
    reworded(c, MANIFEST, {name: (attack, '"size":244', f'"size":{size}') for name, (attack, size) in sizes.items()})


def other_texts(c: Corpus) -> None:
    """Where text is meant, something else, and a field that is not meant."""
    reworded(
        c,
        MANIFEST,
        {
            "null-name": ("null for a name.", '"name":"debian-12"', '"name":null'),
            "list-as-text": (
                "A list where text is meant: regular expressions do not take it.",
                '"arch":"x86_64"',
                '"arch":["x86_64"]',
            ),
            "unknown-field": (
                "A field that nobody knows, and that somebody will read in his own way.",
                '"arch":',
                '"aarch":"x","arch":',
            ),
        },
    )


def other_types(c: Corpus) -> None:
    """A document of another kind, or of another version."""
    reworded(
        c,
        MANIFEST,
        {
            "other-predicate": (
                "Another type of predicate.",
                f'"predicateType":"{RELEASE_TYPE}"',
                '"predicateType":"urn:imagefactory:release:v2"',
            ),
            "other-statement": (
                "Another type of statement.",
                '"_type":"https://in-toto.io/Statement/v1"',
                '"_type":"https://in-toto.io/Statement/v0.1"',
            ),
        },
    )
