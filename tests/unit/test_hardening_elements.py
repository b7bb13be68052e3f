"""What soe-hardening and soe-compliance bring into an image, read by the parsers of those who will read it there."""

import configparser
import re
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from xml.etree import ElementTree

import pytest
import yaml
from debian.deb822 import Deb822

from imagefactory.tools.elements import shipped_elements

HARDENING = shipped_elements() / "soe-hardening"
COMPLIANCE = shipped_elements() / "soe-compliance"
STATIC = HARDENING / "static"
RULES = COMPLIANCE / "soe-compliance" / "rules"
TAILORING = COMPLIANCE / "soe-compliance" / "tailoring.py"
XCCDF = "{http://checklists.nist.gov/xccdf/1.2}"
PROFILE = "xccdf_org.ssgproject.content_profile_p"
# Without these an image finds neither its disk nor what the cloud tells it.
NEEDED_MODULES = {
    "ext4",
    "isofs",
    "sr_mod",
    "usb_storage",
    "vfat",
    "virtio_blk",
    "virtio_net",
    "virtio_pci",
    "virtio_scsi",
}
NEEDED_RPCS = {"guest-ping", "guest-shutdown", "guest-fsfreeze-freeze", "guest-fsfreeze-thaw", "guest-sync-delimited"}
CONTENT = """<?xml version="1.0"?>
<Benchmark xmlns="http://checklists.nist.gov/xccdf/1.2" id="xccdf_org.ssgproject.content_benchmark_B">
  <Profile id="xccdf_org.ssgproject.content_profile_p"/>
  <Rule id="xccdf_org.ssgproject.content_rule_one"><fix system="urn:xccdf:fix:script:sh">true</fix></Rule>
  <Group id="xccdf_org.ssgproject.content_group_g">
    <Rule id="xccdf_org.ssgproject.content_rule_two"><fix system="urn:xccdf:fix:script:sh">true</fix></Rule>
    <Rule id="xccdf_org.ssgproject.content_rule_ansible"><fix system="urn:xccdf:fix:script:ansible">-</fix></Rule>
    <Rule id="xccdf_org.ssgproject.content_rule_bare"/>
  </Group>
</Benchmark>
"""

Tailor = Callable[..., subprocess.CompletedProcess[str]]


def run(*argv: str | Path, **environment: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [str(part) for part in argv],
        check=False,
        capture_output=True,
        text=True,
        timeout=60,
        env={"PATH": "/usr/sbin:/usr/bin:/sbin:/bin", **environment},
    )


def scripts() -> list[Path]:
    return sorted(script for element in (HARDENING, COMPLIANCE) for script in element.glob("*.d/[0-9]*"))


@pytest.mark.parametrize("script", scripts(), ids=lambda script: f"{script.parts[-3]}/{script.parts[-2]}/{script.name}")
def test_scripts_parse(script: Path) -> None:
    ran = run("bash", "-n", script)
    assert ran.returncode == 0, ran.stderr


def test_sudo_accepts_its_drop_in() -> None:
    ran = run("visudo", "-c", "-f", STATIC / "etc/sudoers.d/soe-hardening")
    assert ran.returncode == 0, ran.stderr


def test_sudo_works_for_programs_that_log_in() -> None:
    """cloud-init's user runs `sudo -n` without a terminal."""
    text = (STATIC / "etc/sudoers.d/soe-hardening").read_text() + RULES.read_text()
    for forbidden in ("requiretty", "noexec", "explicit_command_args", "no_root_target"):
        assert forbidden not in text


def test_idle_shells_end_in_bash_and_other_shells_do_not_mind() -> None:
    drop_in = STATIC / "etc/profile.d/soe-hardening.sh"
    bash = run("bash", "-c", f". {drop_in}; echo $TMOUT; TMOUT=0; echo changed")
    assert bash.stdout == "600\n"
    assert "readonly variable" in bash.stderr
    dash = run("dash", "-euc", f". {drop_in}; echo ${{TMOUT-unset}}")
    assert (dash.stdout, dash.stderr) == ("unset\n", "")


def test_no_module_that_an_image_needs_is_blocked() -> None:
    lines = (STATIC / "etc/modprobe.d/soe-hardening.conf").read_text().splitlines()
    blocked = [line for line in lines if not line.startswith("#")]
    assert all(re.fullmatch(r"install [a-z0-9_-]+ /bin/false", line) for line in blocked)
    names = [line.split()[1].replace("-", "_") for line in blocked]
    assert len(names) == len(set(names))
    assert not NEEDED_MODULES & set(names)


def test_the_guest_agent_runs_nothing_and_touches_no_file() -> None:
    config = configparser.ConfigParser()
    config.read(STATIC / "etc/qemu/qemu-ga.conf")
    blocked = config["general"]["block-rpcs"].split(",")
    assert len(blocked) == len(set(blocked))
    assert {"guest-exec", "guest-exec-status"} <= set(blocked)
    files = {"open", "close", "read", "write", "seek", "flush"}
    assert {f"guest-file-{verb}" for verb in files} <= set(blocked)
    assert not NEEDED_RPCS & set(blocked)


def test_the_kernels_arguments_are_added_to_those_there_are() -> None:
    drop_in = STATIC / "etc/default/grub.d/20_soe-hardening.cfg"
    ran = run("dash", "-euc", f'GRUB_CMDLINE_LINUX="root=x console=ttyS0"; . {drop_in}; echo "$GRUB_CMDLINE_LINUX"')
    arguments = ran.stdout.split()
    assert arguments[:2] == ["root=x", "console=ttyS0"]
    assert {"apparmor=1", "security=apparmor"} <= set(arguments)
    names = [argument.partition("=")[0] for argument in arguments]
    assert len(names) == len(set(names))


def test_the_first_grub_cfg_has_the_arguments_that_update_grub_would_collect() -> None:
    script = (shipped_elements() / "soe-debian/post-install.d/90-grub-config").read_text()
    assert "ro $cmdline" in script
    assert "console=" not in script


def test_failed_passwords_are_counted_around_the_password_check() -> None:
    """pam-auth-update sorts by falling priority; pam_unix has 256."""
    folder = STATIC / "usr/share/pam-configs"
    before = Deb822((folder / "soe-faillock-preauth").read_text())
    after = Deb822((folder / "soe-faillock").read_text())
    assert int(before["Priority"]) > 256 > int(after["Priority"])
    assert before["Default"] == after["Default"] == "yes"
    assert before["Auth"].split() == ["required", "pam_faillock.so", "preauth"]
    assert "[default=die] pam_faillock.so authfail" in after["Auth"]
    # The account phase clears the count and refuses nobody: who logs in by key is never locked out.
    assert after["Account"].split() == ["required", "pam_faillock.so"]


@pytest.mark.parametrize("unit", sorted((STATIC / "etc/systemd").rglob("*.*")), ids=lambda unit: unit.name)
def test_units_have_the_form_of_units(unit: Path) -> None:
    if unit.is_dir():
        return
    config = configparser.ConfigParser(interpolation=None, strict=True)
    config.optionxform = str  # type: ignore[assignment,method-assign]
    config.read(unit)
    assert set(config.sections()) <= {"Unit", "Service", "Timer", "Install", "Journal", "Resolve"}
    assert config.sections()


def test_static_files_carry_no_time_and_no_name_of_a_machine() -> None:
    for path in (path for path in STATIC.rglob("*") if path.is_file()):
        assert not re.search(r"\b20\d\d-\d\d-\d\d\b|localhost", path.read_text()), path


@pytest.mark.parametrize("element", [HARDENING, COMPLIANCE], ids=lambda element: element.name)
def test_packages_are_a_mapping(element: Path) -> None:
    packages = yaml.safe_load((element / "package-installs.yaml").read_text())
    assert packages
    assert all(value is None for value in packages.values())


@pytest.fixture
def tailor(tmp_path: Path) -> Tailor:
    """Run tailoring.py on CONTENT, with a list of the given lines."""

    def tailor(*lines: str, profile: str = PROFILE) -> subprocess.CompletedProcess[str]:
        (tmp_path / "content.xml").write_text(CONTENT)
        (tmp_path / "rules").write_text("\n".join(lines))
        return run(sys.executable, TAILORING, tmp_path / "content.xml", profile, tmp_path / "rules")

    return tailor


def test_the_tailoring_leaves_only_what_is_listed(tailor: Tailor) -> None:
    ran = tailor("# a comment", "", "two  # why")
    assert ran.returncode == 0, ran.stderr
    root = ElementTree.fromstring(ran.stdout)  # noqa: S314
    profile = root.find(f"{XCCDF}Profile")
    assert profile is not None
    assert profile.get("extends") == PROFILE
    selects = {
        item.get("idref", "").rpartition("_rule_")[2]: item.get("selected") for item in profile.iter(f"{XCCDF}select")
    }
    assert selects == {"one": "false", "ansible": "false", "bare": "false"}


def test_no_two_elements_of_the_tailoring_touch(tailor: Tailor) -> None:
    """OpenSCAP 1.3.7 would read only every other one: rules would stay selected."""
    assert "><" not in tailor("one").stdout


@pytest.mark.parametrize(
    ("lines", "message"),
    [
        (["three"], "Not in .*: xccdf_org.ssgproject.content_rule_three"),
        (["one", "bare"], "Without a fix in .*: xccdf_org.ssgproject.content_rule_bare"),
        (["ansible"], "Without a fix in .*: xccdf_org.ssgproject.content_rule_ansible"),
        (["one", "two", "one"], "Listed twice: one"),
    ],
)
def test_a_list_that_does_not_fit_the_content_is_refused(tailor: Tailor, lines: list[str], message: str) -> None:
    ran = tailor(*lines)
    assert (ran.returncode, ran.stdout) == (1, "")
    assert re.search(message, ran.stderr)


def test_an_unknown_profile_is_refused_and_the_known_ones_are_named(tailor: Tailor) -> None:
    ran = tailor("one", profile="standard")
    assert (ran.returncode, ran.stdout) == (1, "")
    assert PROFILE in ran.stderr


def test_the_reviewed_list_has_names_of_rules_each_once() -> None:
    names = [line for line in RULES.read_text().splitlines() if line and not line.startswith("#")]
    assert all(re.fullmatch(r"[a-z0-9_]+", name) for name in names)
    assert len(names) == len(set(names))
    assert len(names) > 100


@pytest.mark.parametrize("family", ["grub2_", "mount_option_", "partition_", "service_", "package_", "timer_"])
def test_remediations_that_want_a_running_system_are_not_listed(family: str) -> None:
    assert f"\n{family}" not in RULES.read_text()


def test_the_running_kernel_is_out_of_reach_of_remediations() -> None:
    """`sysctl -w` in the chroot of a build would change the build host."""
    script = (COMPLIANCE / "post-install.d/70-soe-compliance").read_text()
    order = ["export OSCAP_BOOTC_BUILD=YES", "unshare --mount", "remount,bind,ro /proc/sys", "remediate.sh"]
    places = [script.index(part) for part in order]
    assert places == sorted(places)
