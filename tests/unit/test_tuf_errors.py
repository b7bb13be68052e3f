"""Whatever python-tuf raises has one code, and whatever is signed with the right keys is met with one."""

import copy
import errno
import json
import os
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import securesystemslib.exceptions
import tuf.api.exceptions
import tuf.api.serialization
from hypothesis import example, given
from hypothesis import strategies as st
from securesystemslib.formats import encode_canonical
from securesystemslib.signer import CryptoSigner  # type: ignore[attr-defined]  # public, but not in its __all__
from tuf.api.exceptions import DownloadError, DownloadHTTPError, RepositoryError

from imagefactory import errors
from imagefactory.errors import FactoryError
from imagefactory.model.release import Version
from imagefactory.tools.tuf_client import CatalogueClient
from imagefactory.tools.tuf_errors import LONGEST, MEANINGS, said, translate, translated
from tests.fakes.tuf_repository import Repository, kept, meta

STORE = Path("/store")
NAME, VERSION = "soe-debian-12", "20261121.1"


def family(root: type[Exception]) -> Iterator[type[Exception]]:
    yield root
    for child in root.__subclasses__():
        yield from family(child)


THEIRS = [
    *family(RepositoryError),
    *family(DownloadError),
    *family(securesystemslib.exceptions.StorageError),
]


def made(kind: type[Exception]) -> Exception:
    return kind("what happened", 503) if issubclass(kind, DownloadHTTPError) else kind("what happened")


CODES = {
    "RepositoryError": "catalogue-damaged",
    "SerializationError": "catalogue-damaged",
    "DeserializationError": "catalogue-damaged",
    "UnsignedMetadataError": "catalogue-unsigned",
    "BadVersionNumberError": "catalogue-rollback",
    "EqualVersionNumberError": "catalogue-rollback",
    "ExpiredMetadataError": "catalogue-frozen",
    "LengthOrHashMismatchError": "catalogue-mixed",
    "DownloadError": "catalogue-unreachable",
    "DownloadHTTPError": "catalogue-unreachable",
    "SlowRetrievalError": "catalogue-unreachable",
    "DownloadLengthMismatchError": "catalogue-endless",
    "StorageError": "trust-store-unusable",
}


def test_every_error_of_the_library_is_known_by_name() -> None:
    """A new one in a new release of it is thought about, and not just called damage."""
    assert {kind.__name__ for kind in THEIRS} == CODES.keys()
    exported = {
        each
        for module in (tuf.api.exceptions, tuf.api.serialization)
        for each in vars(module).values()
        if isinstance(each, type) and issubclass(each, Exception)
    }
    assert exported <= set(THEIRS)
    assert set(THEIRS) == MEANINGS.keys()


@pytest.mark.parametrize("kind", THEIRS, ids=lambda kind: kind.__name__)
def test_each_has_one_code(kind: type[Exception]) -> None:
    with pytest.raises(FactoryError) as refused, translated(lambda: "timestamp.json", STORE):
        raise made(kind)
    assert refused.value.code == CODES[kind.__name__]
    assert refused.value.message == "timestamp.json: what happened"


class Unheard(tuf.api.exceptions.ExpiredMetadataError):
    """As a later release of the library may have it."""


CASES = [
    (Unheard("x"), errors.CatalogueFrozen),
    *((kind("x"), errors.CatalogueDamaged) for kind in (ValueError, TypeError, KeyError, RuntimeError, RecursionError)),
]


@pytest.mark.parametrize(("raised", "expected"), CASES, ids=lambda each: getattr(each, "__name__", repr(each)))
def test_the_others(raised: Exception, expected: type[FactoryError]) -> None:
    assert type(translate(raised, "x")) is expected


def test_what_the_operating_system_says_is_about_the_store() -> None:
    with pytest.raises(errors.TrustStoreUnusable) as refused, translated(lambda: "timestamp.json", STORE):
        raise OSError(errno.ENOSPC, "No space left on device", "/store/metadata/tmpx")
    assert refused.value.message == "/store: No space left on device"


# They are no subclass of each other's, and THEIRS is made before this module has its own.
THEIRS = [kind for kind in THEIRS if kind is not Unheard]


def test_errors_of_ours_and_interruptions_pass() -> None:
    for error in (errors.DiskFull("full"), KeyboardInterrupt()):
        with pytest.raises(type(error)) as refused, translated(lambda: "x", STORE):
            raise error
        assert refused.value is error


def test_what_strangers_say_is_short_and_printable() -> None:
    text = said(RepositoryError("\x1b[2J" + "a" * 10_000 + "\n"))
    assert (len(text), text.isprintable(), text[:5]) == (LONGEST, True, "?[2Ja")
    assert said(RuntimeError()) == "RuntimeError"


def test_of_causes_only_what_the_operating_system_says() -> None:
    proxy = ValueError("Failed to parse: http://me:hunter2@proxy")
    proxy.__cause__ = ConnectionRefusedError(errno.ECONNREFUSED, "Connection refused")
    error = DownloadError("Failed to download x")
    error.__cause__ = proxy
    assert said(error) == "Failed to download x: Connection refused"


# -- properties --------------------------------------------------------------------------------------------------------

ODD = st.recursive(
    st.none() | st.booleans() | st.integers() | st.text(max_size=8) | st.floats(allow_nan=False),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=8), inner, max_size=3),
    max_leaves=6,
)
FILES = ("2.root.json", "timestamp.json", "snapshot", "targets", NAME)


def places(value: object, at: tuple[Any, ...] = ()) -> Iterator[tuple[Any, ...]]:
    """Every place in a document, as the keys that lead there."""
    if at:
        yield at
    inner = value.items() if isinstance(value, dict) else enumerate(value) if isinstance(value, list) else ()
    for key, each in inner:
        yield from places(each, (*at, key))


def replaced(document: Any, at: tuple[Any, ...], odd: object) -> Any:  # noqa: ANN401 - any JSON
    found = copy.deepcopy(document)
    inner = found
    for key in at[:-1]:
        inner = inner[key]
    inner[at[-1]] = odd
    return found


def sign(document: dict[str, Any], keys: list[CryptoSigner]) -> None:
    try:
        payload = str(encode_canonical(document["signed"])).encode()
    except (securesystemslib.exceptions.FormatError, UnicodeEncodeError):
        return  # nobody can sign that
    for signature, key in zip(document["signatures"], keys, strict=False):
        if isinstance(signature, dict):
            signature["sig"] = key.sign(payload).signature


class Bench:
    """One catalogue for all examples; each gets its files anew."""

    def __init__(self, home: Path) -> None:
        self.repository = Repository(home)
        self.repository.add(NAME, VERSION)
        self.repository.publish("targets", NAME)
        self.repository.publish_root()
        self.files = {path: path.read_bytes() for path in (home / "metadata").iterdir()}

    def put(self, which: str, document: dict[str, Any]) -> None:
        """Have a document in the place of `which`, and have what refers to it do so."""
        repository = copy.deepcopy(self.repository)
        try:
            raw = json.dumps(document).encode()
        except UnicodeEncodeError:
            return
        if which in ("targets", NAME):
            version = repository.snapshot.meta[f"{which}.json"].version
            repository.forge(f"{version}.{which}.json", raw)
            repository.snapshot.meta[f"{which}.json"] = meta(version, raw)
            repository.put_snapshot()
            repository.put_timestamp()
        elif which == "snapshot":
            repository.forge(f"{repository.snapshot.version}.snapshot.json", raw)
            repository.timestamp.snapshot_meta = meta(repository.snapshot.version, raw)
            repository.put_timestamp()
        else:
            repository.forge(which, raw)

    def document(self, which: str) -> dict[str, Any]:
        version = {
            "snapshot": self.repository.snapshot.version,
            "targets": self.repository.targets.version,
            NAME: self.repository.roles[NAME].version,
        }.get(which)
        name = which if version is None else f"{version}.{which}.json"
        found: dict[str, Any] = json.loads(self.repository.file(name).read_bytes())
        return found

    def read(self) -> None:
        with tempfile.TemporaryDirectory() as folder:
            store = Path(folder) / "store"
            refused = self._refused(store)
            if refused is not None:
                assert refused.code in {*CODES.values(), "release-unknown", "release-revoked"}, refused
                assert refused.message.isprintable()
            assert {name for name in kept(store) if not name.startswith("metadata/")} <= {
                "address",
                "last-seen",
                "pinned.root.json",
            }

    def _refused(self, store: Path) -> FactoryError | None:
        try:
            with CatalogueClient(self.repository.directory, store, root=self.repository.first_root) as client:
                client.releases(NAME)
                client.newest(NAME)
                client.manifest(NAME, Version.parse(VERSION))
        except FactoryError as refused:
            return refused
        return None

    def restore(self) -> None:
        for path in self.repository.file("").iterdir():
            path.unlink()
        for path, raw in self.files.items():
            path.write_bytes(raw)


@pytest.fixture(scope="module", autouse=True)
def no_disk() -> Iterator[None]:
    """Hundreds of stores would wait for a busy disk."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(os, "fsync", lambda _: None)
        yield


@pytest.fixture(scope="module")
def bench(tmp_path_factory: pytest.TempPathFactory) -> Bench:
    return Bench(tmp_path_factory.mktemp("bench") / "catalogue")


@given(which=st.sampled_from(FILES), data=st.data(), resign=st.booleans())
def test_odd_metadata_is_refused_with_a_code(bench: Bench, which: str, data: st.DataObject, resign: bool) -> None:
    """By whoever holds the keys, and by whoever does not."""
    document = bench.document(which)
    at = data.draw(st.sampled_from(list(places(document))))
    odd = replaced(document, at, data.draw(ODD))
    keys = bench.repository.keys
    signers = {"2.root.json": keys.root, "targets": [keys.targets], NAME: [keys.targets]}.get(which, [keys.freshness])
    if resign and isinstance(odd.get("signatures"), list) and "signed" in odd:
        sign(odd, signers)
    try:
        bench.put(which, odd)
        bench.read()
    finally:
        bench.restore()


@given(raw=st.binary(max_size=200))
@example(b"{" * 5000)
@example(b'{"signed":{"_type":"timestamp"},"signatures":[]}')
def test_any_bytes_are_refused_with_a_code(bench: Bench, raw: bytes) -> None:
    try:
        bench.repository.forge("timestamp.json", raw)
        bench.read()
    finally:
        bench.restore()
