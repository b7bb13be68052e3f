"""What keys there are, and what of them is for everybody."""

import os
import shutil
import tempfile
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass
from datetime import datetime
from pathlib import Path
from typing import Any, TypeAlias

from imagefactory.factory.keys import TRUST_COPY, rename_new
from imagefactory.factory.rotation import Rotated, authority
from imagefactory.tools.durable import sync_directory, translated, write_new
from imagefactory.tools.key_directory import open_waiting
from imagefactory.tools.tuf_root import named_keys
from signing.certificates import certificate_pem, fingerprint
from signing.errors import KeysExist, KeyUntrusted
from signing.fields import format_time
from signing.keys import AUTHORITY, METADATA, KeyRing, Purpose, public_pem
from signing.trust import Trust

TRUST_FILE, RELEASE_FILE, AUTHORITY_FILE, ROOT_FILE = "trust.json", "release.pub", "glance-ca.crt", "root.json"

Named: TypeAlias = Mapping[Purpose, Sequence[str]]
"""What a catalogue's root names: keyids by purpose."""


@dataclass(frozen=True)
class KeyEntry:
    """One key, or the CA by the SHA-256 of its certificate. `where` is None for one that is not here, `trusted` for one
    that neither a trust file nor a catalogue's root speaks of; `expires` is that of its certificate, `names` the image
    names that it is trusted for. Times are aware UTC."""

    purpose: str
    keyid: str
    where: str | None
    created: datetime | None
    trusted: bool | None
    development: bool
    expires: datetime | None = None
    names: tuple[str, ...] = ()

    def to_json(self) -> dict[str, Any]:
        times = {name: format_time(moment) if moment else None for name, moment in self._times().items()}
        return {**asdict(self), **times}

    def _times(self) -> Mapping[str, datetime | None]:
        return {"created": self.created, "expires": self.expires}


def inventory(trust: Trust | None, ring: KeyRing | None, root: bytes | None = None) -> list[KeyEntry]:
    """The keys in a key directory, those that wait to replace one of them, and then those that the trust file, or the
    root of a catalogue, believes and that are not there.

    Raises KeyDamaged, KeysMissing, Unreadable.
    """
    named = named_keys(root) if root else {}
    here = [*_here(ring, trust, named), *_waiting(ring, named)] if ring else []
    known = {each.keyid for each in here}
    return here + [each for each in (*_believed(trust), *_named(named)) if each.keyid not in known]


def current(ring: KeyRing, name: Rotated) -> str:
    """The id of the key that signs now. Raises KeysMissing, KeyDamaged."""
    if name == "glance-ca":
        return fingerprint(authority(ring))
    ring.where(name)
    return ring.metadata.keyids[name]


def require_room(directory: Path, trust_file: Path) -> None:
    """See, before anybody types a passphrase, that there are no keys yet, or unfinished ones. Raises KeysExist."""
    if (directory / TRUST_COPY).exists():
        return
    if os.path.lexists(trust_file):
        raise KeysExist(f"there is already a trust file {str(trust_file)!r}")
    if (directory / METADATA).exists():
        raise KeysExist(f"there are already keys in {str(directory)!r}")


def require_empty(directory: Path) -> None:
    """See, before anybody types a passphrase, that keys can be made in `directory`. Raises KeysExist, Unwritable."""
    with translated(directory):
        if os.path.lexists(directory) and (not directory.is_dir() or any(directory.iterdir())):
            raise KeysExist(f"there is already something at {str(directory)!r}")


def export(trust: Trust, ring: KeyRing, directory: Path, root: bytes | None = None) -> tuple[str, ...]:
    """Write what other machines need into the new directory, as a whole: the trust file; the release key that signs
    now, for openssl; every trusted Glance CA, one after the other; the `root` of a catalogue if there is one. Returns
    the names.

    Raises KeysExist, Unwritable, KeysMissing, KeyUntrusted (the release key that signs now), KeyDamaged.
    """
    keyid = current(ring, "release")
    if keyid not in trust.release:
        raise KeyUntrusted(f"the trust file does not know the release key {keyid[:16]} that signs here")
    files = {
        TRUST_FILE: trust.encode().decode("ascii"),
        RELEASE_FILE: public_pem(trust.release[keyid]),
        AUTHORITY_FILE: "".join(map(certificate_pem, trust.glance_ca)),
        **({ROOT_FILE: root.decode("utf-8")} if root else {}),
    }
    with translated(directory):
        directory.absolute().parent.mkdir(parents=True, exist_ok=True)
        scratch = Path(tempfile.mkdtemp(prefix=f".{directory.name}.", dir=directory.absolute().parent))
        try:
            for name, text in files.items():
                write_new(scratch / name, text.encode("utf-8"))
                (scratch / name).chmod(0o644)
            scratch.chmod(0o755)
            rename_new(scratch, directory)
        finally:
            shutil.rmtree(scratch, ignore_errors=True)
        sync_directory(directory.absolute().parent)
    return tuple(files)


def _here(ring: KeyRing, trust: Trust | None, named: Named) -> Iterator[KeyEntry]:
    metadata = ring.metadata
    for purpose, keyid in metadata.keyids.items():
        where = _place(ring, purpose)
        created = metadata.made.get(purpose, metadata.created)
        trusted = _is_named(named, purpose, keyid)
        if trust and purpose in {"release", "provenance"}:
            trusted = trust.purpose_of(keyid) == purpose
        expires = ring.certificate().not_valid_after_utc if purpose == "glance" else None
        names = trust.names.get(keyid, ()) if trust and trusted else ()
        yield KeyEntry(purpose, keyid, where, created, trusted, metadata.development, expires, names)
    if not (ring.directory / f"{metadata.stem(AUTHORITY)}.crt").exists():
        return  # the home of one role has none: the trust file speaks of it
    ca = authority(ring)
    where = f"file:{ring.directory / metadata.stem(AUTHORITY)}.pem"
    created = metadata.made.get(AUTHORITY, metadata.created)
    trusted = ca in trust.glance_ca if trust else None
    yield KeyEntry(AUTHORITY, fingerprint(ca), where, created, trusted, metadata.development, ca.not_valid_after_utc)


def _waiting(ring: KeyRing, named: Named) -> Iterator[KeyEntry]:
    for purpose, waiting in open_waiting(ring.directory, None).items():
        keyid = waiting.keyid(purpose)
        trusted = _is_named(named, purpose, keyid)
        where, created = _place(waiting, purpose), waiting.metadata.created
        yield KeyEntry(purpose, keyid, where, created, trusted, waiting.development)


def _place(ring: KeyRing, purpose: str) -> str:
    uri = ring.metadata.where.get(purpose, f"file:{purpose}.pem")
    return f"file:{ring.directory / uri.removeprefix('file:')}" if uri.startswith("file:") else uri


def _is_named(named: Named, purpose: str, keyid: str) -> bool | None:
    return next((keyid in keyids for each, keyids in named.items() if each == purpose), None)


def _named(named: Named) -> Iterator[KeyEntry]:
    for purpose, keyids in named.items():
        for keyid in keyids:
            yield KeyEntry(purpose, keyid, None, None, True, development=False)


def _believed(trust: Trust | None) -> Iterator[KeyEntry]:
    if trust is None:
        return
    for purpose, keys in (("release", trust.release), ("provenance", trust.provenance)):
        for keyid in keys:
            yield KeyEntry(purpose, keyid, None, None, True, trust.development, names=trust.names[keyid])
    for ca in trust.glance_ca:
        yield KeyEntry(AUTHORITY, fingerprint(ca), None, None, True, trust.development, ca.not_valid_after_utc)
