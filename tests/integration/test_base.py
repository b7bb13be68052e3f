"""A whole build that starts from an image: the one that every test shares, as somebody used it."""

import json
import shutil
import subprocess
from base64 import b64decode
from collections.abc import Iterator
from dataclasses import dataclass
from hashlib import file_digest
from pathlib import Path

import pytest

from imagefactory.tools import sfdisk
from tests.integration.homes import BUILD_TIMEOUT, RECIPE, Built, imagefactory

ENVIRONMENT = {"PATH": "/usr/sbin:/usr/bin:/sbin:/bin", "LC_ALL": "C.UTF-8"}
KEY = "ssh-ed25519 AAAAC3NzaC1lZDI1NTE5AAAAIHNvbWVib2R5IHdobyBtYXkgbm90IGdldCBpbiE= somebody\n"
HASH = "$y$j9T$somebodyspassword"


@dataclass(frozen=True)
class Based:
    """What was built, and what it was built from."""

    built: Built
    digest: str

    def cat(self, path: str) -> str:
        return debugfs(self.built.image("raw"), f"cat {path}")


def debugfs(disk: Path, *commands: str, write: bool = False) -> str:
    start = sfdisk.starts(disk, env=ENVIRONMENT)[-1]
    script = "".join(f"{command}\n" for command in commands)
    argv = ["debugfs", *(["-w"] if write else []), "-f", "-", f"{disk}?offset={start}"]
    ran = subprocess.run(argv, input=script, check=True, capture_output=True, text=True, timeout=120)
    return ran.stdout.partition("\n")[2]


@pytest.fixture(scope="module")
def based(built: Built, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Based]:
    work = tmp_path_factory.mktemp("based")
    image = work / "used.raw"
    shutil.copyfile(built.image("raw"), image)
    (work / "key").write_text(KEY)
    (work / "shadow").write_text(debugfs(image, "cat /etc/shadow").replace("root:*:", f"root:{HASH}:"))
    assert HASH in (work / "shadow").read_text()
    (work / "ours").write_text("what the company wrote\n")
    debugfs(
        image,
        *("mkdir /root/.ssh", f"write {work}/key /root/.ssh/authorized_keys", f"write {work}/ours /etc/company"),
        *("rm /etc/shadow", f"write {work}/shadow /etc/shadow", "sif /etc/shadow mode 0100640"),
        *("rm /etc/machine-id", f"write {work}/ours /etc/machine-id"),
        write=True,
    )
    with image.open("rb") as stream:
        digest = file_digest(stream, "sha256").hexdigest()
    recipe = work / "based.yaml"
    recipe.write_text(f"name: based-debian-12\nextends: {RECIPE.name}\nbase: {{image: used.raw, sha256: '{digest}'}}\n")
    shutil.copy(RECIPE, work / RECIPE.name)
    home = work / "home"
    assert imagefactory(home, "keys", "init", "--development").status == 0
    ran = imagefactory(home, "build", recipe, "--json", timeout=BUILD_TIMEOUT)
    assert ran.status == 0, ran.stderr
    yield Based(Built(home, recipe, ran.document), digest)
    shutil.rmtree(work)


@pytest.mark.soak
def test_an_image_from_an_image(based: Based) -> None:
    """It booted under both firmwares, or there would be no release."""
    assert based.cat("/etc/company") == "what the company wrote\n"
    assert "based-debian-12@" in based.built.release
    assert "deb.debian.org" in based.cat("/etc/apt/sources.list")
    again = based.built.run("plan", based.built.recipe, "--json").document["actions"]
    assert not any(action["run"] for action in again)
    assert f"starts from used.raw sha256:{based.digest[:12]}" in again[0]["reason"]


@pytest.mark.soak
def test_nobody_of_the_base_gets_in(based: Based) -> None:
    assert HASH not in based.cat("/etc/shadow")
    assert "somebody" not in based.cat("/root/.ssh/authorized_keys")
    assert based.cat("/etc/machine-id") == ""


@pytest.mark.soak
def test_the_provenance_names_the_base(based: Based) -> None:
    bundle = json.loads((based.built.folder / "provenance.sigstore.json").read_bytes())
    payload = json.loads(b64decode(bundle["dsseEnvelope"]["payload"]))
    dependencies = payload["predicate"]["buildDefinition"]["resolvedDependencies"]
    (base,) = [each for each in dependencies if str(each.get("name")).startswith("base/")]
    assert base == {"name": "base/used.raw", "digest": {"sha256": based.digest}}
    assert {"element/soe-from-image", "element/soe-debian"} <= {each.get("name") for each in dependencies}
