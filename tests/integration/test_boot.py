"""A real image, booted under BIOS and UEFI, and what happens to it when something is wrong with it."""

import shutil
from collections.abc import Mapping, Sequence
from pathlib import Path

import pytest

from imagefactory.errors import BootCheckFailed, BootFailed, BootNoLoader
from imagefactory.model.disk import Firmware
from imagefactory.model.evidence import JSON, Evidence
from imagefactory.model.packages import Change
from imagefactory.steps.boot_test import boot_test
from imagefactory.tools import data_disk, guest_upgrade
from imagefactory.tools.firmware import probe_kvm
from imagefactory.tools.guest_checks import INLINE, GuestCheck
from imagefactory.tools.guest_upgrade import GuestUpgrade
from tests.fakes.scanner import make_package
from tests.integration.conftest import BootableImage
from tests.integration.homes import BUILD_TIMEOUT, ROOT, Built, imagefactory
from tests.integration.test_docs import settle

ENVIRONMENT = {"PATH": "/usr/sbin:/usr/bin:/sbin:/bin", "LC_ALL": "C.UTF-8", "TZ": "UTC"}
TIMEOUT = 900.0  # seconds for each boot: software emulation on a busy host
MEMORY = 1024  # MiB
ABOUT = "sha256:" + "0" * 64

SETTLED = {"login-prompt", "ssh", "cloud-init", "units", "system", "root-writable", "firmware", "kernel", "power-off"}
FIRST = SETTLED | {"host-key", "root-grown", "no-password", "guest-agent", "hostname", "sudo", "ports"}
OWN = {"guest:packages-whole", "guest:no-file-that-all-may-write"}
SECURE = {"secure-boot", "kernel-secure-boot"}


def boot(
    image: Path,
    image_format: str,
    directory: Path,
    *firmware: Firmware,
    expect: str,
    own: Sequence[GuestCheck] = (),
    upgrade: GuestUpgrade | None = None,
) -> Evidence:
    return boot_test(
        image,
        image_format,
        about=ABOUT,
        firmware=firmware,
        memory=MEMORY,
        timeout=TIMEOUT,
        expect=[expect],
        own=own,
        upgrade=upgrade,
        work=directory,
        logs=directory / "logs",
        accelerator=probe_kvm(ENVIRONMENT),
        environment=ENVIRONMENT,
        on_advance=print,
    )


def check(name: str, program: str, *, sudo: bool = False, seconds: int = 60) -> GuestCheck:
    return GuestCheck(name, program.encode(), INLINE, sudo, seconds)


def upgrade_to(directory: Path, script: str) -> GuestUpgrade:
    """An upgrade whose only package is a new one with this maintainer script."""
    tree = directory / "upgrade"
    tree.mkdir()
    package = make_package(directory, "grub-that-fails", {"DEBIAN/postinst": f"#!/bin/sh -e\n{script}\n"}, "1")
    package.rename(tree / package.name)
    disk = data_disk.make(directory / "upgrade.iso", guest_upgrade.LABEL, tree, environment=ENVIRONMENT)
    return GuestUpgrade(disk, (Change("grub-that-fails", None, "1"),))


def checks_of(facts: Mapping[str, JSON]) -> dict[str, set[str]]:
    """Names of the checks that passed, by boot."""
    boots = facts["boots"]
    assert isinstance(boots, list)
    return {boot["boot"]: {check["name"] for check in boot["checks"] if check["outcome"] == "pass"} for boot in boots}


def test_everything_that_a_boot_must_prove(built: Built) -> None:
    """The build that all tests share booted its image under both firmwares; this is what it says it saw."""
    shown = built.run("releases", "show", built.release, "--json").document
    facts = shown["evidence"][0]["facts"]
    assert checks_of(facts) == {
        "bios": FIRST | OWN,
        "bios-again": SETTLED,
        "uefi": FIRST | OWN | SECURE,
        "uefi-again": SETTLED | SECURE,
        "uefi-altered": {"altered-refused"},
    }
    assert facts["secure_boot"] is True
    assert facts["accelerator"]["kind"] in {"kvm", "tcg"}
    assert facts["memory_mib"] == 512
    assert facts["machine"]["machine"] == "q35"
    seen = {boot["boot"]: (boot["os"], boot["user"], boot["rng"]) for boot in facts["boots"] if "rng" in boot}
    assert seen == dict.fromkeys(("bios", "uefi"), ("debian 12", "debian", "virtio_rng.0"))


def test_a_disk_without_boot_code(bootable_image: BootableImage, tmp_path: Path) -> None:
    """The first sector, which BIOS runs, is gone; UEFI does not mind, so only BIOS is asked."""
    image = tmp_path / "image.raw"
    with bootable_image.raw.open("rb") as source, image.open("wb") as target:
        target.write(bytes(512) + source.read(4 << 20)[512:])
        target.truncate(bootable_image.raw.stat().st_size)
    with pytest.raises(BootNoLoader) as raised:
        boot(image, "raw", tmp_path, "bios", expect="")
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
    # A boot for each source of metadata, side by side: the first that fails ends the other, which may have no picture.
    assert list((tmp_path / "logs").glob("bios*-screen.png"))


@pytest.mark.soak
def test_what_the_recipe_expects_and_does_not_get(bootable_image: BootableImage, tmp_path: Path) -> None:
    """All is told together, whatever the recipe's own checks do, and the machine was shut down first.

    There are two rounds, one for each source of metadata, and either may be the first to fail.
    """
    own = (
        check("hang", "trap '' TERM; sleep 1000 & while :; do wait; done", sudo=True, seconds=5),
        check("babble", "yes", seconds=5),
        check("fail", "echo why >&2; exit 3"),
        check("well", 'test "$(id -u)" = 0', sudo=True),
    )
    with pytest.raises(BootCheckFailed, match=r": bios(-config-drive)?: console: no such words, ") as raised:
        boot(bootable_image.raw, "raw", tmp_path, "bios", expect="no such words", own=own)
    assert raised.value.message.endswith(": console: no such words, guest:hang, guest:babble, guest:fail")
    assert raised.value.log == tmp_path / "logs" / f"{raised.value.message.partition(':')[0]}-console.log"
    lines = raised.value.lines
    for name in ("hang", "babble"):
        assert f"guest:{name}: did not end within 5 s, and was ended" in lines
    assert lines[-1] == "why"
    assert "reboot: Power down" in raised.value.log.read_text(errors="replace")


@pytest.mark.soak
def test_an_image_boots_from_what_its_upgrade_wrote(built: Built, tmp_path: Path) -> None:
    """Not only kernel, initramfs and configuration: both boot loaders, where each firmware looks for its own."""
    recipe = shutil.copytree(ROOT / "recipes", tmp_path / "recipes") / "upgrading.yaml"
    recipe.write_text("name: tiny-debian-12\nextends: tiny-debian-12.yaml\ntests: {boot: {upgrade: true}}\n")
    home = tmp_path / "home"
    settle(built, home, from_nothing=False)
    ran = imagefactory(home, "build", recipe, "--json", timeout=BUILD_TIMEOUT)
    assert ran.status == 0, ran.stderr
    facts = imagefactory(home, "releases", "show", ran.document["release"], "--json").document["evidence"][0]["facts"]
    assert checks_of(facts) == {
        "bios": FIRST | OWN | {"upgrade"},
        "bios-again": SETTLED,
        "uefi": FIRST | OWN | SECURE | {"upgrade"},
        "uefi-again": SETTLED | SECURE,
        "uefi-altered": {"altered-refused"},
    }
    boots = {boot["boot"]: boot for boot in facts["boots"]}
    for firmware in ("bios", "uefi"):
        upgraded, kernel = boots[firmware]["upgrade"], boots[f"{firmware}-again"]["kernel"]
        packages = {each["name"] for each in upgraded["packages"]}
        assert {"grub-pc-bin", "grub-efi-amd64-signed", "shim-signed", f"linux-image-{kernel}"} <= packages
        assert {
            "/boot/efi/EFI/BOOT/BOOTX64.EFI",
            "/boot/efi/EFI/BOOT/grubx64.efi",
            "/boot/efi/EFI/debian/grub.cfg",
            "/boot/grub/grub.cfg",
            "/boot/grub/i386-pc/core.img",
            f"/boot/initrd.img-{kernel}",
        } <= set(upgraded["written"])


@pytest.mark.soak
def test_an_upgrade_that_fails(bootable_image: BootableImage, tmp_path: Path) -> None:
    """The machine was shut down first, and is not started again."""
    broken = upgrade_to(tmp_path, "echo this one fails >&2; exit 3")
    with pytest.raises(BootCheckFailed) as raised:
        boot(bootable_image.raw, "raw", tmp_path, "bios", expect="", upgrade=broken)
    assert raised.value.message == "bios: upgrade"
    lines = raised.value.lines
    assert lines[0].startswith("upgrade: status 100 after ")
    assert any("grub-that-fails" in line for line in lines)
    assert "reboot: Power down" in (tmp_path / "logs/bios-console.log").read_text(errors="replace")
    assert not (tmp_path / "logs/bios-again-console.log").exists()


@pytest.mark.soak
def test_an_upgrade_after_which_nothing_boots(bootable_image: BootableImage, tmp_path: Path) -> None:
    """All that should be written is, but GRUB finds nothing to start in it."""
    broken = upgrade_to(tmp_path, ": > /boot/grub/grub.cfg; : > /boot/initrd.img-0")
    with pytest.raises(BootNoLoader, match=": bios-again: "):
        boot(bootable_image.raw, "raw", tmp_path, "bios", expect="", upgrade=broken)
