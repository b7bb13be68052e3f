"""A real image, booted under BIOS and UEFI, and what happens to it when something is wrong with it."""

import hashlib
import resource
import time
from collections.abc import Mapping
from pathlib import Path
from typing import Protocol

import pytest

from imagefactory.errors import BootCheckFailed, BootFailed, BootNoLoader
from imagefactory.model.disk import Firmware
from imagefactory.model.evidence import JSON, Evidence
from imagefactory.steps.boot_test import boot_test
from imagefactory.tools.firmware import probe_kvm

ENVIRONMENT = {"PATH": "/usr/sbin:/usr/bin:/sbin:/bin", "LC_ALL": "C.UTF-8", "TZ": "UTC"}
TIMEOUT = 900.0  # seconds for each boot: software emulation on a busy host
MEMORY = 1024  # MiB
ABOUT = "sha256:" + "0" * 64

SETTLED = {"login-prompt", "ssh", "cloud-init", "units", "system", "root-writable", "kernel", "power-off"}
FIRST = SETTLED | {"host-key", "root-grown", "no-password", "guest-agent", "firmware", "console: Linux version"}


class BootableImage(Protocol):
    """One release in two formats."""

    raw: Path
    qcow2: Path


def boot(image: Path, image_format: str, directory: Path, *firmware: Firmware, expect: str) -> Evidence:
    return boot_test(
        image,
        image_format,
        about=ABOUT,
        firmware=firmware,
        memory=MEMORY,
        timeout=TIMEOUT,
        expect=[expect],
        work=directory,
        logs=directory / "logs",
        accelerator=probe_kvm(ENVIRONMENT),
        environment=ENVIRONMENT,
        on_advance=print,
    )


def checks_of(facts: Mapping[str, JSON]) -> dict[str, set[str]]:
    """Names of the checks that passed, by boot."""
    boots = facts["boots"]
    assert isinstance(boots, list)
    return {boot["boot"]: {check["name"] for check in boot["checks"] if check["outcome"] == "pass"} for boot in boots}


def digest(path: Path) -> str:
    with path.open("rb") as stream:
        return hashlib.file_digest(stream, "sha256").hexdigest()


@pytest.mark.parametrize(("firmware", "image_format"), [("bios", "raw"), ("uefi", "qcow2")])
def test_it_boots(bootable_image: BootableImage, tmp_path: Path, firmware: Firmware, image_format: str) -> None:
    image = bootable_image.raw if image_format == "raw" else bootable_image.qcow2
    before = digest(image)
    document = boot(image, image_format, tmp_path, firmware, expect="Linux version").to_json()
    assert document["outcome"] == "pass"
    facts = document["facts"]
    assert isinstance(facts, dict)
    expected = {firmware: FIRST, f"{firmware}-again": SETTLED}
    if firmware == "uefi":
        expected["uefi"] = FIRST | {"secure-boot", "kernel-secure-boot"}
        expected["uefi-altered"] = {"altered-refused"}
    assert checks_of(facts) == expected
    assert facts["secure_boot"] is (firmware == "uefi")
    assert digest(image) == before
    assert [path.name for path in tmp_path.iterdir()] == ["logs"]
    assert not list((tmp_path / "logs").glob("*-screen.png")) or firmware == "uefi"
    assert resource.getrusage(resource.RUSAGE_SELF).ru_maxrss < 300 << 10  # KiB, with all of pytest


def test_a_disk_without_boot_code(bootable_image: BootableImage, tmp_path: Path) -> None:
    """The first sector, which BIOS runs, is gone; UEFI does not mind, so only BIOS is asked."""
    image = tmp_path / "image.raw"
    with bootable_image.raw.open("rb") as source, image.open("wb") as target:
        target.write(bytes(512) + source.read(4 << 20)[512:])
        target.truncate(bootable_image.raw.stat().st_size)
    begin = time.monotonic()
    with pytest.raises(BootNoLoader) as raised:
        boot(image, "raw", tmp_path, "bios", expect="")
    assert time.monotonic() - begin < 60
    assert raised.value.lines


def test_a_disk_without_its_root(bootable_image: BootableImage, tmp_path: Path) -> None:
    """Boot code and loader are there, what they load is not."""
    image = tmp_path / "image.raw"
    with bootable_image.raw.open("rb") as source, image.open("wb") as target:
        target.write(source.read(2 << 20))
        target.truncate(bootable_image.raw.stat().st_size)
    with pytest.raises(BootFailed) as raised:
        boot(image, "raw", tmp_path, "bios", expect="")
    assert raised.value.code == "boot-no-loader"
    assert (tmp_path / "logs" / "bios-screen.png").is_file()


@pytest.mark.soak
def test_what_the_recipe_expects_and_does_not_get(bootable_image: BootableImage, tmp_path: Path) -> None:
    with pytest.raises(BootCheckFailed, match="bios: console: no such words") as raised:
        boot(bootable_image.raw, "raw", tmp_path, "bios", expect="no such words")
    assert raised.value.log == tmp_path / "logs" / "bios-console.log"
