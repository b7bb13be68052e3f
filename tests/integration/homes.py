"""Builds of recipes that many tests share, each in a home of its own."""

import json
import os
import subprocess
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from imagefactory.tools.elements import shipped_elements
from tests.openstack.install import alone

ROOT = shipped_elements().parent
BIN = ROOT / ".venv" / "bin"
RECIPE = ROOT / "recipes" / "tiny-debian-12.yaml"
HARDENED = ROOT / "recipes" / "soe-debian-12.yaml"
BUILD_TIMEOUT = 3000.0  # seconds: two firmwares, two boots each, in software


@dataclass(frozen=True)
class Ran:
    """One command that ended."""

    status: int
    stdout: str
    stderr: str

    @property
    def document(self) -> dict[str, Any]:
        """The one JSON document on stdout."""
        document = json.loads(self.stdout)
        assert isinstance(document, dict)
        return document


def imagefactory(
    home: Path, *argv: str | Path, environment: Mapping[str, str] | None = None, timeout: float = 120.0
) -> Ran:
    """Run the command as a user would, with `home` as IMAGEFACTORY_HOME."""
    ran = subprocess.run(
        [str(part) for part in (BIN / "imagefactory", *argv)],
        check=False,
        capture_output=True,
        text=True,
        stdin=subprocess.DEVNULL,
        timeout=timeout,
        env={**os.environ, "IMAGEFACTORY_HOME": str(home), **(environment or {})},
    )
    return Ran(ran.returncode, ran.stdout, ran.stderr)


@dataclass(frozen=True)
class Built:
    """A home in which a recipe was built: `document` is what that build said with --json."""

    home: Path
    recipe: Path
    document: dict[str, Any]

    def run(self, *argv: str | Path, timeout: float = 120.0) -> Ran:
        return imagefactory(self.home, *argv, timeout=timeout)

    @property
    def release(self) -> str:
        return str(self.document["release"])

    @property
    def folder(self) -> Path:
        """The published folder."""
        return Path(next(iter(self.document["published"].values())))

    def image(self, image_format: str) -> Path:
        return next(self.folder.glob(f"*.{image_format}"))


def build(recipe: Path, home: Path) -> Built:
    """Build `recipe` in `home`, which gets development keys if it has none, unless that was done before. Workers that
    share it take turns."""
    said = home.with_name(f"{home.name}.json")
    with alone(home.parent, 0o700):
        if not said.exists():
            said.write_text(json.dumps(_build(recipe, home)))
    return Built(home, recipe, json.loads(said.read_text()))


def _build(recipe: Path, home: Path) -> dict[str, Any]:
    if not (home / "keys").exists():
        keys = imagefactory(home, "keys", "init", "--development")
        assert keys.status == 0, keys.stderr
    ran = imagefactory(home, "build", recipe, "--json", timeout=BUILD_TIMEOUT)
    assert ran.status == 0, ran.stderr
    return ran.document
