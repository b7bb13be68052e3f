"""One contract for every kind of artifact store: the files of one home, a directory of several Unix users, a bucket."""

import hashlib
import itertools
import logging
import os
import random
import signal
import stat
import subprocess
import sys
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass, field
from datetime import timedelta
from pathlib import Path

import pytest

from imagefactory.errors import ArtifactMissing, DiskFull
from imagefactory.errors.service import StoreDamaged, StoreUnusable
from imagefactory.model.storage import Bucket, Storage
from imagefactory.progress import Event, Progress, StepAdvanced, silent
from imagefactory.store import artifacts, bucket, directory
from imagefactory.store.artifacts import ArtifactStore
from imagefactory.store.shared import SharedStore, shared_store
from signing.errors import FileChanged
from tests.fakes.faults import CutDownload, CutUpload, Fault, Flip, LoseAnswer, Status
from tests.fakes.proxy import FaultProxy
from tests.openstack.install import ROOT
from tests.servers.directories import open_to_others
from tests.servers.swift import S3, STRANGER

BUILDER, READER, GROUP = 61001, 61002, 61000  # ids that nobody has here
CONTENT = random.Random(8).randbytes(3 << 20)  # noqa: S311
DIGEST = hashlib.sha256(CONTENT).hexdigest()
DIGEST_PATH = "/[0-9a-f]{64}"  # of an object, in a request


@contextmanager
def as_user(uid: int, *groups: int) -> Iterator[None]:
    """Root's rights are put aside."""
    before = os.getgroups()
    os.setgroups(groups)
    os.setegid(uid)
    os.seteuid(uid)
    try:
        yield
    finally:
        os.seteuid(0)
        os.setegid(0)
        os.setgroups(before)


@dataclass
class World:
    """Several homes, and one store behind them. `sizes` are what the records know."""

    root: Path
    storage: Storage | None
    sizes: dict[str, int] = field(default_factory=dict)
    _numbers: Iterator[int] = field(default_factory=lambda: itertools.count(1))

    def home(self, progress: Progress = silent) -> ArtifactStore:
        """A new one."""
        return ArtifactStore(self.directory(), self.shared(), self.sizes.get, progress)

    def shared(self) -> SharedStore | None:
        return shared_store(self.storage) if self.storage else None

    def directory(self) -> Path:
        made = self.root / f"home-{next(self._numbers)}"
        made.mkdir()
        return made

    def make(self, content: bytes = CONTENT) -> tuple[Path, str]:
        """A file that a step made, recorded, and its digest."""
        made = self.directory() / "made"
        made.write_bytes(content)
        digest = hashlib.sha256(content).hexdigest()
        self.sizes[digest] = len(content)
        return made, digest

    def bring(self, content: bytes = CONTENT) -> str:
        """Have a home of its own make it."""
        made, digest = self.make(content)
        self.home().adopt(made, digest)
        return digest

    def damage(self, digest: str, content: bytes) -> None:
        """Other bytes under the digest."""
        raise NotImplementedError

    def left(self) -> int:
        """How many uploads began and did not end."""
        raise NotImplementedError


class OfDirectory(World):
    def damage(self, digest: str, content: bytes) -> None:
        path = self.root / "store" / digest
        path.unlink()
        path.write_bytes(content)

    def left(self) -> int:
        return len(list((self.root / "store").glob(f"{directory.NEW}*")))


@dataclass
class OfBucket(World):
    server: S3 | None = None

    def _object(self, digest: str) -> dict[str, str]:
        assert isinstance(self.storage, Bucket)
        return {"Bucket": self.storage.name, "Key": self.storage.key(digest)}

    def damage(self, digest: str, content: bytes) -> None:
        assert self.server is not None
        self.server.client().put_object(**self._object(digest), Body=content)

    def left(self) -> int:
        assert self.server is not None
        said = self.server.client().list_multipart_uploads(Bucket=self._object("")["Bucket"])
        return len(said.get("Uploads", []))


@pytest.fixture
def shelf(tmp_path: Path) -> Path:
    """A directory as its operator makes it: its group may bring files, everybody may read."""
    store = tmp_path / "store"
    store.mkdir()
    os.chown(store, 0, GROUP)
    store.chmod(0o3775)
    open_to_others(tmp_path)
    return store


@pytest.fixture
def of_bucket(tmp_path: Path, swift_server: S3, bucket: str, monkeypatch: pytest.MonkeyPatch) -> OfBucket:
    for name, value in swift_server.environ().items():
        monkeypatch.setenv(name, value)
    return OfBucket(tmp_path, Bucket(bucket, "soe/artifacts"), server=swift_server)


@pytest.fixture(params=["directory", "bucket"])
def world(request: pytest.FixtureRequest, tmp_path: Path) -> World:
    if request.param == "directory":
        return OfDirectory(tmp_path, request.getfixturevalue("shelf"))
    made: World = request.getfixturevalue("of_bucket")
    return made


@pytest.fixture(params=["local", "directory", "bucket"])
def any_world(request: pytest.FixtureRequest, tmp_path: Path) -> World:
    if request.param == "local":
        return World(tmp_path, None)
    if request.param == "directory":
        return OfDirectory(tmp_path, request.getfixturevalue("shelf"))
    made: World = request.getfixturevalue("of_bucket")
    return made


# -- what holds for every kind, one home alone included --------------------------------------------------------------


def test_what_a_home_made_is_there_until_it_is_removed(any_world: World) -> None:
    home = any_world.home()
    made, digest = any_world.make()
    assert not home.has(digest)
    path = home.adopt(made, digest)
    assert home.has(digest)
    assert home.require(digest) == path == home.path(digest)
    assert (path.read_bytes(), home.size(digest)) == (CONTENT, len(CONTENT))
    assert stat.S_IMODE(path.stat().st_mode) == 0o444
    assert home.remove(digest) >= len(CONTENT)
    assert not home.has(digest)
    assert home.remove(digest) == 0
    for ask in (home.require, home.size):
        with pytest.raises(ArtifactMissing):
            ask(digest)


@pytest.mark.parametrize("content", [b"", b"x"], ids=["nothing", "a byte"])
def test_small_files(any_world: World, content: bytes) -> None:
    home = any_world.home()
    made, digest = any_world.make(content)
    home.adopt(made, digest)
    home.adopt(any_world.make(content)[0], digest)
    assert home.require(digest).read_bytes() == content
    if any_world.storage:
        assert any_world.home().require(digest).read_bytes() == content


# -- what holds behind several homes ---------------------------------------------------------------------------------


def test_what_one_made_another_gets(world: World) -> None:
    digest = world.bring()
    home = world.home()
    assert home.has(digest)
    assert home.size(digest) == len(CONTENT)
    assert not home.path(digest).exists(), "nobody asked for its bytes"
    path = home.require(digest)
    assert path == home.path(digest)
    assert path.read_bytes() == CONTENT
    assert stat.S_IMODE(path.stat().st_mode) == 0o444
    assert list(home) == [digest]
    assert home.shared_sizes() == {digest: len(CONTENT)}
    home.drop(digest)
    assert home.has(digest), "a copy went, and no more"
    home.remove(digest)
    assert not world.home().has(digest)


def test_a_transfer_says_how_far_it_is(world: World) -> None:
    told: list[Event] = []
    made, digest = world.make()
    world.home(told.append).adopt(made, digest)
    world.home(told.append).require(digest)
    for verb in ("upload", "fetch"):
        last = [each for each in told if isinstance(each, StepAdvanced) and each.step.startswith(verb)][-1]
        assert (last.done, last.total, last.unit) == (len(CONTENT), len(CONTENT), "bytes")


@pytest.mark.parametrize(
    "content",
    [bytes([CONTENT[0] ^ 1]) + CONTENT[1:], CONTENT[:-1], CONTENT + b"x", b""],
    ids=["flipped bit", "truncated", "longer", "emptied"],
)
def test_what_is_damaged_in_the_store_is_refused(world: World, content: bytes) -> None:
    digest = world.bring()
    world.damage(digest, content)
    home = world.home()
    with pytest.raises(StoreDamaged) as caught:
        home.require(digest)
    assert caught.value.code == "store-damaged"
    assert list(home) == [], "nothing of it is kept"
    assert list(world.root.glob("home-*/fetched/*")) == []
    world.bring()
    assert home.require(digest).read_bytes() == CONTENT, "made again, it is whole again"


def test_what_no_record_knows_is_not_fetched(world: World) -> None:
    digest = world.bring()
    size = world.sizes.pop(digest)
    with pytest.raises(ArtifactMissing):
        world.home().require(digest)
    world.sizes[digest] = size - 1
    with pytest.raises(StoreDamaged):
        world.home().require(digest)


def test_what_changed_since_it_was_hashed_is_not_brought(world: World) -> None:
    made, digest = world.make()
    made.write_bytes(CONTENT[:-1] + bytes([CONTENT[-1] ^ 1]))
    with pytest.raises(FileChanged):
        world.home().adopt(made, digest)
    assert (world.home().shared_sizes(), world.left()) == ({}, 0)


def test_a_killed_upload_leaves_nothing_that_has_a_name(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(bucket, "STALE", timedelta(seconds=-60))
    monkeypatch.setattr(directory, "STALE", -60.0)
    content = CONTENT * 25  # in a bucket three parts
    made, digest = world.make(content)
    kill_in_the_middle(world, "upload", world.directory(), digest, str(made))
    assert not world.home().has(digest)
    assert world.left() == 1
    world.home().adopt(made, digest)
    assert world.home().require(digest).read_bytes() == content
    world.home().sweep()
    assert world.left() == 0
    assert world.home().has(digest)


def test_a_killed_fetch_leaves_nothing_that_has_a_name(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    digest = world.bring()
    root = world.directory()
    kill_in_the_middle(world, "fetch", root, digest)
    home = ArtifactStore(root, world.shared(), world.sizes.get)
    assert list(home) == []
    assert home.require(digest).read_bytes() == CONTENT
    home.sweep()
    assert len(list((root / "fetched").iterdir())) == 1, "somebody may be fetching it"
    monkeypatch.setattr(artifacts, "STALE", -60.0)
    home.sweep()
    assert list((root / "fetched").iterdir()) == []


def test_fifty_bring_the_same_at_once(world: World) -> None:
    stores = [world.shared() for _ in range(5)]
    homes = [ArtifactStore(world.directory(), stores[number % 5], world.sizes.get) for number in range(50)]
    files = [world.make()[0] for _ in homes]
    with ThreadPoolExecutor(50) as pool:
        list(pool.map(lambda home, made: home.adopt(made, DIGEST), homes, files))
    assert world.home().require(DIGEST).read_bytes() == CONTENT
    assert (world.home().shared_sizes(), world.left()) == ({DIGEST: len(CONTENT)}, 0)


def test_fifty_fetch_the_same_at_once(world: World) -> None:
    digest, home = world.bring(), world.home()
    with ThreadPoolExecutor(50) as pool:
        found = set(pool.map(home.require, [digest] * 50))
    assert {path.read_bytes() for path in found} == {CONTENT}
    assert list(home) == [digest]


def test_a_large_sparse_disk_stays_sparse(world: World) -> None:
    """In a bucket several parts; what is read and written is the hole, too, and what is kept is not."""
    made = world.directory() / "disk.raw"
    with made.open("wb") as stream:
        stream.write(CONTENT)
        stream.seek(100 << 20)
        stream.write(b"end")
        stream.truncate(150 << 20)
    with made.open("rb") as stream:
        digest = hashlib.file_digest(stream, "sha256").hexdigest()
    world.sizes[digest] = 150 << 20
    world.home().adopt(made, digest)
    path = world.home().require(digest)
    assert path.stat().st_size == 150 << 20
    assert path.stat().st_blocks * 512 < 8 << 20
    with path.open("rb") as stream:
        assert hashlib.file_digest(stream, "sha256").hexdigest() == digest


def test_no_room_here_for_a_copy(world: World) -> None:
    digest = world.bring()
    with tiny(world.directory()) as root:
        home = ArtifactStore(root, world.shared(), world.sizes.get)
        with pytest.raises(DiskFull):
            home.require(digest)
        assert list(root.rglob("*")) == [root / "fetched"]


# -- a directory -----------------------------------------------------------------------------------------------------


def test_one_user_brings_and_another_reads_but_changes_nothing(tmp_path: Path, shelf: Path) -> None:
    world = OfDirectory(tmp_path, shelf)
    made, digest = world.make()
    os.chown(made.parent, BUILDER, BUILDER)
    os.chown(made, BUILDER, BUILDER)
    builder, reader = world.home(), world.home()
    for path in (tmp_path / "home-2", tmp_path / "home-3"):
        os.chown(path, BUILDER if path.name == "home-2" else READER, -1)
    mask = os.umask(0o077)
    try:
        with as_user(BUILDER, GROUP):
            builder.adopt(made, digest)
    finally:
        os.umask(mask)
    assert stat.S_IMODE((shelf / digest).stat().st_mode) == 0o444
    with as_user(READER):
        assert reader.has(digest)
        assert reader.require(digest).read_bytes() == CONTENT
        with pytest.raises(StoreUnusable) as caught:
            reader.remove(digest)
        assert (caught.value.code, caught.value.exit_code) == ("store-unusable", 4)
        with pytest.raises(PermissionError):
            (shelf / digest).open("r+b")
        other = Path(tmp_path / "home-3" / "other")
        other.write_bytes(b"other")
        with pytest.raises(StoreUnusable):
            reader.adopt(other, hashlib.sha256(b"other").hexdigest())
        assert other.exists(), "what was made is still there"
    with as_user(READER, GROUP), pytest.raises(StoreUnusable):  # nor may who brings files himself
        reader.remove(digest)
    reader.remove(digest)  # whose the directory is, removes
    assert list(shelf.iterdir()) == []


def test_two_users_bring_the_same(tmp_path: Path, shelf: Path) -> None:
    """In a directory where nobody replaces what others brought, what is whole there is good, and what is not is not."""
    world = OfDirectory(tmp_path, shelf)
    made, digest = world.make()
    again, _ = world.make()
    first, second = world.home(), world.home()
    for number, uid in ((1, BUILDER), (2, READER), (3, BUILDER), (4, READER)):
        os.chown(tmp_path / f"home-{number}", uid, uid)
    os.chown(made, BUILDER, -1)
    os.chown(again, READER, -1)
    with as_user(BUILDER, GROUP):
        first.adopt(made, digest)
        world.damage(digest, CONTENT[:-1])
    with as_user(READER, GROUP):
        with pytest.raises(StoreUnusable):
            second.adopt(again, digest)
        assert world.left() == 0
    with as_user(BUILDER, GROUP):
        world.damage(digest, CONTENT)
    with as_user(READER, GROUP):
        second.adopt(again, digest)
    assert (shelf / digest).stat().st_uid == BUILDER
    assert world.left() == 0


def test_a_directory_that_is_full(tmp_path: Path) -> None:
    with tiny(tmp_path / "store") as store:
        world = OfDirectory(tmp_path, store)
        made, digest = world.make()
        with pytest.raises(StoreUnusable):
            world.home().adopt(made, digest)
        assert made.exists()
        assert list(store.iterdir()) == []


def test_a_directory_that_is_not_there_is_not_empty(tmp_path: Path) -> None:
    world = OfDirectory(tmp_path, tmp_path / "nowhere")
    made, digest = world.make()
    home = world.home()
    for ask in (home.has, home.size, home.require, home.remove):
        with pytest.raises(StoreUnusable):
            ask(digest)
    for do in (home.shared_sizes, home.sweep):
        with pytest.raises(StoreUnusable):
            do()
    with pytest.raises(StoreUnusable):
        home.adopt(made, digest)


def test_links_and_pipes_are_no_files(tmp_path: Path, shelf: Path) -> None:
    world = OfDirectory(tmp_path, shelf)
    made, digest = world.make()
    (shelf / digest).symlink_to(made)
    assert not world.home().has(digest)
    (shelf / digest).unlink()
    os.mkfifo(shelf / digest)
    assert not world.home().has(digest)
    assert world.home().shared_sizes() == {}


# -- a bucket --------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("who", ["wrong secret", "stranger", "nobody"])
def test_who_may_not(
    of_bucket: OfBucket,
    who: str,
    monkeypatch: pytest.MonkeyPatch,
    caplog: pytest.LogCaptureFixture,
    capfd: pytest.CaptureFixture[str],
) -> None:
    made, digest = of_bucket.make()
    server = of_bucket.server
    assert server is not None
    secret = "s3cr3t" * 6
    environ = server.environ(secret=secret) if who == "wrong secret" else server.environ(STRANGER)
    for name, value in environ.items():
        monkeypatch.setenv(name, value)
    if who == "nobody":
        monkeypatch.delenv("AWS_ACCESS_KEY_ID")
        monkeypatch.delenv("AWS_SECRET_ACCESS_KEY")
        for name in ("AWS_SHARED_CREDENTIALS_FILE", "AWS_CONFIG_FILE"):
            monkeypatch.setenv(name, "/dev/null")
    caplog.set_level(logging.DEBUG)
    home = of_bucket.home()
    said = []
    for ask in (home.has, home.size, home.require, home.remove, lambda digest: home.adopt(made, digest)):
        with pytest.raises(StoreUnusable) as caught:
            ask(digest)
        assert caught.value.__cause__ is None
        said += [str(caught.value), caught.value.advice]
    seen = " ".join([*said, caplog.text, *capfd.readouterr()])
    for word in (secret, *server.secrets.values(), environ["AWS_ACCESS_KEY_ID"], "Signature", "Authorization"):
        assert word not in seen
    assert made.exists()


def test_a_bucket_that_is_not_there_is_not_empty(of_bucket: OfBucket) -> None:
    of_bucket.storage = Bucket("no-such-bucket", "soe")
    made, digest = of_bucket.make()
    home = of_bucket.home()
    for ask in (home.has, home.size, home.require, home.remove, lambda digest: home.adopt(made, digest)):
        with pytest.raises(StoreUnusable, match="no such bucket"):
            ask(digest)
    with pytest.raises(StoreUnusable):
        home.shared_sizes()


@pytest.mark.parametrize(
    "fault",
    [
        Fault("PUT", "partNumber=2", Status(500), times=2),
        Fault("PUT", "partNumber=2", Status(503)),
        Fault("PUT", "partNumber=2", CutUpload(after=1000)),
        Fault("PUT", "partNumber=2", LoseAnswer()),
        Fault("POST", "uploads", LoseAnswer()),
        Fault("POST", "uploadId", LoseAnswer()),
        Fault("HEAD", ".", LoseAnswer()),
        Fault("GET", DIGEST_PATH, CutDownload(after=1000), skip=1, times=2),
        Fault("GET", DIGEST_PATH, Status(500)),
        Fault("GET", DIGEST_PATH, LoseAnswer()),
    ],
    ids=lambda fault: f"{fault.method} {fault.path} {type(fault.action).__name__} {fault.times}",
)
def test_a_bad_day_passes(of_bucket: OfBucket, monkeypatch: pytest.MonkeyPatch, fault: Fault) -> None:
    monkeypatch.setattr(bucket, "PART", 5 << 20)
    assert of_bucket.server is not None
    made, digest = of_bucket.make(CONTENT * 4)
    with FaultProxy(of_bucket.server.endpoint) as proxy:
        monkeypatch.setenv("AWS_ENDPOINT_URL_S3", proxy.url)
        proxy.add(fault)
        of_bucket.home().adopt(made, digest)
        assert of_bucket.home().require(digest).read_bytes() == CONTENT * 4
        assert proxy.unused == []


@pytest.mark.parametrize("method", ["PUT", "GET"])
def test_a_bad_day_that_does_not_pass(of_bucket: OfBucket, monkeypatch: pytest.MonkeyPatch, method: str) -> None:
    digest = of_bucket.bring()
    made, _ = of_bucket.make()
    assert of_bucket.server is not None
    with FaultProxy(of_bucket.server.endpoint) as proxy:
        monkeypatch.setenv("AWS_ENDPOINT_URL_S3", proxy.url)
        proxy.add(Fault(method, DIGEST_PATH, Status(503), times=99))
        home = of_bucket.home()
        do = {"PUT": lambda: home.adopt(made, digest), "GET": lambda: home.require(digest)}
        with pytest.raises(StoreUnusable):
            do[method]()
        assert sum(exchange.fault is not None for exchange in proxy.exchanges) == bucket.ATTEMPTS


def test_a_bit_that_flips_on_the_way(of_bucket: OfBucket, monkeypatch: pytest.MonkeyPatch) -> None:
    digest = of_bucket.bring()
    assert of_bucket.server is not None
    with FaultProxy(of_bucket.server.endpoint) as proxy:
        monkeypatch.setenv("AWS_ENDPOINT_URL_S3", proxy.url)
        proxy.add(Fault("GET", DIGEST_PATH, Flip(at=12345, direction="download")))
        home = of_bucket.home()
        with pytest.raises(StoreDamaged):
            home.require(digest)
        assert list(home) == []
        assert home.require(digest).read_bytes() == CONTENT


def test_a_server_that_goes_away_and_comes_back(of_bucket: OfBucket) -> None:
    digest, home = of_bucket.bring(), of_bucket.home()
    assert home.has(digest)
    server = of_bucket.server
    assert server is not None
    server.stop()
    try:
        for ask in (home.has, home.require):
            with pytest.raises(StoreUnusable):
                ask(digest)
    finally:
        server.start()
    assert home.require(digest).read_bytes() == CONTENT


def test_prefixes_do_not_see_each_other(of_bucket: OfBucket) -> None:
    digest = of_bucket.bring()
    assert isinstance(of_bucket.storage, Bucket)
    for prefix in ("soe", "soe/art", ""):
        of_bucket.storage = Bucket(of_bucket.storage.name, prefix)
        assert not of_bucket.home().has(digest)
    of_bucket.storage = Bucket(of_bucket.storage.name, "soe/art")
    assert of_bucket.home().shared_sizes() == {}


def test_one_machine_pays_nothing_for_buckets() -> None:
    script = "import imagefactory.wiring, sys; print(*{'fsspec', 's3fs', 'botocore', 'aiobotocore'} & set(sys.modules))"
    assert subprocess.check_output([sys.executable, "-c", script], cwd=ROOT, text=True).strip() == ""


# -- helpers ---------------------------------------------------------------------------------------------------------


def kill_in_the_middle(world: World, verb: str, root: Path, digest: str, *more: str) -> None:
    argv = [sys.executable, "-m", "tests.fakes.transfers", verb, str(world.storage), str(root), digest]
    child = subprocess.Popen([*argv, str(world.sizes[digest]), *more], cwd=ROOT, stdout=subprocess.PIPE)
    assert child.stdout is not None
    with child.stdout:
        assert child.stdout.readline() == b"half\n"
        child.send_signal(signal.SIGKILL)
        child.wait()


@contextmanager
def tiny(mount: Path) -> Iterator[Path]:
    """A file system of 1 MiB."""
    mount.mkdir(exist_ok=True)
    subprocess.run(["mount", "-t", "tmpfs", "-o", "size=1m", "tmpfs", mount], check=True)
    try:
        yield mount
    finally:
        subprocess.run(["umount", mount], check=True)
