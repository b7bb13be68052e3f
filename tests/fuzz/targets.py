"""What is fuzzed: every parser of bytes or text that a stranger may have written.

A target takes any bytes. It lets out nothing but a bug: what the parser may raise is caught here, and what it returns
must mean the same when it is written and read again.
"""

import base64
import contextlib
import io
import os
import tarfile
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from datetime import date
from hashlib import sha256

from cryptography.hazmat.primitives.serialization import Encoding

from imagefactory.errors import (
    AuditDamaged,
    CatalogueDamaged,
    ContentInvalid,
    FactoryError,
    FeedForeign,
    FeedInvalid,
    FeedTooLarge,
    PolicyInvalid,
    RecipeError,
    ReleaseNameInvalid,
    RootfsUnreadable,
    RootRefused,
    SbomInvalid,
    ScanFailed,
    TailoringInvalid,
    TargetUnsupported,
)
from imagefactory.model.listing import Listing, ListingState, decode_listing
from imagefactory.model.policy import Approval, Policy, decode_policy, inputs_of
from imagefactory.model.quantity import parse_duration, parse_rate, parse_size
from imagefactory.model.release import ReleaseRef, Version
from imagefactory.model.target import parse_place, split_image
from imagefactory.model.vulnerabilities import Feed, VulnerabilityScan, match
from imagefactory.steps import sbom
from imagefactory.tools import guest, oscap
from imagefactory.tools.audit_log import AuditLog
from imagefactory.tools.dib import describe
from imagefactory.tools.feed_source import FeedFile
from imagefactory.tools.feeds import FeedReader
from imagefactory.tools.inspect import inspect
from imagefactory.tools.inventory import read_inventory, read_sources, read_status
from imagefactory.tools.known_catalogue import split_target
from imagefactory.tools.licences import licences
from imagefactory.tools.recipe_file import load_recipe
from imagefactory.tools.spdx import spdx
from imagefactory.tools.tuf_root import next_root, read_root, require_fit
from signing.certificates import check_leaf, load_certificate
from signing.checksums import build_checksums, parse_checksums
from signing.envelope import parse_bundle
from signing.errors import (
    BundleInvalid,
    CertificateDamaged,
    ChecksumsInvalid,
    DocumentInvalid,
    GlanceEncodingInvalid,
    GlanceSignatureInvalid,
    KeyDamaged,
    KeyPurpose,
    ManifestInvalid,
    ProvenanceInvalid,
    SignerUnknown,
    SigningError,
    TrustInvalid,
)
from signing.glance import HASH_METHOD, KEY_TYPE, GlanceSignature, verify_image_signature
from signing.keys import load_public_key, public_pem
from signing.manifest import MANIFEST_FILE, PROVENANCE_FILE, ReleaseManifest
from signing.provenance import Provenance
from signing.strict_json import decode, encode
from signing.token_uri import TokenUri
from signing.trust import decode_trust
from signing.verify import verify_manifest
from tests.conformance.attacks.workshop import IMAGES, Workshop, payload_of
from tests.fakes.feeds import array, issue, lines, record, tracker, zipped
from tests.fakes.standard import PROFILE, data_stream, group, profile, results, rule, tailoring
from tests.fuzz import catalogues, clouds
from tests.fuzz.memory import in_memory
from tests.unit.signing.builders import NOW
from tests.unit.tuf_world import Ring

SHOP = Workshop()
LIMITED = replace(SHOP.trust, names=dict.fromkeys(SHOP.trust.names, ("debian-12", "soe-debian-12")))
FILES = SHOP.release_files()
SIGNED = SHOP.manifest().formats["raw"].glance


@dataclass(frozen=True)
class Target:
    """`run` takes any bytes; `seeds` are inputs to begin with; `runs` are as many as the tests do."""

    run: Callable[[bytes], None]
    seeds: Sequence[bytes]
    runs: int = 5000


def strict_json(raw: bytes) -> None:
    with contextlib.suppress(DocumentInvalid):
        value = decode(raw)
        canonical = encode(value)
        assert encode(decode(canonical)) == canonical


def bundle(raw: bytes) -> None:
    """As it stands, and in the canonical form that hardly any mutation keeps."""
    with contextlib.suppress(BundleInvalid):
        parse_bundle(raw)
    with contextlib.suppress(BundleInvalid, DocumentInvalid):
        parse_bundle(encode(decode(raw)))


def signed_manifest(raw: bytes) -> None:
    """The whole way: whatever verifies is what was signed."""
    with contextlib.suppress(SigningError):
        verify_manifest(raw, SHOP.trust, now=NOW)
        assert raw == FILES[MANIFEST_FILE]


def statement(raw: bytes) -> None:
    """A release manifest and a provenance, as the payload of a signed bundle."""
    try:
        document = decode(raw)
    except DocumentInvalid:
        return
    with contextlib.suppress(ManifestInvalid):
        manifest = ReleaseManifest.from_statement(document)
        assert ReleaseManifest.from_statement(manifest.to_statement()) == manifest
    with contextlib.suppress(ProvenanceInvalid):
        provenance = Provenance.from_statement(document)
        assert Provenance.from_statement(provenance.to_statement()) == provenance
        inputs_of(provenance)


def checksums(raw: bytes) -> None:
    with contextlib.suppress(ChecksumsInvalid):
        assert build_checksums(parse_checksums(raw)) == raw


def trust(raw: bytes) -> None:
    with contextlib.suppress(TrustInvalid):
        found = decode_trust(raw)
        assert decode_trust(found.encode()).encode() == found.encode()
        assert found.names.keys() == found.release.keys() | found.provenance.keys()
        assert all(found.names.values()), "a key without a name"


def policy(raw: bytes) -> None:
    with contextlib.suppress(PolicyInvalid):
        found = decode_policy(raw)
        assert decode_policy(found.encode()) == found


def listing(raw: bytes) -> None:
    """What a catalogue says of a release."""
    with contextlib.suppress(DocumentInvalid, CatalogueDamaged):
        custom = decode(raw)
        assert decode_listing(LISTING.path, custom).encode() == custom


def tuf_root(raw: bytes) -> None:
    """A root on its way into a catalogue: only ours is fit, and what was changed by strangers is not."""
    with contextlib.suppress(CatalogueDamaged, RootRefused):
        root = read_root(raw)
        next_root(raw, {}, NOW)
        require_fit(root, None, NOW)
        assert root.signed_bytes == read_root(ROOT).signed_bytes


def audit_log(raw: bytes) -> None:
    with in_memory(raw, "audit.log") as path, contextlib.suppress(AuditDamaged):
        AuditLog(path).verify()


def certificate(raw: bytes) -> None:
    """As a text, and as the DER inside one."""
    for text in (raw.decode("latin-1"), pem("CERTIFICATE", raw)):
        try:
            leaf = load_certificate(text)
        except CertificateDamaged:
            continue
        with contextlib.suppress(SigningError):
            check_leaf(leaf, [SHOP.ca], NOW)


def public_key(raw: bytes) -> None:
    """As a text, and as the DER inside one."""
    for text in (raw.decode("latin-1"), pem("PUBLIC KEY", raw)):
        with contextlib.suppress(KeyDamaged, KeyPurpose):
            assert public_pem(load_public_key(text, "release")) == text


def glance_signature(raw: bytes) -> None:
    """As a text, and as the DER inside one."""
    for text in (raw.decode("latin-1"), base64.b64encode(raw).decode()):
        signature = GlanceSignature(text, HASH_METHOD, KEY_TYPE, SIGNED.certificate_sha256, SIGNED.certificate)
        with contextlib.suppress(GlanceEncodingInvalid, GlanceSignatureInvalid):
            verify_image_signature(signature, bytes(64), SHOP.trust.glance_ca, at=NOW)
            raise AssertionError("a signature of nobody was accepted")


def pem(label: str, der: bytes) -> str:
    """RFC 7468: lines of 64 characters."""
    body = base64.b64encode(der).decode()
    lines = [body[at : at + 64] for at in range(0, len(body), 64)]
    return "\n".join([f"-----BEGIN {label}-----", *lines, f"-----END {label}-----", ""])


def recipe(raw: bytes) -> None:
    with in_memory(raw, "r.yaml") as path, contextlib.suppress(RecipeError):
        loaded = load_recipe(path)
        assert loaded.digest


def words(raw: bytes) -> None:
    """What people type, and what clouds answer: names, places, sizes."""
    text = raw.decode(errors="replace")
    with contextlib.suppress(ReleaseNameInvalid):
        ref = ReleaseRef.parse(text)
        assert ReleaseRef.parse(str(ref)) == ref
    with contextlib.suppress(ReleaseNameInvalid):
        split_target(text)
    with contextlib.suppress(TargetUnsupported):
        parse_place(text)
    with contextlib.suppress(TargetUnsupported):
        split_image(text)
    for parse in (parse_size, parse_rate, parse_duration):
        with contextlib.suppress(ValueError):
            assert parse(text) >= 0


def token_uri(raw: bytes) -> None:
    with contextlib.suppress(SignerUnknown):
        uri = TokenUri.parse(raw.decode("latin-1"))
        assert TokenUri.parse(uri.encode()) == uri


def bill_of_materials(raw: bytes) -> None:
    with contextlib.suppress(SbomInvalid):
        sbom.check(raw, "tiny", "20251121.1")


def packages(raw: bytes) -> None:
    """What lies in a root file system: dpkg's records, copyright files, and the tar itself."""
    for read in (read_status, read_sources):
        with contextlib.suppress(RootfsUnreadable):
            read(raw)
    for name in licences(raw):
        spdx(name)
    with in_memory(raw, "rootfs.tar") as path, contextlib.suppress(RootfsUnreadable):
        read_inventory(path)


def root_file_system(status: bytes, copyright_file: bytes) -> bytes:
    """A tar with one package's records."""
    made = io.BytesIO()
    with tarfile.open(fileobj=made, mode="w") as archive:
        for name, content in (("var/lib/dpkg/status", status), ("usr/share/doc/bash/copyright", copyright_file)):
            member = tarfile.TarInfo(f"./{name}")
            member.size = len(content)
            archive.addfile(member, io.BytesIO(content))
    return made.getvalue()


def image(raw: bytes) -> None:
    descriptor = os.memfd_create("image", os.MFD_CLOEXEC)
    try:
        os.write(descriptor, raw)
        with contextlib.suppress(FactoryError):
            found = inspect(descriptor, "image", largest=1 << 40)
            assert found.size == len(raw)
            assert 0 < found.virtual_size <= 1 << 40
    finally:
        os.close(descriptor)


def scap(raw: bytes) -> None:
    """A data stream, whose profiles are then looked at, a tailoring file, and results."""
    with contextlib.suppress(ContentInvalid):
        content = oscap.read_content(raw)
        for profile in content.profiles.values():
            assert {rule.name for rule in content.selection(profile).values()} <= {
                r.name for r in content.rules.values()
            }
    with contextlib.suppress(TailoringInvalid):
        oscap.tailor(oscap.read_content(DATA_STREAM), raw)
    with contextlib.suppress(ScanFailed):
        assert set(oscap.read_results(raw).outcomes.values()) <= oscap.OUTCOMES


def feed(raw: bytes) -> None:
    """A feed of known vulnerabilities, whose advisories are then looked up."""
    with in_memory(raw, "feed") as path, contextlib.suppress(FeedInvalid, FeedForeign, FeedTooLarge):
        file = FeedFile(path, sha256(raw).hexdigest(), date(2026, 11, 22), "feed")
        kind, advisories = FeedReader("bookworm", "12").read(file, INSTALLED)
        found = match(INSTALLED, advisories, Feed("feed", kind, file.sha256, file.dated))
        assert VulnerabilityScan.from_json(found.to_json()) == found


def machine_output(raw: bytes) -> None:
    """What a guest and diskimage-builder say."""
    text = raw.decode(errors="replace")
    answers = guest.parse(text)
    for key in answers.values:
        assert answers.number(key) >= 0
        assert all(each.replace("\t", "").isprintable() for each in answers.all(key))
    for line in text.splitlines():
        describe(line)


def small_log() -> bytes:
    """A log of two entries."""
    with in_memory(b"", "audit.log") as path:
        for event in ("key-used", "refused"):
            AuditLog(path).append(event, about="debian-12@20251121.1")
        return path.read_bytes()


RECIPE = b"""\
name: tiny
os: {distro: debian, version: "12"}
elements: [soe-base]
packages: [openssl]
disk: {size: 2 GiB, firmware: [uefi, bios]}
formats: {qcow2: {compression: zstd}, raw: {}}
properties: {os_purpose: generic}
publish:
  - catalogue: /srv/images
"""
STATUS = b"""\
Package: bash
Status: install ok installed
Version: 5.2.15-2
Architecture: amd64
Source: bash (5.2.15)
Built-Using: glibc (= 2.36-9), linux (= 6.1.192-2)
Maintainer: Matthias Klose <doko@debian.org>
"""
COPYRIGHT = b"""\
Format: https://www.debian.org/doc/packaging-manuals/copyright-format/1.0/

Files: *
License: GPL-3+ and Expat, or Apache-2.0
 Text.
"""
SBOM = b"""{"bomFormat":"CycloneDX","metadata":{"component":{"name":"tiny","type":"operating-system",\
"version":"20251121.1"}},"specVersion":"1.6"}"""
URI = b"pkcs11:token=T;object=release;id=%01?module-path=/usr/lib/softhsm/libsofthsm2.so&pin-source=file:/etc/pin"
APPROVAL = Approval(
    frozenset({"ab" * 32}), frozenset({"cd" * 32}), {"plain": frozenset({"ef" * 32})}, frozenset({"boot"})
)
POLICY = Policy(False, {"debian-12": APPROVAL}).encode()
LISTING = Listing(
    name="debian-12",
    version=Version(20251121, 1),
    distro="debian",
    os_version="12",
    arch="x86_64",
    state=ListingState.REVOKED,
    replacement=ReleaseRef("debian-12", Version(20251122, 1)),
    reason="its key was stolen",
    provided_until=date(2026, 11, 21),
)
ROOT = Ring().first(NOW)
MANIFEST, PROVENANCE = FILES[MANIFEST_FILE], FILES[PROVENANCE_FILE]
SIGNATURE = SIGNED.img_signature
PEM = public_pem(SHOP.signer("release").public_key)
SUMS = build_checksums(dict.fromkeys(FILES, "ab" * 32))
LOG = b"2025-11-21 19:00:00.123 | dib-run-parts Running /tmp/in_target.d/install.d/50-soe-base\n"
DATA_STREAM = data_stream(group("g", rule("one") + rule("two", "true")), profile(PROFILE, {"rule_one": True}))
TAILORING = tailoring(profile("ours", {"rule_two": False}, PROFILE, severities={"rule_one": "low"}))
RESULTS = results({"one": "pass", "two": "fail"})
INSTALLED = {"openssl": {"3.0.17-1": frozenset({"libssl3"})}}
RECORD = record("CVE-2026-0001", "openssl", fixed="3.0.18-1", score="CVSS:3.1/AV:N/AC:L/PR:N/UI:N/S:U/C:H/I:H/A:H")
FEEDS = (
    tracker({"openssl": {"CVE-2026-0001": issue(status="resolved", fixed_version="3.0.18-1")}, "zlib": {}}),
    array([RECORD]),
    lines([RECORD]),
    zipped([RECORD]),
)
WORDS = [
    b"debian-12@20251121.1",
    b"catalogue:/srv/debian-12",
    b"glance:demo/debian-12",
    b"4 GiB",
    b"2 MiB/s",
    b"5 min",
]

TARGETS: dict[str, Target] = {
    "strict_json": Target(strict_json, (b'{"a":[1,2.5,null,true,"\\u00e9"]}', MANIFEST)),
    "bundle": Target(bundle, (MANIFEST, PROVENANCE)),
    "signed_manifest": Target(signed_manifest, (MANIFEST, PROVENANCE), 2000),
    "statement": Target(statement, (payload_of(MANIFEST), payload_of(PROVENANCE))),
    "checksums": Target(checksums, (SUMS,)),
    "trust": Target(trust, (SHOP.trust.encode(), LIMITED.encode()), 2000),
    "policy": Target(policy, (POLICY,)),
    "listing": Target(listing, (encode(LISTING.encode()),)),
    "tuf_root": Target(tuf_root, (ROOT,), 1000),
    "bundle_tar": Target(catalogues.bundle_tar, catalogues.BUNDLES, 1000),
    "catalogue_metadata": Target(catalogues.catalogue_metadata, catalogues.seeds(), 150),
    "catalogue_value": Target(catalogues.catalogue_value, catalogues.VALUES, 500),
    "audit_log": Target(audit_log, (small_log(),), 2000),
    "certificate": Target(certificate, (SIGNED.certificate.encode(), SHOP.leaf.public_bytes(Encoding.DER))),
    "public_key": Target(public_key, (PEM.encode(), base64.b64decode("".join(PEM.splitlines()[1:-1])))),
    "glance_signature": Target(
        glance_signature, (SIGNED.img_signature.encode(), base64.b64decode(SIGNED.img_signature))
    ),
    "recipe": Target(recipe, (RECIPE,), 500),
    "words": Target(words, WORDS),
    "image": Target(image, tuple(IMAGES.values())),
    "token_uri": Target(token_uri, (URI,)),
    "bill_of_materials": Target(bill_of_materials, (SBOM,), 1000),
    "packages": Target(packages, (STATUS, COPYRIGHT, root_file_system(STATUS, COPYRIGHT)), 1000),
    "scap": Target(scap, (DATA_STREAM, TAILORING, RESULTS), 1000),
    "feed": Target(feed, FEEDS, 2000),
    "image_list": Target(clouds.image_list, clouds.IMAGE_LISTS),
    "usage_list": Target(clouds.usage_list, clouds.USAGE_LISTS),
    "machine_output": Target(machine_output, (b"memory=512\nunit=a\nunit=b\n", LOG)),
}
