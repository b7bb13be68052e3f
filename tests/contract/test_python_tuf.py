"""What our signer publishes is a TUF repository for others, too: python-tuf's own client, nothing of ours, reads it."""

import functools
import http.server
import threading
from collections.abc import Iterator
from pathlib import Path

import pytest
from tuf.api.exceptions import LengthOrHashMismatchError
from tuf.ngclient import Updater  # type: ignore[attr-defined]  # its __all__ is computed

from tests.fakes.host import FakeHost


class Quiet(http.server.SimpleHTTPRequestHandler):
    def log_message(self, *_: object) -> None:
        pass


@pytest.fixture
def address(built: FakeHost, monkeypatch: pytest.MonkeyPatch) -> Iterator[str]:
    """The built-in catalogue of a factory behind `python -m http.server`."""
    for name in ("http_proxy", "HTTP_PROXY", "all_proxy", "ALL_PROXY"):
        monkeypatch.delenv(name, raising=False)
    handler = functools.partial(Quiet, directory=str(built.home / "catalogue"))
    with http.server.ThreadingHTTPServer(("127.0.0.1", 0), handler) as server:
        thread = threading.Thread(target=server.serve_forever, args=(0.02,), daemon=True)
        thread.start()
        yield f"http://127.0.0.1:{server.server_port}"
        server.shutdown()
        thread.join()


def updater(address: str, built: FakeHost, memory: Path) -> Updater:
    """As its authors show it, with their limits and the root that the makers gave."""
    (memory / "targets").mkdir(parents=True, exist_ok=True)
    return Updater(
        str(memory / "metadata"),
        f"{address}/metadata/",
        str(memory / "targets"),
        f"{address}/targets/",
        bootstrap=(built.home / "catalogue/metadata/1.root.json").read_bytes(),
    )


def test_the_manifest_of_a_release(address: str, built: FakeHost, tmp_path: Path) -> None:
    (manifest,) = built.home.glob("catalogue/targets/*/*/release.sigstore.json")
    name, version = manifest.parts[-3:-1]
    client = updater(address, built, tmp_path)
    client.refresh()
    target = client.get_targetinfo(f"{name}/{version}.sigstore.json")
    assert target is not None
    assert client.find_cached_target(target) is None
    file = Path(client.download_target(target))
    assert file.read_bytes() == manifest.read_bytes()
    assert (target.custom["name"], target.custom["version"], target.custom["state"]) == (name, version, "current")
    assert client.find_cached_target(target) == str(file)
    assert client.get_targetinfo(f"{name}/20991231.1.sigstore.json") is None
    assert client.get_targetinfo("another/20991231.1.sigstore.json") is None


def test_the_trust_policy(address: str, built: FakeHost, tmp_path: Path) -> None:
    client = updater(address, built, tmp_path)
    target = client.get_targetinfo("trust.json")
    assert target is not None
    assert Path(client.download_target(target)).read_bytes() == (built.home / "trust.json").read_bytes()


def test_a_manifest_that_was_changed(address: str, built: FakeHost, tmp_path: Path) -> None:
    (manifest,) = built.home.glob("catalogue/targets/*/*/release.sigstore.json")
    name, version = manifest.parts[-3:-1]
    client = updater(address, built, tmp_path)
    target = client.get_targetinfo(f"{name}/{version}.sigstore.json")
    assert target is not None
    (copy,) = built.home.glob(f"catalogue/targets/{name}/*.{version}.sigstore.json")
    copy.write_bytes(bytes(target.length))
    with pytest.raises(LengthOrHashMismatchError):
        client.download_target(target)
    assert list((tmp_path / "targets").iterdir()) == []
