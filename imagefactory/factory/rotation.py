"""Replacing keys: a rotation is decided by one rename, and whoever comes next finishes what was decided.

Everything new is made in a hidden directory of the key directory and is no part of it. Renaming that to `.rotation`
decides; what follows can be done any number of times:

1. the new files go to their places, under names of their own;
2. the new key is added to the trust file as it is by then, for the image names that the old one might sign for when
   this was decided;
3. keys.json is replaced: from here on the new key signs;
4. the old private key is removed, from its file or its token; its public half stays, under a name with its keyid.

So at any moment there is a key that can sign and that the trust file believes. A key made in a token for a rotation
that was never decided stays there, and nothing knows it.

The keys that catalogues name are replaced in two moves: `prepare` makes the new one, which waits (tools.key_directory),
and `succeed` lets it take its place when every catalogue names it.
"""

import os
import shutil
import tempfile
from collections.abc import Callable, Sequence
from contextlib import ExitStack
from dataclasses import asdict, dataclass, replace
from datetime import datetime
from pathlib import Path
from typing import Any, Literal

from cryptography import x509

from imagefactory.factory.keys import Custody, NewKeys
from imagefactory.tools.durable import replace_file, sync_directory, translated, write_new
from imagefactory.tools.key_directory import open_keys, require_pkcs11, waiting_place
from signing.certificates import certificate_pem, fingerprint, load_certificate
from signing.digest import read_document
from signing.errors import CertificateDamaged, KeyDamaged
from signing.keys import AUTHORITY, METADATA, KeyRing, Metadata, Purpose, keyid_of, load_public_key, public_pem
from signing.strict_json import decode, encode
from signing.token_uri import TokenUri
from signing.trust import EVERY_NAME, Trust, load_trust

JOURNAL = ".rotation"
SCRATCH = ".rotating."
ADDED, DECISION = "added.json", "decision.json"

Rotated = Purpose | Literal["glance-ca"]


@dataclass(frozen=True)
class Replaced:
    """A key and its successor, by keyid; a CA by the SHA-256 of its certificate. The old one's files were called
    `stem`, and `where` is its URI."""

    name: str
    old: str
    new: str
    stem: str
    where: str


@dataclass(frozen=True)
class Rotation:
    """What a rotation replaced, and whether the trust file became another, which has to be handed out."""

    replaced: tuple[Replaced, ...]
    trust_changed: bool


def rotate(
    directory: Path,
    trust_file: Path,
    name: Rotated,
    passphrase: Callable[[], bytes],
    *,
    now: datetime,
    note: Callable[[Replaced], None],
    issuing: Callable[[str, str], None] = lambda _ca, _subject: None,
) -> Rotation:
    """Replace the key of a purpose, or the Glance CA and with it the Glance key. Nobody else uses the keys meanwhile.

    A rotation of `name` that was interrupted is finished, and no other begun. `note` hears of each key that is
    replaced, before it is; of those of an interrupted rotation perhaps once more. `issuing` hears of a
    certificate before it is issued, as in `NewKeys`.

    Raises errors of the room signing, ExtraMissing.
    """
    interrupted = finish(directory, trust_file, note)
    if interrupted and name in {each.name for each in interrupted.replaced}:
        return interrupted
    ring, trust = open_keys(directory, passphrase), load_trust(trust_file)
    custody = _custody(ring, name, passphrase)
    with ExitStack() as undo:
        with translated(directory):
            scratch = Path(tempfile.mkdtemp(prefix=SCRATCH, dir=directory))
        undo.callback(shutil.rmtree, scratch, ignore_errors=True)
        made = NewKeys(scratch, custody, ring.development, now, replacing=True, issuing=issuing)
        undo.callback(made.forget, directory / JOURNAL)
        # Nothing is decided that cannot be finished: the trust file can be replaced.
        replace_file(trust_file, read_document(os.path.realpath(trust_file)))
        with translated(directory):
            _decide(ring, name, made, trust)
            sync_directory(scratch)
            scratch.rename(directory / JOURNAL)
            sync_directory(directory)
    done = finish(directory, trust_file, note)
    assert done is not None  # noqa: S101 - it was decided right here
    return done


def prepare(
    directory: Path, purpose: Purpose, passphrase: Callable[[], bytes], *, now: datetime, note: Callable[[str], None]
) -> KeyRing:
    """Make the key that is to replace the one for `purpose`, or return the one that waits already. `note` hears its
    keyid before it is there. Nobody else uses the keys meanwhile.

    Raises errors of the room signing, ExtraMissing.
    """
    place = waiting_place(directory, purpose)
    if place.exists():
        return open_keys(place, passphrase)
    ring = open_keys(directory, passphrase)
    custody = _custody(ring, purpose, passphrase)
    with ExitStack() as undo, translated(directory):
        scratch = Path(tempfile.mkdtemp(prefix=SCRATCH, dir=directory))
        undo.callback(shutil.rmtree, scratch, ignore_errors=True)
        made = NewKeys(scratch, custody, ring.development, now, replacing=True)
        undo.callback(made.forget, place)
        keyid = keyid_of(made.key(purpose))
        write_new(scratch / METADATA, Metadata(ring.development, now, {purpose: keyid}, made.where).encode())
        sync_directory(scratch)
        note(keyid)
        scratch.rename(place)
        sync_directory(directory)
    return open_keys(place, passphrase)


def succeed(directory: Path, trust_file: Path, purpose: Purpose, note: Callable[[Replaced], None]) -> Rotation | None:
    """Let the key that waits for `purpose` take its place; None when none waits. Nobody else uses the keys meanwhile.

    Raises as `rotate`.
    """
    done = finish(directory, trust_file, note)
    place = waiting_place(directory, purpose)
    if not place.exists():
        return done
    ring, successor = KeyRing(directory), KeyRing(place)
    if successor.keyid(purpose) != ring.keyid(purpose):
        with ExitStack() as undo, translated(directory):
            scratch = Path(tempfile.mkdtemp(prefix=SCRATCH, dir=directory))
            undo.callback(shutil.rmtree, scratch, ignore_errors=True)
            for path in place.iterdir():
                if path.name != METADATA:
                    write_new(scratch / path.name, read_document(path))
            replaced = Replaced(
                purpose,
                ring.keyid(purpose),
                successor.keyid(purpose),
                ring.metadata.stem(purpose),
                ring.where(purpose),
            )
            following = replace(
                ring.metadata,
                keyids={**ring.metadata.keyids, purpose: replaced.new},
                where={**ring.metadata.where, **successor.metadata.where},
                made={**ring.metadata.made, purpose: successor.metadata.created},
            )
            _write_decision(scratch, following, [replaced])
            sync_directory(scratch)
            scratch.rename(directory / JOURNAL)
            sync_directory(directory)
        done = finish(directory, trust_file, note)
    with translated(directory):
        gone = directory / f"{SCRATCH}{purpose}"  # whoever comes next removes what is left of it
        place.rename(gone)
        shutil.rmtree(gone)
    return done


def finish(directory: Path, trust_file: Path, note: Callable[[Replaced], None]) -> Rotation | None:
    """Finish a rotation that was decided and interrupted; None when there is none. Raises as `rotate`."""
    for left in directory.glob(f"{SCRATCH}*"):
        shutil.rmtree(left, ignore_errors=True)
    journal = directory / JOURNAL
    if not (journal / DECISION).exists():  # none, or what is left of one that was done
        shutil.rmtree(journal, ignore_errors=True)
        return None
    done = _decision(journal)
    for each in done.replaced:
        note(each)
    with translated(directory):
        for path in journal.iterdir():
            if path.name not in {ADDED, METADATA, DECISION}:
                path.rename(directory / path.name)
        sync_directory(directory)
    if (journal / ADDED).exists():
        _add(trust_file, journal / ADDED)
    with translated(directory):
        if (journal / METADATA).exists():
            (journal / METADATA).rename(directory / METADATA)
            sync_directory(directory)
        for each in done.replaced:
            _retire(directory, each)
        sync_directory(directory)
        shutil.rmtree(journal)
    return done


def authority(ring: KeyRing) -> x509.Certificate:
    """The CA of a key directory. Raises KeyDamaged, Unreadable."""
    return load_authority(ring.directory / f"{ring.metadata.stem(AUTHORITY)}.crt")


def load_authority(path: Path) -> x509.Certificate:
    """The certificate in a file. Raises KeyDamaged, Unreadable."""
    try:
        return load_certificate(read_document(path).decode("ascii"))
    except (CertificateDamaged, UnicodeDecodeError):
        raise KeyDamaged(f"{path} is not a certificate") from None


def _custody(ring: KeyRing, name: Rotated, passphrase: Callable[[], bytes]) -> Custody:
    """The new key is kept as the old one is."""
    uri = ring.where("glance" if name == "glance-ca" else name)
    token = TokenUri.parse(uri) if uri.startswith("pkcs11:") else None
    if name != "glance-ca" and token is not None:
        return Custody(token=token)
    ring.open_private(name)  # all keys have one passphrase, and it is this one
    return Custody(None if ring.development else passphrase(), token)


def _decide(ring: KeyRing, name: Rotated, made: NewKeys, trust: Trust) -> None:
    metadata = ring.metadata
    purpose: Purpose = "glance" if name == "glance-ca" else name
    key = made.key(purpose)
    old, new = metadata.keyids[purpose], keyid_of(key)
    replaced = [Replaced(purpose, old, new, metadata.stem(purpose), ring.where(purpose))]
    added: dict[str, object] = {}
    if purpose in {"release", "provenance"}:
        names = trust.names.get(old, (EVERY_NAME,))  # a key that nobody believed is as good as a first one
        added = {"purpose": purpose, "pem": public_pem(key), "names": list(names)}
    elif name == "glance-ca":
        before = authority(ring)
        ca, ca_key = made.authority()
        made.leaf(key, ca, ca_key)
        added = {"purpose": AUTHORITY, "pem": certificate_pem(ca)}
        stem = metadata.stem(AUTHORITY)
        replaced.append(Replaced(AUTHORITY, fingerprint(before), fingerprint(ca), stem, f"file:{stem}.pem"))
    elif purpose == "glance":
        made.leaf(key, authority(ring), ring.open_private(AUTHORITY))
    following = replace(
        metadata,
        keyids={**metadata.keyids, purpose: new},
        where={**metadata.where, **made.where},
        made={**metadata.made, **{each.name: made.now for each in replaced}},
    )
    _write_decision(made.directory, following, replaced)
    if added:
        write_new(made.directory / ADDED, encode(added))


def _write_decision(scratch: Path, following: Metadata, replaced: Sequence[Replaced]) -> None:
    write_new(scratch / METADATA, following.encode())
    write_new(scratch / DECISION, encode({"replaced": [asdict(each) for each in replaced]}))


def _add(trust_file: Path, journal: Path) -> None:
    """Have what a rotation made in the trust file, beside whatever that believes by now."""
    trust, document = load_trust(trust_file), decode(read_document(journal), ADDED)
    match document:
        case {"purpose": "release" | "provenance" as purpose, "pem": str(pem), "names": [*names]}:
            key = load_public_key(pem, purpose)
            keys = {**trust.keys(purpose), keyid_of(key): key}
            after = replace(trust, names={keyid_of(key): tuple(map(str, names)), **trust.names})
            after = replace(after, release=keys) if purpose == "release" else replace(after, provenance=keys)
        case {"purpose": "glance-ca", "pem": str(pem)}:
            ca = load_certificate(pem)
            after = trust if ca in trust.glance_ca else replace(trust, glance_ca=(*trust.glance_ca, ca))
        case _:
            raise KeyDamaged(f"{journal} is not what was written")
    if after != trust:
        replace_file(trust_file, after.encode())


def _decision(journal: Path) -> Rotation:
    document: Any = decode(read_document(journal / DECISION), DECISION)
    try:
        replaced = tuple(Replaced(**each) for each in document["replaced"])
    except (KeyError, TypeError):
        raise KeyDamaged(f"{journal / DECISION} is not what was written") from None
    return Rotation(replaced, any(each.name in {"release", "provenance", AUTHORITY} for each in replaced))


def _retire(directory: Path, gone: Replaced) -> None:
    """Remove a private key; keep what is public of it, under a name with its id."""
    if gone.where.startswith("pkcs11:"):
        require_pkcs11()
        from imagefactory.tools.token import destroy_key  # noqa: PLC0415 - its library is an extra

        destroy_key(TokenUri.parse(gone.where))
    (directory / f"{gone.stem}.pem").unlink(missing_ok=True)
    for suffix in ("pub", "crt"):
        path = directory / f"{gone.stem}.{suffix}"
        if path.exists():
            path.rename(directory / f"{gone.name}.{gone.old[:16]}.{suffix}")
