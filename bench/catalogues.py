"""A catalogue of 10,000 releases over 50 names: what it costs to verify one, and to publish one more.

Its manifests are tiny and their releases are not there, but for one that is real, small and signed. It is made once for
a work directory. What is measured are whole processes, because a person waits for these.
"""

import hashlib
import json
import os
import shutil
import subprocess
import sys
import time
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from datetime import UTC, date, datetime, timedelta
from functools import partial
from pathlib import Path

from bench.measure import Candidate, Comparison, command, compare
from bench.tuf_peer import look_up
from imagefactory.model.listing import Listing
from imagefactory.model.release import ReleaseRef, Version
from imagefactory.steps.listed import verify_listed
from imagefactory.steps.verify import Expectation
from imagefactory.tools.known_catalogue import known_catalogue
from imagefactory.tools.tuf_repository import TufRepository
from imagefactory.tools.tuf_root import add_signature, first_root
from signing.checksums import CHECKSUMS_FILE, SIGNATURE_FILE, build_checksums, sign_checksums
from signing.envelope import seal
from signing.glance import sign_image
from signing.keys import KeyRing, Purpose
from signing.manifest import MANIFEST_FILE, PROVENANCE_FILE, AuditHead, FormatEntry, OperatingSystem, ReleaseManifest
from signing.manifest import Version as SignedVersion
from signing.provenance import Provenance
from signing.signer import signer_in
from signing.statement import Subject

MANY, FEW, NAMES = 10_000, 100, 50
COLD, WARM, ONE_MORE = 2.0, 0.3, 1.0  # seconds
REWRITTEN = 100_000  # bytes
FLAT = 1.1  # times the memory that a catalogue of FEW releases takes
LIFE = timedelta(days=3650)
NAME, NEWEST = "image-00", Version(20261231, 1)
LAST_DAY = date(2027, 12, 31)
INTERVAL = 0.005  # seconds
BIN = Path(sys.executable).parent


@dataclass(frozen=True)
class Shelf:
    """A catalogue of `releases` in `work`, the keys that it is signed with, and those who read it."""

    work: Path
    releases: int

    @property
    def home(self) -> Path:
        return self.work / "factory"

    @property
    def catalogue(self) -> Path:
        return self.work / "catalogue"

    @property
    def root_file(self) -> Path:
        return self.work / "root.json"

    @property
    def reader(self) -> Path:
        """The home of somebody who verifies, with his trust store."""
        return self.work / "reader"

    @property
    def peer(self) -> Path:
        """What python-tuf alone keeps."""
        return self.work / "peer"

    @property
    def copy(self) -> Path:
        """The metadata again, to publish to."""
        return self.work / "copy"

    @property
    def log(self) -> Path:
        return self.work / "bench.log"

    @property
    def environment(self) -> dict[str, str]:
        return {"IMAGEFACTORY_HOME": str(self.reader)}

    @property
    def verify(self) -> list[str | Path]:
        """Names the root every time, which is wanted once and allowed always."""
        target = f"catalogue:{self.catalogue}/{NAME}@{NEWEST}"
        return [BIN / "imagefactory", "verify", target, "--root", self.root_file]

    @property
    def peer_look_up(self) -> list[str | Path]:
        path = f"{NAME}/{NEWEST}.sigstore.json"
        return [sys.executable, "-m", "bench.tuf_peer", self.catalogue, self.root_file, self.peer, path]

    @property
    def publish(self) -> list[str | Path]:
        return [sys.executable, "-m", "bench.catalogues", self.work, str(self.releases)]

    def repository(self, root: Path) -> TufRepository:
        ring = KeyRing(self.home / "keys")
        signers = [signer_in(ring, "targets"), signer_in(ring, "freshness")]
        return TufRepository(root, self.root_file.read_bytes(), signers)

    def forget(self) -> None:
        """Nobody has read the catalogue yet."""
        for memory in (self.reader, self.peer):
            shutil.rmtree(memory, ignore_errors=True)
            memory.mkdir()

    def undo(self) -> None:
        """Nothing more was published."""
        shutil.rmtree(self.copy, ignore_errors=True)
        shutil.copytree(self.catalogue / "metadata", self.copy / "metadata")


@dataclass(frozen=True)
class Rewritten:
    """Bytes of each file that one more release makes anew, beside the release itself."""

    files: Mapping[str, int]

    @property
    def met(self) -> bool:
        return sum(self.files.values()) < REWRITTEN

    def lines(self) -> list[str]:
        shown = [f"  {path:40} {size:8} bytes" for path, size in self.files.items()]
        goal = f"  goal: below {REWRITTEN} bytes: {'met' if self.met else 'MISSED'}"
        return [f"rewritten for one more of {MANY} releases: {sum(self.files.values())} bytes", *shown, goal]


@dataclass(frozen=True)
class Flat:
    """Peak memory in bytes of each process, with FEW releases and with MANY."""

    sizes: Mapping[str, tuple[int, int]]

    @property
    def met(self) -> bool:
        return all(many <= FLAT * few for few, many in self.sizes.values())

    def lines(self) -> list[str]:
        shown = [
            f"  {name:40} {few / (1 << 20):6.1f} MiB  {many / (1 << 20):6.1f} MiB  ({many / few:.2f}x)"
            for name, (few, many) in self.sizes.items()
        ]
        goal = f"  goal: at most {FLAT:.2f}x: {'met' if self.met else 'MISSED'}"
        return [f"peak memory with {FEW} releases and with {MANY}", *shown, goal]


def cold(work: Path, runs: int) -> Comparison:
    """The first verification on a machine. The peer only looks the release up, and verifies nothing of it."""
    shelf = prepare(work, MANY)
    candidates = {
        "imagefactory verify catalogue:, nothing known": command(shelf.verify, shelf.log, shelf.environment),
        "python-tuf's Updater: refresh, look-up": command(shelf.peer_look_up, shelf.log),
    }
    return compare("verify one of 10,000 releases, cold", COLD, runs, candidates, shelf.forget, in_seconds=True)


def warm(work: Path, runs: int) -> Comparison:
    """Every further one."""
    shelf = prepare(work, MANY)
    shelf.forget()
    candidates = {
        "imagefactory verify catalogue:, again": command(shelf.verify, shelf.log, shelf.environment),
        "python-tuf's Updater: refresh, look-up": command(shelf.peer_look_up, shelf.log),
    }
    return compare("verify one of 10,000 releases, warm", WARM, max(runs, 2), candidates, in_seconds=True)


def warm_inside(work: Path, runs: int) -> Comparison:
    """The same without the start of a process: what a worker pays that verifies one after the other."""
    shelf = prepare(work, MANY)
    shelf.forget()
    known = known_catalogue(shelf.catalogue, shelf.reader / "trusted", (shelf.root_file,))
    ref = ReleaseRef(NAME, NEWEST)
    path = f"{NAME}/{NEWEST}.sigstore.json"

    def ours() -> None:
        verify_listed(known, ref, Expectation(None, datetime.now(UTC)))

    candidates: dict[str, Candidate] = {
        "verify_listed, again": ours,
        "python-tuf's Updater: refresh, look-up": partial(
            look_up, shelf.catalogue, shelf.root_file, str(shelf.peer), path
        ),
    }
    return compare("verify one of 10,000 releases, warm, in a process", WARM, max(runs, 2), candidates, in_seconds=True)


def one_more(work: Path, runs: int) -> Comparison:
    """List one more release, from the start of a process to its end. Nobody else does the same."""
    shelf = prepare(work, MANY)
    candidates = {"list one more release": command(shelf.publish, shelf.log)}
    return compare("publish one more to 10,000 releases", ONE_MORE, runs, candidates, shelf.undo, in_seconds=True)


def rewritten(work: Path) -> Rewritten:
    """What one more release writes into the metadata."""
    shelf = prepare(work, MANY)
    shelf.undo()
    made = subprocess.run([str(part) for part in shelf.publish], check=True, capture_output=True, text=True)
    return Rewritten(json.loads(made.stdout))


def flat(work: Path) -> Flat:
    """The peaks of each process, with few releases and with many."""
    peaks: dict[str, list[int]] = {}
    for shelf in (prepare(work, FEW), prepare(work, MANY)):
        shelf.forget()
        shelf.undo()
        for name, argv in (("verify, cold", shelf.verify), ("verify, warm", shelf.verify), ("publish", shelf.publish)):
            peaks.setdefault(name, []).append(_peak(argv, shelf))
    return Flat({name: (few, many) for name, (few, many) in peaks.items()})


def prepare(work: Path, releases: int) -> Shelf:
    """The catalogue, fresh; made where it is not there."""
    shelf = Shelf(work / f"catalogue-{releases}", releases)
    now = datetime.now(UTC).replace(microsecond=0)
    if not (shelf.catalogue / "metadata" / "timestamp.json").exists():
        shutil.rmtree(shelf.work, ignore_errors=True)
        shelf.work.mkdir(parents=True)
        command([BIN / "imagefactory", "keys", "init", "--development"], shelf.log, _at(shelf.home))()
        shelf.root_file.write_bytes(_root(KeyRing(shelf.home / "keys"), now))
        repository = shelf.repository(shelf.catalogue)
        repository.create(now)
        repository.set_trust((shelf.home / "trust.json").read_bytes(), now)
        repository.list_releases(_listed(shelf, now), now)
        os.sync()  # nobody's business later
    shelf.repository(shelf.catalogue).refresh(now)
    return shelf


def _at(home: Path) -> dict[str, str]:
    return {"IMAGEFACTORY_HOME": str(home)}


def _root(ring: KeyRing, now: datetime) -> bytes:
    purposes: tuple[Purpose, ...] = ("root", "targets", "freshness")
    signers = {purpose: signer_in(ring, purpose) for purpose in purposes}
    keys = {purpose: [signer.public_key] for purpose, signer in signers.items()}
    return add_signature(first_root(keys, 1, now + LIFE), signers["root"])


def _listed(shelf: Shelf, now: datetime) -> Iterator[tuple[Listing, bytes]]:
    yield _listing(NAME, NEWEST), _real(shelf, now)
    for number in range(1, shelf.releases):
        listing = _listing(f"image-{number % NAMES:02}", Version(20260101, 1 + number // NAMES))
        yield listing, f"the manifest of {listing.ref}\n".encode()


def _listing(name: str, version: Version) -> Listing:
    return Listing(name, version, "debian", "12", "x86_64", provided_until=LAST_DAY)


def _real(shelf: Shelf, now: datetime) -> bytes:
    """A signed release with an image of 64 KiB, in its folder. Returns its manifest."""
    ring = KeyRing(shelf.home / "keys")
    purposes: tuple[Purpose, ...] = ("release", "provenance", "glance")
    signers = {purpose: signer_in(ring, purpose) for purpose in purposes}
    folder = shelf.catalogue / "targets" / NAME / str(NEWEST)
    folder.mkdir(parents=True)
    image, stem = os.urandom(64 << 10), f"{NAME}-{NEWEST}"
    sha512 = hashlib.sha512(image)
    glance = sign_image(signers["glance"], ring.certificate(), sha512.digest())
    entry = FormatEntry(f"{stem}.qcow2", len(image), 1 << 30, _sha256(image), sha512.hexdigest(), glance)
    made = Provenance((Subject(entry.file, entry.sha256, entry.sha512),), {}, "urn:bench", "bench", now, now)
    provenance = seal(made.to_statement(), signers["provenance"])
    manifest = ReleaseManifest(
        name=NAME,
        version=SignedVersion.parse(str(NEWEST)),
        os=OperatingSystem("debian", "12", "bookworm"),
        arch="x86_64",
        formats={"qcow2": entry},
        files={PROVENANCE_FILE: _sha256(provenance)},
        evidence=(),
        properties={},
        audit=AuditHead(1, "0" * 64),
        created=now,
        expires=now + LIFE,
        development=True,
    )
    files = {
        entry.file: image,
        PROVENANCE_FILE: provenance,
        MANIFEST_FILE: seal(manifest.to_statement(), signers["release"]),
    }
    sums = build_checksums({name: _sha256(raw) for name, raw in files.items()})
    signed = {CHECKSUMS_FILE: sums, SIGNATURE_FILE: sign_checksums(sums, signers["release"])}
    for name, raw in {**files, **signed}.items():
        (folder / name).write_bytes(raw)
    return files[MANIFEST_FILE]


def _sha256(raw: bytes) -> str:
    return hashlib.sha256(raw).hexdigest()


def _peak(argv: list[str | Path], shelf: Shelf) -> int:
    """The highest resident set of a process, in bytes. It is asked while it runs: what wait4(2) tells is at least what
    we had when we started it."""
    peak = 0
    with shelf.log.open("ab") as output:
        process = subprocess.Popen(
            [str(part) for part in argv], stdout=output, stderr=output, env={**os.environ, **shelf.environment}
        )
        while process.poll() is None:
            status = Path(f"/proc/{process.pid}/status").read_text()
            found = next((line for line in status.splitlines() if line.startswith("VmHWM:")), "")
            peak = max(peak, int(found.split()[1]) * 1024) if found else peak
            time.sleep(INTERVAL)
    if process.returncode:
        raise RuntimeError(f"{argv[0]} failed; see {shelf.log}")
    return peak


def main() -> None:
    """List one more release in the copy of a catalogue, and say how long the files are that it rewrote."""
    shelf = Shelf(Path(sys.argv[1]), int(sys.argv[2]))
    listing = _listing(NAME, Version(NEWEST.day, 2))
    change = shelf.repository(shelf.copy).list_release(listing, b"one more\n", datetime.now(UTC))
    sizes = {path: (shelf.copy / path).stat().st_size for path in change.written if path.startswith("metadata/")}
    sys.stdout.write(f"{json.dumps(sizes)}\n")


if __name__ == "__main__":
    main()
