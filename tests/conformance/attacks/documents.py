"""Documents that two readers could read in two ways, and clocks that are wrong."""

import json
from datetime import timedelta
from functools import partial

from signing.manifest import MANIFEST_FILE, PROVENANCE_FILE
from signing.statement import RELEASE_TYPE
from tests.conformance.attacks.corpus import Corpus
from tests.conformance.attacks.spoil import Steps, put
from tests.conformance.attacks.workshop import (
    payload_of,
)
from tests.unit.signing.builders import DELETE, NOW, changed

NOT_YET = "release-not-yet"


def times(c: Corpus) -> None:
    """The clock, of the maker and of the one who verifies."""
    signed = c.files[MANIFEST_FILE]
    c.manifest(
        "expired",
        "release-expired",
        "The release is past its date: a mirror that is frozen serves it for ever.",
        signed,
        now=NOW + timedelta(days=180),
    )
    c.manifest(
        "expired-long-ago",
        "release-expired",
        "Expired, and the leaf is, too: the release is what to talk about.",
        signed,
        now=NOW + timedelta(days=4000),
    )
    for name, value in {
        "expires-before-created": "2025-11-21T18:59:59Z",
        "expires-when-created": "2025-11-21T19:00:00Z",
        "expires-in-another-zone": "2026-11-21T19:00:00+14:00",
        "expires-no-such-day": "2026-02-30T00:00:00Z",
        "expires-no-such-hour": "2026-02-20T24:00:00Z",
        "expires-never-said": DELETE,
        "expires-a-number": 1900000000,
    }.items():
        raw = c.shop.seal(changed(c.shop.statement(), ("predicate", "expires"), value))
        c.manifest(
            name,
            "manifest-invalid",
            "Signed with a date of expiry that cannot be one, or could be read in two ways.",
            raw,
        )


def too_early(c: Corpus) -> None:
    """The release is of a time that has not come."""
    signed = c.files[MANIFEST_FILE]
    future = c.shop.statement(created=NOW + timedelta(days=2), expires=NOW + timedelta(days=9))
    c.manifest(
        "created-in-the-future",
        NOT_YET,
        "Created in two days: its makers' clock is wrong, or it was signed for later.",
        c.shop.seal(future),
    )
    c.manifest(
        "clock-turned-back",
        NOT_YET,
        "The clock of the one who verifies is turned back to before the release.",
        signed,
        now=NOW - timedelta(days=30),
    )
    c.manifest(
        "clock-at-the-epoch",
        NOT_YET,
        "A machine without a clock thinks that it is 1970.",
        signed,
        now=NOW.replace(year=1970),
    )


def documents(c: Corpus) -> None:
    """JSON that two readers could read in two ways, or that costs more than it says."""
    shop, signed = c.shop, c.files[MANIFEST_FILE]
    text = signed.decode()

    def unsigned(name: str, attack: str, raw: bytes, before: Steps = ()) -> None:
        c.manifest(f"document-{name}", "bundle-invalid", attack, raw, before=before)

    payload = payload_of(signed).decode()

    def inside(name: str, attack: str, old: str, new: str, code: str = "manifest-invalid") -> None:
        if payload.count(old) != 1:
            raise ValueError(f"{old!r} is there {payload.count(old)} times")
        c.manifest(
            f"payload-{name}", code, attack, shop.seal_bytes(payload.replace(old, new).encode("utf-8", "surrogatepass"))
        )

    unsigned(
        "duplicate-key",
        "A second mediaType: one reader takes the first, another the last.",
        text.replace("{", '{"mediaType":"x",', 1).encode(),
    )
    unsigned("spaced", "White space: the same content under another digest.", json.dumps(json.loads(text)).encode())
    unsigned("keys-unsorted", "Keys in another order.", canonical_unsorted(text))
    unsigned("escaped", "A letter written as an escape.", text.replace("publicKey", "\\u0070ublicKey").encode())
    unsigned("byte-order-mark", "A byte order mark in front.", b"\xef\xbb\xbf" + signed)
    unsigned("utf-16", "UTF-16 in place of UTF-8.", text.encode("utf-16"))
    unsigned("trailing-newline", "A newline at the end.", signed + b"\n")
    unsigned("trailing-document", "A second document after the first.", signed + b"{}")
    unsigned("trailing-nul", "A NUL at the end.", signed + b"\0")
    unsigned("leading-space", "A space in front.", b" " + signed)
    unsigned("empty", "Nothing at all.", b"")
    unsigned("cut", "Half of it is there.", signed[: len(signed) // 2])
    unsigned("array", "An array around it.", b"[" + signed + b"]")
    unsigned("null", "The document is null.", b"null")
    unsigned("deep", "Nested ten thousand deep, to overflow a stack.", b'{"a":' * 10_000 + b"1" + b"}" * 10_000)
    unsigned("deep-arrays", "Ten thousand open brackets.", b"[" * 10_000)
    unsigned("long-number", "A number of ten thousand digits.", b'{"a":' + b"9" * 10_000 + b"}")
    unsigned("comment", "A comment, which JSON does not have.", b"/* */" + signed)
    c.add(
        "document-large", "unreadable", "A mebibyte of spaces follows: whoever reads it whole fills his memory.",
        {MANIFEST_FILE: signed}, verify="manifest", path=MANIFEST_FILE,
        before=({"do": "append", "path": MANIFEST_FILE, "count": 1 << 20},),
    )  # fmt: skip
    invalid = "bundle-invalid"
    inside(
        "duplicate-key",
        "Truly signed with two names: the signer saw one, the user sees the other.",
        '"name":"debian-12"',
        '"name":"debian-13","name":"debian-12"',
        invalid,
    )
    inside("nan", "Truly signed with NaN as a size.", '"size":244', '"size":NaN', invalid)
    inside("infinity", "Truly signed with a number that overflows.", '"size":244', '"size":1e999', invalid)
    inside(
        "lone-surrogate",
        "Truly signed with half a character.",
        '"codename":"bookworm"',
        '"codename":"\\ud800"',
        invalid,
    )
    inside(
        "not-utf8",
        "Truly signed with bytes that are no UTF-8.",
        '"codename":"bookworm"',
        '"codename":"\ud800"',
        invalid,
    )
    c.manifest(
        "payload-deep", invalid, "Truly signed, nested forty deep.", shop.seal_bytes(b'{"a":' * 40 + b"1" + b"}" * 40)
    )
    c.manifest("payload-array", invalid, "Truly signed, an array.", shop.seal_bytes(b"[]"))
    c.manifest("payload-empty", invalid, "Truly signed, nothing at all.", shop.seal_bytes(b""))
    inside("true-as-1", "true where a number is meant, which Python takes for 1.", '"size":244', '"size":true')
    inside("fraction", "A size with a fraction.", '"size":244', '"size":244.0')
    inside("size-as-text", "A size as text.", '"size":244', '"size":"244"')
    inside("negative-size", "A negative size.", '"size":244', '"size":-244')
    inside("huge-size", "A size that no integer of other readers holds.", '"size":244', f'"size":{2**64 + 244}')
    inside("null-name", "null for a name.", '"name":"debian-12"', '"name":null')
    inside(
        "list-as-text",
        "A list where text is meant: regular expressions do not take it.",
        '"arch":"x86_64"',
        '"arch":["x86_64"]',
    )
    inside(
        "unknown-field",
        "A field that nobody knows, and that somebody will read in his own way.",
        '"arch":',
        '"aarch":"x","arch":',
    )
    inside(
        "other-predicate",
        "Another type of predicate.",
        f'"predicateType":"{RELEASE_TYPE}"',
        '"predicateType":"urn:imagefactory:release:v2"',
    )
    inside(
        "other-statement",
        "Another type of statement.",
        '"_type":"https://in-toto.io/Statement/v1"',
        '"_type":"https://in-toto.io/Statement/v0.1"',
    )
    statement = shop.statement()
    for name, path, value in (
        ("no-subject", ("subject",), []),
        ("subject-twice", ("subject",), [statement["subject"][0], *statement["subject"]]),
        ("subject-more", ("subject",), [*statement["subject"], {**statement["subject"][0], "name": "more"}]),
        ("subject-without-sha512", ("subject", 0, "digest"), {"sha256": "ab" * 32}),
        ("subject-sha1", ("subject", 0, "digest", "sha1"), "ab" * 20),
        ("digest-upper-case", ("subject", 0, "digest", "sha256"), "AB" * 32),
        ("no-format", ("predicate", "formats"), {}),
        ("unknown-format", ("predicate", "formats", "vmdk"), {}),
        ("no-provenance", ("predicate", "files"), {}),
        ("no-such-day", ("predicate", "version"), "20250230.1"),
        ("version-zero", ("predicate", "version"), "20251121.0"),
        ("version-arabic-digits", ("predicate", "version"), "2025112\u0661.1"),
        ("property-of-glance", ("predicate", "properties", "owner"), "me"),
        ("property-reserved", ("predicate", "properties", "IMG_SIGNATURE"), "AAAA"),
        ("property-control", ("predicate", "properties", "os_distro"), "a\x1b[2Jb"),
        ("property-number", ("predicate", "properties", "min_ram"), "0512"),
    ):
        c.manifest(
            f"payload-{name}",
            "manifest-invalid",
            f"Truly signed with what no manifest may say: {name}.",
            shop.seal(changed(statement, path, value)),
        )


def provenances(c: Corpus) -> None:
    """Truly signed by the builder, and no provenance of ours."""
    statement = json.loads(payload_of(c.files[PROVENANCE_FILE]))
    definition, run = ("predicate", "buildDefinition"), ("predicate", "runDetails")
    for name, path, value in (
        ("build-type", (*definition, "buildType"), "https://example.org/other"),
        ("finished-before-started", (*run, "metadata", "startedOn"), "2025-11-21T19:00:01Z"),
        ("builder-number", (*run, "builder", "id"), 1),
        ("builder-more", (*run, "builder", "version"), {}),
        ("dependency-text", (*definition, "resolvedDependencies"), ["openssl"]),
        ("parameters-list", (*definition, "externalParameters"), []),
        ("predicate-v0", ("predicateType",), "https://slsa.dev/provenance/v0.2"),
        ("no-subject", ("subject",), []),
    ):
        raw = c.shop.seal(changed(statement, path, value), "provenance")
        c.folder(
            f"provenance-{name}",
            "provenance-invalid",
            f"A builder's truly signed statement with what no provenance of ours may say: {name}.",
            partial(put, name=PROVENANCE_FILE, content=raw),
            signed_again=True,
        )


def canonical_unsorted(text: str) -> bytes:
    document = json.loads(text)
    return json.dumps(dict(reversed(document.items())), separators=(",", ":")).encode()
