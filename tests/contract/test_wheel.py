"""The wheel has everything that a build needs besides Python packages."""

import subprocess
import sys
import zipfile
from pathlib import Path

from imagefactory.tools.elements import shipped_elements

ROOT = shipped_elements().parent


def test_elements_and_recipes_are_in_the_wheel(tmp_path: Path) -> None:
    subprocess.run(
        [sys.executable, "-m", "hatchling", "build", "--target", "wheel", "--directory", tmp_path],
        cwd=ROOT,
        check=True,
        capture_output=True,
    )
    (wheel,) = tmp_path.glob("*.whl")
    with zipfile.ZipFile(wheel) as archive:
        packed = {info.filename: info.external_attr >> 16 for info in archive.infolist()}
    for folder in ("elements", "recipes"):
        for path in (ROOT / folder).rglob("*"):
            if path.is_file():
                name = f"imagefactory/{path.relative_to(ROOT)}"
                assert name in packed, name
                assert bool(packed[name] & 0o100) == bool(path.stat().st_mode & 0o100), name
    assert {"signing/verify.py", "imagefactory/py.typed", "signing/py.typed"} <= packed.keys()
    assert not any(name.startswith(("tests/", "bench/", "docs/")) for name in packed)
