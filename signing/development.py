"""A set of keys for development: everything in one place, unencrypted, and marked as such.

The keys are made in a directory of another name beside the final one and appear by one rename, so that there is a
whole set or none, whenever the process is killed. The trust file comes last. A leftover `.NAME.*` directory holds
keys that nothing trusts.
"""

import contextlib
import errno
import os
import shutil
import tempfile
from collections.abc import Iterator
from datetime import datetime
from pathlib import Path

from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.serialization import Encoding, NoEncryption, PrivateFormat

from signing.certificates import certificate_pem, issue_ca, issue_leaf
from signing.digest import read_document
from signing.errors import KeysExist, SigningError, Unwritable
from signing.keys import METADATA, PURPOSES, KeyRing, Purpose, curve_of, keyid_of, metadata, public_pem
from signing.trust import Trust

CA_NAME = "imagefactory development Glance CA"
LEAF_NAME = "imagefactory development Glance signer"
TRUST_COPY = ".trust.json"  # there as long as the trust file is not


def init_development(directory: Path, trust_file: Path, *, now: datetime) -> KeyRing:
    """Make one key for every purpose in `directory`, and the trust file that believes them.

    `now` (aware) is when the certificates begin. An empty directory may be there already; anything else is left
    alone. Missing parents are made.

    Raises: KeysExist, Unwritable.
    """
    if os.path.lexists(trust_file):
        raise KeysExist(f"there is already a trust file {str(trust_file)!r}")
    unfinished = directory / TRUST_COPY
    if unfinished.is_file():
        # Somebody was killed between the keys and the trust file: the keys are whole, so finish the work.
        with _translated(trust_file):
            _write_trust(trust_file, read_document(unfinished))
            unfinished.unlink()
        return KeyRing(directory)
    with _translated(directory):
        directory.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
        scratch = Path(tempfile.mkdtemp(prefix=f".{directory.name}.", dir=directory.parent))
        try:
            trust = _make(scratch, now)
            # rename(2) replaces an empty directory and refuses anything else: no moment between look and leap.
            _rename_new(scratch, directory)
        finally:
            shutil.rmtree(scratch, ignore_errors=True)
        _sync_directory(directory.parent)
    try:
        with _translated(trust_file):
            trust_file.parent.mkdir(parents=True, exist_ok=True)
            _write_trust(trust_file, trust.encode())
    except SigningError:
        # Keys that nobody can trust would only stand in the way. Whoever is stopped here finishes the next time.
        shutil.rmtree(directory, ignore_errors=True)
        raise
    with _translated(unfinished):
        unfinished.unlink()
    return KeyRing(directory)


@contextlib.contextmanager
def _translated(path: Path) -> Iterator[None]:
    try:
        yield
    except OSError as why:
        raise Unwritable(f"{str(path)!r} cannot be made: {why.strerror}") from None


def _rename_new(scratch: Path, directory: Path) -> None:
    try:
        scratch.rename(directory)
    except OSError as why:
        if why.errno in {errno.EEXIST, errno.ENOTEMPTY, errno.ENOTDIR}:
            raise KeysExist(f"there is already something at {str(directory)!r}") from None
        raise


def _make(directory: Path, now: datetime) -> Trust:
    keys = {purpose: ec.generate_private_key(curve_of(purpose)) for purpose in PURPOSES}
    ca_key = ec.generate_private_key(ec.SECP384R1())
    ca = issue_ca(ca_key, CA_NAME, now)
    leaf = issue_leaf(keys["glance"].public_key(), LEAF_NAME, ca, ca_key, now)
    keyids: dict[Purpose, str] = {purpose: keyid_of(key.public_key()) for purpose, key in keys.items()}
    for purpose, key in keys.items():
        _write(directory / f"{purpose}.pem", _private_pem(key))
        _write(directory / f"{purpose}.pub", public_pem(key.public_key()).encode("ascii"))
    _write(directory / "glance-ca.pem", _private_pem(ca_key))
    _write(directory / "glance-ca.crt", certificate_pem(ca).encode("ascii"))
    _write(directory / "glance.crt", certificate_pem(leaf).encode("ascii"))
    _write(directory / METADATA, metadata(True, now, keyids))
    trust = Trust(
        development=True,
        release={keyids["release"]: keys["release"].public_key()},
        provenance={keyids["provenance"]: keys["provenance"].public_key()},
        glance_ca=(ca,),
    )
    _write(directory / TRUST_COPY, trust.encode())
    _sync_directory(directory)
    return trust


def _private_pem(key: ec.EllipticCurvePrivateKey) -> bytes:
    return key.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption())


def _write(path: Path, content: bytes) -> None:
    fd = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW | os.O_CLOEXEC, 0o600)
    with os.fdopen(fd, "wb") as stream:
        stream.write(content)
        stream.flush()
        os.fsync(fd)


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
    _sync_directory(path.parent)


def _sync_directory(path: Path) -> None:
    fd = os.open(path, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        os.fsync(fd)
    finally:
        os.close(fd)
