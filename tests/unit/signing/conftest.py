"""Keys are slow enough to make once, and frozen enough to share."""

from pathlib import Path

import pytest

from signing.envelope import seal
from signing.manifest import ReleaseManifest
from tests.unit.signing.builders import Keys, make_folder, make_keys, make_manifest


@pytest.fixture(scope="session")
def keys(tmp_path_factory: pytest.TempPathFactory) -> Keys:
    return make_keys(tmp_path_factory.mktemp("development"))


@pytest.fixture(scope="session")
def strangers(tmp_path_factory: pytest.TempPathFactory) -> Keys:
    """Keys of somebody else, as good as ours and not trusted."""
    return make_keys(tmp_path_factory.mktemp("strangers"))


@pytest.fixture(scope="session")
def manifest(keys: Keys) -> ReleaseManifest:
    return make_manifest(keys)


@pytest.fixture(scope="session")
def bundle(keys: Keys, manifest: ReleaseManifest) -> bytes:
    return seal(manifest.to_statement(), keys.signer("release"))


@pytest.fixture
def folder(tmp_path: Path, keys: Keys) -> Path:
    make_folder(tmp_path / "20251121.1", keys)
    return tmp_path / "20251121.1"
