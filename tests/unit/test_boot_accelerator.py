"""Hardware virtualisation that fails in the middle of a boot costs time, not the build."""

from pathlib import Path
from types import SimpleNamespace
from typing import Any, cast

import pytest

from imagefactory.errors import AcceleratorBroken
from imagefactory.factory import line as module
from imagefactory.factory.line import Line
from imagefactory.model.evidence import Evidence
from imagefactory.progress import Event, Note
from imagefactory.tools.firmware import Accelerator

KVM = Accelerator("kvm", "a disk boots in it")
DIGEST = "ab" * 32


class Broken:
    """A boot test whose machines fail as long as they run on one of `kinds`. Remembers what it was called with."""

    def __init__(self, *kinds: str) -> None:
        self.kinds = kinds
        self.calls: list[dict[str, Any]] = []

    def __call__(self, image: Path, image_format: str, **options: Any) -> Evidence:  # noqa: ANN401
        self.calls.append({"image": image, "image_format": image_format, **options})
        accelerator: Accelerator = options["accelerator"]
        if accelerator.kind in self.kinds:
            raise AcceleratorBroken(f"bios: {accelerator.kind} failed")
        facts = {"accelerator": {"kind": accelerator.kind, "reason": accelerator.reason}}
        return Evidence("boot", options["about"], "pass", cast("Any", facts))


def boot(boot_test: Broken, tmp_path: Path, said: list[Event]) -> list[Any]:
    """The evidence that a production line of fakes records."""
    recipe = SimpleNamespace(
        name="it",
        disk=SimpleNamespace(firmware=["bios"]),
        tests=SimpleNamespace(boot=SimpleNamespace(memory=1 << 30, timeout=60, expect=(), upgrade=False), guest=()),
    )
    remembered: list[Any] = []
    fakes: dict[str, Any] = {
        "inputs": SimpleNamespace(
            loaded=SimpleNamespace(recipe=recipe), recipe=recipe, measuring=None, boot_key=lambda _: "key"
        ),
        "build": SimpleNamespace(id="1", name="it", version_day=20261101, version_number=1),
        "settings": SimpleNamespace(work=tmp_path, environment={}, build_logs=lambda *_: tmp_path / "logs"),
        "records": SimpleNamespace(remember=lambda *facts: remembered.append(facts[-1])),
        "artifacts": SimpleNamespace(require=lambda digest: tmp_path / digest),
        "trust": None,
        "trust_file": tmp_path,
        "progress": said.append,
        "boot_test": boot_test,
    }
    rootfs = cast("Any", SimpleNamespace(outputs={}))
    Line(**fakes).boot(cast("Any", {"qcow2": SimpleNamespace(outputs={"image": DIGEST})}), rootfs)
    return list(remembered[0]["evidence"])


@pytest.fixture(autouse=True)
def _kvm(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "probe_kvm", lambda _environment: KVM)


def test_kvm_that_works_is_used(tmp_path: Path) -> None:
    said: list[Event] = []
    (proof,) = boot(Broken(), tmp_path, said)
    assert proof["facts"]["accelerator"] == {"kind": "kvm", "reason": KVM.reason}
    assert said == []


def test_kvm_that_fails_in_a_boot_is_replaced_by_software(tmp_path: Path) -> None:
    said: list[Event] = []
    broken = Broken("kvm")
    (proof,) = boot(broken, tmp_path, said)
    assert proof["facts"]["accelerator"] == {"kind": "tcg", "reason": "bios: kvm failed"}
    (note,) = said
    assert isinstance(note, Note)
    assert note.level == "warning"
    assert note.text.startswith("bios: kvm failed")
    first, second = broken.calls
    assert {**first, "accelerator": None, "on_advance": None} == {**second, "accelerator": None, "on_advance": None}


def test_software_that_fails_too_ends_it(tmp_path: Path) -> None:
    broken = Broken("kvm", "tcg")
    with pytest.raises(AcceleratorBroken, match="tcg failed") as caught:
        boot(broken, tmp_path, [])
    assert len(broken.calls) == 2
    assert "tcg" not in caught.value.advice


def test_without_kvm_there_is_nothing_to_fall_back_to(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "probe_kvm", lambda _environment: Accelerator("tcg", "no /dev/kvm"))
    broken = Broken("tcg")
    with pytest.raises(AcceleratorBroken):
        boot(broken, tmp_path, [])
    assert len(broken.calls) == 1
