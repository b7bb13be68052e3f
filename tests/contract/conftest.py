"""Hosts with fake programs, and one on which a first build was done."""

import os
import shutil
import signal
import subprocess
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest

from imagefactory.factory.keys import Custody
from imagefactory.progress import Event
from imagefactory.tools.known_catalogue import KnownCatalogue
from tests.contract.shell import Shell
from tests.fakes.host import FakeHost, make_keys
from tests.fakes.shelf import Shelf
from tests.fakes.softhsm import SoftToken, make_token
from tests.fakes.tuf_site import Site, serving
from tests.unit.signing.builders import Keys, make_folder
from tests.unit.signing.builders import make_keys as make_signers


@pytest.fixture(scope="session")
def keys(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return make_keys(tmp_path_factory.mktemp("keys") / "home")


@pytest.fixture(scope="session")
def token(tmp_path_factory: pytest.TempPathFactory) -> Iterator[SoftToken]:
    """One token for all tests: the module reads its configuration once in a process."""
    made = make_token(tmp_path_factory.mktemp("softhsm") / "token")
    with pytest.MonkeyPatch.context() as patch:
        for name, value in made.environ.items():
            patch.setenv(name, value)
        yield made


@pytest.fixture(scope="session")
def token_keys(tmp_path_factory: pytest.TempPathFactory, token: SoftToken) -> Path:
    """A home whose keys are in a token."""
    return make_keys(tmp_path_factory.mktemp("token") / "home", Custody(token=token.uri))


@pytest.fixture
def host(tmp_path: Path, keys: Path) -> FakeHost:
    """Nothing was built on it yet."""
    return FakeHost.make(tmp_path / "host", keys)


@dataclass(frozen=True)
class FirstBuild:
    """Where a host is, a copy of it right after its first build, and what that build told. Whoever wants the host takes
    `built`: it is as the test before left it."""

    root: Path
    copy: Path
    events: tuple[Event, ...]


@pytest.fixture(scope="session")
def first_build(tmp_path_factory: pytest.TempPathFactory, keys: Path) -> FirstBuild:
    root = tmp_path_factory.mktemp("built")
    host = FakeHost.make(root / "host", keys)
    host.build()
    _copy(host.root, root / "copy")
    return FirstBuild(host.root, root / "copy", tuple(host.events))


@pytest.fixture
def built(first_build: FirstBuild) -> FakeHost:
    """A host on which one release is built and published; whatever a test does to it is undone."""
    shutil.rmtree(first_build.root)
    _copy(first_build.copy, first_build.root)
    return FakeHost(first_build.root)


def _copy(source: Path, target: Path) -> None:
    # cp keeps holes, links, modes and times.
    subprocess.run(["cp", "-a", "--", source, target], check=True)


@pytest.fixture
def shell(capsys: pytest.CaptureFixture[str]) -> Iterator[Shell]:
    before = signal.getsignal(signal.SIGTERM)
    yield Shell(capsys)
    signal.signal(signal.SIGTERM, before)


@pytest.fixture
def on(monkeypatch: pytest.MonkeyPatch) -> Callable[[FakeHost], FakeHost]:
    """Be on a host."""

    def there(host: FakeHost) -> FakeHost:
        for name, value in host.environ.items():
            monkeypatch.setenv(name, value)
        monkeypatch.delenv("IMAGEFACTORY_TRUST", raising=False)
        monkeypatch.chdir(host.root)
        return host

    return there


# -- catalogues with one release, which was signed for real ------------------------------------------------------------


@pytest.fixture
def unsynced(monkeypatch: pytest.MonkeyPatch) -> None:
    """Waiting for a busy disk would take minutes."""
    monkeypatch.setattr(os, "fsync", lambda _: None)


@pytest.fixture(scope="session")
def signers(tmp_path_factory: pytest.TempPathFactory) -> Keys:
    return make_signers(tmp_path_factory.mktemp("signers"))


@pytest.fixture(scope="session")
def release(tmp_path_factory: pytest.TempPathFactory, signers: Keys) -> Path:
    """A signed release folder, to be copied."""
    folder = tmp_path_factory.mktemp("release") / "files"
    make_folder(folder, signers)
    return folder


@pytest.fixture
def shelf(tmp_path: Path, release: Path, signers: Keys) -> Shelf:
    """A catalogue with that release."""
    made = Shelf(tmp_path / "catalogue", signers.trust_file.read_bytes())
    made.add(release, signers.trust)
    return made


@pytest.fixture
def site(shelf: Shelf) -> Iterator[Site]:
    """A web server that has it."""
    with serving(shelf.root) as served:
        yield served


@pytest.fixture(params=["directory", "web"])
def known(request: pytest.FixtureRequest, shelf: Shelf, tmp_path: Path) -> KnownCatalogue:
    """It as a reader knows it: in a directory, and over http."""
    where = request.getfixturevalue("site").url if request.param == "web" else shelf.root
    return shelf.known(tmp_path / "trusted", where)
