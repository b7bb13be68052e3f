"""The wheel has everything that a build needs besides Python packages; the base install verifies, offline."""

import json
import os
import subprocess
import sys
import zipfile
from importlib.metadata import Distribution, distribution
from pathlib import Path

import pytest

from imagefactory.tools.elements import shipped_elements
from tests.fakes.host import FakeHost, folders

ROOT = shipped_elements().parent
# What `pip install imagefactory` brings, and nothing else: who verifies trusts all of it.
BASE = {"cryptography", "cffi", "pycparser", "securesystemslib"}


@pytest.fixture(scope="module")
def wheel(tmp_path_factory: pytest.TempPathFactory) -> Path:
    directory = tmp_path_factory.mktemp("wheel")
    command = [sys.executable, "-m", "hatchling", "build", "--target", "wheel", "--directory", str(directory)]
    subprocess.run(command, cwd=ROOT, check=True, capture_output=True)
    (wheel,) = directory.glob("*.whl")
    return wheel


def test_elements_and_recipes_are_in_the_wheel(wheel: Path) -> None:
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


# -- the base install --------------------------------------------------------------------------------------------------


def wheel_again(found: Distribution, directory: Path) -> None:
    """The wheel that an installed package came from, as far as its files tell."""
    tag = next(line.partition(": ")[2] for line in (found.read_text("WHEEL") or "").splitlines() if line[:4] == "Tag:")
    name = found.metadata["Name"].replace("-", "_")
    with zipfile.ZipFile(directory / f"{name}-{found.version}-{tag}.whl", "w") as archive:
        for file in found.files or ():
            if ".." not in file.parts and file.suffix != ".pyc" and file.name not in {"INSTALLER", "REQUESTED"}:
                archive.write(file.locate(), str(file))


@pytest.fixture(scope="module")
def base(wheel: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A clean environment with what `pip install imagefactory` brings, from the packages that are installed here."""
    wheels, venv = tmp_path_factory.mktemp("wheels"), tmp_path_factory.mktemp("base") / "venv"
    for name in BASE:
        wheel_again(distribution(name), wheels)
    subprocess.run([sys.executable, "-m", "venv", venv], check=True, timeout=120)
    pip = [str(venv / "bin/python"), "-m", "pip", "install", "--quiet", "--disable-pip-version-check", "--no-cache-dir"]
    subprocess.run([*pip, "--no-index", "--find-links", wheels, wheel], check=True, timeout=120, env={})
    return venv


def offline(venv: Path, program: str, *argv: str | Path) -> subprocess.CompletedProcess[str]:
    """Run a program of an environment without a network, an environment of its own, or anything else of ours."""
    alone = ["unshare", "--net", *(["--map-root-user"] if os.geteuid() else [])]
    command = [*alone, venv / "bin" / program, *argv]
    return subprocess.run(command, cwd="/", env={}, check=False, capture_output=True, text=True, timeout=60)


def test_what_the_base_install_brings(base: Path) -> None:
    listed = offline(base, "python", "-m", "pip", "list", "--format", "json")
    came = {each["name"] for each in json.loads(listed.stdout)}
    assert came - {"pip", "setuptools"} == BASE | {"imagefactory"}, "what venv itself makes does not count"
    assert offline(base, "python", "-m", "pip", "check").stdout == "No broken requirements found.\n"


def test_it_verifies_a_release_offline(base: Path, built: FakeHost) -> None:
    """What the signer signed, with the trust file handed over and nothing else."""
    (folder,) = folders(built.home / "catalogue")
    image, trust = next(folder.glob("*.qcow2")), built.home / "trust.json"
    ref = f"{folder.parent.name}@{folder.name}"
    for target in (image, folder):
        proved = offline(base, "imagefactory-verify", target, "--trust", trust, "--name", folder.parent.name)
        assert (proved.returncode, proved.stderr) == (0, "")
        assert proved.stdout.startswith(f"VERIFIED {ref}\n")
    explained = offline(base, "imagefactory-verify", folder, "--trust", trust, "--explain", "--json")
    assert {rule["state"] for rule in json.loads(explained.stdout)["rules"]} == {"passed", "does not apply"}

    refused = offline(base, "imagefactory-verify", image, "--trust", trust, "--name", "another", "--json")
    assert (refused.returncode, json.loads(refused.stdout)["error"]["code"]) == (1, "name-mismatch")
    refused = offline(base, "imagefactory-verify", image)
    assert (refused.returncode, refused.stdout) == (1, "")
    assert "looked for /etc/imagefactory/trust.json [no-trust-root]" in refused.stderr
    assert offline(base, "imagefactory-verify").returncode == 2


def test_both_commands_say_the_same(base: Path, built: FakeHost) -> None:
    (folder,) = folders(built.home / "catalogue")
    image, trust = next(folder.glob("*.qcow2")), built.home / "trust.json"
    whole = Path(sys.executable).parent.parent
    both = ((base, "imagefactory-verify", ()), (whole, "imagefactory", ("verify",)))
    for target in (image, folder):
        texts = [offline(venv, program, *verb, target, "--trust", trust).stdout for venv, program, verb in both]
        assert texts[0] == texts[1] != ""
        documents = [
            json.loads(offline(venv, program, *verb, target, "--trust", trust, "--json").stdout)
            for venv, program, verb in both
        ]
        for document in documents:
            del document["rules"][8]  # it has the time
        assert documents[0] == documents[1]


def test_it_needs_and_loads_little(base: Path, built: FakeHost) -> None:
    """No network, no program, nothing of the factory."""
    (folder,) = folders(built.home / "catalogue")
    program = f"""
import sys
from signing.command import run
assert run([{str(folder)!r}, "--trust", {str(built.home / "trust.json")!r}]) == 0
print(*sorted(name for name in sys.modules if "." not in name))
"""
    loaded = set(offline(base, "python", "-I", "-c", program).stdout.splitlines()[-1].split())
    assert {"cryptography", "securesystemslib", "signing"} <= loaded
    assert not loaded & {"imagefactory", "typer", "rich", "http", "urllib3", "requests", "ssl", "asyncio", "sqlite3"}


def test_what_is_not_there_says_how_to_get_it(base: Path) -> None:
    for argv in ([], ["--help"], ["verify", "x"], ["build", "x", "--json"]):
        told = offline(base, "imagefactory", *argv)
        assert (told.returncode, told.stdout) == (3, "")
        assert "[extra-missing]\n  to do: pip install 'imagefactory[build]'\n" in told.stderr
        assert "Traceback" not in told.stderr
