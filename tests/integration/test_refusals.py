"""Bad luck in real builds: no mirror, a wrong key, a missing package, a full disk. A code, and nothing half done."""

import shutil
import subprocess
from collections.abc import Sequence
from pathlib import Path

import pytest

from tests.integration.homes import BIN, RECIPE, Built, Ran, imagefactory

FAR = """
repositories:
  - uri: {uri}
    suite: bookworm
    components: [main]
    signed_by: {signed_by}
"""
DEBIAN = "/usr/share/keyrings/debian-archive-keyring.gpg"
REMOVED = "/usr/share/keyrings/debian-archive-removed-keys.gpg"


def recipe(directory: Path, lines: str) -> Path:
    path = directory / "recipe.yaml"
    shutil.copy(RECIPE, directory)
    path.write_text(f"name: refused\nextends: {RECIPE.name}\n{lines}")
    return path


def home(built: Built, directory: Path) -> Path:
    """A home with keys and a policy, and nothing else."""
    made = directory / "home"
    shutil.copytree(built.home / "keys", made / "keys")
    for name in ("trust.json", "policy.json"):
        shutil.copy(built.home / name, made)
    return made


def mirror(built: Built) -> str:
    """The mirror that this host's apt uses."""
    checks = {check["name"]: check for check in built.run("doctor", "--json").document["checks"]}
    found: str = checks["mirrors"]["found"].split(", ")[0]
    return found


@pytest.mark.parametrize("verb", ["plan", "build"])
def test_a_mirror_that_is_down(built: Built, tmp_path: Path, verb: str) -> None:
    down = recipe(tmp_path, FAR.format(uri="http://127.0.0.1:9/debian", signed_by=DEBIAN))
    where = home(built, tmp_path)
    ran = imagefactory(where, verb, down, "--json")
    assert (ran.status, ran.document["error"]["code"]) == (4, "mirror-unreachable")
    assert any("127.0.0.1" in line for line in ran.document["error"]["lines"])
    nothing_done(where)


def test_a_mirror_that_somebody_else_signed(built: Built, tmp_path: Path) -> None:
    wrong = recipe(tmp_path, FAR.format(uri=mirror(built), signed_by=REMOVED))
    where = home(built, tmp_path)
    ran = imagefactory(where, "build", wrong, "--json")
    assert (ran.status, ran.document["error"]["code"]) == (4, "mirror-unreachable")
    assert any("not signed" in line or "NO_PUBKEY" in line for line in ran.document["error"]["lines"])
    nothing_done(where)


def test_a_package_that_nobody_has(built: Built, tmp_path: Path) -> None:
    where = home(built, tmp_path)
    ran = imagefactory(where, "build", recipe(tmp_path, "packages: [less, no-such-package]\n"), "--json")
    assert (ran.status, ran.document["error"]["code"]) == (1, "package-missing")
    assert "no-such-package" in ran.document["error"]["message"]
    assert "less" not in ran.document["error"]["message"].replace("unless", "")
    nothing_done(where)


def test_a_disk_that_fills_up(built: Built, tmp_path: Path) -> None:
    where = home(built, tmp_path)
    ran = on_a_small_disk(where, ["build", str(RECIPE), "--json"])
    assert (ran.status, ran.document["error"]["code"]) == (3, "disk-full"), ran.stderr
    assert str(where) not in Path("/proc/mounts").read_text()


def on_a_small_disk(where: Path, argv: Sequence[str]) -> Ran:
    """Run with the artifacts and work of `where` on a tmpfs of 100 MB, in a namespace of its own."""
    script = """
        cp -a "$1" "$1.copy"
        mount -t tmpfs -o size=100m tmpfs "$1"
        cp -a "$1.copy/." "$1"
        shift
        exec "$@"
    """
    command = ["unshare", "--mount", "sh", "-euc", script, "sh", where]
    command += ["env", f"IMAGEFACTORY_HOME={where}", BIN / "imagefactory", *argv]
    ran = subprocess.run(
        [str(part) for part in command],
        check=False,
        capture_output=True,
        text=True,
        stdin=subprocess.DEVNULL,
        timeout=900,
    )
    return Ran(ran.returncode, ran.stdout, ran.stderr)


def nothing_done(where: Path) -> None:
    assert list((where / "work").iterdir()) == []
    assert not (where / "catalogue").exists()
    assert imagefactory(where, "releases", "list", "--json").document == {"releases": []}
