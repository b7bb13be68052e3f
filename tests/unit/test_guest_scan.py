"""What a guest is asked to measure, and what is believed of its answer."""

import subprocess
from hashlib import sha256
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from imagefactory.steps.compliance import guest_scan
from imagefactory.tools.guest_scan import ATTEMPTS, WATCHED, GuestScan
from imagefactory.tools.scap import Kit
from tests.fakes.standard import PROFILE, data_stream, group, identity, profile, rule

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


def asked(tmp_path: Path, *names: str) -> GuestScan | None:
    """What a guest is asked by a profile of these rules."""
    raw = data_stream(group("g", "".join(rule(name, "true") for name in names)), profile(PROFILE, {}))
    (tmp_path / "content.xml").write_bytes(raw)
    kit = Kit(tmp_path / "content.xml", sha256(raw).hexdigest(), "1.0", (), "1.3.7")
    return guest_scan(tmp_path / "scanner.iso", kit, PROFILE, None)


def test_a_guest_is_asked_what_no_file_answers(tmp_path: Path) -> None:
    found = asked(tmp_path, "sshd_disable_root_login", "sysctl_kernel_sysrq")
    assert found is not None
    assert found.rules == {SYSRQ: "sysctl_kernel_sysrq"}


def test_a_guest_is_not_asked_for_nothing(tmp_path: Path) -> None:
    """oscap without --rule judges all of them."""
    assert asked(tmp_path, "sshd_disable_root_login") is None


def test_the_script_is_a_script() -> None:
    checked = subprocess.run(["sh", "-n"], input=SCAN.script, text=True, check=False, capture_output=True)
    assert (checked.returncode, checked.stderr) == (0, "")
    assert f"--rule {SYSRQ}" in SCAN.script
    assert "--tailoring-file /run/scanner/tailoring.xml" in SCAN.script
    # libopendbx1, which the scanner wants, is not in the folder of its architecture.
    assert "usr=/run/scanner/usr/lib " in SCAN.script
    assert "libraries=$usr/x86_64-linux-gnu:$usr:" in SCAN.script


@pytest.mark.parametrize(
    ("name", "seen"),
    [
        ("sysctl_kernel_sysrq", False),
        ("sysctl_net_ipv4_conf_all_rp_filter", False),
        ("sysctl_net_ipv6_conf_default_accept_ra", False),
        ("sysctl_net_ipv4_conf_eth0_rp_filter", True),
        ("sysctl_net_ipv6_neigh_default_gc_thresh1", True),
    ],
)
def test_an_interface_of_its_own_is_seen_by_whoever_asks_for_it(name: str, seen: bool) -> None:
    scan = GuestScan(
        Path("/scanner.iso"), "xccdf_p", False, {SYSRQ: "sysctl_kernel_sysrq", identity("rule", name): name}
    )
    assert ("/proc/sys/net" not in scan.script) is seen
    assert subprocess.run(["sh", "-n"], input=scan.script, text=True, check=False).returncode == 0


def watched(tmp_path: Path, *command: str, stalled: int = 1) -> tuple[int, list[str], int]:
    """How `command` ended, what was said, and how often it began: each time it writes a line to the file `begun`."""
    script = f"echo >> {tmp_path}/begun; {'; '.join(command)}"
    argv = ["sh", "-eu", "-c", WATCHED, "sh", str(stalled), "sh", "-c", script]
    ran = subprocess.run(argv, check=False, capture_output=True, text=True, env={"PATH": "/usr/bin:/bin"}, timeout=60)
    return ran.returncode, ran.stdout.splitlines(), len((tmp_path / "begun").read_text().splitlines())


@pytest.mark.parametrize("status", [0, 2, 1])
def test_a_scanner_that_ends_is_asked_once(tmp_path: Path, status: int) -> None:
    assert watched(tmp_path, "echo one", "echo two", f"exit {status}", stalled=30) == (status, ["one", "two"], 1)


def test_a_scanner_that_goes_on_is_left_alone(tmp_path: Path) -> None:
    """It takes longer than one that stalls may, and says something now and then."""
    lines = [str(number) for number in range(20)]
    assert watched(tmp_path, "for i in $(seq 0 19); do echo $i; sleep 0.5; done", stalled=4) == (0, lines, 1)


def test_a_scanner_that_waits_for_itself_is_asked_again(tmp_path: Path) -> None:
    hangs = f"[ $(wc -l < {tmp_path}/begun) -gt 1 ] || exec sleep 600"
    assert watched(tmp_path, "echo one", hangs, "echo two") == (0, ["one", "two"], 2)


def test_a_scanner_that_always_waits_for_itself(tmp_path: Path) -> None:
    assert watched(tmp_path, "echo one", "exec sleep 600") == (137, ["one"], ATTEMPTS)
