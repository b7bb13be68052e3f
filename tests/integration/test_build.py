"""What a real build gives, and what the verbs say about it."""

import hashlib
import json
import os
import re
import shutil
import signal
import stat
import subprocess
import time
from base64 import b64decode
from collections.abc import Callable
from pathlib import Path
from urllib.parse import unquote

import pytest

from imagefactory.model.disk import DiskLayout
from imagefactory.tools.recipe_file import load_recipe
from tests.database import records_at
from tests.homes import copy_home
from tests.integration.homes import BIN, ROOT, Built, imagefactory

DOCUMENTS = {"SHA256SUMS", "SHA256SUMS.sig", "provenance.sigstore.json", "release.sigstore.json"}


def in_image(built: Built, command: str) -> str:
    """What debugfs says about the root file system inside the raw disk."""
    layout = DiskLayout(size=load_recipe(built.recipe).recipe.disk.size)
    where = f"{built.image('raw')}?offset={layout.root.start}"
    ran = subprocess.run(["debugfs", "-R", command, where], check=True, capture_output=True, text=True)
    return ran.stdout


def test_the_published_folder(built: Built) -> None:
    name, version = built.release.split("@")
    assert built.folder == built.home / "catalogue" / "targets" / name / version
    assert {path.name for path in built.folder.iterdir()} == DOCUMENTS | {
        f"{name}-{version}.qcow2",
        f"{name}-{version}.raw",
        f"{name}-{version}.sbom.cdx.json",
    }
    assert all(stat.S_ISREG(path.lstat().st_mode) for path in built.folder.iterdir())
    subprocess.run(
        ["sha256sum", "--check", "--strict", "SHA256SUMS"], cwd=built.folder, check=True, capture_output=True
    )


def test_the_build_said_what_it_proved(built: Built) -> None:
    (target,) = built.document["verified"]
    assert target == f"catalogue:{built.home}/catalogue/{built.release}"
    assert "development keys: good for trying things out, not for production" in built.document["facts"]


def test_nothing_is_left_behind(built: Built) -> None:
    assert list((built.home / "work").iterdir()) == []
    assert str(built.home) not in Path("/proc/mounts").read_text()
    assert str(built.home) not in subprocess.run(["losetup", "-a"], check=True, capture_output=True, text=True).stdout


def test_evidence_of_both_firmwares(built: Built) -> None:
    shown = built.run("releases", "show", built.release, "--json").document
    boot, same, measured = shown["evidence"]
    assert (boot["kind"], boot["outcome"]) == ("boot", "pass")
    assert boot["facts"]["firmware"] == ["bios", "uefi"]
    assert boot["facts"]["secure_boot"] is True
    checks = {(one["boot"], check["name"]) for one in boot["facts"]["boots"] for check in one["checks"]}
    assert {("bios", "login-prompt"), ("uefi", "secure-boot"), ("uefi", "power-off"), ("bios-again", "units")} <= checks
    assert same["kind"] == "same-disk"
    assert (measured["kind"], measured["about"]) == ("compliance", boot["about"])
    about = {piece["about"].removeprefix("sha256:") for piece in (boot, same)}
    assert about == {image["sha256"] for image in shown["images"].values()}


def test_provenance_names_every_package(built: Built) -> None:
    bundle = json.loads((built.folder / "provenance.sigstore.json").read_bytes())
    status = in_image(built, "cat /var/lib/dpkg/status")
    installed = {block.split("\n")[0] for block in status.split("Package: ")[1:] if "ok installed" in block}
    payload = json.loads(b64decode(bundle["dsseEnvelope"]["payload"]))
    dependencies = payload["predicate"]["buildDefinition"]["resolvedDependencies"]
    packages = [each for each in dependencies if each.get("uri", "").startswith("pkg:deb/debian/")]
    named = {unquote(each["uri"].split("/")[2].split("@")[0]) for each in packages}
    assert named == installed
    assert len(named) > 150
    suites = [each for each in dependencies if each.get("uri", "").endswith("/InRelease")]
    assert len(suites) > 1
    # Of every archive and every list that was used, the digest is known.
    assert all(set(each["digest"]) == {"sha256"} for each in packages + suites)


def test_nothing_of_the_build_is_in_the_image(built: Built) -> None:
    assert in_image(built, "cat /etc/machine-id") == ""
    assert "ssh_host" not in in_image(built, "ls /etc/ssh")
    assert "deb.debian.org" in in_image(built, "cat /etc/apt/sources.list")
    assert "dib-manifests" not in in_image(built, "ls /etc")
    assert "diskimage-builder" not in in_image(built, "ls /usr/lib")


def test_a_second_build_does_no_work(built: Built) -> None:
    before = built.run("releases", "list", "--json").document
    again = built.run("build", built.recipe, "--json")
    assert again.status == 0, again.stderr
    assert again.document["unchanged"] is True
    assert again.document["release"] == built.release
    assert "inputs unchanged, and no package has a newer version" in again.stderr
    after = built.run("releases", "list", "--json").document
    assert after == before
    with records_at(built.home / "imagefactory.db") as records:
        assert records.execute("select count(*) from builds").fetchone() == (1,)


def test_plan_says_keep(built: Built) -> None:
    actions = built.run("plan", built.recipe, "--json").document["actions"]
    assert [action["run"] for action in actions] == [False] * 9


def test_convert_gives_the_published_disk(built: Built, tmp_path: Path) -> None:
    ran = built.run("convert", built.image("qcow2"), tmp_path / "disk.raw", "--json", timeout=600)
    assert ran.status == 0, ran.stderr
    assert ran.document["sha256"] == built.document["images"]["raw"]["sha256"]
    assert [path.name for path in tmp_path.iterdir()] == ["disk.raw"]


@pytest.mark.parametrize("image_format", ["raw", "qcow2"])
def test_verify_a_file(built: Built, image_format: str) -> None:
    ran = built.run("verify", built.image(image_format), "--json")
    assert ran.status == 0, ran.stderr
    (digest,) = ran.document["verified"]["files"].values()
    assert digest == built.document["images"][image_format]["sha256"]
    assert ran.document["verified"]["name_pinned"] is False
    pinned = built.run("verify", built.image(image_format), "--name", "tiny-debian-12", "--json")
    assert pinned.document["verified"]["name_pinned"] is True


def test_verify_the_catalogue(built: Built) -> None:
    for target in ("tiny-debian-12", built.release):
        ran = built.run("verify", f"catalogue:{built.home}/catalogue/{target}")
        assert ran.status == 0, ran.stderr
        assert ran.stdout.startswith(f"VERIFIED {built.release}\n")


def flip(path: Path) -> None:
    with path.open("r+b") as stream:
        stream.seek(path.stat().st_size // 2)
        byte = stream.read(1)
        stream.seek(-1, os.SEEK_CUR)
        stream.write(bytes([byte[0] ^ 1]))


SPOILED: dict[str, tuple[Callable[[Path], object], str]] = {
    "one bit of the image": (lambda folder: flip(next(folder.glob("*.qcow2"))), "digest-mismatch"),
    "one bit of SHA256SUMS": (lambda folder: flip(folder / "SHA256SUMS"), "checksums-invalid|signature-invalid"),
    "one bit of its signature": (lambda folder: flip(folder / "SHA256SUMS.sig"), "signature-invalid"),
    "one bit of the manifest": (lambda folder: flip(folder / "release.sigstore.json"), "catalogue-mixed"),
    "one bit of the provenance": (
        lambda folder: flip(folder / "provenance.sigstore.json"),
        "bundle-invalid|signature-invalid",
    ),
    "a file is missing": (lambda folder: next(folder.glob("*.qcow2")).unlink(), "folder-mismatch"),
    "a file too many": (lambda folder: (folder / "extra").touch(), "folder-mismatch"),
    "another version's name": (lambda folder: folder.rename(folder.with_name("20991231.1")), "catalogue-unreachable"),
}


@pytest.mark.parametrize("how", SPOILED)
def test_a_spoiled_catalogue_is_refused(built: Built, tmp_path: Path, how: str) -> None:
    spoil, code = SPOILED[how]
    mirror = tmp_path / "catalogue"
    subprocess.run(["cp", "-r", "--sparse=always", built.home / "catalogue", mirror], check=True)
    spoil(mirror / "targets" / "tiny-debian-12" / built.folder.name)
    root = built.home / "catalogue" / "metadata" / "1.root.json"
    ran = built.run("verify", f"catalogue:{mirror}/tiny-debian-12", "--root", root, "--json")
    assert ran.status == (4 if code == "catalogue-unreachable" else 1), ran.stdout
    assert re.fullmatch(code, ran.document["error"]["code"]), ran.document
    assert "VERIFIED" not in ran.stdout


def test_a_stranger_trusts_nothing(built: Built, tmp_path: Path) -> None:
    ran = imagefactory(tmp_path / "stranger", "verify", built.image("qcow2"), "--json")
    assert (ran.status, ran.document["error"]["code"]) == (1, "no-trust-root")
    imagefactory(tmp_path / "stranger", "keys", "init", "--development")
    ran = imagefactory(tmp_path / "stranger", "verify", built.image("qcow2"), "--json")
    assert (ran.status, ran.document["error"]["code"]) == (1, "key-untrusted")


def test_publish_elsewhere(built: Built, tmp_path: Path) -> None:
    home = tmp_path / "home"
    copy_home(built.home, home)
    ran = imagefactory(home, "publish", "tiny-debian-12", "--to", f"catalogue:{tmp_path}/elsewhere", "--json")
    assert ran.status == 0, ran.stderr
    again = imagefactory(home, "publish", "tiny-debian-12", "--to", f"catalogue:{tmp_path}/elsewhere", "--json")
    assert again.status == 0, again.stderr
    theirs = tmp_path / "elsewhere" / "targets" / "tiny-debian-12" / built.folder.name
    assert {path.name: digest(path) for path in theirs.iterdir()} == {
        path.name: digest(path) for path in built.folder.iterdir()
    }


def digest(path: Path) -> str:
    with path.open("rb") as stream:
        return hashlib.file_digest(stream, "sha256").hexdigest()


def test_boot_starts_the_verified_image_and_no_other(built: Built, tmp_path: Path) -> None:
    console = tmp_path / "console"
    with (
        console.open("wb") as output,
        subprocess.Popen(
            [BIN / "imagefactory", "boot", built.image("qcow2"), "--firmware", "bios", "--memory", "512 MiB"],
            stdin=subprocess.DEVNULL,
            stdout=output,
            stderr=subprocess.STDOUT,
            env={**os.environ, "IMAGEFACTORY_HOME": str(built.home)},
        ) as gate,
    ):
        try:
            wait_for(console, "Linux version", gate)
        finally:
            gate.send_signal(signal.SIGTERM)
            gate.wait(timeout=60)
    text = console.read_text(errors="replace")
    assert text.index(f"VERIFIED {built.release}") < text.index("Linux version")

    other = tmp_path / "other.qcow2"
    shutil.copy(built.image("qcow2"), other)
    shutil.copy(built.folder / "release.sigstore.json", tmp_path)
    flip(other)
    refused = built.run("boot", other, "--firmware", "bios", "--json")
    assert (refused.status, refused.document["error"]["code"]) == (1, "digest-mismatch")


def wait_for(console: Path, text: str, program: "subprocess.Popen[bytes]", seconds: float = 240.0) -> None:
    deadline = time.monotonic() + seconds
    while text not in console.read_text(errors="replace"):
        assert program.poll() is None, console.read_text(errors="replace")
        assert time.monotonic() < deadline, console.read_text(errors="replace")
        time.sleep(0.2)


def test_gc_keeps_what_is_needed(built: Built, tmp_path: Path) -> None:
    home = tmp_path / "home"
    copy_home(built.home, home)
    planned = imagefactory(home, "gc", "--keep", "1", "--dry-run", "--json").document
    assert (planned["freed"], planned["artifacts"]) == (0, [])
    unpublished = imagefactory(home, "gc", "--keep", "0", "--json").document
    assert unpublished["artifacts"], "signed documents of releases that are not kept"
    images = imagefactory(home, "releases", "show", "tiny-debian-12", "--json").document["images"]
    assert len(images) == 2


def test_doctor(built: Built) -> None:
    ran = built.run("doctor", "--json")
    assert ran.status == 0, ran.stdout
    checks = {check["name"]: check for check in ran.document["checks"]}
    assert checks["mirrors"]["ok"]
    assert checks["kvm"]["found"].startswith(("kvm", "tcg"))


def test_the_recipes_that_ship_have_no_errors(built: Built) -> None:
    for recipe in (ROOT / "recipes").glob("*.yaml"):
        ran = built.run("recipe", "check", recipe)
        assert ran.status == 0, ran.stderr
