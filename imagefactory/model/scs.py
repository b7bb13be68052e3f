"""SCS-0102, version 2: the image metadata that Sovereign Cloud Stack asks of a provider's images.

"mandatory" is what the standard makes mandatory, and any value that it does not allow; "recommended" is what it
recommends. Where its own conformance test is stricter than its text, the stricter counts. What only a cloud can tell
(the hash, one `generic` image for each system, how recent an image is) is not looked at.
"""

import re
from collections.abc import Collection, Iterator, Mapping
from dataclasses import dataclass
from typing import Final, Literal

from imagefactory.model.property_forms import FORMS, Form, one_of
from imagefactory.model.quantity import shown

Level = Literal["mandatory", "recommended"]

MANDATORY: Final = (
    "architecture",
    "min_disk",
    "min_ram",
    "os_distro",
    "os_version",
    "os_purpose",
    "hw_disk_bus",
    "replace_frequency",
    "uuid_validity",
    "provided_until",
    "image_source",
    "image_description",
    "image_build_date",
    "image_original_user",
)
RECOMMENDED: Final = ("hypervisor_type", "hw_rng_model", "hw_firmware_type", "os_secure_boot")

_SOMETHING: Final = Form("some text", lambda text: bool(text.strip()))
_AT_LEAST_ONE: Final = Form("a whole number from 1", lambda text: FORMS["min_ram"].fits(text) and text != "0")
_VALUES: Final[Mapping[str, Form]] = {
    **FORMS,
    "architecture": one_of("x86_64", "aarch64", "riscv64"),
    "min_disk": _AT_LEAST_ONE,
    "min_ram": _AT_LEAST_ONE,
    "os_distro": Form("lower-case", lambda text: re.fullmatch(r"[a-z0-9][a-z0-9._-]*", text) is not None),
    "os_version": _SOMETHING,
    "hw_disk_bus": one_of("virtio", "scsi"),
    "hw_rng_model": one_of("virtio"),
    "hypervisor_type": one_of(
        "baremetal", "hyperv", "ironic", "kvm", "lxc", "powervm", "qemu", "uml", "vmware", "vz", "xen"
    ),
    "image_description": _SOMETHING,
    "image_original_user": _SOMETHING,
}


@dataclass(frozen=True)
class Finding:
    """One thing about a property that the standard would have otherwise."""

    level: Level
    key: str
    problem: str

    def __str__(self) -> str:
        return f"{self.level}: {self.key} {self.problem}"

    def to_json(self) -> dict[str, str]:
        return vars(self).copy()


def check(properties: Mapping[str, str], pending: Collection[str] = ()) -> tuple[Finding, ...]:
    """What SCS-0102 finds fault with, the mandatory first. The keys in `pending` will be there, with good values."""
    return tuple(sorted(_findings(properties, pending), key=lambda finding: finding.level))


def _findings(properties: Mapping[str, str], pending: Collection[str]) -> Iterator[Finding]:
    there = {*properties, *pending}
    yield from (Finding("mandatory", key, "is missing") for key in MANDATORY if key not in there)
    for key, value in properties.items():
        form = _VALUES.get(key)
        if form is not None and not form.fits(value):
            yield Finding("mandatory", key, f"should be {form.what}, not {shown(value)}")
    if all(properties.get(key, "").lower() == "true" for key in ("license_included", "license_required")):
        yield Finding("mandatory", "license_required", "cannot be true together with license_included")
    for key in RECOMMENDED:
        # Firmware without Secure Boot has nothing to say about it.
        if key not in there and (key != "os_secure_boot" or properties.get("hw_firmware_type") == "uefi"):
            yield Finding("recommended", key, "is missing")
    if properties.get("hw_disk_bus") == "scsi" and properties.get("hw_scsi_model") != "virtio-scsi":
        yield Finding("recommended", "hw_scsi_model", "should be virtio-scsi where hw_disk_bus is scsi")
