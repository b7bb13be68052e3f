"""Making a set of keys: in files or in a token, for production or marked as for development.

The keys are made in a directory of another name beside the final one and appear by one rename, so that there is a
whole set or none, whenever the process is killed. The trust file comes last. A leftover `.NAME.*` directory holds
keys that nothing trusts, and so does a token after a kill.

A root key is none of these: it signs a few times in its life, and lies in a directory of its own on something that is
in no machine. Only a set for development has one with it.
"""

import errno
import os
import shutil
import tempfile
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager, suppress
from dataclasses import dataclass, field
from datetime import datetime
from pathlib import Path

from cryptography import x509
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.serialization import BestAvailableEncryption, Encoding, NoEncryption, PrivateFormat

from imagefactory.factory.authority import issue_ca, issue_leaf
from imagefactory.tools.durable import sync_directory, translated, write_new
from imagefactory.tools.key_directory import require_pkcs11
from signing.certificates import certificate_pem, fingerprint
from signing.digest import read_document
from signing.errors import KeysExist, SigningError
from signing.keys import (
    AUTHORITY,
    METADATA,
    PURPOSES,
    KeyRing,
    Metadata,
    PublicKey,
    Purpose,
    curve_of,
    keyid_of,
    public_pem,
)
from signing.token_uri import TokenUri
from signing.trust import EVERY_NAME, Trust

TRUST_COPY = ".trust.json"  # there as long as the trust file is not
ONLINE: tuple[Purpose, ...] = tuple(each for each in PURPOSES if each != "root")


@dataclass(frozen=True)
class Custody:
    """How private keys are kept: files encrypted with a passphrase (None: not, which is for development only), and all
    but the CA's in a token, where one is named."""

    passphrase: bytes | None = field(default=None, repr=False)
    token: TokenUri | None = None


@dataclass(frozen=True)
class NewKeys:
    """Writes new keys into `directory`. `replacing` keys have names of their own, with an id, beside the old ones.

    `issuing` hears of a certificate before it is issued: the SHA-256 of the CA's certificate, and the keyid."""

    directory: Path
    custody: Custody
    development: bool
    now: datetime
    replacing: bool = False
    where: dict[str, str] = field(default_factory=dict)
    issuing: Callable[[str, str], None] = lambda _ca, _subject: None

    def key(self, purpose: Purpose) -> PublicKey:
        """Make the key for a purpose; a key in a token is in `where`. Raises what the token raises."""
        if self.custody.token is not None:
            from imagefactory.tools.token import make_key  # noqa: PLC0415 - its library is an extra

            uri, public = make_key(self.custody.token, purpose)
            self.where[purpose] = uri.encode()
            self._write(f"{purpose}.{keyid_of(public)[:16]}.pub", public_pem(public))
            return public
        private = ec.generate_private_key(curve_of(purpose))
        public = private.public_key()
        stem = self._stem(purpose, keyid_of(public))
        self._private(stem, private)
        self._write(f"{stem}.pub", public_pem(public))
        return public

    def authority(self) -> tuple[x509.Certificate, ec.EllipticCurvePrivateKey]:
        """Make a CA."""
        key = ec.generate_private_key(curve_of(AUTHORITY))
        ca = issue_ca(key, f"imagefactory {'development ' * self.development}Glance CA", self.now)
        stem = self._stem(AUTHORITY, fingerprint(ca))
        self._private(stem, key)
        self._write(f"{stem}.crt", certificate_pem(ca))
        return ca, key

    def leaf(self, key: PublicKey, ca: x509.Certificate, ca_key: ec.EllipticCurvePrivateKey) -> None:
        """Issue the certificate of the Glance key."""
        name = f"imagefactory {'development ' * self.development}Glance signer"
        stem = f"glance.{keyid_of(key)[:16]}" if "glance" in self.where else "glance"
        self.issuing(fingerprint(ca), keyid_of(key))
        self._write(f"{stem}.crt", certificate_pem(issue_leaf(key, name, ca, ca_key, self.now)))

    def forget(self, decided: Path) -> None:
        """Destroy what was made in a token, as far as it can be, unless `decided` is there: the rest will never come to
        be."""
        if decided.exists():
            return
        for uri in self.where.values():
            if uri.startswith("pkcs11:"):
                from imagefactory.tools.token import destroy_key  # noqa: PLC0415

                with suppress(SigningError):
                    destroy_key(TokenUri.parse(uri))

    def _stem(self, name: str, keyid: str) -> str:
        if not self.replacing:
            return name
        self.where[name] = f"file:{name}.{keyid[:16]}.pem"
        return f"{name}.{keyid[:16]}"

    def _private(self, stem: str, key: ec.EllipticCurvePrivateKey) -> None:
        secret = self.custody.passphrase
        # PBES2 (RFC 8018): PBKDF2 with HMAC-SHA-256, 2,048 rounds, and AES-256-CBC, in cryptography 45 to 50.
        how = NoEncryption() if secret is None else BestAvailableEncryption(secret)
        write_new(self.directory / f"{stem}.pem", key.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, how))

    def _write(self, name: str, text: str) -> None:
        write_new(self.directory / name, text.encode("ascii"))


def init_development(directory: Path, trust_file: Path, *, now: datetime) -> KeyRing:
    """Make a set of keys for trying things out: unencrypted in files. As `init_keys`."""
    return init_keys(directory, trust_file, Custody(), development=True, now=now)


def init_keys(
    directory: Path,
    trust_file: Path,
    custody: Custody,
    *,
    development: bool,
    now: datetime,
    keyring: bool = False,
    note: Callable[[KeyRing], None] = lambda _: None,
) -> KeyRing:
    """Make one key for every purpose in `directory`, root only for development, and the trust file that believes them.

    `now` (aware) is when the certificates begin; `keyring` records that the passphrase is in the operating system's
    keyring. An empty directory may be there already; anything else is left alone. Missing parents are made. `note`
    hears of the keys when they are trusted; interrupted before it is done, the next call finishes, and it hears again.

    Raises: KeysExist, Unwritable, ExtraMissing, what a token raises; for keys that are to be finished PassphraseWrong,
    KeyDamaged.
    """
    if custody.token is not None:
        require_pkcs11()
    unfinished = directory / TRUST_COPY
    if unfinished.is_file():
        ring = _unfinished(directory, custody, development)
        with translated(trust_file):
            _believe(trust_file, read_document(unfinished))
    else:
        ring = _new(directory, trust_file, custody, development=development, now=now, keyring=keyring)
    note(ring)
    with translated(unfinished):
        unfinished.unlink()
    return ring


def init_root(directory: Path, custody: Custody, *, now: datetime) -> KeyRing:
    """Make one root key in `directory`, which is not there yet or empty. Missing parents are made.

    Raises: KeysExist, Unwritable, ExtraMissing, what a token raises.
    """
    if custody.token is not None:
        require_pkcs11()
    with _appearing(directory, custody, development=False, now=now) as made:
        keyids = {"root": keyid_of(made.key("root"))}
        write_new(made.directory / METADATA, Metadata(False, now, keyids, made.where).encode())
        sync_directory(made.directory)
    return KeyRing(directory)


def _unfinished(directory: Path, custody: Custody, development: bool) -> KeyRing:
    """Keys of somebody who was killed before all was done: whole, and of the kind that is asked for now."""
    ring = KeyRing(directory, None if custody.passphrase is None else lambda: custody.passphrase or b"")
    in_token = any(uri.startswith("pkcs11:") for uri in ring.metadata.where.values())
    if ring.metadata.made:
        raise KeysExist(f"there are already keys in {str(directory)!r}")
    if (ring.development, in_token) != (development, custody.token is not None):
        kind = f"{'development' if ring.development else 'production'} keys in {'a token' if in_token else 'files'}"
        raise KeysExist(f"in {str(directory)!r} are {kind}, of a keys init that was interrupted: not what is asked for")
    ring.open_private(AUTHORITY)
    return ring


def _believe(trust_file: Path, content: bytes) -> None:
    """Write the trust file of unfinished keys, unless just that is there."""
    if os.path.lexists(trust_file) and read_document(trust_file) == content:
        return
    trust_file.parent.mkdir(parents=True, exist_ok=True)
    _write_trust(trust_file, content)


def _new(
    directory: Path, trust_file: Path, custody: Custody, *, development: bool, now: datetime, keyring: bool
) -> KeyRing:
    if os.path.lexists(trust_file):
        raise KeysExist(f"there is already a trust file {str(trust_file)!r}")
    with _appearing(directory, custody, development=development, now=now) as made:
        trust = _make(made, keyring)
    try:
        with translated(trust_file):
            trust_file.parent.mkdir(parents=True, exist_ok=True)
            _write_trust(trust_file, trust.encode())
    except SigningError:
        # Keys that nobody can trust would only stand in the way. Whoever is stopped here finishes the next time.
        if not os.path.lexists(trust_file):
            shutil.rmtree(directory, ignore_errors=True)
            made.forget(directory / METADATA)
        raise
    return KeyRing(directory)


@contextmanager
def _appearing(directory: Path, custody: Custody, *, development: bool, now: datetime) -> Iterator[NewKeys]:
    """A hidden place for new keys, which then has the name `directory`, or goes away again. Raises KeysExist,
    Unwritable."""
    with translated(directory), ExitStack() as undo:
        directory.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
        if directory.exists() and (not directory.is_dir() or any(directory.iterdir())):
            raise KeysExist(f"there is already something at {str(directory)!r}")
        scratch = Path(tempfile.mkdtemp(prefix=f".{directory.name}.", dir=directory.parent))
        undo.callback(shutil.rmtree, scratch, ignore_errors=True)
        made = NewKeys(scratch, custody, development, now)
        undo.callback(made.forget, directory / METADATA)
        yield made
        # rename(2) replaces an empty directory and refuses anything else: no moment between look and leap.
        rename_new(scratch, directory)
        sync_directory(directory.parent)


def _make(made: NewKeys, keyring: bool) -> Trust:
    keys = {purpose: made.key(purpose) for purpose in (PURPOSES if made.development else ONLINE)}
    ca, ca_key = made.authority()
    made.leaf(keys["glance"], ca, ca_key)
    keyids: dict[str, str] = {purpose: keyid_of(key) for purpose, key in keys.items()}
    metadata = Metadata(made.development, made.now, keyids, made.where, keyring=keyring)
    write_new(made.directory / METADATA, metadata.encode())
    trust = Trust(
        development=made.development,
        release={keyids["release"]: keys["release"]},
        provenance={keyids["provenance"]: keys["provenance"]},
        glance_ca=(ca,),
        names={keyids[purpose]: (EVERY_NAME,) for purpose in ("release", "provenance")},
    )
    write_new(made.directory / TRUST_COPY, trust.encode())
    sync_directory(made.directory)
    return trust


def rename_new(scratch: Path, directory: Path) -> None:
    """Give a directory its name, which is free or that of an empty directory. Raises KeysExist."""
    try:
        scratch.rename(directory)
    except OSError as why:
        if why.errno in {errno.EEXIST, errno.ENOTEMPTY, errno.ENOTDIR}:
            raise KeysExist(f"there is already something at {str(directory)!r}") from None
        raise


def _write_trust(path: Path, content: bytes) -> None:
    """Write a public file whole or not at all, and never over another."""
    with tempfile.NamedTemporaryFile(prefix=f".{path.name}.", dir=path.parent) as stream:
        stream.write(content)
        stream.flush()
        os.fchmod(stream.fileno(), 0o644)
        os.fsync(stream.fileno())
        try:
            os.link(stream.name, path)
        except FileExistsError:
            raise KeysExist(f"there is already a trust file {str(path)!r}") from None
    sync_directory(path.parent)
