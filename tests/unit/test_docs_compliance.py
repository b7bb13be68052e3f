"""docs/reference/compliance.md: how it is made from releases, and that the one that is there is not stale."""

import json
import re
from collections.abc import Iterator, Mapping
from dataclasses import replace
from datetime import date, datetime, timedelta
from hashlib import sha256
from pathlib import Path
from typing import Any

import pytest

from docs.make_compliance import PAGE, Subject, main, page, read
from imagefactory.errors import EvidenceMissing, NotMeasured, ReleaseUnknown
from imagefactory.factory.loop import Factory
from imagefactory.model import plan
from imagefactory.model.build import BuildState
from imagefactory.model.compliance import Measurement, RuleException, RuleResult, Scan, Standard
from imagefactory.model.evidence import JSON, Evidence
from imagefactory.settings import read_settings
from imagefactory.store import records as module
from imagefactory.store.records import build_version
from imagefactory.tools.recipe_file import load_recipe
from imagefactory.wiring import factory
from signing.envelope import seal
from signing.errors import NameMismatch
from signing.manifest import MANIFEST_FILE, EvidenceEntry, Version
from tests.doc_pages import ROOT
from tests.unit.signing.builders import NOW, Keys, make_keys, make_manifest

NAME, PLAIN = "soe", "plain"
ROOTFS, REPORT = "sha256:" + "a" * 64, "sha256:" + "b" * 64
STANDARD = Standard("strict", "Strict | firm", "DEBIAN-12", "c" * 64, "0.1", "1.3")
RULES = (
    RuleResult("grub2_password", "fail", "high", "A password"),
    RuleResult("mount_option_home_nodev", "fail", "medium", "nodev", "guest"),
    RuleResult("no_telnet", "fail", "low", "No telnet"),
    RuleResult("partition_for_home", "fail", "low", "A file system", "guest"),
    RuleResult("sshd", "pass", "high", "Keys only"),
    RuleResult("umask", "pass", "high", "Own files"),
    RuleResult("x11", "notapplicable", "low", "No X11"),
)
EXCEPTIONS = (
    RuleException("partition_for_home", "one file\nsystem | small disk", "SOE team", date(2027, 11, 30)),
    RuleException("grub2_password", "the same for everybody", "SOE team", date(2027, 6, 30)),
)
NEEDLESS = (RuleException("sshd", "was wrong once", "SOE team", date(2027, 1, 31)),)
MEASURED = Measurement(Scan(STANDARD, RULES), 30, EXCEPTIONS, NEEDLESS, ROOTFS, REPORT)
QCOW2 = {"format": "qcow2", "size": 100 << 20, "virtual_size": 3 << 30}


@pytest.fixture(scope="module")
def keys(tmp_path_factory: pytest.TempPathFactory) -> Keys:
    return make_keys(tmp_path_factory.mktemp("keys"))


@pytest.fixture
def made(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Factory]:
    """A factory whose clock goes on by ten seconds at each look."""
    times = (datetime(2025, 11, 21) + timedelta(seconds=10 * at) for at in range(1000))
    monkeypatch.setattr(module, "utc_now", lambda: next(times))
    monkeypatch.setattr(module, "database_now", lambda _: next(times))
    with factory(read_settings({"HOME": str(tmp_path), "PATH": ""})) as found:
        yield found


def booted(image: str, seconds: float = 40.0, measured: str | None = "274 rules, 41 s") -> Evidence:
    def boot(name: str, *checks: Mapping[str, JSON]) -> JSON:
        return {"boot": name, "checks": list(checks), "seconds": {"login": seconds / 2, "settled": seconds, "off": 99}}

    said = [{"name": "measured", "outcome": "pass", "detail": measured}] if measured else []
    facts: Mapping[str, JSON] = {
        "accelerator": {"kind": "tcg", "reason": "no KVM"},
        "cpus": 2,
        "memory_mib": 1024,
        "boots": [boot("bios"), boot("bios-again", *said)],
    }
    return Evidence("boot", f"sha256:{image}", "pass", facts)


def release(
    made: Factory,
    keys: Keys,
    name: str = NAME,
    *,
    measurement: Measurement | None = MEASURED,
    signed: Evidence | None = None,
    signed_version: str | None = None,
    **boot: Any,  # noqa: ANN401 - as of `booted`
) -> None:
    """Build and sign as a factory does. `signed` is evidence that was signed instead of what is in the records."""
    build = made.records.reserve(name, Path("/r.yaml"), "0" * 64, made.settings.logs)
    made.records.move_build(build, BuildState.RUNNING)
    made.records.remember(f"{name} sbom", plan.SBOM, name, {}, {})
    if measurement:
        outputs = {"report": REPORT.removeprefix("sha256:")}
        made.records.remember(f"{name} compliance", plan.COMPLIANCE, name, outputs, {})
    image = sha256(name.encode()).hexdigest()
    evidence = [booted(image, **boot)]
    evidence += [Evidence("compliance", f"sha256:{image}", "pass", measurement.facts())] if measurement else []
    entries = [EvidenceEntry(each.kind, image, (signed or each).digest, "pass") for each in evidence]
    version = Version.parse(signed_version or str(build_version(build)))
    template = make_manifest(keys)
    manifest = replace(
        template,
        name=name,
        version=version,
        formats={kind: replace(each, file=f"{name}-{version}.{kind}") for kind, each in template.formats.items()},
        evidence=tuple(entries),
    )
    raw = seal(manifest.to_statement(), keys.signer("release"))
    digest = sha256(raw).hexdigest()
    (made.settings.work / "made").write_bytes(raw)
    made.artifacts.adopt(made.settings.work / "made", digest)
    made.records.add_release(
        build,
        content_digest="0" * 64,
        files={MANIFEST_FILE: digest},
        images={"raw": {**QCOW2, "sha256": "f" * 64, "size": 5}, "qcow2": {**QCOW2, "sha256": image}},
        evidence=json.loads(json.dumps({each.kind: [each.to_json()] for each in evidence})),
    )


def rows(text: str, title: str) -> list[list[str]]:
    """The rows of every table of a section, without their heads."""
    section = text.partition(f"\n## {title}\n")[2].partition("\n## ")[0]
    lines = [line for line in section.splitlines() if line.startswith("| ") and not line.startswith("| rule ")]
    return [[cell.strip() for cell in re.split(r"(?<!\\)\|", line)[1:-1]] for line in lines]


def test_what_a_release_says(made: Factory, keys: Keys) -> None:
    release(made, keys)
    said = read(made, keys.trust, NAME, NOW)
    assert (said.release, said.size, said.machine) == (f"{NAME}@20251121.1", 100 << 20, "tcg, 2 processors, 1024 MiB")
    assert said.boots["bios"] == {"login": 20.0, "settled": 40.0, "off": 99}
    assert said.measurement == MEASURED
    # One look at the clock before the measurement was kept.
    assert (said.files_seconds, said.guest_seconds) == (10.0, 41.0)


def test_what_is_not_known_of_the_measurement(made: Factory, keys: Keys) -> None:
    """A later build takes up what an earlier one had done; and nothing was asked of the guest."""
    first = made.records.reserve(NAME, Path("/r.yaml"), "0" * 64, made.settings.logs)
    made.records.remember(f"{NAME} sbom", plan.SBOM, NAME, {}, {})
    for state in (BuildState.RUNNING, BuildState.FAILED):
        made.records.move_build(first, state)
    made.records.remember(f"{NAME} compliance", plan.COMPLIANCE, NAME, {"report": REPORT.removeprefix("sha256:")}, {})
    kept = made.records.results()
    release(made, keys, measured=None)
    for each in kept:  # as they were before the release
        made.records.forget_result(each.key)
    said = read(made, keys.trust, NAME, NOW)
    assert (said.files_seconds, said.guest_seconds) == (None, None)
    text = page([said], said)
    assert [row[1] for row in rows(text, f"What it costs: {NAME}") if "measuring" in row[0]] == ["not known"] * 2
    assert "both measurements" not in text


def test_only_what_was_signed_is_believed(made: Factory, keys: Keys) -> None:
    for number, wrong in enumerate(({"signed": booted("e" * 64)}, {"signed_version": "20251120.7"})):
        name = f"wrong-{number}"
        release(made, keys, name, **wrong)  # type: ignore[arg-type]
        with pytest.raises(EvidenceMissing, match=r"not what was signed|another version's"):
            read(made, keys.trust, name, NOW)
    release(made, keys, "other")
    release(made, keys, "taken")
    theirs, ours = (made.records.releases(name)[0] for name in ("other", "taken"))
    text = made.artifacts.path(theirs.files[MANIFEST_FILE]).read_bytes()
    made.artifacts.path(ours.files[MANIFEST_FILE]).unlink()
    made.artifacts.path(ours.files[MANIFEST_FILE]).write_bytes(text)
    with pytest.raises(NameMismatch):
        read(made, keys.trust, "taken", NOW)
    with pytest.raises(ReleaseUnknown):
        read(made, keys.trust, "nothing", NOW)


def test_the_page(made: Factory, keys: Keys) -> None:
    release(made, keys, seconds=50.0)
    release(made, keys, PLAIN, measurement=None, measured=None)
    text = page([read(made, keys.trust, NAME, NOW)], read(made, keys.trust, PLAIN, NOW))
    (scores,) = [row for row in rows(text, "Scores") if NAME in row[0]]
    assert scores[1:] == ["`strict`", "33.3 %", "50.0 %", "30.0 %", "2 of 6", "4", "2"]
    costs = {row[0]: row[1:] for row in rows(text, f"What it costs: {NAME}")}
    assert costs["size of the image"] == ["100.0 MiB", "100.0 MiB", "1.00", "at most 1.25: kept"]
    assert costs["bios: a login prompt"] == ["25.0 s", "20.0 s", "1.25", ""]
    assert costs["all boots: all units up, cloud-init done"] == ["100.0 s", "80.0 s", "1.25", "at most 1.25: kept"]
    assert costs["both measurements"] == ["51.0 s", "", "", "at most 90 s: kept"]
    excepted = [row for row in rows(text, f"Exceptions: {NAME}") if len(row) == 7]
    assert excepted == [
        ["`grub2_password`", "high", "fail", "files", "2027-06-30", "SOE team", "the same for everybody"],
        ["`partition_for_home`", "low", "fail", "guest", "2027-11-30", "SOE team", r"one file system \| small disk"],
    ]
    others = [row for row in rows(text, f"Exceptions: {NAME}") if len(row) == 4]
    assert others == [
        ["`mount_option_home_nodev`", "medium", "fail", "guest"],
        ["`no_telnet`", "low", "fail", "files"],
        ["`sshd`", "2027-01-31", "SOE team", "was wrong once"],
    ]


def test_a_goal_that_is_missed_is_told() -> None:
    plain = Subject(PLAIN, "20251121.1", NOW, "k" * 64, 100, "kvm", {"bios": {"settled": 10.0}})
    slow = replace(
        plain,
        name=NAME,
        size=126,
        boots={"bios": {"settled": 13.0}, "uefi": {"settled": 1.0}},
        measurement=MEASURED,
        files_seconds=50.0,
        guest_seconds=41.0,
    )
    costs = {row[0]: row[4] for row in rows(page([slow], plain), f"What it costs: {NAME}") if row[4]}
    assert list(costs.values()) == ["goal", *["at most 1.25: **missed**"] * 2, "at most 90 s: **missed**"]
    with pytest.raises(NotMeasured):
        page([plain], plain)


def test_the_command_without_a_home(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["--plain", PLAIN, NAME], {"HOME": str(tmp_path), "PATH": ""}) == 1
    assert "[no-trust-root]" in capsys.readouterr().err


def test_what_is_compared_differs_in_its_hardening_only() -> None:
    hardened, plain = (
        load_recipe(ROOT / path).recipe for path in ("recipes/soe-debian-12.yaml", "bench/soe-plain-12.yaml")
    )
    assert (plain.elements, plain.compliance) == (("soe-base",), None)
    for field in ("os", "packages", "environment", "disk", "formats", "tests"):
        assert getattr(hardened, field) == getattr(plain, field), field


def test_the_page_that_is_there_has_the_exceptions_of_the_recipes() -> None:
    """Mend with: imagefactory build of what changed, and of bench/soe-plain-12.yaml; make compliance."""
    text = PAGE.read_text()
    names = re.findall(r"^## Exceptions: (\S+)$", text, re.MULTILINE)
    assert "soe-debian-12" in names
    for name in names:
        wanted = load_recipe(ROOT / f"recipes/{name}.yaml").recipe.compliance
        assert wanted is not None
        assert "fail without an exception" not in text.partition(f"## Exceptions: {name}\n")[2].partition("\n## ")[0]
        # Needed or needless: the last columns are until when, whose, and why.
        listed = rows(text, f"Exceptions: {name}")
        shown = {row[0].strip("`"): [cell.replace("\\|", "|") for cell in row[-3:]] for row in listed}
        assert shown == {
            each.rule: [each.expires, each.owner, " ".join(each.reason.split())] for each in wanted.exceptions
        }, name
