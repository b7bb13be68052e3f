"""A short run of each fuzz target; `make fuzz` runs them for long."""

import re
import subprocess
import sys
from pathlib import Path

import pytest

from tests.fuzz.targets import TARGETS

ROOT = Path(__file__).parent.parent.parent


@pytest.fixture(scope="module")
def ran(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A directory with what came of each target."""
    directory = tmp_path_factory.mktemp("fuzz")
    command: list[str | Path] = [sys.executable, "-m", "tests.fuzz", "all", "--corpus", directory]
    subprocess.run(command, cwd=ROOT, timeout=300 * len(TARGETS), check=True)
    return directory


@pytest.mark.parametrize("name", TARGETS)
def test_nothing_but_refusals_comes_out(name: str, ran: Path) -> None:
    said = (ran / name / "log").read_text(errors="replace")
    assert (ran / name / "status").read_text() == "0", said[-3000:]
    done = re.search(r"Done (\d+) runs", said)
    assert done is not None
    assert int(done[1]) >= TARGETS[name].runs, "libFuzzer finishes what it began, and may do some more"
    assert not list((ran / name).glob(f"{name}-*")), "an input that lets something out"


@pytest.mark.parametrize("name", TARGETS)
def test_each_seed_is_an_input_that_gets_far(name: str) -> None:
    assert TARGETS[name].seeds
    for seed in TARGETS[name].seeds:
        TARGETS[name].run(seed)


@pytest.fixture
def bad(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> list[str | Path]:
    """The program that fuzzes, with one target, `words`, which lets something out."""
    monkeypatch.setenv("PYTHONPATH", str(ROOT))
    (tmp_path / "bad.py").write_text(
        "import sys\n"
        "import tests.fuzz.targets as targets\n"
        "def run(raw):\n"
        "    if b'x' in raw: raise KeyError('out')\n"
        "targets.TARGETS.clear()\n"
        "targets.TARGETS['words'] = targets.Target(run, (b'x',), runs=100)\n"
        "import tests.fuzz.__main__ as main\n"
        "main.main()\n"
    )
    return [sys.executable, tmp_path / "bad.py"]


def test_what_is_found_is_kept_and_told(tmp_path: Path, bad: list[str | Path]) -> None:
    """A target that lets something out ends the run and leaves the input: else this file could not fail."""
    command = [*bad, "words", "--runs", "100", "--corpus", tmp_path / "corpus"]
    done = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True, timeout=300, check=False)
    assert done.returncode != 0
    assert "KeyError" in done.stdout
    assert list(tmp_path.glob("words-crash-*"))


def test_so_it_is_when_all_are_run(tmp_path: Path, bad: list[str | Path]) -> None:
    finds = tmp_path / "finds"
    finds.mkdir()
    subprocess.run([*bad, "all", "--corpus", finds], cwd=tmp_path, timeout=300, check=True)
    assert (finds / "words/status").read_text() != "0"
    assert "KeyError" in (finds / "words/log").read_text()
    assert list((finds / "words").glob("words-crash-*"))
