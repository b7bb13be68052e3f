"""The Glance properties of a release: claims, made from what a build proved and from what its recipe says.

`RULES` says for each property that can be proved where its value comes from, and what a recipe may write instead: more
memory than was proved is no lie, less is one. What is not in RULES is the recipe's own word, of which only the form is
checked. The factory derives the claims and the signer checks them, both with the functions here.
"""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from datetime import date
from typing import Any, Final, TypeAlias

from imagefactory.errors import EvidenceMissing, Place, PropertyContradicted, PropertyInvalid
from imagefactory.model.evidence import Devices, Evidence
from imagefactory.model.property_forms import build_day, wrong_form
from imagefactory.model.quantity import GIB, MIB, shown
from imagefactory.model.recipe import Recipe

Claims: TypeAlias = Mapping[str, str]
Where: TypeAlias = Callable[[str], Place | None]


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


@dataclass(frozen=True)
class Rule:
    """One property that can be proved.

    `value` is what it is made from, or None where nothing was proved; it also sees the claims of the recipe. `agrees`
    tells whether another value, of a good form, is no lie. `source` and `instead` say both to people. A property
    `on_demand` is there only where the recipe names it; one that is `late` is known only after a build.
    """

    key: str
    source: str
    value: Callable[[Claims, Proof], str | None]
    instead: str = ""
    agrees: Callable[[str, Claims, Proof], bool] = lambda _text, _claims, _proof: False
    on_demand: bool = False
    late: bool = False

    def is_true(self, text: str, claims: Claims, proof: Proof) -> bool:
        """Whether the value `text` is what was proved, or no lie beside it."""
        return text == self.value(claims, proof) or self.agrees(text, claims, proof)


@dataclass(frozen=True)
class Claim:
    """One property for people: its value, or None where only a build finds it out, and where that comes from."""

    key: str
    value: str | None
    source: str


def _firmware(_: Claims, proof: Proof) -> str:
    return "uefi" if "uefi" in proof.firmware else "bios"


def _secure_boot(claims: Claims, proof: Proof) -> str | None:
    uefi = claims.get("hw_firmware_type", _firmware(claims, proof)) == "uefi"
    return "optional" if uefi and proof.secure_boot else None


def _gibibytes(proof: Proof) -> int:
    return -(-proof.disk // GIB)


def _user(_: Claims, proof: Proof) -> str | None:
    return proof.user


def _unknown_user(_text: str, _claims: Claims, proof: Proof) -> bool:
    return proof.user is None


def _not_later(text: str, _: Claims, proof: Proof) -> bool:
    day = build_day(text)
    return proof.built is None or (day is not None and day <= proof.built)


RULES: Final = (
    Rule(
        "min_ram",
        "boot test: memory, in MiB",
        lambda _, proof: str(proof.memory),
        "more",
        lambda text, _, proof: int(text) >= proof.memory,
    ),
    Rule(
        "min_disk",
        "disk: virtual size, in GiB, rounded up",
        lambda _, proof: str(_gibibytes(proof)),
        "more",
        lambda text, _, proof: int(text) >= _gibibytes(proof),
    ),
    Rule("architecture", "boot test: processor", lambda _, proof: proof.devices.architecture),
    Rule("cpu_arch", "boot test: processor", lambda _, proof: proof.devices.architecture),
    Rule(
        "hypervisor_type",
        "boot test: hypervisor",
        lambda _, proof: proof.devices.hypervisor,
        "`kvm`, which is QEMU too",
        lambda text, _, proof: (text, proof.devices.hypervisor) == ("kvm", "qemu"),
    ),
    Rule(
        "hw_machine_type",
        "boot test: machine; only where the recipe names it",
        lambda _, proof: proof.devices.machine,
        "a version of it, such as `pc-q35-7.2`",
        lambda text, _, proof: text.startswith(f"pc-{proof.devices.machine}-"),
        on_demand=True,
    ),
    Rule(
        "hw_firmware_type",
        "boot test: `uefi` where it boots under UEFI, or else `bios`",
        _firmware,
        "the other one, if it boots under both",
        lambda text, _, proof: text in proof.firmware,
    ),
    Rule(
        "os_secure_boot",
        "boot test: `optional` where hw_firmware_type is `uefi` and Secure Boot was enforced",
        _secure_boot,
        "`required` where it would be `optional`; `disabled`",
        lambda text, claims, proof: (
            text == "disabled" or (text == "required" and _secure_boot(claims, proof) is not None)
        ),
    ),
    Rule("hw_disk_bus", "boot test: disk", lambda _, proof: proof.devices.disk_bus),
    Rule("hw_vif_model", "boot test: network", lambda _, proof: proof.devices.vif_model),
    Rule(
        "hw_rng_model",
        "boot test: random number generator, where the guest saw it",
        lambda _, proof: proof.devices.rng_model if proof.rng else None,
    ),
    Rule(
        "hw_qemu_guest_agent",
        "boot test: `yes` where the guest agent answers",
        lambda _, proof: "yes" if proof.agent else None,
        "`no`",
        lambda text, _, __: text == "no",
    ),
    Rule("os_type", "boot test: what is booted", lambda _, __: "linux"),
    Rule("os_distro", "boot test: os-release", lambda _, proof: proof.distro),
    Rule("os_version", "boot test: os-release", lambda _, proof: proof.version),
    Rule("os_admin_user", "boot test: who logs in by key", _user, agrees=_unknown_user, late=True),
    Rule("image_original_user", "boot test: who logs in by key", _user, agrees=_unknown_user, late=True),
    Rule(
        "image_build_date",
        "build: the day in UTC on which it began",
        lambda _, proof: proof.built.isoformat() if proof.built else None,
        "an earlier day or time, if patches end there",
        _not_later,
        late=True,
    ),
)
_BY_KEY: Final = {rule.key: rule for rule in RULES}
# Of the recipe, unless its properties say otherwise.
DESCRIPTION, SOURCE = "image_description", "image_source"


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
    devices = Devices(**{name: _text(machine, name) for name in Devices.__dataclass_fields__})
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


def derive(recipe: Recipe, proof: Proof, where: Where = lambda _: None) -> dict[str, str]:
    """The properties of a release of `recipe`: what was proved, and what the recipe says beside it.

    Raises PropertyInvalid, and PropertyContradicted where the recipe says something else than what was proved.
    """
    typed = typed_in(recipe)
    check_claims({"os_distro": recipe.os.distro, "os_version": recipe.os.version, **typed}, proof, where)
    made = {SOURCE: "private"}  # SCS-0102: it cannot be downloaded freely
    if description := " ".join((recipe.description or "").split()):
        made[DESCRIPTION] = description
    for rule in RULES:
        value = rule.value(typed, proof)
        if value is not None and not rule.on_demand:
            made[rule.key] = value
    return dict(sorted({**made, **typed}.items()))


def check_claims(claims: Claims, proof: Proof, where: Where = lambda _: None) -> None:
    """See that no claim has a wrong form or is a lie; `where` is the place at which the claim of a key was written.

    Raises PropertyInvalid, PropertyContradicted: the first of them, and the others as its lines.
    """
    check_forms(claims, where)
    lies = [
        (key, f"{key}: {shown(text)} is claimed, and {_proved(rule, claims, proof)} ({rule.source})")
        for key, text in claims.items()
        if (rule := _BY_KEY.get(key)) is not None and not rule.is_true(text, claims, proof)
    ]
    if lies:
        (key, text), *others = lies
        raise PropertyContradicted(text, at=where(key), lines=tuple(line for _, line in others))


def check_forms(claims: Claims, where: Where = lambda _: None) -> None:
    """See that every value that has a form keeps to it. Raises PropertyInvalid: the first, others as its lines."""
    wrong = [
        (key, f"properties.{key}: should be {what}, not {shown(text)}")
        for key, text in claims.items()
        if (what := wrong_form(key, text)) is not None
    ]
    if wrong:
        (key, text), *others = wrong
        raise PropertyInvalid(text, at=where(key), lines=tuple(line for _, line in others))


def explain(recipe: Recipe, devices: Devices) -> tuple[Claim, ...]:
    """Every property that a release of `recipe` will have, sorted by key. Raises as `derive`."""
    proof = foresee(recipe, devices)
    made: dict[str, str | None] = {**derive(recipe, proof)}
    for rule in RULES:
        if rule.late:
            made.setdefault(rule.key, None)
    return tuple(Claim(key, made[key], _source(key, recipe)) for key in sorted(made))


def explain_signed(claims: Claims) -> tuple[Claim, ...]:
    """The properties of a release, sorted by key."""
    return tuple(Claim(key, claims[key], _source(key, None)) for key in sorted(claims))


def typed_in(recipe: Recipe) -> dict[str, str]:
    """The properties that the recipe has typed in, as text."""
    return {key: str(value) for key, value in recipe.properties.items()}


def _source(key: str, recipe: Recipe | None) -> str:
    if recipe is not None and key in recipe.properties:
        return "recipe: properties"
    if key in _BY_KEY:
        return _BY_KEY[key].source
    if recipe is None:
        return "recipe"
    return "recipe: description" if key == DESCRIPTION else "default"


def _proved(rule: Rule, claims: Claims, proof: Proof) -> str:
    value = rule.value(claims, proof)
    return "nothing of the kind is proved" if value is None else f"{shown(value)} is proved"


# -- reading evidence -------------------------------------------------------------------------------------------------


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
