"""The command line: every verb explains itself, answers in one JSON document, and never ends in a traceback."""

import errno
import fcntl
import json
import os
import re
import signal
import subprocess
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from imagefactory.cli import boot
from imagefactory.cli.app import VERBS
from imagefactory.errors import ImageDamaged
from imagefactory.steps.listed import CATALOGUE_RULES
from imagefactory.tools import firmware
from imagefactory.tools.new_file import new_file
from signing.verify import RULES
from tests.contract.shell import Shell
from tests.fakes.host import FakeHost, folders

NAME = "fake-debian-12"
GROUPS = (
    *("audit", "catalogue", "compliance", "keys", "lifecycle", "policy", "properties", "recipe", "releases", "sbom"),
    *("builds", "schedule", "service", "vulnerabilities"),
)
ENDLESS = (["worker"], ["beat"], ["builds", "logs"])  # what they say is no one document
COMMANDS = [
    *([verb] for verb in VERBS if verb not in GROUPS),
    *(["catalogue", verb] for verb in ("list", "fetch", "check", "export", "import")),
    *(["catalogue", verb] for verb in ("init", "sign-root", "publish-root", "rotate", "refresh")),
    *(["catalogue", verb] for verb in ("deprecate", "revoke", "reinstate")),
    *(["lifecycle", verb] for verb in ("plan", "apply", "audit")),
    ["recipe", "schema"],
    ["recipe", "check"],
    ["properties", "show"],
    ["properties", "check"],
    ["keys", "init"],
    ["policy", "init"],
    ["policy", "show"],
    ["policy", "approve"],
    ["policy", "remove"],
    ["policy", "check"],
    ["releases", "list"],
    ["releases", "show"],
    ["sbom", "show"],
    ["sbom", "diff"],
    ["compliance", "show"],
    ["compliance", "diff"],
    ["vulnerabilities", "show"],
    ["audit", "verify"],
    ["audit", "show"],
    ["service", "init"],
    *(["builds", verb] for verb in ("request", "list", "show", "logs", "cancel", "retry")),
    *(["schedule", verb] for verb in ("add", "maintain", "remove", "list", "next", "pause", "resume", "run-now")),
]


def program(*argv: str, **options: Any) -> "subprocess.Popen[bytes]":  # noqa: ANN401 - Popen's own
    code = "from imagefactory.cli import main; main()"
    return subprocess.Popen([sys.executable, "-c", code, *argv], **options)


# -- explaining --------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("command", COMMANDS, ids=" ".join)
def test_every_verb_explains_itself_with_an_example(shell: Shell, command: list[str]) -> None:
    for flag in ("--help", "-h"):
        status, text = shell.text(*command, flag)
        assert status == 0
        assert f"Example: imagefactory {' '.join(command)}" in " ".join(text.split())
        assert "--json" in text or command in ENDLESS
        assert f"Usage: imagefactory {' '.join(command)}" in text


def test_the_whole_explains_itself(shell: Shell) -> None:
    status, text = shell.text("--help")
    assert status == 0
    assert all(verb in text for verb in VERBS)


@pytest.mark.parametrize("verb", VERBS)
def test_the_whole_says_of_a_verb_what_it_says_itself(shell: Shell, verb: str) -> None:
    status, text = shell.text(verb, "--help")
    assert status == 0
    assert VERBS[verb] in " ".join(text.split())


@pytest.mark.parametrize(
    ("argv", "words", "named"),
    [
        (["--help"], None, "verify "),
        (["--version"], None, "imagefactory "),
        ([], "imagefactory ver", "verify"),
        ([], "imagefactory ", "vulnerabilities"),
    ],
)
def test_a_verb_is_not_imported_to_be_named(argv: list[str], words: str | None, named: str) -> None:
    code = (
        "import atexit, sys; from imagefactory.cli import main\n"
        "atexit.register(lambda: sys.stderr.write(' '.join(sys.modules)))\n"
        "main()"
    )
    asked = {"_IMAGEFACTORY_COMPLETE": "complete_bash", "COMP_WORDS": words, "COMP_CWORD": "1"} if words else {}
    done = subprocess.run(
        [sys.executable, "-c", code, *argv],
        env={**os.environ, **asked},
        capture_output=True,
        text=True,
        check=False,
        timeout=60,
    )
    assert done.returncode == 0, done.stderr
    assert named in done.stdout
    loaded = set(done.stderr.split())
    assert loaded.isdisjoint(f"imagefactory.cli.{verb}" for verb in VERBS)
    assert loaded.isdisjoint({"sqlalchemy", "tuf", "cryptography", "rich"})


def test_completion_knows_the_options_of_a_verb() -> None:
    asked = {
        "_IMAGEFACTORY_COMPLETE": "complete_bash",
        "COMP_WORDS": "imagefactory catalogue list --",
        "COMP_CWORD": "3",
    }
    with program(env={**os.environ, **asked}, stdout=subprocess.PIPE) as asking:
        stdout, _ = asking.communicate(timeout=60)
    assert {b"--root", b"--json", b"--help"} <= set(stdout.split())


def test_nothing_at_all_is_wrong_usage(shell: Shell) -> None:
    for argv in ([], *([group] for group in GROUPS)):
        status, text = shell.text(*argv)
        assert status == 2
        assert "Usage: imagefactory" in text + shell.stderr


def test_the_version(shell: Shell) -> None:
    status, text = shell.text("--version")
    assert status == 0
    assert text.startswith("imagefactory ")


@pytest.mark.parametrize("kind", ["bash", "zsh", "fish"])
def test_a_script_for_the_shell_is_made(kind: str) -> None:
    environ = {**os.environ, "_IMAGEFACTORY_COMPLETE": f"source_{kind}"}
    with program(stdout=subprocess.PIPE, env=environ) as completing:
        script, _ = completing.communicate(timeout=30)
    assert completing.returncode == 0
    assert b"imagefactory" in script
    assert b"_IMAGEFACTORY_COMPLETE=complete_" + kind.encode() in script


def test_the_shell_is_told_the_verbs() -> None:
    environ = {
        **os.environ,
        "_IMAGEFACTORY_COMPLETE": "complete_bash",
        "COMP_WORDS": "imagefactory v",
        "COMP_CWORD": "1",
    }
    with program(stdout=subprocess.PIPE, env=environ) as completing:
        words, _ = completing.communicate(timeout=30)
    assert words.split() == [b"verify", b"vulnerabilities"]


# -- what it is asked to do --------------------------------------------------------------------------------------------


def test_what_is_there_after_a_build(shell: Shell, on: Callable[[FakeHost], FakeHost], built: FakeHost) -> None:
    """One host, every verb that changes nothing."""
    host = on(built)
    status, plan = shell.json("plan", host.recipe_file)
    assert (status, [action["run"] for action in plan["actions"]]) == (0, [False] * 7)
    status, text = shell.text("plan", host.recipe_file)
    assert text.startswith("keep  rootfs")

    status, again = shell.json("build", host.recipe_file)
    assert (status, again["unchanged"], again["reproduced"]) == (0, True, False)
    ref = again["release"]
    status, text = shell.text("build", host.recipe_file)
    assert f"VERIFIED {ref}" in text
    assert "unchanged: no work was needed" in text

    status, listed = shell.json("releases", "list")
    assert (status, [release["release"] for release in listed["releases"]]) == (0, [ref])
    assert ref in shell.text("releases", "list", NAME)[1]
    assert shell.text("releases", "list", "other")[1] == "no releases yet\n"
    status, shown = shell.json("releases", "show", ref)
    assert (status, shown["publications"][0]["state"]) == (0, "verified")
    assert ref in shell.text("releases", "show", NAME)[1]

    status, verified = shell.json("verify", f"catalogue:{host.home}/catalogue/{NAME}")
    assert (status, verified["verified"]["name"]) == (0, NAME)
    folder = host.home / "catalogue/targets" / NAME / ref.partition("@")[2]
    status, text = shell.text("verify", folder / f"{ref.replace('@', '-')}.qcow2")
    assert status == 0
    assert text.startswith(f"VERIFIED {ref}\n")
    assert "name not pinned" in text

    assert shell.json("verify", folder)[1]["verified"]["files"] == verified["verified"]["files"]

    status, garbage = shell.json("gc", "--dry-run")
    assert (status, garbage["dry_run"], garbage["artifacts"]) == (0, True, [])
    status, checked = shell.json("recipe", "check", host.recipe_file)
    assert (status, checked["recipe"]["name"]) == (0, NAME)
    assert NAME in shell.text("recipe", "check", host.recipe_file)[1]

    for target in (host.recipe_file, NAME, ref):
        status, properties = shell.json("properties", "show", target)
        assert (status, properties["target"]) == (0, str(target))
        said = {row["key"]: (row["value"], row["source"]) for row in properties["properties"]}
        assert said["min_ram"] == ("1024", "boot test: memory")
        assert said["os_admin_user"] == (None if target == host.recipe_file else "debian", "boot test: user")

    status, published = shell.json("publish", ref, "--to", f"catalogue:{host.root}/elsewhere")
    assert (status, published["release"]) == (0, ref)
    assert (host.root / "elsewhere/targets" / NAME).is_dir()


def test_every_rule_is_explained(shell: Shell, on: Callable[[FakeHost], FakeHost], built: FakeHost) -> None:
    """Prose, outcome and what was found, in text and in JSON, whether the verdict is good or not."""
    host = on(built)
    catalogue = host.home / "catalogue"
    (folder,) = folders(catalogue, NAME)
    target, image = f"catalogue:{catalogue}/{NAME}", next(folder.glob("*.qcow2"))

    status, text = shell.text("verify", target, "--explain")
    rules = {**RULES, **CATALOGUE_RULES}
    numbers = [19, 1, 20, 21, *range(2, 12), *range(14, 19), 22]
    shown = [line for line in text.splitlines() if re.match(r" *\d+\. ", line)]
    assert (status, shown) == (0, [f"{number:>3}. {rules[number]}" for number in numbers])
    assert "  8. The version is not older than the oldest acceptable one\n     does not apply: " in text

    status, document = shell.json("verify", image, "--name", NAME)
    states = {rule["number"]: rule["state"] for rule in document["rules"]}
    assert status == 0
    assert states == {**dict.fromkeys(range(1, 14), "passed"), 8: "does not apply"}
    (evidence, *_) = document["verified"]["evidence"]
    assert (evidence["kind"], evidence["outcome"]) == ("boot", "pass")
    assert document["verified"]["expires"] > document["verified"]["created"]

    status, document = shell.json("verify", image, "--name", "another")
    assert (status, document["error"]["code"]) == (1, "name-mismatch")
    states = {rule["number"]: (rule["state"], rule["code"]) for rule in document["rules"]}
    assert states[6] == ("passed", None)
    assert states[7] == ("refused", "name-mismatch")
    assert {states[number] for number in range(8, 14)} == {("not reached", None)}
    status, text = shell.text("verify", image, "--name", "another", "--explain")
    assert (status, "     refused [name-mismatch]: " in text, "VERIFIED" in text) == (1, True, False)

    status, document = shell.json("verify", image, "--trust", "missing")
    assert document["rules"][0]["code"] == document["error"]["code"] == "no-trust-root"
    assert "rules" not in shell.json("verify", target, "--manifest", image)[1]


def test_schema(shell: Shell) -> None:
    status, schema = shell.json("recipe", "schema")
    assert (status, schema["title"]) == (0, "imagefactory recipe")


def test_keys(
    shell: Shell, on: Callable[[FakeHost], FakeHost], host: FakeHost, monkeypatch: pytest.MonkeyPatch
) -> None:
    on(host)
    monkeypatch.setenv("IMAGEFACTORY_HOME", str(host.root / "new"))
    status, made = shell.json("keys", "init", "--development")
    assert status == 0
    assert {"root", "targets", "freshness", "release", "provenance", "glance"} == made["keys"].keys()
    assert shell.refused("keys", "init", "--development") == (1, "keys-exist")
    assert shell.refused("keys", "init") == (1, "keys-exist")


def test_doctor(shell: Shell, on: Callable[[FakeHost], FakeHost], host: FakeHost) -> None:
    on(host)
    status, found = shell.json("doctor")
    assert status == (0 if found["ok"] else 3)
    assert {"rights", "space", "memory", "kvm", "mirrors", "qemu-img"} <= {check["name"] for check in found["checks"]}
    assert all(check["ok"] or check["fix"] for check in found["checks"] if check["required"])


# -- bad input ---------------------------------------------------------------------------------------------------------

USAGE: list[list[str]] = [
    ["nonsense"],
    ["build"],
    ["build", "a", "b"],
    ["build", "r.yaml", "--keep", "0"],
    ["build", "r.yaml", "--keep", "many"],
    ["plan", "--nonsense", "r.yaml"],
    ["verify"],
    ["gc", "--keep", "-1"],
    ["keys", "nonsense"],
    ["releases", "show"],
    ["publish", "soe"],
]


@pytest.mark.parametrize("argv", USAGE, ids=" ".join)
def test_wrong_usage(shell: Shell, argv: list[str]) -> None:
    assert shell.refused(*argv) == (2, "usage")


RECIPES: list[tuple[str, str]] = [
    ("[not, a, mapping]", "recipe-invalid"),
    ("name: [", "recipe-not-yaml"),
    ("\x00\x01\x02", "recipe-not-yaml"),
    ("{}", "recipe-invalid"),
]


@pytest.mark.parametrize("verb", [["build"], ["plan"], ["recipe", "check"]], ids=" ".join)
def test_recipes_that_are_none(
    shell: Shell, on: Callable[[FakeHost], FakeHost], host: FakeHost, verb: list[str]
) -> None:
    on(host)
    for text, code in RECIPES:
        host.recipe_file.write_text(text)
        assert shell.refused(*verb, host.recipe_file) == (2, code)
    assert shell.refused(*verb, "missing.yaml") == (2, "recipe-not-found")
    assert shell.refused(*verb, host.root) == (2, "recipe-unreadable")
    assert shell.refused(*verb, "/dev/zero") == (2, "recipe-unreadable")
    assert shell.refused(*verb, "n" * 300) in {(2, "recipe-not-found"), (2, "recipe-unreadable")}


TARGETS: list[tuple[list[str], int, str]] = [
    (["verify", "missing.qcow2"], 1, "unreadable"),
    (["verify", "."], 1, "folder-mismatch"),
    (["verify", "/dev/null"], 1, "not-a-regular-file"),
    (["verify", ".", "--manifest", "recipe/fake.yaml"], 2, "usage"),
    (["verify", ""], 2, "usage"),
    (["boot", ""], 2, "usage"),
    (["verify", "n" * 300], 1, "unreadable"),
    (["verify", "glance:soe"], 2, "target-unsupported"),
    (["verify", "catalogue:/srv/No"], 2, "release-name-invalid"),
    (["verify", "catalogue:"], 2, "release-name-invalid"),
    (["verify", "catalogue:/no/such/place/soe"], 1, "catalogue-untrusted"),
    (["verify", "catalogue:http://soe"], 2, "release-name-invalid"),
    (["verify", "catalogue:ftp://example.org/soe"], 2, "target-unsupported"),
    (["verify", "catalogue:http://me:secret@example.org/soe"], 2, "target-unsupported"),
    (["verify", "catalogue:/srv/soe", "--root", "missing"], 1, "catalogue-untrusted"),
    (["verify", "recipe/fake.yaml", "--root", "missing"], 2, "usage"),
    (["fetch", "soe"], 1, "catalogue-untrusted"),
    (["fetch", "SOE"], 2, "release-name-invalid"),
    (["fetch", "soe", "--catalogue", "ftp://example.org"], 2, "target-unsupported"),
    (["catalogue", "list", "/no/such/place"], 1, "catalogue-untrusted"),
    (["catalogue", "fetch", "/no/such/place", "--root", "missing"], 1, "catalogue-untrusted"),
    (["catalogue", "check", "/no/such/place"], 1, "catalogue-untrusted"),
    (["catalogue", "export", "/no/such/place", "bundle.tar", "soe"], 1, "catalogue-untrusted"),
    (["catalogue", "import", "bundle.tar", "/no/such/place"], 1, "catalogue-untrusted"),
    (["catalogue", "import", "bundle.tar", "http://example.org"], 2, "usage"),
    (["verify", "recipe/fake.yaml"], 1, "unreadable"),
    (["verify", "recipe/fake.yaml", "--manifest", "recipe/fake.yaml"], 1, "bundle-invalid"),
    (["verify", "recipe/fake.yaml", "--min-version", "new"], 2, "release-name-invalid"),
    (["verify", "recipe/fake.yaml", "--min-version", ""], 2, "release-name-invalid"),
    (["verify", "recipe/fake.yaml", "--trust", "missing"], 1, "no-trust-root"),
    (["verify", "recipe/fake.yaml", "--trust", "recipe/fake.yaml"], 1, "trust-invalid"),
    (["boot", "missing.qcow2"], 1, "unreadable"),
    (["boot", "missing.qcow2", "--firmware", "coreboot"], 2, "usage"),
    (["boot", "missing.qcow2", "--memory", "much"], 2, "usage"),
    (["boot", "missing.qcow2", "--memory", "1 KiB"], 2, "usage"),
    (["boot", "catalogue:/srv/soe", "--manifest", "recipe/fake.yaml"], 2, "usage"),
    (["verify", "catalogue:/srv/soe", "--manifest", "recipe/fake.yaml"], 2, "usage"),
    (["publish", "soe", "--to", "catalogue:/srv"], 1, "release-unknown"),
    (["publish", "SOE", "--to", "catalogue:/srv"], 2, "release-name-invalid"),
    (["publish", "soe", "--to", "/srv"], 2, "target-unsupported"),
    (["publish", "soe", "--to", "catalogue:"], 2, "target-unsupported"),
    (["releases", "show", "soe"], 1, "release-unknown"),
    (["releases", "show", "soe@1"], 2, "release-name-invalid"),
    (["sbom", "show", "soe"], 1, "release-unknown"),
    (["sbom", "diff", "soe", "soe@1"], 1, "release-unknown"),
]


def test_targets_that_are_none(shell: Shell, on: Callable[[FakeHost], FakeHost], host: FakeHost) -> None:
    on(host)
    for argv, status, code in TARGETS:
        assert (argv, *shell.refused(*argv)) == (argv, status, code)


def test_a_home_that_cannot_be(
    shell: Shell, on: Callable[[FakeHost], FakeHost], host: FakeHost, monkeypatch: pytest.MonkeyPatch
) -> None:
    on(host)
    for home, expected in (
        ("relative", (2, "usage")),
        (str(host.recipe_file), (3, "home-unusable")),
        ("/proc/nowhere", (3, "home-unusable")),
        ("/" + "n" * 300, (3, "home-unusable")),
    ):
        monkeypatch.setenv("IMAGEFACTORY_HOME", home)
        assert shell.refused("releases", "list") == expected
        assert shell.refused("build", host.recipe_file) == expected


def test_without_keys_or_trust(shell: Shell, on: Callable[[FakeHost], FakeHost], host: FakeHost) -> None:
    on(host)
    (host.home / "trust.json").rename(host.home / "elsewhere.json")
    assert shell.refused("build", host.recipe_file) == (1, "no-trust-root")
    assert shell.refused("verify", host.recipe_file) == (1, "no-trust-root")
    (host.home / "keys").rename(host.home / "elsewhere")
    assert shell.refused("build", host.recipe_file) == (1, "keys-missing")


@pytest.mark.parametrize("size", ["5 KiB", "1 KiB", "4 MiB", "much", "65536"])
def test_cluster_sizes_that_are_none(
    shell: Shell, on: Callable[[FakeHost], FakeHost], host: FakeHost, size: str
) -> None:
    on(host)
    source = host.root / "disk.raw"
    source.write_bytes(bytes(1 << 20))
    assert shell.refused("convert", source, host.root / "disk.qcow2", "--cluster-size", size) == (2, "usage")
    assert "--cluster-size" in shell.stderr


def test_a_conversion_that_fails_names_no_log_that_is_gone(
    shell: Shell, on: Callable[[FakeHost], FakeHost], host: FakeHost, monkeypatch: pytest.MonkeyPatch
) -> None:
    on(host)

    def fails(*_: object, log: Path, **__: object) -> None:
        raise ImageDamaged("no", log=log, lines=("its last words",))

    monkeypatch.setattr("imagefactory.cli.convert.step.convert", fails)
    status, document = shell.json("convert", "any.raw", "disk.qcow2")
    assert (status, document["error"]["log"], document["error"]["lines"]) == (1, None, ["its last words"])


def test_what_a_killed_conversion_left_is_removed_by_the_next(tmp_path: Path) -> None:
    output = tmp_path / "disk.qcow2"
    dead, alive, fuller, fresh = (tmp_path / f".disk.qcow2.imagefactory-{each * 8}" for each in "abcd")
    other = [tmp_path / ".disk.qcow2.abcdefgh", tmp_path / ".disk2qcow2.imagefactory-abcdefgh"]
    for directory in (dead, alive, fuller, fresh, *other):
        directory.mkdir()
        (directory / "new").touch()
    (dead / "convert.log").touch()
    (fuller / "mine").touch()
    for directory in (dead, alive, fuller, *other):
        os.utime(directory, (0, 0))
    held = os.open(alive, os.O_RDONLY)
    try:
        fcntl.flock(held, fcntl.LOCK_EX)
        with new_file(output) as made:
            made.write_text("whole")
            assert made.parent.name.startswith(".disk.qcow2.imagefactory-")
    finally:
        os.close(held)
    assert output.read_text() == "whole"
    assert not dead.exists()
    assert sorted(tmp_path.iterdir()) == sorted([alive, fuller, fresh, *other, output])
    assert [path.name for path in fuller.iterdir()] == ["mine"]


# -- booting -----------------------------------------------------------------------------------------------------------


@pytest.fixture
def bootable(
    on: Callable[[FakeHost], FakeHost], host: FakeHost, monkeypatch: pytest.MonkeyPatch
) -> Callable[[int], None]:
    """A host on which every image verifies, and QEMU ends with the given status."""
    on(host)
    proof = SimpleNamespace(release="soe@20251121.1", warnings=(), to_json=lambda: {"name": "soe"})

    @contextmanager
    def verified(*_: object, **__: object) -> Iterator[SimpleNamespace]:
        yield SimpleNamespace(descriptor=0, format="qcow2", proof=proof)

    monkeypatch.setattr(boot, "image_of", verified)
    monkeypatch.setattr(boot, "probe_kvm", lambda _: firmware.TCG)
    return lambda status: monkeypatch.setattr(boot, "run_interactive", lambda *_, **__: status)


def test_boot_gives_one_document_whatever_the_machine_does(shell: Shell, bootable: Callable[[int], None]) -> None:
    for status, code in ((0, 0), (1, 1), (139, 1)):
        bootable(status)
        assert shell.json("boot", "any", "--firmware", "bios") == (code, {"verified": {"name": "soe"}})
        assert ("[program-failed]" in shell.stderr) == bool(status)


def test_boot_without_the_firmware_gives_no_answer(
    shell: Shell, bootable: Callable[[int], None], monkeypatch: pytest.MonkeyPatch
) -> None:
    bootable(0)
    monkeypatch.setattr(firmware, "OVMF_CODE", Path("/no/such/firmware"))
    assert shell.refused("boot", "any") == (3, "firmware-missing")


# -- how it ends -------------------------------------------------------------------------------------------------------


def test_a_reader_that_has_seen_enough() -> None:
    """`imagefactory recipe schema | head -c 1` ends in silence."""
    for argv in (["recipe", "schema"], ["--help"]):
        with program(*argv, stdout=subprocess.PIPE, stderr=subprocess.PIPE) as writer:
            assert writer.stdout is not None
            assert writer.stderr is not None
            writer.stdout.close()
            assert writer.stderr.read() == b""
        assert writer.returncode in {0, 1}


@pytest.mark.parametrize(
    ("error", "code", "message"),
    [
        (PermissionError(errno.EACCES, "Permission denied", "/some/where"), "system-error", "/some/where: Permission"),
        (OSError(errno.EIO, "Input/output error"), "system-error", "Input/output error"),
        (OSError(errno.ENOSPC, "No space left on device", b"/full"), "disk-full", "/full: No space left on device"),
        (OSError("odd"), "system-error", "odd"),
    ],
)
def test_what_nobody_foresaw_has_a_code(
    shell: Shell,
    on: Callable[[FakeHost], FakeHost],
    host: FakeHost,
    monkeypatch: pytest.MonkeyPatch,
    error: OSError,
    code: str,
    message: str,
) -> None:
    on(host)

    def fails(*_: object, **__: object) -> None:
        raise error

    monkeypatch.setattr("imagefactory.cli.targets.step.verify", fails)
    assert shell.refused("verify", "any") == (3, code)
    assert message in shell.stderr


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM], ids=lambda number: number.name)
def test_a_verb_that_is_stopped(number: signal.Signals, keys: Path) -> None:
    """Any verb, not only build: one document, one code."""
    code = (
        "import os, signal, sys; from imagefactory.cli import app, targets\n"
        f"targets.step.verify = lambda *a, **k: (os.kill(os.getpid(), {int(number)}), signal.pause())\n"
        "sys.exit(app.run(sys.argv[1:]))"
    )
    argv = [sys.executable, "-c", code, "verify", "--json", "any", "--trust", str(keys / "trust.json")]
    done = subprocess.run(argv, capture_output=True, check=False, timeout=60)
    assert (done.returncode, json.loads(done.stdout)["error"]["code"]) == (130, "interrupted")
    assert b"Traceback" not in done.stderr


# -- properties --------------------------------------------------------------------------------------------------------

WHOLE = """\
description: An image
properties: {os_purpose: generic, replace_frequency: monthly, uuid_validity: last-3, provided_until: none}
"""


def test_properties_of_a_recipe(shell: Shell, on: Callable[[FakeHost], FakeHost], host: FakeHost) -> None:
    on(host)
    host.recipe_file.write_text(host.recipe_file.read_text() + WHOLE)
    status, text = shell.text("properties", "check", host.recipe_file)
    assert status == 0
    rows = [" ".join(line.split()) for line in text.splitlines()]
    assert rows[0] == "KEY VALUE FROM"
    assert {
        "min_ram 1024 boot test: memory",
        "image_build_date (known after a build) build: day",
        "os_purpose generic recipe: properties",
        "image_source private default",
    } <= set(rows)
    assert rows[-1] == "SCS-0102: everything mandatory is there"
    status, document = shell.json("properties", "check", host.recipe_file)
    assert (status, document["findings"]) == (0, [])
    assert {"key": "image_description", "value": "An image", "source": "recipe: description"} in document["properties"]
    status, text = shell.text("properties", "show", host.recipe_file)
    assert (status, text.splitlines()[0].split()) == (0, ["KEY", "VALUE", "FROM"])
    assert "SCS" not in text


def test_properties_that_are_missing(shell: Shell, on: Callable[[FakeHost], FakeHost], built: FakeHost) -> None:
    host = on(built)
    for target in (str(host.recipe_file), NAME):
        status, text = shell.text("properties", "check", target)
        assert (status, text.split()[0]) == (1, "KEY")
        assert "[properties-incomplete]" in shell.stderr
        assert "  | mandatory: os_purpose is missing\n" in shell.stderr
        assert "image_source" not in shell.stderr
        status, document = shell.json("properties", "check", target)
        assert (status, document["error"]["code"]) == (1, "properties-incomplete")
        assert "mandatory: uuid_validity is missing" in document["error"]["lines"]


@pytest.mark.parametrize(
    ("properties", "expected"),
    [
        ("{min_ram: 512}", (1, "property-contradicted")),
        ("{replace_frequency: hourly}", (2, "property-invalid")),
        ("{owner: me}", (2, "recipe-invalid")),
    ],
)
def test_properties_that_are_refused(
    shell: Shell,
    on: Callable[[FakeHost], FakeHost],
    host: FakeHost,
    properties: str,
    expected: tuple[int, str],
) -> None:
    on(host)
    host.recipe_file.write_text(f"{host.recipe_file.read_text()}properties: {properties}\n")
    for verb in (("properties", "show"), ("properties", "check"), ("plan",), ("build",)):
        assert shell.refused(*verb, host.recipe_file) == expected


def test_properties_of_nothing(shell: Shell, on: Callable[[FakeHost], FakeHost], host: FakeHost) -> None:
    on(host)
    for target, expected in (
        ("no-such-release", (1, "release-unknown")),
        ("fake-debian-12@1", (2, "release-name-invalid")),
        ("./no-such-file", (2, "recipe-not-found")),
        ("fake.yaml", (2, "recipe-not-found")),
    ):
        assert shell.refused("properties", "show", target) == expected


def test_properties_are_shown_as_they_are(shell: Shell, on: Callable[[FakeHost], FakeHost], host: FakeHost) -> None:
    on(host)
    host.recipe_file.write_text(host.recipe_file.read_text() + 'properties: {note: "[bold]a[/bold] :smile:"}\n')
    assert "[bold]a[/bold] :smile:" in shell.text("properties", "show", host.recipe_file)[1]
