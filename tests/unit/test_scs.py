"""SCS-0102: what it finds in properties that should pass, and in each way to miss it."""

from pathlib import Path

import pytest

from imagefactory.model.properties import explain
from imagefactory.model.scs import MANDATORY, Finding, check
from imagefactory.tools.machine import DEVICES
from imagefactory.tools.recipe_file import load_recipe

RECIPES = sorted((Path(__file__).parents[2] / "recipes").glob("*.yaml"))
GOOD = {
    "architecture": "x86_64",
    "min_disk": "3",
    "min_ram": "512",
    "os_distro": "debian",
    "os_version": "12",
    "os_purpose": "generic",
    "hw_disk_bus": "virtio",
    "replace_frequency": "monthly",
    "uuid_validity": "last-3",
    "provided_until": "none",
    "image_source": "private",
    "image_description": "https://images.example/",
    "image_build_date": "2025-11-21",
    "image_original_user": "debian",
    "hypervisor_type": "qemu",
    "hw_rng_model": "virtio",
    "hw_firmware_type": "uefi",
    "os_secure_boot": "optional",
    "hotfix_hours": "0",
    "anything": "else",
}


def found(**changes: str | None) -> list[tuple[str, str]]:
    """Level and key of the findings after changes to good properties; None takes one out."""
    changed = {key: value for key, value in {**GOOD, **changes}.items() if value is not None}
    return [(finding.level, finding.key) for finding in check(changed)]


def test_good_properties() -> None:
    assert found() == []


@pytest.mark.parametrize("key", MANDATORY)
def test_what_is_mandatory(key: str) -> None:
    assert found(**{key: None}) == [("mandatory", key)]
    without = {name: value for name, value in GOOD.items() if name != key}
    assert check(without, pending={key}) == ()


@pytest.mark.parametrize("key", ["hypervisor_type", "hw_rng_model", "hw_firmware_type"])
def test_what_is_recommended(key: str) -> None:
    assert ("recommended", key) in found(**{key: None})


def test_secure_boot_is_a_matter_of_uefi() -> None:
    assert found(os_secure_boot=None) == [("recommended", "os_secure_boot")]
    assert found(os_secure_boot=None, hw_firmware_type="bios") == []


@pytest.mark.parametrize(
    ("key", "value"),
    [
        ("architecture", "amd64"),
        ("min_disk", "0"),
        ("min_disk", "3 GiB"),
        ("min_ram", "0"),
        ("os_distro", "Debian"),
        ("os_version", ""),
        ("os_purpose", "general"),
        ("hw_disk_bus", "ide"),
        ("replace_frequency", "sometimes"),
        ("uuid_validity", "2026-02-30"),
        ("provided_until", "forever"),
        ("image_source", "images.example"),
        ("image_description", " "),
        ("image_build_date", "today"),
        ("image_original_user", ""),
        ("hypervisor_type", "bochs"),
        ("hw_rng_model", "haveged"),
        ("hotfix_hours", "soon"),
        ("maintained_until", "soon"),
        ("license_included", "perhaps"),
    ],
)
def test_values_that_are_not_allowed(key: str, value: str) -> None:
    assert found(**{key: value}) == [("mandatory", key)]


def test_scsi_wants_its_model() -> None:
    assert found(hw_disk_bus="scsi") == [("recommended", "hw_scsi_model")]
    assert found(hw_disk_bus="scsi", hw_scsi_model="virtio-scsi") == []


def test_a_licence_is_included_or_required() -> None:
    assert found(license_included="true", license_required="True") == [("mandatory", "license_required")]
    assert found(license_included="true", license_required="false") == []


def test_the_mandatory_come_first_and_all_are_sentences() -> None:
    findings = check({})
    assert [finding.level for finding in findings] == sorted(finding.level for finding in findings)
    assert [finding.key for finding in findings][: len(MANDATORY)] == list(MANDATORY)
    assert str(findings[0]) == "mandatory: architecture is missing"
    assert findings[0].to_json() == {"level": "mandatory", "key": "architecture", "problem": "is missing"}
    assert Finding("mandatory", "min_ram", "should be a whole number from 1, not '0'") in check(
        {**GOOD, "min_ram": "0"}
    )


@pytest.mark.parametrize("path", RECIPES, ids=lambda path: path.stem)
def test_the_recipes_that_ship_lack_nothing(path: Path) -> None:
    claims = explain(load_recipe(path).recipe, DEVICES)
    known = {claim.key: claim.value for claim in claims if claim.value is not None}
    assert check(known, pending={claim.key for claim in claims if claim.value is None}) == ()


def test_one_recipe_of_a_system_is_the_generic_one() -> None:
    """SCS-0102 allows one public image of each distribution, version and architecture to be."""
    loaded = [load_recipe(path).recipe for path in RECIPES]
    generic = [(each.os.distro, each.os.version) for each in loaded if each.properties["os_purpose"] == "generic"]
    assert len(set(generic)) == len(generic)
