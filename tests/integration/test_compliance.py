"""The built image measured by the real scanner and the real content."""

from pathlib import Path
from typing import Any

import pytest

from imagefactory.model.compliance import Scan
from imagefactory.progress import advancer, silent
from imagefactory.settings import read_settings
from imagefactory.store.records import Records
from imagefactory.store.tables import StepResult
from imagefactory.tools.apt import Index, host_sources
from imagefactory.tools.hand import call_builder
from imagefactory.tools.scap import data_stream, fetch
from tests.integration.homes import Built

PROFILE = "anssi_bp28_enhanced"
ENVIRONMENT = read_settings({"PATH": "/usr/sbin:/usr/bin:/sbin:/bin"}).root_environment


def artifact(built: Built, digest: str) -> Path:
    return built.home / "artifacts" / "sha256" / digest[:2] / digest


@pytest.fixture(scope="module")
def rootfs(built: Built) -> StepResult:
    records = Records(built.home / "imagefactory.db")
    try:
        return next(result for result in records.results() if result.step == "rootfs")
    finally:
        records.close()


@pytest.fixture(scope="module")
def scan(built: Built, rootfs: StepResult, tmp_path_factory: pytest.TempPathFactory) -> Scan:
    work = tmp_path_factory.mktemp("compliance")
    index = Index(work / "index", host_sources("bookworm", ENVIRONMENT), ENVIRONMENT)
    index.refresh()
    content = data_stream(work / "scap", "bookworm", None, ENVIRONMENT)
    kit = fetch(work / "scap", content, artifact(built, rootfs.outputs["dpkg_status"]), index)
    for name in ("scratch", "output"):
        (work / name).mkdir()
    request: dict[str, Any] = {
        "action": "compliance",
        "rootfs": str(artifact(built, rootfs.outputs["rootfs"])),
        "kit": kit.to_json(),
        "profile": PROFILE,
        "tailoring": None,
        "output": str(work / "output"),
        "log": str(work / "scan.log"),
        "scratch": str(work / "scratch"),
        "scratch_size": 4 << 30,
        "hide": [],
    }
    advance = advancer(silent, "compliance")
    made = call_builder(request, environment=ENVIRONMENT, log=work / "hand.log", on_advance=advance)
    report = Path(made["report"]).read_text()
    assert "ANSSI-BP-028 (enhanced)" in report
    return Scan.from_json(made["scan"])


def outcomes(scan: Scan) -> dict[str, str]:
    return {each.rule: each.outcome for each in scan.rules}


def test_the_image_is_judged_from_inside(scan: Scan) -> None:
    """OpenSCAP's offline mode would find no packages, and most rules not applicable."""
    assert len(scan.rules) > 300
    assert scan.applicable > len(scan.rules) / 2
    assert not {"error", "unknown"} & scan.counts.keys()
    assert scan.standard.title == "ANSSI-BP-028 (enhanced)"


@pytest.mark.parametrize(
    ("rule", "expected"),
    [
        ("file_owner_etc_shadow", "pass"),
        ("file_permissions_etc_passwd", "pass"),
        ("package_rsh_removed", "pass"),
        ("package_audit_installed", "fail"),
        ("partition_for_boot", "fail"),
        # What the running kernel says is not asked of this host's.
        ("sysctl_kernel_randomize_va_space", "fail"),
    ],
)
def test_what_is_known_of_a_plain_image(scan: Scan, rule: str, expected: str) -> None:
    assert outcomes(scan)[rule] == expected
