"""Hosts with fake programs, and one on which a first build was done."""

import shutil
import signal
import subprocess
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest

from imagefactory.factory.keys import Custody
from imagefactory.progress import Event
from tests.contract.shell import Shell
from tests.fakes.host import FakeHost, make_keys
from tests.fakes.softhsm import SoftToken, make_token


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
    """A host, a copy of it right after its first build, and what that build told."""

    host: FakeHost
    copy: Path
    events: tuple[Event, ...]


@pytest.fixture(scope="session")
def first_build(tmp_path_factory: pytest.TempPathFactory, keys: Path) -> FirstBuild:
    root = tmp_path_factory.mktemp("built")
    host = FakeHost.make(root / "host", keys)
    host.build()
    _copy(host.root, root / "copy")
    return FirstBuild(host, root / "copy", tuple(host.events))


@pytest.fixture
def built(first_build: FirstBuild) -> Iterator[FakeHost]:
    """A host on which one release is built and published; whatever a test does to it is undone."""
    shutil.rmtree(first_build.host.root)
    _copy(first_build.copy, first_build.host.root)
    yield first_build.host
    first_build.host.events.clear()


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
