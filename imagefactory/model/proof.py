"""What the evidence of a build proves about its image, in the words that claims are made from."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, fields
from datetime import date
from typing import Any

from imagefactory.errors import EvidenceMissing
from imagefactory.model.evidence import Devices, Evidence
from imagefactory.model.quantity import MIB
from imagefactory.model.recipe import Recipe


@dataclass(frozen=True)
class Proof:
    """What a build proved: `memory` in MiB and `disk` in bytes that are enough, each kind of `firmware` that it boots
    under, whether Secure Boot was enforced, whether the guest's `agent` answered and the guest saw the random number
    generator (`rng`), what the guest says it is, who logs in, and the day (UTC) until which all patches are in it.

    Before a build it is what one will prove if all goes well, and nobody knows `user` and `built`.
    """

    memory: int
    disk: int
    firmware: tuple[str, ...]
    secure_boot: bool
    agent: bool
    rng: bool
    devices: Devices
    distro: str
    version: str
    user: str | None
    built: date | None


def prove(evidence: Sequence[Evidence], *, virtual_size: int, built: date) -> Proof:
    """What the evidence of a release proves about its image, a disk of `virtual_size` bytes built on the day `built`.

    Evidence comes from outside: whatever is not there, or not of its type, is EvidenceMissing.
    """
    boots = [piece for piece in evidence if piece.kind == "boot" and piece.outcome == "pass"]
    if len(boots) != 1:
        raise EvidenceMissing(f"properties are proved by one boot test, and there are {len(boots)}")
    facts = boots[0].facts
    firmware = _texts(facts, "firmware")
    first = [_first_boot(facts, kind) for kind in firmware]
    user = _same(first, "user")
    distro, _, version = _same(first, "os").partition(" ")
    machine = _mapping(facts, "machine")
    devices = Devices(**{name: _text(machine, name) for name in (each.name for each in fields(Devices))})
    return Proof(
        memory=_number(facts, "memory_mib"),
        disk=virtual_size,
        firmware=firmware,
        secure_boot=facts.get("secure_boot") is True and "uefi" in firmware,
        agent=all(_passed(boot, "guest-agent") for boot in first),
        # Linux calls the device of the driver virtio_rng "virtio_rng.0".
        rng=all(f"{devices.rng_model}_rng" in str(boot.get("rng")) for boot in first),
        devices=devices,
        distro=distro,
        version=version,
        user=user,
        built=built,
    )


def foresee(recipe: Recipe, devices: Devices) -> Proof:
    """What a build of `recipe` will prove if all goes well, in a boot test with these `devices`."""
    return Proof(
        memory=recipe.tests.boot.memory // MIB,
        disk=recipe.disk.size,
        firmware=recipe.disk.firmware,
        secure_boot="uefi" in recipe.disk.firmware,
        agent=True,
        rng=True,
        devices=devices,
        distro=recipe.os.distro,
        version=recipe.os.version,
        user=None,
        built=None,
    )


def _missing(key: str) -> EvidenceMissing:
    return EvidenceMissing(f"the boot test does not say {key}")


def _mapping(facts: Mapping[str, Any], key: str) -> Mapping[str, Any]:
    value = facts.get(key)
    if not isinstance(value, Mapping):
        raise _missing(key)
    return value


def _text(facts: Mapping[str, Any], key: str) -> str:
    value = facts.get(key)
    if not isinstance(value, str) or not value:
        raise _missing(key)
    return value


def _number(facts: Mapping[str, Any], key: str) -> int:
    value = facts.get(key)
    if type(value) is not int or value < 1:
        raise _missing(key)
    return value


def _texts(facts: Mapping[str, Any], key: str) -> tuple[str, ...]:
    value = facts.get(key)
    if not isinstance(value, list | tuple) or not value or not all(isinstance(each, str) for each in value):
        raise _missing(key)
    return tuple(value)


def _first_boot(facts: Mapping[str, Any], firmware: str) -> Mapping[str, Any]:
    """The boot under `firmware` at which everything was looked at."""
    boots = facts.get("boots")
    for boot in boots if isinstance(boots, list | tuple) else ():
        if isinstance(boot, Mapping) and boot.get("boot") == firmware:
            return boot
    raise _missing(f"how it boots under {firmware}")


def _same(boots: Sequence[Mapping[str, Any]], key: str) -> str:
    """What every boot says about `key`."""
    said = {_text(boot, key) for boot in boots}
    if len(said) != 1:
        raise EvidenceMissing(f"the boots of the boot test do not agree on {key}")
    return said.pop()


def _passed(boot: Mapping[str, Any], name: str) -> bool:
    checks = boot.get("checks")
    return any(
        isinstance(check, Mapping) and (check.get("name"), check.get("outcome")) == (name, "pass")
        for check in (checks if isinstance(checks, list | tuple) else ())
    )
