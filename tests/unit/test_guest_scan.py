"""What a guest is asked to measure, and what is believed of its answer."""

import subprocess
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from imagefactory.tools.guest_scan import GuestScan
from tests.fakes.standard import identity

SYSRQ, TMP = identity("rule", "sysctl_kernel_sysrq"), identity("rule", "mount_option_tmp_nosuid")
SCAN = GuestScan(Path("/scanner.iso"), "xccdf_p", True, {SYSRQ: "sysctl_kernel_sysrq", TMP: "mount_option_tmp_nosuid"})


@pytest.mark.parametrize(
    ("said", "sysrq", "tmp"),
    [
        (f"{SYSRQ}:pass\n{TMP}:fail\n", "pass", "fail"),
        (f"{SYSRQ}:pass\r\n{TMP}:notapplicable", "pass", "notapplicable"),
        (f"{SYSRQ}:pass\n", "pass", "unknown"),
        (f"{SYSRQ}:notselected\n{TMP}:excellent\n", "unknown", "unknown"),
        (f"{SYSRQ}:fail\n{SYSRQ}:pass\n{TMP}:pass\n{TMP}:error\n", "fail", "error"),  # each of its checks
        (f"{SYSRQ}:notapplicable\n{SYSRQ}:pass\n", "pass", "unknown"),
        (f"{SYSRQ}:excellent\n{SYSRQ}:pass\n", "unknown", "unknown"),
        (f"{identity('rule', 'another')}:pass\n", "unknown", "unknown"),
        ("", "unknown", "unknown"),
    ],
)
def test_an_answer(said: str, sysrq: str, tmp: str) -> None:
    assert SCAN.outcomes(said) == {"sysctl_kernel_sysrq": sysrq, "mount_option_tmp_nosuid": tmp}


@given(st.text())
def test_any_answer_is_about_what_was_asked(said: str) -> None:
    assert SCAN.outcomes(said).keys() == set(SCAN.rules.values())


def test_the_script_is_a_script() -> None:
    checked = subprocess.run(["sh", "-n"], input=SCAN.script, text=True, check=False, capture_output=True)
    assert (checked.returncode, checked.stderr) == (0, "")
    assert f"--rule {SYSRQ}" in SCAN.script
    assert "--tailoring-file /run/scanner/tailoring.xml" in SCAN.script
