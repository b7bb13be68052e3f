"""Claims about an image: what they are made from, what a recipe may say beside it, and that no lie gets through."""

from collections.abc import Mapping
from dataclasses import asdict, replace
from datetime import date, timedelta
from pathlib import Path
from typing import Any

import pytest
from hypothesis import assume, given
from hypothesis import strategies as st

from imagefactory.errors import EvidenceMissing, Place, PropertyContradicted, PropertyInvalid
from imagefactory.model.evidence import Evidence
from imagefactory.model.proof import Proof, foresee, prove
from imagefactory.model.properties import RULES, check_claims, derive, explain, explain_signed
from imagefactory.model.property_forms import FORMS, build_day, day_of, wrong_form
from imagefactory.model.quantity import GIB, MIB, TIB
from imagefactory.model.recipe import Recipe
from imagefactory.model.recipe_fields import MAX_TYPED
from imagefactory.tools.machine import DEVICES
from signing.properties import MAX_PROPERTIES, read_properties
from tests.fakes.boots import facts

ABOUT = "sha256:" + "ab" * 32
BUILT = date(2025, 11, 21)
BOTH = ("bios", "uefi")
PROOF = Proof(512, 3 * GIB, BOTH, True, True, True, DEVICES, "debian", "12", "debian", BUILT)


def recipe(properties: Mapping[str, str | int] | None = None, **fields: Any) -> Recipe:  # noqa: ANN401 - of any field
    minimal = {
        "name": "tiny",
        "os": {"distro": "debian", "version": "12"},
        "elements": ["soe-base"],
        "disk": {"size": "3 GiB"},
        "formats": {"qcow2": {}},
        "tests": {"boot": {"memory": "512 MiB"}},
    }
    return Recipe.model_validate({**minimal, **fields, "properties": dict(properties or {})})


def evidence(**changes: Any) -> list[Evidence]:  # noqa: ANN401 - of any JSON
    """A boot test under both kinds of firmware, some of its facts changed."""
    return [Evidence("boot", ABOUT, "pass", {**facts(BOTH, 512), **changes})]


def second_boot_says(**said: Any) -> list[Any]:  # noqa: ANN401 - of any JSON
    """The boots of a boot test of which only the second says something else."""
    boots: Any = facts(BOTH, 512)["boots"]
    return [boots[0], {**boots[1], **said}]


# -- from evidence to proof -------------------------------------------------------------------------------------------


def test_what_a_boot_test_proves() -> None:
    assert prove(evidence(), virtual_size=3 * GIB, built=BUILT) == PROOF


def test_what_it_does_not_prove() -> None:
    silent = Evidence("boot", ABOUT, "pass", facts(["bios"], 512, rng="", checks=[]))
    found = prove([silent], virtual_size=GIB, built=BUILT)
    assert (found.agent, found.rng, found.secure_boot, found.firmware) == (False, False, False, ("bios",))
    made = derive(recipe(), found)
    assert not {"hw_rng_model", "hw_qemu_guest_agent", "os_secure_boot"} & set(made)
    assert made["hw_firmware_type"] == "bios"


def test_what_one_boot_does_not_show_is_not_proved() -> None:
    boots = second_boot_says(rng="", checks=[{"name": "guest-agent", "outcome": "fail"}])
    found = prove(evidence(boots=boots), virtual_size=GIB, built=BUILT)
    assert (found.agent, found.rng) == (False, False)


BAD_FACTS: dict[str, tuple[dict[str, Any], str]] = {
    "no memory": ({"memory_mib": None}, "memory_mib"),
    "true memory": ({"memory_mib": True}, "memory_mib"),
    "no memory at all": ({"memory_mib": 0}, "memory_mib"),
    "no firmware": ({"firmware": []}, "firmware"),
    "firmware a text": ({"firmware": "bios"}, "firmware"),
    "firmware numbers": ({"firmware": [1]}, "firmware"),
    "no boots": ({"boots": []}, "how it boots under bios"),
    "boots a number": ({"boots": 3}, "how it boots under bios"),
    "boots of texts": ({"boots": ["bios"]}, "how it boots under bios"),
    "another firmware": ({"firmware": ["bios", "uefi", "openfirmware"]}, "how it boots under openfirmware"),
    "no machine": ({"machine": None}, "machine"),
    "half a machine": ({"machine": {**asdict(DEVICES), "rng_model": ""}}, "rng_model"),
    "nobody": ({"boots": second_boot_says(user="")}, "user"),
    "two users": ({"boots": second_boot_says(user="root")}, "do not agree on user"),
    "two systems": ({"boots": second_boot_says(os="debian 13")}, "do not agree on os"),
}


@pytest.mark.parametrize(("changes", "text"), BAD_FACTS.values(), ids=BAD_FACTS)
def test_evidence_that_says_too_little(changes: dict[str, Any], text: str) -> None:
    with pytest.raises(EvidenceMissing, match=text):
        prove(evidence(**changes), virtual_size=GIB, built=BUILT)


def test_there_is_one_boot_test() -> None:
    for pieces in ([], evidence() * 2, [Evidence("same-disk", ABOUT, "pass", facts(BOTH, 512))]):
        with pytest.raises(EvidenceMissing, match="proved by one boot test"):
            prove(pieces, virtual_size=GIB, built=BUILT)


JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.text(max_size=5),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=5), inner, max_size=3),
    max_leaves=5,
)


@given(st.sampled_from(sorted(facts(BOTH, 512))), JSON)
def test_any_evidence_is_read_or_refused(key: str, junk: Any) -> None:  # noqa: ANN401 - of any JSON
    try:
        prove(evidence(**{key: junk}), virtual_size=GIB, built=BUILT)
    except EvidenceMissing:
        return


# -- from proof to claims ---------------------------------------------------------------------------------------------


def test_everything_that_is_proved_is_claimed() -> None:
    assert derive(recipe(), PROOF) == {
        "architecture": "x86_64",
        "cpu_arch": "x86_64",
        "hw_disk_bus": "virtio",
        "hw_firmware_type": "uefi",
        "hw_qemu_guest_agent": "yes",
        "hw_rng_model": "virtio",
        "hw_vif_model": "virtio",
        "hypervisor_type": "qemu",
        "image_build_date": "2025-11-21",
        "image_original_user": "debian",
        "image_source": "private",
        "min_disk": "3",
        "min_ram": "512",
        "os_admin_user": "debian",
        "os_distro": "debian",
        "os_secure_boot": "optional",
        "os_type": "linux",
        "os_version": "12",
    }


@pytest.mark.parametrize(("size", "min_disk"), [(512 * MIB, "1"), (GIB, "1"), (GIB + 1, "2"), (2 * TIB, "2048")])
def test_a_disk_is_rounded_up(size: int, min_disk: str) -> None:
    assert derive(recipe(), replace(PROOF, disk=size))["min_disk"] == min_disk


def test_the_description_is_one_line() -> None:
    assert derive(recipe(description="Two\n\tlines\u2028here. "), PROOF)["image_description"] == "Two lines here."
    assert "image_description" not in derive(recipe(description=" \n"), PROOF)


# What a recipe says, and what comes of it.
TRUE: dict[str, dict[str, str | int]] = {
    "more memory": {"min_ram": 1024},
    "as much memory": {"min_ram": "512"},
    "a larger disk": {"min_disk": 20},
    "kvm": {"hypervisor_type": "kvm"},
    "the other firmware": {"hw_firmware_type": "bios"},
    "secure boot": {"os_secure_boot": "required", "hw_firmware_type": "uefi"},
    "no secure boot": {"os_secure_boot": "disabled", "hw_firmware_type": "bios"},
    "no agent": {"hw_qemu_guest_agent": "no"},
    "the machine": {"hw_machine_type": "q35"},
    "a version of the machine": {"hw_machine_type": "pc-q35-7.2"},
    "an earlier day": {"image_build_date": "2025-11-20 23:59"},
    "its own source": {"image_source": "https://images.example/debian-12.qcow2"},
    "its own description": {"image_description": "https://images.example/notes"},
    "its own word": {"hw_video_model": "qxl", "trait:HW_CPU_X86_AVX2": "required", "hotfix_hours": 48},
}


@pytest.mark.parametrize("typed", TRUE.values(), ids=TRUE)
def test_what_no_evidence_speaks_against_is_believed(typed: dict[str, str | int]) -> None:
    made = derive(recipe(typed), PROOF)
    assert {key: made[key] for key in typed} == {key: str(value) for key, value in typed.items()}


def test_bios_says_nothing_about_secure_boot() -> None:
    assert "os_secure_boot" not in derive(recipe({"hw_firmware_type": "bios"}), PROOF)


BIOS = replace(PROOF, firmware=("bios",), secure_boot=False)
FALSE: dict[str, tuple[dict[str, str | int], Proof, str]] = {
    "less memory": ({"min_ram": 511}, PROOF, "min_ram: '511' is claimed, and '512' is proved (boot test: memory)"),
    "a smaller disk": ({"min_disk": 2}, PROOF, "'3' is proved (disk: virtual size)"),
    "Debian's word": ({"architecture": "amd64"}, PROOF, "'x86_64' is proved"),
    "another processor": ({"cpu_arch": "aarch64"}, PROOF, "'x86_64' is proved"),
    "another hypervisor": ({"hypervisor_type": "vmware"}, PROOF, "'qemu' is proved"),
    "another machine": ({"hw_machine_type": "pc"}, PROOF, "'q35' is proved"),
    "untested firmware": ({"hw_firmware_type": "uefi"}, BIOS, "'bios' is proved"),
    "untested secure boot": ({"os_secure_boot": "required"}, BIOS, "nothing of the kind is proved"),
    "no secure boot": ({"os_secure_boot": "required"}, replace(PROOF, secure_boot=False), "nothing of the kind"),
    "secure boot by BIOS": ({"os_secure_boot": "required", "hw_firmware_type": "bios"}, PROOF, "nothing of the kind"),
    "optional by BIOS": ({"os_secure_boot": "optional", "hw_firmware_type": "bios"}, PROOF, "nothing of the kind"),
    "another bus": ({"hw_disk_bus": "ide"}, PROOF, "'virtio' is proved"),
    "another network": ({"hw_vif_model": "e1000"}, PROOF, "'virtio' is proved"),
    "no random numbers": ({"hw_rng_model": "virtio"}, replace(PROOF, rng=False), "nothing of the kind is proved"),
    "no agent": ({"hw_qemu_guest_agent": "yes"}, replace(PROOF, agent=False), "nothing of the kind is proved"),
    "another kernel": ({"os_type": "windows"}, PROOF, "'linux' is proved"),
    "another system": ({"os_distro": "ubuntu"}, PROOF, "'debian' is proved"),
    "another version": ({"os_version": "12.1"}, PROOF, "'12' is proved"),
    "os is a claim too": ({}, replace(PROOF, version="13"), "os_version: '12' is claimed, and '13' is proved"),
    "another user": ({"os_admin_user": "root"}, PROOF, "'debian' is proved"),
    "nobody": ({"image_original_user": "none"}, PROOF, "'debian' is proved"),
    "tomorrow": ({"image_build_date": "2025-11-22"}, PROOF, "'2025-11-21' is proved"),
}


@pytest.mark.parametrize(("typed", "proof", "text"), FALSE.values(), ids=FALSE)
def test_lies_are_refused(typed: dict[str, str | int], proof: Proof, text: str) -> None:
    with pytest.raises(PropertyContradicted) as refused:
        derive(recipe(typed), proof)
    assert text in refused.value.message
    assert refused.value.exit_code == 1


def test_a_refusal_has_its_place_and_all_the_others() -> None:
    typed = recipe({"hw_disk_bus": "ide", "min_ram": 1, "os_purpose": "generic"})
    with pytest.raises(PropertyContradicted) as refused:
        derive(typed, PROOF, {"hw_disk_bus": Place(Path("r.yaml"), 7, 3)}.get)
    assert refused.value.message.startswith("r.yaml:7:3: hw_disk_bus: 'ide'")
    assert [line.partition(":")[0] for line in refused.value.lines] == ["min_ram"]


def test_every_rule_knows_a_lie() -> None:
    assert {rule.key for rule in RULES} == {key for typed, _, _ in FALSE.values() for key in typed}


# -- whatever is typed in ---------------------------------------------------------------------------------------------

PROOFS = st.builds(
    Proof,
    memory=st.integers(128, 1 << 20),
    disk=st.integers(1, 2 * TIB),
    firmware=st.sampled_from([("bios",), ("uefi",), BOTH]),
    secure_boot=st.booleans(),
    agent=st.booleans(),
    rng=st.booleans(),
    devices=st.just(DEVICES),
    distro=st.just("debian"),
    version=st.sampled_from(["12", "13"]),
    user=st.sampled_from(["debian", "admin"]),
    built=st.dates(date(2025, 1, 1), date(2026, 1, 1)),
)
WORDS: dict[str, st.SearchStrategy[str]] = {
    "min_ram": st.integers(0, 1 << 20).map(str),
    "min_disk": st.integers(0, 2048).map(str),
    "architecture": st.sampled_from(["x86_64", "aarch64"]),
    "cpu_arch": st.sampled_from(["x86_64", "amd64"]),
    "hypervisor_type": st.sampled_from(["qemu", "kvm", "xen"]),
    "hw_machine_type": st.sampled_from(["q35", "pc-q35-7.2", "pc"]),
    "hw_firmware_type": st.sampled_from(["bios", "uefi"]),
    "os_secure_boot": st.sampled_from(["required", "optional", "disabled"]),
    "hw_disk_bus": st.sampled_from(["virtio", "scsi"]),
    "hw_vif_model": st.sampled_from(["virtio", "e1000"]),
    "hw_rng_model": st.sampled_from(["virtio", "none"]),
    "hw_qemu_guest_agent": st.sampled_from(["yes", "no"]),
    "os_type": st.sampled_from(["linux", "windows"]),
    "os_distro": st.sampled_from(["debian", "ubuntu"]),
    "os_version": st.sampled_from(["12", "13"]),
    "os_admin_user": st.sampled_from(["debian", "root"]),
    "image_original_user": st.sampled_from(["debian", "none"]),
    "image_build_date": st.dates(date(2025, 1, 1), date(2026, 1, 1)).map(str),
    "os_purpose": st.just("generic"),
    "image_source": st.just("http://images.example/"),
}
TYPED = st.fixed_dictionaries({}, optional=WORDS)


def truths(proof: Proof) -> dict[str, list[str]]:
    """What each property may say, written down again without the rules."""
    uefi = "uefi" in proof.firmware
    assert proof.built is not None
    assert proof.user is not None
    return {
        "architecture": ["x86_64"],
        "cpu_arch": ["x86_64"],
        "hypervisor_type": ["qemu", "kvm"],
        "hw_machine_type": ["q35", "pc-q35-7.2"],
        "hw_firmware_type": list(proof.firmware),
        "os_secure_boot": ["disabled", *(["optional", "required"] if uefi and proof.secure_boot else [])],
        "hw_disk_bus": ["virtio"],
        "hw_vif_model": ["virtio"],
        "hw_rng_model": ["virtio"] if proof.rng else [],
        "hw_qemu_guest_agent": ["no", *(["yes"] if proof.agent else [])],
        "os_type": ["linux"],
        "os_distro": [proof.distro],
        "os_version": [proof.version],
        "os_admin_user": [proof.user],
        "image_original_user": [proof.user],
    }


def is_lie(key: str, text: str, proof: Proof) -> bool:
    """Whether no reading makes this true; Secure Boot may be a lie beside another firmware, too."""
    if key == "min_ram":
        return int(text) < proof.memory
    if key == "min_disk":
        return int(text) * GIB < proof.disk
    if key == "image_build_date":
        return proof.built is not None and text > proof.built.isoformat()
    return text not in truths(proof).get(key, [text])


@given(TYPED, PROOFS)
def test_what_is_derived_is_never_refused_and_no_lie_gets_through(typed: dict[str, str], proof: Proof) -> None:
    try:
        made = derive(recipe(typed), proof)
    except PropertyContradicted:
        secure = typed.get("os_secure_boot", "disabled") != "disabled" and typed.get("hw_firmware_type") == "bios"
        lies = {key for key, text in typed.items() if is_lie(key, text, proof)}
        assert lies or secure or proof.version != "12"
        return
    check_claims(made, proof)
    assert read_properties(made) == made
    assert not any(is_lie(key, text, proof) for key, text in made.items())
    assert typed.items() <= made.items()


@given(TYPED, PROOFS, st.data())
def test_one_lie_more_is_refused(typed: dict[str, str], proof: Proof, data: st.DataObject) -> None:
    key = data.draw(st.sampled_from(sorted({rule.key for rule in RULES})))
    text = data.draw(WORDS[key])
    assume(is_lie(key, text, proof))
    with pytest.raises(PropertyContradicted):
        check_claims({**typed, key: text}, proof)


def test_a_recipe_full_of_properties_still_fits_into_a_manifest() -> None:
    assert len(derive(recipe(description="x"), PROOF)) + MAX_TYPED <= MAX_PROPERTIES


# -- before a build ---------------------------------------------------------------------------------------------------


def test_before_a_build_nobody_knows_users_and_days() -> None:
    proof = foresee(recipe(), DEVICES)
    late = {"os_admin_user": "root", "image_original_user": "root", "image_build_date": "2999-01-01"}
    assert late.items() <= derive(recipe(late), proof).items()
    assert not set(late) & set(derive(recipe(), proof))


@pytest.mark.parametrize(
    ("properties", "fields"),
    [
        ({"hw_firmware_type": "uefi"}, {"disk": {"size": "3 GiB", "firmware": ["bios"]}}),
        ({"os_secure_boot": "required"}, {"disk": {"size": "3 GiB", "firmware": ["bios"]}}),
        ({"min_ram": 512}, {"tests": {"boot": {"memory": "513 MiB"}}}),
        ({"min_disk": 2}, {}),
        ({"os_version": "13"}, {}),
        ({"hw_disk_bus": "scsi"}, {}),
    ],
)
def test_what_the_recipe_itself_contradicts(properties: dict[str, str | int], fields: dict[str, Any]) -> None:
    found = recipe(properties, **fields)
    with pytest.raises(PropertyContradicted, match=next(iter(properties))):
        derive(found, foresee(found, DEVICES))


def test_where_each_property_comes_from() -> None:
    said = recipe({"os_purpose": "generic", "min_ram": 1024}, description="A description")
    claims = {claim.key: (claim.value, claim.source) for claim in explain(said, DEVICES)}
    assert claims["min_ram"] == ("1024", "recipe: properties")
    assert claims["min_disk"] == ("3", "disk: virtual size")
    assert claims["os_purpose"] == ("generic", "recipe: properties")
    assert claims["image_description"] == ("A description", "recipe: description")
    assert claims["image_source"] == ("private", "default")
    assert claims["image_build_date"] == (None, "build: day")
    assert claims["os_admin_user"] == (None, "boot test: user")
    assert "hw_machine_type" not in claims
    assert list(claims) == sorted(claims)
    signed = {claim.key: claim.source for claim in explain_signed(derive(said, PROOF))}
    assert signed["min_disk"] == "disk: virtual size"
    assert signed["os_purpose"] == "recipe"


# -- forms ------------------------------------------------------------------------------------------------------------

GOOD = {
    "min_ram": ["0", "1", "65536"],
    "hw_firmware_type": ["bios", "uefi"],
    "os_secure_boot": ["required", "optional", "disabled"],
    "hw_qemu_guest_agent": ["yes", "no"],
    "os_purpose": ["generic", "minimal", "k8snode", "gpu", "network", "custom"],
    "replace_frequency": ["yearly", "quarterly", "monthly", "weekly", "daily", "critical_bug", "never"],
    "uuid_validity": ["none", "last-1", "last-12", "2026-02-28", "notice", "forever"],
    "provided_until": ["none", "2028-02-29", "notice"],
    "hotfix_hours": ["0", "48"],
    "image_source": ["private", "https://images.example/a.qcow2", "ftp://x/y"],
    "image_build_date": ["2025-11-21", "2025-11-21 19:00", "2025-11-21 19:00:59"],
    "maintained_until": ["2028-06-30"],
    "license_included": ["true", "false", "True"],
}
BAD = {
    "min_ram": ["", "-1", "01", "512 MiB", "1.5", "\u0661", "9999999999"],
    "min_disk": ["2 GiB", "1e3"],
    "hw_firmware_type": ["UEFI", "efi", ""],
    "os_secure_boot": ["true", "yes"],
    "hw_qemu_guest_agent": ["true", "maybe"],
    "os_purpose": ["general", ""],
    "replace_frequency": ["hourly", "Monthly", ""],
    "uuid_validity": ["last", "last-0", "last-n", "2026-02-29", "until 2027", "20260228"],
    "provided_until": ["forever", "last-3", "2026-13-01", "2026-1-1", "2026-01-01 ", "tomorrow"],
    "hotfix_hours": ["-1", "two", "1.5"],
    "image_source": ["Private", "images.example", "https://", "file:///a", "https:// x"],
    "image_build_date": [
        "2025-11-21T19:00:00Z",
        "2025-11-21 19",
        "21.11.2025",
        "2025-1-1",
        "2025-02-30",
        "2025-11-21 7:00",
    ],
    "maintained_until": ["none", "2028"],
    "license_required": ["yes", "1"],
}


@pytest.mark.parametrize(("key", "text"), [(key, text) for key, texts in GOOD.items() for text in texts])
def test_good_forms(key: str, text: str) -> None:
    assert wrong_form(key, text) is None


@pytest.mark.parametrize(("key", "text"), [(key, text) for key, texts in BAD.items() for text in texts])
def test_bad_forms(key: str, text: str) -> None:
    assert wrong_form(key, text) == FORMS[key].what
    with pytest.raises(PropertyInvalid, match=f"properties.{key}: should be ") as refused:
        check_claims({key: text}, PROOF)
    assert refused.value.exit_code == 2


def test_other_properties_have_no_form() -> None:
    assert wrong_form("hw_video_model", "anything") is None


@given(st.text(max_size=20))
def test_no_text_breaks_a_form(text: str) -> None:
    for key in FORMS:
        wrong_form(key, text)


@given(st.dates(date(1000, 1, 1)))
def test_days(day: date) -> None:
    assert day_of(str(day)) == build_day(str(day)) == day
    assert build_day(f"{day} 00:00") == day
    assert day_of(f"{day}T") is None


def test_a_promise_of_many_years() -> None:
    assert day_of(str(BUILT + timedelta(days=36500))) == BUILT + timedelta(days=36500)
