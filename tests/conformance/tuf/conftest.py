"""The world that the conformance tests of TUF are made in."""

import os
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.conformance.tuf.world import World
from tests.fakes.tuf_repository import Repository
from tests.fakes.tuf_site import serving


@pytest.fixture(autouse=True)
def no_waiting(monkeypatch: pytest.MonkeyPatch) -> None:
    """Nobody pulls a plug here, and there is no way to the web."""
    monkeypatch.setattr(os, "fsync", lambda _: None)
    for name in ("http_proxy", "https_proxy", "all_proxy"):
        monkeypatch.delenv(name, raising=False)
        monkeypatch.delenv(name.upper(), raising=False)


@pytest.fixture
def world(tmp_path: Path) -> Iterator[World]:
    repository = Repository(tmp_path / "repository", digests=False)
    with serving(repository.directory) as site:
        yield World(repository, site, tmp_path / "home")
