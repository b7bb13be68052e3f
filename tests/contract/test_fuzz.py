"""A short run of each fuzz target; `make fuzz` runs them for long."""

import re
import subprocess
import sys
from pathlib import Path

import pytest

from tests.fuzz.targets import TARGETS

ROOT = Path(__file__).parent.parent.parent


def fuzz(*options: str | Path) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-m", "tests.fuzz", *options]
    return subprocess.run(command, cwd=ROOT, capture_output=True, text=True, timeout=300, check=False)


@pytest.mark.parametrize("name", TARGETS)
def test_nothing_but_refusals_comes_out(name: str, tmp_path: Path) -> None:
    done = fuzz(name, "--runs", str(TARGETS[name].runs), "--corpus", tmp_path / "corpus")
    assert done.returncode == 0, (done.stdout + done.stderr)[-3000:]
    ran = re.search(r"Done (\d+) runs", done.stderr)
    assert ran is not None
    assert int(ran[1]) >= TARGETS[name].runs, "libFuzzer finishes what it began, and may do some more"
    assert not list(tmp_path.glob(f"{name}-*")), "an input that lets something out"


@pytest.mark.parametrize("name", TARGETS)
def test_each_seed_is_an_input_that_gets_far(name: str) -> None:
    assert TARGETS[name].seeds
    for seed in TARGETS[name].seeds:
        TARGETS[name].run(seed)


def test_what_is_found_is_kept_and_told(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A target that lets something out ends the run and leaves the input: else this file could not fail."""
    monkeypatch.setenv("PYTHONPATH", str(ROOT))
    (tmp_path / "bad.py").write_text(
        "import sys\n"
        "import tests.fuzz.targets as targets\n"
        "def run(raw):\n"
        "    if b'x' in raw: raise KeyError('out')\n"
        "targets.TARGETS['words'] = targets.Target(run, (b'x',))\n"
        "import tests.fuzz.__main__ as main\n"
        "main.main()\n"
    )
    command = [sys.executable, str(tmp_path / "bad.py"), "words", "--runs", "100", "--corpus", str(tmp_path / "corpus")]
    done = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True, timeout=300, check=False)
    assert done.returncode != 0
    assert "KeyError" in done.stdout
    assert list(tmp_path.glob("words-crash-*"))
