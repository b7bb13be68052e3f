"""What a recipe asks of the booted image gets there as it was written, and counts: a changed check boots again."""

import json
import subprocess
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pytest

from imagefactory.errors import InputsChanged, MirrorUnreachable, PackageMissing
from imagefactory.factory.line import Line
from imagefactory.model.packages import Change
from imagefactory.tools import guest_upgrade
from imagefactory.tools.guest_upgrade import GuestUpgrade
from tests.contract.test_factory import done, releases
from tests.contract.test_scap import Mirror
from tests.fakes.host import RECIPE, FakeHost
from tests.fakes.scanner import make_package

SCRIPT = "#!/usr/bin/python3 -I\nprint('well')\n"
CHECKS: list[dict[str, Any]] = [
    {"name": "one", "run": "true"},
    {"name": "two", "script": "two.py", "sudo": True, "timeout": "9s"},
]
BOOT = ["boot-test", "sign", "publish"]


@pytest.fixture
def asking(host: FakeHost) -> FakeHost:
    (host.recipe_file.parent / "two.py").write_text(SCRIPT)
    return asks(host, guest=CHECKS)


def asks(host: FakeHost, **tests: object) -> FakeHost:
    host.recipe_file.write_text(f"{RECIPE}tests: {json.dumps(tests)}\n")
    return host


def booted(host: FakeHost) -> Mapping[str, Any]:
    """What the newest release's boot test was asked, in its first boot."""
    (piece,) = releases(host)[0].evidence["boot"]
    return dict(piece["facts"]["boots"][0])


def test_checks_get_to_the_boot_test(asking: FakeHost) -> None:
    asking.build()
    assert booted(asking)["own"] == [
        ["one", "true", "/bin/sh", "-e", False, 60],
        ["two", SCRIPT, "/usr/bin/python3", "-I", True, 9],
    ]


def test_a_changed_check_boots_again(asking: FakeHost) -> None:
    asking.build()
    (asking.recipe_file.parent / "two.py").write_text(f"{SCRIPT}# more\n")
    asking.build()
    assert done(asking) == BOOT
    asks(asking, guest=[{**CHECKS[0], "sudo": True}, CHECKS[1]])
    asking.build()
    assert done(asking) == BOOT
    asks(asking, guest=[{**CHECKS[0], "sudo": True, "timeout": "5m"}, CHECKS[1]])
    asking.build()
    assert "boot-test" not in done(asking), "more time proves nothing new"


def test_a_script_that_changes_meanwhile_is_not_run(asking: FakeHost, monkeypatch: pytest.MonkeyPatch) -> None:
    disk = Line.disk

    def changing(line: Line, *given: Any) -> Any:  # noqa: ANN401
        (asking.recipe_file.parent / "two.py").write_text("#!/bin/sh\nexit 0\n")
        return disk(line, *given)

    monkeypatch.setattr(Line, "disk", changing)
    with pytest.raises(InputsChanged, match=r"two\.py changed after the recipe was read"):
        asking.build()


def test_an_upgrade_is_made_for_this_very_system(host: FakeHost, monkeypatch: pytest.MonkeyPatch) -> None:
    asked: list[tuple[Path, str]] = []

    def prepare(directory: Path, status: Path, *_others: object) -> GuestUpgrade:
        asked.append((directory, status.read_text()))
        return GuestUpgrade(host.root, (Change("shim-signed", "1", "2"),))

    monkeypatch.setattr(guest_upgrade, "prepare", prepare)
    host.build()
    assert asked == []
    asks(host, boot={"upgrade": True}).build()
    assert done(host) == BOOT
    ((directory, status),) = asked
    assert directory == host.home / "packages"
    assert "Package: openssl" in status
    assert booted(host)["upgrade"] == {"packages": ["shim-signed"]}


# -- the packages of an upgrade: apt is a fake, the disk is real ------------------------------------------------------

STATUS = "".join(
    f"Package: {name}\nStatus: install ok installed\nVersion: 1\nArchitecture: amd64\n\n"
    for name in ("bash", "grub-cloud-amd64", "grub2-common", "linux-image-cloud-amd64", "shim-signed", "libgrub")
)


@pytest.fixture
def mirror(tmp_path: Path) -> Mirror:
    made = Mirror(tmp_path)
    made.status.write_text(STATUS)
    return made


def prepared(mirror: Mirror) -> GuestUpgrade:
    work = mirror.root / "work"
    work.mkdir(exist_ok=True)
    return guest_upgrade.prepare(mirror.root / "home/packages", mirror.status, mirror.index(), work)


def test_what_an_image_boots_from_is_fetched_once(mirror: Mirror) -> None:
    mirror.offer("install", *(make_package(mirror.root, name, {}, "2") for name in ("grub2-common", "linux-image-6")))
    upgrade = prepared(mirror)
    assert [str(change) for change in upgrade.changes] == ["grub2-common 1 -> 2", "linux-image-6 2 is new"]
    assert prepared(mirror).changes == upgrade.changes
    assert mirror.calls("download") == 1
    asked = {line.partition(" install ")[2] for line in (mirror.root / "calls").read_text().splitlines()} - {""}
    assert asked == {"--no-install-recommends --reinstall grub2-common linux-image-cloud-amd64 shim-signed"}
    listed = subprocess.run(
        ["xorriso", "-indev", upgrade.disk, "-find", "/", "-type", "f"], check=True, capture_output=True, text=True
    )
    assert listed.stdout.split() == ["'/grub2-common.deb'", "'/linux-image-6.deb'"]


def test_an_image_whose_packages_nobody_offers(mirror: Mirror) -> None:
    with pytest.raises(PackageMissing):
        prepared(mirror)
    mirror.offer("install")
    with pytest.raises(PackageMissing, match="no source offers what the image boots from"):
        prepared(mirror)


def test_an_image_that_boots_from_no_package(mirror: Mirror) -> None:
    mirror.status.write_text(STATUS.partition("\n\n")[0])
    with pytest.raises(PackageMissing, match="no source offers what the image boots from"):
        prepared(mirror)
    assert not (mirror.root / "calls").exists()


def test_a_package_that_is_not_what_was_promised(mirror: Mirror) -> None:
    mirror.offer("install", make_package(mirror.root, "shim-signed", {}), digest="ab" * 32)
    with pytest.raises(MirrorUnreachable, match="not what the package lists say"):
        prepared(mirror)
    assert list((mirror.root / "home/packages").iterdir()) == []
