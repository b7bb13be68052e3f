"""Two real builds that tests share: tiny-debian-12, by every test that needs an image, and soe-debian-12, hardened."""

from dataclasses import dataclass
from pathlib import Path

import pytest

from tests.integration.homes import HARDENED, RECIPE, Built, build


@dataclass(frozen=True)
class BootableImage:
    """The same disk in both formats. Read only: others use it too."""

    raw: Path
    qcow2: Path


@pytest.fixture(scope="session")
def built(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Built:
    """The build that most tests share. Tests must leave it as it was."""
    return build(RECIPE, request.config.getoption("--built-home") or tmp_path_factory.mktemp("built") / "home")


@pytest.fixture(scope="session")
def hardened(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Built:
    """The build of a hardened image. Tests must leave it as it was."""
    return build(HARDENED, request.config.getoption("--hardened-home") or tmp_path_factory.mktemp("hardened") / "home")


@pytest.fixture(scope="session")
def bootable_image(built: Built) -> BootableImage:
    return BootableImage(built.image("raw"), built.image("qcow2"))
