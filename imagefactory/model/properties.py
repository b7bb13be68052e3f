"""The Glance properties of a release: claims, made from what a build proved and from what its recipe says.

`RULES` says for each property that can be proved where its value comes from, and what a recipe may write instead: more
memory than was proved is no lie, less is one. What is not in RULES is the recipe's own word, of which only the form is
checked. The factory derives the claims and the signer checks them, both with the functions here.
"""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Final, TypeAlias

from imagefactory.errors import Place, PropertyContradicted, PropertyInvalid
from imagefactory.model.evidence import Devices
from imagefactory.model.proof import Proof, foresee
from imagefactory.model.property_forms import build_day, wrong_form
from imagefactory.model.quantity import GIB, shown
from imagefactory.model.recipe import Recipe

Claims: TypeAlias = Mapping[str, str]
Where: TypeAlias = Callable[[str], Place | None]


@dataclass(frozen=True)
class Rule:
    """One property that can be proved.

    `value` is what it is made from, or None where nothing was proved; it also sees the claims of the recipe. `agrees`
    tells whether another value, of a good form, is no lie. `source`, `what` and `instead` say that to people. A
    property `on_demand` is there only where the recipe names it; one that is `late` is known only after a build.
    """

    key: str
    source: str
    what: str
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
        "boot test: memory",
        "the memory that it boots with, in MiB",
        lambda _, proof: str(proof.memory),
        "more",
        lambda text, _, proof: int(text) >= proof.memory,
    ),
    Rule(
        "min_disk",
        "disk: virtual size",
        "in GiB, rounded up",
        lambda _, proof: str(_gibibytes(proof)),
        "more",
        lambda text, _, proof: int(text) >= _gibibytes(proof),
    ),
    Rule("architecture", "boot test: processor", "`x86_64`", lambda _, proof: proof.devices.architecture),
    Rule("cpu_arch", "boot test: processor", "the same", lambda _, proof: proof.devices.architecture),
    Rule(
        "hypervisor_type",
        "boot test: hypervisor",
        "`qemu`, which Nova takes for KVM too",
        lambda _, proof: proof.devices.hypervisor,
        "`kvm`",
        lambda text, _, proof: (text, proof.devices.hypervisor) == ("kvm", "qemu"),
    ),
    Rule(
        "hw_machine_type",
        "boot test: machine",
        "not written unless the recipe does; it boots on `q35`",
        lambda _, proof: proof.devices.machine,
        "`q35`, or a version of it such as `pc-q35-7.2`",
        lambda text, _, proof: text.startswith(f"pc-{proof.devices.machine}-"),
        on_demand=True,
    ),
    Rule(
        "hw_firmware_type",
        "boot test: firmware",
        "`uefi` if it boots under UEFI, or else `bios`",
        _firmware,
        "the other one, if it boots under both",
        lambda text, _, proof: text in proof.firmware,
    ),
    Rule(
        "os_secure_boot",
        "boot test: Secure Boot",
        "`optional` if it boots with Secure Boot enforced and hw_firmware_type is `uefi`",
        _secure_boot,
        "`disabled`; `required` where it would be `optional`",
        lambda text, claims, proof: (
            text == "disabled" or (text == "required" and _secure_boot(claims, proof) is not None)
        ),
    ),
    Rule("hw_disk_bus", "boot test: disk", "`virtio`", lambda _, proof: proof.devices.disk_bus),
    Rule("hw_vif_model", "boot test: network", "`virtio`", lambda _, proof: proof.devices.vif_model),
    Rule(
        "hw_rng_model",
        "boot test: random numbers",
        "`virtio` if the guest sees the device",
        lambda _, proof: proof.devices.rng_model if proof.rng else None,
    ),
    Rule(
        "hw_qemu_guest_agent",
        "boot test: guest agent",
        "`yes` if it answers",
        lambda _, proof: "yes" if proof.agent else None,
        "`no`",
        lambda text, _, __: text == "no",
    ),
    Rule("os_type", "boot test: system", "`linux`", lambda _, __: "linux"),
    Rule("os_distro", "boot test: system", "ID in its os-release", lambda _, proof: proof.distro),
    Rule("os_version", "boot test: system", "VERSION_ID in its os-release", lambda _, proof: proof.version),
    Rule("os_admin_user", "boot test: user", "who gets in with the ssh key", _user, agrees=_unknown_user, late=True),
    Rule("image_original_user", "boot test: user", "the same", _user, agrees=_unknown_user, late=True),
    Rule(
        "image_build_date",
        "build: day",
        "the day on which the build began, in UTC",
        lambda _, proof: proof.built.isoformat() if proof.built else None,
        "an earlier day, or a time (`YYYY-MM-DD hh:mm`), if its patches end there",
        _not_later,
        late=True,
    ),
)
_BY_KEY: Final = {rule.key: rule for rule in RULES}
# Of the recipe, unless its properties say otherwise.
DESCRIPTION, SOURCE = "image_description", "image_source"


def derive(recipe: Recipe, proof: Proof, where: Where = lambda _: None) -> dict[str, str]:
    """The properties of a release of `recipe`: what was proved, and what the recipe says beside it.

    Raises PropertyInvalid, and PropertyContradicted where the recipe says something else than what was proved.
    """
    return derive_from(typed_in(recipe), recipe.os.distro, recipe.os.version, recipe.description, proof, where)


def derive_from(
    typed: Claims, distro: str, version: str, description: str | None, proof: Proof, where: Where = lambda _: None
) -> dict[str, str]:
    """As `derive`, from what a recipe says: its properties as text, its operating system, its description."""
    check_claims({"os_distro": distro, "os_version": version, **typed}, proof, where)
    made = {SOURCE: "private"}  # SCS-0102: it cannot be downloaded freely
    if description := " ".join((description or "").split()):
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
