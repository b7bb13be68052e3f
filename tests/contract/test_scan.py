"""The builder's measuring, with real namespaces, overlay and sandbox; the scanner is a script, told what to do by the
image under test, as hostile as an image can be. Wants root."""

import os
import subprocess
from collections.abc import Callable
from hashlib import sha256
from pathlib import Path
from typing import Any

import pytest

from imagefactory.errors import (
    FactoryError,
    InputsChanged,
    ProfileUnknown,
    ProgramTimeout,
    RootfsUnreadable,
    ScanFailed,
    TailoringInvalid,
)
from imagefactory.model.compliance import Scan
from imagefactory.steps.compliance import REPORT, RESULTS
from imagefactory.tools import sandbox
from imagefactory.tools.hand import call_builder
from imagefactory.tools.process import Limits
from imagefactory.tools.scap import Kit
from tests.fakes.scanner import BEHAVIOUR, HONEST, behaviour, make_scanner, make_tar, make_tree
from tests.fakes.standard import PROFILE, data_stream, group, profile, results, rule, tailoring

ENVIRONMENT = {"PATH": "/usr/sbin:/usr/bin:/sbin:/bin", "LC_ALL": "C.UTF-8", "TZ": "UTC"}
CONTENT = data_stream(
    group("g", rule("one", severity="high") + rule("two", "true")), profile(PROFILE, {"rule_one": True}, title="Strict")
)
SAID = results({"one": "pass", "two": "fail"})

Measure = Callable[..., dict[str, Any]]


@pytest.fixture
def kit(tmp_path: Path) -> Kit:
    content = tmp_path / "content.xml"
    content.write_bytes(CONTENT)
    return Kit(content, sha256(CONTENT).hexdigest(), "1.0", make_scanner(tmp_path), "1.3.7")


@pytest.fixture
def tree(tmp_path: Path) -> Path:
    return make_tree(tmp_path / "tree", {BEHAVIOUR: HONEST, "etc/results.xml": SAID})


@pytest.fixture
def measure(tmp_path: Path, tree: Path, kit: Kit) -> Measure:
    """Have the builder measure the tree as it is then."""

    def do(**more: Any) -> dict[str, Any]:  # noqa: ANN401 - parts of a request
        for name in ("scratch", "output", "keys"):
            (tmp_path / name).mkdir(exist_ok=True)
        request = {
            "action": "compliance",
            "rootfs": str(make_tar(tree, tmp_path / "rootfs.tar")),
            "kit": kit.to_json(),
            "profile": PROFILE,
            "tailoring": None,
            "output": str(tmp_path / "output"),
            "log": str(tmp_path / "scan.log"),
            "scratch": str(tmp_path / "scratch"),
            "scratch_size": 512 << 20,
            "hide": [str(tmp_path / "keys")],
        }
        told: list[str] = []

        def tell(text: str, done: int = 0, total: int = 0) -> None:
            del done, total
            told.append(text)

        made = call_builder(
            {**request, **more},
            environment=ENVIRONMENT,
            log=tmp_path / "hand.log",
            on_advance=tell,
        )
        return {**made, "told": told}

    return do


def test_a_measurement(measure: Measure, tmp_path: Path, kit: Kit) -> None:
    made = measure()
    scan = Scan.from_json(made["scan"])
    assert [(each.rule, each.outcome, each.severity) for each in scan.rules] == [
        ("one", "pass", "high"),
        ("two", "fail", "medium"),
    ]
    assert scan.standard.content == kit.sha256
    assert (scan.standard.title, scan.standard.scanner) == ("Strict", "1.3.7")
    assert made["told"] == ["root file system unpacked", "2 rules judged"]
    assert Path(made["results"]).read_bytes() == SAID
    assert "profile_strict_profile</html>" in Path(made["report"]).read_text()
    assert {path.name for path in (tmp_path / "output").iterdir()} == {RESULTS, REPORT}
    assert list((tmp_path / "scratch").iterdir()) == []
    assert str(tmp_path) not in Path("/proc/mounts").read_text()


def test_a_second_time_replaces_the_first(measure: Measure) -> None:
    measure()
    assert Path(measure()["results"]).read_bytes() == SAID


def test_the_image_is_seen_as_it_is(measure: Measure, tree: Path) -> None:
    """Its files, owners and modes, its root too; the scanner's files beside them; and nothing of this host."""
    (tree / "odd").mkdir(mode=0o2731)
    (tree / "odd").chmod(0o2731)
    os.chown(tree / "odd", 70000, 1234)
    (tree / "secret").write_text("mine\n")
    (tree / "secret").chmod(0)
    os.chown(tree / "secret", 70000, 1234)
    tree.chmod(0o751)
    (tree / BEHAVIOUR).write_text(
        behaviour("""\
        {
            stat -c '%n %a %u %g' / /odd
            cat /secret /lib/openscap/here
            env
            id -u
            uname -n
            ls /dev /sys /run /run/imagefactory /proc/sys /proc/sys/*
            cat /proc/sys/kernel/arch
            echo "<$(cat /proc/cmdline)>"
            cat "$content" > /tmp/content && cat /proc/net/dev
        } > "$report"
        cat /etc/results.xml > "$results"
        """)
    )
    report = Path(measure()["report"]).read_text()
    assert report.startswith("/ 751 0 0\n/odd 2731 70000 1234\nmine\nhere\n")
    environment = [line for line in report.splitlines() if "=" in line]
    assert {line.partition("=")[0] for line in environment} <= {"PATH", "LC_ALL", "PWD", "_"}
    assert "\n0\nimage\n" in report
    assert "/proc/sys/kernel:\narch\n" in report
    assert f"\n{os.uname().machine}\n<>\n" in report
    assert "sda" not in report
    assert "vda" not in report
    devices = [line.split(":")[0].strip() for line in report.splitlines() if line.count(":") == 1 and "0" in line]
    assert devices == ["lo"]


@pytest.mark.parametrize(
    ("script", "why"),
    [
        ("exit 1", "status 1"),
        ("exit 0", "left no compliance-results.xml"),
        ('cat /etc/results.xml > "$results"', "left no compliance-report.html"),
        (f'ln -s /tmp/results.xml "$results"\n{HONEST}', "symbolic link"),
        ('rm -f "$results"; ln -s /etc/passwd "$results"; echo > "$report"', "symbolic link"),
        ('cp /etc/results.xml "$results"; ln -s /etc/passwd "$report"', "symbolic link"),
        ('mkfifo "$results"; echo > "$report"', "a FIFO|a pipe"),
        ('mkdir "$results"; echo > "$report"', "directory"),
        ('head -c 100000000 /dev/zero > "$results"; echo > "$report"', "left no|no XML|longer|status|SIGXFSZ"),
        ('echo "<a/>" > "$results"; echo > "$report"', "begins with"),
        ('echo "<!DOCTYPE Benchmark [<!ENTITY a \'b\'>]><a>&a;</a>" > "$results"; echo > "$report"', "document type"),
        ('while read -r line; do echo "${line%<rule-result*}"; done < /etc/results.xml > "$results"', "left no|no XML"),
    ],
)
def test_a_scanner_that_does_what_the_image_wants(measure: Measure, tree: Path, script: str, why: str) -> None:
    (tree / BEHAVIOUR).write_text(script)
    with pytest.raises(ScanFailed, match=why):
        measure()


def test_a_scanner_that_forgets_a_rule(measure: Measure, tree: Path) -> None:
    (tree / "etc/results.xml").write_bytes(results({"one": "pass"}))
    with pytest.raises(ScanFailed, match="too few"):
        measure()


@pytest.mark.parametrize("name", sandbox.MOUNT_POINTS)
@pytest.mark.parametrize("target", ["/tmp", "/oldroot/etc", "../../../../tmp"])  # noqa: S108
def test_an_image_whose_mount_points_are_links(measure: Measure, tree: Path, name: str, target: str) -> None:
    (tree / name).rmdir()
    (tree / name).symlink_to(target)
    with pytest.raises(RootfsUnreadable, match=f"/{name} .* no directory"):
        measure()


def test_an_image_without_mount_points(measure: Measure, tree: Path) -> None:
    for name in sandbox.MOUNT_POINTS:
        (tree / name).rmdir()
    assert Scan.from_json(measure()["scan"]).passed == 1


def test_a_tailored_profile(measure: Measure, tree: Path, tmp_path: Path) -> None:
    ours = tmp_path / "tailoring.xml"
    ours.write_bytes(tailoring(profile("ours", {"rule_two": False}, PROFILE)))
    (tree / "etc/results.xml").write_bytes(results({"one": "pass"}, profile_name="ours"))
    (tree / BEHAVIOUR).write_text(f"cat /tmp/argv\n{HONEST}")
    made = measure(tailoring=str(ours), profile="ours")
    assert [each.rule for each in Scan.from_json(made["scan"]).rules] == ["one"]
    assert "--tailoring-file\n/run/imagefactory/tailoring.xml\n" in (tmp_path / "scan.log").read_text()


@pytest.mark.parametrize(
    ("more", "error"),
    [
        ({"profile": "strict_profil"}, ProfileUnknown),
        ({"tailoring": "/nonexistent"}, TailoringInvalid),
        ({"tailoring": "/etc/passwd"}, TailoringInvalid),
    ],
)
def test_what_cannot_be_measured_by(measure: Measure, more: dict[str, str], error: type[FactoryError]) -> None:
    with pytest.raises(error):
        measure(**more)


def test_content_that_changed(measure: Measure, kit: Kit) -> None:
    kit.content.write_bytes(CONTENT + b"\n")
    with pytest.raises(InputsChanged):
        measure()


def test_no_scanner(measure: Measure, kit: Kit) -> None:
    with pytest.raises(ScanFailed) as caught:
        measure(kit={**kit.to_json(), "scanner": []})
    assert "oscap" in caught.value.lines[-1]


# -- the sandbox -------------------------------------------------------------------------------------------------------


def inside(tree: Path, tmp_path: Path, script: str, **more: Any) -> str:  # noqa: ANN401 - what run_inside takes
    """What a script said that ran in the sandbox."""
    (tmp_path / "written").mkdir(exist_ok=True)
    log = tmp_path / "inside.log"
    log.unlink(missing_ok=True)
    options: dict[str, Any] = {"timeout": 60.0, "limits": Limits(file_size=1 << 20), **more}
    sandbox.run_inside(
        tree,
        ["sh", "-c", script],
        files={},
        output=tmp_path / "written",
        env=ENVIRONMENT,
        log=log,
        **options,
    )
    return log.read_text()


# Whatever succeeds in spite of all is harmless: the value that is there already, the list of SysRq's keys.
@pytest.mark.parametrize(
    "attempt",
    [
        "echo VALUE > /proc/sys/kernel/randomize_va_space",
        "cat /proc/sys/kernel/randomize_va_space",
        "echo h > /proc/sysrq-trigger",
        "mknod /tmp/disk b 8 0",
        "mknod /tmp/null c 1 3",
        "mount -t proc proc /tmp",
        "mkdir /tmp/x && chroot /tmp/x",
        "chroot / sh -c :",
        "cat /proc/1/root/HOST_FILE",
        "cat /proc/1/root/../../HOST_FILE",
        "touch /nobody/x",
    ],
)
def test_what_root_cannot_do_in_there(tree: Path, tmp_path: Path, attempt: str) -> None:
    (tree / "nobody").mkdir(mode=0o500)
    os.chown(tree / "nobody", 70000, 70000)
    (tmp_path / "host-file").touch()
    value = Path("/proc/sys/kernel/randomize_va_space").read_text().strip()
    script = attempt.replace("VALUE", value).replace("HOST_FILE", str(tmp_path / "host-file"))
    assert "refused" in inside(tree, tmp_path, f"( {script} ) || echo refused")


def test_its_capabilities_are_one(tree: Path, tmp_path: Path) -> None:
    """No program can get more than that: the kernel grants none when one is executed (no_new_privs)."""
    status = inside(tree, tmp_path, "cat /proc/self/status")
    said = dict(line.split(":\t", 1) for line in status.splitlines() if ":\t" in line)
    assert {said[name] for name in ("CapPrm", "CapEff")} == {f"{1 << 2:016x}"}
    assert said["NoNewPrivs"] == "1"


def test_it_sees_no_other_process_and_ends_with_its_deadline(tree: Path, tmp_path: Path) -> None:
    pids = [int(word) for word in inside(tree, tmp_path, "echo /proc/[0-9]*").replace("/proc/", "").split()]
    assert max(pids) < 10
    with pytest.raises(ProgramTimeout):
        inside(tree, tmp_path, "sleep 987.5 & sleep 987.5", timeout=1.0)
    running = subprocess.run(["ps", "-eo", "args"], check=True, capture_output=True, text=True).stdout
    assert "sleep 987.5" not in running
