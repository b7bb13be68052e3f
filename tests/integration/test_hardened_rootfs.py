"""The root file system of the hardened recipe, as its own programs read it: nothing of it is started."""

import json
import re
import shutil
import subprocess
from pathlib import Path

import pytest

from tests.database import records_at
from tests.integration.homes import Built

PATH = {"PATH": "/usr/sbin:/usr/bin:/sbin:/bin", "LC_ALL": "C.UTF-8"}
# The kernel's own values where the file says nothing else; the ones here keep others from the machine or it from harm.
SYSCTL = {
    "fs.suid_dumpable": "0",
    "kernel.kptr_restrict": "2",
    "kernel.unprivileged_bpf_disabled": "1",
    "net.ipv4.conf.all.accept_redirects": "0",
    "net.ipv4.ip_forward": "0",
}


@pytest.fixture(scope="module")
def root(hardened: Built, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The tree."""
    with records_at(hardened.home / "imagefactory.db") as records:
        chosen = "select outputs from step_results where step = 'rootfs' and name = ? order by created desc"
        (outputs,) = records.execute(chosen, [hardened.recipe.stem]).fetchone()
    digest = json.loads(outputs)["rootfs"]
    tree = tmp_path_factory.mktemp("tree")
    tar = hardened.home / "artifacts" / "sha256" / digest[:2] / digest
    command = ["tar", "--xattrs", "--xattrs-include=*", "--numeric-owner", "-p", "-C", tree, "-xf", tar]
    subprocess.run(command, check=True, timeout=300)
    return tree


def inside(root: Path, *argv: str, status: int = 0) -> str:
    """What a program of the image says, both outputs in one."""
    command = ["chroot", str(root), *argv]
    ran = subprocess.run(
        command, check=False, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, timeout=120, env=PATH
    )
    assert ran.returncode == status, ran.stdout
    return ran.stdout


def facts(text: str) -> list[str]:
    """The lines that say something, with single spaces."""
    lines = (" ".join(line.split()) for line in text.splitlines())
    return [line for line in lines if line and not line.startswith("#")]


def mode(path: Path) -> str:
    found = path.stat()
    return f"{found.st_mode & 0o7777:o} {found.st_uid}"


def test_sudo_is_for_its_group_and_its_rules_parse(root: Path) -> None:
    group = next(line for line in (root / "etc/group").read_text().splitlines() if line.startswith("sudo:"))
    assert mode(root / "usr/bin/sudo") == "4110 0"
    assert (root / "usr/bin/sudo").stat().st_gid == int(group.split(":")[2])
    assert "root sudo 4110 /usr/bin/sudo" in (root / "var/lib/dpkg/statoverride").read_text()
    inside(root, "visudo", "--check", "--strict")
    assert "requiretty" not in (root / "etc/sudoers").read_text()


def test_the_default_user_is_in_the_group_of_sudo(root: Path) -> None:
    assert re.search(r"groups: \[.*\bsudo\b.*\]", (root / "etc/cloud/cloud.cfg").read_text())


def test_sshd_takes_keys_only(root: Path, tmp_path: Path) -> None:
    subprocess.run(["ssh-keygen", "-q", "-t", "ed25519", "-N", "", "-f", tmp_path / "key"], check=True, timeout=60)
    shutil.copy(tmp_path / "key", root / "run/key")
    (root / "run/sshd").mkdir(exist_ok=True)
    effective = inside(root, "/usr/sbin/sshd", "-T", "-h", "/run/key").splitlines()
    expected = {
        "authenticationmethods publickey",
        "kbdinteractiveauthentication no",
        "passwordauthentication no",
        "permitrootlogin no",
        "usepam yes",
        "x11forwarding no",
    }
    assert expected <= set(effective)


def test_pam_locks_passwords_and_not_keys(root: Path) -> None:
    auth = [line for line in facts((root / "etc/pam.d/common-auth").read_text()) if line.startswith("auth")]
    modules = [line.rpartition(".so")[0].split()[-1] + line.rpartition(".so")[2] for line in auth]
    assert modules[0] == "pam_faillock preauth"
    place = next(number for number, line in enumerate(auth) if "pam_unix.so" in line)
    jump = re.search(r"success=(\d)", auth[place])
    assert jump
    assert modules[place + 1 : place + 4] == ["pam_faillock authfail", "pam_faillock authsucc", "pam_deny"]
    assert modules[place + 1 + int(jump[1])] == "pam_permit"
    assert "account required pam_faillock.so" in facts((root / "etc/pam.d/common-account").read_text())


def test_the_first_grub_cfg_says_what_update_grub_will(root: Path) -> None:
    collect = (
        '. /etc/default/grub; for file in /etc/default/grub.d/*.cfg; do . "$file"; done; echo "$GRUB_CMDLINE_LINUX"'
    )
    arguments = inside(root, "sh", "-c", collect).splitlines()[-1]
    assert "apparmor=1 security=apparmor" in arguments
    assert f" ro {arguments}\n" in (root / "boot/grub/grub.cfg").read_text()
    assert arguments.removeprefix("console=tty0 console=ttyS0,115200 ") in (root / "etc/default/grub").read_text()


def test_what_is_in_boot_is_roots(root: Path) -> None:
    maps = list((root / "boot").glob("System.map-*"))
    assert maps
    assert {mode(path) for path in [*maps, root / "boot/grub/grub.cfg"]} == {"600 0"}


def test_audit_rules_load_to_the_last(root: Path) -> None:
    """auditctl stops at the first rule that the kernel refuses; a watch needs the folder of what it watches."""
    inside(root, "augenrules", "--check")
    rules = facts((root / "etc/audit/audit.rules").read_text())
    assert rules[-1] == "-e 2"
    for rule in rules:
        if rule.startswith("-w"):
            folder = Path(rule.split()[1]).parent
            assert inside(root, "test", "-d", str(folder)) == "", rule


def test_each_privileged_program_is_audited_in_an_order_of_its_own(root: Path) -> None:
    programs = inside(root, "find", "/", "-perm", "/6000", "-type", "f").splitlines()
    rules = (root / "etc/audit/rules.d/privileged.rules").read_text()
    assert programs
    assert [program for program in programs if f"-F path={program} " not in rules] == []
    assert rules.splitlines() == sorted(rules.splitlines())


def test_the_kernels_settings_are_read_at_boot(root: Path) -> None:
    assert (root / "etc/sysctl.d/99-sysctl.conf").readlink() == Path("../sysctl.conf")
    lines = facts((root / "etc/sysctl.conf").read_text())
    assert all(re.fullmatch(r"[a-z0-9_.]+ = [0-9 ]+", line) for line in lines)
    values = dict(line.split(" = ") for line in lines)
    assert len(values) == len(lines)
    assert {name: values[name] for name in SYSCTL} == SYSCTL
    assert "kernel.modules_disabled" not in values


def test_the_guest_agent_reads_its_list(root: Path) -> None:
    dumped = inside(root, "qemu-ga", "--dump-conf")
    blocked = next(line for line in dumped.splitlines() if line.startswith("block-rpcs=")).partition("=")[2].split(",")
    assert {"guest-exec", "guest-exec-status", "guest-file-open", "guest-file-read", "guest-file-write"} <= set(blocked)
    assert "guest-ping" not in blocked


def test_the_log_daemon_and_the_clock_accept_their_settings(root: Path) -> None:
    assert "error" not in inside(root, "rsyslogd", "-N1").lower().replace("error was", "")
    clock = inside(root, "chronyd", "-p").splitlines()
    assert {"port 0", "cmdport 0"} <= set(clock)
    assert not (root / "lib/systemd/systemd-timesyncd").exists()


def test_every_profile_of_apparmor_is_enforced(root: Path) -> None:
    profiles = [path for path in (root / "etc/apparmor.d").iterdir() if path.is_file()]
    assert profiles
    assert [path for path in profiles if re.search(r"^[^#]*flags=\([^)]*complain", path.read_text(), re.M)] == []
    assert [
        path for folder in ("disable", "force-complain") for path in (root / "etc/apparmor.d" / folder).iterdir()
    ] == []


@pytest.mark.parametrize("service", ["apparmor", "auditd", "chrony", "rsyslog", "ssh", "systemd-networkd"])
def test_services_start(root: Path, service: str) -> None:
    assert inside(root, "systemctl", "is-enabled", f"{service}.service").strip() == "enabled"


@pytest.mark.parametrize("timer", ["aide-init", "dailyaidecheck", "logrotate"])
def test_timers_start(root: Path, timer: str) -> None:
    assert inside(root, "systemctl", "is-enabled", f"{timer}.timer").strip() == "enabled"


def test_nothing_is_left_of_the_build(root: Path) -> None:
    assert not list((root / "etc/audit").glob("*.prev"))
    assert not (root / "var/lib/aide/aide.db").exists()
    assert not list((root / "etc/ssh").glob("*.bak"))
