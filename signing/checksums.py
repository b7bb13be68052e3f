"""SHA256SUMS: what people verify who have only coreutils and openssl.

::

    # imagefactory SHA256SUMS v1
    HEX  NAME
    ...

Rules:

1. The first line is exactly this one. `sha256sum -c` skips it; it keeps this document apart from everything else that
   the release key signs (DSSE begins with `DSSEv1 `), and the key itself signs neither without its beginning.
2. Then one line a file, at least one: 64 lower-case hex digits, two spaces, a plain file name; sorted by name, no name
   twice; every line ends with a newline, and nothing follows. So one content has one spelling.
3. SHA256SUMS.sig is the bare DER signature (ECDSA P-256, SHA-256, in its one spelling: `signing.signer`) of these
   bytes by a release key:
   `openssl dgst -sha256 -verify release.pub -signature SHA256SUMS.sig SHA256SUMS`.
"""

import re
from collections.abc import Mapping

from cryptography.exceptions import InvalidSignature
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec

from signing.errors import ChecksumsInvalid, KeyPurpose, SignatureInvalid
from signing.keys import PublicKey
from signing.signer import CHECKSUMS_PREFIX, Signer, one_spelling
from signing.strict_json import MAX_BYTES

CHECKSUMS_FILE = "SHA256SUMS"
SIGNATURE_FILE = "SHA256SUMS.sig"

_LINE = re.compile(r"([0-9a-f]{64})  ([A-Za-z0-9][A-Za-z0-9._+-]{0,254})")


def build_checksums(files: Mapping[str, str]) -> bytes:
    """Return the text for `files`, from plain name to SHA-256 hex. Raises: ChecksumsInvalid."""
    lines = "".join(f"{digest}  {name}\n" for name, digest in sorted(files.items()))
    try:
        raw = CHECKSUMS_PREFIX + lines.encode("ascii")
    except UnicodeEncodeError:
        raise ChecksumsInvalid("a file name is not plain") from None
    parse_checksums(raw)
    return raw


def parse_checksums(raw: bytes) -> dict[str, str]:
    """Return the SHA-256 hex of each file, by name, after rules 1 and 2. Raises: ChecksumsInvalid."""
    if len(raw) > MAX_BYTES:
        raise ChecksumsInvalid(f"SHA256SUMS is longer than {MAX_BYTES} bytes")
    if not raw.startswith(CHECKSUMS_PREFIX):
        raise ChecksumsInvalid("SHA256SUMS does not begin with its first line")
    try:
        text = raw[len(CHECKSUMS_PREFIX) :].decode("ascii")
    except UnicodeDecodeError:
        raise ChecksumsInvalid("SHA256SUMS is not plain ASCII") from None
    if not text.endswith("\n"):
        raise ChecksumsInvalid("SHA256SUMS names no file, or its last line does not end")
    files: dict[str, str] = {}
    previous = ""
    for line in text[:-1].split("\n"):
        match = _LINE.fullmatch(line)
        if match is None:
            raise ChecksumsInvalid("SHA256SUMS has a line that is not HEX, two spaces, plain name")
        digest, name = match.groups()
        if name <= previous:
            raise ChecksumsInvalid("SHA256SUMS is not sorted, or names a file twice")
        files[name] = digest
        previous = name
    return files


def sign_checksums(raw: bytes, signer: Signer) -> bytes:
    """Return the content of SHA256SUMS.sig. Raises: ChecksumsInvalid, KeyPurpose."""
    parse_checksums(raw)
    if signer.purpose != "release":
        raise KeyPurpose(f"SHA256SUMS is signed by the release key, not by the {signer.purpose} key")
    return one_spelling(signer.sign(raw), signer.public_key.curve)


def verify_checksums(raw: bytes, signature: bytes, keys: Mapping[str, PublicKey]) -> tuple[str, dict[str, str]]:
    """Return the keyid that signed and the SHA-256 of each file, by name.

    `keys` are the release keys by keyid; as a bare signature names none, each is tried.

    Raises: ChecksumsInvalid, SignatureInvalid.
    """
    files = parse_checksums(raw)
    for keyid, key in keys.items():
        try:
            key.verify(signature, raw, ec.ECDSA(hashes.SHA256()))
            if one_spelling(signature, key.curve) == signature:
                return keyid, files
        except InvalidSignature:
            continue
    raise SignatureInvalid("no trusted release key made SHA256SUMS.sig for this SHA256SUMS")
