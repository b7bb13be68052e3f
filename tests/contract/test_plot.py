"""`releases plot`: the releases of a name as a picture, and as numbers."""

import json
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

from tests.contract.shell import Shell
from tests.contract.test_compliance_cli import MEASURED, keep, name_of
from tests.contract.test_factory import NAME, releases
from tests.fakes.host import FakeHost

On = Callable[[FakeHost], FakeHost]


@pytest.fixture
def twice(built: FakeHost, on: On) -> FakeHost:
    """Two releases, of which the newer one was measured."""
    built.offer({"openssl": "3.0.18-1"}, in_release="second")
    built.build()
    keep(built, MEASURED)
    return on(built)


def test_a_picture_in_the_directory_of_the_user(twice: FakeHost, shell: Shell) -> None:
    del twice
    status, said = shell.text("releases", "plot", NAME)
    assert (status, said) == (0, f"{NAME}.svg: 2 releases of {NAME}\n")
    svg = Path(f"{NAME}.svg").read_bytes()
    assert b">anssi_bp28_enhanced</text>" in svg
    assert shell.refused("releases", "plot", NAME, "--output", f"{NAME}.svg") == (2, "output-exists")
    assert shell.text("releases", "plot", NAME) == (2, "")
    status, said = shell.text("releases", "plot", NAME, "--output", "again.svg")
    assert (status, Path("again.svg").read_bytes()) == (0, svg)
    assert sorted(path.name for path in Path().glob("*.svg")) == ["again.svg", f"{NAME}.svg"]


def test_a_png(twice: FakeHost, shell: Shell) -> None:
    del twice
    assert shell.text("releases", "plot", NAME, "--output", "x.png")[0] == 0
    assert Path("x.png").read_bytes().startswith(b"\x89PNG\r\n")


def test_the_numbers(twice: FakeHost, shell: Shell) -> None:
    status, document = shell.json("releases", "plot", NAME)
    assert (status, document["name"], document["file"]) == (0, NAME, None)
    old, new = document["releases"]
    assert [f"{NAME}@{each['version']}" for each in (old, new)] == [name_of(twice, 1), name_of(twice, 0)]
    assert [(each["score"], each["profile"]) for each in (old, new)] == [(None, None), ("40.0", "anssi_bp28_enhanced")]
    sizes = [{kind: image["size"] for kind, image in each.images.items()} for each in reversed(releases(twice))]
    assert [old["sizes"], new["sizes"]] == sizes
    # As many as the bill of materials of the release has.
    for each in (old, new):
        document = json.loads(shell.text("sbom", "show", f"{NAME}@{each['version']}", "--json")[1])
        assert each["packages"] == sum("purl" in component for component in document["components"]) > 0
    assert 0 < new["seconds"] < 3600
    assert list(Path().glob("*.svg")) == []
    status, document = shell.json("releases", "plot", NAME, "--output", "x.svg")
    assert (status, document["file"], document["releases"]) == (0, "x.svg", [old, new])
    assert Path("x.svg").is_file()


def test_what_cannot_be_drawn(built: FakeHost, shell: Shell, on: On) -> None:
    on(built)
    assert shell.refused("releases", "plot", "other") == (1, "release-unknown")
    assert shell.refused("releases", "plot", "../x") == (2, "release-name-invalid")
    assert shell.refused("releases", "plot", name_of(built)) == (2, "usage")
    assert shell.refused("releases", "plot", NAME, "--output", "x.pdf") == (2, "usage")
    assert shell.refused("releases", "plot", NAME, "--output", "no/such/x.svg") == (3, "output-unusable")
    assert not list(Path().glob("x.*"))


def test_without_the_extra(built: FakeHost) -> None:
    code = (
        "import sys; sys.modules['matplotlib'] = None\n"
        "from imagefactory.cli.app import run\n"
        "sys.exit(run(sys.argv[1:]))"
    )

    def plot(*more: str) -> subprocess.CompletedProcess[str]:
        argv = [sys.executable, "-c", code, "releases", "plot", NAME, *more]
        return subprocess.run(
            argv, cwd=built.root, env=built.environ, capture_output=True, text=True, check=False, timeout=60
        )

    refused = plot()
    assert (refused.returncode, refused.stdout) == (3, "")
    assert "[extra-missing]\n  to do: pip install 'imagefactory[plot]'\n" in refused.stderr
    assert list(built.root.glob(f"*{NAME}*")) == []
    numbers = plot("--json")
    assert (numbers.returncode, len(json.loads(numbers.stdout)["releases"])) == (0, 1)
