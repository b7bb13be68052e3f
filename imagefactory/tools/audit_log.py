"""The audit log: what was done with keys, in an order that nobody can change afterwards without being seen.

A file of lines, each one entry in canonical JSON (`signing.strict_json`) ::

    {"details": {KEY: TEXT, ...}, "entry": N, "event": SLUG, "previous": SHA256, "time": TIME}

Rules:

1. Entries are numbered from 1. `previous` is the SHA-256 of the line before, its newline included; sixty-four zeros in
   the first entry.
2. The head is the number of entries and the SHA-256 of the last line. Every release manifest carries the head of the
   moment at which it was signed: whoever cuts the log, or writes another, has to take back releases that are out.
3. An entry is written as a whole under a lock and is on the disk before anybody relies on it. A last line without its
   newline was never finished: readers leave it out, and the next writer removes it and says so in an entry.
4. A time is what the clock said, and proves nothing; the order does.

A log proves what stands before a head. What came after the newest published head can be cut unseen.
"""

import errno
import fcntl
import hashlib
import os
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import UTC, datetime
from io import BytesIO
from pathlib import Path
from typing import BinaryIO, Final

from imagefactory.errors import AuditCut, AuditDamaged, FactoryError
from signing.digest import open_regular
from signing.errors import DocumentInvalid, SigningError, Unwritable
from signing.fields import SHA256_HEX, SLUG, Fields, format_time
from signing.keys import PublicKey, Purpose
from signing.manifest import AuditHead
from signing.signer import Signer
from signing.strict_json import decode, encode

MAX_LINE: Final = 64 * 1024
NOTHING: Final = "0" * 64
_NEWLINE: Final = b"\n"


@dataclass(frozen=True)
class Entry:
    """One entry. `time` is aware UTC; `head` is the head of the log that ends with it."""

    event: str
    time: datetime
    details: dict[str, str]
    head: AuditHead


class AuditLog:
    """The log in the file `path`, which the first entry makes; its directory is there."""

    def __init__(self, path: Path) -> None:
        self.path = path

    def append(self, event: str, **details: str) -> AuditHead:
        """Write an entry about `event` (a slug) and return the new head.

        Raises: AuditDamaged (the log ends in something that is no entry), Unwritable.
        """
        try:
            fd = os.open(self.path, os.O_RDWR | os.O_CREAT | os.O_NOFOLLOW | os.O_CLOEXEC, 0o600)
            with os.fdopen(fd, "r+b", buffering=0) as stream:
                fcntl.flock(stream, fcntl.LOCK_EX)
                head, end = _tail(stream)
                if torn := os.fstat(fd).st_size - end:
                    stream.truncate(end)
                    head, end = _write(stream, head, end, "torn-entry-removed", {"bytes": str(torn)})
                head, _ = _write(stream, head, end, event, details)
        except OSError as why:
            raise Unwritable(f"the audit log {str(self.path)!r} cannot be written: {why.strerror}") from None
        return head

    def entries(self) -> Iterator[Entry]:
        """Every whole entry, oldest first, each checked against the one before. A log that was never begun has none.

        Raises: AuditDamaged, NotARegularFile, Unreadable.
        """
        with self._opened() as (stream, end, _):
            head = AuditHead(0, NOTHING)
            while stream.tell() < end:
                entry = _read(stream.readline(MAX_LINE + 1), head.entries + 1)
                if entry[0] != head.sha256:
                    raise AuditDamaged(f"entry {head.entries + 1} of the audit log does not follow the one before it")
                head = entry[1].head
                yield entry[1]

    def torn(self) -> int:
        """How many bytes there are of a last entry that was never finished. Raises as `entries`."""
        with self._opened() as (_, _, torn):
            return torn

    @contextmanager
    def _opened(self) -> Iterator[tuple[BinaryIO, int, int]]:
        """The log for reading, where its last whole line ends, and how many bytes come after that. No writer is at work
        at that moment; lines that are whole stay as they are, so nobody has to wait for a reader."""
        if not os.path.lexists(self.path):
            yield BytesIO(), 0, 0
            return
        with os.fdopen(open_regular(self.path), "rb") as stream:
            fcntl.flock(stream, fcntl.LOCK_SH)
            _, end = _last_line(stream)
            torn = os.fstat(stream.fileno()).st_size - end
            stream.seek(0)
            fcntl.flock(stream, fcntl.LOCK_UN)
            yield stream, end, torn

    def verify(self, heads: Iterable[AuditHead] = (), each: Callable[[Entry], None] | None = None) -> AuditHead:
        """Check the whole log, and that each of `heads` is in it; return its head. `each` hears of every entry.

        Raises: AuditDamaged, AuditCut (a head that was published is not in the log), NotARegularFile, Unreadable.
        """
        wanted: dict[int, AuditHead] = {}
        for head in heads:
            if wanted.setdefault(head.entries, head) != head:
                raise AuditCut(f"two releases were signed after entry {head.entries}, and it was not the same")
        last = AuditHead(0, NOTHING)
        for entry in self.entries():
            last = entry.head
            if each is not None:
                each(entry)
            if wanted.pop(last.entries, last) != last:
                raise AuditCut(f"entry {last.entries} of the audit log is not the one that a release was signed after")
        if wanted:
            raise AuditCut(f"the audit log has {last.entries} entries, and a release was signed after {max(wanted)}")
        return last


class AuditedSigner:
    """A signer whose every use is in the log before it happens; `about` says what for, such as NAME@VERSION."""

    def __init__(self, signer: Signer, log: AuditLog, about: str) -> None:
        self._signer = signer
        self._log = log
        self._about = about

    @property
    def keyid(self) -> str:
        """SHA-256 of the DER SubjectPublicKeyInfo, lower-case hex."""
        return self._signer.keyid

    @property
    def purpose(self) -> Purpose:
        """The one purpose of the key."""
        return self._signer.purpose

    @property
    def public_key(self) -> PublicKey:
        """The public half."""
        return self._signer.public_key

    def sign(self, payload: bytes) -> bytes:
        """Return the DER signature of a document. Raises: KeyPurpose, and what `AuditLog.append` raises."""
        self._note(sha256=hashlib.sha256(payload).hexdigest())
        return self._signer.sign(payload)

    def sign_prehashed(self, digest: bytes) -> bytes:
        """Return the DER signature of a SHA-512. Raises: KeyPurpose, and what `AuditLog.append` raises."""
        self._note(sha512=digest.hex())
        return self._signer.sign_prehashed(digest)

    def _note(self, **digest: str) -> None:
        self._log.append("key-used", purpose=self.purpose, keyid=self.keyid, about=self._about, **digest)


@contextmanager
def refusals(log: AuditLog, about: str) -> Iterator[None]:
    """Whatever is refused meanwhile is in the log; `about` says what was asked for, such as NAME@VERSION."""
    try:
        yield
    except (FactoryError, SigningError) as refusal:
        log.append("refused", about=about, code=refusal.code, message=refusal.message[:1000])
        raise


def _tail(stream: BinaryIO) -> tuple[AuditHead, int]:
    """The head of a log and where its last whole line ends."""
    line, end = _last_line(stream)
    return (_read(line)[1].head if line else AuditHead(0, NOTHING)), end


def _last_line(stream: BinaryIO) -> tuple[bytes, int]:
    """The last whole line of a log, nothing where there is none, and where it ends."""
    size = stream.seek(0, os.SEEK_END)
    start = max(0, size - 2 * MAX_LINE)
    stream.seek(start)
    whole, newline, _ = stream.read(size - start).rpartition(_NEWLINE)
    if not newline:
        if start:
            raise AuditDamaged("the audit log ends in something that is no entry")
        return b"", 0
    return whole.rpartition(_NEWLINE)[2] + newline, start + len(whole) + 1


def _write(stream: BinaryIO, head: AuditHead, end: int, event: str, details: dict[str, str]) -> tuple[AuditHead, int]:
    entry = {
        "entry": head.entries + 1,
        "previous": head.sha256,
        "time": format_time(datetime.now(UTC)),
        "event": event,
        "details": details,
    }
    with _translated():
        line = encode(entry, "audit entry") + _NEWLINE
    new = _read(line)[1].head
    stream.seek(end)
    if stream.write(line) != len(line):  # nothing buffers: a full disk takes a part
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
    os.fsync(stream.fileno())
    return new, end + len(line)


def _read(line: bytes, number: int | None = None) -> tuple[str, Entry]:
    """What a line says: the digest of the line before it, and the entry."""
    what = "the audit log's last entry" if number is None else f"entry {number} of the audit log"
    if len(line) > MAX_LINE or not line.endswith(_NEWLINE):
        raise AuditDamaged(f"{what} is too long, or not finished")
    with _translated():
        document = decode(line, what)
        canonical = encode(document, what) + _NEWLINE
    if canonical != line:
        raise AuditDamaged(f"{what} is not in its canonical form")
    with _translated(), Fields(document, what, DocumentInvalid) as fields:
        found = fields.integer("entry", 1)
        previous, event, time = fields.text("previous", SHA256_HEX), fields.text("event", SLUG), fields.time("time")
        said = fields.object("details")
    details = {key: value for key, value in said.items() if isinstance(value, str)}
    if number not in {None, found} or len(details) != len(said):
        raise AuditDamaged(f"{what} has another number, or details that are not text")
    return previous, Entry(event, time, details, AuditHead(found, hashlib.sha256(line).hexdigest()))


@contextmanager
def _translated() -> Iterator[None]:
    try:
        yield
    except DocumentInvalid as why:
        raise AuditDamaged(why.message) from None
